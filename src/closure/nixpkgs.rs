//! The popularity contest of nixpkgs' `dockerTools` (`references-by-popularity/closure-graph.py`).
//!
//! Paths are ordered by how many ways lead to them from the top, and each of the first has a layer of its own; what is
//! beyond the limit shares the last one. A path's popularity is the number of ways from a path that nothing
//! refers to, to itself and to each of those that need it; of equally popular paths, the first by name comes first.
//!
//! What it optimises: that what much else depends on, which is at the base of other images too, is in layers of its own.
//! It does not look at sizes, and all that little else depends on is pulled again with every change.

use super::{Graph, Layer, reach};
use std::num::NonZeroUsize;

pub(super) fn group(graph: &Graph, max_layers: NonZeroUsize) -> Vec<Layer> {
    let popularity = popularity(graph);
    let mut order: Vec<usize> = (0..graph.len()).collect();
    order.sort_by(|a, b| popularity[*b].total_cmp(&popularity[*a]).then(a.cmp(b)));
    let last = order.split_off(order.len().min(max_layers.get() - 1));
    order.into_iter().map(|i| vec![i]).chain((!last.is_empty()).then_some(last)).collect()
}

/// As floating point, since the number of ways is exponential in the depth of the graph: in nixpkgs it is one of Python's
/// integers. Up to 2⁵³ it is exact.
fn popularity(graph: &Graph) -> Vec<f64> {
    let mut ways = vec![1_f64; graph.len()];
    for i in 0..graph.len() {
        graph.references(i).iter().for_each(|reference| ways[*reference] = 0.0);
    }
    for &i in graph.bottom_up().iter().rev() {
        for reference in graph.references(i) {
            ways[*reference] += ways[i];
        }
    }
    let mut popularity = vec![0_f64; graph.len()];
    reach::for_each_pair(graph, |from, to| popularity[to] += ways[from]);
    popularity
}
