//! Lends a borrowed closure to threads that may outlive it.
//!
//! Threads that wait for work are `'static`, but the work borrows the caller's matrices. A counter with a closed flag (the door)
//! connects them. A thread that finds the door open is counted and calls the closure; [`lend`] closes the door, and returns when
//! all counted threads have left. It does not wait for threads that have not entered, so a busy or sleeping thread delays no
//! caller; if no helper enters, the caller does all of the work.

use core::any::Any;
use core::hint;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Set when the door is closed; the other bits count the threads inside.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// Number of checks for the last thread before the caller starts to yield its core between checks.
const LOOKS: u32 = 1 << 14;

struct Door {
    state: AtomicUsize,
    work: Work,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// A closure with an erased lifetime, which only [`lend`] knows.
struct Work(*const (dyn Fn() + Sync));

// SAFETY: it points to a `Sync` closure, which may be called from any thread for as long as it lives; `Door` sees to that.
unsafe impl Send for Work {}
// SAFETY: as above.
unsafe impl Sync for Work {}

/// An invitation for one thread to take part.
#[derive(Clone)]
pub(crate) struct Invitation(Arc<Door>);

impl Invitation {
    /// Calls the closure if the door is still open. A panic continues in the caller of [`lend`].
    pub(crate) fn accept(&self) {
        let door = &*self.0;
        let come_in = |state| (state & CLOSED == 0).then_some(state + 1);
        if door.state.fetch_update(Ordering::Acquire, Ordering::Relaxed, come_in).is_err() {
            return;
        }
        // SAFETY: this thread has been counted in at an open door, and `lend` keeps the closure alive until it is counted out below.
        let work = unsafe { &*door.work.0 };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
            door.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
        }
        door.state.fetch_sub(1, Ordering::Release);
    }

    /// Whether both are to the same closure.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Closes the door when dropped, and waits for all to leave.
struct Close<'a>(&'a Door);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_or(CLOSED, Ordering::Relaxed);
        let mut looks = 0;
        while self.0.state.load(Ordering::Acquire) != CLOSED {
            looks += 1;
            if looks < LOOKS {
                hint::spin_loop();
            } else {
                thread::yield_now();
            }
        }
    }
}

/// Calls `work` on this thread, while the threads that got an invitation through `offer` call it too. Returns when all that
/// entered have left; a panic of any of them continues here.
pub(crate) fn lend(work: &(dyn Fn() + Sync), offer: impl FnOnce(&Invitation)) {
    // SAFETY: only the lifetime changes. It is called by those counted in at the open door, and `Close` keeps this function, and
    // with it the borrow, from ending until all are counted out, after a panic too.
    let work_of_any_life =
        unsafe { core::mem::transmute::<&(dyn Fn() + Sync), &'static (dyn Fn() + Sync)>(work) };
    let door = Door { state: AtomicUsize::new(0), work: Work(work_of_any_life), panic: Mutex::new(None) };
    let invitation = Invitation(Arc::new(door));
    let close = Close(&invitation.0);
    offer(&invitation);
    work();
    drop(close);
    let panic = invitation.0.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(panic) = panic {
        resume_unwind(panic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_late_stays_outside() {
        let count = AtomicUsize::new(0);
        let mut late = None;
        let work = || {
            count.fetch_add(1, Ordering::Relaxed);
        };
        lend(&work, |invitation| {
            invitation.accept();
            late = Some(invitation.clone());
        });
        late.unwrap().accept();
        assert_eq!(count.into_inner(), 2);
    }

    #[test]
    fn the_caller_waits_for_all_who_came() {
        for _ in 0..50 {
            let (begun, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let mut threads = Vec::new();
            let work = || {
                begun.fetch_add(1, Ordering::Relaxed);
                thread::sleep(std::time::Duration::from_micros(200));
                ended.fetch_add(1, Ordering::Relaxed);
            };
            lend(&work, |invitation| {
                for _ in 0..3 {
                    let invitation = invitation.clone();
                    threads.push(thread::spawn(move || invitation.accept()));
                }
            });
            assert_eq!(begun.load(Ordering::Relaxed), ended.load(Ordering::Relaxed));
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        }
    }

    #[test]
    fn panics_come_home() {
        let here = catch_unwind(|| lend(&|| panic!("here"), |_| ()));
        assert_eq!(here.unwrap_err().downcast_ref(), Some(&"here"));
        let calls = AtomicUsize::new(0);
        let work = || assert!(calls.fetch_add(1, Ordering::Relaxed) > 0, "the first call fails");
        let there = catch_unwind(AssertUnwindSafe(|| lend(&work, Invitation::accept)));
        assert_eq!(there.unwrap_err().downcast_ref(), Some(&"the first call fails"));
        assert_eq!(calls.into_inner(), 2);
    }
}
