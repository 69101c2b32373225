use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::fixed::Fixed;
use super::*;
use crate::Backend;
use crate::Engine;

fn residual(candidates: &[f32], bits: u64, target: f32, epsilon: f32) -> f64 {
    let chosen = candidates.iter().enumerate().filter(|&(i, _)| bits >> i & 1 != 0);
    let (sum, size) = chosen.fold((0.0, 0.0), |(sum, size), (_, &x)| (sum + f64::from(x), size + 1.0));
    ((sum - f64::from(target)).abs() - f64::from(epsilon) * size).max(0.0)
}

/// The subsets of n candidates that `sizes` allows.
fn allowed(n: usize, sizes: Sizes) -> impl Iterator<Item = u64> {
    (0..1_u64 << n).filter(move |bits| sizes.allows(bits.count_ones() as usize))
}

/// The least residual of all allowed subsets, in f64.
fn oracle(candidates: &[f32], target: f32, epsilon: f32, sizes: Sizes) -> f64 {
    let all = allowed(candidates.len(), sizes);
    all.map(|bits| residual(candidates, bits, target, epsilon)).fold(f64::INFINITY, f64::min)
}

/// The definition: the least (residual, subset), in fixed point unless the target is beyond all sums.
fn fixed_oracle(candidates: &[f32], target: f32, epsilon: f32, sizes: Sizes) -> u64 {
    let all = || allowed(candidates.len(), sizes);
    let fixed = Fixed::new(candidates, epsilon);
    if fixed.is_beyond(target) {
        // Distances to the target or, if it is out of reach, to the farthest sum: no f64 resolves 0.5 beside 1e30.
        let below = target < 0.0 || target == 0.0 && candidates.iter().all(|&x| x >= 0.0);
        let reach = |&x: &f32| f64::from(x) * if below { -1.0 } else { 1.0 } + f64::from(epsilon);
        let chosen = |bits: u64| candidates.iter().enumerate().filter(move |&(i, _)| bits >> i & 1 != 0);
        let total = |bits: u64| chosen(bits).map(|(_, x)| reach(x)).sum::<f64>();
        let goal = all().map(total).fold(f64::MIN, f64::max).min(f64::from(target.abs()));
        let key = |bits: u64| (goal - total(bits)).max(0.0);
        return all().min_by(|&a, &b| key(a).total_cmp(&key(b)).then(a.cmp(&b))).unwrap();
    }
    let target = fixed.target(target);
    let key = |bits: u64| {
        let chosen = fixed.candidates.iter().enumerate().filter(|&(i, _)| bits >> i & 1 != 0);
        let sum: i64 = chosen.map(|(_, x)| x).sum();
        ((sum - target).abs() - fixed.epsilon * i64::from(bits.count_ones())).max(0)
    };
    all().min_by_key(|&bits| (key(bits), bits)).unwrap()
}

fn methods(epsilon: f32, sizes: Sizes) -> Vec<Method> {
    let mut methods = vec![Method::Auto, Method::BruteForce, Method::MeetInTheMiddle];
    if epsilon == 0.0 && sizes == Sizes::Any {
        methods.push(Method::Bitonic);
    }
    methods
}

/// Checks that every method on every backend finds the subset of the definition, and that its residual is optimal within the
/// bound and the rounding of f64. Runs without a restriction of sizes, and with two that depend on `n`.
fn check(candidates: &[f32], targets: &[f32], epsilon: f32) {
    let n = candidates.len();
    for sizes in [Sizes::Any, Sizes::Exactly((targets.len() + n) % (n + 1)), Sizes::AtMost(n / 3)] {
        check_sizes(candidates, targets, epsilon, sizes);
    }
}

fn check_sizes(candidates: &[f32], targets: &[f32], epsilon: f32, sizes: Sizes) {
    let n = candidates.len();
    let total: f64 = candidates.iter().map(|x| f64::from(x.abs())).sum();
    let most =
        targets.iter().map(|z| f64::from(z.abs())).fold(total + n as f64 * f64::from(epsilon), f64::max);
    let bound = total / f64::from(1 << 23) + 1e-15 * most;
    let expected: Vec<u64> = targets.iter().map(|&z| fixed_oracle(candidates, z, epsilon, sizes)).collect();
    let repeated = candidates.repeat(targets.len());
    for backend in Backend::available() {
        for method in methods(epsilon, sizes) {
            let engine = Engine::new(backend);
            let search = Search { epsilon, sizes, method };
            let mut out = vec![Subset::default(); targets.len()];
            search.nearest_many(engine, candidates, targets, &mut out).unwrap();
            for ((found, &expected), &target) in out.iter().zip(&expected).zip(targets) {
                let what = || format!("{backend} {search:?} {candidates:?} {target}");
                assert_eq!(found.bits, expected, "{}", what());
                assert!(sizes.allows(found.size() as usize), "{}", what());
                assert_eq!(found.residual, residual(candidates, found.bits, target, epsilon));
                assert!(found.residual <= oracle(candidates, target, epsilon, sizes) + bound, "{}", what());
            }
            assert_eq!(search.nearest(engine, candidates, targets[0]).unwrap(), out[0]);
            let mut each = vec![Subset::default(); targets.len()];
            search.nearest_each(engine, &repeated, n, targets, &mut each).unwrap();
            assert_eq!(out, each);
        }
    }
}

/// Every size of subsets for larger n, by brute force and meet in the middle, against the f64 optimum. Brute force
/// collects rows of one size before it searches them together.
#[test]
fn every_size_of_larger_sets() {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(13);
    let mut instances = 0;
    for n in [11, 13, 14, 17] {
        let candidates: Vec<f32> = (0..n).map(|_| random.random_range(-1.0..1.0)).collect();
        // Of the four targets two are far from 0; the last may be beyond all sums.
        let targets: Vec<f32> = [0.8, 1.0, 2.5, 30.0].map(|z| z * random.random_range(-1.0..1.0)).to_vec();
        for size in 0..=n {
            for epsilon in [0.0, 1e-4, 0.05] {
                for sizes in [Sizes::Exactly(size), Sizes::AtMost(size)] {
                    let optima: Vec<f64> =
                        targets.iter().map(|&z| oracle(&candidates, z, epsilon, sizes)).collect();
                    let mut first: Option<Vec<Subset>> = None;
                    for backend in Backend::available() {
                        for method in [Method::Auto, Method::BruteForce, Method::MeetInTheMiddle] {
                            let mut found = vec![Subset::default(); targets.len()];
                            let search = Search { epsilon, sizes, method };
                            search
                                .nearest_many(Engine::new(backend), &candidates, &targets, &mut found)
                                .unwrap();
                            let first = first.get_or_insert_with(|| found.clone());
                            assert_eq!(&found, first, "n = {n} {backend} {search:?}");
                        }
                    }
                    for (found, least) in first.unwrap_or_default().iter().zip(optima) {
                        assert!(sizes.allows(found.size() as usize), "{sizes:?} {found:?}");
                        assert!(found.residual <= least + 1e-6, "n = {n} {sizes:?}: {found:?} for {least}");
                        instances += 1;
                    }
                }
            }
        }
    }
    eprintln!("{instances} instances on {:?}", Backend::available());
}

#[test]
fn small_sets_match_the_definition() {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
    for trial in 0..150 {
        let n = 1 + trial % 12;
        let scale = [1.0, 1e-20, 1e20, 0.01][trial / 12 % 4];
        let candidates: Vec<f32> = (0..n).map(|_| scale * random.random_range(-1.0..1.0)).collect();
        let targets: Vec<f32> = (0..5).map(|_| scale * random.random_range(-2.0..2.0)).collect();
        for epsilon in [0.0, 1e-5 * scale, 0.02 * scale, 3.0 * scale] {
            check(&candidates, &targets, epsilon);
        }
    }
}

#[test]
fn degenerate_sets_match_the_definition() {
    let targets = [0.0, 0.5, -0.5, 0.25, 1.0, 7.0, -7.0, 1e30, -1e30, 1e-30];
    for n in [1, 2, 3, 7, 11, 13] {
        for pattern in [[0.0, 0.0], [0.5, 0.5], [-0.5, 0.5], [0.25, 0.0], [0.5, 1.0], [-1.0, -1.0]] {
            let candidates: Vec<f32> = (0..n).map(|i| pattern[i % 2]).collect();
            for epsilon in [0.0, 0.125, 1e-3] {
                check(&candidates, &targets, epsilon);
            }
        }
    }
}

/// Candidate 12 equals the sum of candidates 10 and 11. The search by sizes finds {12} first, but {10, 11} is the lesser subset.
#[test]
fn a_larger_subset_wins_a_tie() {
    let mut candidates = [0.45; 13];
    candidates[10..].copy_from_slice(&[0.125, 0.0625, 0.1875]);
    check_sizes(&candidates, &[0.1875, 0.203_125], 0.0, Sizes::AtMost(2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Subset sums of small integers tie often.
    #[test]
    fn ties_go_to_the_least_subset(
        candidates in prop::collection::vec(-4_i8..=4, 1..14),
        targets in prop::collection::vec(-40_i8..=40, 1..20),
        epsilon in 0_u8..3,
    ) {
        let candidates: Vec<f32> = candidates.into_iter().map(f32::from).collect();
        let targets: Vec<f32> = targets.into_iter().map(|z| f32::from(z) / 2.0).collect();
        check(&candidates, &targets, f32::from(epsilon) / 8.0);
    }
}

/// Thousands of larger instances: all methods and backends agree; a few instances are compared with the oracle.
#[test]
fn large_sets_agree() {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(3);
    for n in [14, 16, 17, 18, 19, 20, 21, 22, 23, 24] {
        let count = if n <= 18 { 301 } else { 37 };
        let candidates: Vec<f32> = (0..n * count).map(|_| random.random_range(-1.0..1.0)).collect();
        let targets: Vec<f32> = (0..count).map(|_| random.random_range(-1.0..1.0)).collect();
        for epsilon in [0.0, 1e-7, 1e-4] {
            let mut expected = vec![Subset::default(); count];
            let search = Search { epsilon, method: Method::MeetInTheMiddle, ..Search::default() };
            search
                .nearest_each(Engine::new(Backend::scalar()), &candidates, n, &targets, &mut expected)
                .unwrap();
            for i in 0..if n <= 17 { 9 } else { 1 } {
                let row = &candidates[i * n..][..n];
                let bound = row.iter().map(|x| f64::from(x.abs())).sum::<f64>() / f64::from(1 << 22);
                assert!(expected[i].residual <= oracle(row, targets[i], epsilon, Sizes::Any) + bound);
            }
            for backend in Backend::available() {
                for method in methods(epsilon, Sizes::Any) {
                    let few = if method == Method::BruteForce || n > 20 { 5 } else { count };
                    let mut found = vec![Subset::default(); few];
                    let search = Search { epsilon, method, ..Search::default() };
                    search
                        .nearest_each(
                            Engine::new(backend),
                            &candidates[..n * few],
                            n,
                            &targets[..few],
                            &mut found,
                        )
                        .unwrap();
                    assert_eq!(found, expected[..few], "n = {n} {backend} {method:?} epsilon {epsilon}");
                    let mut many = vec![Subset::default(); 5];
                    search
                        .nearest_many(Engine::new(backend), &candidates[..n], &targets[..5], &mut many)
                        .unwrap();
                    assert_eq!(many[0], expected[0], "n = {n} {backend} {method:?} epsilon {epsilon}");
                    let single = search.nearest(Engine::new(backend), &candidates[..n], targets[4]);
                    assert_eq!(single.unwrap(), many[4]);
                }
            }
        }
    }
}

#[test]
fn the_largest_sets() {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(5);
    let engine = Engine::new(Backend::best());
    for n in [26, 27, 30, 31, 36] {
        let candidates: Vec<f32> = (0..n).map(|_| random.random_range(-1.0..1.0)).collect();
        for epsilon in [0.0, 1e-9, 1e-6] {
            let search = Search { epsilon, method: Method::MeetInTheMiddle, ..Search::default() };
            let found = search.nearest(engine, &candidates, 0.3).unwrap();
            assert!(found.residual < 1e-6);
            assert_eq!(
                found,
                Search { epsilon, ..Search::default() }.nearest(engine, &candidates, 0.3).unwrap()
            );
            if epsilon == 0.0 && n <= 30 {
                let bitonic = Search { epsilon, method: Method::Bitonic, ..Search::default() };
                let mut each = [Subset::default()];
                bitonic.nearest_each(engine, &candidates, n, &[0.3], &mut each).unwrap();
                assert_eq!(found, each[0]);
            }
            if n <= 27 {
                let brute = Search { epsilon, method: Method::BruteForce, ..Search::default() };
                assert_eq!(found, brute.nearest(engine, &candidates, 0.3).unwrap());
            }
        }
    }
}

/// The least residual in f64: each subset of the first half, combined with the nearest subsets of each size of the second.
fn least_residual(candidates: &[f32], target: f32, epsilon: f32) -> f64 {
    let (low, high) = candidates.split_at(candidates.len() / 2);
    let subsets = |half: &[f32]| {
        let mut all = vec![(0.0_f64, 0_usize)];
        for &x in half {
            all.extend_from_within(..);
            let with = all.len() / 2;
            all[with..].iter_mut().for_each(|(sum, size)| (*sum, *size) = (*sum + f64::from(x), *size + 1));
        }
        all
    };
    let mut by_size = vec![Vec::new(); high.len() + 1];
    subsets(high).into_iter().for_each(|(sum, size)| by_size[size].push(sum));
    by_size.iter_mut().for_each(|sums| sums.sort_unstable_by(f64::total_cmp));
    let mut least = f64::MAX;
    for (sum, size) in subsets(low) {
        let rest = f64::from(target) - sum;
        for (more, sums) in by_size.iter().enumerate() {
            let above = sums.partition_point(|&x| x < rest);
            let near = &sums[above.saturating_sub(1)..(above + 1).min(sums.len())];
            let distance = near.iter().map(|x| (x - rest).abs()).fold(f64::MAX, f64::min);
            least = least.min((distance - f64::from(epsilon) * (size + more) as f64).max(0.0));
        }
    }
    least
}

#[test]
fn more_candidates_than_brute_force_takes() {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(6);
    for n in [31, 32] {
        let mut candidates: Vec<f32> = (0..n).map(|_| random.random_range(-1.0..1.0)).collect();
        (candidates[3], candidates[20], candidates[25]) = (candidates[2], 0.0, candidates[2]);
        let total: f64 = candidates.iter().map(|x| f64::from(x.abs())).sum();
        for epsilon in [0.0, 1e-6, 0.1, 1e6] {
            for target in [0.3, -3.0, 100.0, -1e6] {
                let search = Search { epsilon, ..Search::default() };
                let found = search.nearest(Engine::new(Backend::best()), &candidates, target).unwrap();
                let least = least_residual(&candidates, target, epsilon);
                let bound = total / f64::from(1 << 22) + 1e-9 * f64::from(epsilon);
                assert!(found.residual <= least + bound, "{n} {epsilon} {target}: {found:?} for {least}");
            }
        }
    }
}

#[test]
fn threads_do_not_matter() {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(9);
    let (n, count) = (18, 211);
    let candidates: Vec<f32> = (0..n * count).map(|_| random.random_range(-1.0..1.0)).collect();
    let targets: Vec<f32> = (0..count).map(|_| random.random_range(-1.0..1.0)).collect();
    let large: Vec<f32> = (0..25).map(|_| random.random_range(-1.0..1.0)).collect();
    for epsilon in [0.0, 1e-6] {
        let run = |engine: Engine| {
            let mut out = vec![Subset::default(); 2 * count + 1];
            let search = Search { epsilon, ..Search::default() };
            search.nearest_each(engine, &candidates, n, &targets, &mut out[..count]).unwrap();
            search.nearest_many(engine, &candidates[..n], &targets, &mut out[count..2 * count]).unwrap();
            let brute = Search { epsilon, method: Method::BruteForce, ..Search::default() };
            out[2 * count] = brute.nearest(engine, &large, 0.1).unwrap();
            for sizes in [Sizes::Exactly(9), Sizes::AtMost(8)] {
                out.push(Search { sizes, ..brute }.nearest(engine, &large, 0.1).unwrap());
            }
            out
        };
        let expected = run(Engine::new(Backend::best()));
        for threads in [1, 2, 3, 7] {
            assert_eq!(run(Engine::new(Backend::best()).with_threads(threads)), expected);
        }
    }
}

/// Denormals are not flushed, whatever modes the calling thread and its helpers have set.
#[test]
#[cfg(target_arch = "x86_64")]
fn the_float_environment_of_the_host_changes_nothing() {
    use crate::arch::float_env::{HOSTS, with_bits_of_host};
    let mut random = Xoshiro256PlusPlus::seed_from_u64(12);
    let (n, count) = (18, 120);
    let mut drawn = |len: usize, scale: f32| -> Vec<f32> {
        (0..len).map(|_| scale * random.random_range(-1.0..1.0)).collect()
    };
    // At the second scale all numbers are denormal.
    for scale in [1.0, 1e-39] {
        let candidates = drawn(n * count, scale);
        let mut targets = drawn(count, scale);
        // These targets are beyond all sums.
        targets.iter_mut().step_by(8).for_each(|z| *z *= 40.0);
        let large = drawn(23, scale);
        let run = |engine: Engine, epsilon: f32, method: Method| {
            let mut out = vec![Subset::default(); 2 * count + 1];
            let search = Search { epsilon, method, ..Search::default() };
            search.nearest_each(engine, &candidates, n, &targets, &mut out[..count]).unwrap();
            search.nearest_many(engine, &candidates[..n], &targets, &mut out[count..2 * count]).unwrap();
            let brute = Search { epsilon, method: Method::BruteForce, ..Search::default() };
            out[2 * count] = brute.nearest(engine, &large, targets[0]).unwrap();
            let sum = out[1].sum(&candidates[n..]).to_bits();
            let (mut all, mut sizes) = ([0.0; 1 << 10], [0; 1 << 10]);
            sums(&candidates[..10], &mut all, &mut sizes).unwrap();
            let negative =
                Search { epsilon: -1e-40, method, ..Search::default() }.nearest(engine, &large, 0.0);
            let found: Vec<_> = out.iter().map(|subset| (subset.bits, subset.residual.to_bits())).collect();
            (found, sum, all.map(f32::to_bits), negative)
        };
        let cover = |engine: Engine| {
            let mut coverage = Coverage::new(-0.3, 0.7, 1e-40, 0.003).unwrap();
            let mut gaps = Vec::new();
            for &x in &candidates[..12] {
                coverage.push(engine, x).unwrap();
                gaps.push(coverage.first_gap().map(|gap| [gap.start.to_bits(), gap.end.to_bits()]));
            }
            (gaps, Coverage::new(-0.3, 0.7, -1e-40, 0.003).map(|_| ()))
        };
        for (epsilon, method) in [
            (0.0, Method::Auto),
            (0.0, Method::MeetInTheMiddle),
            (1e-40, Method::Auto),
            (1e-6 * scale, Method::Auto),
            (0.3 * scale, Method::MeetInTheMiddle),
        ] {
            let engine = Engine::new(Backend::best());
            let expected = (run(engine, epsilon, method), cover(engine));
            assert_eq!(expected.0.3, Err(KernelError::out_of_range("epsilon", "at least 0", -1e-40_f32)));
            for bits in HOSTS {
                for threads in [1, 2, 3] {
                    let engine = engine.with_threads(threads);
                    let found = with_bits_of_host(bits, || (run(engine, epsilon, method), cover(engine)));
                    assert!(
                        found == expected,
                        "{scale:e} {epsilon:e} {method:?} {threads} threads, {bits:#x}"
                    );
                }
            }
        }
    }
}

#[test]
fn hostile_input() {
    let engine = Engine::new(Backend::best());
    let search = Search::default();
    let fail =
        |search: Search, candidates: &[f32], target| search.nearest(engine, candidates, target).unwrap_err();
    assert_eq!(fail(search, &[], 0.0), KernelError::NoCandidates);
    assert_eq!(fail(search, &[0.0; 49], 0.0), KernelError::TooManyCandidates { found: 49, limit: 48 });
    let brute = Search { method: Method::BruteForce, ..search };
    assert_eq!(fail(brute, &[0.0; 31], 0.0), KernelError::TooManyCandidates { found: 31, limit: 30 });
    let bitonic = Search { method: Method::Bitonic, ..search };
    assert_eq!(fail(bitonic, &[0.0; 31], 0.0), KernelError::NotByBitonic);
    assert_eq!(fail(Search { epsilon: 0.1, ..bitonic }, &[0.0], 0.0), KernelError::NotByBitonic);
    let sized = |sizes| Search { sizes, ..search };
    let text = fail(sized(Sizes::Exactly(4)), &[0.0; 3], 0.0).to_string();
    assert_eq!(text, "sizes must be at most the number of candidates, found 4");
    assert_eq!(sized(Sizes::AtMost(usize::MAX)).nearest(engine, &[0.5], 0.4).map(|found| found.bits), Ok(1));
    assert_eq!(sized(Sizes::AtMost(0)).nearest(engine, &[0.5], 0.4).map(|found| found.bits), Ok(0));
    assert_eq!(
        fail(Search { sizes: Sizes::AtMost(1), ..bitonic }, &[0.0; 3], 0.0),
        KernelError::NotByBitonic
    );
    let not_finite = |what, index| KernelError::NotFinite { what, index };
    assert_eq!(fail(search, &[0.0, f32::NAN], 0.0), not_finite("candidate", 1));
    assert_eq!(fail(search, &[0.0], f32::INFINITY), not_finite("target", 0));
    assert_eq!(fail(Search { epsilon: f32::NAN, ..search }, &[0.0], 0.0), not_finite("epsilon", 0));
    let text = fail(Search { epsilon: -1.0, ..search }, &[0.0], 0.0).to_string();
    assert_eq!(text, "epsilon must be at least 0, found -1");
    let mut out = [Subset { bits: 5, residual: 1.0 }; 2];
    assert!(matches!(
        search.nearest_each(engine, &[0.0; 5], 3, &[0.0; 2], &mut out),
        Err(KernelError::Length { .. })
    ));
    assert!(search.nearest_many(engine, &[0.0; 5], &[0.0; 3], &mut out).is_err());
    assert_eq!(out, [Subset { bits: 5, residual: 1.0 }; 2]);
    assert_eq!(search.nearest_each(engine, &[], 3, &[], &mut []), Ok(()));
    assert!(sums(&[0.0; 3], &mut [0.0; 7], &mut [0; 8]).is_err());
    assert!(sums(&[f32::NAN], &mut [0.0; 2], &mut [0; 2]).is_err());
}

#[test]
fn sums_and_sizes() {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(2);
    for n in [0, 1, 5, 11] {
        let candidates: Vec<f32> = (0..n).map(|_| random.random_range(-1.0..1.0)).collect();
        let (mut all, mut sizes) = (vec![9.0; 1 << n], vec![9; 1 << n]);
        sums(&candidates, &mut all, &mut sizes).unwrap();
        for (subset, (&sum, &size)) in all.iter().zip(&sizes).enumerate() {
            let chosen = (0..n).filter(|i| subset >> i & 1 != 0).map(|i| candidates[i]);
            assert_eq!(sum, chosen.fold(0.0, |a, b| a + b));
            assert_eq!(u32::from(size), subset.count_ones());
        }
    }
}
