//! A histogram over a range of integers, to narrow the range of the k-th largest.

/// 2¹¹ counters: 8 KiB, a quarter of L1.
const BUCKET_BITS: u32 = 11;
const BUCKETS: usize = 1 << BUCKET_BITS;

/// Counts of integers by equal slices of a range.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    /// One per bucket, then one for what lies outside of the range.
    counts: Vec<u32>,
    first: u64,
    span: u64,
    shift: u32,
}

/// Where the k-th largest lies.
pub(super) struct Bucket {
    /// Its least and its greatest value.
    pub(super) first: u64,
    pub(super) last: u64,
    /// How many counted integers lie in it, and above it in the range.
    pub(super) population: usize,
    pub(super) above: usize,
}

impl Histogram {
    /// Forgets all counts; from now on slices `first..=last`.
    pub(super) fn reset(&mut self, first: u64, last: u64) {
        self.counts.clear();
        self.counts.resize(BUCKETS + 1, 0);
        self.first = first;
        self.span = last - first;
        self.shift = (u64::BITS - self.span.leading_zeros()).saturating_sub(BUCKET_BITS);
    }

    /// Counts `x`, unless it lies outside of the range.
    #[inline(always)]
    pub(super) fn add(&mut self, x: u64) {
        let offset = x.wrapping_sub(self.first);
        let bucket = if offset <= self.span { (offset >> self.shift) as usize } else { BUCKETS };
        self.counts[bucket] += 1;
    }

    /// The bucket of the `nth` largest, the largest being the first.
    pub(super) fn bucket_of(&self, nth: usize) -> Bucket {
        let mut above = 0;
        let mut bucket = BUCKETS - 1;
        while bucket > 0 && above + (self.counts[bucket] as usize) < nth {
            above += self.counts[bucket] as usize;
            bucket -= 1;
        }
        let first = self.first + ((bucket as u64) << self.shift);
        let last = (first + ((1 << self.shift) - 1)).min(self.first + self.span);
        Bucket { first, last, population: self.counts[bucket] as usize, above }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_bucket() {
        let mut histogram = Histogram::default();
        for (first, last) in [(0, 99), (5, 5), (1000, 1_000_000), (0, u64::MAX >> 1)] {
            histogram.reset(first, last);
            let values: Vec<u64> = (0..100).map(|i| first + (last - first) / 99 * i).collect();
            values.iter().for_each(|&x| histogram.add(x));
            histogram.add(last + 1);
            for nth in 1..=100 {
                let bucket = histogram.bucket_of(nth);
                let expected = values[100 - nth];
                assert!((bucket.first..=bucket.last).contains(&expected), "{first} {last} {nth}");
                assert_eq!(bucket.above, values.iter().filter(|&&x| x > bucket.last).count());
                let inside = values.iter().filter(|x| (bucket.first..=bucket.last).contains(x));
                assert_eq!(bucket.population, inside.count());
            }
        }
    }
}
