//! Whatever ends a command, and whoever else writes there: what was finished stays, and no file is half written.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use predicates::prelude::*;
use slth::sweep::{Cell, read_cells};

use crate::bad_input::refused;
use crate::fixture::{self, Running, kill_at_random, kill_in_time, slth, small_run, small_sweep};

/// Files other than the temporary ones that a killed process leaves.
fn files(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| !name.starts_with(".slth-")).collect();
    names.sort_unstable();
    names
}

/// A store of 3 × 100 cells in three shards; what a sweep of many seeds would leave.
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
    // After each of the files but the last two: the page takes no time.
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
            // The last kill came too late.
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
            assert_eq!(files.len(), 2, "the ticket is there first: {files:?}");
        }
        if files.contains(&"ticket.safetensors".to_owned()) {
            assert_eq!(fs::read(killed.join("ticket.safetensors")).unwrap(), ticket);
        }
    });
    run().assert().success();
    assert_eq!(files(&killed), files(&whole));
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
    // One that does not end holds the store.
    let mut first = Running::start(sweep(&[]).args(["--prune-epochs", "100000000"]));
    first.wait_for("sweep.json", || out.join("sweep.json").exists());
    refused(&mut sweep(&[]), &["cells.jsonl", "another process is writing there"]);
    refused(slth().arg("merge").arg(&out).arg(&out), &["cells.jsonl", "another process is writing there"]);
    // Readers need not wait.
    slth().arg("status").arg(&out).assert().success().stdout(predicate::str::contains("cells done"));
    assert!(first.kill());
    // The lock went with its process; another setting goes elsewhere.
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
