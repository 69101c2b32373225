//! Which files of a directory are a data set, told by their names.

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

/// What the names of each form's files end with, in the order in which they are read.
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
    /// What they begin with: nothing, or as `emnist-letters-`.
    prefix: String,
}

impl Kind {
    /// The kind that a file of this name is one of, and which of its files, from 0.
    fn of(name: &str) -> Option<(Self, usize)> {
        // Hidden files: a Mac's copies have one beside each file.
        let name = Some(plain(name)).filter(|name| !name.starts_with('.'))?;
        // IDX files as archivers, EMNIST and QMNIST call them.
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

    /// How many files it has at least.
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

/// The kind and files, in their order, of the one data set in `path`, a directory; of a file `path`, those of the set it is of.
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
    // The one that is given, not another form of it.
    names.insert(index, vec![name.to_owned()]);
    files(directory, kind, names)
}

/// All data sets that files of `directory` are of, by their names.
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

/// The files of a set: one for each place, none missing. Of a file and its gzipped form the plain one is taken.
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
