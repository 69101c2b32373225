//! Finds the data sets of a directory by the names of its files.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::{Cifar, DatasetError, DatasetProblem};

/// MNIST's own names: training images and labels, test images and labels.
pub(super) const IDX_NAMES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

/// The form of a data set's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    Idx,
    Npy,
    Npz,
    /// The test images, then one or more files of training images.
    Cifar(Cifar),
}

/// The ends of the file names of each form, in the order in which the files are read.
const ENDS: [(Form, &[&str]); 5] = [
    (Form::Idx, &IDX_NAMES),
    (Form::Npy, &["x_train.npy", "y_train.npy", "x_test.npy", "y_test.npy"]),
    (Form::Npz, &[".npz"]),
    (
        Form::Cifar(Cifar::Ten),
        &[
            "test_batch.bin",
            "data_batch_1.bin",
            "data_batch_2.bin",
            "data_batch_3.bin",
            "data_batch_4.bin",
            "data_batch_5.bin",
        ],
    ),
    (Form::Cifar(Cifar::Hundred), &["test.bin", "train.bin"]),
];

/// A data set by the names of its files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    pub(super) form: Form,
    /// The prefix of the names: empty, or for example `emnist-letters-`.
    prefix: String,
}

impl Kind {
    /// The data set that a file of this name belongs to, and the index of the file in it.
    fn of(name: &str) -> Option<(Self, usize)> {
        // Skips hidden files: macOS puts one beside each copied file.
        let name = Some(plain(name)).filter(|name| !name.starts_with('.'))?;
        // The names of IDX files in archives, EMNIST and QMNIST.
        let usual = name.replace(".idx", "-idx").replace("labels-idx2-int", "labels-idx1-ubyte");
        let usual =
            usual.replace("test-images-idx", "t10k-images-idx").replace("test-labels-idx", "t10k-labels-idx");
        ENDS.iter().find_map(|&(form, ends)| {
            let mut ends = ends.iter().enumerate();
            let (index, prefix) = ends.find_map(|(index, end)| Some((index, usual.strip_suffix(end)?)))?;
            // CIFAR's names are common words.
            let named = prefix.is_empty() || !matches!(form, Form::Cifar(_));
            named.then(|| (Self { form, prefix: prefix.to_owned() }, index))
        })
    }

    fn ends(&self) -> &'static [&'static str] {
        ENDS.iter().find(|(form, _)| *form == self.form).map_or(&[], |(_, ends)| ends)
    }

    /// The usual name of its file number `index`.
    fn name(&self, index: usize) -> String {
        format!("{}{}", self.prefix, self.ends()[index])
    }

    /// The least number of files.
    fn len(&self) -> usize {
        if matches!(self.form, Form::Cifar(_)) { 2 } else { self.ends().len() }
    }
}

/// A name without `.gz`.
fn plain(name: &str) -> &str {
    name.strip_suffix(".gz").unwrap_or(name)
}

/// The names found for each file of a data set.
type Names = BTreeMap<usize, Vec<String>>;

/// The kind and the files, in order, of the only data set in the directory `path`, or of the data set that the file `path`
/// belongs to.
pub(super) fn find(path: &Path) -> Result<(Kind, Vec<PathBuf>), DatasetError> {
    let refused = |problem: DatasetProblem| problem.of(&path.display().to_string());
    let system = |error: io::Error| match error.kind() {
        ErrorKind::NotFound => refused(DatasetProblem::Missing),
        _ => refused(DatasetProblem::Io(error)),
    };
    if fs::metadata(path).map_err(system)?.is_dir() {
        let (mut whole, partial): (Vec<_>, Vec<_>) =
            sets(path).map_err(system)?.into_iter().partition(|(kind, names)| names.len() >= kind.len());
        if whole.len() > 1 {
            let sets = whole.iter().filter_map(|(_, names)| names.values().flatten().next().cloned());
            return Err(refused(DatasetProblem::Several(sets.collect())));
        }
        let (kind, names) = whole
            .pop()
            .or_else(|| partial.into_iter().next())
            .ok_or_else(|| refused(DatasetProblem::NoData))?;
        return files(path, kind, names);
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let (kind, index) = Kind::of(name).ok_or_else(|| refused(DatasetProblem::NoData))?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut names = sets(directory).map_err(system)?.remove(&kind).unwrap_or_default();
    // The given file, not another form of it.
    names.insert(index, vec![name.to_owned()]);
    files(directory, kind, names)
}

/// All data sets in `directory`, by name.
fn sets(directory: &Path) -> io::Result<BTreeMap<Kind, Names>> {
    let mut sets: BTreeMap<Kind, Names> = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        if let Some((kind, index)) = Kind::of(name) {
            sets.entry(kind).or_default().entry(index).or_default().push(name.to_owned());
        }
    }
    Ok(sets)
}

/// The files of a data set, one for each part, if none is missing. If a file exists plain and gzipped, the plain one is taken.
fn files(directory: &Path, kind: Kind, names: Names) -> Result<(Kind, Vec<PathBuf>), DatasetError> {
    let refused = |name: &Path, problem: DatasetProblem| problem.of(&name.display().to_string());
    let last = names.keys().next_back().map_or(0, |&last| last + 1);
    if let Some(missing) = (0..last.max(kind.len())).find(|index| !names.contains_key(index)) {
        return Err(refused(&directory.join(kind.name(missing)), DatasetProblem::Missing));
    }
    let mut paths = Vec::new();
    for mut names in names.into_values() {
        names.sort_unstable();
        names.dedup_by(|zipped, name| plain(zipped) == name.as_str());
        match &names[..] {
            [name] => paths.push(directory.join(name)),
            _ => return Err(refused(directory, DatasetProblem::Several(names))),
        }
    }
    Ok((kind, paths))
}
