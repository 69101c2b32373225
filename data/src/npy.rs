//! NumPy's arrays: `.npy` files, and `.npz` archives of them, as `np.save` and `np.savez` write them (NEP 1).
//!
//! Images are `[images, rows, columns]`, `[images, rows, columns, channels]` or `[images, channels, rows, columns]` with 1 or 3
//! channels (if both axes could be the channels, the last one is), bytes or f32; labels are integers. Pixels are kept as bytes:
//! floats that in one array are all k/255 within rounding (k = 0 … 255), or all k, stand for k. Others are refused, so that
//! nothing is rounded away. Headers are not trusted, as those of [`idx`](super::idx).

use std::io::Read;

use flate2::read::DeflateDecoder;
use rawzip::{CompressionMethod, ZipArchive};

use super::{DataFile, DatasetProblem, Images};

/// The names of the four arrays, in the order of MNIST's files.
pub(super) const NAMES: [&str; 4] = ["x_train", "y_train", "x_test", "y_test"];

/// Maximum number of bytes of a header; NumPy's own have 118.
const MAX_HEADER: u64 = 1 << 16;

/// An array as it is stored: integers (`u`, `i`) or floats (`f`) of `size` bytes, little-endian, row-major.
struct Array {
    letter: char,
    size: usize,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Array {
    fn read(file: &mut DataFile<'_>) -> Result<Self, DatasetProblem> {
        let start = file.up_to(8)?;
        let length = match start.strip_prefix(b"\x93NUMPY") {
            Some([1, _]) => file.up_to(2)?,
            Some([2 | 3, _]) => file.up_to(4)?,
            _ => return Err(DatasetProblem::NotNpy),
        };
        let length = length.iter().rev().fold(0, |length, &byte| length << 8 | u64::from(byte));
        let header = file.up_to(length.min(MAX_HEADER))?;
        let (letter, size, shape) =
            fields(&String::from_utf8_lossy(&header)).ok_or(DatasetProblem::NotNpy)?;
        let bytes = shape.iter().try_fold(size as u64, |n, &size| n.checked_mul(size as u64));
        let bytes = bytes.filter(|&n| isize::try_from(n).is_ok()).ok_or(DatasetProblem::NotNpy)?;
        Ok(Self { letter, size, shape, bytes: file.last("numbers", bytes)? })
    }

    fn refused(&self, expected: &'static str) -> DatasetProblem {
        DatasetProblem::Array {
            found: format!("{}{} {:?}", self.letter, 8 * self.size, self.shape),
            expected,
        }
    }
}

/// Reads images: the pixels, `[images, channels, rows, columns]`, and the last three of these sizes.
pub(super) fn images(file: &mut DataFile<'_>) -> Result<Images, DatasetProblem> {
    let array = Array::read(file)?;
    let (shape, innermost) = match array.shape[..] {
        [_, rows, columns] => ([1, rows, columns], 1),
        [_, rows, columns, channels @ (1 | 3)] => ([channels, rows, columns], channels),
        [_, channels @ (1 | 3), rows, columns] => ([channels, rows, columns], 1),
        _ => return Err(array.refused("images of 1 or 3 channels, which are their first or last axis")),
    };
    let pixels = match (array.letter, array.size) {
        ('u', 1) => array.bytes,
        ('f', 4) => levels(&array.bytes)?,
        _ => return Err(array.refused("u8 or f32")),
    };
    if innermost == 1 || pixels.is_empty() {
        return Ok((pixels, shape));
    }
    let planes = pixels.chunks(shape.iter().product()).flat_map(|image| {
        (0..innermost).flat_map(move |channel| image.iter().skip(channel).step_by(innermost))
    });
    Ok((planes.copied().collect(), shape))
}

/// Reads labels.
pub(super) fn labels(file: &mut DataFile<'_>) -> Result<Vec<u8>, DatasetProblem> {
    let array = Array::read(file)?;
    if !matches!(array.shape[..], [_] | [_, 1]) || array.letter == 'f' {
        return Err(array.refused("an integer for each image"));
    }
    let most = if (array.letter, array.size) == ('i', 1) { i8::MAX as u8 } else { u8::MAX };
    let label = |(index, number): (usize, &[u8])| match number {
        [label, rest @ ..] if *label <= most && rest.iter().all(|&byte| byte == 0) => Ok(*label),
        _ => Err(DatasetProblem::LabelRange { index, most: u8::MAX }),
    };
    array.bytes.chunks_exact(array.size).enumerate().map(label).collect()
}

/// Letter and size of the numbers, and the shape, of a header, which is a literal of a Python dictionary. `None` if it cannot be
/// read, or the array is not little-endian or not row-major.
fn fields(header: &str) -> Option<(char, usize, Vec<usize>)> {
    let field = |name: &str| Some(header.split_once(&format!("'{name}':"))?.1.trim_start());
    let kind = field("descr")?.strip_prefix('\'')?.split('\'').next()?;
    let kind = kind.strip_prefix(['<', '|']).unwrap_or(kind);
    let letter = kind.chars().next().filter(|letter| "uif".contains(*letter))?;
    let size = kind[1..].parse().ok().filter(|size| [1, 2, 4, 8].contains(size))?;
    let (shape, _) = field("shape")?.strip_prefix('(')?.split_once(')')?;
    let sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty()).map(|size| size.parse().ok());
    let shape = sizes.collect::<Option<_>>()?;
    field("fortran_order")?.starts_with("False").then_some((letter, size, shape))
}

/// The bytes of floats: k for k/255 if none is above 1, else k for k.
fn levels(bytes: &[u8]) -> Result<Vec<u8>, DatasetProblem> {
    let values = || bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
    let scale = if values().all(|value| value <= 1.0) { 255.0 } else { 1.0 };
    let level = |(index, value): (usize, f32)| {
        let (scaled, level) = (value * scale, (value * scale).round());
        let exact = (0.0..=255.0).contains(&level) && (scaled - level).abs() < 1e-3;
        if exact { Ok(level as u8) } else { Err(DatasetProblem::Pixel { index, value }) }
    };
    values().enumerate().map(level).collect()
}

/// The array `name` of the archive `bytes`, which is called `file`.
pub(super) fn member<'a>(
    bytes: &'a [u8],
    file: &str,
    name: &'static str,
) -> Result<DataFile<'a>, DatasetProblem> {
    let damaged = |error: rawzip::Error| DatasetProblem::Zip(error.to_string());
    let archive = ZipArchive::from_slice(bytes).map_err(damaged)?;
    let mut entries = archive.entries();
    while let Some(entry) = entries.next_entry().map_err(damaged)? {
        if entry.file_path().as_ref().strip_suffix(b".npy") != Some(name.as_bytes()) {
            continue;
        }
        let found = archive.get_entry(entry.wayfinder()).map_err(damaged)?;
        let (start, end) = found.compressed_data_range();
        let zipped = &bytes[start as usize..end as usize];
        let decoder: Box<dyn Read + 'a> = match entry.compression_method() {
            CompressionMethod::STORE => Box::new(zipped),
            CompressionMethod::DEFLATE => Box::new(DeflateDecoder::new(zipped)),
            other => return Err(DatasetProblem::Zip(format!("{name} is compressed by method {other:?}"))),
        };
        return Ok(DataFile::unzipped(format!("{file}, {name}"), found.verifying_reader(decoder)));
    }
    Err(DatasetProblem::NoArray(name))
}
