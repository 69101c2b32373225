//! Kept weights × few columns of activations: Y = W · X with W [`Interleaved`], X `[K, N]`, Y `[M, N]`. Made for few columns N;
//! more are computed panel by panel.
//!
//! All K rows of a panel's columns of X are packed. In each block eight outputs are computed together: each step multiplies the
//! next kept weight of each with its activations. With up to four columns a vector holds several outputs, whose activations are
//! gathered. With more columns a vector holds columns of one output, and eight chains hide the latency of a multiply-add. Between
//! blocks sums are stored in scratch memory. At the end they are stored to Y, transposed where Y is batch-major.
//!
//! Cost per kept weight: bound by loads, 0.7 to 1 cycle for one column, 1.3 to 2 for 16, 2.1 to 3.3 for 32. Measurements:
//! docs/tuning.md, "Few columns".

use super::call::{Call, Store};
use crate::engine::Engine;
use crate::epilogue::Finish;
use crate::panel::{self, Block};
use crate::simd::{Kernel, Simd};
use crate::view::{MatMut, MatRef};
use crate::weights::Interleaved;
use crate::weights::interleaved::{BandBlock, GROUP, GroupWeights, KC};
use crate::weights::stored::{Stored, Values};

/// Computes Y `[M, N]`; none of M, N and K is 0.
pub(super) fn multiply(engine: Engine, weights: &Interleaved, call: Call<'_, '_>) {
    match weights.values() {
        Values::F32(values) => multiply_stored(engine, weights, values, call),
        Values::Bf16(values) => multiply_stored(engine, weights, values, call),
    }
}

fn multiply_stored<T: Stored>(engine: Engine, weights: &Interleaved, values: &[T], call: Call<'_, '_>) {
    let Call { x, y, accumulate, finish, scratch } = call;
    let band = weights.band_rows();
    let share = weights.rows().div_ceil(band).div_ceil(engine.threads()) * band;
    let width = engine.backend().run(WidestPanel { columns: x.cols() });
    let sums_of_band = sums_of_band(band, width);
    let floats = ((weights.columns() + KC) * width).next_multiple_of(16) + share / band * sums_of_band;
    let scratch = scratch.get(floats * weights.rows().div_ceil(share));
    let shares = y.bands(share).zip(scratch.chunks_mut(floats)).zip((0..).step_by(share));
    engine.for_each(shares, |((y, scratch), first_row)| {
        engine.backend().run(MultiplyInterleaved {
            weights,
            values,
            x,
            first_row,
            accumulate,
            finish,
            y,
            scratch,
        });
    });
}

/// Floats of a band's sums and of one unused row; a multiple of a cache line.
fn sums_of_band(band: usize, width: usize) -> usize {
    ((band + 1) * width).next_multiple_of(16)
}

/// Width of the widest panel for this many columns, padding included.
struct WidestPanel {
    columns: usize,
}

impl Kernel for WidestPanel {
    type Out = usize;
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) -> usize {
        match self.columns {
            few @ ..=4 => few.next_power_of_two(),
            more => {
                let vectors = more.min(S::TILES.interleaved_columns).div_ceil(S::LANES);
                (vectors.next_power_of_two() * S::LANES).max(GROUP)
            }
        }
    }
}

/// The rows of Y from `first_row` on.
struct MultiplyInterleaved<'a, T> {
    weights: &'a Interleaved,
    values: &'a [T],
    x: MatRef<'a>,
    first_row: usize,
    accumulate: bool,
    finish: Finish<'a>,
    y: MatMut<'a>,
    scratch: &'a mut [f32],
}

impl<T: Stored> Kernel for MultiplyInterleaved<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let batch = self.x.cols();
        let mut first = 0;
        while first < batch {
            let mut columns = (batch - first).min(S::TILES.interleaved_columns);
            if columns > S::LANES && columns % S::LANES <= 2 {
                // One or two columns are faster as a separate panel than as another vector.
                columns -= columns % S::LANES;
            }
            let narrow = S::Narrow::LANES;
            match columns {
                1 => self.panel::<S, Few<1>>(s, first, columns),
                2 => self.panel::<S, Few<2>>(s, first, columns),
                3 | 4 => self.panel::<S, Few<4>>(s, first, columns),
                _ if columns <= narrow => self.panel::<S::Narrow, Wide<1>>(s.narrow(), first, columns),
                _ => match columns.div_ceil(S::LANES) {
                    1 => self.panel::<S, Wide<1>>(s, first, columns),
                    2 => self.panel::<S, Wide<2>>(s, first, columns),
                    _ => self.panel::<S, Wide<4>>(s, first, columns),
                },
            }
            first += columns;
        }
    }
}

impl<T: Stored> MultiplyInterleaved<'_, T> {
    /// The next `columns` columns.
    #[inline(always)]
    fn panel<S: Simd, W: PanelKernel>(&mut self, s: S, first_column: usize, columns: usize) {
        let Self { weights, values, x, first_row, accumulate, finish, .. } = *self;
        let width = W::width::<S>();
        let (inputs, band_rows, share) = (weights.columns(), weights.band_rows(), self.y.rows());
        let bands = share.div_ceil(band_rows);
        let sums_of_band = sums_of_band(band_rows, width);
        let (packed, sums) = self.scratch.split_at_mut((inputs + KC) * width);
        let block_of = |band: usize| Block {
            row: band * band_rows,
            rows: band_rows.min(share - band * band_rows),
            col: first_column,
            cols: columns,
        };
        panel::pack(s, x, Block { row: 0, rows: inputs, col: first_column, cols: columns }, packed, width);
        if accumulate {
            for (band, sums) in sums.chunks_exact_mut(sums_of_band).take(bands).enumerate() {
                panel::pack(s, self.y.as_ref(), block_of(band), sums, width);
            }
        }
        for block in 0..weights.blocks() {
            let begin = block == 0 && !accumulate;
            for (band, sums) in sums.chunks_exact_mut(sums_of_band).take(bands).enumerate() {
                let rows = weights.band_block(values, first_row / band_rows + band, block);
                let tile = &packed[rows.first_input * width..][..KC * width];
                s.outlined(AccumulateBand::<T, W> { rows, tile, sums, begin, walk: W::default() });
            }
        }
        for (band, sums) in sums.chunks_exact_mut(sums_of_band).take(bands).enumerate() {
            let block = block_of(band);
            s.outlined(Store {
                sums,
                width,
                y: self.y.reborrow(),
                block,
                first_row: first_row + block.row,
                finish,
            });
        }
    }
}

/// One block of a band.
struct AccumulateBand<'a, T, W> {
    rows: BandBlock<'a, T>,
    /// The block's activations `[KC, width]`, followed by unspecified data.
    tile: &'a [f32],
    /// The sums of the band's outputs, `[rows, width]`, and one more row.
    sums: &'a mut [f32],
    /// Whether this block is the first one: sums start from 0 or from Y.
    begin: bool,
    walk: W,
}

impl<T: Stored, W: PanelKernel> Kernel for AccumulateBand<'_, T, W> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { rows, tile, sums, begin, walk } = self;
        walk.accumulate(s, rows, tile, sums, begin);
    }
}

/// How a panel of some width is computed.
trait PanelKernel: Copy + Default {
    /// Columns of the panel, padding included.
    fn width<S: Simd>() -> usize;
    fn accumulate<S: Simd, T: Stored>(
        self,
        s: S,
        rows: BandBlock<'_, T>,
        tile: &[f32],
        sums: &mut [f32],
        begin: bool,
    );
}

/// Up to `N` columns, so few that a vector holds those of several outputs.
#[derive(Clone, Copy, Default)]
struct Few<const N: usize>;

impl<const N: usize> PanelKernel for Few<N> {
    #[inline(always)]
    fn width<S: Simd>() -> usize {
        N
    }

    #[inline(always)]
    fn accumulate<S: Simd, T: Stored>(
        self,
        s: S,
        rows: BandBlock<'_, T>,
        tile: &[f32],
        sums: &mut [f32],
        begin: bool,
    ) {
        if (GROUP * N).is_multiple_of(S::LANES) && S::LANES.is_multiple_of(N) {
            gather_few::<S, T, N>(s, rows, tile, sums, begin);
        } else {
            gather_few::<S::Narrow, T, N>(s.narrow(), rows, tile, sums, begin);
        }
    }
}

/// [`accumulate_few`] with the faster way to gather; rows of four columns are always loaded one by one.
#[inline(always)]
fn gather_few<S: Simd, T: Stored, const N: usize>(
    s: S,
    rows: BandBlock<'_, T>,
    tile: &[f32],
    sums: &mut [f32],
    begin: bool,
) {
    if N < 4 && s.loads_beat_gathers() {
        accumulate_few::<S, T, N, true>(s, rows, tile, sums, begin);
    } else {
        accumulate_few::<S, T, N, false>(s, rows, tile, sums, begin);
    }
}

/// Columns in `VECTORS` vectors.
#[derive(Clone, Copy, Default)]
struct Wide<const VECTORS: usize>;

impl<const VECTORS: usize> PanelKernel for Wide<VECTORS> {
    #[inline(always)]
    fn width<S: Simd>() -> usize {
        VECTORS * S::LANES
    }

    /// 16 sums in 32 registers, 8 in 16.
    #[inline(always)]
    fn accumulate<S: Simd, T: Stored>(
        self,
        s: S,
        rows: BandBlock<'_, T>,
        tile: &[f32],
        sums: &mut [f32],
        begin: bool,
    ) {
        match (S::REGISTERS >= 32, VECTORS) {
            (_, 1) | (true, 2) => accumulate_wide::<S, T, 8, VECTORS>(s, rows, tile, sums, begin),
            (false, 2) | (true, _) => accumulate_wide::<S, T, 4, VECTORS>(s, rows, tile, sums, begin),
            (false, _) => accumulate_wide::<S, T, 2, VECTORS>(s, rows, tile, sums, begin),
        }
    }
}

/// Prefetch distances of values and of places, in bytes.
const AHEAD: usize = 4096;

/// Visits a group's steps in order, two at a time, with one prefetch for both: one for each step costs more. Both streams are
/// prefetched because hardware prefetching stops at the ends of pages of 4 KiB.
///
/// A macro, because the compiler may not inline a closure into the `#[target_feature]` function, and would then compile it
/// without the backend's instructions.
macro_rules! for_each_step {
    ($s:ident, $values:ident, $places:ident, |$step_values:ident, $step_places:ident| $step:block) => {
        let ((pairs, last), (place_pairs, last_places)) = ($values.as_chunks::<2>(), $places.as_chunks::<2>());
        for (pair, places) in pairs.iter().zip(place_pairs) {
            $s.prefetch::<true, _>(pair.as_ptr().cast::<u8>().wrapping_add(AHEAD));
            $s.prefetch::<true, _>(places.as_ptr().cast::<u8>().wrapping_add(AHEAD));
            for ($step_values, $step_places) in pair.iter().zip(places) $step
        }
        for ($step_values, $step_places) in last.iter().zip(last_places) $step
    };
}

/// Eight outputs in the lanes of a few vectors.
#[inline(always)]
fn accumulate_few<S: Simd, T: Stored, const N: usize, const LOADS: bool>(
    s: S,
    rows: BandBlock<'_, T>,
    tile: &[f32],
    sums: &mut [f32],
    begin: bool,
) {
    let tile: &[[f32; N]; KC] = tile.as_chunks().0.try_into().expect("a tile of the widest block");
    let sums: &mut [[f32; N]] = sums.as_chunks_mut().0;
    let vectors = GROUP * N / S::LANES;
    let outputs = S::LANES / N;
    for group in rows {
        let GroupWeights { rows, values, places, mut tails } = group;
        let mut of_rows = [[0.0; N]; GROUP];
        if !begin {
            for (sum, &row) in of_rows.iter_mut().zip(rows) {
                *sum = sums[usize::from(row)];
            }
        }
        let lanes = of_rows.as_flattened_mut();
        let mut running = [s.splat(0.0); GROUP];
        for v in 0..vectors {
            running[v] = s.load(&lanes[v * S::LANES..]);
        }
        for_each_step!(s, values, places, |values, places| {
            for v in 0..vectors {
                let weights = T::repeat::<S, N>(s, &values[v * outputs..]);
                let x = s.gather::<N, LOADS>(tile, &places[v * outputs..]);
                running[v] = s.mul_add(weights, x, running[v]);
            }
        });
        for v in 0..vectors {
            s.store(running[v], &mut lanes[v * S::LANES..]);
        }
        for (lane, (sum, &row)) in of_rows.iter_mut().zip(rows).enumerate() {
            let (values, places) = tails.take(lane);
            for (&value, &place) in values.iter().zip(places) {
                let x = &tile[usize::from(place) % KC];
                for n in 0..N {
                    sum[n] = s.mul_add_one(value.widen(), x[n], sum[n]);
                }
            }
            sums[usize::from(row)] = *sum;
        }
    }
}

/// `ROWS` outputs at a time, the columns of each in `VECTORS` vectors.
#[inline(always)]
fn accumulate_wide<S: Simd, T: Stored, const ROWS: usize, const VECTORS: usize>(
    s: S,
    rows: BandBlock<'_, T>,
    tile: &[f32],
    sums: &mut [f32],
    begin: bool,
) {
    let tile: &[[S::F32; VECTORS]] = bytemuck::cast_slice(tile);
    let tile: &[_; KC] = tile.try_into().expect("a tile of the widest block");
    let whole = sums.len() / (VECTORS * S::LANES) * (VECTORS * S::LANES);
    let sums: &mut [[S::F32; VECTORS]] = bytemuck::cast_slice_mut(&mut sums[..whole]);
    for group in rows {
        let GroupWeights { rows, values, places, mut tails } = group;
        for first in (0..GROUP).step_by(ROWS) {
            let mut running = [[s.splat(0.0); VECTORS]; ROWS];
            if !begin {
                for (running, &row) in running.iter_mut().zip(&rows[first..]) {
                    *running = sums[usize::from(row)];
                }
            }
            for_each_step!(s, values, places, |values, places| {
                // Four places in one load; vector loads would be slower here.
                let places: [u64; 2] = bytemuck::cast(*places);
                for i in (first..first + ROWS).step_by(2) {
                    let pair = T::splat_2(s, [values[i], values[i + 1]]);
                    for (i, weight) in (i..).zip(pair) {
                        let shift = if cfg!(target_endian = "little") { i % 4 } else { 3 - i % 4 };
                        let place = (places[i / 4] >> (16 * shift)) as usize % KC;
                        add(s, weight, &tile[place], &mut running[i - first]);
                    }
                }
            });
            for (row, running) in (first..).zip(&mut running) {
                let (values, places) = tails.take(row);
                for (&value, &place) in values.iter().zip(places) {
                    add(s, s.splat(value.widen()), &tile[usize::from(place) % KC], running);
                }
                sums[usize::from(rows[row])] = *running;
            }
        }
    }
}

/// Adds a kept weight times its input's activations.
#[inline(always)]
fn add<S: Simd, const VECTORS: usize>(
    s: S,
    weight: S::F32,
    x: &[S::F32; VECTORS],
    sums: &mut [S::F32; VECTORS],
) {
    for v in 0..VECTORS {
        sums[v] = s.mul_add(weight, x[v], sums[v]);
    }
}
