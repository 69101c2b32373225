//! A small data set on disk, and the command.

use std::fs;
use std::io::Write;
use std::path::Path;

use assert_cmd::Command;
use slth::data::Dataset;
use tempfile::TempDir;

pub(crate) const ROWS: u32 = 6;
pub(crate) const COLUMNS: u32 = 5;
pub(crate) const TRAIN: u32 = 203;
pub(crate) const TEST: u32 = 61;
pub(crate) const CLASSES: u8 = 3;

pub(crate) fn slth() -> Command {
    let mut command = Command::cargo_bin("slth").unwrap();
    // What a developer or a launcher may have set.
    for name in ["SLTH_BACKEND", "SLTH_SHARD", "SLTH_SHARDS"] {
        command.env_remove(name);
    }
    for (name, _) in std::env::vars_os() {
        let scheduler = |prefix| name.to_string_lossy().starts_with(prefix);
        if ["SLURM_", "OMPI_", "PMI_", "PBS_", "SGE_"].into_iter().any(scheduler) {
            command.env_remove(name);
        }
    }
    command
}

/// An IDX file: magic number, dimensions, bytes.
pub(crate) fn idx(magic: u32, dimensions: &[u32], bytes: &[u8]) -> Vec<u8> {
    let mut file = magic.to_be_bytes().to_vec();
    dimensions.iter().for_each(|d| file.extend(d.to_be_bytes()));
    file.extend(bytes);
    file
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Writes images whose class shows in their pixels, noise on top; the training images gzipped.
pub(crate) fn write_dataset(directory: &Path) {
    for (name, count, zipped) in [("train", TRAIN, true), ("t10k", TEST, false)] {
        let labels: Vec<u8> = (0..count).map(|i| (i * 7 % u32::from(CLASSES)) as u8).collect();
        let pixel = |i: u32, p: u32| {
            let noise = (i.wrapping_mul(2_654_435_761) ^ p.wrapping_mul(40_503)).wrapping_mul(97) >> 7 & 127;
            let lit = p % u32::from(CLASSES) == i * 7 % u32::from(CLASSES);
            (noise + if lit { 128 } else { 0 }) as u8
        };
        let pixels: Vec<u8> =
            (0..count).flat_map(|i| (0..ROWS * COLUMNS).map(move |p| pixel(i, p))).collect();
        let images = idx(0x803, &[count, ROWS, COLUMNS], &pixels);
        if zipped {
            fs::write(directory.join(format!("{name}-images-idx3-ubyte.gz")), gzip(&images)).unwrap();
        } else {
            fs::write(directory.join(format!("{name}-images-idx3-ubyte")), images).unwrap();
        }
        fs::write(directory.join(format!("{name}-labels-idx1-ubyte")), idx(0x801, &[count], &labels))
            .unwrap();
    }
}

/// Writes the first images of MNIST.
pub(crate) fn write_part_of_mnist(directory: &Path, train: usize, test: usize) {
    let mnist = Dataset::mnist().unwrap();
    for (name, examples, count) in [("train", mnist.train(), train), ("t10k", mnist.test(), test)] {
        let (labels, pixels) = (&examples.labels()[..count], &examples.pixels()[..count * 784]);
        let images = idx(0x803, &[count as u32, 28, 28], pixels);
        fs::write(directory.join(format!("{name}-images-idx3-ubyte")), images).unwrap();
        let labels = idx(0x801, &[count as u32], labels);
        fs::write(directory.join(format!("{name}-labels-idx1-ubyte")), labels).unwrap();
    }
}

pub(crate) fn dataset() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    write_dataset(directory.path());
    directory
}

/// `slth run` on the small data set, about as short as can be.
pub(crate) fn small_run(data: &Path) -> Command {
    small("run", data)
}

/// `slth sweep` likewise, of 2 × 3 × 2 cells.
pub(crate) fn small_sweep(data: &Path) -> Command {
    let mut command = small("sweep", data);
    command.args(["--epsilon", "0,0.05", "--sparsity", "0,0.5,0.7", "--seeds", "1,2"]);
    command
}

fn small(command: &str, data: &Path) -> Command {
    let mut small = slth();
    small.args([command, "--quiet", "--network", "30-8-3", "--validation", "40", "--batch", "32"]);
    small.args(["--prune-epochs", "2", "--data"]).arg(data);
    small
}
