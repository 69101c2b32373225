//! What can be wrong with data files.

use thiserror::Error;

/// Why a data set cannot be read. Each message names the file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// Neither the file nor its plain form exists.
    #[error("{file}: no such file, neither gzipped nor plain")]
    Missing {
        /// The file, with `.gz`.
        file: String,
    },
    /// The system refused to read.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is damaged, or not gzipped.
    #[error("{file}: not valid gzip data: {reason}")]
    Gzip {
        /// The file.
        file: String,
        /// What the decoder said.
        reason: String,
    },
    /// The first four bytes are not those of the kind of IDX file expected.
    #[error("{file}: magic number {found:#010x}, expected {expected:#010x} (IDX {what})")]
    Magic {
        /// The file.
        file: String,
        /// The kind of content expected.
        what: &'static str,
        /// Its magic number.
        expected: u32,
        /// The one found.
        found: u32,
    },
    /// The file ends before what its header promises.
    #[error("{file}: truncated: {expected} bytes of {what} promised, {found} found")]
    Truncated {
        /// The file.
        file: String,
        /// Which part is cut off.
        what: &'static str,
        /// Bytes promised.
        expected: u64,
        /// Bytes there.
        found: u64,
    },
    /// The file has more bytes than its header promises.
    #[error("{file}: too long: data after the {expected} bytes its header promises")]
    TooLong {
        /// The file.
        file: String,
        /// Bytes promised.
        expected: u64,
    },
    /// The header's sizes cannot be those of anything in memory.
    #[error("{file}: its header promises {count} images of {rows} × {columns}, more than can be addressed")]
    TooLarge {
        /// The file.
        file: String,
        /// Images promised.
        count: u32,
        /// Rows promised.
        rows: u32,
        /// Columns promised.
        columns: u32,
    },
    /// The header of a gzipped file promises more bytes than are unzipped.
    #[error(
        "{file}: its header promises {expected} bytes of {what}; at most {} are unzipped: unzip the file first",
        super::idx::MAX_UNZIPPED
    )]
    TooLargeZipped {
        /// The file.
        file: String,
        /// Which part.
        what: &'static str,
        /// Bytes promised.
        expected: u64,
    },
    /// The file has no images, or images without pixels.
    #[error("{file}: no pixels: {count} images of {rows} × {columns}")]
    Empty {
        /// The file.
        file: String,
        /// Number of images.
        count: usize,
        /// Rows of each.
        rows: usize,
        /// Columns of each.
        columns: usize,
    },
    /// The numbers of images and labels differ.
    #[error("{labels_file}: {labels} labels for the {images} images of {images_file}")]
    CountsDiffer {
        /// The images' file.
        images_file: String,
        /// The labels' file.
        labels_file: String,
        /// Number of images.
        images: usize,
        /// Number of labels.
        labels: usize,
    },
    /// Test images differ in size from the training images.
    #[error("{file}: images of {} × {}, but the training images are {} × {}", found.0, found.1, expected.0, expected.1)]
    ImageSize {
        /// The test images' file.
        file: String,
        /// (rows, columns) of the training images.
        expected: (usize, usize),
        /// (rows, columns) of the test images.
        found: (usize, usize),
    },
    /// A test label beyond the classes of the training set.
    #[error("{file}: label {label} of image {index} is outside the {classes} classes of the training labels")]
    Label {
        /// The labels' file.
        file: String,
        /// Which label, from 0.
        index: usize,
        /// Its value.
        label: u8,
        /// Number of classes.
        classes: usize,
    },
}

impl From<DatasetError> for crate::Error {
    fn from(error: DatasetError) -> Self {
        Self::input(error)
    }
}
