//! Tasks: what is measured. The fields identify a case, and scripts for peers outside Rust write the same fields.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// An enum whose variants have names, which are used in output and in files.
macro_rules! named {
    ($(#[$about:meta])* $name:ident { $($variant:ident = $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $(#[doc = concat!($text, ".")] #[serde(rename = $text)] $variant,)+
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $text,)+ })
            }
        }
    };
}
pub(crate) use named;

/// The groups of benchmarks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Kernel {
    /// Products with masked weights.
    MaskedMatmul,
    /// Convolutions with masked weights.
    Conv2d,
    /// Exact top-k selection.
    TopK,
    /// Nearest subset sums and coverage.
    SubsetSum,
    /// Training: a step, an epoch, a cell of a sweep.
    Pipeline,
    /// The machine's limits.
    Roofline,
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_possible_value().map_or(Ok(()), |value| f.write_str(value.get_name()))
    }
}

/// A task, the same for all its contestants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kernel", rename_all = "kebab-case")]
pub enum Task {
    /// A task of a fully connected layer.
    MaskedMatmul(Matmul),
    /// A task of a convolutional layer.
    Conv2d(Convolution),
    /// A selection of scores.
    TopK(Selection),
    /// A search among subsets.
    SubsetSum(SubsetSum),
    /// A task of the pipeline.
    Pipeline(Training),
    /// A limit of the machine.
    Roofline(Roofline),
}

named! {
    /// What is done with a layer's weights.
    LayerOperation {
        Forward = "forward",
        InputGradient = "input gradient",
        WeightGradient = "weight gradient",
        Layout = "layout",
        Rebuild = "rebuild",
        Prepare = "prepare",
    }
}

/// A task of a fully connected layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Matmul {
    /// What is done.
    pub operation: LayerOperation,
    /// Columns of the activations.
    pub batch: usize,
    /// Columns of the weights.
    pub inputs: usize,
    /// Rows of the weights.
    pub outputs: usize,
    /// Fraction of the weights removed, where it matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sparsity: Option<f64>,
}

/// A task of a convolutional layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Convolution {
    /// What is done.
    pub operation: LayerOperation,
    /// Images.
    pub batch: usize,
    /// Channels of an image.
    pub channels: usize,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// Channels of the result.
    pub outputs: usize,
    /// Rows and columns of the square window.
    pub window: usize,
    /// Stride, the same both ways.
    pub stride: usize,
    /// Zeros around an image.
    pub padding: usize,
    /// Fraction of the weights removed, where it matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sparsity: Option<f64>,
}

named! {
    /// The distribution of scores.
    Scores {
        Normal = "normal",
        Sorted = "sorted",
        Reversed = "reversed",
        Constant = "constant",
        TwoValued = "two-valued",
        Denormal = "denormal",
        OneOutlier = "one outlier",
        OrganPipe = "organ pipe",
        MedianOf3Killer = "median-of-3 killer",
        RowsOfOneValue = "rows of one value",
    }
}

/// A selection of the largest scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Selection {
    /// The distribution of the scores.
    pub scores: Scores,
    /// Number of scores.
    pub count: usize,
    /// Fraction not selected.
    pub sparsity: f64,
}

named! {
    /// What is searched.
    Search {
        Fresh = "nearest, fresh candidates",
        Shared = "nearest, one set",
        OneTarget = "nearest, one target",
        BruteForce = "brute force",
        Coverage = "coverage",
        Network = "weights of a network",
    }
}

/// A search among subsets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubsetSum {
    /// What is searched.
    pub operation: Search,
    /// Candidates of each target.
    pub candidates: usize,
    /// ε: how far a candidate may be moved.
    pub epsilon: f64,
    /// η: how near a subset must be to a target; coverage only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta: Option<f64>,
    /// Size of the subsets, if fixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
}

named! {
    /// What is trained.
    Phase {
        PruningStep = "pruning step",
        PruningEpoch = "pruning epoch",
        PretrainingEpoch = "pretraining epoch",
        Cell = "cell of a sweep",
    }
}

/// A task of the pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// What is trained.
    pub operation: Phase,
    /// The network, as `slth run --network` takes it.
    pub network: String,
    /// Training images.
    pub images: usize,
    /// Fraction of the weights removed, where some are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sparsity: Option<f64>,
}

named! {
    /// What the machine does.
    Limit {
        MultiplyAdd = "multiply-add",
        Clock = "clock",
        Read = "read",
    }
}

/// A limit of the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Roofline {
    /// What it does.
    pub operation: Limit,
    /// Bytes read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<usize>,
}

impl Task {
    /// The kernel that the task belongs to.
    pub fn kernel(&self) -> Kernel {
        match self {
            Self::MaskedMatmul(_) => Kernel::MaskedMatmul,
            Self::Conv2d(_) => Kernel::Conv2d,
            Self::TopK(_) => Kernel::TopK,
            Self::SubsetSum(_) => Kernel::SubsetSum,
            Self::Pipeline(_) => Kernel::Pipeline,
            Self::Roofline(_) => Kernel::Roofline,
        }
    }

    /// The name that `--case` takes, without the kernel.
    pub fn name(&self) -> String {
        let with = |sparsity: Option<f64>| sparsity.map_or_else(String::new, |s| format!(" s={s}"));
        match self {
            Self::MaskedMatmul(Matmul { operation, batch, inputs, outputs, sparsity }) => {
                format!("{operation} {batch}x{inputs}x{outputs}{}", with(*sparsity))
            }
            Self::Conv2d(Convolution {
                operation,
                batch,
                channels,
                height,
                width,
                outputs,
                window,
                stride,
                padding,
                sparsity,
            }) => {
                let [padding, stride] = [("p", *padding, 0), ("s", *stride, 1)]
                    .map(|(name, n, usual)| if n == usual { String::new() } else { format!("{name}{n}") });
                format!(
                    "{operation} {outputs}@{window}x{window}{padding}{stride} {batch}x{channels}x{height}x{width}{}",
                    with(*sparsity)
                )
            }
            Self::TopK(Selection { scores, count, sparsity }) => {
                format!("selection from {scores} {count} s={sparsity}")
            }
            Self::SubsetSum(SubsetSum { operation, candidates, epsilon, eta, size }) => {
                let eta = eta.map_or_else(String::new, |eta| format!(" η={eta:e}"));
                let size = size.map_or_else(String::new, |size| format!(" k={size}"));
                format!("{operation} {candidates} ε={epsilon}{eta}{size}")
            }
            Self::Pipeline(Training { operation, network, sparsity, .. }) => {
                format!("{operation} {network}{}", with(*sparsity))
            }
            Self::Roofline(Roofline { operation, bytes }) => {
                let bytes = bytes.map_or_else(String::new, |bytes| format!(" {} KiB", bytes / 1024));
                format!("{operation}{bytes}")
            }
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kernel(), self.name())
    }
}
