//! Short rows of results between registers and memory.

use crate::simd::Simd;

/// Loads a row; lanes past its end are 0. `FULL` when there are none.
///
/// The vectors are reached by constant indices only: where an index depends on the row's length, the compiler keeps all
/// of them in memory, inner loops and all.
#[inline(always)]
pub(crate) fn load_row<S: Simd, const VECTORS: usize, const FULL: bool>(
    s: S,
    row: &[f32],
    vectors: &mut [S::F32; VECTORS],
) {
    for (v, vector) in vectors.iter_mut().enumerate() {
        let at = v * S::LANES;
        if FULL {
            *vector = s.load(&row[at..]);
        } else if at < row.len() {
            *vector = s.load_partial(&row[at..]);
        }
    }
}

/// Stores the lanes that `row` has room for.
#[inline(always)]
pub(crate) fn store_row<S: Simd, const VECTORS: usize, const FULL: bool>(
    s: S,
    vectors: &[S::F32; VECTORS],
    row: &mut [f32],
) {
    for (v, &vector) in vectors.iter().enumerate() {
        let at = v * S::LANES;
        if FULL {
            s.store(vector, &mut row[at..]);
        } else if at < row.len() {
            s.store_partial(vector, &mut row[at..]);
        }
    }
}

/// Copies a row into one that may be longer, and clears the rest.
#[inline(always)]
pub(super) fn copy_padded<S: Simd>(s: S, from: &[f32], to: &mut [f32]) {
    let (to, rest) = to.split_at_mut(from.len());
    let whole = from.len() / S::LANES * S::LANES;
    for (to, from) in to.chunks_exact_mut(S::LANES).zip(from.chunks_exact(S::LANES)) {
        s.store(s.load(from), to);
    }
    if whole < from.len() {
        s.store_partial(s.load_partial(&from[whole..]), &mut to[whole..]);
    }
    rest.fill(0.0);
}
