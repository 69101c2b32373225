//! Convolutions on all backends, thread counts and layouts against naive oracles, bit for bit.

use super::*;
use crate::backend::Backend;
use crate::epilogue::Activation;
use crate::mask::PackedMask;
use crate::view::MatRef;
use crate::weights::PrepareOptions;

/// Pseudo-random numbers in ±1, including a few exact zeros.
fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let x = (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0;
            if state >> 36 & 15 == 0 { 0.0 } else { x }
        })
        .collect()
}

const CANARY: f32 = 123_456.0;

/// Calls `check` on every backend, with several numbers of threads.
fn everywhere(mut check: impl FnMut(Engine)) {
    for backend in Backend::available() {
        for threads in [1, 3] {
            check(Engine::new(backend).with_threads(threads).share_from(0));
        }
    }
}

/// An order of the axes (batch, channels, height, width) in memory, outermost first, and the gap before each axis, innermost
/// first.
#[derive(Clone, Copy, Debug)]
struct AxisOrder([usize; 4], [usize; 4]);

const BATCH_INNERMOST: AxisOrder = AxisOrder([1, 2, 3, 0], [0; 4]);
const NCHW: AxisOrder = AxisOrder([0, 1, 2, 3], [0; 4]);
const ORDERS: [AxisOrder; 7] = [
    BATCH_INNERMOST,
    NCHW,
    AxisOrder([0, 2, 3, 1], [0; 4]),
    AxisOrder([1, 2, 3, 0], [0, 3, 0, 2]),
    AxisOrder([0, 1, 2, 3], [0, 5, 1, 0]),
    AxisOrder([3, 0, 1, 2], [1, 0, 2, 0]),
    AxisOrder([1, 0, 2, 3], [2, 0, 0, 7]),
];

/// Images with canaries around and between them. Callers pass numbers as `[channels, height, width, batch]`.
struct Images {
    memory: Vec<f32>,
    sizes: [usize; 4],
    strides: [usize; 4],
}

const GUARD: usize = 32;

impl Images {
    fn new(sizes: [usize; 4], AxisOrder(order, gaps): AxisOrder, data: &[f32]) -> Self {
        let mut strides = [0; 4];
        let mut stride = 1;
        for (&axis, gap) in order.iter().rev().zip(gaps) {
            stride += gap;
            strides[axis] = stride;
            stride *= sizes[axis].max(1);
        }
        let mut images = Self { memory: vec![CANARY; stride + 2 * GUARD], sizes, strides };
        for (at, &x) in images.offsets().into_iter().zip(data) {
            images.memory[at] = x;
        }
        images
    }

    fn offsets(&self) -> Vec<usize> {
        let [batch, channels, height, width] = self.sizes;
        let all = (0..channels * height * width * batch).map(|at| {
            let index =
                [at % batch, at / batch / width / height, at / batch / width % height, at / batch % width];
            GUARD + index.iter().zip(self.strides).map(|(i, stride)| i * stride).sum::<usize>()
        });
        all.collect()
    }

    fn get(&self) -> ImagesRef<'_> {
        ImagesRef::new(&self.memory[GUARD..], self.sizes, self.strides).unwrap()
    }

    fn get_mut(&mut self) -> ImagesMut<'_> {
        ImagesMut::new(&mut self.memory[GUARD..], self.sizes, self.strides).unwrap()
    }

    /// Checks the bits of the images and all canaries.
    #[track_caller]
    fn assert_are(&self, expected: &[f32], what: &str) {
        let mut rest = self.memory.clone();
        let offsets = self.offsets();
        assert_eq!(offsets.len(), expected.len(), "{what}");
        for (i, (&at, expected)) in offsets.iter().zip(expected).enumerate() {
            let found = rest[at];
            assert!(found.to_bits() == expected.to_bits(), "{what}, element {i}: {found:e} for {expected:e}");
            rest[at] = CANARY;
        }
        assert!(rest.iter().all(|&x| x == CANARY), "{what}: wrote outside");
    }
}

/// Calls `take` for every term with (output, channel, kernel row, kernel column), output position and input position. Kernel rows
/// are outermost, then outputs, channels, kernel columns.
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

/// The products by definition, as plain loops.
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
        self.shape.input(self.batch).iter().product()
    }

    fn y_len(&self) -> usize {
        self.shape.output(self.batch).iter().product()
    }

    fn forward(&self, weights: &[Option<f32>], x: &[f32], epilogue: &Epilogue<'_>, old: &[f32]) -> Vec<f32> {
        let mut out = if epilogue.accumulate { old.to_vec() } else { vec![0.0; self.y_len()] };
        for_each_term(self.shape, |w, to, from| {
            let Some(weight) = weights[self.weight(w)] else { return };
            for n in 0..self.batch {
                let sum = &mut out[self.y(w[0], to) + n];
                *sum = weight.mul_add(x[self.x(w[1], from) + n], *sum);
            }
        });
        let plane = (out.len() / self.shape.outputs.max(1)).max(1);
        for (plane, at) in out.chunks_mut(plane).zip(0..) {
            for y in plane {
                *y += epilogue.bias.map_or(-0.0, |bias| bias[at]);
                if epilogue.activation == Activation::Relu {
                    *y = if *y > 0.0 { *y } else { 0.0 };
                }
            }
        }
        out
    }

    fn input_gradient(&self, weights: &[Option<f32>], dy: &[f32], relu_output: Option<&[f32]>) -> Vec<f32> {
        let mut out = vec![0.0; self.x_len()];
        for_each_term(self.shape, |w, to, from| {
            let Some(weight) = weights[self.weight(w)] else { return };
            for n in 0..self.batch {
                let sum = &mut out[self.x(w[1], from) + n];
                *sum = weight.mul_add(dy[self.y(w[0], to) + n], *sum);
            }
        });
        for (dx, x) in out.iter_mut().zip(relu_output.unwrap_or_default()) {
            *dx = if *x > 0.0 { *dx } else { 0.0 };
        }
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

/// Shapes and batches: all sizes 1, strides, kernels as large as the image or smaller than the padding, single columns, more
/// terms than a block holds, many equal rows, empty sizes.
const CASES: &[(Shape, usize)] = &[
    (shape([1, 1, 1], 1, [1, 1], 1, 0), 1),
    (shape([1, 5, 4], 3, [3, 3], 1, 1), 63),
    (shape([2, 6, 7], 3, [5, 5], 1, 2), 16),
    (shape([1, 9, 9], 6, [5, 5], 1, 2), 64),
    (shape([6, 6, 6], 16, [5, 5], 1, 0), 65),
    (shape([3, 7, 8], 2, [3, 2], 2, 1), 17),
    (shape([3, 7, 8], 2, [3, 2], 2, 1), 66),
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
    (shape([2, 21, 9], 3, [3, 3], 1, 1), 1),
    (shape([2, 40, 20], 2, [3, 3], 1, 1), 1),
    (shape([1, 33, 40], 2, [3, 2], 2, 1), 1),
    (shape([1, 7, 150], 2, [3, 3], 2, 1), 1),
    (shape([1, 2, 1], 2, [2, 1], 1, 400), 1), // more padding than image rows
    (shape([1, 1, 1], 2, [1, 1], 3, 40), 20),
    (shape([3, 2, 2], 2, [4, 4], 1, 0), 3), // the kernel is larger than the image
    (shape([0, 4, 4], 2, [3, 3], 1, 0), 3),
    (shape([2, 4, 4], 0, [3, 3], 1, 0), 3),
    (shape([2, 4, 0], 2, [1, 1], 1, 1), 3),
    (shape([2, 0, 0], 2, [1, 1], 1, 1), 3),
    (shape([2, 4, 4], 3, [0, 3], 1, 0), 3),
    (shape([2, 4, 4], 3, [3, 0], 2, 0), 3),
    (shape([2, 4, 4], 3, [3, 3], 1, 0), 0),
];

/// A mask that keeps about `density` percent, and the weights it keeps.
fn pruned(weights: &[f32], density: usize) -> (PackedMask, Vec<Option<f32>>) {
    let n = weights.len();
    let dice = noise(n, 4 + density as u64);
    // Density 1 stands for a single weight.
    let keep = |i: usize| match density {
        1 => i == n / 2,
        _ => (dice[i] + 1.0) * 50.0 < density as f32,
    };
    let mask = PackedMask::from_fn(n, keep);
    let kept = weights.iter().zip(mask.iter()).map(|(&w, keep)| keep.then_some(w)).collect();
    (mask, kept)
}

fn columns(shape: &Shape) -> usize {
    shape.channels * shape.kernel[0] * shape.kernel[1]
}

fn prepare(
    engine: Engine,
    shape: &Shape,
    weights: &[f32],
    mask: Option<&PackedMask>,
    batch: usize,
) -> PackedConv2d {
    let weights = MatRef::row_major(weights, shape.outputs, columns(shape)).unwrap();
    let options = PrepareOptions::default().input_gradient(true).max_batch(batch);
    PackedConv2d::prepare(engine, shape, weights, mask, &options).unwrap()
}

/// Varies the arguments of calls: a pseudo-random choice each time.
struct Turns(usize);

impl Turns {
    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        choices[(self.0 >> 33) % choices.len()]
    }
}

/// Checks forward product and input gradient of `filters`, whose kept weights are `weights`.
fn check_products(
    engine: Engine,
    filters: &PackedConv2d,
    weights: &[Option<f32>],
    batch: usize,
    turns: &mut Turns,
    workspace: &mut Workspace,
) {
    let shape = &filters.shape();
    let oracle = Oracle { shape, batch };
    let (x, dy) = (noise(oracle.x_len(), 2), noise(oracle.y_len(), 3));
    let bias = noise(shape.outputs, 5);
    let epilogue = Epilogue {
        bias: turns.of(&[None, Some(&bias[..])]),
        activation: turns.of(&[Activation::Identity, Activation::Relu]),
        accumulate: turns.of(&[false, true]),
    };
    let old = if epilogue.accumulate { noise(oracle.y_len(), 6) } else { vec![f32::NAN; oracle.y_len()] };
    let orders = [0; 3].map(|_| turns.of(&ORDERS));
    let what = format!("{engine:?} {shape:?} × {batch} {orders:?} {epilogue:?}");
    let from = Images::new(shape.input(batch), orders[0], &x);
    let mut y = Images::new(shape.output(batch), orders[1], &old);
    forward(engine, filters, from.get(), &epilogue, y.get_mut(), workspace).unwrap();
    y.assert_are(&oracle.forward(weights, &x, &epilogue, &old), &what);

    let relu_output = turns.of(&[false, true]).then_some(&x[..]);
    let from = Images::new(shape.output(batch), orders[0], &dy);
    let gate = Images::new(shape.input(batch), orders[2], &x);
    let gate = relu_output.map(|_| gate.get());
    let mut dx = Images::new(shape.input(batch), orders[1], &vec![f32::NAN; x.len()]);
    input_gradient(engine, filters, from.get(), gate, dx.get_mut(), workspace).unwrap();
    dx.assert_are(&oracle.input_gradient(weights, &dy, relu_output), &format!("dx, {what}"));
}

#[test]
fn products() {
    let (mut turns, workspace) = (Turns(1), &mut Workspace::default());
    for &(shape, batch) in CASES {
        let weights = noise(shape.weights().unwrap(), 1);
        let all: Vec<_> = weights.iter().copied().map(Some).collect();
        everywhere(|engine| {
            let planned = turns.of(&[batch, batch, usize::MAX, 1]);
            let mut filters = prepare(engine, &shape, &weights, None, planned);
            check_products(engine, &filters, &all, batch, &mut turns, workspace);
            let (mask, kept) = pruned(&weights, turns.of(&[0, 1, 10, 50, 90]));
            filters.rebuild(engine, &mask).unwrap();
            assert_eq!(filters.kept(), mask.kept());
            check_products(engine, &filters, &kept, batch, &mut turns, workspace);
        });
    }
}

/// Every layout of source and destination, with and without accumulation.
#[test]
fn layouts_change_no_bit() {
    let (engine, workspace) = (Engine::serial().with_threads(2).share_from(0), &mut Workspace::default());
    for (shape, batch) in [
        (shape([3, 7, 18], 5, [3, 3], 1, 1), 1),
        (shape([3, 6, 17], 4, [3, 2], 2, 1), 1),
        (shape([2, 5, 19], 3, [3, 3], 1, 0), 33),
        (shape([2, 5, 6], 3, [2, 3], 2, 1), 16),
    ] {
        let oracle = Oracle { shape: &shape, batch };
        let weights = noise(shape.weights().unwrap(), 1);
        let (mask, kept) = pruned(&weights, 50);
        let filters = prepare(engine, &shape, &weights, Some(&mask), batch);
        let (x, dy, old) = (noise(oracle.x_len(), 2), noise(oracle.y_len(), 3), noise(oracle.y_len(), 4));
        for (from, to) in ORDERS.into_iter().flat_map(|from| ORDERS.map(|to| (from, to))) {
            for accumulate in [false, true] {
                let epilogue = Epilogue { accumulate, ..Epilogue::default() };
                let x_in = Images::new(shape.input(batch), from, &x);
                let mut y = Images::new(shape.output(batch), to, &old);
                forward(engine, &filters, x_in.get(), &epilogue, y.get_mut(), workspace).unwrap();
                y.assert_are(&oracle.forward(&kept, &x, &epilogue, &old), &format!("{from:?} {to:?}"));
            }
            let dy_in = Images::new(shape.output(batch), from, &dy);
            let relu_output = Images::new(shape.input(batch), from, &x);
            let mut dx = Images::new(shape.input(batch), to, &x);
            let gate = Some(relu_output.get());
            input_gradient(engine, &filters, dy_in.get(), gate, dx.get_mut(), workspace).unwrap();
            dx.assert_are(&oracle.input_gradient(&kept, &dy, Some(&x)), &format!("{from:?} {to:?}"));
        }
    }
}

/// For small batches vector lanes run over positions of the image.
#[test]
fn strides_at_small_batches() {
    let (mut turns, workspace) = (Turns(2), &mut Workspace::default());
    let backends = [Backend::best(), Backend::named("portable3").unwrap()];
    for stride in 1..=4 {
        for batch in 1..=20 {
            let shape = shape([2, 9, 13 + stride], 3, [3, 2], stride, batch % 3);
            let weights = noise(shape.weights().unwrap(), 1);
            let (mask, kept) = pruned(&weights, 50);
            for engine in backends.map(Engine::new) {
                let filters = prepare(engine, &shape, &weights, Some(&mask), batch);
                check_products(engine, &filters, &kept, batch, &mut turns, workspace);
            }
        }
    }
}

#[test]
fn weight_gradients() {
    let (mut turns, workspace) = (Turns(3), &mut Workspace::default());
    for &(shape, batch) in CASES {
        let oracle = Oracle { shape: &shape, batch };
        let (x, dy) = (noise(oracle.x_len(), 2), noise(oracle.y_len(), 3));
        let dw = oracle.weight_gradient(&dy, &x);
        everywhere(|engine| {
            let [x_order, dy_order] = [0; 2].map(|_| turns.of(&ORDERS));
            let (x, dy) = (
                Images::new(shape.input(batch), x_order, &x),
                Images::new(shape.output(batch), dy_order, &dy),
            );
            // The gradient as a matrix with gaps: one image whose channels are the outputs.
            let sizes = [1, shape.outputs, 1, columns(&shape)];
            let mut out = Images::new(sizes, turns.of(&ORDERS), &vec![f32::NAN; dw.len()]);
            let [_, row, _, col] = out.strides;
            let view =
                MatMut::new(&mut out.memory[GUARD..], shape.outputs, columns(&shape), row, col).unwrap();
            weight_gradient(engine, &shape, dy.get(), x.get(), view, workspace).unwrap();
            out.assert_are(&dw, &format!("{engine:?} {shape:?} × {batch} {x_order:?} {dy_order:?}"));
        });
    }
}

/// Filters prepared for one batch and called with others, with new masks and new weights in between.
#[test]
fn one_plan_for_many_batches() {
    let engine = Engine::serial();
    let (mut turns, workspace) = (Turns(4), &mut Workspace::default());
    let shape = shape([3, 6, 7], 4, [3, 3], 2, 1);
    let weights = noise(shape.weights().unwrap(), 1);
    for planned in [usize::MAX, 0, 5, 64] {
        let mut filters = prepare(engine, &shape, &weights, None, planned);
        let mut copy = filters.clone();
        for round in 0..3 {
            // A copy must not share state with the original.
            let (mask, kept) = pruned(&weights, [50, 10, 90][round]);
            filters.rebuild(engine, &mask).unwrap();
            let (other_mask, other_kept) = pruned(&weights, [10, 90, 50][round]);
            copy.rebuild(engine, &other_mask).unwrap();
            for batch in [5, 1, 70, 64, 1, 5, 0] {
                check_products(engine, &filters, &kept, batch, &mut turns, workspace);
                check_products(engine, &copy, &other_kept, batch, &mut turns, workspace);
            }
        }
        let others = noise(weights.len(), 9);
        filters.set_weights(engine, MatRef::row_major(&others, 4, 27).unwrap()).unwrap();
        let (_, kept) = pruned(&weights, 90);
        let kept: Vec<_> = kept.iter().zip(&others).map(|(kept, &w)| kept.map(|_| w)).collect();
        (1..40).for_each(|batch| check_products(engine, &filters, &kept, batch, &mut turns, workspace));
    }
}

/// Lists of other batches are cached; lists of former masks are replaced first.
#[test]
fn other_batches_are_planned_once() {
    let engine = Engine::serial();
    let shape = shape([1, 3, 3], 1, [2, 2], 1, 0);
    let mut filters = prepare(engine, &shape, &[1.0; 4], None, 7);
    let mut others = OtherBatches::default();
    let mut address = |filters: &PackedConv2d, batch| {
        core::ptr::from_ref(filters.lists(Direction::Forward, batch, &mut others).unwrap()).addr()
    };
    assert_eq!(address(&filters, 7), address(&filters, 7));
    for batch in 8..50 {
        address(&filters, batch);
    }
    for _ in 0..3 {
        filters.rebuild(engine, &PackedMask::all_kept(4)).unwrap();
        address(&filters, 8);
    }
    assert_eq!(others.len(), 32);
}

#[test]
fn what_is_kept_of_the_weights() {
    let (engine, workspace) = (Engine::serial(), &mut Workspace::default());
    let shape = shape([5, 6, 6], 8, [3, 3], 1, 1);
    let weights = noise(shape.weights().unwrap(), 1);
    let (mask, kept) = pruned(&weights, 10);
    let view = MatRef::row_major(&weights, 8, 45).unwrap();
    let options = PrepareOptions::default().max_batch(3);
    let whole = PackedConv2d::prepare(engine, &shape, view, Some(&mask), &options).unwrap();
    let options = options.keep_source(false).input_gradient(true);
    let mut lean = PackedConv2d::prepare(engine, &shape, view, Some(&mask), &options).unwrap();
    let mut turns = Turns(5);
    for batch in [3, 4] {
        check_products(engine, &lean, &kept, batch, &mut turns, workspace);
    }
    assert_eq!(lean.rebuild(engine, &mask), Err(KernelError::NoSource));
    let options = options.input_gradient(false);
    let leaner = PackedConv2d::prepare(engine, &shape, view, Some(&mask), &options).unwrap();
    assert!(leaner.bytes() < whole.bytes() - 4 * (weights.len() - mask.kept()) + 1);
    // New weights in column-major order.
    let others = noise(weights.len(), 2);
    let transposed: Vec<_> = (0..weights.len()).map(|i| others[i % 8 * 45 + i / 8]).collect();
    lean.set_weights(engine, MatRef::col_major(&transposed, 8, 45).unwrap()).unwrap();
    let kept: Vec<_> = kept.iter().zip(&others).map(|(kept, &w)| kept.map(|_| w)).collect();
    check_products(engine, &lean, &kept, 4, &mut turns, workspace);

    let x = Images::new(shape.input(3), NCHW, &[]);
    let mut dx = Images::new(shape.input(3), NCHW, &[]);
    let dy = Images::new(shape.output(3), NCHW, &[]);
    let result = input_gradient(engine, &whole, dy.get(), Some(x.get()), dx.get_mut(), workspace);
    assert_eq!(result, Err(KernelError::NoInputGradient));
}

/// The layers of LeNet-5 and one of VGG's size against f64, with one shared workspace.
#[test]
fn sums_are_near_the_exact_ones() {
    let (engine, workspace) = (Engine::serial().with_threads(2).share_from(0), &mut Workspace::default());
    for (shape, batch) in [
        (shape([1, 28, 28], 6, [5, 5], 1, 2), 20),
        (shape([6, 14, 14], 16, [5, 5], 1, 0), 20),
        (shape([64, 6, 6], 128, [3, 3], 1, 1), 2),
    ] {
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
            assert!(error < 4e-6 * scale, "{error} of {scale}");
        };
        let filters = prepare(engine, &shape, &weights, None, batch);
        let images = |data: &[f32], sizes| Images::new(sizes, BATCH_INNERMOST, data);
        let found =
            |images: &Images| images.offsets().iter().map(|&at| images.memory[at]).collect::<Vec<_>>();
        let (x, dy) = (images(&x, shape.input(batch)), images(&dy, shape.output(batch)));
        let mut out = images(&[], shape.output(batch));
        forward(engine, &filters, x.get(), &Epilogue::default(), out.get_mut(), workspace).unwrap();
        near(&found(&out), &y);
        let mut out = images(&[], shape.input(batch));
        input_gradient(engine, &filters, dy.get(), None, out.get_mut(), workspace).unwrap();
        near(&found(&out), &dx);
        let mut out = vec![f32::NAN; n];
        let view = MatMut::row_major(&mut out, shape.outputs, columns(&shape)).unwrap();
        weight_gradient(engine, &shape, dy.get(), x.get(), view, workspace).unwrap();
        near(&out, &dw);
    }
}

#[test]
fn wrong_shapes_are_errors() {
    let (engine, workspace) = (Engine::serial(), &mut Workspace::default());
    let good = shape([2, 4, 4], 3, [3, 3], 1, 0);
    let options = PrepareOptions::default().input_gradient(true);
    let weights = [0.0; 54];
    let matrix = MatRef::row_major(&weights, 3, 18).unwrap();
    let what = |error: KernelError| match error {
        KernelError::Shape { what, .. } | KernelError::Length { what, .. } => what,
        KernelError::OutOfRange { what, .. } | KernelError::Overflow { what } => what,
        KernelError::PlaneTooLarge { .. } => "plane",
        _ => "something else",
    };
    let refused = |shape: Shape, matrix: MatRef<'_>| {
        PackedConv2d::prepare(engine, &shape, matrix, None, &options).map_or_else(what, |_| "fine")
    };
    assert_eq!(refused(good, matrix), "fine");
    assert_eq!(refused(good, matrix.t()), "filters");
    assert_eq!(refused(Shape { outputs: 2, ..good }, matrix), "filters");
    assert_eq!(refused(Shape { stride: 0, ..good }, matrix), "stride");
    assert_eq!(refused(Shape { padding: usize::MAX, ..good }, matrix), "padding");
    assert_eq!(refused(Shape { padding: usize::MAX / 2, ..good }, matrix), "padding");
    assert_eq!(refused(Shape { padding: 1 << 61, ..good }, matrix), "a plane of y");
    assert_eq!(refused(Shape { channels: usize::MAX, ..good }, matrix), "filters");
    assert_eq!(refused(Shape { height: 1 << 40, ..good }, matrix), "plane");
    let one = MatRef::row_major(&weights[..1], 1, 1).unwrap();
    // With so large a stride and padding, only one output position meets the image.
    let sparse = Shape { padding: 1 << 40, stride: 1 << 40, ..shape([1, 1, 1], 1, [1, 1], 1, 0) };
    assert_eq!(refused(sparse, one), "fine");
    let filters = prepare(engine, &sparse, &[2.0], None, 1);
    for batch in [1, 70] {
        check_products(engine, &filters, &[Some(2.0)], batch, &mut Turns(6), workspace);
    }
    // Empty channels and outputs, but a plane larger than memory.
    let huge = Shape { outputs: 0, height: 1 << 30, width: 1 << 30, channels: 0, ..good };
    assert_eq!(refused(huge, MatRef::row_major(&[], 0, 0).unwrap()), "a plane of y");

    let mut filters = PackedConv2d::prepare(engine, &good, matrix, None, &options).unwrap();
    assert_eq!(filters.rebuild(engine, &PackedMask::all_kept(53)).map_err(what), Err("mask"));
    assert_eq!(filters.set_weights(engine, matrix.t()).map_err(what), Err("filters"));
    let image = |sizes| Images::new(sizes, NCHW, &[]);
    let (x_sizes, y_sizes) = (good.input(2), good.output(2));
    let wrong = |sizes: [usize; 4], axis: usize| {
        let mut sizes = sizes;
        sizes[axis] += 1;
        sizes
    };
    for axis in 0..4 {
        let none = Epilogue::default();
        let (x, mut y) = (image(wrong(x_sizes, axis)), image(y_sizes));
        let result = forward(engine, &filters, x.get(), &none, y.get_mut(), workspace).map_err(what);
        assert_eq!(result, Err(if axis == 0 { Y } else { X }[axis / 2]));
        let (x, mut y) = (image(x_sizes), image(wrong(y_sizes, axis)));
        let result = forward(engine, &filters, x.get(), &none, y.get_mut(), workspace).map_err(what);
        assert_eq!(result, Err(Y[axis / 2]));
        let (dy, mut dx, gate) = (image(y_sizes), image(x_sizes), image(wrong(x_sizes, axis)));
        let gate = Some(gate.get());
        let result = input_gradient(engine, &filters, dy.get(), gate, dx.get_mut(), workspace).map_err(what);
        assert_eq!(result, Err(RELU_OUTPUT[axis / 2]));
        let (dy, x, mut dw) = (image(wrong(y_sizes, axis)), image(x_sizes), [0.0; 54]);
        let view = MatMut::row_major(&mut dw, 3, 18).unwrap();
        let result = weight_gradient(engine, &good, dy.get(), x.get(), view, workspace).map_err(what);
        assert_eq!(result, Err(DY[axis / 2]));
    }
    let (x, mut y) = (image(x_sizes), image(y_sizes));
    let short = Epilogue { bias: Some(&weights[..2]), ..Epilogue::default() };
    let result = forward(engine, &filters, x.get(), &short, y.get_mut(), workspace).map_err(what);
    assert_eq!(result, Err("bias"));
    let mut dw = [0.0; 54];
    let view = MatMut::row_major(&mut dw, 18, 3).unwrap();
    let result = weight_gradient(engine, &good, y.get(), x.get(), view, workspace).map_err(what);
    assert_eq!(result, Err("dw"));
}
