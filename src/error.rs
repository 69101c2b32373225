//! Errors of a run.
//!
//! A module with its own errors converts them by `From` into [`Error::Input`] or [`Error::Failed`]; so this module imports no
//! other.

use std::error::Error as StdError;
use std::fmt::Display;

use slth_data::FileError;
use slth_kernels::KernelError;
use slth_plot::PlotError;
use thiserror::Error;

/// Why a run, or part of one, failed.
///
/// ```
/// use slth::{Error, data::{Dataset, DatasetError}};
/// let error = Error::from(Dataset::load("/nowhere").unwrap_err());
/// assert!(error.is_bad_input());
/// // The room's own error is inside.
/// assert!(matches!(&error, Error::Input(inner) if inner.is::<DatasetError>()));
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A value of the configuration is invalid, by itself or for this data set.
    #[error("{field}: {problem}")]
    Config {
        /// The field of the configuration; the command line's flag is called the same.
        field: &'static str,
        /// What is wrong, with the value found.
        problem: String,
    },
    /// The requested instruction set is not available.
    #[error("backend: {0}")]
    Backend(KernelError),
    /// A file or directory that the caller named cannot be used: data, a ticket, a store.
    #[error(transparent)]
    Input(Box<dyn StdError + Send + Sync>),
    /// A failure that is not the caller's fault: the disk is full, a check failed.
    #[error(transparent)]
    Failed(Box<dyn StdError + Send + Sync>),
    /// The progress watcher stopped the training.
    #[error("stopped before the end")]
    Stopped,
    /// Numbers became infinite or NaN while training.
    #[error(
        "{phase} diverged in epoch {epoch}: {what} is not finite; try a lower learning rate or weight decay"
    )]
    Diverged {
        /// The phase.
        phase: &'static str,
        /// The epoch, from 1.
        epoch: usize,
        /// The name of the infinite or NaN value.
        what: &'static str,
    },
    /// A network's outputs are infinite or NaN: it has no accuracy.
    #[error(
        "the network's outputs are infinite or NaN: its weights are too large; try a smaller --init-scale or learning rate, or check --weights"
    )]
    NotFinite,
    /// The threads could not be started.
    #[error("cannot start {threads} threads: {reason}; give fewer --threads")]
    Threads {
        /// Number of threads requested.
        threads: usize,
        /// The system's message.
        reason: String,
    },
    /// A kernel refuses its arguments.
    #[error(transparent)]
    Kernel(KernelError),
}

impl From<KernelError> for Error {
    fn from(error: KernelError) -> Self {
        match error {
            KernelError::UnknownBackend { .. } | KernelError::UnavailableBackend { .. } => {
                Self::Backend(error)
            }
            _ => Self::Kernel(error),
        }
    }
}

impl<P: StdError + Send + Sync + 'static> From<FileError<P>> for Error {
    fn from(error: FileError<P>) -> Self {
        Self::input(error)
    }
}

impl From<PlotError> for Error {
    fn from(error: PlotError) -> Self {
        Self::failed(error)
    }
}

impl Error {
    /// An error of the configuration's field `field`.
    pub(crate) fn config(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Config { field, problem: problem.into() }
    }

    /// Checks the configuration's field `field`: an error that says what it `must` and what it `is` unless it `holds`.
    pub(crate) fn check(
        field: &'static str,
        holds: bool,
        must: impl Display,
        is: impl Display,
    ) -> Result<(), Self> {
        if holds { Ok(()) } else { Err(Self::config(field, format!("must {must}, but is {is}"))) }
    }

    /// An error of a module that is the caller's fault.
    pub fn input(error: impl StdError + Send + Sync + 'static) -> Self {
        Self::Input(Box::new(error))
    }

    /// Another error of a module.
    pub fn failed(error: impl StdError + Send + Sync + 'static) -> Self {
        Self::Failed(Box::new(error))
    }

    /// Whether the caller's input is at fault (configuration, data, ticket, a place that cannot be written to) rather
    /// than the run itself.
    pub fn is_bad_input(&self) -> bool {
        matches!(self, Self::Config { .. } | Self::Backend(_) | Self::Input(_))
    }
}
