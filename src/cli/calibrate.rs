//! `slth calibrate`.

use std::path::PathBuf;

use clap::Args;
use slth::Error;
use slth::flags::{List, list};
use slth::run::{RunConfig, dataset_hash};
use slth::sweep::{Grid, Prunings, Trial, TrialLog};

use super::shared::{DataArguments, MachineArguments, SettingArguments};

/// Measure how near many ways of pruning, on the same pretrained networks, come to the published table.
///
/// Pretrains once per epsilon and seed, prunes with every combination of the --try lists, and appends a line to the log for each:
/// the setting, its distance from the published table, accuracies. Trials in the log are not repeated.
#[derive(Args)]
#[command(args_override_self = true)]
pub(super) struct CalibrateArguments {
    /// The log, JSON lines
    log: PathBuf,

    /// As in a sweep
    #[arg(long, value_name = "LIST", help_heading = "Grid", value_parser = list::<f32>, default_value = "0,0.005,0.02,0.05,0.1,0.3")]
    epsilon: List<f32>,

    /// As in a sweep
    #[arg(long, value_name = "LIST", help_heading = "Grid", value_parser = list::<f64>, default_value = "0,0.1,0.3,0.5,0.7,0.8")]
    sparsity: List<f64>,

    /// As in a sweep
    #[arg(long, value_name = "LIST", help_heading = "Grid", value_parser = list::<u64>, default_value = "1")]
    seeds: List<u64>,

    /// Epochs of edge-popup to try [default: that of --prune-epochs]
    #[arg(long, value_name = "LIST", help_heading = "Prunings to try", value_parser = list::<usize>)]
    try_epochs: Option<List<usize>>,

    /// Learning rates of edge-popup to try [default: that of --prune-lr]
    #[arg(long, value_name = "LIST", help_heading = "Prunings to try", value_parser = list::<f32>)]
    try_lr: Option<List<f32>>,

    /// Momenta of edge-popup to try [default: that of --momentum]
    #[arg(long, value_name = "LIST", help_heading = "Prunings to try", value_parser = list::<f32>)]
    try_momentum: Option<List<f32>>,

    /// Weight decays of edge-popup to try [default: that of --weight-decay]
    #[arg(long, value_name = "LIST", help_heading = "Prunings to try", value_parser = list::<f32>)]
    try_decay: Option<List<f32>>,

    #[command(flatten)]
    data: DataArguments,

    #[command(flatten)]
    setting: SettingArguments,

    #[command(flatten)]
    machine: MachineArguments,
}

/// Calibrates; the text is a line for each trial, the nearest first.
pub(super) fn calibrate(arguments: &CalibrateArguments) -> Result<String, Error> {
    let CalibrateArguments { log, epsilon, sparsity, seeds, data, setting, machine, .. } = arguments;
    let (threads, backend) = machine.chosen()?;
    let config = RunConfig { threads, backend, ..setting.config()? };
    let grid = Grid { epsilons: epsilon.clone(), sparsities: sparsity.clone(), seeds: seeds.clone() };
    grid.validate()?;
    let list = |list: &Option<List<f32>>, one| list.as_ref().map_or(vec![one], |list| list.clone());
    let prunings = Prunings {
        epochs: arguments.try_epochs.as_ref().map_or(vec![config.prune_epochs], |list| list.clone()),
        learning_rates: list(&arguments.try_lr, config.prune_lr),
        momenta: list(&arguments.try_momentum, config.momentum),
        weight_decays: list(&arguments.try_decay, config.weight_decay),
    };
    let dataset = data.dataset()?;
    let settings = prunings.settings(&config);
    settings.iter().try_for_each(|setting| setting.check(&dataset))?;
    let mut log = TrialLog::open(log)?;
    let data = dataset_hash(&dataset);
    let settings: Vec<_> = settings.into_iter().filter(|setting| !log.holds(setting, &grid, &data)).collect();
    let mut trials = Vec::new();
    slth::sweep::calibrate(&settings, &grid, &dataset, |trial| {
        trials.push(trial.clone());
        Ok(log.append(trial)?)
    })?;
    trials.sort_by(|a, b| a.distance.total_cmp(&b.distance));
    Ok(trials.iter().map(line).collect())
}

fn line(trial: &Trial) -> String {
    let letter = |(holds, letter): (&Option<bool>, char)| if *holds == Some(true) { letter } else { '-' };
    let findings: String = trial.findings.iter().zip('a'..).map(letter).collect();
    let setting = &trial.config;
    format!(
        "{:.4}  difference {:.4}, rank {:.3}, {findings}: epochs {}, rate {}, momentum {}, weight decay {}\n",
        trial.distance,
        trial.mean_absolute_difference,
        trial.rank_correlation,
        setting.prune_epochs,
        setting.prune_lr,
        setting.momentum,
        setting.weight_decay,
    )
}
