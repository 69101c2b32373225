//! Pruning without training, to compare edge-popup with: by magnitude (S. Han et al. 2015, "Learning both Weights and
//! Connections for Efficient Neural Networks") or at random.

use slth_kernels::{Engine, KernelError, PackedMask};

use super::pruning::{Cut, Cutter, Pruned, PrunedLayer, check_weights};
use super::timing::Timing;
use crate::error::Error;
use crate::network::{Architecture, LayerShape};
use crate::random::{Purpose, Stream};

/// Removes weights by their magnitude, or with a seed in `random` by scores drawn uniformly; of equal ones the lower index is
/// removed first. The scores are |w|, or the drawn ones. O(n).
///
/// # Errors
/// When a weight is NaN, `weights` do not fit `network`, or `cut` makes no sense.
///
/// ```
/// use slth::network::Architecture;
/// use slth::training::{Cut, Scope, one_shot};
/// use slth_kernels::{Engine, PackedMask};
/// let network: Architecture = "2-2-1".parse()?;
/// let weights = [vec![0.1, -0.9, 0.3, 0.2], vec![4.0, -5.0]];
/// let kept = |scope| {
///     let cut = Cut { sparsity: 0.5, scope, ..Cut::default() };
///     let pruned = one_shot(Engine::detect().unwrap(), &network, &weights, &cut, None).unwrap();
///     pruned.layers.iter().map(|layer| layer.mask.kept_indices().collect()).collect::<Vec<Vec<_>>>()
/// };
/// assert_eq!(kept(Scope::PerLayer), [vec![1, 2], vec![1]]);
/// assert_eq!(kept(Scope::Global), [vec![1], vec![0, 1]]);
/// # Ok::<(), String>(())
/// ```
pub fn one_shot(
    engine: Engine,
    network: &Architecture,
    weights: &[Vec<f32>],
    cut: &Cut,
    random: Option<u64>,
) -> Result<Pruned, Error> {
    check_weights(network, weights.iter().map(Vec::len))?;
    cut.check(network)?;
    let start = std::time::Instant::now();
    let shapes: Vec<_> = network.layers().collect();
    let parts: Vec<_> = shapes.iter().zip(weights).map(|(shape, weights)| shape.split(weights)).collect();
    let score = |(index, &(weights, _)): (usize, &(&[f32], _))| scores(weights, index, random);
    let scores: Vec<_> = parts.iter().enumerate().map(score).collect();
    let masks = masks(engine, &shapes, &scores, cut)?;
    let layers = shapes.into_iter().zip(parts).zip(scores.into_iter().zip(masks));
    let layers = layers.map(|((shape, (weights, bias)), (scores, mask))| {
        let (weights, bias) = (weights.to_vec(), bias.to_vec());
        PrunedLayer { shape, weights, scores, mask, bias }
    });
    let layers = layers.collect();
    let timing = Timing { seconds: start.elapsed().as_secs_f64(), ..Timing::default() };
    Ok(Pruned { layers, timing })
}

/// What the `index`-th weights are ranked by: their magnitudes or, with a seed, numbers drawn uniformly.
pub(crate) fn scores(weights: &[f32], index: usize, random: Option<u64>) -> Vec<f32> {
    match random {
        None => weights.iter().map(|w| w.abs()).collect(),
        Some(seed) => {
            let mut stream = Stream::new(seed, Purpose::Scores, index, 0);
            weights.iter().map(|_| stream.unit()).collect()
        }
    }
}

/// The masks that `cut` makes of the scores of layers of these `shapes`.
pub(crate) fn masks(
    engine: Engine,
    shapes: &[LayerShape],
    scores: &[Vec<f32>],
    cut: &Cut,
) -> Result<Vec<PackedMask>, Error> {
    let mut masks: Vec<_> = scores.iter().map(|scores| PackedMask::all_kept(scores.len())).collect();
    let views = scores.iter().map(Vec::as_slice);
    Cutter::new(shapes, cut).select(engine, views, &mut masks).map_err(not_a_number)?;
    Ok(masks)
}

fn not_a_number(error: KernelError) -> Error {
    match error {
        KernelError::NotANumber { .. } => {
            Error::Diverged { phase: "pretraining", epoch: 0, what: "a weight" }
        }
        other => unreachable!("scores, masks and keep are of one network: {other}"),
    }
}
