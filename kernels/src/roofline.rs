//! The machine's limits, for comparison with measured kernels: the rates of multiply-adds, of reads, of additions and minima, and
//! the clock.
//!
//! Each function does a known amount of work on the calling thread; the caller measures the time.

use crate::engine::Engine;
use crate::simd::{Kernel, Simd};

/// Runs `rounds` rounds of independent fused multiply-adds that never leave the registers, and returns how many
/// floating-point operations these were (two per multiply-add and lane). Their number over their time is
/// the peak of one core.
///
/// ```
/// use slth_kernels::{Engine, roofline};
/// let engine = Engine::detect()?;
/// let start = std::time::Instant::now();
/// let flops = roofline::fma_peak(engine, 100_000);
/// println!("{:.1} GFLOP/s", flops as f64 / start.elapsed().as_secs_f64() / 1e9);
/// # Ok::<(), slth_kernels::KernelError>(())
/// ```
pub fn fma_peak(engine: Engine, rounds: u64) -> u64 {
    engine.backend().run(FmaPeak { rounds })
}

/// Reads all of `data` and returns the exclusive or of the bit patterns. Its time gives the rate at which memory, or the cache
/// that `data` lies in, can be read.
///
/// ```
/// use slth_kernels::{Engine, roofline};
/// let engine = Engine::detect()?;
/// assert_eq!(roofline::read(engine, &[1.0; 100]), 0);
/// assert_eq!(roofline::read(engine, &[1.0; 99]), 1.0_f32.to_bits());
/// # Ok::<(), slth_kernels::KernelError>(())
/// ```
pub fn read(engine: Engine, data: &[f32]) -> u32 {
    engine.backend().run(Read { data })
}

/// Runs `rounds` rounds of independent integer additions and minima that never leave the registers, and returns how many pairs of
/// both these were, one per lane. No brute-force search computes sums at a higher rate.
///
/// ```
/// use slth_kernels::{Engine, roofline};
/// assert!(roofline::add_min_work(Engine::detect()?, 10) > 0);
/// # Ok::<(), slth_kernels::KernelError>(())
/// ```
pub fn add_min_work(engine: Engine, rounds: u64) -> u64 {
    engine.backend().run(AddMin { rounds })
}

/// Runs `rounds` rounds of a chain of integer operations, each of which needs the result before. Returns how many cycles the
/// chain takes on a CPU that shifts and combines in one cycle each, as x86-64 CPUs do. Its time gives the clock.
///
/// ```
/// assert_eq!(slth_kernels::roofline::chain_of_cycles(10), 60);
/// ```
pub fn chain_of_cycles(rounds: u64) -> u64 {
    let mut x = core::hint::black_box(1_u64);
    for _ in 0..rounds {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    core::hint::black_box(x);
    6 * rounds
}

struct Read<'a> {
    data: &'a [f32],
}

impl Kernel for Read<'_> {
    type Out = u32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> u32 {
        const STREAMS: usize = 8;
        let data: &[i32] = bytemuck::cast_slice(self.data);
        let mut all = [s.splat_i32(0); STREAMS];
        let mut pieces = data.chunks_exact(STREAMS * S::LANES);
        for piece in &mut pieces {
            for (all, piece) in all.iter_mut().zip(piece.chunks_exact(S::LANES)) {
                *all = s.xor_i32(*all, s.load_i32(piece));
            }
        }
        let lanes: &[i32] = bytemuck::cast_slice(&all);
        lanes.iter().chain(pieces.remainder()).fold(0, |xor, x| xor ^ x) as u32
    }
}

struct AddMin {
    rounds: u64,
}

impl Kernel for AddMin {
    type Out = u64;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> u64 {
        let term = s.splat_i32(core::hint::black_box(3));
        let mut sums = [s.splat_i32(core::hint::black_box(1)); CHAINS / 2];
        let mut least = [s.splat_i32(core::hint::black_box(2)); CHAINS / 2];
        for _ in 0..self.rounds {
            for (sum, least) in sums.iter_mut().zip(&mut least) {
                *sum = s.add_i32(*sum, term);
                *least = s.min_i32(*least, *sum);
            }
        }
        core::hint::black_box((sums, least));
        self.rounds * (CHAINS / 2 * S::LANES) as u64
    }
}

struct FmaPeak {
    rounds: u64,
}

/// Enough independent chains to hide the latency of a multiply-add (4 cycles, 2 per cycle) and few enough for 16
/// registers.
const CHAINS: usize = 12;

impl Kernel for FmaPeak {
    type Out = u64;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> u64 {
        let factor = s.splat(core::hint::black_box(0.999_9));
        let term = s.splat(core::hint::black_box(1e-4));
        let mut chains = [s.splat(core::hint::black_box(1.0)); CHAINS];
        for _ in 0..self.rounds {
            for chain in &mut chains {
                *chain = s.mul_add(*chain, factor, term);
            }
        }
        core::hint::black_box(chains);
        self.rounds * (CHAINS * S::LANES * 2) as u64
    }
}
