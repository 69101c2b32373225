//! Masks

use slth_kernels::{PackedMask, PackedMaskRef};

use crate::memory::{Output, slice, slice_mut};
use crate::status::{Failure, guard, slth_status};

/// Number of words of a mask over len weights: ceil(len / 64).
#[unsafe(no_mangle)]
pub extern "C" fn slth_mask_words(len: usize) -> usize {
    len.div_ceil(64)
}

/// Packs len booleans, true for a weight that is kept, into slth_mask_words(len) words; the bits after the last weight become
/// 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_mask_from_bools(keep: *const bool, len: usize, mask: *mut u64) -> slth_status {
    guard(|| {
        // SAFETY: as the header asks of each caller. Bytes, as not every byte of another language is a boolean of this one's.
        unsafe {
            let keep = slice::<u8>("keep", keep.cast(), len)?;
            let mask = Output::new("mask", mask, len.div_ceil(64))?;
            mask.check_apart("keep", keep.as_ptr(), keep.len())?;
            mask.write(PackedMask::from_fn(len, |i| keep[i] != 0).words());
        }
        Ok(())
    })
}

/// Unpacks a mask over len weights into len booleans.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_mask_to_bools(mask: *const u64, len: usize, keep: *mut bool) -> slth_status {
    guard(|| {
        // SAFETY: as the header asks of each caller.
        unsafe {
            let (mask, keep) = (weights(mask, len)?, Output::new("keep", keep, len)?);
            keep.check_apart("mask", mask.words().as_ptr(), mask.words().len())?;
            keep.write_mask(mask);
        }
        Ok(())
    })
}

/// Counts the weights that a mask over len weights keeps.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_mask_kept(mask: *const u64, len: usize, kept: *mut usize) -> slth_status {
    guard(|| {
        // SAFETY: as the header asks of each caller.
        unsafe {
            let count = weights(mask, len)?.kept();
            Output::new("kept", kept, 1)?.write(&[count]);
        }
        Ok(())
    })
}

/// Sets the values of removed weights to 0, whatever they were: len initialised values.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_mask_apply(mask: *const u64, len: usize, values: *mut f32) -> slth_status {
    guard(|| {
        // SAFETY: as the header asks of each caller.
        unsafe {
            let words = weights(mask, len)?;
            Output::new("values", values, len)?.check_apart(
                "mask",
                words.words().as_ptr(),
                words.words().len(),
            )?;
            words.apply(slice_mut("values", values, len)?)?;
        }
        Ok(())
    })
}

/// A mask over `len` weights; without weights the pointer may be NULL.
///
/// # Safety
/// As [`slice()`], of as many words as the mask has.
unsafe fn weights<'a>(words: *const u64, len: usize) -> Result<PackedMaskRef<'a>, Failure> {
    // SAFETY: as promised.
    let words = unsafe { slice("mask", words, len.div_ceil(64))? };
    Ok(PackedMaskRef::from_words(len, words)?)
}
