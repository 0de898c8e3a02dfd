//! From a derivation to an image in the index: realise, recognise, root, write down.

use super::{Flight, Registry, RegistryError, Result, used_now};
use crate::{
    blob::CacheError,
    image::{self, Image, ImageError, Options, Reader, Selection},
    index::{ImageId, ImageRow, IndexError, Location},
    nix::{BuildError, Buildable, Realised, StorePath},
    oci::{Digest, Document},
    resolve::Resolution,
};
use std::{collections::HashMap, sync::Arc};
use tokio::sync::OwnedSemaphorePermit;

/// An image that is, or was a moment ago, in the index.
#[derive(Debug, Clone)]
pub(super) struct Indexed {
    pub(super) id: ImageId,
    /// How it was made.
    pub(super) options: Options,
    /// What its tags lead to, the OCI form first. Held here, so that retention cannot take them away meanwhile.
    pub(super) documents: Arc<[Document; 2]>,
}

/// A realised store path, protected from collection for as long as this is held. That takes a connection to nix-daemon,
/// of which there are no more than places.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) path: StorePath,
    _temporary_roots: Realised,
    _place: OwnedSemaphorePermit,
}

impl Registry {
    /// The image of a resolution: known, or realised and indexed. `anew` if what is known of it is of no use.
    pub(super) async fn image_of(
        self: &Arc<Self>,
        resolution: &Resolution,
        options: &Options,
        anew: bool,
    ) -> Result<Indexed> {
        if let Some(path) = &resolution.expected
            && !anew
            && let Some(image) = self.indexed(path, &resolution.selection, options)
        {
            return Ok(image);
        }
        let realised = self.realise(&resolution.buildable, resolution.expected.as_ref()).await?;
        if !anew && let Some(image) = self.indexed(&realised.path, &resolution.selection, options) {
            return Ok(image);
        }
        landed(self.index_flight(realised, &resolution.buildable, &resolution.selection, options)).await
    }

    fn indexed(&self, object: &StorePath, selection: &Selection, options: &Options) -> Option<Indexed> {
        let id = ImageId::of(object, selection, options);
        self.in_index(id).unwrap_or_else(|error| {
            tracing::warn!(%object, "{error}");
            None
        })
    }

    /// What the index has of an image; nothing if anything is missing, since then it is to be read again.
    pub(super) fn in_index(&self, id: ImageId) -> Result<Option<Indexed>, IndexError> {
        let Some(row) = self.index.image(&id)? else { return Ok(None) };
        let oci = document(row.oci, self.index.location(&row.oci, &id)?);
        let docker = document(row.docker, self.index.location(&row.docker, &id)?);
        let options = row.options;
        Ok(oci.zip(docker).map(|(oci, docker)| Indexed { id, options, documents: Arc::new([oci, docker]) }))
    }

    /// Realises something, sharing the work with whoever wants the same. The store path is protected from collection
    /// while the result is held.
    pub(super) async fn realise(
        self: &Arc<Self>,
        what: &Buildable,
        expected: Option<&StorePath>,
    ) -> Result<Arc<Held>> {
        let (this, what, expected) = (self.clone(), what.clone(), expected.cloned());
        let flight = self.building.join(what.clone(), || async move {
            let there = match &expected {
                Some(path) => this.daemon.is_valid(path).await?,
                None => false,
            };
            // What is there already need not queue behind builds.
            let place = match there {
                true => this.stored.enter().await.map_err(|_full| this.overloaded_readings())?,
                false => this.builds.enter().await.map_err(|_full| this.overloaded_builds())?,
            };
            let realised = match (&expected, this.daemon.realise(&what).await) {
                // Of what is there the derivation is not needed.
                (Some(path), Err(BuildError::Gone(_))) if there => {
                    this.daemon.realise(&Buildable::Path(path.clone())).await
                }
                (_, result) => result,
            };
            let realised = realised.map_err(|error| RegistryError::build(&what, error))?;
            Ok(Arc::new(Held { path: realised.path.clone(), _temporary_roots: realised, _place: place }))
        });
        landed(flight).await
    }

    /// Reads the image in a realised store path and writes it to the index, in place of what was known of it.
    pub(super) fn index_flight(
        self: &Arc<Self>,
        realised: Arc<Held>,
        buildable: &Buildable,
        selection: &Selection,
        options: &Options,
    ) -> Flight<Result<Indexed>> {
        let id = ImageId::of(&realised.path, selection, options);
        let (this, buildable) = (self.clone(), buildable.clone());
        let (selection, options) = (selection.clone(), options.clone());
        self.indexing.join(id, || async move {
            let (object, select, chosen) = (realised.path.clone(), selection.clone(), options.clone());
            let image = this.reading(move |reader| image::read(reader, &object, &select, &chosen)).await??;
            let documents = Arc::new([image.oci.clone(), image.docker.clone()]);
            let indexed = Indexed { id, options: options.clone(), documents };
            // The root first: a row always points at something rooted.
            let _changing = this.changing.read().await;
            this.roots.add(&this.daemon, &id.file_name(), &realised.path).await?;
            let (row, contents) = rows(image, realised.path.clone(), selection, options, buildable);
            let registry = this.clone();
            blocking(move || Ok(registry.index.put_image(&id, &row, &contents, used_now())?)).await?;
            this.lost.remove(&id);
            tracing::info!(object = %realised.path, digest = %indexed.documents[0].digest, "indexed");
            this.enforce_retention_soon();
            Ok(indexed)
        })
    }
}

impl Registry {
    /// Reads something of an image, when it is its turn.
    ///
    /// Images that are unpacked side by side count to the limit of the cache together. One for which that was too much
    /// begins anew when all others are done: what fits by itself is never refused.
    pub(super) async fn reading<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl Fn(&Reader) -> Result<T, ImageError> + Send + Sync + 'static,
    ) -> Result<Result<T, ImageError>> {
        let (work, all) = (Arc::new(work), u32::try_from(self.settings.max_builds.get()).unwrap_or(u32::MAX));
        let attempt = |places| {
            let (this, work) = (self.clone(), work.clone());
            async move {
                let _places = this.readings.acquire_many(places).await.map_err(RegistryError::internal)?;
                let reader = this.reader.clone();
                blocking(move || Ok(work(&reader))).await
            }
        };
        match attempt(1).await? {
            Err(ImageError::Cache(CacheError::TooLarge { .. })) if all > 1 => attempt(all).await,
            result => Ok(result),
        }
    }
}

/// Waits for shared work without a limit of its own; the work has them.
pub(super) async fn landed<T: Clone>(flight: Flight<Result<T>>) -> Result<T> {
    flight.wait().await.unwrap_or_else(|| Err(RegistryError::internal("the work for this request panicked")))
}

/// Runs something that waits for the disk or computes for long where it stalls nobody.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| Err(RegistryError::internal(panic)))
}

/// What a location says, if it is that of a document.
pub(super) fn document(digest: Digest, location: Option<Location>) -> Option<Document> {
    match location? {
        Location { media_type: Some(media_type), source: crate::blob::Source::Inline(bytes), .. } => {
            Some(Document { media_type, digest, bytes })
        }
        _ => None,
    }
}

fn rows(
    image: Image,
    object: StorePath,
    selection: Selection,
    options: Options,
    buildable: Buildable,
) -> (ImageRow, Vec<(Digest, Location)>) {
    let (oci, docker) = (image.oci.digest, image.docker.digest);
    let mut contents: HashMap<Digest, Location> = HashMap::new();
    for Document { media_type, digest, bytes } in [image.oci, image.docker].into_iter().chain(image.children)
    {
        let location = Location {
            size: bytes.len() as u64,
            media_type: Some(media_type),
            source: crate::blob::Source::Inline(bytes),
        };
        contents.insert(digest, location);
    }
    for blob in image.blobs {
        contents.entry(blob.digest).or_insert(Location {
            size: blob.size,
            media_type: None,
            source: blob.source,
        });
    }
    let row = ImageRow {
        object,
        selection,
        options,
        buildable,
        oci,
        docker,
        tags: image.tags,
        contents: contents.keys().copied().collect(),
    };
    (row, contents.into_iter().collect())
}
