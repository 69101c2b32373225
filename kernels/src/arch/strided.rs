//! Strided blocks of memory, the basis of [`MatRef`](crate::MatRef) and the other views.
//!
//! A `&mut [f32]` cannot describe a view with gaps: other code may own the elements between its rows, and threads that write
//! different columns of one matrix would share the slice. So views are a pointer, sizes and strides, checked when they are made;
//! every access is checked against the sizes. This file is independent of the instruction set.

use core::array;
use core::marker::PhantomData;
use core::slice;

use crate::arch::rows::{Rows, RowsMut};
use crate::error::KernelError;

/// How the elements of a block lie behind its first one; `strides` are in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout<const D: usize> {
    pub(crate) sizes: [usize; D],
    pub(crate) strides: [usize; D],
}

impl<const D: usize> Layout<D> {
    pub(crate) fn new(sizes: [usize; D], strides: [usize; D]) -> Self {
        Self { sizes, strides }
    }

    /// The layout along these axes.
    fn of<const E: usize>(&self, axes: [usize; E]) -> Layout<E> {
        Layout { sizes: axes.map(|axis| self.sizes[axis]), strides: axes.map(|axis| self.strides[axis]) }
    }

    fn is_empty(&self) -> bool {
        self.sizes.contains(&0)
    }

    /// How many elements lie from the first one to the last one, both included.
    fn extent(&self) -> Result<usize, KernelError> {
        if self.is_empty() {
            return Ok(0);
        }
        let last = self
            .sizes
            .iter()
            .zip(self.strides)
            .try_fold(0_usize, |at, (&size, stride)| at.checked_add((size - 1).checked_mul(stride)?));
        last.and_then(|last| last.checked_add(1))
            .filter(|&extent| extent <= isize::MAX as usize / size_of::<f32>())
            .ok_or(KernelError::Overflow { what: "view" })
    }

    /// Whether no two indices name one element. Exact for two axes. With more axes these must nest: each stride is at least the
    /// extent of the block along the axes with shorter strides.
    fn is_injective(&self) -> bool {
        if self.is_empty() {
            return true;
        }
        // Axes of one element come first, and are skipped. Nothing is allocated, because views are made for each product.
        let mut axes: [_; D] = array::from_fn(|axis| match self.sizes[axis] {
            1 => (0, 1),
            size => (self.strides[axis], size),
        });
        axes.sort_unstable();
        let axes = &axes[axes.iter().take_while(|&&(_, size)| size == 1).count()..];
        let mut inner = 1;
        let nested = axes.iter().all(|&(stride, size)| {
            let fits = stride >= inner;
            inner += (size - 1) * stride;
            fits
        });
        match *axes {
            _ if nested => true,
            // i steps along one axis meet j along the other first at the strides' least common multiple.
            [(a, a_size), (b, b_size)] if a > 0 => {
                let divisor = gcd(a, b);
                b / divisor >= a_size || a / divisor >= b_size
            }
            _ => false,
        }
    }

    #[inline(always)]
    fn offset(&self, index: [usize; D]) -> usize {
        assert!((0..D).all(|axis| index[axis] < self.sizes[axis]), "index outside of the view");
        (0..D).map(|axis| index[axis] * self.strides[axis]).sum()
    }

    /// The offset of `len` elements from `index` on along `axis`, whose stride is 1.
    #[inline(always)]
    fn run(&self, index: [usize; D], axis: usize, len: usize) -> usize {
        assert!(
            (self.strides[axis] == 1 || len <= 1)
                && index[axis] <= self.sizes[axis]
                && len <= self.sizes[axis] - index[axis],
            "run outside of the view"
        );
        if len == 0 { 0 } else { self.offset(index) }
    }

    /// Whether elements lie one after the other, the last axis innermost.
    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.is_empty()
            || (0..D).rev().all(|axis| {
                let fits = self.sizes[axis] == 1 || self.strides[axis] == expected;
                // If rows repeat, the product of the sizes may overflow; the elements are not contiguous then.
                expected = expected.saturating_mul(self.sizes[axis]);
                fits
            })
    }

    fn len(&self) -> usize {
        self.sizes.iter().product()
    }
}

impl Layout<2> {
    /// The offset of a block of `count` rows of `len` contiguous elements.
    #[inline(always)]
    fn rows(&self, [row, col]: [usize; 2], count: usize, len: usize) -> usize {
        let [rows, cols] = self.sizes;
        assert!(
            (self.strides[1] == 1 || len <= 1)
                && (row <= rows && count <= rows - row)
                && (col <= cols && len <= cols - col),
            "rows outside of the view"
        );
        if count == 0 || len == 0 { 0 } else { self.offset([row, col]) }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Floats that may be read for as long as `'a`.
#[derive(Clone, Copy)]
pub(crate) struct Cells<'a, const D: usize> {
    first: *const f32,
    layout: Layout<D>,
    memory: PhantomData<&'a [f32]>,
}

/// Distinct floats that no other code reads or writes for as long as `'a`.
pub(crate) struct CellsMut<'a, const D: usize> {
    first: *mut f32,
    layout: Layout<D>,
    memory: PhantomData<&'a mut [f32]>,
}

// SAFETY: as `&[f32]`, which it stands for.
unsafe impl<const D: usize> Send for Cells<'_, D> {}
// SAFETY: as `&[f32]`.
unsafe impl<const D: usize> Sync for Cells<'_, D> {}
// SAFETY: as `&mut [f32]`.
unsafe impl<const D: usize> Send for CellsMut<'_, D> {}
// SAFETY: as `&mut [f32]`: through a shared reference nothing can be written.
unsafe impl<const D: usize> Sync for CellsMut<'_, D> {}

impl<'a, const D: usize> Cells<'a, D> {
    pub(crate) const EMPTY: Self = Self {
        first: core::ptr::dangling(),
        layout: Layout { sizes: [0; D], strides: [0; D] },
        memory: PhantomData,
    };

    pub(crate) fn new(data: &'a [f32], layout: Layout<D>) -> Result<Self, KernelError> {
        let needed = layout.extent()?;
        if needed > data.len() {
            return Err(KernelError::OutOfBounds { needed, found: data.len() });
        }
        Ok(Self { first: data.as_ptr(), layout, memory: PhantomData })
    }

    /// # Safety
    /// Every element of the layout behind `first` must be readable and stay unchanged for as long as `'a`.
    pub(crate) unsafe fn from_raw(first: *const f32, layout: Layout<D>) -> Result<Self, KernelError> {
        layout.extent()?;
        // Without elements the pointer may be null, unlike that of a slice.
        let first = if layout.is_empty() { core::ptr::dangling() } else { first };
        Ok(Self { first, layout, memory: PhantomData })
    }

    #[inline(always)]
    pub(crate) fn sizes(&self) -> [usize; D] {
        self.layout.sizes
    }

    #[inline(always)]
    pub(crate) fn strides(&self) -> [usize; D] {
        self.layout.strides
    }

    #[inline(always)]
    pub(crate) fn get(&self, index: [usize; D]) -> f32 {
        let offset = self.layout.offset(index);
        // SAFETY: `offset` has checked that the index is within the sizes, and the constructor of the block that all of those are
        // readable.
        unsafe { *self.first.add(offset) }
    }

    /// `len` elements from `index` on along `axis`.
    ///
    /// # Panics
    /// When they are not within the block, or the axis' stride is not 1.
    #[inline(always)]
    pub(crate) fn run(&self, index: [usize; D], axis: usize, len: usize) -> &'a [f32] {
        let offset = self.layout.run(index, axis, len);
        // SAFETY: `run` has checked that the elements are within the sizes and contiguous; all of those are readable.
        unsafe { slice::from_raw_parts(self.first.add(offset), len) }
    }

    /// All elements, if they lie one after the other, the last axis innermost.
    pub(crate) fn as_slice(&self) -> Option<&'a [f32]> {
        // SAFETY: the elements are as many and contiguous, and all are readable.
        self.layout.is_contiguous().then(|| unsafe { slice::from_raw_parts(self.first, self.layout.len()) })
    }

    /// The same elements with the axes in another order.
    pub(crate) fn permute(&self, axes: [usize; D]) -> Self {
        assert!((0..D).all(|axis| axes.contains(&axis)), "every axis once");
        Self { layout: self.layout.of(axes), ..*self }
    }

    /// The elements at `index` along all axes but `axes`.
    pub(crate) fn slice<const E: usize>(&self, index: [usize; D], axes: [usize; E]) -> Cells<'a, E> {
        let layout = self.layout.of(axes);
        assert!((1..E).all(|i| !axes[..i].contains(&axes[i])), "every axis once");
        let index = core::array::from_fn(|axis| if axes.contains(&axis) { 0 } else { index[axis] });
        let offset = if layout.is_empty() { 0 } else { self.layout.offset(index) };
        // SAFETY: `offset` has checked that the index is within the sizes.
        Cells { first: unsafe { self.first.add(offset) }, layout, memory: PhantomData }
    }

    /// `count` of the indices along `axis`, from `from` on.
    pub(crate) fn part(&self, axis: usize, from: usize, count: usize) -> Self {
        let size = self.layout.sizes[axis];
        assert!(from <= size && count <= size - from, "part outside of the view");
        let mut layout = self.layout;
        layout.sizes[axis] = count;
        let offset = if layout.is_empty() { 0 } else { from * self.layout.strides[axis] };
        // SAFETY: the part is not empty, so its first element is one of the block's.
        Self { first: unsafe { self.first.add(offset) }, layout, memory: PhantomData }
    }
}

impl<'a, const D: usize> CellsMut<'a, D> {
    pub(crate) fn new(data: &'a mut [f32], layout: Layout<D>) -> Result<Self, KernelError> {
        let needed = layout.extent()?;
        if needed > data.len() {
            return Err(KernelError::OutOfBounds { needed, found: data.len() });
        }
        if !layout.is_injective() {
            return Err(KernelError::Overlap);
        }
        Ok(Self { first: data.as_mut_ptr(), layout, memory: PhantomData })
    }

    /// # Safety
    /// Every element of the layout behind `first` must be readable and writable, and not be used elsewhere for as long as `'a`.
    pub(crate) unsafe fn from_raw(first: *mut f32, layout: Layout<D>) -> Result<Self, KernelError> {
        layout.extent()?;
        if !layout.is_injective() {
            return Err(KernelError::Overlap);
        }
        let first = if layout.is_empty() { core::ptr::dangling_mut() } else { first };
        Ok(Self { first, layout, memory: PhantomData })
    }

    #[inline(always)]
    pub(crate) fn sizes(&self) -> [usize; D] {
        self.layout.sizes
    }

    #[inline(always)]
    pub(crate) fn strides(&self) -> [usize; D] {
        self.layout.strides
    }

    /// The same elements, for reading, while this one is borrowed.
    #[inline(always)]
    pub(crate) fn as_cells(&self) -> Cells<'_, D> {
        Cells { first: self.first, layout: self.layout, memory: PhantomData }
    }

    /// The same elements while this one is borrowed.
    #[inline(always)]
    pub(crate) fn reborrow(&mut self) -> CellsMut<'_, D> {
        CellsMut { first: self.first, layout: self.layout, memory: PhantomData }
    }

    #[inline(always)]
    pub(crate) fn set(&mut self, index: [usize; D], value: f32) {
        let offset = self.layout.offset(index);
        // SAFETY: `offset` has checked that the index is within the sizes, and the constructor of the block that all of those are
        // writable.
        unsafe { *self.first.add(offset) = value }
    }

    /// `len` elements from `index` on along `axis`.
    ///
    /// # Panics
    /// When they are not within the block, or the axis' stride is not 1.
    #[inline(always)]
    pub(crate) fn run(&mut self, index: [usize; D], axis: usize, len: usize) -> &mut [f32] {
        let offset = self.layout.run(index, axis, len);
        // SAFETY: `run` has checked that the elements are within the sizes and contiguous; all of those are writable and
        // nobody else's, and this block is borrowed for as long as the slice lives.
        unsafe { slice::from_raw_parts_mut(self.first.add(offset), len) }
    }

    /// All elements, if they lie one after the other, the last axis innermost.
    pub(crate) fn into_slice(self) -> Result<&'a mut [f32], Self> {
        if !self.layout.is_contiguous() {
            return Err(self);
        }
        // SAFETY: the elements are as many and contiguous, all are writable, and `self` is gone.
        Ok(unsafe { slice::from_raw_parts_mut(self.first, self.layout.len()) })
    }

    /// The same elements with the axes in another order.
    pub(crate) fn permute(self, axes: [usize; D]) -> Self {
        let layout = self.as_cells().permute(axes).layout;
        Self { layout, ..self }
    }

    /// The elements at `index` along all axes but `axes`.
    pub(crate) fn slice<const E: usize>(&mut self, index: [usize; D], axes: [usize; E]) -> CellsMut<'_, E> {
        let part = self.as_cells().slice(index, axes);
        CellsMut { first: part.first.cast_mut(), layout: part.layout, memory: PhantomData }
    }

    /// The indices along `axis` before `at`, and those from there on.
    pub(crate) fn split(self, axis: usize, at: usize) -> (Self, Self) {
        let size = self.layout.sizes[axis];
        assert!(at <= size, "split outside of the view");
        let part = |from, count| {
            let part = self.as_cells().part(axis, from, count);
            // No element belongs to both parts, as they are distinct and the parts share no index.
            Self { first: part.first.cast_mut(), layout: part.layout, memory: PhantomData }
        };
        (part(0, at), part(at, size - at))
    }

    /// Parts of `count` consecutive indices along `axis`; the last one may have fewer.
    pub(crate) fn parts(self, axis: usize, count: usize) -> impl ExactSizeIterator<Item = Self> + Send {
        assert!(count > 0, "parts of nothing");
        let parts = if self.layout.is_empty() { 0 } else { self.layout.sizes[axis].div_ceil(count) };
        let mut rest = Some(self);
        (0..parts).map(move |_| {
            let all = rest.take().expect("as many parts as were counted");
            let at = count.min(all.layout.sizes[axis]);
            let (part, left) = all.split(axis, at);
            rest = Some(left);
            part
        })
    }
}

impl<'a> Cells<'a, 2> {
    /// `count` rows from `index` on, `len` elements of each.
    ///
    /// # Panics
    /// When they are not within the matrix, or its rows are not contiguous.
    #[inline(always)]
    pub(crate) fn rows(&self, index: [usize; 2], count: usize, len: usize) -> Rows<'a> {
        let offset = self.layout.rows(index, count, len);
        // SAFETY: `rows` has checked that the elements are within the sizes, and all of those are readable.
        unsafe { Rows::from_raw(self.first.add(offset), self.layout.strides[0], count, len) }
    }
}

impl CellsMut<'_, 2> {
    /// `count` rows from `index` on, `len` elements of each.
    ///
    /// # Panics
    /// When they are not within the matrix, or its rows are not contiguous.
    #[inline(always)]
    pub(crate) fn rows(&mut self, index: [usize; 2], count: usize, len: usize) -> RowsMut<'_> {
        let offset = self.layout.rows(index, count, len);
        // SAFETY: `rows` has checked that the elements are within the sizes; all of those are writable, distinct and nobody else's.
        unsafe { RowsMut::from_raw(self.first.add(offset), self.layout.strides[0], count, len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(layout: Layout<2>) -> Vec<usize> {
        let [rows, columns] = layout.sizes;
        let mut all: Vec<_> =
            (0..rows).flat_map(|r| (0..columns).map(move |c| layout.offset([r, c]))).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn overlap_and_bounds_are_exact_for_two_axes() {
        for sizes in (0..5).flat_map(|rows| (0..5).map(move |columns| [rows, columns])) {
            for strides in (0..9).flat_map(|r| (0..9).map(move |c| [r, c])) {
                let layout = Layout::new(sizes, strides);
                let all = offsets(layout);
                let distinct = all.windows(2).all(|pair| pair[0] != pair[1]);
                let needed = all.last().map_or(0, |last| last + 1);
                let mut memory = vec![0.0; needed];
                assert!(Cells::new(&memory, layout).is_ok());
                assert_eq!(CellsMut::new(&mut memory, layout).is_ok(), distinct, "{layout:?}");
                if needed > 0 {
                    let short = CellsMut::new(&mut memory[1..], layout);
                    assert_eq!(short.err(), Some(KernelError::OutOfBounds { needed, found: needed - 1 }));
                }
            }
        }
    }

    #[test]
    fn sizes_that_overflow_are_errors() {
        let overflow = KernelError::Overflow { what: "view" };
        for (sizes, strides) in [([2, 2], [usize::MAX, 1]), ([usize::MAX, 2], [4, 1]), ([1 << 62, 1], [1, 1])]
        {
            let layout = Layout::new(sizes, strides);
            assert_eq!(Cells::new(&[0.0; 9], layout).err(), Some(overflow.clone()));
            assert_eq!(CellsMut::new(&mut [0.0; 9], layout).err(), Some(overflow.clone()));
        }
        assert!(Cells::new(&[], Layout::new([0, usize::MAX], [usize::MAX, usize::MAX])).is_ok());
    }

    #[test]
    fn parts_are_disjoint_and_complete() {
        for (sizes, strides) in [([5, 3], [4, 1]), ([5, 3], [1, 6]), ([4, 2], [2, 9]), ([0, 3], [1, 1])] {
            for axis in [0, 1] {
                for count in 1..6 {
                    let mut memory = vec![0.0; 40];
                    let cells = CellsMut::new(&mut memory, Layout::new(sizes, strides)).unwrap();
                    let mut seen = 0;
                    for mut part in cells.parts(axis, count) {
                        let [rows, columns] = part.sizes();
                        assert!(part.sizes()[axis] <= count);
                        for (r, c) in (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))) {
                            let old = part.as_cells().get([r, c]);
                            part.set([r, c], old + 1.0);
                            seen += 1;
                        }
                    }
                    assert_eq!(seen, sizes[0] * sizes[1]);
                    let expected = offsets(Layout::new(sizes, strides));
                    for (at, &x) in memory.iter().enumerate() {
                        assert_eq!(x, if expected.contains(&at) { 1.0 } else { 0.0 });
                    }
                }
            }
        }
    }

    /// Whether `access` panics.
    fn refused<T>(access: impl FnOnce() -> T) -> bool {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(access)).is_err()
    }

    /// Accesses inside and just outside of a view of 3 × 5 elements within a larger array.
    #[test]
    fn accesses_stay_inside() {
        let mut memory: Vec<f32> = (0..80).map(|i| i as f32).collect();
        let (rows, cols) = (3, 5);
        let layout = Layout::new([rows, cols], [7, 1]);
        let read = Cells::new(&memory, layout).unwrap();
        for (r, c) in (0..5).flat_map(|r| (0..7).map(move |c| (r, c))) {
            let inside = r < rows && c < cols;
            assert_eq!(refused(|| read.get([r, c])), !inside);
            for len in 0..7 {
                // An empty run may begin at any row.
                let inside = c <= cols && len <= cols - c && (r < rows || len == 0);
                let run = std::panic::catch_unwind(|| read.run([r, c], 1, len));
                assert_eq!(run.is_ok(), inside, "{r} {c} {len}");
                if let (Ok(run), true) = (run, len > 0) {
                    assert_eq!(run[0], memory[7 * r + c]);
                }
                for count in 0..5 {
                    let inside = r <= rows && count <= rows - r && c <= cols && len <= cols - c;
                    assert_eq!(refused(|| read.rows([r, c], count, len)), !inside, "{r} {c} {count} {len}");
                }
            }
        }
        for (from, count) in (0..6).flat_map(|from| (0..6).map(move |count| (from, count))) {
            assert_eq!(refused(|| read.part(0, from, count)), from + count > rows);
            assert_eq!(refused(|| read.part(1, from, count)), from + count > cols);
        }
        // If the column stride is not 1, runs and rows are not contiguous.
        for [row_stride, col_stride] in [[1, 4], [20, 2]] {
            let across = Cells::new(&memory, Layout::new([3, 3], [row_stride, col_stride])).unwrap();
            assert!(refused(|| across.run([0, 0], 1, 2)) && refused(|| across.rows([0, 0], 2, 2)));
            assert!(!refused(|| across.run([0, 0], 1, 1)) && !refused(|| across.rows([0, 0], 2, 1)));
        }
        for at in 0..6 {
            let mut block = CellsMut::new(&mut memory, layout).unwrap();
            assert_eq!(refused(|| block.set([at, 0], 0.0)), at >= rows);
            assert_eq!(refused(|| block.run([0, at], 1, 1).len()), at >= cols);
            assert_eq!(refused(|| _ = block.rows([at, 0], 1, 1)), at >= rows);
            assert_eq!(refused(|| _ = block.split(0, at)), at > rows);
        }
    }

    /// With more than two axes, elements count as distinct only if the axes nest.
    #[test]
    fn axes_that_nest_are_distinct() {
        let mut memory = vec![0.0; 500];
        let mut check = |sizes, strides, distinct: bool| {
            let result = CellsMut::new(&mut memory, Layout::new(sizes, strides));
            assert_eq!(result.err(), (!distinct).then_some(KernelError::Overlap), "{sizes:?} {strides:?}");
        };
        check([2, 3, 4, 5], [60, 20, 5, 1], true);
        check([2, 3, 4, 5], [60, 20, 4, 1], false);
        check([5, 4, 3, 2], [1, 5, 20, 60], true);
        check([2, 3, 4, 5], [60, 19, 5, 1], false);
        check([2, 3, 4, 5], [59, 20, 5, 1], false);
        check([1, 3, 1, 5], [0, 5, 0, 1], true);
        check([2, 3, 4, 5], [0, 20, 5, 1], false);
    }
}
