//! Training and evaluation: [projected SGD](pretrain()), [edge-popup](edge_popup()) and [what it is compared
//! with](PruneMethod), accuracy.
//!
//! Everything runs on the [`Engine`](slth_kernels::Engine) handed in. Once the buffers are made, a step of either training on
//! one thread allocates nothing; on several each parallel call allocates a few bytes.
//!
//! [`Experiment`](crate::run::Experiment) puts the parts together; by hand it is:
//!
//! ```
//! use slth::data::{Dataset, Normalisation, Subset};
//! use slth::network::{Architecture, Initialisation};
//! use slth::training::{
//!     EdgePopupSettings, NoProgress, PretrainSettings, Schedule, Scope, edge_popup, evaluate_dense, evaluate_pruned,
//!     pretrain,
//! };
//! use slth_kernels::Engine;
//!
//! let (engine, mnist, inputs) = (Engine::detect()?, Dataset::mnist()?, Normalisation::MeanStd);
//! let (train, test) = (Subset::new(mnist.train(), 0, 500), Subset::all(mnist.test()));
//! let network: Architecture = "784-10".parse()?;
//!
//! let initial = Initialisation::KaimingNormal.network(&network, 1.0, 7);
//! let settings = PretrainSettings {
//!     epsilon: 0.05, epochs: 2, batch: 50, learning_rate: 0.1, schedule: Schedule::Constant, momentum: 0.0, seed: 7,
//! };
//! let dense = pretrain(engine, &network, initial, &settings, train, inputs, &NoProgress)?;
//! assert!(dense.max_change <= 0.05);
//! assert!(evaluate_dense(engine, &network, &dense.weights, test, inputs)?.accuracy() > 0.5);
//!
//! let settings = EdgePopupSettings {
//!     sparsity: 0.3, epochs: 2, batch: 50, learning_rate: 0.1, momentum: 0.9, weight_decay: 1e-4, scope: Scope::PerLayer, seed: 7,
//! };
//! let pruned = edge_popup(engine, &network, &dense.weights, &settings, train, inputs, &NoProgress)?;
//! assert_eq!(pruned.layers[0].mask.removed(), 2352);
//! assert!(evaluate_pruned(engine, &network, &pruned.layers, test, inputs)?.accuracy() > 0.5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod edge_popup;
mod epochs;
mod evaluate;
mod n_of_m;
mod one_shot;
mod pretrain;
mod schedule;

use crate::data::Subset;
use crate::error::Error;
use crate::network::Architecture;

pub use crate::progress::{NoProgress, Phase, Progress, Step};
pub use edge_popup::{EdgePopupSettings, Pruned, PrunedLayer, edge_popup};
pub use epochs::Timing;
pub use evaluate::{Evaluation, evaluate_dense, evaluate_pruned};
pub use n_of_m::{NOfMError, n_of_m};
pub use one_shot::{PruneMethod, Scope, one_shot};
pub use pretrain::{PretrainSettings, Pretrained, finetune, pretrain};
pub use schedule::Schedule;

/// Checks that layers of `weights` weights and `images` fit `network`, and that there is something to make batches of.
fn check_fits(
    network: &Architecture,
    weights: impl ExactSizeIterator<Item = usize>,
    images: Subset<'_>,
    batch: usize,
) -> Result<(), Error> {
    let fit = network.layers().len() == weights.len()
        && network.layers().zip(weights).all(|(layer, found)| layer.weights() == found);
    let examples = images.examples();
    let label = images.indices().map(|image| usize::from(examples.labels()[image as usize])).max();
    let problem = if !fit {
        Some(("network", "other layers than the weights handed in"))
    } else if examples.features() != network.inputs() {
        Some(("network", "other inputs than the images have pixels"))
    } else if label.is_some_and(|label| label >= network.outputs()) {
        Some(("network", "fewer outputs than there are classes"))
    } else if images.is_empty() {
        Some(("images", "there are none"))
    } else if batch == 0 {
        Some(("batch", "must be at least 1"))
    } else {
        None
    };
    problem.map_or(Ok(()), |(field, problem)| Err(Error::config(field, problem)))
}
