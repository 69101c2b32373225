//! Meet in the middle by bitonic sorting networks, ε = 0: every lane solves a separate instance.
//!
//! The n candidates are cut into a low half A and a high half B of h each, and p more, the *prefix*, whose 2^p subsets are tried
//! one after the other. A lane's sorted sums of A and of B come from Batcher's bitonic merge (1968): a sorted list and the same
//! list plus the next candidate, compared crosswise, then half-cleaners. A network has no branches and no gathers: lanes never
//! wait for each other, and the time does not depend on the input.
//!
//! For a target z the lists a and z − b are merged the same way: a pair nearest to z is a pair of *neighbours* from different
//! lists. Bit 0 of the keys 2a and 2(z − b) + 1 names their list, so the search is for the least odd gap between neighbours. Of
//! two neighbours with distance Δ = |a + b − z| the gap is 2Δ ± 1, so a second pass looks at every gap up to the least one + 2
//! and collects the b of all that attain the least Δ: the ties. Subsets are then recovered by looking their sums up in unsorted
//! lists.
//!
//! Cost in comparators (a minimum and a maximum): 2 (h − 1) 2^h + 2 to sort, 2^p (h + 1) 2^h to merge: 40,962
//! per lane for n = 21 (h = 10, p = 1), against 2,097,152 sums. Memory: lists of 2^h, 2^h and 2^(h+1) vectors, and a gap for
//! every [`GROUP`] of the last one.

use crate::simd::{Kernel, Simd};

use super::brute_force::Best;
use super::low_sums::fill_sums;

/// Maximum number of candidates whose rounded sums fit keys of 31 bits. For more the two-pointer search is used.
pub(super) const LIMIT: usize = super::subset::BRUTE_FORCE_LIMIT;

/// Least number of candidates: with fewer there is nothing to sort.
pub(super) const LEAST: usize = 6;

/// The cut of n candidates: h in each half, the others form the prefix.
///
/// Larger halves mean fewer comparators but more memory: the three lists take 2^(h+2) vectors, 256 KiB for h = 10 and AVX-512.
fn half(n: usize) -> usize {
    match n {
        0..=22 => (n / 2).min(10),
        23..=25 => 11,
        _ => 12,
    }
}

/// Clock cycles of an instance in full vectors.
pub(super) fn cycles(n: usize) -> usize {
    let h = half(n);
    let comparators = (2 * (h - 1) + ((h + 1) << (n - 2 * h))) << h;
    comparators / 5 + 200
}

/// Solves instance after instance, `LANES` at a time.
pub(super) struct Each<'a> {
    /// [instances, n], in units.
    pub(super) candidates: &'a [i32],
    pub(super) n: usize,
    /// One per instance.
    pub(super) targets: &'a [i32],
    pub(super) out: &'a mut [Best],
}

impl Kernel for Each<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let h = half(self.n);
        let mut lists = Lists::new(s, h);
        let mut best = LaneBest::default();
        let mut columns = vec![s.splat_i32(0); self.n];
        let mut finder = Finder::new(h);
        for ((candidates, targets), out) in self
            .candidates
            .chunks(self.n * S::LANES)
            .zip(self.targets.chunks(S::LANES))
            .zip(self.out.chunks_mut(S::LANES))
        {
            for (instance, row) in candidates.chunks_exact(self.n).enumerate() {
                for (column, &x) in columns.iter_mut().zip(row) {
                    lane_mut::<S>(column)[instance] = x;
                }
            }
            let mut target = s.splat_i32(0);
            lane_mut::<S>(&mut target)[..targets.len()].copy_from_slice(targets);
            sort_sums(s, &columns[..h], &mut lists.low);
            sort_sums(s, &columns[h..2 * h], &mut lists.high);
            best.reset();
            for prefix in 0..1_u64 << (self.n - 2 * h) {
                let mut rest = target;
                for (j, &column) in columns[2 * h..].iter().enumerate() {
                    if prefix >> j & 1 != 0 {
                        rest = s.sub_i32(rest, column);
                    }
                }
                lists.search(s, rest, prefix, &mut best);
            }
            for (i, (row, out)) in candidates.chunks_exact(self.n).zip(out).enumerate() {
                finder.set(row);
                *out = finder.recover(s, &best.lanes[i], row, targets[i]);
            }
        }
    }
}

/// The sorted and unsorted sums of one candidate set, for many targets.
pub(super) struct Shared {
    candidates: Vec<i32>,
    low: Vec<i32>,
    high: Vec<i32>,
    finder: Finder,
    half: usize,
}

impl Shared {
    /// Prepares a set of n ≤ [`LIMIT`] candidates for about `targets` targets.
    pub(super) fn new(candidates: &[i32], targets: usize) -> Self {
        let n = candidates.len();
        // A few targets fill the lanes only with a longer prefix, which makes more, smaller tasks.
        let half = if targets < 16 { half(n).min(((n - 4) / 2).max(3)) } else { half(n) };
        let mut finder = Finder::new(half);
        finder.set(candidates);
        let sort = |sums: &[i32]| {
            let mut sums = sums.to_vec();
            sums.sort_unstable();
            sums
        };
        let (low, high) = (sort(&finder.low), sort(&finder.high));
        Self { candidates: candidates.to_vec(), low, high, finder, half }
    }
}

/// Many targets over one candidate set: the lanes run over (target, prefix).
pub(super) struct Many<'a> {
    pub(super) shared: &'a Shared,
    pub(super) targets: &'a [i32],
    pub(super) out: &'a mut [Best],
}

impl Kernel for Many<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let shared = self.shared;
        let h = shared.half;
        let prefix_bits = shared.candidates.len() - 2 * h;
        let mut lists = Lists::new(s, h);
        for (list, sums) in [(&mut lists.low, &shared.low), (&mut lists.high, &shared.high)] {
            for (vector, &sum) in list.iter_mut().zip(sums) {
                *vector = s.splat_i32(sum);
            }
        }
        let mut prefixes = vec![0; 1 << prefix_bits];
        fill_sums(shared.candidates[2 * h..].iter().copied(), &mut prefixes);
        let mut best = LaneBest::default();
        self.out.fill((i64::MAX, 0));
        let tasks = self.targets.len() << prefix_bits;
        for start in (0..tasks).step_by(S::LANES) {
            let count = S::LANES.min(tasks - start);
            let task =
                |lane: usize| ((start + lane) >> prefix_bits, (start + lane) & ((1 << prefix_bits) - 1));
            let mut rest = s.splat_i32(0);
            for lane in 0..count {
                let (target, prefix) = task(lane);
                lane_mut::<S>(&mut rest)[lane] = self.targets[target] - prefixes[prefix];
            }
            best.reset();
            for lane in 0..count {
                // Only a residual that is strictly better than those of earlier prefixes counts.
                let (target, _) = task(lane);
                best.lanes[lane].residual = self.out[target].0.min(i64::from(NOTHING)) as i32;
            }
            lists.search(s, rest, 0, &mut best);
            for lane in 0..count {
                let (target, prefix) = task(lane);
                let found = &mut best.lanes[lane];
                if i64::from(found.residual) < self.out[target].0 && !found.high_sums.is_empty() {
                    found.prefix = prefix as u64;
                    self.out[target] =
                        shared.finder.recover(s, found, &shared.candidates, self.targets[target]);
                }
            }
        }
    }
}

/// Above every residual.
const NOTHING: i32 = (1 << 30) - 1;

/// A lane's result: the least residual, the prefix that first attained it, and the sums of the high half's subsets that attain it
/// with this prefix.
#[derive(Clone, Default)]
struct Found {
    residual: i32,
    prefix: u64,
    high_sums: Vec<i32>,
}

#[derive(Clone, Default)]
struct LaneBest {
    lanes: [Found; 32],
}

impl LaneBest {
    #[inline(always)]
    fn reset(&mut self) {
        for lane in &mut self.lanes {
            lane.residual = NOTHING;
            lane.prefix = 0;
            lane.high_sums.clear();
        }
    }
}

/// The lists of `LANES` instances.
struct Lists<S: Simd> {
    low: Vec<S::I32>,
    high: Vec<S::I32>,
    merged: Vec<S::I32>,
    /// The least odd gap that ends in each group of [`GROUP`] merged keys, with its sign bit set.
    gaps: Vec<S::I32>,
}

impl<S: Simd> Lists<S> {
    #[inline(always)]
    fn new(s: S, half: usize) -> Self {
        let zeros = |len| vec![s.splat_i32(0); len];
        Self {
            low: zeros(1 << half),
            high: zeros(1 << half),
            merged: zeros(2 << half),
            gaps: zeros((2 << half) / GROUP),
        }
    }

    /// Improves `best` by the pairs of a low and a high sum nearest to `rest`.
    #[inline(always)]
    fn search(&mut self, s: S, rest: S::I32, prefix: u64, best: &mut LaneBest) {
        let key = s.add_i32(s.add_i32(rest, rest), s.splat_i32(1));
        let least = self.merge(s, key);

        // Every gap that may belong to the least residual, if that beats the best so far.
        let mut bound = s.splat_i32(0);
        for (bound, lane) in lane_mut::<S>(&mut bound).iter_mut().zip(&best.lanes) {
            *bound = 2 * lane.residual;
        }
        // Gaps have their sign bit set.
        let limit = s.min_i32(s.add_i32(least, s.splat_i32(3)), s.xor_i32(bound, s.splat_i32(i32::MIN)));
        for (group, &gap) in self.gaps.iter().enumerate() {
            let lanes = s.mask_bits(s.gt_i32(limit, gap));
            if lanes != 0 {
                collect::<S>(&self.merged, group * GROUP, lanes, rest, prefix, best);
            }
        }
    }

    /// Merges the low sums with `key` minus twice the high sums, notes each group's least odd gap, and
    /// returns the least of all.
    #[inline(always)]
    fn merge(&mut self, s: S, key: S::I32) -> S::I32 {
        let len = self.low.len();
        let (small, large) = self.merged.split_at_mut(len);
        // A first pass of as many levels as leave a multiple of three.
        match len.trailing_zeros() % 3 {
            1 => first_pass::<S, 2>(s, key, &self.low, &self.high, small, large),
            2 => first_pass::<S, 4>(s, key, &self.low, &self.high, small, large),
            _ => first_pass::<S, 1>(s, key, &self.low, &self.high, small, large),
        }
        let size = len >> (len.trailing_zeros() % 3);
        let mut least = s.splat_i32(i32::MAX);
        let mut previous = None;
        for (block, gaps) in self.merged.chunks_exact_mut(size).zip(self.gaps.chunks_exact_mut(size / GROUP))
        {
            clean(s, block, GROUP);
            for (keys, gap) in block.chunks_exact_mut(GROUP).zip(gaps) {
                pass::<S, GROUP>(s, keys);
                // An odd gap gets its sign bit set, so that it is less than any even one.
                let mut before = previous.unwrap_or(keys[0]);
                let mut found = s.splat_i32(i32::MAX);
                for &key in &*keys {
                    let gap = s.sub_i32(key, before);
                    found = s.min_i32(found, s.xor_i32(gap, s.shl_i32::<31>(gap)));
                    before = key;
                }
                previous = Some(before);
                least = s.min_i32(least, found);
                *gap = found;
            }
        }
        least
    }
}

/// Keys that the last pass sorts in registers.
const GROUP: usize = 8;

/// The first crosswise comparison of low sums and `key` minus twice the high sums, and log₂ WAYS levels of
/// half-cleaners on the smaller and on the larger ones.
#[inline(always)]
fn first_pass<S: Simd, const WAYS: usize>(
    s: S,
    key: S::I32,
    low: &[S::I32],
    high: &[S::I32],
    small: &mut [S::I32],
    large: &mut [S::I32],
) {
    let stride = low.len() / WAYS;
    let len = stride * WAYS;
    let (low, high, small, large) = (&low[..len], &high[..len], &mut small[..len], &mut large[..len]);
    for i in 0..stride {
        let (mut least, mut largest) = ([key; WAYS], [key; WAYS]);
        for w in 0..WAYS {
            let (a, b) = (low[w * stride + i], high[w * stride + i]);
            let (a, b) = (s.add_i32(a, a), s.sub_i32(key, s.add_i32(b, b)));
            least[w] = s.min_i32(a, b);
            largest[w] = s.max_i32(a, b);
        }
        let (least, largest) = (half_clean(s, least), half_clean(s, largest));
        for w in 0..WAYS {
            small[w * stride + i] = least[w];
            large[w * stride + i] = largest[w];
        }
    }
}

/// Adds the pairs of neighbours that end in one group of vectors to the lanes' results.
#[inline(always)]
fn collect<S: Simd>(
    merged: &[S::I32],
    start: usize,
    lanes: u32,
    rest: S::I32,
    prefix: u64,
    best: &mut LaneBest,
) {
    let rest = bytemuck::cast_slice::<S::I32, i32>(core::slice::from_ref(&rest));
    let keys = bytemuck::cast_slice::<S::I32, i32>(merged);
    let end = (start + GROUP).min(merged.len());
    let mut left = lanes;
    while left != 0 {
        let lane = left.trailing_zeros() as usize;
        left &= left - 1;
        let found = &mut best.lanes[lane];
        for i in start.max(1)..end {
            let (before, after) = (keys[(i - 1) * S::LANES + lane], keys[i * S::LANES + lane]);
            if (before ^ after) & 1 == 0 {
                continue;
            }
            let residual = ((after >> 1) - (before >> 1)).abs();
            if residual < found.residual {
                found.residual = residual;
                found.prefix = prefix;
                found.high_sums.clear();
            } else if residual > found.residual || found.prefix != prefix || found.high_sums.is_empty() {
                continue;
            }
            let odd = if before & 1 != 0 { before } else { after };
            found.high_sums.push(rest[lane] - (odd >> 1));
        }
    }
}

/// Fills `list` with the sorted sums of all subsets, per lane.
#[inline(always)]
fn sort_sums<S: Simd>(s: S, candidates: &[S::I32], list: &mut [S::I32]) {
    list[0] = s.splat_i32(0);
    let mut len = 1;
    for &x in candidates {
        let (small, large) = list[..2 * len].split_at_mut(len);
        // Both ends together, because each needs the other's old value.
        for i in 0..len.div_ceil(2) {
            let j = len - 1 - i;
            let (u, v) = (small[i], small[j]);
            let (u_plus, v_plus) = (s.add_i32(u, x), s.add_i32(v, x));
            small[i] = s.min_i32(u, v_plus);
            small[j] = s.min_i32(v, u_plus);
            large[i] = s.max_i32(u, v_plus);
            large[j] = s.max_i32(v, u_plus);
        }
        clean(s, small, 1);
        clean(s, large, 1);
        len *= 2;
    }
}

/// Runs the half-cleaners of a bitonic list of 2^k vectors until blocks of `end` (1 or 8) vectors are left,
/// three levels per pass over memory; what fits L1 is finished before the next part is begun.
#[inline(always)]
fn clean<S: Simd>(s: S, list: &mut [S::I32], end: usize) {
    let mut size = list.len();
    match size.trailing_zeros() % 3 {
        1 => {
            pass::<S, 2>(s, list);
            size /= 2;
        }
        2 => {
            pass::<S, 4>(s, list);
            size /= 4;
        }
        _ => {}
    }
    for part in list.chunks_exact_mut(size) {
        let mut size = size;
        while size > end {
            for block in part.chunks_exact_mut(size) {
                pass::<S, 8>(s, block);
            }
            size /= 8;
        }
    }
}

/// log₂ WAYS levels of half-cleaners, the first one over the whole list.
#[inline(always)]
fn pass<S: Simd, const WAYS: usize>(s: S, list: &mut [S::I32]) {
    let stride = list.len() / WAYS;
    let list = &mut list[..stride * WAYS];
    for i in 0..stride {
        let mut keys = [s.splat_i32(0); WAYS];
        for w in 0..WAYS {
            keys[w] = list[w * stride + i];
        }
        let keys = half_clean(s, keys);
        for w in 0..WAYS {
            list[w * stride + i] = keys[w];
        }
    }
}

/// log₂ WAYS levels of half-cleaners in registers.
#[inline(always)]
fn half_clean<S: Simd, const WAYS: usize>(s: S, mut keys: [S::I32; WAYS]) -> [S::I32; WAYS] {
    let mut apart = WAYS / 2;
    while apart > 0 {
        for w in 0..WAYS {
            if w & apart == 0 {
                let (a, b) = (keys[w], keys[w + apart]);
                keys[w] = s.min_i32(a, b);
                keys[w + apart] = s.max_i32(a, b);
            }
        }
        apart /= 2;
    }
    keys
}

/// The unsorted sums of both halves of one instance: subset i at index i.
struct Finder {
    low: Vec<i32>,
    high: Vec<i32>,
    half: usize,
}

impl Finder {
    fn new(half: usize) -> Self {
        Self { low: vec![0; 1 << half], high: vec![0; 1 << half], half }
    }

    #[inline(always)]
    fn set(&mut self, candidates: &[i32]) {
        fill_sums(candidates[..self.half].iter().copied(), &mut self.low);
        fill_sums(candidates[self.half..2 * self.half].iter().copied(), &mut self.high);
    }

    /// The least subset among those that attain the least residual.
    #[inline(always)]
    fn recover<S: Simd>(&self, s: S, found: &Found, candidates: &[i32], target: i32) -> Best {
        let mut high = usize::MAX;
        for &sum in &found.high_sums {
            high = high.min(find(s, &self.high, sum));
        }
        let prefix = candidates[2 * self.half..].iter().enumerate();
        let chosen = prefix.filter(|&(j, _)| found.prefix >> j & 1 != 0).map(|(_, x)| x);
        let rest = target - chosen.sum::<i32>() - self.high[high];
        let low = find(s, &self.low, rest - found.residual).min(find(s, &self.low, rest + found.residual));
        let subset = (found.prefix << self.half | high as u64) << self.half | low as u64;
        (i64::from(found.residual), subset)
    }
}

/// The first index of `value`; `usize::MAX` if it is missing.
#[inline(always)]
fn find<S: Simd>(s: S, values: &[i32], value: i32) -> usize {
    let wanted = s.splat_i32(value);
    let chunks = values.chunks_exact(S::LANES);
    let tail = values.len() - chunks.remainder().len();
    for (i, chunk) in chunks.enumerate() {
        let lanes = s.mask_bits(s.eq_i32(s.load_i32(chunk), wanted));
        if lanes != 0 {
            return i * S::LANES + lanes.trailing_zeros() as usize;
        }
    }
    values[tail..].iter().position(|&x| x == value).map_or(usize::MAX, |i| tail + i)
}

#[inline(always)]
fn lane_mut<S: Simd>(vector: &mut S::I32) -> &mut [i32] {
    bytemuck::cast_slice_mut(core::slice::from_mut(vector))
}
