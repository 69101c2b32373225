//! The fuzz targets pass their input to a parser, as the content of a file or the value of a flag. The parser may refuse it.
//! Otherwise the result must keep the parser's promises and be usable for the next steps. Nothing may panic.
//!
//! `tests/fuzz_seeds.rs` runs the committed seeds without a fuzzer.

pub(crate) mod checkpoint;
mod grammar;
mod idx;
mod images;
mod safetensors;
mod store;

/// A target, which takes the fuzzer's input.
type Target = fn(&[u8]);

/// All targets by name.
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

/// The first byte, which selects what to do, and the rest.
fn split(data: &[u8]) -> Option<(u8, &[u8])> {
    data.split_first().map(|(&first, rest)| (first, rest))
}

/// The next of several concatenated files, each after its length in two bytes.
fn part<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_at_checked(2)?;
    let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
    let (file, rest) = rest.split_at(length.min(rest.len()));
    *bytes = rest;
    Some(file)
}

/// Checks what every accepted data set promises.
fn check(data: &slth::data::Dataset) {
    for examples in [data.train(), data.test()] {
        assert!(!examples.is_empty() && examples.shape() == data.shape());
        assert_eq!(examples.pixels().len(), examples.len() * data.shape().into_iter().product::<usize>());
        assert!(examples.labels().iter().all(|&label| usize::from(label) < data.classes()));
    }
}

/// A data set of blank images of this shape, one of each class for training and for testing; `None` for an unsupported number
/// of channels.
pub(crate) fn blank(shape: [usize; 3], classes: u8) -> Option<slth::data::Dataset> {
    use slth::data::{Dataset, Examples};
    let images = |count: u8| {
        let pixels = vec![1; usize::from(count) * shape.iter().product::<usize>()];
        Examples::new(pixels, (0..count).collect(), shape).ok()
    };
    Dataset::new(String::new(), images(classes)?, images(1)?).ok()
}
