//! Training and evaluation: a [`Trainer`] [pretrains](Trainer::pretrain) by projected SGD, prunes by
//! [edge-popup](Trainer::edge_popup) or [iteratively by magnitude](Trainer::imp), [finetunes](Trainer::finetune) and evaluates; [`one_shot`] has
//! the methods that edge-popup is compared with.
//!
//! Once the buffers exist, a training step on one thread allocates nothing; on several threads each parallel call allocates a few
//! bytes.
//!
//! [`Experiment`](crate::run::Experiment) puts the parts together; by hand it is:
//!
//! ```
//! use slth::data::{Augmentation, Dataset, NormalisationRule, Subset};
//! use slth::network::Initialisation;
//! use slth::progress::NoProgress;
//! use slth::training::{Cut, EdgePopupSettings, PretrainSettings, Schedule, Trainer};
//! use slth_kernels::Engine;
//!
//! let mnist = Dataset::mnist()?;
//! let [train] = Subset::stratified(mnist.train(), [500], 7);
//! let test = Subset::all(mnist.test());
//! let network = "784-10".parse()?;
//! let normalisation = mnist.normalisation(NormalisationRule::MeanStd);
//! let (engine, augmentation) = (Engine::detect()?, Augmentation::None);
//! let trainer = Trainer { engine, network: &network, images: &train, normalisation, augmentation };
//!
//! let initial = Initialisation::KaimingNormal.network(&network, 1.0, 7);
//! let settings = PretrainSettings {
//!     epsilon: 0.05, epochs: 2, batch: 50, learning_rate: 0.1, schedule: Schedule::CONSTANT, momentum: 0.0, seed: 7,
//! };
//! let dense = trainer.pretrain(initial, &settings, &NoProgress)?;
//! assert!(dense.max_change <= 0.05);
//! assert!(trainer.on(&test).evaluate_dense(&dense.weights)?.accuracy() > 0.5);
//!
//! let settings = EdgePopupSettings {
//!     cut: Cut { sparsity: 0.3, ..Cut::default() },
//!     epochs: 2, batch: 50, learning_rate: 0.1, schedule: Schedule::COSINE, momentum: 0.9, weight_decay: 1e-4, seed: 7,
//! };
//! let pruned = trainer.edge_popup(&dense.weights, &settings, &NoProgress)?;
//! assert_eq!(pruned.layers[0].mask.removed(), 2352);
//! assert!(trainer.on(&test).evaluate_pruned(&pruned.layers)?.accuracy() > 0.5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod edge_popup;
mod epochs;
mod evaluate;
mod finetune;
mod imp;
mod method;
mod n_of_m;
mod one_shot;
mod pretrain;
mod pruning;
mod schedule;
mod timing;
mod trainer;

pub use edge_popup::EdgePopupSettings;
pub use evaluate::Evaluation;
pub use imp::ImpSettings;
pub use method::PruneMethod;
pub use n_of_m::{NOfMError, Pattern, n_of_m};
pub use one_shot::one_shot;
pub(crate) use one_shot::{masks, scores};
pub use pretrain::{PretrainSettings, Pretrained};
pub(crate) use pruning::check_sparsity;
pub use pruning::{Cut, KeepDense, Pruned, PrunedLayer, Scope};
pub use schedule::{Decay, Schedule};
pub use timing::Timing;
pub use trainer::Trainer;
