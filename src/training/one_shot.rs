//! Pruning without training, to compare edge-popup with: by magnitude (S. Han et al. 2015, "Learning both Weights and
//! Connections for Efficient Neural Networks") or at random.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use slth_kernels::top_k::{Order, Selection, Selector};
use slth_kernels::{Engine, KernelError, PackedMask};

use super::edge_popup::{Pruned, PrunedLayer};
use super::epochs::Timing;
use super::progress::Phase;
use crate::error::Error;
use crate::network::{Architecture, LayerShape, by_name};
use crate::random::{Purpose, Stream};

/// How the weights to remove are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PruneMethod {
    /// By trained scores, the weights frozen: [`edge_popup`](super::edge_popup()).
    #[default]
    EdgePopup,
    /// The smallest weights go: [`one_shot`].
    Magnitude,
    /// Any weights go: [`one_shot`].
    Random,
    /// The smallest weights go, the others are trained further: [`one_shot`], then [`finetune`](super::finetune()).
    MagnitudeThenFinetune,
}

impl PruneMethod {
    /// Every method, in the order of the help text.
    pub const ALL: [Self; 4] = [Self::EdgePopup, Self::Magnitude, Self::Random, Self::MagnitudeThenFinetune];

    /// The name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::EdgePopup => "edge-popup",
            Self::Magnitude => "magnitude",
            Self::Random => "random",
            Self::MagnitudeThenFinetune => "magnitude-then-finetune",
        }
    }
}

/// What the fraction of removed weights is a fraction of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Each layer loses its share.
    #[default]
    PerLayer,
    /// All layers are ranked together; some may lose more than others, and even everything.
    Global,
}

impl Scope {
    /// Both, in the order of the help text.
    pub const ALL: [Self; 2] = [Self::PerLayer, Self::Global];

    /// The name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::PerLayer => "per-layer",
            Self::Global => "global",
        }
    }
}

macro_rules! named {
    ($kind:ty) => {
        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl FromStr for $kind {
            type Err = String;

            fn from_str(name: &str) -> Result<Self, String> {
                by_name(&Self::ALL, Self::name, name)
            }
        }
    };
}
named!(PruneMethod);
named!(Scope);

/// How many of all weights of `network` are kept at `sparsity` when its layers are ranked together: all but int(s·n),
/// truncated in f64.
pub(super) fn kept_of_all(network: &Architecture, sparsity: f64) -> usize {
    let n = network.weights();
    n.saturating_sub((sparsity * n as f64) as usize)
}

/// Removes weights by their magnitude, or with `random` by scores drawn uniformly; of equal ones the lower index goes
/// first. The scores are |w|, or those drawn. O(n).
///
/// # Errors
/// When a weight is NaN, or `weights` do not fit `network`.
///
/// ```
/// use slth::network::Architecture;
/// use slth::training::{Scope, one_shot};
/// use slth_kernels::{Engine, PackedMask};
/// let network: Architecture = "2-2-1".parse()?;
/// let weights = [vec![0.1, -0.9, 0.3, 0.2], vec![4.0, -5.0]];
/// let kept = |scope| {
///     let pruned = one_shot(Engine::detect().unwrap(), &network, &weights, 0.5, scope, None).unwrap();
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
    sparsity: f64,
    scope: Scope,
    random: Option<u64>,
) -> Result<Pruned, Error> {
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
    let select = |views: &[&[f32]], keep, masks: &mut [PackedMask]| {
        let selection = Selection::largest(keep, Order::Magnitude);
        Selector::default().select(engine, views, selection, masks).map(drop).map_err(not_a_number)
    };
    let shapes: Vec<LayerShape> = network.layers().collect();
    match scope {
        Scope::Global => select(&views, kept_of_all(network, sparsity), &mut masks)?,
        Scope::PerLayer => {
            for (index, shape) in shapes.iter().enumerate() {
                let one = index..index + 1;
                select(&views[one.clone()], shape.kept(sparsity), &mut masks[one])?;
            }
        }
    }
    let layers = shapes
        .into_iter()
        .zip(weights)
        .zip(scores)
        .zip(masks)
        .map(|(((shape, weights), scores), mask)| PrunedLayer {
            shape,
            weights: weights.clone(),
            scores,
            mask,
        })
        .collect();
    let timing = Timing { seconds: start.elapsed().as_secs_f64(), ..Timing::default() };
    Ok(Pruned { layers, timing })
}

fn not_a_number(error: KernelError) -> Error {
    match error {
        KernelError::NotANumber { .. } => {
            Error::Diverged { phase: Phase::Pretrain.to_string(), epoch: 0, what: "a weight" }
        }
        other => unreachable!("scores, masks and keep are of one network: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back() {
        for method in PruneMethod::ALL {
            assert_eq!(method.name().parse(), Ok(method));
            assert_eq!(serde_json::to_string(&method).unwrap(), format!("\"{method}\""));
        }
        for scope in Scope::ALL {
            assert_eq!(scope.name().parse(), Ok(scope));
            assert_eq!(serde_json::to_string(&scope).unwrap(), format!("\"{scope}\""));
        }
    }

    #[test]
    fn random_removes_the_share_anywhere() {
        let network: Architecture = "30-20-10".parse().unwrap();
        let weights: Vec<Vec<f32>> = network.layers().map(|layer| vec![0.5; layer.weights()]).collect();
        let engine = Engine::detect().unwrap();
        let prune =
            |seed, scope| one_shot(engine, &network, &weights, 0.3, scope, Some(seed)).unwrap().layers;
        let removed = |seed, scope| prune(seed, scope).iter().map(|l| l.mask.removed()).collect::<Vec<_>>();
        assert_eq!(removed(1, Scope::PerLayer), [180, 60]);
        let global = removed(1, Scope::Global);
        assert_eq!(global.iter().sum::<usize>(), 240);
        assert!(global[1].abs_diff(60) < 25, "{global:?}");
        assert_eq!(prune(1, Scope::Global), prune(1, Scope::Global));
        assert_ne!(prune(1, Scope::PerLayer), prune(2, Scope::PerLayer));
    }
}
