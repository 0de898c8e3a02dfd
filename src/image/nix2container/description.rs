//! `image.json`, version 1, as nix2container's `buildImage` and `pullImage` yield it.
//!
//! | | |
//! |---|---|
//! | `version` | 1 |
//! | `image-config` | `config` of the image's configuration, whose `created` and `architecture` are `created` and `arch` |
//! | `layers` | the layers, base first |
//! | `layers[].digest` `.size` `.diff_ids` | what the layer is stated to be; the size is 0 in layers of a base image |
//! | `layers[].layer-path` | the layer's file in the store, compressed or not; else it is computed from `paths` |
//! | `layers[].mediatype` | not needed: the bytes say it |
//! | `layers[].History` | what the configuration says about the layer |
//! | `layers[].paths[].path` | a store path, which is in the layer with all below it |
//! | `….options.rewrite` | `regex` and `repl`: what the names in the archive are made from the paths with |
//! | `….options.perms[]` | `mode`, `uid`, `gid`, `uname`, `gname` of the paths that `regex` matches |
//!
//! (nix2container, `types/types.go`, `nix/image.go`.)

use super::config::{History, ImageConfig};
use crate::image::json::Json;
use serde::{Deserialize, Deserializer, Serialize};

/// The only version that there is.
const VERSION: i128 = 1;

/// Go takes `null` for whatever a variable is at first.
pub(super) fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// An image.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Description {
    #[serde(default, deserialize_with = "nullable")]
    pub(super) image_config: ImageConfig,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) layers: Vec<Layer>,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) arch: String,
    #[serde(default)]
    pub(super) created: Option<String>,
}

/// A layer.
#[derive(Debug, Deserialize)]
pub(super) struct Layer {
    pub(super) digest: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) size: u64,
    pub(super) diff_ids: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) paths: Vec<StoreTree>,
    #[serde(default, deserialize_with = "nullable", rename = "layer-path")]
    pub(super) layer_path: String,
    #[serde(default, deserialize_with = "nullable", rename = "History")]
    pub(super) history: History,
}

/// A store path with all below it. A field that is not known, here and below, would change what is in the layer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoreTree {
    pub(super) path: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) options: Options,
}

/// What is different in the archive.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    #[serde(default, deserialize_with = "nullable")]
    pub(super) rewrite: Rewrite,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) perms: Vec<Perm>,
}

/// Other names.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Rewrite {
    pub(super) regex: String,
    pub(super) repl: String,
}

/// Other permissions and owners.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Perm {
    pub(super) regex: String,
    /// Octal digits, or nothing.
    pub(super) mode: String,
    pub(super) uid: i64,
    pub(super) gid: i64,
    pub(super) uname: String,
    pub(super) gname: String,
}

/// What tells such a description from other JSON.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Signs {
    #[allow(dead_code)]
    version: serde::de::IgnoredAny,
    #[allow(dead_code)]
    image_config: serde::de::IgnoredAny,
    #[allow(dead_code)]
    layers: serde::de::IgnoredAny,
}

/// Whether this is the description of an image, valid or not.
pub(super) fn is_one(json: &[u8]) -> bool {
    serde_json::from_slice::<Signs>(json).is_ok()
}

/// Reads a description; the error says what is wrong with it.
pub(super) fn parse(json: &[u8]) -> Result<Description, String> {
    #[derive(Deserialize)]
    struct Version {
        version: Json,
    }
    let broken = |error: serde_json::Error| format!("it is not what nix2container writes: {error}");
    // Other versions have other fields, of which nothing helpful could be said.
    let Version { version } = serde_json::from_slice(json).map_err(broken)?;
    if version != Json::Integer(VERSION) {
        let shown: String = version.dumps(1000).unwrap_or_default().chars().take(40).collect();
        return Err(format!("it is of nix2container's version {shown}, and version {VERSION} is understood"));
    }
    serde_json::from_slice(json).map_err(broken)
}
