//! What the machine can do at most: the yardsticks of the benchmarks.

use crate::engine::Engine;
use crate::simd::{Kernel, Simd};

/// Runs `rounds` rounds of independent fused multiply-adds that never leave the registers, and returns how many
/// floating-point operations that was (two per multiply-add and lane). Time it to get the machine's peak.
///
/// ```
/// use slth_kernels::{Engine, limits};
/// let engine = Engine::detect()?;
/// let start = std::time::Instant::now();
/// let flops = limits::fma_peak_work(engine, 100_000);
/// println!("{:.1} GFLOP/s", flops as f64 / start.elapsed().as_secs_f64() / 1e9);
/// # Ok::<(), slth_kernels::BackendError>(())
/// ```
pub fn fma_peak_work(engine: Engine, rounds: u64) -> u64 {
    engine.backend().run(FmaPeak { rounds })
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
