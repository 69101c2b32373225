//! Nearest subsets.

use proptest::prelude::*;
use slth_kernels::subset_sum::{Coverage, Method, Search, Sizes, Subset, sums};
use slth_kernels::{Backend, Engine};

use crate::support::{Guarded, assert_same, cases, everywhere, offset};

/// The sum of the chosen candidates in order of their indices, and their number.
fn sum_of(candidates: &[f32], bits: u64) -> (f64, f64) {
    let chosen = candidates.iter().enumerate().filter(|&(i, _)| bits >> i & 1 != 0);
    chosen.fold((0.0, 0.0), |(sum, size), (_, &x)| (sum + f64::from(x), size + 1.0))
}

fn residual(candidates: &[f32], bits: u64, target: f32, epsilon: f32) -> f64 {
    let (sum, size) = sum_of(candidates, bits);
    ((sum - f64::from(target)).abs() - f64::from(epsilon) * size).max(0.0)
}

/// The subsets of n candidates that `sizes` allows.
fn allowed(n: usize, sizes: Sizes) -> impl Iterator<Item = u64> {
    (0..1_u64 << n).filter(move |bits| sizes.allows(bits.count_ones() as usize))
}

/// The module's definition for n ≤ 30: the least (residual, subset) among all allowed subsets of the rounded problem. A target
/// beyond all sums is not rounded; several subsets may then be best up to rounding in f64. In this case the scalar backend
/// gives the answer, after a check that its residual is optimal.
fn oracle(candidates: &[f32], target: f32, epsilon: f32, sizes: Sizes) -> Subset {
    let n = candidates.len();
    let ends = candidates
        .iter()
        .map(|&x| f64::from(x))
        .fold([0.0, 0.0], |ends: [f64; 2], x| [ends[0] + x.min(0.0), ends[1] + x.max(0.0)]);
    let width = ends[1] - ends[0];
    if f64::from(target) <= ends[0] || f64::from(target) >= ends[1] {
        let search = Search { epsilon, sizes, ..Search::default() };
        let found = search.nearest(Engine::new(Backend::scalar()), candidates, target).unwrap();
        let least = allowed(n, sizes)
            .map(|bits| residual(candidates, bits, target, epsilon))
            .fold(f64::MAX, f64::min);
        let scale = f64::from(target).abs() + width + n as f64 * f64::from(epsilon);
        assert!(found.residual <= least + 1e-14 * scale, "{found:?} for {least}");
        return found;
    }
    // The smallest power of two, from 2⁻²⁰⁰ on, in which the sums and their rounding take at most 30 bits.
    let mut unit = 2.0_f64.powi(-200);
    while width * (1.0 + 1.0 / 1_048_576.0) >= unit * f64::from(1 << 30) {
        unit *= 2.0;
    }
    let round = |x: f64| (x / unit).round_ties_even();
    let (xs, step): (Vec<f64>, f64) =
        (candidates.iter().map(|&x| round(f64::from(x))).collect(), round(f64::from(epsilon).min(width)));
    let aim = round(f64::from(target));
    let rounded = |bits: u64| {
        let chosen = (0..n).filter(|i| bits >> i & 1 != 0);
        let (sum, size) = chosen.fold((0.0, 0.0), |(sum, size), i| (sum + xs[i], size + 1.0));
        ((sum - aim).abs() - step * size).max(0.0)
    };
    let bits = allowed(n, sizes).min_by(|&a, &b| rounded(a).total_cmp(&rounded(b)).then(a.cmp(&b))).unwrap();
    Subset { bits, residual: residual(candidates, bits, target, epsilon) }
}

/// Candidates, some of which tie, cancel, or vanish beside others.
fn candidate() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => -1.0_f32..1.0,
        2 => (-8_i8..=8).prop_map(|x| f32::from(x) / 8.0),
        1 => prop::sample::select(vec![0.0, -0.0, 1e-30, 1e-6, 40.0, -3e7]),
    ]
}

fn target() -> impl Strategy<Value = f32> {
    prop_oneof![4 => -2.0_f32..2.0, 1 => candidate(), 1 => prop::sample::select(vec![1e9, -1e9, f32::MAX])]
}

fn epsilon() -> impl Strategy<Value = f32> {
    prop_oneof![
        3 => Just(0.0_f32),
        3 => 0.0_f32..0.01,
        2 => prop::sample::select(vec![1e-7, 1e-4, 0.125, 1.0, 50.0, 1e9]),
    ]
}

fn sizes() -> impl Strategy<Value = Sizes> {
    prop_oneof![
        2 => Just(Sizes::Any),
        1 => (0..14_usize).prop_map(Sizes::AtMost),
        1 => (0..=12_usize).prop_map(Sizes::Exactly),
    ]
}

/// Whether every target is met, by a sweep over the sorted intervals in the module's units.
fn covered(candidates: &[f32], [from, to, epsilon, eta]: [f32; 4], sizes: Sizes) -> bool {
    let units = |x: f32| (f64::from(x) * f64::from(1 << 25)).round_ties_even() as i64;
    let interval = |bits: u64| {
        let chosen = candidates.iter().enumerate().filter(move |&(i, _)| bits >> i & 1 != 0);
        let (sum, size) = chosen.fold((0, 0), |(sum, size), (_, &x)| (sum + units(x), size + 1));
        let half = size * units(epsilon) + units(eta);
        [sum - half, sum + half]
    };
    let mut intervals: Vec<[i64; 2]> = allowed(candidates.len(), sizes).map(interval).collect();
    intervals.sort_unstable();
    // All targets from `from` up to here are met; `None` until the first is.
    let mut reach = None;
    for [lower, upper] in intervals {
        if lower <= reach.unwrap_or(units(from)) && upper >= units(from) {
            reach = reach.max(Some(upper));
        }
    }
    reach.is_some_and(|reach| reach >= units(to))
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn nearest_subsets(
        candidates in prop::collection::vec(candidate(), 1..=12),
        targets in prop::collection::vec(target(), 1..24),
        epsilon in epsilon(),
        sizes in sizes(),
        offsets in [offset(), offset(), offset()],
    ) {
        let n = candidates.len();
        let sizes = if let Sizes::Exactly(size) = sizes { Sizes::Exactly(size.min(n)) } else { sizes };
        let scale = |i: usize| if i % 3 == 1 { 0.5 } else { 1.0 };
        let each: Vec<f32> = (0..targets.len() * n).map(|at| candidates[at % n] * scale(at / n)).collect();
        let expected: Vec<_> = targets.iter().map(|&z| oracle(&candidates, z, epsilon, sizes)).collect();
        let own: Vec<_> =
            each.chunks(n).zip(&targets).map(|(candidates, &z)| oracle(candidates, z, epsilon, sizes)).collect();
        let (candidates, each) = (Guarded::of(&candidates, offsets[0]), Guarded::of(&each, offsets[0]));
        let targets = Guarded::of(&targets, offsets[1]);
        let check = |engine: Engine, method: Method| {
            let search = Search { epsilon, sizes, method };
            let mut found = Guarded::unset(targets.len(), offsets[2]);
            search.nearest_many(engine, &candidates, &targets, &mut found).unwrap();
            assert_eq!(found[..], expected, "{engine:?} {method:?}");
            assert_eq!(search.nearest(engine, &candidates, targets[0]).as_ref(), Ok(&expected[0]));
            let mut found = Guarded::unset(targets.len(), offsets[2]);
            search.nearest_each(engine, &each, n, &targets, &mut found).unwrap();
            assert_eq!(found[..], own, "{engine:?} {method:?}");
        };
        everywhere(|engine| {
            check(engine, Method::Auto);
            check(engine, Method::BruteForce);
            check(engine, Method::MeetInTheMiddle);
            if epsilon == 0.0 && sizes == Sizes::Any {
                check(engine, Method::Bitonic);
            }
        });
        for subset in expected {
            let (sum, size) = sum_of(&candidates, subset.bits);
            prop_assert_eq!(subset.sum(&candidates), sum);
            prop_assert_eq!(f64::from(subset.size()), size);
            prop_assert!((0..70).all(|i| subset.contains(i) == (i < 64 && subset.bits >> i & 1 != 0)));
        }
    }

    #[test]
    fn coverage(
        candidates in prop::collection::vec(-1.0_f32..1.0, 0..=11),
        [from, width] in [-0.6_f32..0.6, 0.0_f32..0.8],
        epsilon in prop_oneof![Just(0.0_f32), 0.0_f32..0.02],
        eta in 0.001_f32..0.3,
        sizes in sizes(),
    ) {
        let arguments = [from, from + width, epsilon, eta];
        let expected: Vec<bool> =
            (0..=candidates.len()).map(|n| covered(&candidates[..n], arguments, sizes)).collect();
        everywhere(|engine| {
            let mut coverage = Coverage::with_sizes(from, from + width, epsilon, eta, sizes).unwrap();
            assert_eq!(coverage.is_covered(), expected[0]);
            for (&x, &expected) in candidates.iter().zip(&expected[1..]) {
                assert_eq!(coverage.push(engine, x), Ok(expected), "{engine:?}");
                assert_eq!(coverage.first_gap().is_none(), expected);
            }
        });
    }

    #[test]
    fn all_sums(candidates in prop::collection::vec(candidate(), 0..=9), offset in offset()) {
        let candidates = Guarded::of(&candidates, offset);
        let (mut all, mut sizes) =
            (Guarded::unset(1 << candidates.len(), offset), Guarded::unset(1 << candidates.len(), offset));
        sums(&candidates, &mut all, &mut sizes).unwrap();
        let chosen = |subset: usize| (0..candidates.len()).filter(move |i| subset >> i & 1 != 0);
        let expected: Vec<f32> = (0..all.len()).map(|s| chosen(s).fold(0.0, |sum, i| sum + candidates[i])).collect();
        assert_same(&all, &expected, "sums");
        prop_assert!(sizes.iter().enumerate().all(|(s, &size)| usize::from(size) == chosen(s).count()));
    }

    /// Numbers that are not finite, too many candidates and wrong lengths are errors that leave the output unchanged.
    #[test]
    fn what_cannot_be_searched_is_an_error(
        bits in prop::collection::vec(any::<u32>(), 0..6),
        target in any::<u32>(),
        epsilon in any::<u32>(),
        room in 0..3_usize,
        zeros in 0..60_usize,
    ) {
        let mut candidates: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        candidates.resize(candidates.len() + zeros, 0.0);
        let [target, epsilon] = [target, epsilon].map(f32::from_bits);
        let numbers = candidates.iter().chain([&target, &epsilon]).all(|x| x.is_finite());
        let n = candidates.len();
        let fits = numbers && epsilon >= 0.0 && n > 0 && room == 1;
        everywhere(|engine| {
            for (method, can) in [
                (Method::BruteForce, n <= 30),
                (Method::Bitonic, n <= 30 && epsilon == 0.0),
                (Method::MeetInTheMiddle, n <= 48),
            ] {
                if can && n > 20 {
                    continue; // slow
                }
                let mut out = Guarded::unset(room, 0);
                let result = Search { epsilon, method, ..Search::default() }.nearest_many(engine, &candidates, &[target], &mut out);
                assert_eq!(result.is_ok(), fits && can, "{method:?} {result:?}");
                let untouched = Guarded::<Subset>::unset(room, 0);
                assert_eq!(out[..] == untouched[..], result.is_err() || room == 0);
            }
        });
    }

    #[test]
    fn lengths_fit_or_are_errors(
        [targets, n, candidates, out] in [0..4_usize, 1..4_usize, 0..10_usize, 0..4_usize],
        [sums_len, sizes_len] in [0..17_usize, 0..17_usize],
    ) {
        let memory = [1.0; 10];
        everywhere(|engine| {
            let mut found = vec![Subset { bits: 0, residual: 0.0 }; out];
            let search = Search::default();
            let fits = candidates == targets * n && out == targets;
            let result = search.nearest_each(engine, &memory[..candidates], n, &memory[..targets], &mut found);
            assert_eq!(result.is_ok(), fits, "{result:?}");
            let result = search.nearest_many(engine, &memory[..n], &memory[..targets], &mut found);
            assert_eq!(result.is_ok(), out == targets, "{result:?}");
        });
        let result = sums(&memory[..n], &mut vec![0.0; sums_len], &mut vec![0; sizes_len]);
        prop_assert_eq!(result.is_ok(), sums_len == 1 << n && sizes_len == 1 << n);
    }
}
