//! Tables of shades: a row of cells per name, with what the last one is in numbers beside it.

use crate::report::svg::{Anchor, Canvas, Drawing, FONT_SIZE, WIDTH, text_width};

/// The height of a row.
const ROW: f64 = 13.0;
/// The widest cell.
const WIDEST: f64 = 40.0;
/// The shades, from light to dark.
pub const SHADES: [&str; 9] = ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8"];

/// A row of cells.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// How dark each cell is, from 0 to 1.
    pub cells: Vec<f64>,
    /// What stands at its end.
    pub end: String,
}

/// Rows of shades.
#[derive(Clone, Debug)]
pub struct Heat {
    /// What the names are.
    pub names: &'static str,
    /// What the cells are, from left to right.
    pub places: String,
    /// What stands at the ends.
    pub ends: &'static str,
    /// Groups of rows, with some room between them.
    pub groups: Vec<Vec<Row>>,
    /// What shades mean: from 0 to 1, with its text.
    pub legend: Vec<(f64, &'static str)>,
}

impl Heat {
    /// The picture.
    pub fn draw(&self) -> Drawing {
        let mut canvas = Canvas::new();
        let rows = || self.groups.iter().flatten();
        let small = |text: &str| text_width(text) * 10.0 / FONT_SIZE;
        let widest = |texts: &mut dyn Iterator<Item = &str>| texts.map(small).fold(0.0, f64::max);
        let left = widest(&mut rows().map(|row| row.name.as_str())).max(small(self.names)) + 12.0;
        let right = widest(&mut rows().map(|row| row.end.as_str())).max(small(self.ends)) + 12.0;
        let columns = rows().map(|row| row.cells.len()).max().unwrap_or(1).max(1);
        let cell = ((WIDTH - left - right) / columns as f64).min(WIDEST);
        let end = left + cell * columns as f64;
        canvas.text("small", (left - 6.0, 12.0), Anchor::End, self.names);
        canvas.text("small", (left, 12.0), Anchor::Start, &self.places);
        canvas.text("small", (end + 6.0, 26.0), Anchor::Start, self.ends);
        let mut y = 32.0;
        for group in &self.groups {
            canvas.open("c0");
            for (place, row) in group.iter().enumerate() {
                let top = y + ROW * place as f64;
                // Equal neighbours are one rectangle.
                let mut at = 0;
                for run in row.cells.chunk_by(|a, b| shade(*a) == shade(*b)) {
                    let width = cell * run.len() as f64;
                    let x = left + cell * at as f64;
                    canvas.rect(shade(run[0]), (x, top), (width, ROW - 1.0));
                    at += run.len();
                }
            }
            canvas.close();
            for row in group {
                let base = y + ROW - 3.5;
                canvas.text("small", (left - 6.0, base), Anchor::End, &row.name);
                canvas.text("small", (end + 6.0, base), Anchor::Start, &row.end);
                y += ROW;
            }
            y += 5.0;
        }
        y += 6.0;
        let mut x = left;
        for (value, text) in &self.legend {
            canvas.open("c0");
            canvas.rect(shade(*value), (x, y), (14.0, 11.0));
            canvas.close();
            canvas.text("small", (x + 19.0, y + 9.5), Anchor::Start, text);
            x += 32.0 + small(text);
        }
        canvas.finish(y + 18.0)
    }
}

/// The shade of a value from 0 to 1.
fn shade(value: f64) -> &'static str {
    let last = (SHADES.len() - 1) as f64;
    SHADES[(value.clamp(0.0, 1.0) * last).round() as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_neighbours_are_one_rectangle() {
        let row = |cells: &[f64]| Row {
            name: "1".to_owned(),
            cells: cells.to_vec(),
            end: "9 %".to_owned(),
        };
        let heat = Heat {
            names: "layer",
            places: "step".to_owned(),
            ends: "end",
            groups: vec![vec![row(&[0.0, 0.01, 0.5, 7.0, f64::NAN])]],
            legend: vec![],
        };
        let svg = heat.draw().inline("x");
        assert_eq!(svg.matches("<rect").count(), 4, "{svg}");
        assert_eq!(svg.matches("class=\"s8\"").count(), 1, "{svg}");
        assert!(!svg.contains("NaN"));
    }
}
