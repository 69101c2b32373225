//! The methods of pruning.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::edge_popup::EdgePopupSettings;
use super::imp::ImpSettings;
use super::one_shot::one_shot;
use super::pruning::Pruned;
use super::trainer::Trainer;
use crate::error::Error;
use crate::progress::Progress;

/// How the weights to remove are found: by [`Trainer::edge_popup`], [`Trainer::imp`] or [`one_shot`](one_shot()), then
/// perhaps [`Trainer::finetune`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum PruneMethod {
    /// Trains a score per weight, the weights frozen, and removes the lowest
    #[default]
    EdgePopup,
    /// Removes the smallest weights
    Magnitude,
    /// Removes random weights
    Random,
    /// Removes the smallest weights, then trains the others as pretraining does, without a bound on their change
    MagnitudeThenFinetune,
    /// Iterative magnitude pruning: each of --rounds rounds trains as pretraining does, without a bound, removes the smallest weights, and
    /// returns the others to --rewind-epoch; then trains what is kept
    Imp,
}

impl PruneMethod {
    /// Whether the method ignores this option of a run's configuration.
    pub fn ignores(self, option: &str) -> bool {
        const SCORES: [&str; 4] = ["prune_lr", "prune_schedule", "momentum", "weight_decay"];
        const ROUNDS: [&str; 3] = ["rounds", "rewind_epoch", "halve_output_rate"];
        let (scores, rounds) = (SCORES.contains(&option), ROUNDS.contains(&option));
        match self {
            Self::EdgePopup => rounds,
            Self::MagnitudeThenFinetune => scores || rounds,
            Self::Magnitude | Self::Random => scores || rounds || option == "prune_epochs",
            Self::Imp => scores,
        }
    }
}

impl Trainer<'_> {
    /// Prunes a network of these `weights`, each layer's `[outputs, inputs]`, then its biases if it has some, by `method`. Cut and
    /// seed are those of `settings`; `retraining` is for methods that train weights.
    ///
    /// # Errors
    /// Those of the method.
    pub fn prune(
        &self,
        method: PruneMethod,
        weights: &[Vec<f32>],
        settings: &EdgePopupSettings,
        retraining: &ImpSettings,
        progress: &dyn Progress,
    ) -> Result<Pruned, Error> {
        let EdgePopupSettings { cut, seed, .. } = *settings;
        let one_shot = |random| one_shot(self.engine, self.network, weights, &cut, random);
        match method {
            PruneMethod::EdgePopup => self.edge_popup(weights, settings, progress),
            PruneMethod::Magnitude => one_shot(None),
            PruneMethod::Random => one_shot(Some(seed)),
            PruneMethod::MagnitudeThenFinetune => {
                self.finetune(one_shot(None)?, &retraining.training, progress)
            }
            PruneMethod::Imp if cut.sparsity == 0.0 => one_shot(None),
            PruneMethod::Imp => self.imp(weights, retraining, progress),
        }
    }
}

crate::flags::display_by_name!(PruneMethod);
