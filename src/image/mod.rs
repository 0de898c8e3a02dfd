//! What a store path is as an image: one file, or folder, a format.
//!
//! ```text
//! store path ─ folder ─▶ archive file  ─ archive ─▶ contents ─ docker_archive ─▶ Image
//!                   ├──▶ layout folder ───────────▶ (by name) ─ oci_layout ────▶
//!                   ├──▶ script or JSON ── streamed ─▶ store paths ─ computed ─▶
//!                   └──▶ JSON ── nix2container ──────▶ (or files)
//! ```
//! Everything here blocks and works on bytes that nobody vouches for: whatever they are, the outcome is an image
//! whose digests have been computed or an [`ImageError`], and nothing stays behind in the cache.

mod archive;
mod compress;
mod computed;
mod config;
mod contents;
mod convert;
mod decompress;
mod docker_archive;
mod error;
mod folder;
mod json;
mod limits;
mod magic;
mod measure;
mod nix2container;
mod oci_layout;
mod options;
mod package;
mod parts;
mod progress;
mod reachable;
mod recognise;
mod store_file;
mod streamed;
mod tar_walk;

pub use error::ImageError;
pub use limits::{LimitExceeded, Limits};
pub use options::{LayerCompression, Layers, Options};
pub use package::{Empty, Layering, Package, Settings, SettingsError, platform};
pub use progress::ReadProgress;
pub use reachable::Reachable;

use crate::{
    blob::{Cache, Source},
    budget::Budget,
    nix::StorePath,
    oci::{Descriptor, Digest, Document, Manifest, media_type},
};
use bytes::Bytes;
use convert::Form;
use std::{collections::BTreeMap, num::NonZeroUsize, ops::Deref, sync::Arc};

/// An image as it was found in a store path: everything that a client can ask for.
#[derive(Debug, Clone)]
pub struct Image {
    /// What a tag leads to, in OCI form: an image manifest, or an index of several platforms. Taken verbatim from an
    /// OCI layout, else made canonically.
    pub oci: Document,
    /// The same in Docker form, for clients that accept no OCI types.
    pub docker: Document,
    /// Further manifests, in both forms, that `oci` and `docker` lead to where they are indexes.
    pub children: Vec<Document>,
    /// Configurations and layers, each digest once.
    pub blobs: Vec<ImageBlob>,
    /// Tags that the image itself names (`RepoTags` of a docker-archive, `org.opencontainers.image.ref.name`).
    pub tags: Vec<String>,
    /// Of an image that was made of packages: how their closure became layers.
    pub layering: Option<Layering>,
}

impl Image {
    /// The image of one configuration and these layers, base first. `blobs` has each layer once.
    fn of_layers(
        reader: &Reader,
        options: &Options,
        config: Bytes,
        layers: Vec<Descriptor>,
        mut blobs: Vec<ImageBlob>,
        mut tags: Vec<String>,
    ) -> Result<Self, ImageError> {
        let compressed = compress::layers(reader, options.compression, &layers, &mut blobs)?;
        let (digest, size) = (Digest::of(&config), config.len() as u64);
        blobs.push(ImageBlob { digest, size, source: Source::Inline(config) });
        let manifest = |layers| Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.into()),
            config: Descriptor::new(media_type::OCI_CONFIG, digest, size),
            layers,
            annotations: BTreeMap::new(),
        };
        let oci = manifest(compressed);
        // Docker has no layers that are compressed with zstd, and whoever takes no OCI types could not unpack them.
        let docker = match options.compression {
            LayerCompression::Zstd => Form::Docker.manifest(&manifest(layers)),
            _ => Form::Docker.manifest(&oci),
        };
        tags.sort();
        tags.dedup();
        Ok(Self {
            oci: Document::from_manifest(&oci),
            docker: Document::from_manifest(&docker),
            children: Vec::new(),
            blobs,
            tags,
            layering: None,
        })
    }
}

/// A configuration or a layer.
#[derive(Debug, Clone)]
pub struct ImageBlob {
    /// The digest of the bytes; it has been computed, not believed.
    pub digest: Digest,
    /// The length in bytes.
    pub size: u64,
    /// Where the bytes are.
    pub source: Source,
}

/// What all readings of images share.
#[derive(Debug, Clone)]
pub struct Resources {
    /// Takes what has to be unpacked.
    pub cache: Arc<Cache>,
    /// Takes the entry lists of layers that are computed from store paths, each named by its
    /// [`recipe`](crate::layer::recipe).
    pub lists: Arc<Cache>,
    /// What one image may cost.
    pub limits: Limits,
    /// Threads that hash at once, for one image.
    pub threads: NonZeroUsize,
}

/// What the reading of one image needs: what all share, what this one may open and cost, and who looks at how far it is.
#[derive(Debug)]
pub struct Reader {
    shared: Resources,
    store: Reachable,
    budget: Budget,
    progress: Arc<ReadProgress>,
}

impl Reader {
    /// For one reading, which begins now, of what is reachable in the store.
    pub fn new(shared: Resources, store: Reachable, progress: Arc<ReadProgress>) -> Self {
        let budget = Budget::new(shared.limits.reading.clone());
        Self { shared, store, budget, progress }
    }
}

impl Deref for Reader {
    type Target = Resources;

    fn deref(&self) -> &Resources {
        &self.shared
    }
}

/// Which image of a store path is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Selection {
    /// The only one: the path is an archive, a streamed image or nix2container's, an OCI layout folder, or a folder with
    /// exactly one of these.
    Only,
    /// The one of this name in a folder, with or without a suffix such as `.tar.gz`.
    Member(String),
    /// The path itself, if it is an image; else one that is made of it and others.
    Package(Box<Package>),
}

/// Reads an image: recognises what it is, hashes every blob once and puts into the cache what had to be unpacked.
///
/// Blocks, for about as long as `sha256sum`, or the decompressor, takes for the file.
pub fn read(
    reader: &Reader,
    object: &StorePath,
    select: &Selection,
    options: &Options,
) -> Result<Image, ImageError> {
    unless_vanished(reader, object, || folder::locate(reader, object, select)?.read(reader, options))
}

/// Reads the image that a package is, unless it is none. `has_settings` if something states how a container of the package
/// is to run: an image has that in itself.
pub fn read_if_any(
    reader: &Reader,
    object: &StorePath,
    options: &Options,
    has_settings: bool,
) -> Result<Option<Image>, ImageError> {
    unless_vanished(reader, object, || {
        let image = match folder::itself(reader, object) {
            Ok(Some(recognised)) => recognised.read(reader, options),
            Ok(None) => return Ok(None),
            Err(error) => Err(error),
        };
        match image {
            Err(ImageError::Unrecognised { .. }) => Ok(None),
            Ok(_) if has_settings => Err(ImageError::invalid(
                reader.store.join(object),
                "it is an image already, on which the package's imageConfig has no effect: take that away",
            )),
            image => image.map(Some),
        }
    })
}

/// Makes an image of packages: of these store paths, whose closure is that of `layering`.
///
/// Blocks for as long as hashing takes for what is in no layer that is known already.
pub fn of_packages(
    reader: &Reader,
    objects: &[StorePath],
    package: &Package,
    layering: Layering,
    options: &Options,
) -> Result<Image, ImageError> {
    let Some(first) = objects.first() else {
        return Err(ImageError::invalid(reader.store.as_path(), "an image of no packages"));
    };
    unless_vanished(reader, first, || package::make(reader, objects, package, layering, options))
}

/// The names of the images in a folder, sorted; none if the path is an image itself.
pub fn members(reader: &Reader, object: &StorePath) -> Result<Vec<String>, ImageError> {
    unless_vanished(reader, object, || folder::members(reader, object))
}

/// Puts one blob with [`Source::Cache`] of an image that was read before into the cache again, and nothing else. Stops as
/// soon as that is done.
pub fn recreate(
    reader: &Reader,
    object: &StorePath,
    select: &Selection,
    digest: Digest,
    size: u64,
) -> Result<(), ImageError> {
    unless_vanished(reader, object, || {
        let recognised = folder::locate(reader, object, select)?;
        let path = recognised.path().to_owned();
        if recognised.recreate(reader, digest, size)? {
            Ok(())
        } else {
            Err(ImageError::Changed { path, digest })
        }
    })
}

/// Whatever went wrong: if the store path is not there any more, that is why.
fn unless_vanished<T>(
    reader: &Reader,
    object: &StorePath,
    work: impl FnOnce() -> Result<T, ImageError>,
) -> Result<T, ImageError> {
    work().map_err(|error| {
        let path = reader.store.join(object);
        match path.symlink_metadata() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => ImageError::Vanished { path },
            _ => error,
        }
    })
}
