//! Nixery's grouping (its `layers/layers.go`), for those who come from it: the same paths in the same layers.
//!
//! 1. A made-up root refers to the paths that were asked for, and to each path that is big (a closure over 100 MB) or
//!    popular (100 and more).
//! 2. In the dominator tree of that graph, each child of the root is a layer with all that it dominates: what is there
//!    for its sake only.
//! 3. A layer's rating is the popularity of its head times the sum of its members' *closure* sizes.
//! 4. Beyond the limit, those with the lowest ratings are put in one layer, whose rating is their sum.
//! 5. Layers are ordered by rating, highest first.
//!
//! What it optimises: that different images have layers in common, by keeping what is popular or big apart and
//! everything else with the one that needs it. It does not look at which paths change together, and what is neither
//! popular nor big ends in one layer.
//!
//! Nixery leaves the order of equal ratings to chance. Here the layer whose head is first by name counts as the lower,
//! so it is the first to be merged and the last in the image.

use super::{Graph, Layer, Popularity, reach};
use petgraph::{algo::dominators::simple_fast, graph::DiGraph};
use std::num::NonZeroUsize;

/// Bytes of a closure.
const BIG: u64 = 100_000_000;
const POPULAR: u64 = 100;

pub(super) fn group(graph: &Graph, popularity: &Popularity, max_layers: NonZeroUsize) -> Vec<Layer> {
    let sizes = reach::closure_sizes(graph);
    let popularity: Vec<u64> = (0..graph.len()).map(|i| popularity.of(graph.path(i))).collect();

    let mut layers: Vec<(u128, Layer)> = heads(graph, |i| sizes[i] > BIG || popularity[i] >= POPULAR)
        .into_iter()
        .map(|layer| {
            let size: u128 = layer.iter().map(|i| u128::from(sizes[*i])).sum();
            (size * u128::from(popularity[layer[0]]), layer)
        })
        .collect();
    layers.sort_by_key(|(rating, layer)| (*rating, layer[0]));

    let excess = layers.len().saturating_sub(max_layers.get());
    if excess > 0 {
        let rest = layers.split_off(excess + 1);
        let merged = layers.into_iter().reduce(|(rating, mut layer), (other, paths)| {
            layer.extend(paths);
            (rating + other, layer)
        });
        layers = merged.into_iter().chain(rest).collect();
        layers.sort_by_key(|(rating, layer)| (*rating, layer[0]));
    }
    layers.into_iter().rev().map(|(_, layer)| layer).collect()
}

/// The subtrees under the root of the dominator tree, each with its head first. `apart` hang under the root themselves.
fn heads(graph: &Graph, apart: impl Fn(usize) -> bool) -> Vec<Layer> {
    let root = graph.len();
    let edges = (0..root).flat_map(|i| graph.references(i).iter().map(move |reference| (i, *reference)));
    let tops = graph.roots().iter().copied().chain((0..root).filter(|i| apart(*i)));
    let petgraph = DiGraph::<(), (), usize>::from_edges(edges.chain(tops.map(|i| (root, i))));
    let dominators = simple_fast(&petgraph, root.into());

    let mut layers: Vec<Layer> = vec![Vec::new(); root];
    let mut head: Vec<usize> = (0..root).collect();
    // a dominator refers to what it dominates, if not directly, so it comes before it from the top down
    for &i in graph.bottom_up().iter().rev() {
        if let Some(dominator) = dominators.immediate_dominator(i.into()).filter(|d| d.index() != root) {
            head[i] = head[dominator.index()];
        }
        layers[head[i]].push(i);
    }
    layers.retain(|layer| !layer.is_empty());
    layers
}
