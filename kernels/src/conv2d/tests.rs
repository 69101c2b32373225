//! Convolutions on all backends and thread counts against naive oracles, bit for bit.

use super::*;
use crate::backend::Backend;
use crate::mask::PackedMask;
use crate::masked_matmul::tests::{everywhere, noise, relu, same_bits};
use crate::sparse::Path;

/// Every term: (output, channel, kernel row and column, output position, input position), kernel row outermost, then
/// output, channel, kernel column.
fn for_each_term(shape: &Shape, mut take: impl FnMut([usize; 4], [usize; 2], [usize; 2])) {
    let &Shape { channels, height, width, outputs, kernel, stride, padding } = shape;
    for i in 0..kernel[0] {
        for o in 0..outputs {
            for c in 0..channels {
                for j in 0..kernel[1] {
                    for y in 0..shape.out_height() {
                        for x in 0..shape.out_width() {
                            let (from_y, from_x) = (y * stride + i, x * stride + j);
                            let inside = |at: usize, size: usize| (padding..padding + size).contains(&at);
                            if inside(from_y, height) && inside(from_x, width) {
                                take([o, c, i, j], [y, x], [from_y - padding, from_x - padding]);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The oracles: what each function promises, as plain loops.
struct Oracle<'a> {
    shape: &'a Shape,
    batch: usize,
}

impl Oracle<'_> {
    fn weight(&self, [o, c, i, j]: [usize; 4]) -> usize {
        ((o * self.shape.channels + c) * self.shape.kernel[0] + i) * self.shape.kernel[1] + j
    }

    fn x(&self, c: usize, [y, x]: [usize; 2]) -> usize {
        ((c * self.shape.height + y) * self.shape.width + x) * self.batch
    }

    fn y(&self, o: usize, [y, x]: [usize; 2]) -> usize {
        ((o * self.shape.out_height() + y) * self.shape.out_width() + x) * self.batch
    }

    fn x_len(&self) -> usize {
        self.shape.channels * self.shape.height * self.shape.width * self.batch
    }

    fn y_len(&self) -> usize {
        self.shape.outputs * self.shape.out_height() * self.shape.out_width() * self.batch
    }

    fn forward(&self, weights: &[Option<f32>], x: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; self.y_len()];
        for_each_term(self.shape, |w, to, from| {
            let Some(weight) = weights[self.weight(w)] else { return };
            for n in 0..self.batch {
                let sum = &mut out[self.y(w[0], to) + n];
                *sum = weight.mul_add(x[self.x(w[1], from) + n], *sum);
            }
        });
        out
    }

    fn input_gradient(&self, weights: &[Option<f32>], dy: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; self.x_len()];
        for_each_term(self.shape, |w, to, from| {
            let Some(weight) = weights[self.weight(w)] else { return };
            for n in 0..self.batch {
                let sum = &mut out[self.x(w[1], from) + n];
                *sum = weight.mul_add(dy[self.y(w[0], to) + n], *sum);
            }
        });
        out
    }

    fn weight_gradient(&self, dy: &[f32], x: &[f32]) -> Vec<f32> {
        let mut total = vec![0.0; self.shape.weights().unwrap()];
        for n in 0..self.batch {
            let mut image = vec![0.0_f32; total.len()];
            for_each_term(self.shape, |w, to, from| {
                let sum = &mut image[self.weight(w)];
                *sum = dy[self.y(w[0], to) + n].mul_add(x[self.x(w[1], from) + n], *sum);
            });
            total.iter_mut().zip(image).for_each(|(total, image)| *total += image);
        }
        total
    }
}

const fn shape(
    [channels, height, width]: [usize; 3],
    outputs: usize,
    kernel: [usize; 2],
    stride: usize,
    padding: usize,
) -> Shape {
    Shape { channels, height, width, outputs, kernel, stride, padding }
}

/// Shapes and batches: one of everything, strides, kernels that cover the image or that padding exceeds, single columns,
/// more terms than a block holds, empty ones.
const CASES: &[(Shape, usize)] = &[
    (shape([1, 1, 1], 1, [1, 1], 1, 0), 1),
    (shape([1, 5, 4], 3, [3, 3], 1, 1), 63),
    (shape([2, 6, 7], 3, [5, 5], 1, 2), 16),
    (shape([1, 9, 9], 6, [5, 5], 1, 2), 64),
    (shape([6, 6, 6], 16, [5, 5], 1, 0), 65),
    (shape([3, 7, 8], 2, [3, 2], 2, 1), 17),
    (shape([2, 8, 7], 4, [2, 3], 3, 0), 5),
    (shape([2, 5, 5], 5, [5, 5], 1, 0), 33),
    (shape([1, 3, 2], 2, [2, 1], 1, 4), 8),
    (shape([2, 3, 4], 2, [1, 2], 2, 3), 3),
    (shape([1, 2, 2], 2, [2, 2], 5, 6), 2),
    (shape([40, 3, 3], 37, [3, 3], 1, 1), 7),
    (shape([130, 2, 1], 3, [2, 1], 1, 0), 9),
    (shape([2, 1, 130], 2, [1, 120], 1, 3), 1),
    (shape([3, 4, 4], 9, [1, 1], 1, 0), 12),
    (shape([1, 12, 11], 1, [7, 6], 4, 3), 1),
    (shape([3, 2, 2], 2, [4, 4], 1, 0), 3), // does not fit in
    (shape([0, 4, 4], 2, [3, 3], 1, 0), 3),
    (shape([2, 4, 4], 0, [3, 3], 1, 0), 3),
    (shape([2, 4, 0], 2, [1, 1], 1, 1), 3),
    (shape([2, 4, 4], 3, [0, 3], 1, 0), 3),
    (shape([2, 4, 4], 3, [3, 3], 1, 0), 0),
];

#[test]
fn convolutions() {
    for &(shape, batch) in CASES {
        let oracle = Oracle { shape: &shape, batch };
        let n = shape.weights().unwrap();
        let (weights, x, dy) = (noise(n, 1), noise(oracle.x_len(), 2), noise(oracle.y_len(), 3));
        for density in [0, 1, 10, 50, 90, 100] {
            let dice = noise(n, 4 + density);
            // 1: a single one.
            let keep = |i: usize| match density {
                1 => i == n / 2,
                _ => (dice[i] + 1.0) * 50.0 < density as f32,
            };
            let mask = PackedMask::from_fn(n, keep);
            let columns = n.checked_div(shape.outputs).unwrap_or(0);
            let layer = |engine| {
                let mut layer = MaskedWeights::new(engine, &weights, shape.outputs, columns).unwrap();
                layer = layer.with_path(Path::Sparse);
                layer.set_mask(engine, &mask).unwrap();
                layer
            };
            let kept: Vec<_> = weights.iter().zip(mask.iter()).map(|(&w, keep)| keep.then_some(w)).collect();
            let y: Vec<f32> = oracle.forward(&kept, &x).into_iter().map(relu).collect();
            everywhere(y.len(), &y, same_bits, |engine, out| {
                let workspace = &mut Workspace::default();
                forward(engine, &shape, &layer(engine), &x, batch, Activation::Relu, out, workspace).unwrap();
            });
            let dx = oracle.input_gradient(&kept, &dy);
            let dx: Vec<f32> = dx.iter().zip(&x).map(|(&g, &x)| if x > 0.0 { g } else { 0.0 }).collect();
            everywhere(dx.len(), &dx, same_bits, |engine, out| {
                let workspace = &mut Workspace::default();
                input_gradient(engine, &shape, &layer(engine), &dy, batch, Some(&x), out, workspace).unwrap();
            });
        }
        let all: Vec<_> = weights.iter().copied().map(Some).collect();
        let y = oracle.forward(&all, &x);
        everywhere(y.len(), &y, same_bits, |engine, out| {
            let workspace = &mut Workspace::default();
            forward(engine, &shape, &weights[..], &x, batch, Activation::Identity, out, workspace).unwrap();
        });
        let dx = oracle.input_gradient(&all, &dy);
        everywhere(dx.len(), &dx, same_bits, |engine, out| {
            let workspace = &mut Workspace::default();
            input_gradient(engine, &shape, &weights[..], &dy, batch, None, out, workspace).unwrap();
        });
        let dw = oracle.weight_gradient(&dy, &x);
        everywhere(dw.len(), &dw, same_bits, |engine, out| {
            weight_gradient(engine, &shape, &dy, &x, batch, out, &mut Workspace::default()).unwrap();
        });
    }
}

/// The layers of LeNet-5 against f64, and one workspace for all of them.
#[test]
fn sums_are_near_the_exact_ones() {
    let (engine, workspace) = (Engine::new(Backend::best()), &mut Workspace::default());
    for (shape, batch) in
        [(shape([1, 28, 28], 6, [5, 5], 1, 2), 20), (shape([6, 14, 14], 16, [5, 5], 1, 0), 20)]
    {
        let oracle = Oracle { shape: &shape, batch };
        let n = shape.weights().unwrap();
        let (weights, x, dy) = (noise(n, 1), noise(oracle.x_len(), 2), noise(oracle.y_len(), 3));
        let [mut y, mut dx, mut dw] = [dy.len(), x.len(), n].map(|len| vec![0.0_f64; len]);
        for_each_term(&shape, |w, to, from| {
            for b in 0..batch {
                let (at_w, at_x, at_y) = (oracle.weight(w), oracle.x(w[1], from) + b, oracle.y(w[0], to) + b);
                let [weight, x, dy] = [weights[at_w], x[at_x], dy[at_y]].map(f64::from);
                y[at_y] += weight * x;
                dx[at_x] += weight * dy;
                dw[at_w] += dy * x;
            }
        });
        let near = |found: &[f32], expected: &[f64]| {
            let scale = expected.iter().fold(0.0_f64, |m, e| m.max(e.abs()));
            let error =
                found.iter().zip(expected).map(|(&f, e)| (f64::from(f) - e).abs()).fold(0.0, f64::max);
            assert!(error < 2e-6 * scale, "{error} of {scale}");
        };
        let mut out = vec![f32::NAN; y.len()];
        let filters = &weights[..];
        forward(engine, &shape, filters, &x, batch, Activation::Identity, &mut out, workspace).unwrap();
        near(&out, &y);
        let mut out = vec![f32::NAN; dx.len()];
        input_gradient(engine, &shape, filters, &dy, batch, None, &mut out, workspace).unwrap();
        near(&out, &dx);
        let mut out = vec![f32::NAN; n];
        weight_gradient(engine, &shape, &dy, &x, batch, &mut out, workspace).unwrap();
        near(&out, &dw);
    }
}

#[test]
fn wrong_shapes_are_errors() {
    let (engine, workspace) = (Engine::new(Backend::best()), &mut Workspace::default());
    let good = shape([2, 4, 4], 3, [3, 3], 1, 0);
    let what = |shape: Shape, [w, x, y]: [usize; 3], batch| {
        let (w, x, y, mut w_out) = (vec![0.0; w], vec![0.0; x], vec![0.0; y], vec![0.0; w]);
        let (mut y_out, mut x_out) = (y.clone(), x.clone());
        let workspace = &mut Workspace::default();
        let none = Activation::Identity;
        let found = [
            forward(engine, &shape, &w[..], &x, batch, none, &mut y_out, workspace),
            input_gradient(engine, &shape, &w[..], &y, batch, None, &mut x_out, workspace),
            weight_gradient(engine, &shape, &y, &x, batch, &mut w_out, workspace),
        ];
        found.map(|result| result.map_or_else(|error| error.what, |()| "fine"))
    };
    assert_eq!(what(good, [54, 64, 24], 2), ["fine"; 3]);
    assert_eq!(what(good, [53, 64, 24], 2), ["weights", "weights", "dw"]);
    assert_eq!(what(good, [54, 63, 24], 2), ["x", "dx", "x"]);
    assert_eq!(what(good, [54, 64, 25], 2), ["y", "dy", "dy"]);
    assert_eq!(what(Shape { stride: 0, ..good }, [54, 64, 24], 2), ["stride"; 3]);
    assert_eq!(what(Shape { padding: usize::MAX, ..good }, [54, 64, 24], 2), ["padding"; 3]);
    assert_eq!(what(Shape { padding: usize::MAX / 2, ..good }, [54, 64, 24], 2), ["padding"; 3]);
    assert_eq!(what(Shape { padding: 1 << 61, ..good }, [54, 64, 24], 2), ["y", "dy", "dy"]);
    assert_eq!(what(Shape { channels: usize::MAX, ..good }, [54, 64, 24], 2), ["weights", "weights", "dw"]);
    // Far apart places, of which only one meets the image.
    let sparse = Shape { padding: 1 << 40, stride: 1 << 40, ..shape([1, 1, 1], 1, [1, 1], 1, 0) };
    assert_eq!(what(sparse, [1, 1, 9], 1), ["fine"; 3]);
    // Empty slices vouch for no size.
    let huge = Shape { outputs: 0, height: 1 << 40, width: 1 << 40, channels: 0, ..good };
    assert_eq!(what(huge, [0; 3], 0), ["fine"; 3]);

    let layer = MaskedWeights::new(engine, &[1.0; 54], 2, 27).unwrap();
    let other = forward(engine, &good, &layer, &[0.0; 64], 2, Activation::Relu, &mut [0.0; 24], workspace);
    assert_eq!(other.unwrap_err().what, "rows of the masked weights");
    let relu_of = Some(&[0.0; 63][..]);
    let other =
        input_gradient(engine, &good, &[0.0; 54][..], &[0.0; 24], 2, relu_of, &mut [0.0; 64], workspace);
    assert_eq!(other.unwrap_err().what, "relu_of");
}
