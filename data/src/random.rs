//! Random numbers that depend on their purpose, never on the thread that draws them.
//!
//! Each use has its own xoshiro256++ stream, keyed by (seed, purpose, layer, epoch). Changing the number of epochs does
//! not change the initial weights; threads have no streams of their own. Floats are made from the stream's bits here,
//! with `libm` where a logarithm is needed, so that they are the same on every platform and with every version of the
//! random crates.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// The initial weights of a layer.
    Weights = 1,
    /// The initial scores of a layer.
    Scores = 2,
    /// The order of the training images in an epoch of pretraining.
    PretrainOrder = 3,
    /// The order of the training images in an epoch of pruning.
    PruneOrder = 4,
    /// Which training images are held out and which are trained on; the key's layer is the class.
    Split = 5,
    /// How the training images of an epoch are changed; the key's layer is the purpose of their order.
    Augmentation = 6,
    /// Candidates of a subset sum; the key's layer is the matrix, its epoch the row, weight or trial.
    Candidates = 16,
    /// The target of a subset sum, one per trial.
    SubsetTarget = 17,
    /// Inputs that test a construction.
    Probes = 18,
    /// Inputs of benchmarks; the layer distinguishes the arrays of a benchmark.
    Benchmark = 32,
}

/// A source of random numbers for one purpose.
///
/// ```
/// use slth_data::random::{Purpose, Stream};
/// let mut one = Stream::new(1, Purpose::Weights, 0, 0);
/// let mut same = Stream::new(1, Purpose::Weights, 0, 0);
/// let mut other = Stream::new(1, Purpose::Weights, 1, 0);
/// let x = one.unit();
/// assert!((0.0..1.0).contains(&x));
/// assert_eq!(x, same.unit());
/// assert_ne!(x, other.unit());
/// ```
#[derive(Clone, Debug)]
pub struct Stream {
    generator: Xoshiro256PlusPlus,
    /// The second number of the last Box–Muller pair.
    spare_normal: Option<f64>,
}

impl Stream {
    /// The stream of (seed, purpose, layer, epoch); layers and epochs that do not apply are 0.
    pub fn new(seed: u64, purpose: Purpose, layer: usize, epoch: usize) -> Self {
        let key = [purpose as u64, layer as u64, epoch as u64]
            .into_iter()
            .fold(mix(seed), |key, part| mix(key ^ part));
        Self { generator: Xoshiro256PlusPlus::seed_from_u64(key), spare_normal: None }
    }

    /// Uniform on [0, 1), a multiple of 2⁻²⁴.
    pub fn unit(&mut self) -> f32 {
        (self.generator.next_u64() >> 40) as f32 * (1.0 / (1 << 24) as f32)
    }

    /// Uniform on [−bound, bound), rounded once.
    pub fn symmetric(&mut self, bound: f32) -> f32 {
        bound * (2.0 * self.unit() - 1.0) // the bracket is exact
    }

    /// A fair coin.
    pub fn coin(&mut self) -> bool {
        self.generator.next_u64() >> 63 != 0
    }

    /// Standard normal, by Box and Muller's transformation (1958) in f64.
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare_normal.take() {
            return spare;
        }
        let mut unit = || (self.generator.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64);
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - unit()));
        let (sin, cos) = libm::sincos(core::f64::consts::TAU * unit());
        self.spare_normal = Some(radius * sin);
        radius * cos
    }

    /// Uniform on 0 … bound − 1, without bias (D. Lemire, "Fast Random Integer Generation in an Interval", 2019).
    ///
    /// # Panics
    /// When `bound` is 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        let rejected = bound.wrapping_neg() % bound;
        loop {
            let product = (self.generator.next_u64() >> 32) * u64::from(bound);
            if product as u32 >= rejected {
                return (product >> 32) as u32;
            }
        }
    }

    /// Shuffles in place (Fisher and Yates), O(n).
    ///
    /// # Panics
    /// When there are more than `u32::MAX` elements.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let bound = u32::try_from(i + 1).expect("at most u32::MAX elements are shuffled");
            items.swap(i, self.below(bound) as usize);
        }
    }
}

/// SplitMix64's step: adds the golden ratio, then mixes (Steele, Lea, Flood 2014).
fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
