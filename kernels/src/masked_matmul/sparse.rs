//! Kept weights × activations: Y = W · X with W compressed, X `[K, N]`, Y `[M, N]`.
//!
//! The batch lies in the lanes. For a panel of up to 128 columns and a block of inputs ([`Slice`]), that piece of X is copied
//! into an aligned slice that fits in L1 or nearly, where an input's activations are one run; then each output walks its kept
//! weights in the block: broadcast the weight, multiply-add it with the input's run into accumulators that never leave
//! the registers. Between blocks the sums of up to [`CHUNK`] outputs rest side by side in scratch memory, which changes no
//! bit; the last block's go to Y.
//!
//! Cost per kept weight, of 8 vectors: 8 multiply-adds with one load each, so 4 cycles on a machine with two of both per
//! cycle; one integer load for value and column (two where weights are listed), and 9 instructions that fit beside them (6 on
//! AVX-512). Per output and block: a run of sums read and written, from L2, and a fresh start of the pipeline.
//!
//! That loads and multiply-adds go together is what bounds it: a loop of nothing but multiply-adds with one factor from L1
//! reaches 0.93 of FMA peak on Zen 4, 0.91 on Sapphire Rapids with AVX-512, or 0.50 to 0.60 when the core's other thread is
//! busy too. There 0.67 and 0.55 are reached at 128×784×500 and s = 0.5.
//!
//! Measured on Zen 4, 128×784×500, fraction of FMA peak:
//! * sums that rest in Y instead, a batch apart from each other: 0.75 → 0.80 at s = 0.5, 7 points more at s = 0.95 without;
//!   at 1024³ they fall on the same sets of L2 and are lost to L3;
//! * the weight broadcast from memory, which saves three instructions and takes a load port: 0.80 → 0.73, and 3 points less at
//!   s = 0.95;
//! * two outputs at once, to overlap their starts: lost more in instructions than it gained (0.55 → 0.49 at s = 0.95), in
//!   panels of 32 columns with twice the block or more too (0.45–0.47); on Sapphire Rapids it gains, in panels of 64 columns
//!   of 128: 0.34 → 0.38 at s = 0.95, 0.46 → 0.50 at 0.9, but 0.57 → 0.53 at 0.8; not enough for a second way to walk;
//! * panels of 32 columns with twice the block, one output at a time: 0.49, since two chains wait for themselves;
//! * outputs in the order of their numbers of kept weights, so that no loop end is mispredicted: 1–2 %, since the
//!   processor walks far enough ahead to hide it.
//!
//! At s = 0.95 an output has 8 kept weights in a block, and each multiply-add of a vector takes 1.8 cycles: 0.2 of them for the
//! copies of X, 0.3 for reading and writing sums, 0.2 for misses of L1. Copying the next slice, a row of it with each output,
//! was slower (0.55 → 0.47 of peak; 0.80 → 0.77 at s = 0.5), and so was asking for sums or rows of Y ahead.
//!
//! Larger products wait for L3 and memory, which is why what comes is asked for ([`Ahead`]). Zen 4, 256×4096×4096, s = 0.5 / 0.8 /
//! 0.9 / 0.95: 0.54 / 0.48 / 0.45 / 0.47 without, with kept weights 0.64 / 0.53 / 0.47 / 0.50, with X too 0.67 / 0.56 / 0.55 /
//! 0.54; where the kept weights came from L2 (always those of the first block) it was 0.76 / 0.66 / – / 0.54 without. Panels
//! of 128 columns, which read kept weights half as often: 0.69 / 0.58 / 0.45 / 0.43, and AVX2 has no registers for them.

use super::epilogue::Epilogue;
use super::rows::{copy_padded, store_row};
use super::vector;
use crate::aligned::AlignedBuffer;
use crate::engine::Engine;
use crate::simd::{Kernel, Simd};
use crate::sparse::{
    BLOCK_MOST, BLOCK_USUAL, CompressedRows, Kept, KeptRow, KeptRows, LINE, PANEL_MOST, Slice,
};

/// Outputs whose unfinished sums rest in L2 while block after block is added to them: 256 KiB, and twice that in panels of
/// 128 columns.
const CHUNK: usize = 1024;

/// Bytes of activations from which on the next slice is asked for: they are far from L2. (In L2 it would cost 3 % at s = 0.5
/// and 5 % at 0.95.)
const X_ASKED_FROM: usize = 2 << 20;

/// Bytes of kept weights, or of all where they are listed, from which on those to come are asked for: they are no longer in L3, or
/// not for long. Below, the processor's own prefetching is enough, and asking costs 3 % (4 MiB, 1024³ at s = 0.5: 0.74 → 0.71 of
/// peak). Not in panels of less than 64 columns: 16×4096×4096 at s = 0.5 became slower (0.27 → 0.23).
const WEIGHTS_ASKED_FROM: usize = 6 << 20;

/// How many bytes ahead kept weights are asked for.
const DISTANCE: usize = 4 << 10;

/// Up to so many inputs, the slices of a panel rest side by side until the last of several chunks of outputs: room of 2 MiB for
/// 4096 of them. Copied again for each chunk, 256×4096×4096 is 4 % slower at s = 0.9 and 0.95, 13 % at 0.99.
const RESTING_MOST: usize = 8192;

/// Computes Y.
pub(crate) fn multiply(
    engine: Engine,
    weights: &CompressedRows,
    x: &[f32],
    batch: usize,
    epilogue: Epilogue<'_>,
    y: &mut [f32],
    scratch: &mut AlignedBuffer,
) {
    if weights.columns() == 0 || batch == 0 {
        y.fill(0.0);
        return;
    }
    if batch == 1 {
        return vector::multiply(engine, weights, x, epilogue, y);
    }
    if weights.has_wide_blocks() {
        return vector::multiply_columns(engine, weights, x, batch, epilogue, y, scratch);
    }
    // Every task copies all of X, so there is one for each thread. Two threads against one, 128 and 512×784×500, s = 0.5 /
    // 0.9 (AVX-512, Zen 4): 1.91 / 1.75; with two tasks for each thread 1.81 / 1.5; with slices copied once for all
    // tasks, which then come from the other core's L2, 1.8 / 1.4.
    let rows = match engine.threads() {
        1 => weights.rows(),
        threads => weights.rows().div_ceil(threads),
    }
    .max(1);
    let slices_rest = rows > CHUNK && weights.columns() <= RESTING_MOST;
    // Slices of X, the last of which is read as if it were as long as any, and unfinished sums.
    let floats = (if slices_rest { weights.columns() } else { 0 } + BLOCK_MOST + CHUNK) * PANEL_MOST;
    let scratch = scratch.get(floats * weights.rows().div_ceil(rows));
    engine.for_each_chunk_with(y, rows * batch, scratch, floats, |index, y, scratch| {
        let first_row = index * rows;
        engine.backend().run(Multiply { weights, x, batch, first_row, slices_rest, epilogue, y, scratch });
    });
}

/// The rows of Y from `first_row` on.
struct Multiply<'a> {
    weights: &'a CompressedRows,
    x: &'a [f32],
    batch: usize,
    first_row: usize,
    /// Whether the slices of a panel lie side by side, instead of each in the place of the one before.
    slices_rest: bool,
    epilogue: Epilogue<'a>,
    y: &'a mut [f32],
    scratch: &'a mut [f32],
}

impl Kernel for Multiply<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let widest = Slice::of(s).columns / S::LANES;
        let mut first_column = 0;
        while first_column < self.batch {
            let columns = (self.batch - first_column).min(widest * S::LANES);
            match columns.div_ceil(S::LANES).next_power_of_two() {
                1 => self.panel::<S, 1>(s, first_column, columns),
                2 => self.panel::<S, 2>(s, first_column, columns),
                4 => self.panel::<S, 4>(s, first_column, columns),
                _ => self.panel::<S, 8>(s, first_column, columns),
            }
            first_column += columns;
        }
    }
}

impl Multiply<'_> {
    /// The next `columns` columns.
    #[inline(always)]
    fn panel<S: Simd, const VECTORS: usize>(&mut self, s: S, first_column: usize, columns: usize) {
        let Self { weights, x, batch, first_row, slices_rest, epilogue, .. } = *self;
        let (sums, slices) = self.scratch.split_at_mut(CHUNK * PANEL_MOST);
        let width = VECTORS * S::LANES;
        let far_x = size_of_val(x) >= X_ASKED_FROM;
        let far_weights = weights.bytes() >= WEIGHTS_ASKED_FROM && width >= PANEL_MOST / 2;
        let (blocks, chunks) = (weights.blocks(), self.y.len().div_ceil(CHUNK * batch));
        for (chunk, y) in self.y.chunks_mut(CHUNK * batch).enumerate() {
            let rows = y.len() / batch;
            let first_row = first_row + chunk * CHUNK;
            for block in 0..blocks {
                let begin = block == 0;
                let end = (block + 1 == blocks).then_some(End {
                    y: &mut *y,
                    batch,
                    first_column,
                    columns,
                    first_row,
                    epilogue,
                });
                let block = weights.block_rows(block, first_row..first_row + rows);
                let slice = if slices_rest { block.first_input * width } else { 0 };
                if chunk == 0 || !slices_rest {
                    let x = x.chunks_exact(batch).skip(block.first_input).take(block.inputs);
                    for (to, from) in slices[slice..].chunks_exact_mut(width).zip(x) {
                        copy_padded(s, &from[first_column..first_column + columns], to);
                    }
                }
                // The next slice is of the next block, or of the first one for the next chunk or panel.
                let (next_chunk, next_input, next_column) = match &end {
                    None => (chunk, block.first_input + block.inputs, first_column),
                    Some(_) if chunk + 1 < chunks => (chunk + 1, 0, first_column),
                    Some(_) => (0, 0, first_column + columns),
                };
                let (next, stride) = if slices_rest && next_chunk > 0 {
                    (&slices[next_input * width..], width)
                } else {
                    (&x[next_input * batch + next_column..], batch)
                };
                let lines = match block.kept {
                    _ if !far_weights => 0,
                    Kept::Copied(rows) => rows.lines_of_a_row(),
                    Kept::Listed(rows) => rows.lines_of_a_row(),
                };
                let wait = if far_x { rows.saturating_sub(block.inputs) } else { usize::MAX };
                let ahead = Ahead { next: next.as_ptr(), stride, wait, lines };
                let panel = Panel { slice: &slices[slice..], sums, begin, end, ahead };
                let ask = far_x || far_weights;
                match block.kept {
                    Kept::Copied(rows) if ask || block.inputs > BLOCK_USUAL => {
                        s.apart(Walk::<_, VECTORS, BLOCK_MOST, true> { rows, panel });
                    }
                    Kept::Copied(rows) => s.apart(Walk::<_, VECTORS, BLOCK_USUAL, false> { rows, panel }),
                    Kept::Listed(rows) if ask => {
                        s.apart(Walk::<_, VECTORS, BLOCK_USUAL, true> { rows, panel })
                    }
                    Kept::Listed(rows) => s.apart(Walk::<_, VECTORS, BLOCK_USUAL, false> { rows, panel }),
                }
            }
        }
    }
}

/// One block of up to `MOST` inputs for a panel of columns. To `ASK` costs 2 % even where there is nothing to ask for, and a larger
/// `MOST` another 1 %.
struct Walk<'a, R, const VECTORS: usize, const MOST: usize, const ASK: bool> {
    rows: R,
    panel: Panel<'a>,
}

/// What rows of a block are multiplied with and added to, whatever they are.
struct Panel<'a> {
    /// The block's activations, `[MOST, width]` and whatever follows.
    slice: &'a [f32],
    /// The sums of the chunk's outputs, `[CHUNK, width]`.
    sums: &'a mut [f32],
    /// Whether the sums begin with this block, and whether they end with it.
    begin: bool,
    end: Option<End<'a>>,
    ahead: Ahead,
}

/// What outputs ask for so that it is in L2 when its turn comes.
struct Ahead {
    /// The next slice's first activation, and how far apart its inputs are.
    next: *const f32,
    stride: usize,
    /// How many outputs go by before each asks for an input of the next slice, in time and not so early that it is lost again;
    /// `usize::MAX` if none does.
    wait: usize,
    /// How many cache lines of weights with each output: as many with all, so that no loop end is mispredicted.
    lines: usize,
}

impl Ahead {
    /// Asks for `width` activations of an input of the next slice, and for kept weights that come after `row`.
    #[inline(always)]
    fn ask<S: Simd>(&mut self, s: S, width: usize, row: impl KeptRow) {
        if self.wait > 0 {
            self.wait -= 1;
        } else {
            (0..width)
                .step_by(LINE / size_of::<f32>())
                .for_each(|at| s.prefetch::<false, _>(self.next.wrapping_add(at)));
            self.next = self.next.wrapping_add(self.stride);
        }
        let ahead = row.address().wrapping_add(DISTANCE);
        (0..self.lines).for_each(|line| s.prefetch::<false, _>(ahead.wrapping_add(line * LINE)));
    }
}

/// Where sums go after the last block.
struct End<'a> {
    y: &'a mut [f32],
    batch: usize,
    first_column: usize,
    columns: usize,
    first_row: usize,
    epilogue: Epilogue<'a>,
}

impl<R: KeptRows, const VECTORS: usize, const MOST: usize, const ASK: bool> Kernel
    for Walk<'_, R, VECTORS, MOST, ASK>
{
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Panel { slice, sums, begin, end, mut ahead } = self.panel;
        let width = VECTORS * S::LANES;
        let slice: &[[S::F32; VECTORS]] = bytemuck::cast_slice(&slice[..MOST * width]);
        let slice: &[_; MOST] = slice.try_into().expect("a slice of the widest block");
        let sums: &mut [[S::F32; VECTORS]] = bytemuck::cast_slice_mut(&mut sums[..CHUNK * width]);
        let rows = self.rows.iter().zip(sums.iter_mut());
        let begin = |sums: &[S::F32; VECTORS]| if begin { [s.splat(0.0); VECTORS] } else { *sums };
        let mut ask = |row: R::Row| {
            if ASK {
                ahead.ask(s, width, row);
            }
        };
        let Some(End { y, batch, first_column, columns, first_row, epilogue }) = end else {
            for (row, sums) in rows {
                ask(row);
                *sums = walk(s, row, slice, begin(sums));
            }
            return;
        };
        for (index, ((row, sums), y)) in rows.zip(y.chunks_exact_mut(batch)).enumerate() {
            ask(row);
            let sums = walk(s, row, slice, begin(sums));
            let y = &mut y[first_column..first_column + columns];
            if columns == width {
                store_row::<S, VECTORS, true>(s, &sums, y);
            } else {
                store_row::<S, VECTORS, false>(s, &sums, y);
            }
            epilogue.apply(s, y, (first_row + index) * batch + first_column);
        }
    }
}

/// The sums plus each kept weight times its input's activations.
#[inline(always)]
fn walk<S: Simd, const VECTORS: usize, const MOST: usize>(
    s: S,
    row: impl KeptRow,
    slice: &[[S::F32; VECTORS]; MOST],
    mut sums: [S::F32; VECTORS],
) -> [S::F32; VECTORS] {
    for i in 0..row.count() {
        let (column, weight) = row.get(i);
        let weight = s.splat(s.in_a_register(weight));
        let x = s.at_one_address(&slice[column % MOST]);
        for v in 0..VECTORS {
            sums[v] = s.mul_add(weight, x[v], sums[v]);
        }
    }
    sums
}
