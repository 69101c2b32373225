//! The machine's limits, measured beside the contestants.

use std::hint::black_box;
use std::sync::Arc;

use slth_kernels::roofline;

use crate::aligned::Aligned;
use crate::contestant::Contestant;
use crate::machinery::Machinery;
use crate::row::{Unit, Who};

/// The contestants that measure the limit `name` on one thread and on all. Each thread calls `run(thread, threads)`; `work(threads)`
/// is what all threads do together.
fn limit(
    machinery: &Machinery,
    name: &str,
    unit: Unit,
    work: impl Fn(usize) -> f64,
    run: impl Fn(usize, usize) + Clone + Send + Sync + 'static,
) -> Vec<Contestant> {
    let contestant = |threads: usize| {
        let run = run.clone();
        let on_all = move || {
            match threads {
                1 => run(0, 1),
                _ => drop(rayon::broadcast(|thread| run(thread.index(), threads))),
            }
            Ok(())
        };
        let who = Who::limit(name, machinery.best().backend(), threads);
        machinery.contestant(who, unit, work(threads), on_all)
    };
    machinery.one_and_all().map(contestant).collect()
}

/// Multiply-adds in registers. `flops`: operations per unit, 1 for [`Unit::Flop`].
pub(crate) fn multiply_adds(machinery: &Machinery, unit: Unit, flops: f64) -> Vec<Contestant> {
    // 0.4 to 2 ms.
    const ROUNDS: u64 = 200_000;
    let engine = machinery.best();
    let done = roofline::fma_peak(engine, 1) as f64 * ROUNDS as f64;
    let name = if unit == Unit::Flop { "FMA peak" } else { "dense arithmetic at FMA peak" };
    limit(
        machinery,
        name,
        unit,
        |threads| done * threads as f64 / flops,
        move |_, _| {
            roofline::fma_peak(engine, ROUNDS);
        },
    )
}

/// One pass over `data` by one thread, and by all threads, each on its part.
pub(crate) fn read(machinery: &Machinery, data: &Arc<Aligned>, unit: Unit, work: f64) -> Vec<Contestant> {
    let (engine, data) = (machinery.best(), data.clone());
    limit(
        machinery,
        "read",
        unit,
        |_| work,
        move |thread, threads| {
            let part = data.len() * thread / threads..data.len() * (thread + 1) / threads;
            black_box(roofline::read(engine, black_box(&data[part])));
        },
    )
}

/// Cycles of the clock.
pub(crate) fn clock(machinery: &Machinery) -> Contestant {
    const ROUNDS: u64 = 100_000;
    let who = Who::limit("clock", machinery.best().backend(), 1);
    let cycles = roofline::chain_of_cycles(1) as f64 * ROUNDS as f64;
    machinery.contestant(who, Unit::Cycle, cycles, || {
        roofline::chain_of_cycles(ROUNDS);
        Ok(())
    })
}
