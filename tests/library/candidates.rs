//! How many candidates a subset sum needs.

use slth::Error;
use slth::candidates::{CandidatesConfig, Criterion, Needed, SubsetSize, required_candidates};
use slth::progress::NoProgress;
use slth::random::{Purpose, Stream};
use slth_kernels::Backend;

#[test]
fn senseless_values_are_refused() {
    let refused = |field: &str, change: fn(&mut CandidatesConfig)| {
        let mut config = CandidatesConfig::default();
        change(&mut config);
        match config.validate() {
            Err(Error::Config { field: found, .. }) => assert_eq!(found, field),
            other => panic!("{field}: {other:?}"),
        }
    };
    refused("eta", |c| c.eta = vec![]);
    for eta in [0.0, -1.0, 9e-7, 1.5, f64::NAN, f64::INFINITY] {
        let config = CandidatesConfig { eta: vec![0.1, eta], ..CandidatesConfig::default() };
        assert!(config.validate().is_err(), "{eta}");
    }
    refused("ratio", |c| c.ratio = vec![]);
    refused("ratio", |c| c.ratio = vec![-0.1]);
    refused("ratio", |c| c.ratio = vec![f64::NAN]);
    refused("ratio", |c| c.ratio = vec![1e9]);
    refused("size", |c| c.size = vec![]);
    refused("size", |c| c.size = vec![SubsetSize::Exactly(0)]);
    refused("size", |c| c.size = vec![SubsetSize::Exactly(31)]);
    refused("size", |c| c.size = vec![SubsetSize::Fraction(1.0)]);
    refused("trials", |c| c.trials = 0);
    refused("trials", |c| c.trials = usize::MAX);
    refused("threads", |c| c.threads = Some(0));
}

fn small() -> CandidatesConfig {
    CandidatesConfig {
        eta: vec![0.05, 0.01, 0.003],
        ratio: vec![0.0, 0.5, 1.0, 5.0],
        trials: 40,
        ..CandidatesConfig::default()
    }
}

/// The number of candidates by definition: a sweep over the sorted intervals of all subset sums, in f64.
fn oracle(config: &CandidatesConfig, trial: usize, eta: f64, ratio: f64, size: SubsetSize) -> usize {
    let [from, to] = match config.criterion {
        Criterion::Every => [-0.5, 0.5],
        Criterion::One => {
            [f64::from(Stream::new(config.seed, Purpose::SubsetTarget, 0, trial).symmetric(0.5)); 2]
        }
    };
    let mut stream = Stream::new(config.seed, Purpose::Candidates, 0, trial);
    let mut sums = vec![[0.0, 0.0]];
    for n in 0.. {
        let mut intervals: Vec<[f64; 2]> = sums
            .iter()
            .filter(|[_, of]| size.of(n).allows(*of as usize))
            .map(|&[sum, size]| [sum - eta - ratio * eta * size, sum + eta + ratio * eta * size])
            .collect();
        intervals.sort_unstable_by(|a, b| a[0].total_cmp(&b[0]));
        let reach = intervals.iter().fold(from - 1e-12, |reach: f64, &[lower, upper]| {
            if lower <= reach.max(from) && upper >= from { reach.max(upper) } else { reach }
        });
        if reach >= to {
            return n;
        }
        let x = f64::from(stream.symmetric(1.0));
        let more: Vec<_> = sums.iter().map(|&[sum, size]| [sum + x, size + 1.0]).collect();
        sums.extend(more);
    }
    unreachable!()
}

#[test]
fn counts_are_those_of_the_definition() {
    for criterion in [Criterion::Every, Criterion::One] {
        let size = ["any", "4", "0.3"].map(|size| size.parse().unwrap()).to_vec();
        // Without the last η of `small`, at which subsets of a fixed size would need too many candidates.
        let config = CandidatesConfig { criterion, trials: 12, size, eta: vec![0.2, 0.1], ..small() };
        let found = required_candidates(&config, &NoProgress).unwrap();
        for needed in &found.needed {
            let mut expected: Vec<_> = (0..12)
                .map(|trial| Some(oracle(&config, trial, needed.eta, needed.ratio, needed.size)))
                .collect();
            expected.sort_unstable();
            assert_eq!(needed.counts, expected, "{criterion:?} {} {}", needed.eta, needed.ratio);
        }
    }
}

#[test]
fn threads_and_backends_do_not_matter_and_more_tolerance_never_costs() {
    for criterion in [Criterion::Every, Criterion::One] {
        let config = CandidatesConfig { criterion, ..small() };
        let first = required_candidates(&config, &NoProgress).unwrap().needed;
        for (&backend, threads) in Backend::available().iter().zip([3, 1, 2, 7]) {
            let config =
                CandidatesConfig { threads: Some(threads), backend: Some(backend), ..config.clone() };
            assert_eq!(required_candidates(&config, &NoProgress).unwrap().needed, first, "{backend}");
        }
        for (a, b) in first.iter().zip(&first[1..]).filter(|(a, b)| a.eta == b.eta) {
            assert!(a.counts.iter().zip(&b.counts).all(|(a, b)| a >= b));
        }
        for (a, b) in first.iter().zip(&first[4..]) {
            assert!(a.counts.iter().zip(&b.counts).all(|(a, b)| a <= b));
        }
    }
}

/// Reference counts come from exact enumeration in an independent program; each may differ by 1.
#[test]
fn counts_are_the_known_ones() {
    let known = [(1e-2, [13, 11, 7, 7]), (1e-3, [16, 13, 12, 11]), (1e-4, [20, 17, 16, 13])];
    let config = CandidatesConfig {
        eta: known.map(|(eta, _)| eta).to_vec(),
        ratio: vec![0.0, 1.0, 5.0, 10.0],
        ..CandidatesConfig::default()
    };
    let found = required_candidates(&config, &NoProgress).unwrap();
    let n90: Vec<usize> = found.needed.iter().map(|needed| needed.quantile(0.9).unwrap()).collect();
    let expected = known.iter().flat_map(|(_, counts)| counts);
    assert!(n90.iter().zip(expected).all(|(n, known)| n.abs_diff(*known) <= 1), "{n90:?}");
    let rows: Vec<&[usize]> = n90.chunks(4).collect();
    assert!(rows.iter().all(|row| row.windows(2).all(|pair| pair[0] >= pair[1])), "{n90:?}");
    assert!(rows.windows(2).all(|rows| (0..4).all(|i| rows[0][i] < rows[1][i])), "{n90:?}");
}

#[test]
fn quantiles_and_slopes() {
    let needed = |eta, counts: &[usize]| Needed {
        eta,
        ratio: 0.0,
        size: SubsetSize::Any,
        counts: counts.iter().map(|&n| Some(n)).collect(),
    };
    let ten = needed(1e-2, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert_eq!([0.5, 0.9, 0.91, 0.99].map(|q| ten.quantile(q)), [5, 9, 10, 10].map(Some));
    assert_eq!(needed(1e-2, &[7]).quantile(0.5), Some(7));
    assert_eq!(ten.paper(), Some(19));
    let mut found = required_candidates(&CandidatesConfig { trials: 1, ..small() }, &NoProgress).unwrap();
    found.needed = [(1e-2, 13), (1e-3, 16), (1e-4, 19)].map(|(eta, n)| needed(eta, &[n])).to_vec();
    assert!((found.slope_per_decade(0.0, false).unwrap() - 3.0).abs() < 1e-9);
    found.needed.truncate(1);
    assert_eq!(found.slope_per_decade(0.0, false), None);
}

#[test]
fn what_takes_too_many_is_told() {
    // `None` is a trial that 30 candidates did not suffice for; the search ends there.
    let needed = Needed { eta: 1e-6, ratio: 0.0, size: SubsetSize::Any, counts: vec![Some(30), None] };
    assert_eq!((needed.quantile(0.5), needed.quantile(0.9)), (Some(30), None));
}
