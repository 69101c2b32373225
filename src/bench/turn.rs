//! Benchmarks that run at once take turns.

use std::env::temp_dir;
use std::fs::{File, OpenOptions, TryLockError};

use crate::input;

/// The right to measure, which one of the processes that have the same directory for temporary files has at a time, until it is
/// dropped or the process ends.
///
/// Two benchmarks at once would measure each other. Taken for every case anew it lets them alternate case by case, so that
/// both meet the machine in the same state: how far their figures agree is then what the benchmark itself leaves uncertain.
#[derive(Debug)]
pub struct Turn {
    _right: File,
}

impl Turn {
    /// Waits for it, after `waiting` if another has it; of two, none gets it twice while the other waits. Who has it must
    /// not take it again. `None` where the system has no such locks, or no place for them.
    pub fn take(waiting: impl FnOnce()) -> Option<Self> {
        // Who gives the right back and asks again at once must not overtake who waits: that one holds the place of the next.
        let (next, right) = (file("next")?, file("turn")?);
        match next.try_lock() {
            Ok(()) => match right.try_lock() {
                Ok(()) => return Some(Self { _right: right }),
                Err(TryLockError::WouldBlock) => waiting(),
                Err(TryLockError::Error(_)) => return None,
            },
            Err(TryLockError::WouldBlock) => {
                waiting();
                next.lock().ok()?;
            }
            Err(TryLockError::Error(_)) => return None,
        }
        right.lock().ok()?;
        Some(Self { _right: right })
    }
}

/// An empty file, perhaps another user's, of which nothing but the lock counts.
fn file(name: &str) -> Option<File> {
    let path = temp_dir().join(format!("slth-bench.{name}"));
    let mine = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    mine.or_else(|_| input::open(&path)).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    #[test]
    fn one_at_a_time() {
        let Some(first) = Turn::take(|| ()) else { return eprintln!("no locks here") };
        let (waits, waiting) = channel();
        let (has, got) = channel();
        let second = thread::spawn(move || {
            let turn = Turn::take(|| waits.send(()).unwrap());
            has.send(turn.is_some()).unwrap();
        });
        waiting.recv().unwrap();
        assert!(got.try_recv().is_err(), "both have the turn");
        drop(first);
        assert!(got.recv().unwrap());
        second.join().unwrap();
    }
}
