//! `slth candidates`.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use predicates::prelude::*;
use serde_json::Value;
use slth_kernels::Backend;

use crate::bad_input::refused;
use crate::fixture::slth;

fn small() -> Command {
    let mut command = slth();
    command.args(["candidates", "--quiet", "--eta", "0.1,0.01", "--ratio", "0,1,10", "--trials", "30"]);
    command
}

fn json(out: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(out.join("candidates.json")).unwrap()).unwrap()
}

#[test]
fn table_files_and_figure() {
    let out = tempfile::tempdir().unwrap();
    let told = predicate::str::contains("per decade").and(predicate::str::contains("the paper's plot"));
    small().arg("--out").arg(out.path()).assert().success().stdout(told).stderr("");
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 4, "temporary files are left");
    let csv = fs::read_to_string(out.path().join("candidates.csv")).unwrap();
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("criterion,eta,ratio,trials,n50,n90,n99,paper_n,size"));
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 6);
    assert_eq!(rows[0][..4], ["every", "0.1", "0.0", "30"]);
    assert_eq!([rows[0][7], rows[3][7], rows[5][7]], ["", "19", "11"]);
    let n90 = |row: usize| rows[row][5].parse::<usize>().unwrap();
    assert!(n90(0) >= n90(1) && n90(1) >= n90(2) && n90(3) >= n90(4) && n90(4) >= n90(5), "{csv}");
    assert!((0..3).all(|row| n90(row) < n90(row + 3)), "{csv}");

    let result = json(out.path());
    assert_eq!(result["results"].as_array().unwrap().len(), 6);
    assert_eq!(result["results"][3]["paper_n"], 19);
    assert_eq!(result["fall"][1]["paper"], 8);
    assert_eq!(result["fall"][1]["candidates"], n90(3) - n90(5));
    assert_eq!(result["slope_per_decade"][0]["candidates"], (n90(3) - n90(0)) as f64);
    assert_eq!(result["configuration"]["criterion"], "every");
    let svg = fs::read_to_string(out.path().join("candidates.svg")).unwrap();
    assert!(svg.contains("ε/η") && svg.ends_with("</svg>\n") || svg.trim_end().ends_with("</svg>"));
    assert_eq!(fs::read(out.path().join("candidates.png")).unwrap()[..4], *b"\x89PNG");

    let again = small().arg("--out").arg(out.path()).assert().code(2);
    again.stderr(predicate::str::contains("exists already"));
    small().arg("--out").arg(out.path()).arg("--force").assert().success();
}

#[test]
fn sizes_of_subsets() {
    let out = tempfile::tempdir().unwrap();
    let told =
        predicate::str::contains("by subsets of 3:").and(predicate::str::contains("by subsets of 0.5 n:"));
    let told = told.and(predicate::str::contains("by size of subsets, ε/η and η"));
    let sizes = ["--size", "any,3,0.3,0.5", "--eta", "0.1,0.03", "--out"];
    small().args(sizes).arg(out.path()).assert().success().stdout(told);
    let result = json(out.path());
    let rows = result["results"].as_array().unwrap();
    assert_eq!(rows.len(), 4 * 2 * 3);
    let n90 = |size: &str| {
        let row = |row: &&Value| row["size"] == size && row["eta"] == 0.03 && row["ratio"] == 0.0;
        rows.iter().find(row).unwrap()["n90"].as_u64().unwrap()
    };
    assert!(n90("any") < n90("0.5") && n90("0.5") <= n90("0.3") && n90("0.5") < n90("3"));
    assert_eq!(result["slope_per_decade"].as_array().unwrap().len(), 4 * 3);
    let svg = fs::read_to_string(out.path().join("candidates.svg")).unwrap();
    assert!(svg.contains("in proportion to 1/H(k/n)") && svg.contains("subsets of 3"));
    for (size, problem) in
        [("0", "give any"), ("1.0", "a fraction of them"), ("31", "but is 31"), ("x", "give any")]
    {
        refused(small().args(["--size", size]), &[problem]);
    }
}

#[test]
fn one_target_and_odd_lists() {
    for arguments in [
        vec!["--criterion", "one"],
        vec!["--eta", "0.3", "--ratio", "0"],
        vec!["--eta", "1", "--ratio", "1,0,0.5", "--trials", "1"],
    ] {
        let out = tempfile::tempdir().unwrap();
        small().args(&arguments).arg("--out").arg(out.path()).assert().success();
    }
}

#[test]
fn threads_and_backends_do_not_change_the_csv() {
    let run = |backend: &str, threads: usize| {
        let out = tempfile::tempdir().unwrap();
        let mut command = small();
        command.args(["--backend", backend, "--threads", &threads.to_string(), "--out"]).arg(out.path());
        command.assert().success();
        ["candidates.csv", "candidates.svg"].map(|name| fs::read_to_string(out.path().join(name)).unwrap())
    };
    let first = run("scalar", 1);
    for (backend, threads) in Backend::available().iter().zip([3, 2, 7, 1]) {
        assert_eq!(run(backend.name(), threads), first, "{backend} {threads}");
    }
}

#[test]
fn bad_input() {
    for (arguments, words) in [
        (vec!["--eta", "0"], vec!["--eta", "1e-6"]),
        (vec!["--eta", "0.1,nan"], vec!["--eta", "NaN"]),
        (vec!["--eta", "-0.1"], vec!["--eta", "-0.1"]),
        (vec!["--eta", "inf"], vec!["--eta"]),
        (vec!["--eta", ""], vec!["--eta"]),
        (vec!["--eta", "1e-9"], vec!["--eta"]),
        (vec!["--ratio", "-1"], vec!["--ratio", "-1"]),
        (vec!["--ratio", "nan"], vec!["--ratio"]),
        (vec!["--ratio", "1e30"], vec!["--ratio", "epsilon must be at most 1"]),
        (vec!["--trials", "0"], vec!["--trials", "at least 1"]),
        (vec!["--trials", "18446744073709551615"], vec!["--trials"]),
        (vec!["--criterion", "some"], vec!["--criterion", "every, one"]),
        (vec!["--threads", "0"], vec!["--threads"]),
        (vec!["--backend", "sse9"], vec!["--backend", "sse9"]),
    ] {
        let out = tempfile::tempdir().unwrap();
        let inner = out.path().join("out");
        refused(small().arg("--out").arg(&inner).args(&arguments), &words);
        assert!(!inner.exists(), "{arguments:?}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    refused(small().arg("--out").arg(file.path()), &["cannot write", file.path().to_str().unwrap()]);
}

/// A signal during the search leaves the output directory empty. SIGHUP under nohup does not end the command.
#[test]
#[cfg(unix)]
fn a_signal_leaves_nothing_behind() {
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    /// Kills the process when the test fails.
    struct Running(Child);

    impl Drop for Running {
        fn drop(&mut self) {
            let _ = self.0.kill();
        }
    }

    let until = |what: &str, mut holds: Box<dyn FnMut() -> bool + '_>| {
        let begin = Instant::now();
        while !holds() {
            assert!(begin.elapsed() < Duration::from_secs(60), "{what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    for (through, signals) in [("env", vec!["-INT"]), ("env", vec!["-TERM"]), ("nohup", vec!["-HUP", "-INT"])]
    {
        let parent = tempfile::tempdir().unwrap();
        let out = parent.path().join("out");
        let mut running = Running(
            Command::new(through)
                .arg(env!("CARGO_BIN_EXE_slth"))
                .args(["candidates", "--eta", "1e-5", "--ratio", "0", "--trials", "1000000", "--out"])
                .arg(&out)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        );
        until("the output directory was not created", Box::new(|| out.exists()));
        for signal in signals {
            std::thread::sleep(Duration::from_millis(200));
            assert!(running.0.try_wait().unwrap().is_none(), "the command ended before {signal}");
            let id = running.0.id().to_string();
            assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        }
        let mut ended = None;
        until(
            "the command did not end",
            Box::new(|| {
                ended = running.0.try_wait().unwrap();
                ended.is_some()
            }),
        );
        assert_eq!(ended.unwrap().code(), Some(130), "{through}");
        assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
    }
}
