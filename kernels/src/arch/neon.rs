//! NEON (Advanced SIMD): 4 lanes, 32 registers of 128 bits. Every 64-bit ARM CPU has it.
//!
//! Masks are vectors of all-ones or all-zeros lanes. No instruction gathers their signs: `mask_bits` adds one distinct bit per
//! lane, which costs more than on x86. `tbl`, a permutation of bytes, packs lanes. Partial loads use the portable code. `fmin`
//! and `fmax` return NaN when either input is NaN and order −0 below +0, which is not what the trait defines: minimum and maximum
//! are the portable comparison and selection. `vfmaq_f32` takes the addend first.

use core::arch::aarch64::*;

use crate::arch::rows::{Rows, RowsMut};
use crate::bf16::Bf16;
use crate::simd::{Kernel, Simd, positions};
use crate::tiles::Tiles;

/// Proof that this CPU has NEON.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neon(());

impl Neon {
    pub(crate) fn detect() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Self(()))
    }

    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Out {
        #[inline(never)]
        #[target_feature(enable = "neon")]
        fn enter<K: Kernel>(s: Neon, kernel: K) -> K::Out {
            kernel.run(s)
        }
        // SAFETY: `self` exists only where `detect` found this feature.
        unsafe { enter(self, kernel) }
    }
}

/// For each 4-bit mask the bytes of the lanes whose bit is set, ascending; 256 bytes.
static LANE_BYTES: [[u8; 16]; 16] = lane_bytes();

const fn lane_bytes() -> [[u8; 16]; 16] {
    let positions = positions();
    let mut table = [[0; 16]; 16];
    let mut bits = 0;
    while bits < 16 {
        let mut byte = 0;
        while byte < 16 {
            table[bits][byte] = 4 * positions[bits][byte / 4] + (byte % 4) as u8;
            byte += 1;
        }
        bits += 1;
    }
    table
}

/// Calls an intrinsic. SAFETY of every use: a value of `Neon` proves that the CPU has the feature the intrinsic needs,
/// and none of those used here touches memory; what loads and stores there are between them is safe code.
macro_rules! op {
    ($call:expr) => {
        // SAFETY: see the macro's comment: `self` proves the feature; no intrinsic touches memory.
        unsafe { $call }
    };
}

impl Neon {
    /// The bit of each lane in a mask's bits.
    #[inline(always)]
    fn lane_bits(self) -> uint32x4_t {
        bytemuck::cast([1_u32, 2, 4, 8])
    }
}

impl Simd for Neon {
    const LANES: usize = 4;
    const REGISTERS: usize = 32;
    const TILES: Tiles = Tiles::of(Self::REGISTERS, Self::LANES);
    const TRANSPOSE: usize = 4;
    type Narrow = Self;
    type F32 = float32x4_t;
    type I32 = int32x4_t;
    type Mask = uint32x4_t;

    #[inline(always)]
    fn outlined<K: Kernel>(self, kernel: K) -> K::Out {
        self.run(kernel)
    }
    #[inline(always)]
    fn narrow(self) -> Self {
        self
    }
    #[inline(always)]
    fn splat(self, x: f32) -> float32x4_t {
        op!(vdupq_n_f32(x))
    }
    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        op!(vaddq_f32(a, b))
    }
    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        op!(vsubq_f32(a, b))
    }
    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        op!(vmulq_f32(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        op!(vfmaq_f32(c, a, b))
    }
    /// Every 64-bit ARM CPU has the instruction, so the compiler emits no call.
    #[inline(always)]
    fn mul_add_one(self, a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
    #[inline(always)]
    fn gt(self, a: float32x4_t, b: float32x4_t) -> uint32x4_t {
        op!(vcgtq_f32(a, b))
    }
    #[inline(always)]
    fn select(self, m: uint32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        op!(vbslq_f32(m, a, b))
    }
    #[inline(always)]
    fn to_bits(self, a: float32x4_t) -> int32x4_t {
        op!(vreinterpretq_s32_f32(a))
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> int32x4_t {
        op!(vdupq_n_s32(x))
    }
    #[inline(always)]
    fn add_i32(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        op!(vaddq_s32(a, b))
    }
    #[inline(always)]
    fn sub_i32(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        op!(vsubq_s32(a, b))
    }
    #[inline(always)]
    fn and_i32(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        op!(vandq_s32(a, b))
    }
    #[inline(always)]
    fn xor_i32(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        op!(veorq_s32(a, b))
    }
    #[inline(always)]
    fn min_i32(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        op!(vminq_s32(a, b))
    }
    #[inline(always)]
    fn max_i32(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        op!(vmaxq_s32(a, b))
    }
    #[inline(always)]
    fn abs_i32(self, a: int32x4_t) -> int32x4_t {
        op!(vabsq_s32(a))
    }
    #[inline(always)]
    fn shl_i32<const BITS: i32>(self, a: int32x4_t) -> int32x4_t {
        op!(vshlq_n_s32::<BITS>(a))
    }
    #[inline(always)]
    fn shr_i32<const BITS: i32>(self, a: int32x4_t) -> int32x4_t {
        // The immediate form refuses 0. A left shift by a negative count is an arithmetic right shift.
        op!(vshlq_s32(a, vdupq_n_s32(-BITS)))
    }
    #[inline(always)]
    fn eq_i32(self, a: int32x4_t, b: int32x4_t) -> uint32x4_t {
        op!(vceqq_s32(a, b))
    }
    #[inline(always)]
    fn gt_i32(self, a: int32x4_t, b: int32x4_t) -> uint32x4_t {
        op!(vcgtq_s32(a, b))
    }
    #[inline(always)]
    fn and_mask(self, a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        op!(vandq_u32(a, b))
    }
    #[inline(always)]
    fn mask_bits(self, m: uint32x4_t) -> u32 {
        op!(vaddvq_u32(vandq_u32(m, self.lane_bits())))
    }
    #[inline(always)]
    fn compress_i32(self, v: int32x4_t, bits: u32, dst: &mut [i32]) {
        let packed = op!({
            let bytes = bytemuck::cast(LANE_BYTES[(bits & 0xf) as usize]);
            vreinterpretq_s32_u8(vqtbl1q_u8(vreinterpretq_u8_s32(v), bytes))
        });
        self.store_i32(packed, dst);
    }
    #[inline(always)]
    fn repeat<const N: usize>(self, values: &[f32]) -> float32x4_t {
        match (N, values) {
            (1, _) => self.load(values),
            (2, &[a, b, ..]) => op!(vcombine_f32(vdup_n_f32(a), vdup_n_f32(b))),
            _ => self.splat(values[0]),
        }
    }
    #[inline(always)]
    fn repeat_bf16<const N: usize>(self, values: &[Bf16]) -> float32x4_t {
        match (N, values) {
            (1, _) => {
                let numbers = bytemuck::cast(*values.first_chunk::<4>().expect("4 numbers"));
                op!(vreinterpretq_f32_u32(vshlq_n_u32::<16>(vmovl_u16(numbers))))
            }
            (2, &[a, b, ..]) => op!(vcombine_f32(vdup_n_f32(a.widen()), vdup_n_f32(b.widen()))),
            _ => self.splat(values[0].widen()),
        }
    }
    #[inline(always)]
    fn transpose(self, from: Rows<'_>, mut to: RowsMut<'_>) {
        op!({
            let row = |i: usize| self.load(from.row(i));
            let (r0, r1, r2, r3) = (row(0), row(1), row(2), row(3));
            // The 2 × 2 corners of each pair of rows transposed, then the 64-bit halves exchanged.
            let even01 = vreinterpretq_f64_f32(vtrn1q_f32(r0, r1));
            let even23 = vreinterpretq_f64_f32(vtrn1q_f32(r2, r3));
            let odd01 = vreinterpretq_f64_f32(vtrn2q_f32(r0, r1));
            let odd23 = vreinterpretq_f64_f32(vtrn2q_f32(r2, r3));
            let columns = [
                vtrn1q_f64(even01, even23),
                vtrn1q_f64(odd01, odd23),
                vtrn2q_f64(even01, even23),
                vtrn2q_f64(odd01, odd23),
            ];
            for (j, column) in columns.into_iter().enumerate() {
                self.store(vreinterpretq_f32_f64(column), to.row(j));
            }
        })
    }
}
