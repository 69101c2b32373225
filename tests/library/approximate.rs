//! Networks rebuilt by subset sums.

use slth::Error;
use slth::approximate::{ApproximateConfig, Approximator, Draw, Target};
use slth::progress::NoProgress;
use slth::random::{Purpose, Stream};
use slth_kernels::Backend;

fn config() -> ApproximateConfig {
    ApproximateConfig { eta: 0.02, candidates: Some(16), epsilon: vec![0.0, 1e-3], ..Default::default() }
}

fn target() -> Target {
    Target::draw("70-9-5".parse().unwrap(), 3)
}

#[test]
fn subsets_and_weights_are_those_reported() {
    let target = target();
    for draw in [Draw::PerRow, Draw::PerWeight] {
        let config = ApproximateConfig { draw, ..config() };
        let approximator = Approximator::new(&config, &target).unwrap();
        for epsilon in [0.0, 1e-3, 0.3] {
            let found = approximator.approximate(epsilon, &NoProgress).unwrap();
            let summary = found.summary();
            assert_eq!(summary.candidates_total, 16 * (70 * 9 + 9 * 5));
            assert!(summary.failed < 20, "{draw} {epsilon} {}", summary.failed);
            let check = approximator.check(&found, &NoProgress);
            assert_eq!((check.beyond, check.subsets), (0, 675), "{check:?}");
            for (layer, targets) in target.weights.iter().enumerate() {
                let inputs = [70, 9][layer];
                for (i, (&z, subset)) in targets.iter().zip(&found.subsets[layer]).enumerate() {
                    let key = if draw == Draw::PerRow { i / inputs } else { i };
                    let mut stream = Stream::new(1, Purpose::Candidates, layer, key);
                    let [least, most] = target.range().map(f64::from);
                    let candidates: Vec<f32> =
                        (0..16).map(|_| (least + (most - least) * f64::from(stream.unit())) as f32).collect();
                    assert!(candidates.iter().all(|x| (-0.5..=0.5).contains(x)));
                    let distance = (subset.sum(&candidates) - f64::from(z)).abs();
                    let left = (distance - f64::from(epsilon) * f64::from(subset.size())).max(0.0);
                    assert_eq!(left, subset.residual);
                    let reached = f64::from(found.weights[layer][i]);
                    assert!(((reached - f64::from(z)).abs() - left).abs() < 1e-7);
                }
            }
        }
    }
}

#[test]
fn threads_and_backends_do_not_matter() {
    let target = target();
    for draw in [Draw::PerRow, Draw::PerWeight] {
        let run = |backend, threads| {
            let config = ApproximateConfig { draw, backend, threads, ..config() };
            let approximator = Approximator::new(&config, &target).unwrap();
            let found = config.epsilon.iter().map(|&e| approximator.approximate(e, &NoProgress).unwrap());
            let networks: Vec<_> = found.map(|found| (found.subsets, found.weights)).collect();
            (networks, approximator.smallest(1e-3, &NoProgress).unwrap())
        };
        let first = run(None, Some(1));
        for (&backend, threads) in Backend::available().iter().zip([3, 2, 1, 7]) {
            assert_eq!(run(Some(backend), Some(threads)), first, "{backend}");
        }
    }
}

#[test]
fn the_smallest_n_is_where_failures_end() {
    let target = Target::draw("30-6-3".parse().unwrap(), 4);
    for draw in [Draw::PerRow, Draw::PerWeight] {
        let mut before = 31;
        for epsilon in [0.0, 2e-3, 0.02] {
            let config = ApproximateConfig { draw, ..config() };
            let smallest = Approximator::new(&config, &target).unwrap().smallest(epsilon, &NoProgress);
            let n = smallest.unwrap().unwrap();
            assert!((4..before).contains(&n), "{draw:?} {epsilon}: {n} after {before}");
            before = n + 1;
            for (candidates, fails) in [(n, false), (n - 1, true)] {
                let config = ApproximateConfig { candidates: Some(candidates), ..config.clone() };
                let found = Approximator::new(&config, &target).unwrap().approximate(epsilon, &NoProgress);
                assert_eq!(found.unwrap().summary().failed > 0, fails, "{draw:?} {epsilon} n = {candidates}");
            }
        }
    }
    let strict = ApproximateConfig { eta: 1e-6, ..config() };
    let one = Target::draw("1-1".parse().unwrap(), 4);
    // A single weight, which is all of the range: each candidate is that weight.
    assert_eq!(Approximator::new(&strict, &one).unwrap().smallest(0.0, &NoProgress).unwrap(), Some(1));
}

#[test]
fn the_construction_computes_the_target() {
    let target = Target::draw("6-5-3".parse().unwrap(), 2);
    let config = ApproximateConfig { candidates: Some(17), ..config() };
    let approximator = Approximator::new(&config, &target).unwrap();
    let mut differences = Vec::new();
    for epsilon in [0.0, 1e-4, 1e-2] {
        let built = approximator.construct(epsilon, &NoProgress).unwrap();
        assert_eq!(built.network.to_string(), "6-1020-5-510-3");
        // The perturbation is within ε of what was drawn, and only U is pruned beyond the structure.
        let plain = approximator.construct(0.0, &NoProgress).unwrap();
        for (layer, drawn) in built.layers.iter().zip(&plain.layers) {
            for (v, w) in layer.weights.iter().zip(&drawn.weights) {
                assert!((v - w).abs() <= epsilon + 1e-7);
            }
        }
        let kept: usize = built.subsets.iter().map(|subset| subset.size() as usize).sum();
        let masks: usize = [0, 2].map(|u| built.layers[u].mask.kept()).iter().sum();
        assert_eq!(kept, masks);
        assert_eq!([1, 3].map(|v| built.layers[v].mask.kept()), [1020, 510]);
        // Errors of the first layer, at most 6 residuals, pass the second's weights of at most 1/2.
        let residual = built.subsets.iter().map(|subset| subset.residual).fold(0.0, f64::max);
        let bound = 5.0 * (6.0 * residual * (0.5 + residual) + residual * 3.0) + 1e-5;
        assert!(built.max_difference <= bound, "{} {bound}", built.max_difference);
        assert!(built.max_output > 0.1);
        differences.push(built.max_difference);
    }
    assert!(differences[0] > 1e-5 && differences[2] < 1e-5, "{differences:?}");
    let large = Target::draw("784-500-10".parse().unwrap(), 1);
    match Approximator::new(&config, &large).unwrap().construct(0.0, &NoProgress) {
        Err(Error::Config { field: "construction", .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn senseless_values_are_refused() {
    let target = target();
    let refused = |field: &str, change: fn(&mut ApproximateConfig)| {
        let mut config = config();
        change(&mut config);
        match Approximator::new(&config, &target) {
            Err(Error::Config { field: found, .. }) => assert_eq!(found, field),
            other => panic!("{field}: {other:?}"),
        }
    };
    for change in [
        (|c| c.eta = 0.0) as fn(&mut ApproximateConfig),
        |c| c.eta = 1.0,
        |c| c.eta = -0.1,
        |c| c.eta = f64::NAN,
    ] {
        refused("eta", change);
    }
    refused("c", |c| c.c = 0.0);
    refused("c", |c| c.c = f64::NAN);
    refused("c", |c| c.c = f64::INFINITY);
    refused("c", |c| (c.candidates, c.c) = (None, 1e300));
    refused("candidates", |c| c.candidates = Some(0));
    refused("candidates", |c| c.candidates = Some(49));
    refused("epsilon", |c| c.epsilon = vec![]);
    refused("epsilon", |c| c.epsilon = vec![0.0, -1.0]);
    refused("epsilon", |c| c.epsilon = vec![0.1, 0.0, -0.0]);
    refused("epsilon", |c| c.epsilon = vec![f32::NAN]);
    refused("epsilon", |c| c.epsilon = vec![f32::INFINITY]);
    refused("threads", |c| c.threads = Some(0));
}
