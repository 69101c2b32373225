//! Selections, over one layer and several, with hints; groups.

use arbitrary::{Result, Unstructured};
use slth_kernels::PackedMask;
use slth_kernels::top_k::{Order, Selection, Selector, keep_n_of_m};

use crate::harness::{Floats, everywhere, mask, size};

pub(super) fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let mut layers = Vec::new();
    for _ in 0..u.int_in_range(0..=4_u8)? {
        let len = size(u, 20_000)?.min(40_000);
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
        Ok((keep, order, selection))
    };
    let (_, _, earlier) = selection(u)?;
    let (keep, order, selection) = selection(u)?;
    let (group, of_group) = (size(u, 70)?, size(u, 70)?);

    let (result, masks, groups) = everywhere(|engine| {
        let mut selector = Selector::default();
        let mut hints = masks.clone();
        let hint = selector.select(engine, &layers, earlier, &mut hints);
        let mut found = masks.clone();
        let cold = selector.select(engine, &layers, selection, &mut found);
        if let Ok(hint) = hint {
            let mut again = masks.clone();
            let warm = selector.select(engine, &layers, selection.near(hint), &mut again);
            assert_eq!((&warm, &again), (&cold, &found), "a hint changes nothing");
        }
        let mut groups = Vec::new();
        for (layer, mask) in layers.iter().zip(&masks) {
            let whole = &layer[..layer.len().checked_div(group).unwrap_or(0) * group];
            let mut mask = PackedMask::none_kept(mask.len().min(whole.len()));
            groups.push((keep_n_of_m(engine, whole, of_group, group, order, &mut mask), mask));
        }
        (cold, found, groups)
    });

    let number = layers.iter().all(|layer| layer.iter().all(|score| !score.is_nan()));
    assert_eq!(result.is_ok(), fit && number && keep <= len, "{result:?}");
    if result.is_ok() {
        assert_eq!(masks.iter().map(PackedMask::kept).sum::<usize>(), keep);
    }
    for ((result, mask), layer) in groups.iter().zip(&layers) {
        if result.is_ok() {
            assert_eq!(mask.kept(), layer.len() / group * of_group);
        }
    }
    Ok(())
}
