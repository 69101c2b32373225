//! Two recordings beside each other.

use std::path::Path;

use super::{Measurement, Recording, RecordingError};

/// Medians that differ by no more are held to be the same.
pub const TOLERANCE: f64 = 0.05;

/// So many undisturbed rounds make a median certain. Of one commit recorded twice on a busy machine (a7bbcdd8c1) 28 of the 1,236
/// rows that had so many differed by more than [`TOLERANCE`], of the other 1,230 243, of which 2 by all rounds' middle halves.
pub const CERTAIN: usize = 20;

/// What two recordings have in common.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Whether both are of one commit, so that all that differs is noise.
    pub same_commit: bool,
    /// Whether both made as many passes, and count alike: the best of more are faster.
    pub same_passes: bool,
    /// What was measured in both.
    pub pairs: Vec<Pair>,
    /// How many rows only one of them has, of each.
    pub alone: [usize; 2],
}

/// A contestant measured twice.
#[derive(Clone, Debug)]
pub struct Pair {
    /// In the first recording, and in the second.
    pub both: [Measurement; 2],
}

impl Pair {
    /// The speed of the second over that of the first.
    pub fn ratio(&self) -> f64 {
        self.both[1].rate() / self.both[0].rate()
    }

    /// Whether the medians differ by no more than [`TOLERANCE`].
    pub fn agrees(&self) -> bool {
        let ratio = self.ratio();
        ratio.max(1.0 / ratio) <= 1.0 + TOLERANCE
    }

    /// Whether it is a change, not noise: the medians differ by more than [`TOLERANCE`], and they [are certain](Self::is_certain)
    /// or the middle halves of all rounds do not overlap.
    pub fn is_change(&self) -> bool {
        let [a, b] = self.both.each_ref().map(|m| m.quartiles.map(|time| time / m.work));
        !self.agrees() && (self.is_certain() || a[1] < b[0] || b[1] < a[0])
    }

    /// Whether both are of [enough](CERTAIN) undisturbed rounds.
    pub fn is_certain(&self) -> bool {
        self.both.iter().all(|m| m.undisturbed >= CERTAIN)
    }
}

impl Comparison {
    /// Compares two files.
    ///
    /// # Errors
    /// When one cannot be read, or they have nothing in common.
    pub fn of(one: &Path, other: &Path) -> Result<Self, RecordingError> {
        let [a, b] = [Recording::read(one)?, Recording::read(other)?];
        let commit = |recording: &Recording| recording.origin.as_ref().map(|origin| origin.commit.clone());
        let same_commit = commit(&a).is_some() && commit(&a) == commit(&b);
        let passes = |recording: &Recording| recording.origin.as_ref().and_then(|origin| origin.passes);
        let of_undisturbed = |recording: &Recording| recording.rows.iter().any(|row| row.undisturbed > 0);
        let same_passes = passes(&a) == passes(&b) && of_undisturbed(&a) == of_undisturbed(&b);
        let pairs: Vec<Pair> = a
            .rows
            .iter()
            .filter_map(|row| {
                let second = b.rows.iter().find(|second| second.is_of_same(row))?;
                Some(Pair { both: [row.clone(), second.clone()] })
            })
            .collect();
        if pairs.is_empty() {
            let [one, other] = [one, other].map(Path::to_owned);
            return Err(RecordingError::NothingInCommon { one, other });
        }
        let alone = [a.rows.len() - pairs.len(), b.rows.len().saturating_sub(pairs.len())];
        Ok(Self { same_commit, same_passes, pairs, alone })
    }

    /// How many pairs agree.
    pub fn agreeing(&self) -> usize {
        self.pairs.iter().filter(|pair| pair.agrees()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Contestant, Kernel, Role, Task, Unit};
    use super::*;

    #[test]
    fn changes_are_beyond_noise() {
        let row = |times: Vec<f64>| {
            let (kernel, operation) = (Kernel::TopK, "select".to_owned());
            let task = Task { kernel, operation, shape: vec![9], sparsity: None, epsilon: None };
            Measurement::new(&task, Contestant::new("a", Role::Ours, Unit::Score, 9.0, || {}), times)
        };
        // Most rounds are disturbed.
        let pair = |undisturbed, time| Pair {
            both: [(CERTAIN, 1.0), (undisturbed, time)]
                .map(|(n, time)| row([vec![time; n], vec![2.0; 80]].concat())),
        };
        assert!(pair(CERTAIN, 1.1).is_change());
        assert!(!pair(CERTAIN - 1, 1.1).is_change());
        assert!(!pair(CERTAIN, 1.04).is_change());
        // Few rounds, but all of them.
        assert!(Pair { both: [1.0, 1.1].map(|time| row(vec![time; 3])) }.is_change());
    }
}
