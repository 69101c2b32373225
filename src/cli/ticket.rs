//! `slth ticket`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use slth::Error;
use slth::run::Ticket;

use super::shared::prepare_file;

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

        /// Write the weights to this file
        #[arg(long, value_name = "FILE", help_heading = "Output")]
        out: PathBuf,

        /// Replace the file of --out
        #[arg(long, help_heading = "Output")]
        force: bool,
    },
}

/// Expands; the text for standard output says what was written.
pub(super) fn ticket(
    TicketArguments { command: Command::Expand { ticket, out, force } }: &TicketArguments,
) -> Result<String, Error> {
    let ticket = Ticket::read(ticket)?;
    let (directory, name) = prepare_file(out, *force)?;
    let (kept, all) = ticket
        .layers
        .iter()
        .fold((0, 0), |(kept, all), layer| (kept + layer.mask.kept(), all + layer.mask.len()));
    directory.write(&[(name, ticket.expanded())])?;
    Ok(format!("{}, {kept} of {all} weights kept\n", ticket.config.network))
}
