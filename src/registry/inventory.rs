//! What there is, for operators: images by name and tag, and everything that is known of one. Read only.

use super::{
    Registry, RegistryError, Result, StateError, Time,
    state::{self, INDEX, State},
};
use crate::{
    blob::Source,
    image::{Options, Selection},
    index::{self, ImageId, ImageRow, Index, Location, TagRow},
    nix::{Buildable, StoreDir},
    oci::{Digest, Manifest, RepositoryName, Tag},
    resolve,
};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// An image under one of its names.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageSummary {
    /// The repository.
    pub name: String,
    /// A tag that leads to it; none if only its digest does.
    pub tag: Option<String>,
    /// The digest of its manifest or index, in OCI form.
    pub digest: Digest,
    /// Bytes of its layers and configurations.
    pub size: u64,
    /// How many layers it has; of an index, all of its images' together.
    pub layers: usize,
    /// When it was built or found in the store, and read; unknown of images of earlier versions.
    pub made_at: Option<Time>,
    /// When it was last asked for.
    pub used_at: Option<Time>,
    /// Whether its GC roots are there, with what they point at.
    pub rooted: bool,
}

/// Everything that is known of an image.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageDetails {
    /// The same as in the list.
    #[serde(flatten)]
    pub summary: ImageSummary,
    /// When the tag was last found to lead to it.
    pub resolved_at: Option<Time>,
    /// All names and tags that lead to it, `name:tag`, or `name` alone.
    pub names: Vec<String>,
    /// The same manifest in Docker's form.
    pub docker_digest: Digest,
    /// The store paths that it lies in, or is made of.
    pub store_paths: Vec<PathBuf>,
    /// How these are realised: `….drv^out`, or a store path.
    pub derivations: Vec<String>,
    /// Which image of them it is.
    pub selection: Selection,
    /// The settings that it was made with.
    pub options: Options,
    /// Its GC roots.
    pub gc_roots: Vec<RootDetails>,
    /// Its layers in the order of its manifest.
    pub blobs: Vec<LayerDetails>,
}

/// A GC root of an image.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RootDetails {
    /// The link.
    pub link: PathBuf,
    /// What it points at, if it is there.
    pub target: Option<PathBuf>,
    /// Whether that is there.
    pub present: bool,
}

/// A layer or a configuration of an image.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerDetails {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// What its descriptor says that it is.
    pub media_type: String,
    /// Where its bytes come from; unknown if the row of the index cannot be read.
    pub place: Option<Place>,
}

/// Where bytes come from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
pub enum Place {
    /// A part of a file in the Nix store.
    Store {
        /// The file.
        path: PathBuf,
        /// The first byte.
        offset: u64,
        /// Whether it is there.
        present: bool,
    },
    /// A file of the blob cache.
    Cache {
        /// The file.
        path: PathBuf,
        /// Whether it is there; if not, it is made again when asked for.
        present: bool,
    },
    /// Computed from store paths.
    Computed {
        /// The entry list.
        path: PathBuf,
        /// Whether it is there; if not, it is made again when asked for.
        present: bool,
    },
    /// The index itself.
    Index,
}

/// An image under a name, and the row of the tag that leads to it.
type Listed = (ImageSummary, ImageId, Option<TagRow>);

/// What the registry has, looked at without changing it.
pub(super) struct View<'a> {
    index: &'a Index,
    state_dir: &'a Path,
    store: &'a StoreDir,
}

/// The state of a registry that does not run: a copy of its index, so that nothing of it is changed.
#[derive(Debug)]
pub struct Snapshot {
    index: Index,
    state_dir: PathBuf,
    store: StoreDir,
}

impl Snapshot {
    /// Copies the index of `state_dir` into the folder `scratch`, which is the caller's to delete.
    pub fn open(state_dir: &Path, store: StoreDir, scratch: &Path) -> Result<Self, StateError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| StateError::Folder { path, error }
        };
        let original = state_dir.join(INDEX);
        if !original.try_exists().map_err(failed(&original))? {
            return Err(StateError::Missing(state_dir.into()));
        }
        let lock = State::share(state_dir)?;
        state::format(state_dir)?;
        let copy = scratch.join(INDEX);
        fs::copy(&original, &copy).map_err(failed(&original))?;
        // A registry that is started now need not wait for what is done with the copy.
        drop(lock);
        index::migrate(&copy)?;
        let opened = index::open(&copy)?;
        if let Some((_aside, reason)) = opened.moved_aside {
            return Err(StateError::Unusable { path: original, reason });
        }
        Ok(Self { index: opened.index, state_dir: state_dir.into(), store })
    }

    /// All images, by name and tag.
    pub fn images(&self) -> Result<Vec<ImageSummary>> {
        self.view().images()
    }

    /// The images of a name, or the one of a tag.
    pub fn inspect(&self, name: &RepositoryName, tag: Option<&Tag>) -> Result<Vec<ImageDetails>> {
        self.view().inspect(name, tag)
    }

    fn view(&self) -> View<'_> {
        View { index: &self.index, state_dir: &self.state_dir, store: &self.store }
    }
}

impl Registry {
    pub(super) fn view(&self) -> View<'_> {
        // The caches lie side by side in it.
        let state_dir = self.reader.cache.dir().parent().unwrap_or(Path::new("/"));
        View { index: &self.index, state_dir, store: self.daemon.store() }
    }

    /// All images, by name and tag. Blocks.
    pub fn images(&self) -> Result<Vec<ImageSummary>> {
        self.flush();
        self.view().images()
    }

    /// The images of a name, or the one of a tag. Blocks.
    pub fn inspect(&self, name: &RepositoryName, tag: Option<&Tag>) -> Result<Vec<ImageDetails>> {
        self.flush();
        self.view().inspect(name, tag)
    }
}

impl View<'_> {
    /// Rows that cannot be read are left out: they are made again when they are asked for.
    fn images(&self) -> Result<Vec<ImageSummary>> {
        let mut all = Vec::new();
        for name in self.index.repositories()? {
            all.extend(self.of_name(&name)?.into_iter().map(|(summary, _, _)| summary));
        }
        Ok(all)
    }

    /// Each tag of a name, and each image without one, with the image that it is.
    fn of_name(&self, name: &RepositoryName) -> Result<Vec<Listed>> {
        let tags = self.index.tags(name)?;
        let untagged = self.index.members(name)?;
        let untagged = untagged.into_iter().filter(|id| !tags.iter().any(|(_, row)| row.image == *id));
        let untagged = untagged.filter_map(|id| Some((self.row(name, None, &id)?, id, None)));
        let tagged = tags.iter().filter_map(|(tag, row)| {
            Some((self.row(name, Some(tag), &row.image)?, row.image, Some(row.clone())))
        });
        Ok(tagged.chain(untagged).collect())
    }

    /// An image under all of its names.
    pub(super) fn summaries_of(&self, id: &ImageId) -> Vec<ImageSummary> {
        let names = self.index.names(id).unwrap_or_default();
        let rows = names.iter().filter_map(|name| self.of_name(name).ok()).flatten();
        rows.filter(|(_, of, _)| of == id).map(|(summary, _, _)| summary).collect()
    }

    /// What a tag leads to.
    pub(super) fn summary(&self, name: &RepositoryName, tag: &Tag) -> Option<ImageSummary> {
        self.row(name, Some(tag), &self.index.tag(name, tag).ok()??.image)
    }

    fn row(&self, name: &RepositoryName, tag: Option<&Tag>, id: &ImageId) -> Option<ImageSummary> {
        let row = self.index.image(id).ok()??;
        let blobs = self.descriptors(id, &row.oci);
        let roots = self.roots(id, &row);
        Some(ImageSummary {
            name: name.to_string(),
            tag: tag.map(Tag::to_string),
            digest: row.oci,
            size: blobs.iter().map(|blob| blob.size).sum(),
            layers: blobs.iter().filter(|blob| blob.is_layer).count(),
            made_at: Some(row.made_at).filter(|at| *at > 0).map(Time),
            used_at: self.index.used(id).ok()?.map(|used| Time(used / 1_000_000)),
            rooted: !roots.is_empty() && roots.iter().all(|root| root.present),
        })
    }

    fn inspect(&self, name: &RepositoryName, tag: Option<&Tag>) -> Result<Vec<ImageDetails>> {
        let mut rows = self.of_name(name)?;
        if rows.is_empty() {
            return Err(self.no_such_name(name));
        }
        if let Some(tag) = tag {
            rows.retain(|(summary, _, _)| summary.tag.as_deref() == Some(tag.as_str()));
            if rows.is_empty() {
                return Err(self.no_such_tag(name, tag));
            }
        }
        Ok(rows.into_iter().filter_map(|(summary, id, tag)| self.details(summary, id, tag)).collect())
    }

    fn details(&self, summary: ImageSummary, id: ImageId, tag: Option<TagRow>) -> Option<ImageDetails> {
        let row = self.index.image(&id).ok()??;
        let names = self.summaries_of(&id).into_iter().map(|of| match of.tag {
            Some(tag) => format!("{}:{tag}", of.name),
            None => of.name,
        });
        let derivations = row.buildables.iter().map(|buildable| match buildable {
            Buildable::Output { derivation, output } => format!("{}^{output}", self.store.print(derivation)),
            Buildable::Path(path) => self.store.print(path),
        });
        let blobs = self.descriptors(&id, &row.oci).into_iter().map(|blob| LayerDetails {
            digest: blob.digest,
            size: blob.size,
            media_type: blob.media_type,
            place: self.index.location(&blob.digest, &id).ok().flatten().map(|l| self.place(&blob.digest, l)),
        });
        Some(ImageDetails {
            resolved_at: tag.map(|row| Time(row.resolved_at)),
            names: names.collect(),
            docker_digest: row.docker,
            store_paths: row.objects.iter().map(|object| self.store.join(object)).collect(),
            derivations: derivations.collect(),
            gc_roots: self.roots(&id, &row),
            blobs: blobs.collect(),
            selection: row.selection,
            options: row.options,
            summary,
        })
    }

    fn roots(&self, id: &ImageId, row: &ImageRow) -> Vec<RootDetails> {
        let links =
            crate::nix::GcRoots::links(&self.state_dir.join("gcroots"), &id.file_name(), row.objects.len());
        let root = |link: PathBuf| {
            let target = fs::read_link(&link).ok();
            let present = target.as_ref().is_some_and(|target| target.symlink_metadata().is_ok());
            RootDetails { link, target, present }
        };
        links.into_iter().map(root).collect()
    }

    fn place(&self, digest: &Digest, location: Location) -> Place {
        let file = |folder: &str, digest: &Digest| {
            let path = self.state_dir.join(folder).join(digest.hex());
            let present = path.exists();
            (path, present)
        };
        match location.source {
            Source::Store { object, file, offset, .. } => {
                let mut path = self.store.join(&object);
                if !file.as_os_str().is_empty() {
                    path.push(file);
                }
                Place::Store { present: path.exists(), path, offset }
            }
            Source::Cache | Source::Compressed { .. } => {
                let (path, present) = file("blobs", digest);
                Place::Cache { path, present }
            }
            Source::Virtual { list } => {
                let (path, present) = file("layers", &list);
                Place::Computed { path, present }
            }
            Source::Inline(_) => Place::Index,
        }
    }

    /// What a manifest, or the manifests of an index, consist of: configurations and layers.
    fn descriptors(&self, id: &ImageId, document: &Digest) -> Vec<Part> {
        let bytes = |digest: &Digest| match self.index.location(digest, id).ok()??.source {
            Source::Inline(bytes) => Some(bytes),
            _ => None,
        };
        let Some(document) = bytes(document) else { return Vec::new() };
        let manifests: Vec<Manifest> = match serde_json::from_slice::<crate::oci::Index>(&document) {
            Ok(index) => index
                .manifests
                .iter()
                .filter_map(|of| serde_json::from_slice(&bytes(&of.digest)?).ok())
                .collect(),
            Err(_) => serde_json::from_slice(&document).into_iter().collect(),
        };
        let mut parts: Vec<Part> = Vec::new();
        for Manifest { config, layers, .. } in manifests {
            let all = std::iter::once((config, false)).chain(layers.into_iter().map(|layer| (layer, true)));
            for (of, is_layer) in all {
                // A layer may stand in several manifests, or twice in one.
                if !parts.iter().any(|part| part.digest == of.digest) {
                    parts.push(Part {
                        digest: of.digest,
                        size: of.size,
                        media_type: of.media_type,
                        is_layer,
                    });
                }
            }
        }
        parts
    }

    pub(super) fn no_such_name(&self, name: &RepositoryName) -> RegistryError {
        let known = self.index.repositories().unwrap_or_default();
        let near = resolve::near_misses(name.as_str(), known.iter().map(RepositoryName::as_str));
        RegistryError::NameUnknown { message: format!("nothing has been served under the name {name}{near}") }
    }

    pub(super) fn no_such_tag(&self, name: &RepositoryName, tag: &Tag) -> RegistryError {
        let known = self.index.tags(name).unwrap_or_default();
        if known.is_empty() {
            return self.no_such_name(name);
        }
        let known: Vec<&str> = known.iter().map(|(tag, _)| tag.as_str()).collect();
        let message = format!("{name} has no tag {tag} that has been served; it has: {}", known.join(", "));
        RegistryError::ManifestUnknown { message }
    }
}

struct Part {
    digest: Digest,
    size: u64,
    media_type: String,
    is_layer: bool,
}
