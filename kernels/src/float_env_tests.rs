//! A host that has set flush-to-zero, denormals-are-zero or another rounding mode gets the same bits, on every backend and
//! number of threads.

use crate::arch::float_env::{HOSTS, with_bits_of_host};
use crate::backend::Backend;
use crate::conv2d::{self, PackedConv2d, Shape};
use crate::engine::Engine;
use crate::mask::PackedMask;
use crate::matmul::tests::noise;
use crate::matmul::{self, Activation, Epilogue, Workspace, dense};
use crate::optimizer::{ProjectedStep, ScoreStep};
use crate::subset_sum::{Coverage, Method, Search, Subset, sums};
use crate::top_k::{Order, Selection, Selector, Threshold};
use crate::view::{ImagesMut, ImagesRef, MatMut, MatRef};
use crate::weights::{PackedWeights, PrepareOptions, Strategy};

/// Checks that `call` returns the same for every host, backend and number of threads; returns that result.
fn check<T: PartialEq + std::fmt::Debug>(call: impl Fn(Engine) -> T) -> T {
    let expected = call(Engine::new(Backend::scalar()));
    for backend in Backend::available() {
        for threads in [1, 2, 3] {
            let engine = Engine::new(backend).with_threads(threads).share_from(0);
            for bits in HOSTS {
                let found = with_bits_of_host(bits, || call(engine));
                assert!(found == expected, "{engine:?} for a host with {bits:#x}");
            }
        }
    }
    expected
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// Checks that the result contains denormals, so that flushing would show.
fn assert_some_denormal(bits: &[u32]) {
    let denormal = |&bits: &u32| f32::from_bits(bits).is_subnormal();
    assert!(bits.iter().filter(|bits| denormal(bits)).count() > bits.len() / 50, "hardly any denormals");
}

/// Numbers whose products with each other are denormal or nearly so.
fn small(len: usize, seed: u64) -> Vec<f32> {
    let tiny = 2.0_f32.powi(-65);
    noise(len, seed).into_iter().map(|x| x * tiny).collect()
}

const OUTPUTS: usize = 70;
const INPUTS: usize = 150;

#[test]
fn products() {
    for batch in [70, 1] {
        let outputs = OUTPUTS;
        let (weights, x) = (small(outputs * INPUTS, 1), small(INPUTS * batch, 2));
        let (dy, bias) = (small(outputs * batch, 3), vec![f32::from_bits(5); outputs]);
        let old: Vec<f32> = (0..outputs * batch).map(|i| f32::from_bits(i as u32 % 1000)).collect();
        let scores = noise(outputs * INPUTS, 4);
        let mask = PackedMask::from_fn(weights.len(), |i| i * 7919 % 10 < 4);
        let [weights_view, scores_view] =
            [&weights, &scores].map(|all| MatRef::row_major(all, outputs, INPUTS).unwrap());
        let (x_view, dy_view) =
            (MatRef::row_major(&x, INPUTS, batch).unwrap(), MatRef::row_major(&dy, outputs, batch).unwrap());
        let epilogue = Epilogue { bias: Some(&bias), activation: Activation::Relu, accumulate: true };
        let plain = Epilogue::default();
        let found = check(|engine| {
            let mut space = Workspace::default();
            let mut all = Vec::new();
            let mut out = |rows, call: &dyn Fn(MatMut<'_>, &mut Workspace)| {
                let mut memory = match rows == outputs {
                    true => old.clone(),
                    false => vec![0.0; INPUTS * batch],
                };
                call(MatMut::row_major(&mut memory, rows, batch).unwrap(), &mut space);
                all.push(bits(&memory));
            };
            for strategy in [Strategy::Sparse, Strategy::Dense, Strategy::Bitmask] {
                let options =
                    PrepareOptions::default().strategy(strategy).max_batch(batch).input_gradient(true);
                let layer = PackedWeights::prepare(engine, weights_view, Some(&mask), &options).unwrap();
                for epilogue in [&epilogue, &plain] {
                    out(outputs, &|y, space| {
                        matmul::forward(engine, &layer, x_view, epilogue, y, space).unwrap();
                    });
                }
                out(INPUTS, &|dx, space| {
                    matmul::input_gradient(engine, &layer, dy_view, Some(x_view), dx, space).unwrap();
                });
            }
            out(outputs, &|y, space| {
                dense::forward(engine, weights_view, x_view, &plain, y, space).unwrap();
            });
            out(INPUTS, &|dx, space| {
                dense::input_gradient(engine, weights_view, dy_view, None, dx, space).unwrap();
            });
            let mut dw = vec![0.0; outputs * INPUTS];
            let into = MatMut::row_major(&mut dw, outputs, INPUTS).unwrap();
            matmul::weight_gradient(engine, dy_view, x_view, None, into, &mut space).unwrap();
            all.push(bits(&dw));
            let into = MatMut::row_major(&mut dw, outputs, INPUTS).unwrap();
            matmul::score_gradient(engine, dy_view, x_view, scores_view, scores_view, into, &mut space)
                .unwrap();
            all.push(bits(&dw));
            all
        });
        found.iter().for_each(|bits| assert_some_denormal(bits));
    }
}

#[test]
fn convolutions() {
    let shape =
        Shape { channels: 6, height: 14, width: 13, outputs: 16, kernel: [5, 3], stride: 1, padding: 2 };
    let (batch, count) = (20, 16 * 6 * 5 * 3);
    let weights = small(count, 12);
    let mask = PackedMask::from_fn(count, |i| i * 7919 % 10 < 4);
    let (x_len, y_len) = (6 * 14 * 13 * batch, 16 * shape.out_height() * shape.out_width() * batch);
    let (x, dy, bias) = (small(x_len, 13), small(y_len, 14), [f32::from_bits(5); 16]);
    let epilogue = Epilogue { bias: Some(&bias), activation: Activation::Relu, accumulate: false };
    let found = check(|engine| {
        let weights = MatRef::row_major(&weights, 16, count / 16).unwrap();
        let options = PrepareOptions::default().input_gradient(true);
        let filters = PackedConv2d::prepare(engine, &shape, weights, Some(&mask), &options).unwrap();
        let (mut y, mut dx, mut dw) = (vec![0.0; y_len], vec![0.0; x_len], vec![0.0; count]);
        let space = &mut conv2d::Workspace::default();
        let of_y = [batch, 16, shape.out_height(), shape.out_width()];
        let [n, c, h, w] = of_y;
        let x = ImagesRef::batch_innermost(&x, batch, 6, 14, 13).unwrap();
        let dy = ImagesRef::batch_innermost(&dy, n, c, h, w).unwrap();
        let into = ImagesMut::nchw(&mut y, n, c, h, w).unwrap();
        conv2d::forward(engine, &filters, x, &epilogue, into, space).unwrap();
        let into = ImagesMut::nchw(&mut dx, batch, 6, 14, 13).unwrap();
        conv2d::input_gradient(engine, &filters, dy, Some(x), into, space).unwrap();
        let into = MatMut::row_major(&mut dw, 16, count / 16).unwrap();
        conv2d::weight_gradient(engine, &shape, dy, x, into, space).unwrap();
        [bits(&y), bits(&dx), bits(&dw)]
    });
    found.iter().for_each(|bits| assert_some_denormal(bits));
}

#[test]
fn selections() {
    // Half of the scores are denormal.
    let scores: Vec<f32> =
        noise(300_000, 5)
            .into_iter()
            .zip(0_u32..)
            .map(|(x, i)| {
                if i % 2 == 0 { x } else { f32::from_bits((i * 7919 % 0x80_0000) | ((i << 30) & (1 << 31))) }
            })
            .collect();
    let layers = [&scores[..200_001], &scores[200_001..]];
    for order in [Order::Magnitude, Order::Signed] {
        for keep in [1000, 150_000, 290_000] {
            let select = |engine: Engine, hint: Option<Threshold>| {
                let mut masks = layers.map(|layer| PackedMask::none_kept(layer.len()));
                let selection = Selection::largest(keep, order);
                let selection = hint.map_or(selection, |hint| selection.near(hint));
                let threshold = Selector::default().select(engine, &layers, selection, &mut masks).unwrap();
                (threshold, masks)
            };
            let (threshold, _) = check(|engine| select(engine, None));
            check(|engine| select(engine, Some(threshold)));
            assert_eq!(threshold.value(), check(|_| threshold.value()));
        }
    }
}

#[test]
fn subset_sums() {
    let (candidates, targets) = (noise(19 * 40, 6), noise(40, 7));
    // Some of these candidates are denormal.
    let tiny: Vec<f32> = small(16, 8).iter().map(|x| x * 2.0_f32.powi(-70)).collect();
    let target = tiny[0] * 1.5;
    let subset = |subset: &Subset| (subset.bits, subset.residual.to_bits());
    for epsilon in [0.0, 1e-4, f32::from_bits(3)] {
        for method in [Method::Auto, Method::MeetInTheMiddle, Method::BruteForce] {
            let search = Search { epsilon, method, ..Search::default() };
            check(|engine| {
                let mut found = [Subset::default(); 40];
                search.nearest_each(engine, &candidates[..12 * 40], 12, &targets, &mut found).unwrap();
                let each = found.each_ref().map(subset);
                search.nearest_many(engine, &candidates[..18], &targets, &mut found).unwrap();
                let of_tiny = search.nearest(engine, &tiny, target).unwrap();
                (each, found.each_ref().map(subset), subset(&of_tiny))
            });
        }
        check(|engine| {
            let mut coverage = Coverage::new(-0.5, 0.5, epsilon, 1e-3).unwrap();
            let needed = candidates.iter().position(|&x| coverage.push(engine, x).unwrap());
            (needed, coverage.first_gap().map(|gap| [gap.start.to_bits(), gap.end.to_bits()]))
        });
    }
    check(|_| {
        let (mut all, mut sizes) = (vec![0.0; 1 << 10], vec![0; 1 << 10]);
        sums(&tiny[..10], &mut all, &mut sizes).unwrap();
        (all.iter().map(|sum| sum.to_bits()).collect::<Vec<_>>(), sizes)
    });
    let one = Subset { bits: 0b101_1011, residual: 0.0 };
    check(|_| [&tiny, &candidates].map(|all| one.sum(all).to_bits()));
}

#[test]
fn optimizer_steps() {
    let n = 100_003;
    let [gradient, initial] = [small(n, 9), small(n, 10)].map(|all| {
        let least = 2.0_f32.powi(-62);
        all.into_iter().map(|x| x * least).collect::<Vec<_>>()
    });
    let state = small(n, 11).into_iter().map(|x| x * 2.0_f32.powi(-62)).collect::<Vec<_>>();
    let found = check(|engine| {
        let (mut velocity, mut change, mut weights) = (state.clone(), initial.clone(), vec![0.0; n]);
        let step = ProjectedStep { learning_rate: 0.1, momentum: 0.9, epsilon: 0.05 };
        step.apply(engine, &gradient, &initial, &mut velocity, &mut change, &mut weights).unwrap();
        let mut all = [velocity, change, weights].concat();
        let (mut velocity, mut scores) = (state.clone(), initial.clone());
        let step = ScoreStep { learning_rate: 0.1, momentum: 0.9, weight_decay: 1e-4 };
        step.apply(engine, &gradient, &initial, &mut velocity, &mut scores).unwrap();
        all.extend([velocity, scores].concat());
        bits(&all)
    });
    assert_some_denormal(&found);
}
