//! What the parts of a run take from its configuration.

use super::config::RunConfig;
use super::state_dict::StateDict;
use crate::error::Error;
use crate::training::{Cut, EdgePopupSettings, ImpSettings, PretrainSettings, PruneMethod};

impl RunConfig {
    /// What the initial weights are multiplied by.
    fn initial_scale(&self) -> f64 {
        let by_keep = if self.scale_by_keep { libm::sqrt(1.0 - self.sparsity) } else { 1.0 };
        self.init_scale / by_keep
    }

    /// Each layer's initial weights, then its biases: those of the file, or drawn.
    pub(crate) fn initial(&self) -> Result<Vec<Vec<f32>>, Error> {
        match &self.weights {
            Some(file) => Ok(StateDict::read(file, Some(&self.network), self.map.as_deref())?.parameters),
            None => Ok(self.drawn()),
        }
    }

    /// Each layer's weights as the seed draws them, then its biases.
    pub(crate) fn drawn(&self) -> Vec<Vec<f32>> {
        self.init.parameters(&self.network, self.bias, self.initial_scale(), self.seed)
    }

    pub(crate) fn pretrain_settings(&self) -> PretrainSettings {
        PretrainSettings {
            epsilon: self.epsilon,
            epochs: self.pretrain_epochs,
            batch: self.batch,
            learning_rate: self.pretrain_lr,
            schedule: self.pretrain_schedule.clone(),
            momentum: self.pretrain_momentum,
            seed: self.seed,
        }
    }

    pub(super) fn cut(&self, sparsity: f64) -> Cut {
        let Self { scope, pattern, keep_dense, .. } = *self;
        Cut { sparsity, scope, pattern, keep_dense, output_sparsity: None }
    }

    /// Settings of methods that train weights.
    pub(crate) fn imp_settings(&self, sparsity: f64) -> ImpSettings {
        let Self { rounds, rewind_epoch, halve_output_rate, prune_epochs: epochs, .. } = *self;
        let training = PretrainSettings { epsilon: f32::INFINITY, epochs, ..self.pretrain_settings() };
        ImpSettings { cut: self.cut(sparsity), rounds, rewind_epoch, halve_output_rate, training }
    }

    /// Epochs of pruning.
    pub(crate) fn pruning_epochs(&self) -> usize {
        match self.method {
            _ if self.sparsity == 0.0 || self.method.ignores("prune_epochs") => 0,
            PruneMethod::Imp => self.imp_settings(self.sparsity).epochs(),
            _ => self.prune_epochs,
        }
    }

    pub(crate) fn edge_popup_settings(&self, sparsity: f64) -> EdgePopupSettings {
        EdgePopupSettings {
            cut: self.cut(sparsity),
            epochs: self.prune_epochs,
            batch: self.batch,
            learning_rate: self.prune_lr,
            schedule: self.prune_schedule.clone(),
            momentum: self.momentum,
            weight_decay: self.weight_decay,
            seed: self.seed,
        }
    }
}
