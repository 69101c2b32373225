//! Guessing an interval of keys that holds the threshold.

use crate::top_k::keys::{Order, key_by};

/// The keys above `low`, up to and including `high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bracket {
    pub(super) low: i32,
    pub(super) high: i32,
}

impl Bracket {
    /// Every key that a score can have.
    pub(super) const ALL: Self = Self { low: i32::MIN, high: i32::MAX - 1 };

    /// The bracket of this key alone. `i32::MIN`, which only a NaN has, becomes the next key, because `low` must be smaller.
    pub(super) fn single(key: i32) -> Self {
        let high = key.max(i32::MIN + 1);
        Self { low: high - 1, high }
    }

    /// Whether it holds one key only.
    pub(super) fn is_single(self) -> bool {
        self.low + 1 == self.high
    }

    /// The keys that are in `range` too; if there are none, the nearest key in `range`.
    pub(super) fn clamp_to(self, range: Self) -> Self {
        let low = self.low.clamp(range.low, range.high - 1);
        Self { low, high: self.high.clamp(low + 1, range.high) }
    }

    /// Guesses the bracket of the `keep`-th largest of `len` scores from a sample of their keys, with this many standard
    /// deviations of its rank in the sample on either side.
    pub(super) fn from_sample(sample: &mut [i32], keep: usize, len: usize, deviations: f64) -> Self {
        let (expected, deviation) = expected_rank(sample.len(), keep, len);
        Self::around(sample, expected, (deviations * deviation) as usize + 2)
    }

    /// Guesses the bracket from a key that is expected near the threshold: 1/128 of the scores on either side. `None` when the
    /// sample shows that the key is far off. The key may be any integer.
    pub(super) fn from_hint(sample: &mut [i32], keep: usize, len: usize, hint: i32) -> Option<Self> {
        let above = sample.iter().filter(|&&key| key > hint).count();
        let equal = sample.iter().filter(|&&key| key == hint).count();
        let (expected, deviation) = expected_rank(sample.len(), keep, len);
        let tolerance = (4.0 * deviation) as usize + 4;
        if above > expected + tolerance || expected > above + equal + tolerance {
            return None;
        }
        let margin = sample.len() / 128 + 1;
        if equal > 2 * margin {
            return Some(Self::single(hint));
        }
        Some(Self::around(sample, above + equal / 2, margin))
    }

    /// The keys strictly between those with `centre` ± `margin` larger ones in the sample, or the one key where these
    /// are equal.
    ///
    /// Strictly: a key whose scores fill the bracket is then one of its ends. Between the ends lies a fraction of about 2 ·
    /// margin / sample of all scores, for every distribution.
    fn around(sample: &mut [i32], centre: usize, margin: usize) -> Self {
        let len = sample.len();
        let mut upper = &mut sample[..];
        let low = match len.checked_sub(centre + margin + 1) {
            Some(at) => {
                let (_, &mut key, above) = upper.select_nth_unstable(at);
                upper = above;
                key
            }
            None => i32::MIN,
        };
        let high = match centre.checked_sub(margin) {
            Some(larger) if larger < upper.len() => {
                let at = upper.len() - 1 - larger;
                *upper.select_nth_unstable(at).1
            }
            Some(_) => low,
            None => i32::MAX,
        };
        if high > low.saturating_add(1) { Self { low, high: high - 1 } } else { Self::single(high) }
    }
}

/// How many keys of the sample should be at or above the `keep`-th largest, and the standard deviation of that.
fn expected_rank(sample: usize, keep: usize, len: usize) -> (usize, f64) {
    let share = keep as f64 / len as f64;
    let expected = share * sample as f64;
    (expected as usize, (expected * (1.0 - share)).sqrt())
}

/// Fills `sample` with the keys of `count` scores of the layers, one from each of `count` equal stretches.
///
/// The position in the stretch is a hash of its number and `salt`, so that no period of the data (rows of a matrix) can match the
/// stride. It depends on nothing else: the same scores give the same sample.
pub(super) fn draw(
    layers: &[&[f32]],
    len: usize,
    count: usize,
    salt: u32,
    order: Order,
    sample: &mut Vec<i32>,
) {
    // Positions with 32 fractional bits.
    let stride = ((len as u64) << 32) / count as u64;
    sample.clear();
    let mut rest = layers.iter();
    let (mut layer, mut offset): (&[f32], usize) = (&[], 0);
    for i in 0..count as u64 {
        let hash = (i as u32).wrapping_add(salt).wrapping_mul(0x9E37_79B9) ^ 0x5BD1_E995;
        let jitter = u64::from(hash.wrapping_mul(hash | 1)) * (stride >> 32);
        let position = ((i * stride + jitter) >> 32) as usize;
        while position - offset >= layer.len() {
            offset += layer.len();
            layer = rest.next().expect("positions lie below the number of scores");
        }
        sample.push(key_by(order, layer[position - offset]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_stay_inside_and_spread() {
        let a: Vec<f32> = (0..1000).map(|i| i as f32).collect();
        let mut sample = Vec::new();
        for count in [1, 2, 7, 100, 999, 1000] {
            draw(&[&a[..10], &[], &a[10..]], 1000, count, 0, Order::Magnitude, &mut sample);
            let positions: Vec<usize> =
                sample.iter().map(|&key| f32::from_bits(key as u32) as usize).collect();
            assert_eq!(positions.len(), count);
            for (i, at) in positions.into_iter().enumerate() {
                assert!(at + 1 >= i * 1000 / count && at <= (i + 1) * 1000 / count, "{count} {i} {at}");
            }
        }
    }

    #[test]
    fn brackets_hold_the_sample_quantile() {
        for keep in [1, 10, 500, 990, 1000] {
            let mut sample: Vec<i32> = (0..200).map(|i| i * 37 % 200 * 5).collect();
            let bracket = Bracket::from_sample(&mut sample, keep, 1000, 3.0);
            let threshold = 1000 - keep as i32;
            assert!(bracket.low < threshold && threshold <= bracket.high, "{keep} {bracket:?}");
        }
        assert!(Bracket::from_sample(&mut [7; 100], 30, 100, 3.0).is_single());
        assert_eq!(Bracket::from_sample(&mut [], 1, 1, 3.0), Bracket::ALL);
    }
}
