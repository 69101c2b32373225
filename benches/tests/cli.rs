//! The command `slth-bench`, apart from measured times.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use predicates::prelude::*;
use slth_bench::{Recording, Row, Task, json};
use tempfile::TempDir;

/// One small case, measured once.
const ONE: [&str; 5] =
    ["--quick", "--case=selection from sorted 392000 s=0.5", "--rounds=1", "--threads=1", "--kernel=top-k"];

/// The command in its own directory, where its benchmarks take turns with no others.
fn bench(directory: &TempDir) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("slth-bench"));
    command.current_dir(directory).env("TMPDIR", directory.path());
    command
}

fn refuses(arguments: &[&str], says: &str) {
    let directory = tempfile::tempdir().unwrap();
    bench(&directory)
        .args(arguments)
        .assert()
        .code(2)
        .stdout("")
        .stderr(predicate::str::starts_with("error: ").and(predicate::str::contains(says)));
}

/// Records [`ONE`]; returns the file and its content.
fn recorded(directory: &TempDir) -> (PathBuf, Recording) {
    let saved = bench(directory).args(ONE).arg("--save").assert().success();
    saved.stdout(predicate::str::contains("std select_nth_unstable"));
    let (cpu, recording) = Recording::newest(&directory.path().join("bench-results")).unwrap().pop().unwrap();
    let name = format!("bench-results/{cpu}/{}.jsonl", recording.origin.stem());
    (directory.path().join(name), recording)
}

fn save(file: &Path, recording: &Recording, change: impl Fn(&mut Row)) {
    let mut changed = recording.clone();
    changed.rows.iter_mut().for_each(change);
    changed.save(file).unwrap();
}

#[test]
fn flags_that_make_no_sense() {
    refuses(&["--kernel", "nothing"], "[possible values: masked-matmul, conv2d");
    refuses(&["--rounds", "0"], "--rounds: must be at least 1");
    refuses(&["--seconds", "0"], "--seconds: must be positive");
    refuses(&["--case", "no such case"], "--case: no name of a case contains `no such case`; `--list`");
    refuses(&["--case=clock", "--threads=0"], "--threads: must be between 1 and 1024, not 0");
    refuses(&["--force"], "--save");
    refuses(&["compare", "a"], "<B>");
    refuses(&["compare", "/none/a", "/none/b"], "/none/a: ");
    refuses(&["compare", "/dev/null", "/dev/null"], "not a regular file");
    refuses(&["tables", "--results", "elsewhere"], "elsewhere: no recording there");
    refuses(&["plots"], "bench-results: no recording there");
}

#[test]
fn a_recording_is_written_read_and_compared() {
    let directory = tempfile::tempdir().unwrap();
    let (file, recording) = recorded(&directory);
    assert!(
        recording.origin.command.contains("--case=selection from sorted"),
        "{}",
        recording.origin.command
    );
    assert!(recording.origin.rustc.starts_with("rustc "));
    for row in &recording.rows {
        assert!(matches!(&row.task, Task::TopK(task) if task.count == 392_000) && row.samples == 1);
    }
    // A recording is overwritten only with --force.
    let again = || {
        let mut command = bench(&directory);
        command.args(ONE).arg("--save");
        command
    };
    again().assert().code(2).stderr(predicate::str::contains("exists already"));
    again().arg("--force").assert().success();

    let compare = |a: &Path, b: &Path| bench(&directory).arg("compare").arg(a).arg(b).assert().success();
    let rows = recording.rows.len();
    let whole = format!(
        "{rows} of {rows} rows (100.0 %) agree within 5 %, 100.0 % by their fastest runs; one commit: the recordings can be"
    );
    compare(&file, &file).stdout(predicate::str::contains(whole));
    let slow = directory.path().join("slow.jsonl");
    let mut other = Recording::read(&file).unwrap();
    other.origin.commit = "another".to_owned();
    save(&slow, &other, |row| {
        row.min *= 2.0;
        row.median *= 2.0;
    });
    let expected =
        format!("0 of {rows} rows (0.0 %) agree within 5 %, 0.0 % by their fastest runs; {rows} changed");
    compare(&file, &slow).stdout(predicate::str::contains(expected).and(predicate::str::contains("SLOWER")));
    save(&slow, &other, |row| row.who.threads = 99);
    let slow = slow.to_str().unwrap();
    refuses(&["compare", file.to_str().unwrap(), slow], "has nothing in common with");
}

#[test]
fn files_that_are_no_recordings() {
    let directory = tempfile::tempdir().unwrap();
    let (good, recording) = recorded(&directory);
    let file = directory.path().join("r.jsonl");
    let (origin, row) = (json(&recording.origin), json(&recording.rows[0]));
    let negative = json(&Row { min: -1.0, ..recording.rows[0].clone() });
    for (text, says) in [
        (String::new(), "r.jsonl: line 1: "),
        (origin.clone(), "no measurements in it"),
        ("{".to_owned(), "r.jsonl: line 1: "),
        (row.clone(), "r.jsonl: line 1: "),
        (origin.clone() + &row + &row[..40], "r.jsonl: line 3: "),
        (origin.clone() + &negative, "line 2: times and work must be positive"),
        (origin + &row.replace("\"work\":", "\"work\":1e999,\"x\":"), "line 2: "),
    ] {
        fs::write(&file, text).unwrap();
        refuses(&["compare", good.to_str().unwrap(), file.to_str().unwrap()], says);
    }
}

#[test]
fn tables_and_plots_come_from_the_newest_recording_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let (file, mut recording) = recorded(&directory);
    let (folder, page) = (file.parent().unwrap(), directory.path().join("docs/benchmarks.md"));
    let brief_page = directory.path().join("README.md");
    let run = |arguments: &[&str]| bench(&directory).args(arguments).assert();
    fs::create_dir(page.parent().unwrap()).unwrap();
    fs::write(&brief_page, "no place\n").unwrap();
    run(&["tables"]).code(2).stderr(predicate::str::contains("has no `<!-- bench CPU -->`"));
    fs::write(&brief_page, "<!-- bench no-cpu -->\n<!-- /bench -->\n").unwrap();
    run(&["tables"]).code(2).stderr(predicate::str::contains("no recording of `no-cpu`"));
    run(&["tables", "--page", "/none/page"]).code(2).stderr(predicate::str::contains("/none/page: "));
    let cpu = folder.file_name().unwrap().to_str().unwrap();
    fs::write(&brief_page, format!("<!-- bench {cpu} brief -->\n<!-- /bench -->\n")).unwrap();
    fs::write(&page, format!("a\n<!-- bench {cpu} -->\n<!-- /bench -->\nb\n")).unwrap();
    run(&["tables", "--check"]).code(1).stderr(predicate::str::contains("run `slth-bench tables`"));
    run(&["tables"]).success();
    run(&["tables", "--check"]).success().stdout("");
    assert!(fs::read_to_string(folder.join("tables.md")).unwrap().contains("std select_nth_unstable"));
    // Recordings elsewhere rewrite only the pages that are named.
    let elsewhere = directory.path().join("elsewhere");
    fs::rename(directory.path().join("bench-results"), &elsewhere).unwrap();
    run(&["tables", "--results", "elsewhere"]).success().stdout(predicate::str::contains(".md").count(1));
    fs::rename(&elsewhere, directory.path().join("bench-results")).unwrap();
    assert!(fs::read_to_string(&page).unwrap().contains(&recording.origin.commit));

    // The newest recording is chosen by the commit's time, not by the file's name.
    recording.origin.commit_time = "2999-01-01T00:00:00Z".to_owned();
    recording.origin.commit = "newest".to_owned();
    recording.rows.iter_mut().for_each(|row| {
        if let Task::TopK(task) = &mut row.task {
            (task.scores, task.count) = (slth_bench::Scores::Normal, 392_000);
        }
    });
    recording.save(&folder.join("0.jsonl")).unwrap();
    run(&["tables", "--check"]).code(1);
    run(&["tables"]).success();
    let page = fs::read_to_string(&page).unwrap();
    assert!(page.starts_with("a\n") && page.ends_with("b\n") && page.contains("commit newest"), "{page}");
    assert!(page.contains("| `\"selection from normal 392000 s=0.5\"`, warm | "), "{page}");
    let page = fs::read_to_string(&brief_page).unwrap();
    assert!(
        page.contains("| `\"selection from normal 392000 s=0.5\"` | ") && !page.contains(", warm | "),
        "{page}"
    );
    run(&["plots", "--check"]).code(1).stderr(predicate::str::contains("run `slth-bench plots`"));
    run(&["plots"]).success().stdout(predicate::str::contains("time-per-score.svg"));
    run(&["plots", "--check"]).success();
}

/// Rows printed by scripts for peers outside Rust are recorded with the others.
#[cfg(unix)]
#[test]
fn scripts_add_their_rows() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let python = directory.path().join("python");
    let script = |text: &str| {
        fs::write(&python, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = bench(&directory);
        command.args(ONE).args(["--save", "--force", "--python", python.to_str().unwrap()]);
        command
    };
    script("exit 3").assert().code(2).stderr(predicate::str::contains("selection.py: exit status: 3"));
    script("echo '{}'").assert().code(2).stderr(predicate::str::contains("selection.py: "));
    let peer = r#"{"peer":"torch","version":"2.15.0","isa":"avx512"}"#;
    let row = r#"{"kernel":"top-k","scores":"normal","count":9,"sparsity":0.5,"contestant":"torch","variant":"topk",
        "role":"peer","threads":1,"unit":"score","work":9.0,"min":1.0,"median":2.0,"spread":0.1,"samples":3}"#;
    let printed = script(&format!("echo '{peer}'; echo '{}'", row.replace('\n', ""))).assert().success();
    printed
        .stdout(predicate::str::contains("torch 2.15.0: avx512").and(predicate::str::contains("torch topk")));
    let (_, recording) = Recording::newest(&directory.path().join("bench-results")).unwrap().pop().unwrap();
    assert!(recording.origin.peers.iter().any(|peer| peer.peer == "torch"));
    assert!(recording.rows.iter().any(|row| row.who.label() == "torch topk"));
}
