//! From pixels to the network's input: normalised floats, feature-major.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use slth_kernels::Engine;

use super::examples::Batch;

/// How pixels become inputs: a pixel x of 0 … 255 becomes (x/255 − mean)/std, with the constants of its channel. Written as
/// `MEAN,STD`, or, if the channels differ, as `MEAN,MEAN,MEAN,STD,STD,STD`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Normalisation {
    /// Of each channel.
    mean: [f32; CHANNELS],
    std: [f32; CHANNELS],
}

/// Maximum number of channels of an image.
const CHANNELS: usize = 3;

impl Normalisation {
    /// x/255, in [0, 1].
    pub const UNIT: Self = Self { mean: [0.0; CHANNELS], std: [1.0; CHANNELS] };

    /// The normalisation with these constants for red, green and blue; grey images take the first.
    ///
    /// # Errors
    /// When a mean is outside [−10⁶, 10⁶], or a deviation outside [10⁻⁶, 10⁶].
    ///
    /// ```
    /// use slth_data::Normalisation;
    /// let usual = Normalisation::new([0.1307; 3], [0.3081; 3])?;
    /// assert_eq!(usual.apply(0, 255), (1.0 - 0.1307) / 0.3081);
    /// assert_eq!(usual, "0.1307,0.3081".parse()?);
    /// # Ok::<(), String>(())
    /// ```
    pub fn new(mean: [f32; CHANNELS], std: [f32; CHANNELS]) -> Result<Self, String> {
        if let Some(mean) = mean.iter().find(|mean| !(-1e6..=1e6).contains(*mean)) {
            return Err(format!("the mean must lie in [-1e6, 1e6], but is {mean}"));
        }
        if let Some(std) = std.iter().find(|std| !(1e-6..=1e6).contains(*std)) {
            return Err(format!("the standard deviation must lie in [1e-6, 1e6], but is {std}"));
        }
        // −0 would be another text with the same bits.
        Ok(Self { mean: mean.map(|mean| mean + 0.0), std })
    }

    /// The normalisation that gives each channel of `pixels`, `[images, channels, plane]`, mean 0 and standard deviation 1; a
    /// constant channel becomes 0. The sums are exact.
    ///
    /// # Panics
    /// When `channels` or `plane` is 0.
    pub fn standardising(pixels: &[u8], channels: usize, plane: usize) -> Self {
        let constants = |channel: usize| {
            let planes = pixels.chunks(plane).skip(channel).step_by(channels);
            let (mut n, mut sum, mut squares) = (0_usize, 0_u64, 0_u64);
            // Sums of pieces fit u32, so that the compiler vectorises them.
            for piece in planes.flat_map(|plane| plane.chunks(1 << 15)) {
                n += piece.len();
                sum += u64::from(piece.iter().map(|&x| u32::from(x)).sum::<u32>());
                squares += u64::from(piece.iter().map(|&x| u32::from(x) * u32::from(x)).sum::<u32>());
            }
            let spread = u128::from(squares) * n as u128 - u128::from(sum) * u128::from(sum);
            let n = n.max(1) as f64;
            let std = if spread == 0 { 255.0 } else { libm::sqrt(spread as f64) / n };
            // At least the smallest deviation that `new` accepts: all but one of millions of pixels may be equal.
            ((sum as f64 / n / 255.0) as f32, ((std / 255.0) as f32).max(1e-6))
        };
        let found: Vec<(f32, f32)> = (0..channels).map(constants).collect();
        let found: [_; CHANNELS] = std::array::from_fn(|channel| found[channel % channels]);
        Self { mean: found.map(|(mean, _)| mean), std: found.map(|(_, std)| std) }
    }

    /// The input for one pixel of `channel`, in f32 throughout.
    ///
    /// # Panics
    /// When `channel` is above 2.
    pub fn apply(self, channel: usize, pixel: u8) -> f32 {
        (f32::from(pixel) / 255.0 - self.mean[channel]) / self.std[channel]
    }

    /// Whether all channels have the same constants.
    pub fn is_uniform(self) -> bool {
        self.mean == [self.mean[0]; CHANNELS] && self.std == [self.std[0]; CHANNELS]
    }
}

impl fmt::Display for Normalisation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([mean, ..], [std, ..]) = (self.mean, self.std);
        if self.is_uniform() {
            return write!(f, "{mean},{std}");
        }
        let constants = self.mean.iter().chain(&self.std).map(f32::to_string);
        f.write_str(&constants.collect::<Vec<_>>().join(","))
    }
}

impl FromStr for Normalisation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Option<Vec<f32>> = text.split(',').map(|number| number.parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[mean, std]) => Self::new([mean; CHANNELS], [std; CHANNELS]),
            Some(&[r, g, b, std_r, std_g, std_b]) => Self::new([r, g, b], [std_r, std_g, std_b]),
            _ => Err(format!(
                "`{text}` is not MEAN,STD, as in 0.1307,0.3081, nor three means and three deviations"
            )),
        }
    }
}

/// How the normalisation of a run is found: [`Dataset::normalisation`](super::Dataset::normalisation). Written as `mean-std`, `unit` or `MEAN,STD`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum NormalisationRule {
    /// From the data set, the same for all its runs: each channel of all training pixels, including held-out images, gets mean 0
    /// and standard deviation 1.
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

serde_by_text!(Normalisation, NormalisationRule);

/// Images transposed at a time: 16 floats are a cache line, so that each line of the output is written once, whole.
const IMAGES: usize = 16;
/// Features transposed at a time: 64 pixels are a cache line of each image.
const FEATURES: usize = 64;

/// Gathers images into batches.
#[derive(Clone, Debug)]
pub struct Normaliser {
    tables: [[f32; 256]; CHANNELS],
}

impl Normaliser {
    /// For this normalisation.
    pub fn new(normalisation: Normalisation) -> Self {
        let table = |channel| std::array::from_fn(|pixel| normalisation.apply(channel, pixel as u8));
        Self { tables: std::array::from_fn(table) }
    }

    /// Writes the images of `batch` to `x`, `[features, images]`, feature-major. The engine's threads share the features.
    ///
    /// # Panics
    /// When `x` has not that size.
    pub fn gather(&self, engine: Engine, batch: Batch<'_>, x: &mut [f32]) {
        let Batch { examples, indices, changes } = batch;
        let (batch, features) = (indices.len(), examples.features());
        assert_eq!(x.len(), features * batch, "a batch of {batch} images of {features} pixels");
        let shape @ [_, rows, columns] = examples.shape();
        let plane = rows * columns;
        let block = |(first, table, x): (usize, &[f32; 256], &mut [f32])| {
            let width = (x.len() / batch).min(FEATURES);
            // A tile of fixed size needs no bounds checks.
            let mut tile = [[0; FEATURES]; IMAGES];
            for (group, images) in indices.chunks(IMAGES).enumerate() {
                for ((row, &image), at) in tile.iter_mut().zip(images).zip(group * IMAGES..) {
                    let image = &examples.pixels()[image as usize * features..][..features];
                    match changes.get(at) {
                        Some(change) => change.apply(image, shape, first, &mut row[..width]),
                        None => row[..width].copy_from_slice(&image[first..first + width]),
                    }
                }
                for feature in 0..width {
                    let line = &mut x[feature * batch + group * IMAGES..][..images.len()];
                    for (value, row) in line.iter_mut().zip(&tile) {
                        *value = table[usize::from(row[feature])];
                    }
                }
            }
        };
        // A block has features of one channel only.
        let channels = x.chunks_mut(plane * batch.max(1)).zip(&self.tables).enumerate();
        let blocks = channels.flat_map(|(channel, (x, table))| {
            let blocks = x.chunks_mut(FEATURES * batch.max(1)).enumerate();
            blocks.map(move |(index, x)| (channel * plane + index * FEATURES, table, x))
        });
        engine.for_each(blocks, block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Examples;

    #[test]
    fn gathering_transposes() {
        for (channels, plane) in
            [(1, 1), (1, 7), (1, 63), (1, 64), (1, 65), (1, 130), (3, 1), (3, 64), (3, 65)]
        {
            let (images, features) = (40, channels * plane);
            let pixels: Vec<u8> = (0..images * features).map(|i| (i * 31 % 251) as u8).collect();
            let standardising = Normalisation::standardising(&pixels, channels, plane);
            let examples = Examples::new(pixels, vec![0; images], [channels, plane, 1]).unwrap();
            for batch in [0, 1, 15, 16, 17, 33] {
                let indices: Vec<u32> = (0..batch as u32).map(|b| (b * 7 + 3) % images as u32).collect();
                let batch = Batch { examples: &examples, indices: &indices, changes: &[] };
                let mut x = vec![f32::NAN; features * indices.len()];
                for (normalisation, threads) in [(Normalisation::UNIT, 1), (standardising, 2)] {
                    let engine = Engine::serial().with_threads(threads);
                    Normaliser::new(normalisation).gather(engine, batch, &mut x);
                    for (b, &image) in indices.iter().enumerate() {
                        for f in 0..features {
                            let pixel = examples.pixels()[image as usize * features + f];
                            assert_eq!(x[f * indices.len() + b], normalisation.apply(f / plane, pixel));
                        }
                    }
                }
            }
        }
    }
}
