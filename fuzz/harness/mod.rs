//! What the fuzz targets do with their input: give it to a parser as a file's content or a flag's value. What is refused is
//! fine; what is taken must keep what the parser promises, and must be fit for what is done with it next. Nothing may panic.
//!
//! `tests/fuzz_seeds.rs` runs the committed seeds without a fuzzer.

mod grammar;
mod idx;
mod safetensors;
mod store;

/// A target.
type Target = fn(&[u8]);

/// All of them, by name.
pub(crate) const TARGETS: [(&str, Target); 4] =
    [("idx", idx::run), ("safetensors", safetensors::run), ("store", store::run), ("grammar", grammar::run)];

/// Runs a target on one input.
pub(crate) fn run(target: &str, data: &[u8]) {
    let (_, run) = TARGETS.iter().find(|(name, _)| *name == target).expect("a target of TARGETS");
    run(data);
}

/// The first byte, which says what to do, and the rest.
fn split(data: &[u8]) -> Option<(u8, &[u8])> {
    data.split_first().map(|(&first, rest)| (first, rest))
}

/// A data set of blank images of this size, one of each class for training and one for testing.
fn blank(rows: usize, columns: usize, classes: u8) -> Option<slth::data::Dataset> {
    use slth::data::{Dataset, idx::IdxReader};
    let file = |magic: u8, sizes: &[usize], bytes: Vec<u8>| {
        let words = sizes.iter().flat_map(|&size| (size as u32).to_be_bytes());
        let bytes: Vec<u8> = [0, 0, 8, magic].into_iter().chain(words).chain(bytes).collect();
        IdxReader::new(String::new(), std::io::Cursor::new(bytes))
    };
    let images = |count: u8| {
        file(3, &[usize::from(count), rows, columns], vec![1; usize::from(count) * rows * columns])
    };
    let labels = |count: u8| file(1, &[usize::from(count)], (0..count).collect());
    Dataset::read(String::new(), images(classes), labels(classes), images(1), labels(1)).ok()
}
