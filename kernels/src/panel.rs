//! Copies between the caller's matrices and the panels of products: rows of a few vectors, padded with zeros.
//!
//! A matrix with contiguous columns is transposed tile by tile in registers.

use crate::arch::rows::{Rows, RowsMut};
use crate::simd::{Kernel, Simd};
use crate::view::{MatMut, MatRef};

/// Elements of a cache line.
const LINE: usize = 16;

/// Rows of a matrix that are read at once: no more than the TLB holds pages, in full tiles of 4, 8 and 16.
const PAGES: usize = 240;

/// Loads a row; lanes past its end are 0. `FULL` when there are none.
///
/// The vectors are indexed by constants only: if an index depends on the row's length, the compiler keeps all of them in memory,
/// even in inner loops.
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
pub(crate) fn copy_padded<S: Simd>(s: S, from: &[f32], to: &mut [f32]) {
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

/// A block of a matrix: where it begins, and how large it is.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    pub(crate) row: usize,
    pub(crate) rows: usize,
    pub(crate) col: usize,
    pub(crate) cols: usize,
}

/// `panel[r * width + c] = from[row + r, col + c]`, and 0 in the columns up to `width`.
#[inline(always)]
pub(crate) fn pack<S: Simd>(s: S, from: MatRef<'_>, block: Block, panel: &mut [f32], width: usize) {
    let Block { row, rows, col, cols } = block;
    if width == 1 && from.row_stride() == 1 {
        return panel[..rows].copy_from_slice(from.t().run(col, row, rows));
    }
    let lines = panel.chunks_exact_mut(width).take(rows);
    if from.has_runs() {
        for (r, line) in lines.enumerate() {
            copy_padded(s, from.run(row + r, col, cols), line);
        }
    } else if from.row_stride() == 1 {
        s.outlined(PackAcross { from: from.t(), block, panel, width });
    } else {
        for (r, line) in lines.enumerate() {
            let (line, rest) = line.split_at_mut(cols);
            line.iter_mut().enumerate().for_each(|(c, x)| *x = from.get(row + r, col + c));
            rest.fill(0.0);
        }
    }
}

/// `to[row + r, col + c] = panel[r * width + c]`.
#[inline(always)]
pub(crate) fn unpack<S: Simd>(s: S, panel: &[f32], width: usize, to: &mut MatMut<'_>, block: Block) {
    let Block { row, rows, col, cols } = block;
    if width == 1 && to.row_stride() == 1 {
        return to.reborrow().t().run(col, row, rows).copy_from_slice(&panel[..rows]);
    }
    if !to.has_runs() && to.row_stride() == 1 {
        return s.outlined(UnpackAcross { panel, width, to: to.reborrow().t(), block });
    }
    for (r, line) in panel.chunks_exact(width).take(rows).enumerate() {
        let line = &line[..cols];
        if to.has_runs() {
            to.run(row + r, col, cols).copy_from_slice(line);
        } else {
            line.iter().enumerate().for_each(|(c, &x)| to.set(row + r, col + c, x));
        }
    }
}

/// [`pack`] from the transpose of the matrix, whose rows are contiguous.
struct PackAcross<'a> {
    from: MatRef<'a>,
    block: Block,
    panel: &'a mut [f32],
    width: usize,
}

impl Kernel for PackAcross<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { from, block: Block { row, rows, col, cols }, panel, width } = self;
        let side = S::TRANSPOSE;
        let whole = (rows / side * side, cols / side * side);
        // Full cache lines of the matrix, from at most as many rows as the TLB holds pages: each row can be on another page. Rounded to
        // whole tiles, which have other sides on the test backends.
        let [line, pages] = [LINE, PAGES].map(|most| (most / side).max(1) * side);
        for begin in (0..whole.1).step_by(pages) {
            for first in (0..whole.0).step_by(line) {
                for c in (begin..whole.1.min(begin + pages)).step_by(side) {
                    for r in (first..whole.0.min(first + line)).step_by(side) {
                        let to = RowsMut::of(&mut panel[r * width + c..], width, side, side);
                        s.transpose(from.block(col + c, row + r, side, side), to);
                    }
                }
            }
        }
        for c in 0..cols {
            let first = if c < whole.1 { whole.0 } else { 0 };
            let lines = panel[first * width..].chunks_exact_mut(width);
            for (line, &x) in lines.zip(from.run(col + c, row + first, rows - first)) {
                line[c] = x;
            }
        }
        if cols < width {
            panel.chunks_exact_mut(width).take(rows).for_each(|line| line[cols..].fill(0.0));
        }
    }
}

/// [`unpack`] to the transpose of the matrix, whose rows are contiguous.
struct UnpackAcross<'a> {
    panel: &'a [f32],
    width: usize,
    to: MatMut<'a>,
    block: Block,
}

impl Kernel for UnpackAcross<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { panel, width, mut to, block: Block { row, rows, col, cols } } = self;
        let side = S::TRANSPOSE;
        let whole = (rows / side * side, cols / side * side);
        // Along the rows, so that each column of the matrix is written as a stream.
        for c in (0..whole.1).step_by(side) {
            for r in (0..whole.0).step_by(side) {
                let from = Rows::of(&panel[r * width + c..], width, side, side);
                s.transpose(from, to.block(col + c, row + r, side, side));
            }
        }
        for c in 0..cols {
            let first = if c < whole.1 { whole.0 } else { 0 };
            let lines = panel[first * width..].chunks_exact(width);
            for (line, x) in lines.zip(to.run(col + c, row + first, rows - first)) {
                *x = line[c];
            }
        }
    }
}
