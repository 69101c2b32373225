//! Selections over one layer and several, with hints from earlier selections and from arbitrary bytes.

use arbitrary::{Result, Unstructured};
use slth_kernels::PackedMask;
use slth_kernels::top_k::{Order, Selection, Selector, Threshold};

use crate::harness::{Floats, everywhere, mask, size};

pub(super) fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let mut layers = Vec::new();
    for _ in 0..u.int_in_range(0..=4_u8)? {
        let len = size(u, 110_000)?.min(130_000);
        layers.push(Floats::new(u, len)?);
    }
    let layers: Vec<&[f32]> = layers.iter().map(Floats::get).collect();
    let mut masks = Vec::new();
    let mut fit = true;
    for layer in &layers {
        let len = if u.int_in_range(0..=63_u8)? == 0 { size(u, 100)?.min(100) } else { layer.len() };
        fit &= len == layer.len();
        masks.push(mask(u, len)?);
    }
    if u.int_in_range(0..=63_u8)? == 0 {
        fit &= masks.pop().is_none();
    }
    let len: usize = layers.iter().map(|layer| layer.len()).sum();
    let selection = |u: &mut Unstructured<'_>| {
        let keep = if u.int_in_range(0..=31_u8)? == 0 { size(u, len + 2)? } else { u.int_in_range(0..=len)? };
        let order = *u.choose(&[Order::Magnitude, Order::Signed])?;
        let smallest = u.arbitrary()?;
        let selection =
            if smallest { Selection::smallest(keep, order) } else { Selection::largest(keep, order) };
        Ok((keep, selection))
    };
    let (_, earlier) = selection(u)?;
    let (keep, selection) = selection(u)?;
    // Mostly a valid beginning, so that the score decides.
    let [version, kind, present]: [u8; 3] = *u.choose(&[[1, 0, 1], [1, 1, 1], [1, 0, 0], [2, 2, 2]])?;
    let [a, b, c, d, e, f, g, h]: [u8; 8] = u.arbitrary()?;
    let bytes = [version, kind, present, 0, a, b, c, d, e, f, g, h];
    let drawn = Threshold::from_bytes(&bytes);
    assert!(drawn.is_err() || drawn.as_ref().map(|hint| hint.to_bytes()) == Ok(bytes));

    let (result, masks) = everywhere(|engine| {
        let mut selector = Selector::default();
        let mut hints = masks.clone();
        let hint = selector.select(engine, &layers, earlier, &mut hints);
        let mut found = masks.clone();
        let cold = selector.select(engine, &layers, selection, &mut found);
        for hint in hint.iter().chain(&drawn) {
            let mut again = masks.clone();
            let warm = selector.select(engine, &layers, selection.near(*hint), &mut again);
            assert_eq!((&warm, &again), (&cold, &found), "a hint changes nothing");
        }
        (cold, found)
    });

    let number = layers.iter().all(|layer| layer.iter().all(|score| !score.is_nan()));
    assert_eq!(result.is_ok(), fit && number && keep <= len, "{result:?}");
    if result.is_ok() {
        assert_eq!(masks.iter().map(PackedMask::kept).sum::<usize>(), keep);
    }
    Ok(())
}
