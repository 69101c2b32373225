//! Products with dense and masked weights.

use proptest::prelude::*;
use slth_kernels::masked_matmul::{self, Activation, Shape, Workspace, dense};
use slth_kernels::{Engine, MaskedWeights, PackedMask, Path};

use crate::support::{
    Density, Guarded, Numbers, assert_same, cases, density, everywhere, numbers, offset, size,
};

/// Rows × columns sums, each over the kept terms in ascending order.
fn oracle(
    [rows, columns, terms]: [usize; 3],
    term: impl Fn(usize, usize, usize) -> Option<(f32, f32)>,
    finish: impl Fn(usize, f32) -> f32,
) -> Vec<f32> {
    let element = |at: usize| {
        let kept = (0..terms).filter_map(|k| term(at / columns, at % columns, k));
        finish(at, kept.fold(0.0, |sum, (a, b)| a.mul_add(b, sum)))
    };
    (0..rows * columns).map(element).collect()
}

fn shape() -> impl Strategy<Value = Shape> {
    // Now and then so many outputs that they are compressed and multiplied in several parts.
    let outputs = prop_oneof![15 => size(150), 1 => 1_020..3_000_usize];
    let drawn = (outputs, size(700), size(140));
    let fitting = drawn.prop_filter("takes long", |(m, k, n)| m * k * n <= 1 << 20);
    fitting.prop_map(|(outputs, inputs, batch)| Shape { outputs, inputs, batch })
}

/// A layer's arguments.
#[derive(Clone, Debug)]
struct Arguments {
    shape: Shape,
    numbers: Numbers,
    relu: bool,
    offsets: [usize; 4],
}

fn arguments() -> impl Strategy<Value = Arguments> {
    let offsets = [offset(), offset(), offset(), offset()];
    (shape(), numbers(), any::<bool>(), offsets).prop_map(|(shape, numbers, relu, offsets)| Arguments {
        shape,
        numbers,
        relu,
        offsets,
    })
}

/// Weights, X and dY.
struct Operands {
    weights: Guarded<f32>,
    x: Guarded<f32>,
    dy: Guarded<f32>,
}

impl Arguments {
    fn operands(&self) -> Operands {
        let Shape { outputs, inputs, batch } = self.shape;
        let of =
            |len, stream: u32| Guarded::of(&self.numbers.take(len, stream), self.offsets[stream as usize]);
        Operands { weights: of(outputs * inputs, 0), x: of(inputs * batch, 1), dy: of(outputs * batch, 2) }
    }

    fn out(&self, len: usize) -> Guarded<f32> {
        Guarded::unset(len, self.offsets[3])
    }

    fn activation(&self) -> Activation {
        if self.relu { Activation::Relu } else { Activation::Identity }
    }

    /// Y where a weight counts when it is given.
    fn forward(&self, x: &[f32], weight: impl Fn(usize) -> Option<f32>) -> Vec<f32> {
        let Shape { outputs, inputs, batch } = self.shape;
        let relu = |_, y: f32| if !self.relu || y > 0.0 { y } else { 0.0 };
        let term = |o, n, i| weight(o * inputs + i).map(|w| (w, x[i * batch + n]));
        oracle([outputs, batch, inputs], term, relu)
    }

    /// dX, before the ReLU that made X where there is one.
    fn input_gradient(&self, x: &[f32], dy: &[f32], weight: impl Fn(usize) -> Option<f32>) -> Vec<f32> {
        let Shape { outputs, inputs, batch } = self.shape;
        let relu_of = |at: usize, dx: f32| if !self.relu || x[at] > 0.0 { dx } else { 0.0 };
        let term = |i, n, o| weight(o * inputs + i).map(|w| (w, dy[o * batch + n]));
        oracle([inputs, batch, outputs], term, relu_of)
    }

    /// dW.
    fn weight_gradient(&self, x: &[f32], dy: &[f32]) -> Vec<f32> {
        let Shape { outputs, inputs, batch } = self.shape;
        let term = |o: usize, i: usize, n: usize| Some((dy[o * batch + n], x[i * batch + n]));
        oracle([outputs, inputs, batch], term, |_, dw| dw)
    }
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn dense_products(arguments in arguments(), density in density()) {
        let Operands { weights, x, dy } = arguments.operands();
        let (shape, activation, all) = (arguments.shape, arguments.activation(), |at: usize| Some(weights[at]));
        let relu_of = arguments.relu.then_some(&x[..]);
        let mask = density.mask(weights.len());
        let y = arguments.forward(&x, all);
        let dx = arguments.input_gradient(&x, &dy, all);
        let dw = arguments.weight_gradient(&x, &dy);
        let kept: Vec<f32> = dw.iter().zip(mask.iter()).map(|(&dw, keep)| if keep { dw } else { 0.0 }).collect();
        let mut workspace = Workspace::default();
        everywhere(|engine| {
            let space = &mut workspace;
            let mut out = arguments.out(y.len());
            dense::forward(engine, shape, &weights, &x, activation, &mut out, space).unwrap();
            assert_same(&out, &y, engine);
            let mut out = arguments.out(dx.len());
            dense::input_gradient(engine, shape, &weights, &dy, relu_of, &mut out, space).unwrap();
            assert_same(&out, &dx, engine);
            let mut out = arguments.out(dw.len());
            masked_matmul::weight_gradient(engine, shape, &dy, &x, &mut out, space).unwrap();
            assert_same(&out, &dw, engine);
            let mut out = arguments.out(dw.len());
            masked_matmul::kept_weight_gradient(engine, shape, &mask, &dy, &x, &mut out, space).unwrap();
            assert_same(&out, &kept, engine);
        });
    }

    /// A layer under one mask after the other is as its last mask, on either path, laid out for any batch.
    #[test]
    fn masked_products(
        arguments in arguments(),
        masks in prop::collection::vec((density(), path(), columns(), any::<bool>()), 1..4),
    ) {
        let Operands { weights, x, dy } = arguments.operands();
        let Shape { outputs, inputs, batch } = arguments.shape;
        let relu_of = arguments.relu.then_some(&x[..]);
        let expected: Vec<_> = masks.iter().map(|&(density, path, columns, used_once)| {
            let mask = density.mask(weights.len());
            let dense = is_dense(path, columns, &mask);
            let weight = |at: usize| match mask.get(at) {
                true => Some(weights[at]),
                false => dense.then_some(0.0),
            };
            let y = arguments.forward(&x, weight);
            let dx = arguments.input_gradient(&x, &dy, weight);
            (mask, path, columns, used_once, y, dx)
        }).collect();
        let mut workspace = Workspace::default();
        everywhere(|engine| {
            let space = &mut workspace;
            let mut layer = MaskedWeights::with_input_gradient(engine, &weights, outputs, inputs).unwrap();
            for (mask, path, columns, used_once, y, dx) in &expected {
                layer = layer.with_path(*path).with_batch(*columns).with_masks_used_once(*used_once);
                layer.set_mask(engine, mask).unwrap();
                prop_assert_eq_shape(&layer, outputs, inputs, mask);
                let mut out = arguments.out(y.len());
                let activation = arguments.activation();
                masked_matmul::forward(engine, &layer, &x, batch, activation, &mut out, space).unwrap();
                assert_same(&out, y, (engine, path));
                let mut out = arguments.out(dx.len());
                masked_matmul::input_gradient(engine, &layer, &dy, batch, relu_of, &mut out, space).unwrap();
                assert_same(&out, dx, (engine, path));
            }
        });
    }

    /// A product is computed when all lengths fit, and an error otherwise.
    #[test]
    fn lengths_fit_or_are_errors(
        [outputs, inputs, batch] in [0..4_usize, 0..4_usize, 0..4_usize],
        [w, x, dy, y] in [0..17_usize, 0..17_usize, 0..17_usize, 0..17_usize],
        density in density(),
    ) {
        let shape = Shape { outputs, inputs, batch };
        let memory = [1.0; 17];
        let (weights, xs, dys) = (&memory[..w], &memory[..x], &memory[..dy]);
        let mask = Density::mask(density, w);
        let [w_fits, x_fits, dy_fits] = [w == outputs * inputs, x == inputs * batch, dy == outputs * batch];
        everywhere(|engine: Engine| {
            let space = &mut Workspace::default();
            let out = &mut vec![0.0; y][..];
            let result = dense::forward(engine, shape, weights, xs, Activation::Relu, out, space);
            assert_eq!(result.is_ok(), w_fits && x_fits && y == outputs * batch);
            let result = dense::input_gradient(engine, shape, weights, dys, Some(xs), out, space);
            assert_eq!(result.is_ok(), w_fits && x_fits && dy_fits && y == inputs * batch);
            let result = masked_matmul::kept_weight_gradient(engine, shape, &mask, dys, xs, out, space);
            assert_eq!(result.is_ok(), w_fits && x_fits && dy_fits && y == outputs * inputs);
            let result = masked_matmul::weight_gradient(engine, shape, dys, xs, out, space);
            assert_eq!(result.is_ok(), x_fits && dy_fits && y == outputs * inputs);
            let layer = MaskedWeights::with_input_gradient(engine, weights, outputs, inputs);
            assert_eq!(layer.is_ok(), w_fits);
            assert_eq!(MaskedWeights::new(engine, weights, outputs, inputs).is_ok(), w_fits);
            if let Ok(mut layer) = layer {
                layer.set_mask(engine, &mask).unwrap();
                assert!(layer.set_mask(engine, &PackedMask::all_kept(w + 1)).is_err());
                let result = masked_matmul::forward(engine, &layer, xs, batch, Activation::Relu, out, space);
                assert_eq!(result.is_ok(), x_fits && y == outputs * batch);
                let result = masked_matmul::input_gradient(engine, &layer, dys, batch, None, out, space);
                assert_eq!(result.is_ok(), dy_fits && y == inputs * batch);
            }
        });
    }
}

/// What a layer is told of the batch: the products need not keep to it.
fn columns() -> impl Strategy<Value = usize> {
    prop_oneof![0..6_usize, prop::sample::select(vec![16, 17, 63, 64, usize::MAX])]
}

fn path() -> impl Strategy<Value = Path> {
    prop::sample::select(vec![Path::Auto, Path::Sparse, Path::Dense])
}

/// Whether a layer multiplies by its removed weights too: as documented, on [`Path::Auto`] from a share kept on that
/// depends on the columns announced.
fn is_dense(path: Path, columns: usize, mask: &PackedMask) -> bool {
    let percent = match columns {
        0..=1 => 45,
        2..=3 => 30,
        4..=16 => 35,
        17..=63 => 60,
        _ => 85,
    };
    match path {
        Path::Auto => mask.kept() * 100 >= mask.len() * percent,
        Path::Sparse => false,
        Path::Dense => true,
    }
}

fn prop_assert_eq_shape(layer: &MaskedWeights, outputs: usize, inputs: usize, mask: &PackedMask) {
    assert_eq!((layer.outputs(), layer.inputs(), layer.kept()), (outputs, inputs, mask.kept()));
}

/// 97 · 172961 = 2²⁴ + 1 lies half-way between two floats, and 2⁻⁴⁰ more or less decides; rounded to `f64` first it is lost.
/// Drawn numbers practically never get there.
#[test]
fn sums_round_once() {
    for (little, expected) in [(2.0_f32.powi(-40), 16_777_218.0), (-(2.0_f32.powi(-40)), 16_777_216.0)] {
        for (outputs, batch) in [(1, 1), (40, 1), (3, 2), (7, 70)] {
            let shape = Shape { outputs, inputs: 2, batch };
            let weights = [little, 97.0].repeat(outputs);
            let x: Vec<f32> = (0..2 * batch).map(|at| if at < batch { 1.0 } else { 172_961.0 }).collect();
            let expected = vec![expected; outputs * batch];
            everywhere(|engine| {
                let space = &mut Workspace::default();
                let mut y = vec![0.0; outputs * batch];
                dense::forward(engine, shape, &weights, &x, Activation::Identity, &mut y, space).unwrap();
                assert_same(&y, &expected, engine);
                for columns in [batch, 100] {
                    let layer = MaskedWeights::new(engine, &weights, outputs, 2).unwrap();
                    let mut layer = layer.with_path(Path::Sparse).with_batch(columns);
                    layer.set_mask(engine, &PackedMask::all_kept(2 * outputs)).unwrap();
                    let mut y = vec![0.0; outputs * batch];
                    let identity = Activation::Identity;
                    masked_matmul::forward(engine, &layer, &x, batch, identity, &mut y, space).unwrap();
                    assert_same(&y, &expected, engine);
                }
            });
        }
    }
}
