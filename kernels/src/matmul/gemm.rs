//! Dense × dense: C = A · B with A `[M, K]`, B `[K, N]`, C `[M, N]`, in any layout.
//!
//! After Goto and van de Geijn 2008, "Anatomy of High-Performance Matrix Multiplication", except that A is read in place. B is
//! packed into panels of a few vectors' columns, cut into blocks along K. A tile of sums, MR rows × a panel's columns, stays in
//! registers while the rows of A are multiplied with the panel. Lanes run over columns of C; each sum is one chain of
//! multiply-adds in ascending k. Between blocks of K the sums are stored in C, which changes no bit. If the rows of A are not
//! contiguous, A is packed first. If those of C are not, C is computed in scratch memory, band by band.
//!
//! Cost: M · N · K multiply-adds; packing reads B once and is 1/M of that, packing A 1/N.

use super::call::Store;
use crate::aligned::AlignedBuffer;
use crate::engine::Engine;
use crate::epilogue::Finish;
use crate::panel::{self, Block, load_row, store_row};
use crate::simd::{Kernel, Simd, array_of};
use crate::tiles::MR;
use crate::view::{MatMut, MatRef};

/// Maximum depth of a block along K. A panel of B then takes 32 (AVX2) or 130 KiB (AVX-512), which can be streamed from L2;
/// deeper blocks load and store C less often. Measurements: docs/tuning.md, "Dense products".
const KC: usize = 520;

/// The depth of the blocks along K, all about the same: a short last one would cost as much in loads and stores of C.
fn block_depth(k: usize) -> usize {
    k.div_ceil(k.div_ceil(KC))
}

/// Maximum number of rows of a share of the work, a multiple of [`MR`]: each share reads all of B.
const MC: usize = 120;

/// Least number of elements of B that a thread packs.
const LEAST_PACKED: usize = 8 * 1024;

/// Row stride of a packed A, in floats: rows begin on vector boundaries, and in different sets of the caches.
fn row_stride(k: usize) -> usize {
    (k + 16).next_multiple_of(32) - 16
}

/// Where C is written, and how.
pub(super) struct Output<'a> {
    pub(super) c: MatMut<'a>,
    /// Whether the sums start from the old values of C.
    pub(super) accumulate: bool,
    pub(super) finish: Finish<'a>,
}

/// Computes C; none of M, N and K is 0.
pub(super) fn multiply(
    engine: Engine,
    a: MatRef<'_>,
    b: MatRef<'_>,
    output: Output<'_>,
    scratch: &mut AlignedBuffer,
) {
    let Output { c, accumulate, finish } = output;
    let (m, n, k) = (a.rows(), b.cols(), a.cols());
    let engine = engine.for_work(m.saturating_mul(n).saturating_mul(k) / 16);
    let PanelSizes { lanes, panel } = engine.backend().run(FindSizes);
    let padded_n = n.next_multiple_of(lanes);
    let stride = if a.has_runs() { 0 } else { row_stride(k) };
    let staged = if c.has_runs() { 0 } else { m * n };
    let (rows, rest) = scratch.get(m * stride + k * padded_n + staged).split_at_mut(m * stride);
    let (packed_b, rows_of_c) = rest.split_at_mut(k * padded_n);
    let a = if stride > 0 {
        engine.for_each_chunk(rows, 32 * stride, |index, rows| {
            let block = Block { row: index * 32, rows: rows.len() / stride, col: 0, cols: k };
            engine.backend().run(PackRows { from: a, block, rows, stride });
        });
        MatRef::new(rows, m, k, stride, 1).expect("rows of that stride")
    } else {
        a
    };
    let depth = block_depth(k);
    let columns = match engine.threads() {
        1 => padded_n,
        threads => padded_n.div_ceil(threads).max(LEAST_PACKED / depth).next_multiple_of(panel),
    };
    // Blocks of K, and parts of their columns.
    let parts = packed_b.chunks_mut(depth * padded_n).enumerate().flat_map(|(block, packed)| {
        let depth_here = packed.len() / padded_n;
        let parts = packed.chunks_mut(depth_here * columns).enumerate();
        parts.map(move |(part, packed)| PackB {
            b,
            first_k: block * depth,
            depth: depth_here,
            first_column: part * columns,
            packed,
        })
    });
    engine.for_each(parts, |pack| engine.backend().run(pack));
    let packed_b = &*packed_b;
    let share = match engine.threads() {
        1 => MC,
        threads => m.div_ceil(threads * 8).next_multiple_of(MR).min(MC),
    };
    let product = |first_row, c: MatMut<'_>, finish: Finish<'_>| {
        engine.backend().run(MultiplyDense { a, packed_b, accumulate, finish, first_row, c });
    };
    let bands = (0..).step_by(share).zip(c.bands(share));
    if staged == 0 {
        engine.for_each(bands, |(first_row, c)| product(first_row, c, finish));
        return;
    }
    engine.for_each(bands.zip(rows_of_c.chunks_mut(share * n)), |((first_row, c), rows)| {
        let block = Block { row: 0, rows: c.rows(), col: 0, cols: n };
        if accumulate {
            engine.backend().run(GatherC { from: c.as_ref(), block, to: &mut *rows });
        }
        let staged = MatMut::row_major(&mut *rows, c.rows(), n).expect("as many elements");
        product(first_row, staged, Finish::NONE);
        engine.backend().run(Store { sums: rows, width: n, y: c, block, first_row, finish });
    });
}

/// Sizes that depend on the backend: lanes of a vector, and columns of a panel.
struct PanelSizes {
    lanes: usize,
    panel: usize,
}

struct FindSizes;

impl Kernel for FindSizes {
    type Out = PanelSizes;
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) -> PanelSizes {
        PanelSizes { lanes: S::LANES, panel: S::TILES.nr_vectors * S::LANES }
    }
}

struct GatherC<'a> {
    from: MatRef<'a>,
    block: Block,
    to: &'a mut [f32],
}

impl Kernel for GatherC<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        panel::pack(s, self.from, self.block, self.to, self.block.cols);
    }
}

/// Rows of A, `stride` apart.
struct PackRows<'a> {
    from: MatRef<'a>,
    block: Block,
    rows: &'a mut [f32],
    stride: usize,
}

impl Kernel for PackRows<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        panel::pack(s, self.from, self.block, self.rows, self.stride);
    }
}

/// Columns of the block of K from `first_k` on: panels `[depth][width]`, the last one as wide as it needs to be in whole vectors,
/// padded with zeros.
struct PackB<'a> {
    b: MatRef<'a>,
    first_k: usize,
    depth: usize,
    /// Where a panel begins.
    first_column: usize,
    packed: &'a mut [f32],
}

impl Kernel for PackB<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { b, first_k, depth, first_column, packed } = self;
        let panel = S::TILES.nr_vectors * S::LANES;
        let panels = packed.chunks_mut(depth * panel);
        for (first, packed) in (first_column..b.cols()).step_by(panel).zip(panels) {
            let width = packed.len() / depth;
            let cols = width.min(b.cols() - first);
            panel::pack(s, b, Block { row: first_k, rows: depth, col: first, cols }, packed, width);
        }
    }
}

/// Some rows of C.
struct MultiplyDense<'a> {
    /// All of A; its rows are contiguous.
    a: MatRef<'a>,
    packed_b: &'a [f32],
    accumulate: bool,
    finish: Finish<'a>,
    first_row: usize,
    /// The rows of C from `first_row` on; they are contiguous.
    c: MatMut<'a>,
}

impl Kernel for MultiplyDense<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { a, packed_b, accumulate, finish, first_row, mut c } = self;
        let (n, k) = (c.cols(), a.cols());
        let padded_n = n.next_multiple_of(S::LANES);
        let width = S::TILES.nr_vectors * S::LANES;
        let block_depth = block_depth(k);
        for first_k in (0..k).step_by(block_depth) {
            let depth = block_depth.min(k - first_k);
            let begin = first_k == 0 && !accumulate;
            let panels = &packed_b[first_k * padded_n..][..depth * padded_n];
            for (panel, column) in panels.chunks(depth * width).zip((0..n).step_by(width)) {
                let vectors = panel.len() / (depth * S::LANES);
                let panel = Panel { a, first_row, first_k, panel, depth, begin, column, c: c.reborrow() };
                match vectors {
                    1 => s.outlined(PanelInstance::<1>(panel)),
                    2 => s.outlined(PanelInstance::<2>(panel)),
                    3 => s.outlined(PanelInstance::<3>(panel)),
                    _ => s.outlined(PanelInstance::<4>(panel)),
                }
            }
        }
        if !finish.is_none() {
            for row in 0..c.rows() {
                finish.apply(s, c.run(row, 0, n), first_row + row, 0);
            }
        }
    }
}

/// The product of rows of A with a panel of B, over a block's depth.
struct Panel<'a> {
    a: MatRef<'a>,
    first_row: usize,
    first_k: usize,
    /// `[depth][VECTORS × lanes]`
    panel: &'a [f32],
    depth: usize,
    /// Whether this block is the first one: sums start from 0 or from C.
    begin: bool,
    /// The panel's first column.
    column: usize,
    c: MatMut<'a>,
}

/// A panel of `VECTORS` vectors.
struct PanelInstance<'a, const VECTORS: usize>(Panel<'a>);

impl<const VECTORS: usize> Kernel for PanelInstance<'_, VECTORS> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (rows, n) = (self.0.c.rows(), self.0.c.cols());
        let whole = if self.0.column + VECTORS * S::LANES <= n { rows / MR * MR } else { 0 };
        for row in (0..whole).step_by(MR) {
            self.tile::<S, true>(s, row, MR);
        }
        for row in (whole..rows).step_by(MR) {
            self.tile::<S, false>(s, row, MR.min(rows - row));
        }
    }
}

impl<const VECTORS: usize> PanelInstance<'_, VECTORS> {
    /// One tile of C, in registers over the whole depth. `FULL`: no part of it is past C's edges.
    #[inline(always)]
    fn tile<S: Simd, const FULL: bool>(&mut self, s: S, row: usize, rows: usize) {
        let Panel { a, first_row, first_k, panel, depth, begin, column, .. } = self.0;
        let c = &mut self.0.c;
        let columns = (VECTORS * S::LANES).min(c.cols() - column);
        let panel: &[[S::F32; VECTORS]] = bytemuck::cast_slice(panel);
        let panel = &panel[..depth];
        // Rows past the edge repeat the last one, and their sums are discarded.
        let a: [&[f32]; MR] = array_of(&[][..], |i| a.run(first_row + row + i.min(rows - 1), first_k, depth));
        let mut sums = [[s.splat(0.0); VECTORS]; MR];
        if !begin {
            for (i, sums) in sums.iter_mut().enumerate() {
                if FULL || i < rows {
                    load_row::<S, VECTORS, FULL>(s, c.run(row + i, column, columns), sums);
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
        for (i, sums) in sums.iter().enumerate() {
            if FULL || i < rows {
                store_row::<S, VECTORS, FULL>(s, sums, c.run(row + i, column, columns));
            }
        }
    }
}
