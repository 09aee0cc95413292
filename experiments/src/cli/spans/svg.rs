//! Every layer's mask in one picture.

use std::fmt::Write as _;

use masformer_core::{Direction, Mixing, Span};

use super::{Layers, layer_count};

/// Side of a mask in pixels.
const SIDE: usize = 88;
/// The most lines of queries in a mask: two a pixel, for sharp screens.
const LINES: usize = 2 * SIDE;
/// From one mask to the next, across and down.
const STEP: [usize; 2] = [SIDE + 16, SIDE + 30];
/// From a mask's place to the mask, below the layer's number.
const NUMBER: usize = 17;
/// Around everything.
const MARGIN: usize = 24;
/// Heights of the title and the legend.
const TITLE: usize = 64;
const LEGEND: usize = 30;
/// Width of a character of the legend, at most.
const CHARACTER: usize = 8;

/// Blue for full attention, orange for local, green for no attention: Okabe and Ito's palette, which colour-blind
/// people can tell apart.
const COLOURS: [&str; 3] = ["#0072b2", "#e69f00", "#009e73"];
/// What reaches a query through a state or another summary: the last of them, pale.
const SUMMARY: &str = "#b3e0d5";

const STYLE: &str = "\
text { font: 13px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #495057 }
.title { font-size: 18px; font-weight: 600; fill: #212529 }
.number { font-size: 12px }
.end { text-anchor: end }
.ground { fill: #f1f3f5 }
.frame { fill: none; stroke: #adb5bd }";

/// The picture, as the text of an SVG file.
pub(super) fn draw(layers: &Layers) -> String {
    let columns = columns(layers.mixing.len());
    let rows = layers.mixing.len().div_ceil(columns);
    let (legend, legend_width) = legend(&layers.kinds());
    let width = (columns * STEP[0]).max(legend_width) + 2 * MARGIN - (STEP[0] - SIDE);
    let bottom = MARGIN + TITLE + rows * STEP[1] + LEGEND;
    let height = bottom + MARGIN;
    let right = width - MARGIN;

    let (title, heading) = (layers.title(), heading(layers));
    let (drawings, masks) = (drawings(layers), masks(layers, columns));
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">
<title>{title}</title>
<style>
{STYLE}
</style>
<defs>
{drawings}</defs>
<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>
<g transform="translate({MARGIN} {MARGIN})">
{heading}</g>
{masks}<g transform="translate({MARGIN} {bottom})">
{legend}</g>
<text class="end" x="{right}" y="{bottom}">queries ↓, keys →</text>
</svg>
"##
    )
}

/// The schedule and what it is drawn for; a schedule that lists very many layers is cut off.
fn heading(layers: &Layers) -> String {
    const LONGEST: usize = 40;
    let mut schedule = layers.name.clone();
    if schedule.len() > LONGEST {
        schedule = schedule.chars().take(LONGEST - 1).chain(['…']).collect();
    }
    let input = layers.input();
    let share = 100.0 * layers.cost().share();
    format!(
        "<text class=\"title\" y=\"16\">{schedule}</text>\n\
         <text y=\"38\">{input}: {share:.1} % of full attention's query-key pairs</text>\n"
    )
}

/// One drawing for each kind of mask, used by all layers that have it.
fn drawings(layers: &Layers) -> String {
    let path = |span, colour| {
        let path = path(span, layers.direction, layers.length);
        format!("<path fill=\"{colour}\" d=\"{path}\"/>\n")
    };
    let drawing = |(index, (layer, _)): (usize, (&Mixing, usize))| {
        let frame = SIDE + 1;
        let summary = layer.is_summarised().then(|| path(Span::Full, SUMMARY));
        let seen = layer.span.map(|span| path(span, colour(layer)));
        let paths = [summary, seen].map(Option::unwrap_or_default).concat();
        format!(
            r#"<g id="mask-{index}">
<rect class="ground" width="{SIDE}" height="{SIDE}"/>
{paths}<rect class="frame" x="-.5" y="-.5" width="{frame}" height="{frame}"/>
</g>
"#
        )
    };
    layers
        .kinds()
        .into_iter()
        .enumerate()
        .map(drawing)
        .collect()
}

/// The layers' masks under their numbers, row by row.
fn masks(layers: &Layers, columns: usize) -> String {
    let kinds = layers.kinds();
    let mask = |(layer, mixing): (usize, &Mixing)| {
        let x = MARGIN + layer % columns * STEP[0];
        let y = MARGIN + TITLE + layer / columns * STEP[1];
        let (baseline, top) = (y + 10, y + NUMBER);
        let word = if layer == 0 { "layer " } else { "" };
        let kind = kinds.iter().position(|(kind, _)| *kind == mixing);
        let kind = kind.unwrap_or_default();
        format!(
            r##"<text class="number" x="{x}" y="{baseline}">{word}{layer}</text>
<use href="#mask-{kind}" x="{x}" y="{top}"/>
"##
        )
    };
    layers.mixing.iter().enumerate().map(mask).collect()
}

/// The colours and what they mean, with the width that they and the axes take.
fn legend(kinds: &[(&Mixing, usize)]) -> (String, usize) {
    let (mut svg, mut x) = (String::new(), 0);
    for &(layer, count) in kinds {
        let name = format!("{layer}: {}", layer_count(count));
        let (colour, after) = (colour(layer), x + 18);
        let _ = write!(
            svg,
            r#"<rect x="{x}" y="-11" width="12" height="12" rx="2" fill="{colour}"/>
<text x="{after}">{name}</text>
"#
        );
        x = after + CHARACTER * name.len() + 16;
    }
    // The heading needs some width, too.
    (svg, (x + 16 * CHARACTER).max(560))
}

fn colour(layer: &Mixing) -> &'static str {
    COLOURS[match layer.span {
        Some(Span::Full) => 0,
        Some(_) => 1,
        None => 2,
    }]
}

/// As many masks in a row as leave the fewest places of the last row empty; the most of these.
fn columns(layers: usize) -> usize {
    let empty = |columns: &usize| layers.next_multiple_of(*columns) - layers;
    match layers {
        0..=8 => layers.max(1),
        _ => (5..=8).rev().min_by_key(empty).unwrap_or(8),
    }
}

/// The keys that queries see, as one path: a rectangle for each line of queries, for which the query in its
/// middle stands. What is thinner than a pixel is drawn a pixel wide.
fn path(span: Span, direction: Direction, length: usize) -> String {
    let lines = length.min(LINES);
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
            ">bottom:4 block:1024</text>",
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
        let full = |layers: &Layers| {
            let span = layers.mixing[0].span.unwrap();
            path(span, layers.direction, layers.length)
        };
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
    fn a_long_list_of_layers_is_cut_off() {
        let all: Vec<String> = (0..99).map(|layer| layer.to_string()).collect();
        let layers = causal(&format!("layers:{}", all.join(",")), 99, 8);
        assert!(heading(&layers).contains(">layers:0,1,2,3,4,5,6,7,8,9,10,11,12,13,…<"));
    }

    #[test]
    fn rows_are_filled() {
        let expected = [(1, 1), (6, 6), (9, 5), (12, 6), (24, 8), (26, 7), (32, 8)];
        for (layers, wanted) in expected {
            assert_eq!(columns(layers), wanted, "{layers}");
        }
    }
}
