//! The paper's plot.

/// The paper's number of candidates at η and ε/η (90 % of candidate sets succeed), read off its authors' plot.
///
/// ```
/// use slth::candidates::paper_candidates;
/// assert_eq!(paper_candidates(1e-3, 10.0), Some(17));
/// assert_eq!(paper_candidates(0.5, 10.0), None);
/// ```
pub fn paper_candidates(eta: f64, ratio: f64) -> Option<usize> {
    let table = crate::input::table(include_str!("published.csv"));
    table.into_iter().find(|row| row[..2] == [eta, ratio]).map(|[_, _, n]| n as usize)
}
