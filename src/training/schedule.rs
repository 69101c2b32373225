//! How a learning rate changes from epoch to epoch.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How the learning rate of a training changes from epoch to epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// The same in every epoch, as in the paper's pretraining
    #[default]
    Constant,
    /// Half a cosine: lr * (1 + cos(pi * epoch / epochs)) / 2, the first epoch being 0
    Cosine,
}

impl Schedule {
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

crate::flags::display_by_name!(Schedule);
