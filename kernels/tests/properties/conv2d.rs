//! Convolutions.

use proptest::prelude::*;
use slth_kernels::conv2d::{Shape, Workspace, forward, input_gradient, weight_gradient};
use slth_kernels::masked_matmul::Activation;
use slth_kernels::{MaskedWeights, Path};

use crate::support::{Guarded, assert_same, cases, density, everywhere, numbers, offset, size};

/// The definition, gathered output by output.
struct Oracle {
    shape: Shape,
    batch: usize,
}

impl Oracle {
    /// Where in a row or column of the input the kernel's `tap` is at the output's `at`; `None` outside.
    fn source(&self, at: usize, tap: usize, size: usize) -> Option<usize> {
        (at * self.shape.stride + tap).checked_sub(self.shape.padding).filter(|&from| from < size)
    }

    fn weight(&self, o: usize, c: usize, i: usize, j: usize) -> usize {
        ((o * self.shape.channels + c) * self.shape.kernel[0] + i) * self.shape.kernel[1] + j
    }

    fn x(&self, c: usize, y: usize, x: usize, n: usize) -> usize {
        ((c * self.shape.height + y) * self.shape.width + x) * self.batch + n
    }

    fn y(&self, o: usize, y: usize, x: usize, n: usize) -> usize {
        ((o * self.shape.out_height() + y) * self.shape.out_width() + x) * self.batch + n
    }

    fn x_len(&self) -> usize {
        self.x(self.shape.channels, 0, 0, 0)
    }

    fn y_len(&self) -> usize {
        self.y(self.shape.outputs, 0, 0, 0)
    }

    /// Y: over i, then c, then j.
    fn forward(&self, weights: &[Option<f32>], from: &[f32]) -> Vec<f32> {
        let Shape { channels, height, width, outputs, kernel, .. } = self.shape;
        let mut all = vec![0.0_f32; self.y_len()];
        for (o, y, x, n) in places(outputs, self.shape.out_height(), self.shape.out_width(), self.batch) {
            let sum = &mut all[self.y(o, y, x, n)];
            for i in 0..kernel[0] {
                let Some(from_y) = self.source(y, i, height) else { continue };
                for c in 0..channels {
                    for j in 0..kernel[1] {
                        let Some(from_x) = self.source(x, j, width) else { continue };
                        let Some(weight) = weights[self.weight(o, c, i, j)] else { continue };
                        *sum = weight.mul_add(from[self.x(c, from_y, from_x, n)], *sum);
                    }
                }
            }
        }
        all
    }

    /// dX: over i, then o, then j.
    fn input_gradient(&self, weights: &[Option<f32>], dy: &[f32]) -> Vec<f32> {
        let Shape { channels, height, width, outputs, kernel, stride, padding } = self.shape;
        let target = |from: usize, tap: usize, size: usize| {
            let distance = (from + padding).checked_sub(tap)?;
            (distance % stride == 0).then_some(distance / stride).filter(|&at| at < size)
        };
        let mut all = vec![0.0_f32; self.x_len()];
        for (c, y, x, n) in places(channels, height, width, self.batch) {
            let sum = &mut all[self.x(c, y, x, n)];
            for i in 0..kernel[0] {
                let Some(to_y) = target(y, i, self.shape.out_height()) else { continue };
                for o in 0..outputs {
                    for j in 0..kernel[1] {
                        let Some(to_x) = target(x, j, self.shape.out_width()) else { continue };
                        let Some(weight) = weights[self.weight(o, c, i, j)] else { continue };
                        *sum = weight.mul_add(dy[self.y(o, to_y, to_x, n)], *sum);
                    }
                }
            }
        }
        all
    }

    /// dW: for each image over y, then x; then over the images.
    fn weight_gradient(&self, dy: &[f32], from: &[f32]) -> Vec<f32> {
        let Shape { channels, height, width, outputs, kernel, .. } = self.shape;
        let mut all = vec![0.0_f32; outputs * channels * kernel[0] * kernel[1]];
        for (o, c, i, j) in places(outputs, channels, kernel[0], kernel[1]) {
            for n in 0..self.batch {
                let mut sum = 0.0_f32;
                for y in 0..self.shape.out_height() {
                    let Some(from_y) = self.source(y, i, height) else { continue };
                    for x in 0..self.shape.out_width() {
                        let Some(from_x) = self.source(x, j, width) else { continue };
                        sum = dy[self.y(o, y, x, n)].mul_add(from[self.x(c, from_y, from_x, n)], sum);
                    }
                }
                all[self.weight(o, c, i, j)] += sum;
            }
        }
        all
    }
}

/// All places of a 4-dimensional array.
fn places(a: usize, b: usize, c: usize, d: usize) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    (0..a * b * c * d).map(move |at| (at / d / c / b, at / d / c % b, at / d % c, at % d))
}

fn shape() -> impl Strategy<Value = (Shape, usize)> {
    let drawn =
        (size(12), size(16), size(16), size(12), [size(6), size(6)], 1..5_usize, 0..6_usize, size(70));
    let named = drawn.prop_map(|(channels, height, width, outputs, kernel, stride, padding, batch)| {
        (Shape { channels, height, width, outputs, kernel, stride, padding }, batch)
    });
    named.prop_filter("takes long", |(shape, batch)| {
        shape.weights().unwrap() * shape.out_height() * shape.out_width() * batch <= 1 << 18
    })
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn convolutions(
        (shape, batch) in shape(),
        density in density(),
        numbers in numbers(),
        relu in any::<bool>(),
        offsets in [offset(), offset(), offset(), offset()],
    ) {
        let oracle = Oracle { shape, batch };
        let count = shape.weights().unwrap();
        let of = |len, stream: u32| Guarded::of(&numbers.take(len, stream), offsets[stream as usize]);
        let (weights, x, dy) = (of(count, 0), of(oracle.x_len(), 1), of(oracle.y_len(), 2));
        let mask = density.mask(count);
        let columns = count.checked_div(shape.outputs).unwrap_or(0);
        let activation = if relu { Activation::Relu } else { Activation::Identity };
        let relu_of = relu.then_some(&x[..]);
        let results = |weights: &[Option<f32>]| {
            let (mut y, mut dx) = (oracle.forward(weights, &x), oracle.input_gradient(weights, &dy));
            if relu {
                y.iter_mut().for_each(|y| *y = if *y > 0.0 { *y } else { 0.0 });
                dx.iter_mut().zip(&x[..]).for_each(|(dx, &x)| *dx = if x > 0.0 { *dx } else { 0.0 });
            }
            (y, dx)
        };
        let all: Vec<_> = weights.iter().copied().map(Some).collect();
        let kept: Vec<_> = weights.iter().zip(mask.iter()).map(|(&w, keep)| keep.then_some(w)).collect();
        let zeroed: Vec<_> = kept.iter().map(|w| w.or(Some(0.0))).collect();
        let [all, kept, zeroed] = [all, kept, zeroed].map(|weights| results(&weights));
        let dw = oracle.weight_gradient(&dy, &x);
        let mut workspace = Workspace::default();
        everywhere(|engine| {
            let space = &mut workspace;
            let out = |len| Guarded::<f32>::unset(len, offsets[3]);
            let layer = |path| {
                let layer = MaskedWeights::new(engine, &weights, shape.outputs, columns).unwrap();
                let mut layer = layer.with_path(path);
                layer.set_mask(engine, &mask).unwrap();
                layer
            };
            let (sparse, dense) = (layer(Path::Sparse), layer(Path::Dense));
            for (filters, (y, dx)) in
                [((&weights[..]).into(), &all), ((&sparse).into(), &kept), ((&dense).into(), &zeroed)]
            {
                let filters: slth_kernels::conv2d::Weights<'_> = filters;
                let mut found = out(y.len());
                forward(engine, &shape, filters, &x, batch, activation, &mut found, space).unwrap();
                assert_same(&found, y, engine);
                let mut found = out(dx.len());
                input_gradient(engine, &shape, filters, &dy, batch, relu_of, &mut found, space).unwrap();
                assert_same(&found, dx, engine);
            }
            let mut found = out(dw.len());
            weight_gradient(engine, &shape, &dy, &x, batch, &mut found, space).unwrap();
            assert_same(&found, &dw, engine);
        });
    }

    #[test]
    fn lengths_fit_or_are_errors(
        [channels, outputs, batch, size] in [0..3_usize, 0..3_usize, 0..3_usize, 0..4_usize],
        (kernel, padding) in (1..3_usize, 0..2_usize),
        fitting in any::<[bool; 5]>(),
    ) {
        let shape =
            Shape { channels, height: size, width: size, outputs, kernel: [kernel; 2], stride: 1, padding };
        let oracle = Oracle { shape, batch };
        let lens = [shape.weights().unwrap(), oracle.x_len(), oracle.y_len(), oracle.y_len(), oracle.x_len()];
        let memory = vec![1.0; 200];
        // One too many where they shall not fit.
        let len = |i: usize| lens[i] + usize::from(!fitting[i]);
        let [w, x, dy] = [0, 1, 2].map(|i| &memory[..len(i)]);
        let [w_fits, x_fits, dy_fits, y_fits, dx_fits] = fitting;
        everywhere(|engine| {
            let space = &mut Workspace::default();
            let (mut y, mut dx) = (vec![0.0; len(3)], vec![0.0; len(4)]);
            let result = forward(engine, &shape, w, x, batch, Activation::Relu, &mut y, space);
            assert_eq!(result.is_ok(), w_fits && x_fits && y_fits, "{shape:?} {result:?}");
            let result = input_gradient(engine, &shape, w, dy, batch, Some(x), &mut dx, space);
            assert_eq!(result.is_ok(), w_fits && dy_fits && x_fits && dx_fits, "{shape:?} {result:?}");
            let mut dw = vec![0.0; len(0)];
            let result = weight_gradient(engine, &shape, dy, x, batch, &mut dw, space);
            assert_eq!(result.is_ok(), w_fits && dy_fits && x_fits, "{shape:?} {result:?}");
        });
    }

    /// Sizes of an output, by trying every place of the kernel.
    #[test]
    fn output_sizes(size in 0..40_usize, kernel in 0..20_usize, stride in 0..6_usize, padding in 0..9_usize) {
        let shape = Shape { channels: 1, height: size, width: size, outputs: 1, kernel: [kernel; 2], stride, padding };
        let padded = size + 2 * padding;
        let expected = (0..=padded).step_by(stride.max(1)).filter(|at| at + kernel <= padded).count();
        let expected = if stride == 0 { 0 } else { expected };
        prop_assert_eq!((shape.out_height(), shape.out_width()), (expected, expected));
        prop_assert_eq!(shape.weights(), Some(kernel * kernel));
    }
}
