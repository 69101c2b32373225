use proptest::prelude::*;
use rand::SeedableRng as _;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::*;
use crate::{Backend, Engine, KernelError, PackedMask};

/// The mask by definition: sort by (key, index) and keep the last `keep`.
fn oracle(scores: &[f32], keep: usize, order: Order) -> PackedMask {
    let key = |score: f32| match order {
        Order::Magnitude => score.to_bits() & 0x7fff_ffff,
        Order::Signed => score.to_bits() ^ (((score.to_bits() as i32 >> 31) as u32) | 0x8000_0000),
    };
    let mut ranks: Vec<(u32, usize)> = scores.iter().enumerate().map(|(i, &x)| (key(x), i)).collect();
    ranks.sort_unstable();
    let mut mask = PackedMask::none_kept(scores.len());
    ranks[scores.len() - keep..].iter().for_each(|&(_, index)| mask.set(index, true));
    mask
}

fn engines() -> impl Iterator<Item = Engine<'static>> {
    Backend::available().into_iter().map(Engine::new)
}

/// Selects on every backend, cold and with good and bad hints, and compares with the oracle.
fn check(scores: &[f32], keep: usize, order: Order) {
    let expected = oracle(scores, keep, order);
    let mut selector = Selector::default();
    let mut mask = [PackedMask::none_kept(scores.len())];
    let mut thresholds = Vec::new();
    for engine in engines() {
        thresholds.push(selector.keep_largest(engine, scores, keep, order, &mut mask[0]).unwrap());
        assert_eq!(mask[0], expected, "{engine:?} {order:?} {keep} of {}", scores.len());
        for other in [keep, keep / 2, scores.len()] {
            let mut ignored = [PackedMask::none_kept(scores.len())];
            let hint = selector.keep_largest(engine, scores, other, order, &mut ignored[0]).unwrap();
            let selection = Selection::largest(keep, order).near(hint);
            thresholds.push(selector.select(engine, &[scores], selection, &mut mask).unwrap());
            assert_eq!(mask[0], expected, "{engine:?} {order:?} {keep} near {other} of {}", scores.len());
        }
        let rest = Selection::smallest(scores.len() - keep, order);
        thresholds.push(selector.select(engine, &[scores], rest, &mut mask).unwrap());
        assert_eq!(mask[0].kept_indices().count(), scores.len() - keep);
        assert!(mask[0].iter().zip(expected.iter()).all(|(a, b)| a != b));
    }
    assert!(thresholds.iter().all(|&t| t == thresholds[0]));
    match thresholds[0].index() {
        None => assert_eq!(keep, 0),
        Some(index) => {
            assert!(expected.get(index));
            let value = if order == Order::Signed { scores[index] } else { scores[index].abs() };
            assert_eq!(thresholds[0].value().map(f32::to_bits), Some(value.to_bits()));
        }
    }
}

fn check_all(scores: &[f32]) {
    let n = scores.len();
    let mut keeps = vec![0, n, n / 2, n / 10, n - n / 10, n.min(1), n.saturating_sub(1)];
    keeps.sort_unstable();
    keeps.dedup();
    for keep in keeps {
        check(scores, keep, Order::Magnitude);
        check(scores, keep, Order::Signed);
    }
}

fn random(n: usize) -> Vec<f32> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(n as u64);
    (0..n).map(|_| (0..4).map(|_| rng.random::<f32>() - 0.5).sum()).collect()
}

#[test]
fn sizes() {
    for n in [0, 1, 2, 3, 7, 8, 9, 31, 63, 64, 65, 127, 128, 129, 521, 4099, 20_011] {
        check_all(&random(n));
    }
}

#[test]
fn kinds_of_scores() {
    let n = 10_007;
    let ascending: Vec<f32> = (0..n).map(|i| i as f32 - 3000.0).collect();
    let of = |f: &dyn Fn(usize) -> f32| (0..n).map(f).collect::<Vec<f32>>();
    let all = [
        ascending.iter().rev().copied().collect(),
        ascending,
        vec![-1.5; n],
        of(&|i| if i * i % 7 < 3 { 1.0 } else { -2.0 }),
        of(&|i| [0.0, -0.0, 3.0, -3.0, 0.1][i * i % 5]),
        of(&|i| f32::from_bits(i as u32 * 37 % 5000)),
        of(&|i| if i == 777 { f32::NEG_INFINITY } else { (i % 1000) as f32 * 1e-30 }),
        of(&|i| i.min(n - i) as f32),
        of(&|i| if i % 2 == 0 { i as f32 } else { f32::INFINITY }),
        // Half of the scores have one value, at an end of the order or inside.
        of(&|i| if i % 2 == 0 { 0.0 } else { i as f32 }),
        of(&|i| if i % 2 == 0 { 5000.0 } else { i as f32 }),
    ];
    all.iter().for_each(|scores| check_all(scores));
}

/// Scores are extremely small (or large) at all positions that the two samples read. The bounds from the samples are then wrong,
/// and the histogram has to find the threshold.
#[test]
fn scores_that_hide_from_the_samples() {
    let n = 100_000;
    let positions: Vec<f32> = (0..n).map(|i| i as f32).collect();
    let mut sample = Vec::new();
    for size in [1e-6, 1e6] {
        for ties in [false, true] {
            let mut scores: Vec<f32> = random(n).iter().map(|x| 10.0 + x).collect();
            if ties {
                scores.iter_mut().for_each(|x| *x = x.round());
            }
            for salt in [0, search::SECOND_SALT] {
                let count = search::sample_size(n);
                bracket::draw(&[&positions], n, count, salt, Order::Magnitude, &mut sample);
                for &key in &sample {
                    let at = f32::from_bits(key as u32) as usize;
                    scores[at] = size * at as f32;
                }
            }
            for keep in [n / 10, n / 2, n - n / 10] {
                check(&scores, keep, Order::Magnitude);
            }
        }
    }
}

/// Enough scores for several threads to share a pass.
const MANY: usize = 300_000;

#[test]
fn threads_change_nothing() {
    let scores = random(MANY);
    let ties: Vec<f32> = scores.iter().map(|x| (x * 4.0).round()).collect();
    for scores in [scores, ties] {
        for keep in [1, 30_000, 150_000, 299_999] {
            let expected = oracle(&scores, keep, Order::Magnitude);
            for engine in engines() {
                for threads in [1, 2, 3, 7] {
                    let engine = engine.with_threads(threads);
                    let mut mask = PackedMask::none_kept(scores.len());
                    let mut selector = Selector::default();
                    selector.keep_largest(engine, &scores, keep, Order::Magnitude, &mut mask).unwrap();
                    assert_eq!(mask, expected, "{engine:?} {threads} threads, keep {keep}");
                }
            }
        }
    }
}

#[test]
fn layers_are_one_slice() {
    let scores: Vec<f32> = random(MANY).iter().map(|x| (x * 1000.0).round()).collect();
    let cuts = [0, 0, 1, 64, 700, 700, 150_001, MANY];
    let layers: Vec<&[f32]> = cuts.windows(2).map(|cut| &scores[cut[0]..cut[1]]).collect();
    let mut selector = Selector::default();
    for keep in [0, 999, 150_000, MANY] {
        let expected = oracle(&scores, keep, Order::Signed);
        for engine in engines() {
            for engine in [engine, engine.with_threads(3)] {
                let mut masks: Vec<_> = layers.iter().map(|l| PackedMask::all_kept(l.len())).collect();
                let selection = Selection::largest(keep, Order::Signed);
                let threshold = selector.select(engine, &layers, selection, &mut masks).unwrap();
                assert!(masks.iter().flat_map(PackedMask::iter).eq(expected.iter()));
                assert_eq!(threshold.index().is_none(), keep == 0);
            }
        }
    }
}

#[test]
fn refuses() {
    let mut selector = Selector::default();
    let mut mask = PackedMask::all_kept(1000);
    for engine in engines() {
        for nan in [f32::NAN, -f32::NAN, f32::from_bits(0x7f80_0001), f32::from_bits(0xffff_ffff)] {
            for order in [Order::Magnitude, Order::Signed] {
                for keep in [0, 500, 1000] {
                    let mut scores = random(1000);
                    (scores[999], scores[321]) = (nan, nan);
                    let error = selector.keep_largest(engine, &scores, keep, order, &mut mask);
                    assert_eq!(error, Err(KernelError::NotANumber { layer: 0, index: 321 }));
                    let (a, b) = scores.split_at(300);
                    let mut masks = [PackedMask::all_kept(300), PackedMask::all_kept(700)];
                    let selection = Selection::smallest(keep, order);
                    let error = selector.select(engine, &[a, b], selection, &mut masks);
                    assert_eq!(error, Err(KernelError::NotANumber { layer: 1, index: 21 }));
                    assert_eq!(masks[0].kept() + masks[1].kept(), 0);
                }
            }
        }
        let mut keep = |scores: &[f32], keep| {
            selector.keep_largest(engine, scores, keep, Order::Signed, &mut PackedMask::none_kept(3))
        };
        assert_eq!(keep(&[0.0; 3], 4), Err(KernelError::KeepTooLarge { keep: 4, len: 3 }));
        assert_eq!(keep(&[0.0; 2], 1), Err(KernelError::MaskLength { layer: 0, scores: 2, mask: 3 }));
        let none = Selection::largest(0, Order::Signed);
        let error = selector.select(engine, &[&[1.0]], none, &mut []);
        assert_eq!(error, Err(KernelError::MaskCount { layers: 1, masks: 0 }));
        assert_eq!(selector.select(engine, &[], none, &mut []).unwrap().value(), None);
    }
}

/// Denormals are not flushed, whatever modes the calling thread and its helpers have set.
#[test]
#[cfg(target_arch = "x86_64")]
fn the_float_environment_of_the_host_changes_nothing() {
    use crate::arch::float_env::{HOSTS, with_bits_of_host};
    let denormal = |x: f32| f32::from_bits((x.abs() * 1e6) as u32).copysign(x);
    let scores: Vec<f32> = random(MANY).into_iter().map(denormal).collect();
    let keep = Selection::largest(MANY / 3, Order::Magnitude);
    let run = |engine: Engine| {
        let (mut selector, mut mask) = (Selector::default(), [PackedMask::none_kept(MANY)]);
        let cold = selector.select(engine, &[&scores], keep, &mut mask);
        let first = mask.clone();
        let warm =
            cold.clone().and_then(|hint| selector.select(engine, &[&scores], keep.near(hint), &mut mask));
        (cold, first, warm, mask)
    };
    for engine in engines() {
        let expected = run(engine);
        assert_eq!(expected.1[0], oracle(&scores, MANY / 3, Order::Magnitude));
        for bits in HOSTS {
            for threads in [1, 2, 3] {
                let found = with_bits_of_host(bits, || run(engine.with_threads(threads)));
                assert_eq!(found, expected, "{engine:?} {threads} threads, {bits:#x}");
            }
        }
    }
}

#[test]
fn thresholds_survive_as_bytes() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(4);
    for order in [Order::Magnitude, Order::Signed] {
        let mut thresholds = vec![Threshold { order, rank: None }];
        for score in [0.0, -0.0, 1.5, -1.5, f32::INFINITY, f32::NEG_INFINITY, f32::from_bits(1), f32::MAX] {
            for index in [0, 7, u32::MAX - 1] {
                thresholds
                    .push(Threshold { order, rank: Some(keys::rank(keys::key_by(order, score), index)) });
            }
        }
        for threshold in thresholds {
            let bytes = threshold.to_bytes();
            assert_eq!(Threshold::from_bytes(&bytes), Ok(threshold));
            // Other bytes that are accepted give the same bytes again, and a score that is valid for the order.
            for _ in 0..2000 {
                let mut other = bytes;
                for _ in 0..rng.random_range(1..4) {
                    other[rng.random_range(0..Threshold::BYTES)] =
                        rng.random::<u8>() >> rng.random_range(0..8);
                }
                match Threshold::from_bytes(&other) {
                    Ok(threshold) => {
                        assert_eq!(threshold.to_bytes(), other);
                        let negative = threshold.value().is_some_and(|value| value.is_sign_negative());
                        assert!(!threshold.value().is_some_and(f32::is_nan));
                        assert!(!negative || threshold.order == Order::Signed);
                    }
                    Err(error) => assert!(matches!(error, KernelError::Malformed { what: "threshold", .. })),
                }
            }
            for len in 0..Threshold::BYTES {
                assert!(Threshold::from_bytes(&bytes[..len]).is_err());
            }
            assert!(Threshold::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
            // u32::MAX is not a valid index.
            let last = [&bytes[..8], &[0xff; 4]].concat();
            assert!(Threshold::from_bytes(&last).is_err());
        }
    }
    // Users may store the bytes, so the layout must not change.
    let mut mask = PackedMask::none_kept(3);
    let mut selector = Selector::default();
    let threshold = selector.keep_largest(Engine::serial(), &[0.5, -1.5, 0.1], 1, Order::Signed, &mut mask);
    assert_eq!(threshold.unwrap().to_bytes(), [1, 1, 1, 0, 0, 0, 0, 0x3f, 0, 0, 0, 0]);
    let none = Threshold { order: Order::Magnitude, rank: None };
    assert_eq!(none.to_bytes(), [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

/// Hints with extreme keys, including those of NaN.
#[test]
fn hints_of_any_key_change_nothing() {
    let infinite = keys::INFINITE;
    let mut extremes = vec![i32::MIN, i32::MIN + 1, -infinite - 2, -infinite - 1, -infinite, -1, 0, 1];
    extremes.extend([infinite - 1, infinite, infinite + 1, i32::MAX - 1, i32::MAX]);
    let constant = vec![f32::NEG_INFINITY; 3000];
    let infinities: Vec<f32> =
        (0..3000_u32).map(|i| [f32::INFINITY, f32::NEG_INFINITY][i as usize % 2]).collect();
    let nans: Vec<f32> =
        (0..3000_u32).map(|i| f32::from_bits(u32::MAX << 31 | i32::MAX as u32 >> (i % 2 * 9))).collect();
    for scores in [random(3000), constant, infinities, nans] {
        for order in [Order::Magnitude, Order::Signed] {
            for keep in [1, 1500, 2999, 3000] {
                let mut selector = Selector::default();
                let mut mask = [PackedMask::none_kept(scores.len())];
                let selection = Selection::largest(keep, order);
                let cold = selector.select(Engine::serial(), &[&scores], selection, &mut mask);
                let expected = mask.clone();
                for &key in &extremes {
                    let hint = Threshold { order, rank: Some(keys::rank(key, 5)) };
                    let found =
                        selector.select(Engine::serial(), &[&scores], selection.near(hint), &mut mask);
                    assert_eq!((&found, &mask), (&cold, &expected), "{order:?} {keep} near {key}");
                }
            }
        }
    }
}

fn any_score() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => (-3_i32..=3).prop_map(|x| x as f32),
        2 => any::<f32>().prop_filter("a number", |x| !x.is_nan()),
        1 => prop::sample::select(vec![0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::from_bits(1), f32::MAX]),
    ]
}

/// The rank of a hint: arbitrary, or near a key that is likely among the scores.
fn any_hint() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (any_score(), any::<u32>(), -1_i32..=1).prop_map(|(score, index, away)| {
            keys::rank(keys::key_by(Order::Signed, score).saturating_add(away), index)
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_scores(scores in prop::collection::vec(any_score(), 0..5000), share in 0.0..=1.0_f64) {
        let keep = (share * scores.len() as f64) as usize;
        check(&scores, keep, Order::Magnitude);
        check(&scores, keep, Order::Signed);
    }

    /// Any rank is a valid hint, because a threshold may come from other scores.
    #[test]
    fn hints_of_any_rank(
        scores in prop::collection::vec(any_score(), 1..5000),
        share in 0.0..=1.0_f64,
        hints in prop::collection::vec(any_hint(), 1..20),
        order in prop::sample::select(vec![Order::Magnitude, Order::Signed]),
    ) {
        let keep = (share * scores.len() as f64) as usize;
        let expected = oracle(&scores, keep, order);
        let mut selector = Selector::default();
        let mut mask = [PackedMask::none_kept(scores.len())];
        for rank in hints {
            let selection = Selection::largest(keep, order).near(Threshold { order, rank: Some(rank) });
            for engine in [Engine::serial(), Engine::new(Backend::scalar())] {
                selector.select(engine, &[&scores], selection, &mut mask).unwrap();
                prop_assert_eq!(&mask[0], &expected, "near {:x}", rank);
            }
        }
    }
}
