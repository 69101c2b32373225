//! Reports: their content, failed seeds, how the sparsity was chosen.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use predicates::prelude::*;

use crate::bad_input::refused;
use crate::fixture::{self, small_sweep};

fn sweep(data: &Path, out: &Path) -> Command {
    let mut command = small_sweep(data);
    command.arg("--out").arg(out);
    command
}

#[test]
fn a_report_holds_everything_and_nothing_from_elsewhere() {
    let (data, out) = (fixture::dataset(), tempfile::tempdir().unwrap());
    sweep(data.path(), out.path()).args(["--epsilon", "0,0.05,inf"]).assert().success();
    sweep(data.path(), out.path()).args(["--method", "random"]).assert().success();
    let report = out.path().join("report");
    let mut command = fixture::slth();
    command.arg("report").arg(out.path()).arg("--out").arg(&report);
    command.assert().success().stdout(predicate::str::contains("report.html")).stderr("");
    let read = |name: &str| fs::read_to_string(report.join(name)).unwrap();
    let (html, csv, table) = (read("report.html"), read("table.csv"), read("table.md"));
    assert_eq!(csv.lines().count(), 1 + 3 * 3 + 2 * 3);
    let column = |name: &str| {
        let mut rows = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let at = rows.next().unwrap().iter().position(|&column| column == name).unwrap();
        rows.map(|row| row[at].to_owned()).collect::<Vec<_>>()
    };
    let chosen = column("chosen").iter().map(|runs| runs.parse::<usize>().unwrap()).sum::<usize>();
    assert_eq!(chosen, (3 + 2) * 2, "an s for each ε and seed");
    assert_eq!(column("least_mean_loss").iter().filter(|&least| least == "true").count(), 3 + 2);
    assert!(column("failed").iter().all(|failed| failed == "0") && !table.contains('†'));
    assert!(table.contains("chose this s by validation loss") && table.contains("| s, mean loss |"));
    let name = data.path().file_name().unwrap().to_str().unwrap();
    for text in [&html, &table] {
        assert!(text.contains(&format!("Data set {name}")));
        assert!(text.contains("names neither its data set nor its network"));
    }
    assert!(table.contains("## edge-popup") && table.contains("## random") && table.contains("(e) At"));
    assert_eq!(html.matches("<svg").count(), 4);
    assert!(html.contains("Is edge-popup worth it here?") && html.contains("Spearman"));
    for elsewhere in ["href=", "src=", "url(", "@import", "<script"] {
        assert!(!html.contains(elsewhere), "{elsewhere}");
    }
    for name in ["heatmap", "accuracy-by-epsilon", "sparsity-by-epsilon", "accuracy-by-sparsity"] {
        assert!(read(&format!("{name}.svg")).contains("</svg>"));
        assert_eq!(fs::read(report.join(format!("{name}.png"))).unwrap()[1..4], *b"PNG");
    }
    // The same cells give the same report.
    let before = fs::read(report.join("report.html")).unwrap();
    command.assert().success();
    assert_eq!(fs::read(report.join("report.html")).unwrap(), before);
    refused(fixture::slth().arg("report").arg(data.path()), &["no cells*.jsonl or history.csv"]);
}

/// The only seed diverges at ε = inf, where nothing bounds the weights.
#[test]
fn a_seed_that_failed_counts_and_shows() {
    let (data, out) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let diverging = |epsilons: &str, out: &Path| {
        let mut command = sweep(data.path(), out);
        command.args(["--seeds", "1", "--epsilon", epsilons, "--pretrain-lr", "3e38"]).assert().success();
        fixture::slth().arg("report").arg(out).assert()
    };
    diverging("0,inf", out.path()).success();
    let read = |name: &str| fs::read_to_string(out.path().join(name)).unwrap();
    // A failed seed counts as chance, which is 1/3 for three classes.
    assert!(read("table.md").contains("| 0.333†1 |"));
    assert!(read("table.md").contains("†n: n seeds failed"));
    assert!(
        read("table.csv")
            .lines()
            .filter(|line| line.starts_with("edge-popup,inf,"))
            .all(|line| { line.contains(",1,0.3333333333333333,0,") && line.ends_with(",false,1") })
    );
    for name in ["report.html", "heatmap.svg"] {
        assert!(read(name).contains("†1"), "{name}");
    }
    fixture::slth()
        .arg("status")
        .arg(out.path())
        .assert()
        .success()
        .stdout(predicate::str::contains("0.333†1"));
    // If all cells failed, there is nothing to report.
    let none = out.path().join("none");
    let assert = diverging("inf", &none).code(2);
    assert.stderr(predicate::str::contains(
        "none: nothing to report: all 3 cells failed; see `slth status`, then `slth sweep --retry-failed`",
    ));
}

#[test]
fn captions_say_what_chose_the_sparsity() {
    let (data, out) = (fixture::dataset(), tempfile::tempdir().unwrap());
    sweep(data.path(), out.path()).args(["--validation", "0"]).assert().success();
    fixture::slth().arg("report").arg(out.path()).assert().success();
    for name in ["table.md", "report.html"] {
        let text = fs::read_to_string(out.path().join(name)).unwrap();
        assert!(text.contains("test accuracy, as no images are held out"), "{name}");
        assert!(!text.contains("validation loss"), "{name}");
    }
}

#[test]
fn a_run_has_a_report_of_its_curves() {
    let (data, directory) = (fixture::dataset(), tempfile::tempdir().unwrap());
    let out = directory.path().join("out");
    fixture::small_run(data.path()).arg("--out").arg(&out).assert().success();
    let curves = fs::read(out.join("history.svg")).unwrap();
    let page = directory.path().join("page");
    fixture::slth().arg("report").arg(&out).arg("--out").arg(&page).assert().success().stdout(
        predicate::str::contains("history.svg")
            .and(predicate::str::contains("history.png"))
            .and(predicate::str::contains("report.html")),
    );
    assert_eq!(fs::read(page.join("history.svg")).unwrap(), curves);
    let html = fs::read_to_string(page.join("report.html")).unwrap();
    assert!(html.contains(std::str::from_utf8(&curves).unwrap()) && html.contains("prune_epochs"));
    // A damaged file is named.
    fs::write(out.join("history.csv"), "epoch,phase\n1,pruning\n").unwrap();
    fixture::slth().arg("report").arg(&out).assert().code(2).stderr(predicate::str::contains("history.csv"));
}
