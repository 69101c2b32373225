//! Meet in the middle over two sorted lists (Horowitz and Sahni 1974), for one large instance; ε ≥ 0.
//!
//! With l(S) = Σ_S (x − ε) and u(S) = Σ_S (x + ε) the residual of S is max(0, l(S) − z, z − u(S)). Both halves' subsets are
//! sorted by l. Take a subset B of the high half. With the subsets A of the low half that have l(A) ≤ z − l(B) the residual is
//! max(0, z − u(B) − u(A)): only the largest u among them matters, a running maximum. With the others it is l(A) + l(B) − z: only
//! the first of them matters. As l(B) falls, the border between the two moves up the list once. ε = 0 is no special case. If
//! sizes are restricted, each half has a list for every size, and the pointers pass through each pair of lists whose total size
//! is allowed.
//!
//! A list entry is l · 2²⁴ + subset in one `i64`: merging a list with itself plus a candidate adds one
//! constant, and equal sums come in subset order. Time O(2^(n/2)); memory three lists (one for merging) of 8
//! bytes · 2^⌈n/2⌉: 400 MB at n = 48.

use super::brute_force::Best;
use super::subset::Sizes;

/// A half has at most this many candidates.
const INDEX_BITS: usize = 24;
const INDEX: i64 = (1 << INDEX_BITS) - 1;

/// Clock cycles of making the lists of n candidates and of a search.
pub(super) fn cycles(n: usize, sizes: Sizes) -> usize {
    32 * entries(n, sizes) + walk_cycles(n, sizes)
}

/// Clock cycles of a search alone.
pub(super) fn walk_cycles(n: usize, sizes: Sizes) -> usize {
    let walks = match sizes {
        Sizes::AtMost(most) => most.min(n / 2) + 1,
        _ => 1,
    };
    16 * entries(n, sizes) * walks
}

/// Entries of the lists of the low half.
fn entries(n: usize, sizes: Sizes) -> usize {
    sizes.most().map_or(Sizes::Any, Sizes::AtMost).subsets(n.div_ceil(2)) as usize
}

/// Both halves' subsets, sorted; used for any number of targets.
pub(super) struct TwoPointer {
    low_candidates: Vec<i64>,
    epsilon: i64,
    sizes: Sizes,
    /// A list for each size, or one for all.
    low: Vec<Vec<i64>>,
    high: Vec<Vec<i64>>,
}

impl TwoPointer {
    pub(super) fn new(candidates: &[i64], epsilon: i64, sizes: Sizes) -> Self {
        let (low, high) = candidates.split_at(candidates.len().div_ceil(2));
        Self {
            low_candidates: low.to_vec(),
            epsilon,
            sizes,
            low: sorted(low, epsilon, sizes),
            high: sorted(high, epsilon, sizes),
        }
    }

    /// The least (residual, subset).
    pub(super) fn nearest(&self, target: i64) -> Best {
        let mut best = Pair { residual: i64::MAX, high: 0, rest: 0 };
        for (size, high) in self.high.iter().enumerate() {
            let groups = self.sizes.groups_beside(size, self.low_candidates.len());
            for low in &self.low[groups] {
                self.walk(low, high, target, &mut best);
            }
        }
        let Pair { residual, high, rest } = best;
        (residual, (high as u64) << self.low_candidates.len() | self.recover(residual, high, rest))
    }

    /// Improves `best` by all pairs of an entry of one list and one of the other.
    fn walk(&self, low: &[i64], high: &[i64], target: i64, best: &mut Pair) {
        let upper = |entry: i64| (entry >> INDEX_BITS) + self.width(entry & INDEX);
        let mut border = 0;
        let mut farthest = i64::MIN / 4;
        for &high in high.iter().rev() {
            let rest = target - (high >> INDEX_BITS);
            let limit = rest << INDEX_BITS | INDEX;
            while border < low.len() && low[border] <= limit {
                farthest = farthest.max(upper(low[border]));
                border += 1;
            }
            let below = (rest - self.width(high & INDEX) - farthest).max(0);
            let above = low.get(border).map_or(i64::MAX, |&low| (low >> INDEX_BITS) - rest);
            let residual = below.min(above);
            if (residual, high & INDEX) < (best.residual, best.high) {
                *best = Pair { residual, high: high & INDEX, rest };
            }
        }
    }

    /// The first subset of the low half that gives `residual` together with the high half's subset `high`.
    fn recover(&self, residual: i64, high: i64, rest: i64) -> u64 {
        // In subset order each sum follows from the one before: bit j is set, the bits below are cleared.
        let mut steps = [0; INDEX_BITS];
        let mut before = 0;
        for (step, &x) in steps.iter_mut().zip(&self.low_candidates) {
            *step = x - self.epsilon - before;
            before += x - self.epsilon;
        }
        let rest_upper = rest - self.width(high);
        let (mut subset, mut lower) = (0_i64, 0);
        let allows = |subset: i64| self.sizes.allows((high.count_ones() + subset.count_ones()) as usize);
        while (lower - rest).max(rest_upper - lower - self.width(subset)).max(0) != residual
            || !allows(subset)
        {
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

/// The best pair so far: its residual, the high half's subset B, and z − l(B).
struct Pair {
    residual: i64,
    high: i64,
    rest: i64,
}

/// The entries of all subsets, ascending; if sizes are restricted, a list for each size that can be allowed.
fn sorted(candidates: &[i64], epsilon: i64, sizes: Sizes) -> Vec<Vec<i64>> {
    let mut lists = vec![vec![0]];
    let mut merged = Vec::new();
    for (j, &x) in candidates.iter().enumerate() {
        let plus = ((x - epsilon) << INDEX_BITS) + (1 << j);
        if sizes == Sizes::Any {
            merge(&lists[0], &lists[0], plus, &mut merged);
            core::mem::swap(&mut lists[0], &mut merged);
            continue;
        }
        // One more size, if it is allowed.
        if sizes.most().is_none_or(|most| lists.len() <= most) {
            lists.push(Vec::new());
        }
        for size in (1..lists.len()).rev() {
            merge(&lists[size], &lists[size - 1], plus, &mut merged);
            core::mem::swap(&mut lists[size], &mut merged);
        }
    }
    lists
}

/// Merges a sorted list with another plus a constant.
fn merge(list: &[i64], other: &[i64], plus: i64, merged: &mut Vec<i64>) {
    merged.clear();
    merged.reserve_exact(list.len() + other.len());
    let (mut i, mut j) = (0, 0);
    while i < list.len() && j < other.len() {
        let (a, b) = (list[i], other[j] + plus);
        let first = a <= b;
        merged.push(if first { a } else { b });
        i += usize::from(first);
        j += usize::from(!first);
    }
    merged.extend_from_slice(&list[i..]);
    merged.extend(other[j..].iter().map(|x| x + plus));
}
