//! Which layers a network has.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use slth_kernels::conv2d;

use super::stage::{LayerShape, Pool, Stage};

/// Networks that have a name, and how they are written in full. LeNet-300-100 and LeNet-5 (LeCun et al. 1998, "Gradient-based
/// learning applied to document recognition"), the latter as it is built today: ReLU, max-pooling, every map of the first
/// convolution seen by the second. Conv-2 to Conv-8 of Ramanujan et al. 2020, after Frankle and Carbin 2019, for CIFAR-10.
const NAMED: [(&str, &str); 6] = [
    ("lenet-300-100", "784-300-100-10"),
    ("lenet5", "28x28-6@5x5p2-pool2-16@5x5-pool2-120-84-10"),
    ("conv2", "3x32x32-64@3x3p1-64@3x3p1-pool2-256-256-10"),
    ("conv4", "3x32x32-64@3x3p1-64@3x3p1-pool2-128@3x3p1-128@3x3p1-pool2-256-256-10"),
    (
        "conv6",
        "3x32x32-64@3x3p1-64@3x3p1-pool2-128@3x3p1-128@3x3p1-pool2-256@3x3p1-256@3x3p1-pool2-256-256-10",
    ),
    (
        "conv8",
        "3x32x32-64@3x3p1-64@3x3p1-pool2-128@3x3p1-128@3x3p1-pool2-256@3x3p1-256@3x3p1-pool2-512@3x3p1-512@3x3p1-pool2\
         -256-256-10",
    ),
];

/// The names, for messages.
fn names() -> String {
    NAMED.map(|(name, _)| name).join(", ")
}

/// A network, ReLU between its layers, written as its input and its stages:
///
/// * `784` or, where it begins with convolutions or pooling, `28x28` rows × columns or `3x32x32` channels × rows × columns: the
///   input
/// * `500`: a fully connected layer of that many neurons
/// * `6@5x5`: a convolution with 6 filters of 5 × 5, `6@5x5p2` with 2 rows and columns of zeros around its input, `6@5x5s2`
///   at every second place, `6@5x5s2p2` both
/// * `pool2`: max-pooling in windows of 2 × 2
///
/// `784-500-500-10` is fully connected; `lenet5` is short for `28x28-6@5x5p2-pool2-16@5x5-pool2-120-84-10`. The others that have
/// a name are `lenet-300-100`, `conv2`, `conv4`, `conv6` and `conv8`, and are written by it.
///
/// ```
/// use slth::network::Architecture;
/// let network: Architecture = "lenet5".parse()?;
/// assert_eq!(network, "28x28-6@5x5p2-pool2-16@5x5-pool2-120-84-10".parse()?);
/// assert_eq!((network.inputs(), network.outputs(), network.layers().len()), (784, 10, 5));
/// assert_eq!(network.weights(), 150 + 2400 + 48_000 + 10_080 + 840);
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Architecture {
    input: Input,
    stages: Vec<Stage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Input {
    Features(usize),
    /// Channels, rows and columns.
    Image([usize; 3]),
}

impl Input {
    /// Planes, rows and columns.
    fn planes(self) -> [usize; 3] {
        match self {
            Self::Features(features) => [features, 1, 1],
            Self::Image(planes) => planes,
        }
    }
}

impl Architecture {
    /// The most weights a network may have: 2²⁸, 1 GiB for each of the several numbers kept per weight.
    pub const MAX_WEIGHTS: usize = 1 << 28;

    /// The most numbers an image may become in any one stage: 2²⁸.
    pub const MAX_OUTPUTS: usize = 1 << 28;

    /// The most activations a batch may have in all stages: 2³⁰, 4 GiB.
    pub const MAX_ACTIVATIONS: usize = 1 << 30;

    /// How a network is written, for help.
    pub fn help() -> String {
        format!(
            "The network: widths, input first; or convolutions and pooling between an image and widths, as in \
             {} (rows x columns or channels x rows x columns, filters @ kernel, s stride, p padding); or a name: {} \
             [default: the chain of matrices of --weights, else {}]",
            NAMED[1].1,
            names(),
            Self::default()
        )
    }

    /// The fully connected network with these widths, input first.
    ///
    /// # Errors
    /// When there are fewer than two widths, one is 0, or there are more than
    /// [`MAX_WEIGHTS`](Self::MAX_WEIGHTS) weights.
    ///
    /// ```
    /// use slth::network::Architecture;
    /// let network = Architecture::new(vec![784, 500, 10])?;
    /// assert_eq!(network, "784-500-10".parse()?);
    /// assert_eq!((network.inputs(), network.outputs(), network.weights()), (784, 10, 397_000));
    /// # Ok::<(), String>(())
    /// ```
    pub fn new(widths: Vec<usize>) -> Result<Self, String> {
        if widths.len() < 2 {
            return Err("a network needs at least two widths, its inputs and its outputs: 784-10".to_owned());
        }
        let stages = widths.windows(2).map(|pair| Stage::Dense { inputs: pair[0], outputs: pair[1] });
        Self::checked(Input::Features(widths[0]), stages.collect())
    }

    /// Checks the sizes.
    fn checked(input: Input, stages: Vec<Stage>) -> Result<Self, String> {
        let sizes = || stages.iter().filter_map(|stage| stage.weights());
        if input.planes().contains(&0) || sizes().any(|shape| shape.outputs == 0) {
            return Err("a width is 0".to_owned());
        }
        let weights = sizes()
            .try_fold(0_usize, |n, shape| n.checked_add(shape.outputs.checked_mul(shape.inputs)?))
            .filter(|&n| n <= Self::MAX_WEIGHTS);
        if weights.is_none() {
            return Err(format!("more than {} weights", Self::MAX_WEIGHTS));
        }
        let outputs = |planes: [usize; 3]| planes.iter().try_fold(1_usize, |n, &size| n.checked_mul(size));
        let planes = std::iter::once(input.planes()).chain(stages.iter().map(|stage| stage.output_planes()));
        for (index, planes) in planes.enumerate() {
            match outputs(planes) {
                Some(1..=Self::MAX_OUTPUTS) => {}
                Some(0) => {
                    let stage = stages[index - 1];
                    return Err(format!("nothing is left of the image after `{}`", Self::token(stage)));
                }
                _ => return Err(format!("an image becomes more than {} numbers", Self::MAX_OUTPUTS)),
            }
        }
        if stages.last().is_none_or(|stage| stage.weights().is_none()) {
            return Err("it has to end with a layer that has weights".to_owned());
        }
        Ok(Self { input, stages })
    }

    /// All steps of the forward pass, first to last.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// The layers that have weights, first to last.
    pub fn layers(&self) -> impl ExactSizeIterator<Item = LayerShape> + '_ {
        let layers: Vec<_> = self.stages.iter().filter_map(|stage| stage.weights()).collect();
        layers.into_iter()
    }

    /// Their stages.
    pub(crate) fn layer_stages(&self) -> impl Iterator<Item = Stage> + '_ {
        self.stages.iter().copied().filter(|stage| stage.weights().is_some())
    }

    /// Width of the input: pixels of an image.
    pub fn inputs(&self) -> usize {
        self.input.planes().iter().product()
    }

    /// The channels, rows and columns an image must have, where that matters.
    pub fn image(&self) -> Option<[usize; 3]> {
        match self.input {
            Input::Features(_) => None,
            Input::Image(planes) => Some(planes),
        }
    }

    /// Width of the output; at least the number of classes.
    pub fn outputs(&self) -> usize {
        self.stages.last().map_or(0, |stage| stage.outputs())
    }

    /// Number of weights in all layers.
    pub fn weights(&self) -> usize {
        self.layers().map(LayerShape::weights).sum()
    }

    /// Numbers an image becomes, in all stages, its pixels among them.
    pub fn activations(&self) -> usize {
        self.inputs() + self.stages.iter().map(|stage| stage.outputs()).sum::<usize>()
    }

    /// How a stage is written.
    fn token(stage: Stage) -> String {
        match stage {
            Stage::Dense { outputs, .. } => outputs.to_string(),
            Stage::Convolution(conv2d::Shape {
                outputs, kernel: [rows, columns], stride, padding, ..
            }) => {
                let stride = if stride == 1 { String::new() } else { format!("s{stride}") };
                let padding = if padding == 0 { String::new() } else { format!("p{padding}") };
                format!("{outputs}@{rows}x{columns}{stride}{padding}")
            }
            Stage::Pool(Pool { size, .. }) => format!("pool{size}"),
        }
    }

    /// The stage that `token` stands for, after one that put out planes of this number, rows and columns.
    fn stage(token: &str, [channels, height, width]: [usize; 3]) -> Option<Stage> {
        if let Some(size) = token.strip_prefix("pool") {
            let size = number(size).filter(|&size| size > 0)?;
            return Some(Stage::Pool(Pool { channels, height, width, size }));
        }
        let Some((outputs, kernel)) = token.split_once('@') else {
            return Some(Stage::Dense { inputs: channels * height * width, outputs: number(token)? });
        };
        let (kernel, padding) = kernel.split_once('p').unwrap_or((kernel, "0"));
        let (kernel, stride) = kernel.split_once('s').unwrap_or((kernel, "1"));
        let (rows, columns) = kernel.split_once('x')?;
        let kernel = [number(rows).filter(|&n| n > 0)?, number(columns).filter(|&n| n > 0)?];
        let stride = number(stride).filter(|&stride| stride > 0)?;
        let (outputs, padding) = (number(outputs)?, number(padding)?);
        Some(Stage::Convolution(conv2d::Shape { channels, height, width, outputs, kernel, stride, padding }))
    }
}

/// A number in plain digits: usize's own parser would take "+5".
fn number(text: &str) -> Option<usize> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

impl Default for Architecture {
    /// 784-500-500-10
    fn default() -> Self {
        Self::new(vec![784, 500, 500, 10]).expect("a network")
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = match self.input {
            Input::Features(features) => features.to_string(),
            Input::Image([1, rows, columns]) => format!("{rows}x{columns}"),
            Input::Image([channels, rows, columns]) => format!("{channels}x{rows}x{columns}"),
        };
        for &stage in &self.stages {
            text += "-";
            text += &Self::token(stage);
        }
        f.write_str(NAMED.iter().find(|(_, full)| *full == text).map_or(&text, |(name, _)| name))
    }
}

impl FromStr for Architecture {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = NAMED.iter().find(|(name, _)| *name == text).map_or(text, |(_, full)| full);
        let refused = |problem: &str| format!("`{text}` is no network: {problem}");
        let unknown = |token: &str| {
            refused(&format!(
                "`{token}` is no layer; give widths as in 784-500-500-10, convolutions and pooling as in {}, or a name: {}",
                NAMED[1].1,
                names()
            ))
        };
        let mut tokens = text.split('-');
        let first = tokens.next().unwrap_or_default();
        let sizes: Option<Vec<usize>> = first.split('x').map(number).collect();
        let input = match sizes.as_deref() {
            Some(&[features]) => Input::Features(features),
            Some(&[rows, columns]) => Input::Image([1, rows, columns]),
            Some(&[channels, rows, columns]) => Input::Image([channels, rows, columns]),
            _ => return Err(unknown(first)),
        };
        let mut stages: Vec<Stage> = Vec::new();
        for token in tokens {
            let planes = stages.last().map_or(input.planes(), |stage| stage.output_planes());
            // Before the next product, which could overflow.
            if planes.iter().try_fold(1_usize, |n, &size| n.checked_mul(size)).is_none() {
                break;
            }
            stages.push(Self::stage(token, planes).ok_or_else(|| unknown(token))?);
        }
        if stages.is_empty() {
            return Err(refused("a network needs at least two widths, its inputs and its outputs: 784-10"));
        }
        Self::checked(input, stages).map_err(|problem| refused(&problem))
    }
}

crate::flags::serde_by_text!(Architecture);
