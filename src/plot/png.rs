//! SVG to PNG.

use resvg::{tiny_skia, usvg};

use super::PlotError;

/// The largest picture: 2²⁶ pixels, 256 MiB while it is drawn.
const PIXELS: f32 = (1_u32 << 26) as f32;

/// Draws `svg`, `scale` pixels per unit of it, on what background it brings, all text in DejaVu Sans.
///
/// # Errors
/// When `svg` is none, or the picture would be empty or have more than 2²⁶ pixels.
pub fn png(svg: &str, scale: f32) -> Result<Vec<u8>, PlotError> {
    let mut options = usvg::Options { font_family: "DejaVu Sans".to_owned(), ..usvg::Options::default() };
    let fonts = options.fontdb_mut();
    fonts.load_font_data(dejavu::sans::regular().to_vec());
    fonts.set_sans_serif_family("DejaVu Sans");
    let tree = usvg::Tree::from_str(svg, &options).map_err(|error| PlotError(error.to_string()))?;
    let (width, height) = (tree.size().width() * scale, tree.size().height() * scale);
    if !(width >= 1.0 && height >= 1.0 && width * height <= PIXELS) {
        return Err(PlotError(format!("{width} × {height} pixels")));
    }
    let mut picture = tiny_skia::Pixmap::new(width.ceil() as u32, height.ceil() as u32)
        .ok_or_else(|| PlotError(format!("{width} × {height} pixels")))?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(scale, scale), &mut picture.as_mut());
    picture.encode_png().map_err(|error| PlotError(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_input_is_refused() {
        assert!(png("", 1.0).is_err());
        assert!(png("<svg", 1.0).is_err());
        let good = "<svg xmlns='http://www.w3.org/2000/svg' width='10' height='10'></svg>";
        assert!(png(good, 1.0).is_ok());
        for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e9] {
            assert!(png(good, scale).is_err(), "{scale}");
        }
    }
}
