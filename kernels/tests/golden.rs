//! The bits of every kernel, committed: the same on every instruction set, thread count, compiler and machine. A change of
//! one of these hashes is a change of output bits and belongs into the changelog.

use slth_kernels::conv2d;
use slth_kernels::masked_matmul::{self, Activation, Shape, Workspace, dense};
use slth_kernels::subset_sum::{Coverage, Search, Subset};
use slth_kernels::top_k::{Order, Selection, Selector, keep_n_of_m};
use slth_kernels::update::{ProjectedStep, ScoreStep};
use slth_kernels::{Backend, Engine, MaskedWeights, PackedMask, Path};

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

fn mask_words(mask: &PackedMask) -> impl Iterator<Item = u32> + '_ {
    mask.words().iter().flat_map(|&word| [word as u32, (word >> 32) as u32])
}

/// Numbers of all magnitudes from 2⁻⁸ to 1, of both signs.
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

const OUTPUTS: usize = 61;
const INPUTS: usize = 403;

fn products(engine: Engine, path: Path, batch: usize, used_once: bool) -> [u64; 3] {
    let weights = noise(OUTPUTS * INPUTS, 1);
    let (x, dy) = (noise(INPUTS * batch, 2), noise(OUTPUTS * batch, 3));
    let mask = PackedMask::from_fn(weights.len(), |i| i * 7919 % 10 < 4);
    let layer = MaskedWeights::with_input_gradient(engine, &weights, OUTPUTS, INPUTS).unwrap();
    let mut layer = layer.with_path(path).with_batch(batch).with_masks_used_once(used_once);
    layer.set_mask(engine, &mask).unwrap();
    let workspace = &mut Workspace::default();
    let (mut y, mut dx, mut dw) =
        (vec![0.0; OUTPUTS * batch], vec![0.0; INPUTS * batch], vec![0.0; OUTPUTS * INPUTS]);
    masked_matmul::forward(engine, &layer, &x, batch, Activation::Relu, &mut y, workspace).unwrap();
    masked_matmul::input_gradient(engine, &layer, &dy, batch, Some(&x), &mut dx, workspace).unwrap();
    let shape = Shape { outputs: OUTPUTS, inputs: INPUTS, batch };
    masked_matmul::weight_gradient(engine, shape, &dy, &x, &mut dw, workspace).unwrap();
    [floats(&y), floats(&dx), floats(&dw)]
}

fn dense_products(engine: Engine, batch: usize) -> [u64; 2] {
    let shape = Shape { outputs: OUTPUTS, inputs: INPUTS, batch };
    let weights = noise(OUTPUTS * INPUTS, 1);
    let (x, dy) = (noise(INPUTS * batch, 2), noise(OUTPUTS * batch, 3));
    let workspace = &mut Workspace::default();
    let (mut y, mut dx) = (vec![0.0; OUTPUTS * batch], vec![0.0; INPUTS * batch]);
    dense::forward(engine, shape, &weights, &x, Activation::Identity, &mut y, workspace).unwrap();
    dense::input_gradient(engine, shape, &weights, &dy, None, &mut dx, workspace).unwrap();
    [floats(&y), floats(&dx)]
}

/// LeNet-5's second convolution, and one with a stride whose padding exceeds its kernel.
fn convolutions(engine: Engine) -> [[u64; 3]; 2] {
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
    [(shape, 20), (strided, 3)].map(|(shape, batch)| {
        let count = shape.weights().unwrap();
        let weights = noise(count, 14);
        let mask = PackedMask::from_fn(count, |i| i * 7919 % 10 < 4);
        let mut filters = MaskedWeights::new(engine, &weights, shape.outputs, count / shape.outputs).unwrap();
        filters.set_mask(engine, &mask).unwrap();
        let x = noise(shape.channels * shape.height * shape.width * batch, 15);
        let dy = noise(shape.outputs * shape.out_height() * shape.out_width() * batch, 16);
        let (mut y, mut dx, mut dw) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; count]);
        let space = &mut conv2d::Workspace::default();
        conv2d::forward(engine, &shape, &filters, &x, batch, Activation::Relu, &mut y, space).unwrap();
        conv2d::input_gradient(engine, &shape, &filters, &dy, batch, Some(&x), &mut dx, space).unwrap();
        conv2d::weight_gradient(engine, &shape, &dy, &x, batch, &mut dw, space).unwrap();
        [floats(&y), floats(&dx), floats(&dw)]
    })
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
            words.extend(masks.iter().flat_map(mask_words));
        }
    }
    let mut structured = PackedMask::none_kept(40_000);
    keep_n_of_m(engine, &layers[0][..40_000], 2, 4, Order::Magnitude, &mut structured).unwrap();
    words.extend(mask_words(&structured));
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
    for backend in Backend::available() {
        for engine in [Engine::new(backend), Engine::new(backend).parallel()] {
            let sparse = [1, 2, 70].map(|batch| products(engine, Path::Sparse, batch, false));
            assert_eq!(products(engine, Path::Sparse, 70, true), sparse[2]);
            let all = [1, 70].map(|batch| products(engine, Path::Dense, batch, false));
            let plain = [1, 70].map(|batch| dense_products(engine, batch));
            let found = format!(
                "sparse {sparse:x?}\ndense {all:x?}\nplain {plain:x?}\nconvolutions {:x?}\ntop-k {:x}\nsubset sums {:x}\nupdates {:x?}\n",
                convolutions(engine),
                selections(engine),
                subset_sums(engine),
                updates(engine),
            );
            assert_eq!(found, include_str!("golden.txt"), "{backend}");
        }
    }
}
