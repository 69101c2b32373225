//! Keeping threads on cores.

/// Pins the calling thread, and threads it starts from now on, to the last of the cores it may use: the first one has the
/// interrupts on most machines. Returns which; `None` where the system has no such thing.
pub fn pin() -> Option<usize> {
    pin_to(|cores| cores.last().copied())
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
