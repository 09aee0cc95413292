//! A plot with two axes.

use super::{Anchor, Canvas, Scale, WIDTH, fitted, text_width};

/// One axis of a plot.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it shows, with the unit.
    pub title: String,
    /// From values to pixels.
    pub scale: Scale,
}

impl Axis {
    /// An axis.
    pub fn new(title: &str, scale: Scale) -> Self {
        Self {
            title: title.to_owned(),
            scale,
        }
    }
}

/// Where a plot is and what its axes are. The title of the vertical axis stands above it, where it can be read without
/// turning the head.
#[derive(Clone, Debug)]
pub struct Plot {
    /// The horizontal scale.
    pub x: Scale,
    /// The vertical scale.
    pub y: Scale,
    /// The left and the right edge.
    pub sides: (f64, f64),
    /// The upper and the lower edge.
    pub ends: (f64, f64),
    /// Where the drawing below the plot begins.
    pub bottom: f64,
}

impl Plot {
    /// Draws the axes of a plot of a height, from `top` on, with room to its right.
    pub fn draw(
        canvas: &mut Canvas,
        x: &Axis,
        y: &Axis,
        top: f64,
        height: f64,
        right: f64,
    ) -> Self {
        let mut plot = Self::upright(canvas, y, top, height, right);
        let (start, end) = plot.sides;
        let lower = plot.ends.1;
        plot.x = x.scale.to(start, end);
        draw_x(canvas, plot.x, (start, end), lower, 5);
        let middle = f64::midpoint(start, end);
        canvas.text("tx", (middle, lower + 34.0), Anchor::Middle, &x.title);
        plot
    }

    /// As [`Self::draw`], with places from left to right that have names, at 0, 1, ...
    pub fn with_places(
        canvas: &mut Canvas,
        places: &[&str],
        y: &Axis,
        top: f64,
        height: f64,
    ) -> Self {
        let mut plot = Self::upright(canvas, y, top, height, 12.0);
        let (start, end) = plot.sides;
        plot.x = Scale::exact(-0.5, places.len() as f64 - 0.5).to(start, end);
        let lower = plot.ends.1;
        canvas.line("ax", (start, lower), (end, lower));
        for (place, name) in places.iter().enumerate() {
            let x = plot.x.at(place as f64);
            canvas.text("tx", (x, lower + 18.0), Anchor::Middle, name);
        }
        plot.bottom = lower + 30.0;
        plot
    }

    /// Draws the vertical axis alone.
    fn upright(canvas: &mut Canvas, y: &Axis, top: f64, height: f64, right: f64) -> Self {
        let ticks = y.scale.ticks(5);
        let widest = ticks.iter().map(|tick| text_width(&tick.1));
        let left = widest.fold(20.0, f64::max) + 12.0;
        let (upper, lower) = (top + 22.0, top + 22.0 + height);
        let (start, end) = (left, WIDTH - right.max(12.0));
        let scale = y.scale.to(lower, upper);
        let title = fitted(&y.title, WIDTH - 8.0);
        canvas.text("tx", (4.0, top + 12.0), Anchor::Start, &title);
        for (value, text) in ticks {
            let at = scale.at(value);
            canvas.line("gr", (start, at), (end, at));
            canvas.text("mu", (start - 6.0, at + 4.0), Anchor::End, &text);
        }
        Self {
            x: Scale::exact(0.0, 1.0).to(start, end),
            y: scale,
            sides: (start, end),
            ends: (upper, lower),
            bottom: lower + 42.0,
        }
    }

    /// The place of a point.
    pub fn at(&self, x: f64, y: f64) -> (f64, f64) {
        (self.x.at(x), self.y.at(y))
    }
}

/// The horizontal axis at the lower edge: a line, ticks and their texts. A text that would touch the one before is left
/// out.
pub(super) fn draw_x(
    canvas: &mut Canvas,
    scale: Scale,
    (start, end): (f64, f64),
    lower: f64,
    about: usize,
) {
    canvas.line("ax", (start, lower), (end, lower));
    let mut free = f64::NEG_INFINITY;
    for (value, text) in scale.ticks(about) {
        let at = scale.at(value);
        canvas.line("ax", (at, lower), (at, lower + 4.0));
        let half = text_width(&text) / 2.0;
        let middle = at.min(WIDTH - half - 1.0);
        if middle - half > free {
            canvas.text("mu", (middle, lower + 17.0), Anchor::Middle, &text);
            free = middle + half + 6.0;
        }
    }
}
