//! `slth run`.

use clap::Args;
use slth::Error;
use slth::output::OutputDirectory;
use slth::run::RunConfig;

use super::number::number;
use super::progress::progress;
use super::report;
use super::setting::SettingArguments;
use super::shared::{OutputArguments, SeedArguments};

/// Pretrain a random network, prune it, report the accuracy before and after.
///
/// Everything is checked before the work starts. A table goes to standard output, progress to standard error, with --out also
/// result.json and ticket.safetensors into that directory. Exit code 2:
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

    #[command(flatten)]
    seed: SeedArguments,

    #[command(flatten)]
    setting: SettingArguments,

    #[command(flatten)]
    output: OutputArguments,
}

/// Runs; the text is the table for standard output.
pub(super) fn run(arguments: RunArguments) -> Result<String, Error> {
    let RunArguments { epsilon, sparsity, seed, setting, output } = arguments;
    let config = RunConfig { epsilon, sparsity, seed: seed.seed, ..setting.config()? };
    config.validate()?;
    let dataset = setting.dataset()?;
    config.check(&dataset)?;
    let out = output.prepare(&OutputDirectory::RUN_FILES)?;
    let outcome = slth::run::run(&config, &dataset, progress(output.quiet).as_mut())?;
    if let Some(out) = out {
        out.write(&outcome)?;
    }
    Ok(report::table(&outcome))
}
