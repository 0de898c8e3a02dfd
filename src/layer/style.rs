//! What all entries of a layer have in common.

use serde::{Deserialize, Serialize};

/// What all entries of a layer have in common, and how their headers are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Style {
    /// Modification time, in seconds since 1970.
    pub mtime: i64,
    /// Owner.
    pub uid: i64,
    /// Group.
    pub gid: i64,
    /// The owner's name.
    pub uname: String,
    /// The group's name.
    pub gname: String,
    /// Permissions of `/nix` and `/nix/store`, with which the layer begins: 0o755, in older nixpkgs 0o555.
    pub root_mode: u32,
    /// What stands where a device's numbers would.
    pub devices: DeviceFields,
}

/// What stands in the two fields for a device's numbers in the header of something that is no device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceFields {
    /// Nothing: Python 3.9 and later.
    Empty,
    /// Zeroes as octal digits: Python 3.8 and earlier.
    Zero,
}
