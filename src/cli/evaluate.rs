//! `slth evaluate`.

use std::path::PathBuf;

use clap::Args;
use slth::Error;
use slth::data::NormalisationRule;
use slth::progress::NoProgress;
use slth::run::{Experiment, RunConfig, Ticket};

use super::shared::{DataArguments, MachineArguments, NetworkArguments};

/// Test accuracy of a saved ticket, or of a trained network.
///
/// Of a ticket: walks the kept weights only; gives exactly the pruned test accuracy of the run's result.json.
#[derive(Args)]
#[command(args_override_self = true)]
pub(super) struct EvaluateArguments {
    /// The ticket.safetensors of a run
    #[arg(long, value_name = "FILE", required_unless_present = "weights", conflicts_with_all = ["weights", "map", "network", "normalize"])]
    ticket: Option<PathBuf>,

    #[command(flatten)]
    network: NetworkArguments,

    /// How a pixel x becomes an input of --weights, as in a run
    #[arg(long, value_name = "mean-std|unit|MEAN,STD", help_heading = "Data", default_value_t)]
    normalize: NormalisationRule,

    #[command(flatten)]
    data: DataArguments,

    #[command(flatten)]
    machine: MachineArguments,
}

/// Evaluates; the text is one line for standard output.
pub(super) fn evaluate(arguments: &EvaluateArguments) -> Result<String, Error> {
    let EvaluateArguments { ticket, network, normalize, data, machine } = arguments;
    let (threads, backend) = machine.chosen()?;
    let found = if let Some(ticket) = ticket {
        Ticket::read(ticket)?.evaluate(&data.dataset()?, backend, threads)?
    } else {
        let as_it_is =
            RunConfig { pretrain_epochs: 0, validation: 0, normalize: *normalize, ..RunConfig::default() };
        let (config, dataset) = (network.of(as_it_is)?, data.dataset()?);
        let (_, dense) = Experiment::new(&config, &dataset, machine.engine()?)?.pretrain(&NoProgress)?;
        dense.test
    };
    Ok(format!("test accuracy {:?} ({} of {} images)\n", found.accuracy(), found.correct, found.images))
}
