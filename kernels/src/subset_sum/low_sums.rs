//! The sums of all subsets of the first [`LOW_BITS`] candidates, in L1, and their allowances ε · size.
//!
//! If sizes are restricted, subsets are stored in groups of equal size, so that the allowed ones for a choice of the other
//! candidates are one range. Copies of its last subset fill a group up to full vectors.

use core::ops::Range;

use super::subset::Sizes;

/// The low sums fill 4 KiB, the allowances another 4.
pub(super) const LOW_BITS: usize = 10;

/// Most lanes of a vector.
const MAX_LANES: usize = 32;

/// All subsets of [`LOW_BITS`] candidates by (size, subset), and where each size begins.
const BY_SIZE: ([u16; 1 << LOW_BITS], [usize; LOW_BITS + 2]) = {
    let (mut order, mut starts) = ([0; 1 << LOW_BITS], [0; LOW_BITS + 2]);
    let (mut at, mut size) = (0, 0);
    while size <= LOW_BITS {
        let mut subset = 0_u16;
        while subset < 1 << LOW_BITS {
            if subset.count_ones() as usize == size {
                order[at] = subset;
                at += 1;
            }
            subset += 1;
        }
        size += 1;
        starts[size] = at;
    }
    (order, starts)
};

/// The subsets of `bits` ≤ [`LOW_BITS`] candidates that have `size` of them, ascending.
#[inline(always)]
pub(super) fn of_size(size: usize, bits: usize) -> &'static [u16] {
    static TABLE: ([u16; 1 << LOW_BITS], [usize; LOW_BITS + 2]) = BY_SIZE;
    let (order, starts) = &TABLE;
    let all = &order[starts[size]..starts[size + 1]];
    // Those without the other candidates come first.
    if bits == LOW_BITS { all } else { &all[..all.partition_point(|&subset| subset >> bits == 0)] }
}

/// Sums and allowances, one of each per subset; see the module.
pub(super) struct LowSums {
    sizes: Sizes,
    sums: [i32; Self::LEN],
    allowances: [i32; Self::LEN],
    /// Where each group begins, and where the last one ends.
    starts: [usize; LOW_BITS + 2],
}

impl LowSums {
    /// Maximum number of subsets, with the copies that fill vectors.
    pub(super) const LEN: usize = (1 << LOW_BITS) + (LOW_BITS + 1) * MAX_LANES;

    /// For at most [`LOW_BITS`] candidates. The allowance of a subset is ε · size, at most `most`.
    #[inline(always)]
    pub(super) fn new(candidates: &[i64], epsilon: i32, most: i32, sizes: Sizes, lanes: usize) -> Self {
        let mut low =
            Self { sizes, sums: [0; Self::LEN], allowances: [0; Self::LEN], starts: [0; LOW_BITS + 2] };
        let narrow = candidates.iter().map(|&x| x as i32);
        if sizes == Sizes::Any {
            let len = fill_sums(narrow, &mut low.sums);
            if epsilon > 0 {
                fill_allowances(candidates.len(), epsilon, most, &mut low.allowances);
            }
            low.starts[1] = low.fill_up(len, lanes);
            return low;
        }
        let mut sums = [0; 1 << LOW_BITS];
        fill_sums(narrow, &mut sums);
        let mut at = 0;
        for size in 0..=candidates.len() {
            let subsets = of_size(size, candidates.len());
            for (sum, &subset) in low.sums[at..].iter_mut().zip(subsets) {
                *sum = sums[usize::from(subset) % sums.len()];
            }
            let allowance = (size as i64 * i64::from(epsilon)).min(i64::from(most)) as i32;
            low.allowances[at..at + subsets.len()].fill(allowance);
            at = low.fill_up(at + subsets.len(), lanes);
            low.starts[size + 1] = at;
        }
        low
    }

    /// Fills the last vector before `end` up with copies of the last subset: they come after it, so it is found first.
    #[inline(always)]
    fn fill_up(&mut self, end: usize, lanes: usize) -> usize {
        let padded = end.next_multiple_of(lanes);
        for i in end..padded {
            self.sums[i] = self.sums[end - 1];
            self.allowances[i] = self.allowances[end - 1];
        }
        padded
    }

    /// The sums by subset, without the copies; reordered in `spare` if they are stored in another order.
    #[inline(always)]
    pub(super) fn in_order<'a>(
        &'a self,
        candidates: &[i64],
        spare: &'a mut [i32; 1 << LOW_BITS],
    ) -> &'a [i32] {
        let len = 1 << candidates.len();
        if self.sizes == Sizes::Any {
            return &self.sums[..len];
        }
        fill_sums(candidates.iter().map(|&x| x as i32), spare);
        &spare[..len]
    }

    /// The least sum less its allowance and the largest with it.
    #[inline(always)]
    pub(super) fn ends(&self) -> [i32; 2] {
        let pairs = || self.sums.iter().zip(&self.allowances);
        let least = pairs().map(|(sum, allowance)| sum - allowance).min().unwrap_or(0);
        let largest = pairs().map(|(sum, allowance)| sum + allowance).max().unwrap_or(0);
        [least, largest]
    }

    /// Sums and allowances of the groups of these sizes, in full vectors; of all subsets if sizes are not restricted.
    #[inline(always)]
    pub(super) fn of(&self, groups: Range<usize>) -> (&[i32], &[i32]) {
        let range = self.starts[groups.start]..self.starts[groups.end];
        (&self.sums[range.clone()], &self.allowances[range])
    }
}

impl Sizes {
    /// The groups of [`LowSums`] of `low` candidates that are allowed when `others` more are chosen; empty if there are none.
    #[inline(always)]
    pub(super) fn groups_beside(self, others: usize, low: usize) -> Range<usize> {
        match self {
            Self::Any => 0..1,
            Self::AtMost(most) if others <= most => 0..(most - others).min(low) + 1,
            Self::Exactly(size) if others <= size && size - others <= low => size - others..size - others + 1,
            _ => 0..0,
        }
    }
}

/// Writes the sums of all subsets, subset `i` at index i, and returns how many.
#[inline(always)]
pub(super) fn fill_sums(candidates: impl Iterator<Item = i32>, sums: &mut [i32]) -> usize {
    sums[0] = 0;
    let mut len = 1;
    for x in candidates {
        let (done, next) = sums.split_at_mut(len);
        for (next, &sum) in next.iter_mut().zip(&*done) {
            *next = sum + x;
        }
        len *= 2;
    }
    len
}

/// Writes ε · size, at most `most`, for all subsets of `count` candidates. `most` + ε must fit.
#[inline(always)]
fn fill_allowances(count: usize, epsilon: i32, most: i32, allowances: &mut [i32]) {
    allowances[0] = 0;
    for j in 0..count {
        let (done, next) = allowances.split_at_mut(1 << j);
        for (next, &allowance) in next.iter_mut().zip(&*done) {
            *next = (allowance + epsilon).min(most);
        }
    }
}
