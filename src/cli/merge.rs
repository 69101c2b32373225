//! `slth merge`.

use std::path::PathBuf;

use clap::Args;
use slth::Error;
use slth::sweep::Merged;

/// Merge the cells of several sweeps into one cells.jsonl.
///
/// Compares cells that are in several directories: different results of one cell are an error, and nothing is added. Adds the
/// cells that OUT lacks; a second merge adds nothing.
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
    let Merged { read, repeated, added } = slth::sweep::merge(&arguments.out, &arguments.directories)?;
    let file = arguments.out.join("cells.jsonl");
    Ok(format!(
        "{added} cells added to {}; {read} read, {repeated} of them for the second time, with the same results\n",
        file.display()
    ))
}
