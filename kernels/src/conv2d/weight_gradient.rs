//! The weight gradient: lanes over the images, sums of several weights at once in registers.
//!
//! X is copied so that the images of one vector lie side by side for the whole plane. A tile of up to [`MOST_OUTPUTS`]
//! outputs by [`TAPS`] neighbouring taps of one kernel row keeps its sums, one per image, in registers over all positions;
//! then each lane, an image's part of the gradient, is added to the gradient in ascending order.
//!
//! Cost: weights · positions · batch multiply-adds, with one load for 2.2 of them at the largest tile; per tile and vector
//! one addition per weight and image, 1/positions of that.

use super::{Shape, product};
use crate::aligned::AlignedBuffer;
use crate::engine::Engine;
use crate::error::ShapeError;
use crate::simd::{Kernel, Simd};

/// Taps of a tile.
const TAPS: usize = 5;

/// Most outputs of a tile: with [`TAPS`] they make 20 of 32 registers sums, or 10 of 16.
const fn most_outputs(lanes: usize) -> usize {
    if lanes == 8 { 2 } else { 4 }
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
    let pixels = x.len() / batch;
    let padded = batch.saturating_add(MAX_LANES);
    let packed = panel.get(product("x, packed", [pixels, padded])?);
    engine.backend().run(Pack { x, batch, packed });
    let packed = &*packed;
    let weights = dw.len() / shape.outputs;
    let outputs = shape.outputs.div_ceil(engine.threads());
    engine.for_each_chunk(dw, outputs * weights, |index, dw| {
        let dy = &dy[index * outputs * (dy.len() / shape.outputs)..];
        engine.backend().run(WeightGradient { shape, dy, packed, batch, dw });
    });
    Ok(())
}

/// X `[pixels, batch]` → vectors of images `[batch / lanes, pixels]`, the last of them filled with zeros.
struct Pack<'a> {
    x: &'a [f32],
    batch: usize,
    packed: &'a mut [f32],
}

impl Kernel for Pack<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let pixels = self.x.len() / self.batch;
        for (group, packed) in self.packed.chunks_exact_mut(pixels * S::LANES).enumerate() {
            let first = group * S::LANES;
            if first >= self.batch {
                break;
            }
            let images = S::LANES.min(self.batch - first);
            for (to, from) in packed.chunks_exact_mut(S::LANES).zip(self.x.chunks_exact(self.batch)) {
                let from = &from[first..first + images];
                s.store(if images == S::LANES { s.load(from) } else { s.load_partial(from) }, to);
            }
        }
    }
}

/// The gradient of the outputs that `dy` begins with, as many as `dw` has rows; `dw` is 0 before.
struct WeightGradient<'a> {
    shape: &'a Shape,
    dy: &'a [f32],
    packed: &'a [f32],
    batch: usize,
    dw: &'a mut [f32],
}

impl Kernel for WeightGradient<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let Shape { channels, height, width, kernel: [kernel_rows, kernel_columns], .. } = *self.shape;
        let weights = channels * kernel_rows * kernel_columns;
        let outputs = self.dw.len() / weights;
        // Tiles of about the same height: a low last one would take nearly as long.
        let tile = outputs.div_ceil(outputs.div_ceil(most_outputs(S::LANES)));
        let group = channels * height * width * S::LANES;
        for (index, packed) in self.packed.chunks_exact(group).enumerate() {
            let first_image = index * S::LANES;
            if first_image >= self.batch {
                break;
            }
            let packed: &[S::F32] = bytemuck::cast_slice(packed);
            for output in (0..outputs).step_by(tile) {
                for channel in 0..channels {
                    let plane = &packed[channel * height * width..][..height * width];
                    for row in 0..kernel_rows {
                        for column in (0..kernel_columns).step_by(TAPS) {
                            let at = Tile { first_image, output, channel, row, column };
                            match tile.min(outputs - output) {
                                1 => self.tile::<S, 1>(s, plane, at),
                                2 => self.tile::<S, 2>(s, plane, at),
                                3 => self.tile::<S, 3>(s, plane, at),
                                _ => self.tile::<S, 4>(s, plane, at),
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Where a tile begins.
#[derive(Clone, Copy)]
struct Tile {
    first_image: usize,
    output: usize,
    channel: usize,
    row: usize,
    column: usize,
}

impl WeightGradient<'_> {
    /// Adds the gradients of up to LANES images, ascending, to those of `OUTPUTS` × up to [`TAPS`] weights.
    #[inline(always)]
    fn tile<S: Simd, const OUTPUTS: usize>(&mut self, s: S, plane: &[S::F32], tile: Tile) {
        let Shape { height, width, kernel: [kernel_rows, kernel_columns], stride, padding, .. } = *self.shape;
        let (out_height, out_width) = (self.shape.out_height(), self.shape.out_width());
        let line = out_width * self.batch;
        let images = S::LANES.min(self.batch - tile.first_image);
        let mut sums = [[s.splat(0.0); TAPS]; OUTPUTS];
        for y in 0..out_height {
            let from = (y * stride + tile.row).wrapping_sub(padding);
            if from >= height {
                continue;
            }
            let x = &plane[from * width..][..width];
            let dy: [&[f32]; OUTPUTS] = core::array::from_fn(|o| {
                let start = ((tile.output + o) * out_height + y) * line + tile.first_image;
                &self.dy[start..start + line - tile.first_image]
            });
            for position in 0..out_width {
                let at = position * self.batch;
                let dy: [S::F32; OUTPUTS] = core::array::from_fn(|o| {
                    if images == S::LANES {
                        s.load(&dy[o][at..])
                    } else {
                        s.load_partial(&dy[o][at..at + images])
                    }
                });
                for tap in 0..TAPS {
                    // Before the first column it wraps around, and there is nothing either.
                    let from = (position * stride + tile.column + tap).wrapping_sub(padding);
                    if let Some(&x) = x.get(from) {
                        for o in 0..OUTPUTS {
                            sums[o][tap] = s.mul_add(dy[o], x, sums[o][tap]);
                        }
                    }
                }
            }
        }
        let weights = self.shape.channels * kernel_rows * kernel_columns;
        let taps = TAPS.min(kernel_columns - tile.column);
        let first = (tile.channel * kernel_rows + tile.row) * kernel_columns + tile.column;
        for (o, sums) in sums.iter().enumerate() {
            let dw = &mut self.dw[(tile.output + o) * weights + first..][..taps];
            for (dw, sums) in
                dw.iter_mut().zip(bytemuck::cast_slice::<S::F32, f32>(sums).chunks_exact(S::LANES))
            {
                *dw = sums[..images].iter().fold(*dw, |total, sum| total + sum);
            }
        }
    }
}
