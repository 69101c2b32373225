//! Conformance: every operation of [`Simd`] on every backend, lane by lane against its scalar definition.
//!
//! Bits are compared, including the sign of zeros and the payload of NaNs that are only moved. A NaN produced by arithmetic
//! may have any payload.

use core::fmt::Debug;
use core::slice;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::arch::rows::{Rows, RowsMut};
use crate::backend::Backend;
use crate::bf16::Bf16;
use crate::simd::{Kernel, Simd};

/// The widest vector the trait permits.
const MOST_LANES: usize = 32;
/// Surrounds stored lanes, and must not be overwritten.
const CANARY: f32 = -77.25;

const FLOATS: [f32; 27] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.1,
    -1.5,
    1.000_000_1,
    0.999_999_94,
    16_777_216.0,
    -16_777_215.0,
    1e-20,
    -1e-38,
    3.3e38,
    f32::MAX,
    f32::MIN,
    f32::MIN_POSITIVE,
    -f32::MIN_POSITIVE,
    f32::INFINITY,
    f32::NEG_INFINITY,
    // Subnormals: the smallest, the largest, some in between; NaNs with a payload; signalling NaNs.
    f32::from_bits(0x0000_0001),
    f32::from_bits(0x8000_0001),
    f32::from_bits(0x007f_ffff),
    f32::from_bits(0x8012_3456),
    f32::from_bits(0x7fc1_2345),
    f32::from_bits(0xffc5_4321),
    f32::from_bits(0x7f80_0001),
    f32::from_bits(0xffbf_ffff),
];

const INTEGERS: [i32; 17] = [
    0,
    1,
    -1,
    2,
    -2,
    i32::MAX,
    i32::MIN,
    i32::MAX - 1,
    i32::MIN + 1,
    0x5555_5555,
    0x0f0f_0f0f,
    -0x0f0f_0f0f,
    255,
    256,
    65_535,
    -65_536,
    123_456_789,
];

/// Runs the kernel on every backend of this machine.
fn everywhere<K: Kernel<Out = ()> + Copy>(kernel: K) {
    for backend in Backend::available() {
        eprintln!("{backend}");
        backend.run(kernel);
    }
}

/// Reproducible pseudo-random bit patterns.
struct BitStream(u64);

impl BitStream {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }
}

/// The vector whose lane l is `lane(l)`, made without the operations under test.
#[inline(always)]
fn floats<S: Simd>(s: S, lane: impl Fn(usize) -> f32) -> S::F32 {
    let mut v = s.splat(0.0);
    let lanes = bytemuck::cast_slice_mut::<S::F32, f32>(slice::from_mut(&mut v));
    lanes.iter_mut().enumerate().for_each(|(l, x)| *x = lane(l));
    v
}

/// As [`floats`], for integers.
#[inline(always)]
fn integers<S: Simd>(s: S, lane: impl Fn(usize) -> i32) -> S::I32 {
    let mut v = s.splat_i32(0);
    let lanes = bytemuck::cast_slice_mut::<S::I32, i32>(slice::from_mut(&mut v));
    lanes.iter_mut().enumerate().for_each(|(l, x)| *x = lane(l));
    v
}

/// Checks that each lane has exactly these bits.
fn check_bits<S: Simd>(what: &str, v: &S::F32, expected: impl Fn(usize) -> f32) {
    for (l, x) in bytemuck::cast_slice::<S::F32, f32>(slice::from_ref(v)).iter().enumerate() {
        let e = expected(l);
        assert_eq!(x.to_bits(), e.to_bits(), "{what}, lane {l} of {}: {x:e}, not {e:e}", S::LANES);
    }
}

/// Checks that each lane has exactly these bits, or is NaN where NaN is expected.
fn check_value<S: Simd>(what: &str, v: &S::F32, expected: impl Fn(usize) -> f32) {
    for (l, x) in bytemuck::cast_slice::<S::F32, f32>(slice::from_ref(v)).iter().enumerate() {
        let e = expected(l);
        let same = x.to_bits() == e.to_bits() || x.is_nan() && e.is_nan();
        assert!(same, "{what}, lane {l} of {}: {x:e}, not {e:e}", S::LANES);
    }
}

fn check_integers<S: Simd>(what: &str, v: &S::I32, expected: impl Fn(usize) -> i32) {
    for (l, x) in bytemuck::cast_slice::<S::I32, i32>(slice::from_ref(v)).iter().enumerate() {
        assert_eq!(*x, expected(l), "{what}, lane {l} of {}", S::LANES);
    }
}

/// The bits of a mask whose lane l is `lane(l)`.
fn bits_of<S: Simd>(lane: impl Fn(usize) -> bool) -> u32 {
    (0..S::LANES).fold(0, |bits, l| bits | u32::from(lane(l)) << l)
}

/// The lanes of `all` whose bit is set, in order.
fn kept<T: Copy>(all: &[T], bits: u32) -> Vec<T> {
    all.iter().enumerate().filter(|&(l, _)| bits >> l & 1 != 0).map(|(_, &x)| x).collect()
}

/// a · b + c rounded once, computed differently from the portable implementation. The f64 product is exact, and TwoSum gives the
/// error of the f64 sum. That error decides only if the sum is the midpoint of two neighbouring floats.
fn rounded_once(a: f32, b: f32, c: f32) -> f32 {
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c;
    let rounded = sum as f32;
    let t = sum - product;
    let error = (product - (sum - t)) + (c - t);
    // Without an error there was only one rounding. The error is NaN if something is infinite.
    if error.is_nan() || error == 0.0 || f64::from(rounded) == sum {
        return rounded;
    }
    let as_f64 =
        |x: f32| if x.is_infinite() { f64::from(x.signum()) * 2_f64.powi(128) } else { f64::from(x) };
    let other = if as_f64(rounded) < sum { rounded.next_up() } else { rounded.next_down() };
    if (as_f64(rounded) + as_f64(other)) / 2.0 != sum {
        return rounded;
    }
    if error > 0.0 { rounded.max(other) } else { rounded.min(other) }
}

#[test]
fn the_oracle_rounds_once() {
    // 1 + 2⁻²⁴ is a midpoint. The addend lies far below the last bit of the f64 sum, but still decides.
    let half_ulp = 2_f32.powi(-24);
    let tiny = f32::from_bits(1);
    assert_eq!(rounded_once(half_ulp, 1.0, 1.0), 1.0);
    let up = rounded_once(1.0 + 2_f32.powi(-12), 1.0 + 2_f32.powi(-12), tiny);
    assert_eq!(up.to_bits(), (1.0_f32 + 2_f32.powi(-11)).to_bits() + 1);
    let down = rounded_once(1.0 + 2_f32.powi(-12), 1.0 + 2_f32.powi(-12), -tiny);
    assert_eq!(down.to_bits(), (1.0_f32 + 2_f32.powi(-11)).to_bits());
}

#[derive(Clone, Copy)]
struct FloatArithmetic;

impl Kernel for FloatArithmetic {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for i in 0..FLOATS.len() {
            let a = |l: usize| FLOATS[(i + l) % FLOATS.len()];
            let va = floats(s, a);
            check_bits::<S>("splat", &s.splat(FLOATS[i]), |_| FLOATS[i]);
            check_integers::<S>("to_bits", &s.to_bits(va), |l| a(l).to_bits() as i32);
            check_bits::<S>("relu", &s.relu(va), |l| {
                if a(l).is_nan() || a(l).is_sign_negative() { 0.0 } else { a(l) }
            });
            for j in 0..FLOATS.len() {
                let b = |l: usize| FLOATS[(j + l) % FLOATS.len()];
                let vb = floats(s, b);
                check_value::<S>("add", &s.add(va, vb), |l| a(l) + b(l));
                check_value::<S>("sub", &s.sub(va, vb), |l| a(l) - b(l));
                check_value::<S>("mul", &s.mul(va, vb), |l| a(l) * b(l));
                check_bits::<S>("min", &s.min(va, vb), |l| if a(l) < b(l) { a(l) } else { b(l) });
                check_bits::<S>("max", &s.max(va, vb), |l| if a(l) > b(l) { a(l) } else { b(l) });
                assert_eq!(s.mask_bits(s.gt(va, vb)), bits_of::<S>(|l| a(l) > b(l)), "gt {i} {j}");
            }
        }
    }
}

#[test]
fn float_arithmetic() {
    everywhere(FloatArithmetic);
}

#[derive(Clone, Copy)]
struct MulAdd;

impl MulAdd {
    #[inline(always)]
    fn check<S: Simd>(s: S, a: impl Fn(usize) -> f32, b: impl Fn(usize) -> f32, c: impl Fn(usize) -> f32) {
        let v = s.mul_add(floats(s, &a), floats(s, &b), floats(s, &c));
        check_value::<S>("mul_add", &v, |l| rounded_once(a(l), b(l), c(l)));
    }
}

impl Kernel for MulAdd {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = FLOATS.len();
        for i in 0..n * n * n {
            let at = |step: usize| move |l: usize| FLOATS[(i / step + l) % n];
            Self::check(s, at(1), at(n), at(n * n));
        }
        let mut bits = BitStream(0x9E37_79B9_7F4A_7C15);
        for _ in 0..20_000 {
            let mut random = || core::array::from_fn::<f32, MOST_LANES, _>(|_| f32::from_bits(bits.next()));
            let (x, y, z) = (random(), random(), random());
            Self::check(s, |l| x[l], |l| y[l], |l| z[l]);
            // Cancellation, subnormal results and subnormal addends are rare in random bit patterns.
            Self::check(s, |l| x[l], |l| y[l], |l| -(x[l] * y[l]));
            Self::check(s, |l| x[l] * 1e-30, |l| y[l] * 1e-10, |l| f32::from_bits(z[l].to_bits() >> 9));
            // Midpoints: products of two odd 13-bit significands that have 25 bits. There the smallest addend decides.
            let short = |x: f32| {
                let (sign, exponent) = (x.to_bits() & 0x8000_0000, (x.to_bits() >> 23 & 31) + 112);
                f32::from_bits(sign | exponent << 23 | x.to_bits() & 0x007f_f000 | 0x800)
            };
            Self::check(
                s,
                |l| short(x[l]),
                |l| short(y[l]),
                |l| f32::from_bits(z[l].to_bits() & 0x8000_0001),
            );
        }
    }
}

#[test]
fn mul_add_rounds_once() {
    everywhere(MulAdd);
}

#[derive(Clone, Copy)]
struct Integers;

impl Kernel for Integers {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        check_integers::<S>("iota_i32", &s.iota_i32(), |l| l as i32);
        for i in 0..INTEGERS.len() {
            let a = |l: usize| INTEGERS[(i + l) % INTEGERS.len()];
            let va = integers(s, a);
            check_integers::<S>("splat_i32", &s.splat_i32(INTEGERS[i]), |_| INTEGERS[i]);
            check_integers::<S>("abs_i32", &s.abs_i32(va), |l| a(l).wrapping_abs());
            macro_rules! shifts {
                ($($bits:literal)*) => {$(
                    check_integers::<S>("shl_i32", &s.shl_i32::<$bits>(va), |l| a(l) << $bits);
                    check_integers::<S>("shr_i32", &s.shr_i32::<$bits>(va), |l| a(l) >> $bits);
                )*};
            }
            shifts!(0 1 7 8 16 23 30 31);
            for j in 0..INTEGERS.len() {
                let b = |l: usize| INTEGERS[(j + l) % INTEGERS.len()];
                let vb = integers(s, b);
                check_integers::<S>("add_i32", &s.add_i32(va, vb), |l| a(l).wrapping_add(b(l)));
                check_integers::<S>("sub_i32", &s.sub_i32(va, vb), |l| a(l).wrapping_sub(b(l)));
                check_integers::<S>("and_i32", &s.and_i32(va, vb), |l| a(l) & b(l));
                check_integers::<S>("xor_i32", &s.xor_i32(va, vb), |l| a(l) ^ b(l));
                check_integers::<S>("min_i32", &s.min_i32(va, vb), |l| a(l).min(b(l)));
                check_integers::<S>("max_i32", &s.max_i32(va, vb), |l| a(l).max(b(l)));
                assert_eq!(s.mask_bits(s.eq_i32(va, vb)), bits_of::<S>(|l| a(l) == b(l)), "eq_i32 {i} {j}");
                assert_eq!(s.mask_bits(s.gt_i32(va, vb)), bits_of::<S>(|l| a(l) > b(l)), "gt_i32 {i} {j}");
            }
        }
    }
}

#[test]
fn integer_arithmetic() {
    everywhere(Integers);
}

/// Every mask of at most 16 lanes.
#[derive(Clone, Copy)]
struct Masks;

impl Kernel for Masks {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let x: [f32; MOST_LANES] = core::array::from_fn(|l| FLOATS[FLOATS.len() - 1 - l % FLOATS.len()]);
        let n: [i32; MOST_LANES] = core::array::from_fn(|l| INTEGERS[l % INTEGERS.len()] ^ l as i32);
        let (vx, vn) = (floats(s, |l| x[l]), integers(s, |l| n[l]));
        let zeros = s.splat(0.0);
        let mask = |bits: u32| s.gt_i32(integers(s, |l| (bits >> l & 1) as i32), s.splat_i32(0));
        let all = u32::MAX >> (32 - S::LANES);
        for bits in 0..=all.min(0xffff) {
            let m = mask(bits);
            assert_eq!(s.mask_bits(m), bits);
            let other = bits.wrapping_mul(0x9E37_79B9) >> 7 & all;
            let mo = mask(other);
            assert_eq!(s.mask_bits(s.and_mask(m, mo)), bits & other);
            if S::LANES <= 16 {
                let of_4 = [bits, other, all, bits ^ other];
                let expected = (0..4).fold(0, |sum, i| sum | u64::from(of_4[i]) << (i * S::LANES));
                assert_eq!(s.mask_bits_of_4(of_4.map(mask)), expected);
            }

            let on = |l: usize| bits >> l & 1 != 0;
            check_bits::<S>("select", &s.select(m, vx, zeros), |l| if on(l) { x[l] } else { 0.0 });

            let count = bits.count_ones() as usize;
            let mut packed = [77; MOST_LANES + 1];
            s.compress_i32(vn, bits, &mut packed);
            assert_eq!(packed[..count], kept(&n, bits), "compress_i32 {bits:b}");
            assert!(packed[S::LANES..].iter().all(|&p| p == 77), "compress_i32 {bits:b} writes too much");
            let expanded = s.expand(vx, bits);
            let expanded = bytemuck::cast_slice::<S::F32, f32>(slice::from_ref(&expanded));
            let chosen = (0..S::LANES).filter(|&l| on(l));
            assert!(chosen.zip(x).all(|(l, x)| expanded[l].to_bits() == x.to_bits()), "expand {bits:b}");
            check_bits::<S>("mul_add_where", &s.mul_add_where(bits, vx, s.splat(2.0), s.splat(-0.0)), |l| {
                if on(l) { x[l] * 2.0 } else { -0.0 }
            });
            for base in [0_u32, 1000, u32::MAX - 1] {
                let entries: [u64; MOST_LANES] = core::array::from_fn(|l| {
                    u64::from(x[l].to_bits()) << 32 | u64::from(base.wrapping_add(l as u32))
                });
                let mut packed = [77; MOST_LANES + 1];
                s.compress_entries(s.splat_i32(base as i32), vx, bits, &mut packed);
                assert_eq!(packed[..count], kept(&entries, bits), "compress_entries {bits:b}");
                let after = &packed[S::LANES..];
                assert!(after.iter().all(|&p| p == 77), "compress_entries {bits:b} writes too much");
            }
        }
    }
}

#[test]
fn masks_and_compression() {
    everywhere(Masks);
}

/// Whole and partial loads and stores, at every offset and of every length.
#[derive(Clone, Copy)]
struct Memory;

impl Kernel for Memory {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let x: Vec<f32> = (0..3 * MOST_LANES).map(|i| FLOATS[i * 7 % FLOATS.len()]).collect();
        let n: Vec<i32> = (0..3 * MOST_LANES).map(|i| INTEGERS[i * 5 % INTEGERS.len()]).collect();
        for at in 0..MOST_LANES {
            let (v, vn) = (s.load(&x[at..]), s.load_i32(&n[at..]));
            check_bits::<S>("load", &v, |l| x[at + l]);
            check_integers::<S>("load_i32", &vn, |l| n[at + l]);
            let mut stored = [CANARY; 3 * MOST_LANES];
            s.store(v, &mut stored[at..]);
            check_stored("store", &stored, CANARY, at, &x[at..at + S::LANES]);
            let mut stored = [77; 3 * MOST_LANES];
            s.store_i32(vn, &mut stored[at..]);
            check_stored("store_i32", &stored, 77, at, &n[at..at + S::LANES]);

            for len in 0..=S::LANES + 2 {
                let v = s.load_partial(&x[at..at + len]);
                check_bits::<S>("load_partial", &v, |l| if l < len { x[at + l] } else { 0.0 });
                let mut stored = [CANARY; 3 * MOST_LANES];
                s.store_partial(s.load(&x[at..]), &mut stored[at..at + len]);
                check_stored("store_partial", &stored, CANARY, at, &x[at..at + len.min(S::LANES)]);
            }
        }
    }
}

/// Checks that `stored` holds `expected` from `at` on, and canaries everywhere else.
fn check_stored<T: bytemuck::Pod + Debug>(what: &str, stored: &[T], canary: T, at: usize, expected: &[T]) {
    for (i, x) in stored.iter().enumerate() {
        let e = i.checked_sub(at).and_then(|i| expected.get(i)).unwrap_or(&canary);
        assert_eq!(
            bytemuck::bytes_of(x),
            bytemuck::bytes_of(e),
            "{what} at {at}, element {i}: {x:?}, not {e:?}"
        );
    }
}

#[test]
fn loads_and_stores() {
    everywhere(Memory);
}

#[derive(Clone, Copy)]
struct Widening;

impl Kernel for Widening {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // Every bf16 number occurs in every lane of some vector.
        let all: Vec<Bf16> = (0..=u16::MAX).chain(0..MOST_LANES as u16).map(Bf16::from_bits).collect();
        for first in 0..=usize::from(u16::MAX) {
            let number = |at: usize| f32::from_bits((at as u32 % 0x1_0000) << 16);
            check_bits::<S>("repeat_bf16", &s.repeat_bf16::<1>(&all[first..]), |i| number(first + i));
            if S::LANES.is_multiple_of(4) {
                check_bits::<S>("repeat_bf16", &s.repeat_bf16::<2>(&all[first..]), |i| number(first + i / 2));
                check_bits::<S>("repeat_bf16", &s.repeat_bf16::<4>(&all[first..]), |i| number(first + i / 4));
            }
            for (second, v) in s.splat_2_bf16([all[first], all[first + 1]]).iter().enumerate() {
                check_bits::<S>("splat_2_bf16", v, |_| number(first + second));
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Repeating;

impl Kernel for Repeating {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let values: Vec<f32> = (0..MOST_LANES).map(|i| i as f32 - 7.5).collect();
        check_bits::<S>("repeat", &s.repeat::<1>(&values), |i| values[i]);
        if S::LANES.is_multiple_of(4) {
            check_bits::<S>("repeat", &s.repeat::<2>(&values), |i| values[i / 2]);
            check_bits::<S>("repeat", &s.repeat::<4>(&values), |i| values[i / 4]);
        }
    }
}

#[test]
fn repeats() {
    everywhere(Repeating);
}

#[derive(Clone, Copy)]
struct Gathering;

impl Gathering {
    fn check<S: Simd, const N: usize, const LOADS: bool>(s: S) {
        let mut stream = BitStream(7);
        let table: Vec<[f32; N]> =
            (0..512).map(|row| core::array::from_fn(|n| (row * N + n) as f32)).collect();
        let table = table.first_chunk().expect("512 rows");
        for _ in 0..100 {
            let places: Vec<u16> = (0..MOST_LANES).map(|_| stream.next() as u16).collect();
            let rows = s.gather::<N, LOADS>(table, &places);
            check_bits::<S>("gather", &rows, |i| table[usize::from(places[i / N]) % 512][i % N]);
        }
    }
}

impl Kernel for Gathering {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // Gathering single elements is defined for vectors of at most 8 lanes.
        if S::LANES < 16 {
            Self::check::<S, 1, false>(s);
            Self::check::<S, 1, true>(s);
        }
        if S::LANES.is_multiple_of(4) {
            Self::check::<S, 2, false>(s);
            Self::check::<S, 2, true>(s);
            Self::check::<S, 4, false>(s);
        }
    }
}

#[test]
fn gathers() {
    everywhere(Gathering);
}

#[test]
fn widens() {
    everywhere(Widening);
}

#[derive(Clone, Copy)]
struct TransposeTile;

impl Kernel for TransposeTile {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = S::TRANSPOSE;
        assert!(S::LANES.is_multiple_of(n) && n <= 16);
        // Rows of sources may overlap (stride below a row), rows of targets may not. Slices end with the tile's last element.
        for src_stride in [0, 1, n - 1, n, n + 1, 2 * n + 3, 100] {
            let src: Vec<f32> =
                (0..(n - 1) * src_stride + n).map(|i| f32::from_bits(0x7fc0_0000 ^ i as u32)).collect();
            for dst_stride in [n, n + 1, 2 * n + 3, 100] {
                let mut dst = vec![CANARY; (n - 1) * dst_stride + n];
                s.transpose(Rows::of(&src, src_stride, n, n), RowsMut::of(&mut dst, dst_stride, n, n));
                for (at, x) in dst.iter().enumerate() {
                    let (j, i) = (at / dst_stride, at % dst_stride);
                    let expected = if i < n { src[i * src_stride + j] } else { CANARY };
                    assert_eq!(x.to_bits(), expected.to_bits(), "strides {src_stride} {dst_stride}: {j} {i}");
                }
            }
        }
    }
}

#[test]
fn transposes() {
    everywhere(TransposeTile);
}

/// Calls an operation with a slice that is one element too short.
#[derive(Clone, Copy)]
struct TooShort(&'static str);

impl Kernel for TooShort {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = S::LANES - 1;
        let (mut x, mut i, mut u) = ([0.0; MOST_LANES], [0; MOST_LANES], [0; MOST_LANES]);
        let (zero, zero_i32) = (s.splat(0.0), s.splat_i32(0));
        match self.0 {
            "load" => check_bits::<S>("load", &s.load(&x[..n]), |_| 0.0),
            "repeat_bf16" => {
                let numbers = [Bf16::default(); MOST_LANES];
                check_bits::<S>("repeat_bf16", &s.repeat_bf16::<1>(&numbers[..n]), |_| 0.0);
            }
            "load_i32" => check_integers::<S>("load_i32", &s.load_i32(&i[..n]), |_| 0),
            "store" => s.store(zero, &mut x[..n]),
            "store_i32" => s.store_i32(zero_i32, &mut i[..n]),
            "compress_i32" => s.compress_i32(zero_i32, 0, &mut i[..n]),
            "compress_entries" => s.compress_entries(zero_i32, zero, 0, &mut u[..n]),
            other => unreachable!("{other}"),
        }
    }
}

#[test]
fn short_slices_panic() {
    for backend in Backend::available() {
        for what in
            ["load", "repeat_bf16", "load_i32", "store", "store_i32", "compress_i32", "compress_entries"]
        {
            let outcome = catch_unwind(AssertUnwindSafe(|| backend.run(TooShort(what))));
            assert!(outcome.is_err(), "{what} of a short slice went through on {backend}");
        }
    }
}
