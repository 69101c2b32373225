//! Directories for results, and files that are written whole or not at all.

use std::fs::{self, File, TryLockError};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tempfile::{Builder, NamedTempFile};
use thiserror::Error;

/// Held while results are written.
static WRITING: Mutex<()> = Mutex::new(());

/// Waits until no results are being written, and blocks writing until the guard is dropped. For a signal handler that is about to
/// end the process: results are then complete or absent, and no temporary file remains.
pub fn between_writes() -> MutexGuard<'static, ()> {
    WRITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why results cannot be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OutputError {
    /// The directory already has results: this file.
    #[error("{}: exists already; replace it by --force, or choose another --out", .0.display())]
    Exists(PathBuf),
    /// Another process has locked this directory.
    #[error("{}: another process will write there; wait for it or choose another directory", .0.display())]
    Locked(PathBuf),
    /// A directory has the name of a result.
    #[error("{}: is a directory; remove it or choose another directory", .0.display())]
    InTheWay(PathBuf),
    /// The directory cannot be created or written to.
    #[error("{}: cannot write there: {source}", directory.display())]
    Unwritable {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Writing a file failed after the directory was checked.
    #[error("{}: cannot write: {source}", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl OutputError {
    /// Whether the choice of the directory is at fault, rather than a later failure.
    pub fn is_bad_input(&self) -> bool {
        !matches!(self, Self::Write { .. })
    }
}

impl From<OutputError> for crate::Error {
    fn from(error: OutputError) -> Self {
        if error.is_bad_input() { Self::input(error) } else { Self::failed(error) }
    }
}

/// A directory that was found writable and free of results, or may be overwritten; locked against other processes that
/// want to write results there.
#[derive(Clone, Debug)]
pub struct OutputDirectory {
    path: PathBuf,
    /// The directory, open and locked, where the system can do that.
    _lock: Option<Arc<File>>,
}

impl OutputDirectory {
    /// Creates the directory if it is missing and tries to write to it. With `force`, results in it may be replaced. `names` are
    /// the files that will be written, in order. Call this before the work starts.
    ///
    /// # Errors
    /// When it cannot be written to, another process holds it or, without `force`, it holds a file of these names.
    pub fn prepare(
        path: impl Into<PathBuf>,
        names: &[impl AsRef<Path>],
        force: bool,
    ) -> Result<Self, OutputError> {
        let path = path.into();
        let unwritable = |source| OutputError::Unwritable { directory: path.clone(), source };
        fs::create_dir_all(&path).map_err(unwritable)?;
        // Locks before looking: otherwise results that another process still writes would be overwritten.
        let lock = File::open(&path).ok();
        if let Some(Err(TryLockError::WouldBlock)) = lock.as_ref().map(File::try_lock) {
            return Err(OutputError::Locked(path));
        }
        // The last one, which marks a complete result, is reported first.
        for name in names.iter().rev() {
            let file = path.join(name);
            match file.symlink_metadata() {
                Ok(found) if found.is_dir() => return Err(OutputError::InTheWay(file)),
                Ok(_) if !force => return Err(OutputError::Exists(file)),
                _ => {}
            }
        }
        temporary(&path).map_err(unwritable)?;
        Ok(Self { path, _lock: lock.map(Arc::new) })
    }

    /// A file without a name in this directory, for a result too large for memory. It disappears when the process ends in any
    /// way.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn spool(&self) -> Result<File, OutputError> {
        tempfile::tempfile_in(&self.path).map_err(|source| self.unwritten(source))
    }

    /// The error of writing to such a file.
    pub(crate) fn unwritten(&self, source: io::Error) -> OutputError {
        OutputError::Write { file: self.path.clone(), source }
    }

    /// Writes `files`, as (name, content), one after the other; the last marks a complete result.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn write(&self, files: &[(impl AsRef<Path>, impl Content)]) -> Result<(), OutputError> {
        let Some((last, _)) = files.last() else { return Ok(()) };
        let _writing = between_writes();
        let last = self.path.join(last);
        // All new files are on the disk before the first old one is removed, so on a full disk the old ones stay.
        let staged = files.iter().map(|(name, content)| Staged::write(self.path.join(name), content));
        let staged = staged.collect::<Result<Vec<_>, _>>()?;
        // An old result must never exist beside new files.
        match fs::remove_file(&last) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(OutputError::Write { file: last, source });
            }
            _ => {}
        }
        staged.into_iter().try_for_each(Staged::rename)
    }
}

/// The content of a file.
pub trait Content {
    /// Writes it.
    ///
    /// # Errors
    /// When the system refuses.
    fn write(&self, file: &mut File) -> io::Result<()>;
}

impl Content for Vec<u8> {
    fn write(&self, file: &mut File) -> io::Result<()> {
        file.write_all(self)
    }
}

/// The content of an open file, such as one of [`OutputDirectory::spool`].
impl Content for File {
    fn write(&self, file: &mut File) -> io::Result<()> {
        let mut from = self;
        from.rewind()?;
        io::copy(&mut from, file).map(drop)
    }
}

/// A file's name and content.
pub type NamedContent = (String, Box<dyn Content>);

impl Content for Box<dyn Content> {
    fn write(&self, file: &mut File) -> io::Result<()> {
        (**self).write(file)
    }
}

/// A file under a temporary name beside its own, removed on drop.
struct Staged {
    written: NamedTempFile,
    file: PathBuf,
}

impl Staged {
    fn write(file: PathBuf, content: &impl Content) -> Result<Self, OutputError> {
        let write = || {
            let mut written = temporary(file.parent().unwrap_or(Path::new(".")))?;
            content.write(written.as_file_mut())?;
            written.as_file().sync_all()?;
            Ok(written)
        };
        match write() {
            Ok(written) => Ok(Self { written, file }),
            Err(source) => Err(OutputError::Write { file, source }),
        }
    }

    fn rename(self) -> Result<(), OutputError> {
        let Self { written, file } = self;
        match written.persist(&file) {
            Ok(_) => Ok(()),
            Err(error) => Err(OutputError::Write { file, source: error.error }),
        }
    }
}

/// Writes `bytes` to a temporary file beside `file` and renames it: readers see the old file or the new one, whole.
///
/// # Errors
/// When the system refuses; the old file is then as it was.
pub fn write_atomically(file: &Path, bytes: &[u8]) -> Result<(), OutputError> {
    Staged::write(file.to_owned(), &bytes.to_vec())?.rename()
}

/// Writes each of the `files`, as (name, content), into `directory`, which is made where it is missing. Returns their paths.
pub(crate) fn write_all(directory: &Path, files: &[(String, Vec<u8>)]) -> Result<Vec<PathBuf>, OutputError> {
    let unwritable = |source| OutputError::Unwritable { directory: directory.to_owned(), source };
    fs::create_dir_all(directory).map_err(unwritable)?;
    let write = |(name, bytes): &(String, Vec<u8>)| {
        let _writing = between_writes();
        let file = directory.join(name);
        write_atomically(&file, bytes).map(|()| file)
    };
    files.iter().map(write).collect()
}

/// `value` as indented JSON.
pub(crate) fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("no map with keys other than strings") + "\n"
}

/// A temporary file in `directory`, with the permissions any new file gets rather than the private ones of its kind.
fn temporary(directory: &Path) -> io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    builder.prefix(".slth-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(directory)
}
