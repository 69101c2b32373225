//! Convolutions.

use std::fmt::Debug;

use proptest::prelude::*;
use slth_kernels::conv2d::{PackedConv2d, Shape, Workspace, forward, input_gradient, weight_gradient};
use slth_kernels::{
    Activation, Epilogue, ImagesMut, ImagesRef, KernelError, MatMut, MatRef, PrepareOptions, Storage,
};

use crate::support::{Canary, assert_same, cases, density, everywhere, numbers, relu, size, stored};

/// The layout of images: the axes (batch, channels, height, width) from the innermost on, a gap before each axis, and the
/// offset of the first element.
#[derive(Clone, Copy, Debug)]
struct Placing {
    order: [usize; 4],
    gaps: [usize; 4],
    offset: usize,
}

/// NCHW, batch innermost, or any other layout, possibly with gaps.
fn placing() -> impl Strategy<Value = Placing> {
    let order = prop_oneof![
        2 => Just([0, 3, 2, 1]),
        2 => Just([3, 2, 1, 0]),
        1 => Just(vec![0, 1, 2, 3]).prop_shuffle().prop_map(|axes| [axes[0], axes[1], axes[2], axes[3]]),
    ];
    let gaps = prop_oneof![2 => Just([0; 4]), 1 => [0..4_usize, 0..4_usize, 0..4_usize, 0..4_usize]];
    (order, gaps, 0..16_usize).prop_map(|(order, gaps, offset)| Placing { order, gaps, offset })
}

/// Images in memory whose gaps and surroundings hold canaries.
#[derive(Clone)]
struct Images {
    memory: Vec<f32>,
    start: usize,
    sizes: [usize; 4],
    strides: [usize; 4],
}

/// Number of canaries on either side, more than any vector or tile reaches.
const GUARD: usize = 64;

impl Images {
    /// Images of canaries, to be overwritten.
    fn unset(sizes: [usize; 4], placing: Placing) -> Self {
        let mut strides = [0; 4];
        let mut stride = 1;
        for (axis, gap) in placing.order.into_iter().zip(placing.gaps) {
            stride += gap;
            strides[axis] = stride;
            stride *= sizes[axis].max(1);
        }
        let start = GUARD + placing.offset;
        Self { memory: vec![f32::CANARY; start + stride + GUARD], start, sizes, strides }
    }

    /// Images of these values, given as `[channels, height, width, batch]`.
    fn of(sizes: [usize; 4], placing: Placing, values: &[f32]) -> Self {
        let mut images = Self::unset(sizes, placing);
        for (at, &value) in images.offsets().into_iter().zip(values) {
            images.memory[at] = value;
        }
        images
    }

    fn offsets(&self) -> Vec<usize> {
        let [batch, channels, height, width] = self.sizes;
        let [image, plane, row, column] = self.strides;
        let offset = |(c, y, x, n)| self.start + n * image + c * plane + y * row + x * column;
        places(channels, height, width, batch).map(offset).collect()
    }

    fn get(&self) -> ImagesRef<'_> {
        ImagesRef::new(&self.memory[self.start..], self.sizes, self.strides).unwrap()
    }

    fn get_mut(&mut self) -> ImagesMut<'_> {
        ImagesMut::new(&mut self.memory[self.start..], self.sizes, self.strides).unwrap()
    }

    /// One image with one row per channel as a matrix `outputs` × `columns`.
    fn matrix(&mut self) -> MatMut<'_> {
        let ([_, rows, _, cols], [_, row_stride, _, col_stride]) = (self.sizes, self.strides);
        MatMut::new(&mut self.memory[self.start..], rows, cols, row_stride, col_stride).unwrap()
    }

    /// Checks the values, and that nothing was written outside of them.
    #[track_caller]
    fn assert_are(mut self, expected: &[f32], what: impl Debug) {
        let offsets = self.offsets();
        let found: Vec<_> = offsets.iter().map(|&at| self.memory[at]).collect();
        assert_same(&found, expected, what);
        offsets.into_iter().for_each(|at| self.memory[at] = f32::CANARY);
        assert!(self.memory.into_iter().all(f32::is_canary), "written outside of a view");
    }
}

/// The three convolution products by definition, each element gathered separately.
struct Oracle {
    shape: Shape,
    batch: usize,
}

impl Oracle {
    /// The input row (or column) under kernel row `tap` at output row `at`; `None` in the padding.
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

    /// Y: each element starts from `old` and sums over kernel row i, channel c, kernel column j, in this order.
    fn forward(
        &self,
        weights: &[Option<f32>],
        from: &[f32],
        old: &[f32],
        epilogue: &Epilogue<'_>,
    ) -> Vec<f32> {
        let Shape { channels, height, width, outputs, kernel, .. } = self.shape;
        let mut all = if epilogue.accumulate { old.to_vec() } else { vec![0.0; self.y_len()] };
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
            if let Some(bias) = epilogue.bias {
                *sum += bias[o];
            }
            if epilogue.activation == Activation::Relu {
                *sum = relu(*sum);
            }
        }
        all
    }

    /// dX: each element sums over kernel row i, output o, kernel column j, in this order.
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

    /// dW: each element sums over output row y and column x within an image, then over the images.
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

/// All index quadruples of an array `a` × `b` × `c` × `d`, in row-major order.
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

fn input(shape: &Shape, batch: usize) -> [usize; 4] {
    [batch, shape.channels, shape.height, shape.width]
}

fn output(shape: &Shape, batch: usize) -> [usize; 4] {
    [batch, shape.outputs, shape.out_height(), shape.out_width()]
}

fn columns(shape: &Shape) -> usize {
    shape.channels * shape.kernel[0] * shape.kernel[1]
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn convolutions(
        (shape, batch) in shape(),
        [first, density] in [density(), density()],
        numbers in numbers(),
        [relu, biased, accumulate, keep_source, bf16] in any::<[bool; 5]>(),
        planned in prop_oneof![Just(None), Just(Some(usize::MAX)), (0..70_usize).prop_map(Some)],
        placings in [placing(), placing(), placing(), placing(), placing()],
    ) {
        let oracle = Oracle { shape, batch };
        let count = shape.weights().unwrap();
        let columns = columns(&shape);
        let lens = [count, oracle.x_len(), oracle.y_len(), oracle.y_len(), shape.outputs];
        let mut stream = 0..;
        let [weights, x, dy, old, bias] = lens.map(|len| numbers.take(len, stream.next().unwrap()));
        let (first, mask) = (first.mask(count), density.mask(count));
        let epilogue = Epilogue {
            bias: biased.then_some(&bias[..]),
            activation: if relu { Activation::Relu } else { Activation::Identity },
            accumulate,
        };
        let storage = if bf16 { Storage::Bf16 } else { Storage::F32 };
        let rounded: Vec<_> = weights.iter().map(|&w| stored(storage, w)).collect();
        let all: Vec<_> = rounded.iter().copied().map(Some).collect();
        let kept: Vec<_> = rounded.iter().zip(mask.iter()).map(|(&w, keep)| keep.then_some(w)).collect();
        let [all, kept] = [all, kept].map(|weights| {
            let mut dx = oracle.input_gradient(&weights, &dy);
            if relu {
                dx.iter_mut().zip(&x).for_each(|(dx, &x)| *dx = if x > 0.0 { *dx } else { 0.0 });
            }
            (oracle.forward(&weights, &x, &old, &epilogue), dx)
        });
        let dw = oracle.weight_gradient(&dy, &x);
        let (x_sizes, y_sizes) = (input(&shape, batch), output(&shape, batch));
        let x_in = Images::of(x_sizes, placings[0], &x);
        let dy_in = Images::of(y_sizes, placings[1], &dy);
        let gate = Images::of(x_sizes, placings[4], &x);
        let options = PrepareOptions::default().input_gradient(true).max_batch(planned.unwrap_or(batch)).storage(storage);
        // The weights in column-major order as well.
        let in_columns: Vec<_> =
            (0..count).map(|i| weights[i % shape.outputs * columns + i / shape.outputs]).collect();
        let [by_rows, by_columns] = [
            MatRef::row_major(&weights, shape.outputs, columns).unwrap(),
            MatRef::col_major(&in_columns, shape.outputs, columns).unwrap(),
        ];
        let mut workspace = Workspace::default();
        everywhere(|engine| {
            let space = &mut workspace;
            let dense = PackedConv2d::prepare(engine, &shape, by_columns, None, &options).unwrap();
            let lean = options.keep_source(keep_source);
            let before = Some(if keep_source { &first } else { &mask });
            let mut pruned = PackedConv2d::prepare(engine, &shape, by_rows, before, &lean).unwrap();
            let rebuilt = pruned.rebuild(engine, &mask);
            assert_eq!(rebuilt, if keep_source { Ok(()) } else { Err(KernelError::NoSource) });
            assert_eq!(pruned.kept(), mask.kept());
            for (filters, (y, dx)) in [(&dense, &all), (&pruned, &kept)] {
                let mut found = Images::unset(y_sizes, placings[2]);
                if accumulate {
                    found = Images::of(y_sizes, placings[2], &old);
                }
                forward(engine, filters, x_in.get(), &epilogue, found.get_mut(), space).unwrap();
                found.assert_are(y, engine);
                let mut found = Images::unset(x_sizes, placings[3]);
                let relu_output = relu.then(|| gate.get());
                input_gradient(engine, filters, dy_in.get(), relu_output, found.get_mut(), space).unwrap();
                found.assert_are(dx, engine);
            }
            let mut found = Images::unset([1, shape.outputs, 1, columns], placings[2]);
            weight_gradient(engine, &shape, dy_in.get(), x_in.get(), found.matrix(), space).unwrap();
            found.assert_are(&dw, engine);
        });
    }

    #[test]
    fn sizes_fit_or_are_errors(
        [channels, outputs, batch, size] in [0..3_usize, 0..3_usize, 0..3_usize, 0..4_usize],
        (kernel, padding) in (1..3_usize, 0..2_usize),
        fitting in any::<[bool; 5]>(),
        axis in 0..4_usize,
    ) {
        let shape =
            Shape { channels, height: size, width: size, outputs, kernel: [kernel; 2], stride: 1, padding };
        let memory = vec![1.0; 1000];
        // Views that shall not fit are one too large along `axis`.
        let sizes = |mut sizes: [usize; 4], i: usize| {
            sizes[axis] += usize::from(!fitting[i]);
            sizes
        };
        let view = |sizes: [usize; 4]| {
            let [batch, channels, height, width] = sizes;
            ImagesRef::nchw(&memory[..sizes.iter().product()], batch, channels, height, width).unwrap()
        };
        let rows = columns(&shape) + usize::from(!fitting[0]);
        let weights = MatRef::row_major(&memory[..outputs * rows], outputs, rows).unwrap();
        let (x, dy) = (view(sizes(input(&shape, batch), 1)), view(sizes(output(&shape, batch), 2)));
        let [w_fits, x_fits, dy_fits, y_fits, dx_fits] = fitting;
        // The batch comes from the source, so both sizes may be one larger along axis 0.
        let fits = |from: bool, to: bool| from && to || axis == 0 && from == to;
        everywhere(|engine| {
            let space = &mut Workspace::default();
            let place = Placing { order: [3, 2, 1, 0], gaps: [0; 4], offset: 0 };
            let mut y = Images::unset(sizes(output(&shape, batch), 3), place);
            let mut dx = Images::unset(sizes(input(&shape, batch), 4), place);
            let options = PrepareOptions::default().input_gradient(true);
            let filters = PackedConv2d::prepare(engine, &shape, weights, None, &options);
            assert_eq!(filters.is_ok(), w_fits);
            if let Ok(filters) = filters {
                let result = forward(engine, &filters, x, &Epilogue::default(), y.get_mut(), space);
                assert_eq!(result.is_ok(), fits(x_fits, y_fits), "{shape:?} {result:?}");
                let result = input_gradient(engine, &filters, dy, Some(x), dx.get_mut(), space);
                let gate_fits = fits(dy_fits, x_fits);
                assert_eq!(result.is_ok(), fits(dy_fits, dx_fits) && gate_fits, "{shape:?} {result:?}");
            }
            let mut dw = vec![0.0; outputs * rows];
            let dw = MatMut::row_major(&mut dw, outputs, rows).unwrap();
            let result = weight_gradient(engine, &shape, dy, x, dw, space);
            assert_eq!(result.is_ok(), w_fits && fits(x_fits, dy_fits), "{shape:?} {result:?}");
        });
    }

    /// The size of the output equals the number of positions of the kernel that fit.
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
