//! Files and messages of the commands.

use std::fs;
use std::path::Path;

use predicates::prelude::*;
use serde_json::Value;
use slth::data::NormalisationRule;
use slth::run::{RunConfig, Ticket};
use slth::tensors::TensorFile;

use crate::fixture::{self, slth, small_run};

fn result(out: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(out.join("result.json")).unwrap()).unwrap()
}

#[test]
fn a_run_writes_result_and_ticket() {
    let (data, out) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let out = out.path().join("new/deep");
    small_run(data.path())
        .args(["--sparsity", "0.29", "--epsilon", "0.05", "--pretrain-epochs", "3", "--out"])
        .arg(&out)
        .assert()
        .success()
        .stdout(predicate::str::contains("pruned").and(predicate::str::contains("REMOVED")))
        .stderr("");
    let result = result(&out);
    let mut keys: Vec<_> = result.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    let mut expected = [
        "network",
        "init",
        "epsilon",
        "sparsity",
        "seed",
        "backend",
        "threads",
        "data_name",
        "normalization",
        "pretrain",
        "prune",
        "layers",
        "weights_hash",
        "mask_hash",
        "slth_version",
        "bits_revision",
        "machine",
        "configuration",
    ];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    assert_eq!(result["bits_revision"], slth::BITS_REVISION);
    assert_eq!((&result["network"], &result["init"]), (&"30-8-3".into(), &"kaiming-normal".into()));
    assert_eq!((result["epsilon"].as_f64(), result["sparsity"].as_f64()), (Some(0.05), Some(0.29)));
    assert_eq!((&result["pretrain"]["epochs"], &result["prune"]["epochs"]), (&3.into(), &2.into()));
    let change = result["pretrain"]["max_change"].as_f64().unwrap();
    assert!(change > 0.0 && change <= 0.05, "{change}");
    for (phase, key) in
        [("pretrain", "test_accuracy"), ("prune", "test_accuracy"), ("prune", "validation_accuracy")]
    {
        let accuracy = result[phase][key].as_f64().unwrap();
        assert!((0.5..=1.0).contains(&accuracy), "{phase} {key} {accuracy}");
    }
    for (layer, (outputs, inputs)) in result["layers"].as_array().unwrap().iter().zip([(8, 30), (3, 8)]) {
        let (n, removed) = (outputs * inputs, (0.29 * f64::from(outputs * inputs)) as i32);
        assert_eq!(layer["shape"], Value::from(vec![outputs, inputs]));
        assert_eq!([&layer["weights"], &layer["kept"], &layer["removed"]], [n, n - removed, removed]);
    }
    assert_eq!(fs::read_dir(&out).unwrap().count(), 4, "temporary files are left");
    let history = fs::read_to_string(out.join("history.csv")).unwrap();
    let lines: Vec<Vec<&str>> = history.lines().map(|line| line.split(',').collect()).collect();
    let head = "epoch,phase,train_loss,validation_loss,validation_accuracy,learning_rate,seconds";
    assert_eq!(lines[0].join(","), head);
    let phases: Vec<_> = lines[1..].iter().map(|line| (line[0], line[1], line[5])).collect();
    let pretraining = ["1", "2", "3"].map(|epoch| (epoch, "pretraining", "0.1"));
    assert_eq!(phases[..3], pretraining);
    assert_eq!(phases[3..], [("1", "pruning", "0.1"), ("2", "pruning", "0.05")]);
    assert_eq!(lines[5][4], result["prune"]["validation_accuracy"].to_string());
    assert_eq!(lines[5][3], result["prune"]["validation_loss"].to_string());
    assert_eq!(lines[3][4], result["pretrain"]["validation_accuracy"].to_string());
    let curves = fs::read_to_string(out.join("history.svg")).unwrap();
    assert!(
        ["pretraining, train", "pruning, validation", "learning rate"]
            .iter()
            .all(|&name| curves.contains(name))
    );

    // The ticket's hashes match its content, and evaluating it gives the same accuracy.
    let ticket = Ticket::read(out.join("ticket.safetensors")).unwrap();
    assert_eq!(slth::run::weights_hash(&ticket.layers), result["weights_hash"].as_str().unwrap());
    assert_eq!(slth::run::mask_hash(&ticket.layers), result["mask_hash"].as_str().unwrap());
    let mut config: RunConfig = serde_json::from_value(result["configuration"].clone()).unwrap();
    assert_eq!(config.normalize, NormalisationRule::MeanStd);
    config.normalize = serde_json::from_value(result["normalization"].clone()).unwrap();
    assert_eq!(ticket.config, config);
    let accuracy = format!("test accuracy {} (", result["prune"]["test_accuracy"]);
    for arguments in [["--backend", "scalar"], ["--threads", "2"]] {
        slth()
            .args(["evaluate", "--ticket"])
            .arg(out.join("ticket.safetensors"))
            .arg("--data")
            .arg(data.path())
            .args(arguments)
            .assert()
            .success()
            .stdout(predicate::str::starts_with(&accuracy));
    }
}

#[test]
fn convolutions_keep_their_shape_in_files() {
    let (data, out) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let network = "6x5-4@3x3p1-pool2-5@2x2-3";
    small_run(data.path()).args(["--network", network, "--out"]).arg(out.path()).assert().success();
    let result = result(out.path());
    assert_eq!(result["network"], network);
    let shapes: Vec<_> =
        result["layers"].as_array().unwrap().iter().map(|layer| layer["shape"].clone()).collect();
    assert_eq!(shapes, [Value::from(vec![4, 1, 3, 3]), vec![5, 4, 2, 2].into(), vec![3, 10].into()]);
    let ticket = Ticket::read(out.path().join("ticket.safetensors")).unwrap();
    assert_eq!(ticket.layers[1].shape.dimensions(), [5, 4, 2, 2]);
    slth()
        .args(["evaluate", "--ticket"])
        .arg(out.path().join("ticket.safetensors"))
        .arg("--data")
        .arg(data.path())
        .assert()
        .success()
        .stdout(predicate::str::starts_with(format!("test accuracy {} (", result["prune"]["test_accuracy"])));
}

#[test]
fn a_compact_ticket_is_a_seed_and_a_mask() {
    let (data, directory) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let data = data.path();
    for (case, arguments) in [
        &["--epsilon", "0", "--bias", "--init", "pytorch-default"][..],
        &["--epsilon", "0.05", "--bias"],
        &["--method", "magnitude-then-finetune", "--scale-by-keep"],
    ]
    .into_iter()
    .enumerate()
    {
        let out = directory.path().join(case.to_string());
        small_run(data)
            .args(["--ticket", "compact"])
            .args(arguments)
            .arg("--out")
            .arg(&out)
            .assert()
            .success();
        let (ticket, expanded) = (out.join("ticket.safetensors"), out.join("expanded.safetensors"));
        let kept = predicate::str::contains("weights kept");
        slth()
            .args(["ticket", "expand"])
            .arg(&ticket)
            .arg("--out")
            .arg(&expanded)
            .assert()
            .success()
            .stdout(kept);
        let accuracy = format!("test accuracy {} (", result(&out)["prune"]["test_accuracy"]);
        for file in [&ticket, &expanded] {
            for backend in slth_kernels::Backend::available() {
                let mut evaluate = slth();
                evaluate
                    .args(["evaluate", "--backend", backend.name(), "--ticket"])
                    .arg(file)
                    .arg("--data")
                    .arg(data);
                evaluate.assert().success().stdout(predicate::str::starts_with(&accuracy));
            }
        }
        // The expanded file is a trained network too, with its removed weights at 0.
        let mut evaluate = slth();
        evaluate.args(["evaluate", "--weights"]).arg(&expanded).arg("--data").arg(data);
        evaluate.assert().success().stdout(predicate::str::starts_with(&accuracy));
        let names = TensorFile::open(&ticket).unwrap();
        let stored = names.tensors().iter().any(|tensor| tensor.name.ends_with(".kept"));
        assert_eq!(stored, case > 0, "{arguments:?}");
    }
}

#[test]
fn epsilon_bounds_and_infinity() {
    let data = fixture::dataset();
    let run = |arguments: &[&str]| {
        let out = tempfile::tempdir().unwrap();
        small_run(data.path()).args(arguments).arg("--out").arg(out.path()).assert().success();
        result(out.path())
    };
    let none = run(&["--epsilon", "0"]);
    assert_eq!((&none["pretrain"]["epochs"], &none["pretrain"]["max_change"]), (&0.into(), &0.0.into()));
    // Without pretraining the weights stay as drawn, whatever ε is.
    assert_eq!(run(&["--pretrain-epochs", "0"])["weights_hash"], none["weights_hash"]);
    let free = run(&["--epsilon", "inf", "--pretrain-momentum", "0.9"]);
    assert_eq!((&free["epsilon"], &free["configuration"]["epsilon"]), (&"inf".into(), &"inf".into()));
    assert!(free["pretrain"]["max_change"].as_f64().unwrap() > 0.02);
    assert_ne!(free["weights_hash"], none["weights_hash"]);
}

#[test]
fn scale_and_schedule_change_what_they_say() {
    let (data, directory) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let mut runs = 0;
    let mut run = |arguments: &[&str]| {
        runs += 1;
        let out = directory.path().join(runs.to_string());
        small_run(data.path()).args(arguments).arg("--out").arg(&out).assert().success();
        result(&out)
    };
    let usual = run(&["--pretrain-epochs", "2"]);
    let said = run(&["--pretrain-epochs", "2", "--init-scale", "1", "--pretrain-schedule", "constant"]);
    assert_eq!(usual["configuration"], said["configuration"]);
    assert_eq!(usual["weights_hash"], said["weights_hash"]);
    let cosine = run(&["--pretrain-epochs", "2", "--pretrain-schedule", "cosine"]);
    assert_eq!(cosine["configuration"]["pretrain_schedule"], "cosine");
    assert_ne!(usual["weights_hash"], cosine["weights_hash"]);
    // In the first epoch both schedules have the full learning rate.
    let mut once = |schedule| run(&["--pretrain-schedule", schedule])["weights_hash"].clone();
    assert_eq!(once("constant"), once("cosine"));
    let doubled = run(&["--init-scale", "2"]);
    assert_eq!(doubled["configuration"]["init_scale"], 2.0);
    assert_ne!(doubled["weights_hash"], run(&[])["weights_hash"]);
}

#[test]
fn nothing_removed_is_the_dense_network() {
    let (data, out) = (fixture::dataset(), tempfile::tempdir().unwrap());
    small_run(data.path()).args(["--sparsity", "0", "--out"]).arg(out.path()).assert().success();
    let result = result(out.path());
    for key in ["test_accuracy", "validation_accuracy"] {
        assert_eq!(result["prune"][key], result["pretrain"][key]);
    }
    assert_eq!((&result["layers"][0]["removed"], &result["prune"]["epochs"]), (&0.into(), &0.into()));
}

#[test]
fn every_kind_of_run_works() {
    let data = fixture::dataset();
    for arguments in [
        vec!["--init", "kaiming-uniform", "--scale-by-keep"],
        vec!["--init", "pytorch-default", "--normalize=-0.5,2"],
        vec!["--init", "signed-constant", "--normalize", "unit"],
        vec!["--init", "uniform", "--sparsity", "0.99"],
        vec!["--init-scale", "0.5", "--scale-by-keep"],
        vec!["--pretrain-schedule", "cosine", "--method", "magnitude-then-finetune"],
        vec!["--prune-epochs", "0", "--sparsity", "0"],
        vec!["--network", "30-3"],
        vec!["--network", "30-7-6-5-4"],
        vec!["--network", "6x5-4@3x2p1-pool2-3@2x2s2p1-5-3", "--scope", "global"],
        vec!["--network", "6x5-pool2-3@2x2-3", "--method", "magnitude-then-finetune"],
        vec!["--network", "6x5-3@6x5"],
        vec!["--validation", "0", "--batch", "1"],
        vec!["--batch", "18446744073709551615"],
        vec!["--train-images", "2", "--validation", "1"],
    ] {
        small_run(data.path()).args(&arguments).assert().success();
    }
}

#[test]
fn existing_results_stay_unless_forced() {
    let (data, out) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let run = |more: &[&str]| {
        let mut command = small_run(data.path());
        command.arg("--out").arg(out.path()).args(more);
        command.assert()
    };
    run(&[]).success();
    let old = fs::read_to_string(out.path().join("result.json")).unwrap();
    run(&[]).code(2).stderr(predicate::str::contains("result.json: exists already"));
    assert_eq!(fs::read_to_string(out.path().join("result.json")).unwrap(), old);
    run(&["--force", "--seed", "9"]).success();
    assert_eq!(result(out.path())["seed"], 9);
}

#[test]
fn info_and_help_tell() {
    let info = predicate::str::contains("backends").and(predicate::str::contains("scalar"));
    slth().arg("info").assert().success().stdout(info);
    slth()
        .env("SLTH_BACKEND", "scalar")
        .arg("info")
        .assert()
        .success()
        .stdout(predicate::str::contains("chosen    scalar"));
    slth().args(["run", "--help"]).assert().success().stdout(predicate::str::contains("REMOVED"));
    slth().arg("--version").assert().success().stdout(predicate::str::starts_with("slth "));
}
