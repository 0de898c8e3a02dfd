//! From a derivation to an image in the index: realise, recognise, root, write down.

use super::{Flight, Registry, RegistryError, Result, used_now};
use crate::{
    image::{self, Image, Options, Selection},
    index::{ImageId, ImageRow, IndexError, Location},
    nix::{BuildError, Buildable, Realised, StorePath},
    oci::{Digest, Document},
    resolve::Resolution,
};
use std::{collections::HashMap, sync::Arc};

/// An image that is, or was a moment ago, in the index.
#[derive(Debug, Clone)]
pub(super) struct Indexed {
    pub(super) id: ImageId,
    /// Whether it would be made in the same way now.
    pub(super) is_current: bool,
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
        landed(self.index_flight(realised, buildables, &resolution.selection, options)).await
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
    ) -> Result<Arc<Realised>> {
        let (this, what, expected) = (self.clone(), what.to_vec(), expected.map(<[_]>::to_vec));
        let flight = self.building.join(what.clone(), || async move {
            // What is there already need not queue behind builds.
            let there = match &expected {
                Some(paths) => this.daemon.are_valid(paths).await?,
                None => false,
            };
            let _place = match there {
                true => None,
                false => Some(this.builds.enter().await.map_err(|_full| this.overloaded_builds())?),
            };
            let realised = match (&expected, this.daemon.realise(&what).await) {
                // Of what is there the derivation is not needed.
                (Some(paths), Err(BuildError::Gone(_))) if there => {
                    let paths: Vec<Buildable> = paths.iter().cloned().map(Buildable::Path).collect();
                    this.daemon.realise(&paths).await
                }
                (_, result) => result,
            };
            realised.map(Arc::new).map_err(|error| RegistryError::build(&what, error))
        });
        landed(flight).await
    }

    /// Reads the image in realised store paths and writes it to the index, in place of what was known of it.
    pub(super) fn index_flight(
        self: &Arc<Self>,
        realised: Arc<Realised>,
        buildables: Vec<Buildable>,
        selection: &Selection,
        options: &Options,
    ) -> Flight<Result<Indexed>> {
        let id = ImageId::of(&realised.paths, selection, options);
        let this = self.clone();
        let (selection, options) = (selection.clone(), options.clone());
        self.indexing.join(id, || async move {
            let image = {
                let _place = this.readings.acquire().await.map_err(RegistryError::internal)?;
                let paths = &realised.paths;
                match &selection {
                    Selection::Package(package) => this.read_package(id, paths, package, &options).await?,
                    _ => this.read(paths, &selection, &options).await?,
                }
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
        let (this, object) = (self.clone(), object.clone());
        let (selection, options) = (selection.clone(), options.clone());
        blocking(move || Ok(image::read(&this.reader, &object, &selection, &options)?)).await
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
    };
    (row, contents.into_iter().collect())
}
