//! Which images a run takes, and what it makes of their pixels.

use std::fs;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use slth::data::Dataset;

use crate::bad_input::refused;
use crate::fixture::{self, slth, write_part_of_mnist};

const TRAIN: &str = "train-images-idx3-ubyte";

/// A part of MNIST, its training images sorted by label.
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
    // The same test images beside other training images.
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

/// The small data set, training images and labels, test images and labels, under other names, gzipped where `zip` says so.
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
        // Plain and gzipped, each with and without `.gz`.
        for (zip, end) in [(false, ""), (false, ".gz"), (true, ""), (true, ".gz")] {
            let data = tempfile::tempdir().unwrap();
            let names = names.map(|name| format!("{name}{end}"));
            renamed(data.path(), names.each_ref().map(String::as_str), zip);
            // What a Mac puts beside a file, and files of other things.
            for other in ["._train-images-idx3-ubyte", "train-images.txt", "result.json"] {
                fs::write(data.path().join(other), "x").unwrap();
            }
            let found = Dataset::load(data.path()).unwrap();
            assert_eq!((found.train(), found.test()), (expected.train(), expected.test()), "{names:?}");
            fixture::small_run(data.path()).assert().success();
        }
    }
}

/// Its labels are i32 in eight columns.
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
    // One that lacks a file is none, if another is whole.
    fs::remove_file(data.path().join(&one[1])).unwrap();
    fixture::small_run(data.path()).assert().success();
    let words = ["emnist-digits-train-labels-idx1-ubyte", "no such file"];
    refused(&mut fixture::small_run(&data.path().join(digits)), &words);
    // Two files for one part.
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
    // Messages have the file's own labels.
    let train = labels[0].to_str().unwrap();
    refused(fixture::small_run(data.path()).args(["--network", "30-8-2"]), &["3 classes", "label 3", train]);
    // A 0 among the test labels: they do not begin at 1.
    let mut bytes = fs::read(&labels[1]).unwrap();
    bytes[8] = 0;
    fs::write(&labels[1], bytes).unwrap();
    assert_eq!(Dataset::load(data.path()).unwrap().classes(), 4);
}

/// Records of CIFAR: `heads` label bytes, of which the last counts, and three planes, the one of its class brightest.
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
        // One that is missing, and both in one directory.
        fs::remove_file(ten.path().join(format!("data_batch_1.bin{end}"))).unwrap();
        refused(&mut run(ten.path()), &["data_batch_1.bin", "no such file"]);
        write(&ten, "data_batch_1.bin", cifar(0..40, 1));
        write(&ten, "train.bin", cifar(0..70, 2));
        run(ten.path()).assert().success();
        write(&ten, "test.bin", cifar(70..80, 2));
        refused(&mut run(ten.path()), &["more than one data set", "test_batch.bin", "test.bin"]);
        // Damaged ones.
        write(&hundred, "test.bin", cifar(70..80, 1));
        refused(&mut run(hundred.path()), &["test.bin", "30730 bytes", "records of 3074"]);
        let mut beyond = cifar(70..80, 2);
        beyond[3075] = 100;
        write(&hundred, "test.bin", beyond);
        refused(&mut run(hundred.path()), &["test.bin", "label of image 1", "0 to 99"]);
        write(&hundred, "test.bin", Vec::new());
        refused(&mut run(hundred.path()), &["test.bin", "no images"]);
    }
}
