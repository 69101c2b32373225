//! The IDX format of MNIST, plain or gzipped.
//!
//! Big-endian: a magic number (0x803 images, 0x801 labels: unsigned bytes in 3 or 1 dimensions; 0xc02 labels of QMNIST: i32 in
//! 2 dimensions), one u32 per dimension, then the numbers. The header is not trusted: memory grows as bytes arrive, and
//! decompression stops at the size that the header gives, or at [`MAX_UNZIPPED`](super::MAX_UNZIPPED).

use std::io::Read;

use super::bytes::Bytes;
use super::{DatasetError, DatasetProblem};

const IMAGES_MAGIC: u32 = 0x0803;
const LABELS_MAGIC: u32 = 0x0801;
/// Labels of QMNIST: for each image its class and seven numbers about its writer.
const QMNIST_MAGIC: u32 = 0x0c02;
const QMNIST_COLUMNS: u32 = 8;

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

/// Reads one IDX file; its errors name it `file`. Its content tells whether it is gzipped.
///
/// ```
/// use slth::data::idx::IdxReader;
/// let bytes: &[u8] = &[0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1];
/// assert_eq!(IdxReader::new("labels".to_owned(), bytes).labels()?, [7, 2, 1]);
/// # Ok::<(), slth::data::DatasetError>(())
/// ```
pub struct IdxReader<'a> {
    file: String,
    input: Bytes<'a>,
}

impl<'a> IdxReader<'a> {
    /// A reader of plain or gzipped bytes.
    pub fn new(file: String, reader: impl Read + 'a) -> Self {
        Self { file, input: Bytes::new(reader) }
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
        self.read_images().map_err(|problem| problem.of(&self.file))
    }

    /// Reads the file as labels; of QMNIST's labels, the classes.
    ///
    /// # Errors
    /// When the file is no IDX file of labels, or is truncated, too long or damaged.
    pub fn labels(mut self) -> Result<Vec<u8>, DatasetError> {
        self.read_labels().map_err(|problem| problem.of(&self.file))
    }

    fn read_images(&mut self) -> Result<IdxImages, DatasetProblem> {
        let found = self.word()?;
        if found != IMAGES_MAGIC {
            return Err(DatasetProblem::Magic { what: "images", expected: IMAGES_MAGIC, found });
        }
        let sizes = [self.word()?, self.word()?, self.word()?];
        let bytes = sizes.iter().try_fold(1_u64, |n, &d| n.checked_mul(u64::from(d)));
        let bytes = bytes.filter(|&n| isize::try_from(n).is_ok()).ok_or(DatasetProblem::TooLarge(sizes))?;
        let [count, rows, columns] = sizes.map(|size| size as usize);
        Ok(IdxImages { count, rows, columns, pixels: self.input.last("pixels", bytes)? })
    }

    fn read_labels(&mut self) -> Result<Vec<u8>, DatasetProblem> {
        match self.word()? {
            LABELS_MAGIC => {
                let count = self.word()?;
                self.input.last("labels", u64::from(count))
            }
            QMNIST_MAGIC => {
                let [count, columns] = [self.word()?, self.word()?];
                if columns != QMNIST_COLUMNS {
                    return Err(DatasetProblem::LabelColumns { expected: QMNIST_COLUMNS, found: columns });
                }
                let bytes = self.input.last("labels", u64::from(count) * u64::from(4 * QMNIST_COLUMNS))?;
                let classes = bytes.chunks_exact(4 * QMNIST_COLUMNS as usize).enumerate();
                let class = |(index, row): (usize, &[u8])| match row {
                    [0, 0, 0, class, ..] => Ok(*class),
                    _ => Err(DatasetProblem::LabelRange { index, most: u8::MAX }),
                };
                classes.map(class).collect()
            }
            found => Err(DatasetProblem::Magic { what: "labels", expected: LABELS_MAGIC, found }),
        }
    }

    fn word(&mut self) -> Result<u32, DatasetProblem> {
        let bytes = self.input.up_to(4)?;
        let found = bytes.len() as u64;
        let word =
            bytes.try_into().map_err(|_| DatasetProblem::Truncated { what: "header", expected: 4, found })?;
        Ok(u32::from_be_bytes(word))
    }
}
