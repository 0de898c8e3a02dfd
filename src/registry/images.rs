//! From a derivation to an image in the index: realise, recognise, root, write down.

use super::{Flight, Registry, RegistryError, Result, Step, Task, used_now};
use crate::{
    image::{self, Image, Options, ReadProgress, Reader, Selection},
    index::{ImageId, ImageRow, IndexError, Location},
    nix::{BuildError, BuildProgress, Buildable, Realised, StorePath},
    oci::{Digest, Document},
    resolve::Resolution,
};
use std::{collections::HashMap, sync::Arc};

/// An image that is, or was a moment ago, in the index.
#[derive(Debug, Clone)]
pub(super) struct Indexed {
    pub(super) id: ImageId,
    /// How it was made.
    pub(super) options: Options,
    /// What its tags lead to, the OCI form first. Held here, so that retention cannot take them away meanwhile.
    pub(super) documents: Arc<[Document; 2]>,
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
    ) -> Result<Arc<Realised>> {
        let (this, what, expected) = (self.clone(), what.clone(), expected.cloned());
        let flight = self.building.join(what.clone(), || async move {
            let progress = Arc::new(BuildProgress::default());
            let step = Step::queue(Task::Building(progress.clone()));
            // What is there already need not queue behind builds.
            let there = match &expected {
                Some(path) => this.daemon.is_valid(path).await?,
                None => false,
            };
            let _place = match there {
                true => None,
                false => Some(this.builds.enter().await.map_err(|_full| this.overloaded_builds())?),
            };
            step.begin();
            let realised = match (&expected, this.daemon.realise(&what, &progress).await) {
                // Of what is there the derivation is not needed.
                (Some(path), Err(BuildError::Gone(_))) if there => {
                    this.daemon.realise(&Buildable::Path(path.clone()), &progress).await
                }
                (_, result) => result,
            };
            let realised = realised.map_err(|error| RegistryError::build(&what, error))?;
            step.finish();
            Ok(Arc::new(realised))
        });
        landed(flight).await
    }

    /// Reads the image in a realised store path and writes it to the index, in place of what was known of it.
    pub(super) fn index_flight(
        self: &Arc<Self>,
        realised: Arc<Realised>,
        buildable: &Buildable,
        selection: &Selection,
        options: &Options,
    ) -> Flight<Result<Indexed>> {
        let id = ImageId::of(&realised.path, selection, options);
        let (this, buildable) = (self.clone(), buildable.clone());
        let (selection, options) = (selection.clone(), options.clone());
        self.indexing.join(id, || async move {
            let progress = Arc::new(ReadProgress::default());
            let step = Step::queue(Task::Reading(progress.clone()));
            let image = {
                let _place = this.readings.acquire().await.map_err(RegistryError::internal)?;
                step.begin();
                let reader = Reader { progress, ..this.reader.clone() };
                let object = realised.path.clone();
                let (selection, options) = (selection.clone(), options.clone());
                blocking(move || Ok(image::read(&reader, &object, &selection, &options)?)).await?
            };
            let documents = Arc::new([image.oci.clone(), image.docker.clone()]);
            let indexed = Indexed { id, options: options.clone(), documents };
            // The root first: a row always points at something rooted.
            let _changing = this.changing.read().await;
            this.roots.add(&this.daemon, &id.file_name(), &realised.path).await?;
            let (row, contents) = rows(image, realised.path.clone(), selection, options, buildable);
            let registry = this.clone();
            blocking(move || Ok(registry.index.put_image(&id, &row, &contents, used_now())?)).await?;
            step.finish();
            tracing::info!(object = %realised.path, digest = %indexed.documents[0].digest, "indexed");
            this.enforce_retention_soon();
            Ok(indexed)
        })
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
