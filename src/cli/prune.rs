//! `slth prune`.

use std::path::PathBuf;

use clap::Args;
use slth::Error;
use slth::prune::{PruneConfig, PrunedFile};
use slth::tensors::TensorFile;

use super::shared::{MachineArguments, OutputFileArguments};
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

    #[command(flatten)]
    output: OutputFileArguments,

    #[command(flatten)]
    machine: MachineArguments,
}

/// Prunes; the text is the table for standard output.
pub(super) fn prune(arguments: &PruneArguments) -> Result<String, Error> {
    let PruneArguments { file, config, output, machine } = arguments;
    let engine = machine.engine()?;
    let source = TensorFile::open(file)?;
    let pruned = PrunedFile::new(&source, config, engine)?;
    let out = output.prepare()?;
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
