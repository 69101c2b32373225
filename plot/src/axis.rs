//! Axes: range, ticks and numbers.

/// An axis: its title, scale and range.
#[derive(Clone, Debug)]
pub struct Axis {
    label: String,
    scale: Scale,
    range: Option<[f64; 2]>,
    /// Positions with a name in place of a number.
    marks: Vec<(f64, &'static str)>,
}

#[derive(Clone, Debug)]
enum Scale {
    Linear,
    Whole,
    Log,
    Named(Vec<String>),
}

impl Axis {
    /// A linear axis over all the data.
    pub fn linear(label: impl Into<String>) -> Self {
        Self { label: label.into(), scale: Scale::Linear, range: None, marks: Vec::new() }
    }

    /// A linear axis of whole numbers.
    pub fn whole(label: impl Into<String>) -> Self {
        Self { scale: Scale::Whole, ..Self::linear(label) }
    }

    /// Names at equal distances; a point's coordinate is the index of its name.
    pub fn named(label: impl Into<String>, names: Vec<String>) -> Self {
        Self { scale: Scale::Named(names), ..Self::linear(label) }
    }

    /// A logarithmic axis over all the positive data.
    pub fn log(label: impl Into<String>) -> Self {
        Self { scale: Scale::Log, ..Self::linear(label) }
    }

    /// From `from` to `to` at least.
    #[must_use]
    pub fn including(self, from: f64, to: f64) -> Self {
        Self { range: Some([from, to]), ..self }
    }

    /// Writes `name` at x, and no number beside it: for a value that a logarithmic axis lacks, as 0, whose points stand there.
    #[must_use]
    pub fn with_mark(mut self, x: f64, name: &'static str) -> Self {
        self.marks.push((self.place(x), name));
        self
    }

    /// The title.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The position of x on a linear scale; NaN if x cannot be shown.
    pub(super) fn place(&self, x: f64) -> f64 {
        let place = if matches!(self.scale, Scale::Log) { libm::log10(x) } else { x };
        if place.is_finite() { place } else { f64::NAN }
    }

    /// Its two ends (a margin around `data` and the requested range) and its ticks, all as positions.
    pub(super) fn span(&self, data: impl Iterator<Item = f64>) -> ([f64; 2], Vec<f64>) {
        if let Scale::Named(names) = &self.scale {
            return ([-0.5, names.len() as f64 - 0.5], (0..names.len()).map(|i| i as f64).collect());
        }
        let asked = self.range.into_iter().flatten();
        let places = data.chain(asked).map(|x| self.place(x)).filter(|x| !x.is_nan());
        let [from, to] = places.fold([f64::INFINITY, f64::NEG_INFINITY], |[a, b], x| [a.min(x), b.max(x)]);
        let [from, to] = if from <= to { [from, to] } else { [0.0, 1.0] };
        let margin = if to > from { 0.04 * (to - from) } else { 0.5 * from.abs().max(1.0) };
        let ends = [from - margin, to + margin];
        let mut ticks = match self.scale {
            Scale::Log => decades(ends),
            Scale::Whole => steps(ends, 1.0),
            _ => steps(ends, 0.0),
        };
        let marks =
            || self.marks.iter().map(|mark| mark.0).filter(|place| (ends[0]..=ends[1]).contains(place));
        ticks.retain(|tick| marks().all(|place| (tick - place).abs() > 0.05 * (ends[1] - ends[0])));
        ticks.extend(marks());
        (ends, ticks)
    }

    /// The number at a tick.
    pub(super) fn tick(&self, place: f64) -> String {
        if let Some((_, name)) = self.marks.iter().find(|mark| mark.0 == place) {
            return (*name).to_owned();
        }
        match &self.scale {
            Scale::Log => number(libm::pow(10.0, place)),
            Scale::Named(names) => names.get(place as usize).cloned().unwrap_or_default(),
            Scale::Linear | Scale::Whole => number(place),
        }
    }
}

/// Powers of ten, and 2 and 5 times these if there are fewer than three.
fn decades([from, to]: [f64; 2]) -> Vec<f64> {
    let (first, last) = (libm::floor(from) as i64, libm::ceil(to) as i64);
    let within = |place: &f64| (from..=to).contains(place);
    let every = (last - first) / 12 + 1;
    let whole: Vec<f64> =
        (first..=last).filter(|k| k % every == 0).map(|k| k as f64).filter(within).collect();
    if whole.len() >= 3 {
        return whole;
    }
    let fine = (first..=last).flat_map(|k| [1.0, 2.0, 5.0].map(|digit| k as f64 + libm::log10(digit)));
    fine.filter(within).collect()
}

/// Multiples of 1, 2 or 5 times a power of ten, about seven of them, `least` apart at least.
fn steps([from, to]: [f64; 2], least: f64) -> Vec<f64> {
    let rough = f64::max((to - from) / 7.0, least);
    let power = libm::pow(10.0, libm::floor(libm::log10(rough)));
    let step = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power).into_iter().find(|&step| step >= rough);
    let step = step.unwrap_or(rough);
    let (first, last) = (libm::ceil(from / step) as i64, libm::floor(to / step) as i64);
    (first..=last).take(100).map(|k| k as f64 * step).collect()
}

/// A number as it is written on an axis or in a legend: powers of ten as such where they are beyond 0.01 and 1000, others
/// with at most four digits.
///
/// ```
/// use slth_plot::number;
/// assert_eq!([1e-3, 0.25, 20.0, 1e5, 0.0, -0.5].map(number), ["10⁻³", "0.25", "20", "10⁵", "0", "-0.5"]);
/// ```
pub fn number(x: f64) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let rounded: f64 = format!("{x:.3e}").parse().unwrap_or(x);
    let text = format!("{rounded:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    if x == 0.0 || !x.is_finite() || (0.01..1000.0).contains(&rounded.abs()) {
        return format!("{}", rounded + 0.0);
    }
    let raised: String =
        exponent.chars().map(|c| c.to_digit(10).map_or('⁻', |digit| DIGITS[digit as usize])).collect();
    match mantissa {
        "1" => format!("10{raised}"),
        "-1" => format!("-10{raised}"),
        _ => format!("{mantissa}·10{raised}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_lie_within_and_are_round() {
        let ticks = |axis: Axis, data: &[f64]| {
            let (ends, ticks) = axis.span(data.iter().copied());
            assert!(ticks.iter().all(|t| (ends[0]..=ends[1]).contains(t)));
            ticks.iter().map(|&t| axis.tick(t)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(ticks(Axis::linear(""), &[0.0, 10.0]), "0 2 4 6 8 10");
        assert_eq!(ticks(Axis::linear("").including(0.0, 0.0), &[1.0]), "0 0.2 0.4 0.6 0.8 1");
        assert_eq!(ticks(Axis::log(""), &[1e-5, 1e-2]), "10⁻⁵ 10⁻⁴ 10⁻³ 0.01");
        assert_eq!(ticks(Axis::log(""), &[0.1, 0.5, 0.0]), "0.1 0.2 0.5");
        assert_eq!(ticks(Axis::log("").with_mark(1e-4, "0"), &[1e-4, 1e-2]), "10⁻³ 0.01 0");
        assert_eq!(ticks(Axis::log("").with_mark(1e-9, "0"), &[1e-3, 0.1]), "10⁻³ 0.01 0.1");
        assert_eq!(ticks(Axis::whole(""), &[9.0, 11.0]), "9 10 11");
        assert_eq!(ticks(Axis::whole(""), &[0.0, 21.0]), "0 5 10 15 20");
        let names = vec!["0".to_owned(), number(1e-6), "∞".to_owned()];
        assert_eq!(ticks(Axis::named("", names), &[0.0, 7.0, f64::NAN]), "0 10⁻⁶ ∞");
        assert_eq!(ticks(Axis::named("", vec![]), &[0.0]), "");
        for hostile in
            [&[][..], &[f64::NAN], &[f64::INFINITY, -1.0], &[7.0], &[1e300, -1e300], &[1e-300, 1e300]]
        {
            assert!(ticks(Axis::linear(""), hostile).len() < 2000);
            assert!(ticks(Axis::log(""), hostile).len() < 2000);
        }
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(number(3e-4), "3·10⁻⁴");
        assert_eq!(number(-1e6), "-10⁶");
        assert_eq!(number(0.1 + 0.2), "0.3");
        assert_eq!(number(999.96), "10³");
        assert_eq!(number(-0.0), "0");
    }
}
