//! Short rows of results between registers and memory.

use crate::simd::Simd;

/// Loads a row; lanes past its end are 0.
#[inline(always)]
pub(crate) fn load_row<S: Simd, const VECTORS: usize, const FULL: bool>(
    s: S,
    row: &[f32],
    vectors: &mut [S::F32; VECTORS],
) {
    if FULL {
        for (v, vector) in vectors.iter_mut().enumerate() {
            *vector = s.load(&row[v * S::LANES..]);
        }
    } else {
        for (vector, part) in vectors.iter_mut().zip(row.chunks(S::LANES)) {
            *vector = s.load_partial(part);
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
    if FULL {
        for (v, &vector) in vectors.iter().enumerate() {
            s.store(vector, &mut row[v * S::LANES..]);
        }
    } else {
        for (&vector, part) in vectors.iter().zip(row.chunks_mut(S::LANES)) {
            s.store_partial(vector, part);
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
    s.store_partial(s.load_partial(&from[whole..]), &mut to[whole..]);
    rest.fill(0.0);
}
