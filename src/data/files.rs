//! Which files of a directory are a data set, told by their names.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::{Cifar, DatasetError, DatasetProblem, npy};

/// MNIST's own names: training images and labels, test images and labels.
pub(super) const IDX_NAMES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

/// What kind of data set a file's name is one of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Four IDX files whose names begin with this: nothing, or as `emnist-letters-`.
    Idx(String),
    /// The test images, and one or more files of training images.
    Cifar(Cifar),
    /// An archive of this name, without its end.
    Npz(String),
    /// Four arrays whose names begin with this.
    Npy(String),
}

impl Kind {
    /// The kind that a file of this name is one of, and which of its files, from 0.
    fn of(name: &str) -> Option<(Self, usize)> {
        const ENDS: [(&str, usize); 5] = [
            ("images-idx3-ubyte", 0),
            ("images.idx3-ubyte", 0),
            ("labels-idx1-ubyte", 1),
            ("labels.idx1-ubyte", 1),
            ("labels-idx2-int", 1),
        ];
        const PARTS: [(&str, usize); 3] = [("train-", 0), ("t10k-", 2), ("test-", 2)];
        // Hidden files: a Mac's copies have one beside each file.
        let name = Some(plain(name)).filter(|name| !name.starts_with('.'))?;
        if let Some(batch) = name.strip_prefix("data_batch_").and_then(|name| name.strip_suffix(".bin")) {
            let batch = batch.parse().ok().filter(|batch| (1..100).contains(batch))?;
            return Some((Self::Cifar(Cifar::Ten), batch));
        }
        let cifar = [(Cifar::Ten, 0), (Cifar::Hundred, 0), (Cifar::Hundred, 1)];
        let cifar = cifar.map(|(kind, index)| (Self::Cifar(kind), index));
        if let Some(found) = cifar.into_iter().find(|(kind, index)| kind.name(*index) == name) {
            return Some(found);
        }
        if let Some(stem) = name.strip_suffix(".npz") {
            return Some((Self::Npz(stem.to_owned()), 0));
        }
        if let Some(name) = name.strip_suffix(".npy") {
            let mut indices = (0..).zip(npy::NAMES);
            return indices.find_map(|(i, end)| Some((Self::Npy(name.strip_suffix(end)?.to_owned()), i)));
        }
        let (name, what) = strip(name, &ENDS)?;
        let (prefix, part) = strip(name, &PARTS)?;
        Some((Self::Idx(prefix.to_owned()), part + what))
    }

    /// The usual name of its file number `index`.
    fn name(&self, index: usize) -> String {
        match self {
            Self::Idx(prefix) => format!("{prefix}{}", IDX_NAMES[index]),
            Self::Npz(stem) => format!("{stem}.npz"),
            Self::Npy(prefix) => format!("{prefix}{}.npy", npy::NAMES[index]),
            Self::Cifar(kind) => match (kind, index) {
                (Cifar::Ten, 0) => "test_batch.bin".to_owned(),
                (Cifar::Ten, batch) => format!("data_batch_{batch}.bin"),
                (Cifar::Hundred, 0) => "test.bin".to_owned(),
                (Cifar::Hundred, _) => "train.bin".to_owned(),
            },
        }
    }

    /// How many files it has at least.
    fn len(&self) -> usize {
        match self {
            Self::Idx(_) | Self::Npy(_) => 4,
            Self::Cifar(_) => 2,
            Self::Npz(_) => 1,
        }
    }
}

/// A name without `.gz`.
fn plain(name: &str) -> &str {
    name.strip_suffix(".gz").unwrap_or(name)
}

/// `name` without the first of `ends` that it has, and what belongs to that.
fn strip<'a>(name: &'a str, ends: &[(&str, usize)]) -> Option<(&'a str, usize)> {
    ends.iter().find_map(|&(end, number)| Some((name.strip_suffix(end)?, number)))
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
