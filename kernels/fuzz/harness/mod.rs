//! What the fuzz targets do with their input: a call with arguments made of it, on every backend of the machine, whose
//! results must be those of the scalar one; lengths that do not fit must be errors, and nothing may panic.
//!
//! Arguments lie in allocations of their exact length (behind an offset that moves them off their alignment), so that the
//! sanitizers see every access past an end. `tests/seeds.rs` runs the committed seeds without a fuzzer.

use std::fmt::Debug;

use arbitrary::{Result, Unstructured};
use slth_kernels::{Backend, Engine, PackedMask};

mod conv2d;
mod elementwise;
mod products;
mod subset_sum;
mod top_k;

/// A target: makes its calls out of the input; an error when that is too short.
type Target = fn(&mut Unstructured<'_>) -> Result<()>;

/// All of them, by name.
pub(crate) const TARGETS: [(&str, Target); 5] = [
    ("products", products::run),
    ("conv2d", conv2d::run),
    ("top_k", top_k::run),
    ("subset_sum", subset_sum::run),
    ("elementwise", elementwise::run),
];

/// Runs a target on one input.
pub(crate) fn run(target: &str, data: &[u8]) {
    let (_, run) = TARGETS.iter().find(|(name, _)| *name == target).expect("a target of TARGETS");
    // An input that ends early says nothing more.
    let _ = run(&mut Unstructured::new(data));
}

/// Calls on every backend, alone and in rayon's pool; all must give what the scalar backend gives, which is returned.
fn everywhere<T: PartialEq + Debug>(call: impl Fn(Engine) -> T) -> T {
    let scalar = Engine::new(Backend::scalar());
    let expected = call(scalar);
    for engine in Backend::available().into_iter().map(Engine::new) {
        assert_eq!(call(engine), expected, "{engine:?}");
    }
    for engine in [scalar, Engine::new(Backend::best())] {
        assert_eq!(call(engine.parallel()), expected, "{engine:?}, parallel");
    }
    expected
}

/// The bits to compare: which NaN it is does not count.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }).collect()
}

/// A size: mostly small, at times `most`, rarely one that no memory has room for.
fn size(u: &mut Unstructured<'_>, most: usize) -> Result<usize> {
    Ok(match u.int_in_range(0..=255_u8)? {
        0 => *u.choose(&[usize::MAX, usize::MAX / 2 + 1, 1 << 32, 1 << 40, (1 << 32) - 1])?,
        1..=40 => u.int_in_range(0..=most)?,
        41..=140 => u.int_in_range(0..=most.min(40))?,
        _ => u.int_in_range(0..=most.min(9))?,
    })
}

/// Most elements of an argument.
const MOST: usize = 1 << 17;

/// Lengths of arguments, and whether all of them are what their shapes ask for.
struct Lengths {
    fit: bool,
}

impl Lengths {
    /// The length of an argument of that shape; now and then another one, and where it is too long 0.
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

/// An argument: floats behind some others, so that they begin at any alignment and end with the allocation.
#[derive(Clone, Debug)]
struct Floats {
    memory: Vec<f32>,
    offset: usize,
}

impl Floats {
    /// Numbers in ±1, or of any magnitude, or of a few values; the first of them any bits at all.
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

/// A mask over `len` weights of any density, its first words any at all.
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
