//! Input files.

use std::error::Error as StdError;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use thiserror::Error;

/// Why a file cannot be used. The message names the file.
#[derive(Debug, Error)]
#[error("{file}: {problem}")]
pub struct FileError<P: StdError> {
    /// The file.
    pub file: String,
    /// What is wrong.
    pub problem: P,
}

impl<P: StdError> FileError<P> {
    /// The same as another room's error.
    pub fn convert<Q: StdError + From<P>>(self) -> FileError<Q> {
        FileError { file: self.file, problem: self.problem.into() }
    }
}

/// Opens `path` if it is a regular file: reading a pipe could block, and a device may have no end.
///
/// # Errors
/// When it is not a regular file, does not exist, or may not be read.
pub fn open(path: &Path) -> io::Result<File> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    File::open(path)
}

/// All of such a file.
///
/// # Errors
/// As [`open`].
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The numbers of a table in CSV, each as row, column, number: rows begin with a number, columns are headed by one. NaN is none.
pub fn table(csv: &str) -> Vec<[f64; 3]> {
    let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(csv.as_bytes());
    let numbers = |record: &csv::StringRecord| {
        record.iter().map(|text| text.parse().unwrap_or(f64::NAN)).collect::<Vec<f64>>()
    };
    let columns = reader.headers().map(numbers).unwrap_or_default();
    let rows = reader.records().map_while(Result::ok).map(|record| numbers(&record));
    rows.flat_map(|row| (1..row.len()).map(|i| [row[0], columns[i], row[i]]).collect::<Vec<_>>()).collect()
}

/// The result of `parse` for such a file.
///
/// # Errors
/// As [`open`], and those of `parse`.
pub fn parse<T, P: StdError + From<io::Error>>(
    path: &Path,
    parse: impl FnOnce(&[u8]) -> Result<T, P>,
) -> Result<T, FileError<P>> {
    let parsed = read(path).map_err(P::from).and_then(|bytes| parse(&bytes));
    parsed.map_err(|problem| FileError { file: path.display().to_string(), problem })
}
