//! The theorem's network: random, twice as deep and much wider than the target, and pruned and perturbed to approximate it.
//!
//! Each input of a layer gets 2n hidden ReLU units. Unit i has the input weight u_i, +1 in the first n and −1 in the others, and to
//! each output an own weight v_i, uniform on [−1, 1). For x > 0 the first n are active and the kept ones give Σ v_i x, for
//! x < 0 the others give −Σ v_i x: for a weight w of the target their sums shall come near w and −w. The perturbation, at most ε,
//! is on v ("Strong Lottery Ticket Hypothesis with ε-perturbation", AISTATS 2023).
//!
//! As a fully connected network, a layer [d₁, d₀] of the target becomes U [2n d₀, d₀], all ±1, and V [d₁, 2n d₀], with the target's
//! ReLU after V: layers as wide as the theorem asks. The mask of U leaves each unit its input, that of V the subsets. The hidden
//! units are ordered by input, i.

use slth_kernels::matmul::{Activation, Epilogue, Workspace, forward};
use slth_kernels::subset_sum::{BRUTE_FORCE_LIMIT, Search, Subset as Chosen};
use slth_kernels::{Engine, MatMut, MatRef, PackedMask, PackedWeights, PrepareOptions};

use super::config::{ApproximateConfig, PIECE};
use super::target::Target;
use crate::error::Error;
use crate::network::{Architecture, Initialisation, LayerShape};
use crate::progress::{NoProgress, Progress};
use crate::random::{Purpose, Stream};
use crate::training::PrunedLayer;

/// A random network pruned and perturbed into a target.
///
/// ```
/// use slth::{approximate::{ApproximateConfig, Approximator, Target}, progress::NoProgress};
/// let target = Target::draw("4-3-2".parse().unwrap(), 1);
/// let config = ApproximateConfig { candidates: Some(16), ..ApproximateConfig::default() };
/// let tensors = target.to_tensors();
/// let built = Approximator::new(&config, &tensors)?.construct(&target, 1e-3, &NoProgress)?;
/// assert_eq!(built.network.to_string(), "4-128-3-96-2"); // 2 · 16 · 4 and 2 · 16 · 3 hidden units
/// assert!(built.max_difference < 0.01, "{}", built.max_difference);
/// # Ok::<(), slth::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Construction {
    /// Its widths: twice as many layers as the target's.
    pub network: Architecture,
    /// U, V, U, V, …: weights perturbed, masks; no scores.
    pub layers: Vec<PrunedLayer>,
    /// Largest move of a weight.
    pub epsilon: f32,
    /// Candidates of each half: n.
    pub candidates: usize,
    /// The smallest n at which both halves of every weight are within η; `None` where that is beyond 30.
    pub smallest: Option<usize>,
    /// The hidden units that takes, of all layers.
    pub units_needed: Option<usize>,
    /// The hidden units of the theorem, Σ 2 d₀ log₂(d₁ d₀ L / η) / (1 + ε) over the L layers of the target. The theorem leaves a
    /// constant open, which is 1 here.
    pub units_of_theorem: f64,
    /// The subsets of every weight, the half for x > 0 and then that for x < 0.
    pub subsets: Vec<Chosen>,
    /// Number of test inputs, uniform on [−1, 1).
    pub probes: usize,
    /// The largest difference between its outputs and the target's.
    pub max_difference: f64,
    /// The target's largest output.
    pub max_output: f64,
    /// Wall time in seconds of drawing and searching.
    pub seconds: f64,
}

impl Construction {
    /// Maximum number of weights, including removed ones.
    pub const MAX_WEIGHTS: usize = 1 << 26;

    /// Number of test inputs.
    const PROBES: usize = 1000;

    pub(super) fn new(
        engine: Engine,
        target: &Target,
        n: usize,
        epsilon: f32,
        config: &ApproximateConfig,
        watch: &dyn Progress,
    ) -> Result<Self, Error> {
        let begin = std::time::Instant::now();
        let hidden = |n: usize, shape: LayerShape| 2 * n * shape.inputs;
        let total: usize = target
            .network
            .layers()
            .map(|s| hidden(n, s).saturating_mul(s.inputs + s.outputs))
            .fold(0, usize::saturating_add);
        if total > Self::MAX_WEIGHTS {
            let problem = format!(
                "the network for {} would have {total} weights, at most {} are built; take a smaller target",
                target.network,
                Self::MAX_WEIGHTS
            );
            return Err(Error::config("construction", problem));
        }
        let mut widths = vec![target.network.inputs()];
        let mut layers = Vec::new();
        let mut subsets = Vec::new();
        for (index, shape) in target.network.layers().enumerate() {
            let found =
                Layer { target, index, n, epsilon }.search(engine, config.seed, f64::INFINITY, watch)?;
            let (mut v, found) = found.expect("no subset is further than that");
            let targets = target.weights[index].iter().flat_map(|&w| [w, -w]);
            for ((subset, target), own) in found.iter().zip(targets).zip(v.chunks_mut(n)) {
                let moved = (f64::from(target) - subset.sum(own)) / f64::from(subset.size().max(1));
                let moved = moved.clamp(-f64::from(epsilon), f64::from(epsilon));
                own.iter_mut()
                    .enumerate()
                    .filter(|&(i, _)| subset.contains(i))
                    .for_each(|(_, v)| *v = (f64::from(*v) + moved) as f32);
            }
            let units = hidden(n, shape);
            let (u_shape, v_shape) =
                (LayerShape::new(units, shape.inputs), LayerShape::new(shape.outputs, units));
            let sign = |unit: usize| if unit % (2 * n) < n { 1.0 } else { -1.0 };
            let u = (0..u_shape.weights()).map(|at| sign(at / shape.inputs)).collect();
            let u_mask =
                PackedMask::from_fn(u_shape.weights(), |at| at / shape.inputs / (2 * n) == at % shape.inputs);
            let v_mask = PackedMask::from_fn(v_shape.weights(), |at| found[at / n].contains(at % n));
            widths.extend([units, shape.outputs]);
            for (shape, weights, mask) in [(u_shape, u, u_mask), (v_shape, v, v_mask)] {
                layers.push(PrunedLayer { shape, weights, scores: Vec::new(), mask, bias: Vec::new() });
            }
            subsets.extend(found);
        }
        let network = Architecture::new(widths).map_err(|problem| Error::config("construction", problem))?;
        let seconds = begin.elapsed().as_secs_f64();
        let smallest = smallest(engine, target, epsilon, config)?;
        let all = |n| target.network.layers().map(|shape| hidden(n, shape)).sum();
        let depth = target.weights.len() as f64;
        let of_theorem = |shape: LayerShape| {
            let n = libm::log2(shape.weights() as f64 * depth / config.eta) / (1.0 + f64::from(epsilon));
            2.0 * n * shape.inputs as f64
        };

        let mut stream = Stream::new(config.seed, Purpose::Probes, 0, 0);
        let x: Vec<f32> =
            (0..target.network.inputs() * Self::PROBES).map(|_| stream.symmetric(1.0)).collect();
        let dense = |(shape, weights): (LayerShape, &Vec<f32>)| PrunedLayer {
            shape,
            weights: weights.clone(),
            scores: Vec::new(),
            mask: PackedMask::all_kept(shape.weights()),
            bias: Vec::new(),
        };
        let whole: Vec<_> = target.network.layers().zip(&target.weights).map(dense).collect();
        let expected = run(engine, &whole, &x, Self::PROBES)?;
        let outputs = run(engine, &layers, &x, Self::PROBES)?;
        // NaN if there is one: an overflowing output must not count as a small difference.
        let larger = |most: f64, x: f64| if most.is_nan() || x <= most { most } else { x };
        let largest = |numbers: &mut dyn Iterator<Item = f64>| numbers.fold(0.0, larger);
        let differences =
            || outputs.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs());
        Ok(Self {
            network,
            layers,
            epsilon,
            candidates: n,
            smallest,
            units_needed: smallest.map(all),
            units_of_theorem: target.network.layers().map(of_theorem).sum(),
            subsets,
            probes: Self::PROBES,
            max_difference: largest(&mut differences()),
            max_output: largest(&mut expected.iter().map(|y| f64::from(y.abs()))),
            seconds,
        })
    }
}

/// V of a layer as drawn, and of each of its weights the subsets of both halves.
type Drawn = (Vec<f32>, Vec<Chosen>);

/// A layer of a target, to be built.
struct Layer<'a> {
    target: &'a Target,
    index: usize,
    n: usize,
    epsilon: f32,
}

impl Layer<'_> {
    /// V as drawn, and of each weight the subsets of both halves; nothing as soon as a subset is further than `most` from its target.
    fn search(
        &self,
        engine: Engine,
        seed: u64,
        most: f64,
        watch: &dyn Progress,
    ) -> Result<Option<Drawn>, Error> {
        let Self { target, index, n, epsilon } = *self;
        let targets: Vec<f32> = target.weights[index].iter().flat_map(|&w| [w, -w]).collect();
        let shape = LayerShape::new(1, n * targets.len());
        let v =
            Initialisation::Uniform.weights(shape, 1.0, &mut Stream::new(seed, Purpose::Weights, index, 1));
        let mut found = vec![Chosen::default(); targets.len()];
        let pieces = v.chunks(PIECE * 2 * n).zip(targets.chunks(2 * PIECE));
        for ((candidates, targets), found) in pieces.zip(found.chunks_mut(2 * PIECE)) {
            Search { epsilon, ..Search::default() }.nearest_each(engine, candidates, n, targets, found)?;
            if found.iter().any(|subset| subset.residual > most) {
                return Ok(None);
            }
            watch.advance(targets.len() / 2);
        }
        Ok(Some((v, found)))
    }
}

/// The smallest n at which no half of a weight fails, each n with its own V.
fn smallest(
    engine: Engine,
    target: &Target,
    epsilon: f32,
    config: &ApproximateConfig,
) -> Result<Option<usize>, Error> {
    for n in 1..=BRUTE_FORCE_LIMIT {
        let within = |index| {
            let layer = Layer { target, index, n, epsilon };
            Ok::<_, Error>(layer.search(engine, config.seed, config.eta, &NoProgress)?.is_some())
        };
        // The last layer is the smallest as a rule.
        let mut all = true;
        for index in (0..target.weights.len()).rev() {
            all = all && within(index)?;
        }
        if all {
            return Ok(Some(n));
        }
    }
    Ok(None)
}

/// The outputs `[outputs, batch]` of a masked network for the inputs `[inputs, batch]`, ReLU between its layers.
fn run(engine: Engine, layers: &[PrunedLayer], x: &[f32], batch: usize) -> Result<Vec<f32>, Error> {
    let mut workspace = Workspace::default();
    let options = PrepareOptions::default().max_batch(batch).keep_source(false);
    let mut x = x.to_vec();
    for (index, layer) in layers.iter().enumerate() {
        let LayerShape { outputs, inputs, .. } = layer.shape;
        let weights = MatRef::row_major(&layer.weights, outputs, inputs)?;
        let weights = PackedWeights::prepare(engine, weights, Some(&layer.mask), &options)?;
        let last = index + 1 == layers.len();
        let activation = if last { Activation::Identity } else { Activation::Relu };
        let epilogue = Epilogue { activation, ..Epilogue::default() };
        let mut y = vec![0.0; outputs * batch];
        let (from, to) = (MatRef::row_major(&x, inputs, batch)?, MatMut::row_major(&mut y, outputs, batch)?);
        forward(engine, &weights, from, &epilogue, to, &mut workspace)?;
        x = y;
    }
    Ok(x)
}
