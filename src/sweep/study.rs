//! The results of a sweep: accuracies by ε and sparsity over the seeds, and the sparsity that each run chose.

use std::collections::{BTreeMap, BTreeSet};

use super::cell::Cell;
use super::comparison::{Comparison, mean};

/// Accuracies of one ε and sparsity. A seed whose cell failed counts as chance: a network that guesses one of its classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Number of seeds.
    pub seeds: usize,
    /// Number of seeds that failed.
    pub failed: usize,
    /// Number of runs, one for each seed, that chose this sparsity.
    pub chosen: usize,
    /// Mean test accuracy.
    pub test: f64,
    /// Sample standard deviation of the test accuracy; 0 with one seed.
    pub deviation: f64,
    /// Mean validation accuracy, if images are held out.
    pub validation: Option<f64>,
    /// Mean validation loss, if images are held out.
    pub loss: Option<f64>,
}

/// The choices of the runs of one ε. Algorithm 1 of the paper is one run: of the networks of a seed it keeps the one of least
/// validation loss. Without held-out images this study takes the one of the best test accuracy.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The sparsity that each run chose, by its seed; `None` if all its networks failed.
    pub sparsities: Vec<Option<f64>>,
    /// Mean test accuracy of the networks chosen.
    pub test: f64,
    /// Its sample standard deviation; 0 with one run.
    pub deviation: f64,
}

/// The result of one network.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeedOutcome {
    pub(super) seed: u64,
    pub(super) failed: bool,
    pub(super) test: f64,
    pub(super) validation: Option<f64>,
    pub(super) loss: Option<f64>,
}

impl SeedOutcome {
    /// The result of a failed network, which counts as one that guesses one of `classes` classes.
    pub(super) fn failed(seed: u64, classes: usize, held_out: bool) -> Self {
        let (chance, loss) = (1.0 / classes as f64, libm::log(classes as f64));
        let [validation, loss] = [chance, loss].map(|value| held_out.then_some(value));
        Self { seed, failed: true, test: chance, validation, loss }
    }

    fn of(cell: &Cell) -> Self {
        let (seed, run) = (cell.seed, &cell.config.run);
        match cell.result() {
            Some(result) => Self {
                seed,
                failed: false,
                test: result.test_accuracy,
                validation: result.validation_accuracy,
                loss: result.validation_loss,
            },
            None => Self::failed(seed, run.network.outputs(), run.validation > 0),
        }
    }

    /// The cost that a run minimises. A failed network is not chosen.
    fn cost(&self) -> f64 {
        if self.failed { f64::INFINITY } else { self.loss.unwrap_or(-self.test) }
    }
}

impl Summary {
    /// The meaning of [`mark`](Self::mark).
    pub const MARK: &str = "†n: n seeds failed; each counts as a network that guesses";

    /// The mark behind an accuracy: the number of its seeds that failed.
    pub fn mark(&self) -> String {
        if self.failed > 0 { format!("†{}", self.failed) } else { String::new() }
    }

    fn of(seeds: &[SeedOutcome]) -> Self {
        let [test, deviation] = mean_and_deviation(seeds.iter().map(|seed| seed.test));
        let optional = |value: fn(&SeedOutcome) -> Option<f64>| {
            seeds.iter().map(value).collect::<Option<Vec<_>>>().map(|values| mean(values.into_iter()))
        };
        Self {
            seeds: seeds.len(),
            failed: seeds.iter().filter(|seed| seed.failed).count(),
            chosen: 0,
            test,
            deviation,
            validation: optional(|seed| seed.validation),
            loss: optional(|seed| seed.loss),
        }
    }
}

fn mean_and_deviation(values: impl ExactSizeIterator<Item = f64> + Clone) -> [f64; 2] {
    let (n, middle) = (values.len(), mean(values.clone()));
    let squares: f64 = values.map(|value| (value - middle) * (value - middle)).sum();
    [middle, (squares / n.saturating_sub(1).max(1) as f64).sqrt()]
}

/// ε and sparsity as keys: neither is negative, so their bits are in their order.
pub(super) type Key = (u32, u64);

pub(super) fn key(epsilon: f32, sparsity: f64) -> Key {
    (epsilon.to_bits(), sparsity.to_bits())
}

/// A table of accuracies, ε by sparsity.
#[derive(Clone, Debug, PartialEq)]
pub struct Study {
    /// The pruning method, or the source of the table.
    pub name: String,
    /// ε, ascending.
    pub epsilons: Vec<f32>,
    /// Sparsities, the fraction of weights REMOVED, ascending.
    pub sparsities: Vec<f64>,
    cells: BTreeMap<Key, Summary>,
    /// By the bits of ε.
    choices: BTreeMap<u32, Choice>,
}

impl Study {
    /// A study for each pruning method among `cells`, in their order.
    pub fn of(cells: &[Cell]) -> Vec<Self> {
        let mut methods: Vec<String> = cells.iter().map(|cell| cell.config.method()).collect();
        methods.dedup();
        let study = |name: String| {
            let mut outcomes: BTreeMap<Key, Vec<_>> = BTreeMap::new();
            for cell in cells.iter().filter(|cell| cell.config.method() == name) {
                outcomes.entry(key(cell.epsilon, cell.sparsity)).or_default().push(SeedOutcome::of(cell));
            }
            Self::of_outcomes(name, &outcomes)
        };
        methods.into_iter().map(study).collect()
    }

    /// A study of the outcomes of all seeds at each ε and sparsity.
    pub(super) fn of_outcomes(name: String, outcomes: &BTreeMap<Key, Vec<SeedOutcome>>) -> Self {
        // By ε and seed: the least cost so far, its sparsity and test accuracy. Of equal costs the lowest sparsity stays.
        let mut runs: BTreeMap<(u32, u64), (f64, u64, f64)> = BTreeMap::new();
        for (&(epsilon, sparsity), seeds) in outcomes {
            for outcome in seeds {
                let found = (outcome.cost(), sparsity, outcome.test);
                let least = runs.entry((epsilon, outcome.seed)).or_insert(found);
                if found.0 < least.0 {
                    *least = found;
                }
            }
        }
        let mut cells: BTreeMap<Key, Summary> =
            outcomes.iter().map(|(&key, seeds)| (key, Summary::of(seeds))).collect();
        let mut chosen: BTreeMap<u32, Vec<(Option<f64>, f64)>> = BTreeMap::new();
        for ((epsilon, _), (cost, sparsity, test)) in runs {
            let done = cost < f64::INFINITY;
            chosen.entry(epsilon).or_default().push((done.then(|| f64::from_bits(sparsity)), test));
            cells.entry((epsilon, sparsity)).and_modify(|summary| summary.chosen += usize::from(done));
        }
        let choice = |(epsilon, runs): (u32, Vec<(Option<f64>, f64)>)| {
            let [test, deviation] = mean_and_deviation(runs.iter().map(|run| run.1));
            let sparsities = runs.into_iter().map(|run| run.0).collect();
            (epsilon, Choice { sparsities, test, deviation })
        };
        let epsilons: BTreeSet<u32> = cells.keys().map(|key| key.0).collect();
        let sparsities: BTreeSet<u64> = cells.keys().map(|key| key.1).collect();
        Self {
            name,
            epsilons: epsilons.into_iter().map(f32::from_bits).collect(),
            sparsities: sparsities.into_iter().map(f64::from_bits).collect(),
            cells,
            choices: chosen.into_iter().map(choice).collect(),
        }
    }

    /// The published table: Xiong, Liao, Kyrillidis 2023, as printed on the authors' poster.
    ///
    /// ```
    /// use slth::sweep::Study;
    /// let table = Study::published();
    /// assert_eq!((table.epsilons.len(), table.sparsities.len()), (11, 9));
    /// assert_eq!(table.accuracy(0.3, 0.8), Some(0.17));
    /// assert!(table.findings().iter().all(|finding| finding.holds == Some(true)));
    /// ```
    pub fn published() -> Self {
        let mut outcomes = BTreeMap::new();
        for [sparsity, epsilon, test] in crate::input::table(include_str!("published.csv")) {
            let outcome = SeedOutcome { seed: 0, failed: false, test, validation: None, loss: None };
            outcomes.insert(key(epsilon as f32, sparsity), vec![outcome]);
        }
        Self::of_outcomes("published".to_owned(), &outcomes)
    }

    /// The summary at `epsilon` and `sparsity`.
    pub fn summary(&self, epsilon: f32, sparsity: f64) -> Option<&Summary> {
        self.cells.get(&key(epsilon, sparsity))
    }

    /// The mean test accuracy at `epsilon` and `sparsity`.
    pub fn accuracy(&self, epsilon: f32, sparsity: f64) -> Option<f64> {
        self.summary(epsilon, sparsity).map(|summary| summary.test)
    }

    /// The sparsities with their summaries at `epsilon`.
    pub fn column(&self, epsilon: f32) -> impl Iterator<Item = (f64, &Summary)> {
        self.sparsities.iter().filter_map(move |&s| Some((s, self.summary(epsilon, s)?)))
    }

    /// The choices of the runs of `epsilon`.
    pub fn chosen(&self, epsilon: f32) -> Option<&Choice> {
        self.choices.get(&epsilon.to_bits())
    }

    /// The criterion of [`chosen`](Self::chosen), in words.
    pub fn criterion(&self) -> &'static str {
        if self.holds_out() { "validation loss" } else { "test accuracy, as no images are held out" }
    }

    /// Whether images are held out for validation.
    pub fn holds_out(&self) -> bool {
        self.cells.values().all(|summary| summary.loss.is_some())
    }

    /// The sparsity of the least validation loss at `epsilon`, averaged over the seeds; of equal ones the lowest. `None` without
    /// held-out images. A single sparsity for all runs, unlike those [chosen](Self::chosen).
    pub fn of_least_mean_loss(&self, epsilon: f32) -> Option<(f64, &Summary)> {
        let done = self.column(epsilon).filter(|(_, summary)| summary.failed < summary.seeds);
        let with_loss = done.filter_map(|(s, summary)| Some((s, summary, summary.loss?)));
        with_loss.min_by(|a, b| a.2.total_cmp(&b.2)).map(|(s, summary, _)| (s, summary))
    }

    /// The sparsity of the best mean test accuracy at `epsilon`, of equal ones the lowest.
    pub fn best(&self, epsilon: f32) -> Option<(f64, &Summary)> {
        self.column(epsilon).min_by(|a, b| b.1.test.total_cmp(&a.1.test))
    }

    /// Number of seeds that failed, over all cells.
    pub fn failed(&self) -> usize {
        self.cells.values().map(|summary| summary.failed).sum()
    }

    /// Compares the common cells.
    pub fn compare(&self, other: &Self) -> Comparison {
        let pair = |(key, own): (&Key, &Summary)| Some([own.test, other.cells.get(key)?.test]);
        Comparison::of(&self.cells.iter().filter_map(pair).collect::<Vec<_>>())
    }
}
