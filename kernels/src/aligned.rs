//! Memory aligned to cache lines, reused between calls.

use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use bytemuck::{Pod, Zeroable};

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct CacheLine([f32; 16]);

/// Floats on a 64-byte boundary. In an unaligned panel every second load of the matmul kernels touches two cache lines.
#[derive(Clone, Default)]
pub(crate) struct AlignedBuffer {
    lines: Vec<CacheLine>,
}

impl AlignedBuffer {
    /// The first `len` floats, with unspecified values; grows as needed, never shrinks.
    pub(crate) fn get(&mut self, len: usize) -> &mut [f32] {
        let lines = len.div_ceil(16);
        if self.lines.len() < lines {
            self.lines.resize(lines, CacheLine::zeroed());
        }
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..len]
    }
}

/// Numbers on a 64-byte boundary, also after the struct was moved or cloned.
#[derive(Clone)]
pub(crate) struct AlignedVec<T> {
    lines: Vec<CacheLine>,
    len: usize,
    of: PhantomData<T>,
}

impl<T: Pod> AlignedVec<T> {
    pub(crate) const fn new() -> Self {
        Self { lines: Vec::new(), len: 0, of: PhantomData }
    }

    /// Sets the length to `len`, with capacity for `room`; new numbers are unspecified.
    pub(crate) fn resize(&mut self, len: usize, room: usize) {
        let lines = |count: usize| (count * size_of::<T>()).div_ceil(size_of::<CacheLine>());
        self.lines.reserve_exact(lines(room).saturating_sub(self.lines.len()));
        self.lines.resize(lines(len), CacheLine::zeroed());
        self.len = len;
    }

    /// Bytes of memory held.
    pub(crate) fn bytes_held(&self) -> usize {
        self.lines.capacity() * size_of::<CacheLine>()
    }
}

impl<T: Pod> Deref for AlignedVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl<T: Pod> DerefMut for AlignedVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

impl<T> core::fmt::Debug for AlignedVec<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "AlignedVec({} numbers)", self.len)
    }
}

impl core::fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "AlignedBuffer({} floats)", self.lines.len() * 16)
    }
}
