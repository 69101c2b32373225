//! Numbers as the bytes of their types.

use safetensors::Dtype;
use slth_kernels::PackedMask;

/// The numbers in the bytes of a tensor of floating-point numbers, f64 rounded to f32; where one is infinite or NaN, its index
/// and value.
pub(crate) fn finite(kind: Dtype, bytes: &[u8]) -> Result<Vec<f32>, (usize, f32)> {
    let numbers: Vec<f32> = match kind {
        Dtype::F64 => bytes.as_chunks().0.iter().map(|&word| f64::from_le_bytes(word) as f32).collect(),
        Dtype::F32 => bytes.as_chunks().0.iter().map(|&word| f32::from_le_bytes(word)).collect(),
        kind => bytes.as_chunks().0.iter().map(|&word| widen(kind, u16::from_le_bytes(word))).collect(),
    };
    match numbers.iter().position(|x| !x.is_finite()) {
        Some(index) => Err((index, numbers[index])),
        None => Ok(numbers),
    }
}

/// Adds the bytes of `x` as the type `kind`: F16, BF16, F32 or F64; rounded once, to nearest even, and at most to the largest
/// finite number.
pub fn encode(kind: Dtype, x: f64, bytes: &mut Vec<u8>) {
    match kind {
        Dtype::F64 => bytes.extend(x.to_le_bytes()),
        Dtype::F32 => bytes.extend((x as f32).clamp(f32::MIN, f32::MAX).to_le_bytes()),
        kind => bytes.extend(narrow(kind, x).to_le_bytes()),
    }
}

fn widen(kind: Dtype, bits: u16) -> f32 {
    let word = u32::from(bits);
    let (sign, exponent, fraction) = (word >> 15 << 31, word >> 10 & 31, word & 1023);
    match exponent {
        _ if kind == Dtype::BF16 => f32::from_bits(word << 16),
        0 => (fraction as f32 * (1.0 / (1 << 24) as f32)).copysign(f32::from_bits(sign | 1)),
        31 => f32::from_bits(sign | 0xff << 23 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}

fn narrow(kind: Dtype, x: f64) -> u16 {
    // Bits of the fraction, the exponent of the least normal number, the largest finite number.
    let (fraction, least, most) = if kind == Dtype::BF16 { (7, -126, 0x7f7f) } else { (10, -14, 0x7bff) };
    let exponent = ((x.to_bits() >> 52 & 0x7ff) as i32 - 1023).clamp(least, 128);
    let unit = f64::from_bits(((exponent - fraction + 1023) as u64) << 52);
    // A carry into the exponent is one there.
    let magnitude = (x.abs() / unit).round_ties_even() + f64::from((exponent - least) << fraction);
    magnitude.min(most.into()) as u16 | u16::from(x.is_sign_negative()) << 15
}

/// The bytes of `numbers`, little-endian.
pub(crate) fn little_endian(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// A byte for each weight: 0 removed, 1 kept.
pub(crate) fn mask_bytes(mask: &PackedMask) -> Vec<u8> {
    mask.iter().map(u8::from).collect()
}
