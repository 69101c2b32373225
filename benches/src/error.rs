//! Errors of a benchmark.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a measurement failed, or a recording cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A flag's value is invalid.
    #[error("--{flag}: {problem}")]
    Flag {
        /// The flag.
        flag: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A file cannot be read or written, or is not what it should be.
    #[error("{}: {problem}", file.display())]
    File {
        /// The file or directory.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A generated file differs from its recordings.
    #[error("{}: not in step with the recordings; run `slth-bench {command}`", file.display())]
    OutOfStep {
        /// The file.
        file: PathBuf,
        /// The command that generates it.
        command: &'static str,
    },
    /// A contestant's result is wrong.
    #[error("{task}: the result of {who} is wrong")]
    WrongResult {
        /// The task.
        task: String,
        /// The contestant.
        who: String,
    },
    /// The threads could not be started.
    #[error(transparent)]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// A chart cannot be drawn.
    #[error(transparent)]
    Plot(#[from] slth::plot::PlotError),
    /// The pipeline refuses its configuration, or training failed.
    #[error(transparent)]
    Pipeline(#[from] slth::Error),
    /// A kernel refuses its arguments.
    #[error(transparent)]
    Kernel(#[from] slth_kernels::KernelError),
}

impl Error {
    pub(crate) fn flag(flag: &'static str, problem: impl Into<String>) -> Self {
        Self::Flag { flag, problem: problem.into() }
    }

    pub(crate) fn file(file: &Path, problem: impl Display) -> Self {
        Self::File { file: file.to_owned(), problem: problem.to_string() }
    }

    /// Whether the caller's input is at fault rather than the measurement.
    pub fn is_bad_input(&self) -> bool {
        matches!(self, Self::Flag { .. } | Self::File { .. })
    }
}
