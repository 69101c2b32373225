//! Data sets in other formats than IDX: CIFAR files, and archives of NumPy arrays. An archive is either built here, with right
//! checksums, or given whole.

use std::io::Write;

use slth::data::{Cifar, DataFile, Dataset};

pub(super) fn run(data: &[u8]) {
    let Some((what, rest)) = super::split(data) else { return };
    let (archive, file) = (archive(rest), |bytes| DataFile::new(String::new(), bytes));
    let read = match what % 4 {
        0 => Dataset::read_npz(String::new(), file(rest)),
        1 => Dataset::read_npz(String::new(), file(&archive)),
        kind => {
            let kind = if kind == 2 { Cifar::Ten } else { Cifar::Hundred };
            let (test, train) = rest.split_at(rest.len() / 2);
            Dataset::read_cifar(String::new(), kind, vec![file(test), file(train)])
        }
    };
    if let Ok(data) = read {
        super::check(&data);
    }
}

/// An archive of four concatenated arrays, each after its length.
fn archive(mut bytes: &[u8]) -> Vec<u8> {
    let mut archive = rawzip::ZipArchiveWriter::new(Vec::new());
    for name in ["x_train.npy", "y_train.npy", "x_test.npy", "y_test.npy"] {
        let Some(array) = super::part(&mut bytes) else { break };
        let (mut entry, config) = archive.new_file(name).start().expect("into memory");
        let mut writer = config.wrap(&mut entry);
        writer.write_all(array).expect("into memory");
        let (_, descriptor) = writer.finish().expect("into memory");
        entry.finish(descriptor).expect("into memory");
    }
    archive.finish().expect("into memory")
}
