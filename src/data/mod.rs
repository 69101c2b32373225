//! Labelled images for training and testing.
//!
//! A data set is a training and a test set. [`Dataset::load`] finds it in a directory:
//!
//! - four [IDX](idx) files as those of MNIST, Fashion-MNIST, EMNIST and QMNIST: `train-images-idx3-ubyte`,
//!   `train-labels-idx1-ubyte`, `t10k-…` or `test-…`; also `.idx3-ubyte`, labels in `idx2-int`, and a prefix as in
//!   `emnist-letters-train-…`
//!
//! Each may be gzipped, which its content tells, and end in `.gz`. MNIST itself is built in: [`Dataset::mnist`].

mod bytes;
mod error;
mod examples;
mod files;
pub mod idx;
mod normalisation;

use std::fs::File;
use std::io::Read;
use std::path::Path;

pub use error::{DatasetError, DatasetProblem};
pub use examples::{Examples, Subset};
pub(crate) use normalisation::Normaliser;
pub use normalisation::{Normalisation, NormalisationRule};

use files::Kind;
use idx::{IdxImages, IdxReader};

/// The most bytes of pixels or labels that are unzipped of one file, 2 GiB: a gzipped file may become a thousand times its size.
/// A plain file takes no more memory than its size.
pub const MAX_UNZIPPED: u64 = 1 << 31;

/// Names of data files, for messages.
const EXPECTED: &str = "train-images-idx3-ubyte and the like";

/// The embedded files: training images and labels, test images and labels.
static MNIST: [&[u8]; 4] =
    [slth_mnist_train::IMAGES, slth_mnist_train::LABELS, slth_mnist_test::IMAGES, slth_mnist_test::LABELS];

/// A training and a test set of equal image size.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    train: Examples,
    test: Examples,
    rows: usize,
    columns: usize,
    classes: usize,
    /// What labels begin with in the files, 0 or 1.
    first_label: u8,
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
        let [train_images, train_labels, test_images, test_labels] = std::array::from_fn(|index| {
            IdxReader::new(format!("embedded {}", files::IDX_NAMES[index]), MNIST[index])
        });
        Self::read("embedded MNIST".to_owned(), train_images, train_labels, test_images, test_labels)
    }

    /// Finds and reads the one data set in `path`, a directory, by the names of its files; or, where there are several, the one
    /// that `path` is a file of. Where a file is there both plain and with `.gz`, the plain one is taken.
    ///
    /// # Errors
    /// When there is no data set or more than one, a file is missing or malformed, counts or image sizes do not match, or a test
    /// label exceeds the largest training label.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, DatasetError> {
        let path = path.as_ref();
        let source = path.display().to_string();
        let (kind, files) = files::find(path)?;
        let files = files.iter().map(|file| open(file)).collect::<Result<Vec<_>, _>>()?;
        match kind {
            Kind::Idx(_) => {
                let files: [_; 4] = files.try_into().unwrap_or_else(|_| unreachable!("four files"));
                let [train_images, train_labels, test_images, test_labels] =
                    files.map(|(name, file)| IdxReader::new(name, file));
                Self::read(source, train_images, train_labels, test_images, test_labels)
            }
        }
    }

    /// Reads four IDX files from any source; messages name the data set `source`.
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
        let (mut train, size) = read_examples(train_images, train_labels)?;
        let (mut test, test_size) = read_examples(test_images, test_labels)?;
        if test_size != size {
            let problem = DatasetProblem::ImageSize { expected: size, found: test_size };
            return Err(DatasetError { file: test_images_file, problem });
        }
        let most = train.labels.iter().max().copied().unwrap_or_default();
        let least = train.labels.iter().chain(&test.labels).min().copied().unwrap_or_default();
        // Only 1: data of which the lowest classes were left out keep their numbers.
        let first_label = u8::from(least == 1);
        let classes = usize::from(most - first_label) + 1;
        if let Some(index) = test.labels.iter().position(|&label| label > most) {
            let problem = DatasetProblem::Label { index, label: test.labels[index], classes };
            return Err(DatasetError { file: test_labels_file, problem });
        }
        train.labels.iter_mut().chain(&mut test.labels).for_each(|label| *label -= first_label);
        let standardisation = Normalisation::standardising(train.pixels());
        let [rows, columns] = size;
        Ok(Self { train, test, rows, columns, classes, first_label, standardisation, source, labels_file })
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

    /// Number of classes: one more than the largest training label. Labels that begin at 1 in the files begin at 0 here.
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
        let label = self.classes.saturating_sub(1) + usize::from(self.first_label);
        format!("label {label} of image {index} in {}", self.labels_file)
    }

    /// Where the data came from: a path, or `embedded MNIST`.
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// A data file, and its name in messages.
fn open(path: &Path) -> Result<(String, File), DatasetError> {
    let name = path.display().to_string();
    match crate::input::open(path) {
        Ok(file) => Ok((name, file)),
        Err(error) => Err(DatasetError { file: name, problem: DatasetProblem::Io(error) }),
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
