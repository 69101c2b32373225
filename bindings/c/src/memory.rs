//! The caller's memory: pointers are checked, views made of them, structures that may grow are read.
//!
//! What C hands over to be written may never have been written to, and there may be no `&mut [f32]` of such memory. So results
//! are copied there through pointers ([`Output`]), or, where kernels write to views, an empty block of assembly stands for
//! what writes to them first ([`assume_written`]). Zeros in its stead would cost 1 to 4 % of a product 128x784x500, and 11 %
//! of one 512x128x128 at s = 0.95 (Sapphire Rapids).

use core::mem::MaybeUninit;
use core::ops::Range;

use slth_kernels::{Epilogue, ImagesMut, ImagesRef, KernelError, MatMut, MatRef, PackedMaskRef};

use crate::status::Failure;
use crate::views::{slth_images, slth_images_mut, slth_matrix, slth_matrix_mut};

/// Checks that a pointer points to something, and is aligned.
pub(crate) fn check_pointer<T>(what: &'static str, pointer: *const T) -> Result<(), Failure> {
    if pointer.is_null() {
        Err(Failure::NullPointer { what })
    } else if !pointer.is_aligned() {
        Err(Failure::Misaligned { what })
    } else {
        Ok(())
    }
}

/// Checks that `len` elements behind a pointer can be an array.
fn check_array<T>(what: &'static str, first: *const T, len: usize) -> Result<(), Failure> {
    if len == 0 {
        return Ok(());
    }
    check_pointer(what, first)?;
    let bytes = len.checked_mul(size_of::<T>()).filter(|&bytes| bytes <= isize::MAX as usize);
    let end = bytes.and_then(|bytes| first.addr().checked_add(bytes));
    if end.is_some() { Ok(()) } else { Err(Failure::overflow(what)) }
}

/// An array of the caller's that is read; without elements the pointer may be NULL.
///
/// # Safety `len` elements behind `first` must be readable and initialised, if `first` is not NULL, and stay unchanged for as
/// long as `'a`.
pub(crate) unsafe fn slice<'a, T>(
    what: &'static str,
    first: *const T,
    len: usize,
) -> Result<&'a [T], Failure> {
    check_array(what, first, len)?;
    // SAFETY: as promised; not NULL, aligned and no longer than memory, as was checked.
    Ok(if len == 0 { &[] } else { unsafe { core::slice::from_raw_parts(first, len) } })
}

/// An array of the caller's that is read and written; without elements the pointer may be NULL.
///
/// # Safety `len` elements behind `first` must be writable and initialised, if `first` is not NULL, and be used by nobody
/// else for as long as `'a`.
pub(crate) unsafe fn slice_mut<'a, T>(
    what: &'static str,
    first: *mut T,
    len: usize,
) -> Result<&'a mut [T], Failure> {
    check_array(what, first, len)?;
    // SAFETY: as promised; not NULL, aligned and no longer than memory, as was checked.
    Ok(if len == 0 { &mut [] } else { unsafe { core::slice::from_raw_parts_mut(first, len) } })
}

/// An array of the caller's that is only written; without elements the pointer may be NULL.
///
/// # Safety
/// As [`slice_mut`], but for what the elements are: they may be uninitialised. A `T` must be valid whatever its bits are.
pub(crate) unsafe fn slice_to_write<'a, T>(
    what: &'static str,
    first: *mut T,
    len: usize,
) -> Result<&'a mut [T], Failure> {
    check_array(what, first, len)?;
    assume_written(first.cast());
    // SAFETY: as promised, and initialised by `assume_written`.
    unsafe { slice_mut(what, first, len) }
}

/// A mask over `len` weights; none behind NULL.
///
/// # Safety
/// As [`slice()`], of ⌈len / 64⌉ words.
pub(crate) unsafe fn mask<'a>(words: *const u64, len: usize) -> Result<Option<PackedMaskRef<'a>>, Failure> {
    if words.is_null() {
        return Ok(None);
    }
    // SAFETY: as promised.
    let words = unsafe { slice("mask", words, len.div_ceil(64))? };
    Ok(Some(PackedMaskRef::from_words(len, words)?))
}

/// Checks that two arrays of so many bytes share none.
pub(crate) fn check_disjoint(
    [what, other]: [&'static str; 2],
    a: *const u8,
    a_len: usize,
    b: *const u8,
    b_len: usize,
) -> Result<(), Failure> {
    let apart = a_len == 0
        || b_len == 0
        || a.addr().saturating_add(a_len) <= b.addr()
        || b.addr().saturating_add(b_len) <= a.addr();
    if apart { Ok(()) } else { Err(Failure::Aliased { written: what, other }) }
}

/// Where a call writes an array of the caller's, once it is known what.
pub(crate) struct Output<T> {
    what: &'static str,
    first: *mut T,
    len: usize,
}

impl<T: Copy> Output<T> {
    /// # Safety
    /// `len` elements behind `first` must be writable until the call ends, if `first` is not NULL.
    pub(crate) unsafe fn new(what: &'static str, first: *mut T, len: usize) -> Result<Self, Failure> {
        check_array(what, first, len)?;
        Ok(Self { what, first, len })
    }

    /// Checks that writing this changes nothing of an array that is read.
    pub(crate) fn check_apart<U>(
        &self,
        read: &'static str,
        first: *const U,
        len: usize,
    ) -> Result<(), Failure> {
        let bytes = [self.len * size_of::<T>(), len * size_of::<U>()];
        check_disjoint([self.what, read], self.first.cast(), bytes[0], first.cast(), bytes[1])
    }

    /// Its addresses.
    pub(crate) fn addresses(&self) -> Range<usize> {
        let start = self.first.addr();
        start..start + self.len * size_of::<T>()
    }

    /// None behind NULL: the caller has no use for it.
    ///
    /// # Safety
    /// As [`new`](Self::new).
    pub(crate) unsafe fn optional(
        what: &'static str,
        first: *mut T,
        len: usize,
    ) -> Result<Option<Self>, Failure> {
        // SAFETY: as promised.
        (!first.is_null()).then(|| unsafe { Self::new(what, first, len) }).transpose()
    }

    pub(crate) fn write(&self, values: &[T]) {
        assert_eq!(values.len(), self.len, "another number of results");
        // SAFETY: as many are writable, as `new` was promised, and no slice of this library's own is the caller's memory.
        unsafe { core::ptr::copy(values.as_ptr(), self.first, self.len) };
    }
}

impl Output<bool> {
    pub(crate) fn write_mask(&self, mask: PackedMaskRef<'_>) {
        let mut tile = [false; 64 * TILE_WORDS];
        for (i, words) in mask.words().chunks(TILE_WORDS).enumerate() {
            let at = i * tile.len();
            let tile = &mut tile[..(self.len - at).min(64 * words.len())];
            let part = PackedMaskRef::from_words(tile.len(), words).and_then(|part| part.write_bools(tile));
            part.expect("as many words as the weights ask for");
            // SAFETY: within `len`, as many as are writable, as `new` was promised; the tile is no memory of the caller's.
            unsafe { self.first.add(at).copy_from_nonoverlapping(tile.as_ptr(), tile.len()) };
        }
    }
}

/// Words of a mask that become booleans at a time: 2 KiB of them.
const TILE_WORDS: usize = 32;

/// Floats of the caller's, `D` axes of them: a matrix or images.
pub(crate) struct Block<const D: usize> {
    what: &'static str,
    first: *mut f32,
    sizes: [usize; D],
    strides: [usize; D],
    /// Elements from the first to the last one, both included.
    extent: usize,
}

impl<const D: usize> Block<D> {
    fn new(
        what: &'static str,
        first: *mut f32,
        sizes: [usize; D],
        strides: [usize; D],
    ) -> Result<Self, Failure> {
        let mut block = Self { what, first, sizes, strides, extent: 0 };
        if !sizes.contains(&0) {
            let axes = sizes.into_iter().zip(strides);
            let last = axes.map(|(size, stride)| (size - 1).checked_mul(stride));
            let last = last.reduce(|a, b| a?.checked_add(b?)).flatten();
            block.extent = last.and_then(|last| last.checked_add(1)).ok_or(Failure::overflow(what))?;
            check_array(what, first, block.extent)?;
        }
        Ok(block)
    }

    /// That writing this block changes nothing of another one, which is read.
    ///
    /// # Errors
    /// When they share an element, or cannot easily be told not to.
    pub(crate) fn check_apart<const E: usize>(&self, read: &Block<E>) -> Result<(), Failure> {
        if self.is_apart(read) {
            Ok(())
        } else {
            Err(Failure::Aliased { written: self.what, other: read.what })
        }
    }

    fn is_apart<const E: usize>(&self, other: &Block<E>) -> bool {
        let [a, b] = [self.addresses(), other.addresses()];
        if a.is_empty() || b.is_empty() || a.end <= b.start || b.end <= a.start {
            return true;
        }
        // Both may lie in one array of rows `pitch` apart, and take other columns of it: parts of a concatenation, say.
        self.strides.iter().chain(&other.strides).filter(|&&pitch| pitch > 0).any(|&pitch| {
            let [a_width, b_width] = [self.width(pitch), other.width(pitch)];
            let pitch = pitch as i128;
            let shift = (b.start as i128 - a.start as i128) / size_of::<f32>() as i128;
            let shift = shift.rem_euclid(pitch);
            shift >= a_width as i128 && shift + b_width as i128 <= pitch
        })
    }

    fn addresses(&self) -> Range<usize> {
        let start = self.first.addr();
        start..start + self.extent * size_of::<f32>()
    }

    /// Checks that writing this block, gaps included, changes nothing of a mask over `len` weights.
    pub(crate) fn check_apart_from_mask(&self, mask: *const u64, len: usize) -> Result<(), Failure> {
        let bytes = if mask.is_null() { 0 } else { len.div_ceil(64) * size_of::<u64>() };
        check_disjoint(
            [self.what, "mask"],
            self.first.cast(),
            self.extent * size_of::<f32>(),
            mask.cast(),
            bytes,
        )
    }

    /// Elements from the first to the last one within a row, where rows are `pitch` apart.
    fn width(&self, pitch: usize) -> usize {
        let rows = (0..D).filter(|&axis| self.strides[axis] == pitch).map(|axis| self.sizes[axis]).max();
        self.extent - rows.map_or(0, |rows| (rows - 1) * pitch)
    }
}

/// Makes memory that may be uninitialised count as initialised, with values that nobody knows. For memory that was allocated,
/// and that its owner lets us write to.
fn assume_written(memory: *mut u8) {
    // SAFETY: the block has no instruction. The compiler does not look into one: it takes it for code that may write to
    // whatever it was given a pointer into, and this one stands for a loop that writes some value to each element. Those that
    // are there already will do.
    unsafe { core::arch::asm!("/* {0} */", in(reg) memory, options(nostack, preserves_flags)) };
}

impl Block<1> {
    /// The bias of an epilogue; no elements without one.
    pub(crate) fn bias(epilogue: &Epilogue<'_>) -> Result<Self, Failure> {
        let bias = epilogue.bias.unwrap_or_default();
        Self::new("bias", bias.as_ptr().cast_mut(), [bias.len()], [1])
    }
}

impl Block<2> {
    pub(crate) fn of(what: &'static str, matrix: slth_matrix) -> Result<Self, Failure> {
        let slth_matrix { data, rows, cols, row_stride, col_stride } = matrix;
        Self::new(what, data.cast_mut(), [rows, cols], [row_stride, col_stride])
    }

    pub(crate) fn of_mut(what: &'static str, matrix: slth_matrix_mut) -> Result<Self, Failure> {
        let slth_matrix_mut { data, rows, cols, row_stride, col_stride } = matrix;
        Self::new(what, data, [rows, cols], [row_stride, col_stride])
    }

    /// # Safety
    /// All elements must be readable and initialised, and stay unchanged for as long as `'a`.
    pub(crate) unsafe fn read<'a>(&self) -> Result<MatRef<'a>, KernelError> {
        let ([rows, cols], [row_stride, col_stride]) = (self.sizes, self.strides);
        // SAFETY: as promised.
        unsafe { MatRef::from_raw_parts(self.first, rows, cols, row_stride, col_stride) }
    }

    /// # Safety
    /// All elements must be writable and used by nobody else for as long as `'a`; initialised, too, if the old values matter.
    pub(crate) unsafe fn write<'a>(&self, old_matter: bool) -> Result<MatMut<'a>, KernelError> {
        let ([rows, cols], [row_stride, col_stride]) = (self.sizes, self.strides);
        if !old_matter {
            assume_written(self.first.cast());
        }
        // SAFETY: as promised; and initialised, at the latest by `assume_written`.
        unsafe { MatMut::from_raw_parts(self.first, rows, cols, row_stride, col_stride) }
    }
}

impl Block<4> {
    pub(crate) fn of_images(what: &'static str, images: slth_images) -> Result<Self, Failure> {
        Self::new(what, images.data.cast_mut(), images.sizes, images.strides)
    }

    pub(crate) fn of_images_mut(what: &'static str, images: slth_images_mut) -> Result<Self, Failure> {
        Self::new(what, images.data, images.sizes, images.strides)
    }

    /// # Safety
    /// As [`Block::read`] of a matrix.
    pub(crate) unsafe fn read_images<'a>(&self) -> Result<ImagesRef<'a>, KernelError> {
        // SAFETY: as promised.
        unsafe { ImagesRef::from_raw_parts(self.first, self.sizes, self.strides) }
    }

    /// # Safety
    /// As [`Block::write`] of a matrix.
    pub(crate) unsafe fn write_images<'a>(&self, old_matter: bool) -> Result<ImagesMut<'a>, KernelError> {
        if !old_matter {
            assume_written(self.first.cast());
        }
        // SAFETY: as promised; and initialised, at the latest by `assume_written`.
        unsafe { ImagesMut::from_raw_parts(self.first, self.sizes, self.strides) }
    }
}

/// A structure whose first field is its size, so that later versions can add fields: what a caller does not know of is 0 to
/// the library, which means what it meant before there was the field; and what the library does not know of must be 0.
///
/// # Safety
/// The structure must be `repr(C)` and without padding, begin with its size as a `usize`, and be valid whatever its bits are.
pub(crate) unsafe trait Extensible: Copy {
    /// What a failure calls it.
    const NAME: &'static str;
    /// The size that its first version had.
    const FIRST_SIZE: usize;
}

/// Most bytes that a structure may ever have. What says that it has more was not initialised.
const SIZE_LIMIT: usize = 1024;

/// The structure of the caller's; all fields 0 behind NULL.
///
/// # Safety
/// `from` must be NULL or point to as many initialised bytes as its first field says.
pub(crate) unsafe fn structure<T: Extensible>(from: *const T) -> Result<T, Failure> {
    let mut value = MaybeUninit::<T>::zeroed();
    if !from.is_null() {
        let known = size_of::<T>();
        check_pointer(T::NAME, from)?;
        // SAFETY: the first field is the size.
        let size = unsafe { from.cast::<usize>().read() };
        if !(T::FIRST_SIZE..=SIZE_LIMIT).contains(&size) {
            return Err(Failure::StructSize { what: T::NAME, known, found: size });
        }
        // SAFETY: as many bytes are initialised, as promised, and `value` has room for those it knows.
        let unknown = unsafe {
            value.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(from.cast(), size.min(known));
            core::slice::from_raw_parts(from.cast::<u8>().add(size.min(known)), size - size.min(known))
        };
        if unknown.iter().any(|&byte| byte != 0) {
            return Err(Failure::UnknownField { what: T::NAME, known });
        }
    }
    // SAFETY: initialised, and valid whatever its bits are.
    Ok(unsafe { value.assume_init() })
}

/// Writes as much of the structure as the caller knows, whose size is in the first field there.
///
/// # Safety
/// `to` must be NULL or point to a size and to as many writable bytes as that says.
pub(crate) unsafe fn write_structure<T: Extensible>(to: *mut T, value: T) -> Result<(), Failure> {
    check_pointer(T::NAME, to)?;
    let known = size_of::<T>();
    // SAFETY: the first field is the size.
    let size = unsafe { to.cast::<usize>().read() };
    if !(T::FIRST_SIZE..=SIZE_LIMIT).contains(&size) {
        return Err(Failure::StructSize { what: T::NAME, known, found: size });
    }
    // SAFETY: as many bytes are writable, as promised, and all of `value` are initialised: it has no padding. The first field
    // stays.
    unsafe {
        let (from, to) = ((&raw const value).cast::<u8>(), to.cast::<u8>());
        let first = size_of::<usize>();
        to.add(first).copy_from_nonoverlapping(from.add(first), size.min(known) - first);
        to.add(size.min(known)).write_bytes(0, size - size.min(known));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks reported as apart share no element. Disjoint column ranges of one array are always reported as apart.
    #[test]
    fn blocks_apart_share_nothing() {
        let memory = [0.0_f32; 64];
        let block = |offset: usize, sizes, strides| {
            Block::new("x", memory[offset..].as_ptr().cast_mut(), sizes, strides)
        };
        let elements = |block: &Block<2>| {
            let [rows, cols] = block.sizes;
            let offset = move |r, c| r * block.strides[0] + c * block.strides[1];
            let all = (0..rows).flat_map(move |r| (0..cols).map(move |c| offset(r, c)));
            all.map(|at| block.first.wrapping_add(at)).collect::<Vec<_>>()
        };
        let digits = |number: usize, bases: [usize; 4]| {
            let mut left = number;
            bases.map(|base| (left % base, left /= base).0)
        };
        let mut blocks = Vec::new();
        for offset in [0, 1, 2, 3, 5, 9] {
            for [rows, cols, row_stride, col_stride] in (0..3 * 4 * 8 * 3).map(|i| digits(i, [3, 4, 8, 3])) {
                blocks.push(block(offset, [rows, cols], [row_stride, col_stride]).unwrap());
            }
        }
        let (mut apart, mut interleaved) = (0, 0);
        for a in &blocks {
            let of_a = elements(a);
            for b in &blocks {
                let shared = elements(b).iter().any(|element| of_a.contains(element));
                assert!(!(shared && a.is_apart(b)));
                assert_eq!(a.is_apart(b), b.is_apart(a));
                apart += usize::from(a.is_apart(b));
                interleaved += usize::from(!shared);
            }
        }
        assert!(apart * 10 > interleaved * 9, "{apart} of {interleaved}");
        let [left, right] = [block(0, [3, 4], [7, 1]), block(4, [3, 3], [7, 1])].map(Result::unwrap);
        assert!(left.is_apart(&right) && right.is_apart(&left));
    }

    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Grown {
        size: usize,
        first: usize,
        added: usize,
    }

    // SAFETY: `Grown` consists of three integers of one type, the size first.
    unsafe impl Extensible for Grown {
        const NAME: &'static str = "grown";
        const FIRST_SIZE: usize = 2 * size_of::<usize>();
    }

    #[test]
    fn structures_of_other_versions() {
        let word = size_of::<usize>();
        let read = |words: &[usize]| {
            // SAFETY: in every case there are as many words as the first one says, or the size is refused unread.
            unsafe { structure(words.as_ptr().cast::<Grown>()) }.map(|found| [found.first, found.added])
        };
        assert_eq!(read(&[2 * word, 5]).unwrap(), [5, 0]);
        assert_eq!(read(&[3 * word, 5, 6]).unwrap(), [5, 6]);
        assert_eq!(read(&[4 * word, 5, 6, 0]).unwrap(), [5, 6]);
        assert!(matches!(read(&[4 * word, 5, 6, 1]), Err(Failure::UnknownField { .. })));
        assert!(matches!(read(&[word]), Err(Failure::StructSize { .. })));
        assert!(matches!(read(&[usize::MAX]), Err(Failure::StructSize { .. })));
        let write = |words: &mut [usize]| {
            let value = Grown { size: 3 * word, first: 7, added: 8 };
            // SAFETY: as above.
            unsafe { write_structure(words.as_mut_ptr().cast::<Grown>(), value) }.unwrap();
        };
        for size in 2..6 {
            let mut words = [9; 6];
            words[0] = size * word;
            write(&mut words);
            let expected = [size * word, 7, 8, 0, 0, 0];
            assert!((0..6).all(|i| words[i] == if i < size { expected[i] } else { 9 }), "{words:?}");
        }
    }
}
