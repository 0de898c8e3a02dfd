//! What nix-daemon knows of store paths: outputs before they are built, and runtime closures.

use super::{
    Buildable, DaemonError, NixDaemon, StorePath,
    calls::{QueryOutputs, QueryPathInfo},
};
use std::collections::{HashSet, VecDeque};

/// A store path as nix-daemon has it registered (`QueryPathInfo`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathInfo {
    /// The path.
    pub path: StorePath,
    /// Bytes of its contents as a Nix archive, which is about what it takes in a layer.
    pub nar_size: u64,
    /// The paths that it refers to, sorted. It may name itself.
    pub references: Vec<StorePath>,
}

/// Something that is to be realised, and what that will yield.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What to realise.
    pub buildable: Buildable,
    /// The store path, where that is known before it is built.
    pub expected: Option<StorePath>,
}

/// Why a closure is not known.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClosureError {
    /// It is larger than allowed.
    #[error(
        "the runtime closure of {path} has more than {limit} store paths, which is what MAX_CLOSURE_PATHS allows"
    )]
    TooLarge {
        /// Where it begins.
        path: StorePath,
        /// How many paths it may have.
        limit: usize,
    },
    /// A path is not in the store.
    #[error("{0} is not in the Nix store")]
    Gone(StorePath),
    /// nix-daemon does not answer.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
}

impl NixDaemon {
    /// Whether all of these are in the store and registered.
    pub async fn are_valid(&self, paths: &[StorePath]) -> Result<bool, DaemonError> {
        for path in paths {
            if !self.is_valid(path).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The store paths that realising these will yield, as far as that can be told: a derivation that is not there, or
    /// whose outputs are named by their contents, tells nothing.
    pub async fn outputs(&self, what: &[Buildable]) -> Result<Vec<Option<StorePath>>, DaemonError> {
        let mut paths = Vec::with_capacity(what.len());
        for buildable in what {
            paths.push(match buildable {
                Buildable::Path(path) => Some(path.clone()),
                Buildable::Output { derivation, output } => {
                    let drv = self.store().print(derivation);
                    match self.call(&QueryOutputs(drv)).await {
                        Ok(mut outputs) => {
                            outputs.remove(output).and_then(|path| self.store().parse(&path).ok())
                        }
                        Err(DaemonError::Nix(_)) => None,
                        Err(error) => return Err(error),
                    }
                }
            });
        }
        Ok(paths)
    }

    /// The runtime closure of these paths: they and all that they refer to, directly or not. At most `limit` paths are
    /// asked for.
    pub async fn closure(&self, paths: &[StorePath], limit: usize) -> Result<Vec<PathInfo>, ClosureError> {
        let mut seen: HashSet<StorePath> = paths.iter().cloned().collect();
        let mut waiting: VecDeque<StorePath> = seen.iter().cloned().collect();
        let mut closure = Vec::new();
        while let Some(path) = waiting.pop_front() {
            if seen.len() > limit {
                let path = paths.first().unwrap_or(&path).clone();
                return Err(ClosureError::TooLarge { path, limit });
            }
            let info = self.call(&QueryPathInfo(self.store().print(&path))).await?;
            let info = info.ok_or_else(|| ClosureError::Gone(path.clone()))?;
            let mut references = Vec::with_capacity(info.references.len());
            for reference in &info.references {
                let reference =
                    self.store().parse(reference).map_err(|error| DaemonError::Nix(error.to_string()))?;
                if reference == path {
                    continue;
                }
                if seen.insert(reference.clone()) {
                    waiting.push_back(reference.clone());
                }
                references.push(reference);
            }
            references.sort();
            closure.push(PathInfo { path, nar_size: info.nar_size, references });
        }
        closure.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(closure)
    }
}
