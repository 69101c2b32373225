//! IDX files, plain and gzipped, and data sets made of them.

use std::io::Write;

use slth::data::{Dataset, idx::IdxImages, idx::IdxReader};

pub(super) fn run(data: &[u8]) {
    let Some((what, rest)) = super::split(data) else { return };
    match what % 4 {
        0 => plain(rest),
        1 => drop(images(IdxReader::new(String::new(), rest))),
        2 => drop(IdxReader::new(String::new(), rest).labels()),
        _ => whole(rest),
    }
}

/// Read as images and as labels; of plain bytes, zipped, the same must come out.
fn plain(bytes: &[u8]) {
    let read = images(IdxReader::new(String::new(), bytes));
    let labels = IdxReader::new(String::new(), bytes).labels().ok();
    assert!(read.is_none() || labels.is_none());
    let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    zipped.write_all(bytes).expect("into memory");
    let zipped = zipped.finish().expect("into memory");
    // What is gzipped already is unzipped once.
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        assert_eq!(images(IdxReader::new(String::new(), &zipped[..])), read);
        assert_eq!(IdxReader::new(String::new(), &zipped[..]).labels().ok(), labels);
    }
}

fn images(reader: IdxReader<'_>) -> Option<IdxImages> {
    let images = reader.images().ok()?;
    assert_eq!(images.pixels.len(), images.count * images.rows * images.columns);
    Some(images)
}

/// Four files one after another, the length of each in front of it.
fn whole(mut bytes: &[u8]) {
    let mut file = || Some(IdxReader::new(String::new(), super::part(&mut bytes)?));
    let (Some(train), Some(labels), Some(test), Some(test_labels)) = (file(), file(), file(), file()) else {
        return;
    };
    if let Ok(data) = Dataset::read(String::new(), train, labels, test, test_labels) {
        super::check(&data);
    }
}
