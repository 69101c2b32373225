//! What can be wrong with data files.

use thiserror::Error;

use crate::input::FileError;

/// Why a data set cannot be read.
pub type DatasetError = FileError<DatasetProblem>;

/// What is wrong with a data file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DatasetProblem {
    /// The file or directory does not exist, neither plain nor gzipped.
    #[error("no such file or directory")]
    Missing,
    /// The directory has no file whose name is that of a data file, or the file's own name is none.
    #[error("no data: expected {}, plain or gzipped", super::EXPECTED)]
    NoData,
    /// Several data sets, or several files for one part of a data set: a file of each.
    #[error("more than one data set: {}; give the path of one of these files, or remove others", .0.join(", "))]
    Several(Vec<String>),
    /// The system refused to read.
    #[error(transparent)]
    Io(std::io::Error),
    /// The gzipped file is damaged: what the decoder said.
    #[error("not valid gzip data: {0}")]
    Gzip(String),
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
    /// The file ends before what its header promises.
    #[error("truncated: {expected} bytes of {what} promised, {found} found")]
    Truncated {
        /// Which part is cut off.
        what: &'static str,
        /// Bytes promised.
        expected: u64,
        /// Bytes there.
        found: u64,
    },
    /// The file has more bytes than these, which its header promises.
    #[error("too long: data after the {0} bytes its header promises")]
    TooLong(u64),
    /// The header's sizes, images of rows and columns, cannot be those of anything in memory.
    #[error("its header promises {} images of {} × {}, more than can be addressed", .0[0], .0[1], .0[2])]
    TooLarge([u32; 3]),
    /// The header of a gzipped file promises more bytes than are unzipped.
    #[error(
        "its header promises {expected} bytes of {what}; at most {} are unzipped: unzip the file first",
        super::MAX_UNZIPPED
    )]
    TooLargeZipped {
        /// Which part.
        what: &'static str,
        /// Bytes promised.
        expected: u64,
    },
    /// Labels of QMNIST with another number of columns.
    #[error("labels of {found} columns, expected {expected}")]
    LabelColumns {
        /// The number of QMNIST's.
        expected: u32,
        /// The one found.
        found: u32,
    },
    /// A label that no label of this kind of file can be.
    #[error("label of image {index} is outside 0 to {most}")]
    LabelRange {
        /// Which label, from 0.
        index: usize,
        /// The largest there can be.
        most: u8,
    },
    /// The file has no images, or images without pixels: how many, their rows and columns.
    #[error("no pixels: {} images of {} × {}", .0[0], .0[1], .0[2])]
    Empty([usize; 3]),
    /// The numbers of labels, in this file, and of images differ.
    #[error("{labels} labels for the {images} images of {images_file}")]
    CountsDiffer {
        /// The images' file.
        images_file: String,
        /// Number of images.
        images: usize,
        /// Number of labels.
        labels: usize,
    },
    /// Test images differ in size, rows and columns, from the training images.
    #[error("images of {} × {}, but the training images are {} × {}", found[0], found[1], expected[0], expected[1])]
    ImageSize {
        /// That of the training images.
        expected: [usize; 2],
        /// That of the test images.
        found: [usize; 2],
    },
    /// A test label beyond the classes of the training set.
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
