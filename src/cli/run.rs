//! `slth run`.

use std::path::PathBuf;

use clap::Args;
use slth::Error;
use slth::dataset::Normalisation;
use slth::experiments::{self, RunConfig};
use slth::network::{Architecture, Initialisation};
use slth::results::OutputDirectory;

use super::progress::progress;
use super::{backend, dataset, report};

/// Pretrain a random network, prune it, report the accuracy before and after.
///
/// Everything is checked before the work starts. A table goes to standard output, progress to standard error. Exit code 2:
/// bad flags, data or output directory; 1: the run itself failed. Of a flag given twice the last counts.
#[derive(Args)]
#[command(args_override_self = true)]
pub(super) struct RunArguments {
    /// Directory with train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte,
    /// plain or .gz [default: the built-in MNIST]
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    data: Option<PathBuf>,

    /// Train on the first N training images only [default: all that are not held out]
    #[arg(long, value_name = "N", help_heading = "Data", allow_negative_numbers = true)]
    train_images: Option<usize>,

    /// Hold out the last N training images for validation
    #[arg(long, value_name = "N", help_heading = "Data", allow_negative_numbers = true, default_value_t = RunConfig::default().validation)]
    validation: usize,

    /// How a pixel x becomes an input: mean-std is (x/255 - 0.1307)/0.3081, unit is x/255
    #[arg(long, value_name = "KIND", help_heading = "Data", default_value_t)]
    normalize: Normalisation,

    /// Widths of a fully connected network without biases, input first
    #[arg(
        long,
        value_name = "WIDTHS",
        help_heading = "Network",
        allow_negative_numbers = true,
        default_value_t
    )]
    network: Architecture,

    /// Distribution of the initial weights: kaiming-normal (deviation sqrt(2/fan-in)), kaiming-uniform (within
    /// 1/sqrt(fan-in)), signed-constant (+-sqrt(2/fan-in)) or uniform (within 1)
    #[arg(long, value_name = "KIND", help_heading = "Network", default_value_t)]
    init: Initialisation,

    /// Multiply the initial weights by 1/sqrt(keep), where keep = 1 - sparsity
    #[arg(long, help_heading = "Network")]
    scale_by_keep: bool,

    /// The largest change pretraining may make to any weight, 0 to inf: 0 is no pretraining, inf is ordinary SGD
    #[arg(long, value_name = "F", help_heading = "Pretraining", allow_negative_numbers = true, default_value_t = RunConfig::default().epsilon)]
    epsilon: f32,

    /// Epochs of pretraining; 0 leaves the weights as they were drawn
    #[arg(long, value_name = "N", help_heading = "Pretraining", allow_negative_numbers = true, default_value_t = RunConfig::default().pretrain_epochs)]
    pretrain_epochs: usize,

    /// Learning rate of pretraining, constant
    #[arg(long, value_name = "F", help_heading = "Pretraining", allow_negative_numbers = true, default_value_t = RunConfig::default().pretrain_lr)]
    pretrain_lr: f32,

    /// Momentum of pretraining; 0 is plain SGD
    #[arg(long, value_name = "F", help_heading = "Pretraining", allow_negative_numbers = true, default_value_t = RunConfig::default().pretrain_momentum)]
    pretrain_momentum: f32,

    /// The fraction of each layer's weights REMOVED, at least 0 and below 1: int(s * n) of n weights go. With 0 nothing is
    /// removed, and pruning is skipped
    #[arg(long, value_name = "F", help_heading = "Pruning", allow_negative_numbers = true, default_value_t = RunConfig::default().sparsity)]
    sparsity: f64,

    /// Epochs of edge-popup; with 0 the random initial scores decide what is removed
    #[arg(long, value_name = "N", help_heading = "Pruning", allow_negative_numbers = true, default_value_t = RunConfig::default().prune_epochs)]
    prune_epochs: usize,

    /// Learning rate of the scores in the first epoch; falls on a cosine, epoch by epoch
    #[arg(long, value_name = "F", help_heading = "Pruning", allow_negative_numbers = true, default_value_t = RunConfig::default().prune_lr)]
    prune_lr: f32,

    /// Momentum of the scores
    #[arg(long, value_name = "F", help_heading = "Pruning", allow_negative_numbers = true, default_value_t = RunConfig::default().momentum)]
    momentum: f32,

    /// Weight decay of the scores
    #[arg(long, value_name = "F", help_heading = "Pruning", allow_negative_numbers = true, default_value_t = RunConfig::default().weight_decay)]
    weight_decay: f32,

    /// Images per step of both trainings
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = RunConfig::default().batch)]
    batch: usize,

    /// Decides all random numbers
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = RunConfig::default().seed)]
    seed: u64,

    /// Number of threads; changes no result [default: all cores]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    threads: Option<usize>,

    /// Instruction set, as listed by `slth info`; changes no result [default: $SLTH_BACKEND, else the best]
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,

    /// Write result.json and ticket.safetensors into this directory
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    out: Option<PathBuf>,

    /// Overwrite results in --out
    #[arg(long, help_heading = "Output")]
    force: bool,

    /// Show no progress
    #[arg(long, help_heading = "Output")]
    quiet: bool,
}

/// Runs; the text is the table for standard output.
pub(super) fn run(arguments: RunArguments) -> Result<String, Error> {
    let RunArguments { data, out, force, quiet, .. } = &arguments;
    let (quiet, force) = (*quiet, *force);
    let (data, out) = (data.clone(), out.clone());
    let config = configuration(arguments)?;
    config.validate()?;
    let dataset = dataset(data.as_deref())?;
    config.check(&dataset)?;
    // Last, so that no directory is left behind by a run that was not to be.
    let out = out.map(|path| OutputDirectory::prepare(path, force)).transpose()?;
    let outcome = experiments::run(&config, &dataset, progress(quiet).as_mut())?;
    if let Some(out) = out {
        out.write(&outcome)?;
    }
    Ok(report::table(&outcome))
}

fn configuration(arguments: RunArguments) -> Result<RunConfig, Error> {
    Ok(RunConfig {
        network: arguments.network,
        init: arguments.init,
        scale_by_keep: arguments.scale_by_keep,
        normalize: arguments.normalize,
        epsilon: arguments.epsilon,
        sparsity: arguments.sparsity,
        pretrain_epochs: arguments.pretrain_epochs,
        prune_epochs: arguments.prune_epochs,
        batch: arguments.batch,
        pretrain_lr: arguments.pretrain_lr,
        pretrain_momentum: arguments.pretrain_momentum,
        prune_lr: arguments.prune_lr,
        momentum: arguments.momentum,
        weight_decay: arguments.weight_decay,
        validation: arguments.validation,
        train_images: arguments.train_images,
        seed: arguments.seed,
        threads: arguments.threads,
        backend: Some(backend(arguments.backend.as_deref())?),
    })
}
