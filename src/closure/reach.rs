//! What is reached from where, for all nodes at once.

use super::Graph;

/// Nodes that are looked for at a time, in 64-bit words: bounds the memory to 512 bytes a node.
const WORDS: usize = 64;

/// Calls `visit(from, to)` for each path `from` and each path `to` of its closure, itself included. For each `to` in
/// turn by blocks; within one, each `from` after all that it refers to.
pub(super) fn for_each_pair(graph: &Graph, mut visit: impl FnMut(usize, usize)) {
    let mut reached = vec![0_u64; graph.len() * WORDS];
    for start in (0..graph.len()).step_by(WORDS * 64) {
        reached.fill(0);
        let end = graph.len().min(start + WORDS * 64);
        for &from in graph.bottom_up() {
            let mut row = [0_u64; WORDS];
            if (start..end).contains(&from) {
                row[(from - start) / 64] |= 1 << ((from - start) % 64);
            }
            for reference in graph.references(from) {
                let theirs = &reached[reference * WORDS..][..WORDS];
                row.iter_mut().zip(theirs).for_each(|(own, their)| *own |= their);
            }
            reached[from * WORDS..][..WORDS].copy_from_slice(&row);
            for (word, mut bits) in row.into_iter().enumerate() {
                while bits != 0 {
                    visit(from, start + word * 64 + bits.trailing_zeros() as usize);
                    bits &= bits - 1;
                }
            }
        }
    }
}

/// Bytes of each path's closure, itself included.
pub(super) fn closure_sizes(graph: &Graph) -> Vec<u64> {
    let mut sizes = vec![0_u64; graph.len()];
    for_each_pair(graph, |from, to| sizes[from] = sizes[from].saturating_add(graph.nar_size(to)));
    sizes
}
