//! Tensors approximated weight by weight.

use std::ops::{ControlFlow, Range, RangeInclusive};
use std::time::Instant;

use rayon::ThreadPool;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use slth_kernels::subset_sum::{BRUTE_FORCE_LIMIT, Search, Sizes, Subset as Chosen};
use slth_kernels::{Backend, Engine};

use super::check::{Check, check};
use super::config::{ApproximateConfig, Draw};
use super::construction::Construction;
use super::result::ApproximationRow;
use super::target::Target;
use crate::candidates::SubsetSize;
use crate::data::{Augmentation, Dataset, Subset};
use crate::error::Error;
use crate::network::Architecture;
use crate::progress::Progress;
use crate::random::{Purpose, Stream};
use crate::run::experiment::start_pool;
use crate::run::hash::hex;
use crate::tensors::{TensorEntry, TensorFile, encode, finite, little_endian};
use crate::training::{Evaluation, Trainer};

/// Weights that are read and rebuilt at once.
const CHUNK: usize = 1 << 20;

/// A tensor that is rebuilt, and its scales.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    pub(super) tensor: &'a TensorEntry,
    /// Weights of a row.
    pub(super) row: usize,
    /// Range of the candidates.
    pub(super) range: [f32; 2],
    /// Factor of η and ε.
    scale: f64,
}

/// Rebuilt weights: a part of a tensor.
#[derive(Debug)]
pub struct Rebuilt<'a> {
    /// The tensor.
    pub tensor: &'a TensorEntry,
    /// The first one's place in it.
    pub first: usize,
    /// The subset of each weight.
    pub subsets: Vec<Chosen>,
    /// The rebuilt weights, as the file stores them: each the perturbed sum of its subset, rounded once to the tensor's type.
    pub bytes: Vec<u8>,
}

impl Rebuilt<'_> {
    /// The weights; those of f64 are rounded to f32.
    pub fn weights(&self) -> Vec<f32> {
        finite(self.tensor.info.dtype, &self.bytes).expect("finite as they are rounded")
    }
}

/// Approximates the tensors of one file, on its own pool. A tensor is read, rebuilt and passed on in chunks of a million weights:
/// memory does not grow with the file.
///
/// ```
/// use slth::{approximate::{ApproximateConfig, Approximator, Target}, progress::NoProgress};
/// let target = Target::draw("20-10-5".parse().unwrap(), 1).to_tensors();
/// let config = ApproximateConfig { eta: 0.02, ..ApproximateConfig::default() };
/// let approximator = Approximator::new(&config, &target)?;
/// let (plain, check) = approximator.approximate(0.0, true, &mut |_| Ok(()), &NoProgress)?;
/// assert_eq!((plain.candidates_per_weight, plain.failed, check.unwrap().beyond), (18, 0, 0));
/// let (perturbed, _) = approximator.approximate(1e-4, false, &mut |_| Ok(()), &NoProgress)?;
/// assert!(perturbed.mean_residual < plain.mean_residual);
/// # Ok::<(), slth::Error>(())
/// ```
#[derive(Debug)]
pub struct Approximator<'a> {
    pub(super) config: &'a ApproximateConfig,
    pub(super) tensors: &'a TensorFile,
    pub(super) parts: Vec<Part<'a>>,
    /// SHA-256, in hex, over the weights to be rebuilt as little-endian f32.
    pub(super) hash: String,
    engine: Engine<'static>,
    pool: ThreadPool,
}

impl<'a> Approximator<'a> {
    /// Checks the configuration, starts the threads, and reads all weights once, for their range.
    ///
    /// # Errors
    /// When the configuration is invalid or selects no tensor, the file cannot be read or has weights that are not finite, or
    /// backend or threads are not available.
    pub fn new(config: &'a ApproximateConfig, tensors: &'a TensorFile) -> Result<Self, Error> {
        config.validate()?;
        let (engine, pool) = start_pool(config.backend, config.threads)?;
        let chosen = tensors.chosen(config.only.as_deref(), config.skip.as_deref())?;
        let part = |tensor| Part { tensor, row: tensor.row(), range: [0.0; 2], scale: 1.0 };
        let mut parts: Vec<Part<'_>> = chosen.into_iter().map(part).collect();
        let mut hash = Sha256::new();
        for part in &mut parts {
            for chunk in chunks(part.tensor) {
                let weights = tensors.floats(part.tensor, chunk.clone())?;
                hash.update(little_endian(&weights));
                let start = if chunk.start == 0 { [weights[0]; 2] } else { part.range };
                part.range = weights.iter().fold(start, |[least, most], &w| [least.min(w), most.max(w)]);
            }
        }
        let full = parts.iter().filter(|part| part.row > 0).map(|part| part.range);
        let all = full.reduce(|[a, b], [c, d]| [a.min(c), b.max(d)]).unwrap_or_default();
        for part in &mut parts {
            let most = part.range[1].max(-part.range[0]);
            part.range = if config.eta_relative { [-2.0 * most, 2.0 * most] } else { all };
            part.scale = if config.eta_relative && most > 0.0 { most.into() } else { 1.0 };
        }
        Ok(Self { config, tensors, parts, hash: hex(hash), engine, pool })
    }

    /// The instruction set and the number of threads.
    pub fn runs_on(&self) -> (Backend, usize) {
        (self.engine.backend(), self.pool.current_num_threads())
    }

    /// Finds the best subset for every weight and passes the rebuilt weights to `take`, by ascending place in the file. One
    /// search per weight. With `verify` every subset is compared with the optimum, found in f64 by another algorithm (a sorted
    /// list, and a binary search for each of the other half's subsets: 2^(n/2) · n/2 steps). The summary has no accuracies.
    ///
    /// # Errors
    /// When ε is negative or not finite, the file cannot be read, or `take` fails.
    pub fn approximate(
        &self,
        epsilon: f32,
        verify: bool,
        take: &mut dyn FnMut(Rebuilt<'_>) -> Result<(), Error>,
        watch: &dyn Progress,
    ) -> Result<(ApproximationRow, Option<Check>), Error> {
        let n = self.config.candidates_per_weight();
        let mut row = ApproximationRow { epsilon, candidates_per_weight: n, ..Default::default() };
        let mut verified = Check::default();
        self.each_chunk(&format!("weights, ε = {epsilon}"), 1 + usize::from(verify), watch, |chunk| {
            let Part { tensor, scale, .. } = *chunk.part;
            let (draw, most) = (self.config.draw, self.config.most_candidates());
            let begin = Instant::now();
            let pieces = self.each_piece(chunk, |piece, targets| {
                let found = self.grow(chunk.part, epsilon, piece, targets, n..=most)?;
                let epsilon = self.search(chunk.part, epsilon, n).epsilon;
                let mut bytes = Vec::new();
                for (i, (&subset, &target)) in found.subsets.iter().zip(targets).enumerate() {
                    let own = draw.own(&found.drawn, found.width, i);
                    encode(tensor.info.dtype, perturbed_sum(subset, own, target, epsilon), &mut bytes);
                }
                Ok((found.subsets, (found.used, bytes)))
            })?;
            row.seconds += begin.elapsed().as_secs_f64();
            let (subsets, (used, bytes)): (Vec<_>, (Vec<_>, Vec<_>)) = pieces.into_iter().unzip();
            let (subsets, used, bytes) = (subsets.concat(), used.concat(), bytes.concat());
            let rebuilt = Rebuilt { tensor, first: chunk.weights.start, subsets, bytes };
            if verify {
                let checks = self.each_piece(chunk, |piece, targets| {
                    let place = piece.start - chunk.weights.start..piece.end - chunk.weights.start;
                    let (drawn, used) = (self.candidates(chunk.part, piece, most), &used[place.clone()]);
                    let own = |i: usize| &draw.own(&drawn, most, i)[..used[i]];
                    let search = |n| self.search(chunk.part, epsilon, n);
                    Ok(check(search, own, targets, &rebuilt.subsets[place]))
                })?;
                verified = checks.into_iter().fold(verified, Check::and);
            }
            row.candidates_most = used.iter().copied().fold(row.candidates_most, usize::max);
            row.add(&rebuilt.subsets, 1, used.iter().sum(), scale, self.config.eta);
            let beyond = |(w, z): (f32, &f32)| (f64::from(w) - f64::from(*z)).abs() / scale > self.config.eta;
            row.failed_as_written +=
                rebuilt.weights().into_iter().zip(chunk.targets).filter(|&pair| beyond(pair)).count();
            take(rebuilt).map(ControlFlow::Continue)
        })?;
        Ok((row, verify.then_some(verified)))
    }

    /// The smallest n at which no weight fails; `None` if that takes more than 30 candidates.
    ///
    /// # Errors
    /// When ε is negative or not finite, or the file cannot be read.
    pub fn smallest(&self, epsilon: f32, watch: &dyn Progress) -> Result<Option<usize>, Error> {
        const MOST: usize = BRUTE_FORCE_LIMIT;
        let task = |n: &str| format!("smallest n{n}, ε = {epsilon}");
        if let SubsetSize::Fraction(_) = self.config.size {
            // n + 1 candidates may need a larger subset, so a weight that n suffice for can fail with n + 1.
            for n in 1..=MOST {
                let mut fails = false;
                self.each_chunk(&task(&format!(" ≥ {n}")), 1, watch, |chunk| {
                    let grown = |piece, targets: &_| self.grow(chunk.part, epsilon, piece, targets, n..=n);
                    fails = self.each_piece(chunk, grown)?.iter().any(|grown| grown.fails);
                    Ok(if fails { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
                })?;
                if !fails {
                    return Ok(Some(n));
                }
            }
            return Ok(None);
        }
        let mut smallest = 0;
        self.each_chunk(&task(""), 1, watch, |chunk| {
            // The candidates of n are the first of n + 1, so only the weights that still fail are searched again.
            let needed = self.each_piece(chunk, |piece, targets| {
                let found = self.grow(chunk.part, epsilon, piece, targets, 1..=MOST)?;
                let most = found.used.into_iter().max().unwrap_or_default();
                Ok(if found.fails { MOST + 1 } else { most })
            })?;
            smallest = needed.into_iter().fold(smallest, usize::max);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(Some(smallest).filter(|&n| n <= MOST))
    }

    /// Evaluates a network on the test images.
    ///
    /// # Errors
    /// When it does not fit the data.
    pub fn evaluate(&self, target: &Target, dataset: &Dataset) -> Result<Evaluation, Error> {
        target.fits(dataset)?;
        let images = Subset::all(dataset.test());
        self.trainer(&target.network, &images, dataset).evaluate_dense(&target.weights)
    }

    /// Builds the theorem's network for a target; the candidates of every weight are its own.
    ///
    /// # Errors
    /// When it would be too large.
    pub fn construct(
        &self,
        target: &Target,
        epsilon: f32,
        watch: &dyn Progress,
    ) -> Result<Construction, Error> {
        let n = self.config.candidates_per_weight();
        let engine = self.engine.on_pool(&self.pool);
        watch.begin(&format!("weights built, ε = {epsilon}"), target.network.weights());
        let built = Construction::new(engine, target, n, epsilon, self.config, watch);
        watch.end();
        built
    }

    /// Evaluates the construction on the test images, by its kept weights only.
    ///
    /// # Errors
    /// When its target does not fit the data.
    pub fn evaluate_construction(
        &self,
        built: &Construction,
        dataset: &Dataset,
    ) -> Result<Evaluation, Error> {
        crate::run::check_network("target", &built.network, dataset)?;
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

    /// Reads the weights chunk by chunk until `work` breaks; `work` passes over each chunk `passes` times.
    fn each_chunk(
        &self,
        task: &str,
        passes: usize,
        watch: &dyn Progress,
        mut work: impl FnMut(&Chunk<'_>) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        watch.begin(task, passes * self.parts.iter().map(|part| part.tensor.elements()).sum::<usize>());
        'all: for part in &self.parts {
            for weights in chunks(part.tensor) {
                let targets = &self.tensors.floats(part.tensor, weights.clone())?;
                if work(&Chunk { part, weights, targets, watch })?.is_break() {
                    break 'all;
                }
            }
        }
        watch.end();
        Ok(())
    }

    /// The results of `work` for each piece of a chunk, given its place in the tensor and its weights.
    fn each_piece<T: Send>(
        &self,
        chunk: &Chunk<'_>,
        work: impl Fn(Range<usize>, &[f32]) -> Result<T, Error> + Sync,
    ) -> Result<Vec<T>, Error> {
        let Chunk { part, ref weights, targets, watch } = *chunk;
        let work = |piece: Range<usize>| {
            let targets = &targets[piece.start - weights.start..piece.end - weights.start];
            let done = work(piece, targets);
            watch.advance(targets.len());
            done
        };
        let pieces = self.config.draw.pieces(part.row, weights.clone());
        self.pool.install(|| pieces.into_par_iter().map(work).collect())
    }

    /// The best subsets of a piece of weights: with the first of these `counts` of candidates, and with the next ones if that
    /// fails.
    fn grow(
        &self,
        part: &Part<'_>,
        epsilon: f32,
        piece: Range<usize>,
        targets: &[f32],
        counts: RangeInclusive<usize>,
    ) -> Result<Grown, Error> {
        let (mut width, most) = counts.clone().into_inner();
        let mut drawn = self.candidates(part, piece.clone(), width);
        let mut subsets = vec![Chosen::default(); targets.len()];
        let mut used = vec![width; targets.len()];
        let mut left: Vec<usize> = (0..targets.len()).collect();
        for n in counts {
            let search = self.search(part, epsilon, n);
            if n > width {
                (width, drawn) = (most, self.candidates(part, piece.clone(), most));
            }
            if matches!(search.sizes, Sizes::Exactly(size) if size > n) {
                continue;
            }
            let failing: Vec<f32> = left.iter().map(|&i| targets[i]).collect();
            let own = |&i: &usize| &self.config.draw.own(&drawn, width, i)[..n];
            let candidates: Vec<f32> = match self.config.draw {
                Draw::PerRow => drawn[..n].to_vec(),
                Draw::PerWeight => left.iter().flat_map(own).copied().collect(),
            };
            let mut found = vec![Chosen::default(); left.len()];
            self.nearest(search, &candidates, n, &failing, &mut found)?;
            for (&i, subset) in left.iter().zip(found) {
                (subsets[i], used[i]) = (subset, n);
            }
            left.retain(|&i| subsets[i].residual / part.scale > self.config.eta);
            if left.is_empty() {
                break;
            }
        }
        Ok(Grown { subsets, used, drawn, width, fails: !left.is_empty() })
    }

    /// The candidates of a piece of weights: `[n]` of a row, or `[weights, n]`.
    fn candidates(&self, part: &Part<'_>, piece: Range<usize>, n: usize) -> Vec<f32> {
        let [least, most] = part.range.map(f64::from);
        let keys = match self.config.draw {
            Draw::PerRow => piece.start / part.row..piece.start / part.row + 1,
            Draw::PerWeight => piece,
        };
        keys.flat_map(|key| {
            let mut stream = Stream::new(self.config.seed, Purpose::Candidates, part.tensor.rank, key);
            (0..n).map(move |_| (least + (most - least) * f64::from(stream.unit())) as f32)
        })
        .collect()
    }

    fn search(&self, part: &Part<'_>, epsilon: f32, n: usize) -> Search {
        let epsilon = (f64::from(epsilon) * part.scale) as f32;
        Search { epsilon: epsilon.min(f32::MAX), sizes: self.config.size.of(n), ..Search::default() }
    }

    fn nearest(
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

/// Subsets of a piece of weights.
struct Grown {
    subsets: Vec<Chosen>,
    /// Number of candidates of each search.
    used: Vec<usize>,
    /// All drawn candidates, `width` for a row or for each weight.
    drawn: Vec<f32>,
    width: usize,
    /// Whether a weight fails with all of them.
    fails: bool,
}

/// Weights read at once.
struct Chunk<'a> {
    part: &'a Part<'a>,
    /// Their place in the tensor.
    weights: Range<usize>,
    /// Their values.
    targets: &'a [f32],
    watch: &'a dyn Progress,
}

fn chunks(tensor: &TensorEntry) -> impl Iterator<Item = Range<usize>> {
    let elements = tensor.elements();
    (0..elements).step_by(CHUNK).map(move |start| start..elements.min(start + CHUNK))
}

/// The sum of the chosen candidates, all moved by the same distance towards the target, none by more than ε.
fn perturbed_sum(subset: Chosen, candidates: &[f32], target: f32, epsilon: f32) -> f64 {
    let sum = subset.sum(candidates);
    let allowance = f64::from(epsilon) * f64::from(subset.size());
    sum + (f64::from(target) - sum).clamp(-allowance, allowance)
}
