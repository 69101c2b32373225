//! `slth evaluate`.

use std::path::PathBuf;

use clap::Args;
use slth::Error;
use slth::run::Ticket;

use super::{backend, dataset};

/// Test accuracy of a saved ticket.
///
/// Walks the kept weights only; gives exactly the pruned test accuracy of the run's result.json.
#[derive(Args)]
#[command(args_override_self = true)]
pub(super) struct EvaluateArguments {
    /// The ticket.safetensors of a run
    #[arg(long, value_name = "FILE")]
    ticket: PathBuf,

    /// Directory with the IDX files, as for `slth run` [default: the built-in MNIST]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Instruction set, as listed by `slth info`; does not change the result [default: $SLTH_BACKEND, else the best]
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,

    /// Number of threads; does not change the result [default: all cores]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    threads: Option<usize>,
}

/// Evaluates; the text is one line for standard output.
pub(super) fn evaluate(arguments: &EvaluateArguments) -> Result<String, Error> {
    let backend = backend(arguments.backend.as_deref())?;
    let ticket = Ticket::read(&arguments.ticket)?;
    let dataset = dataset(arguments.data.as_deref())?;
    let found = ticket.evaluate(&dataset, Some(backend), arguments.threads)?;
    Ok(format!("test accuracy {:?} ({} of {} images)\n", found.accuracy(), found.correct, found.images))
}
