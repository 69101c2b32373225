//! `slth ticket`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use slth::Error;
use slth::run::Ticket;

use super::shared::OutputFileArguments;

/// Work on saved tickets.
#[derive(Args)]
#[command(args_override_self = true)]
pub(super) struct TicketArguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write all weights of a ticket, zeros for those removed, as other programs read them
    ///
    /// The safetensors file has layerI.weight and layerI.mask of each layer, and layerI.bias where it has biases. Weights that a compact
    /// ticket leaves out are drawn again by its seed: the same bits on every machine.
    Expand {
        /// The ticket.safetensors of a run, compact or full
        #[arg(value_name = "TICKET")]
        ticket: PathBuf,

        #[command(flatten)]
        output: OutputFileArguments,
    },
}

/// Expands; the text for standard output says what was written.
pub(super) fn ticket(
    TicketArguments { command: Command::Expand { ticket, output } }: &TicketArguments,
) -> Result<String, Error> {
    let out = output.prepare()?;
    let ticket = Ticket::read(ticket)?;
    let (kept, all) = ticket
        .layers
        .iter()
        .fold((0, 0), |(kept, all), layer| (kept + layer.mask.kept(), all + layer.mask.len()));
    if let Some((directory, name)) = out {
        directory.write(&[(name, ticket.expanded())])?;
    }
    Ok(format!("{}, {kept} of {all} weights kept\n", ticket.config.network))
}
