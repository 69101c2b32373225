//! From pixels to the network's input: normalised floats, feature-major.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use slth_kernels::Engine;

use super::examples::Examples;

/// How pixels become inputs: a pixel x of 0 … 255 becomes (x/255 − mean)/std. Written as `MEAN,STD`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Normalisation {
    mean: f32,
    std: f32,
}

impl Normalisation {
    /// x/255, in [0, 1].
    pub const UNIT: Self = Self { mean: 0.0, std: 1.0 };

    /// The normalisation with these constants.
    ///
    /// # Errors
    /// When `mean` is outside [−10⁶, 10⁶], or `std` outside [10⁻⁶, 10⁶].
    ///
    /// ```
    /// use slth::data::Normalisation;
    /// let usual = Normalisation::new(0.1307, 0.3081)?;
    /// assert_eq!(usual.apply(255), (1.0 - 0.1307) / 0.3081);
    /// assert_eq!(usual, "0.1307,0.3081".parse()?);
    /// # Ok::<(), String>(())
    /// ```
    pub fn new(mean: f32, std: f32) -> Result<Self, String> {
        if !(-1e6..=1e6).contains(&mean) {
            return Err(format!("the mean must lie in [-1e6, 1e6], but is {mean}"));
        }
        if !(1e-6..=1e6).contains(&std) {
            return Err(format!("the standard deviation must lie in [1e-6, 1e6], but is {std}"));
        }
        // −0 would be another text with the same bits.
        Ok(Self { mean: mean + 0.0, std })
    }

    /// What brings `pixels` to mean 0 and standard deviation 1; where all are equal, to 0. The sums are exact.
    pub fn standardising(pixels: &[u8]) -> Self {
        let (mut sum, mut squares) = (0_u64, 0_u64);
        // Sums of pieces fit u32, which the compiler turns into vector code.
        for piece in pixels.chunks(1 << 15) {
            sum += u64::from(piece.iter().map(|&x| u32::from(x)).sum::<u32>());
            squares += u64::from(piece.iter().map(|&x| u32::from(x) * u32::from(x)).sum::<u32>());
        }
        let n = pixels.len().max(1) as f64;
        let mean = sum as f64 / n;
        let spread = u128::from(squares) * pixels.len() as u128 - u128::from(sum) * u128::from(sum);
        let std = if spread == 0 { 255.0 } else { libm::sqrt(spread as f64) / n };
        // At least what `new` takes: of millions of pixels all but one may be equal.
        Self { mean: (mean / 255.0) as f32, std: ((std / 255.0) as f32).max(1e-6) }
    }

    /// The input for one pixel, in f32 throughout.
    pub fn apply(self, pixel: u8) -> f32 {
        (f32::from(pixel) / 255.0 - self.mean) / self.std
    }
}

impl fmt::Display for Normalisation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.mean, self.std)
    }
}

impl FromStr for Normalisation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once(',').and_then(|(mean, std)| mean.parse().ok().zip(std.parse().ok()));
        let (mean, std) = numbers.ok_or_else(|| format!("`{text}` is not MEAN,STD, as in 0.1307,0.3081"))?;
        Self::new(mean, std)
    }
}

/// How the normalisation of a run is found: [`Dataset::normalisation`](super::Dataset::normalisation). Written as `mean-std`, `unit` or `MEAN,STD`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum NormalisationRule {
    /// From the data set, once for all its runs: its training pixels, those of images held out too, get mean 0 and standard
    /// deviation 1.
    #[default]
    MeanStd,
    /// x/255, in [0, 1].
    Unit,
    /// These constants.
    Given(Normalisation),
}

impl fmt::Display for NormalisationRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MeanStd => f.write_str("mean-std"),
            Self::Unit => f.write_str("unit"),
            Self::Given(normalisation) => normalisation.fmt(f),
        }
    }
}

impl FromStr for NormalisationRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "mean-std" => Ok(Self::MeanStd),
            "unit" => Ok(Self::Unit),
            _ if text.contains(',') => text.parse().map(Self::Given),
            _ => Err(format!("`{text}` is none of mean-std, unit and MEAN,STD, as in 0.1307,0.3081")),
        }
    }
}

crate::flags::serde_by_text!(Normalisation, NormalisationRule);

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

    /// Writes the images `indices` of `examples` to `x`, `[features, indices.len()]`, feature-major. The engine's threads share
    /// the features.
    pub(crate) fn gather(&self, engine: Engine, examples: &Examples, indices: &[u32], x: &mut [f32]) {
        let batch = indices.len();
        let features = examples.features();
        assert_eq!(x.len(), features * batch, "a batch of {batch} images of {features} pixels");
        let block = |(index, x): (usize, &mut [f32])| {
            let first = index * FEATURES;
            let width = (x.len() / batch).min(FEATURES);
            // A tile of fixed size needs no index checks, which saves a quarter of the time.
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
                let standardising = Normalisation::standardising(examples.pixels());
                for (normalisation, threads) in [(Normalisation::UNIT, 1), (standardising, 2)] {
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
}
