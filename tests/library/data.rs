//! IDX files, the embedded data set, normalisation.

use std::io::{Read, Write};

use sha2::{Digest, Sha256};
use slth::data::idx;
use slth::data::{
    DataFile, Dataset, DatasetProblem, Examples, MAX_UNZIPPED, Normalisation, NormalisationRule,
};
use slth::run::{RunConfig, dataset_hash};

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

fn read(bytes: &[u8]) -> Result<(Vec<u8>, [usize; 3]), DatasetProblem> {
    idx::images(&mut DataFile::new("f".to_owned(), bytes))
}

#[test]
fn plain_and_gzip_agree() {
    let bytes = images([2, 1, 3], &[1, 2, 3, 4, 5, 6]);
    let expected = (vec![1, 2, 3, 4, 5, 6], [1, 1, 3]);
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
        // Some header fields (time, system) and padding bits do not affect the content.
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

/// QMNIST labels: the class, then seven other numbers.
#[test]
fn labels_of_qmnist_are_their_first_column() {
    let rows = |classes: &[i32]| -> Vec<u8> {
        let header = [0x0c02, classes.len() as i32, 8];
        let rows = classes.iter().flat_map(|&class| [class, -1, 7, 1 << 20, 0, 0, 0, 0]);
        header.into_iter().chain(rows).flat_map(i32::to_be_bytes).collect()
    };
    let read = |bytes: &[u8]| idx::labels(&mut DataFile::new("f".to_owned(), bytes));
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
    assert!(matches!(read(&promise), Err(DatasetProblem::LabelColumns(9))));
}

#[test]
fn foreign_files_are_refused() {
    let labels: &[u8] = &[0, 0, 8, 1, 0, 0, 0, 1, 5];
    assert!(matches!(read(labels), Err(DatasetProblem::Magic { found: 0x801, .. })));
    assert!(matches!(read(b"not an IDX file"), Err(DatasetProblem::Magic { .. })));
    assert!(matches!(read(&images([1, 1, 1], &[1, 2])), Err(DatasetProblem::TooLong(_))));
    assert!(matches!(
        idx::labels(&mut DataFile::new("f".to_owned(), &images([1, 1, 1], &[1])[..])),
        Err(DatasetProblem::Magic { .. })
    ));
}

/// Checksums are those of the published files, uncompressed.
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
    let normalisation = Normalisation::standardising(&pixels, 1, 50_000);
    let inputs = || pixels.iter().map(|&x| f64::from(normalisation.apply(0, x)));
    let n = pixels.len() as f64;
    assert!((inputs().sum::<f64>() / n).abs() < 1e-6);
    assert!((inputs().map(|x| x * x).sum::<f64>() / n - 1.0).abs() < 1e-6);
    // White images longer than one piece of the partial sums; no images at all.
    for pixels in [vec![255; 100_000], vec![]] {
        let normalisation = Normalisation::standardising(&pixels, 1, 50_000);
        assert!(pixels.first().is_none_or(|&x| normalisation.apply(0, x) == 0.0));
        assert_eq!(normalisation.apply(0, 255) - normalisation.apply(0, 0), 1.0);
    }
}

/// Images whose red, green and blue planes differ in brightness.
fn colours() -> Dataset {
    let plane = |image: usize, channel: usize| {
        (0..16).map(move |i| (60 * channel + (i * 7 + image * 5) % (3 + 10 * channel)) as u8)
    };
    let images = |range: std::ops::Range<usize>| {
        let labels = range.clone().map(|image| (image % 3) as u8).collect();
        let pixels = range.flat_map(|image| (0..3).flat_map(move |channel| plane(image, channel)));
        Examples::new(pixels.collect(), labels, [3, 4, 4]).unwrap()
    };
    Dataset::new("colours".to_owned(), images(0..30), images(30..40)).unwrap()
}

#[test]
fn each_channel_has_its_constants() {
    let data = colours();
    let normalisation = data.normalisation(NormalisationRule::MeanStd);
    for channel in 0..3 {
        let planes = data.train().pixels().chunks(16).skip(channel).step_by(3);
        let inputs: Vec<f64> =
            planes.flatten().map(|&x| f64::from(normalisation.apply(channel, x))).collect();
        let n = inputs.len() as f64;
        assert_eq!(n, 480.0);
        assert!((inputs.iter().sum::<f64>() / n).abs() < 1e-5);
        assert!((inputs.iter().map(|x| x * x).sum::<f64>() / n - 1.0).abs() < 1e-5);
    }
    let usual = "0.4914,0.4822,0.4465,0.2023,0.1994,0.201";
    assert_eq!(usual.parse::<Normalisation>().unwrap().to_string(), usual);
    assert_eq!("0.5,0.5,0.5,1,1,1".parse(), Normalisation::new([0.5; 3], [1.0; 3]));
}

#[test]
fn networks_and_images_must_have_the_same_channels() {
    let check = |network: &str, normalize: &str, data: &Dataset| {
        let (network, normalize) = (network.parse().unwrap(), normalize.parse().unwrap());
        let config = RunConfig { network, normalize, validation: 0, ..RunConfig::default() };
        config.check(data).map_err(|error| error.to_string())
    };
    let (data, three) = (colours(), "0,0,0,1,1,2");
    for network in ["3x4x4-2@3x3p1-pool2-3", "48-3"] {
        assert_eq!(check(network, three, &data), Ok(()));
    }
    for network in ["4x12-2@3x3p1-3", "2x4x4-3", "4x4-3"] {
        let error = check(network, "unit", &data).unwrap_err();
        let words = [network, "3 × 4 × 4", "colours"];
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
    let mnist = Dataset::mnist().unwrap();
    let error = check("3x28x28-2@3x3p1-10", "unit", &mnist).unwrap_err();
    assert!(error.contains("images of 3 × 28 × 28") && error.contains("MNIST are 28 × 28"), "{error}");
    assert!(check("784-10", three, &mnist).unwrap_err().contains("one channel"));
}

#[test]
fn examples_must_be_whole() {
    let new = |pixels, labels, shape| Examples::new(vec![0; pixels], vec![0; labels], shape).unwrap_err();
    for (pixels, labels, shape) in [(0, 0, [1, 2, 2]), (4, 1, [1, 0, 2]), (4, 1, [usize::MAX, 2, 2])] {
        let problem = new(pixels, labels, shape);
        assert!(matches!(problem, DatasetProblem::Count(0) | DatasetProblem::Channels(_)), "{problem}");
    }
    assert!(matches!(new(8, 1, [2, 2, 2]), DatasetProblem::Channels(2)));
    for (pixels, labels) in [(8, 1), (4, 2), (5, 1), (4, 0)] {
        assert!(matches!(new(pixels, labels, [1, 2, 2]), DatasetProblem::CountsDiffer { .. }));
    }
    let grey = |columns| Examples::new(vec![0; 4], vec![0; 4 / columns], [1, 1, columns]).unwrap();
    let error = Dataset::new("x".to_owned(), grey(1), grey(2)).unwrap_err();
    assert_eq!(error.to_string(), "x, test images: images of 1 × 2, but the training images are 1 × 1");
}

/// Stores of sweeps contain this hash, so it must not change.
#[test]
fn the_hash_of_the_embedded_files() {
    let hash = "2ad1c4ec31a27ba36ed655939202fe3a7ec0972d465de899c3838e1a57178958";
    assert_eq!(dataset_hash(&Dataset::mnist().unwrap()), hash);
    // The same pixels in another shape have another hash.
    let data = |shape| {
        let examples = Examples::new(vec![7; 27], vec![0], shape).unwrap();
        dataset_hash(&Dataset::new("x".to_owned(), examples.clone(), examples).unwrap())
    };
    assert_ne!(data([3, 3, 3]), data([1, 9, 3]));
    assert_ne!(data([3, 1, 9]), data([1, 3, 9]));
}

#[test]
fn text_leads_back() {
    let given = |mean, std| NormalisationRule::Given(Normalisation::new([mean; 3], [std; 3]).unwrap());
    let rules = [NormalisationRule::MeanStd, NormalisationRule::Unit, given(0.1307, 0.3081)];
    for rule in rules.into_iter().chain([given(-1.0 / 3.0, 1e-6), given(-0.0, 1e6)]) {
        assert_eq!(rule.to_string().parse(), Ok(rule));
        let json = serde_json::to_string(&rule).unwrap();
        assert_eq!(json, format!("\"{rule}\""));
        assert_eq!(serde_json::from_str::<NormalisationRule>(&json).unwrap(), rule);
    }
    for text in [
        "max",
        "",
        ",",
        "0.1",
        "0.1,",
        "0,0",
        "0,-1",
        "nan,1",
        "0,inf",
        "1e7,1",
        "0,1e-7",
        "0,1,2",
        "0,0,0,1,1,0",
        "0,0,0,1,1,1,1",
    ] {
        assert!(text.parse::<NormalisationRule>().is_err(), "{text}");
    }
}
