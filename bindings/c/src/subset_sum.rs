//! Subset sums

use std::sync::RwLock;

use slth_kernels::subset_sum::{self, Coverage, Method, Search, Sizes, Subset};
use slth_kernels::{Engine, KernelError};

use crate::engine::slth_engine;
use crate::handle::{self, Slot, handle};
use crate::memory::{Extensible, Output, check_disjoint, slice, slice_to_write, structure};
use crate::status::{Failure, guard, slth_status};

/// Most candidates that SLTH_BRUTE_FORCE, slth_coverage and slth_subset_all_sums take.
pub const SLTH_BRUTE_FORCE_LIMIT: usize = 30;
/// Most candidates that any search takes.
pub const SLTH_MEET_IN_THE_MIDDLE_LIMIT: usize = 48;

const _: () = assert!(SLTH_BRUTE_FORCE_LIMIT == subset_sum::BRUTE_FORCE_LIMIT);
const _: () = assert!(SLTH_BRUTE_FORCE_LIMIT == subset_sum::SUMS_LIMIT);
const _: () = assert!(SLTH_MEET_IN_THE_MIDDLE_LIMIT == subset_sum::MEET_IN_THE_MIDDLE_LIMIT);

/// How to search for a subset; the answer does not depend on it.
pub type slth_method = u32;

/// The fastest method for the number of candidates and epsilon.
pub const SLTH_METHOD_AUTO: slth_method = 0;
/// All 2^n sums; n <= 30.
pub const SLTH_BRUTE_FORCE: slth_method = 1;
/// Two sorted lists of 2^(n/2) sums; n <= 48. Takes 24 bytes * 2^ceil(n/2), per thread where every target has its own
/// candidates.
pub const SLTH_MEET_IN_THE_MIDDLE: slth_method = 2;
/// Meet in the middle by bitonic sorting networks; epsilon = 0, any size, n <= 30.
pub const SLTH_BITONIC: slth_method = 3;

/// Which subset is searched for, and how. NULL in its place: of any size, epsilon = 0, by the fastest method.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct slth_search {
    /// sizeof(slth_search).
    pub size: usize,
    /// The most candidates that a subset may have. 0: any number.
    pub at_most: usize,
    /// How many candidates a subset must have. 0: any number, as at_most has it.
    pub exactly: usize,
    /// How far each chosen candidate may be moved; at least 0.
    pub epsilon: f32,
    /// How to search.
    pub method: slth_method,
}

// SAFETY: a size first, and fields that are valid whatever their bits are; without padding, as is checked below.
unsafe impl Extensible for slth_search {
    const NAME: &'static str = "search";
    const FIRST_SIZE: usize = 3 * size_of::<usize>() + 8;
}

const _: () = assert!(size_of::<slth_search>() == 3 * size_of::<usize>() + 8, "padding");

impl slth_search {
    /// # Safety
    /// `search` must be NULL or a structure as [`structure`] asks for.
    unsafe fn read(search: *const Self) -> Result<Search, Failure> {
        // SAFETY: as promised.
        let Self { at_most, exactly, epsilon, method, .. } = unsafe { structure(search)? };
        let sizes = match (at_most, exactly) {
            (0, 0) => Sizes::Any,
            (at_most, 0) => Sizes::AtMost(at_most),
            (0, exactly) => Sizes::Exactly(exactly),
            (_, exactly) => {
                return Err(Failure::out_of_range("search.exactly", "0 beside search.at_most", exactly));
            }
        };
        let method = match method {
            SLTH_METHOD_AUTO => Method::Auto,
            SLTH_BRUTE_FORCE => Method::BruteForce,
            SLTH_MEET_IN_THE_MIDDLE => Method::MeetInTheMiddle,
            SLTH_BITONIC => Method::Bitonic,
            _ => {
                let allowed = "SLTH_METHOD_AUTO, SLTH_BRUTE_FORCE, SLTH_MEET_IN_THE_MIDDLE or SLTH_BITONIC";
                return Err(Failure::out_of_range("search.method", allowed, method));
            }
        };
        Ok(Search { epsilon, sizes, method })
    }
}

/// A subset of candidates, and how far from its target it is.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct slth_subset {
    /// Bit i is 1 where candidate i belongs to the subset.
    pub bits: u64,
    /// max(0, |sum - target| - epsilon * size), from the inputs as they were given, summed by ascending index.
    pub residual: f64,
}

/// Finds for each of count targets the subset of n candidates with the least residual; of equal ones that with the least
/// bits. Exact for candidates, targets and epsilon rounded to multiples of a power of two, so within 2^-23 * (sum of
/// |candidate|) of the least.
///
/// - search: NULL: the defaults.
/// - subsets: receives count answers.
///
/// Returns SLTH_NO_CANDIDATES, SLTH_TOO_MANY_CANDIDATES (more than 48), SLTH_NOT_FINITE, SLTH_OUT_OF_RANGE for a negative
/// epsilon and for more members than candidates, SLTH_NOT_BY_BITONIC.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_subset_nearest(
    engine: *const slth_engine,
    search: *const slth_search,
    candidates: *const f32,
    n: usize,
    targets: *const f32,
    count: usize,
    subsets: *mut slth_subset,
) -> slth_status {
    guard(|| {
        // SAFETY: as the header asks of each caller.
        unsafe {
            let candidates = slice("candidates", candidates, n)?;
            find(engine, search, candidates, (targets, count), subsets, |search, engine, targets, out| {
                search.nearest_many(engine, candidates, targets, out)
            })
        }
    })
}

/// As slth_subset_nearest, where every target has its own candidates: `[count, n]`, those of one target after those of the
/// other.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_subset_nearest_each(
    engine: *const slth_engine,
    search: *const slth_search,
    candidates: *const f32,
    n: usize,
    targets: *const f32,
    count: usize,
    subsets: *mut slth_subset,
) -> slth_status {
    guard(|| {
        // SAFETY: as the header asks of each caller.
        unsafe {
            let all = count.checked_mul(n).ok_or(Failure::overflow("candidates"))?;
            let candidates = slice("candidates", candidates, all)?;
            find(engine, search, candidates, (targets, count), subsets, |search, engine, targets, out| {
                search.nearest_each(engine, candidates, n, targets, out)
            })
        }
    })
}

/// What both searches have in common.
///
/// # Safety
/// All pointers must be as the header asks for.
unsafe fn find(
    engine: *const slth_engine,
    search: *const slth_search,
    candidates: &[f32],
    (targets, count): (*const f32, usize),
    subsets: *mut slth_subset,
    nearest: impl FnOnce(Search, Engine, &[f32], &mut [Subset]) -> Result<(), KernelError>,
) -> Result<(), Failure> {
    // SAFETY: as promised.
    unsafe {
        let (engine, search) = (handle::read(engine)?.engine, slth_search::read(search)?);
        let targets = slice("targets", targets, count)?;
        let output = Output::new("subsets", subsets, count)?;
        output.check_apart("targets", targets.as_ptr(), count)?;
        output.check_apart("candidates", candidates.as_ptr(), candidates.len())?;
        let mut found = vec![Subset::default(); count];
        nearest(search, engine, targets, &mut found)?;
        let found = found.into_iter().map(|Subset { bits, residual }| slth_subset { bits, residual });
        output.write(&found.collect::<Vec<_>>());
    }
    Ok(())
}

/// The sum of the chosen ones of n candidates, by ascending index. Returns SLTH_OUT_OF_RANGE for a bit without a candidate.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_subset_sum(
    bits: u64,
    candidates: *const f32,
    n: usize,
    sum: *mut f64,
) -> slth_status {
    guard(|| {
        if n < 64 && bits >> n != 0 {
            return Err(Failure::out_of_range("bits", "below 2^n", format_args!("{bits:#x}")));
        }
        // SAFETY: as the header asks of each caller.
        unsafe {
            let (candidates, output) = (slice("candidates", candidates, n)?, Output::new("sum", sum, 1)?);
            output.write(&[Subset { bits, residual: 0.0 }.sum(candidates)]);
        }
        Ok(())
    })
}

/// All 2^n sums and sizes, n <= 30: `sums[s]` receives the sum of subset s (bit i of s: candidate i), added up by ascending
/// index, `sizes[s]` the number of its candidates.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_subset_all_sums(
    candidates: *const f32,
    n: usize,
    sums: *mut f32,
    sizes: *mut u8,
) -> slth_status {
    guard(|| {
        if n > SLTH_BRUTE_FORCE_LIMIT {
            let limit = SLTH_BRUTE_FORCE_LIMIT;
            return Err(KernelError::TooManyCandidates { found: n, limit }.into());
        }
        let count = 1 << n;
        check_disjoint(["sums", "sizes"], sums.cast(), count * size_of::<f32>(), sizes, count)?;
        // SAFETY: as the header asks of each caller.
        unsafe {
            let candidates = slice("candidates", candidates, n)?;
            let bytes = size_of_val(candidates);
            check_disjoint(
                ["sums", "candidates"],
                sums.cast(),
                count * size_of::<f32>(),
                candidates.as_ptr().cast(),
                bytes,
            )?;
            check_disjoint(["sizes", "candidates"], sizes, count, candidates.as_ptr().cast(), bytes)?;
            let sums = slice_to_write("sums", sums, count)?;
            subset_sum::sums(candidates, sums, slice_to_write("sizes", sizes, count)?)?;
        }
        Ok(())
    })
}

/// Which targets of an interval lie within eta of the sum of a subset of the candidates pushed so far.
pub struct slth_coverage(RwLock<Coverage>);

handle!(slth_coverage(Coverage) = "coverage");

/// Begins without candidates. Takes at most 8 * (to - from) / eta bytes of memory.
///
/// - search: epsilon and the sizes of subsets that count; its method changes nothing. NULL: the defaults.
///
/// Returns SLTH_NOT_FINITE; SLTH_OUT_OF_RANGE for from > to, a negative epsilon, an eta that is below 2^-25 or takes more than
/// 256 MiB, a magnitude above 16.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_coverage_new(
    from: f32,
    to: f32,
    eta: f32,
    search: *const slth_search,
    coverage: *mut *mut slth_coverage,
) -> slth_status {
    guard(|| {
        // SAFETY: as the header asks of each caller.
        let (slot, search) = unsafe { (Slot::new("coverage", coverage)?, slth_search::read(search)?) };
        slot.fill(Coverage::with_sizes(from, to, search.epsilon, eta, search.sizes)?);
        Ok(())
    })
}

/// Adds a candidate, in 2^(candidates so far) steps.
///
/// - is_covered: receives whether every target of the interval is now met. NULL: nothing.
///
/// Returns SLTH_NOT_FINITE, SLTH_TOO_MANY_CANDIDATES for the 31st, SLTH_OUT_OF_RANGE where the sum of |candidate| + epsilon
/// and the interval's own numbers reach 64.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_coverage_push(
    coverage: *mut slth_coverage,
    engine: *const slth_engine,
    candidate: f32,
    is_covered: *mut bool,
) -> slth_status {
    guard(|| {
        // SAFETY: as the header asks of each caller.
        unsafe {
            let (engine, mut coverage) = (handle::read(engine)?.engine, handle::write(coverage)?);
            let output = Output::optional("is_covered", is_covered, 1)?;
            let covered = coverage.push(engine, candidate)?;
            if let Some(output) = output {
                output.write(&[covered]);
            }
        }
        Ok(())
    })
}

/// Whether every target is met; false for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_coverage_is_covered(coverage: *const slth_coverage) -> bool {
    // SAFETY: as the header asks of each caller.
    unsafe { handle::get(coverage, Coverage::is_covered) }
}

/// The ends of the first stretch of targets that are not met; NaN where every target is met.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_coverage_first_gap(
    coverage: *const slth_coverage,
    from: *mut f64,
    to: *mut f64,
) -> slth_status {
    guard(|| {
        // SAFETY: as the header asks of each caller.
        unsafe {
            let (from, to) = (Output::new("from", from, 1)?, Output::new("to", to, 1)?);
            let gap = handle::read(coverage)?.first_gap().unwrap_or(f64::NAN..f64::NAN);
            from.write(&[gap.start]);
            to.write(&[gap.end]);
        }
        Ok(())
    })
}

/// Frees a coverage; NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slth_coverage_free(coverage: *mut slth_coverage) {
    // SAFETY: as the header asks of each caller.
    unsafe { handle::free(coverage) }
}
