//! Networks rebuilt by subset sums.

use std::collections::BTreeMap;

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use slth::Error;
use slth::approximate::{ApproximateConfig, ApproximationRow, Approximator, Draw, Rebuilt, Target, check};
use slth::candidates::SubsetSize;
use slth::output::OutputDirectory;
use slth::progress::NoProgress;
use slth::random::{Purpose, Stream};
use slth::tensors::{TensorFile, encode};
use slth_kernels::Backend;
use slth_kernels::subset_sum::{Search, Sizes, Subset};

fn config() -> ApproximateConfig {
    ApproximateConfig { eta: 0.02, candidates: Some(16), epsilon: vec![0.0, 1e-3], ..Default::default() }
}

fn target() -> Target {
    Target::draw("70-9-5".parse().unwrap(), 3)
}

type Found = (Vec<Subset>, Vec<f32>);

/// The approximation of a file with one ε: the summary, and by rank the subsets and weights of each tensor.
fn collect(approximator: &Approximator<'_>, epsilon: f32) -> (ApproximationRow, BTreeMap<usize, Found>) {
    let mut found = BTreeMap::new();
    let mut take = |rebuilt: Rebuilt<'_>| {
        let (subsets, weights): &mut Found = found.entry(rebuilt.tensor.rank).or_default();
        assert_eq!(rebuilt.first, subsets.len());
        weights.extend(rebuilt.weights());
        subsets.extend(rebuilt.subsets);
        Ok(())
    };
    let (row, check) = approximator.approximate(epsilon, true, &mut take, &NoProgress).unwrap();
    let check = check.unwrap();
    assert_eq!((check.beyond, check.subsets), (0, row.weights), "{check:?}");
    (row, found)
}

#[test]
fn subsets_and_weights_are_those_reported() {
    let target = target();
    let tensors = target.to_tensors();
    let all = || target.weights.iter().flatten();
    let ends = [all().copied().reduce(f32::min).unwrap(), all().copied().reduce(f32::max).unwrap()];
    for (draw, relative, size) in [
        (Draw::PerRow, false, SubsetSize::Any),
        (Draw::PerWeight, false, SubsetSize::Any),
        (Draw::PerRow, true, SubsetSize::Any),
        (Draw::PerWeight, true, SubsetSize::Exactly(7)),
        (Draw::PerRow, false, SubsetSize::Fraction(0.3)),
    ] {
        let config =
            ApproximateConfig { draw, eta_relative: relative, size, candidates_most: Some(16), ..config() };
        let approximator = Approximator::new(&config, &tensors).unwrap();
        for epsilon in [0.0, 1e-3, 0.3] {
            let (summary, found) = collect(&approximator, epsilon);
            assert_eq!(summary.candidates_total, 16 * (70 * 9 + 9 * 5));
            assert!(summary.failed < 40, "{draw} {size} {epsilon} {}", summary.failed);
            assert_eq!(summary.failed_as_written, summary.failed);
            let mut largest = 0.0_f64;
            for (layer, targets) in target.weights.iter().enumerate() {
                let (subsets, weights) = &found[&layer];
                let m = targets.iter().fold(0.0_f32, |m, w| m.max(w.abs()));
                let scale = if relative { f64::from(m) } else { 1.0 };
                let [least, most] = if relative { [-2.0 * m, 2.0 * m] } else { ends }.map(f64::from);
                let epsilon = f64::from((f64::from(epsilon) * scale) as f32);
                let inputs = [70, 9][layer];
                for (i, (&z, subset)) in targets.iter().zip(subsets).enumerate() {
                    let key = if draw == Draw::PerRow { i / inputs } else { i };
                    let mut stream = Stream::new(1, Purpose::Candidates, layer, key);
                    let candidates: Vec<f32> =
                        (0..16).map(|_| (least + (most - least) * f64::from(stream.unit())) as f32).collect();
                    assert!(size.of(16).allows(subset.size() as usize));
                    let distance = (subset.sum(&candidates) - f64::from(z)).abs();
                    let left = (distance - epsilon * f64::from(subset.size())).max(0.0);
                    assert_eq!(left, subset.residual);
                    assert!(((f64::from(weights[i]) - f64::from(z)).abs() - left).abs() < 1e-7);
                    largest = largest.max(left / scale);
                }
            }
            assert_eq!(summary.max_residual, largest);
        }
    }
}

#[test]
fn threads_and_backends_do_not_matter() {
    let tensors = target().to_tensors();
    for draw in [Draw::PerRow, Draw::PerWeight] {
        let run = |backend, threads| {
            let config = ApproximateConfig { draw, backend, threads, ..config() };
            let approximator = Approximator::new(&config, &tensors).unwrap();
            let networks: Vec<_> = config.epsilon.iter().map(|&e| collect(&approximator, e).1).collect();
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
    let tensors = Target::draw("30-6-3".parse().unwrap(), 4).to_tensors();
    for (draw, eta_relative) in [(Draw::PerRow, false), (Draw::PerWeight, false), (Draw::PerRow, true)] {
        let mut before = 31;
        for epsilon in [0.0, 2e-3, 0.02] {
            let config = ApproximateConfig { draw, eta_relative, ..config() };
            let smallest = Approximator::new(&config, &tensors).unwrap().smallest(epsilon, &NoProgress);
            let n = smallest.unwrap().unwrap();
            assert!((4..=before).contains(&n), "{draw:?} {epsilon}: {n} after {before}");
            before = n;
            for (candidates, fails) in [(n, false), (n - 1, true)] {
                let (candidates, most) = (Some(candidates), Some(candidates));
                let config = ApproximateConfig { candidates, candidates_most: most, ..config.clone() };
                let (found, _) = collect(&Approximator::new(&config, &tensors).unwrap(), epsilon);
                assert_eq!(found.failed > 0, fails, "{draw:?} {epsilon} n = {candidates:?}");
            }
        }
    }
    let strict = ApproximateConfig { eta: 1e-6, ..config() };
    let one = Target::draw("1-1".parse().unwrap(), 4).to_tensors();
    // With a single weight the range of candidates is one point, so each candidate equals the weight.
    assert_eq!(Approximator::new(&strict, &one).unwrap().smallest(0.0, &NoProgress).unwrap(), Some(1));
    // A subset of 5 needs at least 5 candidates.
    let five = ApproximateConfig { size: SubsetSize::Exactly(5), ..config() };
    let smallest = Approximator::new(&five, &one).unwrap().smallest(0.5, &NoProgress).unwrap();
    assert!(smallest.unwrap() >= 5);
}

/// With a fraction as size, a weight that n candidates suffice for can fail with n + 1.
#[test]
fn the_smallest_n_of_a_fraction_is_the_first_without_failures() {
    let tensors = Target::draw("30-6-3".parse().unwrap(), 4).to_tensors();
    for draw in [Draw::PerRow, Draw::PerWeight] {
        let config = ApproximateConfig { draw, size: SubsetSize::Fraction(0.3), eta: 0.03, ..config() };
        let fails = |n: usize| {
            let config =
                ApproximateConfig { candidates: Some(n), candidates_most: Some(n), ..config.clone() };
            collect(&Approximator::new(&config, &tensors).unwrap(), 2e-3).0.failed > 0
        };
        let first = (2..=30).find(|&n| !fails(n));
        let smallest = Approximator::new(&config, &tensors).unwrap().smallest(2e-3, &NoProgress).unwrap();
        assert!(first.is_some_and(|n| n > 4), "{first:?}");
        assert_eq!(smallest, first, "{draw:?}");
    }
}

/// A file with tensors of many ranks and types, one larger than a chunk. Tensors that are not rebuilt stay unchanged.
#[test]
fn any_file_is_rebuilt() {
    let large = (1 << 20) + 1000;
    let number = |i: usize| ((i * 7919 + 13) % 1009) as f64 / 1009.0 - 0.4;
    let tensors: [(&str, &str, Dtype, &[usize]); 9] = [
        ("scalar", "F32", Dtype::F32, &[]),
        ("norm.bias", "F32", Dtype::F32, &[7]),
        ("zero", "F32", Dtype::F32, &[2, 2]),
        ("none", "F16", Dtype::F16, &[0, 3]),
        ("conv", "F16", Dtype::F16, &[4, 3, 2, 2]),
        ("ids", "I64", Dtype::I64, &[5]),
        ("deep", "BF16", Dtype::BF16, &[2, 3, 1, 2, 2]),
        ("wide", "F64", Dtype::F64, &[3, 5]),
        ("large", "F32", Dtype::F32, &[2, large / 2]),
    ];
    let (mut entries, mut data) =
        (vec![r#""__metadata__":{"format":"pt","by":"hand"}"#.to_owned()], Vec::new());
    for (name, kind, dtype, shape) in tensors {
        let begin = data.len();
        for i in 0..shape.iter().product() {
            match dtype {
                Dtype::I64 => data.extend(i.to_le_bytes()),
                _ => encode(dtype, if name == "zero" { 0.0 } else { number(i) }, &mut data),
            }
        }
        entries.push(format!(
            r#""{name}":{{"dtype":"{kind}","shape":{shape:?},"data_offsets":[{begin},{}]}}"#,
            data.len()
        ));
    }
    let bytes = super::tensors::file(&format!("{{{}}}", entries.join(",")), &data);
    let source = TensorFile::parse(bytes.clone()).unwrap();
    for draw in [Draw::PerRow, Draw::PerWeight] {
        let config = ApproximateConfig {
            eta: 0.05,
            eta_relative: true,
            candidates: Some(13),
            candidates_most: Some(15),
            skip: Some(vec!["*.bias".to_owned()]),
            draw,
            epsilon: vec![0.01],
            ..ApproximateConfig::default()
        };
        let directory = tempfile::tempdir().unwrap();
        let out = OutputDirectory::prepare(directory.path(), &[""; 0], false).unwrap();
        let approximator = Approximator::new(&config, &source).unwrap();
        let outcome = approximator
            .approximate_all(None, draw == Draw::PerRow, Some((&out, true)), &NoProgress)
            .unwrap();
        let row = outcome.result.results[0].clone();
        assert_eq!(row.weights, 1 + 4 + 48 + 24 + 15 + large);
        assert_eq!(outcome.result.tensors.len(), 7);
        out.write(&outcome.files().unwrap()).unwrap();
        let written = TensorFile::open(directory.path().join("approximated.safetensors")).unwrap();
        assert_eq!(written.metadata["format"], "pt");
        assert_eq!(written.metadata.keys().collect::<Vec<_>>(), ["approximation", "by", "format"]);
        let bits = TensorFile::open(directory.path().join("subsets.safetensors")).unwrap();
        let draws: Value = serde_json::from_str(&bits.metadata["candidates"]).unwrap();
        let packed = std::fs::read(directory.path().join("subsets.safetensors")).unwrap();
        let packed = SafeTensors::deserialize(&packed).unwrap();
        let all = std::fs::read(directory.path().join("approximated.safetensors")).unwrap();
        let [before, after] = [&bytes, &all].map(|bytes| SafeTensors::deserialize(bytes).unwrap());
        let mut failed = 0;
        for (entry, new) in source.tensors().iter().zip(written.tensors()) {
            assert_eq!((&entry.name, &entry.info.shape), (&new.name, &new.info.shape));
            assert_eq!((entry.info.dtype, entry.info.data_offsets), (new.info.dtype, new.info.data_offsets));
            let [old, now] = [&before, &after].map(|file| file.tensor(&entry.name).unwrap().data());
            if !entry.is_float() || entry.name == "norm.bias" || entry.elements() == 0 {
                assert_eq!(old, now, "{}", entry.name);
                continue;
            }
            let [targets, weights] =
                [&source, &written].map(|f| f.floats(entry, 0..entry.elements()).unwrap());
            let m = targets.iter().fold(0.0_f32, |m, w| m.max(w.abs()));
            let scale = if m == 0.0 { 1.0 } else { f64::from(m) };
            // Seed and subset reproduce the weight, up to the movement of the candidates and the rounding of the type.
            let subset = packed.tensor(&entry.name).unwrap();
            assert_eq!(subset.shape(), [(entry.elements() * 15).div_ceil(8)]);
            let draw_of = &draws[&entry.name];
            let range = [0, 1].map(|i| draw_of["range"][i].as_f64().unwrap() as f32);
            assert_eq!(range, [-2.0 * m, 2.0 * m]);
            for (i, (z, w)) in targets.iter().zip(&weights).enumerate().step_by(1 + entry.elements() / 500) {
                let row = draw_of["row"].as_u64().unwrap() as usize;
                let key = if draw == Draw::PerRow { i / row } else { i };
                let layer = draw_of["layer"].as_u64().unwrap() as usize;
                let mut stream = Stream::new(1, Purpose::Candidates, layer, key);
                let [least, most] = range.map(f64::from);
                let bit = |at: usize| subset.data()[at / 8] >> (at % 8) & 1 != 0;
                let chosen = (0..13)
                    .map(|j| ((least + (most - least) * f64::from(stream.unit())) as f32, bit(i * 15 + j)));
                let (mut sum, mut size) = (0.0, 0.0);
                for x in chosen.filter_map(|(x, chosen)| chosen.then_some(x)) {
                    (sum, size) = (sum + f64::from(x), size + 1.0);
                }
                let moved = 0.01 * scale * size + f64::from(w.abs()) / 256.0 + 1e-9;
                assert!((sum - f64::from(*w)).abs() <= moved, "{} {i}: {sum} {w}", entry.name);
                assert!((w - z).abs() < 0.3, "{} {i}: {z} {w}", entry.name);
            }
            let beyond = |(w, z): (&f32, &f32)| (f64::from(*w) - f64::from(*z)).abs() / scale > 0.05;
            failed += weights.iter().zip(&targets).filter(|&(w, z)| beyond((w, z))).count();
        }
        assert_eq!(failed, row.failed_as_written);
        assert!(row.failed_as_written.abs_diff(row.failed) < 10 && failed < 10_000, "{row:?}");
    }
    // Starting from 8, the number of candidates grows until every weight is met.
    let grown = ApproximateConfig { eta_relative: true, candidates: Some(8), ..config() };
    for draw in [Draw::PerRow, Draw::PerWeight] {
        let grown = ApproximateConfig { draw, skip: Some(vec!["large".to_owned()]), ..grown.clone() };
        let (row, _) = collect(&Approximator::new(&grown, &source).unwrap(), 0.0);
        assert!(row.failed == 0 && (9..=30).contains(&row.candidates_most), "{row:?}");
        assert!(row.candidates_total > 8 * row.weights, "{row:?}");
    }
    let one = ApproximateConfig { only: Some(vec!["wide".to_owned()]), ..config() };
    assert_eq!(collect(&Approximator::new(&one, &source).unwrap(), 0.0).0.weights, 15);
}

#[test]
fn the_construction_computes_the_target() {
    let target = Target::draw("6-5-3".parse().unwrap(), 2);
    let config = ApproximateConfig { candidates: Some(17), ..config() };
    let tensors = target.to_tensors();
    let approximator = Approximator::new(&config, &tensors).unwrap();
    let mut differences = Vec::new();
    for epsilon in [0.0, 1e-4, 1e-2] {
        let built = approximator.construct(&target, epsilon, &NoProgress).unwrap();
        assert_eq!(built.network.to_string(), "6-204-5-170-3");
        // Weights move by at most ε from the drawn ones. Only V is pruned further; U keeps its block structure.
        let plain = approximator.construct(&target, 0.0, &NoProgress).unwrap();
        for (layer, drawn) in built.layers.iter().zip(&plain.layers) {
            for (v, w) in layer.weights.iter().zip(&drawn.weights) {
                assert!((v - w).abs() <= epsilon + 1e-7);
            }
        }
        let kept: usize = built.subsets.iter().map(|subset| subset.size() as usize).sum();
        let masks: usize = [1, 3].map(|v| built.layers[v].mask.kept()).iter().sum();
        assert_eq!(kept, masks);
        assert_eq!([0, 2].map(|u| built.layers[u].mask.kept()), [204, 170]);
        // `smallest` candidates suffice for every weight; one fewer does not.
        let needed = built.smallest.unwrap();
        assert_eq!(built.units_needed, Some(2 * needed * (6 + 5)));
        let theorem = [(6, 5), (5, 3)]
            .map(|(inputs, outputs)| 2.0 * f64::from(inputs) * f64::from(inputs * outputs * 2).log2());
        let log = 2.0 * 11.0 * (1.0 / config.eta).log2();
        let theorem = (theorem.iter().sum::<f64>() + log) / (1.0 + f64::from(epsilon));
        assert!((built.units_of_theorem - theorem).abs() < 1e-6, "{} {theorem}", built.units_of_theorem);
        for (n, fails) in [(needed, false), (needed - 1, true)] {
            let config = ApproximateConfig { candidates: Some(n), ..config.clone() };
            let approximator = Approximator::new(&config, &tensors).unwrap();
            let built = approximator.construct(&target, epsilon, &NoProgress).unwrap();
            assert_eq!(built.summary(config.eta).failed > 0, fails, "{n}");
        }
        // An error of the first layer, at most 6 residuals, is multiplied by weights of at most 1/2 in the second.
        let residual = built.subsets.iter().map(|subset| subset.residual).fold(0.0, f64::max);
        let bound = 5.0 * (6.0 * residual * (0.5 + residual) + residual * 3.0) + 1e-5;
        assert!(built.max_difference <= bound, "{} {bound}", built.max_difference);
        assert!(built.max_output > 0.1);
        differences.push(built.max_difference);
    }
    assert!(differences[0] > 1e-5 && differences[2] < 1e-5, "{differences:?}");
    let large = Target::draw("784-1000-10".parse().unwrap(), 1);
    match approximator.construct(&large, 0.0, &NoProgress) {
        Err(Error::Config { field: "construction", .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn senseless_values_are_refused() {
    let tensors = target().to_tensors();
    let refused = |field: &str, change: fn(&mut ApproximateConfig)| {
        let mut config = config();
        change(&mut config);
        match Approximator::new(&config, &tensors) {
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
    refused("candidates_most", |c| c.candidates_most = Some(15));
    refused("candidates_most", |c| c.candidates_most = Some(49));
    refused("size", |c| c.size = SubsetSize::Exactly(17));
    refused("size", |c| c.size = SubsetSize::Exactly(0));
    refused("size", |c| c.size = SubsetSize::Fraction(1.0));
    refused("only", |c| c.only = Some(vec!["layer3*".to_owned()]));
    refused("skip", |c| c.skip = Some(vec!["*.bias".to_owned()]));
    refused("epsilon", |c| c.epsilon = vec![]);
    refused("epsilon", |c| c.epsilon = vec![0.0, -1.0]);
    refused("epsilon", |c| c.epsilon = vec![0.1, 0.0, -0.0]);
    refused("epsilon", |c| c.epsilon = vec![f32::NAN]);
    refused("epsilon", |c| c.epsilon = vec![f32::INFINITY]);
    refused("threads", |c| c.threads = Some(0));
}

#[test]
fn the_check_finds_the_optimum() {
    let mut stream = Stream::new(1, Purpose::Candidates, 0, 0);
    for trial in 0..300 {
        let n = 1 + trial % 9;
        let candidates: Vec<f32> = (0..n).map(|_| stream.symmetric(1.0)).collect();
        let (target, epsilon) = (stream.symmetric(2.0), [0.0, 1e-3, 0.1][trial % 3]);
        for sizes in [Sizes::Any, Sizes::Exactly(n), Sizes::Exactly(n.div_ceil(3))] {
            let residual = |bits: u64| {
                let chosen = || candidates.iter().enumerate().filter(|&(i, _)| bits >> i & 1 != 0);
                let sum: f64 = chosen().map(|(_, &x)| f64::from(x)).sum();
                ((sum - f64::from(target)).abs() - f64::from(epsilon) * chosen().count() as f64).max(0.0)
            };
            let allowed = (0..1_u64 << n).filter(|bits| sizes.allows(bits.count_ones() as usize));
            let mut all: Vec<_> = allowed.map(|bits| Subset { bits, residual: residual(bits) }).collect();
            all.sort_by(|a, b| a.residual.total_cmp(&b.residual));
            let (best, worst) = (all[0], all[all.len() - 1]);
            let search = Search { epsilon, sizes, ..Search::default() };
            let check = |subset| check(|_| search, |_| &candidates, &[target], &[subset]);
            assert_eq!(check(best).beyond, 0, "{sizes:?}");
            let (found, expected) = (check(worst).max_excess, worst.residual - best.residual);
            assert!((found - expected).abs() < 1e-12, "{found} {expected} {sizes:?}");
        }
    }
}

#[test]
fn a_worse_subset_is_seen() {
    let check =
        |bits, residual| check(|_| Search::default(), |_| &[0.5, 0.25], &[0.7], &[Subset { bits, residual }]);
    let exact = f64::from(0.75 - 0.7_f32);
    assert_eq!(check(0b11, exact).beyond, 0);
    assert_eq!(check(0b11, 0.0).beyond, 1);
    let worse = check(0b01, f64::from(0.7_f32) - 0.5);
    assert_eq!(worse.beyond, 1);
    assert!((worse.max_excess - 0.15).abs() < 1e-6);
}
