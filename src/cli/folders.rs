//! Folders of commands that work beside the registry.

use std::{
    fs::DirBuilder,
    hash::{BuildHasher, RandomState},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

/// A folder of our own, which is deleted in the end.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Others can write where it lies, so it must not have been there before.
    pub fn new() -> io::Result<Self> {
        let random = RandomState::new().hash_one(std::process::id());
        let path = std::env::temp_dir().join(format!("forge-registry-{random:016x}"));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The user to whom a folder belongs, if it is there and that is not the one we are. Root could write to it, and follow
/// the links in it to anywhere.
pub fn other_owner(folder: &Path) -> Option<u32> {
    let owner = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.uid()).ok();
    owner(folder).filter(|uid| Some(*uid) != owner(Path::new("/proc/self")))
}
