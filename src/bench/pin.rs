//! Keeping threads on cores.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use slth_kernels::Engine;

/// Pins the calling thread, and threads it starts from now on, to the last of the cores it may use: the first one has the
/// interrupts on most machines. Returns which; `None` where the system has no such thing.
pub fn pin() -> Option<usize> {
    pin_to(|cores| cores.last().copied())
}

/// Pins the threads that help the calling one in what `engine` does, each to a core of its own, the first ones; where there are
/// too few cores, none.
pub(super) fn pin_helpers(engine: Engine) {
    const PATIENCE: Duration = Duration::from_secs(1);
    let (threads, caller) = (engine.threads(), thread::current().id());
    if thread::available_parallelism().map_or(1, usize::from) < threads {
        return;
    }
    let (arrived, helpers) = (AtomicUsize::new(0), AtomicUsize::new(0));
    engine.for_each(0..threads, |_| {
        if thread::current().id() != caller {
            let own = helpers.fetch_add(1, Ordering::Relaxed);
            pin_to(|cores| cores.get(own).copied());
        }
        arrived.fetch_add(1, Ordering::Relaxed);
        // A thread that took a second item would leave another without one. The system may have refused a thread.
        let start = Instant::now();
        while arrived.load(Ordering::Relaxed) < threads && start.elapsed() < PATIENCE {
            thread::yield_now();
        }
    });
}

/// Pins the calling thread to one of the cores it may use.
pub(super) fn pin_to(choose: impl Fn(&[usize]) -> Option<usize>) -> Option<usize> {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
        let allowed = sched_getaffinity(None).ok()?;
        let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).collect();
        let core = choose(&cores)?;
        let mut only = CpuSet::new();
        only.set(core);
        sched_setaffinity(None, &only).ok()?;
        Some(core)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = choose;
        None
    }
}
