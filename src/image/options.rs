//! How an image is made, where there is a choice.

use super::Selection;
use crate::{closure::Strategy, oci::Digest};
use serde::{Deserialize, Serialize};

/// What the user chooses about every image. Part of an image's identity: read under other options, a store path is
/// another image, so that what was served once can be made again as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Options {
    /// How layers that are plain tar archives are served, `LAYER_COMPRESSION`.
    pub compression: LayerCompression,
    /// Whether layers say which store paths they have, `NIX_SNAPSHOTTER`.
    pub nix_snapshotter: bool,
    /// How packages become layers; nothing for images that are none of packages.
    pub layers: Option<Layers>,
}

/// How the runtime closure of packages becomes layers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Layers {
    /// How many there may be in all, `MAX_LAYERS`.
    pub max: usize,
    /// By which rules, `LAYER_STRATEGY`.
    pub strategy: Strategy,
    /// The digest of what `POPULARITY` says.
    pub popularity: Option<Digest>,
}

impl Options {
    /// Those that matter for an image of this selection: the others may change, and it stays the same image.
    pub fn for_selection(&self, selection: &Selection) -> Self {
        let layers = match selection {
            Selection::Package(_) => self.layers.clone(),
            Selection::Only | Selection::Member(_) => None,
        };
        Self { layers, ..self.clone() }
    }
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
