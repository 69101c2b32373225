//! All 2ⁿ sums: the lanes run over subsets of the first candidates.
//!
//! The sums of the first [`LOW_BITS`] candidates lie in L1; a *row* is one choice of the others, a constant
//! added to all of them. Per sum: an addition, an absolute value, a minimum (ε > 0: one subtraction more).
//! Rows are taken in ascending order and only a strictly better one replaces the best, so the first row to
//! hold the least residual wins; the subset inside that row is found by a second look at it alone. A residual
//! of 0 ends the search.

use core::ops::Range;

use crate::simd::{Kernel, Simd};

/// The low sums fill 4 KiB, the allowances another 4.
pub(super) const LOW_BITS: usize = 10;

/// Rows in flight: one load of low sums serves them all.
const ROWS: usize = 4;

/// Allowances are cut off here, beyond every distance: two of them fit an `i32`, whatever ε is.
const MOST: i32 = (1 << 30) - 1;

/// The least (residual, subset) over the subsets whose high part (from candidate [`LOW_BITS`] on) lies in
/// `rows`.
pub(super) struct BruteForce<'a> {
    pub(super) candidates: &'a [i64],
    pub(super) epsilon: i64,
    pub(super) target: i64,
    pub(super) rows: Range<u64>,
}

/// How many rows n candidates have.
pub(super) fn rows(n: usize) -> u64 {
    1 << n.saturating_sub(LOW_BITS)
}

/// Clock cycles that a search takes through so many sums.
pub(super) fn cycles(sums: usize) -> usize {
    sums / 8 + 500
}

/// A residual in fixed point and the subset it belongs to; ordered by residual, then subset.
pub(super) type Best = (i64, u64);

impl Kernel for BruteForce<'_> {
    type Out = Best;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Best {
        if self.epsilon == 0 { self.search::<S, false>(s) } else { self.search::<S, true>(s) }
    }
}

impl BruteForce<'_> {
    #[inline(always)]
    fn search<S: Simd, const PERTURBED: bool>(&self, s: S) -> Best {
        let (first, others) = self.candidates.split_at(self.candidates.len().min(LOW_BITS));
        let mut low = [0; (1 << LOW_BITS) + 32];
        let mut allowance = [0; (1 << LOW_BITS) + 32];
        let len = fill_sums(first.iter().map(|&x| x as i32), &mut low);
        if PERTURBED {
            fill_allowances(first.len(), self.epsilon as i32, &mut allowance);
        }
        // The last vector is filled up with copies of the last sum: they come after it, so it is found first.
        let padded = len.next_multiple_of(S::LANES);
        for i in len..padded {
            low[i] = low[len - 1];
            allowance[i] = allowance[len - 1];
        }
        let (low, allowance) = (&low[..padded], &allowance[..padded]);

        let row_allowance = |row: Row| {
            let most = i64::from(MOST);
            if PERTURBED { (self.epsilon * row.size()).min(most) as i32 } else { 0 }
        };
        let steps = row_steps(others);
        let mut row = Row::new(others, self.rows.start, -self.target);
        let mut best = i32::MAX;
        let mut best_row = row;
        loop {
            // The last row is repeated where fewer than ROWS are left: a repetition is never strictly better.
            let mut batch = [row; ROWS];
            for slot in &mut batch[1..] {
                row = if row.index + 1 < self.rows.end { row.next(&steps) } else { row };
                *slot = row;
            }
            let least = row_minima::<S, PERTURBED>(s, low, allowance, batch.map(|row| row.offset));
            for (least, &row) in least.into_iter().zip(&batch) {
                let row_allowance = row_allowance(row);
                let bound = s.splat_i32(best.saturating_add(row_allowance));
                if s.mask_bits(s.gt_i32(bound, least)) != 0 {
                    let lanes = bytemuck::cast_slice::<S::I32, i32>(core::slice::from_ref(&least));
                    let least = lanes.iter().fold(i32::MAX, |m, &x| m.min(x));
                    best = (least - row_allowance).max(0);
                    best_row = row;
                    if best == 0 {
                        break;
                    }
                }
            }
            if best == 0 || row.index + 1 == self.rows.end {
                break;
            }
            row = row.next(&steps);
        }
        let row_allowance = row_allowance(best_row);
        let residual = |i: usize| ((low[i] + best_row.offset).abs() - allowance[i] - row_allowance).max(0);
        let within = (0..len).find(|&i| residual(i) == best).unwrap_or(0);
        (i64::from(best), best_row.index << first.len() | within as u64)
    }
}

/// Lane-wise minima of |low + offset| − allowance for each offset.
#[inline(always)]
fn row_minima<S: Simd, const PERTURBED: bool>(
    s: S,
    low: &[i32],
    allowance: &[i32],
    offsets: [i32; ROWS],
) -> [S::I32; ROWS] {
    let mut least = [s.splat_i32(i32::MAX); ROWS];
    let mut splats = [s.splat_i32(0); ROWS];
    for r in 0..ROWS {
        splats[r] = s.splat_i32(offsets[r]);
    }
    for (low, allowance) in low.chunks_exact(S::LANES).zip(allowance.chunks_exact(S::LANES)) {
        let low = s.load_i32(low);
        for r in 0..ROWS {
            let mut distance = s.abs_i32(s.add_i32(low, splats[r]));
            if PERTURBED {
                distance = s.sub_i32(distance, s.load_i32(allowance));
            }
            least[r] = s.min_i32(least[r], distance);
        }
    }
    least
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

/// Writes ε · size, at most [`MOST`], for all subsets of `count` candidates.
#[inline(always)]
fn fill_allowances(count: usize, epsilon: i32, allowances: &mut [i32]) {
    allowances[0] = 0;
    for j in 0..count {
        let (done, next) = allowances.split_at_mut(1 << j);
        for (next, &allowance) in next.iter_mut().zip(&*done) {
            *next = (allowance + epsilon.min(MOST)).min(MOST);
        }
    }
}

/// A subset of some candidates and its sum plus a constant.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) index: u64,
    pub(super) offset: i32,
}

/// What setting candidate j and clearing all before it adds to the sum: x_j − Σ_{i<j} x_i.
pub(super) fn row_steps(candidates: &[i64]) -> Vec<i32> {
    let mut before = 0;
    let step = |&x: &i64| {
        let step = (x - before) as i32;
        before += x;
        step
    };
    candidates.iter().map(step).collect()
}

impl Row {
    pub(super) fn new(candidates: &[i64], index: u64, offset: i64) -> Self {
        let chosen = candidates.iter().enumerate().filter(|&(j, _)| index >> j & 1 != 0).map(|(_, x)| x);
        Self { index, offset: (offset + chosen.sum::<i64>()) as i32 }
    }

    /// How many candidates it has chosen.
    #[inline(always)]
    pub(super) fn size(self) -> i64 {
        i64::from(self.index.count_ones())
    }

    /// The next subset, which must exist.
    #[inline(always)]
    pub(super) fn next(self, steps: &[i32]) -> Self {
        let index = self.index + 1;
        Self { index, offset: self.offset + steps[index.trailing_zeros() as usize] }
    }
}
