//! The bytes of a data file, unzipped.

use std::io::{Chain, Cursor, ErrorKind, Read};

use flate2::read::MultiGzDecoder;

use super::{DatasetProblem, MAX_UNZIPPED};

/// The first bytes of every gzipped file, and of no other that is read here.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Reads a file, and unzips one whose content is gzipped, whatever its name. No size that the file promises is trusted: memory
/// grows as bytes arrive.
pub(super) struct Bytes<R>(Input<R>);

/// Those that told the kind, and the rest.
type Whole<R> = Chain<Cursor<Vec<u8>>, R>;

enum Input<R> {
    Plain(Whole<R>),
    Gzip(Box<MultiGzDecoder<Whole<R>>>),
}

impl<R: Read> Bytes<R> {
    pub(super) fn new(mut reader: R) -> Self {
        let mut head = Vec::new();
        // What was read is kept, and the next read meets the error again.
        let _ = reader.by_ref().take(GZIP.len() as u64).read_to_end(&mut head);
        let zipped = head == GZIP;
        let whole = Cursor::new(head).chain(reader);
        Self(if zipped { Input::Gzip(Box::new(MultiGzDecoder::new(whole))) } else { Input::Plain(whole) })
    }

    /// The next `limit` bytes, fewer where the file ends before.
    pub(super) fn up_to(&mut self, limit: u64) -> Result<Vec<u8>, DatasetProblem> {
        use ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        let mut bytes = Vec::new();
        match &mut self.0 {
            Input::Plain(whole) => {
                whole.take(limit).read_to_end(&mut bytes).map_err(DatasetProblem::Io)?;
            }
            Input::Gzip(unzipped) => {
                let read = unzipped.take(limit).read_to_end(&mut bytes);
                read.map_err(|error| match error.kind() {
                    InvalidInput | InvalidData | UnexpectedEof => DatasetProblem::Gzip(error.to_string()),
                    _ => DatasetProblem::Io(error),
                })?;
            }
        }
        Ok(bytes)
    }

    /// Exactly `expected` bytes, and nothing after them.
    pub(super) fn last(&mut self, what: &'static str, expected: u64) -> Result<Vec<u8>, DatasetProblem> {
        if matches!(self.0, Input::Gzip(_)) && expected > MAX_UNZIPPED {
            return Err(DatasetProblem::TooLargeZipped { what, expected });
        }
        let bytes = self.up_to(expected)?;
        let found = bytes.len() as u64;
        if found < expected {
            return Err(DatasetProblem::Truncated { what, expected, found });
        }
        // Reading to the end also makes the decoder verify its checksum.
        if self.up_to(1)?.is_empty() { Ok(bytes) } else { Err(DatasetProblem::TooLong(expected)) }
    }
}
