//! Charts of lines and points and heat maps, as SVG and as PNG.
//!
//! Pictures do not depend on the system's fonts: text in pixels is set in the embedded DejaVu Sans.
//!
//! ```
//! use slth_plot::{Axis, Chart, Picture, Series, Style};
//! let series = Series::new("measured", 0, Style::Solid, vec![[1e-3, 16.0], [1e-2, 13.0], [1e-1, 7.0]]);
//! let chart = Chart::new("Candidates", Axis::log("η"), Axis::linear("n"), vec![series]);
//! let picture = Picture::Charts(vec![chart]);
//! assert!(picture.svg()?.contains("measured"));
//! assert_eq!(picture.png(1.0)?[1..4], *b"PNG");
//! # Ok::<(), slth_plot::PlotError>(())
//! ```
#![forbid(unsafe_code)]

mod axis;
mod chart;
mod heat_map;
mod pixels;
#[cfg(test)]
mod tests;

use plotters::prelude::{DrawingBackend, IntoDrawingArea, SVGBackend, WHITE};

pub use axis::{Axis, number};
pub use heat_map::{HeatCell, HeatMap, ramp};

/// A picture, on white.
#[derive(Clone, Debug)]
pub enum Picture {
    /// Charts next to each other, each with its legend at its right.
    Charts(Vec<Chart>),
    /// A table of coloured cells.
    HeatMap(HeatMap),
}

impl Picture {
    /// As SVG.
    ///
    /// # Errors
    /// When plotters reports an error, for which no reason is known.
    pub fn svg(&self) -> Result<String, PlotError> {
        let mut text = String::new();
        self.draw(SVGBackend::with_string(&mut text, self.size()))?;
        Ok(text)
    }

    /// As PNG, `scale` pixels per unit of the SVG.
    ///
    /// # Errors
    /// When the picture would be empty or have more than 2²⁶ pixels.
    pub fn png(&self, scale: f32) -> Result<Vec<u8>, PlotError> {
        pixels::png(self.size(), scale, |pixels| self.draw(pixels))
    }

    fn size(&self) -> (u32, u32) {
        match self {
            Self::Charts(charts) => chart::size(charts),
            Self::HeatMap(map) => map.size(),
        }
    }

    fn draw<B: DrawingBackend>(&self, backend: B) -> Result<(), PlotError> {
        let area = backend.into_drawing_area();
        let drawn = area.fill(&WHITE).and_then(|()| match self {
            Self::Charts(charts) => chart::draw(&area, charts),
            Self::HeatMap(map) => map.draw(&area),
        });
        drawn.and_then(|()| area.present()).map_err(|error| PlotError(error.to_string()))
    }
}

/// Why a picture cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("plot: {0}")]
pub struct PlotError(String);

/// One pair of axes with series and a legend.
#[derive(Clone, Debug)]
pub struct Chart {
    /// The title above the axes.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The series, drawn in order; the legend lists those with a name.
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
    /// Only the band.
    Band,
}

/// Points of one colour.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name in the legend; empty: not listed there.
    pub name: String,
    /// Index of the colour in [`COLOURS`], modulo their number.
    pub colour: usize,
    /// How it is drawn.
    pub style: Style,
    /// (x, y), in the order of the line. Points that are not finite, or not positive on a logarithmic axis, are left out.
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

/// Red, green, blue of the palette, which most colour-blind readers can distinguish (M. Okabe, K. Ito 2008); the last is a grey
/// for reference lines.
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
