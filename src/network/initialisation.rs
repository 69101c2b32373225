//! Random initial weights.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Architecture, LayerShape, by_name};
use crate::random::{Purpose, Stream};

/// The distribution of the initial weights of a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Initialisation {
    /// Normal of deviation √(2/fan_in) (He et al. 2015).
    #[default]
    KaimingNormal,
    /// Uniform on ±1/√fan_in: He et al. with a = √5, PyTorch's default.
    KaimingUniform,
    /// ±√(2/fan_in), the sign a fair coin (Ramanujan et al. 2020).
    SignedConstant,
    /// Uniform on [−1, 1), whatever the fan-in, as in the theory.
    Uniform,
}

impl Initialisation {
    /// Every kind, in the order of the help text.
    pub const ALL: [Self; 4] =
        [Self::KaimingNormal, Self::KaimingUniform, Self::SignedConstant, Self::Uniform];

    /// The name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::KaimingNormal => "kaiming-normal",
            Self::KaimingUniform => "kaiming-uniform",
            Self::SignedConstant => "signed-constant",
            Self::Uniform => "uniform",
        }
    }

    /// The weights of a layer, `[outputs, inputs]`, each multiplied by `scale` before it is rounded to f32.
    pub fn weights(self, shape: LayerShape, scale: f64, stream: &mut Stream) -> Vec<f32> {
        let fan_in = shape.inputs as f64;
        let kaiming = scale * libm::sqrt(2.0 / fan_in);
        let n = shape.weights();
        match self {
            Self::KaimingNormal => (0..n).map(|_| (kaiming * stream.normal()) as f32).collect(),
            Self::KaimingUniform => {
                let bound = (scale / libm::sqrt(fan_in)) as f32;
                (0..n).map(|_| stream.symmetric(bound)).collect()
            }
            Self::SignedConstant => {
                let magnitude = kaiming as f32;
                (0..n).map(|_| if stream.coin() { magnitude } else { -magnitude }).collect()
            }
            Self::Uniform => (0..n).map(|_| stream.symmetric(scale as f32)).collect(),
        }
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
        let layer =
            |(index, shape)| self.weights(shape, scale, &mut Stream::new(seed, Purpose::Weights, index, 0));
        network.layers().enumerate().map(layer).collect()
    }
}

impl fmt::Display for Initialisation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Initialisation {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        by_name(&Self::ALL, Self::name, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYER: LayerShape = LayerShape { outputs: 100, inputs: 200, kernel: None };

    fn weights(kind: Initialisation, scale: f64) -> Vec<f32> {
        kind.weights(LAYER, scale, &mut Stream::new(1, Purpose::Weights, 0, 0))
    }

    #[test]
    fn deviations_are_those_of_the_definitions() {
        for (kind, variance) in [
            (Initialisation::KaimingNormal, 2.0 / 200.0),
            (Initialisation::KaimingUniform, 1.0 / 200.0 / 3.0),
            (Initialisation::SignedConstant, 2.0 / 200.0),
            (Initialisation::Uniform, 1.0 / 3.0),
        ] {
            let drawn = weights(kind, 1.0);
            let n = drawn.len() as f64;
            let mean = drawn.iter().map(|&w| f64::from(w)).sum::<f64>() / n;
            let found = drawn.iter().map(|&w| f64::from(w) * f64::from(w)).sum::<f64>() / n;
            assert!((found / variance - 1.0).abs() < 0.03, "{kind}: {found} for {variance}");
            assert!(mean.abs() < 0.03 * variance.sqrt(), "{kind}");
        }
    }

    #[test]
    fn the_scale_multiplies() {
        for kind in Initialisation::ALL {
            let doubled: Vec<f32> = weights(kind, 1.0).iter().map(|w| 2.0 * w).collect();
            assert_eq!(weights(kind, 2.0), doubled, "{kind}");
        }
    }

    #[test]
    fn names_lead_back() {
        for kind in Initialisation::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
        assert!("xavier".parse::<Initialisation>().is_err());
    }
}
