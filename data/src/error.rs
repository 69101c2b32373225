//! Errors of data files.

use thiserror::Error;

use super::image_size;
use crate::input::FileError;

/// Why a data set cannot be read.
pub type DatasetError = FileError<DatasetProblem>;

impl DatasetProblem {
    /// The error that names `file`.
    pub(super) fn of(self, file: &str) -> DatasetError {
        DatasetError { file: file.to_owned(), problem: self }
    }
}

/// What is wrong with a data file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DatasetProblem {
    /// The file or directory does not exist, neither plain nor gzipped.
    #[error("no such file or directory")]
    Missing,
    /// The directory has no file with the name of a data file, or the given file's name is not one.
    #[error("no data: expected {}, plain or gzipped", super::EXPECTED)]
    NoData,
    /// There are several data sets, or several files for one part of a data set: a file of each.
    #[error("more than one data set: {}; give the path of one of these files, or remove others", .0.join(", "))]
    Several(Vec<String>),
    /// The system refused to read.
    #[error(transparent)]
    Io(std::io::Error),
    /// The gzipped file or zip archive is damaged: the decoder's message.
    #[error("not valid gzip or zip data: {0}")]
    Zip(String),
    /// The first four bytes are not those of the kind of IDX file expected.
    #[error("magic number {found:#010x}, expected {expected:#010x} (IDX {what})")]
    Magic {
        /// The kind of content expected.
        what: &'static str,
        /// Its magic number.
        expected: u32,
        /// The one found.
        found: u32,
    },
    /// The file ends before the size in its header.
    #[error("truncated: {expected} bytes of {what} are needed, {found} found")]
    Truncated {
        /// Which part is cut off.
        what: &'static str,
        /// Bytes promised.
        expected: u64,
        /// Bytes in the file.
        found: u64,
    },
    /// The file has more bytes than its header states, or than the limit for unzipped bytes.
    #[error("too long: data after the {0} bytes that are expected")]
    TooLong(u64),
    /// The bytes are not a NumPy array of integers or floats, row-major and little-endian.
    #[error("not a .npy array of little-endian integers or floats in C order")]
    NotNpy,
    /// The archive has no array of this name.
    #[error("no array {0}; expected {names}", names = super::npy::NAMES.join(", "))]
    NoArray(&'static str),
    /// An array has another type or shape.
    #[error("an array of {found}, expected {expected}")]
    Array {
        /// Its type and shape.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A floating-point pixel is not the value of a byte.
    #[error(
        "pixel {index} is {value}; floats must all be k/255, or all k, for k from 0 to 255: save the images as uint8"
    )]
    Pixel {
        /// Which number of the array.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// The sizes in the header (images, rows, columns) do not fit in memory.
    #[error("its header asks for {} images of {} × {}, more than can be addressed", .0[0], .0[1], .0[2])]
    TooLarge([u32; 3]),
    /// The header of a gzipped file states more bytes than the limit for unzipped bytes.
    #[error(
        "its header asks for {expected} bytes of {what}; at most {} are unzipped: unzip the file first",
        super::MAX_UNZIPPED
    )]
    TooLargeZipped {
        /// Which part.
        what: &'static str,
        /// Bytes promised.
        expected: u64,
    },
    /// Labels of QMNIST have another number of columns.
    #[error("labels of {0} columns, expected {columns}", columns = super::idx::QMNIST_COLUMNS)]
    LabelColumns(u32),
    /// A label is outside of the range of this kind of file.
    #[error("label of image {index} is outside 0 to {most}")]
    LabelRange {
        /// Which label, from 0.
        index: usize,
        /// The largest possible label.
        most: u8,
    },
    /// There are no images, images without pixels, or too many images.
    #[error("{0} images that have pixels; 1 to {max} are needed", max = u32::MAX)]
    Count(usize),
    /// Images are neither grey nor of three colours.
    #[error("images of {0} channels, expected 1 or 3")]
    Channels(usize),
    /// The numbers of labels and of images differ.
    #[error("{labels} labels for {images} images")]
    CountsDiffer {
        /// Number of images.
        images: usize,
        /// Number of labels.
        labels: usize,
    },
    /// Test images differ from the training images in channels, rows or columns.
    #[error("images of {}, but the training images are {}", image_size(*found), image_size(*expected))]
    ImageSize {
        /// That of the training images.
        expected: [usize; 3],
        /// That of the test images.
        found: [usize; 3],
    },
    /// A test label is not a class of the training set.
    #[error("label {label} of image {index} is outside the {classes} classes of the training labels")]
    Label {
        /// Which label, from 0.
        index: usize,
        /// Its value.
        label: u8,
        /// Number of classes.
        classes: usize,
    },
}
