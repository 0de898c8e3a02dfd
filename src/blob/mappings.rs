//! Mapped files, shared between all who serve from them.

use super::{Fingerprint, Mapping};
use lru::LruCache;
use std::{
    fs::File,
    io,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

/// Whether a mapping stays when nobody serves from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Until other files have been used more recently: the next one to serve from it need not even open the file.
    Yes,
    /// No: the file may be unlinked at any time, and as long as it is mapped, it takes its space on the disk.
    No,
}

/// A bounded set of mapped files.
#[derive(Debug)]
pub struct Mappings {
    entries: Mutex<LruCache<PathBuf, Entry>>,
}

#[derive(Debug)]
struct Entry {
    mapping: Weak<Mapping>,
    _kept: Option<Arc<Mapping>>,
}

impl Mappings {
    /// Keeps at most `capacity` files mapped that nobody serves from.
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self { entries: Mutex::new(LruCache::new(capacity)) }
    }

    /// The mapping of the file that had this path and fingerprint, if there is one, and if the file is what it was.
    /// Opens no file.
    pub fn get(&self, path: &Path, fingerprint: Fingerprint) -> Option<Arc<Mapping>> {
        let mapping = {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            entries.get(path)?.mapping.upgrade()?
        };
        (mapping.fingerprint() == fingerprint && mapping.verify().is_ok()).then_some(mapping)
    }

    /// The mapping of an open file, made unless there is one.
    pub fn map(
        &self,
        path: PathBuf,
        file: File,
        fingerprint: Fingerprint,
        keep: Keep,
    ) -> io::Result<Arc<Mapping>> {
        if let Some(mapping) = self.get(&path, fingerprint) {
            return Ok(mapping);
        }
        let mapping = Arc::new(Mapping::new(file, path.clone(), fingerprint)?);
        let kept = (keep == Keep::Yes).then(|| mapping.clone());
        let entry = Entry { mapping: Arc::downgrade(&mapping), _kept: kept };
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).put(path, entry);
        Ok(mapping)
    }

    /// Lets go of every mapping that nobody serves from.
    pub fn clear(&self) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn open(path: &Path) -> (File, Fingerprint) {
        let file = File::open(path).unwrap();
        let fingerprint = Fingerprint::of(&file.metadata().unwrap());
        (file, fingerprint)
    }

    #[test]
    fn those_who_serve_at_the_same_time_share_a_mapping() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "a").unwrap();
        let mappings = Mappings::new(NonZeroUsize::new(1).unwrap());
        let (file, fingerprint) = open(&path);
        let first = mappings.map(path.clone(), file.try_clone().unwrap(), fingerprint, Keep::No).unwrap();
        let second = mappings.map(path.clone(), file.try_clone().unwrap(), fingerprint, Keep::No).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        drop((first, second));
        assert!(mappings.get(&path, fingerprint).is_none(), "nothing keeps it");
        mappings.map(path.clone(), file, fingerprint, Keep::Yes).unwrap();
        assert!(mappings.get(&path, fingerprint).is_some());
    }

    #[test]
    fn another_file_of_the_same_name_is_another_mapping() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let mappings = Mappings::new(NonZeroUsize::new(1).unwrap());
        fs::write(&path, "old").unwrap();
        let (file, old) = open(&path);
        mappings.map(path.clone(), file, old, Keep::Yes).unwrap();
        fs::write(dir.path().join("b"), "new").unwrap();
        fs::rename(dir.path().join("b"), &path).unwrap();
        let (file, new) = open(&path);
        assert!(mappings.get(&path, new).is_none());
        let mapping = mappings.map(path.clone(), file, new, Keep::Yes).unwrap();
        assert_eq!(mapping.slice(0..3).unwrap(), "new");
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1).unwrap();
        assert!(mappings.get(&path, new).is_none(), "it has become shorter");
        assert!(mapping.verify().is_err());
    }
}
