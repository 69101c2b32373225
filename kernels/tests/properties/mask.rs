//! Masks, compared with lists of booleans.

use proptest::prelude::*;
use slth_kernels::{PackedMask, PackedMaskRef};

use crate::support::{Guarded, assert_same, cases, density, numbers, offset};

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn masks(
        len in 0..400_usize,
        density in density(),
        sets in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..20),
        numbers in numbers(),
        offset in offset(),
    ) {
        let mut mask = density.mask(len);
        let mut model: Vec<bool> = mask.iter().collect();
        prop_assert_eq!((mask.len(), mask.is_empty(), model.len()), (len, len == 0, len));
        for (at, keep) in sets.into_iter().filter(|_| len > 0) {
            mask.set(at.index(len), keep);
            model[at.index(len)] = keep;
        }
        let kept: Vec<usize> = (0..len).filter(|&i| model[i]).collect();
        prop_assert_eq!((mask.kept(), mask.removed()), (kept.len(), len - kept.len()));
        prop_assert!(mask.kept_indices().eq(kept));
        prop_assert!(mask.iter().eq(model.iter().copied()));
        prop_assert!((0..len).all(|i| mask.get(i) == model[i]));
        prop_assert_eq!(&PackedMask::from_fn(len, |i| model[i]), &mask);
        let values = numbers.take(len, 0);
        let expected: Vec<f32> = values.iter().zip(&model).map(|(&x, &keep)| if keep { x } else { 0.0 }).collect();
        let mut values = Guarded::of(&values, offset);
        mask.apply(&mut values).unwrap();
        assert_same(&values, &expected, "apply");
    }

    /// Bits past the end are ignored; a wrong number of words is an error.
    #[test]
    fn words(len in 0..400_usize, words in prop::collection::vec(any::<u64>(), 0..8)) {
        let mask = PackedMask::from_words(len, words.clone());
        prop_assert_eq!(mask.is_ok(), words.len() == len.div_ceil(64));
        if let Ok(mask) = mask {
            prop_assert!((0..len).all(|i| mask.get(i) == (words[i / 64] >> (i % 64) & 1 != 0)));
            prop_assert!(len % 64 == 0 || mask.words().last().unwrap() >> (len % 64) == 0);
            prop_assert_eq!(PackedMask::from_words(len, mask.words().to_vec()), Ok(mask));
        }
    }
    /// A borrowed mask reads like its owned copy, whatever bits follow the last weight.
    #[test]
    fn borrowed(
        len in 0..400_usize,
        words in prop::collection::vec(any::<u64>(), 7),
        more in any::<u64>(),
        numbers in numbers(),
        offset in offset(),
    ) {
        let mut words = words[..len.div_ceil(64)].to_vec();
        let mask = PackedMask::from_words(len, words.clone()).unwrap();
        if let Some(last) = words.last_mut().filter(|_| len % 64 != 0) {
            *last ^= more << (len % 64);
        }
        let view = PackedMaskRef::from_words(len, &words).unwrap();
        prop_assert_eq!(view, PackedMaskRef::from(&mask));
        prop_assert_eq!(&view.to_owned(), &mask);
        prop_assert_eq!((view.len(), view.is_empty(), view.words()), (len, len == 0, &words[..]));
        prop_assert_eq!((view.kept(), view.removed()), (mask.kept(), mask.removed()));
        prop_assert!(view.iter().eq(mask.iter()));
        prop_assert!(view.kept_indices().eq((0..len).filter(|&i| mask.get(i))));
        prop_assert!((0..len).all(|i| view.get(i) == mask.get(i)));
        let values = numbers.take(len, 0);
        let (mut of_view, mut of_mask) = (Guarded::of(&values, offset), Guarded::of(&values, offset));
        view.apply(&mut of_view).unwrap();
        mask.apply(&mut of_mask).unwrap();
        assert_same(&of_view, &of_mask, "apply");
    }

    /// Booleans survive the conversion to a mask and back, at any address.
    #[test]
    fn booleans(keep in prop::collection::vec(any::<bool>(), 0..400), offset in offset(), more in 1..70_usize) {
        let len = keep.len();
        let moved = [vec![true; offset], keep.clone()].concat();
        let mask = PackedMask::from_bools(&moved[offset..]);
        prop_assert_eq!(&mask, &PackedMask::from_fn(len, |i| keep[i]));
        prop_assert!(mask.iter().eq(keep.iter().copied()));
        // A boolean has no spare value for a canary, so the check runs once with each value around the slice.
        for around in [false, true] {
            let mut out = vec![around; offset + len + more];
            mask.write_bools(&mut out[offset..offset + len]).unwrap();
            prop_assert_eq!(&out[offset..offset + len], &keep[..]);
            prop_assert!(out[..offset].iter().chain(&out[offset + len..]).all(|&x| x == around));
            prop_assert!(mask.write_bools(&mut out).is_err());
        }
    }
}
