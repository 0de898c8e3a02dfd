//! What there is, for operators: images by name and tag, and everything that is known of one. Read only.

use super::{Registry, RegistryError, Result, Time};
use crate::{
    blob::Source,
    image::{Options, Selection},
    index::{ImageId, ImageRow, Index, Location, TagRow},
    nix::{Buildable, StoreDir},
    oci::{Digest, Manifest, RepositoryName, Tag},
    resolve,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeSet, HashSet},
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

/// A name that leads to an image, with a tag or without.
#[derive(Debug, Clone)]
struct Lead {
    name: RepositoryName,
    tag: Option<(Tag, TagRow)>,
    image: ImageId,
}

impl Lead {
    fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref().map(|(tag, _)| tag)
    }
}

/// What the registry has, looked at without changing it.
pub(super) struct View<'a> {
    pub(super) index: &'a Index,
    pub(super) state_dir: &'a Path,
    pub(super) store: &'a StoreDir,
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
    pub(super) fn images(&self) -> Result<Vec<ImageSummary>> {
        let mut all = Vec::new();
        for name in self.index.repositories()? {
            all.extend(self.leads(&name)?.iter().filter_map(|lead| self.summary_of(lead)));
        }
        Ok(all)
    }

    /// Each tag of a name, and each of its images that has none.
    fn leads(&self, name: &RepositoryName) -> Result<Vec<Lead>> {
        let tags = self.index.tags(name)?;
        let tagged: HashSet<ImageId> = tags.iter().map(|(_, row)| row.image).collect();
        let mut untagged = self.index.members(name)?;
        untagged.retain(|image| !tagged.contains(image));
        let tags = tags.into_iter().map(|(tag, row)| (row.image, Some((tag, row))));
        let untagged = untagged.into_iter().map(|image| (image, None));
        Ok(tags.chain(untagged).map(|(image, tag)| Lead { name: name.clone(), tag, image }).collect())
    }

    /// All that leads to one of these images. Each name is looked at once, however many of them it has.
    fn leads_to(&self, images: &HashSet<ImageId>) -> Vec<Lead> {
        let names: BTreeSet<String> = images
            .iter()
            .filter_map(|image| self.index.names(image).ok())
            .flatten()
            .map(|name| name.to_string())
            .collect();
        let names = names.iter().filter_map(|name| name.parse().ok());
        let mut leads: Vec<Lead> = names.filter_map(|name| self.leads(&name).ok()).flatten().collect();
        leads.retain(|lead| images.contains(&lead.image));
        leads
    }

    /// Images under all of their names.
    pub(super) fn summaries_of(&self, images: &HashSet<ImageId>) -> Vec<ImageSummary> {
        self.leads_to(images).iter().filter_map(|lead| self.summary_of(lead)).collect()
    }

    fn summary_of(&self, lead: &Lead) -> Option<ImageSummary> {
        self.row(&lead.name, lead.tag(), &lead.image)
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

    pub(super) fn inspect(&self, name: &RepositoryName, tag: Option<&Tag>) -> Result<Vec<ImageDetails>> {
        let mut leads = self.leads(name)?;
        leads.retain(|lead| tag.is_none() || lead.tag() == tag);
        let all = self.leads_to(&leads.iter().map(|lead| lead.image).collect());
        let details: Vec<ImageDetails> =
            leads.into_iter().filter_map(|lead| self.details(lead, &all)).collect();
        match (details.is_empty(), tag) {
            (false, _) => Ok(details),
            (true, None) => Err(self.no_such_name(name)),
            (true, Some(tag)) => Err(self.no_such_tag(name, tag)),
        }
    }

    /// `all` has whatever else leads to this image.
    fn details(&self, lead: Lead, all: &[Lead]) -> Option<ImageDetails> {
        let (summary, id) = (self.summary_of(&lead)?, lead.image);
        let row = self.index.image(&id).ok()??;
        let names = all.iter().filter(|other| other.image == id).map(|other| match other.tag() {
            Some(tag) => format!("{}:{tag}", other.name),
            None => other.name.to_string(),
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
            resolved_at: lead.tag.map(|(_, row)| Time(row.resolved_at)),
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

    /// A file of one of the caches, which need not be there.
    pub(super) fn file(&self, folder: &str, digest: &Digest) -> PathBuf {
        self.state_dir.join(folder).join(digest.hex())
    }

    fn place(&self, digest: &Digest, location: Location) -> Place {
        let file = |folder: &str, digest: &Digest| {
            let path = self.file(folder, digest);
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
