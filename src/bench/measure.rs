//! Taking turns, and taking the time.

use std::time::Duration;

use super::case::{Case, Contestant, Machinery};
use super::measurement::Measurement;
use crate::error::Error;

/// How often to measure.
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    /// How long a case may take; at most 51 rounds are made of it, and 3 at least, or 1 where that takes seconds.
    pub budget: Duration,
    /// So many rounds, whatever time they take.
    pub rounds: Option<usize>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { budget: Duration::from_secs(10), rounds: None }
    }
}

/// A sample repeats short runs until it is at least so long: a thousand times what reading the clock takes.
const SAMPLE: f64 = 1e-3;

/// A run shorter than this is preceded by one that is not timed: what lies in the caches is then its own data.
const SHORT: f64 = 20e-3;

/// A round longer than this, in seconds, need not be repeated.
const LONG: f64 = 5.0;

/// Checks all contestants of `case`, then measures them in turns.
///
/// # Errors
/// When a result is wrong.
pub fn measure(case: &Case, machinery: &Machinery, sampling: Sampling) -> Result<Vec<Measurement>, Error> {
    let mut contestants = case.prepare(machinery)?;
    let times: Vec<f64> = contestants.iter_mut().map(|c| c.run(1).as_secs_f64()).collect();
    let repeats: Vec<u64> =
        times.iter().map(|&time| (SAMPLE / time.max(1e-9)).ceil().max(1.0) as u64).collect();
    let round: f64 = times
        .iter()
        .zip(&repeats)
        .map(|(&time, &repeats)| time * (repeats + u64::from(time < SHORT)) as f64)
        .sum();
    let rounds = (sampling.budget.as_secs_f64() / round.max(1e-9)) as usize;
    let rounds = sampling.rounds.unwrap_or(rounds.clamp(if round > LONG { 1 } else { 3 }, 51)).max(1);
    // Long runs count from the first on.
    let first = |&time: &f64| if time < SHORT { Vec::new() } else { vec![time] };
    let mut samples: Vec<Vec<f64>> = times.iter().map(first).collect();
    for _ in 0..rounds {
        for (i, contestant) in contestants.iter_mut().enumerate() {
            if times[i] < SHORT {
                contestant.run(1);
            }
            samples[i].push(contestant.run(repeats[i]).as_secs_f64() / repeats[i] as f64);
        }
    }
    let measurement = |(contestant, mut samples): (Contestant, Vec<f64>)| {
        samples.sort_by(f64::total_cmp);
        Measurement {
            task: case.task.clone(),
            who: contestant.who,
            role: contestant.role,
            backend: contestant.backend.map(str::to_owned),
            threads: contestant.threads,
            unit: contestant.unit,
            work: contestant.work,
            seconds: quantile(&samples, 0.5),
            least: samples[0],
            quartiles: [0.25, 0.75].map(|q| quantile(&samples, q)),
            rounds: samples.len(),
        }
    };
    Ok(contestants.into_iter().zip(samples).map(measurement).collect())
}

/// Of sorted numbers, between two of them linearly.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q * (sorted.len() - 1) as f64;
    let (below, part) = (place as usize, place.fract());
    sorted[below] + part * (sorted[(below + 1).min(sorted.len() - 1)] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn quantiles() {
        assert_eq!(quantile(&[3.0], 0.25), 3.0);
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.5), 2.0);
        assert_eq!(quantile(&[1.0, 2.0, 4.0, 8.0], 0.75), 5.0);
    }
}
