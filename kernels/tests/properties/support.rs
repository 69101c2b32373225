//! Shared by the properties: engines, guarded memory, random numbers.

use std::fmt::Debug;
use std::ops::{Deref, DerefMut};
use std::sync::LazyLock;

use proptest::prelude::*;
use slth_kernels::subset_sum::Subset;
use slth_kernels::{Backend, Engine, MatMut, MatRef, PackedMask, Storage};

/// `few` cases unless `PROPTEST_CASES` is set. Failing cases are printed but not saved; add them as tests.
pub(crate) fn cases(few: u32) -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_some() {
        config
    } else {
        ProptestConfig { cases: few, ..config }
    }
}

/// Calls `check` with every backend, on one thread and on three, even for little work or on fewer cores.
pub(crate) fn everywhere(mut check: impl FnMut(Engine)) {
    #[cfg(feature = "rayon")]
    static POOL: LazyLock<rayon::ThreadPool> =
        LazyLock::new(|| rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap());
    for engine in Backend::available().into_iter().map(Engine::new) {
        check(engine);
        check(engine.with_threads(3));
        #[cfg(feature = "rayon")]
        check(engine.on_pool(&POOL).share_from(0));
    }
}

/// A type with a value that marks memory not to be written, and that is never a result.
pub(crate) trait Canary: Copy + Debug {
    /// The marker.
    const CANARY: Self;
    /// Whether the value has the marker's bits.
    fn is_canary(self) -> bool;
}

impl Canary for f32 {
    /// A NaN, so that a read past the end of an argument also shows in the result.
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

/// A slice that begins `offset` elements after a 64-byte boundary, between canaries. Dropping the slice checks the canaries.
#[derive(Clone, Debug)]
pub(crate) struct Guarded<T: Canary> {
    memory: Vec<T>,
    start: usize,
    len: usize,
}

/// Number of canaries on either side, more than any vector or tile reaches.
const GUARD: usize = 64;

impl<T: Canary> Guarded<T> {
    /// A slice of `len` canaries, to be overwritten.
    pub(crate) fn unset(len: usize, offset: usize) -> Self {
        assert!(offset < 16);
        let memory = vec![T::CANARY; len + 2 * GUARD + 32];
        // If no element can lie on a boundary, any place will do.
        let boundary = memory.as_ptr().align_offset(64);
        let boundary = if boundary < 16 { boundary } else { 0 };
        Self { memory, start: GUARD + boundary + offset, len }
    }

    /// A slice of these values.
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

/// How the elements of a matrix lie in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Layout {
    /// Row by row, or column by column if `exchanged`, with stride `step` within a line and a gap after each line.
    Lines { exchanged: bool, step: usize, gap: usize },
    /// Interleaved rows and columns: neither stride spans the other axis.
    Woven,
    /// All rows, or all columns if `exchanged`, share their elements; only for arguments.
    Repeated { exchanged: bool },
    /// All elements are one; only for arguments.
    One,
}

impl Layout {
    /// The strides of rows and columns.
    fn strides(self, rows: usize, cols: usize) -> [usize; 2] {
        match self {
            Self::Lines { exchanged: false, step, gap } => [cols * step + gap, step],
            Self::Lines { exchanged: true, step, gap } => [step, rows * step + gap],
            // Elements are distinct: i · p = j · (p + 1) needs i > p.
            Self::Woven => {
                let p = rows.min(cols).max(2);
                if rows <= cols { [p, p + 1] } else { [p + 1, p] }
            }
            Self::Repeated { exchanged: false } => [0, 1],
            Self::Repeated { exchanged: true } => [1, 0],
            Self::One => [0, 0],
        }
    }
}

/// Layouts of results: row-major, column-major, with gaps, with both strides above 1.
pub(crate) fn layout() -> impl Strategy<Value = Layout> {
    let lines = |step, gap| {
        (any::<bool>(), step, gap).prop_map(|(exchanged, step, gap)| Layout::Lines { exchanged, step, gap })
    };
    prop_oneof![
        4 => lines(Just(1).boxed(), Just(0).boxed()),
        3 => lines(Just(1).boxed(), (1..20_usize).boxed()),
        2 => lines((2..4_usize).boxed(), (0..5_usize).boxed()),
        1 => Just(Layout::Woven),
    ]
}

/// Layouts of arguments, which may also repeat elements.
pub(crate) fn layout_or_repeated() -> impl Strategy<Value = Layout> {
    prop_oneof![
        10 => layout(),
        1 => any::<bool>().prop_map(|exchanged| Layout::Repeated { exchanged }),
        1 => Just(Layout::One),
    ]
}

/// A matrix in guarded memory. Gaps hold canaries too, which are checked on drop.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    memory: Guarded<f32>,
    rows: usize,
    cols: usize,
    strides: [usize; 2],
}

impl Matrix {
    /// A matrix of canaries, to be overwritten.
    pub(crate) fn unset([rows, cols]: [usize; 2], layout: Layout, offset: usize) -> Self {
        let strides = layout.strides(rows, cols);
        let empty = rows == 0 || cols == 0;
        let len = if empty { 0 } else { (rows - 1) * strides[0] + (cols - 1) * strides[1] + 1 };
        Self { memory: Guarded::unset(len, offset), rows, cols, strides }
    }

    /// A matrix of these values, given in row-major order. If values share an element, the last one counts.
    pub(crate) fn of(values: &[f32], shape: [usize; 2], layout: Layout, offset: usize) -> Self {
        let mut matrix = Self::unset(shape, layout, offset);
        assert_eq!(values.len(), shape[0] * shape[1]);
        for (at, &value) in values.iter().enumerate() {
            let place = matrix.place(at);
            matrix.memory[place] = value;
        }
        matrix
    }

    /// Where an element lies, given by its index in row-major order.
    fn place(&self, at: usize) -> usize {
        at / self.cols * self.strides[0] + at % self.cols * self.strides[1]
    }

    /// The elements, row-major.
    pub(crate) fn values(&self) -> Vec<f32> {
        (0..self.rows * self.cols).map(|at| self.memory[self.place(at)]).collect()
    }

    pub(crate) fn view(&self) -> MatRef<'_> {
        MatRef::new(&self.memory, self.rows, self.cols, self.strides[0], self.strides[1]).unwrap()
    }

    pub(crate) fn view_mut(&mut self) -> MatMut<'_> {
        MatMut::new(&mut self.memory, self.rows, self.cols, self.strides[0], self.strides[1]).unwrap()
    }
}

impl Drop for Matrix {
    fn drop(&mut self) {
        let mut gaps = vec![true; self.memory.len()];
        (0..self.rows * self.cols).for_each(|at| gaps[self.place(at)] = false);
        let whole = self.memory.iter().zip(gaps).all(|(x, gap)| !gap || x.is_canary());
        assert!(whole || std::thread::panicking(), "written into a gap of a view");
    }
}

/// `x` if positive, else 0. Compares bits, because LLVM turns a comparison with 0 into an aarch64 instruction that keeps
/// signalling NaNs.
pub(crate) fn relu(x: f32) -> f32 {
    match x.to_bits() {
        bits @ 1..=0x7f80_0000 => f32::from_bits(bits),
        _ => 0.0,
    }
}

/// Checks that the bits are the same or both values NaN. With `SLTH_ZEROS_WITHOUT_SIGN` set, zeros of different sign also
/// agree: valgrind computes c − a · b as −(a · b − c), which gives −0 where the CPU gives 0.
#[track_caller]
pub(crate) fn assert_same(found: &[f32], expected: &[f32], what: impl Debug) {
    static ZEROS: LazyLock<bool> = LazyLock::new(|| std::env::var_os("SLTH_ZEROS_WITHOUT_SIGN").is_some());
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let same = found.to_bits() == expected.to_bits()
            || found.is_nan() && expected.is_nan()
            || *ZEROS && *found == 0.0 && *expected == 0.0;
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
    /// Numbers in ±1, of which one in sixteen is a zero of either sign.
    Ordinary,
    /// −1, 0, 1, 2.
    Few,
    /// Any finite numbers, including subnormal ones.
    Finite,
    /// Any bits, of which one in 256 is infinite or NaN.
    Any,
}

impl Numbers {
    /// `len` numbers; different streams give different numbers.
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

/// The offset of a slice from an aligned address, in elements.
pub(crate) fn offset() -> impl Strategy<Value = usize> {
    0..16_usize
}

/// Sizes from 0 to `most`, preferably small ones, multiples of the lane count, and one less.
pub(crate) fn size(most: usize) -> impl Strategy<Value = usize> {
    prop_oneof![
        2 => 0..=3.min(most),
        3 => 0..=20.min(most),
        2 => (0..=most / 8).prop_map(|n| n * 8),
        1 => (1..=(most / 16).max(1)).prop_map(move |n| (n * 16 - 1).min(most)),
        2 => 0..=most,
    ]
}

/// Which weights a mask keeps, independent of their number.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Density {
    /// None.
    Nothing,
    /// All.
    Everything,
    /// A single weight, at this many thousandths of the length.
    One(usize),
    /// About `kept` of 1000 weights.
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

/// Any density.
pub(crate) fn density() -> impl Strategy<Value = Density> {
    prop_oneof![
        1 => Just(Density::Nothing),
        1 => Just(Density::Everything),
        1 => (0..1000_usize).prop_map(Density::One),
        6 => (0..=1000_u32, any::<u32>()).prop_map(|(kept, seed)| Density::Share { kept, seed }),
    ]
}

/// A weight as it is stored: for bf16 the nearer of the two neighbouring numbers, ties to even.
pub(crate) fn stored(storage: Storage, weight: f32) -> f32 {
    if storage == Storage::F32 || !weight.is_finite() {
        return weight;
    }
    let [below, above] = [0, 1 << 16].map(|more| (weight.to_bits() & 0xffff_0000) + more).map(f32::from_bits);
    // For rounding, infinity counts as 2¹²⁸, the number that would follow the largest one.
    let above_exact =
        if above.is_finite() { f64::from(above) } else { 2.0_f64.powi(128).copysign(weight.into()) };
    let (to_below, to_above) =
        ((f64::from(weight) - f64::from(below)).abs(), (above_exact - f64::from(weight)).abs());
    let even = below.to_bits() >> 16 & 1 == 0;
    if to_below < to_above || to_below == to_above && even { below } else { above }
}
