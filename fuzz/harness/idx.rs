//! IDX files, plain and gzipped, and data sets of them.

use std::io::Write;

use slth::data::{DataFile, Dataset, idx};

pub(super) fn run(data: &[u8]) {
    let Some((what, rest)) = super::split(data) else { return };
    match what % 4 {
        0 => plain(rest),
        1 => drop(images(rest)),
        2 => drop(labels(rest)),
        _ => whole(rest),
    }
}

/// Reads the bytes as images and as labels, which must give the same after gzip.
fn plain(bytes: &[u8]) {
    let read = images(bytes);
    let classes = labels(bytes);
    assert!(read.is_none() || classes.is_none());
    let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    zipped.write_all(bytes).expect("into memory");
    let zipped = zipped.finish().expect("into memory");
    // Input that is gzipped already would be unzipped only once.
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        assert_eq!(images(&zipped), read);
        assert_eq!(labels(&zipped), classes);
    }
}

fn images(bytes: &[u8]) -> Option<(Vec<u8>, [usize; 3])> {
    let images = idx::images(&mut DataFile::new(String::new(), bytes)).ok()?;
    let size = images.1.iter().product::<usize>();
    assert!(size == 0 || images.0.len().is_multiple_of(size));
    Some(images)
}

fn labels(bytes: &[u8]) -> Option<Vec<u8>> {
    idx::labels(&mut DataFile::new(String::new(), bytes)).ok()
}

/// A data set of four concatenated files, each after its length.
fn whole(mut bytes: &[u8]) {
    let mut file = || Some(DataFile::new(String::new(), super::part(&mut bytes)?));
    let (Some(train), Some(labels), Some(test), Some(test_labels)) = (file(), file(), file(), file()) else {
        return;
    };
    if let Ok(data) = Dataset::read(String::new(), [train, labels, test, test_labels]) {
        super::check(&data);
    }
}
