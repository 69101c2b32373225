//! Labelled images for training and testing.
//!
//! A data set is a training and a test set. [`Dataset::load`] finds it in a directory:
//!
//! - four [IDX](idx) files as those of MNIST, Fashion-MNIST, EMNIST and QMNIST: `train-images-idx3-ubyte`,
//!   `train-labels-idx1-ubyte`, `t10k-…` or `test-…`; also `.idx3-ubyte`, labels in `idx2-int`, and a prefix as in
//!   `emnist-letters-train-…`
//! - the binary files of CIFAR-10, `data_batch_1.bin` and so on and `test_batch.bin`, or of CIFAR-100, `train.bin` and
//!   `test.bin`
//! - arrays of NumPy, `x_train`, `y_train`, `x_test` and `y_test`: one `.npz` archive, or four `.npy` files. Images are bytes, or
//!   f32 that stand for bytes: all k/255, or all k
//!
//! Each may be gzipped, which its content tells, and end in `.gz`. MNIST itself is built in: [`Dataset::mnist`].

#![forbid(unsafe_code)]

#[macro_use]
mod names;
mod augmentation;
mod cifar;
mod error;
mod examples;
mod file;
mod files;
pub mod idx;
pub mod input;
mod normalisation;
mod npy;
pub mod random;

use std::path::Path;

pub use augmentation::{Augmentation, Change};
pub use cifar::Cifar;
pub use error::{DatasetError, DatasetProblem};
pub use examples::{Batch, Examples, Subset};
pub use file::DataFile;
pub use input::FileError;
pub use normalisation::{Normalisation, NormalisationRule, Normaliser};

use files::Form;

/// The most bytes of pixels or labels that are unzipped of one file, 2 GiB: a gzipped file may become a thousand times its size.
/// A plain file takes no more memory than its size.
pub const MAX_UNZIPPED: u64 = 1 << 31;

/// Names of data files, for messages.
const EXPECTED: &str = "train-images-idx3-ubyte and the like, data_batch_1.bin and test_batch.bin, train.bin and test.bin, \
                        NAME.npz, or x_train.npy and the like";

/// The embedded files: training images and labels, test images and labels.
static MNIST: [&[u8]; 4] =
    [slth_mnist_train::IMAGES, slth_mnist_train::LABELS, slth_mnist_test::IMAGES, slth_mnist_test::LABELS];

/// A training and a test set of equal image size.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    train: Examples,
    test: Examples,
    classes: usize,
    /// What labels begin with in the files, 0 or 1.
    first_label: u8,
    /// Of all training pixels.
    standardisation: Normalisation,
    source: String,
    train_files: String,
}

/// Pixels `[images, channels, rows, columns]`, row-major, and the last three of these sizes.
type Images = (Vec<u8>, [usize; 3]);

/// Examples, and the names of their files.
type Part = (String, Examples);

/// An image's size as people write it: 28 × 28, or 3 × 32 × 32.
pub fn image_size([channels, rows, columns]: [usize; 3]) -> String {
    let planes = if channels == 1 { String::new() } else { format!("{channels} × ") };
    format!("{planes}{rows} × {columns}")
}

impl Dataset {
    /// MNIST, built in: 60,000 training and 10,000 test images of 28 × 28, 10 classes.
    ///
    /// # Errors
    /// None: the files are part of the program.
    ///
    /// ```
    /// let mnist = slth_data::Dataset::mnist()?;
    /// assert_eq!((mnist.train().len(), mnist.test().len()), (60_000, 10_000));
    /// assert_eq!((mnist.features(), mnist.classes()), (784, 10));
    /// # Ok::<(), slth_data::DatasetError>(())
    /// ```
    pub fn mnist() -> Result<Self, DatasetError> {
        let file = |index| DataFile::new(format!("embedded {}", files::IDX_NAMES[index]), MNIST[index]);
        Self::read("embedded MNIST".to_owned(), std::array::from_fn(file))
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
        let mut files = files.iter().map(|file| DataFile::open(file)).collect::<Result<Vec<_>, _>>()?;
        match kind.form {
            Form::Idx => Self::read_pairs(source, files, idx::images, idx::labels),
            Form::Npy => Self::read_pairs(source, files, npy::images, npy::labels),
            Form::Npz => Self::read_npz(source, files.remove(0)),
            Form::Cifar(kind) => Self::read_cifar(source, kind, files),
        }
    }

    /// Reads four IDX files, training images and labels, test images and labels, from any source; messages name the data set
    /// `source`.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn read(source: String, files: [DataFile<'_>; 4]) -> Result<Self, DatasetError> {
        Self::read_pairs(source, files, idx::images, idx::labels)
    }

    /// Reads the binary form of CIFAR, the test images before one or more files of training images, as [`read`](Self::read).
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn read_cifar(
        source: String,
        kind: Cifar,
        mut files: Vec<DataFile<'_>>,
    ) -> Result<Self, DatasetError> {
        let train = files.split_off(files.len().min(1));
        Self::of(source, kind.read(train)?, kind.read(files)?, 0)
    }

    /// Reads an `.npz` archive with the arrays `x_train`, `y_train`, `x_test` and `y_test`, as [`read`](Self::read).
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn read_npz(source: String, archive: DataFile<'_>) -> Result<Self, DatasetError> {
        let (name, bytes) = archive.parse(DataFile::rest)?;
        let array = |array| npy::member(&bytes, &name, array).map_err(|problem| problem.of(&name));
        let arrays = npy::NAMES.into_iter().map(array).collect::<Result<Vec<_>, _>>()?;
        Self::read_pairs(source, arrays, npy::images, npy::labels)
    }

    /// Reads images and labels for training, then those for testing.
    fn read_pairs<'a>(
        source: String,
        files: impl IntoIterator<Item = DataFile<'a>>,
        images: fn(&mut DataFile<'a>) -> Result<Images, DatasetProblem>,
        labels: fn(&mut DataFile<'a>) -> Result<Vec<u8>, DatasetProblem>,
    ) -> Result<Self, DatasetError> {
        let mut files = files.into_iter();
        let mut next = || files.next().expect("four files");
        let mut pair = || {
            let (images_file, (pixels, shape)) = next().parse(images)?;
            let (labels_file, labels) = next().parse(labels)?;
            part(format!("{images_file} and {labels_file}"), pixels, labels, shape)
        };
        Self::of(source, pair()?, pair()?, 1)
    }

    /// A data set of these examples; messages name it `source`.
    ///
    /// # Errors
    /// When image sizes differ, or a test label exceeds the largest training label.
    pub fn new(source: String, train: Examples, test: Examples) -> Result<Self, DatasetError> {
        let part = |name, examples| (format!("{source}, {name}"), examples);
        let (train, test) = (part("training images", train), part("test images", test));
        Self::of(source, train, test, 0)
    }

    /// Labels may begin at 0 or at `most_first`.
    fn of(
        source: String,
        (train_files, mut train): Part,
        (test_files, mut test): Part,
        most_first: u8,
    ) -> Result<Self, DatasetError> {
        let refused = |problem: DatasetProblem| Err(problem.of(&test_files));
        let shape @ [channels, rows, columns] = train.shape();
        if test.shape() != shape {
            return refused(DatasetProblem::ImageSize { expected: shape, found: test.shape() });
        }
        let most = train.labels.iter().max().copied().unwrap_or_default();
        let least = train.labels.iter().chain(&test.labels).min().copied().unwrap_or_default();
        // Only 1: data of which the lowest classes were left out keep their numbers.
        let first_label = u8::from(least == 1).min(most_first);
        let classes = usize::from(most - first_label) + 1;
        if let Some(index) = test.labels.iter().position(|&label| label > most) {
            return refused(DatasetProblem::Label { index, label: test.labels[index], classes });
        }
        train.labels.iter_mut().chain(&mut test.labels).for_each(|label| *label -= first_label);
        let standardisation = Normalisation::standardising(train.pixels(), channels, rows * columns);
        Ok(Self { train, test, classes, first_label, standardisation, source, train_files })
    }

    /// What it is called: the last part of the path that it came from.
    ///
    /// ```
    /// assert_eq!(slth_data::Dataset::mnist()?.name(), "embedded MNIST");
    /// # Ok::<(), slth_data::DatasetError>(())
    /// ```
    pub fn name(&self) -> &str {
        self.source.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or_default()
    }

    /// All training images, including those a run will hold out for validation.
    pub fn train(&self) -> &Examples {
        &self.train
    }

    /// The test images.
    pub fn test(&self) -> &Examples {
        &self.test
    }

    /// The size of an image: `[channels, rows, columns]`.
    pub fn shape(&self) -> [usize; 3] {
        self.train.shape()
    }

    /// Numbers per image: channels · rows · columns.
    pub fn features(&self) -> usize {
        self.train.features()
    }

    /// Number of classes: one more than the largest training label. Labels that begin at 1 in the files begin at 0 here.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The normalisation that `rule` finds for networks trained on this data set.
    ///
    /// ```
    /// use slth_data::{Dataset, Normalisation, NormalisationRule};
    /// let mnist = Dataset::mnist()?;
    /// let found = mnist.normalisation(NormalisationRule::MeanStd);
    /// assert_eq!(found, "0.13066047,0.30810779".parse().unwrap());
    /// assert_eq!(mnist.normalisation(NormalisationRule::Unit), Normalisation::UNIT);
    /// # Ok::<(), slth_data::DatasetError>(())
    /// ```
    pub fn normalisation(&self, rule: NormalisationRule) -> Normalisation {
        match rule {
            NormalisationRule::MeanStd => self.standardisation,
            NormalisationRule::Unit => Normalisation::UNIT,
            NormalisationRule::Given(normalisation) => normalisation,
        }
    }

    /// The largest training label, in words: which image has it first, in which file.
    pub fn largest_label(&self) -> String {
        let labels = self.train.labels.iter().map(|&label| usize::from(label));
        let index = labels.clone().position(|label| label + 1 == self.classes).unwrap_or_default();
        let label = self.classes.saturating_sub(1) + usize::from(self.first_label);
        format!("label {label} of image {index} in {}", self.train_files)
    }

    /// Where the data came from: a path, or `embedded MNIST`.
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// The examples of `file`.
fn part(file: String, pixels: Vec<u8>, labels: Vec<u8>, shape: [usize; 3]) -> Result<Part, DatasetError> {
    match Examples::new(pixels, labels, shape) {
        Ok(examples) => Ok((file, examples)),
        Err(problem) => Err(problem.of(&file)),
    }
}
