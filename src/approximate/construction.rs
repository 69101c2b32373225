//! The theorem's network: random, twice as deep and much wider than the target, pruned and perturbed into it.
//!
//! Each weight w of the target gets 2n hidden ReLU units of its own. Unit i has the input weight u_i, +1 in the first n
//! and −1 in the others, and the output weight v_i, uniform on [−1, 1). For x > 0 the first n are active and the kept
//! ones give Σ v_i x, for x < 0 the others give −Σ v_i x: their sums shall come near w and −w. The mask is on u, the
//! perturbation, at most ε, on v ("Strong Lottery Ticket Hypothesis with ε-perturbation", AISTATS 2023).
//!
//! As a fully connected network, a layer [d₁, d₀] of the target becomes U [2n d₁ d₀, d₀], all ±1, and V [d₁, 2n d₁ d₀],
//! with the target's ReLU after V. The masks first cut U and V down to the structure above, then U to the subsets. The
//! hidden units are ordered by output, input, i.

use slth_kernels::matmul::{Activation, Epilogue, Workspace, forward};
use slth_kernels::subset_sum::{Search, Subset as Chosen};
use slth_kernels::{Engine, MatMut, MatRef, PackedMask, PackedWeights, PrepareOptions};

use super::config::{ApproximateConfig, PIECE};
use super::target::Target;
use crate::error::Error;
use crate::network::{Architecture, Initialisation, LayerShape};
use crate::progress::Progress;
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
/// assert_eq!(built.network.to_string(), "4-384-3-192-2"); // 2 · 16 · 4 · 3 and 2 · 16 · 3 · 2 hidden units
/// assert!(built.max_difference < 0.01, "{}", built.max_difference);
/// # Ok::<(), slth::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Construction {
    /// Its widths: twice as many layers as the target's.
    pub network: Architecture,
    /// U, V, U, V, …: weights perturbed, masks; no scores.
    pub layers: Vec<PrunedLayer>,
    /// How far weights were moved at most.
    pub epsilon: f32,
    /// Candidates of each half: n.
    pub candidates: usize,
    /// The subsets of every weight, the half for x > 0 and then that for x < 0.
    pub subsets: Vec<Chosen>,
    /// Inputs, uniform on [−1, 1), it was tried on.
    pub probes: usize,
    /// The largest difference between its outputs and the target's.
    pub max_difference: f64,
    /// The target's largest output.
    pub max_output: f64,
    /// Wall time in seconds of drawing and searching.
    pub seconds: f64,
}

impl Construction {
    /// The most weights it may have, removed ones too.
    pub const MAX_WEIGHTS: usize = 1 << 26;

    /// Inputs it is tried on.
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
        let hidden = |shape: LayerShape| 2 * n * shape.weights();
        let total: usize = target
            .network
            .layers()
            .map(|s| hidden(s).saturating_mul(s.inputs + s.outputs))
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
        for (index, (shape, weights)) in target.network.layers().zip(&target.weights).enumerate() {
            let mut stream = Stream::new(config.seed, Purpose::Weights, index, 1);
            let v_shape = LayerShape::new(shape.outputs, hidden(shape));
            let mut v = Initialisation::Uniform.weights(v_shape, 1.0, &mut stream);
            // Of row k of V, the 2n entries of (k, j); one after the other for all (k, j).
            let place = |weight: usize| weight / shape.inputs * v_shape.inputs + weight * 2 * n;
            let candidates: Vec<f32> =
                (0..shape.weights()).flat_map(|w| &v[place(w)..][..2 * n]).copied().collect();
            let targets: Vec<f32> = weights.iter().flat_map(|&w| [w, -w]).collect();
            let mut found = vec![Chosen::default(); targets.len()];
            let pieces = candidates.chunks(PIECE * 2 * n).zip(targets.chunks(2 * PIECE));
            for ((candidates, targets), found) in pieces.zip(found.chunks_mut(2 * PIECE)) {
                Search { epsilon, ..Search::default() }
                    .nearest_each(engine, candidates, n, targets, found)?;
                watch.advance(targets.len() / 2);
            }
            for (half, (subset, &target)) in found.iter().zip(&targets).enumerate() {
                let own = &candidates[half * n..][..n];
                let moved = (f64::from(target) - subset.sum(own)) / f64::from(subset.size().max(1));
                let moved = moved.clamp(-f64::from(epsilon), f64::from(epsilon));
                let first = place(half / 2) + half % 2 * n;
                for i in (0..n).filter(|&i| subset.contains(i)) {
                    v[first + i] = (f64::from(v[first + i]) + moved) as f32;
                }
            }
            let u_shape = LayerShape::new(hidden(shape), shape.inputs);
            let sign = |unit: usize| if unit % (2 * n) < n { 1.0 } else { -1.0 };
            let u = (0..u_shape.weights()).map(|at| sign(at / shape.inputs)).collect();
            let u_mask = PackedMask::from_fn(u_shape.weights(), |at| {
                let (unit, input) = (at / shape.inputs, at % shape.inputs);
                unit / (2 * n) % shape.inputs == input && found[unit / n].contains(unit % n)
            });
            let v_mask = PackedMask::from_fn(v_shape.weights(), |at| {
                let (output, unit) = (at / v_shape.inputs, at % v_shape.inputs);
                unit / (2 * n * shape.inputs) == output
            });
            widths.extend([hidden(shape), shape.outputs]);
            for (shape, weights, mask) in [(u_shape, u, u_mask), (v_shape, v, v_mask)] {
                layers.push(PrunedLayer { shape, weights, scores: Vec::new(), mask, bias: Vec::new() });
            }
            subsets.extend(found);
        }
        let network = Architecture::new(widths).map_err(|problem| Error::config("construction", problem))?;
        let seconds = begin.elapsed().as_secs_f64();

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
        // NaN where there is one: an output that overflows is no small difference.
        let larger = |most: f64, x: f64| if most.is_nan() || x <= most { most } else { x };
        let largest = |numbers: &mut dyn Iterator<Item = f64>| numbers.fold(0.0, larger);
        let differences =
            || outputs.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs());
        Ok(Self {
            network,
            layers,
            epsilon,
            candidates: n,
            subsets,
            probes: Self::PROBES,
            max_difference: largest(&mut differences()),
            max_output: largest(&mut expected.iter().map(|y| f64::from(y.abs()))),
            seconds,
        })
    }
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
