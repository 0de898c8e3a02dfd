//! What all entries of a layer have in common.

use super::header::BLOCK;
use serde::{Deserialize, Serialize};

/// What all entries of a layer have in common, and whose headers they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Style {
    /// Modification time, in seconds since 1970.
    pub mtime: i64,
    /// Whose the entries are that name no other owner.
    #[serde(flatten)]
    pub owner: Owner,
    /// Which program's headers they are.
    pub writer: Writer,
}

/// Whose an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// Owner.
    pub uid: i64,
    /// Group.
    pub gid: i64,
    /// The owner's name.
    pub uname: String,
    /// The group's name.
    pub gname: String,
}

impl Owner {
    /// User and group 0, both called `root`.
    pub fn root() -> Self {
        Self { uid: 0, gid: 0, uname: "root".into(), gname: "root".into() }
    }
}

/// The programs that write the same headers as we do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Writer {
    /// Python 3.9 and later: `tarfile` in PAX format and streaming mode.
    Python,
    /// The same up to Python 3.8, where the fields for a device's numbers have zeroes as octal digits.
    OldPython,
    /// Go: `archive/tar`, with the format left to it.
    Go,
}

impl Writer {
    /// Bytes, all zero, with which an archive ends whose entries have this length.
    pub(super) fn end(self, entries: u64) -> u64 {
        let end = entries + 2 * BLOCK;
        match self {
            // Python pads to a record of 20 blocks.
            Self::Python | Self::OldPython => end.next_multiple_of(20 * BLOCK) - entries,
            Self::Go => 2 * BLOCK,
        }
    }
}
