//! Image configurations, as far as a registry has to know them (image-spec, config.md).

use crate::oci::{Digest, Platform};
use serde::Deserialize;

/// What a configuration says about its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) platform: Platform,
    pub(super) diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct Raw {
    architecture: String,
    os: String,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default, rename = "os.version")]
    os_version: Option<String>,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    // An image without layers may say null.
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

impl Config {
    /// Reads a configuration; the error says what is wrong with it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let raw: Raw = serde_json::from_slice(bytes)?;
        let Raw { architecture, os, variant, os_version, rootfs } = raw;
        let platform = Platform { architecture, os, os_version, variant: variant.filter(|v| !v.is_empty()) };
        Ok(Self { platform, diff_ids: rootfs.diff_ids.unwrap_or_default() })
    }

    /// Holds the layers, each with its name, against the diff IDs; the error says which one does not match. A layer
    /// of a type that cannot be unpacked here has none.
    pub(super) fn check(&self, layers: &[(String, Option<&Result<Digest, String>>)]) -> Result<(), String> {
        if layers.len() != self.diff_ids.len() {
            return Err(format!(
                "the image has {} layers, but its configuration lists {} diff IDs",
                layers.len(),
                self.diff_ids.len()
            ));
        }
        for ((name, found), stated) in layers.iter().zip(&self.diff_ids) {
            match found {
                None => {}
                Some(Ok(found)) if found == stated => {}
                Some(Ok(found)) => {
                    return Err(format!(
                        "layer {name:?} has the diff ID {found}, but the configuration states {stated}"
                    ));
                }
                Some(Err(why)) => return Err(format!("layer {name:?} cannot be unpacked: {why}")),
            }
        }
        Ok(())
    }
}
