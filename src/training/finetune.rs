//! Finetuning: SGD on the weights that pruning has kept.

use slth_kernels::PackedMask;

use super::epochs::{Method, run_epochs};
use super::pretrain::{PretrainSettings, ProjectedSgd};
use super::pruning::{Pruned, PrunedLayer};
use super::trainer::Trainer;
use crate::data::Examples;
use crate::error::Error;
use crate::network::loss::LossSum;
use crate::progress::Progress;
use crate::random::Purpose;

impl Trainer<'_> {
    /// Trains the kept weights of a pruned network by SGD; `settings.epsilon` bounds their change. The removed weights stay
    /// as they are in the result. Where nothing is removed, or with no epochs, there is nothing to do, and no epoch is counted.
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
            layer.mask.apply(&mut weights).map(|()| weights)
        };
        let initial = pruned.layers.iter().map(kept).collect::<Result<_, _>>()?;
        if settings.epochs == 0 || pruned.layers.iter().all(|layer| layer.mask.removed() == 0) {
            return Ok(pruned);
        }
        let sgd = ProjectedSgd::new(self, initial, settings, batch)?;
        let masks = pruned.layers.iter().map(|layer| layer.mask.clone()).collect();
        let mut method = Finetuning { sgd, masks };
        pruned.timing =
            run_epochs(&mut method, self.images, settings.epochs, batch, settings.seed, progress)?;
        method.sgd.check(Finetuning::PHASE, settings.epochs)?;
        for (layer, trained) in pruned.layers.iter_mut().zip(method.sgd.into_weights()) {
            layer.mask.kept_indices().for_each(|index| layer.weights[index] = trained[index]);
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

    fn begin_epoch(&mut self, epoch: usize) {
        self.sgd.begin_epoch(epoch);
    }

    fn step(&mut self, examples: &Examples, indices: &[u32]) -> Result<LossSum, Error> {
        let masks = &self.masks;
        self.sgd.learn(examples, indices, |index, gradient| masks[index].apply(gradient))
    }
}

#[cfg(test)]
mod tests {
    use slth_kernels::Engine;

    use super::*;
    use crate::data::{Dataset, NormalisationRule, Subset};
    use crate::network::Initialisation;
    use crate::progress::NoProgress;
    use crate::training::{Schedule, Scope, one_shot};

    const SETTINGS: PretrainSettings = PretrainSettings {
        epsilon: f32::INFINITY,
        epochs: 2,
        batch: 32,
        learning_rate: 0.1,
        schedule: Schedule::Constant,
        momentum: 0.5,
        seed: 1,
    };

    /// Calls `test` with a trainer on 500 images and a network pruned by magnitude.
    fn with_pruned(test: impl FnOnce(Trainer<'_>, Pruned)) {
        let mnist = Dataset::mnist().unwrap();
        let network = "784-20-10".parse().unwrap();
        let trainer = Trainer {
            engine: Engine::detect().unwrap(),
            network: &network,
            images: &Subset::first(mnist.train(), 500),
            normalisation: mnist.normalisation(NormalisationRule::MeanStd),
        };
        let weights = Initialisation::KaimingNormal.network(&network, 1.0, 3);
        test(trainer, one_shot(trainer.engine, &network, &weights, 0.8, Scope::PerLayer, None).unwrap());
    }

    #[test]
    fn finetuning_moves_the_kept_weights_only_and_helps() {
        with_pruned(|trainer, pruned| {
            let tuned = trainer.finetune(pruned.clone(), &SETTINGS, &NoProgress).unwrap();
            for (before, after) in pruned.layers.iter().zip(&tuned.layers) {
                assert_eq!((&before.mask, &before.scores), (&after.mask, &after.scores));
                for (index, kept) in before.mask.iter().enumerate() {
                    assert!(kept || before.weights[index] == after.weights[index]);
                }
                assert_ne!(before.weights, after.weights);
            }
            let accuracy = |pruned: &Pruned| trainer.evaluate_pruned(&pruned.layers).unwrap().accuracy();
            assert!(accuracy(&tuned) > accuracy(&pruned) + 0.3);
            assert_eq!(tuned.timing.epochs, 2);
        });
    }

    #[test]
    fn misfits_are_errors() {
        with_pruned(|trainer, pruned| {
            let refused = |trainer: Trainer<'_>, pruned: &Pruned, settings: &PretrainSettings| {
                let found = trainer.finetune(pruned.clone(), settings, &NoProgress);
                assert!(matches!(found, Err(Error::Config { .. } | Error::Kernel(_))), "{found:?}");
            };
            refused(trainer, &pruned, &PretrainSettings { batch: 0, ..SETTINGS });
            refused(trainer.on(&Subset::first(trainer.images.examples(), 0)), &pruned, &SETTINGS);
            let other = "784-21-10".parse().unwrap();
            refused(Trainer { network: &other, ..trainer }, &pruned, &SETTINGS);
            let mut short = pruned.clone();
            short.layers.pop();
            refused(trainer, &short, &SETTINGS);
            let mut misfit = pruned.clone();
            misfit.layers[0].mask = PackedMask::all_kept(7);
            refused(trainer, &misfit, &SETTINGS);
        });
    }
}
