//! Drawing: a canvas that writes SVG, scales with round ticks, and the parts that all charts share.
//!
//! Colours are classes, so that a drawing follows the theme of its page; a drawing of its own brings the styles along.

mod legend;
mod marker;
mod plot;
mod rows;
mod scale;
mod spread;
mod text;

pub use legend::{Entry, Legend};
pub use marker::{MARKERS, Marker};
pub use plot::{Axis, Plot};
pub use rows::Rows;
pub use scale::Scale;
pub use spread::{side_by_side, spread};
pub use text::{FONT_SIZE, escape, fitted, text_width, wrapped};

use std::fmt::Write;

/// The width of all charts; the height follows from what they show.
pub const WIDTH: f64 = 440.0;

/// The styles of a drawing without those of a page.
const STYLE: &str = include_str!("page/figure.css");

/// Where a text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// It starts there.
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}

/// SVG that is being written. Coordinates are in pixels, from the top left.
#[derive(Clone, Debug, Default)]
pub struct Canvas {
    body: String,
}

impl Canvas {
    /// An empty canvas.
    pub fn new() -> Self {
        Self::default()
    }

    /// A straight line.
    pub fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        let d = format!("M{} {}L{} {}", px(x1), px(y1), px(x2), px(y2));
        self.path(class, &d);
    }

    /// A path, from its commands.
    pub fn path(&mut self, class: &str, d: &str) {
        let _ = write!(self.body, r#"<path class="{class}" d="{d}"/>"#);
    }

    /// A path with a pattern of dashes; empty for none.
    pub fn dashed(&mut self, class: &str, dashes: &str, d: &str) {
        if dashes.is_empty() {
            self.path(class, d);
        } else {
            let _ = write!(
                self.body,
                r#"<path class="{class}" stroke-dasharray="{dashes}" d="{d}"/>"#
            );
        }
    }

    /// A rectangle; nothing of it is drawn where it has no extent.
    pub fn rect(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64)) {
        let _ = write!(
            self.body,
            r#"<rect class="{class}" x="{}" y="{}" width="{}" height="{}"/>"#,
            px(x),
            px(y),
            px(width.max(0.0)),
            px(height.max(0.0))
        );
    }

    /// A text whose base line is at `y`.
    pub fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => r#" text-anchor="middle""#,
            Anchor::End => r#" text-anchor="end""#,
        };
        let _ = write!(
            self.body,
            r#"<text class="{class}" x="{}" y="{}"{anchor}>{}</text>"#,
            px(x),
            px(y),
            escape(text)
        );
    }

    /// A marker.
    pub fn mark(&mut self, class: &str, marker: Marker, at: (f64, f64), size: f64) {
        self.path(class, &marker.path(at, size));
    }

    /// A group of a class; [`Self::close`] ends it.
    pub fn open(&mut self, class: &str) {
        let _ = write!(self.body, r#"<g class="{class}">"#);
    }

    /// A group that tells the pointer what it is.
    pub fn open_titled(&mut self, class: &str, title: &str) {
        self.open(class);
        let _ = write!(self.body, "<title>{}</title>", escape(title));
    }

    /// Ends a group.
    pub fn close(&mut self) {
        self.body.push_str("</g>");
    }

    /// The finished drawing of a height.
    pub fn finish(self, height: f64) -> Drawing {
        Drawing {
            body: self.body,
            height,
        }
    }
}

/// A finished drawing, [`WIDTH`] wide.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawing {
    body: String,
    height: f64,
}

impl Drawing {
    /// The element for a page that has the styles; `label` says what it shows.
    pub fn inline(&self, label: &str) -> String {
        format!(
            r#"<svg viewBox="0 0 {WIDTH} {}" role="img" aria-label="{}">{}</svg>"#,
            px(self.height),
            escape(label),
            self.body
        )
    }

    /// A file of its own, with a title.
    pub fn standalone(&self, title: &str) -> String {
        let heading = 26.0;
        let height = px(self.height + heading);
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 {} {WIDTH} {height}" role="img">
<title>{}</title>
<style>
{STYLE}</style>
<rect class="paper" x="0" y="{}" width="{WIDTH}" height="{height}"/>
<text class="heading" x="8" y="{}">{}</text>
{}
</svg>
"#,
            px(-heading),
            escape(title),
            px(-heading),
            px(-8.0),
            escape(&fitted(title, WIDTH - 24.0)),
            self.body
        )
    }
}

/// A coordinate with at most one decimal.
pub fn px(value: f64) -> String {
    let value = if value.is_finite() { value } else { 0.0 };
    let tenths = (value * 10.0).round() / 10.0;
    // Not `-0`.
    format!("{}", tenths + 0.0)
}

/// The commands of a line through points, in as few characters as they need; a point that is not finite interrupts it.
pub fn polyline(points: impl IntoIterator<Item = (f64, f64)>) -> String {
    let mut d = String::new();
    let mut before: Option<(i64, i64)> = None;
    for (x, y) in points {
        if !(x.is_finite() && y.is_finite()) {
            before = None;
            continue;
        }
        // In tenths, so that rounding errors do not add up.
        let at = ((x * 10.0).round() as i64, (y * 10.0).round() as i64);
        if let Some((x, y)) = before {
            d.push('l');
            push_tenths(&mut d, at.0 - x, false);
            push_tenths(&mut d, at.1 - y, true);
        } else {
            d.push('M');
            push_tenths(&mut d, at.0, false);
            push_tenths(&mut d, at.1, true);
        }
        before = Some(at);
    }
    d
}

/// A number of tenths as a decimal, without what a path does not need.
fn push_tenths(d: &mut String, tenths: i64, is_second: bool) {
    if tenths < 0 {
        d.push('-');
    } else if is_second {
        d.push(' ');
    }
    let (whole, tenth) = (tenths.abs() / 10, tenths.abs() % 10);
    if whole > 0 || tenth == 0 {
        let _ = write!(d, "{whole}");
    }
    if tenth > 0 {
        let _ = write!(d, ".{tenth}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_and_coordinates_are_short() {
        let mut canvas = Canvas::new();
        canvas.open_titled("a", "<script>");
        canvas.text("b", (1.0, 2.25), Anchor::End, "a & \"b\"");
        canvas.close();
        let drawing = canvas.finish(10.0);
        let svg = drawing.inline("it's <b>");
        assert!(svg.contains("<title>&lt;script&gt;</title>"), "{svg}");
        assert!(svg.contains(r#"x="1" y="2.3""#), "{svg}");
        assert!(svg.contains("a &amp; &quot;b&quot;"), "{svg}");
        assert!(svg.contains("it&#39;s &lt;b&gt;"), "{svg}");
        let file = drawing.standalone("<x>");
        assert!(file.contains("<title>&lt;x&gt;</title>") && !file.contains("<x>"));
    }

    #[test]
    fn what_is_not_finite_interrupts_a_line() {
        let points = [(0.0, 0.0), (1.0, f64::NAN), (2.0, 1.0), (3.0, -0.01)];
        assert_eq!(polyline(points), "M0 0M2 1l1-1");
        assert_eq!(polyline([(1.25, 2.0), (1.0, 2.4)]), "M1.3 2l-.3 .4");
    }
}
