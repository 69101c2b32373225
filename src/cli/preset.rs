//! Presets: named lists of flags.

use clap::ValueEnum;

/// A named list of flags of `slth sweep`; flags on the command line override it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Preset {
    /// The grid of the published table, 11 ε by 9 sparsities, in the setting calibrated to it: 784-32-10, long
    /// pretraining, few steps of edge-popup
    Paper,
    /// The same setting on 6 ε by 5 sparsities
    Quick,
    /// The published grid on 784-500-500-10
    Fc,
}

const PUBLISHED_GRID: [&str; 2] = [
    "--epsilon=0,0.001,0.005,0.01,0.02,0.03,0.04,0.05,0.1,0.2,0.3",
    "--sparsity=0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8",
];

/// The calibration: docs/calibration.md.
const CALIBRATED: &[&str] = &[
    "--network=784-32-10",
    "--init=kaiming-normal",
    "--init-scale=2.3",
    "--normalize=unit",
    "--train-images=20000",
    "--batch=400",
    "--pretrain-epochs=300",
    "--pretrain-lr=0.4",
    "--pretrain-schedule=cosine",
    "--pretrain-momentum=0.9",
    "--prune-epochs=1",
    "--prune-lr=0.4",
    "--momentum=0.2",
];

impl Preset {
    /// Its flags.
    pub(super) fn flags(self) -> impl Iterator<Item = &'static str> {
        let (grid, setting): ([&str; 2], &[&str]) = match self {
            Self::Paper => (PUBLISHED_GRID, CALIBRATED),
            Self::Quick => {
                (["--epsilon=0,0.01,0.03,0.1,0.2,0.3", "--sparsity=0,0.2,0.4,0.6,0.8"], CALIBRATED)
            }
            Self::Fc => (PUBLISHED_GRID, &["--network=784-500-500-10"]),
        };
        grid.into_iter().chain(setting.iter().copied())
    }
}
