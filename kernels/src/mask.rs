//! A mask: one bit per weight, packed.

use crate::engine::Engine;
use crate::error::ShapeError;
use crate::simd::{Kernel, Simd};

/// One bit per weight, 1 = kept. Bit i is bit `i % 64` of word `i / 64`; the bits after the last weight are 0.
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
    pub fn none_kept(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(64)], len }
    }

    /// A mask over `len` weights that keeps all of them.
    pub fn all_kept(len: usize) -> Self {
        let mut mask = Self { words: vec![u64::MAX; len.div_ceil(64)], len };
        mask.clear_tail();
        mask
    }

    /// The mask that keeps weight i where `keep(i)` holds.
    pub fn from_fn(len: usize, keep: impl Fn(usize) -> bool) -> Self {
        let mut mask = Self::none_kept(len);
        (0..len).filter(|&i| keep(i)).for_each(|i| mask.words[i / 64] |= 1 << (i % 64));
        mask
    }

    /// The mask made of these words.
    ///
    /// # Errors
    /// When there are not exactly ⌈len / 64⌉ words. Bits after the last weight are cleared.
    pub fn from_words(len: usize, words: Vec<u64>) -> Result<Self, ShapeError> {
        ShapeError::check("mask words", &[len.div_ceil(64)], words.len())?;
        let mut mask = Self { words, len };
        mask.clear_tail();
        Ok(mask)
    }

    /// Number of weights, kept and removed.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the mask is over no weights at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether weight `index` is kept.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    pub fn get(&self, index: usize) -> bool {
        assert!(index < self.len, "mask index {index} out of {}", self.len);
        self.words[index / 64] >> (index % 64) & 1 != 0
    }

    /// Keeps or removes weight `index`.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    pub fn set(&mut self, index: usize, keep: bool) {
        assert!(index < self.len, "mask index {index} out of {}", self.len);
        let bit = 1 << (index % 64);
        if keep {
            self.words[index / 64] |= bit;
        } else {
            self.words[index / 64] &= !bit;
        }
    }

    /// Number of weights kept.
    #[inline(always)]
    pub fn kept(&self) -> usize {
        self.words.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// Number of weights removed.
    pub fn removed(&self) -> usize {
        self.len - self.kept()
    }

    /// Sets the values of removed weights to 0, whatever they were.
    ///
    /// # Errors
    /// When `values` is not as long as the mask.
    ///
    /// ```
    /// use slth_kernels::PackedMask;
    /// let mut values = [1.0, f32::NAN, 3.0];
    /// PackedMask::from_fn(3, |i| i != 1).apply(&mut values)?;
    /// assert_eq!(values, [1.0, 0.0, 3.0]);
    /// # Ok::<(), slth_kernels::ShapeError>(())
    /// ```
    pub fn apply(&self, values: &mut [f32]) -> Result<(), ShapeError> {
        ShapeError::check("values", &[self.len], values.len())?;
        self.clear_removed(values);
        Ok(())
    }

    #[inline(always)]
    fn clear_removed(&self, values: &mut [f32]) {
        for (values, &word) in values.chunks_mut(64).zip(&self.words) {
            for (i, value) in values.iter_mut().enumerate() {
                *value = if word >> i & 1 != 0 { *value } else { 0.0 };
            }
        }
    }

    /// The packed words.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Whether each weight is kept, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = bool> + '_ {
        (0..self.len).map(|i| self.words[i / 64] >> (i % 64) & 1 != 0)
    }

    /// The indices of the weights kept, ascending. Takes time linear in the words and in the kept.
    ///
    /// ```
    /// use slth_kernels::PackedMask;
    /// let mask = PackedMask::from_fn(200, |i| i % 90 == 1);
    /// assert_eq!(mask.kept_indices().collect::<Vec<_>>(), [1, 91, 181]);
    /// ```
    pub fn kept_indices(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(at, &word)| {
            let after = |rest: &u64| Some(rest & (rest - 1)).filter(|&rest| rest != 0);
            core::iter::successors(Some(word).filter(|&word| word != 0), after)
                .map(move |rest| at * 64 + rest.trailing_zeros() as usize)
        })
    }

    /// [`kept`](Self::kept), with the instruction that counts bits.
    pub(crate) fn kept_on(&self, engine: Engine) -> usize {
        engine.backend().run(Kept(self))
    }

    /// [`apply`](Self::apply) to values as many as the mask has bits, with vector instructions.
    pub(crate) fn apply_on(&self, engine: Engine, values: &mut [f32]) {
        engine.backend().run(ClearRemoved { mask: self, values });
    }

    /// The words, to be filled by a kernel that keeps the tail clear.
    pub(crate) fn words_mut(&mut self) -> &mut [u64] {
        &mut self.words
    }

    /// Makes `out` the transpose of this mask, read as `[rows, columns]`, in tiles of 64 × 64 bits.
    pub(crate) fn transpose_into(&self, rows: usize, columns: usize, out: &mut PackedMask) {
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
                    *line = self.word(((r + i) * columns) + c) & (u64::MAX >> (64 - width));
                }
                transpose_tile(&mut tile);
                for (i, &line) in tile[..width].iter().enumerate() {
                    out.or_word((c + i) * rows + r, line);
                }
            }
        }
    }

    /// How many of the `count` weights from `start` on are kept.
    pub(crate) fn kept_in(&self, start: usize, count: usize) -> usize {
        let whole = (0..count / 64).map(|i| self.word(start + i * 64).count_ones()).sum::<u32>();
        let rest = self.word(start + count / 64 * 64) & !(u64::MAX << (count % 64));
        (whole + rest.count_ones()) as usize
    }

    /// 64 bits from `start` on; bits past the end are 0.
    #[inline(always)]
    pub(crate) fn word(&self, start: usize) -> u64 {
        let (word, shift) = (start / 64, start % 64);
        let low = self.words.get(word).copied().unwrap_or(0) >> shift;
        // In two steps: a shift by 64 would overflow.
        let high = self.words.get(word + 1).copied().unwrap_or(0) << 1 << (63 - shift);
        low | high
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
        if let Some(last) = self.words.last_mut()
            && !self.len.is_multiple_of(64)
        {
            *last &= u64::MAX >> (64 - self.len % 64);
        }
    }
}

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

struct Kept<'a>(&'a PackedMask);

impl Kernel for Kept<'_> {
    type Out = usize;
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) -> usize {
        self.0.kept()
    }
}

struct ClearRemoved<'a> {
    mask: &'a PackedMask,
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
            mask.transpose_into(rows, columns, &mut out);
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
            assert_eq!(mask.word(start), expected, "{start}");
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
}
