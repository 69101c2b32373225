//! Trained networks: `slth run --weights`, `slth evaluate --weights`, `slth prune`; networks with biases.

use std::fs;
use std::path::{Path, PathBuf};

use predicates::prelude::*;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use slth::run::{StateDict, Ticket};

use crate::bad_input::refused;
use crate::fixture::{self, slth, small_run};

fn result(out: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(out.join("result.json")).unwrap()).unwrap()
}

/// A data set, and a network 30-8-3 with biases trained on it by `slth run`, saved under PyTorch's names.
fn trained() -> (tempfile::TempDir, PathBuf, Value) {
    let data = fixture::dataset();
    let out = data.path().join("out");
    small_run(data.path())
        .args(["--bias", "--epsilon", "inf", "--pretrain-epochs", "20", "--sparsity", "0", "--out"])
        .arg(&out)
        .assert()
        .success();
    let bytes = fs::read(out.join("ticket.safetensors")).unwrap();
    let ticket = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = [("layer1", "net.0"), ("layer2", "net.2")].into_iter().flat_map(|(name, to)| {
        ["weight", "bias"].map(|what| {
            let tensor = ticket.tensor(&format!("{name}.{what}")).unwrap();
            (
                format!("{to}.{what}"),
                TensorView::new(Dtype::F32, tensor.shape().to_vec(), tensor.data()).unwrap(),
            )
        })
    });
    let file = data.path().join("model.safetensors");
    fs::write(&file, safetensors::serialize(tensors, None).unwrap()).unwrap();
    (data, file, result(&out))
}

#[test]
fn a_trained_network_is_evaluated_and_pruned_as_it_is_or_moved_within_the_ball() {
    let (data, file, trained) = trained();
    let accuracy = trained["pretrain"]["test_accuracy"].as_f64().unwrap();
    assert!(accuracy > 0.9, "{accuracy}");
    let evaluate = |arguments: &[&str]| {
        let mut command = slth();
        command.args(["evaluate", "--weights"]).arg(&file).arg("--data").arg(data.path()).args(arguments);
        command
    };
    for arguments in [&[][..], &["--network", "30-8-3"], &["--map", "net.0,net.2", "--threads", "2"]] {
        let same = format!("test accuracy {accuracy:?} (");
        evaluate(arguments).assert().success().stdout(predicate::str::starts_with(same));
    }
    refused(
        &mut evaluate(&["--network", "30-9-3"]),
        &["`net.0.weight` (F32 [8, 30])", "`net.0.bias`", "`net.2.weight`"],
    );
    refused(&mut evaluate(&["--map", "net.2,net.1"]), &["`net.1`"]);

    let initial = StateDict::read(&file, None, None).unwrap().parameters;
    let run = |arguments: &[&str]| {
        let out = tempfile::tempdir().unwrap();
        let mut command = slth();
        command
            .args(["run", "--quiet", "--validation", "40", "--data"])
            .arg(data.path())
            .arg("--weights")
            .arg(&file);
        command.args(arguments).arg("--out").arg(out.path()).assert().success();
        (result(out.path()), Ticket::read(out.path().join("ticket.safetensors")).unwrap())
    };
    let magnitude = ["--sparsity", "0.5", "--method", "magnitude"];
    let (as_it_is, ticket) = run(&[&magnitude[..], &["--pretrain-epochs", "0"]].concat());
    assert_eq!((&as_it_is["network"], &as_it_is["pretrain"]["max_change"]), (&"30-8-3".into(), &0.0.into()));
    for (layer, initial) in ticket.layers.iter().zip(&initial) {
        assert_eq!([&layer.weights[..], &layer.bias].concat(), *initial);
        assert_eq!(layer.mask.removed(), layer.mask.len() / 2);
    }
    let (moved, ticket) = run(&[&magnitude[..], &["--epsilon", "0.0005"]].concat());
    assert_eq!(moved["pretrain"]["max_change"].as_f64().unwrap() as f32, 0.0005);
    for (layer, initial) in ticket.layers.iter().zip(&initial) {
        let moved = layer.weights.iter().chain(&layer.bias).zip(initial).map(|(a, b)| (a - b).abs());
        let moved: Vec<_> = moved.collect();
        assert!(
            moved.iter().all(|&by| by <= 0.0005 + 1e-6)
                && moved[layer.weights.len()..].iter().any(|&by| by > 0.0)
        );
    }
    let (_, tuned) =
        run(&["--sparsity", "0.5", "--method", "magnitude-then-finetune", "--pretrain-epochs", "0"]);
    assert_ne!(tuned.layers[0].bias, initial[0][240..]);
    refused(
        small_run(data.path()).arg("--weights").arg(&file).arg("--bias"),
        &["--bias", "beside --weights"],
    );
    refused(small_run(data.path()).args(["--map", "a"]), &["--map", "without --weights"]);
    refused(small_run(data.path()).args(["--weights", "/nowhere"]), &["/nowhere"]);
}

#[test]
fn a_sweep_starts_from_a_trained_network_and_knows_it_by_content() {
    let (data, file, _) = trained();
    let out = data.path().join("sweep");
    let sweep = |stdout: &'static str| {
        let mut command = slth();
        command.args([
            "sweep",
            "--quiet",
            "--validation",
            "40",
            "--prune-epochs",
            "1",
            "--epsilon",
            "0,0.01",
            "--data",
        ]);
        command.arg(data.path()).args(["--sparsity", "0.5", "--weights"]).arg(&file).arg("--out").arg(&out);
        command.assert().success().stdout(predicate::str::contains(stdout));
    };
    sweep("2 cells: 0 were there, 2 computed, 0 failed");
    sweep("2 cells: 2 were there, 0 computed, 0 failed");
    let mut bytes = fs::read(&file).unwrap();
    let end = bytes.len() - 4;
    bytes[end..].copy_from_slice(&0.5_f32.to_le_bytes());
    fs::write(&file, bytes).unwrap();
    let mut command = slth();
    command.args([
        "sweep",
        "--quiet",
        "--validation",
        "40",
        "--prune-epochs",
        "1",
        "--epsilon",
        "0,0.01",
        "--data",
    ]);
    command.arg(data.path()).args(["--sparsity", "0.5", "--weights"]).arg(&file).arg("--out").arg(&out);
    refused(&mut command, &["data"]);
}

#[test]
fn a_file_is_pruned_and_written_whole() {
    let (data, file, _) = trained();
    let out = data.path().join("pruned.safetensors");
    let prune = |arguments: &[&str]| {
        let mut command = slth();
        command.arg("prune").arg(&file).args(["--method", "magnitude"]).args(arguments);
        command
    };
    let table = || {
        predicate::str::contains("net.0.weight   8 × 30       240    120       120")
            .and(predicate::str::contains("all                         264    132       132"))
    };
    prune(&["--sparsity", "0.5"]).assert().success().stdout(table()).stderr("");
    prune(&["--sparsity", "0.5", "--scope", "layer", "--out"]).arg(&out).assert().success().stdout(table());
    let [before, after] = [&file, &out].map(|file| StateDict::read(file, None, None).unwrap());
    assert_eq!(before.names, after.names);
    let zeros = |parameters: &[f32]| parameters.iter().filter(|&&x| x == 0.0).count();
    assert_eq!([zeros(&after.parameters[0][..240]), zeros(&after.parameters[1][..24])], [120, 12]);
    assert_eq!(before.parameters[0][240..], after.parameters[0][240..]);
    refused(prune(&["--sparsity", "0.5", "--out"]).arg(&out), &["pruned.safetensors", "exists"]);
    prune(&["--sparsity", "0.9", "--scope", "global", "--force", "--out"]).arg(&out).assert().success();
    // The output may replace the input.
    prune(&["--sparsity", "0.5", "--force", "--out"]).arg(&file).assert().success();
    let itself = StateDict::read(&file, None, None).unwrap();
    assert_eq!(zeros(&itself.parameters[0]), 120);
    refused(&mut prune(&["--sparsity", "1"]), &["--sparsity"]);
    refused(prune(&["--sparsity", "0.5"]).args(["--method", "edge-popup"]), &["--method", "needs data"]);
    refused(&mut prune(&[]), &["--sparsity"]);
}
