//! The vector unit as the kernels see it.
//!
//! A kernel is written once, over [`Simd`], and instantiated per instruction set by [`Backend::run`](crate::Backend). The trait
//! enforces the determinism rules of this crate by its choice of operations:
//!
//! * lanes are independent: there is no horizontal float reduction, so a sum cannot depend on the lane count;
//! * [`Simd::mul_add`] rounds once on every instruction set;
//! * [`Simd::min`] and [`Simd::max`] are defined by a comparison, not by what an instruction does with NaN and −0.
//!
//! Integer lanes may be combined in any order: integer sums are exact.
//!
//! Only NaN payloads are outside the contract: instruction sets differ in the NaN they make from ∞ − ∞.

use bytemuck::Pod;

use crate::arch::rows::{Rows, RowsMut};
use crate::bf16::Bf16;
use crate::tiles::Tiles;

/// `[f(0), f(1), …]`; `any` is any value. Kernels do not call `core::array::from_fn` or `map` of an array: functions between these
/// and the closure may be compiled apart from the kernel, without the backend's instructions.
#[inline(always)]
pub(crate) fn array_of<T: Copy, const N: usize>(any: T, mut f: impl FnMut(usize) -> T) -> [T; N] {
    let mut all = [any; N];
    for (i, element) in all.iter_mut().enumerate() {
        *element = f(i);
    }
    all
}

/// For each 8-bit mask the positions of its set bits, ascending, one byte each; 2 KiB, so it stays in L1.
pub(crate) const fn positions() -> [[u8; 8]; 256] {
    let mut table = [[0; 8]; 256];
    let mut bits = 0;
    while bits < 256 {
        let mut kept = 0;
        let mut i = 0;
        while i < 8 {
            if bits >> i & 1 != 0 {
                table[bits][kept] = i as u8;
                kept += 1;
            }
            i += 1;
        }
        bits += 1;
    }
    table
}

/// A computation that can run on any vector unit.
pub(crate) trait Kernel {
    /// What the computation returns.
    type Out;
    /// Runs it. Implementations are `#[inline(always)]`, and so is every helper they call with `s`: the code must
    /// end up inside the `#[target_feature]` function of the backend, or each operation becomes a call.
    fn run<S: Simd>(self, s: S) -> Self::Out;
}

/// Vectors of [`LANES`](Simd::LANES) lanes of `f32` or `i32`. A value of an implementing type is proof that this CPU
/// has the instructions.
///
/// Loads and stores take slices and use their first `LANES` elements; they panic when there are fewer.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// Lanes of a vector; at most 32.
    const LANES: usize;
    /// Number of vector registers; decides sizes of tiles, which change speed but no result.
    const REGISTERS: usize;
    /// The sizes of register tiles.
    const TILES: Tiles;
    /// Rows and columns of a tile that is transposed in registers; at most 16, and `LANES` is a multiple.
    const TRANSPOSE: usize;
    /// A vector unit of the same CPU with at most 8 lanes, whose number divides 8.
    type Narrow: Simd;
    /// `LANES` × `f32`, in memory exactly like `[f32; LANES]`.
    type F32: Pod + Send + Sync;
    /// `LANES` × `i32`, in memory exactly like `[i32; LANES]`.
    type I32: Pod + Send + Sync;
    /// `LANES` × `bool`, in the form of the instruction set.
    type Mask: Copy;

    /// Runs a part of a kernel as a separate function, so that a hot loop has all registers: inlined into a large function, some
    /// loops reload their pointers from the stack before every use.
    fn outlined<K: Kernel>(self, kernel: K) -> K::Out;

    fn narrow(self) -> Self::Narrow;

    fn splat(self, x: f32) -> Self::F32;
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// a · b + c with one rounding.
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// a · b + c with one rounding, for single numbers. An instruction if the backend has one, never a call into the platform's
    /// library.
    fn mul_add_one(self, a: f32, b: f32, c: f32) -> f32;
    /// a > b
    fn gt(self, a: Self::F32, b: Self::F32) -> Self::Mask;
    /// Where `m` holds `a`, elsewhere `b`.
    fn select(self, m: Self::Mask, a: Self::F32, b: Self::F32) -> Self::F32;
    /// The lanes' bit patterns.
    fn to_bits(self, a: Self::F32) -> Self::I32;

    fn splat_i32(self, x: i32) -> Self::I32;
    /// Wrapping sum.
    fn add_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Wrapping difference.
    fn sub_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    fn and_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    fn xor_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    fn min_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    fn max_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Shifts left by `BITS` < 32.
    fn shl_i32<const BITS: i32>(self, a: Self::I32) -> Self::I32;
    /// Shifts right by `BITS` < 32, copies of the sign coming in.
    fn shr_i32<const BITS: i32>(self, a: Self::I32) -> Self::I32;
    fn eq_i32(self, a: Self::I32, b: Self::I32) -> Self::Mask;
    fn gt_i32(self, a: Self::I32, b: Self::I32) -> Self::Mask;

    fn and_mask(self, a: Self::Mask, b: Self::Mask) -> Self::Mask;
    /// Bit i is lane i; the bits from `LANES` on are 0.
    fn mask_bits(self, m: Self::Mask) -> u32;
    /// [`mask_bits`](Simd::mask_bits) of four masks, one after the other. `LANES` must be at most 16.
    #[inline(always)]
    fn mask_bits_of_4(self, m: [Self::Mask; 4]) -> u64 {
        let low = u64::from(self.mask_bits(m[0])) | u64::from(self.mask_bits(m[1])) << Self::LANES;
        let high = u64::from(self.mask_bits(m[2])) | u64::from(self.mask_bits(m[3])) << Self::LANES;
        low | high << (2 * Self::LANES)
    }

    /// Writes the lanes whose bit is set, packed to the front, then unspecified elements, `LANES` in all. Bits from `LANES` on
    /// must be 0.
    #[inline(always)]
    fn compress_i32(self, v: Self::I32, bits: u32, dst: &mut [i32]) {
        let lanes = bytemuck::cast_slice::<Self::I32, i32>(core::slice::from_ref(&v));
        let dst = &mut dst[..Self::LANES];
        let mut rest = bits;
        let mut kept = 0;
        while rest != 0 {
            dst[kept] = lanes[rest.trailing_zeros() as usize];
            rest &= rest - 1;
            kept += 1;
        }
    }

    /// The inverse of [`compress_i32`](Self::compress_i32): the first lanes of `v`, in order, in the lanes whose bit is set.
    /// Nothing is said of the other lanes.
    #[inline(always)]
    fn expand(self, v: Self::F32, bits: u32) -> Self::F32 {
        let (from, mut to) = (v, v);
        let from = bytemuck::cast_slice::<Self::F32, f32>(core::slice::from_ref(&from));
        let lanes = bytemuck::cast_slice_mut::<Self::F32, f32>(core::slice::from_mut(&mut to));
        let mut taken = 0;
        for (i, lane) in lanes.iter_mut().enumerate() {
            *lane = from[taken.min(Self::LANES - 1)];
            taken += (bits >> i & 1) as usize;
        }
        to
    }

    /// `a * b + c` in the lanes whose bit is set, `c` in the others.
    #[inline(always)]
    fn mul_add_where(self, bits: u32, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        let mut sums = c;
        let new = self.mul_add(a, b, c);
        let new = bytemuck::cast_slice::<Self::F32, f32>(core::slice::from_ref(&new));
        let lanes = bytemuck::cast_slice_mut::<Self::F32, f32>(core::slice::from_mut(&mut sums));
        for (i, (lane, &new)) in lanes.iter_mut().zip(new).enumerate() {
            if bits >> i & 1 != 0 {
                *lane = new;
            }
        }
        sums
    }

    /// Writes, for each lane whose bit is set, an integer with the bit pattern of `v`'s lane in the high half and its column,
    /// `first`'s lane plus the lane's index, in the low half, packed to the front, then unspecified elements, `LANES` in all.
    /// Bits from `LANES` on must be 0, and all lanes of `first` equal.
    #[inline(always)]
    fn compress_entries(self, first: Self::I32, v: Self::F32, bits: u32, dst: &mut [u64]) {
        let values = bytemuck::cast_slice::<Self::F32, u32>(core::slice::from_ref(&v));
        let first = bytemuck::cast_slice::<Self::I32, u32>(core::slice::from_ref(&first));
        let dst = &mut dst[..Self::LANES];
        let mut rest = bits;
        let mut kept = 0;
        while rest != 0 {
            let i = rest.trailing_zeros() as usize;
            dst[kept] = u64::from(values[i]) << 32 | u64::from(first[i].wrapping_add(i as u32));
            rest &= rest - 1;
            kept += 1;
        }
    }

    /// The rows of `table` that `places` name, `LANES / N` of them, one after the other. Of a place only the value below 512 counts.
    /// `LOADS`: by a load for each row, even where there is an instruction for all ([`loads_beat_gathers`](Self::loads_beat_gathers)).
    #[inline(always)]
    fn gather<const N: usize, const LOADS: bool>(self, table: &[[f32; N]; 512], places: &[u16]) -> Self::F32 {
        let mut v = self.splat(0.0);
        let lanes = bytemuck::cast_slice_mut::<Self::F32, f32>(core::slice::from_mut(&mut v));
        for (lanes, &place) in lanes.chunks_exact_mut(N).zip(&places[..Self::LANES / N]) {
            lanes.copy_from_slice(&table[usize::from(place) % 512]);
        }
        v
    }

    /// `LANES / N` values, each in `N` neighbouring lanes.
    #[inline(always)]
    fn repeat<const N: usize>(self, values: &[f32]) -> Self::F32 {
        let mut v = self.splat(0.0);
        let lanes = bytemuck::cast_slice_mut::<Self::F32, f32>(core::slice::from_mut(&mut v));
        for (lanes, &value) in lanes.chunks_exact_mut(N).zip(&values[..Self::LANES / N]) {
            lanes.fill(value);
        }
        v
    }

    /// `LANES / N` numbers, widened, each in `N` neighbouring lanes.
    #[inline(always)]
    fn repeat_bf16<const N: usize>(self, values: &[Bf16]) -> Self::F32 {
        let mut v = self.splat(0.0);
        let lanes = bytemuck::cast_slice_mut::<Self::F32, f32>(core::slice::from_mut(&mut v));
        for (lanes, value) in lanes.chunks_exact_mut(N).zip(&values[..Self::LANES / N]) {
            lanes.fill(value.widen());
        }
        v
    }

    /// Two numbers, widened, each in all lanes.
    #[inline(always)]
    fn splat_2_bf16(self, values: [Bf16; 2]) -> [Self::F32; 2] {
        // One load of 32 bits for both.
        let both = self.splat_i32(bytemuck::cast(values));
        let upper = self.and_i32(both, self.splat_i32(!0xffff));
        let lower = self.shl_i32::<16>(both);
        let (lower, upper) = (bytemuck::cast(lower), bytemuck::cast(upper));
        if cfg!(target_endian = "little") { [lower, upper] } else { [upper, lower] }
    }

    /// Transposes a tile of `TRANSPOSE` rows of as many elements.
    #[inline(always)]
    fn transpose(self, from: Rows<'_>, mut to: RowsMut<'_>) {
        for i in 0..Self::TRANSPOSE {
            for (j, &x) in from.row(i)[..Self::TRANSPOSE].iter().enumerate() {
                to.row(j)[i] = x;
            }
        }
    }

    /// Bytes of the L1 data cache; decides sizes of tiles, which change speed but no result.
    #[inline(always)]
    fn l1_bytes(self) -> usize {
        32 << 10
    }

    /// Whether [`gather`](Self::gather) is faster by loads; `false` where it makes no difference.
    #[inline(always)]
    fn loads_beat_gathers(self) -> bool {
        false
    }

    /// Prefetches the cache line of `address`, which may be invalid, into L1, or into L2 only.
    #[inline(always)]
    fn prefetch<const L1: bool, T>(self, _address: *const T) {}

    /// `x`, its address computed into one register first. Avoids indexed addressing, which un-laminates load + FMA on Intel.
    #[inline(always)]
    fn materialize_address<T>(self, x: &T) -> &T {
        x
    }

    /// `x`, moved to a general-purpose register. A broadcast from memory would occupy one of the two load ports.
    #[inline(always)]
    fn via_gpr(self, x: f32) -> f32 {
        x
    }

    #[inline(always)]
    fn load(self, src: &[f32]) -> Self::F32 {
        bytemuck::pod_read_unaligned(bytemuck::cast_slice(&src[..Self::LANES]))
    }

    #[inline(always)]
    fn store(self, v: Self::F32, dst: &mut [f32]) {
        dst[..Self::LANES].copy_from_slice(bytemuck::cast_slice(core::slice::from_ref(&v)));
    }

    #[inline(always)]
    fn load_i32(self, src: &[i32]) -> Self::I32 {
        bytemuck::pod_read_unaligned(bytemuck::cast_slice(&src[..Self::LANES]))
    }

    #[inline(always)]
    fn store_i32(self, v: Self::I32, dst: &mut [i32]) {
        dst[..Self::LANES].copy_from_slice(bytemuck::cast_slice(core::slice::from_ref(&v)));
    }

    /// Loads up to `LANES` elements; lanes past the end of `src` are 0.
    #[inline(always)]
    fn load_partial(self, src: &[f32]) -> Self::F32 {
        let mut v = self.splat(0.0);
        let n = src.len().min(Self::LANES);
        bytemuck::cast_slice_mut::<Self::F32, f32>(core::slice::from_mut(&mut v))[..n]
            .copy_from_slice(&src[..n]);
        v
    }

    /// Stores as many lanes as `dst` has room for, at most `LANES`.
    #[inline(always)]
    fn store_partial(self, v: Self::F32, dst: &mut [f32]) {
        let n = dst.len().min(Self::LANES);
        dst[..n].copy_from_slice(&bytemuck::cast_slice(core::slice::from_ref(&v))[..n]);
    }

    /// The smaller one: a < b ? a : b.
    #[inline(always)]
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        self.select(self.gt(b, a), a, b)
    }

    /// The larger one: a > b ? a : b. As in `min`, `a` must not be a signalling NaN if the compiler can prove that `b` is a number,
    /// see [`relu`](Self::relu). Results of arithmetic are never signalling.
    #[inline(always)]
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        self.select(self.gt(a, b), a, b)
    }

    /// a > 0 ? a : 0. Compares the bits as integers: a comparison of floats may be compiled to aarch64's `fmaxnm`, which turns a
    /// signalling NaN into a quiet one instead of 0.
    #[inline(always)]
    fn relu(self, a: Self::F32) -> Self::F32 {
        let (bits, infinity) = (self.to_bits(a), f32::INFINITY.to_bits() as i32);
        let positive = self.gt_i32(bits, self.splat_i32(0));
        let number = self.gt_i32(self.splat_i32(infinity + 1), bits);
        self.select(self.and_mask(positive, number), a, self.splat(0.0))
    }

    /// |a|; `i32::MIN` stays itself.
    #[inline(always)]
    fn abs_i32(self, a: Self::I32) -> Self::I32 {
        self.max_i32(a, self.sub_i32(self.splat_i32(0), a))
    }

    /// `v`, computed before the code that follows: the compiler moves nothing past it.
    #[inline(always)]
    fn schedule_barrier(self, v: Self::I32) -> Self::I32 {
        v
    }

    /// 0, 1, 2, …
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(dead_code, reason = "only there is it used outside of tests")
    )]
    #[inline(always)]
    fn iota_i32(self) -> Self::I32 {
        let mut v = self.splat_i32(0);
        for (i, lane) in
            bytemuck::cast_slice_mut::<Self::I32, i32>(core::slice::from_mut(&mut v)).iter_mut().enumerate()
        {
            *lane = i as i32;
        }
        v
    }
}
