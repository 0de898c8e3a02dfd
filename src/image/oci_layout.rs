//! OCI image layouts, as a folder or in an archive.
//!
//! ```text
//! oci-layout               {"imageLayoutVersion": "1.0.0"}
//! index.json               an index: which manifests the layout is about
//! blobs/sha256/<64 hex>    everything else, by digest
//! ```
//! (image-spec, image-layout.md.) Manifests are taken as they are; the other form of each is derived.

mod tree;

use super::{
    Image, ImageBlob, ImageError, Reader,
    config::Config,
    contents::Contents,
    convert::{Form, tag_of},
    limits::LimitExceeded,
    measure::Encoding,
    parts::Part,
};
use crate::{
    blob::Source,
    oci::{Descriptor, Digest, Document, Index, Platform, media_type},
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
};
use tree::Tree;

const INDEX: &str = "index.json";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Whether an archive is of this format.
pub(super) fn is_one(contents: &Contents<'_>) -> bool {
    contents.has(INDEX)
}

/// Whether a folder is one.
pub(super) fn is_folder(reader: &Reader, folder: &Path) -> bool {
    let is_file = |name: &str| folder.join(name).symlink_metadata().is_ok_and(|m| !m.is_dir());
    let is_folder = |name: &str| {
        let found = reader.store.follow(&folder.join(name)).ok().flatten();
        found.is_some_and(|found| found.metadata().is_dir())
    };
    is_file(INDEX) && (is_file("oci-layout") || is_folder("blobs"))
}

/// Reads the layout's one image, of one platform or several.
pub(super) fn read(contents: &mut Contents<'_>) -> Result<Image, ImageError> {
    let json = contents.small(INDEX, "an OCI layout", contents.reader.limits.max_manifest_bytes)?;
    contents.charge_json(&json)?;
    let index: Index = serde_json::from_slice(&json)
        .map_err(|error| contents.invalid(format!("{INDEX} is not an image index: {error}")))?;
    let mut tree = Tree::default();
    let (root, named) = choose(contents, &mut tree, &index)?;
    let (parts, mut blobs) = verify(contents, &tree)?;
    let image = tree.documents(root);
    let mut seen: HashSet<Digest> = blobs.iter().map(|blob| blob.digest).collect();
    let placed = contents.place(&parts)?;
    blobs.extend(placed.into_iter().filter(|blob| seen.insert(blob.digest)));
    let names = named.iter().filter_map(|descriptor| descriptor.annotations.get(REF_NAME));
    let mut tags: Vec<String> = names.filter_map(|name| tag_of(name)).collect();
    tags.sort();
    tags.dedup();
    let (oci, docker, children) = image;
    Ok(Image { oci, docker, children, blobs, tags, layering: None })
}

/// What the index leads to: the only image, or all of them if they differ in platform. Loads it into the tree.
fn choose<'i>(
    contents: &Contents<'_>,
    tree: &mut Tree,
    index: &'i Index,
) -> Result<(usize, Vec<&'i Descriptor>), ImageError> {
    let mut distinct: Vec<&Descriptor> = Vec::new();
    let known = |d: &&Descriptor| Form::of(&d.media_type).is_some();
    let mut seen = HashSet::new();
    distinct.extend(index.manifests.iter().filter(known).filter(|d| seen.insert(d.digest)));
    let images: Vec<_> = distinct.iter().copied().filter(|d| !is_attestation(d)).collect();
    let wanted = if images.is_empty() { &distinct } else { &images };
    match wanted[..] {
        [] => {
            let types: Vec<_> = index.manifests.iter().take(20).map(|d| d.media_type.as_str()).collect();
            let found = if types.is_empty() { "nothing".into() } else { types.join(", ") };
            Err(contents.invalid(format!("{INDEX} lists no manifest or index of a known type, but {found}")))
        }
        [one] => {
            let root = tree.load(contents, one, INDEX, 0)?;
            // The same image may be listed under several names.
            let named = index.manifests.iter().filter(|d| d.digest == one.digest).collect();
            Ok((root, named))
        }
        _ => {
            let mut manifests = Vec::new();
            let mut platforms = HashSet::new();
            let mut clash = false;
            for descriptor in &distinct {
                let node = tree.load(contents, descriptor, INDEX, 0)?;
                let mut descriptor = (*descriptor).clone();
                descriptor.annotations.remove(REF_NAME);
                if !is_attestation(&descriptor) {
                    descriptor.platform = descriptor.platform.or_else(|| tree.platform(node));
                    let platform = descriptor.platform.as_ref().map(describe_platform);
                    clash |= platform.is_none_or(|platform| !platforms.insert(platform));
                }
                manifests.push((descriptor, node));
            }
            if clash {
                let list: Vec<_> = manifests.iter().take(50).map(|(d, _)| describe(index, d)).collect();
                let problem =
                    format!("{INDEX} lists several images, and it must be one: {}", list.join("; "));
                return Err(contents.invalid(problem));
            }
            Ok((tree.add_generated(manifests), images))
        }
    }
}

/// BuildKit marks what is about an image, and not for any machine, in these ways.
fn is_attestation(descriptor: &Descriptor) -> bool {
    descriptor.platform.as_ref().is_some_and(is_unknown)
        || descriptor.annotations.contains_key("vnd.docker.reference.type")
}

fn is_unknown(platform: &Platform) -> bool {
    platform.os == "unknown" && platform.architecture == "unknown"
}

fn describe_platform(platform: &Platform) -> String {
    let Platform { architecture, os, variant, os_version } = platform;
    let parts = [Some(os), Some(architecture), variant.as_ref(), os_version.as_ref()];
    parts.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join("/")
}

fn describe(index: &Index, descriptor: &Descriptor) -> String {
    let names = index.manifests.iter().filter(|d| d.digest == descriptor.digest);
    let names: Vec<_> = names.filter_map(|d| d.annotations.get(REF_NAME)).map(String::as_str).collect();
    let name = if names.is_empty() { "untagged".into() } else { names.join(" and ") };
    let platform = descriptor.platform.as_ref().map_or("unknown platform".into(), describe_platform);
    format!("{name} ({platform}, {})", descriptor.digest)
}

/// Measures all blobs of all manifests and holds them against what is said about them. Yields the layers, and the
/// rows of the configurations.
fn verify(contents: &mut Contents<'_>, tree: &Tree) -> Result<(Vec<Part>, Vec<ImageBlob>), ImageError> {
    let mut names = Vec::new();
    let mut seen = HashSet::new();
    for (_, manifest, _) in tree.manifests() {
        let layers = manifest.layers.iter().filter(|layer| seen.insert(layer.digest));
        names.extend(layers.map(|layer| blob_name(&layer.digest)));
    }
    let parts = contents.measure(&names, "a manifest")?;
    let measured: HashMap<&str, &Part> = names.iter().map(String::as_str).zip(&parts).collect();
    let mut configs = BTreeMap::new();
    for (digest, manifest, config) in tree.manifests() {
        let mut layers = Vec::new();
        for layer in &manifest.layers {
            let name = blob_name(&layer.digest);
            let Some(part) = measured.get(name.as_str()) else { continue };
            check_blob(layer, part).map_err(|problem| contents.invalid(problem))?;
            let known = encoding_of(&layer.media_type).is_some();
            layers.push((layer.digest.to_string(), known.then_some(&part.measured.diff_id)));
        }
        if is_image_config(&manifest.config.media_type) {
            let parsed = Config::parse(config).map_err(|error| {
                contents.invalid(format!(
                    "{} is not an image configuration, which manifest {digest} takes it for: {error}",
                    manifest.config.digest
                ))
            })?;
            if !is_unknown(&parsed.platform) {
                parsed.check(&layers).map_err(|problem| contents.invalid(problem))?;
            }
        }
        let blob = ImageBlob {
            digest: manifest.config.digest,
            size: config.len() as u64,
            source: Source::Inline(config.clone()),
        };
        configs.insert(blob.digest, blob);
    }
    Ok((parts, configs.into_values().collect()))
}

fn is_image_config(media_type: &str) -> bool {
    matches!(media_type, media_type::OCI_CONFIG | media_type::DOCKER_CONFIG)
}

/// How a layer of this type has to be encoded; none for what is no layer, or one of a type that is not known here.
fn encoding_of(media_type: &str) -> Option<Encoding> {
    match media_type {
        media_type::OCI_LAYER_TAR | media_type::DOCKER_LAYER_TAR => Some(Encoding::Tar),
        media_type::OCI_LAYER_GZIP | media_type::DOCKER_LAYER_GZIP => Some(Encoding::Gzip),
        media_type::OCI_LAYER_ZSTD | media_type::DOCKER_LAYER_ZSTD => Some(Encoding::Zstd),
        _ => None,
    }
}

fn check_blob(descriptor: &Descriptor, part: &Part) -> Result<(), String> {
    let measured = &part.measured;
    let name = blob_name(&descriptor.digest);
    if measured.digest != descriptor.digest {
        return Err(format!("{name:?} has the digest {}, which is not what its name says", measured.digest));
    }
    if measured.size != descriptor.size {
        let (found, stated) = (measured.size, descriptor.size);
        return Err(format!("{name:?} has {found} bytes, but its descriptor states {stated}"));
    }
    match encoding_of(&descriptor.media_type) {
        Some(encoding) if encoding != measured.encoding => Err(format!(
            "{name:?} is {}, which is not what its media type {} says",
            match measured.encoding {
                Encoding::Tar => "a plain tar archive",
                Encoding::Gzip => "compressed with gzip",
                Encoding::Zstd => "compressed with zstd",
                Encoding::Other => "no tar archive",
            },
            descriptor.media_type
        )),
        _ => Ok(()),
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The bytes of a small blob, whose digest and size are what the descriptor says.
fn small(
    contents: &Contents<'_>,
    descriptor: &Descriptor,
    wanted_by: &str,
    limit: u64,
) -> Result<Bytes, ImageError> {
    let name = blob_name(&descriptor.digest);
    if descriptor.size > limit {
        return Err(contents.exceeded(LimitExceeded::Bytes { what: name, size: descriptor.size, limit }));
    }
    let bytes = contents.small(&name, wanted_by, limit)?;
    let digest = Digest::of(&bytes);
    if digest != descriptor.digest {
        return Err(
            contents.invalid(format!("{name:?} has the digest {digest}, which is not what its name says"))
        );
    }
    if bytes.len() as u64 != descriptor.size {
        let (found, stated) = (bytes.len(), descriptor.size);
        return Err(
            contents.invalid(format!("{name:?} has {found} bytes, but its descriptor states {stated}"))
        );
    }
    Ok(bytes)
}
