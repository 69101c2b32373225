//! A network approximated weight by weight.

use std::time::Instant;

use rayon::ThreadPool;
use rayon::prelude::*;
use slth_kernels::subset_sum::{BRUTE_FORCE_LIMIT, Search, Subset as Chosen};
use slth_kernels::{Backend, Engine};

use super::check::{Check, check};
use super::config::{ApproximateConfig, Draw, PIECE};
use super::construction::Construction;
use super::target::Target;
use crate::data::{Augmentation, Dataset, Subset};
use crate::error::Error;
use crate::network::{Architecture, LayerShape};
use crate::progress::Progress;
use crate::random::{Purpose, Stream};
use crate::run::experiment::start_pool;
use crate::training::{Evaluation, Trainer};

/// A network approximated.
#[derive(Clone, Debug, PartialEq)]
pub struct Approximation {
    /// How far candidates were moved at most.
    pub epsilon: f32,
    /// n.
    pub candidates_per_weight: usize,
    /// The tolerance.
    pub eta: f64,
    /// What was chosen for each weight, layer by layer.
    pub subsets: Vec<Vec<Chosen>>,
    /// The network it gives: each weight the sum of its subset, perturbed, rounded once to f32; `[outputs, inputs]`.
    pub weights: Vec<Vec<f32>>,
    /// Wall time in seconds of drawing and searching.
    pub seconds: f64,
}

/// Approximates one target, on a pool of its own.
///
/// ```
/// use slth::{approximate::{ApproximateConfig, Approximator, Target}, progress::NoProgress};
/// let target = Target::draw("20-10-5".parse().unwrap(), 1);
/// let config = ApproximateConfig { eta: 0.02, ..ApproximateConfig::default() };
/// let approximator = Approximator::new(&config, &target)?;
/// let plain = approximator.approximate(0.0, &NoProgress)?;
/// assert_eq!((plain.candidates_per_weight, plain.summary().failed), (18, 0));
/// let perturbed = approximator.approximate(1e-4, &NoProgress)?;
/// assert!(perturbed.summary().mean_residual < plain.summary().mean_residual);
/// assert_eq!(approximator.check(&plain, &NoProgress).beyond, 0);
/// # Ok::<(), slth::Error>(())
/// ```
#[derive(Debug)]
pub struct Approximator<'a> {
    pub(super) config: &'a ApproximateConfig,
    pub(super) target: &'a Target,
    engine: Engine<'static>,
    pool: ThreadPool,
    /// Of the candidates: least and largest weight.
    range: [f32; 2],
}

impl<'a> Approximator<'a> {
    /// Checks the configuration and starts the threads.
    ///
    /// # Errors
    /// When the configuration makes no sense, or a backend or threads cannot be had.
    pub fn new(config: &'a ApproximateConfig, target: &'a Target) -> Result<Self, Error> {
        config.validate()?;
        let (engine, pool) = start_pool(config.backend, config.threads)?;
        Ok(Self { config, target, engine, pool, range: target.range() })
    }

    /// The instruction set and the number of threads.
    pub fn runs_on(&self) -> (Backend, usize) {
        (self.engine.backend(), self.pool.current_num_threads())
    }

    /// Finds the best subset for every weight. The time is that of one search per weight: at n = 21 and ε = 0 some 3 µs on
    /// one thread where each weight has its own candidates, 1 µs where a row shares them.
    ///
    /// # Errors
    /// When ε is negative or not finite.
    pub fn approximate(&self, epsilon: f32, watch: &dyn Progress) -> Result<Approximation, Error> {
        let n = self.config.candidates_per_weight();
        let begin = Instant::now();
        let search = Search { epsilon, ..Search::default() };
        let approximate = |layer: usize, piece: usize, targets: &[f32]| {
            let candidates = self.candidates(layer, piece, targets.len(), n);
            let mut subsets = vec![Chosen::default(); targets.len()];
            self.search(search, &candidates, n, targets, &mut subsets)?;
            let weight = |(i, (&subset, &target)): (usize, (&Chosen, &f32))| {
                perturbed_sum(subset, self.config.draw.own(&candidates, n, i), target, epsilon) as f32
            };
            let weights: Vec<f32> = subsets.iter().zip(targets).enumerate().map(weight).collect();
            Ok((subsets, weights))
        };
        let pieces = self.each_piece(&format!("weights, ε = {epsilon}"), watch, approximate)?;
        let layer = |pieces: Vec<(Vec<Chosen>, Vec<f32>)>| {
            let (subsets, weights): (Vec<_>, Vec<_>) = pieces.into_iter().unzip();
            (subsets.concat(), weights.concat())
        };
        let (subsets, weights) = pieces.into_iter().map(layer).unzip();
        let seconds = begin.elapsed().as_secs_f64();
        let eta = self.config.eta;
        Ok(Approximation { epsilon, candidates_per_weight: n, eta, subsets, weights, seconds })
    }

    /// The smallest n at which no weight fails; `None` where that takes more than 30 candidates. As the candidates of n are
    /// the first of n + 1, only the weights that still fail are searched again.
    ///
    /// # Errors
    /// When ε is negative or not finite.
    pub fn smallest(&self, epsilon: f32, watch: &dyn Progress) -> Result<Option<usize>, Error> {
        const MOST: usize = BRUTE_FORCE_LIMIT;
        let search = Search { epsilon, ..Search::default() };
        let needed = |layer: usize, piece: usize, targets: &[f32]| {
            let all = self.candidates(layer, piece, targets.len(), MOST);
            let mut left: Vec<usize> = (0..targets.len()).collect();
            for n in 1..=MOST {
                let failing: Vec<f32> = left.iter().map(|&i| targets[i]).collect();
                let own = |&i: &usize| &self.config.draw.own(&all, MOST, i)[..n];
                let candidates: Vec<f32> = match self.config.draw {
                    Draw::PerRow => all[..n].to_vec(),
                    Draw::PerWeight => left.iter().flat_map(own).copied().collect(),
                };
                let mut found = vec![Chosen::default(); left.len()];
                self.search(search, &candidates, n, &failing, &mut found)?;
                let mut fails = found.iter().map(|subset| subset.residual > self.config.eta);
                left.retain(|_| fails.next() == Some(true));
                if left.is_empty() {
                    return Ok(n);
                }
            }
            Ok(MOST + 1)
        };
        let needed = self.each_piece(&format!("smallest n, ε = {epsilon}"), watch, needed)?;
        Ok(needed.into_iter().flatten().max().filter(|&n| n <= MOST))
    }

    /// Compares every subset with the optimum, found anew in f64 by another algorithm (a sorted list and a binary search
    /// for each of the other half's subsets: 2^(n/2) · n/2 steps).
    ///
    /// # Panics
    /// When the approximation is another target's.
    pub fn check(&self, approximation: &Approximation, watch: &dyn Progress) -> Check {
        let Approximation { epsilon, candidates_per_weight: n, ref subsets, .. } = *approximation;
        let check = |layer: usize, piece: usize, targets: &[f32]| {
            let subsets = &subsets[layer][piece * self.piece(layer)..][..targets.len()];
            let candidates = self.candidates(layer, piece, targets.len(), n);
            Ok(check(epsilon, n, &candidates, self.config.draw, targets, subsets))
        };
        let checks = self.each_piece("weights checked", watch, check);
        checks.into_iter().flatten().flatten().fold(Check::default(), Check::and)
    }

    /// How a network of the target's widths does on the test images.
    ///
    /// # Errors
    /// When the target does not fit the data.
    pub fn evaluate(&self, weights: &[Vec<f32>], dataset: &Dataset) -> Result<Evaluation, Error> {
        self.fits(dataset)?;
        self.trainer(&self.target.network, &Subset::all(dataset.test()), dataset).evaluate_dense(weights)
    }

    /// Checks that the target takes the images of `dataset` and tells its classes apart.
    ///
    /// # Errors
    /// [`Error::Config`] of the field `target` when not.
    pub fn fits(&self, dataset: &Dataset) -> Result<(), Error> {
        crate::run::check_network("target", &self.target.network, dataset)
    }

    /// Builds the theorem's network for the target; the candidates of every weight are its own.
    ///
    /// # Errors
    /// When it would be too large.
    pub fn construct(&self, epsilon: f32, watch: &dyn Progress) -> Result<Construction, Error> {
        let n = self.config.candidates_per_weight();
        let engine = self.engine.on_pool(&self.pool);
        watch.begin(&format!("weights built, ε = {epsilon}"), self.target.network.weights());
        let built = Construction::new(engine, self.target, n, epsilon, self.config, watch);
        watch.end();
        built
    }

    /// How it does on the test images, by its kept weights only.
    ///
    /// # Errors
    /// When the target does not fit the data.
    pub fn evaluate_construction(
        &self,
        built: &Construction,
        dataset: &Dataset,
    ) -> Result<Evaluation, Error> {
        self.fits(dataset)?;
        self.trainer(&built.network, &Subset::all(dataset.test()), dataset).evaluate_pruned(&built.layers)
    }

    fn trainer<'t>(
        &'t self,
        network: &'t Architecture,
        images: &'t Subset<'t>,
        dataset: &Dataset,
    ) -> Trainer<'t> {
        let engine = self.engine.on_pool(&self.pool);
        let normalisation = dataset.normalisation(self.config.normalize);
        Trainer { engine, network, images, normalisation, augmentation: Augmentation::None }
    }

    /// What `work` makes of each piece of the weights, given its layer, its place in it and the weights; layer by layer.
    fn each_piece<T: Send>(
        &self,
        task: &str,
        watch: &dyn Progress,
        work: impl Fn(usize, usize, &[f32]) -> Result<T, Error> + Sync,
    ) -> Result<Vec<Vec<T>>, Error> {
        watch.begin(task, self.target.network.weights());
        let layer = |(layer, targets): (usize, &Vec<f32>)| {
            let work = |(piece, targets): (usize, &[f32])| {
                let done = work(layer, piece, targets);
                watch.advance(targets.len());
                done
            };
            targets.par_chunks(self.piece(layer)).enumerate().map(work).collect()
        };
        let done = self.pool.install(|| self.target.weights.iter().enumerate().map(layer).collect());
        watch.end();
        done
    }

    /// Weights of a piece of work: those that share candidates.
    fn piece(&self, layer: usize) -> usize {
        match self.config.draw {
            Draw::PerRow => {
                self.target.network.layers().nth(layer).map_or(1, |LayerShape { inputs, .. }| inputs)
            }
            Draw::PerWeight => PIECE,
        }
    }

    /// The candidates of piece `piece` of `weights` weights: `[n]` of a row, or `[weights, n]`.
    fn candidates(&self, layer: usize, piece: usize, weights: usize, n: usize) -> Vec<f32> {
        let [least, most] = self.range.map(f64::from);
        let keys = match self.config.draw {
            Draw::PerRow => piece..piece + 1,
            Draw::PerWeight => piece * PIECE..piece * PIECE + weights,
        };
        keys.flat_map(|key| {
            let mut stream = Stream::new(self.config.seed, Purpose::Candidates, layer, key);
            (0..n).map(move |_| (least + (most - least) * f64::from(stream.unit())) as f32)
        })
        .collect()
    }

    fn search(
        &self,
        search: Search,
        candidates: &[f32],
        n: usize,
        targets: &[f32],
        subsets: &mut [Chosen],
    ) -> Result<(), Error> {
        match self.config.draw {
            Draw::PerRow => search.nearest_many(self.engine, candidates, targets, subsets)?,
            Draw::PerWeight => search.nearest_each(self.engine, candidates, n, targets, subsets)?,
        }
        Ok(())
    }
}

/// The sum of the chosen candidates, all of them moved alike towards the target, none by more than ε.
fn perturbed_sum(subset: Chosen, candidates: &[f32], target: f32, epsilon: f32) -> f64 {
    let sum = subset.sum(candidates);
    let allowance = f64::from(epsilon) * f64::from(subset.size());
    sum + (f64::from(target) - sum).clamp(-allowance, allowance)
}
