//! Which images a run takes, and what it makes of their pixels.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::fixture::{slth, write_part_of_mnist};

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
