//! Interleaves contestants, and measures their times.

use crate::case::Case;
use crate::contestant::Contestant;
use crate::error::Error;
use crate::machinery::Machinery;
use crate::row::Row;
use crate::turns::Turns;

/// How often to measure.
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    /// Seconds per case, without checks; each contestant has the same share.
    pub seconds: f64,
    /// Minimum number of samples of a contestant, whatever their time.
    pub least: usize,
    /// Number of samples of each, whatever their time.
    pub rounds: Option<usize>,
}

/// A sample repeats short runs for about this many seconds, much longer than reading the clock.
const SAMPLE: f64 = 0.5e-3;

/// Runs shorter than this get an untimed warm-up of a quarter of a sample, so that the caches hold their data and the pool's
/// threads are spinning.
const SHORT: f64 = 20e-3;

/// Maximum number of samples of a contestant.
const MOST: usize = 200;

/// Checks all contestants of `case`, then measures them in rounds: one sample of each, in turns with other processes.
///
/// # Errors
/// When a result is wrong.
pub fn measure(
    case: &Case,
    machinery: &Machinery,
    sampling: Sampling,
    turns: Option<&Turns>,
) -> Result<Vec<Row>, Error> {
    let take = || turns.and_then(|turns| turns.take().ok());
    let turn = take();
    let mut contestants = case.prepare(machinery)?;
    let share = sampling.seconds / contestants.len().max(1) as f64;
    let plan = |contestant: &mut Contestant| Plan::new(contestant, share, sampling);
    let plans = contestants.iter_mut().map(plan).collect::<Result<Vec<_>, _>>()?;
    drop(turn);
    let mut samples = vec![Vec::new(); contestants.len()];
    let rounds = plans.iter().map(|plan| plan.rounds).max().unwrap_or(0);
    for round in 0..rounds {
        let _turn = take();
        for ((contestant, plan), samples) in contestants.iter_mut().zip(&plans).zip(&mut samples) {
            if plan.is_in(round, rounds) {
                if plan.warm_up > 0 {
                    contestant.run(plan.warm_up)?;
                }
                samples.push(contestant.run(plan.repeats)?.as_secs_f64() / plan.repeats as f64);
            }
        }
    }
    let rows = contestants.into_iter().zip(samples);
    Ok(rows.map(|(c, seconds)| Row::new(case.task.clone(), c.who, c.unit, c.work, seconds)).collect())
}

/// The schedule of a contestant.
struct Plan {
    rounds: usize,
    repeats: u64,
    warm_up: u64,
}

impl Plan {
    fn new(contestant: &mut Contestant, share: f64, sampling: Sampling) -> Result<Self, Error> {
        let mut once = contestant.run(1)?;
        if once.as_secs_f64() < SHORT {
            // The first run may have waited for memory or for the threads of the pool.
            once = once.min(contestant.run(1)?);
        }
        Ok(Self::of(once.as_secs_f64().max(1e-9), share, sampling))
    }

    /// The schedule of a contestant whose run takes `once` seconds.
    fn of(once: f64, share: f64, Sampling { least, rounds, .. }: Sampling) -> Self {
        let fill = |seconds: f64| (seconds / once).ceil() as u64;
        let (repeats, warm_up) = (fill(SAMPLE), if once < SHORT { fill(SAMPLE / 4.0) } else { 0 });
        let fit = (share / (once * (repeats + warm_up) as f64)) as usize;
        Self { rounds: rounds.unwrap_or_else(|| fit.min(MOST).max(least)), repeats, warm_up }
    }

    /// Whether it takes part in a round; its rounds are spread evenly.
    fn is_in(&self, round: usize, rounds: usize) -> bool {
        (round + 1) * self.rounds / rounds > round * self.rounds / rounds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_ones_take_part_in_fewer_rounds() {
        let of = |once, rounds| Plan::of(once, 0.2, Sampling { seconds: 1.0, least: 3, rounds });
        assert_eq!([1e-6, 8e-3, 0.1, 5.0].map(|once| of(once, None).rounds), [200, 12, 3, 3]);
        assert_eq!([1e-6, 5.0].map(|once| of(once, Some(2)).rounds), [2, 2]);
        let plan = of(8e-3, None);
        assert_eq!((plan.repeats, plan.warm_up), (1, 1));
        assert_eq!((0..200).filter(|&round| plan.is_in(round, 200)).count(), 12);
        let plan = of(0.9e-6, None);
        assert_eq!((plan.repeats, plan.warm_up), (556, 139));
    }
}
