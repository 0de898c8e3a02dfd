//! From a derivation to an image in the index: realise, recognise, root, write down.

use super::{
    Behalf, Flight, Queue, Registry, RegistryError, Result, Step, Task, end, landed, now, turns::Turn,
    used_now,
};
use crate::{
    access::{Client, Place},
    blob::CacheError,
    image::{self, Image, ImageError, Options, Reachable, ReadProgress, Reader, Selection},
    index::{ImageId, ImageRow, IndexError, Location},
    metrics::{Job, Outcome},
    nix::{BuildError, BuildProgress, Buildable, Realised, StorePath},
    oci::{Digest, Document},
    resolve::Resolution,
};
use std::{collections::HashMap, sync::Arc, time::Instant};

/// An image that is, or was a moment ago, in the index.
#[derive(Debug, Clone)]
pub(super) struct Indexed {
    pub(super) id: ImageId,
    /// Whether it would be made in the same way now.
    pub(super) is_current: bool,
    /// What its tags lead to, the OCI form first. Held here, so that retention cannot take them away meanwhile.
    pub(super) documents: Arc<[Document; 2]>,
}

/// A realised store path, protected from collection for as long as this is held. That takes a connection to nix-daemon,
/// of which there are no more than places.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) paths: Vec<StorePath>,
    _temporary_roots: Realised,
    _place: Place<Client>,
}

impl Registry {
    /// The image of a resolution: known, or realised and indexed. `anew` if what is known of it is of no use.
    pub(super) async fn image_of(
        self: &Arc<Self>,
        resolution: &Resolution,
        options: &Options,
        anew: bool,
    ) -> Result<Indexed> {
        let (expected, options) = (resolution.expected(), &options.for_selection(&resolution.selection));
        if let Some(paths) = &expected
            && !anew
            && let Some(image) = self.indexed(paths, &resolution.selection, options)
        {
            return Ok(image);
        }
        let buildables = resolution.buildables();
        let realised = self.realise(&buildables, expected.as_deref()).await?;
        if !anew && let Some(image) = self.indexed(&realised.paths, &resolution.selection, options) {
            return Ok(image);
        }
        self.index_flight(realised, buildables, &resolution.selection, options).landed().await
    }

    fn is_current(&self, selection: &Selection, options: &Options) -> bool {
        *options == self.settings.image_options.for_selection(selection)
    }

    fn indexed(&self, objects: &[StorePath], selection: &Selection, options: &Options) -> Option<Indexed> {
        let id = ImageId::of(objects, selection, options);
        self.in_index(id).unwrap_or_else(|error| {
            tracing::warn!(?objects, "{error}");
            None
        })
    }

    /// What the index has of an image; nothing if anything is missing, since then it is to be read again.
    pub(super) fn in_index(&self, id: ImageId) -> Result<Option<Indexed>, IndexError> {
        let Some(row) = self.index.image(&id)? else { return Ok(None) };
        let oci = document(row.oci, self.index.location(&row.oci, &id)?);
        let docker = document(row.docker, self.index.location(&row.docker, &id)?);
        let is_current = self.is_current(&row.selection, &row.options);
        let indexed = |(oci, docker)| Indexed { id, is_current, documents: Arc::new([oci, docker]) };
        Ok(oci.zip(docker).map(indexed))
    }

    /// Realises things together, sharing the work with whoever wants the same. The store paths are protected from
    /// collection while the result is held.
    pub(super) async fn realise(
        self: &Arc<Self>,
        what: &[Buildable],
        expected: Option<&[StorePath]>,
    ) -> Result<Arc<Held>> {
        landed(|| self.realisation(what.to_vec(), expected.map(<[_]>::to_vec))).await
    }

    fn realisation(
        self: &Arc<Self>,
        what: Vec<Buildable>,
        expected: Option<Vec<StorePath>>,
    ) -> Flight<Result<Arc<Held>>> {
        let this = self.clone();
        self.building.join(&Behalf::Work, what.clone(), || async move {
            let there = match &expected {
                Some(paths) => this.daemon.are_valid(paths).await?,
                None => false,
            };
            // Before it is counted: what a client may not have more of says nothing of how busy the registry is.
            let turn = this.turns.queue(if there { Queue::Stored } else { Queue::Builds })?;
            // What is there is going to be read by another step, which counts.
            let job = if there { this.metrics.readings.queue() } else { this.metrics.builds.queue() };
            let result = this.realise_now(&what, expected.filter(|_| there), turn, &job).await;
            match &result {
                Ok(_) if there => job.discard(),
                result => end(job, result),
            }
            Ok(Arc::new(result?))
        })
    }

    /// Realises things when it is their turn. What is there already need not queue behind builds.
    async fn realise_now(
        &self,
        what: &[Buildable],
        there: Option<Vec<StorePath>>,
        turn: Turn,
        job: &Job,
    ) -> Result<Held> {
        let progress = Arc::new(BuildProgress::default());
        let step = Step::queue(match there {
            Some(_) => Task::Reading(Arc::default()),
            None => Task::Building(progress.clone()),
        });
        let place = turn.come().await?;
        step.begin();
        // What is there is not being read yet, and more of it may be here than may be read at a time.
        if there.is_none() {
            job.begin();
        }
        let realised = match (&there, self.daemon.realise(what, &progress).await) {
            // Of what is there the derivation is not needed.
            (Some(paths), Err(BuildError::Gone(_))) => {
                let paths: Vec<Buildable> = paths.iter().cloned().map(Buildable::Path).collect();
                self.daemon.realise(&paths, &progress).await
            }
            (_, result) => result,
        };
        let realised = realised.map_err(|error| RegistryError::build(what, error))?;
        if there.is_none() {
            step.finish();
        }
        Ok(Held { paths: realised.paths.clone(), _temporary_roots: realised, _place: place })
    }

    /// Reads the image in realised store paths and writes it to the index, in place of what was known of it.
    pub(super) fn index_flight(
        self: &Arc<Self>,
        realised: Arc<Held>,
        buildables: Vec<Buildable>,
        selection: &Selection,
        options: &Options,
    ) -> Flight<Result<Indexed>> {
        let id = ImageId::of(&realised.paths, selection, options);
        let this = self.clone();
        let (selection, options) = (selection.clone(), options.clone());
        self.indexing.join(&Behalf::Work, id, || async move {
            let image = match &selection {
                Selection::Package(package) => {
                    this.read_package(id, &realised.paths, package, &options).await?
                }
                _ => this.read(&realised.paths, &selection, &options).await?,
            };
            let documents = Arc::new([image.oci.clone(), image.docker.clone()]);
            let is_current = this.is_current(&selection, &options);
            let indexed = Indexed { id, is_current, documents };
            // The root first: a row always points at something rooted.
            let _changing = this.changing.read().await;
            this.roots.add(&this.daemon, &id.file_name(), &realised.paths).await?;
            let (layering, objects) = (image.layering.clone(), realised.paths.clone());
            let (row, contents) = rows(image, objects, selection, options, buildables);
            let registry = this.clone();
            let put = move || registry.index.put_image(&id, &row, &contents, layering.as_deref(), used_now());
            blocking(move || Ok(put()?)).await?;
            this.lost.remove(&id);
            let object = realised.paths.first().map(StorePath::base_name).unwrap_or_default();
            tracing::info!(object, digest = %indexed.documents[0].digest, "indexed");
            this.enforce_retention_soon();
            Ok(indexed)
        })
    }

    async fn read(
        self: &Arc<Self>,
        objects: &[StorePath],
        selection: &Selection,
        options: &Options,
    ) -> Result<Image> {
        let [object, ..] = objects else { return Err(RegistryError::internal("an image of nothing")) };
        let (object, selection, options) = (object.clone(), selection.clone(), options.clone());
        let reachable = self.reachable(std::slice::from_ref(&object));
        Ok(self
            .reading(reachable, move |reader| image::read(reader, &object, &selection, &options))
            .await??)
    }
}

impl Registry {
    /// These store paths and what nix-daemon says that they refer to, for a reading. To be called where a runtime is.
    pub(super) fn reachable(self: &Arc<Self>, objects: &[StorePath]) -> Reachable {
        let this = self.clone();
        let runtime = tokio::runtime::Handle::current();
        // Readings have threads of their own, which may wait.
        Reachable::new(self.daemon.store().clone(), objects.to_vec(), move |objects| {
            let since = Instant::now();
            let closure = runtime.block_on(this.daemon.closure(objects, this.settings.max_closure_paths))?;
            tracing::debug!(?objects, paths = closure.len(), took = ?since.elapsed(), "found a runtime closure");
            Ok(closure.into_iter().map(|info| info.path).collect())
        })
    }

    /// Reads something of an image that may be made of what is `reachable`, when it is its turn.
    ///
    /// Images that are unpacked side by side count to the limit of the cache together. One for which that was too much
    /// begins anew when all others are done: what fits by itself is never refused.
    pub(super) async fn reading<T: Send + 'static>(
        self: &Arc<Self>,
        reachable: Reachable,
        work: impl Fn(&Reader) -> Result<T, ImageError> + Send + Sync + 'static,
    ) -> Result<Result<T, ImageError>> {
        let work = Arc::new(work);
        let attempt = |alone| {
            let (this, work, reachable) = (self.clone(), work.clone(), reachable.clone());
            async move {
                let progress = Arc::new(ReadProgress::default());
                let step = Step::queue(Task::Reading(progress.clone()));
                let job = this.metrics.readings.queue();
                let _place = this.turns.reading(alone).await?;
                step.begin();
                job.begin();
                let resources = this.reader.clone();
                let result = blocking(move || Ok(work(&Reader::new(resources, reachable, progress)))).await?;
                step.finish();
                match &result {
                    Ok(_) => job.end(Outcome::Succeeded),
                    // It begins anew.
                    Err(ImageError::Cache(CacheError::TooLarge { .. })) if !alone => job.discard(),
                    Err(error) => job.end(RegistryError::outcome_of_reading(error)),
                }
                Ok(result)
            }
        };
        // Where one is read at a time, each is read alone.
        match attempt(self.settings.max_builds.get() == 1).await? {
            Err(ImageError::Cache(CacheError::TooLarge { .. })) if self.settings.max_builds.get() > 1 => {
                attempt(true).await
            }
            result => Ok(result),
        }
    }
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
    objects: Vec<StorePath>,
    selection: Selection,
    options: Options,
    buildables: Vec<Buildable>,
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
        objects,
        selection,
        options,
        buildables,
        oci,
        docker,
        tags: image.tags,
        contents: contents.keys().copied().collect(),
        made_at: now(),
    };
    (row, contents.into_iter().collect())
}
