//! Top-k

use core::ops::Range;
use std::sync::RwLock;

use slth_kernels::PackedMask;
use slth_kernels::top_k::{self, Order, Selection, Selector, Threshold};

use crate::engine::slth_engine;
use crate::handle::{self, handle};
use crate::memory::{Extensible, Output, check_pointer, slice, structure};
use crate::status::{Failure, guard, slth_status};

/// What scores are ordered by: SLTH_MAGNITUDE or SLTH_SIGNED. Of equal scores the one at the lower index counts as smaller.
pub type slth_order = u32;

/// |score|, as in edge-popup.
pub const SLTH_MAGNITUDE: slth_order = 0;
/// The score itself; -0 below +0.
pub const SLTH_SIGNED: slth_order = 1;

/// Where a selection has cut the order of scores. As a hint it makes the next selection, of scores that have moved little, a
/// third faster. The bytes may be copied, written to a file and read on another machine.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct slth_threshold {
    /// What slth_threshold_get reads.
    pub bytes: [u8; 12],
}

const _: () = assert!(Threshold::BYTES == 12);

/// What slth_top_k keeps.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct slth_selection {
    /// sizeof(slth_selection).
    pub size: usize,
    /// How many scores to keep: slth_keep(sparsity, n) of n scores.
    pub keep: usize,
    /// An earlier threshold to start from, which changes no result. NULL: none.
    pub hint: *const slth_threshold,
    /// What scores are ordered by.
    pub order: slth_order,
    /// Not 0: keep the smallest instead of the largest.
    pub smallest: u32,
}

// SAFETY: a size first, and fields that are valid whatever their bits are; without padding, as is checked below.
unsafe impl Extensible for slth_selection {
    const NAME: &'static str = "selection";
    const FIRST_SIZE: usize = 3 * size_of::<usize>() + 8;
}

const _: () = assert!(size_of::<slth_selection>() == 3 * size_of::<usize>() + 8, "padding");

impl slth_selection {
    /// # Safety
    /// `selection` must be NULL or a structure as [`structure`] asks for, with a threshold or none.
    unsafe fn read(selection: *const Self) -> Result<Selection, Failure> {
        check_pointer(Self::NAME, selection)?;
        // SAFETY: as promised.
        let Self { keep, hint, order, smallest, .. } = unsafe { structure(selection)? };
        let order = match order {
            SLTH_MAGNITUDE => Order::Magnitude,
            SLTH_SIGNED => Order::Signed,
            _ => {
                return Err(Failure::out_of_range("selection.order", "SLTH_MAGNITUDE or SLTH_SIGNED", order));
            }
        };
        let selection =
            if smallest == 0 { Selection::largest(keep, order) } else { Selection::smallest(keep, order) };
        if hint.is_null() {
            return Ok(selection);
        }
        // SAFETY: as promised; bytes have no alignment.
        Ok(selection.near(Threshold::from_bytes(unsafe { &(*hint).bytes })?))
    }
}

/// How many of n scores are kept at a sparsity, the fraction REMOVED: all but (size_t)(sparsity * n), in double precision.
/// Below 0 and NaN count as 0, above 1 as 1: so 90, for 90 %, keeps nothing.
#[unsafe(no_mangle)]
pub extern "C" fn slth_keep(sparsity: f64, n: usize) -> usize {
    top_k::keep_at(sparsity, n)
}

/// One layer of scores, and where its mask goes: as words, as booleans, as both or as neither.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct slth_layer {
    /// The scores, one after the other.
    pub scores: *const f32,
    /// How many there are.
    pub len: usize,
    /// Receives slth_mask_words(len) words. NULL: nothing.
    pub mask: *mut u64,
    /// Receives len booleans, true where the score is kept. NULL: nothing.
    pub keep: *mut bool,
}

/// Scratch memory of selections: half the size of the scores of one layer, up to four times the size of all scores for more than
/// eight layers; and masks. Keep one for each calling thread.
pub struct slth_selector(RwLock<Scratch>);

#[derive(Default)]
pub(crate) struct Scratch {
    selector: Selector,
    masks: Vec<PackedMask>,
}

handle!(slth_selector(Scratch) = "selector");

/// A new selector, which takes no memory before its first call; to be freed by slth_selector_free.
#[unsafe(no_mangle)]
pub extern "C" fn slth_selector_new() -> *mut slth_selector {
    handle::into_raw(Scratch::default())
}

/// Frees a selector; NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_selector_free(selector: *mut slth_selector) {
    // SAFETY: as the header asks of each caller.
    unsafe { handle::free(selector) }
}

/// Keeps exactly selection->keep of the scores of all layers together, as if they stood in one array one after the other, and
/// writes each layer's mask. No two scores are equal in the order, so the answer is one set, whatever the hint, the backend
/// and the threads.
///
/// - layers: as many as count says.
/// - threshold: receives where the order was cut; may be the one of selection->hint. NULL: nothing.
///
/// Takes time linear in the scores; reads them once in most cases.
///
/// Returns SLTH_NOT_A_NUMBER for a NaN, SLTH_KEEP_TOO_LARGE, SLTH_TOO_MANY_SCORES for 2^32 or more, SLTH_MALFORMED for a hint
/// that no selection gave.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_top_k(
    engine: *const slth_engine,
    selector: *mut slth_selector,
    layers: *const slth_layer,
    count: usize,
    selection: *const slth_selection,
    threshold: *mut slth_threshold,
) -> slth_status {
    guard(|| {
        // SAFETY: as the header asks of each caller.
        unsafe {
            let engine = handle::read(engine)?.engine;
            let Scratch { selector, masks } = &mut *handle::write(selector)?;
            let selection = slth_selection::read(selection)?;
            let layers = slice("layers", layers, count)?;
            let (mut scores, mut destinations) = (Vec::new(), Vec::new());
            for (index, layer) in layers.iter().enumerate() {
                let of_layer = |failure| Failure::OfLayer { index, failure: Box::new(failure) };
                scores.push(slice::<f32>("scores", layer.scores, layer.len).map_err(of_layer)?);
                destinations.push(Destination::of(layer).map_err(of_layer)?);
            }
            check_apart(&scores, &destinations)?;
            let threshold = Output::optional("threshold", threshold, 1)?;
            fit(masks, &scores);
            let found = selector.select(engine, &scores, selection, masks)?;
            destinations.iter().zip(&*masks).for_each(|(destination, mask)| destination.write(mask));
            if let Some(threshold) = threshold {
                threshold.write(&[slth_threshold { bytes: found.to_bytes() }]);
            }
        }
        Ok(())
    })
}

/// Where a layer's mask goes.
struct Destination {
    words: Option<Output<u64>>,
    booleans: Option<Output<bool>>,
}

impl Destination {
    /// # Safety
    /// The layer must be as the header says.
    unsafe fn of(&slth_layer { len, mask, keep, .. }: &slth_layer) -> Result<Self, Failure> {
        // SAFETY: as promised.
        unsafe {
            let words = Output::optional("mask", mask, len.div_ceil(64))?;
            Ok(Self { words, booleans: Output::optional("keep", keep, len)? })
        }
    }

    fn write(&self, mask: &PackedMask) {
        if let Some(words) = &self.words {
            words.write(mask.words());
        }
        if let Some(booleans) = &self.booleans {
            booleans.write_mask(mask.view());
        }
    }
}

/// Checks that no mask is written over scores or over another mask. O(n log n) for n layers.
fn check_apart(scores: &[&[f32]], destinations: &[Destination]) -> Result<(), Failure> {
    // Addresses, layer, field, and whether it is written to.
    let mut spans: Vec<(Range<usize>, usize, &'static str, bool)> = Vec::new();
    for (layer, (scores, to)) in scores.iter().zip(destinations).enumerate() {
        let start = scores.as_ptr().addr();
        spans.push((start..start + size_of_val(*scores), layer, "scores", false));
        spans.extend(to.words.as_ref().map(|words| (words.addresses(), layer, "mask", true)));
        spans.extend(to.booleans.as_ref().map(|keep| (keep.addresses(), layer, "keep", true)));
    }
    spans.retain(|(span, ..)| !span.is_empty());
    spans.sort_by_key(|(span, ..)| span.start);
    // Of the spans before this one, the one that reaches furthest; and the one that does so among those that are written.
    let (mut last, mut written): (Option<usize>, Option<usize>) = (None, None);
    for at in 0..spans.len() {
        let (ref span, layer, field, is_written) = spans[at];
        let before =
            if is_written { last } else { written }.filter(|&before| spans[before].0.end > span.start);
        if let Some(before) = before {
            let (this, other) = ((layer, field), (spans[before].1, spans[before].2));
            let (written, other) = if is_written { (this, other) } else { (other, this) };
            return Err(Failure::AliasedLayers { written, other });
        }
        for latest in [Some(&mut last), Some(&mut written).filter(|_| is_written)].into_iter().flatten() {
            if latest.is_none_or(|latest| spans[latest].0.end < span.end) {
                *latest = Some(at);
            }
        }
    }
    Ok(())
}

/// Makes the masks as long as the layers. Those that are stay as they are, whatever they keep.
fn fit(masks: &mut Vec<PackedMask>, layers: &[&[f32]]) {
    masks.truncate(layers.len());
    for (mask, layer) in masks.iter_mut().zip(layers) {
        if mask.len() != layer.len() {
            *mask = PackedMask::none_kept(layer.len());
        }
    }
    masks.extend(layers[masks.len()..].iter().map(|layer| PackedMask::none_kept(layer.len())));
}

/// The score at the cut: the smallest one that was kept, or, if the smallest were kept, the smallest one that was removed.
///
/// - value: receives the score, its magnitude in the order SLTH_MAGNITUDE; NaN where nothing lies above the cut. NULL: nothing.
/// - index: receives its index, counted through all layers; SIZE_MAX where nothing lies above the cut. NULL: nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_threshold_get(
    threshold: *const slth_threshold,
    value: *mut f32,
    index: *mut usize,
) -> slth_status {
    guard(|| {
        check_pointer("threshold", threshold)?;
        // SAFETY: as the header asks of each caller.
        unsafe {
            let threshold = Threshold::from_bytes(&(*threshold).bytes)?;
            if let Some(output) = Output::optional("value", value, 1)? {
                output.write(&[threshold.value().unwrap_or(f32::NAN)]);
            }
            if let Some(output) = Output::optional("index", index, 1)? {
                output.write(&[threshold.index().unwrap_or(usize::MAX)]);
            }
        }
        Ok(())
    })
}
