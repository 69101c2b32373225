//! `slth run`.

use std::path::PathBuf;

use clap::Args;
use slth::Error;
use slth::output::OutputDirectory;
use slth::run::RunConfig;

use super::number::number;
use super::progress::progress;
use super::report;
use super::setting::SettingArguments;

/// Pretrain a random network, prune it, report the accuracy before and after.
///
/// Everything is checked before the work starts. A table goes to standard output, progress to standard error. Exit code 2:
/// bad flags, data or output directory; 1: the run itself failed. Of a flag given twice the last counts.
#[derive(Args)]
#[command(args_override_self = true)]
pub(super) struct RunArguments {
    /// The largest change pretraining may make to any weight, 0 to inf: 0 is no pretraining, inf is ordinary SGD
    #[arg(long, value_name = "F", help_heading = "Pretraining", allow_negative_numbers = true, value_parser = number::<f32>, default_value_t = RunConfig::default().epsilon)]
    epsilon: f32,

    /// The fraction of each layer's weights REMOVED, at least 0 and below 1: int(s * n) of n weights go. With 0 nothing is
    /// removed, and pruning is skipped
    #[arg(long, value_name = "F", help_heading = "Pruning", allow_negative_numbers = true, value_parser = number::<f64>, default_value_t = RunConfig::default().sparsity)]
    sparsity: f64,

    /// Decides all random numbers
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = RunConfig::default().seed)]
    seed: u64,

    #[command(flatten)]
    setting: SettingArguments,

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
    let RunArguments { epsilon, sparsity, seed, setting, out, force, quiet } = arguments;
    let config = RunConfig { epsilon, sparsity, seed, ..setting.config()? };
    config.validate()?;
    let dataset = setting.dataset()?;
    config.check(&dataset)?;
    // Last, so that no directory is left behind by a run that was not to be.
    let out = out.map(|path| OutputDirectory::prepare(path, force)).transpose()?;
    let outcome = slth::run::run(&config, &dataset, progress(quiet).as_mut())?;
    if let Some(out) = out {
        out.write(&outcome)?;
    }
    Ok(report::table(&outcome))
}
