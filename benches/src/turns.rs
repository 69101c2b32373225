//! Benchmarks that run at once take turns.

use std::cell::Cell;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

/// The right to measure, which one of the processes that use the same directory has at a time.
///
/// Two benchmarks at once would measure each other. A round of samples each in turns, both meet the machine in the same state: how
/// far their figures agree is then what the benchmark itself leaves uncertain.
#[derive(Debug)]
pub struct Turns {
    /// The place of the one who is next: without it, who gives the right back and asks again at once would overtake who waits.
    next: File,
    right: File,
    waited: Cell<bool>,
}

/// Held while measuring.
#[derive(Debug)]
pub struct Turn<'a>(&'a Turns);

impl Turns {
    /// With all processes that use `directory`, where the locks are made. `None` where the system has no locks or no place.
    pub fn new(directory: &Path) -> Option<Self> {
        let file = |name: &str| {
            let path = directory.join(format!("slth-bench.{name}"));
            let own = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
            // Perhaps another user's, of which nothing but the lock counts.
            own.or_else(|_| File::open(&path)).ok()
        };
        let turns = Self { next: file("next")?, right: file("turn")?, waited: Cell::new(false) };
        turns.lock(&turns.next).ok()?;
        turns.next.unlock().ok()?;
        Some(turns)
    }

    /// Waits for the right. Who has it must not take it again.
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
        // A lock that cannot be given back ends with the process.
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
