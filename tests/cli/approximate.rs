//! `slth approximate`.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use predicates::prelude::*;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use slth::approximate::Target;
use slth_kernels::Backend;

use crate::bad_input::refused;
use crate::fixture::{self, slth};

/// A tensor's name, shape and element type.
type Tensor<'a> = (&'a str, &'a [usize], Dtype);

/// Writes a safetensors file with these tensors, filled with arbitrary numbers.
fn write(file: &Path, tensors: &[Tensor<'_>]) {
    let number = |i: usize| ((i * 37 + 11) % 101) as f64 / 101.0 - 0.45;
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, shape, kind)| {
            let numbers = (0..shape.iter().product()).map(number);
            match kind {
                Dtype::F64 => numbers.flat_map(f64::to_le_bytes).collect(),
                Dtype::F32 => numbers.flat_map(|x| (x as f32).to_le_bytes()).collect(),
                _ => numbers.map(|_| 1).collect(),
            }
        })
        .collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, shape, kind), bytes)| (*name, TensorView::new(*kind, shape.to_vec(), bytes).unwrap()));
    fs::write(file, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// A data set and a matching network 30-9-3. Alphabetically, the name of its second layer comes first.
pub(crate) fn fixture() -> (tempfile::TempDir, PathBuf) {
    let data = fixture::dataset();
    let file = data.path().join("target.safetensors");
    write(&file, &[("fc2.weight", &[9, 30], Dtype::F32), ("fc10.weight", &[3, 9], Dtype::F64)]);
    (data, file)
}

fn approximate(data: &Path, target: &Path) -> Command {
    let mut command = slth();
    command.args(["approximate", "--quiet", "--eta", "0.02", "--data"]).arg(data).arg("--target").arg(target);
    command
}

fn json(out: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(out.join("approximation.json")).unwrap()).unwrap()
}

#[test]
fn a_target_is_approximated_checked_and_written() {
    let (data, target) = fixture();
    for draw in ["per-row", "per-weight"] {
        let out = tempfile::tempdir().unwrap();
        approximate(data.path(), &target)
            .args(["--check", "--draw", draw, "--out"])
            .arg(out.path())
            .assert()
            .success()
            // Published figures are printed only for the network they belong to.
            .stdout(
                predicate::str::contains("checked: all 297 subsets")
                    .and(predicate::str::contains("published").not()),
            )
            .stderr("");
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 2);
        let result = json(out.path());
        let row = result["results"][0].as_object().unwrap();
        for key in
            ["epsilon", "max_residual", "mean_residual", "accuracy_before", "accuracy_after", "seconds"]
        {
            assert!(row[key].is_number(), "{key}");
        }
        assert_eq!((&row["weights"], &row["candidates_per_weight"]), (&297.into(), &18.into()));
        assert_eq!((&row["candidates_total"], &row["failed"]), (&(297 * 18).into(), &0.into()));
        let kept = row["kept_total"].as_u64().unwrap();
        assert!((297..297 * 18).contains(&kept));
        assert_eq!(result["configuration"]["draw"], draw);
        assert_eq!(result["network"], "30-9-3");
        assert!(result["machine"]["cpu"].is_string());

        let written = out.path().join("approximated.safetensors");
        let bytes = fs::read(&written).unwrap();
        let mut names = SafeTensors::deserialize(&bytes)
            .unwrap()
            .names()
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>();
        names.sort_unstable();
        assert_eq!(names, ["fc10.weight", "fc2.weight"]);
        let [before, after] = [&target, &written].map(|file| Target::read(file).unwrap());
        assert_eq!((&before.network, &before.names), (&after.network, &after.names));
        let pairs = before.weights.iter().flatten().zip(after.weights.iter().flatten());
        let most = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!((f64::from(most) - row["max_residual"].as_f64().unwrap()).abs() < 1e-6);
    }
}

#[test]
fn several_epsilons_give_the_smallest_n_and_a_plot() {
    let (data, target) = fixture();
    let out = tempfile::tempdir().unwrap();
    approximate(data.path(), &target)
        .args(["--epsilon", "0,0.002,0.1", "--candidates", "12", "--out"])
        .arg(out.path())
        .assert()
        .success()
        .stdout(predicate::str::contains("smallest n"));
    let result = json(out.path());
    let mut keys: Vec<_> = result["results"][2].as_object().unwrap().keys().collect();
    keys.sort_unstable();
    let mut expected = [
        "epsilon",
        "weights",
        "candidates_per_weight",
        "candidates_most",
        "candidates_total",
        "kept_total",
        "max_residual",
        "mean_residual",
        "failed",
        "failed_as_written",
        "accuracy_before",
        "accuracy_after",
        "seconds",
    ];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    let smallest: Vec<_> =
        (0..3).map(|i| result["smallest"][i]["candidates_per_weight"].as_u64().unwrap()).collect();
    assert!(smallest[0] > smallest[1] && smallest[1] >= smallest[2], "{smallest:?}");
    let mut names: Vec<_> = fs::read_dir(out.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "approximated-epsilon-0.002.safetensors",
            "approximated-epsilon-0.1.safetensors",
            "approximated-epsilon-0.safetensors",
            "approximation.json",
            "approximation.png",
            "approximation.svg",
        ]
    );
}

/// A ticket with a convolution remains a ticket: masks and configuration are copied unchanged.
#[test]
fn any_file_is_rebuilt_with_its_names_and_types() {
    let (data, out) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let [run, rebuilt] = ["run", "rebuilt"].map(|name| out.path().join(name));
    let mut command = fixture::small_run(data.path());
    command
        .args(["--network", "6x5-4@3x3p1-pool2-5@2x2-3", "--epsilon", "inf", "--out"])
        .arg(&run)
        .assert()
        .success();
    let mut command = slth();
    command.args(["approximate", "--quiet", "--eta-relative", "--subsets", "--only", "*.weight", "--target"]);
    command.arg(run.join("ticket.safetensors")).arg("--out").arg(&rebuilt).assert().success().stdout(
        predicate::str::contains("3 tensors from 21 candidates")
            .and(predicate::str::contains("largest |weight|")),
    );
    let row = &json(&rebuilt)["results"][0];
    assert_eq!(
        (&row["failed"], &row["failed_as_written"], &row["accuracy_after"]),
        (&0.into(), &0.into(), &Value::Null)
    );
    let evaluate = |ticket: PathBuf| {
        let mut command = slth();
        command.args(["evaluate", "--data"]).arg(data.path()).arg("--ticket").arg(ticket).assert().success();
    };
    evaluate(run.join("ticket.safetensors"));
    evaluate(rebuilt.join("approximated.safetensors"));
    let ticket = |file: PathBuf| slth::run::Ticket::read(file).unwrap();
    let [before, after] =
        [run.join("ticket.safetensors"), rebuilt.join("approximated.safetensors")].map(ticket);
    for (old, new) in before.layers.iter().zip(&after.layers) {
        assert_eq!((&old.mask, &old.scores, old.shape), (&new.mask, &new.scores, new.shape));
        assert!(old.weights != new.weights);
    }
    let mut names: Vec<_> = fs::read_dir(&rebuilt)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["approximated.safetensors", "approximation.json", "subsets.safetensors"]);
    refused(slth().args(["approximate", "--subsets", "--quiet"]), &["--out"]);
}

#[test]
fn without_a_target_one_is_trained() {
    let data = fixture::dataset();
    let out = tempfile::tempdir().unwrap();
    let mut command = slth();
    command.args(["approximate", "--quiet", "--candidates", "14", "--data"]).arg(data.path());
    command.arg("--out").arg(out.path()).assert().success().stdout(predicate::str::contains("30-500-3"));
    assert!(json(out.path())["results"][0]["accuracy_before"].as_f64().unwrap() > 0.5);
}

#[test]
fn the_theorems_network_is_built_and_run() {
    let out = tempfile::tempdir().unwrap();
    let mut command = slth();
    command.args(["approximate", "--quiet", "--construction", "relu", "--epsilon", "0,0.01", "--out"]);
    command.arg(out.path()).assert().success().stdout(predicate::str::contains("max |difference|"));
    let result = json(out.path());
    let difference = |i: usize| result["construction"][i]["max_difference"].as_f64().unwrap();
    assert!(difference(0) < 0.05 && difference(1) < 1e-4);
    assert_eq!(result["construction"][0]["network"], "16-672-8-336-4");
    let needed = |i: usize| result["construction"][i]["units_needed"].as_u64().unwrap();
    assert!(needed(0) > needed(1) && needed(0) % (2 * (16 + 8)) == 0);
    assert_eq!(result["results"][0]["accuracy_before"], Value::Null);
    assert_eq!(result["configuration"]["draw"], "per-weight");
    assert!(fs::read_to_string(out.path().join("approximation.svg")).unwrap().contains("hidden units"));
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 5);

    let (data, target) = fixture();
    let out = tempfile::tempdir().unwrap();
    let mut command = approximate(data.path(), &target);
    command
        .args(["--construction", "relu", "--epsilon", "0.001", "--out"])
        .arg(out.path())
        .assert()
        .success();
    let row = &json(out.path())["results"][0];
    assert_eq!(row["accuracy_before"], row["accuracy_after"]);
}

#[test]
fn threads_and_backends_do_not_change_a_bit() {
    let (data, target) = fixture();
    let run = |backend: &str, threads: usize| {
        let out = tempfile::tempdir().unwrap();
        let mut command = approximate(data.path(), &target);
        command.args(["--draw", "per-weight", "--epsilon", "0.0001", "--threads", &threads.to_string()]);
        command.args(["--backend", backend, "--out"]).arg(out.path()).assert().success();
        fs::read(out.path().join("approximated.safetensors")).unwrap()
    };
    let first = run("scalar", 1);
    for (backend, threads) in Backend::available().iter().zip([3, 2, 7, 1]) {
        assert_eq!(run(backend.name(), threads), first, "{backend} {threads}");
    }
}

#[test]
fn bad_flags() {
    let (data, target) = fixture();
    for (arguments, words) in [
        (vec!["--eta", "0"], vec!["--eta", "[1e-6, 1)"]),
        (vec!["--eta", "nan"], vec!["--eta", "NaN"]),
        (vec!["--eta", "-0.01"], vec!["--eta"]),
        (vec!["--eta", "1"], vec!["--eta"]),
        (vec!["--eta", "9e-7"], vec!["--eta"]),
        (vec!["--c", "0"], vec!["--c"]),
        (vec!["--c", "1e9"], vec!["--c", "48"]),
        (vec!["--candidates", "49"], vec!["--candidates", "48", "49"]),
        (vec!["--candidates", "0"], vec!["--candidates"]),
        (vec!["--epsilon", "-0.1"], vec!["--epsilon"]),
        (vec!["--epsilon", "0,nan"], vec!["--epsilon"]),
        (vec!["--epsilon", "inf"], vec!["--epsilon"]),
        (vec!["--epsilon", "0,,1"], vec!["--epsilon", "``"]),
        (vec!["--draw", "per-column"], vec!["--draw", "per-row, per-weight"]),
        (vec!["--size", "0"], vec!["--size"]),
        (vec!["--size", "22"], vec!["--size", "up to 18", "22"]),
        (vec!["--only", "fc3*"], vec!["--only", "`fc3*`"]),
        (vec!["--skip", "fc2.bias"], vec!["--skip", "`fc2.bias`"]),
        (vec!["--skip", "a,,b"], vec!["--skip", "empty"]),
        (vec!["--skip", "*"], vec!["target.safetensors", "no tensor"]),
        (vec!["--construction", "relu", "--eta-relative"], vec!["--eta-relative", "cannot be used with"]),
        (vec!["--construction", "tanh"], vec!["--construction"]),
        (
            vec!["--construction", "relu", "--draw", "per-row"],
            vec!["--draw", "cannot be used with", "--construction"],
        ),
        (vec!["--threads", "0"], vec!["--threads"]),
        (vec!["--data", "/nonexistent"], vec!["/nonexistent"]),
    ] {
        let out = tempfile::tempdir().unwrap();
        let inner = out.path().join("out");
        refused(approximate(data.path(), &target).arg("--out").arg(&inner).args(&arguments), &words);
        assert!(!inner.exists(), "{arguments:?}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    refused(approximate(data.path(), &target).arg("--out").arg(file.path()), &["cannot write"]);
    let mut large = slth();
    large.args(["approximate", "--construction", "relu", "--quiet", "--target"]);
    let wide = data.path().join("wide.safetensors");
    write(&wide, &[("w", &[3000, 600], Dtype::F32)]);
    refused(large.arg(&wide), &["--construction", "smaller target"]);
}

#[test]
fn bad_targets() {
    let (data, good) = fixture();
    let file = data.path().join("bad.safetensors");
    let refused = |words: &[&str]| {
        refused(&mut approximate(data.path(), &file), &[&[file.to_str().unwrap()], words].concat());
    };
    let tensors = |tensors: &[Tensor<'_>], words: &[&str]| {
        write(&file, tensors);
        refused(words);
    };
    tensors(&[], &["no tensors"]);
    tensors(
        &[("fc1.weight", &[3, 30], Dtype::F32), ("fc1.bias", &[3], Dtype::F32)],
        &["fc1.bias", "without biases"],
    );
    tensors(&[("conv", &[3, 1, 5, 5], Dtype::F32)], &["conv", "[3, 1, 5, 5]"]);
    tensors(&[("w", &[3, 30], Dtype::U8)], &["`w` (U8"]);
    tensors(&[("a", &[9, 30], Dtype::F32), ("b", &[3, 8], Dtype::F32)], &["`b`", "[3, 8]", "9 outputs"]);
    tensors(&[("a", &[0, 30], Dtype::F32)], &["width is 0"]);
    let bytes = fs::read(&good).unwrap();
    for bad in [&bytes[..bytes.len() - 1], &bytes[..20], b"", &[0xff; 64], b"\x02\0\0\0\0\0\0\0{}"] {
        fs::write(&file, bad).unwrap();
        refused(&["safetensors"]);
        // The same without --data, where no accuracy is computed.
        let mut command = slth();
        crate::bad_input::refused(
            command.args(["approximate", "--quiet", "--target"]).arg(&file),
            &["bad.safetensors"],
        );
    }
    let mut not_finite = bytes.clone();
    let end = not_finite.len() - 4;
    not_finite[end..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&file, not_finite).unwrap();
    refused(&["NaN"]);
    fs::remove_file(&file).unwrap();
    refused(&[]);
    // Valid targets that do not match the data set.
    for (shape, word) in [([3, 31], "31 inputs"), ([2, 30], "2 outputs")] {
        write(&file, &[("w", &shape, Dtype::F32)]);
        crate::bad_input::refused(&mut approximate(data.path(), &file), &["--target", word]);
    }
}
