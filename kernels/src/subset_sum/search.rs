//! The search for the subset of least residual: chooses a method and divides the work.

use core::ops::Range;

use super::bitonic::{self, Each, Many, Shared};
use super::brute_force::{self, Best, BruteForce};
use super::fixed::Fixed;
use super::low_sums::LOW_BITS;
use super::subset::{BRUTE_FORCE_LIMIT, MEET_IN_THE_MIDDLE_LIMIT, Sizes, Subset};
use super::two_pointer::{self, TwoPointer};
use crate::arch::float_env;
use crate::engine::Engine;
use crate::error::KernelError;

/// How to search. The answer does not depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// The fastest method for the number of candidates and ε.
    #[default]
    Auto,
    /// All 2ⁿ sums; n ≤ 30. Stops at the first residual of 0, so it is the fastest method when a large ε makes these frequent.
    BruteForce,
    /// Two sorted lists of 2^(n/2) sums and a pointer into each; n ≤ 48. 24 bytes · 2^⌈n/2⌉ of memory, for each thread if every
    /// target has its own candidates.
    MeetInTheMiddle,
    /// Meet in the middle by bitonic sorting networks, a search per lane; ε = 0, every size, n ≤ 30 (below 6: brute force).
    Bitonic,
}

/// A search for the subset of least residual among those of the sizes allowed; ties go to the least `bits`.
///
/// ```
/// use slth_kernels::{Engine, subset_sum::Search};
/// let engine = Engine::detect()?;
/// let candidates = [0.5, -0.25, 0.8, 0.3];
/// let found = Search::default().nearest(engine, &candidates, 0.6)?; // -0.25 + 0.8 = 0.55
/// assert_eq!(found.bits, 0b0110);
/// assert!((found.residual - 0.05).abs() < 1e-6);
/// let perturbed = Search { epsilon: 0.1, ..Search::default() };
/// assert_eq!(perturbed.nearest(engine, &candidates, 0.6)?.residual, 0.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Search {
    /// ε ≥ 0, the largest move of each chosen candidate.
    pub epsilon: f32,
    /// How many candidates the subset may have.
    pub sizes: Sizes,
    /// How to search.
    pub method: Method,
}

impl Search {
    /// The best subset of `candidates` for `target`.
    ///
    /// # Errors
    /// When there are no candidates or too many for the method, an input is not finite, ε is negative, no subset has an allowed
    /// size, or the method cannot restrict sizes.
    pub fn nearest(self, engine: Engine, candidates: &[f32], target: f32) -> Result<Subset, KernelError> {
        let mut out = [Subset::default()];
        self.nearest_many(engine, candidates, &[target], &mut out)?;
        Ok(out[0])
    }

    /// The best subsets of one set of `candidates` for many `targets`: what can be shared is prepared once.
    /// Targets are split over threads; a single brute-force search is split too.
    ///
    /// ```
    /// use slth_kernels::{Engine, subset_sum::{Search, Subset}};
    /// let mut found = [Subset::default(); 2];
    /// Search::default().nearest_many(Engine::detect()?, &[1.0, 2.0, 4.0], &[3.0, 6.0], &mut found)?;
    /// assert_eq!(found.map(|subset| subset.bits), [0b011, 0b110]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`nearest`](Self::nearest), and when `out` is not as long as `targets`. `out` is then unchanged.
    pub fn nearest_many(
        self,
        engine: Engine,
        candidates: &[f32],
        targets: &[f32],
        out: &mut [Subset],
    ) -> Result<(), KernelError> {
        let search = self.of_candidates(candidates.len());
        float_env::with_default(|| search.search_shared(engine, candidates, targets, out))
    }

    fn search_shared(
        self,
        engine: Engine,
        candidates: &[f32],
        targets: &[f32],
        out: &mut [Subset],
    ) -> Result<(), KernelError> {
        let n = candidates.len();
        self.check(n, candidates, targets)?;
        KernelError::check_len("out", &[targets.len()], out.len())?;
        if out.is_empty() {
            return Ok(());
        }
        let fixed = Fixed::new(candidates, self.epsilon);
        let finish = |best: &[Best], from: usize, out: &mut [Subset]| {
            for ((out, best), &target) in out.iter_mut().zip(best).zip(&targets[from..]) {
                *out = Subset::new(best.1, candidates, target, self.epsilon);
            }
        };
        match self.plan(n) {
            Method::Bitonic => {
                let engine = engine.for_work(targets.len().saturating_mul(bitonic::cycles(n)));
                let narrow: Vec<i32> = fixed.candidates.iter().map(|&x| x as i32).collect();
                let shared = Shared::new(&narrow, targets.len());
                let piece = whole_vectors(engine, targets.len(), SHARED_CHUNK);
                for_each_piece(engine, out, piece, |from, out| {
                    let units: Vec<i32> =
                        targets[from..][..out.len()].iter().map(|&z| fixed.target(z) as i32).collect();
                    let mut best = vec![(0, 0); out.len()];
                    engine.backend().run(Many { shared: &shared, targets: &units, out: &mut best });
                    finish(&best, from, out);
                });
            }
            Method::BruteForce if out.len() == 1 => {
                finish(&[brute_force_split(engine, &fixed, fixed.target(targets[0]), self.sizes)], 0, out);
            }
            Method::BruteForce => {
                let (engine, piece) = shares(engine, targets.len(), self.brute_force_cycles(n));
                for_each_piece(engine, out, piece, |from, out| {
                    let rows = 0..brute_force::rows(n);
                    for (i, out) in (from..).zip(out) {
                        let best =
                            brute_force(engine, &fixed, fixed.target(targets[i]), self.sizes, rows.clone());
                        finish(&[best], i, core::slice::from_mut(out));
                    }
                });
            }
            _ => {
                let mut best: Vec<(usize, Option<Best>)> = (0..out.len()).map(|i| (i, None)).collect();
                if let Some(look) = self.first_look(&fixed) {
                    let (engine, piece) = shares(engine, targets.len(), look.cycles);
                    for_each_piece(engine, &mut best, piece, |_, best| {
                        for (i, best) in best {
                            *best = look.take(engine, &fixed, fixed.target(targets[*i]));
                        }
                    });
                }
                let mut left: Vec<&mut (usize, Option<Best>)> =
                    best.iter_mut().filter(|(_, best)| best.is_none()).collect();
                if !left.is_empty() {
                    let lists = TwoPointer::new(&fixed.candidates, fixed.epsilon, self.sizes);
                    let (engine, piece) = shares(engine, left.len(), two_pointer::walk_cycles(n, self.sizes));
                    for_each_piece(engine, &mut left, piece, |_, left| {
                        for (i, best) in left.iter_mut().map(|left| &mut **left) {
                            *best = Some(lists.nearest(fixed.target(targets[*i])));
                        }
                    });
                }
                for (i, best) in best {
                    finish(&[best.unwrap_or_default()], i, &mut out[i..=i]);
                }
            }
        }
        for (out, &target) in out.iter_mut().zip(targets).filter(|(_, target)| fixed.is_beyond(**target)) {
            *out = Subset::beyond(candidates, target, self.epsilon, self.sizes);
        }
        Ok(())
    }

    /// The best subset for each of many targets, every one with its own candidates: `candidates` is
    /// `[targets, n]`, row-major. Targets are split over threads.
    ///
    /// ```
    /// use slth_kernels::{Engine, subset_sum::{Search, Subset}};
    /// let mut found = [Subset::default(); 2];
    /// Search::default().nearest_each(Engine::detect()?, &[1.0, 2.0, 4.0, 8.0], 2, &[3.0, 7.0], &mut found)?;
    /// assert_eq!(found.map(|subset| subset.bits), [0b11, 0b10]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`nearest`](Self::nearest), and when the slices do not fit together. `out` is then unchanged.
    pub fn nearest_each(
        self,
        engine: Engine,
        candidates: &[f32],
        n: usize,
        targets: &[f32],
        out: &mut [Subset],
    ) -> Result<(), KernelError> {
        let search = self.of_candidates(n);
        float_env::with_default(|| search.search_own(engine, candidates, n, targets, out))
    }

    fn search_own(
        self,
        engine: Engine,
        candidates: &[f32],
        n: usize,
        targets: &[f32],
        out: &mut [Subset],
    ) -> Result<(), KernelError> {
        KernelError::check_len("candidates", &[targets.len(), n], candidates.len())?;
        KernelError::check_len("out", &[targets.len()], out.len())?;
        self.check(n, candidates, targets)?;
        if out.is_empty() {
            return Ok(());
        }
        let plan = self.plan(n);
        if plan == Method::Bitonic {
            let engine = engine.for_work(targets.len().saturating_mul(bitonic::cycles(n)));
            let piece = whole_vectors(engine, targets.len(), EACH_CHUNK);
            for_each_piece(engine, out, piece, |from, out| {
                let rows = &candidates[from * n..][..out.len() * n];
                self.in_lanes(engine, rows, n, &targets[from..][..out.len()], out);
            });
            return Ok(());
        }
        // From the first search, if the searches differ.
        let cycles = if plan == Method::BruteForce {
            self.brute_force_cycles(n)
        } else {
            let look = self.first_look(&Fixed::new(&candidates[..n], self.epsilon));
            look.map_or_else(|| two_pointer::cycles(n, self.sizes), |look| look.cycles)
        };
        let (engine, piece) = shares(engine, targets.len(), cycles);
        for_each_piece(engine, out, piece, |from, out| {
            let rows = candidates[from * n..].chunks_exact(n);
            let mut fixed = Fixed::default();
            for ((out, row), &target) in out.iter_mut().zip(rows).zip(&targets[from..]) {
                fixed.set(row, self.epsilon);
                if fixed.is_beyond(target) {
                    *out = Subset::beyond(row, target, self.epsilon, self.sizes);
                    continue;
                }
                let units = fixed.target(target);
                let best = if plan == Method::BruteForce {
                    brute_force(engine, &fixed, units, self.sizes, 0..brute_force::rows(n))
                } else {
                    let first = self.first_look(&fixed).and_then(|look| look.take(engine, &fixed, units));
                    first.unwrap_or_else(|| {
                        TwoPointer::new(&fixed.candidates, fixed.epsilon, self.sizes).nearest(units)
                    })
                };
                *out = Subset::new(best.1, row, target, self.epsilon);
            }
        });
        Ok(())
    }

    /// The searches of one piece of work by bitonic networks, each with its own candidates.
    fn in_lanes(self, engine: Engine, rows: &[f32], n: usize, targets: &[f32], out: &mut [Subset]) {
        let mut fixed = Fixed::default();
        let mut narrow = Vec::with_capacity(rows.len());
        let mut units = Vec::with_capacity(out.len());
        let mut beyond = Vec::new();
        for (i, (row, &target)) in rows.chunks_exact(n).zip(targets).enumerate() {
            fixed.set(row, self.epsilon);
            narrow.extend(fixed.candidates.iter().map(|&x| x as i32));
            units.push(fixed.target(target) as i32);
            beyond.extend(fixed.is_beyond(target).then_some(i));
        }
        let mut best = vec![(0, 0); out.len()];
        engine.backend().run(Each { candidates: &narrow, n, targets: &units, out: &mut best });
        for (((out, best), row), &target) in out.iter_mut().zip(best).zip(rows.chunks_exact(n)).zip(targets) {
            *out = Subset::new(best.1, row, target, self.epsilon);
        }
        for i in beyond {
            out[i] = Subset::beyond(&rows[i * n..][..n], targets[i], self.epsilon, self.sizes);
        }
    }

    /// The same search, without a restriction of sizes if it excludes no subset of n candidates.
    fn of_candidates(self, n: usize) -> Self {
        match self.sizes {
            Sizes::AtMost(most) if most >= n => Self { sizes: Sizes::Any, ..self },
            _ => self,
        }
    }

    fn check(self, n: usize, candidates: &[f32], targets: &[f32]) -> Result<(), KernelError> {
        if n == 0 {
            return Err(KernelError::NoCandidates);
        }
        let limit = match self.method {
            Method::BruteForce => BRUTE_FORCE_LIMIT,
            _ => MEET_IN_THE_MIDDLE_LIMIT,
        };
        if n > limit {
            return Err(KernelError::TooManyCandidates { found: n, limit });
        }
        for (what, values) in [
            ("candidate", candidates),
            ("target", targets),
            ("epsilon", core::slice::from_ref(&self.epsilon)),
        ] {
            if let Some(index) = values.iter().position(|x| !x.is_finite()) {
                return Err(KernelError::NotFinite { what, index });
            }
        }
        if self.epsilon < 0.0 {
            return Err(KernelError::out_of_range("epsilon", "at least 0", self.epsilon));
        }
        if let Sizes::Exactly(size) = self.sizes
            && size > n
        {
            return Err(KernelError::out_of_range("sizes", "at most the number of candidates", size));
        }
        let restricted = self.sizes != Sizes::Any;
        if self.method == Method::Bitonic && (self.epsilon > 0.0 || restricted || n > bitonic::LIMIT) {
            return Err(KernelError::NotByBitonic);
        }
        Ok(())
    }

    fn plan(self, n: usize) -> Method {
        match self.method {
            Method::Auto if self.sizes != Sizes::Any => {
                let brute = n <= BRUTE_FORCE_LIMIT
                    && self.brute_force_cycles(n) <= two_pointer::cycles(n, self.sizes);
                if brute { Method::BruteForce } else { Method::MeetInTheMiddle }
            }
            Method::Auto if n <= BRUTE_FORCE_BELOW => Method::BruteForce,
            Method::Auto if self.epsilon == 0.0 && n <= bitonic::LIMIT => Method::Bitonic,
            Method::Auto => Method::MeetInTheMiddle,
            Method::Bitonic if n < bitonic::LEAST => Method::BruteForce,
            method => method,
        }
    }

    /// Clock cycles of a search by brute force.
    fn brute_force_cycles(self, n: usize) -> usize {
        brute_force::cycles(self.sizes.subsets(n) as usize, brute_force::rows(n))
    }

    /// Brute force over the first subsets only, if that is likely to end the search; otherwise `None`.
    fn first_look(self, fixed: &Fixed) -> Option<FirstLook> {
        let n = fixed.candidates.len();
        if self.method != Method::Auto
            || self.sizes != Sizes::Any
            || self.epsilon == 0.0
            || n > BRUTE_FORCE_LIMIT
        {
            return None;
        }
        // As many rows as take the time of the two-pointer search without making its lists.
        let all = brute_force::rows(n);
        let rows = all.min(1 << (n / 2 - 1));
        // With random candidates about one sum in Σ|x| / 3nε has a residual of 0.
        let total: i64 = fixed.candidates.iter().map(|x| x.abs()).sum();
        let hits = 3 * n as i64 * fixed.epsilon;
        let sums = (rows as i64) << LOW_BITS;
        if rows < all && hits * sums < total {
            return None;
        }
        let likely = sums.min(total / hits.max(1));
        Some(FirstLook {
            rows,
            all: rows == all,
            cycles: brute_force::cycles(likely as usize, likely as u64 >> LOW_BITS),
        })
    }
}

/// A brute-force search of the first rows.
struct FirstLook {
    rows: u64,
    /// Whether the search covers all rows.
    all: bool,
    /// Clock cycles that the search is likely to take.
    cycles: usize,
}

impl FirstLook {
    /// The answer, if the first rows contain it: a residual of 0, or all subsets.
    fn take(&self, engine: Engine, fixed: &Fixed, target: i64) -> Option<Best> {
        let best = brute_force(engine, fixed, target, Sizes::Any, 0..self.rows);
        (best.0 == 0 || self.all).then_some(best)
    }
}

/// Up to here brute force beats the bitonic networks.
const BRUTE_FORCE_BELOW: usize = 10;

/// Maximum number of targets per piece of work: the lists are copied into lanes once per piece.
const SHARED_CHUNK: usize = 64;

/// Maximum number of instances per piece of work: a multiple of every lane count.
const EACH_CHUNK: usize = 96;

/// Least clock cycles of a piece of work, which outweigh the cost of sharing it; short searches are combined.
const PIECE_CYCLES: usize = 20_000;

/// Targets per piece of work for the bitonic networks: at most `most`, full vectors, and a piece for each thread if there are
/// enough targets.
fn whole_vectors(engine: Engine, targets: usize, most: usize) -> usize {
    targets.div_ceil(engine.threads()).next_multiple_of(16).clamp(1, most)
}

/// The engine for this many searches of this many clock cycles each, and the number of searches of a piece of work.
fn shares(engine: Engine, searches: usize, cycles: usize) -> (Engine, usize) {
    let engine = engine.for_work(searches.saturating_mul(cycles));
    let most = searches.div_ceil(engine.threads()).max(1);
    (engine, (PIECE_CYCLES / cycles).clamp(1, most))
}

/// Calls `work` with the index of the first item and the items of each piece, in the default floating-point environment.
fn for_each_piece<T: Send>(
    engine: Engine,
    items: &mut [T],
    piece: usize,
    work: impl Fn(usize, &mut [T]) + Sync,
) {
    engine.for_each_chunk(items, piece, |index, items| {
        // A helping thread may have another environment than the calling one.
        float_env::with_default(|| work(index * piece, items));
    });
}

fn brute_force(engine: Engine, fixed: &Fixed, target: i64, sizes: Sizes, rows: Range<u64>) -> Best {
    let Fixed { candidates, epsilon, .. } = fixed;
    engine.backend().run(BruteForce { candidates, epsilon: *epsilon, target, sizes, rows })
}

/// One brute-force search over all threads.
fn brute_force_split(engine: Engine, fixed: &Fixed, target: i64, sizes: Sizes) -> Best {
    let n = fixed.candidates.len();
    let rows = brute_force::rows(n);
    let engine = engine.for_work(brute_force::cycles(sizes.subsets(n) as usize, rows));
    if engine.threads() == 1 {
        return brute_force(engine, fixed, target, sizes, 0..rows);
    }
    // 2²⁰ sums per piece, 30 µs or so.
    let piece = rows.min(1 << 10);
    let mut best = vec![(i64::MAX, 0); (rows / piece) as usize];
    engine.for_each_chunk(&mut best, 1, |i, best| {
        let start = i as u64 * piece;
        best[0] = brute_force(engine, fixed, target, sizes, start..start + piece);
    });
    best.into_iter().min().unwrap_or_default()
}
