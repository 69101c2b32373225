//! Bad input gives exit code 2, one line on standard error that names the file or flag, and no output files.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use predicates::prelude::*;

use crate::fixture::{self, CLASSES, COLUMNS, ROWS, TEST, TRAIN, gzip, idx, slth, small_run};

/// Expects `command` to fail with exit code 2 and one line that contains all of `words`.
pub(crate) fn refused(command: &mut Command, words: &[&str]) {
    let assert = command.assert().code(2).stdout("");
    let error = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.starts_with("error: "), "{error}");
    for word in words {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

#[test]
fn flags() {
    let data = fixture::dataset();
    for (arguments, words) in [
        (vec!["--sparsity", "1"], vec!["--sparsity", "[0, 1)"]),
        (vec!["--sparsity", "-0.1"], vec!["--sparsity"]),
        (vec!["--sparsity", "1.5"], vec!["--sparsity", "1.5"]),
        (vec!["--sparsity", "nan"], vec!["--sparsity", "NaN"]),
        (vec!["--sparsity", "half"], vec!["--sparsity", "half"]),
        (vec!["--epsilon", "-0.1"], vec!["--epsilon", "-0.1"]),
        (vec!["--epsilon", "nan"], vec!["--epsilon", "NaN"]),
        (vec!["--epsilon=-inf"], vec!["--epsilon"]),
        (vec!["--prune-epochs", "0"], vec!["--prune-epochs", "at least 1"]),
        (vec!["--pattern", "2:4"], vec!["--pattern", "layer 1 of 30-8-3"]),
        (vec!["--pattern", "3:2"], vec!["--pattern", "`3:2` is no pattern"]),
        (vec!["--pattern", "1:5", "--sparsity", "0.5"], vec!["--sparsity", "0.8, which 1:5 removes"]),
        (vec!["--pattern", "1:2", "--scope", "global"], vec!["--scope", "per-layer"]),
        (vec!["--method", "imp", "--rewind-epoch", "2"], vec!["--rewind-epoch", "2 epochs of a round"]),
        (vec!["--rounds", "0"], vec!["--rounds", "1 to 1000"]),
        (vec!["--pretrain-schedule", "linear"], vec!["--pretrain-schedule", "multistep"]),
        (vec!["--prune-schedule", "multistep:0"], vec!["--prune-schedule", "warmup"]),
        (vec!["--batch", "0"], vec!["--batch"]),
        (vec!["--batch", "-1"], vec!["--batch"]),
        (vec!["--threads", "0"], vec!["--threads"]),
        (vec!["--threads", "1000000"], vec!["--threads", "1024"]),
        (vec!["--pretrain-lr", "nan"], vec!["--pretrain-lr"]),
        (vec!["--prune-lr", "-1"], vec!["--prune-lr"]),
        (vec!["--momentum", "1"], vec!["--momentum"]),
        (vec!["--pretrain-momentum", "-0.1"], vec!["--pretrain-momentum"]),
        (vec!["--weight-decay", "inf"], vec!["--weight-decay"]),
        (vec!["--pretrain-epochs", "-1"], vec!["--pretrain-epochs"]),
        (vec!["--seed", "-1"], vec!["--seed"]),
        (vec!["--backend", "sse9"], vec!["--backend", "sse9", "scalar"]),
        (vec!["--init", "xavier"], vec!["--init", "kaiming-normal"]),
        (vec!["--normalize", "max"], vec!["--normalize", "unit"]),
        (vec!["--normalize", "0.5,0"], vec!["--normalize", "standard deviation"]),
        (vec!["--normalize", "nan,1"], vec!["--normalize", "mean"]),
        (vec!["--train-images", "0"], vec!["--train-images"]),
        (vec!["--train-images", "204"], vec!["--train-images", "163"]),
        (vec!["--train-images", "164"], vec!["--train-images", "163"]),
        (vec!["--validation", "203"], vec!["--validation", "203"]),
        (vec!["--nonsense"], vec!["--nonsense"]),
        (vec!["--network", ""], vec!["--network"]),
        (vec!["--network", "30"], vec!["--network", "two widths"]),
        (vec!["--network", "30-0-3"], vec!["--network", "0"]),
        (vec!["--network", "30--3"], vec!["--network"]),
        (vec!["--network", "-3"], vec!["--network"]),
        (vec!["--network", "30-99999999999999999999-3"], vec!["--network"]),
        (vec!["--network", "30-4294967296-4294967296-3"], vec!["--network", "weights"]),
        (vec!["--network", "lenet"], vec!["--network"]),
        (vec!["--network", "lenet5"], vec!["--network", "28 × 28", "6 × 5"]),
        (vec!["--network", "conv2"], vec!["--network", "conv2", "3 × 32 × 32", "6 × 5"]),
        (vec!["--network", "5x6-2@3x3-3"], vec!["--network", "5 × 6", "6 × 5"]),
        (vec!["--network", "6x5-2@3x3-pool4-3"], vec!["--network", "pool4", "nothing is left"]),
        (vec!["--network", "6x5-2@3x3-pool2"], vec!["--network", "end with a layer"]),
        (vec!["--network", "6x5-2@3y3-3"], vec!["--network", "2@3y3", "lenet5", "conv8"]),
        (vec!["--network", "31-8-3"], vec!["--network", "31", "30 pixels"]),
        (vec!["--network", "30-8-2"], vec!["--network", "2 outputs", "3 classes"]),
        (vec!["--network", "30-8000000-3", "--batch", "163"], vec!["--batch", "memory"]),
    ] {
        let out = tempfile::tempdir().unwrap();
        let inner = out.path().join("out");
        refused(small_run(data.path()).arg("--out").arg(&inner).args(&arguments), &words);
        assert!(!inner.exists(), "{arguments:?}");
    }
    refused(slth().args(["run", "--quiet"]).env("SLTH_BACKEND", "sse9"), &["SLTH_BACKEND", "sse9"]);
    slth().assert().code(2).stderr(predicate::str::contains("Usage"));
}

/// Values that only flags for paths and free text may accept.
const NONSENSE: [&str; 10] = ["", "nan", "-1", "-inf", "x", "1\n2", "1e400", "é", "1,,2", "0x1"];

/// Values that some flags accept: zeros, the largest numbers of each type, and numbers just beyond them.
const EXTREMES: [&str; 8] = [
    "0",
    "-0",
    "inf",
    "1e39",
    "340282346638528859811704183484516925440",
    "18446744073709551615",
    "18446744073709551616",
    "9223372036854775808",
];

/// Hostile values for every flag that takes a value, as listed by each command's help. The command either succeeds or fails
/// with one line and writes nothing; it never panics.
#[test]
fn hostile_values_of_every_flag() {
    let (data, target) = crate::approximate::fixture();
    let ticket = data.path().join("ticket");
    small_run(data.path()).arg("--out").arg(&ticket).assert().success();
    let command = |name: &str, network: bool| match name {
        "run" => small_run(data.path()),
        "sweep" => fixture::small_sweep(data.path()),
        "approximate" => {
            let mut command = slth();
            command.args([name, "--quiet", "--data"]).arg(data.path()).arg("--target").arg(&target);
            command
        }
        "candidates" => {
            let mut command = slth();
            command.args([name, "--quiet", "--trials", "3", "--eta", "0.1", "--ratio", "0"]);
            command
        }
        "evaluate" => {
            let mut command = slth();
            command.args([name, "--data"]).arg(data.path());
            match network {
                true => command.arg("--weights").arg(&target),
                false => command.arg("--ticket").arg(ticket.join("ticket.safetensors")),
            };
            command
        }
        "prune" => {
            let mut command = slth();
            command.args([name, "--sparsity", "0.5"]).arg(&target);
            command
        }
        other => unreachable!("{other}"),
    };
    let mut tried = 0;
    for name in ["run", "sweep", "approximate", "candidates", "evaluate", "prune"] {
        let help = slth().args([name, "--help"]).output().unwrap().stdout;
        let help = String::from_utf8(help).unwrap();
        let flags = help.lines().filter_map(|line| {
            let (flag, value) = line.trim_start().strip_prefix("--")?.split_once(" <")?;
            (!value.starts_with("DIR") && !value.starts_with("FILE")).then_some(flag)
        });
        for flag in flags {
            let extremes = EXTREMES.map(|value| (value, false));
            for (value, nonsense) in NONSENSE.map(|value| (value, true)).into_iter().chain(extremes) {
                let out = data.path().join("out");
                let mut command = command(name, ["network", "normalize", "map"].contains(&flag));
                // A run with a huge number of epochs is stopped after a second: it has accepted the value.
                let endless = flag.ends_with("-epochs") && value.len() > 9;
                command.timeout(std::time::Duration::from_secs(if endless { 1 } else { 300 }));
                command.arg(format!("--{flag}={value}"));
                if name != "evaluate" {
                    command.arg("--out").arg(&out);
                }
                let output = command.output().unwrap();
                let error = String::from_utf8(output.stderr).unwrap();
                let case = format!("{name} --{flag}={value}: {:?}: {error}", output.status);
                match output.status.code() {
                    Some(2) => assert!(!out.exists(), "{case}"),
                    Some(0 | 1) => assert!(!nonsense, "{case}"),
                    None => assert!(endless && !nonsense, "{case}"),
                    Some(_) => panic!("{case}"),
                }
                let line = error.starts_with("error: ") && error.lines().count() == 1;
                // Failed cells of a sweep and ignored options are reported, but are not errors.
                let fine =
                    error.lines().all(|line| line.starts_with("failed: ") || line.starts_with("note: "));
                assert!(if matches!(output.status.code(), Some(1 | 2)) { line } else { fine }, "{case}");
                let _ = fs::remove_dir_all(&out).or_else(|_| fs::remove_file(&out));
                tried += 1;
            }
        }
    }
    eprintln!("{tried} commands tried");
}

#[test]
fn a_number_beyond_f32_is_not_infinity_and_minus_0_is_0() {
    let (data, out) = (fixture::dataset(), tempfile::tempdir().unwrap());
    for (flag, value) in [("--epsilon", "1e39"), ("--sparsity", "1e400"), ("--prune-lr", "1e39")] {
        refused(
            small_run(data.path()).args([flag, value]),
            &[flag, value, "beyond the largest number", "inf"],
        );
    }
    refused(
        fixture::small_sweep(data.path()).args(["--epsilon", "0,1e39", "--out", "x"]),
        &["--epsilon", "`1e39`"],
    );
    for (name, zero) in [("minus", "-0"), ("plain", "0")] {
        let out = out.path().join(name);
        small_run(data.path())
            .args(["--epsilon", zero, "--sparsity", zero, "--out"])
            .arg(out)
            .assert()
            .success();
    }
    let ticket = |name: &str| fs::read(out.path().join(name).join("ticket.safetensors")).unwrap();
    assert_eq!(ticket("minus"), ticket("plain"));
}

/// Reading a pipe could block, and reading a device could never end.
#[test]
#[cfg(unix)]
fn pipes_and_devices_are_refused() {
    let data = fixture::dataset();
    let pipe = data.path().join("train-images-idx3-ubyte");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    refused(&mut small_run(data.path()), &[pipe.to_str().unwrap(), "not a regular file"]);
    for file in [pipe.to_str().unwrap(), "/dev/zero", "/"] {
        refused(slth().args(["evaluate", "--ticket", file]), &[file, "not a regular file"]);
        refused(slth().args(["approximate", "--target", file]), &[file, "not a regular file"]);
    }
    fs::rename(&pipe, data.path().join("cells.jsonl")).unwrap();
    for command in ["status", "report"] {
        refused(slth().arg(command).arg(data.path()), &["cells.jsonl", "not a regular file"]);
    }
    fs::remove_file(data.path().join("cells.jsonl")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", data.path().join("cells.jsonl")).unwrap();
    refused(slth().arg("merge").arg(data.path().join("new")).arg(data.path()), &["not a regular file"]);
    refused(
        fixture::small_sweep(data.path()).arg("--out").arg(data.path()),
        &["cells.jsonl", "not a regular file"],
    );
}

#[test]
fn output_directories() {
    let (data, other) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let file = other.path().join("file");
    fs::write(&file, "").unwrap();
    for out in [file.clone(), file.join("below")] {
        let words = [out.to_str().unwrap(), "cannot write"];
        refused(small_run(data.path()).arg("--out").arg(&out), &words);
    }
    let directory = other.path().join("directory");
    fs::create_dir_all(directory.join("result.json")).unwrap();
    refused(
        small_run(data.path()).arg("--force").arg("--out").arg(&directory),
        &["result.json", "is a directory"],
    );
}

/// Expects a run to be refused when file `name` of the data set is replaced by `bytes`.
fn with_file(name: &str, bytes: &[u8], words: &[&str]) {
    let data = fixture::dataset();
    let plain = name.trim_end_matches(".gz");
    for old in [plain.to_owned(), format!("{plain}.gz")] {
        let _ = fs::remove_file(data.path().join(old));
    }
    fs::write(data.path().join(name), bytes).unwrap();
    let path = data.path().join(name);
    let mut words = words.to_vec();
    words.push(path.to_str().unwrap());
    refused(&mut small_run(data.path()), &words);
}

#[test]
fn data_files() {
    let pixels = |n: u32| vec![7; (n * ROWS * COLUMNS) as usize];
    let images = |n: u32| idx(0x803, &[n, ROWS, COLUMNS], &pixels(n));
    let labels = |n: u32| idx(0x801, &[n], &vec![1; n as usize]);
    let (train, zipped) = ("train-images-idx3-ubyte", "train-images-idx3-ubyte.gz");
    let whole = images(TRAIN);

    with_file(train, &whole[..whole.len() - 1], &["truncated"]);
    with_file(train, &whole[..7], &["truncated"]);
    with_file(train, &[], &["truncated"]);
    with_file(train, &[&whole[..], &[0]].concat(), &["too long"]);
    with_file(train, &idx(0x802, &[TRAIN, ROWS, COLUMNS], &pixels(TRAIN)), &["magic", "0x00000802"]);
    with_file(train, &labels(TRAIN), &["magic"]);
    with_file(train, &idx(0x803, &[u32::MAX; 3], &[]), &["more than can be addressed"]);
    with_file(train, &idx(0x803, &[u32::MAX, 1 << 15, 1 << 15], &[0; 99]), &["truncated", "99"]);
    with_file(train, &idx(0x803, &[0, ROWS, COLUMNS], &[]), &[]);
    with_file(zipped, &gzip(&whole)[..50], &["gzip"]);
    let mut damaged = gzip(&whole);
    let end = damaged.len() - 8;
    damaged[end] ^= 1; // the checksum
    with_file(zipped, &damaged, &["gzip"]);
    with_file(zipped, &gzip(&whole[..100]), &["truncated"]);
    let mut bomb = images(1);
    bomb.resize(64 << 20, 0);
    with_file(zipped, &gzip(&bomb), &["too long"]);

    with_file("train-labels-idx1-ubyte", &labels(TRAIN - 1), &["202 labels", "203 images"]);
    with_file("t10k-labels-idx1-ubyte", &labels(TEST + 1), &["62 labels", "61 images"]);
    let mut outside = labels(TEST);
    outside[8 + 5] = CLASSES;
    with_file("t10k-labels-idx1-ubyte", &outside, &["label 3 of image 5", "3 classes"]);
    let other_size = idx(0x803, &[TEST, COLUMNS, ROWS], &pixels(TEST));
    with_file("t10k-images-idx3-ubyte", &other_size, &["5 × 6", "6 × 5"]);

    let data = fixture::dataset();
    let missing = data.path().join("t10k-labels-idx1-ubyte");
    fs::remove_file(&missing).unwrap();
    refused(&mut small_run(data.path()), &[missing.to_str().unwrap(), "no such file"]);
    refused(&mut small_run(Path::new("/nonexistent")), &["/nonexistent", "no such file"]);
}

#[test]
fn training_labels_beyond_the_network() {
    let data = fixture::dataset();
    let mut labels = idx(0x801, &[TRAIN], &[0; TRAIN as usize]);
    labels[20] = 200;
    fs::write(data.path().join("train-labels-idx1-ubyte"), labels).unwrap();
    let file = data.path().join("train-labels-idx1-ubyte");
    let words = ["--network", "201 classes", "label 200 of image 12 in", file.to_str().unwrap()];
    refused(&mut small_run(data.path()), &words);
}

#[test]
fn tickets() {
    let data = fixture::dataset();
    let out = tempfile::tempdir().unwrap();
    small_run(data.path()).arg("--out").arg(out.path()).assert().success();
    let good = fs::read(out.path().join("ticket.safetensors")).unwrap();
    let bad = out.path().join("bad.safetensors");
    let evaluate = |bytes: &[u8], words: &[&str]| {
        fs::write(&bad, bytes).unwrap();
        let mut command = slth();
        command.args(["evaluate", "--data"]).arg(data.path()).arg("--ticket").arg(&bad);
        refused(&mut command, &[&[bad.to_str().unwrap()], words].concat());
    };
    evaluate(&[], &["safetensors"]);
    evaluate(&good[..good.len() / 2], &["safetensors"]);
    evaluate(b"{\"layers\": []}", &["safetensors"]);
    evaluate(&[0xff; 64], &["safetensors"]);
    let tensor = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &[0; 4]).unwrap();
    evaluate(&safetensors::serialize([("w", tensor)], None).unwrap(), &["not a ticket"]);
    // The layout ends with the masks: floats before bytes, names in order.
    let mut no_mask = good.clone();
    *no_mask.last_mut().unwrap() = 2;
    evaluate(&no_mask, &["mask", "neither 0 nor 1"]);
    let header = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let mut not_a_number = good.clone();
    not_a_number[header..header + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    evaluate(&not_a_number, &["NaN"]);
    let renamed = |from: &str, to: &str| {
        let at = good.windows(from.len()).position(|bytes| bytes == from.as_bytes()).unwrap();
        [&good[..at], to.as_bytes(), &good[at + from.len()..]].concat()
    };
    evaluate(&renamed("layer2.scores", "layer2.scored"), &["layer2.scores", "missing"]);
    evaluate(&renamed("\"dtype\":\"U8\"", "\"dtype\":\"I8\""), &["I8", "U8"]);
    evaluate(&renamed("\"shape\":[8,30]", "\"shape\":[30,8]"), &["[30, 8]", "[8, 30]"]);
    evaluate(&renamed("30-8-3", "30-3-8"), &["expected"]);

    let mut missing = slth();
    refused(
        missing.args(["evaluate", "--ticket", "/nonexistent.safetensors"]),
        &["/nonexistent.safetensors"],
    );
    // A valid ticket, evaluated on images of another size (the built-in MNIST).
    let mut other = slth();
    other.args(["evaluate", "--ticket"]).arg(out.path().join("ticket.safetensors"));
    refused(&mut other, &["--ticket", "30 inputs", "784 pixels"]);
    let mut device = slth();
    refused(device.args(["evaluate", "--ticket", "/dev/zero"]), &["/dev/zero", "regular file"]);
    refused(slth().arg("evaluate"), &["--ticket"]);
}
