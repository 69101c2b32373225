//! The types that weights are stored in. Products compute in `f32`: they widen values as they read them.
//!
//! Each type is a variant of [`Storage`], an implementation of [`Stored`] and a variant of [`Values`]. Weights are rounded once,
//! when they are set ([`Storage::round`]), so every format holds the same numbers.

use bytemuck::Pod;

use crate::aligned::AlignedVec;
use crate::bf16::Bf16;
use crate::simd::Simd;

/// The type that weights are stored in. Activations, sums and results are always `f32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Storage {
    /// Unrounded.
    #[default]
    F32,
    /// Rounded to bf16, the upper half of an `f32`: to nearest, ties to even; beyond ±3.39 · 10³⁸ to ±∞. Products widen them,
    /// which is exact: results are those of the rounded weights in [`F32`](Self::F32), bit for bit.
    ///
    /// Formats for few columns hold them in bf16: the interleaved one takes 4 bytes for each kept weight instead of 6, the one with a bit mask 2
    /// instead of 4, and the dense one 2 for each weight instead of 4. Formats for more columns and sources ([`keep_source`](super::PrepareOptions::keep_source)) hold them as `f32`.
    Bf16,
}

impl Storage {
    /// The number of the type that is nearest to `x`.
    #[inline(always)]
    pub(crate) fn round(self, x: f32) -> f32 {
        match self {
            Self::F32 => x,
            Self::Bf16 => Bf16::round(x).widen(),
        }
    }
}

/// A type that a format stores values in. `f32` that were already rounded to the type convert exactly.
pub(crate) trait Stored: Pod + Default + Send + Sync {
    /// The nearest number of the type.
    fn of(x: f32) -> Self;
    fn widen(self) -> f32;
    /// `LANES / N` of them, each in `N` neighbouring lanes.
    fn repeat<S: Simd, const N: usize>(s: S, values: &[Self]) -> S::F32;
    /// Two of them, each in all lanes.
    fn splat_2<S: Simd>(s: S, values: [Self; 2]) -> [S::F32; 2];
}

impl Stored for f32 {
    #[inline(always)]
    fn of(x: f32) -> Self {
        x
    }

    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn repeat<S: Simd, const N: usize>(s: S, values: &[Self]) -> S::F32 {
        s.repeat::<N>(values)
    }

    #[inline(always)]
    fn splat_2<S: Simd>(s: S, [first, second]: [Self; 2]) -> [S::F32; 2] {
        [s.splat(first), s.splat(second)]
    }
}

impl Stored for Bf16 {
    #[inline(always)]
    fn of(x: f32) -> Self {
        Self::round(x)
    }

    #[inline(always)]
    fn widen(self) -> f32 {
        Bf16::widen(self)
    }

    #[inline(always)]
    fn repeat<S: Simd, const N: usize>(s: S, values: &[Self]) -> S::F32 {
        s.repeat_bf16::<N>(values)
    }

    #[inline(always)]
    fn splat_2<S: Simd>(s: S, values: [Self; 2]) -> [S::F32; 2] {
        s.splat_2_bf16(values)
    }
}

/// Values of a format, in one of the types.
#[derive(Clone, Debug)]
pub(crate) enum Values {
    F32(AlignedVec<f32>),
    Bf16(AlignedVec<Bf16>),
}

impl Values {
    pub(super) fn new(storage: Storage) -> Self {
        match storage {
            Storage::F32 => Self::F32(AlignedVec::new()),
            Storage::Bf16 => Self::Bf16(AlignedVec::new()),
        }
    }

    /// Bytes of memory held.
    pub(super) fn bytes_held(&self) -> usize {
        match self {
            Self::F32(values) => values.bytes_held(),
            Self::Bf16(values) => values.bytes_held(),
        }
    }
}
