//! Groups of flags that commands share.

use std::path::{Path, PathBuf};

use clap::Args;
use slth::Error;
use slth::data::Dataset;
use slth::output::OutputDirectory;
use slth_kernels::Backend;

/// Where the images come from.
#[derive(Args)]
pub(super) struct DataArguments {
    /// Directory of a data set, or where it has several a file of one: IDX files named as those of MNIST, EMNIST or QMNIST
    /// (train-images-idx3-ubyte); CIFAR in binary form (data_batch_1.bin, test_batch.bin or train.bin, test.bin); NAME.npz with
    /// x_train, y_train, x_test and y_test, or these as .npy files. Each plain or gzipped [default: the built-in MNIST]
    #[arg(long, value_name = "DIR|FILE", help_heading = "Data")]
    data: Option<PathBuf>,
}

impl DataArguments {
    /// The data of `--data`, else the built-in MNIST.
    pub(super) fn dataset(&self) -> Result<Dataset, Error> {
        self.given().unwrap_or_else(|| Ok(Dataset::mnist()?))
    }

    /// Whether there was a `--data`.
    pub(super) fn is_given(&self) -> bool {
        self.data.is_some()
    }

    /// The data of `--data`, where it was given.
    pub(super) fn given(&self) -> Option<Result<Dataset, Error>> {
        Some(Dataset::load(self.data.as_ref()?).map_err(Error::from))
    }
}

/// Where the work is done; none of it changes a result.
#[derive(Args)]
pub(super) struct MachineArguments {
    /// Number of threads; does not change the result [default: all cores]
    #[arg(long, value_name = "N", help_heading = "Machine", allow_negative_numbers = true)]
    threads: Option<usize>,

    /// Instruction set, as listed by `slth info`; does not change the result [default: $SLTH_BACKEND, else the best]
    #[arg(long, value_name = "NAME", help_heading = "Machine")]
    backend: Option<String>,
}

impl MachineArguments {
    /// The threads and the backend of the flags; where `--backend` was not given, that of the environment or the best.
    pub(super) fn chosen(&self) -> Result<(Option<usize>, Option<Backend>), Error> {
        let backend = self.backend.as_deref().map_or_else(Backend::detect, Backend::named)?;
        Ok((self.threads, Some(backend)))
    }
}

/// Where results go, and what is told meanwhile.
#[derive(Args)]
pub(super) struct OutputArguments {
    /// Write the results into this directory
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    pub(super) out: Option<PathBuf>,

    /// Replace results in --out
    #[arg(long, help_heading = "Output")]
    pub(super) force: bool,

    /// Show no progress
    #[arg(long, help_heading = "Output")]
    pub(super) quiet: bool,
}

impl OutputArguments {
    /// The directory of `--out`, where it was given, for files of these `names`. To be called when everything else has been
    /// checked: no directory is left behind by work that was not to be.
    pub(super) fn prepare(&self, names: &[impl AsRef<Path>]) -> Result<Option<OutputDirectory>, Error> {
        let prepare = |path| OutputDirectory::prepare(path, names, self.force);
        Ok(self.out.as_ref().map(prepare).transpose()?)
    }
}
