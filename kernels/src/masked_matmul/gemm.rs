//! Dense × dense: C = A · B with A `[M, K]`, B `[K, N]`, C `[M, N]`, each row-major or the transpose of that.
//!
//! The classic scheme (Goto and van de Geijn 2008, "Anatomy of High-Performance Matrix Multiplication"): A is packed
//! into strips of MR rows, B into panels of NR columns, both cut into blocks of [`DEPTH`] along K; a tile of MR × NR sums
//! stays in registers while one strip meets one panel. Lanes run over columns of C; each sum is one chain of
//! multiply-adds in ascending k. Between blocks of K the sums rest in C, which changes no bit.
//!
//! Cost: M · N · K multiply-adds; packing reads A and B once and is 1/N and 1/M of that.

use super::epilogue::Epilogue;
use super::rows::{copy_padded, load_row, store_row};
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

/// Most depth of a block along K. A panel of B (K × 16 or 32 columns) then takes 20–40 KiB, a strip of A 8–30 KiB. Deeper
/// blocks load and store C less often: at 512×784×500 (AVX-512, Zen 4) 128 → 0.73, 192 → 0.81, 256 → 0.82, 320 → 0.85 of
/// FMA peak.
const DEPTH: usize = 320;

/// The depth of the blocks along K, all about the same: a short last one would cost as much in loads and stores of C.
fn block_depth(k: usize) -> usize {
    k.div_ceil(k.div_ceil(DEPTH))
}

/// Rows of A that meet all of B before the next: with [`DEPTH`] they take 150 KiB of L2.
const ROWS: usize = 120;

/// Rows and vectors of the register tile: 12 of 16 registers for AVX2, 24 of 32 for AVX-512, 16 of 32 for NEON.
const fn tile(lanes: usize) -> (usize, usize) {
    match lanes {
        16 => (24, 1),
        4 => (8, 2),
        _ => (6, 2),
    }
}

/// Floats of scratch memory for packed A and packed B on any backend.
pub(crate) fn packed_len(m: usize, n: usize, k: usize) -> usize {
    // An empty product may have any other sizes: no slice vouches for them.
    if m == 0 || n == 0 || k == 0 {
        return 0;
    }
    packed_a_len(m, k).saturating_add(k.saturating_mul(n.saturating_add(64)))
}

/// Floats for packed A; rounded up so that packed B begins on a vector boundary.
fn packed_a_len(m: usize, k: usize) -> usize {
    k.saturating_mul(m.saturating_add(32)).next_multiple_of(16)
}

/// Computes C; `packed` has [`packed_len`] floats on a 64-byte boundary.
pub(crate) fn multiply(
    engine: Engine,
    a: Matrix<'_>,
    b: Matrix<'_>,
    epilogue: Epilogue<'_>,
    c: &mut [f32],
    packed: &mut [f32],
) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!((k, c.len()), (b.rows, m * n));
    if m == 0 || n == 0 || k == 0 {
        c.fill(0.0);
        return;
    }
    let (packed_a, packed_b) = packed.split_at_mut(packed_a_len(m, k));
    engine.backend().run(Pack { matrix: a.transpose(), side: Side::Strips, packed: packed_a });
    engine.backend().run(Pack { matrix: b, side: Side::Panels, packed: packed_b });
    let (packed_a, packed_b) = (&*packed_a, &*packed_b);
    let rows = match engine.threads() {
        1 => m,
        // A multiple of every strip height, so that tasks begin at a strip.
        threads => m.div_ceil(threads * 4).next_multiple_of(24),
    };
    engine.for_each_chunk(c, rows.max(1) * n, |index, c| {
        engine.backend().run(Multiply { packed_a, packed_b, m, n, k, epilogue, first_row: index * rows, c });
    });
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    /// A: groups as wide as the tile is high.
    Strips,
    /// B: groups as wide as the tile.
    Panels,
}

impl Side {
    #[inline(always)]
    fn width<S: Simd>(self) -> usize {
        let (rows, vectors) = tile(S::LANES);
        if self == Side::Strips { rows } else { vectors * S::LANES }
    }
}

/// A matrix `[K, width]` → blocks of K, in each of them groups `[depth][group width]`, padded with zeros.
struct Pack<'a> {
    matrix: Matrix<'a>,
    side: Side,
    packed: &'a mut [f32],
}

impl Kernel for Pack<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.side.width::<S>();
        let Matrix { data, rows: k, columns, transposed } = self.matrix;
        let padded = columns.next_multiple_of(width);
        let block_depth = block_depth(k);
        for (block, first_k) in (0..k).step_by(block_depth).enumerate() {
            let depth = block_depth.min(k - first_k);
            let packed = &mut self.packed[block * block_depth * padded..][..depth * padded];
            for (group, packed) in packed.chunks_exact_mut(depth * width).enumerate() {
                let first = group * width;
                let present = width.min(columns - first);
                if transposed {
                    pack_across(s, &data[first * k + first_k..], k, present, width, packed);
                } else {
                    pack_along(s, &data[first_k * columns + first..], columns, present, width, packed);
                }
            }
        }
    }
}

/// Packs a group whose rows are contiguous in memory, `stride` apart: `packed[i * width + j] = data[i * stride + j]` for
/// the `present` columns, 0 for the others.
#[inline(always)]
fn pack_along<S: Simd>(s: S, data: &[f32], stride: usize, present: usize, width: usize, packed: &mut [f32]) {
    for i in 0..packed.len() / width {
        let from = &data[i * stride..];
        let to = &mut packed[i * width..];
        if present == width && width < S::LANES && from.len().min(to.len()) >= S::LANES {
            // What is stored past a narrow row is overwritten by the next one.
            s.store(s.load(from), to);
        } else {
            copy_padded(s, &from[..present], &mut to[..width]);
        }
    }
}

/// Packs a group whose columns are contiguous in memory, `stride` apart: `packed[i * width + j] = data[j * stride + i]`
/// for the `present` columns, 0 for the others.
#[inline(always)]
fn pack_across<S: Simd>(s: S, data: &[f32], stride: usize, present: usize, width: usize, packed: &mut [f32]) {
    let depth = packed.len() / width;
    let mut tile = [0.0; 32 * 32];
    let mut first_row = 0;
    // Whole tiles, where the matrix has enough columns to read them, even if fewer belong to this group.
    while first_row + S::LANES <= depth
        && (present.next_multiple_of(S::LANES) - 1) * stride + depth <= data.len()
    {
        // What is stored past a row is overwritten by the next one, or by the columns before, which come after.
        let direct = present == width
            && width >= S::LANES
            && (first_row + S::LANES) * width + S::LANES <= packed.len();
        for j in (0..present).step_by(S::LANES).rev() {
            let from = &data[j * stride + first_row..];
            if direct {
                s.transpose(from, stride, &mut packed[first_row * width + j..], width);
                continue;
            }
            s.transpose(from, stride, &mut tile, S::LANES);
            for (i, row) in tile.chunks_exact(S::LANES).take(S::LANES).enumerate() {
                let row = s.load(row);
                let to = &mut packed[(first_row + i) * width + j..];
                if width - j >= S::LANES || width < S::LANES && to.len() >= S::LANES {
                    // What is stored past a narrow row is overwritten by the next one.
                    s.store(row, to);
                } else {
                    s.store_partial(row, &mut to[..(width - j).min(S::LANES)]);
                }
            }
        }
        first_row += S::LANES;
    }
    for (i, row) in packed.chunks_exact_mut(width).enumerate() {
        for j in if i < first_row { 0..0 } else { 0..present } {
            row[j] = data[j * stride + i];
        }
        row[present..].fill(0.0);
    }
}

struct Multiply<'a> {
    packed_a: &'a [f32],
    packed_b: &'a [f32],
    m: usize,
    n: usize,
    k: usize,
    epilogue: Epilogue<'a>,
    /// A multiple of the tile's height.
    first_row: usize,
    /// The rows of C from `first_row` on.
    c: &'a mut [f32],
}

impl Kernel for Multiply<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match tile(S::LANES) {
            (24, 1) => self.tiles::<S, 24, 1>(s),
            (8, 2) => self.tiles::<S, 8, 2>(s),
            _ => self.tiles::<S, 6, 2>(s),
        }
    }
}

impl Multiply<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const MR: usize, const VECTORS: usize>(mut self, s: S) {
        let width = VECTORS * S::LANES;
        let rows = self.c.len() / self.n;
        let (padded_m, padded_n) = (self.m.next_multiple_of(MR), self.n.next_multiple_of(width));
        let block_depth = block_depth(self.k);
        for (block, first_k) in (0..self.k).step_by(block_depth).enumerate() {
            let depth = block_depth.min(self.k - first_k);
            let strips = &self.packed_a[block * block_depth * padded_m..][..depth * padded_m];
            let panels = &self.packed_b[block * block_depth * padded_n..][..depth * padded_n];
            for first_row in (0..rows).step_by(ROWS) {
                let last_row = rows.min(first_row + ROWS);
                for (panel, column) in panels.chunks_exact(depth * width).zip((0..self.n).step_by(width)) {
                    for row in (first_row..last_row).step_by(MR) {
                        let strip = &strips[(self.first_row + row) * depth..][..MR * depth];
                        if row + MR <= rows && column + width <= self.n {
                            self.tile::<S, MR, VECTORS, true>(s, strip, panel, row, column, block == 0);
                        } else {
                            self.tile::<S, MR, VECTORS, false>(s, strip, panel, row, column, block == 0);
                        }
                    }
                }
            }
        }
        for (row, c) in self.c.chunks_exact_mut(self.n).enumerate() {
            self.epilogue.apply(s, c, (self.first_row + row) * self.n);
        }
    }

    /// One tile of C: all of it in registers over the block's depth. `FULL` when no part of it is past C's edges; `begin`
    /// when its sums begin here.
    #[inline(always)]
    fn tile<S: Simd, const MR: usize, const VECTORS: usize, const FULL: bool>(
        &mut self,
        s: S,
        strip: &[f32],
        panel: &[f32],
        row: usize,
        column: usize,
        begin: bool,
    ) {
        let width = VECTORS * S::LANES;
        let columns = if FULL { width } else { width.min(self.n - column) };
        let mut sums = [[s.splat(0.0); VECTORS]; MR];
        let c = &mut self.c[row * self.n + column..];
        if !begin {
            for i in 0..MR {
                if FULL || i * self.n < c.len() {
                    load_row::<S, VECTORS, FULL>(s, &c[i * self.n..][..columns], &mut sums[i]);
                }
            }
        }
        let (strip, _) = strip.as_chunks::<MR>();
        let panel: &[[S::F32; VECTORS]] = bytemuck::cast_slice(panel);
        for (a, b) in strip.iter().zip(panel) {
            for i in 0..MR {
                let a = s.splat(a[i]);
                for v in 0..VECTORS {
                    sums[i][v] = s.mul_add(a, b[v], sums[i][v]);
                }
            }
        }
        for i in 0..MR {
            if FULL || i * self.n < c.len() {
                store_row::<S, VECTORS, FULL>(s, &sums[i], &mut c[i * self.n..][..columns]);
            }
        }
    }
}
