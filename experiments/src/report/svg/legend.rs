//! What the lines and markers of a plot are, outside of it.

use super::{Anchor, Canvas, Marker, WIDTH, fitted, text_width};

/// The height of a line of a legend.
const LINE: f64 = 18.0;
/// The width of the sample before a name.
const SAMPLE: f64 = 34.0;

/// An entry of a legend.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The class of its colour.
    pub class: &'static str,
    /// The dashes of its line; none where it has no line.
    pub dashes: Option<&'static str>,
    /// Its marker; none where it has none.
    pub marker: Option<Marker>,
    /// Whether only the outline of the marker is drawn.
    pub is_hollow: bool,
    /// Its name.
    pub name: String,
}

/// Entries below a plot, in as many columns as their names allow.
#[derive(Clone, Debug, Default)]
pub struct Legend {
    /// The entries in their order.
    pub entries: Vec<Entry>,
}

impl Legend {
    /// Draws the legend from `top` on, and returns where it ends.
    pub fn draw(&self, canvas: &mut Canvas, top: f64) -> f64 {
        let widths = self.entries.iter().map(|entry| text_width(&entry.name));
        let widest = widths.fold(0.0, f64::max) + SAMPLE + 14.0;
        let columns = ((WIDTH - 8.0) / widest).floor().clamp(1.0, 4.0) as usize;
        let columns = columns.min(self.entries.len().max(1));
        let width = (WIDTH - 8.0) / columns as f64;
        let lines = self.entries.len().div_ceil(columns);
        for (index, entry) in self.entries.iter().enumerate() {
            let x = 8.0 + (index / lines) as f64 * width;
            let y = top + (index % lines) as f64 * LINE + 10.0;
            canvas.open_titled(entry.class, &entry.name);
            if let Some(dashes) = entry.dashes {
                let d = format!("M{x:.1} {y:.1}h26");
                canvas.dashed("ln", dashes, &d);
            }
            if let Some(marker) = entry.marker {
                let class = if entry.is_hollow { "ho" } else { "mk" };
                canvas.mark(class, marker, (x + 13.0, y), 4.0);
            }
            let name = fitted(&entry.name, width - SAMPLE - 4.0);
            canvas.text("tx", (x + SAMPLE, y + 4.0), Anchor::Start, &name);
            canvas.close();
        }
        top + lines as f64 * LINE + 4.0
    }
}
