//! Top-k selections, and thresholds as bytes.

use proptest::prelude::*;
use slth_kernels::top_k::{Order, Selection, Selector, Threshold};
use slth_kernels::{KernelError, PackedMask};

use crate::support::{Guarded, cases, everywhere, numbers, offset, size};

/// The sort key of a score, by definition.
fn key(order: Order, score: f32) -> u32 {
    let bits = score.to_bits();
    match order {
        Order::Magnitude => bits & 0x7fff_ffff,
        Order::Signed if bits >> 31 == 0 => bits | 1 << 31,
        Order::Signed => !bits,
    }
}

/// The indices, sorted by (key, index).
fn sorted(order: Order, scores: &[f32]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..scores.len()).collect();
    places.sort_by_key(|&i| (key(order, scores[i]), i));
    places
}

fn order() -> impl Strategy<Value = Order> {
    prop::sample::select(vec![Order::Magnitude, Order::Signed])
}

/// Numbers of scores in a layer; occasionally enough for several threads.
fn scores() -> impl Strategy<Value = usize> {
    prop_oneof![15 => size(9000), 1 => 100_001..180_000_usize]
}

/// The score and the index within a threshold's bytes, often an awkward score.
fn place() -> impl Strategy<Value = [u8; 8]> {
    let score = prop_oneof![
        any::<u32>(),
        (any::<f32>(), -1.0_f32..1.0)
            .prop_map(|(any, small)| if any.is_nan() { small } else { any }.to_bits()),
        prop::sample::select(vec![0, 1 << 31, 0x7f80_0000, 0xff80_0000, 0x7f80_0001, 0x7fff_ffff, u32::MAX]),
    ];
    let index = prop_oneof![any::<u32>(), 0..5000_u32, Just(u32::MAX)];
    (score, index).prop_map(|(score, index)| {
        let [a, b] = [score, index].map(u32::to_le_bytes);
        [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]]
    })
}

proptest! {
    #![proptest_config(cases(64))]

    /// Selections over several layers, cold and with a hint, of any numbers; NaN is an error.
    #[test]
    fn selections(
        layers in prop::collection::vec((scores(), offset()), 0..4),
        numbers in numbers(),
        order in order(),
        smallest in any::<bool>(),
        [share, other] in [0.0..=1.0_f64, 0.0..=1.0_f64],
    ) {
        let layers: Vec<_> = layers
            .iter()
            .zip(0..)
            .map(|(&(len, offset), stream)| Guarded::of(&numbers.take(len, stream), offset))
            .collect();
        let layers: Vec<&[f32]> = layers.iter().map(|layer| &layer[..]).collect();
        let all = layers.concat();
        let [keep, other] = [share, other].map(|share| (share * all.len() as f64) as usize);
        let selection = |keep| match smallest {
            true => Selection::smallest(keep, order),
            false => Selection::largest(keep, order),
        };
        let places = sorted(order, &all);
        let cut = if smallest { keep } else { all.len() - keep };
        let (lower, upper) = places.split_at(cut);
        let mut expected = vec![false; all.len()];
        (if smallest { lower } else { upper }).iter().for_each(|&i| expected[i] = true);
        let nan = layers
            .iter()
            .enumerate()
            .find_map(|(layer, scores)| scores.iter().position(|x| x.is_nan()).map(|index| (layer, index)));
        let mut selector = Selector::default();
        everywhere(|engine| {
            let masks = || layers.iter().map(|layer| PackedMask::all_kept(layer.len())).collect::<Vec<_>>();
            let mut found = masks();
            let threshold = selector.select(engine, &layers, selection(keep), &mut found);
            if let Some((layer, index)) = nan {
                assert_eq!(threshold, Err(KernelError::NotANumber { layer, index }));
                assert!(found.iter().all(|mask| mask.kept() == 0));
                return;
            }
            let threshold = threshold.unwrap();
            assert_eq!(Threshold::from_bytes(&threshold.to_bytes()), Ok(threshold));
            assert!(found.iter().flat_map(PackedMask::iter).eq(expected.iter().copied()), "{engine:?}");
            assert_eq!(threshold.index(), upper.first().copied());
            let value = threshold.index().map(|i| if order == Order::Signed { all[i] } else { all[i].abs() });
            assert_eq!(threshold.value().map(f32::to_bits), value.map(f32::to_bits));
            let hint = selector.select(engine, &layers, selection(other), &mut masks()).unwrap();
            let mut found = masks();
            let again = selector.select(engine, &layers, selection(keep).near(hint), &mut found);
            assert_eq!(again, Ok(threshold));
            assert!(found.iter().flat_map(PackedMask::iter).eq(expected.iter().copied()), "{engine:?}");
            if let ([scores], false) = (&layers[..], smallest) {
                let mut mask = PackedMask::all_kept(scores.len());
                assert_eq!(selector.keep_largest(engine, scores, keep, order, &mut mask), Ok(threshold));
                assert_eq!(mask, found[0]);
            }
        });
    }

    /// Any bytes either give a threshold or are refused. As a hint, no threshold changes a selection.
    #[test]
    fn thresholds_of_any_bytes(
        scores in size(6000),
        numbers in numbers(),
        share in 0.0..=1.0_f64,
        [version, order, present, zero] in [0..3_u8, 0..3_u8, 0..3_u8, 0..2_u8],
        place in place(),
        len in prop_oneof![5 => Just(12), 1 => 0..20_usize],
    ) {
        let mut bytes = [&[version, order, present, zero][..], &place].concat();
        bytes.resize(len, 0);
        let scores = numbers.take(scores, 0);
        let keep = (share * scores.len() as f64) as usize;
        let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| place[at + i]));
        let (score, index) = (f32::from_bits(word(0)), word(4));
        let is_place = match present {
            0 => place == [0; 8],
            _ => !score.is_nan() && (order == 1 || score.is_sign_positive()) && index < u32::MAX,
        };
        let fits = len == 12 && version == 1 && order < 2 && present < 2 && zero == 0 && is_place;
        prop_assert_eq!(Threshold::from_bytes(&bytes).is_ok(), fits);
        match Threshold::from_bytes(&bytes) {
            Err(error) => prop_assert_eq!(error.code(), 19, "malformed"),
            Ok(hint) => {
                prop_assert_eq!(&hint.to_bytes()[..], &bytes[..]);
                for order in [Order::Magnitude, Order::Signed] {
                    everywhere(|engine| {
                        let mut selector = Selector::default();
                        let [mut cold, mut warm] = [(); 2].map(|()| [PackedMask::all_kept(scores.len())]);
                        let selection = Selection::largest(keep, order);
                        let expected = selector.select(engine, &[&scores], selection, &mut cold);
                        let found = selector.select(engine, &[&scores], selection.near(hint), &mut warm);
                        assert_eq!((found, warm), (expected, cold));
                    });
                }
            }
        }
    }

    /// Arguments that do not fit are errors that leave the masks unchanged.
    #[test]
    fn what_does_not_fit_is_an_error(
        scores in 0..200_usize,
        mask_len in 0..200_usize,
        keep in 0..200_usize,
    ) {
        let numbers = vec![1.0; scores];
        everywhere(|engine| {
            let untouched = PackedMask::from_fn(mask_len, |i| i % 3 == 0);
            let mut mask = untouched.clone();
            let result = Selector::default().keep_largest(engine, &numbers, keep, Order::Signed, &mut mask);
            assert_eq!(result.is_ok(), scores == mask_len && keep <= scores);
            assert!(result.is_ok() || mask == untouched);
        });
    }
}
