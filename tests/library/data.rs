//! IDX files, the embedded ones, normalisation.

use std::io::{Read, Write};

use sha2::{Digest, Sha256};
use slth::data::idx::{IdxImages, IdxReader};
use slth::data::{DatasetError, DatasetProblem, MAX_UNZIPPED, Normalisation, NormalisationRule};

fn images(header: [u32; 3], pixels: &[u8]) -> Vec<u8> {
    let mut bytes = 0x803_u32.to_be_bytes().to_vec();
    header.iter().for_each(|d| bytes.extend(d.to_be_bytes()));
    bytes.extend(pixels);
    bytes
}

fn zip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn read(bytes: &[u8]) -> Result<IdxImages, DatasetProblem> {
    IdxReader::new("f".to_owned(), bytes).images().map_err(|error| error.problem)
}

#[test]
fn plain_and_gzip_agree() {
    let bytes = images([2, 1, 3], &[1, 2, 3, 4, 5, 6]);
    let expected = IdxImages { count: 2, rows: 1, columns: 3, pixels: vec![1, 2, 3, 4, 5, 6] };
    assert_eq!(read(&bytes).unwrap(), expected);
    assert_eq!(read(&zip(&bytes)).unwrap(), expected);
}

#[test]
fn every_cut_is_noticed() {
    let bytes = images([2, 1, 3], &[1, 2, 3, 4, 5, 6]);
    for cut in 0..bytes.len() {
        assert!(matches!(read(&bytes[..cut]), Err(DatasetProblem::Truncated { .. })), "{cut}");
    }
    let zipped = zip(&bytes);
    for cut in 1..zipped.len() {
        assert!(read(&zipped[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn damaged_gzip_is_noticed_wherever_it_matters() {
    let zipped = zip(&images([2, 1, 3], &[1, 2, 3, 4, 5, 6]));
    let whole = read(&zipped).unwrap();
    for bit in 0..8 * zipped.len() {
        let mut damaged = zipped.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        // Bits of the header (time, system) and padding may change without harm.
        if let Ok(read) = read(&damaged) {
            assert_eq!(read, whole, "{bit}");
        }
    }
}

#[test]
fn promises_are_not_believed() {
    let zipped = zip(&images([u32::MAX, 28, 28], &[0; 9]));
    assert!(matches!(read(&zipped), Err(DatasetProblem::TooLargeZipped { .. })));
    let zipped = zip(&images([1 << 11, 1 << 10, 1 << 10], &[0; 9]));
    assert!(matches!(read(&zipped), Err(DatasetProblem::Truncated { expected: MAX_UNZIPPED, .. })));
    let huge = images([u32::MAX, u32::MAX, u32::MAX], &[]);
    assert!(matches!(read(&huge), Err(DatasetProblem::TooLarge(_))));
    let large = images([u32::MAX, 28, 28], &[0; 100]);
    assert!(matches!(read(&large), Err(DatasetProblem::Truncated { found: 100, .. })));
}

#[test]
fn a_bomb_is_stopped_at_the_promise() {
    let mut bomb = images([1, 1, 1], &[]);
    bomb.resize(10 << 20, 0);
    assert!(matches!(read(&zip(&bomb)), Err(DatasetProblem::TooLong(1))));
}

/// Labels of QMNIST: the class, and seven numbers beside it.
#[test]
fn labels_of_qmnist_are_their_first_column() {
    let rows = |classes: &[i32]| -> Vec<u8> {
        let header = [0x0c02, classes.len() as i32, 8];
        let rows = classes.iter().flat_map(|&class| [class, -1, 7, 1 << 20, 0, 0, 0, 0]);
        header.into_iter().chain(rows).flat_map(i32::to_be_bytes).collect()
    };
    let read = |bytes: &[u8]| IdxReader::new("f".to_owned(), bytes).labels().map_err(|error| error.problem);
    let bytes = rows(&[3, 0, 255]);
    assert_eq!(read(&bytes).unwrap(), [3, 0, 255]);
    assert_eq!(read(&zip(&bytes)).unwrap(), [3, 0, 255]);
    for cut in 0..bytes.len() {
        assert!(matches!(read(&bytes[..cut]), Err(DatasetProblem::Truncated { .. })), "{cut}");
    }
    for class in [256, -1, i32::MIN] {
        let problem = read(&rows(&[0, class])).unwrap_err();
        assert!(matches!(problem, DatasetProblem::LabelRange { index: 1, .. }), "{problem}");
    }
    let mut promise = rows(&[1]);
    promise[4..8].fill(0xff);
    assert!(matches!(read(&promise), Err(DatasetProblem::Truncated { found: 32, .. })));
    assert!(matches!(read(&zip(&promise)), Err(DatasetProblem::TooLargeZipped { .. })));
    promise[11] = 9;
    assert!(matches!(read(&promise), Err(DatasetProblem::LabelColumns { found: 9, .. })));
}

#[test]
fn foreign_files_are_refused() {
    let labels: &[u8] = &[0, 0, 8, 1, 0, 0, 0, 1, 5];
    assert!(matches!(read(labels), Err(DatasetProblem::Magic { found: 0x801, .. })));
    assert!(matches!(read(b"not an IDX file"), Err(DatasetProblem::Magic { .. })));
    assert!(matches!(read(&images([1, 1, 1], &[1, 2])), Err(DatasetProblem::TooLong(_))));
    assert!(matches!(
        IdxReader::new("f".to_owned(), &images([1, 1, 1], &[1])[..]).labels(),
        Err(DatasetError { problem: DatasetProblem::Magic { .. }, .. })
    ));
}

/// The sums of the published, uncompressed files.
#[test]
fn the_embedded_files_are_the_published_ones() {
    let published = [
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ];
    let files = [
        slth_mnist_train::IMAGES,
        slth_mnist_train::LABELS,
        slth_mnist_test::IMAGES,
        slth_mnist_test::LABELS,
    ];
    for (bytes, expected) in files.into_iter().zip(published) {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
        let sum: String = Sha256::digest(&plain).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(sum, expected);
    }
}

#[test]
fn standardised_pixels_have_mean_0_and_deviation_1() {
    let pixels: Vec<u8> = (0..100_000_u32).map(|i| (i % 997 * i % 251) as u8).collect();
    let normalisation = Normalisation::standardising(&pixels);
    let inputs = || pixels.iter().map(|&x| f64::from(normalisation.apply(x)));
    let n = pixels.len() as f64;
    assert!((inputs().sum::<f64>() / n).abs() < 1e-6);
    assert!((inputs().map(|x| x * x).sum::<f64>() / n - 1.0).abs() < 1e-6);
    // White images beyond the pieces of the sums, and none at all.
    for pixels in [vec![255; 100_000], vec![]] {
        let normalisation = Normalisation::standardising(&pixels);
        assert!(pixels.first().is_none_or(|&x| normalisation.apply(x) == 0.0));
        assert_eq!(normalisation.apply(255) - normalisation.apply(0), 1.0);
    }
}

#[test]
fn text_leads_back() {
    let given = |mean, std| NormalisationRule::Given(Normalisation::new(mean, std).unwrap());
    let rules = [NormalisationRule::MeanStd, NormalisationRule::Unit, given(0.1307, 0.3081)];
    for rule in rules.into_iter().chain([given(-1.0 / 3.0, 1e-6), given(-0.0, 1e6)]) {
        assert_eq!(rule.to_string().parse(), Ok(rule));
        let json = serde_json::to_string(&rule).unwrap();
        assert_eq!(json, format!("\"{rule}\""));
        assert_eq!(serde_json::from_str::<NormalisationRule>(&json).unwrap(), rule);
    }
    for text in ["max", "", ",", "0.1", "0.1,", "0,0", "0,-1", "nan,1", "0,inf", "1e7,1", "0,1e-7", "0,1,2"] {
        assert!(text.parse::<NormalisationRule>().is_err(), "{text}");
    }
}
