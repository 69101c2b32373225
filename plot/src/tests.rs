//! Charts, heat maps, pixels.

use crate::{Axis, Chart, HeatCell, HeatMap, Picture, Series, Style, ramp};

#[test]
fn everything_is_drawn_and_escaped() {
    let styles = [Style::Solid, Style::Line, Style::Dashed, Style::Dots, Style::Rings, Style::Band];
    let series = styles.into_iter().enumerate().map(|(i, style)| {
        Series::new(format!("<{style:?}> & more"), i, style, vec![[1.0, 2.0], [f64::NAN, 1.0], [3.0, 0.0]])
            .with_band(vec![[1.0, 1.0, 2.0], [3.0, 0.5, 1.0]])
    });
    let chart = Chart::new("a < b", Axis::log("η"), Axis::linear("n"), series.collect());
    let empty = Chart::new("", Axis::log(""), Axis::log(""), vec![]);
    for charts in [vec![], vec![empty.clone()], vec![chart.clone(), empty, chart]] {
        let named = charts.len() / 3 * 2;
        let picture = Picture::Charts(charts);
        let svg = picture.svg().unwrap();
        assert_eq!(svg.matches("&lt;Band&gt; &amp; more").count(), named);
        assert_eq!(svg, picture.svg().unwrap());
        assert_eq!(picture.png(1.0).unwrap(), picture.png(1.0).unwrap());
    }
}

#[test]
fn cells_are_drawn() {
    let cell = |column, value| HeatCell {
        column,
        row: 0,
        value,
        mark: String::new(),
        dimmed: true,
        boxed: true,
        dotted: true,
    };
    let map = HeatMap {
        x_label: "a < b".to_owned(),
        y_label: "s".to_owned(),
        columns: vec!["0".to_owned(), "∞".to_owned()],
        rows: vec!["0.5".to_owned()],
        cells: vec![cell(0, 0.25), cell(1, f64::NAN)],
        first_row_framed: true,
        first_column_framed: true,
    };
    let picture = Picture::HeatMap(map);
    let svg = picture.svg().unwrap();
    for part in ["a &lt; b", "0.25", "0.5", "∞", "#1F5FD0", "#D0201F"] {
        assert!(svg.contains(part), "{part}: {svg}");
    }
    assert!(picture.png(1.5).is_ok());
}

#[test]
fn the_ramp_rises() {
    assert_eq!(ramp(0.0), [[68, 1, 84], [255; 3]]);
    assert_eq!(ramp(1.0), [[253, 231, 37], [0; 3]]);
    let lightness = |x: f64| ramp(x)[0].iter().map(|&channel| u32::from(channel)).sum::<u32>();
    assert!((0..10).all(|i| lightness(f64::from(i) / 10.0) < lightness(f64::from(i + 1) / 10.0)));
}

#[test]
fn senseless_scales_are_refused() {
    let picture = Picture::Charts(vec![]);
    assert!(picture.png(1.0).is_ok());
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e9] {
        assert!(picture.png(scale).is_err(), "{scale}");
    }
}
