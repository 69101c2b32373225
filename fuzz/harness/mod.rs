//! What the fuzz targets do with their input: give it to a parser as a file's content or a flag's value. What is refused is
//! fine; what is taken must keep what the parser promises, and must be fit for what is done with it next. Nothing may panic.
//!
//! `tests/fuzz_seeds.rs` runs the committed seeds without a fuzzer.

pub(crate) mod checkpoint;
mod grammar;
mod idx;
mod images;
mod safetensors;
mod store;

/// A target.
type Target = fn(&[u8]);

/// All of them, by name.
pub(crate) const TARGETS: [(&str, Target); 6] = [
    ("idx", idx::run),
    ("images", images::run),
    ("safetensors", safetensors::run),
    ("store", store::run),
    ("grammar", grammar::run),
    ("checkpoint", checkpoint::run),
];

/// Runs a target on one input.
pub(crate) fn run(target: &str, data: &[u8]) {
    let (_, run) = TARGETS.iter().find(|(name, _)| *name == target).expect("a target of TARGETS");
    run(data);
}

/// The first byte, which says what to do, and the rest.
fn split(data: &[u8]) -> Option<(u8, &[u8])> {
    data.split_first().map(|(&first, rest)| (first, rest))
}

/// The next of some files one after another, the length of each in front of it.
fn part<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_at_checked(2)?;
    let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
    let (file, rest) = rest.split_at(length.min(rest.len()));
    *bytes = rest;
    Some(file)
}

/// What every data set that is taken promises.
fn check(data: &slth::data::Dataset) {
    for examples in [data.train(), data.test()] {
        assert!(!examples.is_empty() && examples.shape() == data.shape());
        assert_eq!(examples.pixels().len(), examples.len() * data.shape().into_iter().product::<usize>());
        assert!(examples.labels().iter().all(|&label| usize::from(label) < data.classes()));
    }
}

/// A data set of blank images of this size, one of each class for training and one for testing; `None` for channels that no
/// images have.
pub(crate) fn blank(shape: [usize; 3], classes: u8) -> Option<slth::data::Dataset> {
    use slth::data::{Dataset, Examples};
    let images = |count: u8| {
        let pixels = vec![1; usize::from(count) * shape.iter().product::<usize>()];
        Examples::new(pixels, (0..count).collect(), shape).ok()
    };
    Dataset::new(String::new(), images(classes)?, images(1)?).ok()
}
