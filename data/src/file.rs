//! A data file, unzipped.

use std::io::{Cursor, ErrorKind, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::{DatasetError, DatasetProblem, MAX_UNZIPPED};

/// The first bytes of every gzipped file, and of no other supported file.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A data file. Gzipped content is unzipped, whatever the file's name. Sizes in headers are not trusted: memory grows as bytes
/// are read.
pub struct DataFile<'a> {
    name: String,
    reader: Box<dyn Read + 'a>,
    zipped: bool,
}

impl<'a> DataFile<'a> {
    /// A file of plain or gzipped bytes, called `name` in errors.
    pub fn new(name: String, mut reader: impl Read + 'a) -> Self {
        let mut head = Vec::new();
        // The bytes before the error are kept, and the next read returns the error again.
        let _ = reader.by_ref().take(GZIP.len() as u64).read_to_end(&mut head);
        let zipped = head == GZIP;
        let whole = Cursor::new(head).chain(reader);
        if zipped {
            Self::unzipped(name, MultiGzDecoder::new(whole))
        } else {
            Self { name, reader: Box::new(whole), zipped }
        }
    }

    /// Decoded bytes of a zipped file.
    pub(super) fn unzipped(name: String, decoder: impl Read + 'a) -> Self {
        Self { name, reader: Box::new(decoder), zipped: true }
    }

    /// The file at `path`.
    pub(super) fn open(path: &Path) -> Result<Self, DatasetError> {
        let name = path.display().to_string();
        match crate::input::open(path) {
            Ok(file) => Ok(Self::new(name, file)),
            Err(error) => Err(DatasetProblem::Io(error).of(&name)),
        }
    }

    /// The file's name, and the result of `parse`.
    pub(super) fn parse<T>(
        mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, DatasetProblem>,
    ) -> Result<(String, T), DatasetError> {
        match parse(&mut self) {
            Ok(parsed) => Ok((self.name, parsed)),
            Err(problem) => Err(problem.of(&self.name)),
        }
    }

    /// The next `limit` bytes, or fewer at the end of the file.
    pub(super) fn up_to(&mut self, limit: u64) -> Result<Vec<u8>, DatasetProblem> {
        use ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
        let mut bytes = Vec::new();
        match (&mut self.reader).take(limit).read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error)
                if self.zipped
                    && matches!(error.kind(), InvalidInput | InvalidData | UnexpectedEof | Other) =>
            {
                Err(DatasetProblem::Zip(error.to_string()))
            }
            Err(error) => Err(DatasetProblem::Io(error)),
        }
    }

    /// All remaining bytes; of a zipped file at most [`MAX_UNZIPPED`].
    pub(super) fn rest(&mut self) -> Result<Vec<u8>, DatasetProblem> {
        let bytes = self.up_to(if self.zipped { MAX_UNZIPPED } else { u64::MAX })?;
        self.end(bytes)
    }

    /// Exactly `expected` bytes, and nothing after them.
    pub(super) fn last(&mut self, what: &'static str, expected: u64) -> Result<Vec<u8>, DatasetProblem> {
        if self.zipped && expected > MAX_UNZIPPED {
            return Err(DatasetProblem::TooLargeZipped { what, expected });
        }
        let bytes = self.up_to(expected)?;
        let found = bytes.len() as u64;
        if found < expected {
            return Err(DatasetProblem::Truncated { what, expected, found });
        }
        self.end(bytes)
    }

    /// `bytes`, if none follow.
    fn end(&mut self, bytes: Vec<u8>) -> Result<Vec<u8>, DatasetProblem> {
        // Reading to the end also makes a decoder verify its checksum.
        if self.up_to(1)?.is_empty() { Ok(bytes) } else { Err(DatasetProblem::TooLong(bytes.len() as u64)) }
    }
}
