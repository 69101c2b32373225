//! The weight gradient: lanes over the images, sums of several weights at once in registers.
//!
//! X and dY are copied so that the images of one vector lie side by side for a whole plane: a vector every `batch` floats
//! would use a fraction of the cache's sets. A tile of up to [`most_outputs`] outputs by [`MOST_TAPS`] neighbouring taps of
//! one kernel row keeps its sums, one per image, in registers over all positions; then each lane, an image's part of the
//! gradient, is added to the gradient in ascending order.
//!
//! Cost: weights · positions · batch multiply-adds, at the largest tile with one load for 1.9 of them; per tile and vector
//! one addition per weight and image, 1/positions of that.

use super::plan::even;
use super::{Shape, product};
use crate::aligned::AlignedBuffer;
use crate::engine::Engine;
use crate::error::ShapeError;
use crate::simd::{Kernel, Simd};

/// Most taps of a tile.
const MOST_TAPS: usize = 5;

/// Most outputs of a tile: with [`MOST_TAPS`] they make 15 of 32 registers sums, or 10 of 16. (Measured on Zen 4 with
/// AVX-512, LeNet-5's second convolution: 20 sums reached half of what 15 do.)
const fn most_outputs(lanes: usize) -> usize {
    if lanes == 8 { 2 } else { 3 }
}

/// No backend has more lanes.
const MAX_LANES: usize = 32;

pub(super) fn compute(
    engine: Engine,
    shape: &Shape,
    dy: &[f32],
    x: &[f32],
    batch: usize,
    dw: &mut [f32],
    panel: &mut AlignedBuffer,
) -> Result<(), ShapeError> {
    dw.fill(0.0);
    if dw.is_empty() || dy.is_empty() || x.is_empty() {
        return Ok(());
    }
    let padded = batch.saturating_add(MAX_LANES);
    // In whole cache lines.
    let [x_len, dy_len] = [x, dy].map(|data| product("packed activations", [data.len() / batch, padded]));
    let x_len = x_len?.next_multiple_of(16);
    let packed = panel.get(x_len.saturating_add(dy_len?));
    let (packed_x, packed_dy) = packed.split_at_mut(x_len);
    let pack = |data, packed| engine.backend().run(Pack { data, batch, packed });
    engine.join(|| pack(x, packed_x), || pack(dy, packed_dy));
    let (packed_x, packed_dy) = (&*packed_x, &*packed_dy);
    let weights = dw.len() / shape.outputs;
    let outputs = shape.outputs.div_ceil(engine.threads());
    engine.for_each_chunk(dw, outputs * weights, |index, dw| {
        let first_output = index * outputs;
        engine.backend().run(WeightGradient { shape, packed_x, packed_dy, batch, first_output, dw });
    });
    Ok(())
}

/// `[pixels, batch]` → vectors of images `[batch / lanes, pixels]`, the last of them filled with zeros.
struct Pack<'a> {
    data: &'a [f32],
    batch: usize,
    packed: &'a mut [f32],
}

impl Kernel for Pack<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let pixels = self.data.len() / self.batch;
        let groups = self.packed.chunks_exact_mut(pixels * S::LANES);
        for (packed, first) in groups.zip((0..self.batch).step_by(S::LANES)) {
            let images = S::LANES.min(self.batch - first);
            for (to, from) in packed.chunks_exact_mut(S::LANES).zip(self.data.chunks_exact(self.batch)) {
                let from = &from[first..first + images];
                s.store(if images == S::LANES { s.load(from) } else { s.load_partial(from) }, to);
            }
        }
    }
}

/// The gradient of the outputs from `first_output` on, as many as `dw` has rows; `dw` is 0 before.
struct WeightGradient<'a> {
    shape: &'a Shape,
    packed_x: &'a [f32],
    packed_dy: &'a [f32],
    batch: usize,
    first_output: usize,
    dw: &'a mut [f32],
}

/// A tile of outputs × taps: where it begins, and the planes of X and dY it meets.
#[derive(Clone, Copy)]
struct Tile<'a, V> {
    x: &'a [V],
    dy: &'a [V],
    row: usize,
    column: usize,
    /// Where its first weight is in `dw`, and how many images the vectors hold.
    weight: usize,
    images: usize,
}

impl Kernel for WeightGradient<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let Shape { channels, height, width, kernel: [rows, columns], .. } = *self.shape;
        let (plane, out_plane) = (height * width, self.shape.out_height() * self.shape.out_width());
        let weights = channels * rows * columns;
        let outputs = self.dw.len() / weights;
        let height = even(outputs, most_outputs(S::LANES));
        let breadth = even(columns, MOST_TAPS);
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
                        let weight = output * weights + at * columns + column;
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
        let Shape { channels, height, width, kernel: [rows, columns], stride, padding, .. } = *self.shape;
        let (out_height, out_width) = (self.shape.out_height(), self.shape.out_width());
        let mut sums = [[s.splat(0.0); TAPS]; OUTPUTS];
        for y in 0..out_height {
            // Before the first row it wraps around, and there is nothing either.
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
        let weights = channels * rows * columns;
        for (o, sums) in sums.iter().enumerate() {
            let dw = &mut self.dw[tile.weight + o * weights..][..TAPS];
            for (dw, sums) in
                dw.iter_mut().zip(bytemuck::cast_slice::<S::F32, f32>(sums).chunks_exact(S::LANES))
            {
                *dw = sums[..tile.images].iter().fold(*dw, |total, sum| total + sum);
            }
        }
    }
}
