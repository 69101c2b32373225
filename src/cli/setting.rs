//! The flags that `slth run` and `slth sweep` share.

use clap::Args;
use slth::Error;
use slth::data::{Dataset, NormalisationRule};
use slth::network::{Architecture, Initialisation};
use slth::run::RunConfig;
use slth::training::{PruneMethod, Schedule, Scope};

use super::number::number;
use super::shared::{DataArguments, MachineArguments};

/// Everything that decides a run but ε, sparsity and seed.
#[derive(Args)]
pub(super) struct SettingArguments {
    #[command(flatten)]
    data: DataArguments,

    /// Train on N training images only, drawn at random by the seed, stratified by class [default: all that are not held out]
    #[arg(long, value_name = "N", help_heading = "Data", allow_negative_numbers = true)]
    train_images: Option<usize>,

    /// Hold out N training images for validation, drawn at random by the seed, stratified by class
    #[arg(long, value_name = "N", help_heading = "Data", allow_negative_numbers = true, default_value_t = RunConfig::default().validation)]
    validation: usize,

    /// How a pixel x becomes an input: mean-std gives the data set's training images mean 0 and standard deviation 1, unit is x/255,
    /// and numbers as in 0.1307,0.3081 are (x/255 - MEAN)/STD
    #[arg(long, value_name = "mean-std|unit|MEAN,STD", help_heading = "Data", default_value_t)]
    normalize: NormalisationRule,

    /// The network, without biases: widths, input first, lenet5, or convolutions and pooling between an image and widths:
    /// lenet5 is 28x28-6@5x5p2-pool2-16@5x5-pool2-120-84-10 (filters @ kernel, s stride, p padding)
    #[arg(
        long,
        value_name = "NETWORK",
        help_heading = "Network",
        allow_negative_numbers = true,
        default_value_t
    )]
    network: Architecture,

    /// Distribution of the initial weights
    #[arg(long, value_name = "KIND", help_heading = "Network", default_value_t)]
    init: Initialisation,

    /// Multiply the initial weights by this
    #[arg(long, value_name = "F", help_heading = "Network", allow_negative_numbers = true, value_parser = number::<f64>, default_value_t = RunConfig::default().init_scale)]
    init_scale: f64,

    /// Multiply the initial weights by 1/sqrt(keep), where keep = 1 - sparsity, so that a neuron's input has the same variance
    /// under a random mask. `scale_fan` of edge-popup's published code multiplies by 1/sqrt(1 - keep) instead: the same at
    /// sparsity 0.5 only
    #[arg(long, help_heading = "Network")]
    scale_by_keep: bool,

    /// Epochs of pretraining; 0 leaves the weights as they were drawn
    #[arg(long, value_name = "N", help_heading = "Pretraining", allow_negative_numbers = true, default_value_t = RunConfig::default().pretrain_epochs)]
    pretrain_epochs: usize,

    /// Learning rate of pretraining in the first epoch
    #[arg(long, value_name = "F", help_heading = "Pretraining", allow_negative_numbers = true, value_parser = number::<f32>, default_value_t = RunConfig::default().pretrain_lr)]
    pretrain_lr: f32,

    /// Learning-rate schedule of pretraining
    #[arg(long, value_name = "KIND", help_heading = "Pretraining", default_value_t)]
    pretrain_schedule: Schedule,

    /// Momentum of pretraining; 0 is plain SGD
    #[arg(long, value_name = "F", help_heading = "Pretraining", allow_negative_numbers = true, value_parser = number::<f32>, default_value_t = RunConfig::default().pretrain_momentum)]
    pretrain_momentum: f32,

    /// How the weights to remove are found
    #[arg(long, value_name = "NAME", help_heading = "Pruning", default_value_t)]
    method: PruneMethod,

    /// What the sparsity is a fraction of
    #[arg(long, value_name = "NAME", help_heading = "Pruning", default_value_t)]
    scope: Scope,

    /// Epochs of edge-popup or of finetuning; magnitude and random pruning take none
    #[arg(long, value_name = "N", help_heading = "Pruning", allow_negative_numbers = true, default_value_t = RunConfig::default().prune_epochs)]
    prune_epochs: usize,

    /// Learning rate of the scores in the first epoch; falls on a cosine, epoch by epoch
    #[arg(long, value_name = "F", help_heading = "Pruning", allow_negative_numbers = true, value_parser = number::<f32>, default_value_t = RunConfig::default().prune_lr)]
    prune_lr: f32,

    /// Momentum of the scores
    #[arg(long, value_name = "F", help_heading = "Pruning", allow_negative_numbers = true, value_parser = number::<f32>, default_value_t = RunConfig::default().momentum)]
    momentum: f32,

    /// Weight decay of the scores
    #[arg(long, value_name = "F", help_heading = "Pruning", allow_negative_numbers = true, value_parser = number::<f32>, default_value_t = RunConfig::default().weight_decay)]
    weight_decay: f32,

    /// Images per step of both trainings
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = RunConfig::default().batch)]
    batch: usize,

    #[command(flatten)]
    machine: MachineArguments,
}

impl SettingArguments {
    /// The data of `--data`.
    pub(super) fn dataset(&self) -> Result<Dataset, Error> {
        self.data.dataset()
    }

    /// The configuration with these flags; ε, sparsity and seed are still the defaults.
    pub(super) fn config(&self) -> Result<RunConfig, Error> {
        Ok(RunConfig {
            network: self.network.clone(),
            init: self.init,
            init_scale: self.init_scale,
            scale_by_keep: self.scale_by_keep,
            method: self.method,
            scope: self.scope,
            normalize: self.normalize,
            pretrain_epochs: self.pretrain_epochs,
            prune_epochs: self.prune_epochs,
            batch: self.batch,
            pretrain_lr: self.pretrain_lr,
            pretrain_schedule: self.pretrain_schedule,
            pretrain_momentum: self.pretrain_momentum,
            prune_lr: self.prune_lr,
            momentum: self.momentum,
            weight_decay: self.weight_decay,
            validation: self.validation,
            train_images: self.train_images,
            threads: self.machine.threads,
            backend: Some(self.machine.backend()?),
            ..RunConfig::default()
        })
    }
}
