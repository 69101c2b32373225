//! From pixels to the network's input: normalised floats, feature-major.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use slth_kernels::Engine;

use super::Examples;

/// How a pixel x of 0 … 255 becomes an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalisation {
    /// (x/255 − 0.1307)/0.3081: mean 0 and deviation 1 over MNIST's training pixels.
    #[default]
    MeanStd,
    /// x/255, in [0, 1].
    Unit,
}

impl Normalisation {
    /// Every kind, in the order of the help text.
    pub const ALL: [Self; 2] = [Self::MeanStd, Self::Unit];

    /// The name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::MeanStd => "mean-std",
            Self::Unit => "unit",
        }
    }

    /// The input for one pixel, in f32 throughout.
    pub fn apply(self, pixel: u8) -> f32 {
        let unit = f32::from(pixel) / 255.0;
        match self {
            Self::MeanStd => (unit - 0.1307) / 0.3081,
            Self::Unit => unit,
        }
    }
}

impl fmt::Display for Normalisation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Normalisation {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        crate::network::by_name(&Self::ALL, Self::name, name)
    }
}

/// Images transposed at a time: 16 floats are a cache line, so that each line of the output is written once, whole.
const IMAGES: usize = 16;
/// Features transposed at a time: 64 pixels are a cache line of each image.
const FEATURES: usize = 64;

/// Gathers images into batches.
#[derive(Clone, Debug)]
pub(crate) struct Normaliser {
    table: [f32; 256],
}

impl Normaliser {
    pub(crate) fn new(normalisation: Normalisation) -> Self {
        Self { table: std::array::from_fn(|pixel| normalisation.apply(pixel as u8)) }
    }

    /// Writes the images `indices` of `examples` to `x`, `[features, indices.len()]`, feature-major. The features are shared
    /// among the engine's threads.
    pub(crate) fn gather(&self, engine: Engine, examples: &Examples, indices: &[u32], x: &mut [f32]) {
        let batch = indices.len();
        let features = examples.features();
        assert_eq!(x.len(), features * batch, "a batch of {batch} images of {features} pixels");
        let block = |(index, x): (usize, &mut [f32])| {
            let first = index * FEATURES;
            let width = (x.len() / batch).min(FEATURES);
            // Through a tile of fixed size: its indices need no checks, which saves a quarter of the time.
            let mut tile = [[0; FEATURES]; IMAGES];
            for (group, images) in indices.chunks(IMAGES).enumerate() {
                for (row, &image) in tile.iter_mut().zip(images) {
                    let start = image as usize * features + first;
                    row[..width].copy_from_slice(&examples.pixels[start..start + width]);
                }
                for feature in 0..width {
                    let line = &mut x[feature * batch + group * IMAGES..][..images.len()];
                    for (value, row) in line.iter_mut().zip(&tile) {
                        *value = self.table[usize::from(row[feature])];
                    }
                }
            }
        };
        engine.for_each(x.chunks_mut(FEATURES * batch.max(1)).enumerate(), block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gathering_transposes() {
        for features in [1, 7, 63, 64, 65, 130] {
            let images = 40;
            let pixels: Vec<u8> = (0..images * features).map(|i| (i * 31 % 251) as u8).collect();
            let examples = Examples { pixels, labels: vec![0; images], features };
            for batch in [0, 1, 15, 16, 17, 33] {
                let indices: Vec<u32> = (0..batch as u32).map(|b| (b * 7 + 3) % images as u32).collect();
                let mut x = vec![f32::NAN; features * batch];
                for (normalisation, threads) in [(Normalisation::Unit, 1), (Normalisation::MeanStd, 2)] {
                    let engine = Engine::serial().with_threads(threads);
                    Normaliser::new(normalisation).gather(engine, &examples, &indices, &mut x);
                    for (b, &image) in indices.iter().enumerate() {
                        for f in 0..features {
                            let pixel = examples.pixels[image as usize * features + f];
                            assert_eq!(x[f * batch + b], normalisation.apply(pixel));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn names_lead_back() {
        for kind in Normalisation::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
        assert!("max".parse::<Normalisation>().unwrap_err().contains("mean-std, unit"));
    }
}
