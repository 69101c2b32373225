//! What a sweep shows: accuracy by ε and sparsity over the seeds, the published table beside it, the paper's findings.

use std::collections::BTreeMap;

use crate::sweep::Cell;

/// Accuracies of one ε and sparsity.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// How many seeds they are of.
    pub seeds: usize,
    /// Mean test accuracy.
    pub test: f64,
    /// Sample standard deviation of the test accuracy; 0 of one seed.
    pub deviation: f64,
    /// Mean validation accuracy, where images are held out.
    pub validation: Option<f64>,
    /// Mean validation loss, where images are held out: what the sparsity is chosen by.
    pub loss: Option<f64>,
}

/// How one network did.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeedOutcome {
    pub(super) test: f64,
    pub(super) validation: Option<f64>,
    pub(super) loss: Option<f64>,
}

impl Summary {
    fn of(seeds: &[SeedOutcome]) -> Self {
        let test = mean(seeds.iter().map(|seed| seed.test));
        let squares: f64 = seeds.iter().map(|seed| (seed.test - test) * (seed.test - test)).sum();
        let optional = |value: fn(&SeedOutcome) -> Option<f64>| {
            seeds.iter().map(value).collect::<Option<Vec<_>>>().map(|values| mean(values.into_iter()))
        };
        Self {
            seeds: seeds.len(),
            test,
            deviation: (squares / seeds.len().saturating_sub(1).max(1) as f64).sqrt(),
            validation: optional(|seed| seed.validation),
            loss: optional(|seed| seed.loss),
        }
    }
}

/// ε and sparsity as keys: neither is negative, so their bits are in their order.
pub(super) type Key = (u32, u64);

pub(super) fn key(epsilon: f32, sparsity: f64) -> Key {
    (epsilon.to_bits(), sparsity.to_bits())
}

/// A table of accuracies, ε by sparsity.
#[derive(Clone, Debug, PartialEq)]
pub struct Study {
    /// The pruning method, or where the table is from.
    pub name: String,
    /// ε, ascending.
    pub epsilons: Vec<f32>,
    /// Sparsities, the fraction of weights REMOVED, ascending.
    pub sparsities: Vec<f64>,
    cells: BTreeMap<Key, Summary>,
}

impl Study {
    /// A study for each pruning method among `cells`, in their order. Cells that failed are left out.
    pub fn of(cells: &[Cell]) -> Vec<Self> {
        let mut methods: Vec<String> = cells.iter().map(|cell| cell.config.method()).collect();
        methods.dedup();
        let study = |name: String| {
            let mut by_key: BTreeMap<Key, Vec<_>> = BTreeMap::new();
            for cell in cells.iter().filter(|cell| cell.config.method() == name) {
                if let Some(result) = cell.result() {
                    by_key.entry(key(cell.epsilon, cell.sparsity)).or_default().push(SeedOutcome {
                        test: result.test_accuracy,
                        validation: result.validation_accuracy,
                        loss: result.validation_loss,
                    });
                }
            }
            Self::of_outcomes(name, &by_key)
        };
        methods.into_iter().map(study).collect()
    }

    /// A study of the outcomes of all seeds at each ε and sparsity.
    pub(super) fn of_outcomes(name: String, outcomes: &BTreeMap<Key, Vec<SeedOutcome>>) -> Self {
        Self::new(name, outcomes.iter().map(|(&key, seeds)| (key, Summary::of(seeds))).collect())
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
        const TABLE: &str = include_str!("published.csv");
        let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(TABLE.as_bytes());
        let number = |text: &str| text.parse::<f64>().expect("the published table holds numbers");
        let epsilons: Vec<f32> = reader
            .headers()
            .expect("it has a header")
            .iter()
            .skip(1)
            .map(|text| text.parse().expect("ε"))
            .collect();
        let mut cells = BTreeMap::new();
        for record in reader.records() {
            let record = record.expect("its rows are of one length");
            for (&epsilon, text) in epsilons.iter().zip(record.iter().skip(1)) {
                let test = number(text);
                let summary = Summary { seeds: 1, test, deviation: 0.0, validation: None, loss: None };
                cells.insert(key(epsilon, number(&record[0])), summary);
            }
        }
        Self::new("published".to_owned(), cells)
    }

    fn new(name: String, cells: BTreeMap<Key, Summary>) -> Self {
        let mut epsilons: Vec<u32> = cells.keys().map(|key| key.0).collect();
        let mut sparsities: Vec<u64> = cells.keys().map(|key| key.1).collect();
        epsilons.dedup();
        sparsities.sort_unstable();
        sparsities.dedup();
        Self {
            name,
            epsilons: epsilons.into_iter().map(f32::from_bits).collect(),
            sparsities: sparsities.into_iter().map(f64::from_bits).collect(),
            cells,
        }
    }

    /// What is known at `epsilon` and `sparsity`.
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

    /// The sparsity of least mean validation loss at `epsilon`, of equal ones the lowest: Algorithm 1's choice. Where no
    /// images are held out, that of the best test accuracy.
    pub fn chosen(&self, epsilon: f32) -> Option<(f64, &Summary)> {
        let loss = |summary: &Summary| summary.loss.unwrap_or(-summary.test);
        self.column(epsilon).min_by(|a, b| loss(a.1).total_cmp(&loss(b.1)))
    }

    /// The sparsity of the best mean test accuracy at `epsilon`, of equal ones the lowest.
    pub fn best(&self, epsilon: f32) -> Option<(f64, &Summary)> {
        self.column(epsilon).min_by(|a, b| b.1.test.total_cmp(&a.1.test))
    }

    /// Compares the cells both have.
    pub fn compare(&self, other: &Self) -> Comparison {
        let pairs: Vec<[f64; 2]> =
            self.cells.iter().filter_map(|(key, own)| Some([own.test, other.cells.get(key)?.test])).collect();
        Comparison {
            cells: pairs.len(),
            mean_difference: mean(pairs.iter().map(|[a, b]| a - b)),
            mean_absolute_difference: mean(pairs.iter().map(|[a, b]| (a - b).abs())),
            rank_correlation: rank_correlation(&pairs),
            ahead: pairs.iter().filter(|[a, b]| a > b).count(),
        }
    }

    /// Whether the paper's findings hold here.
    pub fn findings(&self) -> Vec<Finding> {
        [dense_rises(self), pruning_lifts(self), best_rises(self), choice_falls(self), collapses(self)]
            .into_iter()
            .zip(CLAIMS)
            .map(|(found, claim)| Finding {
                claim,
                holds: found.as_ref().map(|(holds, _)| *holds),
                found: found.map_or_else(|| "the grid does not reach there".to_owned(), |(_, found)| found),
            })
            .collect()
    }
}

/// How two tables differ in the cells both have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// How many cells that is; without any the numbers are NaN.
    pub cells: usize,
    /// Mean of the first's accuracy less the second's.
    pub mean_difference: f64,
    /// Mean of its absolute value.
    pub mean_absolute_difference: f64,
    /// Spearman's rank correlation of the accuracies, ties at their mean rank.
    pub rank_correlation: f64,
    /// In how many the first's is higher.
    pub ahead: usize,
}

/// A finding of the paper, and whether a table shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What is claimed, precisely.
    pub claim: &'static str,
    /// Whether it holds; `None` when the grid cannot tell.
    pub holds: Option<bool>,
    /// The numbers it was decided by.
    pub found: String,
}

/// By how much an accuracy that rises may fall from one ε to the next: the published table is rounded to 0.01.
const SLACK: f64 = 0.01 + 1e-9;

const CLAIMS: [&str; 5] = [
    "(a) Without pruning (s = 0) accuracy rises with ε: it falls nowhere by more than 0.01, and ends higher.",
    "(b) At ε = 0 pruning lifts an untrained network from chance (below 0.25) to 0.75 or more, best at s from 0.3 to 0.7.",
    "(c) The best accuracy over s rises with ε: it falls nowhere by more than 0.01, and ends higher.",
    "(d) The best s falls with ε: 0.3 to 0.7 at ε = 0, at most 0.1 at the largest ε, rank correlation with ε at most -0.5.",
    "(e) At the largest ε the largest s collapses: at most half of the accuracy without pruning.",
];

type Found = Option<(bool, String)>;

fn dense_rises(study: &Study) -> Found {
    rises(study.epsilons.iter().filter_map(|&epsilon| study.accuracy(epsilon, 0.0)))
}

fn best_rises(study: &Study) -> Found {
    rises(study.epsilons.iter().filter_map(|&epsilon| Some(study.chosen(epsilon)?.1.test)))
}

fn rises(accuracies: impl Iterator<Item = f64>) -> Found {
    let accuracies: Vec<f64> = accuracies.collect();
    let (first, last) = (accuracies.first()?, accuracies.last()?);
    let fall = accuracies.windows(2).map(|pair| pair[0] - pair[1]).max_by(f64::total_cmp)?;
    let found = format!("from {first:.3} to {last:.3}, largest fall {:.3}", fall.max(0.0));
    Some((fall <= SLACK && last > first, found))
}

fn pruning_lifts(study: &Study) -> Found {
    let (dense, (s, best)) = (study.accuracy(0.0, 0.0)?, study.chosen(0.0)?);
    let holds = dense < 0.25 && best.test >= 0.75 && (0.3..=0.7).contains(&s);
    Some((holds, format!("from {dense:.3} to {:.3} at s = {s}", best.test)))
}

fn choice_falls(study: &Study) -> Found {
    let chosen: Vec<f64> = study.epsilons.iter().filter_map(|&e| Some(study.chosen(e)?.0)).collect();
    let (first, last) = (*chosen.first()?, *chosen.last()?);
    let pairs: Vec<_> = chosen.iter().enumerate().map(|(rank, &s)| [rank as f64, s]).collect();
    if pairs.len() < 2 || study.epsilons[0] != 0.0 {
        return None;
    }
    let correlation = rank_correlation(&pairs);
    let holds = (0.3..=0.7).contains(&first) && last <= 0.1 && correlation <= -0.5;
    let list: Vec<String> = chosen.iter().map(f64::to_string).collect();
    Some((holds, format!("s = {}; rank correlation {correlation:.2}", list.join(", "))))
}

fn collapses(study: &Study) -> Found {
    let (&epsilon, &sparsity) = (study.epsilons.last()?, study.sparsities.last()?);
    let (dense, sparse) = (study.accuracy(epsilon, 0.0)?, study.accuracy(epsilon, sparsity)?);
    if sparsity == 0.0 {
        return None;
    }
    let found = format!("{dense:.3} at s = 0, {sparse:.3} at s = {sparsity}, ε = {epsilon}");
    Some((sparse <= 0.5 * dense, found))
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len() as f64;
    values.sum::<f64>() / n
}

/// Spearman's rank correlation of pairs; NaN where one side has no spread.
fn rank_correlation(pairs: &[[f64; 2]]) -> f64 {
    let ranks = |side: usize| {
        let rank = |pair: &[f64; 2]| {
            let below = pairs.iter().filter(|other| other[side] < pair[side]).count();
            let equal = pairs.iter().filter(|other| other[side] == pair[side]).count();
            below as f64 + 0.5 * equal as f64
        };
        let ranks: Vec<f64> = pairs.iter().map(rank).collect();
        let middle = mean(ranks.iter().copied());
        ranks.into_iter().map(|rank| rank - middle).collect::<Vec<_>>()
    };
    let (a, b) = (ranks(0), ranks(1));
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    product(&a, &b) / (product(&a, &a) * product(&b, &b)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_correlations_are_spearmans() {
        assert_eq!(rank_correlation(&[[0.0, 5.0], [1.0, 7.0], [2.0, 100.0]]), 1.0);
        assert_eq!(rank_correlation(&[[0.0, 5.0], [1.0, 3.0], [2.0, 1.0]]), -1.0);
        // A tie; computed by hand from the ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4.
        let tied = rank_correlation(&[[1.0, 1.0], [2.0, 3.0], [2.0, 2.0], [3.0, 4.0]]);
        assert!((tied - 4.5 / (4.5_f64 * 5.0).sqrt()).abs() < 1e-12, "{tied}");
        assert!(rank_correlation(&[[1.0, 1.0]]).is_nan() && rank_correlation(&[]).is_nan());
    }

    #[test]
    fn a_table_agrees_with_itself() {
        let table = Study::published();
        let Comparison { cells, mean_difference, mean_absolute_difference, rank_correlation, ahead } =
            table.compare(&table);
        assert_eq!((cells, mean_difference, mean_absolute_difference, ahead), (99, 0.0, 0.0, 0));
        assert!((rank_correlation - 1.0).abs() < 1e-12);
    }

    #[test]
    fn findings_of_a_flat_or_empty_table_do_not_hold() {
        let mut flat = Study::published();
        flat.cells.values_mut().for_each(|summary| summary.test = 0.5);
        assert!(flat.findings().iter().all(|finding| finding.holds == Some(false)));
        let empty = Study::new(String::new(), BTreeMap::new());
        assert!(empty.findings().iter().all(|finding| finding.holds.is_none()));
        assert!(empty.compare(&flat).mean_difference.is_nan());
    }
}
