//! AVX-512 (F, BW, DQ, VL): 16 lanes, 32 registers of 512 bits. Skylake-X (2017), Ice Lake (2019), Zen 4 (2022) and
//! later; not Intel's client CPUs from Alder Lake (2021) on.
//!
//! Masks are 16-bit integers in separate registers (k0 to k7): a comparison yields the bits directly, a partial load or store is
//! one instruction that does not touch the inactive lanes, and `vpcompressd` packs lanes without a table. It packs into a
//! register, which is then stored whole, because compressing into memory is microcode on Zen 4.
//!
//! Zen 4 runs a 512-bit operation as two halves: the arithmetic peak of AVX2, but half the instructions to decode and four times
//! the register space, so that the accumulators of a large tile stay in registers.

use core::arch::x86_64::*;

use crate::arch::avx2::{Avx2, pairs, upper_halves};
use crate::arch::rows::{Rows, RowsMut};
use crate::bf16::Bf16;
use crate::simd::{Kernel, Simd};
use crate::tiles::Tiles;

/// Proof that this CPU has AVX-512 F, BW, DQ and VL, and all that [`Avx2`] asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512 {
    avx2: Avx2,
}

impl Avx512 {
    pub(crate) fn detect() -> Option<Self> {
        let avx2 = Avx2::detect()?;
        let found = std::is_x86_feature_detected!("avx512f")
            && std::is_x86_feature_detected!("avx512bw")
            && std::is_x86_feature_detected!("avx512dq")
            && std::is_x86_feature_detected!("avx512vl");
        found.then_some(Self { avx2 })
    }

    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Out {
        #[inline(never)]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2,popcnt")]
        fn enter<K: Kernel>(s: Avx512, kernel: K) -> K::Out {
            kernel.run(s)
        }
        // SAFETY: `self` exists only where `detect` found these features.
        unsafe { enter(self, kernel) }
    }
}

/// Calls an intrinsic. SAFETY of every use: a value of `Avx512` proves that the CPU has the feature the intrinsic needs,
/// and none of those used here touches memory; what loads and stores there are between them is safe code.
macro_rules! op {
    ($call:expr) => {
        // SAFETY: see the macro's comment: `self` proves the features; no intrinsic touches memory.
        unsafe { $call }
    };
}

/// The mask whose first `n` ≤ 16 lanes are set.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    ((1_u32 << n) - 1) as __mmask16
}

impl Simd for Avx512 {
    const LANES: usize = 16;
    const REGISTERS: usize = 32;
    const TILES: Tiles = Tiles::of(Self::REGISTERS, Self::LANES);
    const TRANSPOSE: usize = 8;
    type Narrow = Avx2;
    type F32 = __m512;
    type I32 = __m512i;
    type Mask = __mmask16;

    #[inline(always)]
    fn outlined<K: Kernel>(self, kernel: K) -> K::Out {
        self.run(kernel)
    }
    #[inline(always)]
    fn l1_bytes(self) -> usize {
        super::avx2::l1_bytes()
    }
    #[inline(always)]
    fn loads_beat_gathers(self) -> bool {
        super::avx2::loads_beat_gathers()
    }
    #[inline(always)]
    fn narrow(self) -> Avx2 {
        self.avx2
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        op!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        op!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn mul_add_one(self, a: f32, b: f32, c: f32) -> f32 {
        op!(_mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(a), _mm_set_ss(b), _mm_set_ss(c))))
    }
    #[inline(always)]
    fn gt(self, a: __m512, b: __m512) -> __mmask16 {
        op!(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b))
    }
    #[inline(always)]
    fn select(self, m: __mmask16, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_mask_blend_ps(m, b, a))
    }
    #[inline(always)]
    fn to_bits(self, a: __m512) -> __m512i {
        op!(_mm512_castps_si512(a))
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> __m512i {
        op!(_mm512_set1_epi32(x))
    }
    #[inline(always)]
    fn add_i32(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_add_epi32(a, b))
    }
    #[inline(always)]
    fn sub_i32(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_sub_epi32(a, b))
    }
    #[inline(always)]
    fn and_i32(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_and_si512(a, b))
    }
    #[inline(always)]
    fn xor_i32(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_xor_si512(a, b))
    }
    #[inline(always)]
    fn min_i32(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_min_epi32(a, b))
    }
    #[inline(always)]
    fn max_i32(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_max_epi32(a, b))
    }
    #[inline(always)]
    fn abs_i32(self, a: __m512i) -> __m512i {
        op!(_mm512_abs_epi32(a))
    }
    #[inline(always)]
    fn shl_i32<const BITS: i32>(self, a: __m512i) -> __m512i {
        // The immediate form takes its count as another type; this one folds to the same instruction.
        op!(_mm512_sll_epi32(a, _mm_cvtsi32_si128(BITS)))
    }
    #[inline(always)]
    fn shr_i32<const BITS: i32>(self, a: __m512i) -> __m512i {
        op!(_mm512_sra_epi32(a, _mm_cvtsi32_si128(BITS)))
    }
    #[inline(always)]
    fn eq_i32(self, a: __m512i, b: __m512i) -> __mmask16 {
        op!(_mm512_cmpeq_epi32_mask(a, b))
    }
    #[inline(always)]
    fn gt_i32(self, a: __m512i, b: __m512i) -> __mmask16 {
        op!(_mm512_cmpgt_epi32_mask(a, b))
    }
    #[inline(always)]
    fn and_mask(self, a: __mmask16, b: __mmask16) -> __mmask16 {
        a & b
    }
    #[inline(always)]
    fn mask_bits(self, m: __mmask16) -> u32 {
        u32::from(m)
    }
    #[inline(always)]
    fn compress_i32(self, v: __m512i, bits: u32, dst: &mut [i32]) {
        self.store_i32(op!(_mm512_maskz_compress_epi32(bits as __mmask16, v)), dst);
    }
    #[inline(always)]
    fn expand(self, v: __m512, bits: u32) -> __m512 {
        op!(_mm512_maskz_expand_ps(bits as __mmask16, v))
    }
    #[inline(always)]
    fn mul_add_where(self, bits: u32, a: __m512, b: __m512, c: __m512) -> __m512 {
        op!(_mm512_mask3_fmadd_ps(a, b, c, bits as __mmask16))
    }
    #[inline(always)]
    fn compress_entries(self, first: __m512i, v: __m512, bits: u32, dst: &mut [u64]) {
        let (low, high) = (bits as __mmask8, (bits >> 8) as __mmask8);
        let halves: [[u64; 8]; 2] = bytemuck::cast(op!({
            let values = _mm512_castps_si512(v);
            let columns = _mm512_add_epi32(first, self.iota_i32());
            // Column i, value i, column i + 1, …: lanes of `values` count from 16. Entries are formed before they are packed,
            // because packing columns and values separately in 32-bit lanes is slower (`slth-bench --case "rebuild"`, Zen 4).
            let low_half = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let high_half = _mm512_add_epi32(low_half, _mm512_set1_epi32(8));
            [
                _mm512_maskz_compress_epi64(low, _mm512_permutex2var_epi32(columns, low_half, values)),
                _mm512_maskz_compress_epi64(high, _mm512_permutex2var_epi32(columns, high_half, values)),
            ]
        }));
        let dst = &mut dst[..16];
        dst[..8].copy_from_slice(&halves[0]);
        dst[low.count_ones() as usize..][..8].copy_from_slice(&halves[1]);
    }
    /// Half-width shuffles run on two ports of Intel's processors, full-width ones on one.
    /// 16 single elements would be no faster than twice 8, which is what products ask [`Avx2`] for.
    #[inline(always)]
    fn gather<const N: usize, const LOADS: bool>(self, table: &[[f32; N]; 512], places: &[u16]) -> __m512 {
        let table = table.as_flattened().as_ptr();
        match N {
            2 => {
                let places: &[u16; 8] = places.first_chunk().expect("8 places");
                // SAFETY: `self` proves the features; each index is below 512, the number of pairs in the table.
                unsafe {
                    _mm512_castpd_ps(if LOADS {
                        let [low, high]: [u64; 2] = bytemuck::cast(*places);
                        let low = _mm512_castpd256_pd512(pairs(table.cast(), low));
                        _mm512_insertf64x4::<1>(low, pairs(table.cast(), high))
                    } else {
                        let places = _mm256_cvtepu16_epi32(bytemuck::cast(*places));
                        let places = _mm256_and_si256(places, _mm256_set1_epi32(511));
                        _mm512_i32gather_pd::<8>(places, table.cast())
                    })
                }
            }
            4 => {
                let places: &[u16; 4] = places.first_chunk().expect("4 places");
                let places: u64 = bytemuck::cast(*places);
                let at = |i: u64| (places >> (16 * i)) as usize % 512 * 4;
                // SAFETY: `self` proves the features; four elements are read from a place within the 2048 of the table.
                unsafe {
                    let row = |i| _mm_loadu_ps(table.add(at(i)));
                    let first = _mm512_zextps128_ps512(row(0));
                    let second = _mm512_mask_broadcast_f32x4(first, 0x00f0, row(1));
                    let third = _mm512_mask_broadcast_f32x4(second, 0x0f00, row(2));
                    _mm512_mask_broadcast_f32x4(third, 0xf000, row(3))
                }
            }
            _ => unreachable!("2 or 4"),
        }
    }
    #[inline(always)]
    fn repeat<const N: usize>(self, values: &[f32]) -> __m512 {
        match N {
            1 => self.load(values),
            2 => {
                let values: [f32; 8] = *values.first_chunk().expect("8 values");
                let lanes = bytemuck::cast([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]);
                op!(_mm512_permutexvar_ps(lanes, _mm512_castps256_ps512(bytemuck::cast(values))))
            }
            _ => {
                let values: [f32; 4] = *values.first_chunk().expect("4 values");
                let lanes = bytemuck::cast([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]);
                op!(_mm512_permutevar_ps(_mm512_broadcast_f32x4(bytemuck::cast(values)), lanes))
            }
        }
    }
    #[inline(always)]
    fn repeat_bf16<const N: usize>(self, values: &[Bf16]) -> __m512 {
        if N == 1 {
            let numbers = bytemuck::cast(*values.first_chunk::<16>().expect("16 numbers"));
            return op!(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(numbers))));
        }
        // As AVX2 does.
        let numbers = op!(match N {
            2 => _mm512_broadcast_i32x4(bytemuck::cast(*values.first_chunk::<8>().expect("8 numbers"))),
            _ => _mm512_set1_epi64(bytemuck::cast(*values.first_chunk::<4>().expect("4 numbers"))),
        });
        let bytes = const { upper_halves::<64>(N) };
        op!(_mm512_castsi512_ps(_mm512_shuffle_epi8(numbers, bytemuck::cast(bytes))))
    }
    #[inline(always)]
    fn transpose(self, from: Rows<'_>, to: RowsMut<'_>) {
        super::avx2::transpose_8x8(self.avx2, from, to);
    }
    #[inline(always)]
    fn prefetch<const L1: bool, T>(self, address: *const T) {
        super::avx2::prefetch::<L1, T>(address);
    }
    #[inline(always)]
    fn via_gpr(self, x: f32) -> f32 {
        super::avx2::via_gpr(x)
    }
    #[inline(always)]
    fn materialize_address<T>(self, x: &T) -> &T {
        super::avx2::materialize_address(x)
    }
    #[inline(always)]
    fn load_partial(self, src: &[f32]) -> __m512 {
        let lanes = first(src.len().min(16));
        // SAFETY: `self` proves the features; the instruction does not touch the lanes switched off, and the others are
        // within `src`.
        unsafe { _mm512_maskz_loadu_ps(lanes, src.as_ptr()) }
    }
    #[inline(always)]
    fn store_partial(self, v: __m512, dst: &mut [f32]) {
        let lanes = first(dst.len().min(16));
        // SAFETY: `self` proves the features; the instruction does not touch the lanes switched off, and the others are
        // within `dst`.
        unsafe { _mm512_mask_storeu_ps(dst.as_mut_ptr(), lanes, v) }
    }
    /// `vminps` is defined as the trait has it: the second operand unless the first is smaller.
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn relu(self, a: __m512) -> __m512 {
        self.max(a, self.splat(0.0))
    }
}
