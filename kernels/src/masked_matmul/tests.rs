//! All products on all backends and thread counts against naive oracles, bit for bit.

use super::*;
use crate::backend::Backend;
use crate::mask::PackedMask;
use crate::sparse::Path;

/// Sums in ascending order with fused multiply-adds: what every product promises.
fn oracle(
    m: usize,
    n: usize,
    k: usize,
    a: impl Fn(usize, usize) -> f32,
    b: impl Fn(usize, usize) -> f32,
) -> Vec<f32> {
    let mut c = Vec::new();
    for i in 0..m {
        for j in 0..n {
            c.push((0..k).fold(0.0_f32, |sum, l| a(i, l).mul_add(b(l, j), sum)));
        }
    }
    c
}

/// Numbers with no structure: in ±1, a few exact zeros among them.
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

const CANARY: f32 = 123_456.0;

/// Runs `product` on every backend, alone and in pools of 2, 3 and 7 threads, into memory between canaries.
pub(crate) fn everywhere(
    len: usize,
    expected: &[f32],
    same: fn(f32, f32) -> bool,
    product: impl Fn(Engine, &mut [f32]) + Sync,
) {
    for backend in Backend::available() {
        for threads in [1, 2, 3, 7] {
            let mut memory = vec![CANARY; len + 64];
            let out = &mut memory[32..32 + len];
            let engine = Engine::new(backend);
            if threads == 1 {
                product(engine, out);
            } else {
                #[cfg(feature = "rayon")]
                pool(threads).install(|| product(engine.parallel(), out));
                #[cfg(not(feature = "rayon"))]
                continue;
            }
            assert!(
                memory[..32].iter().chain(&memory[32 + len..]).all(|&x| x == CANARY),
                "{backend}: wrote outside"
            );
            for (i, (&found, &expected)) in memory[32..].iter().zip(expected).enumerate() {
                assert!(
                    same(found, expected),
                    "{backend}, {threads} threads, element {i}: {found:e} for {expected:e}"
                );
            }
        }
    }
}

#[cfg(feature = "rayon")]
fn pool(threads: usize) -> &'static rayon::ThreadPool {
    use std::sync::OnceLock;
    static POOLS: [OnceLock<rayon::ThreadPool>; 8] = [const { OnceLock::new() }; 8];
    POOLS[threads].get_or_init(|| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap())
}

pub(crate) fn same_bits(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits()
}

/// A removed weight's ±0 terms may change the sign of a zero sum, nothing else.
pub(crate) fn same_number(a: f32, b: f32) -> bool {
    a == b
}

pub(crate) fn relu(x: f32) -> f32 {
    if x > 0.0 { x } else { 0.0 }
}

/// Outputs, inputs, batch: empty ones, one-sided ones, one more and one less than lanes, tiles, panels and blocks.
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

#[test]
fn masked_products() {
    for &(outputs, inputs, batch) in SHAPES {
        let weights = noise(outputs * inputs, 1);
        let x = noise(inputs * batch, 2);
        let dy = noise(outputs * batch, 3);
        for kept_of_100 in [0, 1, 10, 50, 90, 100] {
            let dice = noise(outputs * inputs, 4 + kept_of_100);
            let mask = PackedMask::from_fn(weights.len(), |i| (dice[i] + 1.0) * 50.0 < kept_of_100 as f32);
            let effective = |o: usize, i: usize| {
                let at = o * inputs + i;
                if mask.get(at) { weights[at] } else { 0.0 }
            };
            let path = [Path::Auto, Path::Sparse, Path::Dense][(outputs + batch + kept_of_100 as usize) % 3];
            let layer = |engine| {
                let mut layer = MaskedWeights::with_input_gradient(engine, &weights, outputs, inputs)
                    .unwrap()
                    .with_path(path)
                    .with_batch(batch * (kept_of_100 as usize % 4));
                layer = layer.with_masks_used_once((outputs + inputs) % 2 == 0);
                layer.set_mask(engine, &mask).unwrap();
                layer
            };
            let y = oracle(outputs, batch, inputs, effective, |i, b| x[i * batch + b]);
            let y: Vec<f32> = y.into_iter().map(relu).collect();
            everywhere(y.len(), &y, same_number, |engine, out| {
                let workspace = &mut Workspace::default();
                forward(engine, &layer(engine), &x, batch, Activation::Relu, out, workspace).unwrap();
            });
            let dx = oracle(inputs, batch, outputs, |i, o| effective(o, i), |o, b| dy[o * batch + b]);
            let dx: Vec<f32> = dx.iter().zip(&x).map(|(&g, &x)| if x > 0.0 { g } else { 0.0 }).collect();
            everywhere(dx.len(), &dx, same_number, |engine, out| {
                let workspace = &mut Workspace::default();
                input_gradient(engine, &layer(engine), &dy, batch, Some(&x), out, workspace).unwrap();
            });
        }
    }
}

#[test]
fn masked_products_have_the_same_bits_on_every_backend() {
    for &(outputs, inputs, batch) in SHAPES {
        let weights = noise(outputs * inputs, 5);
        let (x, dy) = (noise(inputs * batch, 6), noise(outputs * batch, 7));
        let mask = PackedMask::from_fn(weights.len(), |i| i * i % 5 < 2);
        let few = batch.clamp(4, 256);
        let layouts = [(Path::Sparse, 1, false), (Path::Sparse, few, false), (Path::Sparse, few, true)];
        let (mut y, mut dx) = (vec![0.0; outputs * batch], vec![0.0; inputs * batch]);
        for (path, batch_hint, used_once) in [(Path::Dense, 1, false)].into_iter().chain(layouts) {
            let layer = |engine| {
                let layer = MaskedWeights::with_input_gradient(engine, &weights, outputs, inputs);
                let layer = layer.unwrap().with_path(path).with_batch(batch_hint);
                let mut layer = layer.with_masks_used_once(used_once);
                layer.set_mask(engine, &mask).unwrap();
                layer
            };
            let run = |engine: Engine, out: &mut [f32]| {
                let workspace = &mut Workspace::default();
                forward(engine, &layer(engine), &x, batch, Activation::Identity, out, workspace).unwrap();
            };
            if batch_hint == 1 {
                run(Engine::new(Backend::scalar()), &mut y);
            }
            everywhere(y.len(), &y, same_bits, run);
            let run = |engine: Engine, out: &mut [f32]| {
                let workspace = &mut Workspace::default();
                input_gradient(engine, &layer(engine), &dy, batch, Some(&x), out, workspace).unwrap();
            };
            if batch_hint == 1 {
                run(Engine::new(Backend::scalar()), &mut dx);
            }
            everywhere(dx.len(), &dx, same_bits, run);
        }
    }
}

/// Several chunks of outputs, blocks of inputs and panels of columns at once, in scratch memory that holds another product's
/// slices and sums; where slices lie side by side, and where they are too many for that; activations that are asked for.
#[test]
fn masked_products_larger_than_scratch_memory() {
    for (outputs, inputs, batch, modulus) in [(1030, 260, 66, 5), (1026, 8200, 2, 11), (20, 4200, 130, 5)] {
        let (weights, x) = (noise(outputs * inputs, 8), noise(inputs * batch, 9));
        let mask = PackedMask::from_fn(weights.len(), |i| i * i % modulus < 2);
        let effective = |o: usize, i: usize| {
            let at = o * inputs + i;
            if mask.get(at) { weights[at] } else { 0.0 }
        };
        let expected = oracle(outputs, batch, inputs, effective, |i, b| x[i * batch + b]);
        let other = noise(inputs * batch, 10);
        for used_once in [false, true] {
            everywhere(expected.len(), &expected, same_number, |engine, y| {
                let layer = MaskedWeights::new(engine, &weights, outputs, inputs);
                let layer = layer.unwrap().with_path(Path::Sparse);
                let mut layer = layer.with_batch(256).with_masks_used_once(used_once);
                layer.set_mask(engine, &mask).unwrap();
                let workspace = &mut Workspace::default();
                for x in [&other, &x] {
                    forward(engine, &layer, x, batch, Activation::Identity, y, workspace).unwrap();
                }
            });
        }
    }
}

#[test]
fn dense_products() {
    for &(outputs, inputs, batch) in SHAPES {
        let shape = Shape { outputs, inputs, batch };
        let weights = noise(outputs * inputs, 1);
        let x = noise(inputs * batch, 2);
        let dy = noise(outputs * batch, 3);
        let y = oracle(outputs, batch, inputs, |o, i| weights[o * inputs + i], |i, b| x[i * batch + b]);
        everywhere(y.len(), &y, same_bits, |engine, out| {
            let workspace = &mut Workspace::default();
            dense::forward(engine, shape, &weights, &x, Activation::Identity, out, workspace).unwrap();
        });
        let dx = oracle(inputs, batch, outputs, |i, o| weights[o * inputs + i], |o, b| dy[o * batch + b]);
        let dx: Vec<f32> = dx.iter().zip(&x).map(|(&g, &x)| if x > 0.0 { g } else { 0.0 }).collect();
        everywhere(dx.len(), &dx, same_bits, |engine, out| {
            let workspace = &mut Workspace::default();
            dense::input_gradient(engine, shape, &weights, &dy, Some(&x), out, workspace).unwrap();
        });
        let dw = oracle(outputs, inputs, batch, |o, b| dy[o * batch + b], |b, i| x[i * batch + b]);
        everywhere(dw.len(), &dw, same_bits, |engine, out| {
            weight_gradient(engine, shape, &dy, &x, out, &mut Workspace::default()).unwrap();
        });
        let mask = PackedMask::from_fn(dw.len(), |i| i % 3 == 1);
        let kept: Vec<f32> = (0..dw.len()).map(|i| if mask.get(i) { dw[i] } else { 0.0 }).collect();
        everywhere(kept.len(), &kept, same_bits, |engine, out| {
            let workspace = &mut Workspace::default();
            kept_weight_gradient(engine, shape, &mask, &dy, &x, out, workspace).unwrap();
        });
    }
}

/// Sizes that no slice vouches for, because another one is 0.
#[test]
fn empty_products_of_any_size() {
    let (engine, workspace) = (Engine::new(Backend::best()), &mut Workspace::default());
    let shape = Shape { outputs: 0, inputs: 1 << 45, batch: 0 };
    dense::forward(engine, shape, &[], &[], Activation::Identity, &mut [], workspace).unwrap();
    dense::input_gradient(engine, shape, &[], &[], None, &mut [], workspace).unwrap();
    for (outputs, inputs) in [(0, usize::MAX), (usize::MAX, 0)] {
        let layer = MaskedWeights::with_input_gradient(engine, &[], outputs, inputs).unwrap();
        for (batch, used_once) in [(1, false), (100, false), (100, true)] {
            let layer = layer.clone().with_path(Path::Sparse).with_batch(batch);
            let mut layer = layer.with_masks_used_once(used_once);
            layer.set_mask(engine, &PackedMask::none_kept(0)).unwrap();
            forward(engine, &layer, &[], 0, Activation::Relu, &mut [], workspace).unwrap();
        }
    }
    let shape = Shape { outputs: 0, inputs: 0, batch: usize::MAX };
    weight_gradient(engine, shape, &[], &[], &mut [], workspace).unwrap();
}

#[test]
fn wrong_lengths_are_errors() {
    let engine = Engine::new(Backend::best());
    let workspace = &mut Workspace::default();
    let layer = MaskedWeights::new(engine, &[1.0; 6], 2, 3).unwrap();
    let identity = Activation::Identity;
    assert_eq!(
        forward(engine, &layer, &[0.0; 5], 2, identity, &mut [0.0; 4], workspace).unwrap_err().what,
        "x"
    );
    assert_eq!(
        forward(engine, &layer, &[0.0; 6], 2, identity, &mut [0.0; 5], workspace).unwrap_err().what,
        "y"
    );
    let no_transpose = input_gradient(engine, &layer, &[0.0; 4], 2, None, &mut [0.0; 6], workspace);
    assert!(no_transpose.unwrap_err().what.starts_with("transposed weights"));
    let shape = Shape { outputs: usize::MAX, inputs: 2, batch: 2 };
    let overflow = dense::forward(engine, shape, &[0.0; 4], &[0.0; 4], identity, &mut [0.0; 4], workspace);
    assert_eq!(overflow.unwrap_err().expected, usize::MAX);
    let shape = Shape { outputs: 2, inputs: 3, batch: 2 };
    assert_eq!(
        weight_gradient(engine, shape, &[0.0; 4], &[0.0; 6], &mut [0.0; 5], workspace).unwrap_err().what,
        "dw"
    );
}
