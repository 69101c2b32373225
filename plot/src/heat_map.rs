//! Tables of coloured cells.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::chart::{Area, Drawn, text};

const CELL: [i32; 2] = [70, 44];
/// Margins of the cells: left and above, right and below.
const MARGIN: [i32; 3] = [90, 56, 16];
const LETTERS: i32 = 21;

/// A table of numbers in [0, 1] as colours.
#[derive(Clone, Debug)]
pub struct HeatMap {
    /// The title above the columns.
    pub x_label: String,
    /// The title beside the rows.
    pub y_label: String,
    /// The columns' names.
    pub columns: Vec<String>,
    /// The rows' names.
    pub rows: Vec<String>,
    /// The known cells.
    pub cells: Vec<HeatCell>,
    /// Whether the first row gets a blue frame.
    pub first_row_framed: bool,
    /// Whether the first column gets a red frame.
    pub first_column_framed: bool,
}

/// One cell.
#[derive(Clone, Debug)]
pub struct HeatCell {
    /// Its column.
    pub column: usize,
    /// Its row.
    pub row: usize,
    /// Its number, in [0, 1].
    pub value: f64,
    /// Text behind the number.
    pub mark: String,
    /// Whether its number is dimmed.
    pub dimmed: bool,
    /// Whether there is a box around its number.
    pub boxed: bool,
    /// Whether there is a dot in its corner.
    pub dotted: bool,
}

/// The colour of a number in [0, 1], on a ramp that also rises in lightness, and that of text on it; red, green, blue.
pub fn ramp(value: f64) -> [[u8; 3]; 2] {
    const RAMP: [[f64; 3]; 5] = [
        [68.0, 1.0, 84.0],
        [59.0, 82.0, 139.0],
        [33.0, 145.0, 140.0],
        [94.0, 201.0, 98.0],
        [253.0, 231.0, 37.0],
    ];
    let at = value.clamp(0.0, 1.0) * 4.0;
    let index = (at as usize).min(3);
    let mix = |channel: usize| {
        let (a, b) = (RAMP[index][channel], RAMP[index + 1][channel]);
        (a + (b - a) * (at - index as f64)).round() as u8
    };
    [[mix(0), mix(1), mix(2)], if value < 0.6 { [255; 3] } else { [0; 3] }]
}

impl HeatMap {
    pub(super) fn size(&self) -> (u32, u32) {
        let [columns, rows] = [self.columns.len() as i32, self.rows.len() as i32];
        let [left, top, rest] = MARGIN;
        ((left + columns * CELL[0] + rest) as u32, (top + rows * CELL[1] + rest) as u32)
    }

    pub(super) fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> Drawn<B> {
        let [left, top, _] = MARGIN;
        let [columns, rows] = [self.columns.len() as i32, self.rows.len() as i32];
        let corner = |column: usize, row: usize| (left + column as i32 * CELL[0], top + row as i32 * CELL[1]);
        let middle = |column, row| {
            let (x, y) = corner(column, row);
            (x + CELL[0] / 2, y + CELL[1] / 2)
        };
        let centred = |words: &str, at, turned, colour| {
            text(area, words, at, LETTERS, (HPos::Center, VPos::Center), turned, colour)
        };
        let black = BLACK.mix(1.0);
        centred(&self.x_label, (left + columns * CELL[0] / 2, 15), false, black)?;
        centred(&self.y_label, (20, top + rows * CELL[1] / 2), true, black)?;
        for (column, name) in self.columns.iter().enumerate() {
            centred(name, (middle(column, 0).0, top - 16), false, black)?;
        }
        for (row, name) in self.rows.iter().enumerate() {
            let at = (left - 10, middle(0, row).1);
            text(area, name, at, LETTERS, (HPos::Right, VPos::Center), false, black)?;
        }
        for cell in &self.cells {
            let [fill, ink] = ramp(cell.value).map(|[r, g, b]| RGBColor(r, g, b));
            let (x, y) = corner(cell.column, cell.row);
            let rectangle = |inset: [i32; 2]| {
                [(x + inset[0], y + inset[1]), (x + CELL[0] - inset[0], y + CELL[1] - inset[1])]
            };
            area.draw(&Rectangle::new(rectangle([0, 0]), fill.filled()))?;
            area.draw(&Rectangle::new(rectangle([0, 0]), WHITE.stroke_width(1)))?;
            let number = format!("{:.2}{}", cell.value, cell.mark);
            let opacity = if cell.dimmed { 0.6 } else { 1.0 };
            centred(&number, middle(cell.column, cell.row), false, ink.mix(opacity))?;
            if cell.boxed {
                area.draw(&Rectangle::new(rectangle([10, 8]), ink.stroke_width(2)))?;
            }
            if cell.dotted {
                area.draw(&Circle::new((x + CELL[0] - 9, y + 9), 4, ink.filled()))?;
            }
        }
        let [blue, red] = [RGBColor(31, 95, 208), RGBColor(208, 32, 31)];
        let frame = |columns, rows, colour: RGBColor| {
            let to = (left + columns * CELL[0], top + rows * CELL[1]);
            area.draw(&Rectangle::new([(left, top), to], colour.stroke_width(4)))
        };
        if self.first_row_framed {
            frame(columns, 1, blue)?;
        }
        if self.first_column_framed {
            frame(1, rows, red)?;
        }
        Ok(())
    }
}
