//! Finetuning: SGD on the weights that pruning has kept.

use super::epochs::Phase;
use super::pretrain::{PretrainSettings, ProjectedSgd};
use super::pruning::{Pruned, PrunedLayer};
use super::trainer::Trainer;
use crate::error::Error;
use crate::progress::Progress;

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
        let masks = pruned.layers.iter().map(|layer| layer.mask.clone()).collect();
        let mut sgd = ProjectedSgd::new(self, Phase::FINETUNING, initial, masks, settings, batch)?;
        pruned.timing = self.run_epochs(&mut sgd, settings.epochs, batch, settings.seed, progress)?;
        sgd.check(settings.epochs)?;
        sgd.put_into(&mut pruned.layers);
        Ok(pruned)
    }
}
