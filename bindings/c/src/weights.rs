//! Prepared weights

use core::ptr;
use std::sync::RwLock;

use slth_kernels::{Format, MaskReuse, PackedMaskRef, PackedWeights, PrepareOptions, Storage, Strategy};

use crate::engine::slth_engine;
use crate::handle::{self, Slot, handle};
use crate::memory::{Block, Extensible, Output, check_pointer, mask, slice, structure, write_structure};
use crate::status::{Failure, guard, slth_status};
use crate::views::slth_matrix;

/// How many products each mask is for: SLTH_REUSE_MANY or SLTH_REUSE_ONCE.
pub type slth_mask_reuse = u32;

/// Many: inference.
pub const SLTH_REUSE_MANY: slth_mask_reuse = 0;
/// One of each kind before the next mask: edge-popup.
pub const SLTH_REUSE_ONCE: slth_mask_reuse = 1;

/// How products are computed: SLTH_AUTO, SLTH_SPARSE, SLTH_DENSE or SLTH_BITMASK. All give the same numbers for finite activations; only
/// the sign of a zero may differ.
pub type slth_strategy = u32;

/// Whichever is faster for the shape, the kept share and the options. Whether that is dense is the same on every CPU.
pub const SLTH_AUTO: slth_strategy = 0;
/// Multiply by the kept weights only.
pub const SLTH_SPARSE: slth_strategy = 1;
/// Multiply by all weights, zeros for the removed ones.
pub const SLTH_DENSE: slth_strategy = 2;
/// Multiply by the kept weights only, in the format of least memory: a bit for each weight. Fast with AVX-512.
pub const SLTH_BITMASK: slth_strategy = 3;

/// The type of the numbers that prepared weights are stored as.
pub type slth_storage = u32;

/// 32-bit floats, as they were given.
pub const SLTH_F32: slth_storage = 0;
/// The nearest bfloat16, ties to even: less memory for few columns. Products widen it exactly.
pub const SLTH_BF16: slth_storage = 1;

/// What else to prepare, or to leave out: SLTH_INPUT_GRADIENT, SLTH_DROP_SOURCE, both (combined by |) or 0.
pub type slth_prepare_flags = u32;

/// Prepare input gradients too, which takes as much memory and time again, but for row-major dense weights.
pub const SLTH_INPUT_GRADIENT: slth_prepare_flags = 1;
/// Drop the removed weights, for inference. Saves 4 bytes a weight; no other mask can be put over the rest.
pub const SLTH_DROP_SOURCE: slth_prepare_flags = 2;

/// What weights are prepared for. NULL in its place: all defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct slth_prepare_options {
    /// sizeof(slth_prepare_options).
    pub size: usize,
    /// The largest batch that products will have; 0: unknown or many. Larger ones are still computed, if slower.
    pub max_batch: usize,
    /// How many products each mask is for.
    pub reuse: slth_mask_reuse,
    /// Sparse, dense, or the faster one.
    pub strategy: slth_strategy,
    /// The type of the stored numbers.
    pub storage: slth_storage,
    /// What else to prepare, or to leave out.
    pub flags: slth_prepare_flags,
}

// SAFETY: a size first, and fields that are valid whatever their bits are; without padding, as is checked below.
unsafe impl Extensible for slth_prepare_options {
    const NAME: &'static str = "options";
    const FIRST_SIZE: usize = 2 * size_of::<usize>() + 16;
}

const _: () = assert!(size_of::<slth_prepare_options>() == 2 * size_of::<usize>() + 16, "padding");

impl slth_prepare_options {
    fn options(self) -> Result<PrepareOptions, Failure> {
        let reuse = match self.reuse {
            SLTH_REUSE_MANY => MaskReuse::Many,
            SLTH_REUSE_ONCE => MaskReuse::Once,
            _ => {
                return Err(Failure::out_of_range(
                    "options.reuse",
                    "SLTH_REUSE_MANY or SLTH_REUSE_ONCE",
                    self.reuse,
                ));
            }
        };
        let strategy = match self.strategy {
            SLTH_AUTO => Strategy::Auto,
            SLTH_SPARSE => Strategy::Sparse,
            SLTH_DENSE => Strategy::Dense,
            SLTH_BITMASK => Strategy::Bitmask,
            _ => {
                let allowed = "SLTH_AUTO, SLTH_SPARSE, SLTH_DENSE or SLTH_BITMASK";
                return Err(Failure::out_of_range("options.strategy", allowed, self.strategy));
            }
        };
        let storage = match self.storage {
            SLTH_F32 => Storage::F32,
            SLTH_BF16 => Storage::Bf16,
            _ => return Err(Failure::out_of_range("options.storage", "SLTH_F32 or SLTH_BF16", self.storage)),
        };
        if self.flags & !(SLTH_INPUT_GRADIENT | SLTH_DROP_SOURCE) != 0 {
            let allowed = "SLTH_INPUT_GRADIENT, SLTH_DROP_SOURCE, both or 0";
            return Err(Failure::out_of_range("options.flags", allowed, self.flags));
        }
        Ok(PrepareOptions::default()
            .max_batch(if self.max_batch == 0 { usize::MAX } else { self.max_batch })
            .reuse(reuse)
            .strategy(strategy)
            .storage(storage)
            .input_gradient(self.flags & SLTH_INPUT_GRADIENT != 0)
            .keep_source(self.flags & SLTH_DROP_SOURCE == 0))
    }

    /// # Safety
    /// `options` must be NULL or a structure as [`structure`] asks for.
    pub(crate) unsafe fn read(options: *const Self) -> Result<PrepareOptions, Failure> {
        // SAFETY: as promised.
        unsafe { structure(options)? }.options()
    }
}

/// How prepared weights are stored; tells about speed and memory only, and later versions may have others.
pub type slth_format = u32;

/// All weights: row-major, or in panels of 16 rows, for a max_batch of up to 32 and SLTH_REUSE_MANY.
pub const SLTH_FORMAT_DENSE: slth_format = 1;
/// Kept weights by cache block.
pub const SLTH_FORMAT_BLOCKED: slth_format = 2;
/// Kept weights of eight rows side by side.
pub const SLTH_FORMAT_INTERLEAVED: slth_format = 3;
/// Kept weights, and one bit for each weight.
pub const SLTH_FORMAT_BITMASK: slth_format = 4;

/// A layer's weights `[outputs, inputs]`, under a mask or not, as products take them.
pub struct slth_weights(RwLock<PackedWeights>);

handle!(slth_weights(PackedWeights) = "weights");

/// Prepares weights `[outputs, inputs]`, which are copied.
///
/// - mask: keeps weight (o, i) where bit o * inputs + i is set; ceil(outputs * inputs / 64) words; NULL: all are kept.
/// - options: NULL: the defaults.
/// - prepared: receives the handle, to be freed by slth_weights_free.
///
/// Takes one pass over weights and mask, and one more with SLTH_INPUT_GRADIENT. Holds 8 bytes for each kept
/// weight (interleaved: 6; with a bit mask: 4, and a bit for each weight; dense: 4 for each weight), fewer with SLTH_BF16; and,
/// without SLTH_DROP_SOURCE, 4 for each weight.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_weights_prepare(
    engine: *const slth_engine,
    weights: slth_matrix,
    mask: *const u64,
    options: *const slth_prepare_options,
    prepared: *mut *mut slth_weights,
) -> slth_status {
    guard(|| {
        // SAFETY: as the header asks of each caller.
        unsafe {
            let slot = Slot::new("prepared", prepared)?;
            let engine = handle::read(engine)?.engine;
            let options = slth_prepare_options::read(options)?;
            let weights = Block::of("weights", weights)?.read()?;
            let mask = masked("mask", mask, weights.rows(), weights.cols())?.map(|mask| mask.to_owned());
            slot.fill(PackedWeights::prepare(engine, weights, mask.as_ref(), &options)?);
        }
        Ok(())
    })
}

/// A mask over a matrix of weights.
///
/// # Safety
/// As [`mask`].
pub(crate) unsafe fn masked<'a>(
    what: &'static str,
    words: *const u64,
    rows: usize,
    cols: usize,
) -> Result<Option<PackedMaskRef<'a>>, Failure> {
    let weights = rows.checked_mul(cols).ok_or(Failure::overflow(what))?;
    // SAFETY: as promised.
    unsafe { mask(words, weights) }
}

/// Puts another mask over the weights, ceil(outputs * inputs / 64) words. Reallocates only when more are kept, or in more
/// blocks, than ever, or the format changes.
///
/// Returns SLTH_NO_SOURCE for weights prepared with SLTH_DROP_SOURCE, SLTH_BUSY while a product uses them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_weights_rebuild(
    weights: *mut slth_weights,
    engine: *const slth_engine,
    mask: *const u64,
) -> slth_status {
    guard(|| {
        check_pointer("mask", mask)?;
        // SAFETY: as the header asks of each caller.
        unsafe {
            let (engine, mut weights) = (handle::read(engine)?.engine, handle::write(weights)?);
            if let Some(mask) = masked("mask", mask, weights.outputs(), weights.inputs())? {
                weights.rebuild(engine, mask)?;
            }
        }
        Ok(())
    })
}

/// Takes other values `[outputs, inputs]` under the same mask. Returns SLTH_BUSY while a product uses the weights.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_weights_set_values(
    weights: *mut slth_weights,
    engine: *const slth_engine,
    values: slth_matrix,
) -> slth_status {
    guard(|| {
        // SAFETY: as the header asks of each caller.
        unsafe {
            let (engine, mut weights) = (handle::read(engine)?.engine, handle::write(weights)?);
            weights.set_weights(engine, Block::of("values", values)?.read()?)?;
        }
        Ok(())
    })
}

/// Number of outputs. As all numbers below: 0 for NULL, and while another thread changes the weights.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_weights_outputs(weights: *const slth_weights) -> usize {
    // SAFETY: as the header asks of each caller.
    unsafe { handle::get(weights, PackedWeights::outputs) }
}

/// Number of inputs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_weights_inputs(weights: *const slth_weights) -> usize {
    // SAFETY: as the header asks of each caller.
    unsafe { handle::get(weights, PackedWeights::inputs) }
}

/// Number of weights kept.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_weights_kept(weights: *const slth_weights) -> usize {
    // SAFETY: as the header asks of each caller.
    unsafe { handle::get(weights, PackedWeights::kept) }
}

/// Bytes of memory held.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_weights_bytes(weights: *const slth_weights) -> usize {
    // SAFETY: as the header asks of each caller.
    unsafe { handle::get(weights, PackedWeights::bytes) }
}

/// How the weights are stored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_weights_format(weights: *const slth_weights) -> slth_format {
    let format = |weights: &PackedWeights| match weights.format() {
        Format::Dense => SLTH_FORMAT_DENSE,
        Format::Blocked => SLTH_FORMAT_BLOCKED,
        Format::Interleaved => SLTH_FORMAT_INTERLEAVED,
        Format::Bitmask => SLTH_FORMAT_BITMASK,
        _ => slth_format::MAX,
    };
    // SAFETY: as the header asks of each caller.
    unsafe { handle::get(weights, format) }
}

/// What the weights were prepared for. options->size must be set; the other fields receive the answer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_weights_get_options(
    weights: *const slth_weights,
    options: *mut slth_prepare_options,
) -> slth_status {
    guard(|| {
        // SAFETY: as the header asks of each caller.
        unsafe { write_structure(options, slth_prepare_options::of(handle::read(weights)?.options())) }
    })
}

impl slth_prepare_options {
    fn of(options: &PrepareOptions) -> Self {
        let gradient = if options.input_gradient { SLTH_INPUT_GRADIENT } else { 0 };
        let source = if options.keep_source { 0 } else { SLTH_DROP_SOURCE };
        Self {
            size: size_of::<Self>(),
            max_batch: if options.max_batch == usize::MAX { 0 } else { options.max_batch },
            reuse: if options.reuse == MaskReuse::Once { SLTH_REUSE_ONCE } else { SLTH_REUSE_MANY },
            strategy: match options.strategy {
                Strategy::Sparse => SLTH_SPARSE,
                Strategy::Dense => SLTH_DENSE,
                Strategy::Bitmask => SLTH_BITMASK,
                _ => SLTH_AUTO,
            },
            storage: if options.storage == Storage::Bf16 { SLTH_BF16 } else { SLTH_F32 },
            flags: gradient | source,
        }
    }
}

/// Shape, options, mask and weights (only the kept ones with SLTH_DROP_SOURCE) as bytes, the same on every machine.
///
/// - bytes, len: receive an array that slth_bytes_free frees, and its length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_weights_to_bytes(
    weights: *const slth_weights,
    bytes: *mut *mut u8,
    len: *mut usize,
) -> slth_status {
    guard(|| {
        // SAFETY: as the header asks of each caller.
        unsafe {
            let (bytes, len) = (Output::new("bytes", bytes, 1)?, Output::new("len", len, 1)?);
            let all = handle::read(weights)?.to_bytes().into_boxed_slice();
            len.write(&[all.len()]);
            bytes.write(&[Box::into_raw(all).cast()]);
        }
        Ok(())
    })
}

/// Frees the bytes of slth_weights_to_bytes, len as it was given; NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_bytes_free(bytes: *mut u8, len: usize) {
    if !bytes.is_null() {
        // SAFETY: made by `slth_weights_to_bytes`, of this length, as the header asks of each caller.
        drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(bytes, len)) });
    }
}

/// Prepares the weights that slth_weights_to_bytes wrote. Bytes from any source are safe: SLTH_MALFORMED for those that hold
/// no weights, and at most 400 times as much memory is taken as they have. There is no checksum.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_weights_from_bytes(
    engine: *const slth_engine,
    bytes: *const u8,
    len: usize,
    prepared: *mut *mut slth_weights,
) -> slth_status {
    guard(|| {
        // SAFETY: as the header asks of each caller.
        unsafe {
            let slot = Slot::new("prepared", prepared)?;
            let engine = handle::read(engine)?.engine;
            slot.fill(PackedWeights::from_bytes(engine, slice("bytes", bytes, len)?)?);
        }
        Ok(())
    })
}

/// Frees prepared weights; NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_weights_free(weights: *mut slth_weights) {
    // SAFETY: as the header asks of each caller.
    unsafe { handle::free(weights) }
}
