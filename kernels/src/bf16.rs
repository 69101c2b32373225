//! bf16: the upper half of an `f32`, sign, 8 bits of exponent and 7 of mantissa.

use bytemuck::{Pod, Zeroable};

/// A number of bf16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub(crate) struct Bf16(u16);

impl Bf16 {
    pub(crate) const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    pub(crate) const fn to_bits(self) -> u16 {
        self.0
    }

    /// Rounds to the nearest number, ties to even; beyond the largest number to infinity. NaN stays NaN. Integer arithmetic makes
    /// the result independent of the rounding mode.
    #[inline(always)]
    pub(crate) fn round(x: f32) -> Self {
        let bits = x.to_bits();
        // Without its lower half a NaN could be infinity.
        let quiet = (bits >> 16) as u16 | 0x40;
        // A carry into the exponent is correct.
        let nearest = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
        Self(if bits & 0x7fff_ffff > 0x7f80_0000 { quiet } else { nearest })
    }

    /// The same number, exactly.
    #[inline(always)]
    pub(crate) fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_itself() {
        for bits in 0..=u16::MAX {
            let x = Bf16(bits).widen();
            let again = Bf16::round(x);
            if x.is_nan() {
                assert!(again.widen().is_nan());
            } else {
                assert_eq!(again.0, bits);
            }
        }
    }

    /// Rounding takes the nearer of the two neighbours, ties to even; distances are exact in `f64`.
    #[test]
    fn the_nearest_is_taken() {
        // Between the largest number and 2¹²⁸, which would be next, numbers from the midpoint on round to infinity.
        let (largest, beyond) = (f64::from(Bf16(0x7f7f).widen()), 2.0_f64.powi(128));
        let next = |bits: u16| if bits == 0x7f80 { beyond } else { f64::from(Bf16(bits).widen()) };
        for below in 0..0x7f80_u16 {
            for low in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff_u32] {
                let x = f32::from_bits(u32::from(below) << 16 | low);
                let to_below = f64::from(x) - next(below);
                let to_above = next(below + 1) - f64::from(x);
                let expected = match to_below.total_cmp(&to_above) {
                    core::cmp::Ordering::Less => below,
                    core::cmp::Ordering::Greater => below + 1,
                    core::cmp::Ordering::Equal => below + (below & 1),
                };
                assert_eq!(Bf16::round(x).0, expected, "{x:e}");
                assert_eq!(Bf16::round(-x).0, expected | 0x8000, "{x:e}");
            }
        }
        assert_eq!(Bf16::round(f32::MAX).widen(), f32::INFINITY);
        assert_eq!(f64::from(Bf16::round(largest as f32).widen()), largest);
        for bits in [0x7f80_0001, 0x7fff_ffff, 0xff80_0001, 0xffc0_0000_u32] {
            let nan = Bf16::round(f32::from_bits(bits)).widen();
            assert!(nan.is_nan() && nan.is_sign_negative() == (bits >> 31 == 1));
        }
    }
}
