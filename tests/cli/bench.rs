//! `slth bench`, but for the times it finds.

use std::fs;
use std::path::Path;

use predicates::prelude::*;
use slth::bench::{Passes, Recorded, Recording};

use crate::fixture::slth;

/// One small case, measured once.
const ONE: [&str; 6] =
    ["bench", "--case", "selection from sorted 1000 s=0.5", "--rounds", "1", "--threads=1"];

fn refuses(arguments: &[&str], says: &str) {
    slth().arg("bench").args(arguments).assert().code(2).stdout("").stderr(
        predicate::str::starts_with("error: ")
            .and(predicate::str::contains(says))
            .and(predicate::function(|text: &str| text.lines().count() == 1)),
    );
}

#[test]
fn flags_that_make_no_sense() {
    refuses(&["--kernel", "nothing"], "must be one of masked-matmul, conv2d, top-k, subset-sum, pipeline");
    refuses(&["--rounds", "0"], "--rounds: must be at least 1");
    refuses(&["--passes", "0"], "--passes: must be at least 1");
    refuses(&["--case", "no such case"], "--case: no case has a name that contains it");
    refuses(&["--threads", "0"], "threads");
    refuses(&["--compare", "a"], "--compare");
    refuses(&["--check"], "--tables");
    refuses(&["--force"], "--save");
    refuses(&["--compare", "/none/a", "/none/b"], "/none/a: ");
    refuses(&["--tables", "--page", "/none/page"], "/none/page: ");
}

#[test]
fn a_recording_is_written_read_and_compared() {
    let directory = tempfile::tempdir().unwrap();
    let results = directory.path().join("results");
    let save = || {
        let mut command = slth();
        command.args(ONE).args(["--kernel", "top-k", "--save", "--results"]).arg(&results);
        command
    };
    save().assert().success().stdout(predicate::str::contains("select_nth_unstable"));
    let Recorded { cpu, recording, .. } = Recording::newest(&results).unwrap().pop().unwrap();
    let origin = recording.origin.unwrap();
    assert!(origin.command.starts_with("slth bench --case \"selection from sorted"), "{}", origin.command);
    assert_eq!(origin.passes, Some(Passes { made: 1, counted: None }));
    assert!(recording.rows.iter().all(|row| row.rounds == 1 && row.task.shape == [1000]));
    let stem = results.join(cpu).join(format!("{}-{}", origin.date, origin.commit));
    let file = stem.with_extension("jsonl");
    let text = fs::read_to_string(stem.with_extension("txt")).unwrap();
    assert!(text.contains("rustc     rustc "), "{text}");
    // Not overwritten unless asked for.
    save().assert().code(2).stderr(predicate::str::contains("exists already"));
    save().arg("--force").assert().success();

    let compare = |a: &Path, b: &Path| {
        let mut command = slth();
        command.args(["bench", "--compare"]).arg(a).arg(b);
        command
    };
    let rows = recording.rows.len();
    let whole =
        format!("{rows} of {rows} rows (100.0 %) agree within 5 %; one commit: the recordings can be");
    compare(&file, &file).assert().success().stdout(predicate::str::contains(whole));
    // Twice as slow, without origin, as scripts write it.
    let slow = directory.path().join("slow.jsonl");
    let mut slower = Recording::read(&file).unwrap();
    slower.origin = None;
    for row in &mut slower.rows {
        row.seconds *= 2.0;
        row.least *= 2.0;
        row.quartiles = row.quartiles.map(|time| 2.0 * time);
    }
    fs::write(&slow, slower.to_json_lines()).unwrap();
    let expected =
        format!("0 of {rows} rows (0.0 %) agree within 5 %; {rows} of {rows} changed beyond noise");
    compare(&file, &slow)
        .assert()
        .success()
        .stdout(predicate::str::contains(expected).and(predicate::str::contains("0.500   SLOWER")));
}

#[test]
fn files_that_are_no_recordings() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("r.jsonl");
    let row = |seconds: &str| {
        format!(
            "{{\"kernel\":\"top-k\",\"operation\":\"x\",\"shape\":[1],\"who\":\"w\",\"role\":\"peer\",\"threads\":1,\
             \"unit\":\"score\",\"work\":1.0,\"seconds\":{seconds},\"least\":1.0,\"quartiles\":[1.0,1.0],\"rounds\":1}}\n"
        )
    };
    let path = file.to_str().unwrap();
    for (text, says) in [
        (String::new(), "no measurements in it"),
        ("{".to_owned(), "r.jsonl, line 1: "),
        (row("1.0") + &row("1.0")[..40], "r.jsonl, line 2: "),
        (row("-1.0"), "line 1: times and work must be positive"),
        (row("1e999"), "line 1: "),
    ] {
        fs::write(&file, text).unwrap();
        refuses(&["--compare", path, path], says);
    }
    fs::write(&file, row("1.0")).unwrap();
    let other = directory.path().join("other.jsonl");
    fs::write(&other, row("1.0").replace("\"x\"", "\"y\"")).unwrap();
    refuses(&["--compare", path, other.to_str().unwrap()], "nothing was measured in both");
}

#[test]
fn tables_and_plots_come_from_the_recordings_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let (results, page) = (directory.path().join("results"), directory.path().join("page.md"));
    let tables = || {
        let mut command = slth();
        command.args(["bench", "--tables", "--results"]).arg(&results).arg("--page").arg(&page);
        command
    };
    fs::write(&page, "no places\n").unwrap();
    tables().assert().code(2).stderr(predicate::str::contains("has no `<!-- bench masked-matmul -->`"));
    let places = |kernel: &str| format!("<!-- bench {kernel} -->\n<!-- /bench -->\n");
    let empty: String = ["masked-matmul", "conv2d", "top-k", "subset-sum", "pipeline"].map(places).concat();
    fs::write(&page, &empty).unwrap();
    tables().assert().success();
    assert_eq!(fs::read_to_string(&page).unwrap(), empty, "nothing is recorded yet");
    let mut record = slth();
    record.args(["bench", "--case=selection from normal 1000 s=0.5", "--rounds=1", "--threads=1", "--save"]);
    record.arg("--results").arg(&results).assert().success();
    tables().arg("--check").assert().code(1).stderr(predicate::str::contains("not in step"));
    tables().assert().success();
    tables().arg("--check").assert().success().stdout("");
    let written = fs::read_to_string(&page).unwrap();
    assert!(written.contains("time-per-score.svg"), "{written}");
    let everything = fs::read_to_string(results.join("tables.md")).unwrap();
    assert!(everything.contains("select_nth_unstable"), "{everything}");
    fs::write(&page, written.replace("commit", "Commit")).unwrap();
    tables().arg("--check").assert().code(1);

    // A page that names a CPU has the tables of that one alone, and wants a recording of it.
    let Recorded { cpu, .. } = Recording::newest(&results).unwrap().pop().unwrap();
    let other = results.join("another-cpu");
    fs::create_dir(&other).unwrap();
    for file in fs::read_dir(results.join(&cpu)).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), other.join(file.file_name())).unwrap();
    }
    let of = |cpu: &str| empty.replace("<!-- bench top-k -->", &format!("<!-- bench top-k {cpu} -->"));
    let tables_of = |text: &str| text.matches("select_nth_unstable").count();
    for (text, count) in [(empty.clone(), 2), (of(&cpu), 1)] {
        fs::write(&page, text).unwrap();
        tables().assert().success();
        assert_eq!(tables_of(&fs::read_to_string(&page).unwrap()), count * tables_of(&written));
    }
    fs::write(&page, of("no-cpu")).unwrap();
    tables().assert().code(2).stderr(predicate::str::contains("wants tables of no-cpu"));
}
