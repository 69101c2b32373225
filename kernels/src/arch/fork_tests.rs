//! Calls in a forked child process, which has none of its parent's threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::matmul::tests::noise;
use crate::matmul::{Epilogue, Workspace, forward};
use crate::view::{MatMut, MatRef};
use crate::weights::{PackedWeights, PrepareOptions, Strategy};

const OUTPUTS: usize = 150;
const INPUTS: usize = 300;
const BATCH: usize = 70;

/// The bits of a product with enough work for several threads.
fn product(engine: Engine, weights: &[f32], x: &[f32]) -> Vec<u32> {
    let options = PrepareOptions::default().strategy(Strategy::Sparse);
    let weights = MatRef::row_major(weights, OUTPUTS, INPUTS).unwrap();
    let layer = PackedWeights::prepare(engine, weights, None, &options).unwrap();
    let x = MatRef::row_major(x, INPUTS, BATCH).unwrap();
    let mut y = vec![0.0; OUTPUTS * BATCH];
    let into = MatMut::row_major(&mut y, OUTPUTS, BATCH).unwrap();
    forward(engine, &layer, x, &Epilogue::default(), into, &mut Workspace::default()).unwrap();
    y.into_iter().map(f32::to_bits).collect()
}

/// Runs `work` in a forked child and returns its result; fails after a minute.
fn in_child(work: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child runs `work` on its only thread and ends with `_exit`, which runs no code of the parent. It takes only the
    // allocator's locks, which fork keeps usable, and this crate's, which are under test. A child that hangs is killed below.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork failed");
    if child == 0 {
        let right = catch_unwind(AssertUnwindSafe(work)).unwrap_or(false);
        // SAFETY: ends the process, and neither returns nor unwinds.
        unsafe { libc::_exit(if right { 0 } else { 1 }) };
    }
    let start = Instant::now();
    let mut status = 0;
    loop {
        // SAFETY: waits for the child made above; `status` is valid for writes.
        let ended = unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) };
        if ended == child {
            return libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
        }
        if start.elapsed() > Duration::from_secs(60) {
            // SAFETY: ends the child made above. It has not been waited for, so the process id is still its own.
            unsafe { libc::kill(child, libc::SIGKILL) };
            panic!("the child hangs");
        }
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_forked_child_computes_the_same() {
    let (weights, x) = (noise(OUTPUTS * INPUTS, 1), noise(INPUTS * BATCH, 2));
    let serial = Engine::serial();
    let expected = product(serial, &weights, &x);
    let check = |engine: Engine| product(engine, &weights, &x) == expected;
    let (two, three) = (serial.with_threads(2), serial.with_threads(3));
    assert!(check(two) && check(three));
    // Engines made before the fork, and engines made by the child.
    assert!(in_child(|| check(two) && check(three)));
    assert!(in_child(|| check(serial.with_threads(2)) && check(serial.with_threads(3)) && check(two)));
    // A number of threads that the parent has never started.
    assert!(in_child(|| check(serial.with_threads(7))));
    #[cfg(feature = "rayon")]
    {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let on_pool = serial.on_pool(&pool);
        assert!(check(on_pool));
        assert!(in_child(|| check(on_pool) && check(two)));
    }
    // The parent still works after its children have ended.
    assert!(check(two) && check(three));
}
