//! Errors of a store of cells.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::output::OutputError;

/// Why a store cannot be used. Each message names the file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The directory or file cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The directory has no store.
    #[error("{}: no cells*.jsonl there; `slth sweep --out` writes them", .0.display())]
    Missing(PathBuf),
    /// The directory has neither a sweep's store nor a run's curves.
    #[error("{}: no cells*.jsonl or history.csv there; `slth sweep --out` and `slth run --out` write them", .0.display())]
    NothingToReport(PathBuf),
    /// The directory has stores, but all their cells failed.
    #[error("{}: nothing to report: all {cells} cells failed; see `slth status`, then `slth sweep --retry-failed`", directory.display())]
    NoneDone {
        /// The directory.
        directory: PathBuf,
        /// Number of cells, all of which failed.
        cells: usize,
    },
    /// Another process is writing to this file.
    #[error("{}: another process is writing there; wait for it or choose another directory", .0.display())]
    Locked(PathBuf),
    /// A line cannot be parsed.
    #[error("{}, line {line}: {problem}", file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// The cells have another configuration.
    #[error("{}: cells of another configuration: {differences}; choose another directory", file.display())]
    OtherConfiguration {
        /// The file.
        file: PathBuf,
        /// What differs.
        differences: String,
    },
    /// A cell occurs twice, with different results.
    #[error("{} and {}: different results of one cell ({cell}): {differences}", one.display(), other.display())]
    Conflict {
        /// A file.
        one: PathBuf,
        /// The other; may be the same.
        other: PathBuf,
        /// Which cell.
        cell: String,
        /// What differs.
        differences: String,
    },
    /// The directory cannot be created, the file cannot be opened for writing, or `sweep.json` cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// Appending failed; the store is as it was before.
    #[error("{}: cannot write: {source}; what was computed before is kept, the same command continues", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl StoreError {
    /// Whether the choice of the directory is at fault, rather than a later failure.
    pub fn is_bad_input(&self) -> bool {
        match self {
            Self::Write { .. } => false,
            Self::Output(error) => error.is_bad_input(),
            _ => true,
        }
    }
}

impl From<StoreError> for crate::Error {
    fn from(error: StoreError) -> Self {
        if error.is_bad_input() { Self::input(error) } else { Self::failed(error) }
    }
}
