//! The fuzz targets turn their input into arguments of a call and run it on every backend of the machine. All backends must
//! give the results of the scalar one, lengths that do not fit must be errors, and nothing may panic.
//!
//! Arguments end where their allocations end, so that sanitizers see every access past an end. They begin at a varying
//! offset, so that their alignment varies. `tests/seeds.rs` runs the committed seeds without a fuzzer.

use std::fmt::Debug;

use arbitrary::{Result, Unstructured};
use slth_kernels::{
    Backend, Engine, MaskReuse, MatMut, MatRef, PackedMask, PrepareOptions, Storage, Strategy,
};

mod bytes;
mod conv2d;
mod elementwise;
mod products;
mod subset_sum;
mod top_k;

/// A target: turns the input into calls; an error if the input is too short.
type Target = fn(&mut Unstructured<'_>) -> Result<()>;

/// All targets by name.
pub(crate) const TARGETS: [(&str, Target); 6] = [
    ("products", products::run),
    ("conv2d", conv2d::run),
    ("top_k", top_k::run),
    ("subset_sum", subset_sum::run),
    ("elementwise", elementwise::run),
    ("bytes", bytes::run),
];

/// Runs a target on one input.
pub(crate) fn run(target: &str, data: &[u8]) {
    let (_, run) = TARGETS.iter().find(|(name, _)| *name == target).expect("a target of TARGETS");
    // An input that is too short is not a finding.
    let _ = run(&mut Unstructured::new(data));
}

/// Options for preparing weights.
fn options(u: &mut Unstructured<'_>) -> Result<PrepareOptions> {
    let strategy = *u.choose(&[Strategy::Auto, Strategy::Sparse, Strategy::Dense, Strategy::Bitmask])?;
    // Batches around the limits where the chosen format changes.
    let max_batch = *u.choose(&[0, 1, 2, 3, 4, 8, 15, 16, 17, 63, 64, 65, usize::MAX])?;
    let reuse = *u.choose(&[MaskReuse::Many, MaskReuse::Once])?;
    let options = PrepareOptions::default().strategy(strategy).max_batch(max_batch).reuse(reuse);
    let storage = *u.choose(&[Storage::F32, Storage::Bf16])?;
    Ok(options.input_gradient(u.arbitrary()?).keep_source(u.arbitrary()?).storage(storage))
}

/// Calls `call` on every backend, partly on three threads; returns the scalar backend's result, which all others must equal.
fn everywhere<T: PartialEq + Debug>(call: impl Fn(Engine) -> T) -> T {
    let scalar = Engine::new(Backend::scalar());
    let expected = call(scalar);
    for engine in Backend::available().into_iter().map(Engine::new) {
        assert_eq!(call(engine), expected, "{engine:?}");
    }
    for engine in [scalar, Engine::new(Backend::best())] {
        assert_eq!(call(engine.with_threads(3).share_from(0)), expected, "{engine:?}, 3 threads");
    }
    expected
}

/// The bits for comparison, with all NaNs made equal.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }).collect()
}

/// A size: mostly small, sometimes up to `most`, rarely larger than any memory.
fn size(u: &mut Unstructured<'_>, most: usize) -> Result<usize> {
    Ok(match u.int_in_range(0..=255_u8)? {
        0 => *u.choose(&[usize::MAX, usize::MAX / 2 + 1, 1 << 32, 1 << 40, (1 << 32) - 1])?,
        1..=40 => u.int_in_range(0..=most)?,
        41..=140 => u.int_in_range(0..=most.min(40))?,
        _ => u.int_in_range(0..=most.min(9))?,
    })
}

/// Maximum number of elements of an argument.
const MOST: usize = 1 << 17;

/// Draws lengths of arguments, and records whether all of them match their shapes.
struct Lengths {
    fit: bool,
}

impl Lengths {
    /// The length of an argument of this shape, occasionally off by one; 0 if it would be above [`MOST`].
    fn of(&mut self, u: &mut Unstructured<'_>, shape: &[usize]) -> Result<usize> {
        let right = shape.iter().try_fold(1_usize, |n, &size| n.checked_mul(size));
        let len = match (right, u.int_in_range(0..=63_u8)?) {
            (Some(right), 0) => right.saturating_add(1),
            (Some(right), 1) => right.saturating_sub(1),
            (right, _) => right.unwrap_or(usize::MAX),
        };
        let len = if len > MOST { 0 } else { len };
        self.fit &= right == Some(len);
        Ok(len)
    }
}

/// An argument: floats after `offset` others, so that the alignment of the first varies and the last ends the allocation.
#[derive(Clone, Debug)]
struct Floats {
    memory: Vec<f32>,
    offset: usize,
}

impl Floats {
    /// Zeros, numbers in ±1, of any magnitude, or of a few values; some of the first have arbitrary bits.
    fn new(u: &mut Unstructured<'_>, len: usize) -> Result<Self> {
        let offset = u.int_in_range(0..=15)?;
        let kind = u.int_in_range(0..=3_u8)?;
        let mut state = u64::from(u.arbitrary::<u16>()?);
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) as u32
        };
        let mut memory: Vec<f32> = (0..offset + len)
            .map(|_| match kind {
                0 => next() as i32 as f32 / (1_u32 << 31) as f32,
                1 => f32::from_bits(next() & 0xbfff_ffff),
                2 => (next() >> 30) as f32 - 1.0,
                _ => 0.0,
            })
            .collect();
        let given = u.int_in_range(0..=len.min(64))?;
        for value in &mut memory[offset..offset + given] {
            *value = f32::from_bits(u.arbitrary()?);
        }
        Ok(Self { memory, offset })
    }

    fn get(&self) -> &[f32] {
        &self.memory[self.offset..]
    }

    fn get_mut(&mut self) -> &mut [f32] {
        &mut self.memory[self.offset..]
    }
}

/// A matrix: sizes, strides, and memory that may be too short for them.
#[derive(Clone, Debug)]
struct Matrix {
    sizes: [usize; 2],
    strides: [usize; 2],
    memory: Floats,
}

impl Matrix {
    /// A matrix of these sizes, occasionally one larger: row-major or column-major, with gaps, or with arbitrary strides.
    fn new(u: &mut Unstructured<'_>, sizes: [usize; 2]) -> Result<Self> {
        let [rows, cols] = match u.int_in_range(0..=127_u8)? {
            0 => [sizes[0].saturating_add(1), sizes[1]],
            1 => [sizes[0], sizes[1].saturating_add(1)],
            _ => sizes,
        };
        let kind = u.int_in_range(0..=31_u8)?;
        let (step, gap) = match kind {
            0..=11 => (1, 0),
            12..=21 => (1, u.int_in_range(0..=9)?),
            _ => (u.int_in_range(0..=3)?, u.int_in_range(0..=9)?),
        };
        let line = |len: usize| len.saturating_mul(step).saturating_add(gap);
        let strides = match kind {
            31 => [size(u, 300)?, size(u, 300)?],
            _ if u.arbitrary()? => [line(cols), step],
            _ => [step, line(rows)],
        };
        let mut matrix =
            Self { sizes: [rows, cols], strides, memory: Floats { memory: Vec::new(), offset: 0 } };
        let needed = matrix.extent().unwrap_or(usize::MAX);
        let len = match u.int_in_range(0..=63_u8)? {
            0 => needed.saturating_sub(1),
            1..=20 => needed.saturating_add(3),
            _ => needed,
        };
        matrix.memory = Floats::new(u, if len > MOST { 0 } else { len })?;
        Ok(matrix)
    }

    /// The length that the matrix needs, if it fits in memory.
    fn extent(&self) -> Option<usize> {
        let [rows, cols] = self.sizes;
        if rows == 0 || cols == 0 {
            return Some(0);
        }
        let last = [rows - 1, cols - 1]
            .iter()
            .zip(self.strides)
            .try_fold(0_u128, |last, (&size, stride)| last.checked_add(size as u128 * stride as u128));
        usize::try_from(last?).ok()?.checked_add(1).filter(|&extent| extent <= isize::MAX as usize / 4)
    }

    fn is_shape(&self, sizes: [usize; 2]) -> bool {
        self.sizes == sizes
    }

    /// The view; `None` exactly if the memory is too short.
    fn read(&self) -> Option<MatRef<'_>> {
        let ([rows, cols], [row_stride, col_stride]) = (self.sizes, self.strides);
        let view = MatRef::new(self.memory.get(), rows, cols, row_stride, col_stride);
        let fits = self.extent().is_some_and(|extent| extent <= self.memory.get().len());
        assert_eq!(view.is_ok(), fits, "{view:?}");
        view.ok()
    }

    /// The view; `None` if the memory is too short or elements coincide.
    fn write(&mut self) -> Option<MatMut<'_>> {
        let readable = self.read().is_some();
        let distinct = readable.then(|| self.places()).is_some_and(|mut places| {
            let all = places.len();
            places.sort_unstable();
            places.dedup();
            places.len() == all
        });
        let ([rows, cols], [row_stride, col_stride]) = (self.sizes, self.strides);
        let few = self.is_few();
        let view = MatMut::new(self.memory.get_mut(), rows, cols, row_stride, col_stride);
        assert_eq!(view.is_ok(), readable && few && distinct, "{view:?}");
        view.ok()
    }

    /// Whether there are at most [`MOST`] elements, as there must be if all are distinct.
    fn is_few(&self) -> bool {
        self.sizes[0].checked_mul(self.sizes[1]).is_some_and(|count| count <= MOST)
    }

    /// The offsets of the elements, row by row; empty if there are too many.
    fn places(&self) -> Vec<usize> {
        let [rows, cols] = self.sizes;
        if !self.is_few() || rows == 0 || cols == 0 {
            return Vec::new();
        }
        let [row_stride, col_stride] = self.strides;
        (0..rows).flat_map(|r| (0..cols).map(move |c| r * row_stride + c * col_stride)).collect()
    }

    /// The elements in row-major order; requires that the matrix has a view.
    fn values(&self) -> Vec<f32> {
        self.places().into_iter().map(|place| self.memory.get()[place]).collect()
    }

    /// The same matrix in row-major order without gaps.
    fn compact(&self) -> Self {
        let memory = Floats { memory: self.values(), offset: 0 };
        Self { sizes: self.sizes, strides: [self.sizes[1], 1], memory }
    }

    /// Fails if memory outside of the view has changed.
    fn check_gaps(&self, before: &Self) {
        let mut written = vec![false; self.memory.get().len()];
        self.places().into_iter().for_each(|place| written[place] = true);
        let pairs = self.memory.get().iter().zip(before.memory.get()).zip(written);
        for ((now, then), written) in pairs {
            assert!(written || now.to_bits() == then.to_bits(), "written into a gap");
        }
    }
}

/// A mask over `len` weights of any density; some of its first words are arbitrary.
fn mask(u: &mut Unstructured<'_>, len: usize) -> Result<PackedMask> {
    let kept_of_256 = u.arbitrary::<u8>()?;
    let salt = u32::from(u.arbitrary::<u16>()?);
    let bits = PackedMask::from_fn(len, |i| {
        (i as u32 ^ salt).wrapping_mul(0x9e37_79b9).rotate_left(13).wrapping_mul(0x85eb_ca6b) >> 24
            < u32::from(kept_of_256)
    });
    let mut words = bits.words().to_vec();
    let given = u.int_in_range(0..=words.len().min(8))?;
    for word in &mut words[..given] {
        *word = u.arbitrary()?;
    }
    Ok(PackedMask::from_words(len, words).expect("as many words as before"))
}
