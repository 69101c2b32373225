//! The weight gradient: lanes over the images, sums of several weights at once in registers.
//!
//! X and dY are copied so that the images of one vector are contiguous for a whole plane: a vector every `batch` floats would use
//! only a fraction of the cache's sets. A tile of up to `Simd::TILES.conv_outputs` outputs by [`CONV_TAPS`] neighbouring taps of
//! one kernel row, or of all rows of a 3×3 kernel if there are registers for them, keeps its sums, one per image, in registers
//! over all positions. Then the lanes, the images' parts of the gradient, are added in ascending order. The planes of X are taken
//! in blocks that stay in L2 from one tile of outputs to the next.
//!
//! Cost: weights · positions · batch multiply-adds, with one load for 1.9 of them at 3 outputs × 5 taps, for 2.25 at 3 outputs ×
//! 3×3 taps; per tile and vector one addition per weight and image, 1/positions of that.

use crate::aligned::AlignedBuffer;
use crate::conv_shape::Shape;
use crate::engine::Engine;
use crate::error::KernelError;
use crate::panel::{Block, copy_padded, pack};
use crate::simd::{Kernel, Simd, array_of};
use crate::tiles::CONV_TAPS;
use crate::view::{ImagesRef, MatMut};
use crate::weights::conv_taps::even;

/// No backend has more lanes.
const MAX_LANES: usize = 32;

/// All arguments fit each other.
pub(super) fn compute(
    engine: Engine,
    shape: &Shape,
    dy: ImagesRef<'_>,
    x: ImagesRef<'_>,
    mut dw: MatMut<'_>,
    buffer: &mut AlignedBuffer,
) -> Result<(), KernelError> {
    dw.fill(0.0);
    let batch = x.batch();
    if dw.shape().contains(&0) || [x.sizes(), dy.sizes()].iter().any(|sizes| sizes.contains(&0)) {
        return Ok(());
    }
    let padded = batch.saturating_add(MAX_LANES);
    // In whole cache lines.
    let lengths = [x, dy].map(|images| {
        let [_, channels, height, width] = images.sizes();
        KernelError::product("packed activations", [channels, height, width, padded])
    });
    let [x_len, dy_len] = lengths;
    let x_len = x_len?.next_multiple_of(16);
    let packed = buffer.get(x_len.saturating_add(dy_len?));
    let (packed_x, packed_dy) = packed.split_at_mut(x_len);
    engine.for_each([(x, &mut *packed_x), (dy, &mut *packed_dy)].into_iter(), |(images, packed)| {
        engine.backend().run(PackImages { images, packed });
    });
    let (packed_x, packed_dy) = (&*packed_x, &*packed_dy);
    let outputs = shape.outputs.div_ceil(engine.threads());
    engine.for_each(dw.bands(outputs).enumerate(), |(index, dw)| {
        let first_output = index * outputs;
        engine.backend().run(WeightGradient { shape, packed_x, packed_dy, batch, first_output, dw });
    });
    Ok(())
}

/// Whether all images fit in a narrow vector: then half of a wide one would be padding.
#[inline(always)]
fn narrow_suffices<S: Simd>(batch: usize) -> bool {
    S::Narrow::LANES < S::LANES && batch <= S::Narrow::LANES
}

/// Images → vectors of images `[batch / lanes, pixels]`, the last one padded with zeros.
struct PackImages<'a> {
    images: ImagesRef<'a>,
    packed: &'a mut [f32],
}

impl Kernel for PackImages<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if narrow_suffices::<S>(self.images.batch()) {
            self.pack(s.narrow());
        } else {
            self.pack(s);
        }
    }
}

impl PackImages<'_> {
    #[inline(always)]
    fn pack<S: Simd>(self, s: S) {
        let [batch, channels, height, width] = self.images.sizes();
        let row = width * S::LANES;
        let group = channels * height * row;
        for at in 0..channels * height {
            let from = self.images.row(at / height, at % height);
            if batch > 1 && from.has_runs() {
                // Position by position, so that memory is read from front to back.
                for x in 0..width {
                    let vectors = from.run(x, 0, batch).chunks(S::LANES);
                    for (from, packed) in vectors.zip(self.packed.chunks_exact_mut(group)) {
                        copy_padded(s, from, &mut packed[at * row + x * S::LANES..][..S::LANES]);
                    }
                }
                continue;
            }
            let groups = self.packed.chunks_exact_mut(group);
            for (packed, first) in groups.zip((0..batch).step_by(S::LANES)) {
                let cols = S::LANES.min(batch - first);
                let block = Block { row: 0, rows: width, col: first, cols };
                pack(s, from, block, &mut packed[at * row..][..row], S::LANES);
            }
        }
    }
}

/// Floats of the planes of X that stay in L2: half of a usual one.
const BLOCK_FLOATS: usize = 128 << 10;

/// The gradient of the outputs from `first_output` on, as many as `dw` has rows; `dw` is 0 at the start.
struct WeightGradient<'a> {
    shape: &'a Shape,
    packed_x: &'a [f32],
    packed_dy: &'a [f32],
    batch: usize,
    first_output: usize,
    dw: MatMut<'a>,
}

/// A tile of outputs × taps: where it begins, and its planes of X and dY.
#[derive(Clone, Copy)]
struct Tile<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    row: usize,
    column: usize,
    /// Where its first weight is in `dw`, and the number of images in the vectors.
    weight: [usize; 2],
    images: usize,
}

impl Kernel for WeightGradient<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if narrow_suffices::<S>(self.batch) {
            self.tiles(s.narrow());
        } else {
            self.tiles(s);
        }
    }
}

impl WeightGradient<'_> {
    #[inline(always)]
    fn tiles<S: Simd>(mut self, s: S) {
        let Shape { channels, height, width, kernel: [rows, columns], .. } = *self.shape;
        let (plane, out_plane) = (height * width, self.shape.out_height() * self.shape.out_width());
        let outputs = self.dw.rows();
        let tall = even(outputs, S::TILES.conv_outputs);
        let breadth = even(columns, CONV_TAPS);
        let square = S::TILES.conv_squares && [rows, columns] == [3, 3];
        let block = even(channels, BLOCK_FLOATS / (plane * S::LANES));
        let x = self.packed_x.chunks_exact(channels * plane * S::LANES);
        let dy = self.packed_dy.chunks_exact(self.shape.outputs * out_plane * S::LANES);
        for ((x, dy), first_image) in x.zip(dy).zip((0..self.batch).step_by(S::LANES)) {
            let images = S::LANES.min(self.batch - first_image);
            for first_channel in (0..channels).step_by(block) {
                let block = first_channel..channels.min(first_channel + block);
                for output in (0..outputs).step_by(tall) {
                    let dy = &dy[(self.first_output + output) * out_plane * S::LANES..];
                    let tall = tall.min(outputs - output);
                    for channel in block.clone() {
                        let x = &x[channel * plane * S::LANES..][..plane * S::LANES];
                        let at = channel * rows * columns;
                        if square {
                            let tile = Tile { x, dy, row: 0, column: 0, weight: [output, at], images };
                            self.outputs::<S, 3, 3>(s, tile, tall);
                            continue;
                        }
                        for row in 0..rows {
                            for column in (0..columns).step_by(breadth) {
                                let weight = [output, at + row * columns + column];
                                let tile = Tile { x, dy, row, column, weight, images };
                                match breadth.min(columns - column) {
                                    1 => self.outputs::<S, 1, 1>(s, tile, tall),
                                    2 => self.outputs::<S, 1, 2>(s, tile, tall),
                                    3 => self.outputs::<S, 1, 3>(s, tile, tall),
                                    4 => self.outputs::<S, 1, 4>(s, tile, tall),
                                    _ => self.outputs::<S, 1, 5>(s, tile, tall),
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn outputs<S: Simd, const ROWS: usize, const TAPS: usize>(
        &mut self,
        s: S,
        tile: Tile<'_>,
        outputs: usize,
    ) {
        let (shape, dw) = (self.shape, self.dw.reborrow());
        match outputs {
            1 => s.outlined(TileGradient::<1, ROWS, TAPS> { shape, tile, dw }),
            2 => s.outlined(TileGradient::<2, ROWS, TAPS> { shape, tile, dw }),
            _ => s.outlined(TileGradient::<3, ROWS, TAPS> { shape, tile, dw }),
        }
    }
}

/// Adds the gradients of the images, ascending, to those of `OUTPUTS` × `ROWS` × `TAPS` weights.
struct TileGradient<'a, const OUTPUTS: usize, const ROWS: usize, const TAPS: usize> {
    shape: &'a Shape,
    tile: Tile<'a>,
    dw: MatMut<'a>,
}

impl<const OUTPUTS: usize, const ROWS: usize, const TAPS: usize> Kernel
    for TileGradient<'_, OUTPUTS, ROWS, TAPS>
{
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { shape, tile, mut dw } = self;
        let Shape { height, width, stride, padding, .. } = *shape;
        let (out_height, out_width) = (shape.out_height(), shape.out_width());
        let x: &[S::F32] = bytemuck::cast_slice(tile.x);
        let dy: &[S::F32] = bytemuck::cast_slice(tile.dy);
        let row = Row { width: out_width, stride, column: tile.column, padding };
        let mut sums = [[[s.splat(0.0); TAPS]; ROWS]; OUTPUTS];
        for y in 0..out_height {
            let dy = array_of(&[][..], |o| &dy[(o * out_height + y) * out_width..][..out_width]);
            // Before the first row the index wraps around to a row that does not exist either.
            let from = (y * stride + tile.row).wrapping_sub(padding);
            let x: [Option<&[S::F32]>; ROWS] = array_of(None, |r| {
                let from = from.wrapping_add(r);
                (from < height).then(|| &x[from * width..][..width])
            });
            if x.iter().all(Option::is_some) {
                row.add(s, dy, array_of(&[][..], |r| x[r].unwrap_or_default()), &mut sums);
                continue;
            }
            for (r, x) in x.into_iter().enumerate() {
                if let Some(x) = x {
                    let mut of_row: [_; OUTPUTS] = array_of([sums[0][r]], |o| [sums[o][r]]);
                    row.add(s, dy, [x], &mut of_row);
                    (0..OUTPUTS).for_each(|o| sums[o][r] = of_row[o][0]);
                }
            }
        }
        let [output, weight] = tile.weight;
        for (o, sums) in sums.iter().enumerate() {
            for (r, sums) in sums.iter().enumerate() {
                let sums = bytemuck::cast_slice::<S::F32, f32>(sums).chunks_exact(S::LANES);
                for (tap, sums) in sums.enumerate() {
                    let (row, col) = (output + o, weight + r * TAPS + tap);
                    let old = dw.as_ref().get(row, col);
                    dw.set(row, col, sums[..tile.images].iter().fold(old, |total, sum| total + sum));
                }
            }
        }
    }
}

/// A row of the output, and how its positions meet a tile's taps.
#[derive(Clone, Copy)]
struct Row {
    width: usize,
    stride: usize,
    column: usize,
    padding: usize,
}

impl Row {
    /// Adds the row's terms to the sums; `x` is the input's row of each of the taps' rows.
    #[inline(always)]
    fn add<S: Simd, const OUTPUTS: usize, const ROWS: usize, const TAPS: usize>(
        self,
        s: S,
        dy: [&[S::F32]; OUTPUTS],
        x: [&[S::F32]; ROWS],
        sums: &mut [[[S::F32; TAPS]; ROWS]; OUTPUTS],
    ) {
        let mut all = *sums;
        for position in 0..self.width {
            let dy: [S::F32; OUTPUTS] = array_of(s.splat(0.0), |o| dy[o][position]);
            let from = (position * self.stride + self.column).wrapping_sub(self.padding);
            // All rows are equally long.
            if from.checked_add(TAPS).is_some_and(|end| end <= x[0].len()) {
                let x: [&[S::F32]; ROWS] = array_of(&[][..], |r| &x[r][from..][..TAPS]);
                for r in 0..ROWS {
                    for tap in 0..TAPS {
                        for o in 0..OUTPUTS {
                            all[o][r][tap] = s.mul_add(dy[o], x[r][tap], all[o][r][tap]);
                        }
                    }
                }
                continue;
            }
            for (r, x) in x.iter().enumerate() {
                for (tap, x) in (0..TAPS).map(|tap| x.get(from.wrapping_add(tap))).enumerate() {
                    let Some(&x) = x else { continue };
                    for o in 0..OUTPUTS {
                        all[o][r][tap] = s.mul_add(dy[o], x, all[o][r][tap]);
                    }
                }
            }
        }
        *sums = all;
    }
}
