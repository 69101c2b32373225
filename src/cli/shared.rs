//! Groups of flags that commands share.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::Args;
use slth::Error;
use slth::data::Dataset;
use slth::flags::{List, names};
use slth::network::Architecture;
use slth::output::OutputDirectory;
use slth::run::RunConfig;
use slth_kernels::{Backend, Engine};

/// The images.
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

/// The network, and where its weights come from.
#[derive(Clone, Args)]
pub(super) struct NetworkArguments {
    #[arg(
        long,
        value_name = "NETWORK",
        help_heading = "Network",
        help = Architecture::help(),
        allow_negative_numbers = true
    )]
    network: Option<Architecture>,

    /// A trained network, as a safetensors file: a matrix or filter per layer, and biases (layer.bias) where it has some, in the
    /// natural order of their names; F16, BF16, F32 or F64; weight_orig and weight_mask are multiplied. With run it is what
    /// pretraining starts from, and --pretrain-epochs 0 prunes it as it is [default: random weights]
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    weights: Option<String>,

    /// The layers' tensors in --weights, first to last, by the names of their weights, with or without .weight; WEIGHT+BIAS where
    /// the biases are called otherwise than layer.bias. Other tensors are ignored [default: all tensors in natural order]
    #[arg(long, value_name = "NAME,..", help_heading = "Network", value_parser = names)]
    map: Option<List<String>>,
}

impl NetworkArguments {
    /// The configuration with this network.
    pub(super) fn of(&self, setting: RunConfig) -> Result<RunConfig, Error> {
        let Self { network, weights, map } = self.clone();
        RunConfig { weights, map, ..setting }.with_network(network)
    }
}

/// What a run is made of, but for its place in a grid.
#[derive(Args)]
pub(super) struct SettingArguments {
    #[command(flatten)]
    network: NetworkArguments,

    #[command(flatten)]
    setting: RunConfig,
}

impl SettingArguments {
    /// The configuration that the flags make.
    pub(super) fn config(&self) -> Result<RunConfig, Error> {
        self.network.of(self.setting.clone())
    }
}

/// Threads and instruction set, which change no result.
#[derive(Args)]
pub(super) struct MachineArguments {
    /// Number of threads, 1 to 1024; does not change the result. `run` uses at most one for each core [default: all cores]
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

    /// An engine of these.
    pub(super) fn engine(&self) -> Result<Engine<'static>, Error> {
        let (threads, backend) = self.chosen()?;
        slth::run::engine(backend, threads)
    }
}

/// Output directory and progress.
#[derive(Args)]
pub(super) struct OutputArguments {
    /// Directory for the results, made if missing [default: write no files]
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    pub(super) out: Option<PathBuf>,

    /// Replace the results that are in --out [default: refuse]
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

/// Where one file goes.
#[derive(Args)]
pub(super) struct OutputFileArguments {
    /// Write the new file here [default: only print the table]
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    out: Option<PathBuf>,

    /// Replace the file of --out [default: refuse]
    #[arg(long, help_heading = "Output")]
    force: bool,
}

impl OutputFileArguments {
    /// The directory and the name of `--out`, where it was given, as [`OutputArguments::prepare`].
    pub(super) fn prepare(&self) -> Result<Option<(OutputDirectory, &OsStr)>, Error> {
        self.out.as_ref().map(|out| prepare_file(out, self.force)).transpose()
    }
}

/// The directory and the name of a file to be written. To be called when everything else has been checked.
pub(super) fn prepare_file(file: &Path, force: bool) -> Result<(OutputDirectory, &OsStr), Error> {
    let name = file.file_name().unwrap_or_default();
    let directory = file.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((OutputDirectory::prepare(directory, &[name], force)?, name))
}
