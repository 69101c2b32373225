//! What can go wrong in a run.

use slth_kernels::KernelError;
use thiserror::Error;

use crate::approximate::TargetError;
use crate::data::DatasetError;
use crate::output::OutputError;
use crate::plot::PlotError;
use crate::run::TicketError;
use crate::sweep::StoreError;

/// Why a run, or part of one, failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A value of the configuration makes no sense, by itself or for this data set.
    #[error("{field}: {problem}")]
    Config {
        /// The field of [`RunConfig`](crate::run::RunConfig); the command line's flag is called the same.
        field: &'static str,
        /// What is wrong, with the value found.
        problem: String,
    },
    /// The data cannot be read.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The instruction set asked for is not to be had.
    #[error("backend: {0}")]
    Backend(KernelError),
    /// A saved ticket cannot be read.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// A network to approximate cannot be read.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Subsets are further from the optimum than they may be.
    #[error("{beyond} of {subsets} subsets are not optimal in f64, the worst by {max_excess:e}")]
    NotOptimal {
        /// How many.
        beyond: usize,
        /// Of how many.
        subsets: usize,
        /// The largest residual beyond the optimum.
        max_excess: f64,
    },
    /// The results cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The store of a sweep cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Whoever watched the training asked for its end.
    #[error("stopped before the end")]
    Stopped,
    /// Numbers left the range of f32 while training.
    #[error(
        "{phase} diverged in epoch {epoch}: {what} is not finite; try a lower learning rate or weight decay"
    )]
    Diverged {
        /// The phase.
        phase: crate::training::Phase,
        /// The epoch, from 1.
        epoch: usize,
        /// What is infinite or NaN.
        what: &'static str,
    },
    /// A network's outputs are infinite or NaN: it has no accuracy.
    #[error("the network's outputs are not finite: its weights are too large")]
    NotFinite,
    /// The threads could not be started.
    #[error("cannot start {threads} threads: {reason}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// What the system said.
        reason: String,
    },
    /// A picture cannot be made.
    #[error(transparent)]
    Plot(#[from] PlotError),
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

impl Error {
    /// An error of the configuration's field `field`.
    pub(crate) fn config(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Config { field, problem: problem.into() }
    }

    /// Whether the caller's input is at fault (configuration, data, ticket, a place that cannot be written to) rather
    /// than the run itself.
    pub fn is_bad_input(&self) -> bool {
        match self {
            Self::Config { .. } | Self::Dataset(_) | Self::Backend(_) | Self::Ticket(_) | Self::Target(_) => {
                true
            }
            Self::Output(error) => error.is_bad_input(),
            Self::Store(error) => error.is_bad_input(),
            Self::Plot(_)
            | Self::Stopped
            | Self::Diverged { .. }
            | Self::NotFinite
            | Self::Threads { .. }
            | Self::NotOptimal { .. }
            | Self::Kernel(_) => false,
        }
    }
}
