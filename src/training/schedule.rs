//! Learning-rate schedules.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::flags::number;

/// A learning-rate schedule. As text `constant`, `cosine` or `multistep:80,120`, at another factor than 0.1
/// `multistep:80,120x0.2`; after a warm-up `warmup:5+cosine`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Schedule {
    /// Epochs of warm-up, w: epoch e < w has (e + 1)/(w + 1) of the rate.
    pub warm_up: usize,
    /// What follows.
    pub decay: Decay,
}

/// How a learning rate falls.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Decay {
    /// Not at all, as in the paper's pretraining.
    #[default]
    Constant,
    /// Half a cosine: lr · (1 + cos(π · e/n)) / 2 in epoch e of n, both counted from the end of the warm-up.
    Cosine,
    /// By a factor at each milestone.
    Multistep {
        /// The epochs, from 0, that begin with a lower rate; they ascend, none is 0. A warm-up counts among the epochs.
        milestones: Vec<usize>,
        /// In (0, 1).
        factor: f64,
    },
}

const FACTOR: f64 = 0.1;

impl Schedule {
    /// The rate stays.
    pub const CONSTANT: Self = Self { warm_up: 0, decay: Decay::Constant };
    /// The rate follows a cosine.
    pub const COSINE: Self = Self { warm_up: 0, decay: Decay::Cosine };

    /// How it is written, for help.
    pub(crate) fn help(of: &str) -> String {
        format!(
            "Learning-rate schedule of {of}: constant; cosine, lr * (1 + cos(pi * epoch / epochs)) / 2 with the first epoch 0; \
             multistep:80,120, times 0.1 from each of these epochs on, or multistep:80,120x0.2; each also after a linear rise, \
             as in warmup:5+cosine"
        )
    }

    /// The learning rate of epoch `epoch`, from 0, of `epochs`.
    ///
    /// ```
    /// use slth::training::Schedule;
    /// let rates = |text: &str| -> Vec<f32> {
    ///     let schedule: Schedule = text.parse().unwrap();
    ///     (0..4).map(|epoch| schedule.rate(0.1, epoch, 4)).collect()
    /// };
    /// assert_eq!(rates("cosine")[..3], [0.1, 0.08535534, 0.05]);
    /// assert_eq!(rates("warmup:1+constant"), [0.05, 0.1, 0.1, 0.1]);
    /// assert_eq!(rates("multistep:1,3x0.5"), [0.1, 0.05, 0.05, 0.025]);
    /// ```
    pub fn rate(&self, learning_rate: f32, epoch: usize, epochs: usize) -> f32 {
        let rate = f64::from(learning_rate);
        let Some(since) = epoch.checked_sub(self.warm_up) else {
            return (rate * (epoch as f64 + 1.0) / (self.warm_up as f64 + 1.0)) as f32;
        };
        match &self.decay {
            Decay::Constant => learning_rate,
            Decay::Cosine => {
                let turn = core::f64::consts::PI * since as f64 / epochs.saturating_sub(self.warm_up) as f64;
                (rate * 0.5 * (1.0 + libm::cos(turn))) as f32
            }
            Decay::Multistep { milestones, factor } => {
                let passed = milestones.iter().filter(|&&milestone| milestone <= epoch);
                passed.fold(rate, |rate, _| rate * factor) as f32
            }
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.warm_up > 0 {
            write!(f, "warmup:{}+", self.warm_up)?;
        }
        match &self.decay {
            Decay::Constant => f.write_str("constant"),
            Decay::Cosine => f.write_str("cosine"),
            Decay::Multistep { milestones, factor } => {
                let milestones: Vec<_> = milestones.iter().map(usize::to_string).collect();
                write!(f, "multistep:{}", milestones.join(","))?;
                if *factor == FACTOR { Ok(()) } else { write!(f, "x{factor}") }
            }
        }
    }
}

impl FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || {
            format!(
                "`{text}` is no schedule; give constant, cosine or multistep:80,120 (ascending epochs, from 1), \
                 perhaps after warmup:5+"
            )
        };
        let (warm_up, decay) = match text.strip_prefix("warmup:").map(|rest| rest.split_once('+')) {
            None => (0, text),
            Some(parts) => {
                let (epochs, decay) = parts.ok_or_else(refused)?;
                (number(epochs).map_err(|_| refused())?, decay)
            }
        };
        let decay = match (decay, decay.strip_prefix("multistep:")) {
            ("constant", _) => Decay::Constant,
            ("cosine", _) => Decay::Cosine,
            (_, Some(steps)) => {
                let (milestones, factor) = steps
                    .split_once('x')
                    .map_or((steps, Ok(FACTOR)), |(steps, factor)| (steps, number(factor)));
                let milestones: Vec<usize> = crate::flags::list(milestones).map_err(|_| refused())?;
                let factor =
                    factor.ok().filter(|factor| *factor > 0.0 && *factor < 1.0).ok_or_else(refused)?;
                if milestones[0] == 0 || milestones.windows(2).any(|pair| pair[0] >= pair[1]) {
                    return Err(refused());
                }
                Decay::Multistep { milestones, factor }
            }
            _ => return Err(refused()),
        };
        Ok(Self { warm_up, decay })
    }
}

crate::flags::serde_by_text!(Schedule);
