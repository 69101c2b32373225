//! Pruning of safetensors files as they are, without data: weight matrices and filters of any network.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufWriter, Write};

use clap::Args;
use slth_kernels::{Engine, PackedMask};

use crate::error::Error;
use crate::flags::{List, names, number};
use crate::network::LayerShape;
use crate::output::Content;
use crate::tensors::{Parameter, TensorFile, TensorProblem};
use crate::training::{Cut, PruneMethod, Scope, check_sparsity, masks, scores};

/// How to prune a file.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct PruneConfig {
    /// The fraction of weights REMOVED, at least 0 and below 1: int(s * n) of n weights go
    #[arg(long, value_name = "F", allow_negative_numbers = true, value_parser = number::<f64>)]
    pub sparsity: f64,
    /// How the weights to remove are found: magnitude or random, which need no data
    #[arg(long, value_name = "NAME", default_value_t = PruneMethod::Magnitude)]
    pub method: PruneMethod,
    /// What the sparsity is a fraction of; a layer is a tensor here
    #[arg(long, value_name = "NAME", default_value_t)]
    pub scope: Scope,
    /// Seed of random pruning
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Prune only tensors of these names; * stands for any characters
    #[arg(long, value_name = "NAME,..", value_parser = names)]
    pub only: Option<List<String>>,
    /// Leave tensors of these names as they are
    #[arg(long, value_name = "NAME,..", value_parser = names)]
    pub skip: Option<List<String>>,
}

/// A file and what is removed from it. As [`Content`] it is the same file, names, types, sizes and metadata, with zeros for the
/// removed weights; of weights that PyTorch pruned (`NAME_orig`, `NAME_mask`) the mask gets the zeros.
#[derive(Debug)]
pub struct PrunedFile<'a> {
    source: &'a TensorFile,
    /// Each weight matrix and filter, in natural order of the names, with the mask of its weights.
    pub weights: Vec<(Parameter<'a>, PackedMask)>,
}

impl<'a> PrunedFile<'a> {
    /// Prunes every tensor of F16, BF16, F32 and F64 with two or more dimensions that the configuration chooses. Weights are ranked
    /// by |w|, those of f64 rounded to f32; of equal ones the lower index is removed first. What a mask of PyTorch removes stays
    /// removed. Memory: some eight bytes a weight, of one tensor at a time or, with [`Scope::Global`], of all.
    ///
    /// # Errors
    /// When the configuration makes no sense or chooses nothing, the file cannot be read or a weight is infinite or NaN.
    pub fn new(source: &'a TensorFile, config: &PruneConfig, engine: Engine) -> Result<Self, Error> {
        check_sparsity(config.sparsity)?;
        let random = match config.method {
            PruneMethod::Magnitude => None,
            PruneMethod::Random => Some(config.seed),
            other => return Err(Error::config("method", format!("{other} needs data: use `slth run`"))),
        };
        let chosen = source.chosen(config.only.as_deref(), config.skip.as_deref())?;
        let chosen: HashSet<_> = chosen.into_iter().map(|tensor| tensor.rank).collect();
        let is_chosen = |parameter: &Parameter<'_>| {
            parameter.tensor.info.shape.len() > 1 && chosen.contains(&parameter.tensor.rank)
        };
        let parameters: Vec<_> = source.parameters().into_iter().filter(is_chosen).collect();
        if parameters.is_empty() {
            let nothing = io::Error::new(io::ErrorKind::InvalidData, "no weight matrix or filter to prune");
            return Err(source.error::<TensorProblem>(nothing).into());
        }
        let mut weights = Vec::new();
        let groups = match config.scope {
            Scope::PerLayer => parameters.chunks(1),
            Scope::Global => parameters.chunks(parameters.len()),
        };
        for group in groups {
            let mut all = Vec::new();
            for parameter in group {
                let values = source.values(parameter)?;
                let mut scores = scores(&values, parameter.tensor.rank, random);
                if parameter.mask.is_some() {
                    // What is removed already goes first.
                    scores.iter_mut().zip(&values).filter(|(_, w)| **w == 0.0).for_each(|(s, _)| *s = 0.0);
                }
                all.push(scores);
            }
            let shapes: Vec<_> = all.iter().map(|scores| LayerShape::new(1, scores.len())).collect();
            let cut = Cut { sparsity: config.sparsity, scope: Scope::Global, ..Cut::default() };
            for ((parameter, mut mask), scores) in
                group.iter().zip(masks(engine, &shapes, &all, &cut)?).zip(all)
            {
                if parameter.mask.is_some() {
                    (0..mask.len()).filter(|&i| scores[i] == 0.0).for_each(|i| mask.set(i, false));
                }
                weights.push((*parameter, mask));
            }
        }
        Ok(Self { source, weights })
    }
}

impl Content for PrunedFile<'_> {
    fn write(&self, file: &mut File) -> io::Result<()> {
        let mut file = BufWriter::new(file);
        file.write_all(&self.source.header(&self.source.metadata))?;
        let removed = self.weights.iter().map(|(of, mask)| (of.mask.unwrap_or(of.tensor).rank, mask));
        let removed: HashMap<_, _> = removed.collect();
        for tensor in self.source.tensors() {
            let (begin, end) = tensor.info.data_offsets;
            for piece in self.source.pieces(begin..end) {
                let (start, mut bytes) = piece.map_err(io::Error::other)?;
                if let Some(mask) = removed.get(&tensor.rank) {
                    let size = tensor.info.dtype.bitsize() / 8;
                    let first = (start - begin) / size;
                    let weights = bytes.chunks_exact_mut(size).zip(first..);
                    weights.filter(|&(_, i)| !mask.get(i)).for_each(|(weight, _)| weight.fill(0));
                }
                file.write_all(&bytes)?;
            }
        }
        file.flush()
    }
}
