//! Kept weights × activations: Y = W · X with W compressed, X `[K, N]`, Y `[M, N]`.
//!
//! The batch lies in the lanes. For a panel of [`PANEL`] columns and a block of inputs, that piece of X is copied into
//! an aligned slice that fits in L1, where an input's activations are one 256-byte run; then each output walks its kept
//! weights in the block: broadcast the weight, multiply-add it with the input's run into accumulators that never leave
//! the registers. Between blocks the accumulators rest in Y, which changes no bit.
//!
//! Cost per kept weight: 8 multiply-adds of 8 lanes with one load each, so 4 cycles on a machine with two of both per
//! cycle; one integer load for value and column, and about 8 scalar instructions that fit beside them. Per output and
//! block: 256 bytes of Y read and written, from L2, and a fresh start of the pipeline: 15–20 cycles in all, which is
//! what counts when few weights are kept. (Measured on Zen 4: walking two outputs at once to overlap those starts lost
//! more in instructions than it gained; panels of 32 columns with twice the block are bound by instructions; outputs with
//! equal numbers of kept weights, so that no loop end is mispredicted, gain 1–2 %.)

use super::epilogue::Epilogue;
use super::rows::{copy_padded, load_row, store_row};
use crate::engine::Engine;
use crate::simd::{Kernel, Simd};
use crate::sparse::{BLOCK_SPARSE, Block, CompressedRows, Entry, column, value};

/// Columns of a panel: 8 vectors of AVX2 and 4 of AVX-512, enough independent chains of multiply-adds to hide their
/// latency, few enough for 16 registers.
const PANEL: usize = 64;

/// Computes Y.
pub(crate) fn multiply(
    engine: Engine,
    weights: &CompressedRows,
    x: &[f32],
    batch: usize,
    epilogue: Epilogue<'_>,
    y: &mut [f32],
) {
    if weights.columns() == 0 || batch == 0 {
        y.fill(0.0);
        return;
    }
    // Every task copies all of X: as few of them as even out the rows' different numbers of kept weights.
    let rows = match engine.threads() {
        1 => weights.rows(),
        threads => weights.rows().div_ceil(threads * 2),
    };
    engine.for_each_chunk(y, rows.max(1) * batch, |index, y| {
        let first_row = index * rows;
        let last_row = first_row + y.len() / batch;
        for first_column in (0..batch).step_by(PANEL) {
            for block in 0..weights.blocks() {
                let (block, end) =
                    (weights.block_rows(block, first_row..last_row), block + 1 == weights.blocks());
                let epilogue = if end { epilogue } else { Epilogue::None };
                engine.backend().run(Multiply { block, x, batch, first_row, first_column, epilogue, y });
            }
        }
    });
}

/// One block of inputs against one panel of columns, for the rows of Y from `first_row` on.
struct Multiply<'a> {
    block: Block<'a>,
    x: &'a [f32],
    batch: usize,
    first_row: usize,
    first_column: usize,
    epilogue: Epilogue<'a>,
    y: &'a mut [f32],
}

impl Kernel for Multiply<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        // Lane counts that do not divide a panel (they exist in tests) take it in several steps.
        let widest = 8.min(PANEL / S::LANES).max(1);
        let end = self.batch.min(self.first_column + PANEL);
        while self.first_column < end {
            let columns = (end - self.first_column).min(widest * S::LANES);
            let vectors = columns.div_ceil(S::LANES).next_power_of_two();
            match (vectors, columns == vectors * S::LANES) {
                (1, true) => self.rows::<S, 1, true>(s, columns),
                (1, false) => self.rows::<S, 1, false>(s, columns),
                (2, true) => self.rows::<S, 2, true>(s, columns),
                (2, false) => self.rows::<S, 2, false>(s, columns),
                (4, true) => self.rows::<S, 4, true>(s, columns),
                (4, false) => self.rows::<S, 4, false>(s, columns),
                (_, true) => self.rows::<S, 8, true>(s, columns),
                (_, false) => self.rows::<S, 8, false>(s, columns),
            }
            self.first_column += columns;
        }
    }
}

impl Multiply<'_> {
    /// The next `columns` columns; `FULL` when they fill the vectors.
    #[inline(always)]
    fn rows<S: Simd, const VECTORS: usize, const FULL: bool>(&mut self, s: S, columns: usize) {
        let columns = if FULL { VECTORS * S::LANES } else { columns };
        let Block { first_input, inputs, starts, entries } = self.block;
        let mut slice = [[s.splat(0.0); VECTORS]; BLOCK_SPARSE];
        let slice = &mut slice[..inputs];
        let packed = bytemuck::cast_slice_mut::<[S::F32; VECTORS], f32>(slice);
        let x = self.x.chunks_exact(self.batch).skip(first_input);
        for (to, from) in packed.chunks_exact_mut(VECTORS * S::LANES).zip(x) {
            copy_padded(s, &from[self.first_column..self.first_column + columns], to);
        }
        let mut start = starts[0];
        for (row, &end) in starts[1..].iter().enumerate() {
            let at = row * self.batch + self.first_column;
            let y = &mut self.y[at..at + columns];
            let mut sums = [s.splat(0.0); VECTORS];
            if first_input > 0 {
                load_row::<S, VECTORS, FULL>(s, y, &mut sums);
            }
            walk(s, &entries[start..end], slice, &mut sums);
            store_row::<S, VECTORS, FULL>(s, &sums, y);
            self.epilogue.apply(s, y, self.first_row * self.batch + at);
            start = end;
        }
    }
}

/// Adds each kept weight times its input's activations to the sums.
#[inline(always)]
fn walk<S: Simd, const VECTORS: usize>(
    s: S,
    entries: &[Entry],
    slice: &[[S::F32; VECTORS]],
    sums: &mut [S::F32; VECTORS],
) {
    for &entry in entries {
        let weight = s.splat(value(entry));
        let x = &slice[column(entry)];
        for v in 0..VECTORS {
            sums[v] = s.mul_add(weight, x[v], sums[v]);
        }
    }
}
