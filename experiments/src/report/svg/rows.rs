//! A plot of one row per arm, with names beside the rows and one horizontal axis.

use super::{Anchor, Canvas, Scale, WIDTH, fitted, plot::draw_x, text_width, wrapped};

/// The widest name; longer ones are wrapped.
const NAMES: f64 = 0.42 * WIDTH;
/// The height of a row whose name has one line, and what each further line adds.
const ROW: f64 = 20.0;
const LINE: f64 = 14.0;

/// Where the rows of a plot are.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The horizontal scale.
    pub x: Scale,
    /// The upper and the lower edge of the plot.
    pub ends: (f64, f64),
    /// Where the drawing below begins.
    pub bottom: f64,
    middles: Vec<f64>,
}

impl Rows {
    /// Draws names and axis.
    pub fn draw(canvas: &mut Canvas, names: &[&str], title: &str, scale: Scale) -> Self {
        let names: Vec<Vec<String>> = names.iter().map(|name| wrapped(name, NAMES, 3)).collect();
        let widest = names.iter().flatten().map(|line| text_width(line));
        let sides = (widest.fold(0.0, f64::max) + 16.0, WIDTH - 14.0);
        let upper = 6.0;
        let heights = names
            .iter()
            .map(|lines| ROW + LINE * (lines.len() - 1) as f64);
        let lower = upper + heights.clone().sum::<f64>() + 2.0;
        let scale = scale.to(sides.0, sides.1);
        for (value, _) in scale.ticks(4) {
            let at = scale.at(value);
            canvas.line("gr", (at, upper), (at, lower));
        }
        let mut middles = vec![];
        let mut top = upper;
        for (lines, height) in names.iter().zip(heights) {
            let middle = top + height / 2.0;
            let first = middle + 4.0 - LINE / 2.0 * (lines.len() - 1) as f64;
            for (place, line) in lines.iter().enumerate() {
                let y = first + LINE * place as f64;
                canvas.text("tx", (sides.0 - 8.0, y), Anchor::End, line);
            }
            middles.push(middle);
            top += height;
        }
        draw_x(canvas, scale, sides, lower, 4);
        // The title is under the axis, but may need more room than that.
        let title = fitted(title, WIDTH - 8.0);
        let half = text_width(&title) / 2.0;
        let middle = f64::midpoint(sides.0, sides.1).min(WIDTH - half - 2.0);
        let middle = middle.max(half + 2.0);
        canvas.text("tx", (middle, lower + 34.0), Anchor::Middle, &title);
        Self {
            x: scale,
            ends: (upper, lower),
            bottom: lower + 42.0,
            middles,
        }
    }

    /// The middle of a row.
    pub fn y(&self, row: usize) -> f64 {
        self.middles[row]
    }
}
