//! Selections and groups.

use proptest::prelude::*;
use slth_kernels::PackedMask;
use slth_kernels::top_k::{Order, Selection, Selector, TopKError, keep_n_of_m};

use crate::support::{Guarded, cases, everywhere, numbers, offset, size};

/// The key of the definition.
fn key(order: Order, score: f32) -> u32 {
    let bits = score.to_bits();
    match order {
        Order::Magnitude => bits & 0x7fff_ffff,
        Order::Signed if bits >> 31 == 0 => bits | 1 << 31,
        Order::Signed => !bits,
    }
}

/// All (key, index) sorted; the indices.
fn sorted(order: Order, scores: &[f32]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..scores.len()).collect();
    places.sort_by_key(|&i| (key(order, scores[i]), i));
    places
}

fn order() -> impl Strategy<Value = Order> {
    prop::sample::select(vec![Order::Magnitude, Order::Signed])
}

/// Scores of a layer; now and then so many that threads share them.
fn scores() -> impl Strategy<Value = usize> {
    prop_oneof![15 => size(9000), 1 => 33_000..90_000_usize]
}

/// Group and number of groups, likewise.
fn grouped() -> impl Strategy<Value = (usize, usize)> {
    prop_oneof![15 => (1..=64_usize, size(300)), 1 => (1..=8_usize, 4_100..9_000_usize)]
}

proptest! {
    #![proptest_config(cases(64))]

    /// Over several layers, cold and with a hint; of whatever numbers, NaN an error.
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
                assert_eq!(threshold, Err(TopKError::NotANumber { layer, index }));
                assert!(found.iter().all(|mask| mask.kept() == 0));
                return;
            }
            let threshold = threshold.unwrap();
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

    #[test]
    fn groups(
        (group, groups) in grouped(),
        keep in 0..=64_usize,
        numbers in numbers(),
        order in order(),
        offset in offset(),
    ) {
        let scores = Guarded::of(&numbers.take(group * groups, 0), offset);
        let keep = keep % (group + 1);
        let mut expected = PackedMask::none_kept(scores.len());
        for (g, scores) in scores.chunks(group).enumerate() {
            for &i in &sorted(order, scores)[group - keep..] {
                expected.set(g * group + i, true);
            }
        }
        let nan = scores.iter().position(|x| x.is_nan());
        everywhere(|engine| {
            let mut mask = PackedMask::all_kept(scores.len());
            let result = keep_n_of_m(engine, &scores, keep, group, order, &mut mask);
            match nan {
                Some(index) => {
                    assert_eq!(result, Err(TopKError::NotANumber { layer: 0, index }));
                    assert_eq!(mask.kept(), 0);
                }
                None => assert_eq!((result, &mask), (Ok(()), &expected), "{engine:?} {keep}:{group}"),
            }
        });
    }

    /// What does not fit is an error that leaves the masks alone.
    #[test]
    fn what_does_not_fit_is_an_error(
        scores in 0..200_usize,
        mask_len in 0..200_usize,
        keep in 0..200_usize,
        group in 0..70_usize,
    ) {
        let numbers = vec![1.0; scores];
        everywhere(|engine| {
            let untouched = PackedMask::from_fn(mask_len, |i| i % 3 == 0);
            let mut mask = untouched.clone();
            let result = Selector::default().keep_largest(engine, &numbers, keep, Order::Signed, &mut mask);
            assert_eq!(result.is_ok(), scores == mask_len && keep <= scores);
            assert!(result.is_ok() || mask == untouched);
            let mut mask = untouched.clone();
            let result = keep_n_of_m(engine, &numbers, keep, group, Order::Signed, &mut mask);
            let divides = (1..=64).contains(&group) && scores % group.max(1) == 0;
            assert_eq!(result.is_ok(), scores == mask_len && divides && keep <= group);
            assert!(result.is_ok() || mask == untouched);
        });
    }
}
