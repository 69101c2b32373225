//! Labelled images for training and testing.
//!
//! A data set is four [IDX](idx) files, as MNIST comes: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`,
//! `t10k-images-idx3-ubyte`, `t10k-labels-idx1-ubyte`, each plain or with `.gz` appended. Fashion-MNIST, KMNIST and
//! many others come in the same form. MNIST itself is built in: [`Dataset::mnist`].

mod error;
pub mod idx;
mod mnist;
mod normalise;

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

pub use error::DatasetError;
pub use normalise::Normalisation;
pub(crate) use normalise::Normaliser;

use idx::{IdxImages, IdxReader};

/// Grey images with their labels, in the order of their file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examples {
    pixels: Vec<u8>,
    labels: Vec<u8>,
    features: usize,
}

impl Examples {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images; those of a [`Dataset`] are never empty.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Pixels per image.
    pub fn features(&self) -> usize {
        self.features
    }

    /// All pixels, `[images, features]`, row-major: image after image, row after row.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The label of each image.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }
}

/// Consecutive examples: the training, validation or test images of a run.
#[derive(Clone, Copy, Debug)]
pub struct Subset<'a> {
    examples: &'a Examples,
    first: usize,
    len: usize,
}

impl<'a> Subset<'a> {
    /// `len` examples from `first` on.
    ///
    /// # Panics
    /// When there are not that many.
    pub fn new(examples: &'a Examples, first: usize, len: usize) -> Self {
        assert!(
            first.checked_add(len).is_some_and(|end| end <= examples.len()),
            "{len} examples from {first} on, of {}",
            examples.len()
        );
        Self { examples, first, len }
    }

    /// All of them.
    pub fn all(examples: &'a Examples) -> Self {
        Self::new(examples, 0, examples.len())
    }

    /// The examples this is a part of.
    pub fn examples(self) -> &'a Examples {
        self.examples
    }

    /// Number of examples in it.
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether there are none in it.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Where they are in [`examples`](Self::examples), ascending. A file holds at most `u32::MAX` examples.
    pub(crate) fn indices(self) -> impl Iterator<Item = u32> {
        self.first as u32..(self.first + self.len) as u32
    }
}

/// A training and a test set of equal image size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    train: Examples,
    test: Examples,
    rows: usize,
    columns: usize,
    classes: usize,
    source: String,
    labels_file: String,
}

impl Dataset {
    /// MNIST, built in: 60,000 training and 10,000 test images of 28 × 28, 10 classes.
    ///
    /// # Errors
    /// None that could be provoked: the files are part of the program.
    ///
    /// ```
    /// let mnist = slth::data::Dataset::mnist()?;
    /// assert_eq!((mnist.train().len(), mnist.test().len()), (60_000, 10_000));
    /// assert_eq!((mnist.features(), mnist.classes()), (784, 10));
    /// # Ok::<(), slth::data::DatasetError>(())
    /// ```
    pub fn mnist() -> Result<Self, DatasetError> {
        let [train_images, train_labels, test_images, test_labels] =
            mnist::FILES.map(|(name, bytes)| IdxReader::gzip(format!("embedded {name}"), bytes));
        Self::read("embedded MNIST".to_owned(), train_images, train_labels, test_images, test_labels)
    }

    /// Reads the four files from `directory`; where a file is there both plain and gzipped, the plain one is taken.
    ///
    /// # Errors
    /// When a file is missing or malformed, counts or image sizes do not match, or a test label exceeds the largest
    /// training label.
    pub fn load(directory: impl AsRef<Path>) -> Result<Self, DatasetError> {
        let directory = directory.as_ref();
        let [train_images, train_labels, test_images, test_labels] =
            mnist::FILES.map(|(name, _)| open(directory, name));
        Self::read(directory.display().to_string(), train_images?, train_labels?, test_images?, test_labels?)
    }

    /// Reads the four files wherever they are; `source` is what messages call the whole.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn read<R: Read>(
        source: String,
        train_images: IdxReader<R>,
        train_labels: IdxReader<R>,
        test_images: IdxReader<R>,
        test_labels: IdxReader<R>,
    ) -> Result<Self, DatasetError> {
        let labels_file = train_labels.file().to_owned();
        let test_labels_file = test_labels.file().to_owned();
        let test_images_file = test_images.file().to_owned();
        let (train, size) = read_examples(train_images, train_labels)?;
        let (test, test_size) = read_examples(test_images, test_labels)?;
        if test_size != size {
            return Err(DatasetError::ImageSize { file: test_images_file, expected: size, found: test_size });
        }
        let classes = train.labels.iter().max().map_or(0, |&label| usize::from(label) + 1);
        if let Some(index) = test.labels.iter().position(|&label| usize::from(label) >= classes) {
            let label = test.labels[index];
            return Err(DatasetError::Label { file: test_labels_file, index, label, classes });
        }
        Ok(Self { train, test, rows: size.0, columns: size.1, classes, source, labels_file })
    }

    /// The training images, those that will be held out for validation among them.
    pub fn train(&self) -> &Examples {
        &self.train
    }

    /// The test images.
    pub fn test(&self) -> &Examples {
        &self.test
    }

    /// Height of an image in pixels.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Width of an image in pixels.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Pixels per image.
    pub fn features(&self) -> usize {
        self.train.features
    }

    /// Number of classes: one more than the largest training label.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The largest training label, in words: which image has it first, in which file.
    pub(crate) fn largest_label(&self) -> String {
        let labels = self.train.labels.iter().map(|&label| usize::from(label));
        let index = labels.clone().position(|label| label + 1 == self.classes).unwrap_or_default();
        format!("label {} of image {index} in {}", self.classes.saturating_sub(1), self.labels_file)
    }

    /// Where the data came from: a directory, or `embedded MNIST`.
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// Opens `name` or `name` without its `.gz`.
fn open(directory: &Path, name: &str) -> Result<IdxReader<File>, DatasetError> {
    let zipped: PathBuf = directory.join(name);
    let plain = zipped.with_extension("");
    let (path, gzip) = if plain.exists() { (plain, false) } else { (zipped, true) };
    let file = path.display().to_string();
    match crate::input::open(&path) {
        Ok(opened) if gzip => Ok(IdxReader::gzip(file, opened)),
        Ok(opened) => Ok(IdxReader::plain(file, opened)),
        Err(e) if e.kind() == ErrorKind::NotFound => Err(DatasetError::Missing { file }),
        Err(source) => Err(DatasetError::Io { file, source }),
    }
}

/// Reads images and their labels; also gives the images' (rows, columns).
fn read_examples<R: Read>(
    images: IdxReader<R>,
    labels: IdxReader<R>,
) -> Result<(Examples, (usize, usize)), DatasetError> {
    let (images_file, labels_file) = (images.file().to_owned(), labels.file().to_owned());
    let IdxImages { count, rows, columns, pixels } = images.images()?;
    let labels = labels.labels()?;
    if labels.len() != count {
        let (images, labels) = (count, labels.len());
        return Err(DatasetError::CountsDiffer { images_file, labels_file, images, labels });
    }
    if count == 0 || rows * columns == 0 {
        return Err(DatasetError::Empty { file: images_file, count, rows, columns });
    }
    Ok((Examples { pixels, labels, features: rows * columns }, (rows, columns)))
}
