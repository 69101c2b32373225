//! Prepared weights as bytes: shape, options, mask and weights. Any machine can prepare them again from these.
//!
//! The arrays of a format are not written: their sizes depend on the CPU's cache, and places that were read could lie outside
//! their block.

use super::stored::Storage;
use super::{MaskReuse, Oriented, Packed, PackedWeights, PrepareOptions, Strategy};
use crate::bf16::Bf16;
use crate::engine::Engine;
use crate::error::KernelError;
use crate::mask::PackedMask;
use crate::view::MatRef;

/// Begins the bytes; the last one is the version.
const MAGIC: [u8; 8] = *b"SLTH-PW\x02";

const fn malformed(why: &'static str) -> KernelError {
    KernelError::Malformed { what: "packed weights", why }
}

const NOT_OURS: KernelError = malformed("none of packed weights, or of another version");
const WRONG_LENGTH: KernelError = malformed("cut off, or longer than they say");
const BAD_FIELD: KernelError = malformed("a field has a value that is never written");

impl PackedWeights {
    /// Shape, options, mask and weights (only the kept ones without [`keep_source`](PrepareOptions::keep_source)) as bytes, the same on every
    /// machine, little-endian; weights of bf16 take two each.
    ///
    /// ```
    /// use slth_kernels::{Engine, MatRef, PackedWeights, PrepareOptions};
    /// let engine = Engine::serial();
    /// let weights = MatRef::row_major(&[1.0, 2.0], 1, 2)?;
    /// let layer = PackedWeights::prepare(engine, weights, None, &PrepareOptions::default())?;
    /// let again = PackedWeights::from_bytes(engine, &layer.to_bytes())?;
    /// assert_eq!((again.outputs(), again.inputs(), again.kept()), (1, 2, 2));
    /// # Ok::<(), slth_kernels::KernelError>(())
    /// ```
    pub fn to_bytes(&self) -> Vec<u8> {
        let PrepareOptions { max_batch, reuse, input_gradient, strategy, keep_source, storage } =
            self.options;
        let mut bytes = MAGIC.to_vec();
        for size in [self.outputs(), self.inputs(), max_batch] {
            // `usize::MAX` stands for "many", on every width of `usize`.
            let size = if size == usize::MAX { u64::MAX } else { size as u64 };
            bytes.extend(size.to_le_bytes());
        }
        let strategy = match strategy {
            Strategy::Auto => 0,
            Strategy::Sparse => 1,
            Strategy::Dense => 2,
            Strategy::Bitmask => 3,
        };
        let once = reuse == MaskReuse::Once;
        let masked = self.mask.is_some();
        let bf16 = storage == Storage::Bf16;
        bytes.extend([
            strategy,
            once.into(),
            input_gradient.into(),
            keep_source.into(),
            masked.into(),
            bf16.into(),
        ]);
        if let Some(mask) = &self.mask {
            bytes.extend(mask.words().iter().flat_map(|word| word.to_le_bytes()));
        }
        let mut take = |weight: f32| match storage {
            Storage::F32 => bytes.extend(weight.to_le_bytes()),
            Storage::Bf16 => bytes.extend(Bf16::round(weight).to_bits().to_le_bytes()),
        };
        match &self.mask {
            Some(mask) if self.forward.source.is_empty() => {
                let weights = self.forward.kept_in_place();
                mask.kept_indices().for_each(|at| take(weights[at]));
            }
            None if self.forward.source.is_empty() => self.forward.kept_in_place().into_iter().for_each(take),
            _ => self.forward.source.iter().copied().for_each(take),
        }
        bytes
    }

    /// Prepares the weights that [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// [`Malformed`](KernelError::Malformed) when the bytes hold no weights. There is no checksum. Bytes from any source are safe: memory is
    /// allocated only for weights with a value or a mask bit in the bytes. A mask takes one bit per weight, so prepared weights
    /// can take up to 400 times as much memory as the bytes (outputs of one input each, interleaved, with the input gradient).
    pub fn from_bytes(engine: Engine, bytes: &[u8]) -> Result<Self, KernelError> {
        let mut rest = Reader(bytes);
        if rest.take::<8>()? != MAGIC {
            return Err(NOT_OURS);
        }
        let [outputs, inputs, max_batch] = [rest.size()?, rest.size()?, rest.size()?];
        let [strategy, once, input_gradient, keep_source, masked, bf16] = rest.take()?;
        let flag = |byte: u8| if byte < 2 { Ok(byte == 1) } else { Err(BAD_FIELD) };
        let options = PrepareOptions {
            max_batch,
            reuse: if flag(once)? { MaskReuse::Once } else { MaskReuse::Many },
            input_gradient: flag(input_gradient)?,
            strategy: *[Strategy::Auto, Strategy::Sparse, Strategy::Dense, Strategy::Bitmask]
                .get(usize::from(strategy))
                .ok_or(BAD_FIELD)?,
            keep_source: flag(keep_source)?,
            storage: if flag(bf16)? { Storage::Bf16 } else { Storage::F32 },
        };
        let weights = outputs.checked_mul(inputs).ok_or(BAD_FIELD)?;
        let mask = if flag(masked)? { Some(rest.mask(weights)?) } else { None };
        let kept = mask.as_ref().map_or(weights, PackedMask::kept);
        // Without removed weights the length follows from the mask.
        let size = match options.storage {
            Storage::F32 => 4,
            Storage::Bf16 => 2,
        };
        let all = rest.0.len() as u128 == weights as u128 * size;
        if !all && (options.keep_source || rest.0.len() as u128 != kept as u128 * size) {
            return Err(WRONG_LENGTH);
        }
        let values: Vec<f32> = match options.storage {
            Storage::F32 => rest.0.as_chunks().0.iter().copied().map(f32::from_le_bytes).collect(),
            Storage::Bf16 => {
                let bits = rest.0.as_chunks().0.iter().copied().map(u16::from_le_bytes);
                bits.map(|bits| Bf16::from_bits(bits).widen()).collect()
            }
        };
        let source: Vec<f32> = match &mask {
            Some(mask) if !all => {
                let mut source = vec![0.0; weights];
                mask.kept_indices().zip(&values).for_each(|(at, &value)| source[at] = value);
                source
            }
            _ => values,
        };
        let view = MatRef::row_major(&source, outputs, inputs)?;
        Self::prepare(engine, view, mask.as_ref(), &options)
    }
}

impl Oriented {
    /// The weights, row-major, with 0 for the removed ones.
    pub(super) fn kept_in_place(&self) -> Vec<f32> {
        let mut weights = vec![0.0; self.rows * self.columns];
        let put = |row: usize, column: usize, weight| weights[row * self.columns + column] = weight;
        match &self.packed {
            Packed::Blocked(blocked) => blocked.for_each(put),
            Packed::Interleaved(interleaved) => interleaved.for_each(put),
            Packed::Bitmask(bitmask) => bitmask.for_each(put),
            Packed::Panels(panels) => panels.for_each(put),
            Packed::Dense(dense) => weights.copy_from_slice(dense.weights()),
            Packed::Source => weights.copy_from_slice(&self.source),
        }
        weights
    }
}

/// Bytes that are still to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], KernelError> {
        let (&first, rest) = self.0.split_first_chunk().ok_or(WRONG_LENGTH)?;
        self.0 = rest;
        Ok(first)
    }

    fn size(&mut self) -> Result<usize, KernelError> {
        match u64::from_le_bytes(self.take()?) {
            u64::MAX => Ok(usize::MAX),
            size => usize::try_from(size).map_err(|_| BAD_FIELD),
        }
    }

    fn mask(&mut self, len: usize) -> Result<PackedMask, KernelError> {
        let words = len.div_ceil(64);
        let bytes = words.checked_mul(8).filter(|&bytes| bytes <= self.0.len()).ok_or(WRONG_LENGTH)?;
        let (words, rest) = self.0.split_at(bytes);
        self.0 = rest;
        let words: Vec<u64> = words.as_chunks().0.iter().copied().map(u64::from_le_bytes).collect();
        let mask = PackedMask::from_words(len, words.clone())?;
        // Bits behind the last weight are never written.
        if mask.words() == words { Ok(mask) } else { Err(BAD_FIELD) }
    }
}
