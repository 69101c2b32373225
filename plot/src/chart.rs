//! Charts, element by element with plotters.

use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{COLOURS, Chart, Series, Style};

/// Size of a chart without its legend, in pixels.
const SIZE: [i32; 2] = [780, 600];
/// Margins of the axes: left, right, above, below.
const MARGIN: [i32; 4] = [92, 24, 52, 84];
const TITLE: i32 = 24;
const LABEL: i32 = 22;
const SMALL: i32 = 19;
/// Distance between lines of the legend.
const LINE: i32 = 30;
/// Width of a mark of the legend, including the distance to its text.
const KEY: i32 = 56;
const DOT: i32 = 5;

/// A part of a picture; `B` turns drawings into SVG or pixels.
pub(super) type Area<B> = DrawingArea<B, Shift>;
pub(super) type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

/// Width and height of the charts side by side, each with its legend at its right.
pub(super) fn size(charts: &[Chart]) -> (u32, u32) {
    (charts.iter().map(width).sum::<i32>().max(1) as u32, SIZE[1] as u32)
}

pub(super) fn draw<B: DrawingBackend>(all: &Area<B>, charts: &[Chart]) -> Drawn<B> {
    let mut left = 0;
    for chart in charts {
        draw_chart(&all.clone().shrink((left, 0), (width(chart), SIZE[1])), chart)?;
        left += width(chart);
    }
    Ok(())
}

fn width(chart: &Chart) -> i32 {
    SIZE[0] + legend_width(chart)
}

fn named(chart: &Chart) -> impl Iterator<Item = &Series> {
    chart.series.iter().filter(|series| !series.name.is_empty())
}

/// A letter of DejaVu Sans is 0.55 em wide on average.
fn legend_width(chart: &Chart) -> i32 {
    let longest = named(chart).map(|series| series.name.chars().count()).max();
    longest.map_or(0, |letters| KEY + letters as i32 * SMALL * 11 / 20 + 16)
}

fn draw_chart<B: DrawingBackend>(area: &Area<B>, chart: &Chart) -> Drawn<B> {
    let Chart { title, x, y, series } = chart;
    let points = || series.iter().flat_map(|series| &series.points);
    let bands = || series.iter().flat_map(|series| &series.band);
    let (xs, x_ticks) = x.span(points().map(|p| p[0]).chain(bands().map(|b| b[0])));
    let (ys, y_ticks) = y.span(points().map(|p| p[1]).chain(bands().flat_map(|b| [b[1], b[2]])));
    let [left, right, top, bottom] = [MARGIN[0], SIZE[0] - MARGIN[1], MARGIN[2], SIZE[1] - MARGIN[3]];
    let between = |place: f64, [from, to]: [f64; 2], a: i32, b: i32| {
        a + (f64::from(b - a) * (place - from) / (to - from)).round() as i32
    };
    let (across, up) =
        (|place: f64| between(place, xs, left, right), |place: f64| between(place, ys, bottom, top));
    let pixel = |[a, b]: [f64; 2]| {
        let (a, b) = (x.place(a), y.place(b));
        (!a.is_nan() && !b.is_nan()).then(|| (across(a), up(b)))
    };
    let label = |words: &str, at, size, anchor| text(area, words, at, size, anchor, false, BLACK.mix(1.0));
    let grid = BLACK.mix(0.12).stroke_width(1);
    for &tick in &x_ticks {
        let at = across(tick);
        area.draw(&PathElement::new([(at, top), (at, bottom)], grid))?;
        label(&x.tick(tick), (at, bottom + 10), SMALL, (HPos::Center, VPos::Top))?;
    }
    for &tick in &y_ticks {
        let at = up(tick);
        area.draw(&PathElement::new([(left, at), (right, at)], grid))?;
        label(&y.tick(tick), (left - 10, at), SMALL, (HPos::Right, VPos::Center))?;
    }
    let frame = [(left, top), (left, bottom), (right, bottom)];
    area.draw(&PathElement::new(frame, BLACK.stroke_width(1)))?;
    let middle = (left + right) / 2;
    label(title, (middle, 14), TITLE, (HPos::Center, VPos::Top))?;
    label(x.label(), (middle, SIZE[1] - 40), LABEL, (HPos::Center, VPos::Top))?;
    let beside = (16, (top + bottom) / 2);
    text(area, y.label(), beside, LABEL, (HPos::Center, VPos::Top), true, BLACK.mix(1.0))?;

    for series in series {
        let edge = |edge: usize| series.band.iter().filter_map(move |b| pixel([b[0], b[edge]]));
        let outline: Vec<_> = edge(1).chain(edge(2).collect::<Vec<_>>().into_iter().rev()).collect();
        if !outline.is_empty() {
            area.draw(&Polygon::new(outline, colour(series).mix(0.13).filled()))?;
        }
    }
    for series in series {
        let points: Vec<_> = series.points.iter().filter_map(|&point| pixel(point)).collect();
        marks(area, series, &points, &points)?;
    }
    for (line, series) in named(chart).enumerate() {
        let (at, from) = (top + 14 + LINE * line as i32, right + 10);
        if series.style == Style::Band {
            let corners = [(from, at - 9), (from + KEY - 16, at + 9)];
            area.draw(&Rectangle::new(corners, colour(series).mix(0.2).filled()))?;
        }
        let [start, middle, end] = [0, (KEY - 16) / 2, KEY - 16].map(|x| (from + x, at));
        marks(area, series, &[start, end], &[middle])?;
        label(&series.name, (from + KEY - 4, at), SMALL, (HPos::Left, VPos::Center))?;
    }
    Ok(())
}

fn colour(series: &Series) -> RGBColor {
    let [r, g, b] = COLOURS[series.colour % COLOURS.len()];
    RGBColor(r, g, b)
}

/// Text at a point; `turned`: reads upwards.
pub(super) fn text<B: DrawingBackend>(
    area: &Area<B>,
    text: &str,
    at: (i32, i32),
    size: i32,
    (h, v): (HPos, VPos),
    turned: bool,
    colour: RGBAColor,
) -> Drawn<B> {
    let font = ("sans-serif", size).into_font();
    let font = if turned { font.transform(FontTransform::Rotate270) } else { font };
    area.draw(&Text::new(text.to_owned(), at, font.color(&colour).pos(Pos::new(h, v))))
}

/// A series' line through `line` and its dots, in pixels.
fn marks<B: DrawingBackend>(
    area: &Area<B>,
    series: &Series,
    line: &[(i32, i32)],
    dots: &[(i32, i32)],
) -> Drawn<B> {
    let colour = colour(series);
    match series.style {
        Style::Solid | Style::Line => area.draw(&PathElement::new(line.to_vec(), colour.stroke_width(3)))?,
        Style::Dashed => {
            area.draw(&DashedPathElement::new(line.iter().copied(), 8, 6, colour.stroke_width(2)))?
        }
        Style::Dots | Style::Rings | Style::Band => {}
    }
    for &point in dots {
        match series.style {
            Style::Solid | Style::Dots => area.draw(&Circle::new(point, DOT, colour.filled()))?,
            Style::Dashed | Style::Rings => {
                area.draw(&Circle::new(point, DOT, WHITE.filled()))?;
                area.draw(&Circle::new(point, DOT, colour.stroke_width(2)))?;
            }
            Style::Line | Style::Band => {}
        }
    }
    Ok(())
}
