//! The paper's findings, and whether a table of accuracies shows them.
//!
//! "Best" is the highest mean test accuracy over s, as in the published table, which has no validation loss.

use std::collections::BTreeSet;

use super::cell::Cell;
use super::comparison::rank_correlation;
use super::study::Study;

/// A finding of the paper, and whether a table shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The exact claim.
    pub claim: &'static str,
    /// Whether it holds; `None` if the grid does not decide it.
    pub holds: Option<bool>,
    /// The numbers that decide it.
    pub found: String,
}

impl Study {
    /// The paper's findings, and whether they hold in this study.
    pub fn findings(&self) -> Vec<Finding> {
        [dense_rises(self), pruning_lifts(self), best_rises(self), best_falls(self), collapses(self)]
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

/// For each finding the number of seeds whose own table shows it, and the number of seeds that can tell, in the cells of the method
/// that [`Study`] calls `method`.
pub fn findings_by_seed(cells: &[Cell], method: &str) -> Vec<[usize; 2]> {
    let cells: Vec<&Cell> = cells.iter().filter(|cell| cell.config.method() == method).collect();
    let seeds: BTreeSet<u64> = cells.iter().map(|cell| cell.seed).collect();
    let mut counts = vec![[0; 2]; CLAIMS.len()];
    for seed in seeds {
        let own: Vec<Cell> =
            cells.iter().filter(|cell| cell.seed == seed).map(|&cell| cell.clone()).collect();
        for study in Study::of(&own) {
            for (count, finding) in counts.iter_mut().zip(study.findings()) {
                count[0] += usize::from(finding.holds == Some(true));
                count[1] += usize::from(finding.holds.is_some());
            }
        }
    }
    counts
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
    rises(study.epsilons.iter().filter_map(|&epsilon| Some(study.best(epsilon)?.1.test)))
}

fn rises(accuracies: impl Iterator<Item = f64>) -> Found {
    let accuracies: Vec<f64> = accuracies.collect();
    let (first, last) = (accuracies.first()?, accuracies.last()?);
    let fall = accuracies.windows(2).map(|pair| pair[0] - pair[1]).max_by(f64::total_cmp)?;
    let found = format!("from {first:.3} to {last:.3}, largest fall {:.3}", fall.max(0.0));
    Some((fall <= SLACK && last > first, found))
}

fn pruning_lifts(study: &Study) -> Found {
    let (dense, (s, best)) = (study.accuracy(0.0, 0.0)?, study.best(0.0)?);
    let holds = dense < 0.25 && best.test >= 0.75 && (0.3..=0.7).contains(&s);
    Some((holds, format!("from {dense:.3} to {:.3} at s = {s}", best.test)))
}

fn best_falls(study: &Study) -> Found {
    let best: Vec<f64> = study.epsilons.iter().filter_map(|&e| Some(study.best(e)?.0)).collect();
    let (first, last) = (*best.first()?, *best.last()?);
    let pairs: Vec<_> = best.iter().enumerate().map(|(rank, &s)| [rank as f64, s]).collect();
    if pairs.len() < 2 || study.epsilons[0] != 0.0 {
        return None;
    }
    let correlation = rank_correlation(&pairs);
    let holds = (0.3..=0.7).contains(&first) && last <= 0.1 && correlation <= -0.5;
    let list: Vec<String> = best.iter().map(f64::to_string).collect();
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
