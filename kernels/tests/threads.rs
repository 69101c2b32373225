//! A call never waits for other users of its threads.

#![cfg(feature = "rayon")]

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use slth_kernels::matmul::{Epilogue, Workspace, forward, weight_gradient};
use slth_kernels::optimizer::ScoreStep;
use slth_kernels::subset_sum::{Search, Subset};
use slth_kernels::top_k::{Order, Selector};
use slth_kernels::{Engine, MatMut, MatRef, PackedMask, PackedWeights, PrepareOptions, Strategy};

/// Fails if `work` takes more than a minute.
fn within_a_minute(work: impl FnOnce() + Send + 'static) {
    let (tell, told) = channel();
    let worker = thread::spawn(move || {
        work();
        tell.send(()).unwrap();
    });
    let result = told.recv_timeout(Duration::from_secs(60));
    if worker.is_finished() || result.is_ok() {
        // A panic in `work` fails the test.
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
    assert!(result.is_ok(), "a call hangs");
}

fn wave(len: usize, phase: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 37 + phase * 11) % 101) as f32 / 50.0 - 1.0).collect()
}

/// The results of many kernels, each with enough work for several threads.
fn all_kernels(engine: Engine) -> Vec<u32> {
    let (outputs, inputs, batch) = (150, 300, 70);
    let (w, x, dy) = (wave(outputs * inputs, 1), wave(inputs * batch, 2), wave(outputs * batch, 3));
    let weights = MatRef::row_major(&w, outputs, inputs).unwrap();
    let x = MatRef::row_major(&x, inputs, batch).unwrap();
    let dy = MatRef::row_major(&dy, outputs, batch).unwrap();
    let space = &mut Workspace::default();
    let mut bits = Vec::new();
    let mut take = |values: &[f32]| bits.extend(values.iter().map(|x| x.to_bits()));
    for strategy in [Strategy::Sparse, Strategy::Dense, Strategy::Bitmask] {
        let options = PrepareOptions::default().strategy(strategy);
        let mask = PackedMask::from_fn(w.len(), |i| i % 5 != 0);
        let layer = PackedWeights::prepare(engine, weights, Some(&mask), &options).unwrap();
        let mut y = vec![0.0; outputs * batch];
        let into = MatMut::row_major(&mut y, outputs, batch).unwrap();
        forward(engine, &layer, x, &Epilogue::default(), into, space).unwrap();
        take(&y);
    }
    let mut dw = vec![0.0; outputs * inputs];
    weight_gradient(engine, dy, x, None, MatMut::row_major(&mut dw, outputs, inputs).unwrap(), space)
        .unwrap();
    take(&dw);
    let (mut velocity, mut scores) = (wave(200_000, 4), wave(200_000, 5));
    let step = ScoreStep { learning_rate: 0.1, momentum: 0.9, weight_decay: 1e-4 };
    step.apply(engine, &wave(200_000, 6), &wave(200_000, 7), &mut velocity, &mut scores).unwrap();
    take(&scores);
    let mut mask = PackedMask::none_kept(scores.len());
    Selector::default().keep_largest(engine, &scores, 70_000, Order::Magnitude, &mut mask).unwrap();
    let mut found = [Subset::default(); 16];
    Search::default().nearest_each(engine, &wave(16 * 16, 8), 16, &wave(16, 9), &mut found).unwrap();
    bits.extend(mask.words().iter().flat_map(|&word| [word as u32, (word >> 32) as u32]));
    bits.extend(found.iter().map(|subset| subset.bits as u32));
    bits
}

/// All threads of the pool run jobs that wait until calls on the same pool have returned.
#[test]
fn a_pool_that_is_blocked_delays_no_call() {
    within_a_minute(|| {
        let expected = all_kernels(Engine::serial());
        for threads in [1, 2, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let blocked = Arc::new(Barrier::new(threads + 1));
            let mut ends = Vec::new();
            for _ in 0..threads {
                let (end, ended) = channel::<()>();
                let blocked = Arc::clone(&blocked);
                pool.spawn(move || {
                    blocked.wait();
                    ended.recv().unwrap();
                });
                ends.push(end);
            }
            blocked.wait();
            let engine = Engine::serial().on_pool(&pool);
            assert_eq!(engine.threads(), threads);
            assert!(all_kernels(engine) == expected);
            ends.iter().for_each(|end| end.send(()).unwrap());
            // The pool works again, also for calls from inside.
            assert!(all_kernels(engine) == expected);
            assert!(pool.install(|| all_kernels(engine)) == expected);
        }
    });
}

/// A and B use the same engine. B waits, on every thread it can get, for a message that A sends after its calls.
fn one_waits_for_the_other(engine: Engine, expected: &[u32]) {
    let (send, receive) = channel();
    let receive: Mutex<Receiver<()>> = Mutex::new(receive);
    let begun = Barrier::new(2);
    let items = 2 * engine.threads();
    thread::scope(|scope| {
        scope.spawn(|| {
            engine.for_each(0..items, |item| {
                if item == 0 {
                    begun.wait();
                }
                receive.lock().unwrap().recv().unwrap();
            });
        });
        scope.spawn(|| {
            begun.wait();
            for _ in 0..3 {
                assert!(all_kernels(engine) == expected);
            }
            (0..items).for_each(|_| send.send(()).unwrap());
        });
    });
}

#[test]
fn two_threads_that_wait_for_each_other_end() {
    within_a_minute(|| {
        let expected = all_kernels(Engine::serial());
        for threads in [1, 2, 3] {
            one_waits_for_the_other(Engine::serial().with_threads(threads), &expected);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            one_waits_for_the_other(Engine::serial().on_pool(&pool), &expected);
        }
    });
}

/// Calls from within another call's items, all on the same threads.
#[test]
fn calls_may_be_nested() {
    within_a_minute(|| {
        let expected = all_kernels(Engine::serial());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        for engine in [Engine::serial().with_threads(2), Engine::serial().on_pool(&pool)] {
            engine.for_each(0..4, |_| assert!(all_kernels(engine) == expected));
        }
    });
}

/// Concurrent callers share the same threads, and each gets its own result.
#[test]
fn many_callers_share_an_engine() {
    within_a_minute(|| {
        let expected = all_kernels(Engine::serial());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        for engine in [Engine::serial().with_threads(3), Engine::serial().on_pool(&pool)] {
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| (0..3).for_each(|_| assert!(all_kernels(engine) == expected)));
                }
            });
        }
    });
}
