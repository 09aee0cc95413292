//! Every layer's mask in one picture.

use std::fmt::Write as _;

use masformer_core::{Direction, Span};

use super::Layers;

/// Side of a mask in pixels, and the most lines of queries that are drawn.
const SIDE: usize = 88;
/// From one mask to the next, across and down.
const STEP: (usize, usize) = (104, 118);
/// Around everything.
const MARGIN: usize = 24;
/// Height of the title, and of the legend.
const TITLE: usize = 64;
const LEGEND: usize = 30;

/// Blue for full attention and orange for local: Okabe and Ito's palette, which colour-blind people
/// can tell apart. Shapes and the legend tell them apart without colour.
const COLOURS: [&str; 2] = ["#0072b2", "#e69f00"];

/// The picture, as the text of an SVG file.
pub(super) fn draw(layers: &Layers) -> String {
    let columns = columns(layers.spans.len());
    let rows = layers.spans.len().div_ceil(columns);
    let gap = STEP.0 - SIDE;
    // The title and the legend need some width even above a single mask.
    let width = (2 * MARGIN + columns * STEP.0 - gap).max(520);
    let height = 2 * MARGIN + TITLE + rows * STEP.1 + LEGEND;
    let title = layers.title();
    let kinds = layers.kinds();

    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" font-family="system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif">
<title>{title}</title>
<defs>
"#
    );
    for (index, (span, _)) in kinds.iter().enumerate() {
        let colour = colour(*span);
        let path = path(*span, layers.direction, layers.length);
        line(
            &mut svg,
            format_args!(
                r##"<g id="mask-{index}"><rect width="{SIDE}" height="{SIDE}" fill="#f1f3f5"/><path fill="{colour}" d="{path}"/><rect x="-.5" y="-.5" width="{0}" height="{0}" fill="none" stroke="#adb5bd"/></g>"##,
                SIDE + 1
            ),
        );
    }
    svg.push_str("</defs>\n");
    line(
        &mut svg,
        format_args!(r##"<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>"##),
    );
    let text = |svg: &mut String, x: usize, y: usize, style: &str, text: &str| {
        line(
            svg,
            format_args!(r#"<text x="{x}" y="{y}" {style}>{text}</text>"#),
        );
    };
    let strong = r##"font-size="18" font-weight="600" fill="#212529""##;
    let plain = r##"font-size="13" fill="#495057""##;
    let small = r##"font-size="12" fill="#495057""##;
    text(
        &mut svg,
        MARGIN,
        MARGIN + 16,
        strong,
        &layers.schedule.to_string(),
    );
    let (_, input) = title.split_once(": ").unwrap_or_default();
    let share = 100.0 * layers.cost().share();
    let subtitle = format!("{input}: {share:.1} % of full attention's query-key pairs");
    text(&mut svg, MARGIN, MARGIN + 38, plain, &subtitle);

    let top = MARGIN + TITLE;
    for (layer, span) in layers.spans.iter().enumerate() {
        let (x, y) = (
            MARGIN + layer % columns * STEP.0,
            top + layer / columns * STEP.1,
        );
        let kind = kinds
            .iter()
            .position(|(kind, _)| kind == span)
            .unwrap_or_default();
        let name = if layer == 0 {
            "layer 0".to_owned()
        } else {
            layer.to_string()
        };
        text(&mut svg, x, y + 10, small, &name);
        line(
            &mut svg,
            format_args!(r##"<use href="#mask-{kind}" x="{x}" y="{}"/>"##, y + 17),
        );
    }

    let bottom = height - MARGIN;
    let mut x = MARGIN;
    for (span, count) in &kinds {
        let colour = colour(*span);
        line(
            &mut svg,
            format_args!(
                r#"<rect x="{x}" y="{}" width="12" height="12" rx="2" fill="{colour}"/>"#,
                bottom - 11
            ),
        );
        let plural = if *count == 1 { "" } else { "s" };
        let name = format!("{span}: {count} layer{plural}");
        text(&mut svg, x + 18, bottom, plain, &name);
        x += 18 + 8 * name.len() + 16;
    }
    let end = format!(r#"{plain} text-anchor="end""#);
    text(&mut svg, width - MARGIN, bottom, &end, "queries ↓ keys →");
    svg.push_str("</svg>\n");
    svg
}

fn line(svg: &mut String, text: std::fmt::Arguments) {
    // Writing to a string cannot fail.
    let _ = writeln!(svg, "{text}");
}

fn colour(span: Span) -> &'static str {
    COLOURS[usize::from(span != Span::Full)]
}

/// As many masks in a row as leave the fewest places of the last row empty; the most of these.
fn columns(layers: usize) -> usize {
    let empty = |columns: &usize| layers.next_multiple_of(*columns) - layers;
    match layers {
        0..=8 => layers.max(1),
        _ => (5..=8).rev().min_by_key(empty).unwrap_or(8),
    }
}

/// The keys that queries see, as one path: a rectangle for each pixel's line of queries, for which the
/// query in its middle stands. What is thinner than a pixel is drawn a pixel wide.
fn path(span: Span, direction: Direction, length: usize) -> String {
    let lines = length.min(SIDE);
    let pixels = |position: usize, of: usize| (position * SIDE) as f64 / of as f64;
    let seen = |line: usize| span.keys(direction, (2 * line + 1) * length / (2 * lines), length);
    let lines: Vec<_> = (0..lines).map(|line| (line, seen(line))).collect();
    let mut path = String::new();
    // Lines that see the same keys are one rectangle.
    for same in lines.chunk_by(|a, b| a.1 == b.1) {
        let (first, keys) = &same[0];
        let top = pixels(*first, lines.len());
        let height = pixels(same.len(), lines.len());
        for keys in keys.iter().filter(|keys| !keys.is_empty()) {
            let width = pixels(keys.len(), length).max(1.0);
            let left = pixels(keys.start, length).min(SIDE as f64 - width);
            let [left, top, width, height] = [left, top, width, height].map(short);
            // Writing to a string cannot fail.
            let _ = write!(path, "M{left} {top}h{width}v{height}h-{width}z");
        }
    }
    path
}

/// A number of pixels to the hundredth, without needless zeros.
fn short(pixels: f64) -> String {
    let hundredths = (pixels * 100.0).round();
    (hundredths / 100.0).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{both, causal};
    use super::*;

    #[test]
    fn every_layer_has_a_mask_and_every_kind_a_drawing() {
        let svg = draw(&causal("bottom:4 block:1024", 24, 8192));
        assert_eq!(svg.matches("<g id=").count(), 2);
        assert_eq!(svg.matches(r##"<use href="#mask-0""##).count(), 4);
        assert_eq!(svg.matches(r##"<use href="#mask-1""##).count(), 20);
        for text in [
            ">bottom:4 block:1024<",
            ">24 layers, 8192 tokens, causal: 27.1 % of full attention's query-key pairs<",
            ">full: 4 layers<",
            ">block:1024: 20 layers<",
            ">23<",
        ] {
            assert!(svg.contains(text), "{text}");
        }
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn paths_are_the_mask() {
        let full = |layers: &Layers| path(layers.spans[0], layers.direction, layers.length);
        assert_eq!(full(&both("full", 1, 8192)), "M0 0h88v88h-88z");
        assert_eq!(
            full(&both("block:4096", 1, 8192)),
            "M0 0h44v44h-44zM44 44h44v44h-44z"
        );
        assert_eq!(
            full(&causal("full", 1, 2)),
            "M0 0h44v44h-44zM0 44h88v44h-88z"
        );
        assert_eq!(
            full(&causal("window:1+1", 1, 4)),
            "M0 0h22v22h-22zM0 22h44v22h-44zM0 44h22v22h-22zM44 44h22v22h-22z\
             M0 66h22v22h-22zM66 66h22v22h-22z"
        );
    }

    #[test]
    fn a_long_input_makes_no_long_file() {
        let svg = draw(&causal("every:2 window:1+1", 1000, 100_000_000));
        assert!(svg.len() < 200_000, "{}", svg.len());
    }

    #[test]
    fn rows_are_filled() {
        let expected = [(1, 1), (6, 6), (9, 5), (12, 6), (24, 8), (26, 7), (32, 8)];
        for (layers, wanted) in expected {
            assert_eq!(columns(layers), wanted, "{layers}");
        }
    }
}
