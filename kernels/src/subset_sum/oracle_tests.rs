//! Every backend and method against the definition in f64: all 2ⁿ subsets of thousands of random instances with n ≤ 20.
//!
//! `SLTH_TEST_LONG=1` runs 2,000 instances of every n, instead of a few for large n; this takes minutes.

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::{Method, Search, Sizes, Subset};
use crate::{Backend, Engine};

/// The least residual for each ε: all subset sums in f64 with their sizes, built up one candidate at a time.
fn optima<const E: usize>(candidates: &[f32], target: f32, epsilons: [f32; E]) -> [f64; E] {
    let mut sums = Vec::with_capacity(1 << candidates.len());
    let mut sizes = Vec::with_capacity(1 << candidates.len());
    sums.push(0.0);
    sizes.push(0.0);
    for &x in candidates {
        for i in 0..sums.len() {
            sums.push(sums[i] + f64::from(x));
            sizes.push(sizes[i] + 1.0);
        }
    }
    let mut least = [f64::INFINITY; E];
    for (sum, size) in sums.iter().zip(&sizes) {
        let distance = (sum - f64::from(target)).abs();
        for (least, epsilon) in least.iter_mut().zip(epsilons) {
            let residual = (distance - f64::from(epsilon) * size).max(0.0);
            *least = if residual < *least { residual } else { *least };
        }
    }
    least
}

/// Checks that all backends and methods agree, within 2⁻²² · max(1, Σ|x|) of the optimum.
fn check<const E: usize>(candidates: &[f32], n: usize, targets: &[f32], epsilons: [f32; E]) {
    let rows = || candidates.chunks_exact(n).zip(targets);
    let optima: Vec<_> = rows().map(|(row, &target)| optima(row, target, epsilons)).collect();
    for (e, epsilon) in epsilons.into_iter().enumerate() {
        let mut first: Option<Vec<Subset>> = None;
        for backend in Backend::available() {
            for method in [Method::Auto, Method::BruteForce, Method::MeetInTheMiddle, Method::Bitonic] {
                if method == Method::Bitonic && epsilon > 0.0 {
                    continue;
                }
                // Scalar brute force is too slow here; other tests cover its agreement.
                if method == Method::BruteForce && backend == Backend::scalar() && n > 16 {
                    continue;
                }
                let engine = Engine::new(backend);
                let mut found = vec![Subset::default(); targets.len()];
                Search { epsilon, method, ..Search::default() }
                    .nearest_each(engine, candidates, n, targets, &mut found)
                    .unwrap();
                for (((row, &target), optima), found) in rows().zip(&optima).zip(&found) {
                    let sum: f64 = (0..n).filter(|&i| found.contains(i)).map(|i| f64::from(row[i])).sum();
                    let residual =
                        (sum - f64::from(target)).abs() - f64::from(epsilon) * f64::from(found.size());
                    let total: f64 = row.iter().map(|x| f64::from(x.abs())).sum();
                    let bound = f64::max(1.0, total) / f64::from(1 << 22);
                    let rounding = 1e-12
                        * total.max(1.0).max(f64::from(epsilon) * n as f64).max(f64::from(target.abs()));
                    let what = || format!("{backend} {method:?} {row:?} z = {target} ε = {epsilon}");
                    assert!((residual.max(0.0) - found.residual).abs() <= rounding, "{}", what());
                    assert!(found.residual <= optima[e] + bound, "{} optimum {}", what(), optima[e]);
                    assert!(found.residual >= optima[e] - rounding, "{}", what());
                }
                match &first {
                    Some(first) => assert_eq!(&found, first, "{backend} {method:?}"),
                    None => first = Some(found),
                }
            }
        }
    }
}

/// Sums of seven of these candidates differ by rounding with their order. Even so, the fifth must not replace the first.
#[test]
fn a_candidate_that_adds_less_than_another_takes_no_place() {
    let candidates = [-3e7, 0.0, 0.0, 0.0, 0.960_267_96, 1e-6, 0.0, 1e-6];
    let search = Search { epsilon: 1.0, sizes: Sizes::AtMost(7), ..Search::default() };
    for backend in Backend::available() {
        let found = search.nearest(Engine::new(backend), &candidates, -1e9).unwrap();
        assert_eq!((found.bits, found.residual), (0b1110_1111, 969_999_993.000_002), "{backend}");
    }
}

#[test]
fn an_epsilon_beyond_all_candidates_is_exact() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(8);
    for n in [1, 2, 7, 12, 20] {
        let candidates: Vec<f32> = (0..n * 6).map(|_| rng.random_range(-1.0..1.0)).collect();
        let mut targets: Vec<f32> = (0..6).map(|_| rng.random_range(-1.0..1.0)).collect();
        targets[0] = 0.0;
        check(&candidates, n, &targets, [2.0, 8.0, 64.0, 1e6, f32::MAX]);
        let engine = Engine::new(Backend::best());
        let mut found = vec![Subset::default(); 6];
        let search = Search { epsilon: 1e6, ..Search::default() };
        search.nearest_many(engine, &candidates[..n], &targets, &mut found).unwrap();
        assert!(found.iter().zip(&targets).all(|(s, &z)| s.residual == 0.0 && s.bits == u64::from(z != 0.0)));
    }
}

#[test]
fn random_instances() {
    let long = std::env::var_os("SLTH_TEST_LONG").is_some();
    let mut random = Xoshiro256PlusPlus::seed_from_u64(11);
    let mut instances = 0;
    for n in 1..=20 {
        let count = match n {
            _ if long => 2000,
            ..=14 => 200,
            15..=16 => 48,
            17..=18 => 16,
            _ => 5,
        };
        let candidates: Vec<f32> = (0..n * count).map(|_| random.random_range(-1.0..1.0)).collect();
        let targets: Vec<f32> = (0..count).map(|_| random.random_range(-1.0..1.0)).collect();
        check(&candidates, n, &targets, [0.0, 1e-6, 1e-4, 0.01, 0.3]);
        instances += 5 * count;
    }
    let backends = Backend::available();
    eprintln!("{instances} instances on {backends:?}");
}

/// A candidate from a few values, so that many are equal, zero, opposite, or far larger than the others.
fn candidate() -> impl Strategy<Value = f32> {
    prop_oneof![
        Just(0.0),
        Just(-0.0),
        Just(0.5),
        Just(-0.5),
        Just(0.25),
        Just(1e-30),
        -1.0_f32..1.0,
        (-8_i8..=8).prop_map(|x| f32::from(x) / 8.0),
        -40.0_f32..40.0,
    ]
}

/// ε far above the candidates, and a target that hardly any subset reaches.
#[test]
fn a_far_target_and_a_large_epsilon() {
    let epsilon = 0.999_999_94_f32;
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(10);
    for trial in 0..if std::env::var_os("SLTH_TEST_LONG").is_some() { 1000 } else { 8 } {
        // All 20 candidates are needed. Subsets without one of them differ only by the rounding of ε or of their sum.
        let unit = [1.0 / f32::powi(2.0, 24), 1.0 / f32::powi(2.0, 22), 1e-6, 3e-8][trial % 4];
        let mut candidates = vec![0.51 * unit; 19];
        candidates.push(10.0 * unit - epsilon);
        if trial >= 4 {
            candidates.iter_mut().for_each(|x| *x += rng.random_range(-unit..unit));
        }
        check(&candidates, 20, &[19.0], [epsilon]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// ε may be so large that 2nε exceeds Σ|x|; targets lie anywhere within reach and slightly beyond.
    #[test]
    fn large_epsilons(
        candidates in prop::collection::vec(prop_oneof![candidate(), -1e-3_f32..1e-3], 1..=12),
        place in -1.1_f32..1.1,
        epsilon in prop_oneof![0.05_f32..2.0, 2.0_f32..1e4, Just(0.999_999_94_f32)],
    ) {
        let reach: f32 = candidates.iter().map(|x| x.abs() + epsilon).sum();
        check(&candidates, candidates.len(), &[place * reach], [epsilon]);
    }

    /// Ties, equal candidates, zeros and targets out of reach.
    #[test]
    fn awkward_instances(
        candidates in prop::collection::vec(candidate(), 1..=12),
        target in prop_oneof![-2.0_f32..2.0, candidate(), Just(1e3_f32), Just(-1e6_f32)],
        epsilon in prop_oneof![Just(0.0_f32), Just(0.125), Just(1.0), 0.0_f32..0.1],
    ) {
        check(&candidates, candidates.len(), &[target], [0.0, epsilon]);
    }

    /// All candidates are equal.
    #[test]
    fn equal_candidates(x in candidate(), n in 1_usize..=14, target in -20.0_f32..20.0, epsilon in 0.0_f32..0.2) {
        check(&vec![x; n], n, &[target], [0.0, epsilon]);
    }
}
