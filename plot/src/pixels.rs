//! Plotters' drawing as pixels, by tiny-skia; letters are outlines of DejaVu Sans.

use std::convert::Infallible;

use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind,
    FontTransform,
};
use tiny_skia::{
    Color, FillRule, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, Rect, Stroke, Transform,
};
use ttf_parser::{Face, GlyphId, OutlineBuilder};

use super::PlotError;

/// The largest picture: 2²⁶ pixels, 256 MiB while it is drawn.
const PIXELS: f32 = (1_u32 << 26) as f32;

/// The factor by which plotters' SVG reduces a font's size.
const LINE_HEIGHT: f64 = 1.24;

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

/// A picture of pixels, drawn in units.
pub(super) struct Pixels<'a> {
    map: &'a mut Pixmap,
    size: (u32, u32),
    scale: f32,
    font: Face<'static>,
}

/// The PNG of the drawing of `draw` on `size` units, `scale` pixels each.
pub(super) fn png(
    size: (u32, u32),
    scale: f32,
    draw: impl FnOnce(Pixels<'_>) -> Result<(), PlotError>,
) -> Result<Vec<u8>, PlotError> {
    let (width, height) = (size.0 as f32 * scale, size.1 as f32 * scale);
    let refused = || PlotError(format!("{width} × {height} pixels"));
    if !(width >= 1.0 && height >= 1.0 && width * height <= PIXELS) {
        return Err(refused());
    }
    let mut map = Pixmap::new(width.ceil() as u32, height.ceil() as u32).ok_or_else(refused)?;
    let font = Face::parse(dejavu::sans::regular(), 0).map_err(|error| PlotError(error.to_string()))?;
    draw(Pixels { map: &mut map, size, scale, font })?;
    map.encode_png().map_err(|error| PlotError(error.to_string()))
}

impl Pixels<'_> {
    fn transform(&self) -> Transform {
        Transform::from_scale(self.scale, self.scale)
    }

    fn fill(&mut self, path: Option<Path>, color: BackendColor, transform: Transform) {
        if let Some(path) = path {
            self.map.fill_path(&path, &paint(color), FillRule::Winding, transform, None);
        }
    }

    fn stroke<S: BackendStyle>(&mut self, path: Option<Path>, style: &S) {
        let stroke = Stroke {
            width: style.stroke_width() as f32,
            line_cap: LineCap::Butt,
            line_join: LineJoin::Round,
            ..Stroke::default()
        };
        if let Some(path) = path {
            self.map.stroke_path(&path, &paint(style.color()), &stroke, self.transform(), None);
        }
    }

    fn shape<S: BackendStyle>(&mut self, path: Option<Path>, style: &S, fill: bool) {
        if fill { self.fill(path, style.color(), self.transform()) } else { self.stroke(path, style) }
    }
}

fn paint(BackendColor { alpha, rgb: (r, g, b) }: BackendColor) -> Paint<'static> {
    let mut paint = Paint { anti_alias: true, ..Paint::default() };
    paint.set_color(Color::from_rgba8(r, g, b, (alpha.clamp(0.0, 1.0) * 255.0).round() as u8));
    paint
}

fn path(points: impl IntoIterator<Item = BackendCoord>, closed: bool) -> Option<Path> {
    let mut builder = PathBuilder::new();
    for (index, (x, y)) in points.into_iter().enumerate() {
        if index == 0 { builder.move_to(x as f32, y as f32) } else { builder.line_to(x as f32, y as f32) }
    }
    if closed {
        builder.close();
    }
    builder.finish()
}

impl DrawingBackend for Pixels<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, color: BackendColor) -> Drawn {
        self.draw_rect((x, y), (x + 1, y + 1), &color, true)
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn {
        self.draw_path([from, to], style)
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        style: &S,
        fill: bool,
    ) -> Drawn {
        let corner = |(x, y): BackendCoord| (x as f32, y as f32);
        let ((left, top), (right, bottom)) = (corner(from), corner(to));
        let path = Rect::from_ltrb(left, top, right, bottom).map(PathBuilder::from_rect);
        self.shape(path, style, fill);
        Ok(())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        points: I,
        style: &S,
    ) -> Drawn {
        self.stroke(path(points, false), style);
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        (x, y): BackendCoord,
        radius: u32,
        style: &S,
        fill: bool,
    ) -> Drawn {
        let path = PathBuilder::from_circle(x as f32, y as f32, radius as f32);
        self.shape(path, style, fill);
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        corners: I,
        style: &S,
    ) -> Drawn {
        self.fill(path(corners, true), style.color(), self.transform());
        Ok(())
    }

    /// The position that plotters' SVG back end would give the text.
    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, (x, y): BackendCoord) -> Drawn {
        let em = f32::from(self.font.units_per_em());
        let size = (style.size() / LINE_HEIGHT) as f32;
        let mut outline = Outline { builder: PathBuilder::new(), x: 0.0 };
        for letter in text.chars() {
            let glyph = self.font.glyph_index(letter).unwrap_or(GlyphId(0));
            let _ = self.font.outline_glyph(glyph, &mut outline);
            outline.x += f32::from(self.font.glyph_hor_advance(glyph).unwrap_or(0));
        }
        let anchor = style.anchor();
        let left = match anchor.h_pos {
            HPos::Left => 0.0,
            HPos::Center => -outline.x / 2.0,
            HPos::Right => -outline.x,
        };
        // The font does not give its x-height.
        let letter = self.font.glyph_index('x').and_then(|glyph| self.font.glyph_bounding_box(glyph));
        let x_height = letter.map_or(0.0, |bounds| f32::from(bounds.y_max));
        let below = match anchor.v_pos {
            VPos::Top => 0.76 * em,
            VPos::Center => 0.5 * x_height,
            VPos::Bottom => -0.5 * x_height,
        };
        let turn = match style.transform() {
            FontTransform::Rotate90 => 90.0,
            FontTransform::Rotate180 => 180.0,
            FontTransform::Rotate270 => 270.0,
            _ => 0.0,
        };
        let placed = Transform::from_translate(left, below)
            .post_scale(size / em, size / em)
            .post_rotate(turn)
            .post_translate(x as f32, y as f32)
            .post_concat(self.transform());
        self.fill(outline.builder.finish(), style.color(), placed);
        Ok(())
    }
}

/// Letters side by side, in the font's units, y downwards.
struct Outline {
    builder: PathBuilder,
    /// Where the next letter begins.
    x: f32,
}

impl OutlineBuilder for Outline {
    fn move_to(&mut self, x: f32, y: f32) {
        self.builder.move_to(self.x + x, -y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        self.builder.line_to(self.x + x, -y);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        self.builder.quad_to(self.x + x1, -y1, self.x + x, -y);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        self.builder.cubic_to(self.x + x1, -y1, self.x + x2, -y2, self.x + x, -y);
    }

    fn close(&mut self) {
        self.builder.close();
    }
}
