//! From a digest to bytes. What the index points at can be gone: the store path was collected against its root, or the
//! blob cache has evicted the layer. Then it is made again, or it is a clean 404; never other bytes.

use super::{
    Caller, Registry, RegistryError, Result,
    images::{blocking, document},
    tags,
};
use crate::{
    blob::{Blob, Fingerprint, Keep, Mapping, Source, VirtualTar},
    image::{self, ImageError, Reader},
    index::{ImageId, Location},
    layer::{EntryList, LayerError},
    nix::{Buildable, StorePath},
    oci::{Digest, Document, RepositoryName, Tag},
};
use std::{fs::File, io, os::unix::fs::OpenOptionsExt, path::PathBuf, sync::Arc};

/// Why a location does not give its bytes.
#[derive(Debug)]
enum Absent {
    /// The store path is not there, or is not what was hashed.
    Store,
    /// The cache has evicted the blob, or its entry list.
    Evicted,
}

impl Registry {
    /// The manifest of this digest, if an image of this repository has it.
    pub(super) fn document_in(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Document>> {
        for (image, location) in self.index.locations(repository, digest)? {
            if let Some(document) = document(*digest, Some(location)) {
                self.touch(image);
                return Ok(Some(document));
            }
        }
        Ok(None)
    }

    /// A blob of an image of this repository. If it has gone, it is made again; for a caller for whom nothing is built
    /// only out of what the store has.
    pub async fn blob(
        self: &Arc<Self>,
        repository: &RepositoryName,
        digest: &Digest,
        caller: &Caller,
    ) -> Result<Blob> {
        let mut locations = self.index.locations(repository, digest)?;
        if locations.is_empty() && caller.may_build && self.remembered(repository, digest, caller).await? {
            locations = self.index.locations(repository, digest)?;
        }
        let unknown = || RegistryError::BlobUnknown { repository: repository.clone(), digest: *digest };
        if let Some(blob) = self.first_present(digest, &locations).await? {
            return Ok(blob);
        }
        let mut failure = None;
        for (image, _) in &locations {
            match self.restored(repository, *image, digest, caller).await {
                // Another image may have it all the same.
                Err(error) if self.lasts(&error).is_some() => {
                    failure = failure.or(Some(error));
                    continue;
                }
                result => result?,
            }
            let locations = self.index.locations(repository, digest)?;
            if let Some(blob) = self.first_present(digest, &locations).await? {
                return Ok(blob);
            }
            // Nothing can make it again. An image that was built anew, and now has other blobs, stays.
            if locations.iter().any(|(id, _)| id == image) {
                let (this, image) = (self.clone(), *image);
                blocking(move || this.drop_images([image].into())).await?;
            }
        }
        Err(failure.unwrap_or_else(unknown))
    }

    /// Waits until a digest of an image has been made available again, or says why that failed a moment ago.
    async fn restored(
        self: &Arc<Self>,
        repository: &RepositoryName,
        image: ImageId,
        digest: &Digest,
        caller: &Caller,
    ) -> Result<()> {
        if let Some(error) = self.lost.get(&image) {
            return Err(error);
        }
        let (digest, may_build) = (*digest, caller.may_build);
        let restoring = || {
            let (this, repository) = (self.clone(), repository.clone());
            let work = || async move {
                let result = this.restore(&repository, image, &digest, may_build).await;
                if let Err(error) = &result
                    && let Some(duration) = this.lasts(error)
                {
                    tracing::warn!(%repository, %digest, "it cannot be made available again: {error}");
                    if matches!(error, RegistryError::NotAnImage { .. }) {
                        // Nor will it be one the next time: its manifests have to go as well.
                        let this = this.clone();
                        blocking(move || this.drop_images([image].into())).await?;
                    } else {
                        this.lost.put(image, error.clone(), duration);
                    }
                }
                result
            };
            self.restoring.join(&caller.behalf(), (image, digest, may_build), work)
        };
        self.patient(restoring, self.settings.pull_wait).await
    }

    async fn first_present(
        self: &Arc<Self>,
        digest: &Digest,
        locations: &[(ImageId, Location)],
    ) -> Result<Option<Blob>> {
        for (image, location) in locations {
            match self.bytes_at(digest, location).await? {
                Ok(blob) => {
                    self.touch(*image);
                    return Ok(Some(blob));
                }
                Err(absent) => tracing::debug!(%digest, ?image, ?absent, "a location has no bytes any more"),
            }
        }
        Ok(None)
    }

    async fn bytes_at(
        self: &Arc<Self>,
        digest: &Digest,
        location: &Location,
    ) -> Result<Result<Blob, Absent>> {
        let size = location.size;
        match &location.source {
            Source::Inline(bytes) => Ok(Ok(Blob::memory(bytes.clone()))),
            Source::Store { object, file, offset, fingerprint } => {
                let mut path = self.daemon.store().join(object);
                if !file.as_os_str().is_empty() {
                    path.push(file);
                }
                let mapping = match self.mapped.get(&path, *fingerprint) {
                    Some(mapping) => Some(mapping),
                    None => {
                        let (this, fingerprint) = (self.clone(), *fingerprint);
                        blocking(move || this.map_store_file(path, fingerprint)).await?
                    }
                };
                Ok(mapping
                    .and_then(|m| Blob::mapped(m, *offset, size, self.buffers.clone()).ok())
                    .ok_or(Absent::Store))
            }
            Source::Cache | Source::Compressed { .. } => {
                let (this, digest) = (self.clone(), *digest);
                let mapping = blocking(move || this.map_cached(&digest)).await?;
                Ok(mapping
                    .and_then(|m| Blob::mapped(m, 0, size, self.buffers.clone()).ok())
                    .ok_or(Absent::Evicted))
            }
            Source::Virtual { list } => {
                let (this, digest, list) = (self.clone(), *digest, *list);
                blocking(move || this.virtual_tar(&digest, size, list)).await
            }
        }
    }

    /// Maps a file of the store, if it is the one that was hashed.
    fn map_store_file(&self, path: PathBuf, expected: Fingerprint) -> Result<Option<Arc<Mapping>>> {
        let failed = |error: io::Error| RegistryError::internal(format!("{}: {error}", path.display()));
        // A store path is no place for a FIFO, but an open must never wait for its other end.
        let file = match File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(failed(error)),
        };
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() || Fingerprint::of(&metadata) != expected {
            return Ok(None);
        }
        self.mapped.map(path.clone(), file, expected, Keep::Yes).map(Some).map_err(failed)
    }

    fn map_cached(&self, digest: &Digest) -> Result<Option<Arc<Mapping>>> {
        let Some(file) = self.reader.cache.open_blob(digest).map_err(RegistryError::internal)? else {
            return Ok(None);
        };
        let fingerprint = Fingerprint::of(&file.metadata().map_err(RegistryError::internal)?);
        let path = self.reader.cache.path(digest);
        self.mapped.map(path, file, fingerprint, Keep::No).map(Some).map_err(RegistryError::internal)
    }

    /// A layer whose entry list is there, and whose store paths still are what they were.
    fn virtual_tar(
        self: &Arc<Self>,
        digest: &Digest,
        size: u64,
        list: Digest,
    ) -> Result<Result<Blob, Absent>> {
        let Some(file) = self.reader.lists.open_blob(&list).map_err(RegistryError::internal)? else {
            return Ok(Err(Absent::Evicted));
        };
        let entries = match EntryList::open(file) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::error!(%digest, %list, "{error}; the layer is made again");
                self.forget_list(&list);
                return Ok(Err(Absent::Evicted));
            }
        };
        if (entries.digest(), entries.size()) != (*digest, size) || !entries.is_current() {
            return Ok(Err(Absent::Store));
        }
        let (this, digest) = (self.clone(), *digest);
        Ok(Ok(Blob::virtual_tar(VirtualTar::new(entries, self.buffers.clone(), move |error| {
            if LayerError::is_shortage(error) {
                tracing::error!(%digest, "a response was cut: {error}");
                return;
            }
            tracing::error!(%digest, %list, "a response was cut: {error}; the layer is made again");
            this.forget_list(&list);
        }))))
    }

    fn forget_list(&self, list: &Digest) {
        if let Err(error) = self.reader.lists.remove(list) {
            tracing::error!(%list, %error, "its entry list cannot be removed");
        }
    }

    /// Makes a digest of an image available again: realises the store path, and reads it again.
    async fn restore(
        self: &Arc<Self>,
        repository: &RepositoryName,
        id: ImageId,
        digest: &Digest,
        may_build: bool,
    ) -> Result<()> {
        let Some(row) = self.index.image(&id)? else { return Ok(()) };
        tracing::info!(objects = ?row.objects, %digest, "making a blob available again");
        let buildables = match may_build {
            true => row.buildables.clone(),
            false => self.in_store(repository, &row.objects).await?,
        };
        let realised = match self.realise(&buildables, Some(&row.objects)).await {
            // The derivation is gone as well; perhaps the source still leads to it.
            Err(RegistryError::ManifestUnknown { message }) if may_build => {
                tracing::info!(%repository, %digest, "{message}; asking what the name means now");
                return self.restore_by_name(repository, id, &row.options).await;
            }
            realised => realised?,
        };
        let evicted = self.index.location(digest, &id)?.filter(|location| location.source == Source::Cache);
        if let Some(Location { size, .. }) = evicted
            && realised.paths == row.objects
            && let Some(object) = row.objects.first().cloned()
        {
            let (made, digest) = (row.clone(), *digest);
            let reachable = self.reachable(std::slice::from_ref(&object));
            let again =
                move |reader: &Reader| image::recreate(reader, &object, &made.selection, digest, size);
            match self.reading(reachable, again).await? {
                Err(ImageError::Changed { .. }) => {}
                result => {
                    result?;
                    // Whoever collected the path may have removed its root.
                    return Ok(self.roots.add(&self.daemon, &id.file_name(), &row.objects).await?);
                }
            }
        }
        let flight = self.index_flight(realised, row.buildables, &row.selection, &row.options);
        flight.landed().await.map(drop)
    }

    /// Store paths that are there, as things that can be realised without a derivation, and so without a build.
    async fn in_store(&self, repository: &RepositoryName, paths: &[StorePath]) -> Result<Vec<Buildable>> {
        if !self.daemon.are_valid(paths).await? {
            let message = format!("an image of {repository} is not in the Nix store any more");
            return Err(RegistryError::MayNotBuild { message });
        }
        Ok(paths.iter().cloned().map(Buildable::Path).collect())
    }

    /// Evaluates the tags that led to the image, and realises what they lead to now, until it is this image.
    async fn restore_by_name(
        self: &Arc<Self>,
        repository: &RepositoryName,
        id: ImageId,
        options: &image::Options,
    ) -> Result<()> {
        let tags = self.index.tags(repository)?.into_iter();
        let mut tags: Vec<Tag> = tags.filter(|(_, row)| row.image == id).map(|(tag, _)| tag).collect();
        if tags.is_empty() {
            tags.push(tags::latest());
        }
        tags.truncate(tags::MAX_TRIED);
        for tag in tags {
            match self.find_anew(repository, &tag, options).await {
                Ok(image) if image.id == id => break,
                Ok(_) | Err(RegistryError::NameUnknown { .. } | RegistryError::ManifestUnknown { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
