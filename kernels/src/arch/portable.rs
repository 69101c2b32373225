//! Vectors as arrays, for any CPU. `Portable<4>` is the portable fallback, `scalar`: four lanes fill a 128-bit register, which
//! every x86-64 and ARM CPU has and the compiler uses where it can. Odd and wide vectors exist for the tests, where they catch
//! lane-width mistakes on any machine.
//!
//! The fused multiply-add needs care: most x86-64 CPUs have the instruction, but the fallback may not assume it.

use crate::simd::{Kernel, Simd, array_of};
use crate::tiles::Tiles;

/// `N` lanes held in arrays; needs no CPU feature.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable<const N: usize>;

impl<const N: usize> Portable<N> {
    /// Compiled once for each kernel, as on every backend: inlined into every place that runs it, its loops over lanes would take
    /// most of the crate's time to compile.
    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Out {
        #[inline(never)]
        fn enter<const N: usize, K: Kernel>(s: Portable<N>, kernel: K) -> K::Out {
            kernel.run(s)
        }
        enter(self, kernel)
    }
}

/// a · b + c with one rounding, right on every input including subnormals (some platforms' `fmaf` is not).
///
/// Without hardware FMA: the product is exact in `f64`; the sum is rounded to odd, which makes the second rounding, to
/// `f32`, harmless (Boldo and Melquiond 2008, "Emulation of a FMA and correctly rounded sums").
#[inline(always)]
pub(crate) fn fused_multiply_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
        a.mul_add(b, c)
    } else {
        soft_fma(a, b, c)
    }
}

#[inline(always)]
fn soft_fma(a: f32, b: f32, c: f32) -> f32 {
    let product = f64::from(a) * f64::from(b);
    let c = f64::from(c);
    let sum = product + c;
    // TwoSum: `error` is the exact rounding error of `sum`. With an infinite operand it is NaN, and compares as no error.
    let t = sum - product;
    let error = (product - (sum - t)) + (c - t);
    let bits = sum.to_bits();
    let inexact = u64::from((error > 0.0) | (error < 0.0));
    let even = !bits & 1;
    let away = u64::from((error > 0.0) == (sum > 0.0));
    // An inexact even sum moves one ulp towards the exact value: +1 away from zero, −1 towards it.
    let step = (inexact & even).wrapping_mul((2 * away).wrapping_sub(1));
    f64::from_bits(bits.wrapping_add(step)) as f32
}

impl<const N: usize> Simd for Portable<N> {
    const LANES: usize = N;
    const REGISTERS: usize = 16;
    const TILES: Tiles = Tiles::of(Self::REGISTERS, Self::LANES);
    const TRANSPOSE: usize = N;
    type Narrow = Portable<4>;
    type F32 = [f32; N];
    type I32 = [i32; N];
    type Mask = [bool; N];

    #[inline(always)]
    fn l1_bytes(self) -> usize {
        // Only tests use 16 portable lanes; these also cover the tiles of a larger L1.
        if N == 16 { 48 << 10 } else { 32 << 10 }
    }
    #[inline(always)]
    fn outlined<K: Kernel>(self, kernel: K) -> K::Out {
        self.run(kernel)
    }
    #[inline(always)]
    fn narrow(self) -> Portable<4> {
        Portable
    }
    #[inline(always)]
    fn splat(self, x: f32) -> [f32; N] {
        [x; N]
    }
    #[inline(always)]
    fn add(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        array_of(0.0, |i| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        array_of(0.0, |i| a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: [f32; N], b: [f32; N]) -> [f32; N] {
        array_of(0.0, |i| a[i] * b[i])
    }
    #[inline(always)]
    fn mul_add(self, a: [f32; N], b: [f32; N], c: [f32; N]) -> [f32; N] {
        array_of(0.0, |i| fused_multiply_add(a[i], b[i], c[i]))
    }
    #[inline(always)]
    fn mul_add_one(self, a: f32, b: f32, c: f32) -> f32 {
        fused_multiply_add(a, b, c)
    }
    #[inline(always)]
    fn gt(self, a: [f32; N], b: [f32; N]) -> [bool; N] {
        array_of(false, |i| a[i] > b[i])
    }
    #[inline(always)]
    fn select(self, m: [bool; N], a: [f32; N], b: [f32; N]) -> [f32; N] {
        array_of(0.0, |i| if m[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn to_bits(self, a: [f32; N]) -> [i32; N] {
        array_of(0, |i| a[i].to_bits() as i32)
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> [i32; N] {
        [x; N]
    }
    #[inline(always)]
    fn add_i32(self, a: [i32; N], b: [i32; N]) -> [i32; N] {
        array_of(0, |i| a[i].wrapping_add(b[i]))
    }
    #[inline(always)]
    fn sub_i32(self, a: [i32; N], b: [i32; N]) -> [i32; N] {
        array_of(0, |i| a[i].wrapping_sub(b[i]))
    }
    #[inline(always)]
    fn and_i32(self, a: [i32; N], b: [i32; N]) -> [i32; N] {
        array_of(0, |i| a[i] & b[i])
    }
    #[inline(always)]
    fn xor_i32(self, a: [i32; N], b: [i32; N]) -> [i32; N] {
        array_of(0, |i| a[i] ^ b[i])
    }
    #[inline(always)]
    fn min_i32(self, a: [i32; N], b: [i32; N]) -> [i32; N] {
        array_of(0, |i| a[i].min(b[i]))
    }
    #[inline(always)]
    fn max_i32(self, a: [i32; N], b: [i32; N]) -> [i32; N] {
        array_of(0, |i| a[i].max(b[i]))
    }
    #[inline(always)]
    fn shl_i32<const BITS: i32>(self, a: [i32; N]) -> [i32; N] {
        array_of(0, |i| a[i] << BITS)
    }
    #[inline(always)]
    fn shr_i32<const BITS: i32>(self, a: [i32; N]) -> [i32; N] {
        array_of(0, |i| a[i] >> BITS)
    }
    #[inline(always)]
    fn eq_i32(self, a: [i32; N], b: [i32; N]) -> [bool; N] {
        array_of(false, |i| a[i] == b[i])
    }
    #[inline(always)]
    fn gt_i32(self, a: [i32; N], b: [i32; N]) -> [bool; N] {
        array_of(false, |i| a[i] > b[i])
    }
    #[inline(always)]
    fn and_mask(self, a: [bool; N], b: [bool; N]) -> [bool; N] {
        array_of(false, |i| a[i] & b[i])
    }
    #[inline(always)]
    fn mask_bits(self, m: [bool; N]) -> u32 {
        m.iter().enumerate().fold(0, |bits, (i, &on)| bits | u32::from(on) << i)
    }
}

#[cfg(test)]
mod tests {
    use super::soft_fma;

    /// Agrees with the platform's `fmaf` to the last bit, on values where emulations often fail. `fmaf` is correct on x86-64
    /// with FMA and on aarch64; elsewhere the comparison is skipped.
    #[test]
    fn soft_fma_rounds_once() {
        let specials = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            f32::MIN_POSITIVE,
            f32::from_bits(1),
            f32::MAX,
            f32::INFINITY,
            f32::NEG_INFINITY,
            1.000_000_1,
            0.999_999_94,
            16_777_216.0,
            1e-20,
            -1e-38,
            3.3e38,
            f32::NAN,
        ];
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) as u32
        };
        #[cfg(target_arch = "x86_64")]
        if !std::is_x86_feature_detected!("fma") {
            return;
        }
        let check = |a: f32, b: f32, c: f32| {
            let (ours, exact) = (soft_fma(a, b, c), a.mul_add(b, c));
            assert!(
                ours.to_bits() == exact.to_bits() || ours.is_nan() && exact.is_nan(),
                "{a:e} * {b:e} + {c:e}"
            );
        };
        for a in specials {
            for b in specials {
                for c in specials {
                    check(a, b, c);
                }
            }
        }
        for _ in 0..200_000 {
            let (a, b, c) = (f32::from_bits(next()), f32::from_bits(next()), f32::from_bits(next()));
            check(a, b, c);
            // Near-cancellation and subnormal results, which random bit patterns rarely hit.
            check(a, b, -(a * b));
            check(a, 1.0 / b, c);
            check(a * 1e-30, b * 1e-10, f32::from_bits(next() >> 9));
        }
    }
}
