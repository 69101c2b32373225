//! `slth approximate`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use slth::Error;
use slth::approximate::{
    ApproximateConfig, ApproximateOutcome, ApproximationResult, Approximator, Check, Draw, Target,
};

use super::progress::progress;
use super::shared::{DataArguments, MachineArguments, OutputArguments};
use super::table::numbers;

/// Rebuild a trained network from random candidates by subset sums.
///
/// Each weight becomes the sum of a subset of n random candidates, uniform between the network's least and largest weight;
/// each candidate may be moved by epsilon. Reports how near the weights come and the accuracy before and after. With
/// several epsilons also the smallest n for each at which no weight fails. With --out writes approximation.json, the
/// approximated network as safetensors and, with several epsilons, the plot of the smallest n.
#[derive(Args)]
#[command(args_override_self = true)]
pub(super) struct ApproximateArguments {
    /// A fully connected network without biases: safetensors, one matrix [outputs, inputs] per layer, layers in the natural
    /// order of their names [default: trains 784-500-10; with --construction relu: draws 16-8-4]
    #[arg(long, value_name = "FILE", help_heading = "Target")]
    target: Option<PathBuf>,

    #[command(flatten)]
    data: DataArguments,

    #[command(flatten)]
    config: ApproximateConfig,

    /// Build the theorem's network instead: 2n hidden ReLU units per weight, all drawn for it alone, masked and perturbed;
    /// for small targets
    #[arg(long, value_name = "KIND", help_heading = "Approximation", conflicts_with = "draw")]
    construction: Option<ConstructionKind>,

    /// Verify every subset against the optimum found in f64
    #[arg(long, help_heading = "Approximation", conflicts_with = "construction")]
    check: bool,

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
    let ApproximateArguments { target, config, data, construction, output, check, machine } = arguments;
    let (threads, backend) = machine.chosen()?;
    let draw = if construction.is_some() { Draw::PerWeight } else { config.draw };
    let config = ApproximateConfig { draw, threads, backend, ..config };
    config.validate()?;
    let given = target.as_ref().map(Target::read).transpose()?;
    let watch = progress(output.quiet);
    let names = ApproximateOutcome::file_names(&config, construction.is_some());
    let (outcome, out, text) = if construction.is_some() {
        let data = data.given().transpose()?;
        let target = given.unwrap_or_else(|| Target::draw("16-8-4".parse().expect("a network"), config.seed));
        let approximator = Approximator::new(&config, &target)?;
        data.as_ref().map_or(Ok(()), |data| approximator.fits(data))?;
        let out = output.prepare(&names)?;
        let outcome = approximator.construct_all(data.as_ref(), watch.as_ref())?;
        let text = construction_text(&outcome.result);
        (outcome, out, text)
    } else {
        let data = data.dataset()?;
        if let Some(target) = &given {
            Approximator::new(&config, target)?.fits(&data)?;
        }
        let out = output.prepare(&names)?;
        let target = match given {
            Some(target) => target,
            None => Target::train(&config, &data, watch.as_ref())?,
        };
        let outcome = Approximator::new(&config, &target)?.approximate_all(&data, check, watch.as_ref())?;
        let text = approximation_text(&outcome);
        (outcome, out, text)
    };
    if let Some(out) = out {
        out.write(&outcome.files()?)?;
    }
    Ok(text)
}

fn approximation_text(outcome: &ApproximateOutcome) -> String {
    let ApproximateOutcome { result, checks, .. } = outcome;
    let ApproximationResult { network, backend, threads, configuration: config, .. } = result;
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
    format!(
        "{network} from {} candidates per weight, drawn {}, η = {}, seed {}; backend {backend}, threads {threads}\n{}\n\
         {checked}published (Pensia et al. 2020, 784-500-10, 21 per row, ε = 0): kept 44.7 %, 97.19 % before and after, \
         77266 s on 36 cores\n",
        config.candidates_per_weight(),
        config.draw,
        config.eta,
        config.seed,
        table(result),
    )
}

fn construction_text(result: &ApproximationResult) -> String {
    let ApproximationResult { network, backend, threads, configuration: config, .. } = result;
    let mut networks = numbers(["ε", "network", "weights", "kept", "max |difference|", "max |output|"]);
    for row in &result.construction {
        networks.add_row([
            row.epsilon.to_string(),
            row.network.clone(),
            row.weights.to_string(),
            row.kept.to_string(),
            format!("{:.2e}", row.max_difference),
            format!("{:.3}", row.max_output),
        ]);
    }
    format!(
        "{network} as a masked, perturbed network of 2 · {} ReLU units per weight, η = {}, seed {}; backend {backend}, \
         threads {threads}\n{}\noutputs on {} random inputs in [-1, 1], beside the target's\n{networks}\n",
        config.candidates_per_weight(),
        config.eta,
        config.seed,
        table(result),
        result.construction.first().map_or(0, |row| row.probes),
    )
}

fn table(result: &ApproximationResult) -> comfy_table::Table {
    let mut header =
        vec!["ε", "weights", "kept", "of", "max residual", "mean", "failed", "before", "after", "seconds"];
    if !result.smallest.is_empty() {
        header.push("smallest n");
    }
    let mut table = numbers(header);
    let percent =
        |fraction: Option<f64>| fraction.map_or_else(|| "-".to_owned(), |x| format!("{:.2} %", 100.0 * x));
    for (index, row) in result.results.iter().enumerate() {
        let mut cells = vec![
            row.epsilon.to_string(),
            row.weights.to_string(),
            percent(Some(row.kept_fraction())),
            row.candidates_total.to_string(),
            format!("{:.2e}", row.max_residual),
            format!("{:.2e}", row.mean_residual),
            row.failed.to_string(),
            percent(row.accuracy_before),
            percent(row.accuracy_after),
            format!("{:.2}", row.seconds),
        ];
        if let Some(smallest) = result.smallest.get(index) {
            cells.push(smallest.candidates_per_weight.map_or_else(|| ">30".to_owned(), |n| n.to_string()));
        }
        table.add_row(cells);
    }
    table
}
