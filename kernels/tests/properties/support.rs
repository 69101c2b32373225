//! What the properties share: engines, guarded memory, drawn numbers.

use std::fmt::Debug;
use std::ops::{Deref, DerefMut};

use proptest::prelude::*;
use slth_kernels::subset_sum::Subset;
use slth_kernels::{Backend, Engine, PackedMask};

/// So many cases unless `PROPTEST_CASES` says otherwise. What fails is printed, to become a test of its own.
pub(crate) fn cases(few: u32) -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_some() {
        config
    } else {
        ProptestConfig { cases: few, ..config }
    }
}

/// Calls `check` with every backend, alone and in a pool of three threads.
pub(crate) fn everywhere(mut check: impl FnMut(Engine) + Send) {
    for engine in Backend::available().into_iter().map(Engine::new) {
        check(engine);
        in_pool(|| check(engine.parallel()));
    }
}

#[cfg(feature = "rayon")]
fn in_pool(call: impl FnOnce() + Send) {
    static POOL: std::sync::OnceLock<rayon::ThreadPool> = std::sync::OnceLock::new();
    POOL.get_or_init(|| rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap()).install(call);
}

#[cfg(not(feature = "rayon"))]
fn in_pool(_: impl FnOnce()) {}

/// A value that stands around others and is no result.
pub(crate) trait Canary: Copy + Debug {
    /// The value.
    const CANARY: Self;
    /// Whether these are its bits.
    fn is_canary(self) -> bool;
}

impl Canary for f32 {
    /// A NaN: an argument that is read past its end shows in the result, too.
    const CANARY: f32 = f32::from_bits(0x7fca_fed0);
    fn is_canary(self) -> bool {
        self.to_bits() == Self::CANARY.to_bits()
    }
}

impl Canary for u8 {
    const CANARY: u8 = 0xca;
    fn is_canary(self) -> bool {
        self == Self::CANARY
    }
}

impl Canary for Subset {
    const CANARY: Subset = Subset { bits: 0xcafe_d00d_cafe_d00d, residual: -1.0 };
    fn is_canary(self) -> bool {
        self == Self::CANARY
    }
}

/// A slice that begins `offset` elements after a boundary of 64 bytes, between canaries; they are looked at when it is
/// dropped.
#[derive(Clone, Debug)]
pub(crate) struct Guarded<T: Canary> {
    memory: Vec<T>,
    start: usize,
    len: usize,
}

/// Canaries on either side: more than any vector or tile reaches.
const GUARD: usize = 64;

impl<T: Canary> Guarded<T> {
    /// `len` canaries, to be written over.
    pub(crate) fn unset(len: usize, offset: usize) -> Self {
        assert!(offset < 16);
        let memory = vec![T::CANARY; len + 2 * GUARD + 32];
        // Where no element lies on a boundary, any place will do.
        let boundary = memory.as_ptr().align_offset(64);
        let boundary = if boundary < 16 { boundary } else { 0 };
        Self { memory, start: GUARD + boundary + offset, len }
    }

    /// These values.
    pub(crate) fn of(values: &[T], offset: usize) -> Self {
        let mut guarded = Self::unset(values.len(), offset);
        guarded.copy_from_slice(values);
        guarded
    }
}

impl<T: Canary> Deref for Guarded<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl<T: Canary> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

impl<T: Canary> Drop for Guarded<T> {
    fn drop(&mut self) {
        let (before, rest) = self.memory.split_at(self.start);
        let whole = before.iter().chain(&rest[self.len..]).all(|&x| x.is_canary());
        assert!(whole || std::thread::panicking(), "written outside of a slice");
    }
}

/// The same bits, or both NaN.
#[track_caller]
pub(crate) fn assert_same(found: &[f32], expected: &[f32], what: impl Debug) {
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let same = found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
        assert!(same, "{what:?}, element {i}: {found:e}, not {expected:e}");
    }
}

/// A source of numbers, reproducible from its seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    kind: Kind,
    seed: u32,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// In ±1, one in sixteen a zero of either sign.
    Ordinary,
    /// −1, 0, 1, 2.
    Few,
    /// Any finite number, subnormal ones too.
    Finite,
    /// Any bits: one in 256 infinite or NaN.
    Any,
}

impl Numbers {
    /// So many of them; `stream` makes the arguments of a call differ.
    pub(crate) fn take(self, len: usize, stream: u32) -> Vec<f32> {
        let mut state = u64::from(self.seed) << 32 | u64::from(stream);
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) as u32
        };
        next();
        let number = |bits: u32| match self.kind {
            Kind::Ordinary if bits & 15 == 0 => f32::from_bits(bits & 1 << 31),
            Kind::Ordinary => bits as i32 as f32 / (1_u32 << 31) as f32,
            Kind::Few => (bits >> 30) as f32 - 1.0,
            Kind::Finite if bits >> 23 & 0xff == 0xff => 0.0,
            Kind::Finite | Kind::Any => f32::from_bits(bits),
        };
        (0..len).map(|_| number(next())).collect()
    }
}

/// Numbers of all kinds, ordinary ones most often.
pub(crate) fn numbers() -> impl Strategy<Value = Numbers> {
    let kind = prop_oneof![
        3 => Just(Kind::Ordinary),
        1 => Just(Kind::Few),
        1 => Just(Kind::Finite),
        1 => Just(Kind::Any),
    ];
    (kind, any::<u32>()).prop_map(|(kind, seed)| Numbers { kind, seed })
}

/// Where a slice begins.
pub(crate) fn offset() -> impl Strategy<Value = usize> {
    0..16_usize
}

/// Sizes from 0 on: small ones, multiples of lanes and their neighbours, some up to `most`.
pub(crate) fn size(most: usize) -> impl Strategy<Value = usize> {
    prop_oneof![
        2 => 0..=3.min(most),
        3 => 0..=20.min(most),
        2 => (0..=most / 8).prop_map(|n| n * 8),
        1 => (1..=(most / 16).max(1)).prop_map(move |n| (n * 16 - 1).min(most)),
        2 => 0..=most,
    ]
}

/// Which weights a mask keeps, of any number.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Density {
    /// None.
    Nothing,
    /// All.
    Everything,
    /// A single one, this far in (of 1000).
    One(usize),
    /// About so many of 1000.
    Share { kept: u32, seed: u32 },
}

impl Density {
    /// The mask over `len` weights.
    pub(crate) fn mask(self, len: usize) -> PackedMask {
        match self {
            Self::Nothing => PackedMask::none_kept(len),
            Self::Everything => PackedMask::all_kept(len),
            Self::One(place) => PackedMask::from_fn(len, |i| i == len * place / 1000),
            Self::Share { kept, seed } => {
                let dice = Numbers { kind: Kind::Any, seed }.take(len, 77);
                PackedMask::from_fn(len, |i| dice[i].to_bits() % 1000 < kept)
            }
        }
    }
}

/// All of them.
pub(crate) fn density() -> impl Strategy<Value = Density> {
    prop_oneof![
        1 => Just(Density::Nothing),
        1 => Just(Density::Everything),
        1 => (0..1000_usize).prop_map(Density::One),
        6 => (0..=1000_u32, any::<u32>()).prop_map(|(kept, seed)| Density::Share { kept, seed }),
    ]
}
