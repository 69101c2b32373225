//! `slth run`.

use clap::Args;
use comfy_table::Table;
use slth::Error;
use slth::flags::number;
use slth::run::{Outcome, RunConfig, TicketKind};
use slth::training::{Evaluation, PruneMethod, Timing};

use super::note_without_effect;
use super::progress::progress;
use super::shared::{DataArguments, MachineArguments, OutputArguments, SettingArguments};
use super::table::{kept, numbers};

/// Pretrain a random network, or a trained one of --weights, prune it, report the accuracy before and after.
///
/// Everything is checked before the work starts. A table goes to standard output, progress to standard error, with --out also
/// result.json and ticket.safetensors into that directory. Exit code 2:
/// bad flags, data or output directory; 1: the run itself failed. Of a flag given twice the last counts.
#[derive(Args)]
#[command(args_override_self = true)]
pub(super) struct RunArguments {
    /// The largest change pretraining may make to any weight, 0 to inf: 0 is no pretraining, inf is ordinary SGD
    #[arg(long, value_name = "F", help_heading = "Pretraining", allow_negative_numbers = true, value_parser = number::<f32>, default_value_t = RunConfig::default().epsilon)]
    epsilon: f32,

    /// The fraction of each layer's weights REMOVED, at least 0 and below 1: int(s * n) of n weights go. With 0 nothing is
    /// removed, and pruning is skipped
    #[arg(long, value_name = "F", help_heading = "Pruning", allow_negative_numbers = true, value_parser = number::<f64>, default_value_t = RunConfig::default().sparsity)]
    sparsity: f64,

    /// Seed of all random numbers
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = RunConfig::default().seed)]
    seed: u64,

    #[command(flatten)]
    data: DataArguments,

    #[command(flatten)]
    setting: SettingArguments,

    #[command(flatten)]
    machine: MachineArguments,

    /// What ticket.safetensors has: a compact one is as small as a seed and a mask can be; `slth evaluate` reads both
    #[arg(long, value_name = "KIND", help_heading = "Output", default_value = "full")]
    ticket: TicketKind,

    #[command(flatten)]
    output: OutputArguments,
}

/// Runs; the text is the table for standard output.
pub(super) fn run(arguments: RunArguments) -> Result<String, Error> {
    let RunArguments { epsilon, sparsity, seed, data, setting, machine, ticket, output } = arguments;
    let (threads, backend) = machine.chosen()?;
    let config = RunConfig { epsilon, sparsity, seed, threads, backend, ..setting.config()? };
    config.validate()?;
    let dataset = data.dataset()?;
    config.check(&dataset)?;
    note_without_effect(&config);
    let out = output.prepare(&Outcome::FILES)?;
    let outcome = slth::run::run(&config, &dataset, progress(output.quiet).as_ref())?;
    if let Some(out) = out {
        out.write(&outcome.files(ticket))?;
    }
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
    for (name, validation, test, timing) in [
        ("dense, pretrained", dense.validation, dense.test, dense.timing),
        ("pruned", pruned.validation, pruned.test, pruned.timing),
    ] {
        let Timing { epochs, seconds, images_per_second } = timing;
        table.add_row([
            name.to_owned(),
            validation.map_or_else(|| "-".to_owned(), percent),
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
