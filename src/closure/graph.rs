//! A runtime closure as a graph.

use crate::nix::{PathInfo, StorePath};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

/// Store paths in one closure. A NixOS system has 1 000 to 3 000.
pub const MAX_PATHS: usize = 100_000;

/// A runtime closure: store paths, and which refers to which. There are no cycles; nix-daemon takes none into its store.
///
/// A path's index is its place among all paths sorted by name (the name after the hash, then the hash), so a graph does
/// not depend on the order in which it was given, and a new hash alone moves no path.
#[derive(Debug, Clone)]
pub struct Graph {
    paths: Vec<StorePath>,
    sizes: Vec<u64>,
    references: Vec<Vec<usize>>,
    roots: Vec<usize>,
    bottom_up: Vec<usize>,
}

/// Path infos that are not those of a closure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// Too many paths.
    #[error("the closure has {0} store paths; at most {MAX_PATHS} can become an image")]
    TooMany(usize),
    /// A path was given twice.
    #[error("{0} is in the closure twice")]
    Duplicate(StorePath),
    /// A path that is referred to was not given.
    #[error("{path} refers to {reference}, which is not in the closure")]
    Unknown {
        /// The path that refers to it.
        path: StorePath,
        /// What is missing.
        reference: StorePath,
    },
    /// A path that was asked for was not given.
    #[error("{0} was asked for, and is not in its own closure")]
    UnknownRoot(StorePath),
    /// Paths refer to each other.
    #[error("{0} refers to itself by way of other store paths")]
    Cycle(StorePath),
}

impl Graph {
    /// The graph of `infos`. Roots are the paths that were asked for; one that nothing refers to counts as one too.
    pub fn new(mut infos: Vec<PathInfo>, roots: &[StorePath]) -> Result<Self, GraphError> {
        if infos.len() > MAX_PATHS {
            return Err(GraphError::TooMany(infos.len()));
        }
        infos.sort_unstable_by(|a, b| (a.path.name(), &a.path).cmp(&(b.path.name(), &b.path)));
        if let Some(pair) = infos.windows(2).find(|pair| pair[0].path == pair[1].path) {
            return Err(GraphError::Duplicate(pair[0].path.clone()));
        }
        let index: BTreeMap<&StorePath, usize> =
            infos.iter().enumerate().map(|(i, info)| (&info.path, i)).collect();
        let mut references = Vec::with_capacity(infos.len());
        let mut referred = vec![false; infos.len()];
        for (own, info) in infos.iter().enumerate() {
            let mut indexes = Vec::with_capacity(info.references.len());
            for reference in &info.references {
                let i = *index.get(reference).ok_or_else(|| GraphError::Unknown {
                    path: info.path.clone(),
                    reference: reference.clone(),
                })?;
                if i != own {
                    referred[i] = true;
                    indexes.push(i);
                }
            }
            indexes.sort_unstable();
            indexes.dedup();
            references.push(indexes);
        }
        for root in roots {
            let i = index.get(root).ok_or_else(|| GraphError::UnknownRoot(root.clone()))?;
            referred[*i] = false;
        }
        let roots = (0..infos.len()).filter(|i| !referred[*i]).collect();
        let bottom_up = bottom_up(&references).map_err(|i| GraphError::Cycle(infos[i].path.clone()))?;
        let (paths, sizes) = infos.into_iter().map(|info| (info.path, info.nar_size)).unzip();
        Ok(Self { paths, sizes, references, roots, bottom_up })
    }

    /// How many paths there are.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// The path of an index below [`len`](Self::len).
    pub fn path(&self, index: usize) -> &StorePath {
        &self.paths[index]
    }

    /// Bytes of the path's NAR.
    pub fn nar_size(&self, index: usize) -> u64 {
        self.sizes[index]
    }

    /// What the path refers to, other than itself; sorted.
    pub fn references(&self, index: usize) -> &[usize] {
        &self.references[index]
    }

    /// The paths that were asked for and those that nothing refers to; sorted.
    pub fn roots(&self) -> &[usize] {
        &self.roots
    }

    /// All indexes, each after all that it refers to; of those that could be next, the lowest.
    pub fn bottom_up(&self) -> &[usize] {
        &self.bottom_up
    }
}

/// References before what refers to them, or a node of a cycle.
fn bottom_up(references: &[Vec<usize>]) -> Result<Vec<usize>, usize> {
    let mut referrers = vec![Vec::new(); references.len()];
    for (i, references) in references.iter().enumerate() {
        references.iter().for_each(|reference| referrers[*reference].push(i));
    }
    let mut missing: Vec<usize> = references.iter().map(Vec::len).collect();
    let mut ready: BinaryHeap<_> = (0..missing.len()).filter(|i| missing[*i] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(missing.len());
    while let Some(Reverse(i)) = ready.pop() {
        order.push(i);
        for referrer in &referrers[i] {
            missing[*referrer] -= 1;
            if missing[*referrer] == 0 {
                ready.push(Reverse(*referrer));
            }
        }
    }
    if order.len() == references.len() {
        return Ok(order);
    }
    // What is left is in a cycle or refers to one. Going down from it stays there, and comes by a node again.
    let mut seen = vec![false; missing.len()];
    let mut at = missing.iter().position(|m| *m > 0).unwrap_or_default();
    while !seen[at] {
        seen[at] = true;
        at = references[at].iter().copied().find(|reference| missing[*reference] > 0).unwrap_or(at);
    }
    Err(at)
}
