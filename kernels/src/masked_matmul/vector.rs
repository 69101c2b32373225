//! Weights × one vector of activations: a batch of 1, y = W · x.
//!
//! The lanes have only outputs to run over, and those have their kept weights at different places: the work is scalar.
//! Each output is one chain of multiply-adds, which waits 4 cycles for itself at every step; so [`ROWS`] outputs go side by
//! side, as far as the shortest of them reaches. All of the weights, dense, are transposed tile by tile in registers, and
//! then outputs are lanes; with their transpose the columns are, as they lie.
//!
//! Cost: per kept weight one load for the column, one for the value and one multiply-add with a load, 1.35 cycles in all
//! where rows are long, as [`MaskedWeights::with_batch`](crate::MaskedWeights::with_batch) leaves them (Zen 4, in L2; from L3
//! 1.45); dense, what memory gives. Other ways: entries loaded whole and taken apart 1.6, from L3 1.9; 6 or 8 rows at once, more
//! pointers than registers, 1.85; 4, 6 or 8 rows interleaved in one stream 1.35 to 1.5, and no faster from memory.

use core::array::from_fn;

use super::epilogue::Epilogue;
use super::rows::{load_row, store_row};
use crate::aligned::AlignedBuffer;
use crate::engine::Engine;
use crate::simd::{Kernel, Simd};
use crate::sparse::{CompressedRows, Kept, KeptRow, KeptRows, LINE};

/// Outputs side by side: as many chains as a multiply-add takes cycles where one weight a cycle can be had.
const ROWS: usize = 4;

/// Tiles of outputs side by side, of dense weights: 16 chains or more hide the latency of a multiply-add, and more rows of
/// weights at once would be more streams than a processor's prefetching follows (32 rows of 4096: 2 times slower).
const fn tiles(lanes: usize) -> usize {
    if lanes >= 16 { 1 } else { 2 }
}

/// Computes y over the kept weights, x `[K]`, y `[M]`.
pub(crate) fn multiply(
    engine: Engine,
    weights: &CompressedRows,
    x: &[f32],
    epilogue: Epilogue<'_>,
    y: &mut [f32],
) {
    engine.for_each_chunk(y, rows_per_task(engine, weights.rows()), |index, y| {
        let first_row = index * rows_per_task(engine, weights.rows());
        engine.backend().run(Sparse { weights, x, first_row, epilogue, y });
    });
}

/// Computes Y column by column, X `[K, N]`, Y `[M, N]`.
pub(crate) fn multiply_columns(
    engine: Engine,
    weights: &CompressedRows,
    x: &[f32],
    batch: usize,
    epilogue: Epilogue<'_>,
    y: &mut [f32],
    scratch: &mut AlignedBuffer,
) {
    let (inputs, outputs) = (weights.columns(), weights.rows());
    let (one_x, one_y) = scratch.get(inputs + outputs).split_at_mut(inputs);
    for column in 0..batch {
        one_x.iter_mut().zip(x.chunks_exact(batch)).for_each(|(one, row)| *one = row[column]);
        multiply(engine, weights, one_x, Epilogue::None, one_y);
        one_y.iter().zip(y.chunks_exact_mut(batch)).for_each(|(one, row)| row[column] = *one);
    }
    engine.backend().run(Finish { epilogue, y });
}

struct Finish<'a> {
    epilogue: Epilogue<'a>,
    y: &'a mut [f32],
}

impl Kernel for Finish<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.epilogue.apply(s, self.y, 0);
    }
}

/// Computes y with all of `weights` `[M, K]`, x `[K]`, y `[M]`.
pub(crate) fn multiply_dense(
    engine: Engine,
    weights: &[f32],
    x: &[f32],
    epilogue: Epilogue<'_>,
    y: &mut [f32],
) {
    let rows = rows_per_task(engine, y.len());
    engine.for_each_chunk(y, rows, |index, y| {
        let first_row = index * rows;
        let weights = &weights[first_row * x.len()..][..y.len() * x.len()];
        engine.backend().run(Dense { weights, x, first_row, epilogue, y });
    });
}

/// Computes y = Wᵀ · x with all of `weights` W `[M, K]`, x `[M]`, y `[K]`.
pub(crate) fn multiply_dense_transposed(
    engine: Engine,
    weights: &[f32],
    x: &[f32],
    epilogue: Epilogue<'_>,
    y: &mut [f32],
) {
    let (columns, per_task) = (y.len(), rows_per_task(engine, y.len()));
    engine.for_each_chunk(y, per_task, |index, y| {
        let first_column = index * per_task;
        engine.backend().run(DenseTransposed { weights, columns, x, first_column, epilogue, y });
    });
}

fn rows_per_task(engine: Engine, rows: usize) -> usize {
    match engine.threads() {
        1 => rows,
        threads => rows.div_ceil(threads * 2).next_multiple_of(32),
    }
    .max(1)
}

struct Sparse<'a> {
    weights: &'a CompressedRows,
    x: &'a [f32],
    first_row: usize,
    epilogue: Epilogue<'a>,
    y: &'a mut [f32],
}

impl Kernel for Sparse<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { weights, x, first_row, epilogue, y } = self;
        y.fill(0.0);
        for block in 0..weights.blocks() {
            let block = weights.block_rows(block, first_row..first_row + y.len());
            let x = &x[block.first_input..][..block.inputs];
            match block.kept {
                Kept::Copied(rows) => add_rows(s, rows, x, y),
                Kept::Listed(rows) => add_rows(s, rows, x, y),
            }
        }
        epilogue.apply(s, y, first_row);
    }
}

/// Adds to each y its row of kept weights times the activations.
#[inline(always)]
fn add_rows<S: Simd, R: KeptRows>(s: S, rows: R, x: &[f32], y: &mut [f32]) {
    let mut rows = rows.iter();
    let (groups, rest) = y.as_chunks_mut::<ROWS>();
    for y in groups {
        let group: [R::Row; ROWS] = from_fn(|_| rows.next().unwrap_or_default());
        let together = group.iter().map(|row| row.count()).min().unwrap_or(0);
        let parts = group.map(|row| row.split(together));
        let (common, tails) = (parts.map(|(row, _)| row), parts.map(|(_, row)| row));
        let [row0, row1, row2, row3] = common;
        let mut sums = *y;
        // Four short streams at once are none to the processor's prefetching.
        let next = tails[ROWS - 1].address();
        for i in 0..together {
            // Of entries a line of 8 for every two steps.
            if i % 2 == 0 {
                s.prefetch::<false, _>(next.wrapping_add(i * (LINE / 2)));
            }
            let [y0, y1, y2, y3] = sums;
            sums = [
                add(s, row0, i, x, y0),
                add(s, row1, i, x, y1),
                add(s, row2, i, x, y2),
                add(s, row3, i, x, y3),
            ];
        }
        for (i, tail) in tails.into_iter().enumerate() {
            y[i] = (0..tail.count()).fold(sums[i], |y, i| add(s, tail, i, x, y));
        }
    }
    for (y, row) in rest.iter_mut().zip(rows) {
        *y = (0..row.count()).fold(*y, |y, i| add(s, row, i, x, y));
    }
}

/// y plus kept weight `i` of its row times its input's activation.
#[inline(always)]
fn add<S: Simd>(s: S, row: impl KeptRow, i: usize, x: &[f32], y: f32) -> f32 {
    let (column, value) = row.get_by_halves(i);
    s.mul_add_one(value, x[column], y)
}

struct Dense<'a> {
    weights: &'a [f32],
    x: &'a [f32],
    first_row: usize,
    epilogue: Epilogue<'a>,
    y: &'a mut [f32],
}

impl Kernel for Dense<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { weights, x, first_row, epilogue, y } = self;
        let (rows, inputs) = (y.len(), x.len());
        let together = tiles(S::LANES) * S::LANES;
        let mut row = 0;
        while row + together <= rows {
            dense_rows(s, &weights[row * inputs..], x, &mut y[row..row + together]);
            row += together;
        }
        if row < rows && together <= rows {
            // Some of them once more, with the same result.
            let row = rows - together;
            dense_rows(s, &weights[row * inputs..], x, &mut y[row..]);
        } else {
            for (y, weights) in y[row..].iter_mut().zip(weights[row * inputs..].chunks_exact(inputs)) {
                *y = chain(s, weights, x, 0.0);
            }
        }
        epilogue.apply(s, y, first_row);
    }
}

struct DenseTransposed<'a> {
    weights: &'a [f32],
    columns: usize,
    x: &'a [f32],
    first_column: usize,
    epilogue: Epilogue<'a>,
    y: &'a mut [f32],
}

/// Vectors of sums side by side where the columns of the weights are the lanes.
const COLUMN_VECTORS: usize = 8;

impl Kernel for DenseTransposed<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { weights, columns, x, first_column, epilogue, y } = self;
        let width = COLUMN_VECTORS * S::LANES;
        for (y, at) in y.chunks_mut(width).zip((first_column..).step_by(width)) {
            let mut sums = [s.splat(0.0); COLUMN_VECTORS];
            for (row, &x) in weights.chunks_exact(columns).zip(x) {
                let (row, x) = (&row[at..at + y.len()], s.splat(x));
                let mut weights = [s.splat(0.0); COLUMN_VECTORS];
                if y.len() == width {
                    load_row::<S, COLUMN_VECTORS, true>(s, row, &mut weights);
                } else {
                    load_row::<S, COLUMN_VECTORS, false>(s, row, &mut weights);
                }
                for v in 0..COLUMN_VECTORS {
                    sums[v] = s.mul_add(weights[v], x, sums[v]);
                }
            }
            store_row::<S, COLUMN_VECTORS, false>(s, &sums, y);
        }
        epilogue.apply(s, y, first_column);
    }
}

/// Outputs as lanes: tile after tile of their weights is transposed.
#[inline(always)]
fn dense_rows<S: Simd>(s: S, weights: &[f32], x: &[f32], y: &mut [f32]) {
    match tiles(S::LANES) {
        1 => dense_tiles::<S, 1>(s, weights, x, y),
        _ => dense_tiles::<S, 2>(s, weights, x, y),
    }
}

#[inline(always)]
fn dense_tiles<S: Simd, const TILES: usize>(s: S, weights: &[f32], x: &[f32], y: &mut [f32]) {
    let inputs = x.len();
    let mut tile = [0.0; 32 * 32];
    let mut sums = [s.splat(0.0); TILES];
    let whole = inputs / S::LANES * S::LANES;
    for (at, x) in (0..whole).step_by(S::LANES).zip(x.chunks_exact(S::LANES)) {
        for (t, sums) in sums.iter_mut().enumerate() {
            s.transpose(&weights[t * S::LANES * inputs + at..], inputs, &mut tile, S::LANES);
            for (column, &x) in tile.chunks_exact(S::LANES).zip(x) {
                *sums = s.mul_add(s.load(column), s.splat(x), *sums);
            }
        }
    }
    for (sums, y) in sums.into_iter().zip(y.chunks_exact_mut(S::LANES)) {
        s.store(sums, y);
    }
    for (y, weights) in y.iter_mut().zip(weights.chunks_exact(inputs)) {
        *y = chain(s, &weights[whole..], &x[whole..], *y);
    }
}

#[inline(always)]
fn chain<S: Simd>(s: S, weights: &[f32], x: &[f32], sum: f32) -> f32 {
    weights.iter().zip(x).fold(sum, |sum, (&w, &x)| s.mul_add_one(w, x, sum))
}
