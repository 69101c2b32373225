//! Meet in the middle over two sorted lists (Horowitz and Sahni 1974), for one large instance; ε ≥ 0.
//!
//! With l(S) = Σ_S (x − ε) and u(S) = Σ_S (x + ε) the residual of S is max(0, l(S) − z, z − u(S)). Both
//! halves' subsets are sorted by l. For a subset B of the high half, the subsets A of the low half with l(A)
//! ≤ z − l(B) leave max(0, z − u(B) − u(A)): only the largest u among them matters, a running maximum. The
//! others leave l(A) + l(B) − z: only the first of them matters. As l(B) falls the border between the two
//! moves up the list once. No size classes, and ε = 0 is no special case.
//!
//! A list entry is l · 2²⁴ + subset in one `i64`: merging a list with itself plus a candidate adds one
//! constant, and equal sums come in subset order. Time O(2^(n/2)); memory three lists (one for merging) of 8
//! bytes · 2^⌈n/2⌉: 400 MB at n = 48.

use super::brute_force::Best;

/// A half has at most this many candidates.
const INDEX_BITS: usize = 24;
const INDEX: i64 = (1 << INDEX_BITS) - 1;

/// Clock cycles of making the lists of n candidates and of a search.
pub(super) fn cycles(n: usize) -> usize {
    48 << n.div_ceil(2)
}

/// Clock cycles of a search alone.
pub(super) fn walk_cycles(n: usize) -> usize {
    16 << n.div_ceil(2)
}

/// Both halves' subsets, sorted; serves any number of targets.
pub(super) struct TwoPointer {
    low_candidates: Vec<i64>,
    epsilon: i64,
    low: Vec<i64>,
    high: Vec<i64>,
}

impl TwoPointer {
    pub(super) fn new(candidates: &[i64], epsilon: i64) -> Self {
        let (low, high) = candidates.split_at(candidates.len().div_ceil(2));
        let mut spare = Vec::new();
        Self {
            low_candidates: low.to_vec(),
            epsilon,
            low: sorted(low, epsilon, &mut spare),
            high: sorted(high, epsilon, &mut spare),
        }
    }

    /// The least (residual, subset).
    pub(super) fn nearest(&self, target: i64) -> Best {
        let upper = |entry: i64| (entry >> INDEX_BITS) + self.width(entry & INDEX);
        let mut border = 0;
        let mut farthest = i64::MIN / 4;
        let mut best = (i64::MAX, 0, 0);
        for &high in self.high.iter().rev() {
            let rest = target - (high >> INDEX_BITS);
            let limit = rest << INDEX_BITS | INDEX;
            while border < self.low.len() && self.low[border] <= limit {
                farthest = farthest.max(upper(self.low[border]));
                border += 1;
            }
            let below = (rest - self.width(high & INDEX) - farthest).max(0);
            let above = self.low.get(border).map_or(i64::MAX, |&low| (low >> INDEX_BITS) - rest);
            let residual = below.min(above);
            if (residual, high & INDEX) < (best.0, best.1) {
                best = (residual, high & INDEX, rest);
            }
        }
        let (residual, high, rest) = best;
        (residual, (high as u64) << self.low_candidates.len() | self.recover(residual, high, rest))
    }

    /// The first subset of the low half that leaves `residual` beside the high half's subset `high`.
    fn recover(&self, residual: i64, high: i64, rest: i64) -> u64 {
        // Subset order, each sum from the one before: bit j comes in, the bits below go.
        let mut steps = [0; INDEX_BITS];
        let mut before = 0;
        for (step, &x) in steps.iter_mut().zip(&self.low_candidates) {
            *step = x - self.epsilon - before;
            before += x - self.epsilon;
        }
        let rest_upper = rest - self.width(high);
        let (mut subset, mut lower) = (0_i64, 0);
        while (lower - rest).max(rest_upper - lower - self.width(subset)).max(0) != residual {
            subset += 1;
            lower += steps[subset.trailing_zeros() as usize];
        }
        subset as u64
    }

    /// u − l of a subset: 2 ε · size.
    fn width(&self, subset: i64) -> i64 {
        2 * self.epsilon * i64::from(subset.count_ones())
    }
}

/// The entries of all subsets, ascending.
fn sorted(candidates: &[i64], epsilon: i64, spare: &mut Vec<i64>) -> Vec<i64> {
    let mut list = Vec::with_capacity(1 << candidates.len());
    spare.clear();
    spare.reserve_exact(1 << candidates.len());
    list.push(0);
    for (j, &x) in candidates.iter().enumerate() {
        merge(&list, ((x - epsilon) << INDEX_BITS) + (1 << j), spare);
        core::mem::swap(&mut list, spare);
    }
    list
}

/// Merges a sorted list with itself plus a constant.
fn merge(list: &[i64], plus: i64, merged: &mut Vec<i64>) {
    merged.clear();
    let (mut i, mut j) = (0, 0);
    while i < list.len() && j < list.len() {
        let (a, b) = (list[i], list[j] + plus);
        let first = a <= b;
        merged.push(if first { a } else { b });
        i += usize::from(first);
        j += usize::from(!first);
    }
    merged.extend_from_slice(&list[i..]);
    merged.extend(list[j..].iter().map(|x| x + plus));
}
