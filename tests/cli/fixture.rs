//! What the tests share: a small data set on disk, commands on it, and killing them.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command as Process, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::Command;
use slth::data::Dataset;
use tempfile::TempDir;

pub(crate) const ROWS: u32 = 6;
pub(crate) const COLUMNS: u32 = 5;
pub(crate) const TRAIN: u32 = 203;
pub(crate) const TEST: u32 = 61;
pub(crate) const CLASSES: u8 = 3;

/// The longest time a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) fn slth() -> Command {
    let mut command = Command::cargo_bin("slth").unwrap();
    command.timeout(PATIENCE);
    // Variables that a developer or a job scheduler may have set.
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

/// Writes noisy images whose class can be learnt from their pixels; the training images are gzipped.
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

/// Writes the first images of MNIST and their labels.
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

/// A `slth run` on the small data set that takes little time.
pub(crate) fn small_run(data: &Path) -> Command {
    small("run", data)
}

/// A `slth sweep` of 2 × 3 × 2 such runs.
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

/// Waits until `holds` returns true; fails after [`PATIENCE`].
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A running command; killed when dropped.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(command: &Command) -> Self {
        let mut process = Process::new(assert_cmd::cargo::cargo_bin("slth"));
        process.args(command.get_args()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(process.spawn().unwrap())
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Waits until `sign` shows that work is under way. Fails if the command ends first.
    pub(crate) fn wait_for(&mut self, what: &str, mut sign: impl FnMut() -> bool) {
        wait_until(what, || {
            let ended = self.0.try_wait().unwrap();
            sign() || ended.is_some_and(|status| panic!("ended before {what}: {status}"))
        });
    }

    /// Waits for the end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the end of a command", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Kills the command; returns false if it had already succeeded.
    pub(crate) fn kill(mut self) -> bool {
        self.0.kill().unwrap();
        !self.wait().success()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Calls `kill` until it has returned true `kills` times, that is, has killed a command while it was working.
pub(crate) fn kill_in_time(kills: usize, mut kill: impl FnMut() -> bool) {
    let mut in_time = 0;
    for _ in 0..20 * kills {
        in_time += usize::from(kill());
        if in_time == kills {
            return;
        }
    }
    panic!("{in_time} of {kills} kills came in time");
}

/// Random numbers in [0, 1), different in every process.
pub(crate) fn random_shares() -> impl FnMut() -> f64 {
    let mut random = u64::from(std::process::id());
    move || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 40) as f64 / (1_u64 << 24) as f64
    }
}

/// Kills `command` at `kills` random moments of its work; calls `look` after each kill.
pub(crate) fn kill_at_random(kills: usize, command: impl Fn() -> Command, mut look: impl FnMut()) {
    let start = Instant::now();
    command().assert().success();
    let mut time = start.elapsed();
    let mut share = random_shares();
    kill_in_time(kills, || {
        let process = Running::start(&command());
        std::thread::sleep(time.mul_f64(share()));
        let in_time = process.kill();
        if !in_time {
            time = time.mul_f64(0.9); // the uninterrupted run was slower than this one
        }
        look();
        in_time
    });
}
