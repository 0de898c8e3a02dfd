//! One entry of a layer.

use super::Owner;
use std::{fs::Metadata, os::unix::fs::MetadataExt, path::PathBuf, sync::Arc, time::UNIX_EPOCH};

/// One entry of a layer: what its header says besides the layer's [`Style`](super::Style).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name in the archive.
    pub name: Vec<u8>,
    /// Permissions.
    pub mode: u32,
    /// Whose it is, if not the style's owner's.
    pub owner: Option<Arc<Owner>>,
    /// What it is.
    pub kind: Kind,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A regular file; a hard link to another is one too.
    File {
        /// Its length in bytes.
        size: u64,
        /// What the file was when it was hashed.
        mark: Mark,
        /// Where the file is, if that is not the entry's name.
        path: Option<PathBuf>,
    },
    /// A symbolic link to this.
    Link(Vec<u8>),
    /// A regular file of these bytes, which are nowhere else.
    Inline(Vec<u8>),
}

impl Entry {
    /// Bytes of contents that follow the header, without padding.
    pub fn size(&self) -> u64 {
        match &self.kind {
            Kind::File { size, .. } => *size,
            Kind::Inline(bytes) => bytes.len() as u64,
            _ => 0,
        }
    }
}

/// Tells in eight bytes whether something is still what it was: inode, length, birth and modification.
///
/// Another file of the same name, a mount over it, or a store path that was collected and built again have another inode
/// or another time of birth. This finds changes; it is no proof against somebody who may write to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mark(pub u64);

impl Mark {
    /// The mark of what has this metadata.
    pub fn of(metadata: &Metadata) -> Self {
        let born = metadata.created().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        let born = born.and_then(|d| u64::try_from(d.as_nanos()).ok()).unwrap_or(0);
        let modified = (metadata.mtime() as u64).rotate_left(30) ^ metadata.mtime_nsec() as u64;
        // FNV-1a, 64 bits.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for number in [metadata.ino(), metadata.len(), born, modified] {
            for byte in number.to_le_bytes() {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        Self(hash)
    }
}
