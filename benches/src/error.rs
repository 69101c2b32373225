//! What can go wrong in a benchmark.

use std::io;
use std::path::{Path, PathBuf};

use slth::plot::PlotError;
use slth_kernels::KernelError;
use thiserror::Error;

/// Why nothing was measured, or a recording cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A flag's value makes no sense.
    #[error("--{flag}: {problem}")]
    Flag {
        /// The flag.
        flag: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A contestant does not do what it is timed for.
    #[error("{task}: the result of {who} is wrong")]
    WrongResult {
        /// The task.
        task: String,
        /// Whose result.
        who: String,
    },
    /// The threads could not be started.
    #[error("cannot start {threads} threads: {reason}")]
    Threads {
        /// How many.
        threads: usize,
        /// What the system said.
        reason: String,
    },
    /// A script of a peer failed.
    #[error("{script}: {problem}")]
    Script {
        /// The script.
        script: String,
        /// What happened.
        problem: String,
    },
    /// A file or directory cannot be read or written.
    #[error("{}: {source}", file.display())]
    File {
        /// The file or directory.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is such a recording.
    #[error("{}: exists already; --force replaces it", file.display())]
    Exists {
        /// The recording.
        file: PathBuf,
    },
    /// A line of a recording cannot be understood.
    #[error("{}, line {line}: {problem}", file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// A recording holds no rows.
    #[error("{}: no measurements in it; `slth-bench --save` records some", file.display())]
    Empty {
        /// The file.
        file: PathBuf,
    },
    /// Nothing was measured in both.
    #[error("{} and {}: nothing was measured in both", one.display(), other.display())]
    NothingInCommon {
        /// One.
        one: PathBuf,
        /// The other.
        other: PathBuf,
    },
    /// A page has no place for its tables, or wants those of an unknown CPU.
    #[error("{}: {problem}", file.display())]
    Page {
        /// The page.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A generated file is not what the recordings give.
    #[error("{}: not in step with the recordings; run `slth-bench {command}`", file.display())]
    OutOfStep {
        /// The file.
        file: PathBuf,
        /// What writes it anew.
        command: &'static str,
    },
    /// A chart cannot be drawn.
    #[error(transparent)]
    Plot(#[from] PlotError),
    /// The pipeline refuses its configuration, or training failed.
    #[error(transparent)]
    Pipeline(#[from] slth::Error),
    /// A kernel refuses its arguments.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

impl Error {
    /// For the file that an operation of the system failed for.
    pub(crate) fn of(file: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::File { file: file.to_owned(), source }
    }

    /// Whether the caller's input is at fault rather than the measurement.
    pub fn is_bad_input(&self) -> bool {
        !matches!(
            self,
            Self::WrongResult { .. }
                | Self::Threads { .. }
                | Self::OutOfStep { .. }
                | Self::Plot(_)
                | Self::Pipeline(_)
                | Self::Kernel(_)
        )
    }
}
