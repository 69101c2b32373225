//! Masks: arrays of bool, or of packed bits.

use numpy::{PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods, dtype};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use slth_kernels::{KernelError, PackedMask, PackedMaskRef};

use crate::array::{as_array, data, empty, wrong_shape};

/// Booleans expanded at a time.
const TILE: usize = 4096;

/// The mask over weights of shape `weights` that `value` is: bool of that shape, or uint8 of ⌈n / 8⌉ elements with bit i of all the mask of
/// weight i, lowest bits first, as `top_k(…, packed=True)` and `numpy.packbits(…, bitorder="little")` give it.
pub(crate) fn mask(value: &Bound<'_, PyAny>, weights: &[usize]) -> PyResult<PackedMask> {
    let mut array = as_array("mask", value)?;
    let (py, found) = (value.py(), array.dtype());
    let len: usize = weights.iter().product();
    let (is_bool, is_packed) = (found.is_equiv_to(&dtype::<bool>(py)), found.is_equiv_to(&dtype::<u8>(py)));
    if !is_bool && !is_packed {
        let text = format!("mask must be bool, or uint8 of packed bits, found {}", found.repr()?);
        return Err(PyTypeError::new_err(text));
    }
    if is_bool && array.shape() != weights {
        return Err(wrong_shape("mask", &format!("{weights:?}"), array.shape()));
    }
    if is_packed && array.shape() != [len.div_ceil(8)] {
        let expected = format!("[{}] when its bits are packed", len.div_ceil(8));
        return Err(wrong_shape("mask", &expected, array.shape()));
    }
    if !array.is_c_contiguous() {
        array = array.call_method1("copy", ("C",))?.cast_into()?;
    }
    // SAFETY: one byte an element, which NumPy says lie one after the other; the array is alive until the end of this function.
    let bytes = unsafe { core::slice::from_raw_parts(data::<u8>(&array), array.len()) };
    if is_packed {
        return from_bits(len, bytes).map_err(crate::engine::refused);
    }
    // Another view of the same memory may have written any byte.
    if bytes.iter().fold(0, |all, byte| all | byte) > 1 {
        return Err(PyValueError::new_err("mask holds bytes other than 0 and 1"));
    }
    // SAFETY: all bytes are 0 or 1, as a bool's are.
    let bools = unsafe { core::slice::from_raw_parts(bytes.as_ptr().cast::<bool>(), bytes.len()) };
    Ok(PackedMask::from_bools(bools))
}

/// The mask of packed bits.
pub(crate) fn from_bits(len: usize, bits: &[u8]) -> Result<PackedMask, KernelError> {
    let words = bits.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    });
    PackedMask::from_words(len, words.collect())
}

/// A mask as an array of bool of this shape.
pub(crate) fn to_bools<'py>(
    py: Python<'py>,
    mask: &PackedMask,
    shape: &[usize],
) -> PyResult<Bound<'py, PyUntypedArray>> {
    let array = empty(py, shape, "bool")?;
    assert_eq!(array.len(), mask.len());
    let mut to = data::<bool>(&array);
    // By way of the stack, because the array's memory is not initialised; a tile stays in L1.
    let mut tile = [false; TILE];
    for (index, words) in mask.words().chunks(TILE / 64).enumerate() {
        let count = TILE.min(mask.len() - index * TILE);
        let part = PackedMaskRef::from_words(count, words).map_err(crate::engine::refused)?;
        part.write_bools(&mut tile[..count]).map_err(crate::engine::refused)?;
        // SAFETY: a new array of `mask.len()` booleans, which nobody else has seen; the counts add up to `mask.len()`.
        unsafe {
            to.copy_from_nonoverlapping(tile.as_ptr(), count);
            to = to.add(count);
        }
    }
    Ok(array)
}

/// A mask as an array of packed bits.
pub(crate) fn to_bits<'py>(py: Python<'py>, mask: &PackedMask) -> PyResult<Bound<'py, PyUntypedArray>> {
    let array = empty(py, &[mask.len().div_ceil(8)], "uint8")?;
    // SAFETY: a new array of as many bytes, which nobody else has seen.
    let bytes = unsafe { core::slice::from_raw_parts_mut(data::<u8>(&array), array.len()) };
    write_bits(mask, bytes);
    Ok(array)
}

/// Writes ⌈n / 8⌉ bytes.
pub(crate) fn write_bits(mask: &PackedMask, bytes: &mut [u8]) {
    for (bytes, word) in bytes.chunks_mut(8).zip(mask.words()) {
        bytes.copy_from_slice(&word.to_le_bytes()[..bytes.len()]);
    }
}
