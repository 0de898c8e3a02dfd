//! Grouping by size and by stability: the default.
//!
//! What it optimises: the bytes that a client pulls which has another image, or an older one. A layer is pulled again
//! whole when any path in it is another, so a path in company costs its size times the chance that its company changes
//! or is not in the other image.
//!
//! 1. If there are no more paths than layers, each path is a layer.
//! 2. Four fifths of the layers are the biggest paths, one each. Sizes have a heavy tail: what remains is little.
//! 3. Of that, all paths whose closure is more than two thirds of the image are one layer: the application's own files and
//!    what starts it, which change with nearly every change.
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
    let mut layers: Vec<Layer> = Vec::with_capacity(max_layers);

    let mut paths: Vec<usize> = (0..graph.len()).collect();
    paths.sort_unstable_by_key(|i| (Reverse(graph.nar_size(*i)), *i));
    let alone = if paths.len() <= max_layers { paths.len() } else { max_layers - max_layers.div_ceil(5) };
    let mut small = paths.split_off(alone);
    layers.extend(paths.into_iter().map(|i| vec![i]));

    small.sort_unstable_by_key(|i| (counts[*i], *i));
    if max_layers - layers.len() > 1 {
        let top = small.partition_point(|i| counts[*i] * 3 <= graph.len() * 2);
        layers.extend(Some(small.split_off(top)).filter(|top| !top.is_empty()));
    }
    let runs = (max_layers - layers.len()).min(small.len());
    layers.extend(
        (0..runs).map(|run| small[small.len() * run / runs..small.len() * (run + 1) / runs].to_vec()),
    );

    layers.sort_by_key(|layer| layer.iter().map(|i| (counts[*i], *i)).max());
    layers
}
