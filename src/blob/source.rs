//! Where the bytes of a blob are.

use crate::{nix::StorePath, oci::Digest};
use serde::{Deserialize, Serialize};
use std::{fs::Metadata, os::unix::fs::MetadataExt, path::PathBuf, time::UNIX_EPOCH};

/// Where the bytes of a blob are; a row of the index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// A range of a regular file in the Nix store: mapped, never copied.
    Store {
        /// The store object that holds the file.
        object: StorePath,
        /// The file within the object, without symlinks; empty if the object is the file.
        file: PathBuf,
        /// The first byte.
        offset: u64,
        /// What the file was when its bytes were hashed.
        fingerprint: Fingerprint,
    },
    /// A file of the blob cache, named by the digest; made again from the image's store path once evicted.
    Cache,
    /// A file of the blob cache: a layer that was compressed; made again, with the image, once evicted.
    Compressed {
        /// The name of the note that says which layer it was made of, a file beside the entry lists.
        note: Digest,
    },
    /// A layer that is computed from store paths; made again from the image's store path once its entry list is lost.
    Virtual {
        /// The name of its entry list: what the layer is made from, see [`recipe`](crate::layer::recipe).
        list: Digest,
    },
    /// Bytes in the index itself: manifests and configurations.
    Inline(#[serde(with = "inline_bytes")] bytes::Bytes),
}

mod inline_bytes {
    //! Inline blobs are nearly always JSON text, so they are stored as text and only else as a list of numbers.
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Repr {
        Text(String),
        Raw(Vec<u8>),
    }

    pub fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(bytes) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.collect_seq(bytes.iter()),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        Ok(match Repr::deserialize(deserializer)? {
            Repr::Text(text) => text.into(),
            Repr::Raw(raw) => raw.into(),
        })
    }
}

/// Tells whether a file is still the one that was hashed, without reading it.
///
/// A store object that was collected and built again can differ under the same name, so size and name do not
/// suffice. The change time is of no use: `nix-store --optimise` moves it by linking. A birth time and an inode
/// together are never used twice; the time of modification tells that the file was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    inode: u64,
    size: u64,
    /// Nanoseconds since 1970; zero on file systems that do not record births.
    born: u64,
    /// Nanoseconds since 1970.
    #[serde(default)]
    modified: i64,
}

impl Fingerprint {
    /// The fingerprint of an open file, from its own metadata.
    pub fn of(metadata: &Metadata) -> Self {
        let born = metadata.created().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        Self {
            inode: metadata.ino(),
            size: metadata.len(),
            born: born.and_then(|d| u64::try_from(d.as_nanos()).ok()).unwrap_or(0),
            modified: metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec()),
        }
    }
}
