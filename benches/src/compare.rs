//! Two recordings beside each other.

use std::path::Path;

use crate::error::Error;
use crate::recording::Recording;
use crate::row::Row;

/// Medians that differ by no more count as the same.
pub const TOLERANCE: f64 = 0.05;

/// What two recordings have in common.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Whether both are of one commit, so that all that differs is noise.
    pub same_commit: bool,
    /// What was measured in both.
    pub pairs: Vec<Pair>,
    /// How many rows only one of them has, of each.
    pub alone: [usize; 2],
}

/// A contestant measured twice: in the first recording, and in the second.
#[derive(Clone, Debug)]
pub struct Pair(pub [Row; 2]);

impl Pair {
    /// The speed of the second over that of the first.
    pub fn ratio(&self) -> f64 {
        self.0[1].rate() / self.0[0].rate()
    }

    /// Whether the medians differ by no more than [`TOLERANCE`].
    pub fn agrees(&self) -> bool {
        let ratio = self.ratio();
        ratio.max(1.0 / ratio) <= 1.0 + TOLERANCE
    }

    /// Whether it is a change, not noise: the medians differ by more than [`TOLERANCE`] and by more than both spreads together.
    pub fn is_change(&self) -> bool {
        let spread: f64 = self.0.iter().map(|row| row.spread * row.each()).sum();
        !self.agrees() && (self.0[0].each() - self.0[1].each()).abs() > spread
    }
}

impl Comparison {
    /// Compares two files.
    ///
    /// # Errors
    /// When one cannot be read, or they have nothing in common.
    pub fn of(one: &Path, other: &Path) -> Result<Self, Error> {
        let [a, b] = [Recording::read(one)?, Recording::read(other)?];
        let pair = |row: &Row| {
            let second = b.rows.iter().find(|second| second.is_of_same(row))?;
            Some(Pair([row.clone(), second.clone()]))
        };
        let pairs: Vec<Pair> = a.rows.iter().filter_map(pair).collect();
        if pairs.is_empty() {
            return Err(Error::file(other, format!("has nothing in common with {}", one.display())));
        }
        let alone = [&a, &b].map(|recording| recording.rows.len().saturating_sub(pairs.len()));
        Ok(Self { same_commit: a.origin.commit == b.origin.commit, pairs, alone })
    }

    /// How many pairs agree.
    pub fn agreeing(&self) -> usize {
        self.pairs.iter().filter(|pair| pair.agrees()).count()
    }

    /// How many pairs changed.
    pub fn changes(&self) -> usize {
        self.pairs.iter().filter(|pair| pair.is_change()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::{Unit, Who};
    use crate::task::{Limit, Roofline, Task};

    #[test]
    fn changes_are_beyond_the_spread() {
        let task = Task::Roofline(Roofline { operation: Limit::Clock, bytes: None });
        let row =
            |times: [f64; 3]| Row::new(task.clone(), Who::peer("a", 1), Unit::Cycle, 9.0, times.to_vec());
        let pair = |a, b| Pair([row(a), row(b)]);
        assert!(pair([1.0, 1.0, 1.0], [1.1, 1.1, 1.1]).is_change());
        assert!(!pair([1.0, 1.0, 1.0], [1.04, 1.04, 1.04]).is_change());
        assert!(!pair([1.0, 1.0, 1.4], [1.0, 1.1, 1.4]).is_change());
        assert!(pair([1.0, 1.0, 1.0], [1.04, 1.04, 1.04]).agrees());
    }
}
