//! nix2container's images: an `image.json` that names store paths, from which layers are computed, and files of layers.
//!
//! Every layer is held against the digest, diff ID and size that the description states.

mod config;
mod description;
mod expressions;
mod regex;
mod tree;

use super::{
    Image, ImageError, Options, Reader,
    computed::{annotate, commit, compute},
    contents::Contents,
    json,
    limits::LimitExceeded,
    magic::HEAD,
    measure::in_parallel,
    parts::Part,
    store_file::StoreFile,
};
use crate::{
    budget::Held,
    oci::{Descriptor, Digest, media_type},
};
use description::{Description, Layer};
use expressions::Expressions;
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};
use tree::Tree;

/// Expressions for permissions in one image; each is tried on every file below its path.
const MAX_PERMS: usize = 10_000;

/// A description, read but not understood yet.
pub(super) struct Found<'r> {
    path: PathBuf,
    json: Vec<u8>,
    /// For the description, and all that is made of it.
    memory: Held<'r>,
}

impl Found<'_> {
    /// The description's file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// The description that this file is; none if it is something else.
pub(super) fn recognise<'r>(reader: &'r Reader, file: &StoreFile) -> Result<Option<Found<'r>>, ImageError> {
    let limit = reader.limits.max_config_bytes;
    let first = file.head(HEAD)?.into_iter().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(b'{') || file.size > limit {
        return Ok(None);
    }
    let json = file.head(limit as usize)?;
    if !description::is_one(&json) {
        return Ok(None);
    }
    let memory = reader.budget.hold(json::weight(&json), "its description");
    let memory = memory.map_err(ImageError::exceeding(&file.path))?;
    Ok(Some(Found { path: file.path.clone(), json, memory }))
}

/// A layer as it is stated.
struct Stated {
    /// Which it is, for messages.
    name: String,
    digest: Digest,
    diff_id: Digest,
    /// Unless that is not known, as in base images.
    size: Option<u64>,
    source: LayerSource,
}

enum LayerSource {
    /// A file in the store.
    File(PathBuf),
    /// Store paths.
    Tree(Tree),
}

/// Reads the image: hashes its layers, unless they are computed and their entry lists are there already.
pub(super) fn read(reader: &Reader, found: Found<'_>, options: &Options) -> Result<Image, ImageError> {
    let Found { path, json, memory } = found;
    memory.keep();
    let invalid = |problem: String| ImageError::invalid(&path, problem);
    let description = description::parse(&json).map_err(invalid)?;
    drop(json);
    check_limits(reader, &path, &description)?;
    let config = config::config(&description).map_err(invalid)?;
    let count = description.layers.len();
    let layers = description.layers.into_iter().enumerate();
    let expressions = Arc::default();
    let layers = layers.map(|(n, layer)| stated(reader, &path, layer, (n + 1, count), &expressions));
    let layers: Vec<Stated> = layers.collect::<Result<_, _>>()?;

    let mut contents = Contents::of_folder(reader, reader.store.as_path());
    let parts = measure(&path, &mut contents, &layers)?;
    let trees: Vec<&Tree> = layers.iter().filter_map(Stated::tree).collect();
    let made = in_parallel(&trees, reader.threads, |tree| compute(reader, &path, &tree::style(), *tree))?;

    let (mut measured, mut computed) = (parts.iter(), made.iter());
    let mut descriptors = Vec::new();
    for layer in &layers {
        let descriptor = match layer.tree() {
            Some(_) => computed.next().map(|(blob, _)| {
                let descriptor = Descriptor::new(media_type::OCI_LAYER_TAR, blob.digest, blob.size);
                (descriptor, Ok(blob.digest))
            }),
            None => measured.next().and_then(|Part { measured, .. }| {
                let layer_type = measured.encoding.layer_type()?;
                let descriptor = Descriptor::new(layer_type, measured.digest, measured.size);
                Some((descriptor, measured.diff_id.clone()))
            }),
        };
        let (mut descriptor, diff_id) =
            descriptor.ok_or_else(|| invalid(format!("{} is not a tar archive", layer.name)))?;
        layer.check(&descriptor, diff_id).map_err(invalid)?;
        let in_place = layer.tree().into_iter().flat_map(Tree::in_place);
        annotate(&mut descriptor, in_place, options);
        descriptors.push(descriptor);
    }
    let mut blobs = contents.place(&parts)?;
    blobs.extend(commit(reader, made)?);
    let mut seen = HashSet::new();
    blobs.retain(|blob| seen.insert(blob.digest));
    Image::of_layers(reader, options, config.into(), descriptors, blobs, Vec::new())
}

fn check_limits(reader: &Reader, path: &Path, description: &Description) -> Result<(), ImageError> {
    let layers = &description.layers;
    let trees = || layers.iter().flat_map(|layer| &layer.paths);
    for (what, count, limit) in [
        ("layers", layers.len(), reader.limits.max_layers),
        ("store paths", trees().count(), reader.limits.max_members),
        ("\"perms\"", trees().map(|tree| tree.options.perms.len()).sum(), MAX_PERMS),
    ] {
        if count > limit {
            let exceeded = LimitExceeded::Count { what, limit };
            return Err(ImageError::LimitExceeded { path: path.into(), exceeded });
        }
    }
    Ok(())
}

/// What is stated about a layer, with all paths in the store.
fn stated(
    reader: &Reader,
    of: &Path,
    layer: Layer,
    (n, count): (usize, usize),
    expressions: &Arc<Expressions>,
) -> Result<Stated, ImageError> {
    let first = match layer.layer_path.as_str() {
        "" => layer.paths.first().map_or("", |tree| tree.path.as_str()),
        path => path,
    };
    let mut shown: String = first.chars().take(300).collect();
    if layer.layer_path.is_empty() && layer.paths.len() > 1 {
        shown += &format!(" and {} more", layer.paths.len() - 1);
    }
    let name = format!("layer {n} of {count} ({shown})");
    let invalid = |problem: String| ImageError::invalid(of, format!("{name}: {problem}"));
    let digest = |what: &str, text: &str| {
        let shown: String = text.chars().take(100).collect();
        text.parse::<Digest>().map_err(|_| invalid(format!("its {what} {shown:?} is no SHA-256 digest")))
    };
    let (stated_digest, diff_id) = (digest("digest", &layer.digest)?, digest("diff ID", &layer.diff_ids)?);
    let source = if !layer.layer_path.is_empty() {
        let file = reader.store.named(Path::new(&layer.layer_path), (of, "\"layer-path\""))?;
        LayerSource::File(file.path().into())
    } else if layer.paths.is_empty() {
        return Err(invalid("it has neither a \"layer-path\" nor \"paths\"".into()));
    } else {
        let (mut paths, mut options) = (Vec::new(), Vec::new());
        for tree in layer.paths {
            paths.push(reader.store.object(&tree.path, (of, "\"paths\""))?);
            options.push(tree.options);
        }
        LayerSource::Tree(Tree { paths, options, expressions: expressions.clone() })
    };
    let size = Some(layer.size).filter(|size| *size != 0);
    Ok(Stated { digest: stated_digest, diff_id, size, source, name })
}

/// Measures the layers that are files.
fn measure(of: &Path, contents: &mut Contents<'_>, layers: &[Stated]) -> Result<Vec<Part>, ImageError> {
    let files = layers.iter().filter_map(|layer| match &layer.source {
        LayerSource::File(path) => Some(path.strip_prefix(&contents.path).unwrap_or(path)),
        LayerSource::Tree(_) => None,
    });
    let names = files.map(|path| {
        let name = path.to_str().map(str::to_owned);
        name.ok_or_else(|| ImageError::invalid(of, format!("the name of the layer {path:?} is not text")))
    });
    let names: Vec<String> = names.collect::<Result<_, _>>()?;
    contents.measure(&names, "\"layer-path\"")
}

impl Stated {
    fn tree(&self) -> Option<&Tree> {
        match &self.source {
            LayerSource::Tree(tree) => Some(tree),
            LayerSource::File(_) => None,
        }
    }

    /// Whether the layer is what it is stated to be; the error says what is not.
    fn check(&self, found: &Descriptor, diff_id: Result<Digest, String>) -> Result<(), String> {
        let Self { name, digest, size, .. } = self;
        if found.digest != *digest {
            return Err(format!(
                "{name} is stated to have the digest {digest}, but its bytes have {}",
                found.digest
            ));
        }
        let diff_id = diff_id.map_err(|problem| format!("{name}: {problem}"))?;
        if diff_id != self.diff_id {
            let stated = self.diff_id;
            return Err(format!(
                "{name} is stated to have the diff ID {stated}, but its bytes have {diff_id}"
            ));
        }
        match size {
            Some(size) if *size != found.size => {
                Err(format!("{name} is stated to have {size} bytes, but it has {}", found.size))
            }
            _ => Ok(()),
        }
    }
}
