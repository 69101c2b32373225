//! The IDX format of MNIST, plain or gzipped.
//!
//! Big-endian: a magic number (0x803 images, 0x801 labels: unsigned bytes in 3 or 1 dimensions; 0xc02 labels of QMNIST: i32 in 2
//! dimensions), one u32 per dimension, then the numbers. The header is not trusted: memory grows as bytes are read, and
//! decompression stops at the size in the header, or at [`MAX_UNZIPPED`](super::MAX_UNZIPPED).

use super::{DataFile, DatasetProblem, Images};

const IMAGES_MAGIC: u32 = 0x0803;
const LABELS_MAGIC: u32 = 0x0801;
/// Labels of QMNIST: for each image its class and seven numbers about its writer.
const QMNIST_MAGIC: u32 = 0x0c02;
pub(super) const QMNIST_COLUMNS: u32 = 8;

/// Reads a file of images: the pixels, `[images, 1, rows, columns]`, and the last three of these sizes.
///
/// # Errors
/// When the file is not an IDX file of images, or is truncated, too long or damaged.
pub fn images(file: &mut DataFile<'_>) -> Result<Images, DatasetProblem> {
    let found = word(file)?;
    if found != IMAGES_MAGIC {
        return Err(DatasetProblem::Magic { what: "images", expected: IMAGES_MAGIC, found });
    }
    let sizes = [word(file)?, word(file)?, word(file)?];
    let bytes = sizes.iter().try_fold(1_u64, |n, &d| n.checked_mul(u64::from(d)));
    let bytes = bytes.filter(|&n| isize::try_from(n).is_ok()).ok_or(DatasetProblem::TooLarge(sizes))?;
    let [_, rows, columns] = sizes.map(|size| size as usize);
    Ok((file.last("pixels", bytes)?, [1, rows, columns]))
}

/// Reads a file of labels; of QMNIST's labels, the classes.
///
/// # Errors
/// When the file is not an IDX file of labels, or is truncated, too long or damaged.
///
/// ```
/// use slth_data::{DataFile, idx};
/// let bytes: &[u8] = &[0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1];
/// assert_eq!(idx::labels(&mut DataFile::new("labels".to_owned(), bytes))?, [7, 2, 1]);
/// # Ok::<(), slth_data::DatasetProblem>(())
/// ```
pub fn labels(file: &mut DataFile<'_>) -> Result<Vec<u8>, DatasetProblem> {
    match word(file)? {
        LABELS_MAGIC => {
            let count = word(file)?;
            file.last("labels", u64::from(count))
        }
        QMNIST_MAGIC => {
            let [count, columns] = [word(file)?, word(file)?];
            if columns != QMNIST_COLUMNS {
                return Err(DatasetProblem::LabelColumns(columns));
            }
            let bytes = file.last("labels", u64::from(count) * u64::from(4 * QMNIST_COLUMNS))?;
            let classes = bytes.chunks_exact(4 * QMNIST_COLUMNS as usize).enumerate();
            let class = |(index, row): (usize, &[u8])| match row {
                [0, 0, 0, class, ..] => Ok(*class),
                _ => Err(DatasetProblem::LabelRange { index, most: u8::MAX }),
            };
            classes.map(class).collect()
        }
        found => Err(DatasetProblem::Magic { what: "labels", expected: LABELS_MAGIC, found }),
    }
}

fn word(file: &mut DataFile<'_>) -> Result<u32, DatasetProblem> {
    let bytes = file.up_to(4)?;
    let found = bytes.len() as u64;
    let word =
        bytes.try_into().map_err(|_| DatasetProblem::Truncated { what: "header", expected: 4, found })?;
    Ok(u32::from_be_bytes(word))
}
