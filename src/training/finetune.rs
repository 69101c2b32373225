//! Finetuning: SGD on the weights that pruning has kept.

use slth_kernels::PackedMask;

use super::epochs::Method;
use super::evaluate::Evaluation;
use super::pretrain::{PretrainSettings, ProjectedSgd};
use super::pruning::{Pruned, PrunedLayer};
use super::trainer::Trainer;
use crate::data::Batch;
use crate::error::Error;
use crate::network::loss::LossSum;
use crate::progress::Progress;
use crate::random::Purpose;

impl Trainer<'_> {
    /// Trains the kept weights of a pruned network, and its biases, by SGD; `settings.epsilon` bounds their change. The removed
    /// weights are unchanged in the result. If nothing is removed, or without epochs, nothing is done, and no epoch is counted.
    ///
    /// # Errors
    /// When the loss or a weight becomes infinite or NaN, layers or images do not fit the network, or the batch is 0.
    pub fn finetune(
        &self,
        mut pruned: Pruned,
        settings: &PretrainSettings,
        progress: &dyn Progress,
    ) -> Result<Pruned, Error> {
        let batch = self.check(pruned.layers.iter().map(|layer| layer.weights.len()), settings.batch)?;
        let kept = |layer: &PrunedLayer| {
            let mut weights = layer.weights.clone();
            layer.mask.apply(&mut weights).map(|()| [weights, layer.bias.clone()].concat())
        };
        let initial = pruned.layers.iter().map(kept).collect::<Result<_, _>>()?;
        if settings.epochs == 0 || pruned.layers.iter().all(|layer| layer.mask.removed() == 0) {
            return Ok(pruned);
        }
        let sgd = ProjectedSgd::new(self, initial, settings, batch)?;
        let masks = pruned.layers.iter().map(|layer| layer.mask.clone()).collect();
        let mut method = Finetuning { sgd, masks };
        pruned.timing = self.run_epochs(&mut method, settings.epochs, batch, settings.seed, progress)?;
        method.sgd.check(Finetuning::PHASE, settings.epochs)?;
        for (layer, trained) in pruned.layers.iter_mut().zip(method.sgd.into_weights()) {
            let (trained, bias) = layer.shape.split(&trained);
            layer.mask.kept_indices().for_each(|index| layer.weights[index] = trained[index]);
            layer.bias.copy_from_slice(bias);
        }
        Ok(pruned)
    }
}

/// SGD under masks: the removed weights have no gradient.
struct Finetuning<'a> {
    sgd: ProjectedSgd<'a>,
    masks: Vec<PackedMask>,
}

impl Method for Finetuning<'_> {
    const PHASE: &'static str = "finetuning";
    const ORDER: Purpose = Purpose::PruneOrder;

    fn begin_epoch(&mut self, epoch: usize) -> Result<f32, Error> {
        self.sgd.begin_epoch(epoch)
    }

    fn step(&mut self, batch: Batch<'_>) -> Result<LossSum, Error> {
        let masks = &self.masks;
        self.sgd.learn(batch, |index, gradient| masks[index].apply(&mut gradient[..masks[index].len()]))
    }

    fn numbers(&mut self) -> Vec<&mut [f32]> {
        self.sgd.numbers()
    }

    fn restored(&mut self, epochs: usize) -> Result<(), Error> {
        self.sgd.restored(epochs)
    }

    fn evaluate(&mut self, trainer: &Trainer<'_>) -> Result<Evaluation, Error> {
        self.sgd.evaluate(trainer)
    }
}
