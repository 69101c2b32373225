//! Architectures, initialisations, the loss, pooling.

use clap::ValueEnum;
use slth::network::{Architecture, Initialisation, LayerShape, Pool, cross_entropy};
use slth::random::{Purpose, Stream};
use slth_kernels::Engine;

#[test]
fn text_leads_back() {
    for text in [
        "784-10",
        "784-500-500-10",
        "1-1",
        "3-5-7-11-2",
        "lenet5",
        "6x5-4@3x2s2p1-pool2-3",
        "4x4-10@4x4",
        "3x8x8-4@3x3p1-5",
    ] {
        assert_eq!(text.parse::<Architecture>().unwrap().to_string(), text);
    }
    let colour: Architecture = "3x8x8-4@3x3p1-5".parse().unwrap();
    assert_eq!((colour.image(), colour.inputs(), colour.weights()), (Some([3, 8, 8]), 192, 4 * 27 + 256 * 5));
    assert_eq!("1x8x8-5".parse::<Architecture>().unwrap().to_string(), "8x8-5");
    assert_eq!(Architecture::default().to_string(), "784-500-500-10");
    assert_eq!(Architecture::default().weights(), 647_000);
}

/// Numbers of weights agree with Ramanujan et al.: Conv-2 4.3, Conv-4 2.4, Conv-6 2.3 and Conv-8 5.3 million.
#[test]
fn names_stand_for_networks() {
    for (name, weights, layers) in [
        ("lenet-300-100", 784 * 300 + 300 * 100 + 100 * 10, 3),
        ("lenet5", 61_470, 5),
        ("conv2", 4_300_992, 5),
        ("conv4", 2_425_024, 7),
        ("conv6", 2_261_184, 9),
        ("conv8", 5_275_840, 11),
    ] {
        let network: Architecture = name.parse().unwrap();
        assert_eq!((network.weights(), network.layers().len()), (weights, layers), "{name}");
        assert_eq!((network.to_string().as_str(), network.outputs()), (name, 10));
    }
    let full = "3x32x32-64@3x3p1-64@3x3p1-pool2-256-256-10";
    assert_eq!(full.parse::<Architecture>(), "conv2".parse());
}

#[test]
fn absurd_networks_are_refused() {
    for text in [
        "",
        "784",
        "-",
        "784-",
        "-10",
        "784--10",
        "784-0-10",
        "784-x-10",
        "784-+5-10",
        "784- 5-10",
        "784-99999999999999999999-10",
        "18446744073709551615-18446744073709551615",
        "4294967296-4294967296",
        "100000-100000",
        "784-1.5-10",
        "784x10",
        "2x3x8x8-4@3x3-5",
        "0x8x8-5",
        "3x8x-5",
        "lenet",
        "28x28-6@5x5p2-pool2",
        "28x28-6@5x5p2-pool0-10",
        "28x28-6@5x5s0-10",
        "28x28-6@0x5-10",
        "28x28-0@5x5-10",
        "28x28-6@5-10",
        "28x28-@5x5-10",
        "28x28-6@5x5p-10",
        "28x28-6@5x5p2s2-10",
        "4x4-6@5x5-10",
        "4x4-pool5-10",
        "784-6@5x5p2-pool2-10", // a column of single pixels
        "28x28-6@5x5p9223372036854775807-10",
        "28x28-6@5x5p99999999-10",
        "28x28-6@18446744073709551615x2-10",
        "28x28-18446744073709551615@5x5-10",
        "18446744073709551615x18446744073709551615-10",
    ] {
        assert!(text.parse::<Architecture>().is_err(), "{text}");
    }
}

const LAYER: LayerShape = LayerShape { outputs: 100, inputs: 200, kernel: None };

fn weights(kind: Initialisation, scale: f64) -> Vec<f32> {
    kind.weights(LAYER, scale, &mut Stream::new(1, Purpose::Weights, 0, 0))
}

#[test]
fn deviations_are_those_of_the_definitions() {
    for (kind, variance) in [
        (Initialisation::KaimingNormal, 2.0 / 200.0),
        (Initialisation::KaimingUniform, 2.0 / 200.0),
        (Initialisation::PytorchDefault, 1.0 / 200.0 / 3.0),
        (Initialisation::SignedConstant, 2.0 / 200.0),
        (Initialisation::Uniform, 1.0 / 3.0),
    ] {
        let drawn = weights(kind, 1.0);
        let n = drawn.len() as f64;
        let mean = drawn.iter().map(|&w| f64::from(w)).sum::<f64>() / n;
        let found = drawn.iter().map(|&w| f64::from(w) * f64::from(w)).sum::<f64>() / n;
        assert!((found / variance - 1.0).abs() < 0.03, "{kind}: {found} for {variance}");
        assert!(mean.abs() < 0.03 * variance.sqrt(), "{kind}");
    }
}

#[test]
fn the_scale_multiplies() {
    for &kind in Initialisation::value_variants() {
        let doubled: Vec<f32> = weights(kind, 1.0).iter().map(|w| 2.0 * w).collect();
        assert_eq!(weights(kind, 2.0), doubled, "{kind}");
    }
}

#[test]
fn kept_counts_truncate_in_f64() {
    let layer = LayerShape::new(1, 10);
    // In f64, 0.3 · 10 is 3, but 0.29 · 100 is 28.999…
    assert_eq!(layer.kept(0.3), 7);
    assert_eq!(LayerShape::new(1, 100).kept(0.29), 72);
    assert_eq!(LayerShape::new(1, 1).kept(0.999), 1);
}

#[test]
fn the_gradient_is_that_of_the_mean_loss() {
    let labels = [2_u8, 0, 3]; // of 4 classes
    let logits: Vec<f32> = (0..12).map(|i| ((i * 7 % 5) as f32 - 2.0) * 0.7).collect();
    let mut gradient = vec![f32::NAN; 12];
    let found = cross_entropy(&logits, labels.into_iter(), Some(&mut gradient));
    let loss = |at: usize, step: f32| {
        let mut moved = logits.clone();
        moved[at] += step;
        cross_entropy(&moved, labels.into_iter(), None).loss / 3.0
    };
    assert_eq!(cross_entropy(&logits, labels.into_iter(), None), found);
    for (at, &g) in gradient.iter().enumerate() {
        let difference = (loss(at, 1e-2) - loss(at, -1e-2)) / 2e-2;
        assert!((difference - f64::from(g)).abs() < 1e-4, "{at}");
    }
}

#[test]
fn equal_scores_are_chance() {
    let sum = cross_entropy(&[0.5; 10], [0_u8].into_iter(), None);
    assert!((sum.loss - 10_f64.ln()).abs() < 1e-6);
    assert_eq!(sum.correct, 1); // of equal logits the lower class wins
    assert_eq!(cross_entropy(&[0.5; 10], [1_u8].into_iter(), None).correct, 0);
}

#[test]
fn large_scores_do_not_overflow() {
    let mut gradient = [0.0; 3];
    let sum = cross_entropy(&[3e38, -3e38, 0.0], [0_u8].into_iter(), Some(&mut gradient));
    assert_eq!((sum.loss, sum.correct), (0.0, 1));
    assert_eq!(gradient, [0.0; 3]);
    assert!(!cross_entropy(&[f32::NAN, 0.0], [1_u8].into_iter(), None).loss.is_finite());
    assert!(!cross_entropy(&[f32::INFINITY, 0.0], [0_u8].into_iter(), None).loss.is_finite());
}

#[test]
fn windows_give_their_largest_and_it_gets_the_gradient() {
    for (channels, height, width, size, batch) in
        [(1, 2, 2, 2, 1), (3, 5, 7, 2, 5), (2, 6, 6, 3, 64), (1, 4, 3, 1, 2), (2, 7, 5, 3, 9)]
    {
        let pool = Pool { channels, height, width, size };
        let [out_height, out_width] = pool.output_plane();
        // Few distinct values, so that windows contain ties.
        let x: Vec<f32> = (0..channels * height * width * batch).map(|i| (i * i % 7 % 4) as f32).collect();
        let n = channels * out_height * out_width * batch;
        let gradient: Vec<f32> = (0..n).map(|i| i as f32 + 1.0).collect();
        let (mut expected_y, mut expected_dx) = (vec![0.0; n], vec![0.0; x.len()]);
        for c in 0..channels {
            for to in 0..out_height * out_width * batch {
                let (oy, ox, b) = (to / batch / out_width, to / batch % out_width, to % batch);
                let mut best = None;
                for i in 0..size {
                    for j in 0..size {
                        let at = ((c * height + oy * size + i) * width + ox * size + j) * batch + b;
                        if best.is_none_or(|best: usize| x[at] > x[best]) {
                            best = Some(at);
                        }
                    }
                }
                let at = c * out_height * out_width * batch + to;
                expected_y[at] = x[best.unwrap()];
                expected_dx[best.unwrap()] = gradient[at];
            }
        }
        for threads in [1, 2] {
            let engine = Engine::serial().with_threads(threads);
            let (mut y, mut dx) = (vec![f32::NAN; n], vec![f32::NAN; x.len()]);
            pool.forward(engine, &x, batch, &mut y);
            assert_eq!(y, expected_y);
            pool.backward(engine, [&x, &y], &gradient, batch, &mut dx);
            assert_eq!(dx, expected_dx);
        }
    }
}
