//! Products with plain and prepared weights.

use proptest::prelude::*;
use slth_kernels::matmul::{self, Activation, Epilogue, Workspace, dense};
use slth_kernels::{
    Engine, Format, KernelError, MaskReuse, MatMut, MatRef, PackedMask, PackedWeights, PrepareOptions,
    Storage, Strategy as Way,
};

use crate::support::{
    Density, Guarded, Layout, Matrix, Numbers, assert_same, cases, density, everywhere, layout,
    layout_or_repeated, numbers, offset, relu, size, stored,
};

/// Outputs, inputs, columns.
type Shape = [usize; 3];

fn shape() -> impl Strategy<Value = Shape> {
    // Occasionally so many outputs that they are split into several chunks.
    let outputs = prop_oneof![15 => size(150), 1 => 1_020..3_000_usize];
    let columns = prop_oneof![2 => Just(1), 8 => size(140)];
    let drawn = (outputs, size(700), columns);
    let small = drawn.prop_filter("takes long", |(m, k, n)| m * k * n <= 1 << 20);
    // Enough work to be shared among threads.
    let large = (40..160_usize, 100..700_usize, prop_oneof![Just(1_usize), 17..140_usize]);
    let large = large.prop_map(|(m, k, n)| (if n == 1 { m * 10 } else { m }, k, n));
    let large = large.prop_filter("takes long", |(m, k, n)| m * k * n <= 1 << 22);
    prop_oneof![7 => small, 1 => large].prop_map(|(outputs, inputs, columns)| [outputs, inputs, columns])
}

/// The layout of each matrix, and its offset from an aligned address.
#[derive(Clone, Debug)]
struct Layouts {
    weights: Layout,
    x: Layout,
    dy: Layout,
    y: Layout,
    dx: Layout,
    relu_output: Layout,
    scores: Layout,
    dw: Layout,
    offsets: [usize; 8],
}

fn layouts() -> impl Strategy<Value = Layouts> {
    let arguments = [
        layout_or_repeated(),
        layout_or_repeated(),
        layout_or_repeated(),
        layout_or_repeated(),
        layout_or_repeated(),
    ];
    let offsets = [offset(), offset(), offset(), offset(), offset(), offset(), offset(), offset()];
    (arguments, [layout(), layout(), layout()], offsets).prop_map(
        |([weights, x, dy, relu_output, scores], [y, dx, dw], offsets)| Layouts {
            weights,
            x,
            dy,
            y,
            dx,
            relu_output,
            scores,
            dw,
            offsets,
        },
    )
}

/// The parts of the epilogue in use, and whether the input gradient is gated by a ReLU.
#[derive(Clone, Copy, Debug)]
struct Parts {
    bias: bool,
    relu: bool,
    accumulate: bool,
    gate: bool,
}

fn parts() -> impl Strategy<Value = Parts> {
    any::<[bool; 4]>().prop_map(|[bias, relu, accumulate, gate]| Parts { bias, relu, accumulate, gate })
}

/// The arguments of a layer's products and the layouts of their results.
struct Case {
    shape: Shape,
    parts: Parts,
    layouts: Layouts,
    weights: Matrix,
    x: Matrix,
    dy: Matrix,
    relu_output: Matrix,
    scores: Matrix,
    bias: Guarded<f32>,
    /// Y before a product that accumulates.
    old: Vec<f32>,
}

impl Case {
    fn new(shape: Shape, numbers: Numbers, parts: Parts, layouts: Layouts) -> Self {
        let [outputs, inputs, columns] = shape;
        let at = layouts.offsets;
        let of = |shape: [usize; 2], layout, stream: u32| {
            Matrix::of(&numbers.take(shape[0] * shape[1], stream), shape, layout, at[stream as usize])
        };
        Self {
            weights: of([outputs, inputs], layouts.weights, 0),
            x: of([inputs, columns], layouts.x, 1),
            dy: of([outputs, columns], layouts.dy, 2),
            relu_output: of([inputs, columns], layouts.relu_output, 3),
            scores: of([outputs, inputs], layouts.scores, 4),
            bias: Guarded::of(&numbers.take(outputs, 5), at[5]),
            old: numbers.take(outputs * columns, 6),
            shape,
            parts,
            layouts,
        }
    }

    fn epilogue(&self) -> Epilogue<'_> {
        Epilogue {
            bias: self.parts.bias.then_some(&self.bias[..]),
            activation: if self.parts.relu { Activation::Relu } else { Activation::Identity },
            accumulate: self.parts.accumulate,
        }
    }

    fn relu_output(&self) -> Option<MatRef<'_>> {
        self.parts.gate.then(|| self.relu_output.view())
    }

    /// Y before a product: old values if they are accumulated, otherwise canaries, which are NaN.
    fn y(&self) -> Matrix {
        let ([outputs, _, columns], offset) = (self.shape, self.layouts.offsets[6]);
        match self.parts.accumulate {
            true => Matrix::of(&self.old, [outputs, columns], self.layouts.y, offset),
            false => Matrix::unset([outputs, columns], self.layouts.y, offset),
        }
    }

    fn dx(&self) -> Matrix {
        Matrix::unset([self.shape[1], self.shape[2]], self.layouts.dx, self.layouts.offsets[7])
    }

    fn dw(&self) -> Matrix {
        Matrix::unset([self.shape[0], self.shape[1]], self.layouts.dw, self.layouts.offsets[5])
    }

    /// Y by definition; weights that are `None` contribute no term.
    fn forward(&self, weights: &[Option<f32>]) -> Vec<f32> {
        let ([outputs, inputs, columns], x) = (self.shape, self.x.values());
        let element = |at: usize| {
            let (o, n) = (at / columns, at % columns);
            let start = if self.parts.accumulate { self.old[at] } else { 0.0 };
            let terms = (0..inputs).filter_map(|i| weights[o * inputs + i].map(|w| (w, x[i * columns + n])));
            let sum = terms.fold(start, |sum, (w, x)| w.mul_add(x, sum));
            let sum = if self.parts.bias { sum + self.bias[o] } else { sum };
            if self.parts.relu { relu(sum) } else { sum }
        };
        (0..outputs * columns).map(element).collect()
    }

    /// dX by definition; weights that are `None` contribute no term.
    fn input_gradient(&self, weights: &[Option<f32>]) -> Vec<f32> {
        let ([outputs, inputs, columns], dy) = (self.shape, self.dy.values());
        let gate = self.relu_output.values();
        let element = |at: usize| {
            let (i, n) = (at / columns, at % columns);
            let terms =
                (0..outputs).filter_map(|o| weights[o * inputs + i].map(|w| (w, dy[o * columns + n])));
            let sum = terms.fold(0.0, |sum: f32, (w, dy)| w.mul_add(dy, sum));
            if !self.parts.gate || gate[at] > 0.0 { sum } else { 0.0 }
        };
        (0..inputs * columns).map(element).collect()
    }

    fn weight_gradient(&self) -> Vec<f32> {
        let ([outputs, inputs, columns], x, dy) = (self.shape, self.x.values(), self.dy.values());
        let element = |at: usize| {
            let (o, i) = (at / inputs, at % inputs);
            (0..columns).fold(0.0, |sum: f32, n| dy[o * columns + n].mul_add(x[i * columns + n], sum))
        };
        (0..outputs * inputs).map(element).collect()
    }

    /// sign(score) · w · dW
    fn score_gradient(&self, dw: &[f32]) -> Vec<f32> {
        let (weights, scores) = (self.weights.values(), self.scores.values());
        let element = |at: usize| {
            let reached = weights[at] * dw[at];
            match scores[at] {
                score if score > 0.0 => reached,
                score if score < 0.0 => 0.0 - reached,
                _ => 0.0, // for NaN too
            }
        };
        (0..dw.len()).map(element).collect()
    }
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn dense_products(
        shape in shape(),
        numbers in numbers(),
        parts in parts(),
        layouts in layouts(),
        density in density(),
    ) {
        let case = Case::new(shape, numbers, parts, layouts);
        let all: Vec<_> = case.weights.values().into_iter().map(Some).collect();
        let (y, dx, dw) = (case.forward(&all), case.input_gradient(&all), case.weight_gradient());
        let ds = case.score_gradient(&dw);
        let mask = density.mask(dw.len());
        let kept: Vec<f32> = dw.iter().zip(mask.iter()).map(|(&dw, keep)| if keep { dw } else { 0.0 }).collect();
        let mut workspace = Workspace::default();
        everywhere(|engine| {
            let space = &mut workspace;
            let (weights, x, dy) = (case.weights.view(), case.x.view(), case.dy.view());
            let mut out = case.y();
            dense::forward(engine, weights, x, &case.epilogue(), out.view_mut(), space).unwrap();
            assert_same(&out.values(), &y, engine);
            let mut out = case.dx();
            dense::input_gradient(engine, weights, dy, case.relu_output(), out.view_mut(), space).unwrap();
            assert_same(&out.values(), &dx, engine);
            let mut out = case.dw();
            matmul::weight_gradient(engine, dy, x, None, out.view_mut(), space).unwrap();
            assert_same(&out.values(), &dw, engine);
            let mut out = case.dw();
            matmul::weight_gradient(engine, dy, x, Some(&mask), out.view_mut(), space).unwrap();
            assert_same(&out.values(), &kept, engine);
            let mut out = case.dw();
            matmul::score_gradient(engine, dy, x, weights, case.scores.view(), out.view_mut(), space).unwrap();
            assert_same(&out.values(), &ds, engine);
        });
    }

    /// After any sequence of new masks and new weights, prepared weights behave as if prepared from the last of each.
    #[test]
    fn prepared_products(
        shape in shape(),
        numbers in numbers(),
        parts in parts(),
        layouts in layouts(),
        options in options(),
        first in prop_oneof![1 => Just(None), 4 => density().prop_map(Some)],
        steps in prop::collection::vec(step(), 0..3),
    ) {
        let case = Case::new(shape, numbers, parts, layouts);
        let [outputs, inputs, _] = shape;
        let count = outputs * inputs;
        let mut weights = case.weights.clone();
        let mut mask = first.map(|density| density.mask(count));
        let states: Vec<_> = [None]
            .into_iter()
            .chain(steps.into_iter().map(Some))
            .map(|step| {
                let next = match step {
                    Some(Step::Rebuild(density)) => Some(density.mask(count)),
                    Some(Step::SetWeights(layout, stream)) => {
                        weights = Matrix::of(&numbers.take(count, stream), [outputs, inputs], layout, 3);
                        None
                    }
                    Some(Step::Bytes) | None => None,
                };
                if options.keep_source && let Some(next) = &next {
                    mask = Some(next.clone());
                }
                let mask_now = mask.clone().unwrap_or_else(|| PackedMask::all_kept(count));
                let format = format(&options, &mask_now);
                let removed = (format == Format::Dense).then_some(0.0);
                let values = weights.values().into_iter().map(|w| stored(options.storage, w));
                let given = values.zip(mask_now.iter()).map(|(w, keep)| if keep { Some(w) } else { removed });
                let given: Vec<_> = given.collect();
                let results = (case.forward(&given), case.input_gradient(&given));
                (step, next, weights.clone(), mask_now.kept(), format, results)
            })
            .collect();
        let first = first.map(|density| density.mask(count));
        let mut workspace = Workspace::default();
        everywhere(|engine| {
            let space = &mut workspace;
            let mut layer = PackedWeights::prepare(engine, case.weights.view(), first.as_ref(), &options).unwrap();
            for (step, next, weights, kept, format, (y, dx)) in &states {
                match step {
                    Some(Step::Rebuild(_)) => {
                        let result = layer.rebuild(engine, next.as_ref().unwrap());
                        assert_eq!(result, if options.keep_source { Ok(()) } else { Err(KernelError::NoSource) });
                    }
                    Some(Step::SetWeights(..)) => layer.set_weights(engine, weights.view()).unwrap(),
                    Some(Step::Bytes) => {
                        let bytes = layer.to_bytes();
                        layer = PackedWeights::from_bytes(engine, &bytes).unwrap();
                        assert!(layer.to_bytes() == bytes, "{engine:?}");
                    }
                    None => {}
                }
                assert_eq!((layer.outputs(), layer.inputs(), layer.kept()), (outputs, inputs, *kept));
                let format = on(engine, *format, &options, count, *kept);
                assert_eq!((layer.format(), layer.options()), (format, &options));
                let mut out = case.y();
                matmul::forward(engine, &layer, case.x.view(), &case.epilogue(), out.view_mut(), space).unwrap();
                assert_same(&out.values(), y, (engine, step));
                let mut out = case.dx();
                let (dy, gate) = (case.dy.view(), case.relu_output());
                let result = matmul::input_gradient(engine, &layer, dy, gate, out.view_mut(), space);
                if options.input_gradient {
                    result.unwrap();
                    assert_same(&out.values(), dx, (engine, step));
                } else {
                    assert_eq!(result, Err(KernelError::NoInputGradient));
                    assert_untouched(&out);
                }
            }
        });
    }

    /// A product is computed when all shapes fit. Otherwise it is an error, and nothing is written.
    #[test]
    fn shapes_fit_or_are_errors(
        [outputs, inputs, columns] in [0..4_usize, 0..4_usize, 0..4_usize],
        off in prop::collection::vec(prop_oneof![9 => Just(0), 1 => 1..3_u8], 8),
        [bias_off, mask_off] in [prop::bool::weighted(0.1), prop::bool::weighted(0.1)],
        density in density(),
    ) {
        let memory = [1.0; 25];
        // Views that shall not fit have one row or one column too many.
        let size = |[rows, cols]: [usize; 2], off: u8| [rows + usize::from(off & 1), cols + usize::from(off >> 1)];
        let view = |shape: [usize; 2], i: usize| {
            let [rows, cols] = size(shape, off[i]);
            MatRef::new(&memory, rows, cols, cols, 1).unwrap()
        };
        let (of_w, of_x, of_y) = ([outputs, inputs], [inputs, columns], [outputs, columns]);
        let (weights, x, dy, scores) = (view(of_w, 0), view(of_x, 1), view(of_y, 2), view(of_w, 3));
        let relu_output = view(of_x, 4);
        let [w_fits, x_fits, dy_fits, scores_fit, gate_fits] = [0, 1, 2, 3, 4].map(|i| off[i] == 0);
        let [y_fits, dx_fits, dw_fits] = [5, 6, 7].map(|i| off[i] == 0);
        let bias = vec![1.0; outputs + usize::from(bias_off)];
        let epilogue = Epilogue { bias: Some(&bias), activation: Activation::Relu, accumulate: false };
        let mask = Density::mask(density, outputs * inputs + usize::from(mask_off));
        let options = PrepareOptions::default().strategy(Way::Sparse);
        everywhere(|engine| {
            let (engine, space) = (engine, &mut Workspace::default());
            let fits = |shape, i: usize, fits: bool, call: &mut dyn FnMut(MatMut<'_>) -> Result<(), KernelError>| {
                let [rows, cols] = size(shape, off[i]);
                let layout = Layout::Lines { exchanged: false, step: 1, gap: 1 };
                let mut out = Matrix::unset([rows, cols], layout, 1);
                let result = call(out.view_mut());
                assert_eq!(result.is_ok(), fits, "{engine:?} {result:?}");
                if result.is_err() {
                    assert_untouched(&out);
                } else {
                    assert!(out.values().iter().all(|x| !x.is_nan()));
                }
            };
            // A call fits if the shapes agree with each other, even if they differ from `outputs`, `inputs` and `columns`.
            let agrees = |a: MatRef<'_>, b: [usize; 2]| [a.rows(), a.cols()] == b;
            let [x_shape, dy_shape] = [size(of_x, off[1]), size(of_y, off[2])];
            let [y_shape, dx_shape, dw_shape] = [size(of_y, off[5]), size(of_x, off[6]), size(of_w, off[7])];
            let w_shape = size(of_w, off[0]);
            let forward_fits = |w: [usize; 2]| w[1] == x_shape[0] && y_shape == [w[0], x_shape[1]] && bias.len() == w[0];
            let backward_fits = |w: [usize; 2], gate: bool| {
                w[0] == dy_shape[0]
                    && dx_shape == [w[1], dy_shape[1]]
                    && (!gate || agrees(relu_output, dx_shape))
            };
            let gradient_fits = x_shape[1] == dy_shape[1] && dw_shape == [dy_shape[0], x_shape[0]];
            assert!(!(w_fits && x_fits && y_fits && !bias_off) || forward_fits(w_shape));
            assert!(!(w_fits && dy_fits && dx_fits && gate_fits) || backward_fits(w_shape, true));
            assert!(!(x_fits && dy_fits && dw_fits) || gradient_fits);
            assert!(!(scores_fit && w_fits) || agrees(scores, w_shape));
            fits(of_y, 5, forward_fits(w_shape), &mut |y| dense::forward(engine, weights, x, &epilogue, y, space));
            for gate in [None, Some(relu_output)] {
                fits(of_x, 6, backward_fits(w_shape, gate.is_some()), &mut |dx| {
                    dense::input_gradient(engine, weights, dy, gate, dx, space)
                });
            }
            fits(of_w, 7, gradient_fits, &mut |dw| matmul::weight_gradient(engine, dy, x, None, dw, space));
            let mask_fits = mask.len() == dw_shape[0] * dw_shape[1];
            fits(of_w, 7, gradient_fits && mask_fits, &mut |dw| {
                matmul::weight_gradient(engine, dy, x, Some(&mask), dw, space)
            });
            let all_agree = gradient_fits && agrees(weights, dw_shape) && agrees(scores, dw_shape);
            fits(of_w, 7, all_agree, &mut |ds| {
                matmul::score_gradient(engine, dy, x, weights, scores, ds, space)
            });
            let count = w_shape[0] * w_shape[1];
            let layer = PackedWeights::prepare(engine, weights, Some(&mask), &options.input_gradient(true));
            assert_eq!(layer.is_ok(), mask.len() == count);
            let mut layer = layer.or_else(|_| {
                PackedWeights::prepare(engine, weights, None, &options.input_gradient(true))
            }).unwrap();
            assert!(layer.rebuild(engine, &PackedMask::all_kept(count + 1)).is_err());
            assert_eq!(layer.set_weights(engine, scores).is_ok(), agrees(scores, w_shape));
            fits(of_y, 5, forward_fits(w_shape), &mut |y| matmul::forward(engine, &layer, x, &epilogue, y, space));
            for gate in [None, Some(relu_output)] {
                fits(of_x, 6, backward_fits(w_shape, gate.is_some()), &mut |dx| {
                    matmul::input_gradient(engine, &layer, dy, gate, dx, space)
                });
            }
        });
    }
}

/// A change of prepared weights.
#[derive(Clone, Copy, Debug)]
enum Step {
    Rebuild(Density),
    /// New weights with this layout, from this stream of numbers.
    SetWeights(Layout, u32),
    /// Serialisation and deserialisation.
    Bytes,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => density().prop_map(Step::Rebuild),
        1 => (layout_or_repeated(), 10..20_u32).prop_map(|(layout, stream)| Step::SetWeights(layout, stream)),
        1 => Just(Step::Bytes),
    ]
}

fn options() -> impl Strategy<Value = PrepareOptions> {
    // Products may have more columns than announced.
    let max_batch = prop_oneof![0..6_usize, prop::sample::select(vec![16, 17, 63, 64, usize::MAX])];
    let reuse = prop::sample::select(vec![MaskReuse::Many, MaskReuse::Once]);
    let way = prop::sample::select(vec![Way::Auto, Way::Sparse, Way::Dense, Way::Bitmask]);
    let storage = prop::sample::select(vec![Storage::F32, Storage::Bf16]);
    (max_batch, reuse, way, prop::bool::weighted(0.8), prop::bool::weighted(0.75), storage).prop_map(
        |(max_batch, reuse, way, input_gradient, keep_source, storage)| {
            let options = PrepareOptions::default().max_batch(max_batch).reuse(reuse).strategy(way);
            options.input_gradient(input_gradient).keep_source(keep_source).storage(storage)
        },
    )
}

/// The documented format. [`Way::Auto`] chooses dense from a kept share on that depends on the announced columns.
fn format(options: &PrepareOptions, mask: &PackedMask) -> Format {
    let (near, far, bf16, once) = match options.max_batch {
        0..=1 => (22, 66, 25, 20),
        2 => (22, 66, 25, 30),
        3..=4 => (22, 66, 22, 35),
        5..=8 => (30, 66, 28, 35),
        9..=16 => (55, 65, 48, 35),
        17..=32 => (55, 70, 55, 60),
        33..=63 => (60, 60, 60, 60),
        _ => (85, 85, 85, 85),
    };
    let percent = match (options.reuse, options.storage) {
        (MaskReuse::Once, _) => once,
        (_, Storage::Bf16) => bf16,
        _ if mask.len() > 3 << 18 => far,
        _ => near,
    };
    match options.strategy {
        Way::Auto if mask.kept() * 100 >= mask.len() * percent => Format::Dense,
        Way::Dense => Format::Dense,
        Way::Bitmask => Format::Bitmask,
        _ if options.max_batch <= 32 && options.reuse == MaskReuse::Many => Format::Interleaved,
        _ => Format::Blocked,
    }
}

/// The format on this backend: [`Way::Auto`] on AVX-512 differs for many weights and few columns.
fn on(engine: Engine, format: Format, options: &PrepareOptions, weights: usize, kept: usize) -> Format {
    let is_large = engine.backend().name() == "avx512" && weights > 3 << 18;
    let percent = match options.max_batch {
        0..=4 => 30,
        5..=8 => 45,
        _ => return format,
    };
    match (format, options.strategy) {
        (Format::Interleaved, Way::Auto) if is_large && kept * 100 >= weights * percent => Format::Bitmask,
        _ => format,
    }
}

/// Checks that nothing was written.
#[track_caller]
fn assert_untouched(out: &Matrix) {
    let canary = <f32 as crate::support::Canary>::CANARY.to_bits();
    assert!(out.values().iter().all(|x| x.to_bits() == canary), "written despite an error");
}

/// 97 · 172961 = 2²⁴ + 1 lies half-way between two floats, so ±2⁻⁴⁰ decides the rounding. A sum rounded to `f64` first would
/// lose these bits. Random numbers practically never hit such a case.
#[test]
fn sums_round_once() {
    for (little, expected) in [(2.0_f32.powi(-40), 16_777_218.0), (-(2.0_f32.powi(-40)), 16_777_216.0)] {
        for (outputs, columns) in [(1, 1), (40, 1), (3, 2), (7, 70)] {
            let weights = [little, 97.0].repeat(outputs);
            let weights = MatRef::row_major(&weights, outputs, 2).unwrap();
            let x: Vec<f32> = (0..2 * columns).map(|at| if at < columns { 1.0 } else { 172_961.0 }).collect();
            let x = MatRef::row_major(&x, 2, columns).unwrap();
            let expected = vec![expected; outputs * columns];
            everywhere(|engine: Engine| {
                let (space, identity) = (&mut Workspace::default(), Epilogue::default());
                let mut y = vec![0.0; outputs * columns];
                let into = MatMut::row_major(&mut y, outputs, columns).unwrap();
                dense::forward(engine, weights, x, &identity, into, space).unwrap();
                assert_same(&y, &expected, engine);
                for max_batch in [columns, 100] {
                    let options = PrepareOptions::default().strategy(Way::Sparse).max_batch(max_batch);
                    let layer = PackedWeights::prepare(engine, weights, None, &options).unwrap();
                    let mut y = vec![0.0; outputs * columns];
                    let into = MatMut::row_major(&mut y, outputs, columns).unwrap();
                    matmul::forward(engine, &layer, x, &identity, into, space).unwrap();
                    assert_same(&y, &expected, engine);
                }
            });
        }
    }
}
