//! All sums, or those of the allowed sizes: lanes run over subsets of the first candidates.
//!
//! The sums of the first [`LOW_BITS`] candidates lie in L1; a *row* is one choice of the others, a constant added to all of them.
//! Per sum: an addition, an absolute value, a minimum (ε > 0: one subtraction more). Four rows share each load of low sums: four
//! successive ones, or four of one size if sizes are restricted, which use the same low sums. The first row with the least
//! residual wins; a second pass over this row finds the subset. A residual of 0 ends the search.

use core::ops::Range;

use super::low_sums::{LOW_BITS, LowSums, fill_sums, of_size};
use super::subset::Sizes;
use crate::simd::{Kernel, Simd, array_of};

/// Rows in flight, which share each load of low sums.
const ROWS: usize = 4;

/// Allowances are limited to this, which exceeds every distance: the sum of two fits an `i32` for every ε.
const MOST: i32 = (1 << 30) - 1;

/// The least (residual, subset) over the subsets whose high part (from candidate [`LOW_BITS`] on) lies in
/// `rows`.
pub(super) struct BruteForce<'a> {
    pub(super) candidates: &'a [i64],
    pub(super) epsilon: i64,
    pub(super) target: i64,
    pub(super) sizes: Sizes,
    pub(super) rows: Range<u64>,
}

/// How many rows n candidates have.
pub(super) fn rows(n: usize) -> u64 {
    1 << n.saturating_sub(LOW_BITS)
}

/// Clock cycles of a search through this many sums in this many rows.
pub(super) fn cycles(sums: usize, rows: u64) -> usize {
    sums / 8 + rows as usize / 4 + 500
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
        let epsilon = if PERTURBED { self.epsilon.min(i64::from(MOST)) as i32 } else { 0 };
        let low = LowSums::new(first, epsilon, MOST, self.sizes, S::LANES);

        let first_row = Row::new(others, self.rows.start, -self.target);
        let mut best = Least { residual: i32::MAX, row: first_row };
        if self.sizes == Sizes::Any {
            self.rows_in_order::<S, PERTURBED>(s, others, first_row, &low, &mut best);
        } else {
            self.rows_by_size::<S, PERTURBED>(s, [first, others], first_row, &low, &mut best);
        }

        let chosen = best.row.size();
        let mut in_order = [0; 1 << LOW_BITS];
        let sums = low.in_order(first, &mut in_order);
        let residual = |subset: usize| {
            let size = chosen + i64::from(subset.count_ones());
            let distance = i64::from((sums[subset] + best.row.offset).abs());
            (distance - self.epsilon * size).max(0)
        };
        let is_best = |&subset: &usize| {
            let size = chosen as usize + subset.count_ones() as usize;
            self.sizes.allows(size) && residual(subset) == i64::from(best.residual)
        };
        let within = (0..sums.len()).find(is_best).unwrap_or(0);
        (i64::from(best.residual), best.row.index << first.len() | within as u64)
    }

    /// Four successive rows share each load of low sums.
    #[inline(always)]
    fn rows_in_order<S: Simd, const PERTURBED: bool>(
        &self,
        s: S,
        others: &[i64],
        mut row: Row,
        low: &LowSums,
        best: &mut Least,
    ) {
        let steps = row_steps(others);
        loop {
            // The last row is repeated where fewer than ROWS are left: a repetition is never better.
            let mut batch = [row; ROWS];
            for slot in &mut batch[1..] {
                row = if row.index + 1 < self.rows.end { row.next(&steps) } else { row };
                *slot = row;
            }
            self.look::<S, PERTURBED>(s, batch, low.of(0..1), best);
            if best.residual == 0 || row.index + 1 == self.rows.end {
                break;
            }
            row = row.next(&steps);
        }
    }

    /// Four rows of one size share each load of the low sums for this size: for each choice of the last candidates, the rows that
    /// differ in the [`LOW_BITS`] candidates between.
    #[inline(always)]
    fn rows_by_size<S: Simd, const PERTURBED: bool>(
        &self,
        s: S,
        [first, others]: [&[i64]; 2],
        first_row: Row,
        low: &LowSums,
        best: &mut Least,
    ) {
        let (middle, last) = others.split_at(others.len().min(LOW_BITS));
        let mut sums = [0; 1 << LOW_BITS];
        fill_sums(middle.iter().map(|&x| x as i32), &mut sums);
        let steps = row_steps(last);
        let mut block = Row { index: first_row.index >> middle.len(), ..first_row };
        loop {
            for size in 0..=middle.len() {
                let groups = self.sizes.groups_beside(block.size() as usize + size, first.len());
                if groups.is_empty() {
                    continue;
                }
                for subsets in of_size(size, middle.len()).chunks(ROWS) {
                    // The last one is repeated.
                    let row = |i: usize| {
                        let subset = subsets[i.min(subsets.len() - 1)];
                        let offset = block.offset + sums[usize::from(subset) % sums.len()];
                        Row { index: block.index << middle.len() | u64::from(subset), offset }
                    };
                    let batch = [row(0), row(1), row(2), row(3)];
                    if best.residual == 0 && best.row.index < batch[0].index {
                        break;
                    }
                    self.look::<S, PERTURBED>(s, batch, low.of(groups.clone()), best);
                }
            }
            block = if best.residual == 0 || (block.index + 1) << middle.len() >= self.rows.end {
                break;
            } else {
                block.next(&steps)
            };
        }
    }

    /// Improves `best` by some rows, of ascending index.
    #[inline(always)]
    fn look<S: Simd, const PERTURBED: bool>(
        &self,
        s: S,
        rows: [Row; ROWS],
        (low, allowances): (&[i32], &[i32]),
        best: &mut Least,
    ) {
        let allowance = |row: Row| {
            if PERTURBED { (self.epsilon * row.size()).min(i64::from(MOST)) as i32 } else { 0 }
        };
        let found = row_minima::<S, PERTURBED>(s, low, allowances, array_of(0, |r| rows[r].offset));
        let least = s.min_i32(s.min_i32(found[0], found[1]), s.min_i32(found[2], found[3]));
        let most = rows.iter().fold(0, |most, &row| most.max(allowance(row)));
        // Rows of all sizes ascend, and a tie never wins. With restricted sizes a later row may be a lesser subset, so ties count.
        let ties = i32::from(self.sizes != Sizes::Any);
        let bound = best.residual.saturating_add(most).saturating_add(ties);
        if s.mask_bits(s.gt_i32(s.splat_i32(bound), least)) == 0 {
            return;
        }
        for (least, row) in found.into_iter().zip(rows) {
            let lanes = bytemuck::cast_slice::<S::I32, i32>(core::slice::from_ref(&least));
            let least = lanes.iter().fold(i32::MAX, |m, &x| m.min(x));
            let residual = (least - allowance(row)).max(0);
            if (residual, row.index) < (best.residual, best.row.index) {
                *best = Least { residual, row };
            }
        }
    }
}

/// The least residual so far, and the first row that holds it.
struct Least {
    residual: i32,
    row: Row,
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

    /// Number of candidates chosen.
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
