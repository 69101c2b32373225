//! What is measured, and what came out.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Kernel;

/// A task, the same for all its contestants. Scripts for peers outside Rust write the same fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// The kernel, or the pipeline.
    pub kernel: Kernel,
    /// What it does, as `forward`.
    pub operation: String,
    /// Masked matmul: batch, inputs, outputs. Top-k: scores. Subset sum: candidates. Pipeline: the widths of the network.
    pub shape: Vec<usize>,
    /// The fraction of weights or scores removed, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sparsity: Option<f64>,
    /// How far a candidate may be moved, where it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shape, between) = (&self.shape, if self.kernel == Kernel::Pipeline { "-" } else { "x" });
        let shape = shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(between);
        write!(f, "{} {} {shape}", self.kernel, self.operation)?;
        self.sparsity.map_or(Ok(()), |sparsity| write!(f, " s={sparsity}"))?;
        self.epsilon.map_or(Ok(()), |epsilon| write!(f, " ε={epsilon}"))
    }
}

/// What a contestant is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// This project's.
    Ours,
    /// Somebody else's.
    Peer,
    /// What the machine allows: the same work without what makes it hard.
    Limit,
}

/// What work is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Floating-point operations that count: 2 · kept · batch in a product.
    Flop,
    /// Cycles of the clock.
    Cycle,
    /// Weights compressed.
    Weight,
    /// Scores selected from.
    Score,
    /// Targets whose nearest subset was found.
    Target,
    /// Sums of subsets looked at.
    Sum,
    /// Steps of training.
    Step,
    /// Epochs of training, or cells of a sweep.
    Piece,
}

/// How long a contestant took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The task.
    #[serde(flatten)]
    pub task: Task,
    /// Whose code: `slth` and which of its ways, a peer's name, or which limit.
    pub who: String,
    /// Ours, a peer, or a limit.
    pub role: Role,
    /// The instruction set, where it was chosen by us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Threads.
    pub threads: usize,
    /// What `work` is counted in.
    pub unit: Unit,
    /// Work of one run.
    pub work: f64,
    /// Median time of one run.
    pub seconds: f64,
    /// The least: other work on the machine only ever adds.
    pub least: f64,
    /// The lower and upper quartile.
    pub quartiles: [f64; 2],
    /// How many times it was measured.
    pub rounds: usize,
}

impl Measurement {
    /// Work per second.
    pub fn rate(&self) -> f64 {
        self.work / self.seconds
    }

    /// Half the distance of the quartiles over the median.
    pub fn spread(&self) -> f64 {
        (self.quartiles[1] - self.quartiles[0]) / 2.0 / self.seconds
    }

    /// Whether both are of the same contestant in the same task.
    pub fn is_of_same(&self, other: &Self) -> bool {
        let who = |m: &Self| (m.who.clone(), m.role, m.backend.clone(), m.threads);
        self.task == other.task && who(self) == who(other)
    }
}
