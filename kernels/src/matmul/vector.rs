//! Blocked or dense weights × one column of activations: a batch of 1, y = W · x.
//!
//! With one column, lanes can run over outputs only, and these have their kept weights in different columns. So the sparse product is
//! scalar.
//! Each output is one chain of multiply-adds with a latency of 4 cycles per step, so [`CHAINS`] outputs are computed at once, up
//! to the length of the shortest. Tiles of dense weights are transposed in registers, so that lanes run over outputs; transposed
//! dense weights need no transposition.
//!
//! Cost: per kept weight one load for the column, one for the value and one multiply-add with a load. Dense products are bound by
//! memory. Measurements: docs/tuning.md, "One column".

use super::call::Call;
use crate::arch::rows::RowsMut;
use crate::engine::Engine;
use crate::epilogue::Finish;
use crate::panel::{load_row, store_row};
use crate::simd::{Kernel, Simd, array_of};
use crate::tiles::{CHAINS, COLUMN_VECTORS};
use crate::view::{MatMut, MatRef};
use crate::weights::entry::Entry;
use crate::weights::{BlockRows, Blocked};

/// Computes the one column of Y.
pub(super) fn multiply(engine: Engine, weights: &Blocked, call: Call<'_, '_>) {
    as_slices(engine, call, |x, y, accumulate, finish| {
        let rows = share(engine, weights.rows());
        engine.for_each(y.chunks_mut(rows).zip((0..).step_by(rows)), |(y, first_row)| {
            engine.backend().run(SparseVector { weights, x, first_row, accumulate, finish, y });
        });
    });
}

/// Computes the one column of Y, with dense weights `a` whose rows or columns are contiguous.
pub(super) fn multiply_dense(engine: Engine, a: MatRef<'_>, call: Call<'_, '_>) {
    let engine = engine.for_work(a.rows().saturating_mul(a.cols()) / 4);
    as_slices(engine, call, |x, y, accumulate, finish| {
        let rows = share(engine, a.rows());
        engine.for_each(y.chunks_mut(rows).zip((0..).step_by(rows)), |(y, first_row)| {
            let product = DenseVector { a, x, first_row, accumulate, finish, y };
            if a.has_runs() {
                engine.backend().run(product);
            } else {
                engine.backend().run(Across(product));
            }
        });
    });
}

/// Outputs of a thread's share: whole vectors of them, and two shares for each thread.
fn share(engine: Engine, rows: usize) -> usize {
    match engine.threads() {
        1 => rows,
        threads => rows.div_ceil(threads * 2).next_multiple_of(32),
    }
}

/// Calls `product` with the columns of X and Y as slices, copied through scratch memory where they are not contiguous. The
/// epilogue is that of a row, Yᵀ.
fn as_slices(engine: Engine, call: Call<'_, '_>, product: impl Fn(&[f32], &mut [f32], bool, Finish<'_>)) {
    let Call { x, y, accumulate, finish, scratch } = call;
    let (x, mut y, finish) = (x.t(), y.t(), finish.t());
    let (inputs, outputs) = (x.cols(), y.cols());
    let [own_inputs, own_outputs] =
        [(x.has_runs(), inputs), (y.has_runs(), outputs)].map(|(runs, len)| if runs { 0 } else { len });
    let (own_x, own_y) = scratch.get(own_inputs + own_outputs).split_at_mut(own_inputs);
    let x = if x.has_runs() {
        x.run(0, 0, inputs)
    } else {
        own_x.iter_mut().enumerate().for_each(|(i, own)| *own = x.get(0, i));
        &*own_x
    };
    if y.has_runs() {
        return product(x, y.run(0, 0, outputs), accumulate, finish);
    }
    if accumulate {
        let y = y.as_ref();
        own_y.iter_mut().enumerate().for_each(|(o, own)| *own = y.get(0, o));
    }
    product(x, own_y, accumulate, Finish::NONE);
    engine.backend().run(FinishColumn { finish, y: own_y });
    own_y.iter().enumerate().for_each(|(o, &own)| y.set(0, o, own));
}

struct FinishColumn<'a> {
    finish: Finish<'a>,
    y: &'a mut [f32],
}

impl Kernel for FinishColumn<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.finish.apply(s, self.y, 0, 0);
    }
}

struct SparseVector<'a> {
    weights: &'a Blocked,
    x: &'a [f32],
    first_row: usize,
    accumulate: bool,
    finish: Finish<'a>,
    y: &'a mut [f32],
}

impl Kernel for SparseVector<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { weights, x, first_row, accumulate, finish, y } = self;
        if !accumulate {
            y.fill(0.0);
        }
        for block in 0..weights.count() {
            let block = weights.block_rows(block, first_row..first_row + y.len());
            add_rows(s, block, &x[block.first_input..][..block.inputs], y);
        }
        finish.apply(s, y, 0, first_row);
    }
}

/// Adds to each y its row of kept weights times the activations.
#[inline(always)]
fn add_rows<S: Simd>(s: S, rows: BlockRows<'_>, x: &[f32], y: &mut [f32]) {
    let mut rows = rows.iter();
    let (groups, rest) = y.as_chunks_mut::<CHAINS>();
    for y in groups {
        let group: [&[Entry]; CHAINS] = array_of(&[][..], |_| rows.next().unwrap_or_default());
        let together = group.iter().map(|row| row.len()).min().unwrap_or(0);
        let [row0, row1, row2, row3]: [&[Entry]; CHAINS] = array_of(&[][..], |c| &group[c][..together]);
        let tails: [&[Entry]; CHAINS] = array_of(&[][..], |c| &group[c][together..]);
        let mut sums = *y;
        // The next group's entries, which follow the tail of the last row: hardware prefetching does not follow four short streams.
        let next = tails[CHAINS - 1].as_ptr();
        for i in 0..together {
            // A line of 8 entries for every two steps.
            if i % 2 == 0 {
                s.prefetch::<false, _>(next.wrapping_add(i * CHAINS));
            }
            let [y0, y1, y2, y3] = sums;
            sums = [
                add(s, &row0[i], x, y0),
                add(s, &row1[i], x, y1),
                add(s, &row2[i], x, y2),
                add(s, &row3[i], x, y3),
            ];
        }
        for (i, tail) in tails.into_iter().enumerate() {
            y[i] = tail.iter().fold(sums[i], |y, entry| add(s, entry, x, y));
        }
    }
    for (y, row) in rest.iter_mut().zip(rows) {
        *y = row.iter().fold(*y, |y, entry| add(s, entry, x, y));
    }
}

/// y plus a kept weight times its input's activation. Load ports are not the bound here, so column and value are loaded
/// separately.
#[inline(always)]
fn add<S: Simd>(s: S, entry: &Entry, x: &[f32], y: f32) -> f32 {
    let &[first, second]: &[u32; 2] = bytemuck::cast_ref(entry);
    let (column, value) = if cfg!(target_endian = "little") { (first, second) } else { (second, first) };
    s.mul_add_one(f32::from_bits(value), x[column as usize], y)
}

/// The outputs from `first_row` on, of dense weights `a`.
struct DenseVector<'a> {
    a: MatRef<'a>,
    x: &'a [f32],
    first_row: usize,
    accumulate: bool,
    finish: Finish<'a>,
    y: &'a mut [f32],
}

/// Rows of `a` are contiguous.
impl Kernel for DenseVector<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { a, x, first_row, accumulate, finish, y } = self;
        if !accumulate {
            y.fill(0.0);
        }
        let rows = y.len();
        let together = S::TILES.column_tiles * S::LANES;
        let mut row = 0;
        while row + together <= rows {
            dense_rows(s, a, first_row + row, x, &mut y[row..row + together]);
            row += together;
        }
        if row < rows && together <= rows && !accumulate {
            // The last vector overlaps the one before it, and gives the same results.
            let row = rows - together;
            y[row..].fill(0.0);
            dense_rows(s, a, first_row + row, x, &mut y[row..]);
        } else {
            for (y, row) in y[row..].iter_mut().zip(first_row + row..) {
                *y = chain(s, a.run(row, 0, x.len()), x, *y);
            }
        }
        finish.apply(s, y, 0, first_row);
    }
}

/// Outputs as lanes: tile after tile of their weights is transposed.
#[inline(always)]
fn dense_rows<S: Simd>(s: S, a: MatRef<'_>, first_row: usize, x: &[f32], y: &mut [f32]) {
    match S::TILES.column_tiles {
        1 => dense_tiles::<S, 1>(s, a, first_row, x, y),
        _ => dense_tiles::<S, 2>(s, a, first_row, x, y),
    }
}

#[inline(always)]
fn dense_tiles<S: Simd, const TILES: usize>(s: S, a: MatRef<'_>, first_row: usize, x: &[f32], y: &mut [f32]) {
    let mut tile = [0.0; 32 * 32];
    let mut sums: [S::F32; TILES] = array_of(s.splat(0.0), |t| s.load(&y[t * S::LANES..]));
    let whole = x.len() / S::LANES * S::LANES;
    for (at, x) in (0..whole).step_by(S::LANES).zip(x.chunks_exact(S::LANES)) {
        for (t, sums) in sums.iter_mut().enumerate() {
            let weights = a.block(first_row + t * S::LANES, at, S::LANES, S::LANES);
            let side = S::TRANSPOSE;
            for i in (0..S::LANES).step_by(side) {
                for j in (0..S::LANES).step_by(side) {
                    let to = RowsMut::of(&mut tile[j * S::LANES + i..], S::LANES, side, side);
                    s.transpose(weights.part(i, j, side, side), to);
                }
            }
            for (column, &x) in tile.chunks_exact(S::LANES).zip(x) {
                *sums = s.mul_add(s.load(column), s.splat(x), *sums);
            }
        }
    }
    for (sums, y) in sums.into_iter().zip(y.chunks_exact_mut(S::LANES)) {
        s.store(sums, y);
    }
    for (y, row) in y.iter_mut().zip(first_row..) {
        *y = chain(s, a.run(row, whole, x.len() - whole), &x[whole..], *y);
    }
}

#[inline(always)]
fn chain<S: Simd>(s: S, weights: &[f32], x: &[f32], sum: f32) -> f32 {
    // Not `fold`: the compiler may not inline its closure.
    let mut sum = sum;
    for (&w, &x) in weights.iter().zip(x) {
        sum = s.mul_add_one(w, x, sum);
    }
    sum
}

/// Columns of `a` are contiguous, so lanes run over its rows, the outputs.
struct Across<'a>(DenseVector<'a>);

impl Kernel for Across<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let DenseVector { a, x, first_row, accumulate, finish, y } = self.0;
        let a = a.t();
        let width = COLUMN_VECTORS * S::LANES;
        for (y, at) in y.chunks_mut(width).zip((first_row..).step_by(width)) {
            let mut sums = [s.splat(0.0); COLUMN_VECTORS];
            if accumulate {
                load_row::<S, COLUMN_VECTORS, false>(s, y, &mut sums);
            }
            for (k, &x) in x.iter().enumerate() {
                let (row, x) = (a.run(k, at, y.len()), s.splat(x));
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
        finish.apply(s, y, 0, first_row);
    }
}

/// Y of a product without terms: its old values if it accumulates, otherwise 0; then the epilogue.
pub(super) fn finish_empty(engine: Engine, y: MatMut<'_>, accumulate: bool, finish: Finish<'_>) {
    if y.shape().contains(&0) {
        return; // a matrix without elements may claim any number of rows
    }
    engine.backend().run(FinishEmpty { y, accumulate, finish });
}

struct FinishEmpty<'a> {
    y: MatMut<'a>,
    accumulate: bool,
    finish: Finish<'a>,
}

impl Kernel for FinishEmpty<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { mut y, accumulate, finish } = self;
        let [rows, cols] = y.shape();
        for (row, col) in (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col))) {
            let mut sum = [if accumulate { y.as_ref().get(row, col) } else { 0.0 }];
            finish.apply(s, &mut sum, row, col);
            y.set(row, col, sum[0]);
        }
    }
}
