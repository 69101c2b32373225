//! The IDX format of MNIST, plain or gzipped.
//!
//! Big-endian: a magic number (0x803 images, 0x801 labels: unsigned bytes in 3 or 1 dimensions), one u32 per dimension,
//! then the bytes. The header is not trusted: memory grows as bytes arrive, and decompression stops at the size that the
//! header gives, or at [`MAX_UNZIPPED`].

use std::io::{self, ErrorKind, Read};

use flate2::read::MultiGzDecoder;

use super::{DatasetError, DatasetProblem};

const IMAGES_MAGIC: u32 = 0x0803;
const LABELS_MAGIC: u32 = 0x0801;

/// The most bytes of pixels or labels that are unzipped, 2 GiB: a gzipped file may become a thousand times its size. A plain
/// file takes no more memory than its size.
pub const MAX_UNZIPPED: u64 = 1 << 31;

/// The content of an IDX file of images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdxImages {
    /// Number of images.
    pub count: usize,
    /// Height of each.
    pub rows: usize,
    /// Width of each.
    pub columns: usize,
    /// `[count, rows, columns]`, row-major.
    pub pixels: Vec<u8>,
}

/// Reads one IDX file; its errors name it `file`.
///
/// ```
/// use slth::data::idx::IdxReader;
/// let bytes: &[u8] = &[0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1];
/// assert_eq!(IdxReader::plain("labels".to_owned(), bytes).labels()?, [7, 2, 1]);
/// # Ok::<(), slth::data::DatasetError>(())
/// ```
pub struct IdxReader<R> {
    file: String,
    input: Input<R>,
}

enum Input<R> {
    Plain(R),
    Gzip(Box<MultiGzDecoder<R>>),
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(reader) => reader.read(buffer),
            Self::Gzip(reader) => reader.read(buffer),
        }
    }
}

impl<R: Read> IdxReader<R> {
    /// A reader of uncompressed bytes.
    pub fn plain(file: String, reader: R) -> Self {
        Self { file, input: Input::Plain(reader) }
    }

    /// A reader of gzipped bytes.
    pub fn gzip(file: String, reader: R) -> Self {
        Self { file, input: Input::Gzip(Box::new(MultiGzDecoder::new(reader))) }
    }

    /// The name of the file in errors.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Reads the file as images.
    ///
    /// # Errors
    /// When the file is no IDX file of images, or is truncated, too long or damaged.
    pub fn images(mut self) -> Result<IdxImages, DatasetError> {
        self.read_images().map_err(|problem| DatasetError { file: self.file, problem })
    }

    /// Reads the file as labels.
    ///
    /// # Errors
    /// When the file is no IDX file of labels, or is truncated, too long or damaged.
    pub fn labels(mut self) -> Result<Vec<u8>, DatasetError> {
        self.read_labels().map_err(|problem| DatasetError { file: self.file, problem })
    }

    fn read_images(&mut self) -> Result<IdxImages, DatasetProblem> {
        let sizes = self.header::<3>("images", IMAGES_MAGIC)?;
        let bytes = sizes.iter().try_fold(1_u64, |n, &d| n.checked_mul(u64::from(d)));
        let bytes = bytes.filter(|&n| isize::try_from(n).is_ok()).ok_or(DatasetProblem::TooLarge(sizes))?;
        let [count, rows, columns] = sizes.map(|size| size as usize);
        Ok(IdxImages { count, rows, columns, pixels: self.body("pixels", bytes)? })
    }

    fn read_labels(&mut self) -> Result<Vec<u8>, DatasetProblem> {
        let [count] = self.header("labels", LABELS_MAGIC)?;
        self.body("labels", u64::from(count))
    }

    fn header<const DIMENSIONS: usize>(
        &mut self,
        what: &'static str,
        expected: u32,
    ) -> Result<[u32; DIMENSIONS], DatasetProblem> {
        let found = self.word()?;
        if found != expected {
            return Err(DatasetProblem::Magic { what, expected, found });
        }
        let mut dimensions = [0; DIMENSIONS];
        for dimension in &mut dimensions {
            *dimension = self.word()?;
        }
        Ok(dimensions)
    }

    fn word(&mut self) -> Result<u32, DatasetProblem> {
        let bytes = self.up_to(4)?;
        let found = bytes.len() as u64;
        let word =
            bytes.try_into().map_err(|_| DatasetProblem::Truncated { what: "header", expected: 4, found })?;
        Ok(u32::from_be_bytes(word))
    }

    /// Exactly `expected` bytes, and nothing after them.
    fn body(&mut self, what: &'static str, expected: u64) -> Result<Vec<u8>, DatasetProblem> {
        if matches!(self.input, Input::Gzip(_)) && expected > MAX_UNZIPPED {
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

    fn up_to(&mut self, limit: u64) -> Result<Vec<u8>, DatasetProblem> {
        use ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        let mut bytes = Vec::new();
        match (self.input.by_ref().take(limit).read_to_end(&mut bytes), &self.input) {
            (Ok(_), _) => Ok(bytes),
            (Err(error), Input::Gzip(_))
                if matches!(error.kind(), InvalidInput | InvalidData | UnexpectedEof) =>
            {
                Err(DatasetProblem::Gzip(error.to_string()))
            }
            (Err(error), _) => Err(DatasetProblem::Io(error)),
        }
    }
}
