//! Scores as integers that order the same way.

use crate::simd::Simd;

/// What scores are ordered by. Equal keys are ordered by index: of two, the one at the higher index counts as larger,
/// so that the lower index is removed first.
///
/// ±∞ are the largest magnitudes, and the ends of the signed order. Denormals are numbers like all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// |score|, as in edge-popup; −0 equals +0.
    Magnitude,
    /// The score itself; −0 below +0.
    Signed,
}

/// The key of +∞, the largest that a score can have. NaN lies above it or, signed and negative, below −∞.
pub(super) const INFINITE: i32 = 0x7f80_0000;

/// An integer that orders as the score does: the bits without the sign, or the bits with the negative ones reversed.
#[inline(always)]
pub(super) fn key<const SIGNED: bool>(score: f32) -> i32 {
    let bits = score.to_bits() as i32;
    if SIGNED { bits ^ ((bits >> 31) & i32::MAX) } else { bits & i32::MAX }
}

/// [`key`] where the order is known at run time only.
#[inline(always)]
pub(super) fn key_by(order: Order, score: f32) -> i32 {
    match order {
        Order::Magnitude => key::<false>(score),
        Order::Signed => key::<true>(score),
    }
}

/// The score of a key; in [`Order::Magnitude`] its magnitude.
pub(super) fn score(order: Order, key: i32) -> f32 {
    match order {
        Order::Magnitude => f32::from_bits(key as u32),
        Order::Signed => f32::from_bits((key ^ ((key >> 31) & i32::MAX)) as u32),
    }
}

/// The keys of these scores, and their bits without the sign.
#[inline(always)]
pub(super) fn keys<S: Simd, const SIGNED: bool>(s: S, scores: S::F32) -> (S::I32, S::I32) {
    let bits = s.to_bits(scores);
    let low = s.splat_i32(i32::MAX);
    let magnitudes = s.and_i32(bits, low);
    let keys = if SIGNED { s.xor_i32(bits, s.and_i32(s.shr_i32::<31>(bits), low)) } else { magnitudes };
    (keys, magnitudes)
}

/// The place of a score in the order by (key, index), as one integer; no two scores share one.
#[inline(always)]
pub(super) fn rank(key: i32, index: u32) -> u64 {
    u64::from(key as u32 ^ 0x8000_0000) << 32 | u64::from(index)
}

/// The key and the index of a rank.
#[inline(always)]
pub(super) fn unrank(rank: u64) -> (i32, u32) {
    ((rank >> 32) as u32 as i32 ^ i32::MIN, rank as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_order_as_scores_do() {
        let ascending = [
            f32::NEG_INFINITY,
            f32::MIN,
            -1.0,
            -f32::MIN_POSITIVE,
            -f32::from_bits(1),
            -0.0,
            0.0,
            f32::from_bits(1),
            f32::MIN_POSITIVE,
            1.0,
            f32::MAX,
            f32::INFINITY,
        ];
        assert!(ascending.windows(2).all(|w| key::<true>(w[0]) < key::<true>(w[1])));
        assert!(ascending[6..].windows(2).all(|w| key::<false>(w[0]) < key::<false>(-w[1])));
        assert_eq!(key::<false>(0.0), key::<false>(-0.0));
        for x in ascending {
            assert_eq!(score(Order::Signed, key::<true>(x)).to_bits(), x.to_bits());
            assert_eq!(score(Order::Magnitude, key::<false>(x)), x.abs());
            assert_eq!(unrank(rank(key::<true>(x), 7)), (key::<true>(x), 7));
        }
    }
}
