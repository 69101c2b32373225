//! AVX2 with FMA: 8 lanes, 16 registers of 256 bits. Haswell (2013), Zen (2017) and later.
//!
//! Masks are vectors of all-ones or all-zeros lanes. There is no instruction that packs lanes: a table of 256 rows gives the
//! permutation for each mask. Partial loads and stores are `vmaskmovps`, which does not touch the inactive lanes. As a store it
//! is slow on AMD, so it is used only at edges; the compiler also emits it for a selection between new and old values that is
//! stored over the old ones. Without active lanes it is skipped: the address of an empty slice is not mapped, which costs
//! microcode on some CPUs, and at which qemu 7.2 faults.

use core::arch::x86_64::*;
use std::sync::OnceLock;

use crate::arch::rows::{Rows, RowsMut};
use crate::bf16::Bf16;
use crate::simd::{Kernel, Simd, array_of, positions};
use crate::tiles::Tiles;

static POSITIONS: [[u8; 8]; 256] = positions();
static RANKS: [[u8; 8]; 256] = ranks();

/// For each 8-bit mask and each bit: how many of the lower bits are set. One byte each; 2 KiB.
const fn ranks() -> [[u8; 8]; 256] {
    let mut table = [[0; 8]; 256];
    let mut bits = 0;
    while bits < 256 {
        let mut i = 1;
        while i < 8 {
            table[bits][i] = table[bits][i - 1] + (bits >> (i - 1) & 1) as u8;
            i += 1;
        }
        bits += 1;
    }
    table
}

/// Proof that this CPU has AVX2, FMA, BMI1, BMI2 and POPCNT.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(crate) fn detect() -> Option<Self> {
        let found = std::is_x86_feature_detected!("avx2")
            && std::is_x86_feature_detected!("fma")
            && std::is_x86_feature_detected!("bmi1")
            && std::is_x86_feature_detected!("bmi2")
            && std::is_x86_feature_detected!("popcnt");
        found.then_some(Self(()))
    }

    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Out {
        #[inline(never)]
        #[target_feature(enable = "avx2,fma,bmi1,bmi2,popcnt")]
        fn enter<K: Kernel>(s: Avx2, kernel: K) -> K::Out {
            kernel.run(s)
        }
        // SAFETY: `self` exists only where `detect` found these features.
        unsafe { enter(self, kernel) }
    }
}

/// [`Simd::prefetch`] of every x86-64 CPU.
#[inline(always)]
pub(super) fn prefetch<const L1: bool, T>(address: *const T) {
    // SAFETY: a hint: it loads nothing into the program, and no address makes it fault.
    unsafe {
        if L1 {
            _mm_prefetch::<_MM_HINT_T0>(address.cast());
        } else {
            _mm_prefetch::<_MM_HINT_T1>(address.cast());
        }
    }
}

/// [`Simd::materialize_address`] of every x86-64 CPU.
#[inline(always)]
#[expect(clippy::pointers_in_nomem_asm_block, reason = "nothing is read or written there")]
pub(super) fn materialize_address<T>(x: &T) -> &T {
    let mut address = core::ptr::from_ref(x);
    // SAFETY: no instruction at all: what comes back is the address of `x`. That may be any for the compiler, which thus
    // cannot take it apart again.
    unsafe {
        core::arch::asm!("/* {0} */", inout(reg) address, options(pure, nomem, nostack, preserves_flags));
        &*address
    }
}

/// [`Simd::via_gpr`] of every x86-64 CPU.
#[inline(always)]
pub(super) fn via_gpr(x: f32) -> f32 {
    let mut bits = x.to_bits();
    // SAFETY: no instruction at all: what comes back is `bits`, from a register that the compiler had to bring it to.
    unsafe {
        core::arch::asm!("/* {0:e} */", inout(reg) bits, options(pure, nomem, nostack, preserves_flags));
    }
    f32::from_bits(bits)
}

/// The registers that `cpuid` returns for this leaf.
#[expect(clippy::allow_attributes, reason = "older compilers do not expect it")]
#[allow(unused_unsafe, reason = "safe to call in newer versions of Rust")]
fn cpuid(leaf: u32, index: u32) -> CpuidResult {
    // SAFETY: every x86-64 CPU has the instruction; it touches no memory.
    unsafe { __cpuid_count(leaf, index) }
}

/// Bytes of this CPU's L1 data cache, or 32 KiB if it does not report them. Read once, because under a hypervisor the instruction
/// takes tens of microseconds.
pub(super) fn l1_bytes() -> usize {
    static BYTES: OnceLock<usize> = OnceLock::new();
    *BYTES.get_or_init(|| {
        // Intel and AMD describe their caches in the same form, in different leaves. The other maker's leaf reads zero; leaves
        // beyond the last one are not read.
        let most = |group: u32| cpuid(group, 0).eax;
        [(0, 4), (0x8000_0000, 0x8000_001d)]
            .into_iter()
            .filter(|&(group, caches)| most(group) >= caches)
            .flat_map(|(_, caches)| (0..4).map(move |index| cpuid(caches, index)))
            // Of level 1, for data (1) or both (3).
            .find(|cache| cache.eax >> 5 & 7 == 1 && matches!(cache.eax & 31, 1 | 3))
            .map(|cache| {
                let line = (cache.ebx & 0xfff) as usize + 1;
                let partitions = (cache.ebx >> 12 & 0x3ff) as usize + 1;
                let ways = (cache.ebx >> 22) as usize + 1;
                line * partitions * ways * (cache.ecx as usize + 1)
            })
            .unwrap_or(32 << 10)
    })
}

/// Whether one load for each row is taken to be faster than a gather instruction: everywhere but on Intel's CPUs from Alder Lake and
/// Sapphire Rapids on, which are known by the instruction `serialize`. Measured on Zen 4 (docs/tuning.md, "Few columns"); microcode
/// slows gathers of older CPUs of Intel down, against CVE-2022-40982. Read once, as [`l1_bytes`] is.
pub(super) fn loads_beat_gathers() -> bool {
    static LOADS: OnceLock<bool> = OnceLock::new();
    *LOADS.get_or_init(|| {
        let first = cpuid(0, 0);
        let is_intel = [first.ebx, first.edx, first.ecx].map(u32::to_le_bytes).concat() == b"GenuineIntel";
        let has_serialize = first.eax >= 7 && cpuid(7, 0).edx >> 14 & 1 == 1;
        !(is_intel && has_serialize)
    })
}

/// The four pairs that `places` name, each read by a load of its own.
///
/// # Safety
/// The CPU has AVX, and `table` points to 512 pairs.
#[inline(always)]
pub(super) unsafe fn pairs(table: *const f64, places: u64) -> __m256d {
    // SAFETY: the caller's; each index is below 512.
    unsafe {
        let at = |i: u64| table.add((places >> (16 * i)) as usize % 512);
        let two = |i: u64| _mm_loadh_pd(_mm_load_sd(at(i)), at(i + 1));
        _mm256_insertf128_pd::<1>(_mm256_castpd128_pd256(two(0)), two(2))
    }
}

/// Calls intrinsics. SAFETY of every use: a value of `Avx2` proves that the CPU has the feature the intrinsic needs,
/// and none of those used here touches memory; what loads and stores there are between them is safe code.
macro_rules! op {
    ($call:expr) => {
        // SAFETY: see the macro's comment: a value of `Avx2` proves the features; no intrinsic touches memory.
        unsafe { $call }
    };
}

/// For a shuffle of bytes within each 16: the bytes of number `lane / n` in the upper half of each lane, zeros in the lower one. All
/// numbers lie in each 16 bytes.
pub(super) const fn upper_halves<const BYTES: usize>(n: usize) -> [u8; BYTES] {
    let mut bytes = [0x80; BYTES];
    let mut lane = 0;
    while lane < BYTES / 4 {
        let number = lane / n;
        bytes[4 * lane + 2] = (2 * number % 16) as u8;
        bytes[4 * lane + 3] = (2 * number % 16 + 1) as u8;
        lane += 1;
    }
    bytes
}

/// Transposes 8 rows of 8 elements. Each register loads the halves of two rows that are 4 apart: the load puts each half in
/// place, which saves the shuffles across halves.
#[inline(always)]
pub(super) fn transpose_8x8(_avx2: Avx2, from: Rows<'_>, mut to: RowsMut<'_>) {
    let halves = |row: usize| -> &[[f32; 4]; 2] {
        bytemuck::cast_ref(from.row(row).first_chunk::<8>().expect("8 elements"))
    };
    let rows: [&[[f32; 4]; 2]; 8] = array_of(&[[0.0; 4]; 2], halves);
    for half in [0, 1] {
        let columns = op!({
            let mut pairs = [_mm256_setzero_ps(); 4];
            for i in 0..4 {
                let low = _mm256_castps128_ps256(bytemuck::cast(rows[i][half]));
                pairs[i] = _mm256_insertf128_ps::<1>(low, bytemuck::cast(rows[i + 4][half]));
            }
            let [r0, r1, r2, r3] = pairs;
            // Pairs of rows interleaved, then pairs of pairs.
            let (a0, a1) = (_mm256_unpacklo_ps(r0, r1), _mm256_unpackhi_ps(r0, r1));
            let (a2, a3) = (_mm256_unpacklo_ps(r2, r3), _mm256_unpackhi_ps(r2, r3));
            [
                _mm256_shuffle_ps::<0x44>(a0, a2),
                _mm256_shuffle_ps::<0xee>(a0, a2),
                _mm256_shuffle_ps::<0x44>(a1, a3),
                _mm256_shuffle_ps::<0xee>(a1, a3),
            ]
        });
        for (j, column) in columns.into_iter().enumerate() {
            *to.row(4 * half + j).first_chunk_mut::<8>().expect("8 elements") = bytemuck::cast(column);
        }
    }
}

impl Avx2 {
    /// The set bits' positions as 8 integers.
    #[inline(always)]
    fn positions_i32(self, bits: u32) -> __m256i {
        let row = i64::from_le_bytes(POSITIONS[(bits & 0xff) as usize]);
        op!(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(row)))
    }

    /// The mask whose first `n` lanes are set; all where there are fewer.
    #[inline(always)]
    fn first(self, n: usize) -> __m256i {
        self.gt_i32(self.splat_i32(n.min(8) as i32), self.iota_i32())
    }
}

impl Simd for Avx2 {
    const LANES: usize = 8;
    const REGISTERS: usize = 16;
    const TILES: Tiles = Tiles::of(Self::REGISTERS, Self::LANES);
    const TRANSPOSE: usize = 8;
    type Narrow = Self;
    type F32 = __m256;
    type I32 = __m256i;
    type Mask = __m256i;

    #[inline(always)]
    fn outlined<K: Kernel>(self, kernel: K) -> K::Out {
        self.run(kernel)
    }
    #[inline(always)]
    fn l1_bytes(self) -> usize {
        l1_bytes()
    }
    #[inline(always)]
    fn loads_beat_gathers(self) -> bool {
        loads_beat_gathers()
    }
    #[inline(always)]
    fn narrow(self) -> Self {
        self
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        op!(_mm256_set1_ps(x))
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        op!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        op!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        op!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        op!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn mul_add_one(self, a: f32, b: f32, c: f32) -> f32 {
        op!(_mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(a), _mm_set_ss(b), _mm_set_ss(c))))
    }
    #[inline(always)]
    fn gt(self, a: __m256, b: __m256) -> __m256i {
        op!(_mm256_castps_si256(_mm256_cmp_ps::<_CMP_GT_OQ>(a, b)))
    }
    #[inline(always)]
    fn select(self, m: __m256i, a: __m256, b: __m256) -> __m256 {
        op!(_mm256_blendv_ps(b, a, _mm256_castsi256_ps(m)))
    }
    #[inline(always)]
    fn to_bits(self, a: __m256) -> __m256i {
        op!(_mm256_castps_si256(a))
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> __m256i {
        op!(_mm256_set1_epi32(x))
    }
    #[inline(always)]
    fn add_i32(self, a: __m256i, b: __m256i) -> __m256i {
        op!(_mm256_add_epi32(a, b))
    }
    #[inline(always)]
    fn sub_i32(self, a: __m256i, b: __m256i) -> __m256i {
        op!(_mm256_sub_epi32(a, b))
    }
    #[inline(always)]
    fn and_i32(self, a: __m256i, b: __m256i) -> __m256i {
        op!(_mm256_and_si256(a, b))
    }
    #[inline(always)]
    fn xor_i32(self, a: __m256i, b: __m256i) -> __m256i {
        op!(_mm256_xor_si256(a, b))
    }
    #[inline(always)]
    fn min_i32(self, a: __m256i, b: __m256i) -> __m256i {
        op!(_mm256_min_epi32(a, b))
    }
    #[inline(always)]
    fn max_i32(self, a: __m256i, b: __m256i) -> __m256i {
        op!(_mm256_max_epi32(a, b))
    }
    #[inline(always)]
    fn abs_i32(self, a: __m256i) -> __m256i {
        op!(_mm256_abs_epi32(a))
    }
    #[inline(always)]
    fn shl_i32<const BITS: i32>(self, a: __m256i) -> __m256i {
        op!(_mm256_slli_epi32::<BITS>(a))
    }
    #[inline(always)]
    fn shr_i32<const BITS: i32>(self, a: __m256i) -> __m256i {
        op!(_mm256_srai_epi32::<BITS>(a))
    }
    #[inline(always)]
    fn eq_i32(self, a: __m256i, b: __m256i) -> __m256i {
        op!(_mm256_cmpeq_epi32(a, b))
    }
    #[inline(always)]
    fn gt_i32(self, a: __m256i, b: __m256i) -> __m256i {
        op!(_mm256_cmpgt_epi32(a, b))
    }
    #[inline(always)]
    fn and_mask(self, a: __m256i, b: __m256i) -> __m256i {
        op!(_mm256_and_si256(a, b))
    }
    #[inline(always)]
    fn mask_bits(self, m: __m256i) -> u32 {
        op!(_mm256_movemask_ps(_mm256_castsi256_ps(m))) as u32
    }
    #[inline(always)]
    fn mask_bits_of_4(self, m: [__m256i; 4]) -> u64 {
        op!({
            // Packing works within the halves of a register, so the lanes' bytes are interleaved by halves, in fours.
            let packed = _mm256_packs_epi16(_mm256_packs_epi32(m[0], m[1]), _mm256_packs_epi32(m[2], m[3]));
            let ordered = _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
            u64::from(_mm256_movemask_epi8(ordered) as u32)
        })
    }
    #[inline(always)]
    fn compress_i32(self, v: __m256i, bits: u32, dst: &mut [i32]) {
        let packed = op!(_mm256_permutevar8x32_epi32(v, self.positions_i32(bits)));
        self.store_i32(packed, dst);
    }
    #[inline(always)]
    fn expand(self, v: __m256, bits: u32) -> __m256 {
        let ranks = u64::from_le_bytes(RANKS[usize::from(bits as u8)]);
        op!(_mm256_permutevar8x32_ps(v, _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(ranks as i64))))
    }
    #[inline(always)]
    fn mul_add_where(self, bits: u32, a: __m256, b: __m256, c: __m256) -> __m256 {
        op!({
            let lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
            let chosen = _mm256_and_si256(_mm256_set1_epi32(bits as i32), lanes);
            let chosen = _mm256_castsi256_ps(_mm256_cmpeq_epi32(chosen, lanes));
            _mm256_blendv_ps(c, _mm256_fmadd_ps(a, b, c), chosen)
        })
    }
    #[inline(always)]
    fn compress_entries(self, first: __m256i, v: __m256, bits: u32, dst: &mut [u64]) {
        let positions = self.positions_i32(bits);
        let (low, high) = op!({
            let values = _mm256_castps_si256(_mm256_permutevar8x32_ps(v, positions));
            let columns = _mm256_add_epi32(first, positions);
            // Interleaving works within 128-bit halves; the halves are put in order afterwards.
            let (even, odd) =
                (_mm256_unpacklo_epi32(columns, values), _mm256_unpackhi_epi32(columns, values));
            (_mm256_permute2x128_si256::<0x20>(even, odd), _mm256_permute2x128_si256::<0x31>(even, odd))
        });
        dst[..8].copy_from_slice(&bytemuck::cast::<[__m256i; 2], [u64; 8]>([low, high]));
    }
    #[inline(always)]
    fn gather<const N: usize, const LOADS: bool>(self, table: &[[f32; N]; 512], places: &[u16]) -> __m256 {
        let table = table.as_flattened().as_ptr();
        match N {
            1 => {
                let places: &[u16; 8] = places.first_chunk().expect("8 places");
                // SAFETY: `self` proves the features; each index is below 512, the length of the table.
                unsafe {
                    if LOADS {
                        // Shifts of a register are faster than loads of single places.
                        let [low, high]: [u64; 2] = bytemuck::cast(*places);
                        let one = |of: u64, i: u64| _mm_load_ss(table.add((of >> (16 * i)) as usize % 512));
                        let four = |of: u64| {
                            let two = _mm_insert_ps::<0x10>(one(of, 0), one(of, 1));
                            _mm_insert_ps::<0x30>(_mm_insert_ps::<0x20>(two, one(of, 2)), one(of, 3))
                        };
                        _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(four(low)), four(high))
                    } else {
                        let places = _mm256_cvtepu16_epi32(bytemuck::cast(*places));
                        _mm256_i32gather_ps::<4>(table, _mm256_and_si256(places, _mm256_set1_epi32(511)))
                    }
                }
            }
            2 => {
                let places: &[u16; 4] = places.first_chunk().expect("4 places");
                let table: *const f64 = table.cast();
                // SAFETY: `self` proves the features; each index is below 512, the number of pairs in the table.
                unsafe {
                    _mm256_castpd_ps(if LOADS {
                        pairs(table, bytemuck::cast(*places))
                    } else {
                        let places = _mm_cvtepu16_epi32(_mm_cvtsi64_si128(bytemuck::cast(*places)));
                        _mm256_i32gather_pd::<8>(table, _mm_and_si128(places, _mm_set1_epi32(511)))
                    })
                }
            }
            4 => {
                let at = |i: usize| usize::from(places[i]) % 512 * 4;
                // SAFETY: `self` proves the features; four elements are read from a place within the 2048 of the table.
                unsafe {
                    let low = _mm256_castps128_ps256(_mm_loadu_ps(table.add(at(0))));
                    _mm256_insertf128_ps::<1>(low, _mm_loadu_ps(table.add(at(1))))
                }
            }
            _ => unreachable!("1, 2 or 4"),
        }
    }
    #[inline(always)]
    fn repeat<const N: usize>(self, values: &[f32]) -> __m256 {
        match N {
            1 => self.load(values),
            2 => {
                let values: [f32; 4] = *values.first_chunk().expect("4 values");
                let lanes = bytemuck::cast([0, 0, 1, 1, 2, 2, 3, 3]);
                op!(_mm256_permutevar8x32_ps(_mm256_castps128_ps256(bytemuck::cast(values)), lanes))
            }
            _ => {
                let &[low, high] = values.first_chunk().expect("2 values");
                op!(_mm256_insertf128_ps::<1>(_mm256_set1_ps(low), _mm_set1_ps(high)))
            }
        }
    }
    /// All numbers to both halves by the load, then each to its lanes by one shuffle of bytes, which clears the lower halves.
    #[inline(always)]
    fn repeat_bf16<const N: usize>(self, values: &[Bf16]) -> __m256 {
        let numbers = op!(match N {
            1 => _mm256_broadcastsi128_si256(bytemuck::cast(*values.first_chunk::<8>().expect("8 numbers"))),
            2 => _mm256_set1_epi64x(bytemuck::cast(*values.first_chunk::<4>().expect("4 numbers"))),
            _ => _mm256_set1_epi32(bytemuck::cast(*values.first_chunk::<2>().expect("2 numbers"))),
        });
        let bytes = const { upper_halves::<32>(N) };
        op!(_mm256_castsi256_ps(_mm256_shuffle_epi8(numbers, bytemuck::cast(bytes))))
    }
    #[inline(always)]
    fn transpose(self, from: Rows<'_>, to: RowsMut<'_>) {
        transpose_8x8(self, from, to);
    }
    #[inline(always)]
    fn prefetch<const L1: bool, T>(self, address: *const T) {
        prefetch::<L1, T>(address);
    }
    #[inline(always)]
    fn via_gpr(self, x: f32) -> f32 {
        via_gpr(x)
    }
    #[inline(always)]
    fn materialize_address<T>(self, x: &T) -> &T {
        materialize_address(x)
    }
    #[inline(always)]
    fn schedule_barrier(self, v: __m256i) -> __m256i {
        #[inline]
        #[target_feature(enable = "avx2")]
        fn schedule_barrier(mut v: __m256i) -> __m256i {
            // SAFETY: no instruction at all; the compiler may not move it past a branch.
            unsafe {
                core::arch::asm!("/* {0} */", inout(ymm_reg) v, options(nomem, nostack, preserves_flags))
            };
            v
        }
        op!(schedule_barrier(v))
    }
    #[inline(always)]
    fn load_partial(self, src: &[f32]) -> __m256 {
        if src.is_empty() {
            return self.splat(0.0);
        }
        let lanes = self.first(src.len());
        // SAFETY: `self` proves the features; the instruction does not touch the lanes switched off, and the others are
        // within `src`.
        unsafe { _mm256_maskload_ps(src.as_ptr(), lanes) }
    }
    #[inline(always)]
    fn store_partial(self, v: __m256, dst: &mut [f32]) {
        if dst.is_empty() {
            return;
        }
        let lanes = self.first(dst.len());
        // SAFETY: `self` proves the features; the instruction does not touch the lanes switched off, and the others are
        // within `dst`.
        unsafe { _mm256_maskstore_ps(dst.as_mut_ptr(), lanes, v) }
    }
    /// `vminps` is defined as the trait has it: the second operand unless the first is smaller.
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        op!(_mm256_min_ps(a, b))
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        op!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    fn relu(self, a: __m256) -> __m256 {
        self.max(a, self.splat(0.0))
    }
}
