//! The binary files of CIFAR-10 and CIFAR-100 (A. Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images").
//!
//! Records without a header: the label, in CIFAR-100 the coarse and the fine one, then 3072 pixels: a red, a green and a blue
//! plane of 32 rows and 32 columns.

use super::{DataFile, DatasetError, DatasetProblem, Part, part};

const SHAPE: [usize; 3] = [3, 32, 32];

/// Which of the two data sets the files belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cifar {
    /// CIFAR-10: `data_batch_1.bin` and so on, `test_batch.bin`.
    Ten,
    /// CIFAR-100: `train.bin`, `test.bin`. The fine labels count.
    Hundred,
}

impl Cifar {
    /// Label bytes of a record, and classes.
    fn labels(self) -> (usize, u8) {
        match self {
            Self::Ten => (1, 10),
            Self::Hundred => (2, 100),
        }
    }

    /// The images of these files together.
    pub(super) fn read(self, files: Vec<DataFile<'_>>) -> Result<Part, DatasetError> {
        let (mut names, mut pixels, mut labels) = (Vec::new(), Vec::new(), Vec::new());
        for file in files {
            let (name, ()) = file.parse(|file| self.append(&file.rest()?, &mut pixels, &mut labels))?;
            names.push(name);
        }
        part(names.join(" and "), pixels, labels, SHAPE)
    }

    fn append(self, bytes: &[u8], pixels: &mut Vec<u8>, labels: &mut Vec<u8>) -> Result<(), DatasetProblem> {
        let (heads, classes) = self.labels();
        let size = heads + SHAPE.iter().product::<usize>();
        if !bytes.len().is_multiple_of(size) {
            let (expected, found) = (bytes.len().next_multiple_of(size) as u64, bytes.len() as u64);
            return Err(DatasetProblem::Truncated { what: "records", expected, found });
        }
        for (index, record) in bytes.chunks_exact(size).enumerate() {
            let (head, image) = record.split_at(heads);
            let label = head[heads - 1];
            if label >= classes {
                return Err(DatasetProblem::LabelRange { index, most: classes - 1 });
            }
            labels.push(label);
            pixels.extend(image);
        }
        Ok(())
    }
}
