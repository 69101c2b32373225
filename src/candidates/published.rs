//! The paper's plot.

/// The paper's number of candidates at η and ε/η (90 % of candidate sets succeed), read off its authors' plot.
///
/// ```
/// use slth::candidates::paper_candidates;
/// assert_eq!(paper_candidates(1e-3, 10.0), Some(17));
/// assert_eq!(paper_candidates(0.5, 10.0), None);
/// ```
pub fn paper_candidates(eta: f64, ratio: f64) -> Option<usize> {
    let table = include_str!("published.csv");
    let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(table.as_bytes());
    let number = |text: &str| text.parse::<f64>().ok();
    let column = reader.headers().ok()?.iter().position(|text| number(text) == Some(ratio))?;
    let mut rows = reader.records().map_while(Result::ok);
    let row = rows.find(|row| row.get(0).and_then(number) == Some(eta))?;
    row.get(column)?.parse().ok()
}
