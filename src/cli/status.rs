//! `slth status`.

use std::collections::HashSet;
use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use slth::Error;
use slth::sweep::{Cell, Plan, read_cells};

use super::grid;

/// Show how far a sweep is: cells done, failed and missing, and their mean test accuracies.
#[derive(Args)]
pub(super) struct StatusArguments {
    /// The --out of a sweep, which may be running
    directory: PathBuf,
}

/// Returns the text for standard output.
pub(super) fn status(arguments: &StatusArguments) -> Result<String, Error> {
    let cells = read_cells(&arguments.directory)?;
    let failed: Vec<_> = cells.iter().filter_map(Cell::failure).collect();
    let mut text = format!("{} cells done, {} failed", cells.len() - failed.len(), failed.len());
    if let Some(plan) = Plan::read(&arguments.directory) {
        let there: HashSet<_> = cells.iter().map(|cell| cell.id.as_str()).collect();
        let missing = plan.cells().filter(|config| !there.contains(config.id().as_str())).count();
        let _ = write!(text, ", {missing} of the last sweep's {} missing", plan.grid.cells());
    }
    text.push('\n');
    failed.iter().for_each(|line| text.extend(["failed: ", line, "\n"]));
    if !cells.is_empty() {
        text.push_str(&grid::tables(&cells));
    }
    Ok(text)
}
