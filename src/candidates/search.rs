//! Measures how many random candidates a subset sum needs.
//!
//! Candidates x₁, x₂, … are uniform on [−1, 1), each may be moved by ε, and n* is the smallest n for which the first n meet
//! every target of [−1/2, 1/2], or one random target of it, within η. Both are decided by all 2ⁿ subsets, never by a grid of
//! targets, and exactly but for η, ε and the target, which are rounded to multiples of 2⁻²⁵ (3e-8; the candidates are such
//! multiples): see [`Coverage`].
//!
//! Subsets have any size, exactly k candidates, or a fraction of the n: the kept weights of a sparse network (Natale et al. 2024,
//! "On the Sparsity of the Strong Lottery Ticket Hypothesis"). A fraction gives each n its own k, so
//! a larger n may miss what a smaller one met; n* is the smallest n that meets every target.
//!
//! A trial's candidates are the same for every η and every ε/η. More tolerance or more perturbation can therefore only
//! lower its n*: the quantiles are monotone by construction, and differences between them are those of the same draws.

use std::time::Instant;

use rayon::prelude::*;
use slth_kernels::subset_sum::{BRUTE_FORCE_LIMIT, Coverage, Sizes};
use slth_kernels::{Backend, Engine};

use super::config::{CandidatesConfig, Criterion, SubsetSize};
use crate::error::Error;
use crate::progress::Progress;
use crate::random::{Purpose, Stream};
use crate::run::experiment::start_pool;

/// The binary entropy of `p`, in bits: of n candidates there are about 2^(n · H(k/n)) subsets of k.
///
/// ```
/// assert_eq!(slth::candidates::entropy(0.5), 1.0);
/// ```
pub fn entropy(p: f64) -> f64 {
    -(p * libm::log2(p) + (1.0 - p) * libm::log2(1.0 - p))
}

/// The numbers of candidates for one η and one ε/η.
#[derive(Clone, Debug, PartialEq)]
pub struct Needed {
    /// η.
    pub eta: f64,
    /// ε/η.
    pub ratio: f64,
    /// The sizes of subsets.
    pub size: SubsetSize,
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

    /// The paper's point (90 %), if it has one.
    pub fn paper(&self) -> Option<usize> {
        if self.size == SubsetSize::Any { paper_candidates(self.eta, self.ratio) } else { None }
    }
}

/// The paper's number of candidates at η and ε/η (90 % of candidate sets succeed), read off its authors' plot.
///
/// ```
/// use slth::candidates::paper_candidates;
/// assert_eq!(paper_candidates(1e-3, 10.0), Some(17));
/// assert_eq!(paper_candidates(0.5, 10.0), None);
/// ```
pub fn paper_candidates(eta: f64, ratio: f64) -> Option<usize> {
    let table = crate::input::table(include_str!("published.csv"));
    table.into_iter().find(|row| row[..2] == [eta, ratio]).map(|[_, _, n]| n as usize)
}

/// The measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct RequiredCandidates {
    /// The configuration.
    pub config: CandidatesConfig,
    /// The instruction set it ran on.
    pub backend: Backend,
    /// The threads it ran on.
    pub threads: usize,
    /// Wall time in seconds.
    pub seconds: f64,
    /// For each size, for each η, for each ε/η, in the configuration's order.
    pub needed: Vec<Needed>,
}

impl RequiredCandidates {
    /// The part of the measurement that is about subsets of one size.
    pub fn of_size(&self, size: SubsetSize) -> Self {
        let needed = self.needed.iter().filter(|needed| needed.size == size).cloned().collect();
        Self { config: CandidatesConfig { size: vec![size], ..self.config.clone() }, needed, ..*self }
    }

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

/// Measures on its own pool of `config.threads` threads. The result depends on neither threads nor backend.
///
/// Time: 2ⁿ* steps a trial. Memory: 8 bytes · 2/η a thread.
///
/// # Errors
/// When the configuration is invalid, a backend or threads are not available, or `watch` stops the work.
///
/// ```
/// use slth::{candidates::{CandidatesConfig, required_candidates}, progress::NoProgress};
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
    let cells: Vec<(SubsetSize, f64, f64)> = config
        .size
        .iter()
        .flat_map(|&size| config.eta.iter().map(move |&eta| (size, eta)))
        .flat_map(|(size, eta)| config.ratio.iter().map(move |&ratio| (size, eta, ratio)))
        .collect();
    let begin = Instant::now();
    watch.begin("trials", config.trials);
    let trial = |trial: usize| {
        if watch.stopped() {
            return Err(Error::Stopped);
        }
        let counts: Result<Vec<_>, Error> =
            cells.iter().map(|&cell| needed(engine, config, trial, cell)).collect();
        watch.advance(1);
        counts
    };
    let trials: Vec<Vec<Option<usize>>> =
        pool.install(|| (0..config.trials).into_par_iter().map(trial).collect::<Result<_, _>>())?;
    watch.end();
    let collect = |(cell, &(size, eta, ratio)): (usize, &(SubsetSize, f64, f64))| {
        let mut counts: Vec<_> = trials.iter().map(|counts| counts[cell]).collect();
        counts.sort_unstable_by_key(|count| count.unwrap_or(usize::MAX));
        Needed { eta, ratio, size, counts }
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
    (size, eta, ratio): (SubsetSize, f64, f64),
) -> Result<Option<usize>, Error> {
    let [from, to] = match config.criterion {
        Criterion::Every => [-0.5, 0.5],
        Criterion::One => [Stream::new(config.seed, Purpose::SubsetTarget, 0, trial).symmetric(0.5); 2],
    };
    let epsilon = eta * ratio;
    // The first n of the candidates that cover, of at most so many.
    let covered_by = |sizes: Sizes, most: usize| -> Result<Option<usize>, Error> {
        let mut candidates = Stream::new(config.seed, Purpose::Candidates, 0, trial);
        let mut coverage = Coverage::with_sizes(from, to, epsilon as f32, eta as f32, sizes)?;
        let mut n = 0;
        while !coverage.is_covered() && n < most {
            coverage.push(engine, candidates.symmetric(1.0))?;
            n += 1;
        }
        Ok(coverage.is_covered().then_some(n))
    };
    let SubsetSize::Fraction(_) = size else { return covered_by(size.of(0), BRUTE_FORCE_LIMIT) };
    for n in 0..=BRUTE_FORCE_LIMIT {
        let sizes = size.of(n);
        // All intervals together must be as long as what they cover.
        let reach = 2.0 * (eta + epsilon * n as f64) * subsets(n, sizes);
        if reach >= f64::from(to - from) && covered_by(sizes, n)?.is_some() {
            return Ok(Some(n));
        }
    }
    Ok(None)
}

/// How many subsets of n candidates have the size.
fn subsets(n: usize, sizes: Sizes) -> f64 {
    let Sizes::Exactly(size) = sizes else { return f64::INFINITY };
    (0..size).fold(1.0, |subsets, i| subsets * (n - i) as f64 / (i + 1) as f64)
}
