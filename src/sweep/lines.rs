//! An append-only file of lines, each of which is written completely or not at all.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::error::StoreError;
use crate::output::OutputError;

/// A file open for appending lines, locked against other writers.
#[derive(Debug)]
pub(super) struct LineFile {
    file: File,
    path: PathBuf,
    /// Bytes of whole lines.
    length: u64,
}

impl LineFile {
    /// Opens `path`, or creates it, and reads it. An incomplete last line stays until [`mend`](Self::mend), which must be called
    /// before the first [`append`](Self::append): the file may be one of another kind.
    ///
    /// # Errors
    /// When it cannot be written to or is locked by another writer.
    pub(super) fn open(path: &Path) -> Result<(Self, Vec<u8>), StoreError> {
        let unwritable = unwritable(path);
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(unwritable(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
        }
        let mut options = OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).open(path).map_err(unwritable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked(path.to_owned())),
            // File systems without locks exist on some clusters; there the user must avoid a second writer.
            Err(TryLockError::Error(source)) if source.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(source)) => return Err(unwritable(source)),
        }
        let mut text = Vec::new();
        file.rewind()
            .and_then(|()| file.read_to_end(&mut text))
            .map_err(|source| StoreError::Unreadable { path: path.to_owned(), source })?;
        let length = whole_lines(&text).len() as u64;
        Ok((Self { file, path: path.to_owned(), length }, text))
    }

    /// Removes an incomplete last line.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn mend(&mut self) -> Result<(), StoreError> {
        self.file
            .metadata()
            .and_then(|found| if found.len() > self.length { self.file.set_len(self.length) } else { Ok(()) })
            .map_err(unwritable(&self.path))
    }

    /// Appends `line`, which ends with a newline; when this returns it is on the disk.
    ///
    /// # Errors
    /// When the system refuses; the file is then as it was.
    pub(super) fn append(&mut self, line: &str) -> Result<(), StoreError> {
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            // Part of the line may have been written. If removing it fails too, the next opening removes it.
            let _ = self.file.set_len(self.length);
            return Err(StoreError::Write { file: self.path.clone(), source });
        }
        self.length += line.len() as u64;
        Ok(())
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// The error of opening `path` for writing.
pub(super) fn unwritable(path: &Path) -> impl Fn(io::Error) -> StoreError + Copy {
    move |source| OutputError::Unwritable { directory: path.to_owned(), source }.into()
}

/// `text` without an incomplete last line.
pub(super) fn whole_lines(text: &[u8]) -> &[u8] {
    &text[..text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1)]
}

/// The results of `parse` for each line of `text`; an error names the line of `file`.
pub(super) fn parse_lines<T>(
    file: &Path,
    text: &[u8],
    parse: impl Fn(&[u8]) -> Result<T, String>,
) -> Result<Vec<T>, StoreError> {
    let lines = text.split_inclusive(|&byte| byte == b'\n').zip(1..);
    lines
        .map(|(text, line)| {
            parse(text).map_err(|problem| StoreError::Line { file: file.to_owned(), line, problem })
        })
        .collect()
}
