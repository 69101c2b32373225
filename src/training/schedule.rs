//! How a learning rate changes from epoch to epoch.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::network::by_name;

/// How the learning rate of a training changes from epoch to epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// Not at all, as the paper's pretraining has it.
    #[default]
    Constant,
    /// Falls on half a cosine, as edge-popup's does: lr · ½(1 + cos(π · epoch / epochs)), the first epoch being 0.
    Cosine,
}

impl Schedule {
    /// Every kind, in the order of the help text.
    pub const ALL: [Self; 2] = [Self::Constant, Self::Cosine];

    /// The name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Cosine => "cosine",
        }
    }

    /// The learning rate of epoch `epoch`, from 0, of `epochs`.
    ///
    /// ```
    /// use slth::training::Schedule;
    /// let rates: Vec<f32> = (0..4).map(|epoch| Schedule::Cosine.rate(0.1, epoch, 4)).collect();
    /// assert_eq!((rates[0], rates[2]), (0.1, 0.05));
    /// ```
    pub fn rate(self, learning_rate: f32, epoch: usize, epochs: usize) -> f32 {
        match self {
            Self::Constant => learning_rate,
            Self::Cosine => {
                let turn = core::f64::consts::PI * epoch as f64 / epochs as f64;
                (f64::from(learning_rate) * 0.5 * (1.0 + libm::cos(turn))) as f32
            }
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Schedule {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        by_name(&Self::ALL, Self::name, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cosine_falls_from_the_rate_towards_zero() {
        let cosine = |epoch, epochs| Schedule::Cosine.rate(0.1, epoch, epochs);
        assert_eq!((cosine(0, 5), cosine(0, 1)), (0.1, 0.1));
        assert_eq!(cosine(2, 4), 0.05);
        assert!((1..5).all(|epoch| cosine(epoch, 5) < cosine(epoch - 1, 5)));
        assert!(cosine(4, 5) > 0.0);
    }

    #[test]
    fn names_lead_back() {
        for kind in Schedule::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
        assert!("step".parse::<Schedule>().is_err());
    }
}
