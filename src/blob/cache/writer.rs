//! Blobs on their way into the cache.

use super::{Cache, CacheError, UNFINISHED};
use crate::oci::Digest;
use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// The limit is checked once for so many bytes, so that writing does not contend for the cache's lock.
const RESERVE: u64 = 1 << 20;

/// A blob that is being written. Errors of its [`Write`] carry a [`CacheError`].
#[derive(Debug)]
pub struct CacheWriter {
    file: File,
    written: u64,
    blob: Finished,
}

/// A blob with all its bytes, but neither a digest nor any promise of durability yet. Holds no file descriptor, so
/// that there can be as many as an archive has members. Deletes itself when dropped.
#[derive(Debug)]
pub struct Finished {
    cache: Arc<Cache>,
    /// None once it has been renamed.
    path: Option<PathBuf>,
    reserved: u64,
    flushed: AtomicBool,
}

impl CacheWriter {
    pub(super) fn create(cache: Arc<Cache>) -> Result<Self, CacheError> {
        let n = cache.next_name.fetch_add(1, Ordering::Relaxed);
        let path = cache.dir.join(format!("{UNFINISHED}{n}"));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|error| cache.error(error))?;
        let blob = Finished { cache, path: Some(path), reserved: 0, flushed: AtomicBool::new(false) };
        Ok(Self { file, written: 0, blob })
    }

    /// Ends the writing and closes the file.
    pub fn finish(self) -> Finished {
        let mut blob = self.blob;
        let unused = blob.reserved.saturating_sub(self.written);
        blob.cache.release(unused);
        blob.reserved -= unused;
        blob
    }

    /// Makes the blob durable and visible under its digest; see [`Cache::commit_all`].
    pub fn commit(self, digest: Digest) -> Result<(), CacheError> {
        let cache = self.blob.cache.clone();
        cache.commit_all(vec![(digest, self.finish())])
    }
}

impl Write for CacheWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let needed = self.written + buf.len() as u64;
        if needed > self.blob.reserved {
            // Close to the limit the exact number is what counts.
            let exact = needed - self.blob.reserved;
            let more = match self.blob.cache.reserve(exact.max(RESERVE)) {
                Ok(()) => exact.max(RESERVE),
                Err(_) => self.blob.cache.reserve(exact).map(|()| exact).map_err(io::Error::other)?,
            };
            self.blob.reserved += more;
        }
        let n = self.file.write(buf).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            _ => io::Error::other(self.blob.cache.error(error)),
        })?;
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Finished {
    /// Makes the bytes durable, and the file read-only: from here on nobody writes to it.
    pub(super) fn flush(&self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let file = File::open(path)?;
        file.set_permissions(Permissions::from_mode(0o444))?;
        file.sync_all()?;
        self.flushed.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Gives the file its final name and tells its size.
    pub(super) fn rename(mut self, to: &Path) -> io::Result<u64> {
        // Not flushed is what was there already, and has been evicted since.
        if !self.flushed.load(Ordering::Relaxed) {
            self.flush()?;
        }
        let Some(path) = self.path.take() else { return Ok(0) };
        if let Err(error) = fs::rename(&path, to) {
            self.path = Some(path);
            return Err(error);
        }
        Ok(self.reserved)
    }
}

impl Drop for Finished {
    fn drop(&mut self) {
        self.cache.release(self.reserved);
        if let Some(path) = &self.path {
            // Nobody is left to be told; the next start tries again.
            let _ = fs::remove_file(path);
        }
    }
}
