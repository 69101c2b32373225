//! The crate's own threads. They help callers; without work they spin for a while, and then sleep.
//!
//! Kernels of one training step follow each other within microseconds. A thread that sleeps between them takes tens of
//! microseconds to wake up, mainly on virtual machines, which is about the time of a kernel. Figures: docs/tuning.md, "Threads".

use core::fmt;
use core::hint;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::arch::lend::{Invitation, lend};

/// How long a thread without work spins before it sleeps.
const SPIN: Duration = Duration::from_millis(1);

/// Spins between two reads of the clock.
const LOOKS: usize = 64;

/// The threads beside the calling one, of one process.
pub(crate) struct Team {
    threads: usize,
    process: u32,
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Number of jobs queued so far, which spinning threads poll.
    posted: AtomicUsize,
    /// The next team of the list.
    next: OnceLock<&'static Team>,
}

/// The list of all teams, which are never freed; a process needs few. Searching the list takes no lock: another thread could hold
/// it while the process forks, and in the child it would never be unlocked.
static FIRST: OnceLock<&'static Team> = OnceLock::new();

#[derive(Default)]
struct Queue {
    invitations: VecDeque<Invitation>,
    asleep: usize,
}

/// Number of cores that this process may use; read once.
pub(crate) fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| thread::available_parallelism().map_or(1, usize::from))
}

/// The most threads of a team. Tests split work in more parts than the machine has cores.
pub(crate) fn most_threads() -> usize {
    if cfg!(test) { 16 } else { cores() }
}

impl Team {
    /// The team of this many threads, including the calling one; made if this process has none.
    pub(crate) fn of(threads: usize) -> &'static Team {
        let process = std::process::id();
        let mut made = None;
        let mut end = &FIRST;
        loop {
            match end.get() {
                Some(team) if team.threads == threads && team.process == process => return team,
                Some(team) => end = &team.next,
                None => {
                    let team: &'static Team = made.get_or_insert_with(|| Self::new(threads, process));
                    // Another thread was faster; continue with its team.
                    if end.set(team).is_ok() {
                        team.start();
                        return team;
                    }
                }
            }
        }
    }

    fn new(threads: usize, process: u32) -> &'static Team {
        Box::leak(Box::new(Team {
            threads,
            process,
            queue: Mutex::default(),
            wake: Condvar::new(),
            posted: AtomicUsize::new(0),
            next: OnceLock::new(),
        }))
    }

    fn start(&'static self) {
        for number in 1..self.threads {
            // If the system refuses a thread, the others or the caller do its work.
            let _ = thread::Builder::new().name(format!("slth-{number}")).spawn(move || self.serve());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `work` here and on up to `others` of the team's threads.
    pub(crate) fn help(&'static self, others: usize, work: &(dyn Fn() + Sync)) {
        if self.process != std::process::id() {
            // A forked child: its parent's threads are not here.
            return Team::of(self.threads).help(others, work);
        }
        let mut invited = None;
        lend(work, |invitation| {
            let mut queue = self.lock();
            queue.invitations.extend((0..others).map(|_| invitation.clone()));
            self.posted.fetch_add(1, Ordering::Release);
            let asleep = queue.asleep;
            drop(queue);
            for _ in 0..others.min(asleep) {
                self.wake.notify_one();
            }
            invited = Some(invitation.clone());
        });
        // Removes the invitations that no thread took.
        self.lock().invitations.retain(|left| !invited.as_ref().is_some_and(|invited| invited.is(left)));
    }

    /// The loop of each thread.
    fn serve(&self) {
        let mut queue = self.lock();
        loop {
            if let Some(invitation) = queue.invitations.pop_front() {
                drop(queue);
                invitation.accept();
                queue = self.lock();
                continue;
            }
            let posted = self.posted.load(Ordering::Relaxed);
            drop(queue);
            let spun = self.spin(posted);
            queue = self.lock();
            if !spun && queue.invitations.is_empty() {
                queue.asleep += 1;
                queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
                queue.asleep -= 1;
            }
        }
    }

    /// Waits until something is posted; tells whether it was.
    fn spin(&self, posted: usize) -> bool {
        let start = Instant::now();
        while start.elapsed() < SPIN {
            for _ in 0..LOOKS {
                if self.posted.load(Ordering::Relaxed) != posted {
                    return true;
                }
                hint::spin_loop();
            }
            // Another thread may need the core.
            thread::yield_now();
        }
        false
    }
}

impl fmt::Debug for Team {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Team({} threads)", self.threads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn teams_are_shared_and_serve_many_callers() {
        assert!(core::ptr::eq(Team::of(2), Team::of(2)));
        let count = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let left = AtomicUsize::new(50);
                        let take = |left: usize| left.checked_sub(1);
                        Team::of(3).help(2, &|| {
                            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                                count.fetch_add(1, Ordering::Relaxed);
                            }
                        });
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 4 * 200 * 50);
        assert!(Team::of(3).lock().invitations.is_empty());
    }

    /// Calls also work after the helpers have gone to sleep.
    #[test]
    fn callers_after_a_pause_are_served() {
        for pause in [0, 1, 5] {
            thread::sleep(Duration::from_millis(pause));
            let count = AtomicUsize::new(0);
            let work = || {
                count.fetch_add(1, Ordering::Relaxed);
            };
            Team::of(2).help(1, &work);
            assert!((1..=2).contains(&count.into_inner()));
        }
    }
}
