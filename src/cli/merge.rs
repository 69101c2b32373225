//! `slth merge`.

use std::path::PathBuf;

use clap::Args;
use slth::Error;

/// Merge the cells of several sweeps into one cells.jsonl.
///
/// Adds the cells that OUT lacks; a second merge adds nothing. Different results of one cell are an error, and nothing is added.
#[derive(Args)]
pub(super) struct MergeArguments {
    /// Directory to write to; may be one of the others, or have cells already
    out: PathBuf,

    /// Directories to read: those with cells*.jsonl
    #[arg(required = true, value_name = "DIR")]
    directories: Vec<PathBuf>,
}

/// Merges; the text is one line for standard output.
pub(super) fn merge(arguments: &MergeArguments) -> Result<String, Error> {
    let added = slth::sweep::merge(&arguments.out, &arguments.directories)?;
    Ok(format!("{added} cells added to {}\n", arguments.out.join("cells.jsonl").display()))
}
