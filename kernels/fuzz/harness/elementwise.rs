//! Optimiser steps and masks.

use arbitrary::{Result, Unstructured};
use slth_kernels::optimizer::{ProjectedStep, ScoreStep};
use slth_kernels::{PackedMask, PackedMaskRef};

use crate::harness::{Floats, Lengths, bits, everywhere, size};

pub(super) fn run(u: &mut Unstructured<'_>) -> Result<()> {
    if u.arbitrary()? { steps(u) } else { masks(u) }
}

fn steps(u: &mut Unstructured<'_>) -> Result<()> {
    let n = size(u, 70_000)?;
    let mut lengths = Lengths { fit: true };
    let mut arrays = Vec::new();
    for _ in 0..5 {
        let len = lengths.of(u, &[n])?;
        arrays.push(Floats::new(u, len)?);
    }
    let [gradient, initial, velocity, change, weights] = &arrays[..] else { unreachable!() };
    let projected =
        ProjectedStep { learning_rate: u.arbitrary()?, momentum: u.arbitrary()?, epsilon: u.arbitrary()? };
    let score =
        ScoreStep { learning_rate: u.arbitrary()?, momentum: u.arbitrary()?, weight_decay: u.arbitrary()? };
    let same = arrays.iter().all(|array| array.get().len() == gradient.get().len());
    let same_4 = arrays[..4].iter().all(|array| array.get().len() == gradient.get().len());
    let _ = everywhere(|engine| {
        let (gradient, initial) = (gradient.get(), initial.get());
        let (mut v, mut c, mut w) = (velocity.clone(), change.clone(), weights.clone());
        let result = projected.apply(engine, gradient, initial, v.get_mut(), c.get_mut(), w.get_mut());
        assert_eq!(result.is_ok(), same);
        let found = [bits(v.get()), bits(c.get()), bits(w.get())];
        let (mut v, mut s) = (velocity.clone(), change.clone());
        let result_2 = score.apply(engine, gradient, initial, v.get_mut(), s.get_mut());
        assert_eq!(result_2.is_ok(), same_4);
        (result, found, result_2, [bits(v.get()), bits(s.get())])
    });
    Ok(())
}

fn masks(u: &mut Unstructured<'_>) -> Result<()> {
    let len = size(u, 300)?;
    let words: Vec<u64> = u.arbitrary()?;
    let count = words.len();
    let borrowed = PackedMaskRef::from_words(len, &words);
    assert_eq!(borrowed.is_ok(), count == len.div_ceil(64));
    // Bits past the last weight are ignored.
    let owned = borrowed.ok().map(|mask| (mask.kept(), mask.to_owned()));
    let mask = PackedMask::from_words(len, words);
    assert_eq!(mask.is_ok(), count == len.div_ceil(64));
    let Ok(mut mask) = mask else { return Ok(()) };
    assert_eq!(owned, Some((mask.kept(), mask.clone())));
    let mut model: Vec<bool> = mask.iter().collect();
    assert_eq!(model.len(), len);
    while !u.is_empty() && len > 0 {
        let at = u.int_in_range(0..=len - 1)?;
        let keep = u.arbitrary()?;
        mask.set(at, keep);
        model[at] = keep;
        assert_eq!(mask.get(at), keep);
    }
    assert!(mask.iter().eq(model.iter().copied()));
    assert_eq!(PackedMask::from_fn(len, |i| model[i]), mask);
    assert_eq!(PackedMask::from_bools(&model), mask);
    let mut bools = vec![false; len];
    mask.write_bools(&mut bools).expect("as long as the mask");
    assert_eq!(bools, model);
    assert!(mask.write_bools(&mut vec![false; len + 1]).is_err());
    assert!(mask.kept_indices().eq((0..len).filter(|&i| model[i])));
    assert_eq!(mask.kept() + mask.removed(), len);
    let mut values = vec![f32::NAN; len];
    mask.apply(&mut values).expect("as long as the mask");
    assert!(values.iter().zip(&model).all(|(value, &keep)| value.is_nan() == keep));
    assert!(mask.apply(&mut vec![0.0; len + 1]).is_err());
    assert_eq!(PackedMask::from_words(len, mask.words().to_vec()), Ok(mask));
    Ok(())
}
