//! Compares two recordings.

use std::path::Path;

use crate::error::Error;
use crate::recording::Recording;
use crate::row::Row;
use crate::text::columns;

/// Times that differ by at most this count as equal.
const TOLERANCE: f64 = 0.05;

/// Whether two times of this ratio count as equal.
fn near(ratio: f64) -> bool {
    ratio.max(1.0 / ratio) <= 1.0 + TOLERANCE
}

/// A contestant measured twice: in the first recording, and in the second.
struct Pair<'a>(&'a Row, &'a Row);

impl Pair<'_> {
    /// The speed of the second over that of the first.
    fn ratio(&self) -> f64 {
        self.1.rate() / self.0.rate()
    }

    fn agrees(&self) -> bool {
        near(self.ratio())
    }

    /// Whether the fastest runs agree, which other programs on the machine disturb less.
    fn agrees_at_best(&self) -> bool {
        near(self.0.min / self.1.min)
    }

    /// Whether the medians differ by more than [`TOLERANCE`] and by more than both spreads together.
    fn is_change(&self) -> bool {
        let Self(a, b) = self;
        !self.agrees() && (a.each() - b.each()).abs() > a.spread * a.each() + b.spread * b.each()
    }

    fn mark(&self) -> &'static str {
        match (self.is_change(), self.agrees(), self.ratio() > 1.0) {
            (true, _, true) => "faster",
            (true, _, false) => "SLOWER",
            (_, false, _) => "noisy",
            _ => "",
        }
    }
}

/// The rows of both files, with the speed of the second over that of the first, and how many rows agree.
///
/// # Errors
/// When one cannot be read, or they have nothing in common.
pub fn compare(one: &Path, other: &Path) -> Result<String, Error> {
    let [a, b] = [Recording::read(one)?, Recording::read(other)?];
    let second = |row| b.rows.iter().find(|second| second.is_of_same(row));
    let pairs: Vec<Pair> = a.rows.iter().filter_map(|row| Some(Pair(row, second(row)?))).collect();
    if pairs.is_empty() {
        return Err(Error::file(other, format!("has nothing in common with {}", one.display())));
    }
    let mut table = columns(["task", "who", "backend", "threads", "A", "B", "B/A", ""]);
    for pair @ Pair(a, b) in &pairs {
        table.add_row([
            a.task.to_string(),
            a.who.label(),
            a.who.backend.clone().unwrap_or_default(),
            a.who.threads.to_string(),
            format!("{} {}", a.figure(), a.unit.symbol()),
            b.figure(),
            format!("{:.3}", pair.ratio()),
            pair.mark().to_owned(),
        ]);
    }
    let (all, percent) = (pairs.len(), 100.0 * TOLERANCE);
    let [agreeing, at_best, changes] = [Pair::agrees, Pair::agrees_at_best, Pair::is_change]
        .map(|is| pairs.iter().filter(|p| is(p)).count());
    let [share, share_at_best] = [agreeing, at_best].map(|rows| 100.0 * rows as f64 / all as f64);
    let verdict = match (a.origin.commit == b.origin.commit, share >= 90.0) {
        (false, _) => format!("{changes} changed by more than {percent} % and both spreads"),
        (true, true) => "one commit: the recordings can be relied on".to_owned(),
        (true, false) => {
            "one commit, yet less than 90 % agree: the machine was disturbed, measure again".to_owned()
        }
    };
    let [alone, other_alone] = [&a, &b].map(|recording| recording.rows.len().saturating_sub(all));
    Ok(format!(
        "{table}\n{agreeing} of {all} rows ({share:.1} %) agree within {percent} %, \
         {share_at_best:.1} % by their fastest runs; {verdict}\nonly in A: {alone}, only in B: {other_alone}\n"
    ))
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
        let mark = |a, b| Pair(&row(a), &row(b)).mark();
        assert_eq!(mark([1.0, 1.0, 1.0], [1.1, 1.1, 1.1]), "SLOWER");
        assert_eq!(mark([1.1, 1.1, 1.1], [1.0, 1.0, 1.0]), "faster");
        assert_eq!(mark([1.0, 1.0, 1.0], [1.04, 1.04, 1.04]), "");
        assert_eq!(mark([1.0, 1.0, 1.4], [1.0, 1.1, 1.4]), "noisy");
    }
}
