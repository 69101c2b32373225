//! How many random candidates a subset sum needs: the theory's claim, measured.
//!
//! Candidates x₁, x₂, … are uniform on [−1, 1), each may be moved by ε, and n* is the smallest n for which the first n meet
//! every target of [−1/2, 1/2], or one random target of it, within η. Both are decided by all 2ⁿ subsets, never by a grid of
//! targets, and exactly but for η, ε and the target, which are rounded to multiples of 2⁻²⁵ (3e-8; the candidates are such
//! multiples): see [`Coverage`].
//!
//! A trial's candidates are the same for every η and every ε/η. More tolerance or more perturbation can therefore only
//! lower its n*: the quantiles are monotone by construction, and differences between them are those of the same draws.

use std::time::Instant;

use rayon::prelude::*;
use slth_kernels::subset_sum::{BRUTE_FORCE_LIMIT, Coverage};
use slth_kernels::{Backend, Engine};

use super::config::{CandidatesConfig, Criterion};
use super::published::paper_candidates;
use crate::error::Error;
use crate::progress::Progress;
use crate::random::{Purpose, Stream};
use crate::run::experiment::start_pool;

/// What one η and one ε/η need.
#[derive(Clone, Debug, PartialEq)]
pub struct Needed {
    /// η.
    pub eta: f64,
    /// ε/η.
    pub ratio: f64,
    /// n* of every trial, ascending; those that need more than 30 candidates last, as `None`.
    pub counts: Vec<Option<usize>>,
}

impl Needed {
    /// The smallest n for which at least the fraction `quantile`, in (0, 1], of the trials succeed; `None` where that takes
    /// more than 30 candidates.
    pub fn quantile(&self, quantile: f64) -> Option<usize> {
        let trials = self.counts.len();
        let rank = libm::ceil(quantile * trials as f64 - 1e-9) as usize;
        self.counts[rank.clamp(1, trials) - 1]
    }

    /// What the paper plots here (90 %), where it plots something.
    pub fn paper(&self) -> Option<usize> {
        paper_candidates(self.eta, self.ratio)
    }
}

/// The measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct RequiredCandidates {
    /// What went in.
    pub config: CandidatesConfig,
    /// The instruction set it ran on.
    pub backend: Backend,
    /// The threads it ran on.
    pub threads: usize,
    /// Wall time in seconds.
    pub seconds: f64,
    /// For each η, for each ε/η, in the configuration's order.
    pub needed: Vec<Needed>,
}

impl RequiredCandidates {
    /// Candidates more per decade of 1/η at ε/η = `ratio`: the least-squares slope of the 90 % quantiles. `paper`: of the
    /// paper's numbers at the same η. `None` where fewer than two are known.
    pub fn slope_per_decade(&self, ratio: f64, paper: bool) -> Option<f64> {
        Some(self.fit(ratio, paper)?[0])
    }

    /// The line that slope belongs to: slope, and candidates at η = 1.
    pub(crate) fn fit(&self, ratio: f64, paper: bool) -> Option<[f64; 2]> {
        let points: Vec<[f64; 2]> = self
            .needed
            .iter()
            .filter(|needed| needed.ratio == ratio)
            .filter_map(|needed| Some([-libm::log10(needed.eta), n90(needed, paper)? as f64]))
            .collect();
        fit(&points)
    }

    /// How many fewer candidates the largest ε/η needs than the smallest, at `eta` and 90 %. `paper`: in the paper.
    pub fn fall(&self, eta: f64, paper: bool) -> Option<i64> {
        let at = |ratio: f64| {
            let needed = self.needed.iter().find(|needed| needed.eta == eta && needed.ratio == ratio)?;
            n90(needed, paper)
        };
        let [least, most] = self.ratio_range();
        Some(at(least)? as i64 - at(most)? as i64)
    }

    /// The smallest and the largest ε/η.
    pub fn ratio_range(&self) -> [f64; 2] {
        let ratios = self.config.ratio.iter().copied();
        [ratios.clone().fold(f64::INFINITY, f64::min), ratios.fold(0.0, f64::max)]
    }
}

fn n90(needed: &Needed, paper: bool) -> Option<usize> {
    if paper { needed.paper() } else { needed.quantile(0.9) }
}

/// Slope and intercept of the least-squares line through two points of different x or more.
fn fit(points: &[[f64; 2]]) -> Option<[f64; 2]> {
    let n = points.len() as f64;
    let mean = |axis: usize| points.iter().map(|p| p[axis]).sum::<f64>() / n;
    let (x, y) = (mean(0), mean(1));
    let (over, under) = points.iter().fold((0.0, 0.0), |(over, under), p| {
        (over + (p[0] - x) * (p[1] - y), under + (p[0] - x) * (p[0] - x))
    });
    (under > 0.0).then(|| [over / under, y - x * over / under])
}

/// Measures on a pool of its own of `config.threads` threads. The result depends on neither threads nor backend.
///
/// Time: 2ⁿ* steps a trial. Memory: 8 bytes · 2/η a thread.
///
/// # Errors
/// When the configuration makes no sense, a backend or threads cannot be had, or `watch` asks for the end.
///
/// ```
/// use slth::{candidates::{CandidatesConfig, required_candidates}, training::NoProgress};
/// let config =
///     CandidatesConfig { eta: vec![0.1, 0.01], ratio: vec![0.0, 10.0], trials: 20, ..Default::default() };
/// let found = required_candidates(&config, &NoProgress)?;
/// let [loose, _, strict, perturbed] = &found.needed[..] else { unreachable!() };
/// assert!(loose.quantile(0.9) < strict.quantile(0.9)); // 1/η grows
/// assert!(perturbed.quantile(0.9) < strict.quantile(0.9)); // ε grows
/// # Ok::<(), slth::Error>(())
/// ```
pub fn required_candidates(
    config: &CandidatesConfig,
    watch: &dyn Progress,
) -> Result<RequiredCandidates, Error> {
    config.validate()?;
    let (engine, pool) = start_pool(config.backend, config.threads)?;
    let cells: Vec<[f64; 2]> =
        config.eta.iter().flat_map(|&eta| config.ratio.iter().map(move |&ratio| [eta, ratio])).collect();
    let begin = Instant::now();
    watch.begin("trials", config.trials);
    let trial = |trial: usize| {
        if watch.stopped() {
            return Err(Error::Stopped);
        }
        let counts: Result<Vec<_>, Error> =
            cells.iter().map(|&[eta, ratio]| needed(engine, config, trial, eta, ratio)).collect();
        watch.advance(1);
        counts
    };
    let trials: Vec<Vec<Option<usize>>> =
        pool.install(|| (0..config.trials).into_par_iter().map(trial).collect::<Result<_, _>>())?;
    watch.end();
    let collect = |(cell, &[eta, ratio]): (usize, &[f64; 2])| {
        let mut counts: Vec<_> = trials.iter().map(|counts| counts[cell]).collect();
        counts.sort_unstable_by_key(|count| count.unwrap_or(usize::MAX));
        Needed { eta, ratio, counts }
    };
    Ok(RequiredCandidates {
        config: config.clone(),
        backend: engine.backend(),
        threads: pool.current_num_threads(),
        seconds: begin.elapsed().as_secs_f64(),
        needed: cells.iter().enumerate().map(collect).collect(),
    })
}

/// n* of one trial.
fn needed(
    engine: Engine,
    config: &CandidatesConfig,
    trial: usize,
    eta: f64,
    ratio: f64,
) -> Result<Option<usize>, Error> {
    let [from, to] = match config.criterion {
        Criterion::Every => [-0.5, 0.5],
        Criterion::One => [Stream::new(config.seed, Purpose::SubsetTarget, 0, trial).symmetric(0.5); 2],
    };
    let mut candidates = Stream::new(config.seed, Purpose::Candidates, 0, trial);
    let mut coverage = Coverage::new(from, to, (eta * ratio) as f32, eta as f32)?;
    let mut n = 0;
    while !coverage.is_covered() {
        if n == BRUTE_FORCE_LIMIT {
            return Ok(None);
        }
        coverage.push(engine, candidates.symmetric(1.0))?;
        n += 1;
    }
    Ok(Some(n))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::NoProgress;

    fn small() -> CandidatesConfig {
        CandidatesConfig {
            eta: vec![0.05, 0.01, 0.003],
            ratio: vec![0.0, 0.5, 1.0, 5.0],
            trials: 40,
            ..CandidatesConfig::default()
        }
    }

    /// The definition, by a sorted list of all intervals in f64.
    fn oracle(config: &CandidatesConfig, trial: usize, eta: f64, ratio: f64) -> usize {
        let [from, to] = match config.criterion {
            Criterion::Every => [-0.5, 0.5],
            Criterion::One => {
                [f64::from(Stream::new(config.seed, Purpose::SubsetTarget, 0, trial).symmetric(0.5)); 2]
            }
        };
        let mut stream = Stream::new(config.seed, Purpose::Candidates, 0, trial);
        let mut sums = vec![[0.0, 0.0]];
        for n in 0.. {
            let mut intervals: Vec<[f64; 2]> = sums
                .iter()
                .map(|&[sum, size]| [sum - eta - ratio * eta * size, sum + eta + ratio * eta * size])
                .collect();
            intervals.sort_unstable_by(|a, b| a[0].total_cmp(&b[0]));
            let reach = intervals.iter().fold(from - 1e-12, |reach: f64, &[lower, upper]| {
                if lower <= reach.max(from) && upper >= from { reach.max(upper) } else { reach }
            });
            if reach >= to {
                return n;
            }
            let x = f64::from(stream.symmetric(1.0));
            let more: Vec<_> = sums.iter().map(|&[sum, size]| [sum + x, size + 1.0]).collect();
            sums.extend(more);
        }
        unreachable!()
    }

    #[test]
    fn counts_are_those_of_the_definition() {
        for criterion in [Criterion::Every, Criterion::One] {
            let config = CandidatesConfig { criterion, trials: 12, ..small() };
            let found = required_candidates(&config, &NoProgress).unwrap();
            for needed in &found.needed {
                let mut expected: Vec<_> =
                    (0..12).map(|trial| Some(oracle(&config, trial, needed.eta, needed.ratio))).collect();
                expected.sort_unstable();
                assert_eq!(needed.counts, expected, "{criterion:?} {} {}", needed.eta, needed.ratio);
            }
        }
    }

    #[test]
    fn threads_and_backends_do_not_matter_and_more_tolerance_never_costs() {
        for criterion in [Criterion::Every, Criterion::One] {
            let config = CandidatesConfig { criterion, ..small() };
            let first = required_candidates(&config, &NoProgress).unwrap().needed;
            for (&backend, threads) in Backend::available().iter().zip([3, 1, 2, 7]) {
                let config =
                    CandidatesConfig { threads: Some(threads), backend: Some(backend), ..config.clone() };
                assert_eq!(required_candidates(&config, &NoProgress).unwrap().needed, first, "{backend}");
            }
            for (a, b) in first.iter().zip(&first[1..]).filter(|(a, b)| a.eta == b.eta) {
                assert!(a.counts.iter().zip(&b.counts).all(|(a, b)| a >= b));
            }
            for (a, b) in first.iter().zip(&first[4..]) {
                assert!(a.counts.iter().zip(&b.counts).all(|(a, b)| a <= b));
            }
        }
    }

    /// By exact enumeration in another program, each within 1.
    #[test]
    fn counts_are_the_known_ones() {
        let known = [(1e-2, [13, 11, 7, 7]), (1e-3, [16, 13, 12, 11]), (1e-4, [20, 17, 16, 13])];
        let config = CandidatesConfig {
            eta: known.map(|(eta, _)| eta).to_vec(),
            ratio: vec![0.0, 1.0, 5.0, 10.0],
            ..CandidatesConfig::default()
        };
        let found = required_candidates(&config, &NoProgress).unwrap();
        let n90: Vec<usize> = found.needed.iter().map(|needed| needed.quantile(0.9).unwrap()).collect();
        let expected = known.iter().flat_map(|(_, counts)| counts);
        assert!(n90.iter().zip(expected).all(|(n, known)| n.abs_diff(*known) <= 1), "{n90:?}");
        let rows: Vec<&[usize]> = n90.chunks(4).collect();
        assert!(rows.iter().all(|row| row.windows(2).all(|pair| pair[0] >= pair[1])), "{n90:?}");
        assert!(rows.windows(2).all(|rows| (0..4).all(|i| rows[0][i] < rows[1][i])), "{n90:?}");
    }

    #[test]
    fn quantiles_and_fits() {
        let needed = |counts: &[usize]| Needed {
            eta: 1e-2,
            ratio: 0.0,
            counts: counts.iter().map(|&n| Some(n)).collect(),
        };
        let ten = needed(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!([0.5, 0.9, 0.91, 0.99].map(|q| ten.quantile(q)), [5, 9, 10, 10].map(Some));
        assert_eq!(needed(&[7]).quantile(0.5), Some(7));
        assert_eq!(ten.paper(), Some(19));
        assert_eq!(fit(&[[2.0, 13.0], [3.0, 16.0], [4.0, 19.0]]), Some([3.0, 7.0]));
        assert_eq!(fit(&[[2.0, 13.0]]), None);
        assert_eq!(fit(&[]), None);
    }

    #[test]
    fn what_takes_too_many_is_told() {
        // No perturbation, hardly any tolerance, one trial: beyond 30 candidates is not searched.
        let needed = Needed { eta: 1e-6, ratio: 0.0, counts: vec![Some(30), None] };
        assert_eq!((needed.quantile(0.5), needed.quantile(0.9)), (Some(30), None));
    }
}
