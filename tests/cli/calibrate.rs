//! `slth calibrate` writes one line for each combination of settings and tries none twice.

use std::fs;

use predicates::prelude::*;
use serde_json::Value;

use crate::fixture::{self, slth};

#[test]
fn every_combination_is_a_line_and_none_is_tried_twice() {
    let (data, out) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let log = out.path().join("log.jsonl");
    let calibrate = |rates: &str| {
        let mut command = slth();
        command.args(["calibrate", "--network", "30-8-3", "--validation", "50", "--batch", "16"]);
        command.args(["--epsilon", "0,0.1", "--sparsity", "0,0.5", "--try-momentum", "0,0.9"]);
        command.args(["--try-epochs", "1", "--try-lr", rates, "--data"]).arg(data.path()).arg(&log);
        command.assert().success();
        let text = fs::read_to_string(&log).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    let first = calibrate("0.1");
    assert_eq!(first.len(), 2);
    // At sparsity 0 the pruning settings make no difference.
    assert_eq!(first[0]["accuracies"][0], first[1]["accuracies"][0]);
    // A line torn by a kill does not count as a trial, and the next trial starts on a line of its own.
    let mut torn = fs::read(&log).unwrap();
    torn.extend_from_slice(b"{\"config\":");
    fs::write(&log, torn).unwrap();
    let second = calibrate("0.1,1");
    assert_eq!((second.len(), &second[..2]), (4, &first[..]));
    // Trials recorded with another bits revision are repeated.
    let text = fs::read_to_string(&log).unwrap();
    fs::write(&log, text.replace("\"bits_revision\":", "\"bits_revision\":10")).unwrap();
    assert_eq!(calibrate("0.1").len(), 6);
}

#[test]
fn a_setting_that_makes_no_sense_leaves_no_log() {
    let (data, out) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let log = out.path().join("log.jsonl");
    let mut command = slth();
    command.args(["calibrate", "--network", "30-8-3", "--validation", "50", "--try-momentum", "2", "--data"]);
    command.arg(data.path()).arg(&log).assert().code(2).stderr(predicate::str::contains("momentum"));
    assert!(!log.exists());
}

#[test]
fn another_file_is_left_alone() {
    let (data, out) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let log = out.path().join("notes");
    for text in ["not a log", "not a log\n", "{\"config\":1}\n"] {
        fs::write(&log, text).unwrap();
        let mut command = slth();
        command.args(["calibrate", "--network", "30-8-3", "--validation", "50", "--data"]).arg(data.path());
        command.arg(&log).assert().code(2).stderr(predicate::str::contains("notes, line 1: "));
        assert_eq!(fs::read_to_string(&log).unwrap(), text);
    }
}
