//! Which layers a network has.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The sizes of one layer's weights `[outputs, inputs]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerShape {
    /// Rows of the weights: neurons of the layer.
    pub outputs: usize,
    /// Columns of the weights: its fan-in.
    pub inputs: usize,
}

impl LayerShape {
    /// Number of weights.
    pub fn weights(self) -> usize {
        self.outputs * self.inputs
    }

    /// How many of them are kept at `sparsity`: all but int(s·n), truncated in f64.
    ///
    /// ```
    /// let layer = slth::network::LayerShape { outputs: 10, inputs: 33 };
    /// assert_eq!(layer.kept(0.9), 330 - 297);
    /// assert_eq!(layer.kept(0.0), 330);
    /// ```
    pub fn kept(self, sparsity: f64) -> usize {
        let removed = (sparsity * self.weights() as f64) as usize;
        self.weights().saturating_sub(removed)
    }
}

/// The widths of a fully connected network, input first: `784-500-500-10`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Architecture {
    widths: Vec<usize>,
}

impl Architecture {
    /// The most weights a network may have: 2²⁸, 1 GiB for each of the several numbers kept per weight.
    pub const MAX_WEIGHTS: usize = 1 << 28;

    /// The network with these widths, input first.
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
        if widths.contains(&0) {
            return Err("a width is 0".to_owned());
        }
        let weights = widths
            .windows(2)
            .try_fold(0_usize, |n, pair| n.checked_add(pair[0].checked_mul(pair[1])?))
            .filter(|&n| n <= Self::MAX_WEIGHTS);
        if weights.is_none() {
            return Err(format!("more than {} weights", Self::MAX_WEIGHTS));
        }
        Ok(Self { widths })
    }

    /// The layers, first to last.
    pub fn layers(&self) -> impl ExactSizeIterator<Item = LayerShape> + '_ {
        self.widths.windows(2).map(|pair| LayerShape { inputs: pair[0], outputs: pair[1] })
    }

    /// Width of the input: pixels of an image.
    pub fn inputs(&self) -> usize {
        self.widths[0]
    }

    /// Width of the output; at least the number of classes.
    pub fn outputs(&self) -> usize {
        self.widths[self.widths.len() - 1]
    }

    /// Number of weights in all layers.
    pub fn weights(&self) -> usize {
        self.layers().map(LayerShape::weights).sum()
    }
}

impl Default for Architecture {
    /// 784-500-500-10
    fn default() -> Self {
        Self { widths: vec![784, 500, 500, 10] }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, width) in self.widths.iter().enumerate() {
            write!(f, "{}{width}", if i == 0 { "" } else { "-" })?;
        }
        Ok(())
    }
}

impl FromStr for Architecture {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let width = |part: &str| {
            // usize's own parser would take "+5".
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| part.parse().ok()).flatten().ok_or_else(|| {
                format!("`{text}` is no network: `{part}` is no width; give widths as in 784-500-500-10")
            })
        };
        let widths = text.split('-').map(width).collect::<Result<Vec<usize>, _>>()?;
        Self::new(widths).map_err(|problem| format!("`{text}` is no network: {problem}"))
    }
}

impl TryFrom<String> for Architecture {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Architecture> for String {
    fn from(network: Architecture) -> String {
        network.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_leads_back() {
        for text in ["784-10", "784-500-500-10", "1-1", "3-5-7-11-2"] {
            assert_eq!(text.parse::<Architecture>().unwrap().to_string(), text);
        }
        assert_eq!(Architecture::default().to_string(), "784-500-500-10");
        assert_eq!(Architecture::default().weights(), 647_000);
    }

    #[test]
    fn absurd_networks_are_refused() {
        for text in [
            "",
            "784",
            "-",
            "784-",
            "-10",
            "784--10",
            "784-0-10",
            "784-x-10",
            "784-+5-10",
            "784- 5-10",
            "784-99999999999999999999-10",
            "18446744073709551615-18446744073709551615",
            "4294967296-4294967296",
            "100000-100000",
            "784-1.5-10",
            "784x10",
        ] {
            assert!(text.parse::<Architecture>().is_err(), "{text}");
        }
    }

    #[test]
    fn kept_counts_truncate_in_f64() {
        let layer = LayerShape { outputs: 1, inputs: 10 };
        // 0.3 · 10 is 3 in f64, 0.29 · 100 is 28.999…
        assert_eq!(layer.kept(0.3), 7);
        assert_eq!(LayerShape { outputs: 1, inputs: 100 }.kept(0.29), 72);
        assert_eq!(LayerShape { outputs: 1, inputs: 1 }.kept(0.999), 1);
    }
}
