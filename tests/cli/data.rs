//! Data sets: file names and formats, validation images, normalisation.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use serde_json::Value;

use slth::data::{DataFile, Dataset};

use crate::bad_input::refused;
use crate::fixture::{self, slth, write_part_of_mnist};

const TRAIN: &str = "train-images-idx3-ubyte";

/// Writes a part of MNIST with its training images sorted by label.
fn write_sorted(directory: &Path) {
    write_part_of_mnist(directory, 3000, 1000);
    let [images, labels] = [TRAIN, "train-labels-idx1-ubyte"].map(|name| directory.join(name));
    let (mut pixels, mut classes) = (fs::read(&images).unwrap(), fs::read(&labels).unwrap());
    let mut order: Vec<usize> = (0..3000).collect();
    order.sort_by_key(|&image| classes[8 + image]);
    let sorted =
        order.iter().flat_map(|&image| pixels[16 + image * 784..][..784].to_vec()).collect::<Vec<_>>();
    pixels.splice(16.., sorted);
    classes[8..].sort_unstable();
    fs::write(images, pixels).unwrap();
    fs::write(labels, classes).unwrap();
}

fn run(data: &Path, out: &Path, flags: &[&str]) -> Value {
    let mut command = slth();
    command.args([
        "run",
        "--quiet",
        "--network",
        "784-10",
        "--validation",
        "500",
        "--batch",
        "32",
        "--force",
    ]);
    command.args(flags).arg("--data").arg(data).arg("--out").arg(out).assert().success();
    serde_json::from_slice(&fs::read(out.join("result.json")).unwrap()).unwrap()
}

#[test]
fn data_sorted_by_label_validates_as_it_tests() {
    let (data, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_sorted(data.path());
    for images in [&[][..], &["--train-images", "1000"]] {
        let unbounded =
            ["--sparsity", "0", "--epsilon", "inf", "--pretrain-epochs", "4", "--normalize", "unit"];
        let flags = [&unbounded, images].concat();
        let result = run(data.path(), out.path(), &flags);
        let [validation, test] =
            ["validation_accuracy", "test_accuracy"].map(|key| result["prune"][key].as_f64().unwrap());
        assert!(test > 0.75 && (validation - test).abs() < 0.08, "{validation} {test}");
    }
}

#[test]
fn a_ticket_is_evaluated_with_the_constants_it_was_trained_with() {
    let (data, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_part_of_mnist(data.path(), 1500, 500);
    let result = run(data.path(), out.path(), &["--prune-epochs", "1"]);
    // Change the training images only; the test images stay the same.
    let images = data.path().join(TRAIN);
    let mut pixels = fs::read(&images).unwrap();
    pixels[16..].iter_mut().for_each(|pixel| *pixel = 255 - *pixel / 2);
    fs::write(&images, pixels).unwrap();
    let mut evaluate = slth();
    evaluate.arg("evaluate").arg("--ticket").arg(out.path().join("ticket.safetensors"));
    let output = evaluate.arg("--data").arg(data.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let expected = format!("test accuracy {} (", result["prune"]["test_accuracy"]);
    assert!(text.starts_with(&expected), "{text} {expected}");
    assert_ne!(
        run(data.path(), out.path(), &["--prune-epochs", "1"])["normalization"],
        result["normalization"]
    );
}

/// Writes the small data set under `names`: training images and labels, then test images and labels; gzipped if `zip`.
fn renamed(directory: &Path, names: [&str; 4], zip: bool) {
    let data = fixture::dataset();
    let files = ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"];
    for (from, name) in files.into_iter().chain(["t10k-labels-idx1-ubyte"]).zip(names) {
        let mut bytes = Vec::new();
        let file = fs::File::open(data.path().join(from)).unwrap();
        if from.ends_with(".gz") {
            flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
        } else {
            { file }.read_to_end(&mut bytes).unwrap();
        }
        fs::write(directory.join(name), if zip { fixture::gzip(&bytes) } else { bytes }).unwrap();
    }
}

const USUAL: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];
const LETTERS: [&str; 4] = [
    "emnist-letters-train-images-idx3-ubyte",
    "emnist-letters-train-labels-idx1-ubyte",
    "emnist-letters-test-images-idx3-ubyte",
    "emnist-letters-test-labels-idx1-ubyte",
];

#[test]
fn files_are_found_by_any_of_their_names_and_unzipped_by_their_content() {
    let expected = Dataset::load(fixture::dataset().path()).unwrap();
    let dots = USUAL.map(|name| name.replace("-idx", ".idx"));
    for names in [USUAL, LETTERS, dots.each_ref().map(String::as_str)] {
        // Plain and gzipped content, each with and without the extension `.gz`.
        for (zip, end) in [(false, ""), (false, ".gz"), (true, ""), (true, ".gz")] {
            let data = tempfile::tempdir().unwrap();
            let names = names.map(|name| format!("{name}{end}"));
            renamed(data.path(), names.each_ref().map(String::as_str), zip);
            // Unrelated files, and the metadata file that macOS adds.
            for other in ["._train-images-idx3-ubyte", "train-images.txt", "result.json"] {
                fs::write(data.path().join(other), "x").unwrap();
            }
            let found = Dataset::load(data.path()).unwrap();
            assert_eq!((found.train(), found.test()), (expected.train(), expected.test()), "{names:?}");
            fixture::small_run(data.path()).assert().success();
        }
    }
}

/// QMNIST stores labels as i32 in eight columns; the first is the class.
#[test]
fn qmnist() {
    let data = fixture::dataset();
    let expected = Dataset::load(data.path()).unwrap();
    for (from, to) in [("train", "train"), ("t10k", "test")] {
        let labels = data.path().join(format!("{from}-labels-idx1-ubyte"));
        let bytes = fs::read(&labels).unwrap();
        let rows: Vec<u8> =
            bytes[8..].iter().flat_map(|&label| [[0, 0, 0, label], [0; 4]]).flatten().collect();
        let rows: Vec<u8> = rows.chunks(8).flat_map(|row| [row, &[9; 24]].concat()).collect();
        let file = fixture::idx(0xc02, &[(bytes.len() - 8) as u32, 8], &rows);
        fs::write(data.path().join(format!("qmnist-{to}-labels-idx2-int.gz")), fixture::gzip(&file)).unwrap();
        fs::remove_file(labels).unwrap();
    }
    let rename = |from: &str, to: &str| fs::rename(data.path().join(from), data.path().join(to)).unwrap();
    rename("train-images-idx3-ubyte.gz", "qmnist-train-images-idx3-ubyte.gz");
    rename("t10k-images-idx3-ubyte", "qmnist-test-images-idx3-ubyte");
    let found = Dataset::load(data.path()).unwrap();
    assert_eq!((found.train(), found.test()), (expected.train(), expected.test()));
}

#[test]
fn of_several_data_sets_one_is_chosen_by_a_file_of_it() {
    let data = tempfile::tempdir().unwrap();
    renamed(data.path(), LETTERS, false);
    let one = LETTERS.map(|name| name.replace("letters", "digits"));
    renamed(data.path(), one.each_ref().map(String::as_str), true);
    let [letters, digits] = [LETTERS[0], &one[0]];
    refused(&mut fixture::small_run(data.path()), &["more than one data set", letters, digits]);
    fixture::small_run(&data.path().join(LETTERS[3])).assert().success();
    refused(&mut fixture::small_run(&data.path().join("x.txt")), &["x.txt", "no such file"]);
    fs::write(data.path().join("x.txt"), "x").unwrap();
    refused(&mut fixture::small_run(&data.path().join("x.txt")), &["x.txt", "no data"]);
    // A data set with a missing file is ignored if another one is complete.
    fs::remove_file(data.path().join(&one[1])).unwrap();
    fixture::small_run(data.path()).assert().success();
    let words = ["emnist-digits-train-labels-idx1-ubyte", "no such file"];
    refused(&mut fixture::small_run(&data.path().join(digits)), &words);
    // Two files for the same part of a data set.
    let dotted = LETTERS[0].replace("-idx3", ".idx3");
    fs::copy(data.path().join(LETTERS[0]), data.path().join(&dotted)).unwrap();
    refused(&mut fixture::small_run(data.path()), &["more than one", letters, &dotted]);
    let empty = tempfile::tempdir().unwrap();
    refused(&mut fixture::small_run(empty.path()), &["no data", TRAIN]);
}

#[test]
fn labels_that_begin_at_1_begin_at_0() {
    let data = fixture::dataset();
    let expected = Dataset::load(data.path()).unwrap();
    let labels = ["train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"].map(|name| data.path().join(name));
    for file in &labels {
        let mut bytes = fs::read(file).unwrap();
        bytes[8..].iter_mut().for_each(|label| *label += 1);
        fs::write(file, bytes).unwrap();
    }
    let found = Dataset::load(data.path()).unwrap();
    assert_eq!((found.classes(), found.train(), found.test()), (3, expected.train(), expected.test()));
    // Messages give the labels as they stand in the file.
    let train = labels[0].to_str().unwrap();
    refused(fixture::small_run(data.path()).args(["--network", "30-8-2"]), &["3 classes", "label 3", train]);
    // A 0 among the test labels shows that labels begin at 0.
    let mut bytes = fs::read(&labels[1]).unwrap();
    bytes[8] = 0;
    fs::write(&labels[1], bytes).unwrap();
    assert_eq!(Dataset::load(data.path()).unwrap().classes(), 4);
}

/// CIFAR records: `heads` label bytes, of which the last is the class, then three planes; the plane of the class is brightest.
fn cifar(images: std::ops::Range<u32>, heads: usize) -> Vec<u8> {
    let record = |image: u32| {
        let class = image * 7 % 3;
        let pixel = move |at: u32| {
            let noise = (image * 31 + at * 17) % 61;
            (noise + if at / 1024 == class { 150 } else { 0 }) as u8
        };
        [vec![9; heads - 1], vec![class as u8], (0..3072).map(pixel).collect()].concat()
    };
    images.flat_map(record).collect()
}

#[test]
fn cifar_is_read_batch_after_batch() {
    for (zip, end) in [(false, ""), (true, ".gz"), (true, "")] {
        let zipped = |bytes: Vec<u8>| if zip { fixture::gzip(&bytes) } else { bytes };
        let (ten, hundred) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write = |data: &tempfile::TempDir, name: &str, bytes| {
            fs::write(data.path().join(format!("{name}{end}")), zipped(bytes)).unwrap();
        };
        write(&ten, "data_batch_1.bin", cifar(0..40, 1));
        write(&ten, "data_batch_2.bin", cifar(40..70, 1));
        write(&ten, "test_batch.bin", cifar(70..80, 1));
        write(&hundred, "train.bin", cifar(0..70, 2));
        write(&hundred, "test.bin", cifar(70..80, 2));
        let [ten_data, hundred_data] = [&ten, &hundred].map(|data| Dataset::load(data.path()).unwrap());
        assert_eq!((ten_data.shape(), ten_data.classes()), ([3, 32, 32], 3));
        assert_eq!((ten_data.train().len(), ten_data.test().labels()[..3].to_vec()), (70, vec![1, 2, 0]));
        let all = cifar(0..70, 1);
        assert!(ten_data.train().pixels().chunks(3072).zip(all.chunks(3073)).all(|(a, b)| a == &b[1..]));
        assert_eq!((ten_data.train(), ten_data.test()), (hundred_data.train(), hundred_data.test()));
        let run = |data: &Path| {
            let mut command = fixture::small_run(data);
            command.args(["--network", "3x32x32-4@3x3p1-pool2-pool2-3"]);
            command
        };
        run(ten.path()).assert().success();
        run(&hundred.path().join(format!("train.bin{end}"))).assert().success();
        refused(&mut fixture::small_run(ten.path()), &["30 inputs", "3 × 32 × 32"]);
        // A missing batch; files of both formats in one directory.
        fs::remove_file(ten.path().join(format!("data_batch_1.bin{end}"))).unwrap();
        refused(&mut run(ten.path()), &["data_batch_1.bin", "no such file"]);
        write(&ten, "data_batch_1.bin", cifar(0..40, 1));
        write(&ten, "train.bin", cifar(0..70, 2));
        run(ten.path()).assert().success();
        write(&ten, "test.bin", cifar(70..80, 2));
        refused(&mut run(ten.path()), &["more than one data set", "test_batch.bin", "test.bin"]);
        // Damaged files.
        write(&hundred, "test.bin", cifar(70..80, 1));
        refused(&mut run(hundred.path()), &["test.bin", "truncated: 30740 bytes of records", "30730 found"]);
        let mut beyond = cifar(70..80, 2);
        beyond[3075] = 100;
        write(&hundred, "test.bin", beyond);
        refused(&mut run(hundred.path()), &["test.bin", "label of image 1", "0 to 99"]);
        write(&hundred, "test.bin", Vec::new());
        refused(&mut run(hundred.path()), &["test.bin", "0 images"]);
    }
}

/// An `.npy` file as NumPy writes it.
fn npy(kind: &str, shape: &[usize], bytes: &[u8]) -> Vec<u8> {
    let sizes: String = shape.iter().map(|size| format!("{size}, ")).collect();
    let shape = if shape.len() == 1 { sizes.trim_end() } else { sizes.trim_end_matches(", ") };
    let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}");
    let header = format!("{header:117}\n");
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), bytes].concat()
}

/// An `.npz` archive of `.npy` files.
fn npz(arrays: &[(&str, Vec<u8>)], method: rawzip::CompressionMethod) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut archive = rawzip::ZipArchiveWriter::new(&mut bytes);
    for (name, array) in arrays {
        let name = format!("{name}.npy");
        let (mut entry, config) = archive.new_file(&name).compression_method(method).start().unwrap();
        let descriptor = if method == rawzip::CompressionMethod::STORE {
            let mut writer = config.wrap(&mut entry);
            writer.write_all(array).unwrap();
            writer.finish().unwrap().1
        } else {
            let encoder = flate2::write::DeflateEncoder::new(&mut entry, flate2::Compression::fast());
            let mut writer = config.wrap(encoder);
            writer.write_all(array).unwrap();
            let (encoder, descriptor) = writer.finish().unwrap();
            encoder.finish().unwrap();
            descriptor
        };
        entry.finish(descriptor).unwrap();
    }
    archive.finish().unwrap();
    bytes
}

/// Pixels and labels of images of 6 × 5 with `channels`.
fn numbers(images: std::ops::Range<usize>, channels: usize) -> (Vec<u8>, Vec<u8>) {
    let labels = images.clone().map(|image| (image % 3) as u8).collect();
    let pixel = move |image: usize, at: usize| {
        (image * 13 + at * 29 + if at % 3 == image % 3 { 120 } else { 0 }) as u8
    };
    (images.flat_map(|image| (0..30 * channels).map(move |at| pixel(image, at))).collect(), labels)
}

/// The four arrays of a data set, with pixels of type `pixel` and labels of type `label`. Channels come last if `innermost`.
fn arrays(
    channels: Option<usize>,
    innermost: bool,
    [pixel, label]: [&str; 2],
) -> [(&'static str, Vec<u8>); 4] {
    let part = |images: std::ops::Range<usize>| {
        let count = images.len();
        let (pixels, labels) = numbers(images, channels.unwrap_or(1));
        let channels_last = |image: &[u8]| -> Vec<u8> {
            (0..30).flat_map(|at| image.chunks(30).map(move |plane| plane[at])).collect()
        };
        let pixels = if innermost {
            pixels.chunks(30 * channels.unwrap()).flat_map(channels_last).collect()
        } else {
            pixels
        };
        let shape = match (channels, innermost) {
            (None, _) => vec![count, 6, 5],
            (Some(channels), true) => vec![count, 6, 5, channels],
            (Some(channels), false) => vec![count, channels, 6, 5],
        };
        let float = |scale: f32| {
            pixels.iter().flat_map(|&x| (f32::from(x) / scale).to_le_bytes()).collect::<Vec<u8>>()
        };
        let pixels = match pixel {
            "unit" => npy("<f4", &shape, &float(255.0)),
            "<f4" => npy("<f4", &shape, &float(1.0)),
            _ => npy(pixel, &shape, &pixels),
        };
        let size = label[2..].parse().unwrap();
        let bytes: Vec<u8> =
            labels.iter().flat_map(|&label| (0..size).map(move |i| if i == 0 { label } else { 0 })).collect();
        let columns = if label == "|u1" { vec![count, 1] } else { vec![count] };
        (pixels, npy(label, &columns, &bytes))
    };
    let ((x_train, y_train), (x_test, y_test)) = (part(0..203), part(203..240));
    // The order of the arrays in Keras' `mnist.npz`.
    [("x_test", x_test), ("x_train", x_train), ("y_train", y_train), ("y_test", y_test)]
}

#[test]
fn arrays_of_numpy_are_read_in_every_layout() {
    use rawzip::CompressionMethod;
    for (channels, shape, network) in [
        (None, [1, 6, 5], "30-8-3"),
        (Some(1), [1, 6, 5], "6x5-2@3x3-3"),
        (Some(3), [3, 6, 5], "3x6x5-2@3x3-3"),
    ] {
        let (pixels, labels) = numbers(0..203, channels.unwrap_or(1));
        for (kinds, method) in [
            (["|u1", "|u1"], CompressionMethod::STORE),
            (["|u1", "<i8"], CompressionMethod::DEFLATE),
            (["unit", "<i4"], CompressionMethod::DEFLATE),
            (["<f4", "<u2"], CompressionMethod::STORE),
            (["|u1", "|i1"], CompressionMethod::STORE),
        ] {
            for innermost in [false, true] {
                if innermost && channels.is_none() {
                    continue;
                }
                let arrays = arrays(channels, innermost, kinds);
                let archive = npz(&arrays, method);
                let (one, four) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
                fs::write(one.path().join("mnist.npz"), &archive).unwrap();
                for (name, bytes) in &arrays {
                    fs::write(four.path().join(format!("kmnist-{name}.npy")), bytes).unwrap();
                }
                for path in [one.path(), &one.path().join("mnist.npz"), four.path()] {
                    let data = Dataset::load(path).unwrap();
                    assert_eq!((data.shape(), data.test().len()), (shape, 37));
                    assert_eq!((data.train().pixels(), data.train().labels()), (&pixels[..], &labels[..]));
                }
                fixture::small_run(one.path()).args(["--network", network]).assert().success();
            }
        }
    }
}

#[test]
fn hostile_arrays_of_numpy_are_refused() {
    use rawzip::CompressionMethod;
    let data = tempfile::tempdir().unwrap();
    let kinds = ["|u1", "|u1"];
    let whole = arrays(None, false, kinds);
    let try_with = |name: &str, array: Vec<u8>, words: &[&str]| {
        for method in [CompressionMethod::STORE, CompressionMethod::DEFLATE] {
            let mut arrays = whole.clone();
            arrays.iter_mut().filter(|(other, _)| *other == name).for_each(|(_, old)| *old = array.clone());
            fs::write(data.path().join("x.npz"), npz(&arrays, method)).unwrap();
            refused(&mut fixture::small_run(data.path()), &[&["x.npz"], words].concat());
        }
    };
    let pixels = vec![0; 203 * 30];
    let floats = |value: f32| [value.to_le_bytes(), 1_f32.to_le_bytes()].concat();
    let fortran = String::from_utf8_lossy(&npy("|u1", &[203, 6, 5], &[])[10..]).replace("False", "True");
    let fortran = [b"\x93NUMPY\x01\x00\x76\x00", fortran.as_bytes(), &pixels].concat();
    for (array, words) in [
        (b"nothing of the kind".to_vec(), &["not a .npy array"][..]),
        (npy("|u1", &[203, 6, 5], &pixels)[..50].to_vec(), &["not a .npy array"]),
        (npy("|u1", &[203, 6, 5], &pixels[1..]), &["truncated", "6090", "6089"]),
        (npy("|u1", &[203, 6, 5], &[&pixels[..], &[0]].concat()), &["too long", "6090"]),
        (npy("|u1", &[1 << 40, 6, 5], &pixels), &["numbers"]),
        (npy("|u1", &[usize::MAX, usize::MAX], &pixels), &["not a .npy array"]),
        (npy("<f8", &[1, 1, 1], &[0; 8]), &["f64 [1, 1, 1]", "u8 or f32"]),
        (npy(">f4", &[1, 1, 1], &[0; 4]), &["little-endian"]),
        (npy("|O", &[1, 1, 1], &[0; 4]), &["not a .npy array"]),
        (npy("|u1", &[203, 30], &pixels), &["u8 [203, 30]", "channels"]),
        (npy("|u1", &[203, 3, 2, 5], &pixels), &["images of 6 × 5", "3 × 2 × 5"]),
        (npy("|u1", &[0, 6, 5], &[]), &["0 images"]),
        (npy("|u1", &[202, 6, 5], &pixels[30..]), &["203 labels for 202 images", "y_train"]),
        (npy("<f4", &[2, 1, 1], &floats(0.3)), &["pixel 0 is 0.3", "k/255"]),
        (npy("<f4", &[2, 1, 1], &floats(f32::NAN)), &["pixel 0 is NaN"]),
        (npy("<f4", &[2, 1, 1], &floats(-1.0)), &["pixel 0 is -1"]),
        (npy("<f4", &[2, 1, 1], &floats(256.0)), &["pixel 0 is 256"]),
        (fortran, &["C order"]),
    ] {
        try_with("x_train", array, words);
    }
    for (array, words) in [
        (npy("<f4", &[203], &[0; 812]), &["f32 [203]", "an integer"][..]),
        (npy("|u1", &[203, 10], &[0; 2030]), &["u8 [203, 10]", "an integer"]),
        (npy("<i2", &[203], &[&[0, 0, 0, 1], &[0; 402][..]].concat()), &["label of image 1"]),
        (npy("|i1", &[203], &[255; 203]), &["label of image 0"]),
    ] {
        try_with("y_train", array, words);
    }
    // Archives: one without an array, others truncated or changed at any position.
    fs::write(data.path().join("x.npz"), npz(&whole[1..], CompressionMethod::DEFLATE)).unwrap();
    refused(&mut fixture::small_run(data.path()), &["x.npz", "no array x_test"]);
    let archive = npz(&whole, CompressionMethod::DEFLATE);
    let read = |bytes: &[u8]| Dataset::read_npz("x".to_owned(), DataFile::new("x.npz".to_owned(), bytes));
    let expected = read(&archive).unwrap();
    for cut in (0..archive.len()).step_by(7) {
        assert!(read(&archive[..cut]).is_err(), "{cut}");
    }
    for bit in (0..8 * archive.len()).step_by(37) {
        let mut damaged = archive.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        if let Ok(found) = read(&damaged) {
            assert_eq!(found, expected, "{bit}");
        }
    }
}
