//! docker-archive: what nixpkgs dockerTools and `docker save` write.
//!
//! ```text
//! manifest.json            [{"Config": member, "RepoTags": [name:tag, …] or null, "Layers": [member, …]}]
//! <64 hex digits>.json     the image configuration, named by its digest
//! <id>/layer.tar           a layer, or a link to an earlier one; or <id>.tar, or any other name
//! ```
//! (moby, `image/spec/README.md`; nixpkgs, `pkgs/build-support/docker`.)

use super::{
    Image, ImageError, Options, config::Config, contents::Contents, convert::tag_of, limits::LimitExceeded,
    parts::Part,
};
use crate::oci::{Descriptor, Digest};
use bytes::Bytes;
use serde::Deserialize;

const MANIFEST: &str = "manifest.json";

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// Whether an archive is of this format.
pub(super) fn is_one(contents: &Contents<'_>) -> bool {
    contents.has(MANIFEST)
}

/// An archive's one image, measured, but not placed yet.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) config: Bytes,
    /// The layers, base first: the member's name, what a manifest says about it, its diff ID.
    pub(super) layers: Vec<(String, Descriptor, Digest)>,
    pub(super) parts: Vec<Part>,
    tags: Vec<String>,
}

/// Reads the archive's one image.
pub(super) fn read(contents: &mut Contents<'_>, options: &Options) -> Result<Image, ImageError> {
    let Loaded { config, layers, parts, tags } = load(contents)?;
    let blobs = contents.place(&parts)?;
    let descriptors = layers.into_iter().map(|(_, descriptor, _)| descriptor).collect();
    Image::of_layers(contents.reader, options, config, descriptors, blobs, tags)
}

/// Measures the archive's one image.
pub(super) fn load(contents: &mut Contents<'_>) -> Result<Loaded, ImageError> {
    let limits = &contents.reader.limits;
    let json = contents.small(MANIFEST, "a docker-archive", limits.max_manifest_bytes)?;
    contents.charge_json(&json)?;
    let items: Vec<Item> = serde_json::from_slice(&json).map_err(|error| {
        contents.invalid(format!("{MANIFEST} is not a list of images with Config and Layers: {error}"))
    })?;
    let item = only(contents, &items)?;
    let layers = item.layers.as_deref().unwrap_or_default();
    if layers.len() > limits.max_layers {
        return Err(contents.exceeded(LimitExceeded::Count { what: "layers", limit: limits.max_layers }));
    }
    let config_bytes = contents.small(&item.config, MANIFEST, limits.max_config_bytes)?;
    let config_digest = Digest::of(&config_bytes);
    let stated = item.config.rsplit('/').next().unwrap_or_default();
    if let Some(stated) = Digest::from_hex(stated.strip_suffix(".json").unwrap_or(stated))
        && stated != config_digest
    {
        return Err(contents.invalid(format!(
            "the configuration {:?} has the digest {config_digest}, which is not what its name says",
            item.config
        )));
    }
    contents.charge_json(&config_bytes)?;
    let config = Config::parse(&config_bytes).map_err(|error| {
        contents.invalid(format!("{:?} is not an image configuration: {error}", item.config))
    })?;
    if config.diff_ids.len() != layers.len() {
        // Known before anything is hashed.
        let count = config.diff_ids.len();
        let problem =
            format!("the image has {} layers, but its configuration lists {count} diff IDs", layers.len());
        return Err(contents.invalid(problem));
    }
    let parts = contents.measure(layers, MANIFEST)?;
    let checked: Vec<_> =
        layers.iter().zip(&parts).map(|(name, part)| (name.clone(), Some(&part.measured.diff_id))).collect();
    config.check(&checked).map_err(|problem| contents.invalid(problem))?;
    let mut described = Vec::new();
    for ((name, part), diff_id) in layers.iter().zip(&parts).zip(config.diff_ids) {
        let layer_type = part.measured.encoding.layer_type();
        let layer_type =
            layer_type.ok_or_else(|| contents.invalid(format!("layer {name:?} is not a tar archive")))?;
        let descriptor = Descriptor::new(layer_type, part.measured.digest, part.measured.size);
        described.push((name.clone(), descriptor, diff_id));
    }
    let mut tags: Vec<String> = item
        .repo_tags
        .iter()
        .flatten()
        .filter(|name| name.contains(':'))
        .filter_map(|name| tag_of(name))
        .collect();
    tags.sort();
    tags.dedup();
    Ok(Loaded { config: config_bytes, layers: described, parts, tags })
}

/// The image, if there is one; several entries for the same one are one.
fn only<'i>(contents: &Contents<'_>, items: &'i [Item]) -> Result<&'i Item, ImageError> {
    let [first, others @ ..] = items else {
        return Err(contents.invalid(format!("{MANIFEST} lists no image")));
    };
    if others.iter().all(|other| other == first) {
        return Ok(first);
    }
    let names: Vec<String> = items
        .iter()
        .take(50)
        .map(|item| match item.repo_tags.as_deref() {
            Some([_, ..]) => item.repo_tags.iter().flatten().cloned().collect::<Vec<_>>().join(" and "),
            _ => format!("an untagged one with the configuration {}", item.config),
        })
        .collect();
    let problem = format!("it contains {} images, and it must be one: {}", items.len(), names.join("; "));
    Err(contents.invalid(problem))
}
