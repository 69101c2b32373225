//! `report.html`.

use std::collections::BTreeMap;

use maud::{Markup, PreEscaped, html};

use super::plots::{Plot, dominated, shade};
use super::tables::{holds, in_seeds};
use super::{Content, NOT_PUBLISHED, list};
use crate::page::{options, page};
use crate::sweep::cell::Cell;
use crate::sweep::comparison::mean;
use crate::sweep::study::Study;

/// The page.
pub(super) fn html(content: &Content, plots: &[Plot], svgs: &[String]) -> String {
    let Content { cells, studies, published, by_seed } = content;
    let ours = &studies[0];
    let seeds: std::collections::BTreeSet<_> = cells.iter().map(|cell| cell.seed).collect();
    let comparison = ours.compare(published);
    page(&html! {
        h1 { "Pretrain, then prune: accuracy by ε and sparsity" }
        p {
            "A random network is pretrained, no weight moving further than ε, and a fraction s of its weights is then "
            "REMOVED. " (cells.len()) " cells, " (seeds.len()) " seeds. Data set " (content.data())
            ", network " (cells[0].config.run.network) ". Each run, of one seed, chooses the s of each ε by " (ours.criterion()) "."
        }
        h2 { "The paper's findings" }
        table.text {
            tr { th { "finding" } th { "of the means" } th { "of single seeds" } th { "found" } @if comparison.cells > 0 { th { "published table" } } }
            @for ((finding, theirs), seeds) in ours.findings().iter().zip(published.findings()).zip(by_seed) {
                tr {
                    td { (finding.claim) }
                    td class=[finding.holds.map(|holds| holds.to_string())] { b { (holds(finding)) } }
                    td { (in_seeds(seeds)) }
                    td { (finding.found) }
                    @if comparison.cells > 0 { td { (theirs.found) } }
                }
            }
        }
        @for study in studies {
            h2 { "Mean test accuracy, " (study.name) }
            (map(study, true))
        }
        p {
            "Red column: ε = 0, the strong lottery ticket. Blue row: s = 0, SGD only. Faded: pruning is dominated by SGD, "
            "the network before it is better. Bold: the best of a column. •n: n runs chose this s by " (ours.criterion())
            ". ±: one standard deviation over the seeds. Below: the s that each run chose, the mean test accuracy of "
            "the networks chosen"
            @if ours.holds_out() { ", and the s of the least mean validation loss" }
            ". "
            @if let Some(remark) = content.remark_on_failures() { (remark) }
        }
        @if comparison.cells > 0 {
            h2 { "Beside the published table" }
            p {
                "Xiong, Liao, Kyrillidis, AISTATS 2023, as printed on the authors' poster. "
                (comparison.cells) " cells in common: mean absolute difference "
                b { (format!("{:.3}", comparison.mean_absolute_difference)) }
                ", mean difference " (format!("{:+.3}", comparison.mean_difference))
                ", Spearman rank correlation " b { (format!("{:.3}", comparison.rank_correlation)) } ". "
                (NOT_PUBLISHED)
            }
            (map(published, false))
            h3 { "Difference: " (ours.name) " less published" }
            (differences(ours, published))
        }
        @if studies.len() > 1 { (methods(studies)) }
        h2 { "Plots" }
        @for (plot, svg) in plots.iter().zip(svgs) {
            figure { (PreEscaped(svg)) figcaption { (plot.caption) } }
        }
        (failures(content))
        h2 { "Configuration" }
        (options(&cells[0].config.setting()))
        h2 { "Machines" }
        (machines(content))
    })
}

fn header(study: &Study) -> Markup {
    html! { tr { th { "s \\ ε" } @for epsilon in &study.epsilons { th { (epsilon) } } } }
}

/// A study as coloured cells, with what its runs chose.
fn map(study: &Study, with_choice: bool) -> Markup {
    let cell = |epsilon: f32, s: f64| {
        let Some(summary) = study.summary(epsilon, s) else { return html! { td { "–" } } };
        let [fill, ink] = shade(summary.test);
        let classes = [
            ("lth", epsilon == 0.0),
            ("sgd", s == 0.0),
            ("dominated", dominated(study, epsilon, s)),
            ("best", study.best(epsilon).is_some_and(|(best, _)| best == s)),
        ];
        let class =
            classes.iter().filter(|(_, holds)| *holds).map(|(name, _)| *name).collect::<Vec<_>>().join(" ");
        html! {
            td class=(class) style=(format!("background:{fill};color:{ink}")) {
                (format!("{:.3}{}", summary.test, summary.mark()))
                @if with_choice && summary.chosen > 0 { (format!(" •{}", summary.chosen)) }
                @if summary.seeds > 1 { br; small { (format!("±{:.3}", summary.deviation)) } }
            }
        }
    };
    html! {
        div.wide { table.map {
            (header(study))
            @for &s in &study.sparsities {
                tr { th { (s) } @for &epsilon in &study.epsilons { (cell(epsilon, s)) } }
            }
            @if with_choice { (choices(study)) }
        } }
    }
}

/// Rows below the cells: what the runs chose, and what their mean would.
fn choices(study: &Study) -> Markup {
    let row = |name: &str, cell: &dyn Fn(f32) -> Option<String>| {
        html! { tr { th { (name) } @for &epsilon in &study.epsilons { td { (cell(epsilon).unwrap_or_default()) } } } }
    };
    html! {
        (row("s chosen", &|epsilon| Some(list(&study.chosen(epsilon)?.sparsities))))
        (row("accuracy", &|epsilon| Some(format!("{:.3}", study.chosen(epsilon)?.test))))
        @if study.holds_out() {
            (row("s, mean loss", &|epsilon| Some(study.of_least_mean_loss(epsilon)?.0.to_string())))
        }
    }
}

fn differences(ours: &Study, published: &Study) -> Markup {
    let cell = |epsilon: f32, s: f64| {
        let Some(difference) =
            ours.accuracy(epsilon, s).zip(published.accuracy(epsilon, s)).map(|(a, b)| a - b)
        else {
            return html! { td { "–" } };
        };
        let rest = (255.0 * (1.0 - (difference.abs() / 0.4).min(1.0))) as u8;
        let fill = if difference > 0.0 {
            format!("rgb({rest},{rest},255)")
        } else {
            format!("rgb(255,{rest},{rest})")
        };
        let ink = if rest < 110 { "#fff" } else { "#000" };
        html! { td style=(format!("background:{fill};color:{ink}")) { (format!("{difference:+.2}")) } }
    };
    html! {
        div.wide { table.map {
            (header(ours))
            @for &s in &ours.sparsities {
                tr { th { (s) } @for &epsilon in &ours.epsilons { (cell(epsilon, s)) } }
            }
        } }
    }
}

/// The first method against the others, where both prune.
fn methods(studies: &[Study]) -> Markup {
    let first = &studies[0];
    let shared_mean = |study: &Study, s: f64| {
        let shared =
            first.epsilons.iter().filter(|&&e| studies.iter().all(|other| other.accuracy(e, s).is_some()));
        Some(mean(shared.filter_map(|&e| study.accuracy(e, s)))).filter(|accuracy| !accuracy.is_nan())
    };
    html! {
        h2 { "Is " (first.name) " worth it here?" }
        ul {
            @for other in &studies[1..] {
                @let comparison = first.compare(other);
                @if comparison.cells > 0 {
                    li {
                        (first.name) " is ahead of " (other.name) " in " (comparison.ahead) " of " (comparison.cells)
                        " cells, by " (format!("{:+.3}", comparison.mean_difference)) " on average."
                    }
                }
            }
        }
        p { "Test accuracy at each s, mean over the ε that all methods have:" }
        table {
            tr { th { "s" } @for study in studies { th { (study.name) } } }
            @for &s in &first.sparsities {
                tr {
                    th { (s) }
                    @for study in studies {
                        td { (shared_mean(study, s).map_or("–".to_owned(), |accuracy| format!("{accuracy:.3}"))) }
                    }
                }
            }
        }
    }
}

fn failures(content: &Content) -> Markup {
    let failed: Vec<_> = content.cells.iter().filter_map(Cell::failure).collect();
    html! {
        @if !failed.is_empty() {
            h2 { "Failed" }
            ul { @for line in &failed { li { (line) } } }
        }
    }
}

fn machines(content: &Content) -> Markup {
    let mut machines: BTreeMap<_, (usize, f64)> = BTreeMap::new();
    for timing in content.cells.iter().map(|cell| &cell.timing) {
        let machine = &timing.machine;
        let row = [
            timing.host.clone(),
            machine.cpu.clone(),
            machine.cores.to_string(),
            machine.os.clone(),
            timing.backend.clone(),
            timing.threads.to_string(),
        ];
        let (cells, seconds) = machines.entry(row).or_default();
        *cells += 1;
        *seconds += timing.prune_seconds;
    }
    html! {
        table.text {
            tr {
                @for name in ["host", "CPU", "cores", "system", "backend", "cells side by side", "cells", "seconds of pruning"] {
                    th { (name) }
                }
            }
            @for (row, (cells, seconds)) in &machines {
                tr { @for value in row { td { (value) } } td { (cells) } td { (format!("{seconds:.1}")) } }
            }
        }
    }
}
