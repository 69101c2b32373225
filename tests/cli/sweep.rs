//! Sweeps: resumed after any interruption, split into shards, merged; no finished cell is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command as Process;

use assert_cmd::Command;
use predicates::prelude::*;
use serde_json::Value;

use crate::bad_input::refused;
use crate::fixture::{self, Running, kill_in_time, small_sweep};

/// The lines of all stores in `directory` by id, without `timing`. Fails if an id occurs twice.
fn lines(directory: &Path) -> BTreeMap<String, Value> {
    let mut lines = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            for line in fs::read_to_string(&path).unwrap().split_inclusive('\n') {
                assert!(line.ends_with('\n'), "torn: {line}");
                let mut line: Value = serde_json::from_str(line).unwrap();
                line.as_object_mut().unwrap().remove("timing").unwrap();
                let id = line["id"].as_str().unwrap().to_owned();
                assert!(lines.insert(id, line).is_none(), "computed twice");
            }
        }
    }
    lines
}

fn sweep(data: &Path, out: &Path) -> Command {
    let mut command = small_sweep(data);
    command.arg("--out").arg(out);
    command
}

#[test]
fn cells_have_the_keys_and_bits_of_their_runs() {
    let (data, out) = (fixture::dataset(), tempfile::tempdir().unwrap());
    sweep(data.path(), out.path())
        .assert()
        .success()
        .stdout(predicate::str::contains("12 cells: 0 were there, 12 computed, 0 failed"))
        .stderr("");
    let cells = lines(out.path());
    assert_eq!(cells.len(), 12);
    for cell in cells.values() {
        let keys: Vec<_> = cell.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            keys.join(" "),
            "config epsilon id mask_hash seed sparsity test_accuracy validation_accuracy validation_loss weights_hash"
        );
    }
    // A cell has the same bits as `slth run` with its configuration.
    let run = out.path().join("run");
    fixture::small_run(data.path())
        .args(["--epsilon", "0.05", "--sparsity", "0.5", "--seed", "2", "--out"])
        .arg(&run)
        .assert()
        .success();
    let run: Value = serde_json::from_str(&fs::read_to_string(run.join("result.json")).unwrap()).unwrap();
    let cell = cells
        .values()
        .find(|c| {
            (c["epsilon"].as_f64(), c["sparsity"].as_f64(), c["seed"].as_u64())
                == (Some(0.05), Some(0.5), Some(2))
        })
        .unwrap();
    assert_eq!((&cell["weights_hash"], &cell["mask_hash"]), (&run["weights_hash"], &run["mask_hash"]));
    for key in ["validation_loss", "validation_accuracy", "test_accuracy"] {
        assert_eq!(cell[key], run["prune"][key], "{key}");
    }
}

#[test]
fn a_network_of_convolutions_is_swept_alike_on_any_number_of_threads() {
    let (data, directory) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let swept = |threads: &str| {
        let out = directory.path().join(threads);
        sweep(data.path(), &out)
            .args(["--network", "6x5-4@3x2p1-pool2-3@2x2-5-3", "--seeds", "1", "--threads", threads])
            .assert()
            .success()
            .stdout(predicate::str::contains("6 cells: 0 were there, 6 computed, 0 failed"));
        lines(&out)
    };
    assert_eq!(swept("1"), swept("3"));
    fixture::slth().arg("report").arg(directory.path().join("1")).assert().success();
}

#[test]
fn a_repeated_sweep_computes_nothing_and_a_larger_one_the_rest() {
    let (data, out) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let file = out.path().join("cells.jsonl");
    sweep(data.path(), out.path()).args(["--seeds", "1"]).assert().success();
    let first = fs::read_to_string(&file).unwrap();
    sweep(data.path(), out.path())
        .args(["--seeds", "1", "--threads", "3"])
        .assert()
        .success()
        .stdout(predicate::str::contains("6 cells: 6 were there, 0 computed"));
    assert_eq!(fs::read_to_string(&file).unwrap(), first);
    sweep(data.path(), out.path())
        .assert()
        .success()
        .stdout(predicate::str::contains("12 cells: 6 were there, 6 computed"));
    assert!(fs::read_to_string(&file).unwrap().starts_with(&first));
    fixture::slth()
        .arg("status")
        .arg(out.path())
        .assert()
        .success()
        .stdout(predicate::str::contains("12 cells done, 0 failed, 0 of the last sweep's 12 missing"));
}

#[test]
fn a_killed_sweep_continues_to_the_same_lines() {
    let (data, directory) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let [whole, killed] = ["whole", "killed"].map(|name| directory.path().join(name));
    let sweep = |out: &Path| {
        let mut command = sweep(data.path(), out);
        command.args(["--seeds", "1,2,3,4", "--prune-epochs", "300", "--threads", "2"]);
        command
    };
    sweep(&whole).assert().success();
    // The complete lines of the store.
    let finished = |directory: &Path| -> BTreeSet<String> {
        let text = fs::read_to_string(directory.join("cells.jsonl")).unwrap_or_default();
        text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(str::to_owned).collect()
    };
    let mut before = BTreeSet::new();
    kill_in_time(5, || {
        if before.len() == 24 {
            // The last kill came too late: start over.
            fs::remove_dir_all(&killed).unwrap();
            before.clear();
        }
        let mut process = Running::start(&sweep(&killed));
        process.wait_for("a cell", || finished(&killed).len() > before.len());
        process.kill();
        // Finished cells stay, including their times, so none was computed again.
        let now = finished(&killed);
        assert!(now.is_superset(&before));
        before = now;
        before.len() < 24
    });
    sweep(&killed).assert().success();
    assert!(finished(&killed).is_superset(&before));
    assert_eq!(lines(&killed), lines(&whole));
}

#[test]
#[cfg(unix)]
fn a_signal_ends_it_cleanly() {
    let (data, out) = (fixture::dataset(), tempfile::tempdir().unwrap());
    for signal in ["-TERM", "-USR1", "-INT"] {
        let mut process =
            Running::start(sweep(data.path(), out.path()).args(["--prune-epochs", "100000000"]));
        // sweep.json is written after the signal handlers are installed.
        process.wait_for("sweep.json", || out.path().join("sweep.json").exists());
        let id = process.id().to_string();
        assert!(Process::new("kill").args([signal, &id]).status().unwrap().success());
        assert_eq!(process.wait().code(), Some(3), "{signal}");
        fs::remove_file(out.path().join("sweep.json")).unwrap();
    }
    // Only the cells at sparsity 0, which need no pruning, can be finished.
    assert!(lines(out.path()).values().all(|cell| cell["sparsity"] == 0.0));
}

#[test]
fn shards_merge_to_the_whole() {
    let (data, directory) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let at = |name: &str| directory.path().join(name);
    sweep(data.path(), &at("whole")).assert().success();
    for rank in 0..3 {
        sweep(data.path(), &at("ranks"))
            .env("OMPI_COMM_WORLD_RANK", rank.to_string())
            .env("OMPI_COMM_WORLD_SIZE", "3")
            .assert()
            .success()
            .stderr(predicate::str::contains(format!("shard {}/3 (rank {rank} of 3 of Open MPI", rank + 1)));
    }
    sweep(data.path(), &at("two")).args(["--shard", "1/2"]).env("SLTH_SHARD", "2/2").assert().success();
    sweep(data.path(), &at("two")).env("SLTH_SHARD", "2/2").assert().success();
    assert!(at("two/cells-1-of-2.jsonl").exists() && at("two/cells-2-of-2.jsonl").exists());
    for (name, sources) in [("a", vec!["ranks"]), ("b", vec!["two", "ranks"])] {
        for added in [12, 0] {
            fixture::slth()
                .arg("merge")
                .arg(at(name))
                .args(sources.iter().map(|source| at(source)))
                .assert()
                .success()
                .stdout(predicate::str::contains(format!("{added} cells added")));
        }
        assert_eq!(lines(&at(name)), lines(&at("whole")));
    }
    // The store is complete, whichever shards filled it.
    sweep(data.path(), &at("two"))
        .args(["--no-env-shard"])
        .env("SLTH_SHARD", "1/2")
        .assert()
        .success()
        .stdout(predicate::str::contains("12 cells: 12 were there, 0 computed"));
}

#[test]
fn a_failed_cell_is_recorded_and_the_others_go_on() {
    let (data, out) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let diverging = || {
        let mut command = sweep(data.path(), out.path());
        command.args(["--seeds", "1", "--epsilon", "0,inf", "--pretrain-lr", "3e38"]);
        command
    };
    diverging()
        .assert()
        .success()
        .stdout(predicate::str::contains("6 cells: 0 were there, 6 computed, 3 failed"))
        .stderr(predicate::str::contains(
            "failed: ε = inf, sparsity 0.5, seed 1, edge-popup: pretraining diverged",
        ));
    let cells = lines(out.path());
    assert_eq!(cells.values().filter(|cell| cell.get("error").is_some()).count(), 3);
    diverging().assert().success().stdout(predicate::str::contains("6 were there, 0 computed, 3 failed"));
    assert_eq!(lines(out.path()), cells);
    diverging()
        .arg("--retry-failed")
        .assert()
        .success()
        .stdout(predicate::str::contains("3 were there, 3 computed, 3 failed"));
    fixture::slth().arg("status").arg(out.path()).assert().success().stdout(
        predicate::str::contains("3 cells done, 3 failed, 0 of the last sweep's 6 missing")
            .and(predicate::str::contains("failed: ε = inf, sparsity 0, seed 1")),
    );
}

/// Presets accept any IDX data set of MNIST's shape, here one with random images.
#[test]
fn a_preset_runs_on_another_data_set() {
    let directory = tempfile::tempdir().unwrap();
    let (data, out) = (directory.path().join("data"), directory.path().join("out"));
    fs::create_dir(&data).unwrap();
    for (name, count) in [("train", 120), ("t10k", 40)] {
        let pixels: Vec<u8> =
            (0..count * 784).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let labels: Vec<u8> = (0..count).map(|i| (i % 10) as u8).collect();
        let images = fixture::idx(0x803, &[count, 28, 28], &pixels);
        fs::write(data.join(format!("{name}-images-idx3-ubyte.gz")), fixture::gzip(&images)).unwrap();
        let labels = fixture::idx(0x801, &[count], &labels);
        fs::write(data.join(format!("{name}-labels-idx1-ubyte")), labels).unwrap();
    }
    let mut command = fixture::slth();
    command.args(["sweep", "--preset", "quick", "--quiet", "--train-images", "100", "--validation", "20"]);
    command.args(["--pretrain-epochs", "1", "--data"]).arg(&data).arg("--out").arg(&out);
    command
        .assert()
        .success()
        .stdout(predicate::str::contains("30 cells: 0 were there, 30 computed, 0 failed"));
    assert_eq!(lines(&out).len(), 30);
}

#[test]
fn bad_grids_and_shards() {
    let (data, out) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let out = out.path().join("never made");
    for (arguments, words) in [
        (vec!["--epsilon", ""], vec!["--epsilon"]),
        (vec!["--seeds", " "], vec!["--seeds"]),
        (vec!["--sparsity", "0,0.5,0.5"], vec!["--sparsity", "0.5 is listed twice"]),
        (vec!["--epsilon", "0,0.1,0.05"], vec!["--epsilon", "0.05 follows 0.1"]),
        (vec!["--sparsity", "0,1"], vec!["--sparsity", "[0, 1)", "1"]),
        (vec!["--sparsity", "-0.1,0"], vec!["--sparsity", "-0.1"]),
        (vec!["--sparsity", "0,nan"], vec!["--sparsity", "NaN"]),
        (vec!["--epsilon", "-1,0"], vec!["--epsilon", "-1"]),
        (vec!["--epsilon", "0,,1"], vec!["--epsilon", "``"]),
        (vec!["--epsilon", "0;1"], vec!["--epsilon", "`0;1`"]),
        (vec!["--seeds", "1,-2"], vec!["--seeds", "-2"]),
        (vec!["--seeds", "18446744073709551616"], vec!["--seeds"]),
        (vec!["--shard", "0/4"], vec!["--shard", "0/4"]),
        (vec!["--shard", "5/4"], vec!["--shard", "5/4"]),
        (vec!["--shard", "x"], vec!["--shard", "I/N"]),
        (vec!["--shard", "1/4", "--no-env-shard"], vec!["--no-env-shard"]),
        (vec!["--preset", "huge"], vec!["--preset", "quick"]),
        (vec!["--prune-lr", "nan"], vec!["--prune-lr"]),
        (vec!["--threads", "0"], vec!["--threads"]),
    ] {
        refused(sweep(data.path(), &out).args(&arguments), &words);
        assert!(!out.exists(), "{arguments:?}");
    }
    refused(sweep(data.path(), &out).env("SLTH_SHARD", "4"), &["--shard", "SLTH_SHARD", "`4`"]);
    refused(sweep(data.path(), &out).env("PBS_ARRAY_INDEX", "4"), &["--shard", "PBS", "SLTH_SHARDS"]);
    refused(fixture::slth().args(["sweep", "--preset", "quick"]), &["--out"]);
}

#[test]
fn foreign_stores_are_refused_and_left_alone() {
    let (data, directory) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let out = directory.path();
    let file = out.join("cells.jsonl");
    sweep(data.path(), out).args(["--seeds", "1"]).assert().success();
    let cells = fs::read_to_string(&file).unwrap();

    refused(
        sweep(data.path(), out).args(["--prune-epochs", "3", "--batch", "16"]),
        &["cells.jsonl", "batch is 32 there, 16 here", "prune_epochs is 2 there, 3 here"],
    );
    let other_data = fixture::dataset();
    let labels = other_data.path().join("t10k-labels-idx1-ubyte");
    let mut bytes = fs::read(&labels).unwrap();
    bytes[8] ^= 1;
    fs::write(&labels, bytes).unwrap();
    refused(&mut sweep(other_data.path(), out), &["cells.jsonl", "data is"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), cells);

    let revision = format!("\"bits_revision\":{}", slth::BITS_REVISION);
    let without = cells.replace(&format!("{revision},"), "");
    for (content, words) in [
        (
            cells.replace(&revision, "\"bits_revision\":7777"),
            vec!["cells.jsonl, line 1", "bits revision 7777"],
        ),
        (without, vec!["cells.jsonl, line 1", "not a cell of slth"]),
        (format!("{cells}garbage\n"), vec!["cells.jsonl, line 7"]),
        (
            cells.replacen("\"test_accuracy\":", "\"test_accuracy\":\"x\",\"y\":", 1),
            vec!["cells.jsonl, line 1"],
        ),
        (cells.replace("\"seed\":1", "\"seed\":3"), vec!["cells.jsonl, line 1", "damaged"]),
    ] {
        fs::write(&file, &content).unwrap();
        refused(&mut sweep(data.path(), out), &words);
        refused(fixture::slth().arg("status").arg(out), &words);
        refused(fixture::slth().arg("merge").arg(out.join("new")).arg(out), &words);
        assert_eq!(fs::read_to_string(&file).unwrap(), content);
    }
    refused(fixture::slth().arg("status").arg(data.path()), &["no cells*.jsonl"]);
    refused(fixture::slth().arg("status").arg(out.join("none")), &["none"]);
}

#[test]
fn places_that_cannot_be_written_to() {
    let (data, directory) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    refused(&mut sweep(data.path(), &file), &["file", "cannot write there"]);
    refused(&mut sweep(data.path(), Path::new("/proc/slth")), &["/proc/slth", "cannot write there"]);
    fs::create_dir_all(directory.path().join("out/cells.jsonl")).unwrap();
    refused(&mut sweep(data.path(), &directory.path().join("out")), &["cells.jsonl", "cannot write there"]);
}

#[test]
fn two_writers_do_not_meet() {
    let (data, out) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let store = slth::sweep::Store::open(out.path(), slth::sweep::Shard::ALL).unwrap();
    refused(&mut sweep(data.path(), out.path()), &["cells.jsonl", "another process is writing"]);
    sweep(data.path(), out.path()).args(["--shard", "1/2"]).assert().success();
    drop(store);
    sweep(data.path(), out.path()).assert().success();
}

#[test]
fn every_method_removes_the_same_share() {
    let (data, out) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let mut hashes = std::collections::HashSet::new();
    for method in ["edge-popup", "magnitude", "random", "magnitude-then-finetune"] {
        for scope in ["per-layer", "global"] {
            let run = out.path().join(format!("{method}-{scope}"));
            fixture::small_run(data.path())
                .args(["--sparsity", "0.7", "--method", method, "--scope", scope, "--out"])
                .arg(&run)
                .assert()
                .success();
            let result: Value =
                serde_json::from_str(&fs::read_to_string(run.join("result.json")).unwrap()).unwrap();
            let removed = result["layers"].as_array().unwrap().iter().map(|l| l["removed"].as_u64().unwrap());
            let n = 8.0 * 30.0 + 3.0 * 8.0;
            assert_eq!(removed.sum::<u64>(), (0.7 * n) as u64, "{method} {scope}");
            hashes.insert(result["mask_hash"].as_str().unwrap().to_owned());
            slth::run::Ticket::read(run.join("ticket.safetensors")).unwrap();
            // One store holds cells of all methods and scopes.
            sweep(data.path(), &out.path().join("all"))
                .args(["--seeds", "1", "--method", method, "--scope", scope])
                .assert()
                .success()
                .stdout(predicate::str::contains("6 cells: 0 were there, 6 computed, 0 failed"));
        }
    }
    assert_eq!(hashes.len(), 6, "finetuning keeps the masks of magnitude");
    assert_eq!(lines(&out.path().join("all")).len(), 8 * 6);
    refused(sweep(data.path(), out.path()).args(["--method", "magic"]), &["--method", "edge-popup"]);
}

#[test]
fn options_that_a_method_ignores_are_named_and_part_no_cells() {
    let (data, out) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let swept = |arguments: &[&str]| {
        let mut command = sweep(data.path(), out.path());
        command.args(["--seeds", "1"]).args(arguments).assert().success()
    };
    swept(&[]).stderr("");
    for method in ["magnitude", "random"] {
        swept(&["--method", method, "--momentum", "0.5", "--prune-epochs", "3"])
            .stdout(predicate::str::contains("6 cells: 0 were there, 6 computed"))
            .stderr(format!("note: --method {method} ignores --prune-epochs, --momentum\n"));
        swept(&["--method", method]).stdout(predicate::str::contains("6 cells: 6 were there, 0 computed"));
    }
    swept(&["--method", "magnitude-then-finetune", "--prune-lr", "0.5", "--weight-decay", "0"])
        .stderr("note: --method magnitude-then-finetune ignores --prune-lr, --weight-decay\n");
    fixture::small_run(data.path())
        .args(["--method", "magnitude-then-finetune", "--momentum", "0.3"])
        .assert()
        .success()
        .stderr("note: --method magnitude-then-finetune ignores --momentum\n");
    // Options that the method uses must agree with the store.
    let other = ["--method", "magnitude-then-finetune", "--prune-epochs", "3"];
    refused(sweep(data.path(), out.path()).args(other), &["prune_epochs is 2 there, 3 here"]);
    assert_eq!(lines(out.path()).len(), 4 * 6);
}
