//! A layer of store paths: the folders that lead to the store, and each path with all below it. Where the store is
//! `/nix/store`, these are the bytes that nixpkgs' `streamLayeredImage` has for the same paths.

use crate::{
    budget::Budget,
    layer::{Contents, Item, LayerError, Take, What, walk},
};
use std::{
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

/// Store paths, and the store that they are in.
#[derive(Debug)]
pub(super) struct StoreLayer<'p> {
    pub(super) store: &'p Path,
    pub(super) paths: &'p [PathBuf],
}

impl Contents for StoreLayer<'_> {
    fn roots(&self) -> &[PathBuf] {
        self.paths
    }

    fn describe(&self) -> Vec<u8> {
        [b"store layer ", self.store.as_os_str().as_bytes()].concat()
    }

    fn visit(&self, budget: &Budget, take: &mut Take<'_>) -> Result<(), LayerError> {
        // Docker makes folders that no entry stands for, and lets root alone into them.
        let mut folders: Vec<&Path> = self.store.ancestors().filter(|f| f.parent().is_some()).collect();
        folders.reverse();
        for folder in folders {
            take(Item::new(folder.as_os_str().as_bytes(), What::Folder).with_mode(0o755))?;
        }
        for root in self.paths {
            walk(root, budget, &mut |found| {
                let name = found.path.clone().into_os_string().into_vec();
                take(Item::new(name, What::OnDisk(found)))
            })?;
        }
        Ok(())
    }
}
