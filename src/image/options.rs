//! How an image is made, where there is a choice.

use serde::{Deserialize, Serialize};

/// What the user chooses about every image. Part of an image's identity: read under other options, a store path is
/// another image, so that what was served once can be made again as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Options {
    /// How layers that are plain tar archives are served, `LAYER_COMPRESSION`.
    pub compression: LayerCompression,
}

/// What becomes of a layer that is a plain tar archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LayerCompression {
    /// It stays what it is.
    #[default]
    None,
    /// It is compressed with gzip.
    Gzip,
    /// It is compressed with zstd.
    Zstd,
}
