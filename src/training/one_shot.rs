//! Pruning without training, to compare edge-popup with: by magnitude (S. Han et al. 2015, "Learning both Weights and
//! Connections for Efficient Neural Networks") or at random.

use slth_kernels::{Engine, KernelError, PackedMask};

use super::epochs::Timing;
use super::pruning::{Cut, Cutter, Pruned, PrunedLayer, check_weights};
use crate::error::Error;
use crate::network::Architecture;
use crate::random::{Purpose, Stream};

/// Removes weights by their magnitude, or with a seed in `random` by scores drawn uniformly; of equal ones the lower index goes
/// first. The scores are |w|, or those drawn. O(n).
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
    let score = |(index, weights): (usize, &Vec<f32>)| match random {
        None => weights.iter().map(|w| w.abs()).collect(),
        Some(seed) => {
            let mut stream = Stream::new(seed, Purpose::Scores, index, 0);
            weights.iter().map(|_| stream.unit()).collect()
        }
    };
    let scores: Vec<Vec<f32>> = weights.iter().enumerate().map(score).collect();
    let views: Vec<&[f32]> = scores.iter().map(Vec::as_slice).collect();
    let mut masks: Vec<_> = views.iter().map(|scores| PackedMask::all_kept(scores.len())).collect();
    Cutter::new(network, cut).select(engine, views.into_iter(), &mut masks).map_err(not_a_number)?;
    let layers = network.layers().zip(weights).zip(scores.into_iter().zip(masks));
    let layers = layers.map(|((shape, weights), (scores, mask))| {
        let weights = weights.clone();
        PrunedLayer { shape, weights, scores, mask }
    });
    let layers = layers.collect();
    let timing = Timing { seconds: start.elapsed().as_secs_f64(), ..Timing::default() };
    Ok(Pruned { layers, timing })
}

fn not_a_number(error: KernelError) -> Error {
    match error {
        KernelError::NotANumber { .. } => {
            Error::Diverged { phase: "pretraining", epoch: 0, what: "a weight" }
        }
        other => unreachable!("scores, masks and keep are of one network: {other}"),
    }
}
