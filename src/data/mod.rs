//! Labelled images for training and testing.
//!
//! A data set is four [IDX](idx) files, as MNIST comes: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`,
//! `t10k-images-idx3-ubyte`, `t10k-labels-idx1-ubyte`, each plain or with `.gz` appended. Fashion-MNIST, KMNIST and
//! many others come in the same form. MNIST itself is built in: [`Dataset::mnist`].

mod error;
mod examples;
pub mod idx;
mod normalisation;

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

pub use error::{DatasetError, DatasetProblem};
pub use examples::{Examples, Subset};
pub(crate) use normalisation::Normaliser;
pub use normalisation::{Normalisation, NormalisationRule};

use idx::{IdxImages, IdxReader};

/// Name and content of the embedded files: training images and labels, test images and labels.
static MNIST: [(&str, &[u8]); 4] = [
    ("train-images-idx3-ubyte.gz", slth_mnist_train::IMAGES),
    ("train-labels-idx1-ubyte.gz", slth_mnist_train::LABELS),
    ("t10k-images-idx3-ubyte.gz", slth_mnist_test::IMAGES),
    ("t10k-labels-idx1-ubyte.gz", slth_mnist_test::LABELS),
];

/// A training and a test set of equal image size.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    train: Examples,
    test: Examples,
    rows: usize,
    columns: usize,
    classes: usize,
    /// Of all training pixels.
    standardisation: Normalisation,
    source: String,
    labels_file: String,
}

impl Dataset {
    /// MNIST, built in: 60,000 training and 10,000 test images of 28 × 28, 10 classes.
    ///
    /// # Errors
    /// None: the files are part of the program.
    ///
    /// ```
    /// let mnist = slth::data::Dataset::mnist()?;
    /// assert_eq!((mnist.train().len(), mnist.test().len()), (60_000, 10_000));
    /// assert_eq!((mnist.features(), mnist.classes()), (784, 10));
    /// # Ok::<(), slth::data::DatasetError>(())
    /// ```
    pub fn mnist() -> Result<Self, DatasetError> {
        let [train_images, train_labels, test_images, test_labels] =
            MNIST.map(|(name, bytes)| IdxReader::gzip(format!("embedded {name}"), bytes));
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
            MNIST.map(|(name, _)| open(directory, name));
        Self::read(directory.display().to_string(), train_images?, train_labels?, test_images?, test_labels?)
    }

    /// Reads the four files from any source; messages name the data set `source`.
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
        let [test_images_file, test_labels_file] =
            [test_images.file(), test_labels.file()].map(str::to_owned);
        let (train, size) = read_examples(train_images, train_labels)?;
        let (test, test_size) = read_examples(test_images, test_labels)?;
        if test_size != size {
            let problem = DatasetProblem::ImageSize { expected: size, found: test_size };
            return Err(DatasetError { file: test_images_file, problem });
        }
        let classes = train.labels.iter().max().map_or(0, |&label| usize::from(label) + 1);
        if let Some(index) = test.labels.iter().position(|&label| usize::from(label) >= classes) {
            let problem = DatasetProblem::Label { index, label: test.labels[index], classes };
            return Err(DatasetError { file: test_labels_file, problem });
        }
        let standardisation = Normalisation::standardising(train.pixels());
        let [rows, columns] = size;
        Ok(Self { train, test, rows, columns, classes, standardisation, source, labels_file })
    }

    /// All training images, including those a run will hold out for validation.
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

    /// The normalisation that `rule` finds for networks trained on this data set.
    ///
    /// ```
    /// use slth::data::{Dataset, Normalisation, NormalisationRule};
    /// let mnist = Dataset::mnist()?;
    /// let found = mnist.normalisation(NormalisationRule::MeanStd);
    /// assert_eq!(found, "0.13066047,0.30810779".parse().unwrap());
    /// assert_eq!(mnist.normalisation(NormalisationRule::Unit), Normalisation::UNIT);
    /// # Ok::<(), slth::data::DatasetError>(())
    /// ```
    pub fn normalisation(&self, rule: NormalisationRule) -> Normalisation {
        match rule {
            NormalisationRule::MeanStd => self.standardisation,
            NormalisationRule::Unit => Normalisation::UNIT,
            NormalisationRule::Given(normalisation) => normalisation,
        }
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
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(DatasetError { file, problem: DatasetProblem::Missing })
        }
        Err(error) => Err(DatasetError { file, problem: DatasetProblem::Io(error) }),
    }
}

/// Reads images and their labels; also gives the images' rows and columns.
fn read_examples<R: Read>(
    images: IdxReader<R>,
    labels: IdxReader<R>,
) -> Result<(Examples, [usize; 2]), DatasetError> {
    let (images_file, labels_file) = (images.file().to_owned(), labels.file().to_owned());
    let IdxImages { count, rows, columns, pixels } = images.images()?;
    let labels = labels.labels()?;
    if labels.len() != count {
        let problem = DatasetProblem::CountsDiffer { images_file, images: count, labels: labels.len() };
        return Err(DatasetError { file: labels_file, problem });
    }
    if count == 0 || rows * columns == 0 {
        let problem = DatasetProblem::Empty([count, rows, columns]);
        return Err(DatasetError { file: images_file, problem });
    }
    Ok((Examples { pixels, labels, features: rows * columns }, [rows, columns]))
}
