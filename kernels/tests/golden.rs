//! Every kernel gives the committed bits on every instruction set, thread count, compiler and machine. A change of one of
//! these hashes is a change of output bits and belongs in the changelog.

use slth_kernels::conv2d::{self, PackedConv2d};
use slth_kernels::matmul::{self, Activation, Epilogue, Workspace, dense};
use slth_kernels::optimizer::{ProjectedStep, ScoreStep};
use slth_kernels::subset_sum::{Coverage, Search, Sizes, Subset};
use slth_kernels::top_k::{Order, Selection, Selector};
use slth_kernels::{
    Backend, Engine, ImagesMut, ImagesRef, MatMut, MatRef, PackedMask, PackedWeights, PrepareOptions,
    Storage, Strategy,
};

/// FNV-1a, 64 bits, over little-endian 32-bit words.
fn hash(words: impl IntoIterator<Item = u32>) -> u64 {
    let bytes = words.into_iter().flat_map(u32::to_le_bytes);
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn floats(values: &[f32]) -> u64 {
    hash(values.iter().map(|x| x.to_bits()))
}

/// Plain loops, because nested iterators compile to reads of uninitialised values, which memcheck reports.
fn push_mask_words(words: &mut Vec<u32>, mask: &PackedMask) {
    for &word in mask.words() {
        words.push(word as u32);
        words.push((word >> 32) as u32);
    }
}

/// Uniform numbers in ±1, each scaled by a random power of two from 2⁻⁷ to 1.
fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let uniform = (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0;
            uniform / (1_u32 << (state >> 36 & 7)) as f32
        })
        .collect()
}

/// An array in memory. Its elements are hashed in the order of `axes`, whatever their layout.
struct Laid {
    memory: Vec<f32>,
    /// Sizes and strides, outermost first in the order of hashing.
    axes: Vec<[usize; 2]>,
}

impl Laid {
    /// Lays `values` out with the axes in `order`, outermost first, and a gap of `gap` elements after each line.
    fn new(values: &[f32], sizes: &[usize], order: &[usize], gap: usize) -> Self {
        let mut axes: Vec<_> = sizes.iter().map(|&size| [size, 1]).collect();
        let mut stride = 1;
        for &axis in order.iter().rev() {
            axes[axis][1] = stride;
            stride = stride * sizes[axis] + if stride == 1 { gap } else { 0 };
        }
        let mut laid = Self { memory: vec![f32::NAN; stride], axes };
        for (at, &value) in values.iter().enumerate() {
            let place = laid.place(at);
            laid.memory[place] = value;
        }
        laid
    }

    fn place(&self, at: usize) -> usize {
        let step = |(rest, place): (usize, usize), &[size, stride]: &[usize; 2]| {
            (rest / size, place + rest % size * stride)
        };
        self.axes.iter().rev().fold((at, 0), step).1
    }

    fn hash(&self) -> u64 {
        let len = self.axes.iter().map(|[size, _]| size).product();
        floats(&(0..len).map(|at| self.memory[self.place(at)]).collect::<Vec<_>>())
    }

    fn matrix(&self) -> MatRef<'_> {
        let [[rows, row_stride], [cols, col_stride]] = self.axes[..] else { unreachable!() };
        MatRef::new(&self.memory, rows, cols, row_stride, col_stride).unwrap()
    }

    fn matrix_mut(&mut self) -> MatMut<'_> {
        let [[rows, row_stride], [cols, col_stride]] = self.axes[..] else { unreachable!() };
        MatMut::new(&mut self.memory, rows, cols, row_stride, col_stride).unwrap()
    }

    /// A view of an array whose axes are channel, row, column, image.
    fn images(&self) -> ImagesRef<'_> {
        let [sizes, strides] = [0, 1].map(|i| [3, 0, 1, 2].map(|axis: usize| self.axes[axis][i]));
        ImagesRef::new(&self.memory, sizes, strides).unwrap()
    }

    fn images_mut(&mut self) -> ImagesMut<'_> {
        let [sizes, strides] = [0, 1].map(|i| [3, 0, 1, 2].map(|axis: usize| self.axes[axis][i]));
        ImagesMut::new(&mut self.memory, sizes, strides).unwrap()
    }
}

/// Axis order of matrices, axis order of images, and gap. The layouts are: order of hashing, batch-major, each without and
/// with gaps.
const LAYOUTS: [([usize; 2], [usize; 4], usize); 4] = [
    ([0, 1], [0, 1, 2, 3], 0),
    ([1, 0], [3, 0, 1, 2], 0),
    ([0, 1], [1, 0, 2, 3], 5),
    ([1, 0], [3, 1, 2, 0], 3),
];

/// A matrix in `LAYOUTS[layout]`.
fn laid(values: &[f32], rows: usize, layout: usize) -> Laid {
    let (order, _, gap) = LAYOUTS[layout];
    Laid::new(values, &[rows, values.len() / rows], &order, gap)
}

/// A matrix of NaN, to be overwritten.
fn unset(rows: usize, cols: usize, layout: usize) -> Laid {
    laid(&vec![f32::NAN; rows * cols], rows, layout)
}

const OUTPUTS: usize = 61;
const INPUTS: usize = 403;

fn layer(engine: Engine, strategy: Strategy, storage: Storage, batch: usize, layout: usize) -> PackedWeights {
    let weights = laid(&noise(OUTPUTS * INPUTS, 1), OUTPUTS, layout);
    let mask = PackedMask::from_fn(OUTPUTS * INPUTS, |i| i * 7919 % 10 < 4);
    let options = PrepareOptions::default().strategy(strategy).storage(storage).max_batch(batch);
    let options = options.input_gradient(true);
    PackedWeights::prepare(engine, weights.matrix(), Some(&mask), &options).unwrap()
}

const RELU: Epilogue<'_> = Epilogue { bias: None, activation: Activation::Relu, accumulate: false };

fn products(engine: Engine, strategy: Strategy, storage: Storage, batch: usize, layout: usize) -> [u64; 3] {
    let layer = layer(engine, strategy, storage, batch, layout);
    let (x, dy) = (noise(INPUTS * batch, 2), noise(OUTPUTS * batch, 3));
    let (x, dy) = (laid(&x, INPUTS, layout), laid(&dy, OUTPUTS, layout));
    let workspace = &mut Workspace::default();
    let (mut y, mut dx) = (unset(OUTPUTS, batch, layout), unset(INPUTS, batch, layout));
    let mut dw = unset(OUTPUTS, INPUTS, layout);
    matmul::forward(engine, &layer, x.matrix(), &RELU, y.matrix_mut(), workspace).unwrap();
    let relu_output = Some(x.matrix());
    matmul::input_gradient(engine, &layer, dy.matrix(), relu_output, dx.matrix_mut(), workspace).unwrap();
    matmul::weight_gradient(engine, dy.matrix(), x.matrix(), None, dw.matrix_mut(), workspace).unwrap();
    [y.hash(), dx.hash(), dw.hash()]
}

fn dense_products(engine: Engine, batch: usize, layout: usize) -> [u64; 2] {
    let weights = laid(&noise(OUTPUTS * INPUTS, 1), OUTPUTS, layout);
    let (x, dy) = (noise(INPUTS * batch, 2), noise(OUTPUTS * batch, 3));
    let (x, dy) = (laid(&x, INPUTS, layout), laid(&dy, OUTPUTS, layout));
    let (weights, workspace) = (weights.matrix(), &mut Workspace::default());
    let (mut y, mut dx) = (unset(OUTPUTS, batch, layout), unset(INPUTS, batch, layout));
    dense::forward(engine, weights, x.matrix(), &Epilogue::default(), y.matrix_mut(), workspace).unwrap();
    dense::input_gradient(engine, weights, dy.matrix(), None, dx.matrix_mut(), workspace).unwrap();
    [y.hash(), dx.hash()]
}

/// Products with bias, ReLU and accumulation, sparse and dense, large enough for several threads.
fn epilogues(engine: Engine, layout: usize) -> [u64; 2] {
    let batch = 130;
    let (x, old, bias) = (noise(INPUTS * batch, 2), noise(OUTPUTS * batch, 17), noise(OUTPUTS, 18));
    let epilogue = Epilogue { bias: Some(&bias), accumulate: true, ..RELU };
    [Strategy::Sparse, Strategy::Dense].map(|strategy| {
        let layer = layer(engine, strategy, Storage::F32, batch, layout);
        let (x, mut y) = (laid(&x, INPUTS, layout), laid(&old, OUTPUTS, layout));
        let workspace = &mut Workspace::default();
        matmul::forward(engine, &layer, x.matrix(), &epilogue, y.matrix_mut(), workspace).unwrap();
        y.hash()
    })
}

/// LeNet-5's second convolution, and a strided one whose padding exceeds its kernel.
fn convolutions(engine: Engine, layout: usize) -> [[u64; 3]; 2] {
    let shape = conv2d::Shape {
        channels: 6,
        height: 14,
        width: 14,
        outputs: 16,
        kernel: [5, 5],
        stride: 1,
        padding: 0,
    };
    let strided =
        conv2d::Shape { height: 9, width: 10, outputs: 5, kernel: [3, 2], stride: 2, padding: 3, ..shape };
    let (_, order, gap) = LAYOUTS[layout];
    [(shape, 20), (strided, 3)].map(|(shape, batch)| {
        let count = shape.weights().unwrap();
        let weights = laid(&noise(count, 14), shape.outputs, layout);
        let mask = PackedMask::from_fn(count, |i| i * 7919 % 10 < 4);
        let options = PrepareOptions::default().input_gradient(true);
        let filters = PackedConv2d::prepare(engine, &shape, weights.matrix(), Some(&mask), &options).unwrap();
        let x_sizes = [shape.channels, shape.height, shape.width, batch];
        let y_sizes = [shape.outputs, shape.out_height(), shape.out_width(), batch];
        let images = |values: Vec<f32>, sizes: [usize; 4]| Laid::new(&values, &sizes, &order, gap);
        let [x_len, y_len] = [x_sizes, y_sizes].map(|sizes| sizes.iter().product());
        let (x, dy) = (images(noise(x_len, 15), x_sizes), images(noise(y_len, 16), y_sizes));
        let (mut y, mut dx) =
            (images(vec![f32::NAN; y_len], y_sizes), images(vec![f32::NAN; x_len], x_sizes));
        let mut dw = unset(shape.outputs, count / shape.outputs, layout);
        let space = &mut conv2d::Workspace::default();
        conv2d::forward(engine, &filters, x.images(), &RELU, y.images_mut(), space).unwrap();
        let relu_output = Some(x.images());
        conv2d::input_gradient(engine, &filters, dy.images(), relu_output, dx.images_mut(), space).unwrap();
        conv2d::weight_gradient(engine, &shape, dy.images(), x.images(), dw.matrix_mut(), space).unwrap();
        [y.hash(), dx.hash(), dw.hash()]
    })
}

/// The mask that keeps the two largest magnitudes of each group of four; ties keep the higher index.
fn two_of_four(scores: &[f32]) -> PackedMask {
    let mut mask = PackedMask::none_kept(scores.len());
    for first in (0..scores.len()).step_by(4) {
        let mut places: Vec<usize> = (first..first + 4).collect();
        places.sort_by_key(|&i| (scores[i].abs().to_bits(), i));
        places[2..].iter().for_each(|&i| mask.set(i, true));
    }
    mask
}

fn selections(engine: Engine) -> u64 {
    let layers = [noise(40_001, 4), noise(977, 5)];
    let layers: [&[f32]; 2] = [&layers[0], &layers[1]];
    let mut masks = layers.map(|layer| PackedMask::none_kept(layer.len()));
    let mut selector = Selector::default();
    let mut words = Vec::new();
    for keep in [1, 4_000, 20_000, 40_977] {
        for order in [Order::Magnitude, Order::Signed] {
            selector.select(engine, &layers, Selection::largest(keep, order), &mut masks).unwrap();
            masks.iter().for_each(|mask| push_mask_words(&mut words, mask));
        }
    }
    push_mask_words(&mut words, &two_of_four(&layers[0][..40_000]));
    hash(words)
}

fn subset_sums(engine: Engine) -> u64 {
    let (candidates, targets) = (noise(19 * 40, 6), noise(40, 7));
    let mut words = Vec::new();
    for epsilon in [0.0, 1e-4] {
        let mut found = [Subset::default(); 40];
        let search = Search { epsilon, ..Search::default() };
        search.nearest_each(engine, &candidates, 19, &targets, &mut found).unwrap();
        let bits = found.iter().flat_map(|subset| [subset.bits, subset.residual.to_bits()]);
        words.extend(bits.flat_map(|bits| [bits as u32, (bits >> 32) as u32]));
        let mut coverage = Coverage::new(-0.5, 0.5, epsilon, 1e-3).unwrap();
        let needed = candidates.iter().position(|&x| coverage.push(engine, x).unwrap());
        words.push(needed.unwrap() as u32);
    }
    hash(words)
}

fn fixed_sizes(engine: Engine) -> u64 {
    let (candidates, targets) = (noise(19 * 20, 16), noise(20, 17));
    let mut words = Vec::new();
    for (epsilon, sizes) in [
        (0.0, Sizes::Exactly(6)),
        (1e-4, Sizes::Exactly(13)),
        (0.0, Sizes::AtMost(4)),
        (1e-3, Sizes::AtMost(9)),
    ] {
        let mut found = [Subset::default(); 20];
        let search = Search { epsilon, sizes, ..Search::default() };
        search.nearest_each(engine, &candidates, 19, &targets, &mut found).unwrap();
        let bits = found.iter().flat_map(|subset| [subset.bits, subset.residual.to_bits()]);
        words.extend(bits.flat_map(|bits| [bits as u32, (bits >> 32) as u32]));
        let mut coverage = Coverage::with_sizes(-0.5, 0.5, epsilon, 1e-2, sizes).unwrap();
        let needed = candidates[..24].iter().position(|&x| coverage.push(engine, x).unwrap());
        words.push(needed.map_or(u32::MAX, |n| n as u32));
    }
    hash(words)
}

fn updates(engine: Engine) -> [u64; 2] {
    let n = 1003;
    let [gradient, initial] = [noise(n, 8), noise(n, 9)];
    let (mut velocity, mut change, mut weights) = (noise(n, 10), noise(n, 11), initial.clone());
    let step = ProjectedStep { learning_rate: 0.1, momentum: 0.9, epsilon: 0.05 };
    step.apply(engine, &gradient, &initial, &mut velocity, &mut change, &mut weights).unwrap();
    let (mut score_velocity, mut scores) = (noise(n, 12), noise(n, 13));
    let step = ScoreStep { learning_rate: 0.1, momentum: 0.9, weight_decay: 1e-4 };
    step.apply(engine, &gradient, &initial, &mut score_velocity, &mut scores).unwrap();
    [floats(&[velocity, change, weights].concat()), floats(&[score_velocity, scores].concat())]
}

#[test]
fn every_kernel_has_the_committed_bits() {
    let names: Vec<_> = Backend::available().iter().map(ToString::to_string).collect();
    println!("golden bits on {}", names.join(", "));
    let required = std::env::var("SLTH_REQUIRE").unwrap_or_default();
    for name in required.split(',').filter(|name| !name.is_empty()) {
        assert!(names.iter().any(|found| found == name), "SLTH_REQUIRE names `{name}`, which this CPU lacks");
    }
    let serial = || Backend::available().into_iter().map(Engine::new);
    check(serial());
    check(serial().map(|engine| engine.with_threads(2).share_from(0)));
    // An engine starts at most one thread per core; a pool may have more threads.
    #[cfg(feature = "rayon")]
    {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        check(serial().map(|engine| engine.on_pool(&pool).share_from(0)));
    }
}

fn check<'a>(engines: impl Iterator<Item = Engine<'a>>) {
    for engine in engines {
        let others = format!(
            "top-k {:x}\nsubset sums {:x}\nof fixed size {:x}\nupdates {:x?}\n",
            selections(engine),
            subset_sums(engine),
            fixed_sizes(engine),
            updates(engine),
        );
        for layout in 0..LAYOUTS.len() {
            let sparse =
                [1, 2, 70].map(|batch| products(engine, Strategy::Sparse, Storage::F32, batch, layout));
            let bits =
                [1, 2, 70].map(|batch| products(engine, Strategy::Bitmask, Storage::F32, batch, layout));
            assert_eq!(bits, sparse, "{engine:?}, layout {layout}");
            let bf16 =
                [1, 2, 70].map(|batch| products(engine, Strategy::Sparse, Storage::Bf16, batch, layout));
            let all = [1, 70].map(|batch| products(engine, Strategy::Dense, Storage::F32, batch, layout));
            let plain = [1, 70].map(|batch| dense_products(engine, batch, layout));
            let (images, epilogues) = (convolutions(engine, layout), epilogues(engine, layout));
            let products = format!("sparse {sparse:x?}\nbf16 {bf16:x?}\ndense {all:x?}\nplain {plain:x?}\n");
            let found = format!("{products}convolutions {images:x?}\n{others}epilogues {epilogues:x?}\n");
            assert_eq!(found, include_str!("golden.txt"), "{engine:?}, layout {layout}");
        }
    }
}
