//! Benchmarks that run at once take turns.

use std::cell::Cell;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

/// The right to measure, which one process at a time has among those that use the same directory.
///
/// Two benchmarks at once would disturb each other. Taking turns, one round of samples each, both see the machine in the same
/// state; the difference of their figures is then the uncertainty of the benchmark itself.
#[derive(Debug)]
pub struct Turns {
    /// Lock of the next process. Without it a process that releases the right and requests it again at once would overtake a
    /// waiting one.
    next: File,
    right: File,
    waited: Cell<bool>,
}

/// Held while measuring.
#[derive(Debug)]
pub struct Turn<'a>(&'a Turns);

impl Turns {
    /// Takes turns with all processes that use `directory`, which holds the locks. `None` if the system has no locks or the
    /// directory is not writable.
    pub fn new(directory: &Path) -> Option<Self> {
        let file = |name: &str| {
            let path = directory.join(format!("slth-bench.{name}"));
            let own = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
            // The file may belong to another user; only the lock is used.
            own.or_else(|_| File::open(&path)).ok()
        };
        let turns = Self { next: file("next")?, right: file("turn")?, waited: Cell::new(false) };
        turns.lock(&turns.next).ok()?;
        turns.next.unlock().ok()?;
        Some(turns)
    }

    /// Waits for the right. A holder must not request it again.
    ///
    /// # Errors
    /// When the system cannot lock.
    pub fn take(&self) -> io::Result<Turn<'_>> {
        self.lock(&self.next)?;
        let locked = self.lock(&self.right);
        self.next.unlock()?;
        locked.map(|()| Turn(self))
    }

    /// Whether another process was waited for.
    pub fn waited(&self) -> bool {
        self.waited.get()
    }

    fn lock(&self, file: &File) -> io::Result<()> {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                self.waited.set(true);
                file.lock()
            }
            Err(TryLockError::Error(error)) => Err(error),
            Ok(()) => Ok(()),
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // A lock that cannot be released ends with the process.
        let _ = self.0.right.unlock();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let Some(first) = Turns::new(&path) else { return eprintln!("no locks here") };
        let turn = first.take().unwrap();
        let (has, got) = channel();
        let second = thread::spawn(move || {
            let turns = Turns::new(&path).unwrap();
            drop(turns.take().unwrap());
            has.send(turns.waited()).unwrap();
        });
        assert!(got.recv_timeout(Duration::from_millis(50)).is_err(), "both have the turn");
        drop(turn);
        assert!(got.recv_timeout(Duration::from_secs(60)).unwrap());
        second.join().unwrap();
        assert!(!first.waited());
    }
}
