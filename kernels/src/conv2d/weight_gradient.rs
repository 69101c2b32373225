//! The weight gradient: lanes over the images, sums of several weights at once in registers.
//!
//! X and dY are copied so that the images of one vector are contiguous for a whole plane: a vector every `batch` floats would use
//! only a fraction of the cache's sets. A tile of up to `Simd::TILES.conv_outputs` outputs by [`CONV_TAPS`] neighbouring taps of
//! one kernel row keeps its sums, one per image, in registers over all positions. Then the lanes, the images' parts of the
//! gradient, are added in ascending order.
//!
//! Cost: weights · positions · batch multiply-adds, at the largest tile with one load for 1.9 of them; per tile and vector
//! one addition per weight and image, 1/positions of that.

use crate::aligned::AlignedBuffer;
use crate::conv_shape::Shape;
use crate::engine::Engine;
use crate::error::KernelError;
use crate::panel;
use crate::simd::{Kernel, Simd};
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

/// Images → vectors of images `[batch / lanes, pixels]`, the last one padded with zeros.
struct PackImages<'a> {
    images: ImagesRef<'a>,
    packed: &'a mut [f32],
}

impl Kernel for PackImages<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let [batch, channels, height, width] = self.images.sizes();
        let groups = self.packed.chunks_exact_mut(channels * height * width * S::LANES);
        for (packed, first) in groups.zip((0..batch).step_by(S::LANES)) {
            let cols = S::LANES.min(batch - first);
            let block = panel::Block { row: 0, rows: width, col: first, cols };
            for (at, row) in packed.chunks_exact_mut(width * S::LANES).enumerate() {
                panel::pack(s, self.images.row(at / height, at % height), block, row, S::LANES);
            }
        }
    }
}

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
struct Tile<'a, V> {
    x: &'a [V],
    dy: &'a [V],
    row: usize,
    column: usize,
    /// Where its first weight is in `dw`, and the number of images in the vectors.
    weight: [usize; 2],
    images: usize,
}

impl Kernel for WeightGradient<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let Shape { channels, height, width, kernel: [rows, columns], .. } = *self.shape;
        let (plane, out_plane) = (height * width, self.shape.out_height() * self.shape.out_width());
        let outputs = self.dw.rows();
        let height = even(outputs, S::TILES.conv_outputs);
        let breadth = even(columns, CONV_TAPS);
        let x = self.packed_x.chunks_exact(channels * plane * S::LANES);
        let dy = self.packed_dy.chunks_exact(self.shape.outputs * out_plane * S::LANES);
        for ((x, dy), first_image) in x.zip(dy).zip((0..self.batch).step_by(S::LANES)) {
            let (x, dy): (&[S::F32], &[S::F32]) = (bytemuck::cast_slice(x), bytemuck::cast_slice(dy));
            let images = S::LANES.min(self.batch - first_image);
            for output in (0..outputs).step_by(height) {
                let dy = &dy[(self.first_output + output) * out_plane..];
                let height = height.min(outputs - output);
                for at in 0..channels * rows {
                    let (channel, row) = (at / rows, at % rows);
                    let x = &x[channel * plane..][..plane];
                    for column in (0..columns).step_by(breadth) {
                        let weight = [output, at * columns + column];
                        let tile = Tile { x, dy, row, column, weight, images };
                        match breadth.min(columns - column) {
                            1 => self.outputs::<S, 1>(s, tile, height),
                            2 => self.outputs::<S, 2>(s, tile, height),
                            3 => self.outputs::<S, 3>(s, tile, height),
                            4 => self.outputs::<S, 4>(s, tile, height),
                            _ => self.outputs::<S, 5>(s, tile, height),
                        }
                    }
                }
            }
        }
    }
}

impl WeightGradient<'_> {
    #[inline(always)]
    fn outputs<S: Simd, const TAPS: usize>(&mut self, s: S, tile: Tile<'_, S::F32>, outputs: usize) {
        match outputs {
            1 => self.tile::<S, 1, TAPS>(s, tile),
            2 => self.tile::<S, 2, TAPS>(s, tile),
            _ => self.tile::<S, 3, TAPS>(s, tile),
        }
    }

    /// Adds the gradients of the images, ascending, to those of `OUTPUTS` × `TAPS` weights.
    #[inline(always)]
    fn tile<S: Simd, const OUTPUTS: usize, const TAPS: usize>(&mut self, s: S, tile: Tile<'_, S::F32>) {
        let Shape { height, width, stride, padding, .. } = *self.shape;
        let (out_height, out_width) = (self.shape.out_height(), self.shape.out_width());
        let mut sums = [[s.splat(0.0); TAPS]; OUTPUTS];
        for y in 0..out_height {
            // Before the first row the index wraps around to a row that does not exist either.
            let from = (y * stride + tile.row).wrapping_sub(padding);
            if from >= height {
                continue;
            }
            let x = &tile.x[from * width..][..width];
            let dy: [&[S::F32]; OUTPUTS] =
                core::array::from_fn(|o| &tile.dy[(o * out_height + y) * out_width..][..out_width]);
            for position in 0..out_width {
                let dy: [S::F32; OUTPUTS] = core::array::from_fn(|o| dy[o][position]);
                let from = (position * stride + tile.column).wrapping_sub(padding);
                if let Some(x) = x.get(from..from.wrapping_add(TAPS)) {
                    for (tap, &x) in x.iter().enumerate() {
                        for o in 0..OUTPUTS {
                            sums[o][tap] = s.mul_add(dy[o], x, sums[o][tap]);
                        }
                    }
                } else {
                    for (tap, x) in (0..TAPS).map(|tap| x.get(from.wrapping_add(tap))).enumerate() {
                        let Some(&x) = x else { continue };
                        for o in 0..OUTPUTS {
                            sums[o][tap] = s.mul_add(dy[o], x, sums[o][tap]);
                        }
                    }
                }
            }
        }
        let [output, weight] = tile.weight;
        for (o, sums) in sums.iter().enumerate() {
            let sums = bytemuck::cast_slice::<S::F32, f32>(sums).chunks_exact(S::LANES);
            for (tap, sums) in sums.enumerate() {
                let (row, col) = (output + o, weight + tap);
                let old = self.dw.as_ref().get(row, col);
                let total = sums[..tile.images].iter().fold(old, |total, sum| total + sum);
                self.dw.set(row, col, total);
            }
        }
    }
}
