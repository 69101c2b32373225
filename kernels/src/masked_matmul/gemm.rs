//! Dense × dense: C = A · B with A `[M, K]`, B `[K, N]`, C `[M, N]`, each row-major or the transpose of that.
//!
//! The classic scheme (Goto and van de Geijn 2008, "Anatomy of High-Performance Matrix Multiplication"), but for A, which
//! is read where it lies: B is packed into panels of a few vectors' columns, cut into blocks along K; a tile of
//! [`MR`] rows × a panel's columns of sums stays in registers while the rows of A meet the panel. Lanes run over columns
//! of C; each sum is one chain of multiply-adds in ascending k. Between blocks of K the sums rest in C, which changes no
//! bit. An A that comes transposed is transposed first.
//!
//! Cost: M · N · K multiply-adds; packing reads B once and is 1/M of that, transposing A 1/N.

use super::epilogue::Epilogue;
use super::rows::{copy_padded, load_row, store_row};
use crate::aligned::AlignedBuffer;
use crate::engine::Engine;
use crate::simd::{Kernel, Simd};

/// A matrix in memory, row-major, or the transpose of such a one.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    transposed: bool,
}

impl<'a> Matrix<'a> {
    /// `data` is `[rows, columns]`, row-major.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns);
        Self { data, rows, columns, transposed: false }
    }

    pub(crate) fn transpose(self) -> Self {
        Self { rows: self.columns, columns: self.rows, transposed: !self.transposed, ..self }
    }
}

/// Most depth of a block along K: a panel of B then takes 32 (AVX2) or 130 KiB (AVX-512), which the machine streams from
/// L2 fast enough; deeper blocks load and store C less often. Fraction of FMA peak at 512×784×500 / 1024³ (AVX-512,
/// Zen 4), by the depth that comes of it: 98 → 0.89 / 0.86, 131 → 0.88 / 0.89, 262 → 0.92 / 0.92, 392 → 0.95 / 0.95 (341),
/// 512 → 0.95 at 1024³, all of K → 0.94 / 0.95. On Sapphire Rapids 256, 341 and 512 are alike at 1024³ (best 0.80 to 0.84).
const DEPTH: usize = 520;

/// The depth of the blocks along K, all about the same: a short last one would cost as much in loads and stores of C.
fn block_depth(k: usize) -> usize {
    k.div_ceil(k.div_ceil(DEPTH))
}

/// Most rows of a task, a multiple of [`MR`]: it takes all of B before the next does.
const ROWS: usize = 120;

/// Numbers of B that pay for another thread to pack them.
const LEAST_PACKED: usize = 8 * 1024;

/// Rows of the register tile: with four vectors of columns, 24 sums of 32 registers; with two, 12 of AVX2's 16.
const MR: usize = 6;

/// Vectors of columns of the register tile.
const fn vectors(lanes: usize) -> usize {
    if lanes == 8 { 2 } else { 4 }
}

/// Floats from row to row of an A that was transposed: rows begin on vector boundaries, and not all in the same sets of
/// the caches.
fn row_stride(k: usize) -> usize {
    (k + 16).next_multiple_of(32) - 16
}

/// Computes C.
pub(crate) fn multiply(
    engine: Engine,
    a: Matrix<'_>,
    b: Matrix<'_>,
    epilogue: Epilogue<'_>,
    c: &mut [f32],
    scratch: &mut AlignedBuffer,
) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!((k, c.len()), (b.rows, m * n));
    if m == 0 || n == 0 || k == 0 {
        c.fill(0.0);
        return;
    }
    let lanes = engine.backend().run(Lanes);
    let padded_n = n.next_multiple_of(lanes);
    let stride = if a.transposed { row_stride(k) } else { 0 };
    let (rows, packed_b) = scratch.get(m * stride + k * padded_n).split_at_mut(m * stride);
    let a = if a.transposed {
        engine.for_each_chunk(rows, 32 * stride, |index, rows| {
            engine.backend().run(Transpose { a, first_row: index * 32, rows, stride });
        });
        Rows { data: rows, stride }
    } else {
        Rows { data: a.data, stride: k }
    };
    let depth = block_depth(k);
    let columns = match engine.threads() {
        1 => padded_n,
        threads => {
            padded_n.div_ceil(threads).max(LEAST_PACKED / depth).next_multiple_of(vectors(lanes) * lanes)
        }
    };
    engine.for_each_chunk(packed_b, depth * padded_n, |block, packed| {
        let (first_k, depth) = (block * depth, packed.len() / padded_n);
        engine.for_each_chunk(packed, depth * columns, |part, packed| {
            engine.backend().run(Pack { b, first_k, depth, first_column: part * columns, packed });
        });
    });
    let packed_b = &*packed_b;
    let rows = match engine.threads() {
        1 => ROWS,
        threads => m.div_ceil(threads * 8).next_multiple_of(MR).min(ROWS),
    };
    engine.for_each_chunk(c, rows * n, |index, c| {
        engine.backend().run(Multiply { a, packed_b, n, k, epilogue, first_row: index * rows, c });
    });
}

struct Lanes;

impl Kernel for Lanes {
    type Out = usize;
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) -> usize {
        S::LANES
    }
}

/// A, row-major, its rows `stride` apart.
#[derive(Clone, Copy)]
struct Rows<'a> {
    data: &'a [f32],
    stride: usize,
}

/// Rows of a transposed A from `first_row` on, laid out `stride` apart.
struct Transpose<'a> {
    a: Matrix<'a>,
    first_row: usize,
    rows: &'a mut [f32],
    stride: usize,
}

impl Kernel for Transpose<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { a, first_row, rows, stride } = self;
        pack_across(s, &a.data[first_row..], a.rows, a.columns, stride, rows);
    }
}

/// Columns of the block of K from `first_k` on of a matrix `[K, N]`: panels `[depth][width]`, the last one as wide as it needs
/// to be in whole vectors, padded with zeros.
struct Pack<'a> {
    b: Matrix<'a>,
    first_k: usize,
    depth: usize,
    /// Where a panel begins.
    first_column: usize,
    packed: &'a mut [f32],
}

impl Kernel for Pack<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { b, first_k, depth, first_column, packed } = self;
        let Matrix { data, rows: k, columns, transposed } = b;
        let panel = vectors(S::LANES) * S::LANES;
        for (first, packed) in (first_column..columns).step_by(panel).zip(packed.chunks_mut(depth * panel)) {
            let width = packed.len() / depth;
            let present = width.min(columns - first);
            if transposed {
                pack_across(s, &data[first * k + first_k..], k, present, width, packed);
            } else {
                for (from, to) in
                    data[first_k * columns + first..].chunks(columns).zip(packed.chunks_exact_mut(width))
                {
                    copy_padded(s, &from[..present], to);
                }
            }
        }
    }
}

/// `packed[i * width + j] = data[j * stride + i]` for the `present` j, 0 for the others up to `width`.
#[inline(always)]
fn pack_across<S: Simd>(s: S, data: &[f32], stride: usize, present: usize, width: usize, packed: &mut [f32]) {
    let rows = packed.len() / width;
    let whole = (rows / S::LANES * S::LANES, present / S::LANES * S::LANES);
    for i in (0..whole.0).step_by(S::LANES) {
        for j in (0..whole.1).step_by(S::LANES) {
            s.transpose(&data[j * stride + i..], stride, &mut packed[i * width + j..], width);
        }
    }
    for (i, row) in packed.chunks_exact_mut(width).enumerate() {
        for j in if i < whole.0 { whole.1 } else { 0 }..present {
            row[j] = data[j * stride + i];
        }
        row[present..].fill(0.0);
    }
}

/// Some rows of C.
struct Multiply<'a> {
    a: Rows<'a>,
    packed_b: &'a [f32],
    n: usize,
    k: usize,
    epilogue: Epilogue<'a>,
    first_row: usize,
    /// The rows of C from `first_row` on.
    c: &'a mut [f32],
}

impl Kernel for Multiply<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { a, packed_b, n, k, epilogue, first_row, c } = self;
        let padded_n = n.next_multiple_of(S::LANES);
        let panel = vectors(S::LANES) * S::LANES;
        let block_depth = block_depth(k);
        for first_k in (0..k).step_by(block_depth) {
            let depth = block_depth.min(k - first_k);
            let a = Rows { data: &a.data[first_row * a.stride + first_k..], ..a };
            let begin = first_k == 0;
            let panels = &packed_b[first_k * padded_n..][..depth * padded_n];
            for (panel, column) in panels.chunks(depth * panel).zip((0..n).step_by(panel)) {
                let c = &mut c[column..];
                match panel.len() / (depth * S::LANES) {
                    1 => s.apart(Panel::<1> { a, panel, depth, begin, n, column, c }),
                    2 => s.apart(Panel::<2> { a, panel, depth, begin, n, column, c }),
                    3 => s.apart(Panel::<3> { a, panel, depth, begin, n, column, c }),
                    _ => s.apart(Panel::<4> { a, panel, depth, begin, n, column, c }),
                }
            }
        }
        for (row, c) in c.chunks_exact_mut(n).enumerate() {
            epilogue.apply(s, c, (first_row + row) * n);
        }
    }
}

/// The product of rows of A with a panel of B, over a block's depth.
struct Panel<'a, const VECTORS: usize> {
    /// From the first row and the block's first k on.
    a: Rows<'a>,
    /// `[depth][VECTORS × lanes]`
    panel: &'a [f32],
    depth: usize,
    /// Whether the sums begin with this block.
    begin: bool,
    n: usize,
    /// The panel's first column.
    column: usize,
    /// C from the first row and the panel's first column on.
    c: &'a mut [f32],
}

impl<const VECTORS: usize> Kernel for Panel<'_, VECTORS> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let rows = self.c.len().div_ceil(self.n);
        let whole = if self.column + VECTORS * S::LANES <= self.n { rows / MR * MR } else { 0 };
        for row in (0..whole).step_by(MR) {
            self.tile::<S, true>(s, row, MR);
        }
        for row in (whole..rows).step_by(MR) {
            self.tile::<S, false>(s, row, MR.min(rows - row));
        }
    }
}

impl<const VECTORS: usize> Panel<'_, VECTORS> {
    /// One tile of C: all of it in registers over the depth. `FULL` when no part of it is past C's edges.
    #[inline(always)]
    fn tile<S: Simd, const FULL: bool>(&mut self, s: S, row: usize, rows: usize) {
        let Self { a, panel, depth, begin, n, column, .. } = *self;
        let columns = (VECTORS * S::LANES).min(n - column);
        let panel: &[[S::F32; VECTORS]] = bytemuck::cast_slice(panel);
        let panel = &panel[..depth];
        // Rows past the edge are the last one again, and come to nothing.
        let a: [&[f32]; MR] =
            core::array::from_fn(|i| &a.data[(row + i.min(rows - 1)) * a.stride..][..depth]);
        let mut sums = [[s.splat(0.0); VECTORS]; MR];
        let c = &mut self.c[row * n..];
        if !begin {
            for i in 0..MR {
                if FULL || i < rows {
                    load_row::<S, VECTORS, FULL>(s, &c[i * n..][..columns], &mut sums[i]);
                }
            }
        }
        for k in 0..depth {
            for i in 0..MR {
                let a = s.splat(a[i][k]);
                for v in 0..VECTORS {
                    sums[i][v] = s.mul_add(a, panel[k][v], sums[i][v]);
                }
            }
        }
        for i in 0..MR {
            if FULL || i < rows {
                store_row::<S, VECTORS, FULL>(s, &sums[i], &mut c[i * n..][..columns]);
            }
        }
    }
}
