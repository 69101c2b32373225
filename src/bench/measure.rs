//! Taking turns, and taking the time.

use std::time::Duration;

use super::case::{Case, Machinery};
use super::measurement::Measurement;
use crate::error::Error;

/// How often to measure.
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    /// How long the rounds of a case may take, each contestant having the same share of it, for `least` to 25 turns of four
    /// rounds; of one, and fewer, where a run takes long.
    pub budget: Duration,
    /// The fewest turns of a run that does not take long.
    pub least: usize,
    /// So many rounds, one a turn, whatever time they take.
    pub rounds: Option<usize>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { budget: Duration::from_millis(500), least: 3, rounds: None }
    }
}

/// A sample repeats short runs until it is about so long: much longer than reading the clock takes. Other work on a shared machine
/// comes and goes within tenths of a second: the shorter a sample, the likelier it is undisturbed.
const SAMPLE: f64 = 0.5e-3;

/// A run shorter than this is preceded by some that are not timed, a quarter of a sample: then what lies in the caches is its
/// own data, and the threads of the pool are awake.
const SHORT: f64 = 20e-3;

/// From so many seconds on two runs are enough, from the latter on one.
const LONG: [f64; 2] = [50e-3, 1.0];

const MOST_TURNS: usize = 25;

/// A short run is timed so often in a turn: they share what is not timed.
const SAMPLES: u64 = 4;

/// Checks all contestants of `case`, then measures them in turns.
///
/// Everything is made anew for it, the inputs too: what is measured again later, and [pooled](super::pool), has met
/// other addresses, and other states of the machine.
///
/// # Errors
/// When a result is wrong.
pub fn measure(case: &Case, machinery: &Machinery, sampling: Sampling) -> Result<Vec<Measurement>, Error> {
    let mut contestants = case.prepare(machinery)?;
    let share = sampling.budget.as_secs_f64() / contestants.len().max(1) as f64;
    // Long runs count from the first on.
    let mut samples: Vec<Vec<f64>> = Vec::new();
    let mut plans: Vec<Plan> = Vec::new();
    for contestant in &mut contestants {
        let mut once = contestant.run(1);
        if once.as_secs_f64() < LONG[0] {
            // The first one may have waited for memory, or for the threads of the pool.
            once = once.min(contestant.run(1));
        }
        let once = once.as_secs_f64().max(1e-9);
        samples.push(if once < SHORT { Vec::new() } else { vec![once] });
        plans.push(Plan::new(once, share, sampling));
    }
    let turns = plans.iter().map(|plan| plan.turns).max().unwrap_or(0);
    for turn in 0..turns {
        for ((contestant, plan), samples) in contestants.iter_mut().zip(&plans).zip(&mut samples) {
            if plan.takes(turn, turns) {
                if plan.warm_up > 0 {
                    contestant.run(plan.warm_up);
                }
                for _ in 0..plan.samples {
                    samples.push(contestant.run(plan.repeats).as_secs_f64() / plan.repeats as f64);
                }
            }
        }
    }
    let rows = contestants.into_iter().zip(samples);
    Ok(rows.map(|(contestant, times)| Measurement::new(&case.task, contestant, times)).collect())
}

/// What is done with a contestant.
struct Plan {
    turns: usize,
    samples: u64,
    repeats: u64,
    warm_up: u64,
}

impl Plan {
    /// For one whose first run took `once` seconds.
    fn new(once: f64, share: f64, Sampling { least, rounds, .. }: Sampling) -> Self {
        let fill = |seconds: f64| (seconds / once).ceil() as u64;
        let repeats = fill(SAMPLE);
        let (samples, warm_up) = if once < SHORT { (SAMPLES, fill(SAMPLE / 4.0)) } else { (1, 0) };
        let least = match once {
            _ if once < LONG[0] => least,
            _ if once < LONG[1] => least.min(1),
            _ => 0,
        };
        let Some(rounds) = rounds else {
            let turn = once * (samples * repeats + warm_up) as f64;
            let turns = ((share / turn) as usize).clamp(least, MOST_TURNS);
            return Self { turns, samples, repeats, warm_up };
        };
        let counted = usize::from(once >= SHORT);
        Self { turns: rounds.saturating_sub(counted), samples: 1, repeats, warm_up }
    }

    /// Whether it is one of its turns, which are spread evenly over all.
    fn takes(&self, turn: usize, turns: usize) -> bool {
        (turn + 1) * self.turns / turns > turn * self.turns / turns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_ones_take_fewer_turns() {
        let turns = |once, rounds| Plan::new(once, 0.2, Sampling { rounds, ..Sampling::default() }).turns;
        assert_eq!([1e-6, 1e-3, 8e-3, 0.1, 0.5, 5.0].map(|once| turns(once, None)), [25, 25, 5, 2, 1, 0]);
        assert_eq!([1e-6, 10e-3, 5.0].map(|once| turns(once, Some(2))), [2, 2, 1]);
        let plan = Plan::new(8e-3, 0.2, Sampling::default());
        assert_eq!((plan.samples, plan.repeats, plan.warm_up), (4, 1, 1));
        assert_eq!((0..25).filter(|&turn| plan.takes(turn, 25)).count(), 5);
    }
}
