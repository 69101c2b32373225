//! `slth run`.

use std::path::PathBuf;

use clap::Args;
use comfy_table::Table;
use slth::Error;
use slth::flags::number;
use slth::run::{Checkpoints, Outcome, RunConfig, RunDirectory, TicketKind};
use slth::training::{Evaluation, Pattern, PruneMethod, Timing};

use super::note_without_effect;
use super::progress::progress;
use super::shared::{DataArguments, MachineArguments, OutputArguments, SettingArguments};
use super::table::{kept, numbers, or_dash};

/// Pretrain a random network, or a trained one of --weights, prune it, report the accuracy before and after.
///
/// Everything is checked before the work starts. A table goes to standard output, progress to standard error, with --out also
/// result.json, ticket.safetensors, history.csv (every epoch) and history.svg (its curves) into that directory. Exit code 2: bad
/// flags, data or output directory; 1: the run itself failed. If a flag is repeated, the last one counts.
#[derive(Args)]
#[command(args_override_self = true)]
pub(super) struct RunArguments {
    /// Take all settings from this result.json; flags on the command line override them. Give --data again
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    /// How far pretraining may move any weight or bias from where it was drawn, 0 to inf: 0 is no pretraining, inf is ordinary SGD
    #[arg(long, value_name = "F", help_heading = "Pretraining", allow_negative_numbers = true, value_parser = number::<f32>, default_value_t = RunConfig::default().epsilon)]
    epsilon: f32,

    /// The fraction of each layer's weights REMOVED, at least 0 and below 1: int(s * n) of n weights go. With 0 nothing is
    /// removed, and pruning is skipped [default: 0.5, or what --pattern removes]
    #[arg(long, value_name = "F", help_heading = "Pruning", allow_negative_numbers = true, value_parser = number::<f64>)]
    sparsity: Option<f64>,

    /// Seed of all random numbers
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = RunConfig::default().seed)]
    seed: u64,

    #[command(flatten)]
    data: DataArguments,

    #[command(flatten)]
    setting: SettingArguments,

    #[command(flatten)]
    machine: MachineArguments,

    /// What ticket.safetensors holds, which --out writes; `slth evaluate` reads both kinds
    #[arg(long, value_name = "KIND", help_heading = "Output", default_value = "full")]
    ticket: TicketKind,

    #[command(flatten)]
    output: OutputArguments,

    /// Write the state of the run to checkpoint.slth in --out after every epoch
    #[arg(long, help_heading = "Output", requires = "out")]
    checkpoint: bool,

    /// Go on from the checkpoint in --out, where there is one, to the same bits as an uninterrupted run; writes checkpoints too
    #[arg(long, help_heading = "Output", requires = "out")]
    resume: bool,
}

/// Runs; the text is the table for standard output.
pub(super) fn run(arguments: RunArguments) -> Result<String, Error> {
    let RunArguments { epsilon, sparsity, seed, data, setting, machine, ticket, output, .. } = arguments;
    let (checkpoint, resume) = (arguments.checkpoint, arguments.resume);
    let (threads, backend) = machine.chosen()?;
    let setting = setting.config()?;
    let removed = || setting.pattern.map_or(RunConfig::default().sparsity, Pattern::sparsity);
    let sparsity = sparsity.unwrap_or_else(removed);
    let config = RunConfig { epsilon, sparsity, seed, threads, backend, ..setting };
    config.validate()?;
    let dataset = data.dataset()?;
    config.check(&dataset)?;
    note_without_effect(&config);
    let checkpoints =
        if resume { Some(Checkpoints::Resume) } else { checkpoint.then_some(Checkpoints::Write) };
    let progress = progress(output.quiet);
    let outcome = match &output.out {
        None => slth::run::run(&config, &dataset, progress.as_ref())?,
        Some(path) => {
            let directory = RunDirectory::prepare(path, output.force, checkpoints)?.with_ticket(ticket);
            directory.run(&config, &dataset, progress.as_ref())?
        }
    };
    Ok(table(&outcome))
}

/// Layers, accuracies, times.
fn table(outcome: &Outcome) -> String {
    let Outcome { config, backend, threads, .. } = outcome;
    format!(
        "{} {}, ε = {}, sparsity {} (fraction REMOVED), {}seed {}; backend {backend}, threads {threads}\n{}\n{}\n",
        config.network,
        config.init,
        config.epsilon,
        config.sparsity,
        if config.method == PruneMethod::EdgePopup { String::new() } else { format!("{}, ", config.method) },
        config.seed,
        layers(outcome),
        accuracies(outcome),
    )
}

fn layers(outcome: &Outcome) -> Table {
    let layers = (1..).zip(&outcome.layers);
    kept("layer", layers.map(|(index, l)| (usize::to_string(&index), l.shape.dimensions(), &l.mask)))
}

fn accuracies(outcome: &Outcome) -> Table {
    let mut table = numbers(["network", "validation", "test", "epochs", "seconds", "images/s"]);
    let (dense, pruned) = (&outcome.pretrain, &outcome.prune);
    let name = match outcome.config.weights {
        _ if dense.timing.epochs > 0 => "dense, pretrained",
        Some(_) => "dense, as given",
        None => "dense, untrained",
    };
    for (name, validation, test, timing) in [
        (name, dense.validation, dense.test, dense.timing),
        ("pruned", pruned.validation, pruned.test, pruned.timing),
    ] {
        let Timing { epochs, seconds, images_per_second } = timing;
        table.add_row([
            name.to_owned(),
            or_dash(validation.map(percent)),
            percent(test),
            epochs.to_string(),
            format!("{seconds:.2}"),
            format!("{images_per_second:.0}"),
        ]);
    }
    table
}

fn percent(evaluation: Evaluation) -> String {
    format!("{:.2} %", 100.0 * evaluation.accuracy())
}
