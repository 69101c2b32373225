//! Masks: one bit per weight, packed into words of 64 bits, owned or borrowed.

use crate::engine::Engine;
use crate::error::KernelError;
use crate::simd::{Kernel, Simd};

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

/// A [`PackedMask`] over borrowed words: one bit per weight, 1 = kept. Bit i is bit `i % 64` of word `i / 64`.
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
    words: &'a [u64],
    len: usize,
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

    /// Writes for each weight whether it is kept. The inverse of [`PackedMask::from_bools`], and about as fast.
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

    /// Makes `out` the transpose of this mask, read as `[rows, columns]`, in tiles of 64 × 64 bits.
    pub(crate) fn transpose_into(self, rows: usize, columns: usize, out: &mut PackedMask) {
        assert_eq!((self.len, out.len), (rows * columns, rows * columns));
        out.words.fill(0);
        if self.len == 0 {
            return; // rows × 0, of any number of rows
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

/// A word with its lowest `count` bits set, all from 64 on.
#[inline(always)]
fn low_bits(count: usize) -> u64 {
    if count < 64 { !(u64::MAX << count) } else { u64::MAX }
}

/// Packs 64 booleans into a word.
#[inline(always)]
fn gather(tile: &[bool; 64]) -> u64 {
    let bytes: &[[u8; 8]; 8] = bytemuck::cast_ref(tile);
    bytes.iter().enumerate().fold(0, |word, (i, &eight)| {
        // Byte j is 0 or 1. Bit 56 − 7j of the factor moves it to bit j of the highest byte. The 64 partial products
        // have different places, so nothing carries.
        word | u64::from_le_bytes(eight).wrapping_mul(0x0102_0408_1020_4080) >> 56 << (8 * i)
    })
}

/// Unpacks the bits of a word.
#[inline(always)]
fn spread(word: u64) -> [bool; 64] {
    let mut tile = [false; 64];
    for (eight, byte) in tile.as_chunks_mut().0.iter_mut().zip(word.to_le_bytes()) {
        *eight = BITS[usize::from(byte)];
    }
    tile
}

/// The bits of each byte, lowest first; 2 KiB, so the table stays in L1.
static BITS: [[bool; 8]; 256] = {
    let mut table = [[false; 8]; 256];
    let mut at = 0;
    while at < 256 * 8 {
        table[at / 8][at % 8] = (at / 8) >> (at % 8) & 1 != 0;
        at += 1;
    }
    table
};

/// Transposes a tile of bits by exchanging ever smaller off-diagonal squares (Warren, "Hacker's Delight", 7-3).
fn transpose_tile(tile: &mut [u64; 64]) {
    let mut side = 32;
    let mut low = u64::from(u32::MAX);
    while side != 0 {
        for i in (0..64).filter(|i| i & side == 0) {
            let swap = (tile[i] >> side ^ tile[i + side]) & low;
            tile[i] ^= swap << side;
            tile[i + side] ^= swap;
        }
        side /= 2;
        low ^= low << side;
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposes() {
        for (rows, columns) in [(1, 1), (3, 5), (64, 64), (65, 63), (70, 130), (1, 200), (200, 1), (0, 4)] {
            let mask = PackedMask::from_fn(rows * columns, |i| i * i % 7 < 3);
            let mut out = PackedMask::all_kept(rows * columns);
            mask.view().transpose_into(rows, columns, &mut out);
            let expected = PackedMask::from_fn(rows * columns, |i| mask.get(i % rows * columns + i / rows));
            assert_eq!(out, expected, "{rows}×{columns}");
        }
    }

    #[test]
    fn words_begin_anywhere() {
        let mask = PackedMask::from_fn(200, |i| i % 3 == 0 || i % 7 == 0);
        for start in 0..200 {
            let expected =
                (0..64).filter(|i| start + i < 200 && mask.get(start + i)).fold(0, |b, i| b | 1_u64 << i);
            assert_eq!(mask.view().word(start), expected, "{start}");
        }
    }

    #[test]
    fn the_tail_stays_clear() {
        for len in [0, 1, 63, 64, 65, 130] {
            assert_eq!(PackedMask::all_kept(len).kept(), len);
            let words = vec![u64::MAX; len.div_ceil(64)];
            assert_eq!(PackedMask::from_words(len, words), Ok(PackedMask::all_kept(len)));
        }
        assert!(PackedMask::from_words(65, vec![0]).is_err());
    }

    /// 0, 1, a byte and a word ± 1, two words and a bit, primes.
    const LENGTHS: [usize; 16] = [0, 1, 2, 7, 8, 9, 63, 64, 65, 97, 127, 128, 129, 130, 193, 1009];

    fn bools(len: usize) -> Vec<bool> {
        (0..len).map(|i| i * i % 7 < 3).collect()
    }

    /// Words of which every bit after the last weight is set.
    fn dirty(keep: &[bool]) -> Vec<u64> {
        let mut words = vec![u64::MAX; keep.len().div_ceil(64)];
        for (i, _) in keep.iter().enumerate().filter(|&(_, &keep)| !keep) {
            words[i / 64] &= !(1 << (i % 64));
        }
        words
    }

    #[test]
    fn booleans_and_back() {
        for len in LENGTHS {
            for keep in [bools(len), vec![false; len], vec![true; len]] {
                let mask = PackedMask::from_bools(&keep);
                assert_eq!(mask, PackedMask::from_words(len, dirty(&keep)).unwrap(), "{len}");
                assert_eq!(mask, PackedMask::from_fn(len, |i| keep[i]), "{len}");
                assert!((0..len).all(|i| mask.get(i) == keep[i]), "{len}");
                for before in [false, true] {
                    let mut out = vec![before; len];
                    mask.write_bools(&mut out).unwrap();
                    assert_eq!(out, keep);
                }
            }
        }
    }

    #[test]
    fn every_byte_of_a_word() {
        for byte in 0..=255_u8 {
            for at in 0..8 {
                let word = u64::from(byte) << (8 * at);
                assert_eq!(spread(word), core::array::from_fn(|i| word >> i & 1 != 0));
                assert_eq!(gather(&spread(word)), word);
                assert_eq!(gather(&spread(!word)), !word);
            }
        }
    }

    #[test]
    fn another_length_writes_nothing() {
        for (len, found) in [(0, 1), (1, 0), (64, 63), (64, 65), (65, 64), (65, 128)] {
            let mut out = vec![true; found];
            let error = KernelError::Length { what: "booleans", expected: len, found };
            assert_eq!(PackedMask::none_kept(len).write_bools(&mut out), Err(error));
            assert!(out.iter().all(|&x| x));
        }
    }

    #[test]
    fn a_function_is_called_in_order() {
        for len in LENGTHS {
            let mut calls = Vec::new();
            let mask = PackedMask::from_fn(len, |i| {
                calls.push(i);
                calls.len() % 2 == 1
            });
            assert!(calls.into_iter().eq(0..len));
            assert!(mask.kept_indices().eq((0..len).step_by(2)));
        }
    }

    #[test]
    fn bits_after_the_last_weight_are_ignored() {
        for len in LENGTHS {
            for keep in [bools(len), vec![false; len], vec![true; len]] {
                let words = dirty(&keep);
                let mask = PackedMaskRef::from_words(len, &words).unwrap();
                let clear = PackedMask::from_bools(&keep);
                let kept: Vec<_> = (0..len).filter(|&i| keep[i]).collect();

                assert_eq!((mask.len(), mask.is_empty(), mask.words()), (len, len == 0, &words[..]));
                assert_eq!((mask.kept(), mask.removed()), (kept.len(), len - kept.len()));
                assert!((0..len).all(|i| mask.get(i) == keep[i]));
                assert!(mask.iter().eq(keep.iter().copied()));
                assert!(mask.kept_indices().eq(kept.iter().copied()));
                assert_eq!((mask, mask.to_owned()), (PackedMaskRef::from(&clear), clear.clone()));

                let mut out = vec![true; len];
                mask.write_bools(&mut out).unwrap();
                assert_eq!(out, keep);

                let mut values = vec![f32::NAN; len];
                mask.apply(&mut values).unwrap();
                assert!(values.iter().zip(&keep).all(|(x, &keep)| x.is_nan() == keep && (keep || *x == 0.0)));

                for start in 0..len + 130 {
                    assert_eq!(mask.word(start), clear.view().word(start), "{start} of {len}");
                    for count in [0, 1, 63, 64, 65, 200] {
                        let expected = kept.iter().filter(|&&i| (start..start + count).contains(&i)).count();
                        assert_eq!(mask.kept_in(start, count), expected, "{count} from {start} of {len}");
                    }
                }
            }
        }
    }

    #[test]
    fn transposes_without_the_bits_after_the_last_weight() {
        for (rows, columns) in [(1, 1), (3, 5), (7, 19), (65, 63), (13, 10), (1, 130), (130, 1), (0, 4)] {
            let keep = bools(rows * columns);
            let words = dirty(&keep);
            let mut out = PackedMask::all_kept(keep.len());
            PackedMaskRef::from_words(keep.len(), &words).unwrap().transpose_into(rows, columns, &mut out);
            let expected = PackedMask::from_fn(keep.len(), |i| keep[i % rows * columns + i / rows]);
            assert_eq!(out, expected, "{rows}×{columns}");
        }
    }

    #[test]
    fn on_every_backend() {
        for backend in crate::Backend::available() {
            let engine = Engine::new(backend);
            for len in LENGTHS {
                let keep = bools(len);
                let words = dirty(&keep);
                let mask = PackedMaskRef::from_words(len, &words).unwrap();
                assert_eq!(mask.kept_on(engine), keep.iter().filter(|&&keep| keep).count());
                let mut values = vec![f32::NAN; len];
                mask.apply_on(engine, &mut values);
                assert!(values.iter().zip(&keep).all(|(x, &keep)| x.is_nan() == keep), "{backend:?} {len}");
            }
        }
    }

    #[test]
    fn borrowed_masks_compare_by_their_weights() {
        let mask = |len, words| PackedMaskRef::from_words(len, words).unwrap();
        assert_eq!(mask(3, &[0b101]), mask(3, &[0b1_0101]));
        assert_ne!(mask(3, &[0b101]), mask(3, &[0b111]));
        assert_ne!(mask(3, &[0b101]), mask(4, &[0b101]));
        assert_ne!(mask(65, &[0, 0]), mask(65, &[1, 0]));
    }

    #[test]
    #[should_panic(expected = "mask index 3 out of 3")]
    fn no_bit_after_the_last_weight_is_read() {
        PackedMaskRef::from_words(3, &[u64::MAX]).unwrap().get(3);
    }

    #[test]
    fn refuses_another_number_of_words() {
        for (len, count) in [(0_usize, 1), (1, 0), (64, 0), (64, 2), (65, 1), (65, 3)] {
            let error = KernelError::Length { what: "mask words", expected: len.div_ceil(64), found: count };
            assert_eq!(PackedMaskRef::from_words(len, &vec![0; count]), Err(error.clone()));
            assert_eq!(PackedMask::from_words(len, vec![0; count]), Err(error));
        }
    }
}
