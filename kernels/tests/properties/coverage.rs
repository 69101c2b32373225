//! Coverage of an interval.

use core::ops::Range;

use proptest::prelude::*;
use slth_kernels::subset_sum::Coverage;

use crate::support::{cases, everywhere};

/// Fixed-point units per 1, as in the definition.
const UNITS: f64 = (1_u64 << 25) as f64;

fn units(x: f32) -> i64 {
    (f64::from(x) * UNITS).round_ties_even() as i64
}

/// The first uncovered range of targets, by a sweep over all subsets' sorted intervals.
fn first_gap(candidates: &[f32], [from, to, epsilon, eta]: [f32; 4]) -> Option<Range<f64>> {
    let interval = |subset: u64| {
        let chosen = candidates.iter().enumerate().filter(|&(i, _)| subset >> i & 1 != 0);
        let (sum, half) =
            chosen.fold((0, units(eta)), |(sum, half), (_, &x)| (sum + units(x), half + units(epsilon)));
        [sum - half, sum + half]
    };
    let mut intervals: Vec<[i64; 2]> = (0..1_u64 << candidates.len()).map(interval).collect();
    intervals.sort_unstable();
    let (from, to) = (units(from), units(to));
    let (mut reach, mut met) = (from, false);
    for [lower, upper] in intervals {
        if lower > reach {
            if met && reach >= to {
                break;
            }
            return Some(reach as f64 / UNITS..lower.min(to) as f64 / UNITS);
        }
        met |= upper >= from;
        reach = reach.max(upper);
    }
    (!met || reach < to).then(|| reach as f64 / UNITS..to as f64 / UNITS)
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn coverage(
        from in -1.0_f32..1.0,
        width in prop_oneof![0.0_f32..1.0, Just(0.0_f32)],
        epsilon in prop_oneof![Just(0.0_f32), 0.0_f32..0.05, Just(0.125_f32)],
        eta in prop::sample::select(vec![0.3_f32, 0.05, 0.01, 1e-3, 0.125, 0.25]),
        candidates in prop::collection::vec(
            prop_oneof![-1.0_f32..1.0, (-8_i8..=8).prop_map(|x| f32::from(x) / 8.0)], 0..12
        ),
    ) {
        let to = from + width;
        let expected: Vec<_> =
            (0..=candidates.len()).map(|n| first_gap(&candidates[..n], [from, to, epsilon, eta])).collect();
        everywhere(|engine| {
            let mut coverage = Coverage::new(from, to, epsilon, eta).unwrap();
            assert_eq!(coverage.first_gap(), expected[0]);
            for (&candidate, gap) in candidates.iter().zip(&expected[1..]) {
                let covered = coverage.push(engine, candidate).unwrap();
                assert_eq!(coverage.first_gap(), *gap, "{engine:?}");
                assert_eq!((covered, coverage.is_covered()), (gap.is_none(), gap.is_none()));
            }
        });
    }

    /// Arguments of any bits. Those not finite or out of range give an error that changes nothing.
    #[test]
    fn any_bits(
        [from, to, epsilon] in [any::<u32>(), any::<u32>(), any::<u32>()],
        eta in 1e-3_f32..20.0,
        candidate in any::<u32>(),
    ) {
        let [from, to, epsilon, candidate] = [from, to, epsilon, candidate].map(f32::from_bits);
        let numbers = [from, to, epsilon, eta];
        let inside = numbers.iter().all(|x| x.is_finite() && x.abs() <= 16.0);
        everywhere(|engine| {
            let coverage = Coverage::new(from, to, epsilon, eta);
            assert_eq!(coverage.is_ok(), inside && units(from) <= units(to) && epsilon >= 0.0);
            if let Ok(mut coverage) = coverage {
                let before = coverage.first_gap();
                let result = coverage.push(engine, candidate);
                assert!(result.is_ok() || coverage.first_gap() == before);
                assert!(candidate.is_finite() || result.is_err());
            }
        });
    }
}

/// Intervals that only touch leave no gap. Drawn intervals rarely touch.
#[test]
fn touching_intervals_cover() {
    everywhere(|engine| {
        // The subsets {} and {0.5} give [-1/4, 1/4] and [1/4, 3/4].
        let mut coverage = Coverage::new(-0.25, 0.75, 0.0, 0.25).unwrap();
        assert_eq!(coverage.first_gap(), Some(0.25..0.75));
        assert_eq!(coverage.push(engine, 0.5), Ok(true));
    });
}
