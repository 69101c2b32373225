//! `slth prune`.

use std::path::{Path, PathBuf};

use clap::Args;
use slth::Error;
use slth::output::OutputDirectory;
use slth::prune::{PruneConfig, PrunedFile};
use slth::tensors::TensorFile;

use super::shared::MachineArguments;
use super::table::kept;

/// Prune the weights of any safetensors file, without data.
///
/// Removes weights of every tensor of F16, BF16, F32 and F64 with two or more dimensions, and prints how many of each are kept.
/// With --out writes the same file with zeros for the removed weights: same names, types and other tensors. Of weights that PyTorch
/// pruned (weight_orig, weight_mask) the mask gets the zeros.
#[derive(Args)]
#[command(args_override_self = true)]
pub(super) struct PruneArguments {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    config: PruneConfig,

    /// Write the pruned file
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    out: Option<PathBuf>,

    /// Replace the file of --out
    #[arg(long, help_heading = "Output")]
    force: bool,

    #[command(flatten)]
    machine: MachineArguments,
}

/// Prunes; the text is the table for standard output.
pub(super) fn prune(arguments: &PruneArguments) -> Result<String, Error> {
    let PruneArguments { file, config, out, force, machine } = arguments;
    let engine = machine.engine()?;
    let source = TensorFile::open(file)?;
    let out =
        out.as_ref().map(|out| (out.parent().unwrap_or(Path::new("")), out.file_name().unwrap_or_default()));
    let prepare = |(directory, name): (&Path, _)| {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        Ok::<_, Error>((OutputDirectory::prepare(directory, &[name], *force)?, name))
    };
    let out = out.map(prepare).transpose()?;
    let pruned = PrunedFile::new(&source, config, engine)?;
    let rows = pruned
        .weights
        .iter()
        .map(|(parameter, mask)| (parameter.name.to_owned(), parameter.tensor.info.shape.clone(), mask));
    let text = format!("{}\n", kept("tensor", rows));
    if let Some((directory, name)) = out {
        directory.write(&[(name, pruned)])?;
    }
    Ok(text)
}
