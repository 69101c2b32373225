//! `slth evaluate`.

use std::path::PathBuf;

use clap::Args;
use slth::Error;
use slth::run::Ticket;

use super::shared::{DataArguments, MachineArguments};

/// Test accuracy of a saved ticket.
///
/// Walks the kept weights only; gives exactly the pruned test accuracy of the run's result.json.
#[derive(Args)]
#[command(args_override_self = true)]
pub(super) struct EvaluateArguments {
    /// The ticket.safetensors of a run
    #[arg(long, value_name = "FILE")]
    ticket: PathBuf,

    #[command(flatten)]
    data: DataArguments,

    #[command(flatten)]
    machine: MachineArguments,
}

/// Evaluates; the text is one line for standard output.
pub(super) fn evaluate(arguments: &EvaluateArguments) -> Result<String, Error> {
    let EvaluateArguments { ticket, data, machine } = arguments;
    let (threads, backend) = machine.chosen()?;
    let ticket = Ticket::read(ticket)?;
    let found = ticket.evaluate(&data.dataset()?, backend, threads)?;
    Ok(format!("test accuracy {:?} ({} of {} images)\n", found.accuracy(), found.correct, found.images))
}
