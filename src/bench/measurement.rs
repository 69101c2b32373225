//! What is measured, and what came out.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Contestant, Kernel};

/// Of a contestant's rounds those count, as undisturbed, that took at most this part longer than the least one, and a fiftieth of
/// them in any case. What else goes on in the machine only ever adds time: the less there is of it, the more rounds count. So the
/// figure is also of the better of several places in memory, and with several threads of the better orders in which they work.
pub const UNDISTURBED: f64 = 0.05;

/// A task, the same for all its contestants. Scripts for peers outside Rust write the same fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// The kernel, or the pipeline.
    pub kernel: Kernel,
    /// What it does, as `forward`.
    pub operation: String,
    /// Masked matmul: batch, inputs, outputs. Convolution: batch, channels, rows, columns. Top-k: scores. Subset sum:
    /// candidates. Pipeline: the widths of the network.
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
        write!(f, "{} {}", self.kernel, self.operation)?;
        if !shape.is_empty() {
            write!(f, " {shape}")?;
        }
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
    /// Images trained with.
    Image,
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
    /// Time of one run: the median of the [undisturbed](UNDISTURBED) rounds.
    pub seconds: f64,
    /// The least.
    pub least: f64,
    /// The lower and upper quartile of all rounds: how disturbed they were.
    pub quartiles: [f64; 2],
    /// How many times it was measured.
    pub rounds: usize,
    /// How many rounds count as undisturbed. Where all count whatever they took, as in older recordings, 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub undisturbed: usize,
    /// The time of one run in each of the rounds, in no order; not in files.
    #[serde(skip)]
    pub times: Vec<f64>,
}

impl Measurement {
    pub(super) fn new(task: &Task, contestant: Contestant, times: Vec<f64>) -> Self {
        let Contestant { who, role, backend, threads, unit, work, .. } = contestant;
        let (task, backend) = (task.clone(), backend.map(str::to_owned));
        let (seconds, least, quartiles, rounds, undisturbed) = (0.0, 0.0, [0.0; 2], 0, 0);
        let row = Self {
            task,
            who,
            role,
            backend,
            threads,
            unit,
            work,
            seconds,
            least,
            quartiles,
            rounds,
            undisturbed,
            times,
        };
        row.with_figures()
    }

    /// The figures that `times` give, to six digits.
    fn with_figures(self) -> Self {
        let mut sorted = self.times.clone();
        sorted.sort_by(f64::total_cmp);
        let least = quantile(&sorted, 0.0);
        let undisturbed = sorted.partition_point(|&time| time <= (1.0 + UNDISTURBED) * least);
        let undisturbed = undisturbed.max(sorted.len() / 50);
        Self {
            seconds: rounded(quantile(&sorted[..undisturbed], 0.5)),
            least: rounded(least),
            quartiles: [0.25, 0.75].map(|q| rounded(quantile(&sorted, q))),
            rounds: sorted.len(),
            undisturbed,
            ..self
        }
    }

    /// This with the rounds of another measurement of the same contestant.
    fn with_rounds_of(mut self, other: &Self) -> Self {
        self.times.extend_from_slice(&other.times);
        self
    }

    /// Work per second.
    pub fn rate(&self) -> f64 {
        self.work / self.seconds
    }

    /// Half the distance of the quartiles of all rounds over the median of those that count.
    pub fn spread(&self) -> f64 {
        (self.quartiles[1] - self.quartiles[0]) / 2.0 / self.seconds
    }

    /// Whether both are of the same contestant in the same task.
    pub fn is_of_same(&self, other: &Self) -> bool {
        let who = |m: &Self| (m.who.clone(), m.role, m.backend.clone(), m.threads);
        self.task == other.task && who(self) == who(other)
    }
}

/// Several passes over a case, the rows of each, as one measurement of all their rounds.
pub fn pool(passes: Vec<Vec<Measurement>>) -> Vec<Measurement> {
    let contestants = passes.first().map_or(0, Vec::len);
    let mut passes: Vec<_> = passes.into_iter().map(Vec::into_iter).collect();
    let of_all = |_| passes.iter_mut().filter_map(Iterator::next).reduce(|a, b| a.with_rounds_of(&b));
    (0..contestants).filter_map(of_all).map(Measurement::with_figures).collect()
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Of sorted numbers, between two of them linearly; 0 of none.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q * sorted.len().saturating_sub(1) as f64;
    let (below, part) = (place as usize, place.fract());
    let at = |i: usize| sorted.get(i).or(sorted.last()).copied().unwrap_or(0.0);
    at(below) + part * (at(below + 1) - at(below))
}

/// To six digits.
fn rounded(x: f64) -> f64 {
    format!("{x:.5e}").parse().unwrap_or(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disturbed_rounds_do_not_count() {
        let row = |who: &str, times: &[f64]| {
            let (kernel, operation) = (Kernel::TopK, "select".to_owned());
            let task = Task { kernel, operation, shape: vec![9], sparsity: None, epsilon: None };
            let contestant = Contestant::new(who, Role::Ours, Unit::Score, 9.0, || {});
            Measurement::new(&task, contestant, times.to_vec())
        };
        let pass = |a: [f64; 3], b: f64| vec![row("a", &a), row("b", &[b])];
        let pooled = pool(vec![pass([1.02, 2.5, 1.7], 14.0), pass([1.0, 1.04, 1.06], 10.0)]);
        let figures =
            |at: usize| (pooled[at].seconds, pooled[at].least, pooled[at].undisturbed, pooled[at].rounds);
        assert_eq!(figures(0), (1.02, 1.0, 3, 6));
        assert_eq!(pooled[0].quartiles, [1.025, 1.54]);
        assert_eq!(figures(1), (10.0, 10.0, 1, 2));
        // One that was lucky does not make the figure.
        let lucky = row("a", &[vec![1.0], vec![2.0; 99]].concat());
        assert_eq!((lucky.seconds, lucky.least, lucky.undisturbed), (1.5, 1.0, 2));
        assert!(pool(Vec::new()).is_empty());
    }

    #[test]
    fn quantiles() {
        assert_eq!(quantile(&[3.0], 0.25), 3.0);
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.5), 2.0);
        assert_eq!(quantile(&[1.0, 2.0, 4.0, 8.0], 0.75), 5.0);
        assert_eq!(rounded(0.000_123_456_789), 0.000_123_457);
    }
}
