//! All products on all backends, thread counts and layouts against naive oracles, bit for bit.

use super::*;
use crate::backend::Backend;
use crate::bf16::Bf16;
use crate::weights::{Format, MaskReuse, PrepareOptions, Storage, Strategy};

/// What every product promises: fused multiply-adds in ascending order, beginning with `start`.
fn oracle(
    [m, n, k]: [usize; 3],
    a: impl Fn(usize, usize) -> f32,
    b: impl Fn(usize, usize) -> f32,
    start: impl Fn(usize, usize) -> f32,
) -> Vec<f32> {
    let element = |at: usize| {
        let (i, j) = (at / n, at % n);
        (0..k).fold(start(i, j), |sum, l| a(i, l).mul_add(b(l, j), sum))
    };
    (0..m * n).map(element).collect()
}

/// Pseudo-random numbers in ±1, including a few exact zeros.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let x = (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0;
            if state >> 36 & 15 == 0 { 0.0 } else { x }
        })
        .collect()
}

/// A NaN, so that a read past the end of an argument also shows in the result.
const CANARY: u32 = 0x7fc1_2345;

/// A matrix in memory, with canaries before, between and after its elements.
#[derive(Clone)]
pub(crate) struct Laid {
    memory: Vec<f32>,
    rows: usize,
    cols: usize,
    strides: [usize; 2],
}

/// Strides by rows and columns; the first two layouts are those of frameworks.
pub(crate) const LAYOUTS: [fn(usize, usize) -> [usize; 2]; 5] = [
    |_, cols| [cols, 1],
    |rows, _| [1, rows],
    |_, cols| [cols + 3, 1],
    |rows, _| [1, rows + 5],
    |_, cols| [2 * cols + 1, 2],
];

const MARGIN: usize = 33;

impl Laid {
    pub(crate) fn unset(rows: usize, cols: usize, layout: usize) -> Self {
        let strides = LAYOUTS[layout](rows, cols);
        let len = rows * strides[0] + cols * strides[1] + 2 * MARGIN;
        Self { memory: vec![f32::from_bits(CANARY); len], rows, cols, strides }
    }

    /// From row-major values.
    pub(crate) fn of(values: &[f32], rows: usize, cols: usize, layout: usize) -> Self {
        let mut laid = Self::unset(rows, cols, layout);
        for (at, &value) in values.iter().enumerate() {
            laid.view_mut().set(at / cols, at % cols, value);
        }
        laid
    }

    pub(crate) fn view(&self) -> MatRef<'_> {
        let [rows, cols] = self.strides;
        MatRef::new(&self.memory[MARGIN..], self.rows, self.cols, rows, cols).unwrap()
    }

    pub(crate) fn view_mut(&mut self) -> MatMut<'_> {
        let [rows, cols] = self.strides;
        MatMut::new(&mut self.memory[MARGIN..], self.rows, self.cols, rows, cols).unwrap()
    }

    /// The elements in row-major order; fails if a canary was overwritten.
    pub(crate) fn take(mut self) -> Vec<f32> {
        let (rows, cols) = (self.rows, self.cols);
        let values = (0..rows * cols).map(|at| self.view().get(at / cols, at % cols)).collect();
        self.view_mut().fill(f32::from_bits(CANARY));
        assert!(self.memory.iter().all(|x| x.to_bits() == CANARY), "wrote outside of the view");
        values
    }
}

/// Calls `check` with every backend, on one thread and on three.
pub(crate) fn everywhere(check: impl Fn(Engine)) {
    for backend in Backend::available() {
        for threads in [1, 3] {
            check(Engine::new(backend).with_threads(threads).share_from(0));
        }
    }
}

pub(crate) fn assert_same(
    found: &[f32],
    expected: &[f32],
    same: fn(f32, f32) -> bool,
    of: &dyn core::fmt::Debug,
) {
    assert_eq!(found.len(), expected.len());
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        assert!(same(found, expected), "{of:?}, element {i}: {found:e} for {expected:e}");
    }
}

pub(crate) fn same_bits(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits()
}

/// Equal numbers; zeros may differ in sign, because a removed weight may contribute a term of ±0.
pub(crate) fn same_number(a: f32, b: f32) -> bool {
    a == b
}

pub(crate) fn relu(x: f32) -> f32 {
    if x > 0.0 { x } else { 0.0 }
}

/// Outputs, inputs, batch: empty and elongated shapes, and sizes around those of lanes, tiles, panels and blocks.
const SHAPES: &[(usize, usize, usize)] = &[
    (0, 3, 2),
    (3, 0, 2),
    (3, 2, 0),
    (1, 1, 1),
    (1, 97, 1),
    (10, 33, 1),
    (21, 300, 1),
    (9, 400, 2),
    (5, 7, 3),
    (7, 95, 8),
    (13, 96, 15),
    (6, 17, 16),
    (12, 193, 17),
    (11, 31, 33),
    (3, 64, 63),
    (2, 5, 64),
    (7, 523, 65),
    (523, 7, 65),
    (7, 65, 523),
    (25, 19, 65),
    (4, 257, 9),
    (121, 13, 40),
    (2, 300, 129),
    (1100, 130, 5),
    (130, 1100, 3),
];

/// A layer's arguments, with its products by definition.
struct Case {
    outputs: usize,
    inputs: usize,
    batch: usize,
    weights: Vec<f32>,
    x: Vec<f32>,
    dy: Vec<f32>,
    bias: Vec<f32>,
    old: Vec<f32>,
}

impl Case {
    fn new((outputs, inputs, batch): (usize, usize, usize)) -> Self {
        Self {
            outputs,
            inputs,
            batch,
            weights: noise(outputs * inputs, 1),
            x: noise(inputs * batch, 2),
            dy: noise(outputs * batch, 3),
            bias: noise(outputs, 4),
            old: noise(outputs * batch, 5),
        }
    }

    fn mask(&self, kept_of_100: u64) -> PackedMask {
        let dice = noise(self.weights.len(), 6 + kept_of_100);
        PackedMask::from_fn(dice.len(), |i| (dice[i] + 1.0) * 50.0 < kept_of_100 as f32)
    }

    fn y(&self, effective: &[f32], epilogue: &Epilogue<'_>) -> Vec<f32> {
        let start = |i, j| if epilogue.accumulate { self.old[i * self.batch + j] } else { 0.0 };
        let (a, b) = (|i, k| effective[i * self.inputs + k], |k, j| self.x[k * self.batch + j]);
        let mut y = oracle([self.outputs, self.batch, self.inputs], a, b, start);
        for (at, y) in y.iter_mut().enumerate() {
            if let Some(bias) = epilogue.bias {
                *y += bias[at / self.batch];
            }
            if epilogue.activation == Activation::Relu {
                *y = relu(*y);
            }
        }
        y
    }

    /// dX; with `relu_output`, gated by the ReLU that produced X.
    fn dx(&self, effective: &[f32], relu_output: bool) -> Vec<f32> {
        let (a, b) = (|i, o| effective[o * self.inputs + i], |o, j| self.dy[o * self.batch + j]);
        let dx = oracle([self.inputs, self.batch, self.outputs], a, b, |_, _| 0.0);
        dx.iter().zip(&self.x).map(|(&g, &x)| if x > 0.0 || !relu_output { g } else { 0.0 }).collect()
    }

    fn dw(&self) -> Vec<f32> {
        let (a, b) = (|o, j| self.dy[o * self.batch + j], |j, i| self.x[i * self.batch + j]);
        oracle([self.outputs, self.inputs, self.batch], a, b, |_, _| 0.0)
    }

    /// An epilogue whose bias, activation and accumulation are given by the bits of `which`.
    fn epilogue(&self, which: usize) -> Epilogue<'_> {
        Epilogue {
            bias: (which & 1 != 0).then_some(&self.bias),
            activation: if which & 2 != 0 { Activation::Relu } else { Activation::Identity },
            accumulate: which & 4 != 0,
        }
    }

    fn x_laid(&self, layout: usize) -> Laid {
        Laid::of(&self.x, self.inputs, self.batch, layout)
    }

    fn dy_laid(&self, layout: usize) -> Laid {
        Laid::of(&self.dy, self.outputs, self.batch, layout)
    }

    /// Y before a product: old values if they are accumulated, otherwise canaries, which are NaN.
    fn y_laid(&self, layout: usize, epilogue: &Epilogue<'_>) -> Laid {
        match epilogue.accumulate {
            true => Laid::of(&self.old, self.outputs, self.batch, layout),
            false => Laid::unset(self.outputs, self.batch, layout),
        }
    }
}

fn effective(weights: &[f32], mask: &PackedMask) -> Vec<f32> {
    weights.iter().zip(mask.iter()).map(|(&w, keep)| if keep { w } else { 0.0 }).collect()
}

/// Options that together select all formats of a strategy.
fn formats(strategy: Strategy) -> Vec<PrepareOptions> {
    let options = PrepareOptions::default().strategy(strategy);
    let bitmask = (strategy == Strategy::Sparse).then_some(options.strategy(Strategy::Bitmask));
    [options.max_batch(1), options].into_iter().chain(bitmask).collect()
}

#[test]
fn prepared_products() {
    for (number, &shape) in SHAPES.iter().enumerate() {
        let case = Case::new(shape);
        for kept_of_100 in [0, 1, 10, 50, 90, 100] {
            let mask = case.mask(kept_of_100);
            let all = effective(&case.weights, &mask);
            let turn = number + kept_of_100 as usize;
            let strategy = [Strategy::Auto, Strategy::Sparse, Strategy::Dense, Strategy::Bitmask][turn % 4];
            let options = PrepareOptions::default()
                .strategy(strategy)
                .max_batch(case.batch * (turn % 5))
                .input_gradient(true)
                .keep_source(turn.is_multiple_of(2));
            let epilogue = case.epilogue(turn % 8);
            let (y, dx) = (case.y(&all, &epilogue), case.dx(&all, turn.is_multiple_of(2)));
            let (x_layout, y_layout) = (turn % 5, turn / 5 % 5);
            let weights = Laid::of(&case.weights, case.outputs, case.inputs, (turn + 1) % 5);
            everywhere(|engine| {
                let of = (engine, shape, kept_of_100, options, epilogue, x_layout, y_layout);
                let layer = PackedWeights::prepare(engine, weights.view(), Some(&mask), &options).unwrap();
                let workspace = &mut Workspace::default();
                let (x, dy) = (case.x_laid(x_layout), case.dy_laid(x_layout));
                let mut out = case.y_laid(y_layout, &epilogue);
                forward(engine, &layer, x.view(), &epilogue, out.view_mut(), workspace).unwrap();
                assert_same(&out.take(), &y, same_number, &of);
                let mut out = Laid::unset(case.inputs, case.batch, y_layout);
                let relu_output = (turn.is_multiple_of(2)).then(|| x.view());
                input_gradient(engine, &layer, dy.view(), relu_output, out.view_mut(), workspace).unwrap();
                assert_same(&out.take(), &dx, same_number, &of);
            });
        }
    }
}

/// For one strategy all formats, layouts and backends give the same bits.
#[test]
fn prepared_products_have_the_same_bits_everywhere() {
    for &shape in SHAPES {
        let case = Case::new(shape);
        let mask = PackedMask::from_fn(case.weights.len(), |i| i * i % 5 < 2);
        let weights = MatRef::row_major(&case.weights, case.outputs, case.inputs).unwrap();
        for strategy in [Strategy::Sparse, Strategy::Dense] {
            for which in [0, 7] {
                let epilogue = case.epilogue(which);
                let (mut y, mut dx) = (None, None);
                for options in formats(strategy) {
                    let options = options.input_gradient(true);
                    for layout in 0..LAYOUTS.len() {
                        let (x, dy) = (case.x_laid(layout), case.dy_laid((layout + 1) % 5));
                        for backend in Backend::available() {
                            let engine = Engine::new(backend).with_threads(1 + layout % 3).share_from(0);
                            let layer =
                                PackedWeights::prepare(engine, weights, Some(&mask), &options).unwrap();
                            let workspace = &mut Workspace::default();
                            let of = (engine, shape, options, which, layout);
                            let mut out = case.y_laid((layout + 2) % 5, &epilogue);
                            forward(engine, &layer, x.view(), &epilogue, out.view_mut(), workspace).unwrap();
                            let out = out.take();
                            assert_same(y.get_or_insert_with(|| out.clone()), &out, same_bits, &of);
                            let mut out = Laid::unset(case.inputs, case.batch, (layout + 3) % 5);
                            let x = Some(x.view());
                            input_gradient(engine, &layer, dy.view(), x, out.view_mut(), workspace).unwrap();
                            let out = out.take();
                            assert_same(dx.get_or_insert_with(|| out.clone()), &out, same_bits, &of);
                        }
                    }
                }
            }
        }
    }
}

/// Formats for few columns against those for many, for every number of columns up to slightly more than a panel, with several
/// bands of outputs and blocks of inputs.
#[test]
fn every_number_of_columns_has_the_same_bits_in_all_formats() {
    for (outputs, inputs) in [(19, 530), (1029, 21)] {
        for batch in (1..=70).filter(|batch| outputs < 100 || batch % 7 < 3) {
            let case = Case::new((outputs, inputs, batch));
            let mask = PackedMask::from_fn(case.weights.len(), |i| i * i % 5 < 2);
            let weights = MatRef::row_major(&case.weights, outputs, inputs).unwrap();
            let epilogue = case.epilogue(batch % 8);
            for strategy in [Strategy::Sparse, Strategy::Dense] {
                let mut first: Option<Vec<f32>> = None;
                for backend in Backend::available() {
                    for options in formats(strategy) {
                        let engine = Engine::new(backend).with_threads(1 + batch % 2).share_from(0);
                        let layer = PackedWeights::prepare(engine, weights, Some(&mask), &options).unwrap();
                        let (x, mut out) = (case.x_laid(batch % 5), case.y_laid(batch / 2 % 5, &epilogue));
                        let workspace = &mut Workspace::default();
                        forward(engine, &layer, x.view(), &epilogue, out.view_mut(), workspace).unwrap();
                        let out = out.take();
                        let of = (engine, outputs, batch, options);
                        assert_same(first.get_or_insert_with(|| out.clone()), &out, same_bits, &of);
                    }
                }
            }
        }
    }
}

/// Weights stored in bf16 against rounded weights in f32, in both directions and every format.
#[test]
fn weights_of_bf16_give_the_bits_of_rounded_weights() {
    for batch in [1, 2, 3, 4, 5, 8, 9, 16, 17, 18, 33, 70] {
        let case = Case::new((27, 530, batch));
        let rounded: Vec<f32> = case.weights.iter().map(|&w| Bf16::round(w).widen()).collect();
        let mask = PackedMask::from_fn(case.weights.len(), |i| i * i % 5 < 2);
        let weights = Laid::of(&case.weights, 27, 530, batch % 5);
        let rounded = MatRef::row_major(&rounded, 27, 530).unwrap();
        let epilogue = case.epilogue(batch % 8);
        for strategy in [Strategy::Sparse, Strategy::Dense] {
            for options in formats(strategy) {
                let options = options.input_gradient(true).keep_source(batch % 2 == 0);
                let (x, dy) = (case.x_laid(batch % 5), case.dy_laid(batch / 2 % 5));
                let products = |engine: Engine<'_>, layer: &PackedWeights| {
                    let (mut y, mut dx) = (case.y_laid(0, &epilogue), Laid::unset(530, batch, 1));
                    let workspace = &mut Workspace::default();
                    forward(engine, layer, x.view(), &epilogue, y.view_mut(), workspace).unwrap();
                    input_gradient(engine, layer, dy.view(), None, dx.view_mut(), workspace).unwrap();
                    [y.take(), dx.take()]
                };
                let layer = PackedWeights::prepare(Engine::serial(), rounded, Some(&mask), &options).unwrap();
                let expected = products(Engine::serial(), &layer);
                everywhere(|engine| {
                    let options = options.storage(Storage::Bf16);
                    let layer =
                        PackedWeights::prepare(engine, weights.view(), Some(&mask), &options).unwrap();
                    let of = (engine, batch, options);
                    for (found, expected) in products(engine, &layer).iter().zip(&expected) {
                        assert_same(found, expected, same_bits, &of);
                    }
                });
            }
        }
    }
}

/// Several chunks of outputs, blocks of inputs and panels of columns at once, in scratch memory with another product's data.
/// The shapes cover tiles side by side, too many tiles for that, and prefetched activations.
#[test]
fn products_larger_than_scratch_memory() {
    for (outputs, inputs, batch, modulus) in [(1030, 260, 66, 5), (1026, 8200, 2, 11), (20, 4200, 130, 5)] {
        let case = Case::new((outputs, inputs, batch));
        let mask = PackedMask::from_fn(case.weights.len(), |i| i * i % modulus < 2);
        let epilogue = case.epilogue(1);
        let expected = case.y(&effective(&case.weights, &mask), &epilogue);
        let other = noise(inputs * batch, 10);
        let weights = MatRef::row_major(&case.weights, outputs, inputs).unwrap();
        let options = PrepareOptions::default().strategy(Strategy::Sparse).max_batch(256);
        everywhere(|engine| {
            let layer = PackedWeights::prepare(engine, weights, Some(&mask), &options).unwrap();
            let workspace = &mut Workspace::default();
            for layout in [0, 1] {
                for x in [Laid::of(&other, inputs, batch, layout), case.x_laid(layout)] {
                    let mut y = Laid::unset(outputs, batch, layout);
                    forward(engine, &layer, x.view(), &epilogue, y.view_mut(), workspace).unwrap();
                    if x.take() == case.x {
                        assert_same(&y.take(), &expected, same_number, &(engine, layout));
                    }
                }
            }
        });
    }
}

#[test]
fn dense_products() {
    for (number, &shape) in SHAPES.iter().enumerate() {
        let case = Case::new(shape);
        let (outputs, inputs, batch) = shape;
        let epilogue = case.epilogue(number % 8);
        let (y, dx, dw) = (case.y(&case.weights, &epilogue), case.dx(&case.weights, true), case.dw());
        let mask = PackedMask::from_fn(dw.len(), |i| i % 3 == 1);
        let kept = effective(&dw, &mask);
        let scores = noise(dw.len(), 7);
        let sign = |x: f32| f32::from(x > 0.0) - f32::from(x < 0.0);
        let ds: Vec<f32> = (0..dw.len()).map(|i| sign(scores[i]) * (case.weights[i] * dw[i])).collect();
        for layout in [0, 1, 4] {
            let weights = Laid::of(&case.weights, outputs, inputs, (number + layout) % 5);
            let scores = Laid::of(&scores, outputs, inputs, (number + 2 * layout) % 5);
            let (x, dy) = (case.x_laid(layout), case.dy_laid((layout + number) % 5));
            let of_gradient = (number + 3 * layout) % 5;
            everywhere(|engine| {
                let (of, workspace) = ((engine, shape, layout), &mut Workspace::default());
                let mut out = case.y_laid((layout + number + 1) % 5, &epilogue);
                dense::forward(engine, weights.view(), x.view(), &epilogue, out.view_mut(), workspace)
                    .unwrap();
                assert_same(&out.take(), &y, same_bits, &of);
                let mut out = Laid::unset(inputs, batch, (layout + number + 2) % 5);
                let relu_output = Some(x.view());
                let (w, dy) = (weights.view(), dy.view());
                dense::input_gradient(engine, w, dy, relu_output, out.view_mut(), workspace).unwrap();
                assert_same(&out.take(), &dx, same_bits, &of);
                for (mask, expected) in [(None, &dw), (Some(&mask), &kept)] {
                    let mut out = Laid::unset(outputs, inputs, of_gradient);
                    weight_gradient(engine, dy, x.view(), mask, out.view_mut(), workspace).unwrap();
                    assert_same(&out.take(), expected, same_bits, &of);
                }
                let mut out = Laid::unset(outputs, inputs, of_gradient);
                score_gradient(engine, dy, x.view(), w, scores.view(), out.view_mut(), workspace).unwrap();
                assert_same(&out.take(), &ds, same_number, &of);
            });
        }
    }
}

/// A stride of 0 repeats elements of an argument.
#[test]
fn repeated_elements() {
    let case = Case::new((5, 300, 40));
    let one = noise(300, 8);
    let all_equal: Vec<f32> = one.iter().flat_map(|&x| [x; 40]).collect();
    let case = Case { x: all_equal, ..case };
    let y = case.y(&case.weights, &Epilogue::default());
    let weights = MatRef::row_major(&case.weights, 5, 300).unwrap();
    let x = MatRef::new(&one, 300, 40, 1, 0).unwrap();
    everywhere(|engine| {
        for strategy in [Strategy::Sparse, Strategy::Dense, Strategy::Bitmask] {
            let options = PrepareOptions::default().strategy(strategy);
            let layer = PackedWeights::prepare(engine, weights, None, &options).unwrap();
            let mut out = Laid::unset(5, 40, 1);
            forward(engine, &layer, x, &Epilogue::default(), out.view_mut(), &mut Workspace::default())
                .unwrap();
            assert_same(&out.take(), &y, same_number, &(engine, strategy));
        }
    });
}

/// With strides of 0 one number stands for any number of elements, but a copy of them must still fit in memory.
#[test]
fn views_beyond_memory_are_errors() {
    let (engine, workspace) = (Engine::serial(), &mut Workspace::default());
    let (one, huge) = ([1.0], usize::MAX / 16);
    let view = |rows, cols| MatRef::new(&one, rows, cols, 0, 0).unwrap();
    let (mut y, mut dx, mut dw) = ([0.0; 16], [0.0; 16], [0.0; 16]);
    fn into(memory: &mut [f32]) -> MatMut<'_> {
        MatMut::row_major(memory, 16, 1).unwrap()
    }
    let overflow = Err(KernelError::Overflow { what: "elements of a view" });
    let (epilogue, out) = (Epilogue::default(), into(&mut y));
    assert_eq!(dense::forward(engine, view(16, huge), view(huge, 1), &epilogue, out, workspace), overflow);
    let into_dx = into(&mut dx);
    assert_eq!(
        dense::input_gradient(engine, view(huge, 16), view(huge, 1), None, into_dx, workspace),
        overflow
    );
    let into_dw = into(&mut dw);
    assert_eq!(weight_gradient(engine, view(16, huge), view(1, huge), None, into_dw, workspace), overflow);
}

/// If one size is 0, no slice limits the other.
#[test]
fn empty_products_of_any_size() {
    let (engine, workspace) = (Engine::serial(), &mut Workspace::default());
    let identity = Epilogue::default();
    let huge = usize::MAX;
    let view = |rows, cols| MatRef::row_major(&[], rows, cols).unwrap();
    let into = |rows, cols| MatMut::row_major(&mut [], rows, cols).unwrap();
    dense::forward(engine, view(0, 1 << 45), view(1 << 45, 0), &identity, into(0, 0), workspace).unwrap();
    dense::input_gradient(engine, view(0, 1 << 45), view(0, 0), None, into(1 << 45, 0), workspace).unwrap();
    for (outputs, inputs) in [(0, huge), (huge, 0)] {
        for max_batch in [1, 100] {
            for strategy in [Strategy::Sparse, Strategy::Dense, Strategy::Bitmask] {
                let options =
                    PrepareOptions::default().strategy(strategy).max_batch(max_batch).input_gradient(true);
                let layer = PackedWeights::prepare(engine, view(outputs, inputs), None, &options).unwrap();
                forward(engine, &layer, view(inputs, 0), &identity, into(outputs, 0), workspace).unwrap();
                input_gradient(engine, &layer, view(outputs, 0), None, into(inputs, 0), workspace).unwrap();
            }
        }
    }
    weight_gradient(engine, view(0, huge), view(0, huge), None, into(0, 0), workspace).unwrap();
    // Without terms the result is the old value, if accumulated, plus the bias.
    let (mut y, bias) = ([1.0, 2.0], [10.0, -20.0]);
    for (accumulate, expected) in [(true, [11.0, 0.0]), (false, [10.0, 0.0])] {
        let epilogue = Epilogue { bias: Some(&bias), activation: Activation::Relu, accumulate };
        let y_view = MatMut::row_major(&mut y, 2, 1).unwrap();
        dense::forward(engine, view(2, 0), view(0, 1), &epilogue, y_view, workspace).unwrap();
        assert_eq!(y, expected);
    }
}

/// Dense formats store 0 for a removed weight, not 0 times the weight, which could be NaN.
#[test]
fn a_removed_weight_may_be_infinite_or_nan() {
    let workspace = &mut Workspace::default();
    let weights: [f32; 60] = core::array::from_fn(|at| [f32::INFINITY, 2.0, f32::NAN][at % 3]);
    let mask = PackedMask::from_fn(60, |at| at % 3 == 1);
    let view = MatRef::row_major(&weights, 20, 3).unwrap();
    for engine in Backend::available().into_iter().map(Engine::new) {
        for batch in [1, 8, 40] {
            let options = PrepareOptions::default().strategy(Strategy::Dense).max_batch(batch);
            let layer = PackedWeights::prepare(engine, view, Some(&mask), &options).unwrap();
            let x = MatRef::new(&[3.0], 3, batch, 0, 0).unwrap();
            let mut y = vec![0.0; 20 * batch];
            let y_view = MatMut::row_major(&mut y, 20, batch).unwrap();
            forward(engine, &layer, x, &Epilogue::default(), y_view, workspace).unwrap();
            assert!(y.iter().all(|&y| y == 6.0), "{engine:?}, {batch} columns: {y:?}");
        }
    }
}

/// A sum without terms stays a signalling NaN, because no arithmetic has made it quiet.
#[test]
fn relu_makes_zero_of_a_signalling_nan() {
    let workspace = &mut Workspace::default();
    let nothing_kept = PackedMask::none_kept(32);
    let epilogue = Epilogue { activation: Activation::Relu, accumulate: true, ..Epilogue::default() };
    for engine in Backend::available().into_iter().map(Engine::new) {
        let relu = |inputs: usize, mask: Option<&PackedMask>, batch, workspace: &mut Workspace| {
            let (zeros, mut y) = ([0.0; 68], [f32::from_bits(0x7f80_0001); 272]);
            let weights = MatRef::row_major(&zeros[..16 * inputs], 16, inputs).unwrap();
            let options = PrepareOptions::default().strategy(Strategy::Sparse).max_batch(batch);
            let layer = PackedWeights::prepare(engine, weights, mask, &options).unwrap();
            let x = MatRef::row_major(&zeros[..inputs * batch], inputs, batch).unwrap();
            let y_view = MatMut::row_major(&mut y[..16 * batch], 16, batch).unwrap();
            forward(engine, &layer, x, &epilogue, y_view, workspace).unwrap();
            assert!(y[..16 * batch].iter().all(|y| y.to_bits() == 0), "{engine:?}, {inputs} inputs, {batch}");
        };
        for batch in [1, 3, 17] {
            relu(0, None, batch, workspace);
            relu(2, Some(&nothing_kept), batch, workspace);
        }
    }
}

#[test]
fn wrong_shapes_are_errors() {
    let (engine, workspace) = (Engine::serial(), &mut Workspace::default());
    let zeros = [0.0; 12];
    let view = |rows, cols| MatRef::new(&zeros, rows, cols, cols, 1).unwrap();
    let mut memory = [0.0; 12];
    let layer = PackedWeights::prepare(engine, view(2, 3), None, &PrepareOptions::default()).unwrap();
    let mut what = |x: MatRef<'_>, rows, cols, bias: &[f32]| {
        let epilogue = Epilogue { bias: Some(bias), ..Epilogue::default() };
        let y = MatMut::new(&mut memory, rows, cols, cols, 1).unwrap();
        forward(engine, &layer, x, &epilogue, y, workspace).unwrap_err()
    };
    let shape = |what, expected, found| KernelError::Shape { what, expected, found };
    assert_eq!(what(view(2, 3), 2, 3, &[0.0; 2]), shape("x", [3, 3], [2, 3]));
    assert_eq!(what(view(3, 4), 2, 3, &[0.0; 2]), shape("y", [2, 4], [2, 3]));
    let short = KernelError::Length { what: "bias", expected: 2, found: 1 };
    assert_eq!(what(view(3, 2), 2, 2, &[0.0; 1]), short);
    fn into(memory: &mut [f32], rows: usize, cols: usize) -> MatMut<'_> {
        MatMut::new(memory, rows, cols, cols, 1).unwrap()
    }
    let no_transpose = input_gradient(engine, &layer, view(2, 2), None, into(&mut memory, 3, 2), workspace);
    assert_eq!(no_transpose, Err(KernelError::NoInputGradient));
    let other = weight_gradient(engine, view(2, 2), view(3, 2), None, into(&mut memory, 3, 2), workspace);
    assert_eq!(other, Err(shape("dw", [2, 3], [3, 2])));
    let other = weight_gradient(engine, view(2, 2), view(3, 1), None, into(&mut memory, 2, 3), workspace);
    assert_eq!(other, Err(shape("x", [3, 2], [3, 1])));
    let mask = PackedMask::all_kept(7);
    let other =
        weight_gradient(engine, view(2, 2), view(3, 2), Some(&mask), into(&mut memory, 2, 3), workspace);
    assert_eq!(other, Err(KernelError::Length { what: "mask", expected: 6, found: 7 }));
    let other = score_gradient(
        engine,
        view(2, 2),
        view(3, 2),
        view(2, 3),
        view(3, 2),
        into(&mut memory, 2, 3),
        workspace,
    );
    assert_eq!(other, Err(shape("scores", [2, 3], [3, 2])));
    let other = dense::input_gradient(
        engine,
        view(2, 3),
        view(2, 2),
        Some(view(2, 3)),
        into(&mut memory, 3, 2),
        workspace,
    );
    assert_eq!(other, Err(shape("relu_output", [3, 2], [2, 3])));
}

#[test]
fn masks_used_once_give_the_same_numbers() {
    let case = Case::new((12, 193, 17));
    let mask = case.mask(70);
    let weights = MatRef::row_major(&case.weights, 12, 193).unwrap();
    let expected = case.y(&effective(&case.weights, &mask), &Epilogue::default());
    for reuse in [MaskReuse::Many, MaskReuse::Once] {
        let options = PrepareOptions::default().reuse(reuse);
        let layer = PackedWeights::prepare(Engine::serial(), weights, Some(&mask), &options).unwrap();
        assert!(matches!(layer.format(), Format::Blocked | Format::Dense));
        let mut y = Laid::unset(12, 17, 0);
        let (x, epilogue, workspace) = (case.x_laid(0), Epilogue::default(), &mut Workspace::default());
        forward(Engine::serial(), &layer, x.view(), &epilogue, y.view_mut(), workspace).unwrap();
        assert_same(&y.take(), &expected, same_number, &reuse);
    }
}
