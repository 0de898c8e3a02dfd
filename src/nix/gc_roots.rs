//! GC roots: symlinks in the state folder for each image that the index points at, one for each store path that it needs
//! by itself, registered with nix-daemon as indirect roots. Removing the symlink removes the root; nix-daemon forgets it at
//! the next collection.

use super::{DaemonError, NixDaemon, StorePath};
use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// The folder of symlinks.
#[derive(Debug)]
pub struct GcRoots {
    dir: PathBuf,
    next_temporary: AtomicU64,
}

/// Links that were in the folder at a time.
#[derive(Debug)]
pub struct Present(HashSet<OsString>);

impl Present {
    /// How many there were.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// How many of so many roots of a name were not there.
    pub fn missing(&self, name: &str, count: usize) -> usize {
        (0..count).filter(|number| !self.0.contains(OsStr::new(&link_name(name, *number)))).count()
    }
}

/// A root could not be made.
#[derive(Debug, thiserror::Error)]
pub enum GcRootError {
    /// The symlink could not be made.
    #[error("GC root {path:?}: {error}")]
    Io {
        /// The symlink.
        path: PathBuf,
        /// The operating system's reason.
        error: io::Error,
    },
    /// nix-daemon did not register it.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
}

/// The link of the root of this number.
fn link_name(name: &str, number: usize) -> String {
    if number == 0 { name.to_owned() } else { format!("{name}-{number}") }
}

impl GcRoots {
    /// Roots in `dir`, which is made if need be. nix-daemon resolves the links itself, so the path is made absolute.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self { dir: dir.canonicalize()?, next_temporary: AtomicU64::new(0) })
    }

    /// Roots `targets` under `name`: the first as `name`, the others as `name-1` and so on.
    pub async fn add(
        &self,
        daemon: &NixDaemon,
        name: &str,
        targets: &[StorePath],
    ) -> Result<(), GcRootError> {
        for (number, target) in targets.iter().enumerate() {
            self.add_one(daemon, &link_name(name, number), target).await?;
        }
        Ok(())
    }

    /// Replaces what the link rooted before.
    async fn add_one(&self, daemon: &NixDaemon, link: &str, target: &StorePath) -> Result<(), GcRootError> {
        let link = self.dir.join(link);
        let io_error = |error| GcRootError::Io { path: link.clone(), error };
        let target = daemon.store().join(target);
        if !fs::read_link(&link).is_ok_and(|current| current == target) {
            // A rename replaces at once; no moment without a root.
            let serial = self.next_temporary.fetch_add(1, Ordering::Relaxed);
            let temporary = self.dir.join(format!(".new-{serial}"));
            let _ = fs::remove_file(&temporary);
            symlink(&target, &temporary).map_err(io_error)?;
            fs::rename(&temporary, &link).map_err(io_error)?;
        }
        Ok(daemon.add_indirect_root(&link).await?)
    }

    /// The links of so many roots of a name, in the folder `dir`.
    pub fn links(dir: &Path, name: &str, count: usize) -> Vec<PathBuf> {
        (0..count).map(|number| dir.join(link_name(name, number))).collect()
    }

    /// Removes so many roots of a name; nothing happens where there is none.
    pub fn remove(&self, name: &str, count: usize) -> io::Result<()> {
        for number in 0..count {
            match fs::remove_file(self.dir.join(link_name(name, number))) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    /// The links that there are.
    pub fn present(&self) -> io::Result<Present> {
        let mut links = HashSet::new();
        for entry in fs::read_dir(&self.dir)? {
            let link = entry?.file_name();
            if !link.as_encoded_bytes().starts_with(b".") {
                links.insert(link);
            }
        }
        Ok(Present(links))
    }

    /// Removes every root whose name is not in `keep`: those of a process that died before it had written its row.
    /// Returns how many. What cannot be removed is left.
    pub fn retain(&self, keep: &HashSet<String>) -> io::Result<usize> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.dir)? {
            let link = entry?.file_name();
            let name = link.to_str().map(|link| link.split('-').next().unwrap_or(link));
            if name.is_none_or(|name| !keep.contains(name)) {
                let path = self.dir.join(link);
                match fs::remove_file(&path) {
                    Ok(()) => removed += 1,
                    Err(error) => tracing::warn!(?path, %error, "it is no GC root, and cannot be removed"),
                }
            }
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_removed_does_not_keep_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let roots = GcRoots::open(dir.path()).unwrap();
        for n in 0..20 {
            symlink("/nowhere", dir.path().join(format!("root{n}"))).unwrap();
            fs::create_dir_all(dir.path().join(format!("folder{n}/in-it"))).unwrap();
        }
        let keep = HashSet::from(["root7".to_owned()]);
        assert_eq!(roots.retain(&keep).unwrap(), 19);
        assert!(fs::read_link(dir.path().join("root7")).is_ok());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 21);
        assert_eq!(roots.retain(&keep).unwrap(), 0);
    }

    #[test]
    fn a_link_that_is_missing_is_missed_however_many_others_there_are() {
        let dir = tempfile::tempdir().unwrap();
        let roots = GcRoots::open(dir.path()).unwrap();
        for link in ["a", "a-1", "a-2", "b-1", ".new-0"] {
            symlink("/nowhere", dir.path().join(link)).unwrap();
        }
        let present = roots.present().unwrap();
        assert_eq!(present.count(), 4);
        let missing = [("a", 3), ("a", 4), ("b", 2), ("c", 1)].map(|(name, n)| present.missing(name, n));
        assert_eq!(missing, [0, 1, 1, 1]);
    }
}
