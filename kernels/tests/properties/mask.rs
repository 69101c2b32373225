//! Masks, beside a list of booleans.

use proptest::prelude::*;
use slth_kernels::PackedMask;

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

    /// Bits past the end do not matter, another number of words does.
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
}
