//! docker-archive: what nixpkgs dockerTools and `docker save` write.
//!
//! ```text
//! manifest.json            [{"Config": member, "RepoTags": [name:tag, …] or null, "Layers": [member, …]}]
//! <64 hex digits>.json     the image configuration, named by its digest
//! <id>/layer.tar           a layer, or a link to an earlier one; or <id>.tar, or any other name
//! ```
//! (moby, `image/spec/README.md`; nixpkgs, `pkgs/build-support/docker`.)

use super::{
    Image, ImageBlob, ImageError,
    config::Config,
    contents::Contents,
    convert::{Form, tag_of},
    limits::LimitExceeded,
    measure::Encoding,
};
use crate::{
    blob::Source,
    oci::{Descriptor, Digest, Document, Manifest, media_type},
};
use serde::Deserialize;
use std::collections::BTreeMap;

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

/// Reads the archive's one image.
pub(super) fn read(contents: &mut Contents<'_>) -> Result<Image, ImageError> {
    let limits = &contents.reader.limits;
    let json = contents.small(MANIFEST, "a docker-archive", limits.max_manifest_bytes)?;
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
    let mut descriptors = Vec::new();
    for (name, part) in layers.iter().zip(&parts) {
        let layer_type = match part.measured.encoding {
            Encoding::Tar => media_type::OCI_LAYER_TAR,
            Encoding::Gzip => media_type::OCI_LAYER_GZIP,
            Encoding::Zstd => media_type::OCI_LAYER_ZSTD,
            Encoding::Other => {
                return Err(contents.invalid(format!("layer {name:?} is not a tar archive")));
            }
        };
        descriptors.push(Descriptor::new(layer_type, part.measured.digest, part.measured.size));
    }
    let config_size = config_bytes.len() as u64;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.into()),
        config: Descriptor::new(media_type::OCI_CONFIG, config_digest, config_size),
        layers: descriptors,
        annotations: BTreeMap::new(),
    };
    let mut blobs = contents.place(&parts)?;
    blobs.push(ImageBlob { digest: config_digest, size: config_size, source: Source::Inline(config_bytes) });
    let mut tags: Vec<String> = item
        .repo_tags
        .iter()
        .flatten()
        .filter(|name| name.contains(':'))
        .filter_map(|name| tag_of(name))
        .collect();
    tags.sort();
    tags.dedup();
    Ok(Image {
        oci: Document::from_manifest(&manifest),
        docker: Document::from_manifest(&Form::Docker.manifest(&manifest)),
        children: Vec::new(),
        blobs,
        tags,
    })
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
