//! Charts of lines and points as SVG, and any SVG as PNG.
//!
//! The pictures are the same everywhere: text is set in the embedded DejaVu Sans where it becomes pixels, no font of the
//! system is looked for.
//!
//! ```
//! use slth::plot::{Axis, Chart, Series, Style, png, svg};
//! let series = Series::new("measured", 0, Style::Solid, vec![[1e-3, 16.0], [1e-2, 13.0], [1e-1, 7.0]]);
//! let chart = Chart::new("Candidates", Axis::log("η"), Axis::linear("n"), vec![series]);
//! let picture = svg(&[chart])?;
//! assert!(picture.contains("measured"));
//! assert_eq!(png(&picture, 1.0)?[1..4], *b"PNG");
//! # Ok::<(), slth::plot::PlotError>(())
//! ```

mod axis;
mod draw;
mod png;

pub use axis::{Axis, number};
pub use draw::svg;
pub use png::png;

/// Why a picture cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("plot: {0}")]
pub struct PlotError(pub(crate) String);

/// One pair of axes with what is drawn on them, and a legend.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Above the axes.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// Drawn in order; the legend lists those that have a name.
    pub series: Vec<Series>,
}

impl Chart {
    /// A chart.
    pub fn new(title: impl Into<String>, x: Axis, y: Axis, series: Vec<Series>) -> Self {
        Self { title: title.into(), x, y, series }
    }
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A line through filled dots.
    Solid,
    /// A line.
    Line,
    /// A thin dashed line through rings.
    Dashed,
    /// Filled dots.
    Dots,
    /// Rings.
    Rings,
    /// Nothing but the band.
    Band,
}

/// Points of one colour.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name in the legend; empty: not listed there.
    pub name: String,
    /// Which of the palette's colours, see [`COLOURS`]; beyond it they begin again.
    pub colour: usize,
    /// How it is drawn.
    pub style: Style,
    /// (x, y), in the order of the line. What is not finite, or not positive on a logarithmic axis, is left out.
    pub points: Vec<[f64; 2]>,
    /// (x, lower, upper) of a band shaded behind it.
    pub band: Vec<[f64; 3]>,
}

impl Series {
    /// A series without a band.
    pub fn new(name: impl Into<String>, colour: usize, style: Style, points: Vec<[f64; 2]>) -> Self {
        Self { name: name.into(), colour, style, points, band: Vec::new() }
    }

    /// With `band`, as (x, lower, upper), shaded behind it.
    #[must_use]
    pub fn with_band(self, band: Vec<[f64; 3]>) -> Self {
        Self { band, ..self }
    }
}

/// Red, green, blue of the palette: told apart by most colour-blind readers (M. Okabe, K. Ito 2008), the last a grey for
/// what is no series of its own.
pub const COLOURS: [[u8; 3]; 7] = [
    [0, 114, 178],
    [213, 94, 0],
    [0, 158, 115],
    [204, 121, 167],
    [230, 159, 0],
    [86, 180, 233],
    [90, 90, 90],
];

/// The index of the grey in [`COLOURS`].
pub const GREY: usize = COLOURS.len() - 1;
