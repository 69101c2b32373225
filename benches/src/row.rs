//! A contestant's times: a row of a recording.

use std::fmt;

use serde::{Deserialize, Serialize};
use slth_kernels::{Backend, Engine};

use crate::task::{Task, named};

named! {
    /// The role of a contestant.
    Role {
        Ours = "ours",
        Part = "part",
        Peer = "peer",
        Limit = "limit",
    }
}

/// A contestant: with its task, the identity of a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// `slth`, the library of a peer, or the limit.
    pub contestant: String,
    /// The variant, if there are several.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Ours, a peer's, or a limit.
    pub role: Role,
    /// The instruction set, if this program chose it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Threads.
    pub threads: usize,
}

impl Who {
    /// Ours, with the backend and threads of `engine`.
    pub fn ours(engine: Engine) -> Self {
        let backend = Some(engine.backend().name().to_owned());
        Self { backend, ..Self::new("slth", Role::Ours, engine.threads()) }
    }

    /// The library `name`.
    pub fn peer(name: &str, threads: usize) -> Self {
        Self::new(name, Role::Peer, threads)
    }

    /// The limit `name`, by the instructions of `backend`.
    pub fn limit(name: &str, backend: Backend, threads: usize) -> Self {
        let backend = Some(backend.name().to_owned());
        Self { backend, ..Self::new(name, Role::Limit, threads) }
    }

    fn new(name: &str, role: Role, threads: usize) -> Self {
        Self { contestant: name.to_owned(), variant: String::new(), role, backend: None, threads }
    }

    /// Another variant.
    #[must_use]
    pub fn variant(self, variant: &str) -> Self {
        Self { variant: variant.to_owned(), ..self }
    }

    /// Turns this into a part of the work, named `variant`.
    #[must_use]
    pub fn part(self, variant: &str) -> Self {
        Self { role: Role::Part, ..self.variant(variant) }
    }

    /// Library and variant, for display.
    pub fn label(&self) -> String {
        if self.variant.is_empty() {
            self.contestant.clone()
        } else {
            format!("{} {}", self.contestant, self.variant)
        }
    }
}

named! {
    /// What work is counted in.
    Unit {
        Flop = "flop",
        Cycle = "cycle",
        Byte = "byte",
        Weight = "weight",
        Score = "score",
        Target = "target",
        Sum = "sum",
        Step = "step",
        Epoch = "epoch",
        Cell = "cell",
        Image = "image",
    }
}

impl Unit {
    /// How figures are printed: symbol, factor, whether the figure is a rate rather than a time per unit, number of digits.
    fn scale(self) -> (&'static str, f64, bool, usize) {
        match self {
            Self::Flop => ("GFLOP/s", 1e-9, true, 1),
            Self::Cycle => ("GHz", 1e-9, true, 2),
            Self::Byte => ("GB/s", 1e-9, true, 1),
            Self::Sum => ("10⁹ sums/s", 1e-9, true, 1),
            Self::Image => ("1000 images/s", 1e-3, true, 1),
            Self::Weight => ("ns/weight", 1e9, false, 3),
            Self::Score => ("ns/score", 1e9, false, 3),
            Self::Target => ("µs/target", 1e6, false, 2),
            Self::Step => ("ms/step", 1e3, false, 2),
            Self::Epoch => ("s/epoch", 1.0, false, 2),
            Self::Cell => ("ms/cell", 1e3, false, 1),
        }
    }

    /// The unit of printed figures.
    pub fn symbol(self) -> &'static str {
        self.scale().0
    }
}

/// The times of a contestant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The task.
    #[serde(flatten)]
    pub task: Task,
    /// The contestant.
    #[serde(flatten)]
    pub who: Who,
    /// What `work` is counted in.
    pub unit: Unit,
    /// Work of one run.
    pub work: f64,
    /// The least time of one run, in seconds.
    pub min: f64,
    /// The median time of one run, in seconds.
    pub median: f64,
    /// Half the interquartile range over the median.
    pub spread: f64,
    /// Number of samples.
    pub samples: usize,
}

impl Row {
    /// Whether its factors are rounded to bf16; such rows are compared with each other only.
    pub fn is_bf16(&self) -> bool {
        self.who.variant.contains("bf16")
    }

    /// The row of these times of a run, in seconds.
    pub fn new(task: Task, who: Who, unit: Unit, work: f64, mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        let [min, lower, median, upper] = [0.0, 0.25, 0.5, 0.75].map(|q| quantile(&seconds, q));
        let spread = rounded((upper - lower) / 2.0 / median);
        let [min, median] = [min, median].map(rounded);
        Self { task, who, unit, work, min, median, spread, samples: seconds.len() }
    }

    /// Work per second: from the median time, of a limit from its fastest run, because nothing but a disturbance makes it slower.
    pub fn rate(&self) -> f64 {
        self.work / self.time()
    }

    /// Time per unit of work, of the same run.
    pub fn each(&self) -> f64 {
        self.time() / self.work
    }

    fn time(&self) -> f64 {
        if self.who.role == Role::Limit { self.min } else { self.median }
    }

    /// Whether both rows belong to the same contestant in the same task.
    pub fn is_of_same(&self, other: &Self) -> bool {
        self.who == other.who && self.task == other.task
    }

    /// The figure, in the [symbol](Unit::symbol) of its unit.
    pub fn figure(&self) -> String {
        let (_, factor, is_rate, digits) = self.unit.scale();
        format!("{:.digits$}", factor * if is_rate { self.rate() } else { self.each() })
    }
}

/// The row with the highest rate.
pub(crate) fn fastest<'a>(rows: impl Iterator<Item = &'a Row>) -> Option<&'a Row> {
    rows.max_by(|a, b| a.rate().total_cmp(&b.rate()))
}

/// The lowest limit: memory, if it allows less than arithmetic.
pub(crate) fn nearest<'a>(limits: impl Iterator<Item = &'a Row>) -> Option<&'a Row> {
    limits.min_by(|a, b| a.rate().total_cmp(&b.rate()))
}

/// A quantile of sorted numbers, with linear interpolation; NaN if there are no numbers.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q * sorted.len().saturating_sub(1) as f64;
    let (below, part) = (place as usize, place.fract());
    let at = |i: usize| sorted.get(i).or(sorted.last()).copied().unwrap_or(f64::NAN);
    at(below) + part * (at(below + 1) - at(below))
}

/// Rounds to six significant digits.
fn rounded(x: f64) -> f64 {
    format!("{x:.5e}").parse().unwrap_or(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Limit, Roofline};

    #[test]
    fn minimum_median_and_spread() {
        let task = Task::Roofline(Roofline { operation: Limit::Read, bytes: Some(4096) });
        let who = Who::peer("a", 1);
        let row = Row::new(task, who, Unit::Byte, 4096.0, vec![3.0, 1.0, 2.0, 5.0, 4.0]);
        assert_eq!((row.min, row.median, row.spread, row.samples), (1.0, 3.0, 0.333333, 5));
        assert_eq!(row.rate(), 4096.0 / 3.0);
        let json = serde_json::to_string(&row).unwrap();
        assert_eq!(serde_json::from_str::<Row>(&json).unwrap(), row);
        assert!(
            json.starts_with(r#"{"kernel":"roofline","operation":"read","bytes":4096,"contestant":"a""#),
            "{json}"
        );
    }

    #[test]
    fn quantiles() {
        assert_eq!(quantile(&[3.0], 0.25), 3.0);
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.5), 2.0);
        assert_eq!(quantile(&[1.0, 2.0, 4.0, 8.0], 0.75), 5.0);
        assert_eq!(rounded(0.000_123_456_789), 0.000_123_457);
    }
}
