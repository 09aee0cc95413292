//! What each layer attends to.

use crate::{
    report::{
        figure::{DataTable, Figure},
        number,
        section::{Block, Made, Section},
        subject::Subject,
        svg::{Anchor, Canvas, FONT_SIZE, WIDTH, fitted, text_width},
    },
    results::ArmResults,
};

/// The height of a row, below the names.
const ROW: f64 = 34.0;
const NAME: f64 = 16.0;

/// The section.
pub fn make(subject: &Subject<'_>) -> Made {
    let layouts = layouts(&subject.data.results.arms);
    let is_full = |layout: &Layout<'_>| layout.layers.iter().all(|layer| layer == "full");
    if layouts.iter().all(is_full) {
        return Err("all layers attend to everything".to_owned());
    }
    Ok(Section {
        id: "spans",
        title: "Span map",
        blocks: vec![Block::Figures(vec![figure(&layouts)])],
    })
}

struct Layout<'a> {
    layers: Vec<String>,
    arms: Vec<&'a str>,
    /// Pairs of a query and a key as a share of those of full attention.
    share: Option<f64>,
}

/// The different layouts, each with the models that have it.
fn layouts(arms: &[ArmResults]) -> Vec<Layout<'_>> {
    let mut layouts: Vec<Layout<'_>> = vec![];
    for arm in arms {
        let layers: Vec<String> = if arm.mixers.is_empty() {
            arm.spans.iter().map(ToString::to_string).collect()
        } else {
            arm.mixers.iter().map(ToString::to_string).collect()
        };
        if layers.is_empty() {
            continue;
        }
        match layouts.iter_mut().find(|layout| layout.layers == layers) {
            Some(layout) => layout.arms.push(&arm.name),
            None => layouts.push(Layout {
                layers,
                arms: vec![&arm.name],
                share: arm
                    .cost
                    .as_ref()
                    .and_then(|cost| cost.attention.as_ref())
                    .map(|attention| attention.attention_share),
            }),
        }
    }
    layouts
}

/// How far a layer sees; none where it sees everything, or is no attention.
fn reach(layer: &str) -> Option<f64> {
    let (_, width) = layer.split_once(':')?;
    let digits: String = width.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().filter(|width| *width >= 1.0)
}

/// What is written over a layer: its width alone where it is a window.
fn label(layer: &str) -> String {
    layer.strip_prefix("window:").unwrap_or(layer).to_owned()
}

fn figure(layouts: &[Layout<'_>]) -> Figure {
    let widths = layouts.iter().flat_map(|layout| &layout.layers);
    let furthest = widths.filter_map(|layer| reach(layer)).fold(2.0, f64::max);
    // What is full is twice as far as the widest window.
    let height = |layer: &str| match (layer, reach(layer)) {
        ("full", _) => Some(1.0),
        (_, Some(width)) => Some((width * 1.5).log2() / (furthest * 3.0).log2()),
        _ => None,
    };
    let mut data = DataTable::new(&["arms", "layer", "attends to", "share of full pairs"]);
    let mut canvas = Canvas::new();
    let (start, end) = (14.0, WIDTH - 104.0);
    let mut y = 16.0;
    canvas.text(
        "mu",
        (start, y - 3.0),
        Anchor::Start,
        "layers from the bottom \u{2192}",
    );
    canvas.text("mu", (end + 12.0, y - 3.0), Anchor::Start, "pairs of full");
    for layout in layouts {
        let names = layout.arms.join(", ");
        y += NAME;
        canvas.text("tx", (4.0, y), Anchor::Start, &fitted(&names, WIDTH - 8.0));
        let lower = y + ROW + 4.0;
        let width = ((end - start) / layout.layers.len() as f64).min(64.0);
        canvas.open_titled("c0", &names);
        for (place, layer) in layout.layers.iter().enumerate() {
            let x = start + place as f64 * width;
            match height(layer) {
                Some(share) => {
                    let tall = (ROW - 14.0) * share.max(0.08);
                    let class = if layer == "full" { "bar" } else { "half" };
                    canvas.rect(class, (x + 1.0, lower - tall), (width - 2.0, tall));
                }
                None => canvas.rect("ho", (x + 1.5, lower - 6.0), (width - 3.0, 5.0)),
            }
            data.push([
                names.clone(),
                (place + 1).to_string(),
                layer.clone(),
                layout
                    .share
                    .map_or_else(String::new, |share| number::fixed(share, 3)),
            ]);
        }
        canvas.close();
        // Equal neighbours share a label.
        let mut place = 0;
        for run in layout.layers.chunk_by(|a, b| a == b) {
            let room = width * run.len() as f64;
            let text = label(&run[0]);
            let x = start + place as f64 * width + room / 2.0;
            let tall = (ROW - 14.0) * height(&run[0]).unwrap_or(0.3).max(0.08);
            if text_width(&text) * 10.0 / FONT_SIZE <= room + 2.0 {
                canvas.text("small", (x, lower - tall - 3.0), Anchor::Middle, &text);
            }
            place += run.len();
        }
        canvas.line(
            "ax",
            (start, lower),
            (start + width * layout.layers.len() as f64, lower),
        );
        if let Some(share) = layout.share {
            canvas.text(
                "tx",
                (end + 12.0, lower - 4.0),
                Anchor::Start,
                &number::fixed(share, 3),
            );
        }
        y = lower + 4.0;
    }
    Figure {
        name: "spans".to_owned(),
        title: "What each layer attends to".to_owned(),
        caption: "A bar per layer, as high as the logarithm of the distance that it sees; dark bars see everything. Numbers are \
                  widths of windows, small boxes are layers without attention."
            .to_owned(),
        drawing: canvas.finish(y + 6.0),
        data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_spans_are_understood() {
        assert_eq!(reach("window:64+4"), Some(64.0));
        assert_eq!(reach("block:8"), Some(8.0));
        assert_eq!((reach("full"), reach("s4d")), (None, None));
        assert_eq!(label("window:64+4"), "64+4");
        assert_eq!(label("block:8"), "block:8");
    }
}
