//! `table.md` and `table.csv`.

use std::fmt::Write;

use super::Content;
use crate::sweep::{Finding, Study};

/// The tables with what they show, in Markdown.
pub(super) fn markdown(content: &Content) -> String {
    let Content { studies, published, .. } = content;
    let mut text = String::from(
        "Mean test accuracy by sparsity s (fraction of weights REMOVED, rows) and ε (columns). **Bold**: the best of a\n\
         column. \\*: the s chosen by validation loss.\n",
    );
    for study in studies {
        let _ = write!(text, "\n## {}\n\n", study.name);
        header(&mut text, study);
        for &s in &study.sparsities {
            let _ = write!(text, "| {s} |");
            for &epsilon in &study.epsilons {
                let cell = study.accuracy(epsilon, s).map_or("–".to_owned(), |accuracy| {
                    let best = study.best(epsilon).is_some_and(|(best, _)| best == s);
                    let chosen = study.chosen(epsilon).is_some_and(|(chosen, _)| chosen == s);
                    let bold = if best { "**" } else { "" };
                    format!("{bold}{accuracy:.3}{bold}{}", if chosen { "\\*" } else { "" })
                });
                let _ = write!(text, " {cell} |");
            }
            text.push('\n');
        }
    }
    let ours = &studies[0];
    let comparison = ours.compare(published);
    if comparison.cells > 0 {
        let _ = write!(
            text,
            "\n## {} less the published table\n\n{} cells in common, mean absolute difference {:.3}, mean difference \
             {:+.3}, Spearman rank correlation {:.3}.\n\n",
            ours.name,
            comparison.cells,
            comparison.mean_absolute_difference,
            comparison.mean_difference,
            comparison.rank_correlation
        );
        header(&mut text, ours);
        for &s in &ours.sparsities {
            let _ = write!(text, "| {s} |");
            for &epsilon in &ours.epsilons {
                let difference =
                    ours.accuracy(epsilon, s).zip(published.accuracy(epsilon, s)).map(|(a, b)| a - b);
                let _ = write!(text, " {} |", difference.map_or("–".to_owned(), |d| format!("{d:+.2}")));
            }
            text.push('\n');
        }
    }
    text.push_str("\n## The paper's findings\n\n| finding | holds | found |\n|---|---|---|\n");
    for finding in ours.findings() {
        let _ = writeln!(text, "| {} | {} | {} |", finding.claim, holds(&finding), finding.found);
    }
    text
}

fn header(text: &mut String, study: &Study) {
    text.push_str("| s \\\\ ε |");
    for epsilon in &study.epsilons {
        let _ = write!(text, " {epsilon} |");
    }
    text.push_str("\n|---:|");
    study.epsilons.iter().for_each(|_| text.push_str("---:|"));
    text.push('\n');
}

pub(super) fn holds(finding: &Finding) -> &'static str {
    match finding.holds {
        Some(true) => "true",
        Some(false) => "false",
        None => "cannot be told",
    }
}

/// A row for each method, ε and sparsity.
pub(super) fn csv(content: &Content) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header = "method,epsilon,sparsity,seeds,test_accuracy,test_accuracy_deviation,validation_accuracy,\
                  validation_loss,chosen,published_test_accuracy";
    let mut rows = vec![header.split(',').map(str::to_owned).collect::<Vec<_>>()];
    let optional = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    for study in &content.studies {
        for &epsilon in &study.epsilons {
            for (s, summary) in study.column(epsilon) {
                rows.push(vec![
                    study.name.clone(),
                    epsilon.to_string(),
                    s.to_string(),
                    summary.seeds.to_string(),
                    summary.test.to_string(),
                    summary.deviation.to_string(),
                    optional(summary.validation),
                    optional(summary.loss),
                    study.chosen(epsilon).is_some_and(|(chosen, _)| chosen == s).to_string(),
                    optional(content.published.accuracy(epsilon, s)),
                ]);
            }
        }
    }
    rows.iter().for_each(|row| writer.write_record(row).expect("rows of one length, into memory"));
    let bytes = writer.into_inner().expect("into memory");
    String::from_utf8(bytes).expect("made of text")
}
