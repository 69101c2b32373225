//! The methods of pruning, by their names.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::edge_popup::EdgePopupSettings;
use super::one_shot::one_shot;
use super::pretrain::PretrainSettings;
use super::pruning::Pruned;
use super::trainer::Trainer;
use crate::error::Error;
use crate::progress::Progress;

/// How the weights to remove are found: by [`Trainer::edge_popup`] or [`one_shot`](one_shot()), then perhaps
/// [`Trainer::finetune`].
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
}

impl PruneMethod {
    /// Whether it does without this option of a run's configuration, which then changes nothing.
    pub fn ignores(self, option: &str) -> bool {
        let ignored: &[&str] = match self {
            Self::EdgePopup => &[],
            Self::MagnitudeThenFinetune => &["prune_lr", "momentum", "weight_decay"],
            Self::Magnitude | Self::Random => &["prune_epochs", "prune_lr", "momentum", "weight_decay"],
        };
        ignored.contains(&option)
    }
}

impl Trainer<'_> {
    /// Prunes a network of these `weights`, each layer's `[outputs, inputs]`, then its biases if it has some, by
    /// `method`. Sparsity, scope and seed are those of
    /// `settings`; `finetuning` is for methods that finetune.
    ///
    /// # Errors
    /// Those of the method.
    pub fn prune(
        &self,
        method: PruneMethod,
        weights: &[Vec<f32>],
        settings: &EdgePopupSettings,
        finetuning: &PretrainSettings,
        progress: &dyn Progress,
    ) -> Result<Pruned, Error> {
        let EdgePopupSettings { sparsity, scope, seed, .. } = *settings;
        let one_shot = |random| one_shot(self.engine, self.network, weights, sparsity, scope, random);
        match method {
            PruneMethod::EdgePopup => self.edge_popup(weights, settings, progress),
            PruneMethod::Magnitude => one_shot(None),
            PruneMethod::Random => one_shot(Some(seed)),
            PruneMethod::MagnitudeThenFinetune => self.finetune(one_shot(None)?, finetuning, progress),
        }
    }
}

crate::flags::display_by_name!(PruneMethod);
