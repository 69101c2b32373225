//! Kept weights × activations: Y = W · X with W [`Blocked`], X `[K, N]`, Y `[M, N]`.
//!
//! Lanes run over the batch. X is cut into panels of up to 128 columns and blocks of inputs ([`CacheTile`]); each part is packed
//! into an aligned tile that nearly fits in L1, where the activations of an input are contiguous. Then each output multiplies its
//! kept weights in the block: the weight is broadcast and multiplied with the input's activations, into accumulators that stay in
//! registers. Between blocks the sums of up to [`MC`] outputs are stored in scratch memory, which changes no bit; the last block
//! stores them to Y. Where X and Y are batch-major, X is transposed in registers while it is packed, and the sums while they are
//! stored.
//!
//! Cost per kept weight, with 8 vectors: 8 multiply-adds with one load each, so 4 cycles on a machine with two of both per cycle;
//! one integer load for value and column, and 9 more instructions in parallel (6 on AVX-512). Per output and block: the sums are
//! read from and written to L2, and the pipeline starts anew.
//!
//! The bound is a loop of only multiply-adds with one operand from L1. Measurements, and what was tried: docs/tuning.md, "Sparse
//! products".

use super::call::{Call, Store};
use crate::engine::Engine;
use crate::epilogue::Finish;
use crate::panel::{self, Block, store_row};
use crate::simd::{Kernel, Simd};
use crate::view::{MatMut, MatRef};
use crate::weights::entry::{Entry, place, value};
use crate::weights::{BlockRows, Blocked, CacheTile, KC_MAX, KC_USUAL, NC_MAX};

/// Bytes of a cache line.
const LINE: usize = 64;

/// Outputs whose unfinished sums stay in L2 while the blocks are added to them: 256 KiB, or 512 KiB in panels of 128 columns.
const MC: usize = 1024;

/// The next tile is prefetched if the activations have at least this many bytes, because they are not in L2. In L2 prefetching
/// costs 3 to 5 % (docs/tuning.md, "Sparse products").
const PREFETCH_X_FROM: usize = 2 << 20;

/// Kept weights are prefetched if they have at least this many bytes, because they do not stay in L3. For fewer, hardware
/// prefetching is enough, and more costs 3 % (docs/tuning.md, "Sparse products").
const PREFETCH_WEIGHTS_FROM: usize = 6 << 20;

/// Prefetch distance of kept weights, in bytes.
const DISTANCE: usize = 4 << 10;

/// Up to this many inputs, all tiles of a panel are kept for all chunks of outputs: 2 MiB for 4096 inputs. Packing them again for
/// each chunk costs 4 to 13 % (`slth-bench --case "forward 256x4096x4096"`, s = 0.9 to 0.99).
const MOST_KEPT_COLUMNS: usize = 8192;

/// Computes Y `[M, N]`; none of M, N and K is 0.
pub(super) fn multiply(engine: Engine, weights: &Blocked, call: Call<'_, '_>) {
    let Call { x, y, accumulate, finish, scratch } = call;
    // One share for each thread, because every share packs all of X; see docs/tuning.md, "Threads".
    let rows = weights.rows().div_ceil(engine.threads());
    let keep_tiles = rows > MC && weights.columns() <= MOST_KEPT_COLUMNS;
    // Tiles of X, the last of which is read at full length, and unfinished sums.
    let floats = (if keep_tiles { weights.columns() } else { 0 } + KC_MAX + MC) * NC_MAX;
    let scratch = scratch.get(floats * weights.rows().div_ceil(rows));
    let shares = y.bands(rows).zip(scratch.chunks_mut(floats)).zip((0..).step_by(rows));
    engine.for_each(shares, |((y, scratch), first_row)| {
        let multiply = MultiplyBlocked { weights, x, first_row, keep_tiles, accumulate, finish, y, scratch };
        engine.backend().run(multiply);
    });
}

/// The rows of Y from `first_row` on.
struct MultiplyBlocked<'a> {
    weights: &'a Blocked,
    x: MatRef<'a>,
    first_row: usize,
    /// Whether all tiles of a panel are kept, instead of each overwriting the one before.
    keep_tiles: bool,
    accumulate: bool,
    finish: Finish<'a>,
    y: MatMut<'a>,
    scratch: &'a mut [f32],
}

impl Kernel for MultiplyBlocked<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let batch = self.x.cols();
        let widest = CacheTile::of(s).columns / S::LANES;
        let mut first_column = 0;
        while first_column < batch {
            let columns = (batch - first_column).min(widest * S::LANES);
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

impl MultiplyBlocked<'_> {
    /// The next `columns` columns.
    #[inline(always)]
    fn panel<S: Simd, const VECTORS: usize>(&mut self, s: S, first_column: usize, columns: usize) {
        let Self { weights, x, first_row, keep_tiles, accumulate, finish, .. } = *self;
        let (sums, tiles) = self.scratch.split_at_mut(MC * NC_MAX);
        let width = VECTORS * S::LANES;
        let far_x = x.has_runs() && x.rows() * x.cols() * size_of::<f32>() >= PREFETCH_X_FROM;
        let far_weights = weights.bytes_read() >= PREFETCH_WEIGHTS_FROM && width >= NC_MAX / 2;
        let all_rows = self.y.rows();
        let (blocks, chunks) = (weights.count(), all_rows.div_ceil(MC));
        for chunk in 0..chunks {
            let y_row = chunk * MC;
            let rows = MC.min(all_rows - y_row);
            let y_block = Block { row: y_row, rows, col: first_column, cols: columns };
            let first_row = first_row + y_row;
            if accumulate {
                panel::pack(s, self.y.as_ref(), y_block, sums, width);
            }
            for block in 0..blocks {
                let (begin, last) = (block == 0 && !accumulate, block + 1 == blocks);
                let block = weights.block_rows(block, first_row..first_row + rows);
                let tile = if keep_tiles { block.first_input * width } else { 0 };
                if chunk == 0 || !keep_tiles {
                    let x_block = Block {
                        row: block.first_input,
                        rows: block.inputs,
                        col: first_column,
                        cols: columns,
                    };
                    panel::pack(s, x, x_block, &mut tiles[tile..], width);
                }
                // The next tile is of the next block, or of the first one for the next chunk or panel.
                let (next_chunk, next_input, next_column) = match last {
                    false => (chunk, block.first_input + block.inputs, first_column),
                    true if chunk + 1 < chunks => (chunk + 1, 0, first_column),
                    true => (0, 0, first_column + columns),
                };
                let (next, stride) = if keep_tiles && next_chunk > 0 {
                    (tiles[next_input * width..].as_ptr(), width)
                } else if far_x && next_column < x.cols() {
                    (x.run(next_input, next_column, 1).as_ptr(), x.row_stride())
                } else {
                    (tiles.as_ptr(), 0)
                };
                let lines =
                    if far_weights { (block.mean_row() * size_of::<Entry>()).div_ceil(LINE) } else { 0 };
                let wait = if far_x { rows.saturating_sub(block.inputs) } else { usize::MAX };
                let prefetch = Prefetch { next, stride, wait, lines };
                let to = match last && self.y.has_runs() {
                    true => Some(StoreTo { y: self.y.reborrow(), block: y_block, first_row, finish }),
                    false => None,
                };
                let call = AccumulateBlock {
                    rows: block,
                    tile: &tiles[tile..],
                    sums: &mut *sums,
                    begin,
                    to,
                    prefetch,
                };
                if far_x || far_weights || block.inputs > KC_USUAL {
                    s.outlined(BlockInstance::<VECTORS, KC_MAX, true>(call));
                } else {
                    s.outlined(BlockInstance::<VECTORS, KC_USUAL, false>(call));
                }
            }
            if !self.y.has_runs() {
                s.outlined(Store { sums, width, y: self.y.reborrow(), block: y_block, first_row, finish });
            }
        }
    }
}

/// One block for a panel of columns.
struct AccumulateBlock<'a> {
    rows: BlockRows<'a>,
    /// The block's activations `[KC, width]`, followed by unspecified data.
    tile: &'a [f32],
    /// The sums of the chunk's outputs, `[MC, width]`.
    sums: &'a mut [f32],
    /// Whether this block is the first one: sums start from 0 or from Y.
    begin: bool,
    /// Where complete sums are stored, if this block is the last one.
    to: Option<StoreTo<'a>>,
    prefetch: Prefetch,
}

/// Destination of finished sums: a block of Y, which begins at row `first_row` of all outputs.
struct StoreTo<'a> {
    y: MatMut<'a>,
    block: Block,
    first_row: usize,
    finish: Finish<'a>,
}

/// What outputs prefetch into L2.
struct Prefetch {
    /// The next tile's first activation, and how far apart its inputs are.
    next: *const f32,
    stride: usize,
    /// Outputs to skip before each of the following prefetches an input of the next tile: enough that the lines are not evicted
    /// before use; `usize::MAX` for no prefetching.
    wait: usize,
    /// Lines prefetched per output row; constant, so that the trip count predicts.
    lines: usize,
}

impl Prefetch {
    /// Prefetches `width` activations of an input of the next tile, and kept weights that come after `row`.
    #[inline(always)]
    fn step<S: Simd>(&mut self, s: S, width: usize, row: &[Entry]) {
        if self.wait > 0 {
            self.wait -= 1;
        } else {
            (0..width)
                .step_by(LINE / size_of::<f32>())
                .for_each(|at| s.prefetch::<false, _>(self.next.wrapping_add(at)));
            self.next = self.next.wrapping_add(self.stride);
        }
        let ahead = row.as_ptr().cast::<u8>().wrapping_add(DISTANCE);
        (0..self.lines).for_each(|line| s.prefetch::<false, _>(ahead.wrapping_add(line * LINE)));
    }
}

/// [`AccumulateBlock`] for blocks of up to `KC` inputs. `PREFETCH` is a parameter because its code costs 2 % even if it
/// prefetches nothing; a larger `KC` costs 1 % more.
struct BlockInstance<'a, const VECTORS: usize, const KC: usize, const PREFETCH: bool>(AccumulateBlock<'a>);

impl<const VECTORS: usize, const KC: usize, const PREFETCH: bool> Kernel
    for BlockInstance<'_, VECTORS, KC, PREFETCH>
{
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let AccumulateBlock { rows, tile, sums, begin, to, mut prefetch } = self.0;
        let width = VECTORS * S::LANES;
        let tile: &[[S::F32; VECTORS]] = bytemuck::cast_slice(&tile[..KC * width]);
        let tile: &[_; KC] = tile.try_into().expect("a tile of the widest block");
        let sums: &mut [[S::F32; VECTORS]] = bytemuck::cast_slice_mut(&mut sums[..MC * width]);
        let rows = rows.iter().zip(sums.iter_mut());
        let begin = |sums: &[S::F32; VECTORS]| if begin { [s.splat(0.0); VECTORS] } else { *sums };
        let mut prefetch = |row: &[Entry]| {
            if PREFETCH {
                prefetch.step(s, width, row);
            }
        };
        let Some(StoreTo { mut y, block, first_row, finish }) = to else {
            for (row, sums) in rows {
                prefetch(row);
                *sums = accumulate_row(s, row, tile, begin(sums));
            }
            return;
        };
        for (index, (row, sums)) in rows.enumerate() {
            prefetch(row);
            let sums = accumulate_row(s, row, tile, begin(sums));
            let y = y.run(block.row + index, block.col, block.cols);
            if block.cols == width {
                store_row::<S, VECTORS, true>(s, &sums, y);
            } else {
                store_row::<S, VECTORS, false>(s, &sums, y);
            }
            finish.apply(s, y, first_row + index, block.col);
        }
    }
}

/// The sums plus each kept weight times its input's activations.
#[inline(always)]
fn accumulate_row<S: Simd, const VECTORS: usize, const KC: usize>(
    s: S,
    row: &[Entry],
    tile: &[[S::F32; VECTORS]; KC],
    mut sums: [S::F32; VECTORS],
) -> [S::F32; VECTORS] {
    for &entry in row {
        let weight = s.splat(s.via_gpr(value(entry)));
        let x = s.materialize_address(&tile[place(entry) % KC]);
        for v in 0..VECTORS {
            sums[v] = s.mul_add(weight, x[v], sums[v]);
        }
    }
    sums
}
