//! `slth sweep`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use slth::Error;
use slth::flags::{List, list};
use slth::run::RunConfig;
use slth::sweep::{Grid, Shard, Sweep, read_cells};

use super::preset::Preset;
use super::progress::progress_by_cell;
use super::shared::{DataArguments, MachineArguments, SettingArguments};
use super::{grid, note, note_without_effect};

/// Run a grid of ε by sparsity by seeds: pretrain once per ε and seed, prune at every sparsity.
///
/// Cells run in parallel, one on each thread. Each is appended to cells.jsonl in --out when it is done (a shard's to
/// cells-I-of-N.jsonl). The same command continues a sweep that was stopped or killed, and computes nothing twice. A failing cell
/// is recorded with its error, and the others continue. SIGINT, SIGTERM and SIGUSR1 end the sweep at once with exit code 3;
/// running cells are abandoned. Exit code 2: bad flags, data or directory; 1: another failure, such as a full disk.
///
/// Lists ascend and are separated by commas: --epsilon 0,0.01,0.1.
#[derive(Args)]
#[command(args_override_self = true)]
pub(super) struct SweepArguments {
    /// Named list of flags; flags on the command line override it
    #[arg(long, value_name = "NAME", help_heading = "Grid")]
    pub(super) preset: Option<Preset>,

    /// How far pretraining may move any weight or bias from where it was drawn, 0 to inf: 0 is no pretraining, inf is ordinary SGD
    #[arg(
        long,
        value_name = "LIST",
        help_heading = "Grid",
        value_parser = list::<f32>,
        allow_hyphen_values = true,
        default_value = "0,0.01,0.03,0.1,0.3"
    )]
    epsilon: List<f32>,

    /// The fractions of each layer's weights REMOVED, at least 0 and below 1; 0 is the dense pretrained network
    #[arg(
        long,
        value_name = "LIST",
        help_heading = "Grid",
        value_parser = list::<f64>,
        allow_hyphen_values = true,
        default_value = "0,0.2,0.4,0.6,0.8"
    )]
    sparsity: List<f64>,

    /// Seeds of all random numbers, one run for each
    #[arg(long, value_name = "LIST", help_heading = "Grid", value_parser = list::<u64>, allow_hyphen_values = true, default_value = "1")]
    seeds: List<u64>,

    #[command(flatten)]
    data: DataArguments,

    #[command(flatten)]
    setting: SettingArguments,

    #[command(flatten)]
    machine: MachineArguments,

    /// Compute part I of N only, counted from 1 [default: $SLTH_SHARD, else the task of a Slurm, PBS or SGE array and the rank of
    /// an MPI launcher or Slurm step, else everything]
    #[arg(long, value_name = "I/N", help_heading = "Parts", allow_hyphen_values = true)]
    shard: Option<Shard>,

    /// Compute everything: ignore $SLTH_SHARD, arrays and ranks
    #[arg(long, help_heading = "Parts", conflicts_with = "shard")]
    no_env_shard: bool,

    /// Append the cells to cells.jsonl in this directory
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    out: PathBuf,

    /// Compute failed cells again
    #[arg(long, help_heading = "Output")]
    retry_failed: bool,

    /// Show no progress
    #[arg(long, help_heading = "Output")]
    quiet: bool,
}

/// Sweeps; the text is the table of mean test accuracies for standard output.
pub(super) fn sweep(arguments: &SweepArguments) -> Result<String, Error> {
    let SweepArguments { epsilon, sparsity, seeds, data, setting, machine, out, quiet, .. } = arguments;
    let (threads, backend) = machine.chosen()?;
    let sweep = Sweep {
        config: RunConfig { threads, backend, ..setting.config()? },
        grid: Grid { epsilons: epsilon.clone(), sparsities: sparsity.clone(), seeds: seeds.clone() },
        shard: shard(arguments)?,
        retry_failed: arguments.retry_failed,
    };
    sweep.grid.validate()?;
    let dataset = data.dataset()?;
    sweep.check(&dataset)?;
    note_without_effect(&sweep.config);
    let summary = sweep.run(&dataset, out, &stop_on_signals(), progress_by_cell(*quiet).as_ref())?;
    if !summary.is_complete() {
        return Err(Error::Stopped);
    }
    for failure in &summary.failed {
        note(&format!("failed: {failure}"));
    }
    let cells = read_cells(out)?;
    Ok(format!(
        "{} cells: {} were there, {} computed, {} failed\n{}",
        summary.cells,
        summary.known,
        summary.computed,
        summary.failed.len(),
        grid::tables(&cells)
    ))
}

/// The flag's shard, else that of the environment, which is said.
fn shard(arguments: &SweepArguments) -> Result<Shard, Error> {
    if let Some(shard) = arguments.shard {
        return Ok(shard);
    }
    if arguments.no_env_shard {
        return Ok(Shard::ALL);
    }
    let Some((shard, source)) = Shard::detect(|name| std::env::var(name).ok())? else {
        return Ok(Shard::ALL);
    };
    note(&format!("shard {shard} ({source}; --no-env-shard turns this off)"));
    Ok(shard)
}

/// Becomes true at the first signal to end. A second interrupt ends the process at once.
fn stop_on_signals() -> Arc<AtomicBool> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::flag;
    let stop = Arc::new(AtomicBool::new(false));
    // Where a signal cannot be caught it ends the process, which the store survives.
    let _ = flag::register_conditional_shutdown(SIGINT, 130, Arc::clone(&stop));
    for signal in [
        SIGINT,
        SIGTERM,
        #[cfg(unix)]
        signal_hook::consts::SIGUSR1,
    ] {
        let _ = flag::register(signal, Arc::clone(&stop));
    }
    stop
}
