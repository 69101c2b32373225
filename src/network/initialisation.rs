//! Random initial weights.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::architecture::Architecture;
use super::stage::LayerShape;
use crate::random::{Purpose, Stream};

/// The distribution of the initial weights of a layer. PyTorch's `kaiming_uniform_` gives
/// [`KaimingUniform`](Self::KaimingUniform) with its default a = 0, [`PytorchDefault`](Self::PytorchDefault) with a = √5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Initialisation {
    /// Normal, standard deviation √(2/fan_in) (He et al. 2015)
    #[default]
    KaimingNormal,
    /// Uniform within ±√(6/fan_in), of the same deviation (He et al. 2015)
    KaimingUniform,
    /// Uniform within ±1/√fan_in, √6 narrower: what PyTorch gives Linear and Conv2d
    PytorchDefault,
    /// ±√(2/fan_in), the sign a fair coin (Ramanujan et al. 2020)
    SignedConstant,
    /// Uniform within ±1 whatever the fan-in, as in the theory
    Uniform,
}

impl Initialisation {
    /// The weights of a layer, `[outputs, inputs]`, each multiplied by `scale` before it is rounded to f32.
    pub fn weights(self, shape: LayerShape, scale: f64, stream: &mut Stream) -> Vec<f32> {
        let fan_in = shape.inputs as f64;
        let kaiming = scale * libm::sqrt(2.0 / fan_in);
        let n = shape.weights();
        let mut uniform = |bound: f64| (0..n).map(|_| stream.symmetric(bound as f32)).collect();
        match self {
            Self::KaimingNormal => (0..n).map(|_| (kaiming * stream.normal()) as f32).collect(),
            Self::KaimingUniform => uniform(scale * libm::sqrt(6.0 / fan_in)),
            Self::PytorchDefault => uniform(scale / libm::sqrt(fan_in)),
            Self::SignedConstant => {
                let magnitude = kaiming as f32;
                (0..n).map(|_| if stream.coin() { magnitude } else { -magnitude }).collect()
            }
            Self::Uniform => uniform(scale),
        }
    }

    /// The biases of a layer, from the stream that its weights were drawn from: those that PyTorch gives Linear and Conv2d with
    /// [`PytorchDefault`](Self::PytorchDefault), else 0.
    fn biases(self, shape: LayerShape, stream: &mut Stream) -> Vec<f32> {
        let bound = (1.0 / libm::sqrt(shape.inputs as f64)) as f32;
        let drawn = self == Self::PytorchDefault;
        (0..shape.outputs).map(|_| if drawn { stream.symmetric(bound) } else { 0.0 }).collect()
    }

    /// The weights of all layers of `network`, first to last, each layer from its own stream of `seed`.
    ///
    /// ```
    /// use slth::network::{Architecture, Initialisation};
    /// let network: Architecture = "8-3-2".parse()?;
    /// let weights = Initialisation::SignedConstant.network(&network, 1.0, 7);
    /// assert_eq!((weights[0].len(), weights[1].len()), (24, 6));
    /// assert!(weights[0].iter().all(|w| w.abs() == 0.5)); // √(2/8)
    /// # Ok::<(), String>(())
    /// ```
    pub fn network(self, network: &Architecture, scale: f64, seed: u64) -> Vec<Vec<f32>> {
        self.parameters(network, false, scale, seed)
    }

    /// The same, with `bias` each layer's weights followed by its biases.
    pub(crate) fn parameters(
        self,
        network: &Architecture,
        bias: bool,
        scale: f64,
        seed: u64,
    ) -> Vec<Vec<f32>> {
        let layer = |(index, shape)| {
            let mut stream = Stream::new(seed, Purpose::Weights, index, 0);
            let mut layer = self.weights(shape, scale, &mut stream);
            layer.extend(bias.then(|| self.biases(shape, &mut stream)).into_iter().flatten());
            layer
        };
        network.layers().enumerate().map(layer).collect()
    }
}

crate::flags::display_by_name!(Initialisation);
