//! Grouping by size and by stability: the default.
//!
//! What it optimises: the bytes that a client pulls which has another image, or an older one. A layer is pulled again
//! whole when any path in it is another, so a path in company costs its size times the chance that its company changes
//! or is not in the other image.
//!
//! 1. If there are no more paths than layers, each path is a layer.
//! 2. The biggest paths are layers of their own. Sizes have a heavy tail, so what remains is little. A fifth of the layers
//!    is kept for it, or fewer: one for each eight paths beyond the limit.
//! 3. Of what remains, all paths whose closure is more than three quarters of the image are one layer: the application's
//!    own files and what starts it, which change with nearly every change.
//! 4. The rest, in order of how many paths are in the closure of each, is cut into runs of the same number of paths. In
//!    Nix a path is another one as soon as anything in its closure is, so that number says how often it changes. What is
//!    low and steady has layers of its own, and a change high up leaves them alone.
//!
//! The size and the closure of a path do not depend on the image that it is in, so images that are much alike are cut
//! alike. Popularity is not looked at: it made hardly a difference when it was measured, and layers would change with
//! every update of its data. `docs/layers.md` has the measurements.

use super::{Graph, Layer, reach};
use std::{cmp::Reverse, num::NonZeroUsize};

pub(super) fn group(graph: &Graph, max_layers: NonZeroUsize) -> Vec<Layer> {
    let max_layers = max_layers.get();
    let counts = reach::closure_counts(graph);
    let excess = graph.len().saturating_sub(max_layers);
    let shared = max_layers.div_ceil(5).min(excess.div_ceil(8));

    let mut paths: Vec<usize> = (0..graph.len()).collect();
    paths.sort_unstable_by_key(|i| (Reverse(graph.nar_size(*i)), *i));
    let mut small = paths.split_off(paths.len().min(max_layers - shared));
    let mut layers: Vec<Layer> = paths.into_iter().map(|i| vec![i]).collect();

    small.sort_unstable_by_key(|i| (counts[*i], *i));
    let mut runs = shared;
    if runs > 1 {
        let top = small.split_off(small.partition_point(|i| counts[*i] * 4 <= graph.len() * 3));
        if !top.is_empty() {
            layers.push(top);
            runs -= 1;
        }
    }
    let cut = |run| small.len() * run / runs;
    layers.extend((0..runs).map(|run| small[cut(run)..cut(run + 1)].to_vec()));
    layers.retain(|layer| !layer.is_empty());

    layers.sort_by_key(|layer| layer.iter().map(|i| (counts[*i], *i)).max());
    layers
}
