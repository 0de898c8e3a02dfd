//! Which store paths of a closure go into which layer of an image.
//!
//! A client pulls a layer whole or not at all, so paths that share a layer are pulled together: again, when any of them
//! changed. One layer for each path would be best, but an overlay filesystem has a limited number of layers. Grouping is
//! a pure function of the graph (and of popularity data, where a strategy uses them). A layer's bytes are a function of
//! its set of paths alone; the order of paths within it is that of [`Graph`]'s indexes.
//!
//! This module knows nothing of HTTP, daemons or archives.

mod graph;
mod nixery;
mod nixpkgs;
mod popularity;
mod reach;
mod stability;
#[cfg(test)]
mod tests;

pub use crate::nix::PathInfo;
pub use graph::{Graph, GraphError, MAX_PATHS};
pub use popularity::{Popularity, PopularityError};

use serde::{Deserialize, Serialize};
use std::{fmt, num::NonZeroUsize, str::FromStr};

/// Indexes of a [`Graph`], ascending: the paths of one layer.
pub type Layer = Vec<usize>;

/// How a closure becomes layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// Big paths alone, small ones with those that change as often.
    #[default]
    Stability,
    /// Nixery's: the dominator tree, and popularity.
    Nixery,
    /// nixpkgs' `dockerTools`: one layer for each of the paths that most ways lead to.
    Nixpkgs,
}

impl Strategy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Stability, Self::Nixery, Self::Nixpkgs];
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stability => "stability",
            Self::Nixery => "nixery",
            Self::Nixpkgs => "nixpkgs",
        })
    }
}

impl FromStr for Strategy {
    type Err = UnknownStrategy;

    fn from_str(name: &str) -> Result<Self, UnknownStrategy> {
        Self::ALL.into_iter().find(|strategy| strategy.to_string() == name).ok_or(UnknownStrategy)
    }
}

/// The name of no strategy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be stability, nixery or nixpkgs")]
pub struct UnknownStrategy;

/// Groups a closure into at most `max_layers` layers. Each path is in one of them, and none is empty.
///
/// The first layer is to be the lowest of the image.
pub fn group(
    graph: &Graph,
    popularity: &Popularity,
    strategy: Strategy,
    max_layers: NonZeroUsize,
) -> Vec<Layer> {
    if graph.is_empty() {
        return Vec::new();
    }
    let mut layers = match strategy {
        Strategy::Stability => stability::group(graph, max_layers),
        Strategy::Nixery => nixery::group(graph, popularity, max_layers),
        Strategy::Nixpkgs => nixpkgs::group(graph, max_layers),
    };
    layers.iter_mut().for_each(|layer| layer.sort_unstable());
    layers
}
