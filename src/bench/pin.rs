//! Keeping a thread on one core.

/// Pins the calling thread, and threads it starts from now on, to the last of the cores it may use: the first one has the
/// interrupts on most machines. Returns which; `None` where the system has no such thing.
pub fn pin() -> Option<usize> {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
        let allowed = sched_getaffinity(None).ok()?;
        let core = (0..CpuSet::MAX_CPU).rev().find(|&core| allowed.is_set(core))?;
        let mut only = CpuSet::new();
        only.set(core);
        sched_setaffinity(None, &only).ok()?;
        Some(core)
    }
    #[cfg(not(target_os = "linux"))]
    None
}
