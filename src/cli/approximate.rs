//! `slth approximate`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use slth::Error;
use slth::approximate::{
    ApproximateConfig, ApproximateOutcome, ApproximationResult, Approximator, Check, Draw, Target,
};

use slth::tensors::TensorFile;

use super::progress::progress;
use super::shared::{DataArguments, MachineArguments, OutputArguments};
use super::table::{candidates, numbers, or_dash};

/// Rebuild the tensors of a network from random candidates by subset sums.
///
/// Each weight becomes the sum of a subset of n random candidates, uniform between the least and the largest weight; each
/// candidate may be moved by epsilon. Reports how near the weights come and, of a fully connected network without biases,
/// the accuracy before and after. With several epsilons it also reports the smallest n for each at which no weight fails. With --out writes
/// approximation.json, the file with its weights rebuilt (the same names and types) and, with several epsilons, the plot of
/// the smallest n or, of a construction, the hidden units.
#[derive(Args)]
#[command(args_override_self = true)]
pub(super) struct ApproximateArguments {
    /// A safetensors file; its tensors of F16, BF16, F32 and F64 are rebuilt, the others pass through. Accuracy is measured where
    /// it has one matrix [outputs, inputs] per layer, in the natural order of their names, and nothing else
    /// [default: trains 784-500-10; with --construction relu: draws 16-8-4]
    #[arg(long, value_name = "FILE", help_heading = "Target")]
    target: Option<PathBuf>,

    #[command(flatten)]
    data: DataArguments,

    #[command(flatten)]
    config: ApproximateConfig,

    /// Build the theorem's network instead: a hidden layer of 2n ReLU units per input before each layer, masked and perturbed;
    /// also reports the hidden units it takes beside the theorem's
    #[arg(long, value_name = "KIND", help_heading = "Approximation", conflicts_with_all = ["draw", "eta_relative", "candidates_most", "size", "only", "skip", "subsets"])]
    construction: Option<ConstructionKind>,

    /// Verify every subset against the optimum found in f64
    #[arg(long, help_heading = "Approximation", conflicts_with = "construction")]
    check: bool,

    /// Write the subsets too, as subsets.safetensors: n bits for each weight
    #[arg(long, help_heading = "Output", requires = "out")]
    subsets: bool,

    #[command(flatten)]
    output: OutputArguments,

    #[command(flatten)]
    machine: MachineArguments,
}

#[derive(Clone, Copy, ValueEnum)]
enum ConstructionKind {
    Relu,
}

/// Approximates; the text is the tables for standard output.
pub(super) fn approximate(arguments: ApproximateArguments) -> Result<String, Error> {
    let ApproximateArguments { target, config, data, construction, output, subsets, check, machine } =
        arguments;
    let (threads, backend) = machine.chosen()?;
    let draw = if construction.is_some() { Draw::PerWeight } else { config.draw };
    let config = ApproximateConfig { draw, threads, backend, ..config };
    config.validate()?;
    let file = target.map(TensorFile::open).transpose()?;
    let network = file.as_ref().map(Target::of);
    let watch = progress(output.quiet);
    let names = ApproximateOutcome::file_names(&config, subsets);
    let (outcome, out, text) = if construction.is_some() {
        let draw = || Target::draw("16-8-4".parse().expect("a network"), config.seed);
        let (data, target) = (data.given().transpose()?, network.transpose()?.unwrap_or_else(draw));
        data.as_ref().map_or(Ok(()), |data| target.fits(data))?;
        let tensors = target.to_tensors();
        let approximator = Approximator::new(&config, &tensors)?;
        let out = output.prepare(&names)?;
        let outcome = approximator.construct_all(&target, data.as_ref(), watch.as_ref())?;
        let text = construction_text(&outcome.result);
        (outcome, out, text)
    } else {
        let (named, given) = (data.is_given(), network.transpose());
        let data = if named || given.is_ok() { Some(data.dataset()?) } else { None };
        // Data that was named must fit; the built-in images are for what fits them.
        let network = match (given, &data) {
            (Ok(Some(target)), Some(data)) => match target.fits(data) {
                Err(error) if named => return Err(error),
                fits => fits.ok().map(|()| target),
            },
            (Err(error), _) if named => return Err(error.into()),
            _ => None,
        };
        if let Some(file) = &file {
            file.chosen(config.only.as_deref(), config.skip.as_deref())?;
        }
        let out = output.prepare(&names)?;
        let (tensors, network) = if let Some(file) = file {
            (file, network)
        } else {
            let target =
                Target::train(&config, data.as_ref().expect("loaded without a file"), watch.as_ref())?;
            (target.to_tensors(), Some(target))
        };
        let approximator = Approximator::new(&config, &tensors)?;
        let network = network.as_ref().zip(data.as_ref());
        let to = out.as_ref().map(|out| (out, subsets));
        let outcome = approximator.approximate_all(network, check, to, watch.as_ref())?;
        let text = approximation_text(&outcome);
        (outcome, out, text)
    };
    if let Some(out) = out {
        out.write(&outcome.files()?)?;
    }
    Ok(text)
}

/// Of the network with these widths.
const PUBLISHED: &str = "published (Pensia et al. 2020, 784-500-10, 21 per row, ε = 0): kept 44.7 %, 97.19 % before and after, \
                         77266 s on 36 cores\n";

fn approximation_text(outcome: &ApproximateOutcome) -> String {
    let ApproximateOutcome { result, checks, .. } = outcome;
    let ApproximationResult { backend, threads, configuration: config, .. } = result;
    let checked: String = checks
        .iter()
        .zip(&config.epsilon)
        .map(|(Check { subsets, max_excess, .. }, epsilon)| {
            format!(
                "checked: all {subsets} subsets at ε = {epsilon} are optimal in f64 within 2^-22 max(1, Σ|x|), the worst \
                 within {max_excess:.1e}\n"
            )
        })
        .collect();
    let published = if result.network.as_deref() == Some("784-500-10") { PUBLISHED } else { "" };
    format!(
        "{} from {} candidates per weight, drawn {}, η = {}{}, seed {}; backend {backend}, threads {threads}\n{}\n\
         {checked}{published}",
        result.subject(),
        config.candidates_per_weight(),
        config.draw,
        config.eta,
        if config.eta_relative { " of each tensor's largest |weight|" } else { "" },
        config.seed,
        table(result),
    )
}

fn construction_text(result: &ApproximationResult) -> String {
    let ApproximationResult { backend, threads, configuration: config, .. } = result;
    let mut networks = numbers([
        "ε",
        "2n needed",
        "hidden units needed",
        "theorem",
        "network",
        "weights",
        "kept",
        "max |difference|",
        "max |output|",
    ]);
    for row in &result.construction {
        networks.add_row([
            row.epsilon.to_string(),
            or_dash(row.candidates_needed),
            or_dash(row.units_needed),
            format!("{:.0}", row.units_of_theorem),
            row.network.clone(),
            row.weights.to_string(),
            row.kept.to_string(),
            format!("{:.2e}", row.max_difference),
            format!("{:.3}", row.max_output),
        ]);
    }
    format!(
        "{} as a masked, perturbed network of 2 · {} ReLU units per input, η = {}, seed {}; backend {backend}, \
         threads {threads}\n{}\nthe least 2n at which no weight fails; the theorem's hidden units are Σ 2 d₀ log₂(d₁ d₀ L / η) / (1 + ε), its \
         open constant taken as 1;\noutputs on {} random inputs in [-1, 1], beside the target's\n{networks}\n",
        result.subject(),
        config.candidates_per_weight(),
        config.eta,
        config.seed,
        table(result),
        result.construction.first().map_or(0, |row| row.probes),
    )
}

fn table(result: &ApproximationResult) -> comfy_table::Table {
    let mut header = vec![
        "ε",
        "weights",
        "kept",
        "of",
        "n at most",
        "max residual",
        "mean",
        "failed",
        "as written",
        "before",
        "after",
        "seconds",
    ];
    if !result.smallest.is_empty() {
        header.push("smallest n");
    }
    let mut table = numbers(header);
    let percent = |fraction: Option<f64>| or_dash(fraction.map(|x| format!("{:.2} %", 100.0 * x)));
    for (index, row) in result.results.iter().enumerate() {
        let mut cells = vec![
            row.epsilon.to_string(),
            row.weights.to_string(),
            percent(Some(row.kept_fraction())),
            row.candidates_total.to_string(),
            row.candidates_most.to_string(),
            format!("{:.2e}", row.max_residual),
            format!("{:.2e}", row.mean_residual),
            row.failed.to_string(),
            row.failed_as_written.to_string(),
            percent(row.accuracy_before),
            percent(row.accuracy_after),
            format!("{:.2}", row.seconds),
        ];
        if let Some(smallest) = result.smallest.get(index) {
            cells.push(candidates(smallest.candidates_per_weight));
        }
        table.add_row(cells);
    }
    table
}
