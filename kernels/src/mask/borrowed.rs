//! Masks over borrowed words, and all that only reads a mask.

use super::bits::{low_bits, spread};
use crate::engine::Engine;
use crate::error::KernelError;
use crate::simd::{Kernel, Simd};

/// A [`PackedMask`](crate::PackedMask) over borrowed words: one bit per weight, 1 = kept. Bit i is bit `i % 64` of word `i / 64`.
///
/// The bits after the last weight may hold anything. They are ignored: not counted, not listed, not compared.
///
/// ```
/// use slth_kernels::{PackedMask, PackedMaskRef};
/// let words = [u64::MAX]; // from a file, or another language
/// let mask = PackedMaskRef::from_words(5, &words)?;
/// assert_eq!((mask.len(), mask.kept(), mask.removed()), (5, 5, 0));
/// assert_eq!(mask, PackedMask::all_kept(5).view());
/// # Ok::<(), slth_kernels::KernelError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PackedMaskRef<'a> {
    pub(super) words: &'a [u64],
    pub(super) len: usize,
}

impl<'a> PackedMaskRef<'a> {
    /// The mask over `len` weights that these words hold. Takes constant time: nothing is copied, and the bits after the last
    /// weight are ignored.
    ///
    /// # Errors
    /// When there are not exactly ⌈len / 64⌉ words.
    ///
    /// ```
    /// use slth_kernels::PackedMaskRef;
    /// assert_eq!(PackedMaskRef::from_words(65, &[1, u64::MAX])?.kept(), 2);
    /// assert!(PackedMaskRef::from_words(65, &[1]).is_err());
    /// # Ok::<(), slth_kernels::KernelError>(())
    /// ```
    pub fn from_words(len: usize, words: &'a [u64]) -> Result<Self, KernelError> {
        KernelError::check_len("mask words", &[len.div_ceil(64)], words.len())?;
        Ok(Self { words, len })
    }

    /// Number of weights, kept and removed.
    ///
    /// ```
    /// use slth_kernels::PackedMask;
    /// assert_eq!(PackedMask::none_kept(70).view().len(), 70);
    /// ```
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether the mask is over no weights at all.
    ///
    /// ```
    /// use slth_kernels::PackedMaskRef;
    /// assert!(PackedMaskRef::from_words(0, &[])?.is_empty());
    /// # Ok::<(), slth_kernels::KernelError>(())
    /// ```
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Whether weight `index` is kept. Constant time.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len), whether or not a word has such a bit.
    ///
    /// ```
    /// use slth_kernels::PackedMaskRef;
    /// let mask = PackedMaskRef::from_words(3, &[0b101])?;
    /// assert!(mask.get(0) && !mask.get(1) && mask.get(2));
    /// # Ok::<(), slth_kernels::KernelError>(())
    /// ```
    pub fn get(self, index: usize) -> bool {
        assert!(index < self.len, "mask index {index} out of {}", self.len);
        self.words[index / 64] >> (index % 64) & 1 != 0
    }

    /// Number of weights kept. Linear in the words.
    ///
    /// ```
    /// use slth_kernels::PackedMaskRef;
    /// assert_eq!(PackedMaskRef::from_words(3, &[0b1101])?.kept(), 2);
    /// # Ok::<(), slth_kernels::KernelError>(())
    /// ```
    #[inline(always)]
    pub fn kept(self) -> usize {
        self.trimmed_words().map(|word| word.count_ones() as usize).sum()
    }

    /// Number of weights removed. Linear in the words.
    ///
    /// ```
    /// use slth_kernels::PackedMaskRef;
    /// assert_eq!(PackedMaskRef::from_words(3, &[0b1101])?.removed(), 1);
    /// # Ok::<(), slth_kernels::KernelError>(())
    /// ```
    pub fn removed(self) -> usize {
        self.len - self.kept()
    }

    /// Sets the values of removed weights to 0, whatever they were.
    ///
    /// # Errors
    /// When `values` is not as long as the mask; then `values` is left as it was.
    ///
    /// ```
    /// use slth_kernels::PackedMaskRef;
    /// let mut values = [1.0, f32::NAN, 3.0];
    /// PackedMaskRef::from_words(3, &[0b101])?.apply(&mut values)?;
    /// assert_eq!(values, [1.0, 0.0, 3.0]);
    /// # Ok::<(), slth_kernels::KernelError>(())
    /// ```
    pub fn apply(self, values: &mut [f32]) -> Result<(), KernelError> {
        KernelError::check_len("values", &[self.len], values.len())?;
        self.clear_removed(values);
        Ok(())
    }

    #[inline(always)]
    fn clear_removed(self, values: &mut [f32]) {
        for (values, &word) in values.chunks_mut(64).zip(self.words) {
            for (i, value) in values.iter_mut().enumerate() {
                *value = if word >> i & 1 != 0 { *value } else { 0.0 };
            }
        }
    }

    /// The words as they were given: the bits after the last weight may be set.
    ///
    /// ```
    /// use slth_kernels::PackedMaskRef;
    /// assert_eq!(PackedMaskRef::from_words(1, &[u64::MAX])?.words(), [u64::MAX]);
    /// # Ok::<(), slth_kernels::KernelError>(())
    /// ```
    pub fn words(self) -> &'a [u64] {
        self.words
    }

    /// The words, the bits after the last weight 0.
    #[inline(always)]
    fn trimmed_words(self) -> impl Iterator<Item = u64> + 'a {
        let (whole, last) = self.words.split_at(self.len / 64);
        let tail = low_bits(self.len % 64);
        whole.iter().copied().chain(last.iter().map(move |word| word & tail))
    }

    /// Whether each weight is kept, in order. To fill a slice, [`write_bools`](Self::write_bools) is much faster.
    ///
    /// ```
    /// use slth_kernels::PackedMaskRef;
    /// assert!(PackedMaskRef::from_words(3, &[0b1101])?.iter().eq([true, false, true]));
    /// # Ok::<(), slth_kernels::KernelError>(())
    /// ```
    pub fn iter(self) -> impl ExactSizeIterator<Item = bool> + 'a {
        (0..self.len).map(move |i| self.words[i / 64] >> (i % 64) & 1 != 0)
    }

    /// Writes for each weight whether it is kept. The inverse of [`from_bools`](crate::PackedMask::from_bools), and about as fast.
    ///
    /// # Errors
    /// When `out` is not as long as the mask; then `out` is left as it was.
    ///
    /// ```
    /// use slth_kernels::PackedMaskRef;
    /// let mut out = [false; 3];
    /// PackedMaskRef::from_words(3, &[0b1101])?.write_bools(&mut out)?;
    /// assert_eq!(out, [true, false, true]);
    /// # Ok::<(), slth_kernels::KernelError>(())
    /// ```
    pub fn write_bools(self, out: &mut [bool]) -> Result<(), KernelError> {
        KernelError::check_len("booleans", &[self.len], out.len())?;
        let (whole, rest) = out.as_chunks_mut::<64>();
        let (words, last) = self.words.split_at(whole.len());
        for (out, &word) in whole.iter_mut().zip(words) {
            *out = spread(word);
        }
        if let [last] = last {
            rest.copy_from_slice(&spread(*last)[..rest.len()]);
        }
        Ok(())
    }

    /// The indices of the weights kept, ascending. Takes time linear in the words and in the kept.
    ///
    /// ```
    /// use slth_kernels::PackedMaskRef;
    /// let mask = PackedMaskRef::from_words(66, &[1 << 5, u64::MAX])?;
    /// assert!(mask.kept_indices().eq([5, 64, 65]));
    /// # Ok::<(), slth_kernels::KernelError>(())
    /// ```
    pub fn kept_indices(self) -> impl Iterator<Item = usize> + 'a {
        let (mut words, mut start, mut rest) = (self.trimmed_words(), 0_usize, 0_u64);
        core::iter::from_fn(move || {
            while rest == 0 {
                rest = words.next()?;
                start += 64;
            }
            let index = start - 64 + rest.trailing_zeros() as usize;
            rest &= rest - 1;
            Some(index)
        })
    }

    /// [`kept`](Self::kept), with the instruction that counts bits.
    pub(crate) fn kept_on(self, engine: Engine) -> usize {
        engine.backend().run(Kept(self))
    }

    /// [`apply`](Self::apply) to values as many as the mask has bits, with vector instructions.
    pub(crate) fn apply_on(self, engine: Engine, values: &mut [f32]) {
        engine.backend().run(ClearRemoved { mask: self, values });
    }

    /// Number of kept weights among `count` from `start` on; 0 past the last weight.
    pub(crate) fn kept_in(self, start: usize, count: usize) -> usize {
        let whole = (0..count / 64).map(|i| self.word(start + i * 64).count_ones()).sum::<u32>();
        let rest = self.word(start + count / 64 * 64) & low_bits(count % 64);
        (whole + rest.count_ones()) as usize
    }

    /// 64 bits from `start` on; bits past the last weight are 0.
    #[inline(always)]
    pub(crate) fn word(self, start: usize) -> u64 {
        let (word, shift) = (start / 64, start % 64);
        let low = self.words.get(word).copied().unwrap_or(0) >> shift;
        // In two steps: a shift by 64 would overflow.
        let high = self.words.get(word + 1).copied().unwrap_or(0) << 1 << (63 - shift);
        (low | high) & low_bits(self.len.saturating_sub(start))
    }
}

/// Equal masks have the same number of weights and keep the same ones. The bits after the last weight are not compared.
impl PartialEq for PackedMaskRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.trimmed_words().eq(other.trimmed_words())
    }
}

impl Eq for PackedMaskRef<'_> {}

struct Kept<'a>(PackedMaskRef<'a>);

impl Kernel for Kept<'_> {
    type Out = usize;
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) -> usize {
        self.0.kept()
    }
}

struct ClearRemoved<'a> {
    mask: PackedMaskRef<'a>,
    values: &'a mut [f32],
}

impl Kernel for ClearRemoved<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        self.mask.clear_removed(self.values);
    }
}
