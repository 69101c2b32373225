//! Rows of a matrix for loops that take them one by one: checked once for the block, then only the row's number.

use core::marker::PhantomData;
use core::slice;

/// Rows of equal length, `stride` apart: a block of a matrix whose rows are contiguous, checked once.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    first: *const f32,
    stride: usize,
    count: usize,
    len: usize,
    memory: PhantomData<&'a [f32]>,
}

/// The same, to be written; no two rows overlap.
pub(crate) struct RowsMut<'a> {
    first: *mut f32,
    stride: usize,
    count: usize,
    len: usize,
    memory: PhantomData<&'a mut [f32]>,
}

impl<'a> Rows<'a> {
    /// `count` rows of `len` elements, the first of which begins with the slice.
    ///
    /// # Panics
    /// When the slice is too short.
    #[inline(always)]
    pub(crate) fn of(data: &'a [f32], stride: usize, count: usize, len: usize) -> Self {
        assert!(count == 0 || (count - 1) * stride + len <= data.len(), "rows outside of the slice");
        Self { first: data.as_ptr(), stride, count, len, memory: PhantomData }
    }

    /// # Safety
    /// `count` rows of `len` elements, `stride` apart, must be readable from `first` on while the block lives.
    #[inline(always)]
    pub(super) unsafe fn from_raw(first: *const f32, stride: usize, count: usize, len: usize) -> Self {
        Self { first, stride, count, len, memory: PhantomData }
    }

    #[inline(always)]
    pub(crate) fn row(&self, i: usize) -> &'a [f32] {
        assert!(i < self.count, "row outside of the block");
        // SAFETY: the constructor of the block has checked that each of its rows is readable.
        unsafe { slice::from_raw_parts(self.first.add(i * self.stride), self.len) }
    }

    /// `len` elements from `col` on of `count` rows from `row` on.
    #[inline(always)]
    pub(crate) fn part(&self, row: usize, col: usize, count: usize, len: usize) -> Self {
        assert!(row + count <= self.count && col + len <= self.len, "part outside of the block");
        // SAFETY: the part is within the block.
        Self { first: unsafe { self.first.add(row * self.stride + col) }, count, len, ..*self }
    }
}

impl<'a> RowsMut<'a> {
    /// `count` rows of `len` elements, the first of which begins with the slice.
    ///
    /// # Panics
    /// When the slice is too short, or rows overlap.
    #[inline(always)]
    pub(crate) fn of(data: &'a mut [f32], stride: usize, count: usize, len: usize) -> Self {
        assert!(count == 0 || (count - 1) * stride + len <= data.len(), "rows outside of the slice");
        assert!(count <= 1 || stride >= len, "rows overlap");
        Self { first: data.as_mut_ptr(), stride, count, len, memory: PhantomData }
    }

    /// # Safety
    /// `count` rows of `len` elements, `stride` apart, must be writable from `first` on, distinct and nobody else's while the
    /// block lives.
    #[inline(always)]
    pub(super) unsafe fn from_raw(first: *mut f32, stride: usize, count: usize, len: usize) -> Self {
        Self { first, stride, count, len, memory: PhantomData }
    }

    #[inline(always)]
    pub(crate) fn row(&mut self, i: usize) -> &mut [f32] {
        assert!(i < self.count, "row outside of the block");
        // SAFETY: the constructor of the block has checked that each of its rows is writable and nobody else's; the slice borrows
        // the block.
        unsafe { slice::from_raw_parts_mut(self.first.add(i * self.stride), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `access` panics.
    fn refused<T>(access: impl FnOnce() -> T) -> bool {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(access)).is_err()
    }

    #[test]
    fn rows_stay_inside() {
        let mut memory: Vec<f32> = (0..80).map(|i| i as f32).collect();
        for len in 0..30 {
            let inside = len >= 2 * 7 + 5;
            assert_eq!(refused(|| Rows::of(&memory[..len], 7, 3, 5)), !inside, "{len}");
            assert_eq!(refused(|| RowsMut::of(&mut memory[..len], 7, 3, 5)), !inside, "{len}");
        }
        for stride in 0..8 {
            assert_eq!(refused(|| RowsMut::of(&mut memory, stride, 3, 5)), stride < 5);
            assert!(!refused(|| RowsMut::of(&mut memory, stride, 1, 5)));
            assert!(!refused(|| Rows::of(&memory, stride, 3, 5)));
        }
        for i in 0..5 {
            let rows = Rows::of(&memory[..30], 7, 3, 5);
            assert_eq!(refused(|| rows.row(i)), i >= 3);
            assert_eq!(refused(|| RowsMut::of(&mut memory[..30], 7, 3, 5).row(i).len()), i >= 3);
        }
        let rows = Rows::of(&memory[..30], 7, 3, 5);
        for at in (0..3 * 4 * 4 * 6).map(|at| [at / 96, at / 24 % 4, at / 6 % 4, at % 6]) {
            let [row, count, col, len] = at;
            let inside = row + count <= 3 && col + len <= 5;
            assert_eq!(refused(|| rows.part(row, col, count, len)), !inside, "{at:?}");
            if inside && count > 0 {
                assert_eq!(rows.part(row, col, count, len).row(0), &memory[7 * row + col..][..len]);
            }
        }
    }
}
