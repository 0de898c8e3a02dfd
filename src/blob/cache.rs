//! The blob cache: layers that had to be decompressed, as files of the state folder named by their digest. Another one
//! holds the entry lists of layers that are computed, which are named by what they are made from.
//!
//! ```text
//! blobs/<64 hex digits>     a finished blob: never modified, only ever unlinked
//! blobs/.unfinished-<n>     being written; deleted at the next start if a crash left it behind
//! ```
//! There is no index beside the files: their sizes and modification times are all that the least-recently-used
//! order needs, so nothing can disagree with the folder after a crash.

mod writer;

use crate::{metrics::CacheUsage, oci::Digest};
use lru::LruCache;
use std::{
    fs::{self, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};
pub use writer::{CacheWriter, Finished};

/// A use within this time of the last one is not written to disk: the order is good enough without.
const TOUCH_INTERVAL: Duration = Duration::from_secs(60);
const UNFINISHED: &str = ".unfinished-";

/// Why a blob could not be put into the cache.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// One blob, or all that are being written together, exceed what the whole cache may hold.
    #[error(
        "{unfinished} bytes that are being written exceed the limit of {limit} bytes in {dir:?}; \
         raise {setting} to serve this image"
    )]
    TooLarge {
        /// Bytes being written at this moment.
        unfinished: u64,
        /// What the setting allows.
        limit: u64,
        /// The cache's folder.
        dir: PathBuf,
        /// The setting.
        setting: &'static str,
    },
    /// The file system is full.
    #[error("no space left on the file system of {dir:?}; free some, or lower {setting}")]
    NoSpace {
        /// The cache's folder.
        dir: PathBuf,
        /// The setting that limits it.
        setting: &'static str,
    },
    /// Anything else that the file system refuses.
    #[error("cannot write to the blob cache {dir:?}: {source}")]
    Io {
        /// The cache's folder.
        dir: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// A folder of blobs with a limit in bytes.
///
/// Every method may be called from any thread. The lock is held for renames and unlinks, never for copying or
/// flushing.
#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
    max_bytes: u64,
    setting: &'static str,
    /// Bytes in files that are being written: they take disk space like any other, so they count to the limit.
    unfinished: AtomicU64,
    next_name: AtomicU64,
    evicted: AtomicU64,
    files: Mutex<Files>,
}

#[derive(Debug)]
struct Files {
    used: LruCache<Digest, Entry>,
    bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    size: u64,
    touched: SystemTime,
}

impl Cache {
    /// Opens the cache in `dir`, which is made if need be, and deletes what a crash left unfinished. One process at
    /// a time may use a folder. `setting` is what the user calls `max_bytes`.
    pub fn open(dir: impl Into<PathBuf>, max_bytes: u64, setting: &'static str) -> io::Result<Self> {
        let dir = dir.into();
        // Images can be private.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.starts_with(UNFINISHED) {
                fs::remove_file(entry.path())?;
            } else if let Some(digest) = Digest::from_hex(name) {
                let metadata = entry.metadata()?;
                if metadata.is_file() {
                    found.push((metadata.modified()?, digest, metadata.len()));
                }
            }
        }
        found.sort_unstable();
        let mut files = Files { used: LruCache::unbounded(), bytes: 0 };
        for (touched, digest, size) in found {
            files.insert(digest, Entry { size, touched });
        }
        let cache = Self {
            dir,
            max_bytes,
            setting,
            unfinished: AtomicU64::new(0),
            next_name: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            files: Mutex::new(files),
        };
        cache.evict(&mut cache.lock(), &[]);
        Ok(cache)
    }

    /// The finished blob of this digest, which now is the most recently used. The file stays readable however long
    /// the caller keeps it, evicted or not.
    pub fn open_blob(&self, digest: &Digest) -> io::Result<Option<File>> {
        let file = match File::open(self.path(digest)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.lock().forget(digest);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let now = SystemTime::now();
        let stale = self.lock().used.get_mut(digest).is_some_and(|entry| {
            let stale = now.duration_since(entry.touched).is_ok_and(|age| age >= TOUCH_INTERVAL);
            if stale {
                entry.touched = now;
            }
            stale
        });
        if stale {
            file.set_modified(now)?;
        }
        Ok(Some(file))
    }

    /// Whether the blob is there, without using it.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.lock().used.contains(digest)
    }

    /// Deletes a blob; nothing happens if it is not there.
    pub fn remove(&self, digest: &Digest) -> io::Result<()> {
        let mut files = self.lock();
        files.forget(digest);
        match fs::remove_file(self.path(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// How much there is in it.
    pub fn usage(&self) -> CacheUsage {
        let files = self.lock();
        CacheUsage {
            files: files.used.len(),
            bytes: files.bytes,
            unfinished: self.unfinished.load(Ordering::Relaxed),
            limit: self.max_bytes,
            evicted: self.evicted.load(Ordering::Relaxed),
        }
    }

    /// The digests of all finished blobs.
    pub fn digests(&self) -> Vec<Digest> {
        self.lock().used.iter().map(|(digest, _)| *digest).collect()
    }

    /// Bytes in finished blobs.
    pub fn total_bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A new blob, to be written and then committed under its digest; dropped before that, it leaves nothing.
    pub fn writer(self: &Arc<Self>) -> Result<CacheWriter, CacheError> {
        CacheWriter::create(self.clone())
    }

    /// Makes all these blobs durable and visible, or, on an error, none that was not there before. Evicts what was
    /// used least recently, but none of these.
    pub fn commit_all(&self, blobs: Vec<(Digest, Finished)>) -> Result<(), CacheError> {
        // Flushing is what takes long, and disks are faster with several flushes at once.
        std::thread::scope(|scope| {
            let flushes: Vec<_> = blobs
                .iter()
                .filter(|(digest, _)| !self.path(digest).exists())
                .map(|(_, blob)| scope.spawn(|| blob.flush()))
                .collect();
            flushes.into_iter().try_for_each(|flush| match flush.join() {
                Ok(result) => result,
                Err(_) => Err(io::Error::other("the thread that flushes a blob failed")),
            })
        })
        .map_err(|error| self.error(error))?;
        let kept: Vec<Digest> = blobs.iter().map(|(digest, _)| *digest).collect();
        let mut added = Vec::new();
        let placed = self.place(blobs, &mut added).and_then(|()| File::open(&self.dir)?.sync_all());
        if let Err(error) = placed {
            for digest in added {
                // The first error is the one worth reporting.
                let _ = self.remove(&digest);
            }
            return Err(self.error(error));
        }
        self.evict(&mut self.lock(), &kept);
        Ok(())
    }

    fn place(&self, blobs: Vec<(Digest, Finished)>, added: &mut Vec<Digest>) -> io::Result<()> {
        for (digest, blob) in blobs {
            let mut files = self.lock();
            // A blob that is there already may be mapped; it has the same bytes, so it stays.
            if files.used.promote(&digest) {
                if self.path(&digest).exists() {
                    continue;
                }
                files.forget(&digest);
            }
            let size = blob.rename(&self.path(&digest))?;
            files.insert(digest, Entry { size, touched: SystemTime::now() });
            added.push(digest);
        }
        Ok(())
    }

    /// Counts `more` bytes of an unfinished blob, making room for them.
    fn reserve(&self, more: u64) -> Result<(), CacheError> {
        let unfinished = self.unfinished.fetch_add(more, Ordering::Relaxed) + more;
        if unfinished > self.max_bytes {
            self.release(more);
            let (dir, setting) = (self.dir.clone(), self.setting);
            return Err(CacheError::TooLarge { unfinished, limit: self.max_bytes, dir, setting });
        }
        self.evict(&mut self.lock(), &[]);
        Ok(())
    }

    fn release(&self, bytes: u64) {
        self.unfinished.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn evict(&self, files: &mut Files, kept: &[Digest]) {
        let mut spared = Vec::new();
        while files.bytes + self.unfinished.load(Ordering::Relaxed) > self.max_bytes {
            let Some((digest, entry)) = files.used.pop_lru() else { break };
            if kept.contains(&digest) {
                spared.push((digest, entry));
                continue;
            }
            files.bytes -= entry.size;
            self.evicted.fetch_add(1, Ordering::Relaxed);
            // A file that cannot be deleted is found again at the next start.
            let _ = fs::remove_file(self.path(&digest));
        }
        for (digest, entry) in spared {
            files.used.put(digest, entry);
        }
    }

    /// Where the file of a blob is, or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.hex())
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        // Nothing below the lock can panic half-way through a change.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, source: io::Error) -> CacheError {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                CacheError::NoSpace { dir: self.dir.clone(), setting: self.setting }
            }
            _ => CacheError::Io { dir: self.dir.clone(), source },
        }
    }
}

impl Files {
    fn insert(&mut self, digest: Digest, entry: Entry) {
        self.bytes += entry.size;
        if let Some(old) = self.used.put(digest, entry) {
            self.bytes -= old.size;
        }
    }

    fn forget(&mut self, digest: &Digest) {
        if let Some(entry) = self.used.pop(digest) {
            self.bytes -= entry.size;
        }
    }
}

#[cfg(test)]
mod tests;
