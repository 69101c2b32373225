//! `table.md` and `table.csv`.

use std::fmt::Write;

use super::{Content, NOT_PUBLISHED, list};
use crate::sweep::findings::Finding;
use crate::sweep::study::Study;

/// The tables with what they show, in Markdown.
pub(super) fn markdown(content: &Content) -> String {
    let Content { studies, published, .. } = content;
    let run = &content.cells[0].config.run;
    let mut text = format!(
        "Data set {}, network {}.\n\n\
         Mean test accuracy by sparsity s (fraction of weights REMOVED, rows) and ε (columns). **Bold**: the best of a\n\
         column. \\*n: n runs, of one seed each, chose this s by {}. The last rows: the s that each run chose,\n\
         the mean test accuracy of the networks chosen{}.\n",
        content.data(),
        run.network,
        studies[0].criterion(),
        if studies[0].holds_out() { ", the s of the least mean validation loss" } else { "" },
    );
    text.extend(content.remark_on_failures().map(|remark| remark + "\n"));
    for study in studies {
        let _ = write!(text, "\n## {}\n\n", study.name);
        header(&mut text, study);
        for &s in &study.sparsities {
            row(&mut text, study, &s.to_string(), |epsilon| {
                let summary = study.summary(epsilon, s)?;
                let best = study.best(epsilon).is_some_and(|(best, _)| best == s);
                let bold = if best { "**" } else { "" };
                let chosen =
                    if summary.chosen > 0 { format!("\\*{}", summary.chosen) } else { String::new() };
                Some(format!("{bold}{:.3}{bold}{chosen}{}", summary.test, summary.mark()))
            });
        }
        row(&mut text, study, "s chosen", |epsilon| Some(list(&study.chosen(epsilon)?.sparsities)));
        row(&mut text, study, "accuracy", |epsilon| Some(format!("{:.3}", study.chosen(epsilon)?.test)));
        if study.holds_out() {
            let least = |epsilon| Some(study.of_least_mean_loss(epsilon)?.0.to_string());
            row(&mut text, study, "s, mean loss", least);
        }
    }
    let ours = &studies[0];
    let comparison = ours.compare(published);
    if comparison.cells > 0 {
        let _ = write!(
            text,
            "\n## {} less the published table\n\n{} cells in common, mean absolute difference {:.3}, mean difference \
             {:+.3}, Spearman rank correlation {:.3}.\n{NOT_PUBLISHED}\n\n",
            ours.name,
            comparison.cells,
            comparison.mean_absolute_difference,
            comparison.mean_difference,
            comparison.rank_correlation
        );
        header(&mut text, ours);
        for &s in &ours.sparsities {
            row(&mut text, ours, &s.to_string(), |epsilon| {
                let (ours, theirs) = ours.accuracy(epsilon, s).zip(published.accuracy(epsilon, s))?;
                Some(format!("{:+.2}", ours - theirs))
            });
        }
    }
    text.push_str("\n## The paper's findings\n\n| finding | of the means | of single seeds | found |\n|---|---|---|---|\n");
    for (finding, seeds) in ours.findings().iter().zip(&content.by_seed) {
        let (claim, found) = (finding.claim, &finding.found);
        let _ = writeln!(text, "| {claim} | {} | {} | {found} |", holds(finding), in_seeds(seeds));
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

/// A row with a cell for each ε, a dash where there is none.
fn row(text: &mut String, study: &Study, name: &str, cell: impl Fn(f32) -> Option<String>) {
    let _ = write!(text, "| {name} |");
    for &epsilon in &study.epsilons {
        let _ = write!(text, " {} |", cell(epsilon).unwrap_or_else(|| "–".to_owned()));
    }
    text.push('\n');
}

pub(super) fn holds(finding: &Finding) -> &'static str {
    match finding.holds {
        Some(true) => "holds",
        Some(false) => "does not hold",
        None => "cannot be told",
    }
}

pub(super) fn in_seeds([holding, of]: &[usize; 2]) -> String {
    format!("{holding} of {of}")
}

/// A row for each method, ε and sparsity. `chosen` is the number of runs that chose this sparsity.
pub(super) fn csv(content: &Content) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header = "method,epsilon,sparsity,seeds,test_accuracy,test_accuracy_deviation,validation_accuracy,\
                  validation_loss,chosen,published_test_accuracy,least_mean_loss,failed";
    writer.write_record(header.split(',')).expect("into memory");
    let optional = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    for study in &content.studies {
        for &epsilon in &study.epsilons {
            for (s, summary) in study.column(epsilon) {
                let row = [
                    study.name.clone(),
                    epsilon.to_string(),
                    s.to_string(),
                    summary.seeds.to_string(),
                    summary.test.to_string(),
                    summary.deviation.to_string(),
                    optional(summary.validation),
                    optional(summary.loss),
                    summary.chosen.to_string(),
                    optional(content.published.accuracy(epsilon, s)),
                    study.of_least_mean_loss(epsilon).is_some_and(|(least, _)| least == s).to_string(),
                    summary.failed.to_string(),
                ];
                writer.write_record(row).expect("rows of one length, into memory");
            }
        }
    }
    let bytes = writer.into_inner().expect("into memory");
    String::from_utf8(bytes).expect("made of text")
}
