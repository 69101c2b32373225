//! The files of one ε, written while weights are rebuilt.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use safetensors::Dtype;
use serde_json::json;

use super::network::{Approximator, Rebuilt};
use crate::error::Error;
use crate::output::OutputDirectory;
use crate::tensors::{TensorFile, header};

/// Two files without names yet.
///
/// The weights: the target file with the rebuilt weights, and the same names, types, sizes and order. Other tensors are copied.
/// Its metadata has one more entry, `approximation`: the configuration.
///
/// The subsets, where they are wanted: for each tensor rebuilt a U8 tensor of its name with a bit for each candidate that a
/// weight may have ([`most_candidates`](super::ApproximateConfig::most_candidates)), one weight after the other, the least bit of a byte first, filled up to a whole byte at the end. Bit i is set when the weight has
/// candidate i. Its metadata tells where candidates come from: beside `approximation` an entry `candidates` with each tensor's
/// place in the key of the random streams, weights of a row, and range.
pub(super) struct Rewrite<'a> {
    source: &'a TensorFile,
    out: &'a OutputDirectory,
    weights: BufWriter<File>,
    /// Bytes of tensors written.
    written: usize,
    subsets: Option<BufWriter<File>>,
    n: usize,
    /// Bits of subsets that do not fill a byte yet, and their number.
    pending: (u64, usize),
}

impl<'a> Rewrite<'a> {
    pub(super) fn new(
        approximator: &Approximator<'a>,
        epsilon: f32,
        subsets: bool,
        out: &'a OutputDirectory,
    ) -> Result<Self, Error> {
        let &Approximator { config, tensors: source, ref parts, .. } = approximator;
        let n = config.most_candidates();
        let how = ("approximation".to_owned(), json!(config.with_epsilon(epsilon)).to_string());
        let begin = |header: Vec<u8>| {
            let mut file = BufWriter::new(out.spool()?);
            file.write_all(&header).map_err(|error| out.unwritten(error))?;
            Ok::<_, Error>(file)
        };
        let metadata = source.metadata.clone().into_iter().chain([how.clone()]).collect();
        let weights = begin(source.header(&metadata))?;
        let bits = || {
            let size = |elements: usize| vec![(elements * n).div_ceil(8)];
            let tensors =
                parts.iter().map(|part| (&*part.tensor.name, Dtype::U8, size(part.tensor.elements())));
            let draw = |part: &super::network::Part<'_>| {
                let place = json!({"layer": part.tensor.rank, "row": part.row, "range": part.range});
                (part.tensor.name.clone(), place)
            };
            let draws: serde_json::Map<_, _> = parts.iter().map(draw).collect();
            let candidates = ("candidates".to_owned(), json!(draws).to_string());
            begin(header(tensors, &[how.clone(), candidates].into()))
        };
        let subsets = subsets.then(bits).transpose()?;
        Ok(Self { source, out, weights, written: 0, subsets, n, pending: (0, 0) })
    }

    pub(super) fn add(&mut self, rebuilt: &Rebuilt<'_>) -> Result<(), Error> {
        let size = rebuilt.tensor.info.dtype.bitsize() / 8;
        self.copy(rebuilt.tensor.info.data_offsets.0 + rebuilt.first * size)?;
        self.written += rebuilt.bytes.len();
        self.weights.write_all(&rebuilt.bytes).map_err(|error| self.out.unwritten(error))?;
        let Some(file) = &mut self.subsets else { return Ok(()) };
        let mut bytes = Vec::new();
        let (bits, count) = &mut self.pending;
        for subset in &rebuilt.subsets {
            *bits |= subset.bits << *count;
            *count += self.n;
            while *count >= 8 {
                bytes.push(*bits as u8);
                (*bits, *count) = (*bits >> 8, *count - 8);
            }
        }
        if *count > 0 && rebuilt.first + rebuilt.subsets.len() == rebuilt.tensor.elements() {
            bytes.push(*bits as u8);
            self.pending = (0, 0);
        }
        Ok(file.write_all(&bytes).map_err(|error| self.out.unwritten(error))?)
    }

    /// The weights, and the subsets.
    pub(super) fn finish(mut self) -> Result<Vec<File>, Error> {
        self.copy(self.source.tensors().last().map_or(0, |last| last.info.data_offsets.1))?;
        let whole = |file: BufWriter<File>| file.into_inner().map_err(io::IntoInnerError::into_error);
        let files = [self.weights].into_iter().chain(self.subsets).map(whole);
        Ok(files.collect::<Result<_, _>>().map_err(|error| self.out.unwritten(error))?)
    }

    /// Copies the bytes of the tensors before byte `end` that are not written yet.
    fn copy(&mut self, end: usize) -> Result<(), Error> {
        for piece in self.source.pieces(self.written..end) {
            self.weights.write_all(&piece?.1).map_err(|error| self.out.unwritten(error))?;
        }
        self.written = self.written.max(end);
        Ok(())
    }
}
