//! The state that a registry left which does not run.

use super::{
    Collect, Dropped, ImageDetails, ImageSummary, Result, Retention, StateError,
    inventory::View,
    state::{self, INDEX, State},
};
use crate::{
    index::{self, Index},
    nix::StoreDir,
    oci::{RepositoryName, Tag},
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The state of a registry that does not run: a copy of its index, so that nothing of it is changed.
#[derive(Debug)]
pub struct Snapshot {
    index: Index,
    state_dir: PathBuf,
    store: StoreDir,
}

impl Snapshot {
    /// Copies the index of `state_dir` into the folder `scratch`, which is the caller's to delete.
    pub fn open(state_dir: &Path, store: StoreDir, scratch: &Path) -> Result<Self, StateError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| StateError::Folder { path, error }
        };
        let original = state_dir.join(INDEX);
        if !original.try_exists().map_err(failed(&original))? {
            return Err(StateError::Missing(state_dir.into()));
        }
        let lock = State::share(state_dir)?;
        state::format(state_dir)?;
        let copy = scratch.join(INDEX);
        fs::copy(&original, &copy).map_err(failed(&original))?;
        // A registry that is started now need not wait for what is done with the copy.
        drop(lock);
        index::migrate(&copy)?;
        let opened = index::open(&copy)?;
        if let Some((_aside, reason)) = opened.moved_aside {
            return Err(StateError::Unusable { path: original, reason });
        }
        Ok(Self { index: opened.index, state_dir: state_dir.into(), store })
    }

    /// All images, by name and tag.
    pub fn images(&self) -> Result<Vec<ImageSummary>> {
        self.view().images()
    }

    /// The images of a name, or the one of a tag.
    pub fn inspect(&self, name: &RepositoryName, tag: Option<&Tag>) -> Result<Vec<ImageDetails>> {
        self.view().inspect(name, tag)
    }

    /// What a registry with these settings would drop on this request.
    pub fn would_drop(&self, what: Collect, retention: Retention) -> Result<Dropped> {
        let view = self.view();
        let plan = view.plan(view.unused(what, retention)?)?;
        Ok(Dropped { listed: view.listed(&plan), dry_run: true, ..view.account(&plan) })
    }

    fn view(&self) -> View<'_> {
        View { index: &self.index, state_dir: &self.state_dir, store: &self.store }
    }
}
