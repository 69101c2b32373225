//! `slth candidates`.

use clap::Args;
use slth::Error;
use slth::candidates::{
    CandidatesConfig, CandidatesResult, Criterion, RequiredCandidates, SubsetSize, entropy,
    required_candidates,
};
use slth::plot::number;

use super::progress::progress;
use super::shared::{MachineArguments, OutputArguments};
use super::table::{self, numbers, or_dash};

/// Measure how many random candidates a subset sum needs, beside the paper's plot.
///
/// Candidates are uniform on [-1, 1], each may be moved by epsilon. n* is the smallest n for which the first n meet every
/// target in [-1/2, 1/2] (or one random target) within eta, decided exactly over all 2^n subsets, or over those of one size
/// (--size). Quantiles of n* over many draws go to standard output as a table and with --out to candidates.json, candidates.csv and a plot.
#[derive(Args)]
#[command(args_override_self = true)]
pub(super) struct CandidatesArguments {
    #[command(flatten)]
    config: CandidatesConfig,

    #[command(flatten)]
    output: OutputArguments,

    #[command(flatten)]
    machine: MachineArguments,
}

/// Measures; the text is the tables for standard output.
pub(super) fn candidates(arguments: CandidatesArguments) -> Result<String, Error> {
    let CandidatesArguments { config, output, machine } = arguments;
    let (threads, backend) = machine.chosen()?;
    let config = CandidatesConfig { threads, backend, ..config };
    config.validate()?;
    let out = output.prepare(&CandidatesResult::FILES)?;
    let found = required_candidates(&config, progress(output.quiet).as_ref())?;
    if let Some(out) = out {
        out.write(&CandidatesResult::new(&found).files(&found)?)?;
    }
    let mut text: Vec<_> = found.config.size.iter().map(|&size| tables(&found.of_size(size))).collect();
    text.extend((text.len() > 1).then(|| by_size(&found)));
    Ok(text.join("\n"))
}

/// n of 90 % of draws by size and ε/η; of a fraction also n · H(k/n), the binary logarithm of the number of subsets.
fn by_size(found: &RequiredCandidates) -> String {
    let CandidatesConfig { eta, ratio, size, .. } = &found.config;
    let header = ["k or k/n".to_owned(), "ε/η".to_owned()].into_iter();
    let mut table = numbers(header.chain(eta.iter().map(|&eta| format!("η = {}", number(eta)))));
    for &size in size {
        let found = found.of_size(size);
        for (row, ratio) in ratio.iter().enumerate() {
            let cells = found.needed.iter().skip(row).step_by(found.config.ratio.len());
            let cell = |n: Option<usize>| match (n, size) {
                (Some(n), SubsetSize::Fraction(p)) => format!("{n} ({:.1})", n as f64 * entropy(p)),
                _ => table::candidates(n),
            };
            let cells = cells.map(|needed| cell(needed.quantile(0.9)));
            table.add_row([size.to_string(), ratio.to_string()].into_iter().chain(cells));
        }
    }
    format!(
        "n of 90 % of {} draws, in brackets n · H(k/n): by size of subsets, ε/η and η\n{table}\n",
        found.config.trials
    )
}

fn tables(found: &RequiredCandidates) -> String {
    let RequiredCandidates { config, backend, threads, seconds, needed } = found;
    let size = match config.size[..] {
        [SubsetSize::Exactly(size)] => format!(" by subsets of {size}"),
        [SubsetSize::Fraction(fraction)] => format!(" by subsets of {fraction} n"),
        _ => String::new(),
    };
    let paper = needed.iter().any(|needed| needed.paper().is_some());
    let header =
        ["ε/η".to_owned()].into_iter().chain(config.eta.iter().map(|&eta| format!("η = {}", number(eta))));
    let mut quantiles = numbers(header);
    let etas = config.eta.len();
    for (row, &ratio) in config.ratio.iter().enumerate() {
        let cell = |column: usize| {
            let needed = &needed[column * config.ratio.len() + row];
            let ours =
                [0.5, 0.9, 0.99].map(|quantile| table::candidates(needed.quantile(quantile))).join(" ");
            match needed.paper() {
                Some(paper_n) => format!("{ours} [{paper_n}]"),
                None => ours,
            }
        };
        quantiles.add_row([format!("{ratio}")].into_iter().chain((0..etas).map(cell)));
    }
    let mut fits = String::new();
    if etas > 1 {
        let mut slopes = numbers(["ε/η", "candidates per decade of 1/η", "paper"]);
        for &ratio in &config.ratio {
            let slope =
                |paper| or_dash(found.slope_per_decade(ratio, paper).map(|slope| format!("{slope:.2}")));
            let [ours, theirs] = [false, true].map(slope);
            slopes.add_row([format!("{ratio}"), ours, theirs]);
        }
        fits += &format!("{slopes}\n");
    }
    let [from, to] = found.ratio_range();
    if from < to {
        let fall = format!("candidates fewer at ε/η = {to} than at {from}");
        let mut falls = numbers(["η", &fall, "paper"]);
        for &eta in &config.eta {
            let [ours, theirs] = [false, true].map(|paper| or_dash(found.fall(eta, paper)));
            falls.add_row([number(eta), ours, theirs]);
        }
        fits += &format!("{falls}\n");
    }
    format!(
        "Candidates needed for {} in [-1/2, 1/2]{size}: 50, 90 and 99 % of {} draws{}; seed {}; backend {backend}, threads \
         {threads}, {seconds:.1} s\n{quantiles}\n{fits}",
        if config.criterion == Criterion::Every { "every target" } else { "one random target" },
        config.trials,
        if paper { " [the paper's plot]" } else { "" },
        config.seed,
    )
}
