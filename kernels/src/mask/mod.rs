//! Masks: one bit per weight, packed into words of 64 bits, owned or borrowed.

mod bits;
mod borrowed;
#[cfg(test)]
mod tests;

use crate::error::KernelError;

use bits::{gather, low_bits, transpose_tile};
pub use borrowed::PackedMaskRef;

/// One bit per weight, 1 = kept. Bit i is bit `i % 64` of word `i / 64`; the bits after the last weight are 0.
///
/// [`PackedMaskRef`] is the same mask over borrowed words; the functions that only read are implemented there.
///
/// ```
/// use slth_kernels::PackedMask;
/// let mask = PackedMask::from_fn(5, |i| i != 2);
/// assert_eq!((mask.len(), mask.kept(), mask.removed()), (5, 4, 1));
/// assert!(mask.get(0) && !mask.get(2));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PackedMask {
    words: Vec<u64>,
    len: usize,
}

impl PackedMask {
    /// A mask over `len` weights that removes all of them.
    ///
    /// ```
    /// use slth_kernels::PackedMask;
    /// assert_eq!(PackedMask::none_kept(70).removed(), 70);
    /// ```
    pub fn none_kept(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(64)], len }
    }

    /// A mask over `len` weights that keeps all of them.
    ///
    /// ```
    /// use slth_kernels::PackedMask;
    /// assert_eq!(PackedMask::all_kept(70).words(), [u64::MAX, 0b11_1111]);
    /// ```
    pub fn all_kept(len: usize) -> Self {
        let mut mask = Self { words: vec![u64::MAX; len.div_ceil(64)], len };
        mask.clear_tail();
        mask
    }

    /// The mask that keeps weight i where `keep(i)` holds. Calls `keep` once for each weight, in ascending order.
    ///
    /// ```
    /// use slth_kernels::PackedMask;
    /// let mut calls = 0;
    /// let mask = PackedMask::from_fn(100, |i| {
    ///     calls += 1;
    ///     i % 50 == 7
    /// });
    /// assert!(mask.kept_indices().eq([7, 57]));
    /// assert_eq!(calls, 100);
    /// ```
    pub fn from_fn(len: usize, mut keep: impl FnMut(usize) -> bool) -> Self {
        let word = |start: usize| {
            // Booleans first, bits second: the compiler can vectorise a simple `keep`, and no call depends on the
            // word that the calls before it have filled.
            let mut tile = [false; 64];
            for (bit, i) in tile.iter_mut().zip(start..len) {
                *bit = keep(i);
            }
            gather(&tile)
        };
        Self { words: (0..len).step_by(64).map(word).collect(), len }
    }

    /// The mask that keeps weight i where `keep[i]` holds, the inverse of [`write_bools`](Self::write_bools). Linear; packs
    /// eight booleans with one multiplication.
    ///
    /// ```
    /// use slth_kernels::PackedMask;
    /// let mask = PackedMask::from_bools(&[true, false, true]);
    /// assert_eq!((mask.len(), mask.words()), (3, &[0b101][..]));
    /// ```
    pub fn from_bools(keep: &[bool]) -> Self {
        let (whole, rest) = keep.as_chunks();
        let mut words = Vec::with_capacity(keep.len().div_ceil(64));
        words.extend(whole.iter().map(gather));
        if !rest.is_empty() {
            let mut tile = [false; 64];
            tile[..rest.len()].copy_from_slice(rest);
            words.push(gather(&tile));
        }
        Self { words, len: keep.len() }
    }

    /// The mask over `len` weights made of these words. Bits after the last weight are cleared.
    ///
    /// # Errors
    /// When there are not exactly ⌈len / 64⌉ words.
    ///
    /// ```
    /// use slth_kernels::PackedMask;
    /// let mask = PackedMask::from_words(3, vec![0b1101])?;
    /// assert_eq!(mask, PackedMask::from_bools(&[true, false, true]));
    /// assert!(PackedMask::from_words(65, vec![0]).is_err());
    /// # Ok::<(), slth_kernels::KernelError>(())
    /// ```
    pub fn from_words(len: usize, words: Vec<u64>) -> Result<Self, KernelError> {
        PackedMaskRef::from_words(len, &words)?;
        let mut mask = Self { words, len };
        mask.clear_tail();
        Ok(mask)
    }

    /// The same mask, borrowed.
    ///
    /// ```
    /// use slth_kernels::PackedMask;
    /// let mask = PackedMask::all_kept(3);
    /// let view = mask.view();
    /// assert_eq!((view.len(), view.kept()), (3, 3));
    /// ```
    #[inline(always)]
    pub fn view(&self) -> PackedMaskRef<'_> {
        PackedMaskRef { words: &self.words, len: self.len }
    }

    /// Number of weights, kept and removed.
    ///
    /// ```
    /// use slth_kernels::PackedMask;
    /// assert_eq!(PackedMask::none_kept(70).len(), 70);
    /// ```
    pub fn len(&self) -> usize {
        self.view().len()
    }

    /// Whether the mask is over no weights at all.
    ///
    /// ```
    /// use slth_kernels::PackedMask;
    /// assert!(PackedMask::default().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.view().is_empty()
    }

    /// Whether weight `index` is kept. Constant time.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    ///
    /// ```
    /// use slth_kernels::PackedMask;
    /// let mask = PackedMask::from_bools(&[true, false]);
    /// assert!(mask.get(0) && !mask.get(1));
    /// ```
    pub fn get(&self, index: usize) -> bool {
        self.view().get(index)
    }

    /// Keeps or removes weight `index`.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    ///
    /// ```
    /// use slth_kernels::PackedMask;
    /// let mut mask = PackedMask::none_kept(3);
    /// mask.set(1, true);
    /// assert_eq!(mask, PackedMask::from_bools(&[false, true, false]));
    /// ```
    pub fn set(&mut self, index: usize, keep: bool) {
        assert!(index < self.len, "mask index {index} out of {}", self.len);
        let bit = 1 << (index % 64);
        if keep {
            self.words[index / 64] |= bit;
        } else {
            self.words[index / 64] &= !bit;
        }
    }

    /// Number of weights kept. Linear in the words.
    ///
    /// ```
    /// use slth_kernels::PackedMask;
    /// assert_eq!(PackedMask::from_bools(&[true, false, true]).kept(), 2);
    /// ```
    #[inline(always)]
    pub fn kept(&self) -> usize {
        self.view().kept()
    }

    /// Number of weights removed. Linear in the words.
    ///
    /// ```
    /// use slth_kernels::PackedMask;
    /// assert_eq!(PackedMask::from_bools(&[true, false, true]).removed(), 1);
    /// ```
    pub fn removed(&self) -> usize {
        self.view().removed()
    }

    /// Sets the values of removed weights to 0, whatever they were.
    ///
    /// # Errors
    /// When `values` is not as long as the mask; then `values` is left as it was.
    ///
    /// ```
    /// use slth_kernels::PackedMask;
    /// let mut values = [1.0, f32::NAN, 3.0];
    /// PackedMask::from_fn(3, |i| i != 1).apply(&mut values)?;
    /// assert_eq!(values, [1.0, 0.0, 3.0]);
    /// # Ok::<(), slth_kernels::KernelError>(())
    /// ```
    pub fn apply(&self, values: &mut [f32]) -> Result<(), KernelError> {
        self.view().apply(values)
    }

    /// The packed words: ⌈len / 64⌉, the bits after the last weight 0.
    ///
    /// ```
    /// use slth_kernels::PackedMask;
    /// assert_eq!(PackedMask::from_fn(65, |i| i >= 63).words(), [1 << 63, 1]);
    /// ```
    pub fn words(&self) -> &[u64] {
        self.view().words()
    }

    /// Whether each weight is kept, in order. To fill a slice, [`write_bools`](Self::write_bools) is much faster.
    ///
    /// ```
    /// use slth_kernels::PackedMask;
    /// assert!(PackedMask::from_fn(3, |i| i != 1).iter().eq([true, false, true]));
    /// ```
    pub fn iter(&self) -> impl ExactSizeIterator<Item = bool> + '_ {
        self.view().iter()
    }

    /// Writes for each weight whether it is kept. The inverse of [`from_bools`](Self::from_bools), and about as fast.
    ///
    /// # Errors
    /// When `out` is not as long as the mask; then `out` is left as it was.
    ///
    /// ```
    /// use slth_kernels::PackedMask;
    /// let mut out = [true; 3];
    /// PackedMask::from_fn(3, |i| i == 1).write_bools(&mut out)?;
    /// assert_eq!(out, [false, true, false]);
    /// # Ok::<(), slth_kernels::KernelError>(())
    /// ```
    pub fn write_bools(&self, out: &mut [bool]) -> Result<(), KernelError> {
        self.view().write_bools(out)
    }

    /// The indices of the weights kept, ascending. Takes time linear in the words and in the kept.
    ///
    /// ```
    /// use slth_kernels::PackedMask;
    /// let mask = PackedMask::from_fn(200, |i| i % 90 == 1);
    /// assert_eq!(mask.kept_indices().collect::<Vec<_>>(), [1, 91, 181]);
    /// ```
    pub fn kept_indices(&self) -> impl Iterator<Item = usize> + '_ {
        self.view().kept_indices()
    }

    /// Copies `other` into this mask; reuses the memory.
    pub(crate) fn copy_from(&mut self, other: PackedMaskRef<'_>) {
        self.words.clear();
        self.words.extend_from_slice(other.words);
        self.len = other.len;
        self.clear_tail();
    }

    /// The words, to be filled by a kernel that keeps the tail clear.
    pub(crate) fn words_mut(&mut self) -> &mut [u64] {
        &mut self.words
    }

    /// Sets the bits of `bits` from `start` on.
    #[inline(always)]
    fn or_word(&mut self, start: usize, bits: u64) {
        let (word, shift) = (start / 64, start % 64);
        self.words[word] |= bits << shift;
        if shift > 0 && bits >> (64 - shift) != 0 {
            self.words[word + 1] |= bits >> (64 - shift);
        }
    }

    /// Keeps the removed weights, and removes the kept.
    pub(crate) fn invert(&mut self) {
        self.words.iter_mut().for_each(|word| *word = !*word);
        self.clear_tail();
    }

    fn clear_tail(&mut self) {
        if let Some((last, whole)) = self.words.split_last_mut() {
            *last &= low_bits(self.len - whole.len() * 64);
        }
    }
}

impl<'a> From<&'a PackedMask> for PackedMaskRef<'a> {
    fn from(mask: &'a PackedMask) -> Self {
        mask.view()
    }
}

impl PackedMaskRef<'_> {
    /// A copy that owns its words, the bits after the last weight cleared. Linear in the words.
    ///
    /// ```
    /// use slth_kernels::{PackedMask, PackedMaskRef};
    /// let mask = PackedMaskRef::from_words(3, &[u64::MAX])?.to_owned();
    /// assert_eq!(mask, PackedMask::all_kept(3));
    /// # Ok::<(), slth_kernels::KernelError>(())
    /// ```
    pub fn to_owned(&self) -> PackedMask {
        let mut mask = PackedMask { words: self.words.to_vec(), len: self.len };
        mask.clear_tail();
        mask
    }

    /// Makes `out` the transpose of this mask, read as `[rows, columns]`, in tiles of 64 × 64 bits.
    pub(crate) fn transpose_into(self, rows: usize, columns: usize, out: &mut PackedMask) {
        assert_eq!((self.len, out.len), (rows * columns, rows * columns));
        out.words.fill(0);
        if self.len == 0 {
            return; // a mask over no weights may claim any number of rows
        }
        for r in (0..rows).step_by(64) {
            for c in (0..columns).step_by(64) {
                let (height, width) = (64.min(rows - r), 64.min(columns - c));
                let mut tile = [0; 64];
                for (i, line) in tile[..height].iter_mut().enumerate() {
                    *line = self.word(((r + i) * columns) + c) & low_bits(width);
                }
                transpose_tile(&mut tile);
                for (i, &line) in tile[..width].iter().enumerate() {
                    out.or_word((c + i) * rows + r, line);
                }
            }
        }
    }
}
