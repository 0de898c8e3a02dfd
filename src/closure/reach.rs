//! What is reached from where, for all paths at once.

use super::Graph;

/// Paths that are looked for at a time, in 64-bit words: bounds the memory to 512 bytes a path.
const WORDS: usize = 64;

/// Calls `visit(from, first, bits)` for each path `from`: bit `i` says whether path `first + i` is in its closure. A path
/// is in its own. Words without any bit are left out.
fn for_each_word(graph: &Graph, mut visit: impl FnMut(usize, usize, u64)) {
    let mut reached = vec![[0_u64; WORDS]; graph.len()];
    for start in (0..graph.len()).step_by(WORDS * 64) {
        for &from in graph.bottom_up() {
            let mut row = [0_u64; WORDS];
            if let Some(own) = from.checked_sub(start).filter(|own| *own < WORDS * 64) {
                row[own / 64] |= 1 << (own % 64);
            }
            for reference in graph.references(from) {
                row.iter_mut().zip(&reached[*reference]).for_each(|(own, theirs)| *own |= theirs);
            }
            reached[from] = row;
            for (word, bits) in row.into_iter().enumerate().filter(|(_, bits)| *bits != 0) {
                visit(from, start + word * 64, bits);
            }
        }
    }
}

/// Calls `visit(from, to)` for each path `from` and each path `to` of its closure, itself included.
pub(super) fn for_each_pair(graph: &Graph, mut visit: impl FnMut(usize, usize)) {
    for_each_word(graph, |from, first, mut bits| {
        while bits != 0 {
            visit(from, first + bits.trailing_zeros() as usize);
            bits &= bits - 1;
        }
    });
}

/// Bytes of each path's closure, itself included.
pub(super) fn closure_sizes(graph: &Graph) -> Vec<u64> {
    let mut sizes = vec![0_u64; graph.len()];
    for_each_pair(graph, |from, to| sizes[from] = sizes[from].saturating_add(graph.nar_size(to)));
    sizes
}

/// Paths in each path's closure, itself included.
pub(super) fn closure_counts(graph: &Graph) -> Vec<usize> {
    let mut counts = vec![0; graph.len()];
    for_each_word(graph, |from, _, bits| counts[from] += bits.count_ones() as usize);
    counts
}
