//! Threads of a rayon pool that do not fall asleep between kernels.
//!
//! One that finds nothing to do sleeps after some thirty looks, ten microseconds or so. Until it is up again takes tens of
//! microseconds on a virtual machine, about what many kernels take, and a step of training has dozens of places where threads
//! meet. On two threads of a Xeon eight pruning steps (784-500-500-10, s = 0.5, AVX-512) took 16.5 ms instead of 22.3, with this and with
//! the packing of dense products shared.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rayon::Yield;

/// So long a thread looks for work without a pause.
const PATIENCE: Duration = Duration::from_millis(1);

/// The pauses after that.
const NAP: Duration = Duration::from_micros(50);

/// So long the others may take to come.
const GATHERING: Duration = Duration::from_millis(10);

/// Sets it when dropped, after a panic too.
struct Set<'a>(&'a AtomicBool);

impl Drop for Set<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Does jobs of the pool until `done`, or until for long there were none. Tells whether it is done.
fn help_until(done: &AtomicBool) -> bool {
    let mut idle: Option<Instant> = None;
    while !done.load(Ordering::Acquire) {
        if rayon::yield_now() == Some(Yield::Executed) {
            idle = None;
        } else if idle.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
            return false;
        } else {
            // Another thread may need the core.
            thread::yield_now();
        }
    }
    true
}

/// [`rayon::join`], but who is ready first stays awake until the other is.
pub(crate) fn join(a: impl FnOnce() + Send, b: impl FnOnce() + Send) {
    let (begun, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let first = || {
        a();
        // What nobody has begun is rayon's to run, with less of the stack.
        if begun.load(Ordering::Acquire) {
            help_until(&done);
        }
    };
    let second = || {
        let _set = Set(&done);
        begun.store(true, Ordering::Release);
        b();
    };
    rayon::join(first, second);
}

/// Calls `work` while all other threads of the pool stay awake.
///
/// Each of them is kept by a job, below which on its stack there must be nothing that `work` needs: so `work` begins when all
/// have come, and who comes later is sent away.
pub(crate) fn during<T>(work: impl FnOnce() -> T) -> T {
    const CLOSED: usize = 1 << (usize::BITS - 1);
    let (come, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let own = rayon::current_thread_index();
    let others = rayon::current_num_threads() - usize::from(own.is_some());
    rayon::in_place_scope(|scope| {
        scope.spawn_broadcast(|_, context| {
            if own == Some(context.index()) || come.fetch_add(1, Ordering::AcqRel) >= CLOSED {
                return;
            }
            while !help_until(&done) {
                while !done.load(Ordering::Acquire) && rayon::yield_now() != Some(Yield::Executed) {
                    thread::sleep(NAP);
                }
            }
        });
        let _set = Set(&done);
        let start = Instant::now();
        while come.load(Ordering::Acquire) < others && start.elapsed() < GATHERING {
            thread::yield_now();
        }
        come.fetch_or(CLOSED, Ordering::AcqRel);
        work()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    /// Joins of joins, and a while in which there is nothing to do.
    fn meet(depth: usize, count: &AtomicUsize) {
        if depth == 0 {
            count.fetch_add(1, Ordering::Relaxed);
        } else {
            join(|| meet(depth - 1, count), || meet(depth - 1, count));
        }
    }

    #[test]
    fn all_is_done_once() {
        for threads in [1, 2, 3, 7] {
            let count = AtomicUsize::new(0);
            let work = || {
                for pause in [0, 1, 5] {
                    meet(6, &count);
                    thread::sleep(Duration::from_millis(pause));
                }
                count.load(Ordering::Relaxed)
            };
            assert_eq!(pool(threads).install(|| during(work)), 3 * 64);
            assert_eq!(pool(threads).install(|| during(|| during(work))), 6 * 64, "one within another");
        }
    }

    #[test]
    fn from_outside_a_pool() {
        let count = AtomicUsize::new(0);
        during(|| meet(6, &count));
        assert_eq!(count.into_inner(), 64);
    }

    #[test]
    fn a_panic_lets_the_threads_go() {
        let pool = pool(3);
        let fails = || -> () { panic!("on purpose") };
        let caught =
            |work: &(dyn Fn() + Sync)| catch_unwind(AssertUnwindSafe(|| pool.install(work))).is_err();
        assert!(caught(&|| during(fails)));
        assert!(caught(&|| join(fails, || ())));
        assert!(caught(&|| join(|| (), fails)));
        let count = AtomicUsize::new(0);
        pool.install(|| during(|| meet(6, &count)));
        assert_eq!(count.into_inner(), 64);
    }

    #[test]
    fn again_and_again_on_threads_that_just_fell_asleep() {
        let (pool, count) = (pool(3), AtomicUsize::new(0));
        for _ in 0..500 {
            pool.install(|| during(|| meet(3, &count)));
        }
        assert_eq!(count.into_inner(), 500 * 8);
    }

    #[test]
    fn two_at_once() {
        let (pool, count) = (pool(2), AtomicUsize::new(0));
        let work = || during(|| meet(6, &count));
        for _ in 0..20 {
            pool.install(|| rayon::join(work, work));
            thread::scope(|scope| {
                scope.spawn(|| pool.install(work));
                pool.install(work);
            });
        }
        assert_eq!(count.into_inner(), 20 * 4 * 64);
    }

    /// All but one thread being busy, nothing is taken off it: each of many joins nests in the one before.
    #[test]
    fn deep_joins_fit_on_the_stack() {
        fn chain(length: usize, count: &AtomicUsize) {
            if length > 0 {
                count.fetch_add(1, Ordering::Relaxed);
                join(|| (), || chain(length - 1, count));
            }
        }
        let (pool, count, over) = (pool(2), AtomicUsize::new(0), AtomicBool::new(false));
        let wait = || {
            while !over.load(Ordering::Acquire) {
                thread::yield_now();
            }
        };
        let run = || {
            let _over = Set(&over);
            chain(1024, &count);
        };
        pool.install(|| rayon::join(wait, run));
        assert_eq!(count.into_inner(), 1024);
    }
}
