//! Panels of weights × few columns of activations: Y = W · X with W [`Panels`], all weights, or [`Bitmask`], the kept ones; X
//! `[K, N]`, Y `[M, N]`. Made for few columns N; any number is computed.
//!
//! Lanes run over outputs. A tile is a few panels of outputs by up to eight columns: each step multiplies a vector of weights
//! with the broadcast activations of all columns. For up to four columns four panels are read at once (AVX-512): this gives
//! enough chains, and several streams are read faster than one. K of dense panels is cut into blocks, so that with more than eight
//! columns the later ones find a block's weights in L2. Sums are stored in scratch memory, outputs contiguous, and go to Y at the end.
//!
//! Cost: with up to four columns bound by memory, then N / 32 cycles per weight with AVX-512. Measurements: docs/tuning.md, "Few
//! columns".

use core::ops::Range;

use super::call::Call;
use crate::engine::Engine;
use crate::epilogue::Finish;
use crate::panel::{self, Block};
use crate::simd::{Kernel, Simd, array_of};
use crate::tiles::PANEL;
use crate::view::{MatMut, MatRef};
use crate::weights::bitmask::{Bitmask, BitmaskPanel};
use crate::weights::panels::Panels;
use crate::weights::stored::{Stored, Values};

/// Panels of a group. Its weights, over a block's depth, stay in L2 for all columns.
const GROUP: usize = 8;

/// Outputs of a group.
const OUTPUTS: usize = GROUP * PANEL;

/// Maximum depth of a block of K if there are several tiles of columns.
const KC: usize = 512;

/// Maximum number of columns of one pass over the weights.
const MOST_COLUMNS: usize = 32;

/// Columns are padded to a multiple of this; no tile has more.
const PADDED_TO: usize = 8;

/// Prefetch distance, in bytes of weights of all panels together. Hardware prefetching stops at the end of a page of 4 KiB.
const AHEAD: usize = 16 << 10;

/// Columns of the next tile if `columns` are left: 1, 2, 4 or 8, padding included.
fn tile_columns<S: Simd>(columns: usize) -> usize {
    let most = S::TILES.panel_columns;
    if columns >= most { most } else { columns.next_power_of_two() }
}

/// Computes Y `[M, N]` over all weights; none of M, N and K is 0.
pub(super) fn multiply(engine: Engine, weights: &Panels, call: Call<'_, '_>) {
    let (rows, columns) = (weights.rows(), weights.columns());
    match weights.values() {
        Values::F32(values) => multiply_matrix(engine, AllWeights { values, columns }, rows, call),
        Values::Bf16(values) => multiply_matrix(engine, AllWeights { values, columns }, rows, call),
    }
}

/// Computes Y `[M, N]` over the kept weights; none of M, N and K is 0.
pub(super) fn multiply_kept(engine: Engine, weights: &Bitmask, call: Call<'_, '_>) {
    match weights.values() {
        Values::F32(values) => multiply_matrix(engine, KeptWeights { values, weights }, weights.rows(), call),
        Values::Bf16(values) => {
            multiply_matrix(engine, KeptWeights { values, weights }, weights.rows(), call)
        }
    }
}

/// A matrix of panels.
trait PanelMatrix: Copy + Send + Sync {
    type Panel: PanelStream;
    /// Whether a panel can be read from any column on.
    const DIVISIBLE: bool;

    /// Columns `first_k..first_k + depth` of panel `index`; all of them unless `DIVISIBLE`.
    fn panel(self, index: usize, first_k: usize, depth: usize) -> Self::Panel;
}

/// The weights of a panel, column after column.
trait PanelStream: Copy {
    /// Whether each lane has a weight, zero where it was removed. Then the bits that `next` returns are not read.
    const ALL: bool;

    /// Prefetches what is `ahead` bytes after the weights of column `k`, the next one.
    fn prefetch<S: Simd>(&self, s: S, k: usize, ahead: usize);

    /// The weights of vector `v` of column `k`, and the bits of the lanes that have one: vector after vector, column after column.
    fn next<S: Simd>(&mut self, s: S, k: usize, v: usize) -> (S::F32, u32);
}

/// The matrix of [`Panels`].
#[derive(Clone, Copy)]
struct AllWeights<'a, T> {
    values: &'a [T],
    columns: usize,
}

impl<'a, T: Stored> PanelMatrix for AllWeights<'a, T> {
    type Panel = &'a [[T; PANEL]];
    const DIVISIBLE: bool = true;

    #[inline(always)]
    fn panel(self, index: usize, first_k: usize, depth: usize) -> Self::Panel {
        &self.values.as_chunks().0[index * self.columns + first_k..][..depth]
    }
}

impl<T: Stored> PanelStream for &[[T; PANEL]] {
    const ALL: bool = true;

    #[inline(always)]
    fn prefetch<S: Simd>(&self, s: S, k: usize, ahead: usize) {
        s.prefetch::<true, _>(self[k].as_ptr().cast::<u8>().wrapping_add(ahead));
    }

    #[inline(always)]
    fn next<S: Simd>(&mut self, s: S, k: usize, v: usize) -> (S::F32, u32) {
        (T::repeat::<S, 1>(s, &self[k][v * S::LANES..]), 0)
    }
}

/// The matrix of a [`Bitmask`].
#[derive(Clone, Copy)]
struct KeptWeights<'a, T> {
    values: &'a [T],
    weights: &'a Bitmask,
}

impl<'a, T: Stored> PanelMatrix for KeptWeights<'a, T> {
    type Panel = BitmaskPanel<'a, T>;
    const DIVISIBLE: bool = false;

    #[inline(always)]
    fn panel(self, index: usize, first_k: usize, depth: usize) -> Self::Panel {
        debug_assert_eq!(first_k, 0);
        let BitmaskPanel { bits, values } = self.weights.panel(self.values, index);
        BitmaskPanel { bits: &bits[..depth], values }
    }
}

impl<T: Stored> PanelStream for BitmaskPanel<'_, T> {
    const ALL: bool = false;

    #[inline(always)]
    fn prefetch<S: Simd>(&self, s: S, _k: usize, ahead: usize) {
        s.prefetch::<true, _>(self.values.as_ptr().cast::<u8>().wrapping_add(ahead));
    }

    #[inline(always)]
    fn next<S: Simd>(&mut self, s: S, k: usize, v: usize) -> (S::F32, u32) {
        let bits = u32::from(self.bits[k]) >> (v * S::LANES) & ((1 << S::LANES) - 1);
        let weights = s.expand(T::repeat::<S, 1>(s, self.values), bits);
        // At least a vector is left. This way the compiler knows that no second check is needed.
        let taken = (bits.count_ones() as usize).min(S::LANES);
        self.values = &self.values[taken..];
        (weights, bits)
    }
}

fn multiply_matrix<W: PanelMatrix>(engine: Engine, weights: W, rows: usize, call: Call<'_, '_>) {
    let Call { x, y, accumulate, finish, scratch } = call;
    let inputs = x.rows();
    let share = match engine.threads() {
        1 => rows,
        threads => rows.div_ceil(threads).next_multiple_of(OUTPUTS),
    };
    let columns = x.cols().min(MOST_COLUMNS).next_multiple_of(PADDED_TO);
    let floats = columns * (inputs + OUTPUTS).next_multiple_of(16);
    let scratch = scratch.get(floats * rows.div_ceil(share));
    let shares = y.bands(share).zip(scratch.chunks_mut(floats)).zip((0..).step_by(share));
    engine.for_each(shares, |((y, scratch), first_row)| {
        engine.backend().run(MultiplyPanels { weights, x, first_row, accumulate, finish, y, scratch });
    });
}

/// The rows of Y from `first_row` on.
struct MultiplyPanels<'a, W> {
    weights: W,
    x: MatRef<'a>,
    first_row: usize,
    accumulate: bool,
    finish: Finish<'a>,
    y: MatMut<'a>,
    scratch: &'a mut [f32],
}

impl<W: PanelMatrix> Kernel for MultiplyPanels<'_, W> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if PANEL.is_multiple_of(S::LANES) {
            self.multiply(s);
        } else {
            self.multiply(s.narrow());
        }
    }
}

impl<W: PanelMatrix> MultiplyPanels<'_, W> {
    #[inline(always)]
    fn multiply<S: Simd>(mut self, s: S) {
        let batch = self.x.cols();
        for first in (0..batch).step_by(MOST_COLUMNS) {
            self.columns(s, first, MOST_COLUMNS.min(batch - first));
        }
    }

    /// The next `columns` columns.
    #[inline(always)]
    fn columns<S: Simd>(&mut self, s: S, first_column: usize, columns: usize) {
        let Self { weights, x, first_row, accumulate, finish, .. } = *self;
        let (inputs, rows) = (x.rows(), self.y.rows());
        let padded = columns.next_multiple_of(PADDED_TO);
        let (packed, sums) = self.scratch.split_at_mut(padded * inputs.next_multiple_of(16));
        let mut at = 0;
        while at < columns {
            let width = tile_columns::<S>(columns - at);
            let block = Block { row: 0, rows: inputs, col: first_column + at, cols: width.min(columns - at) };
            panel::pack(s, x, block, &mut packed[at * inputs..], width);
            at += width;
        }
        let kc = if columns <= tile_columns::<S>(columns) || !W::DIVISIBLE { inputs } else { KC };
        for first in (0..rows).step_by(OUTPUTS) {
            let outputs = OUTPUTS.min(rows - first);
            let panels = (first_row + first) / PANEL..(first_row + first + outputs).div_ceil(PANEL);
            let of_y = Block { row: first_column, rows: columns, col: first, cols: outputs };
            let sums = &mut sums[..padded * OUTPUTS];
            if accumulate {
                panel::pack(s, self.y.as_ref().t(), of_y, sums, OUTPUTS);
            }
            for first_k in (0..inputs).step_by(kc) {
                let begin = first_k == 0 && !accumulate;
                let depth = kc.min(inputs - first_k);
                let mut at = 0;
                while at < columns {
                    let width = tile_columns::<S>(columns - at);
                    let x = &packed[at * inputs + first_k * width..][..depth * width];
                    let sums = &mut sums[at * OUTPUTS..][..width * OUTPUTS];
                    let panels = panels.clone();
                    let group = PanelGroup { weights, panels, first_k, x, sums, begin };
                    match (S::LANES, width) {
                        (16, 1) => s.outlined(PanelTiles::<W, 4, 1, 1>(group)),
                        (16, 2) => s.outlined(PanelTiles::<W, 4, 1, 2>(group)),
                        (16, 4) => s.outlined(PanelTiles::<W, 4, 1, 4>(group)),
                        (16, _) => s.outlined(PanelTiles::<W, 2, 1, 8>(group)),
                        (8, 1) => s.outlined(PanelTiles::<W, 4, 2, 1>(group)),
                        (8, 2) => s.outlined(PanelTiles::<W, 2, 2, 2>(group)),
                        (8, _) => s.outlined(PanelTiles::<W, 1, 2, 4>(group)),
                        (_, 1) => s.outlined(PanelTiles::<W, 2, 4, 1>(group)),
                        (_, 2) => s.outlined(PanelTiles::<W, 2, 4, 2>(group)),
                        _ => s.outlined(PanelTiles::<W, 1, 4, 4>(group)),
                    }
                    at += width;
                }
            }
            // Outputs are columns of Yᵀ.
            let finish = finish.t();
            if !finish.is_none() {
                for (column, sums) in sums.chunks_exact_mut(OUTPUTS).take(columns).enumerate() {
                    finish.apply(s, &mut sums[..outputs], first_column + column, first_row + first);
                }
            }
            panel::unpack(s, sums, OUTPUTS, &mut self.y.reborrow().t(), of_y);
        }
    }
}

/// A group of panels over a block's depth.
struct PanelGroup<'a, W> {
    weights: W,
    panels: Range<usize>,
    first_k: usize,
    /// `[depth][columns]`
    x: &'a [f32],
    /// `[columns][OUTPUTS]`
    sums: &'a mut [f32],
    /// Whether this block is the first one: sums start from 0 or from Y.
    begin: bool,
}

/// Tiles of `PANELS` panels, each of `VECTORS` vectors, by `N` columns.
struct PanelTiles<'a, W, const PANELS: usize, const VECTORS: usize, const N: usize>(PanelGroup<'a, W>);

impl<W: PanelMatrix, const PANELS: usize, const VECTORS: usize, const N: usize> Kernel
    for PanelTiles<'_, W, PANELS, VECTORS, N>
{
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let PanelGroup { weights, panels, first_k, x, sums, begin } = self.0;
        let x: &[[f32; N]] = x.as_chunks().0;
        for first in panels.clone().step_by(PANELS) {
            // Panels past the last one repeat it, and their sums are discarded.
            let mut streams: [W::Panel; PANELS] = array_of(weights.panel(first, first_k, x.len()), |p| {
                weights.panel((first + p).min(panels.end - 1), first_k, x.len())
            });
            let mut running = [[[s.splat(0.0); N]; VECTORS]; PANELS];
            let output = |p: usize, v: usize, n: usize| {
                n * OUTPUTS + (first - panels.start + p) * PANEL + v * S::LANES
            };
            if !begin {
                for p in 0..PANELS {
                    for v in 0..VECTORS {
                        for n in 0..N {
                            running[p][v][n] = s.load(&sums[output(p, v, n)..]);
                        }
                    }
                }
            }
            for (k, x) in x.iter().enumerate() {
                for (stream, running) in streams.iter_mut().zip(&mut running) {
                    stream.prefetch(s, k, AHEAD / PANELS);
                    for (v, running) in running.iter_mut().enumerate() {
                        let (weights, bits) = stream.next(s, k, v);
                        for (sum, &x) in running.iter_mut().zip(x) {
                            *sum = if W::Panel::ALL {
                                s.mul_add(weights, s.splat(x), *sum)
                            } else {
                                s.mul_add_where(bits, weights, s.splat(x), *sum)
                            };
                        }
                    }
                }
            }
            for p in 0..PANELS {
                for v in 0..VECTORS {
                    for n in 0..N {
                        s.store(running[p][v][n], &mut sums[output(p, v, n)..]);
                    }
                }
            }
        }
    }
}
