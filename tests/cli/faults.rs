//! Killed commands and concurrent writers: finished work survives, and no file is left half written.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Instant;

use predicates::prelude::*;
use serde_json::Value;
use slth::run::{Checkpoint, RunDirectory};
use slth::sweep::{Cell, read_cells};

use crate::bad_input::refused;
use crate::fixture::{
    self, Running, kill_at_random, kill_in_time, random_shares, slth, small_run, small_sweep,
};

/// The files of a directory, without temporary files of killed processes.
fn files(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| !name.starts_with(".slth-")).collect();
    names.sort_unstable();
    names
}

/// Writes a store of 3 × 100 cells in three shards, as a sweep over many seeds would.
fn many_cells(data: &Path, out: &Path) {
    small_sweep(data).args(["--seeds", "1", "--epsilon", "0", "--out"]).arg(out).assert().success();
    let cells = read_cells(out).unwrap();
    fs::remove_file(out.join("cells.jsonl")).unwrap();
    for (index, cell) in cells.into_iter().enumerate() {
        let line = |seed| {
            let mut cell: Cell = cell.clone();
            (cell.seed, cell.config.run.seed) = (seed, seed);
            cell.id = cell.config.id();
            serde_json::to_string(&cell).unwrap() + "\n"
        };
        let text: String = (1..=100).map(line).collect();
        fs::write(out.join(format!("cells-{}-of-3.jsonl", index + 1)), text).unwrap();
    }
}

#[test]
fn a_killed_report_leaves_whole_files() {
    let (data, directory) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let [cells, whole, killed] = ["cells", "whole", "killed"].map(|name| directory.path().join(name));
    small_sweep(data.path()).arg("--out").arg(&cells).assert().success();
    let store = fs::read(cells.join("cells.jsonl")).unwrap();
    let report = |out: &Path| {
        let mut command = slth();
        command.arg("report").arg(&cells).arg("--out").arg(out);
        command
    };
    report(&whole).assert().success();
    let same = || {
        for name in files(&killed) {
            assert_eq!(fs::read(killed.join(&name)).unwrap(), fs::read(whole.join(&name)).unwrap(), "{name}");
        }
        assert_eq!(fs::read(cells.join("cells.jsonl")).unwrap(), store);
    };
    // Kill after each file except the last two, which are written too quickly for a kill in between.
    let names = files(&whole);
    for there in 1..names.len() - 2 {
        kill_in_time(1, || {
            let _ = fs::remove_dir_all(&killed);
            let mut process = Running::start(&report(&killed));
            process.wait_for("its files", || files(&killed).len() >= there);
            let in_time = process.kill();
            same();
            in_time && files(&killed).len() < names.len()
        });
    }
    report(&killed).assert().success();
    assert_eq!(files(&killed), files(&whole));
    same();
}

#[test]
fn a_killed_merge_keeps_what_it_had_and_continues() {
    let (data, directory) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let [cells, merged, again] = ["cells", "merged", "again"].map(|name| directory.path().join(name));
    many_cells(data.path(), &cells);
    let merge = |out: &Path| {
        let mut command = slth();
        command.arg("merge").arg(out).arg(&cells);
        command
    };
    let lines = |directory: &Path| -> BTreeSet<String> {
        let text = fs::read_to_string(directory.join("cells.jsonl")).unwrap_or_default();
        text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(str::to_owned).collect()
    };
    merge(&again).assert().success();
    let whole = lines(&again);
    assert_eq!(whole.len(), 300);
    let mut before = BTreeSet::new();
    kill_in_time(10, || {
        if before.len() == 300 {
            // The last kill came too late: start over.
            fs::remove_dir_all(&merged).unwrap();
            before.clear();
        }
        let mut process = Running::start(&merge(&merged));
        process.wait_for("a line", || lines(&merged).len() > before.len());
        process.kill();
        let now = lines(&merged);
        assert!(now.is_superset(&before) && now.is_subset(&whole));
        before = now;
        before.len() < 300
    });
    merge(&merged).assert().success();
    assert_eq!(lines(&merged), whole);
    assert_eq!(fs::read_to_string(merged.join("cells.jsonl")).unwrap().lines().count(), 300);
}

#[test]
fn a_killed_run_leaves_whole_files_or_none() {
    let (data, directory) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let [whole, killed] = ["whole", "killed"].map(|name| directory.path().join(name));
    small_run(data.path()).arg("--out").arg(&whole).assert().success();
    let ticket = fs::read(whole.join("ticket.safetensors")).unwrap();
    let run = || {
        let mut command = small_run(data.path());
        command.arg("--force").arg("--out").arg(&killed);
        command
    };
    kill_at_random(10, run, || {
        let files = files(&killed);
        if files.contains(&"result.json".to_owned()) {
            let json = fs::read(killed.join("result.json")).unwrap();
            serde_json::from_slice::<serde_json::Value>(&json).unwrap();
            assert_eq!(files.len(), 4, "the others are there first: {files:?}");
        }
        if files.contains(&"ticket.safetensors".to_owned()) {
            assert_eq!(fs::read(killed.join("ticket.safetensors")).unwrap(), ticket);
        }
    });
    run().assert().success();
    assert_eq!(files(&killed), files(&whole));
}

/// The hashes of a run, and its history without the times.
fn bits(out: &Path) -> Vec<String> {
    let result: Value = serde_json::from_slice(&fs::read(out.join("result.json")).unwrap()).unwrap();
    let history = fs::read_to_string(out.join("history.csv")).unwrap();
    let history = history.lines().map(|line| line.rsplit_once(',').unwrap().0.to_owned());
    let hashes = ["weights_hash", "mask_hash"].map(|hash| result[hash].to_string());
    hashes.into_iter().chain([result["pretrain"]["max_change"].to_string()]).chain(history).collect()
}

#[test]
fn a_run_killed_at_ten_random_moments_goes_on_to_the_same_bits() {
    const EPOCHS: usize = 120;
    let (data, directory) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let [whole, killed] = ["whole", "killed"].map(|name| directory.path().join(name));
    let run = |flag: &str, out: &Path| {
        let mut command = small_run(data.path());
        command.args(["--pretrain-momentum", "0.9", "--pretrain-schedule", "warmup:5+cosine"]);
        command.args([
            "--prune-schedule",
            "multistep:40,80",
            "--pretrain-epochs",
            "120",
            "--prune-epochs",
            "120",
        ]);
        command.arg(flag).arg("--out").arg(out);
        command
    };
    let start = Instant::now();
    run("--checkpoint", &whole).assert().success();
    let (time, mut share) = (start.elapsed(), random_shares());
    let bits_of_whole = bits(&whole);
    assert_eq!(bits_of_whole.len(), 3 + 1 + 2 * EPOCHS);

    let checkpoint = killed.join(RunDirectory::CHECKPOINT);
    let (mut before, mut kills) = (0, [0; 2]);
    kill_in_time(10, || {
        let process = Running::start(&run("--resume", &killed));
        std::thread::sleep(time.mul_f64(0.3 * share()));
        process.kill();
        if killed.join("result.json").exists() {
            // The run had already finished: start over.
            assert_eq!(bits(&killed), bits_of_whole);
            fs::remove_dir_all(&killed).unwrap();
            before = 0;
            return false;
        }
        // A kill is in time if epochs were completed since the run resumed and some remain.
        let now = if checkpoint.exists() { Checkpoint::read(&checkpoint).unwrap().history.len() } else { 0 };
        assert!(now >= before);
        let in_time = now > before && now < 2 * EPOCHS;
        kills[usize::from(now > EPOCHS)] += usize::from(in_time);
        before = now;
        in_time
    });
    assert_eq!(kills.iter().sum::<usize>(), 10);
    eprintln!("killed in pretraining and in pruning: {kills:?} times");
    run("--resume", &killed).assert().success();
    assert_eq!(bits(&killed), bits_of_whole);
    assert_eq!(files(&killed), files(&whole));
}

#[test]
fn only_its_own_run_goes_on_from_a_checkpoint() {
    let (data, directory) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let out = directory.path().join("out");
    let run = |flag: &str, arguments: &[&str]| {
        let mut command = small_run(data.path());
        command.args(["--prune-epochs", "100000000"]).args(arguments).arg(flag).arg("--out").arg(&out);
        command
    };
    let checkpoint = out.join(RunDirectory::CHECKPOINT);
    let mut process = Running::start(&run("--checkpoint", &[]));
    process.wait_for("a checkpoint", || checkpoint.exists());
    assert!(process.kill());
    let name = checkpoint.to_str().unwrap();
    refused(&mut run("--checkpoint", &[]), &[name, "exists already"]);
    refused(
        &mut run("--resume", &["--prune-lr", "0.2", "--seed", "7"]),
        &[name, "another run", "prune_lr is 0.1 there, 0.2 here", "seed is 1 there, 7 here"],
    );
    let other = fixture::dataset();
    let labels = other.path().join("t10k-labels-idx1-ubyte");
    let mut bytes = fs::read(&labels).unwrap();
    bytes[8] ^= 1;
    fs::write(&labels, bytes).unwrap();
    let mut command = small_run(other.path());
    command.args(["--prune-epochs", "100000000", "--resume", "--out"]).arg(&out);
    refused(&mut command, &[name, "another run", "its data is another"]);
    let whole = fs::read(&checkpoint).unwrap();
    for damaged in [&whole[..whole.len() / 2], b"", b"slth checkpoint 1 \n", &[&whole[..], b"x"].concat()] {
        fs::write(&checkpoint, damaged).unwrap();
        refused(&mut run("--resume", &[]), &[name, "damaged"]);
    }
    for flag in ["--checkpoint", "--resume"] {
        refused(small_run(data.path()).arg(flag), &["--out"]);
    }
}

#[test]
fn a_configuration_is_run_again() {
    let (data, directory) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let [first, again, other] = ["first", "again", "other"].map(|name| directory.path().join(name));
    let result = |out: &Path| -> Value {
        serde_json::from_slice(&fs::read(out.join("result.json")).unwrap()).unwrap()
    };
    small_run(data.path())
        .args(["--epsilon", "inf", "--scale-by-keep", "--train-images", "90", "--weight-decay", "0.0003"])
        .args([
            "--pattern",
            "2:5",
            "--keep-dense",
            "last",
            "--normalize",
            "0.3,0.7",
            "--pretrain-schedule",
            "warmup:1+multistep:2x0.3",
            "--out",
        ])
        .arg(&first)
        .assert()
        .success();
    let run = |arguments: &[&str], out: &Path| {
        slth()
            .args(["run", "--quiet", "--data", data.path().to_str().unwrap(), "--config"])
            .arg(first.join("result.json"))
            .args(arguments)
            .arg("--out")
            .arg(out)
            .assert()
            .success();
        result(out)
    };
    let found = run(&[], &again);
    for key in ["configuration", "weights_hash", "mask_hash"] {
        assert_eq!(found[key], result(&first)[key], "{key}");
    }
    assert_eq!(found["data_name"], data.path().file_name().unwrap().to_str().unwrap());
    let pruning = |found: &Value| ["pattern", "sparsity"].map(|key| found["configuration"][key].clone());
    assert_eq!(pruning(&found), ["2:5".into(), Value::from(0.6)]);
    let found =
        run(&["--seed", "2", "--scale-by-keep=false", "--epsilon", "0.5", "--pattern", "none"], &other);
    assert_eq!(pruning(&found), [Value::Null, 0.5.into()]);
    let config = &found["configuration"];
    assert_eq!((&config["seed"], &config["scale_by_keep"]), (&2.into(), &false.into()));
    assert_eq!((&config["epsilon"], &config["train_images"]), (&0.5.into(), &90.into()));
    for (file, word) in [("nowhere", "nowhere"), ("ticket.safetensors", "ticket.safetensors")] {
        refused(slth().args(["run", "--config"]).arg(first.join(file)), &[word]);
    }
}

#[test]
fn sweeps_of_one_directory_take_turns_and_shards_run_beside_each_other() {
    let (data, directory) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let out = directory.path().join("out");
    let sweep = |arguments: &[&str]| {
        let mut command = small_sweep(data.path());
        command.args(["--prune-epochs", "100"]).args(arguments).arg("--out").arg(&out);
        command
    };
    // A sweep that does not end holds the lock of the store.
    let mut first = Running::start(sweep(&[]).args(["--prune-epochs", "100000000"]));
    first.wait_for("sweep.json", || out.join("sweep.json").exists());
    refused(&mut sweep(&[]), &["cells.jsonl", "another process is writing there"]);
    refused(slth().arg("merge").arg(&out).arg(&out), &["cells.jsonl", "another process is writing there"]);
    // Readers do not need the lock.
    slth().arg("status").arg(&out).assert().success().stdout(predicate::str::contains("cells done"));
    assert!(first.kill());
    // The lock ended with its process. Cells with another number of epochs need a new store.
    fs::remove_dir_all(&out).unwrap();

    let mut shards = ["1/2", "2/2"].map(|shard| Running::start(&sweep(&["--shard", shard])));
    for shard in &mut shards {
        assert!(shard.wait().success());
    }
    let cells = read_cells(&out).unwrap();
    assert_eq!(cells.len(), 12);
    sweep(&[]).assert().success().stdout(predicate::str::contains("12 cells: 12 were there, 0 computed"));
}

#[test]
fn runs_of_one_directory_do_not_overwrite_each_other() {
    let (data, directory) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let out = directory.path().join("out");
    let run = |arguments: &[&str]| {
        let mut command = small_run(data.path());
        command.args(arguments).arg("--out").arg(&out);
        command
    };
    let held = slth::output::OutputDirectory::prepare(&out, &slth::run::Outcome::FILES, false).unwrap();
    for arguments in [&[][..], &["--force"]] {
        refused(&mut run(arguments), &["out", "another process will write there"]);
    }
    drop(held);
    run(&[]).assert().success();
    refused(&mut run(&[]), &["result.json", "exists already"]);
}

#[test]
fn a_torn_last_line_is_removed_and_a_line_of_garbage_named() {
    let (data, directory) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let (out, report) = (directory.path().join("out"), directory.path().join("report"));
    let sweep = || {
        let mut command = small_sweep(data.path());
        command.arg("--out").arg(&out);
        command
    };
    sweep().assert().success();
    let store = out.join("cells.jsonl");
    let whole = fs::read_to_string(&store).unwrap();
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();

    fs::write(&store, &whole[..whole.len() - 40]).unwrap();
    let done = predicate::str::contains("11 cells done, 0 failed, 1 of the last sweep's 12 missing");
    slth().arg("status").arg(&out).assert().success().stdout(done);
    sweep().assert().success().stdout(predicate::str::contains("12 cells: 11 were there, 1 computed"));
    assert!(fs::read_to_string(&store).unwrap().starts_with(&lines[..11].concat()));

    let garbage = [&lines[..5].concat(), "garbage\n", &lines[5..].concat()].concat();
    fs::write(&store, &garbage).unwrap();
    let words = ["cells.jsonl, line 6"];
    refused(&mut sweep(), &words);
    refused(slth().arg("status").arg(&out), &words);
    refused(slth().arg("report").arg(&out).arg("--out").arg(&report), &words);
    refused(slth().arg("merge").arg(&report).arg(&out), &words);
    assert!(!report.exists());
    assert_eq!(fs::read_to_string(&store).unwrap(), garbage);
}
