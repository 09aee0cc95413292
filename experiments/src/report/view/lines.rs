//! Charts of lines, whose names stand at their ends or below the plot.

use crate::report::{
    figure::{DataTable, Figure},
    style::Style,
    svg::{
        Anchor, Axis, Canvas, Drawing, Entry, Legend, Plot, WIDTH, polyline, spread, text_width,
    },
};

/// The height of a plot.
const HEIGHT: f64 = 230.0;
/// The widest name that stands at the end of a line.
const AT_END: f64 = 110.0;
/// About how many markers a line has.
const MARKS: usize = 8;

/// A line.
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// Its style; none for one of many others.
    pub style: Option<Style>,
    /// Its points from left to right.
    pub points: Vec<(f64, f64)>,
    /// The range around it: place, lower and upper end.
    pub band: Vec<(f64, f64, f64)>,
    /// Lines that show where the pointer is on this one.
    pub seeds: Vec<Vec<(f64, f64)>>,
}

/// What lines are drawn over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guide {
    /// Nothing.
    #[default]
    None,
    /// The line of equal values.
    Diagonal,
    /// The line of no difference.
    Zero,
}

/// A chart of lines.
#[derive(Clone, Debug)]
pub struct Lines {
    /// The name of the figure.
    pub name: String,
    /// Its title.
    pub title: String,
    /// Its caption.
    pub caption: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The lines.
    pub series: Vec<Line>,
    /// What is below them.
    pub guide: Guide,
    /// What is drawn.
    pub data: DataTable,
}

impl Lines {
    /// The figure.
    pub fn figure(self) -> Figure {
        let drawing = self.draw();
        Figure {
            name: self.name,
            title: self.title,
            caption: self.caption,
            drawing,
            data: self.data,
        }
    }

    fn draw(&self) -> Drawing {
        let mut canvas = Canvas::new();
        let right = self.room_for_names();
        let plot = Plot::draw(
            &mut canvas,
            &self.x,
            &self.y,
            0.0,
            HEIGHT,
            right.unwrap_or(16.0),
        );
        match self.guide {
            Guide::None => {}
            Guide::Diagonal => canvas.line("limit", plot.at(0.0, 0.0), plot.at(1.0, 1.0)),
            Guide::Zero => {
                let y = plot.y.at(0.0);
                canvas.line("zero", (plot.sides.0, y), (plot.sides.1, y));
            }
        }
        let others = self.series.iter().filter(|line| line.style.is_none());
        for line in others.clone() {
            canvas.open_titled("cx", &line.name);
            let points = line.points.iter().map(|(x, y)| plot.at(*x, *y));
            canvas.path("thin", &polyline(points));
            canvas.close();
        }
        let named = || {
            self.series
                .iter()
                .filter_map(|line| Some((line, line.style?)))
        };
        for (line, style) in named() {
            draw_line(&mut canvas, &plot, line, style);
        }
        if right.is_some() {
            let lasts: Vec<f64> = named()
                .map(|(line, _)| line.points.last().map_or(0.0, |point| plot.y.at(point.1)))
                .collect();
            let places = spread(&lasts, 15.0, plot.ends.0, plot.ends.1);
            for (((line, style), last), place) in named().zip(&lasts).zip(places) {
                let x = plot.sides.1;
                canvas.open(style.class);
                canvas.line("thin", (x + 2.0, *last), (x + 11.0, place));
                canvas.mark("mk", style.marker, (x + 17.0, place), 4.0);
                canvas.text("tx", (x + 26.0, place + 4.0), Anchor::Start, &line.name);
                canvas.close();
            }
        }
        let mut legend = Legend::default();
        if right.is_none() {
            legend.entries = named()
                .map(|(line, style)| style.entry(&line.name))
                .collect();
        }
        let others = others.count();
        if others > 0 {
            legend.entries.push(Entry {
                class: "cx",
                dashes: Some(""),
                marker: None,
                is_hollow: false,
                name: format!("{others} others"),
            });
        }
        let bottom = legend.draw(&mut canvas, plot.bottom);
        canvas.finish(bottom)
    }

    /// The room to the right for names at the ends of lines; none if they are too long, or lines end elsewhere.
    fn room_for_names(&self) -> Option<f64> {
        let named: Vec<&Line> = self
            .series
            .iter()
            .filter(|line| line.style.is_some())
            .collect();
        let widest = named.iter().map(|line| text_width(&line.name));
        let widest = widest.fold(0.0, f64::max);
        let scale = self.x.scale.to(0.0, WIDTH);
        let ends = named
            .iter()
            .map(|line| line.points.last().map_or(0.0, |point| scale.at(point.0)));
        let is_short = named.len() > 1 && widest <= AT_END;
        (is_short && ends.fold(WIDTH, f64::min) > WIDTH * 0.94).then_some(widest + 34.0)
    }
}

fn draw_line(canvas: &mut Canvas, plot: &Plot, line: &Line, style: Style) {
    canvas.open_titled(&format!("series {}", style.class), &line.name);
    if line.band.len() > 1 {
        let upper = line.band.iter().map(|(x, _, high)| plot.at(*x, *high));
        let lower = line.band.iter().rev().map(|(x, low, _)| plot.at(*x, *low));
        let d = polyline(upper.chain(lower)) + "Z";
        canvas.path("bd", &d);
    }
    if !line.seeds.is_empty() {
        canvas.open("seeds");
        for seed in &line.seeds {
            let points = seed.iter().map(|(x, y)| plot.at(*x, *y));
            canvas.path("thin", &polyline(points));
        }
        canvas.close();
    }
    let points: Vec<(f64, f64)> = line.points.iter().map(|(x, y)| plot.at(*x, *y)).collect();
    canvas.dashed("ln", style.dashes, &polyline(points.iter().copied()));
    let step = points.len().div_ceil(MARKS).max(1);
    for (place, point) in points.iter().enumerate() {
        if place % step == step / 2 || points.len() == 1 {
            canvas.mark("mk", style.marker, *point, 4.0);
        }
    }
    canvas.close();
}

/// Points that are at most so many: every so many-th, and the last.
pub fn thinned<T: Copy>(points: &[T], most: usize) -> Vec<T> {
    if points.len() <= most {
        return points.to_vec();
    }
    let last = points.len() - 1;
    let most = most.max(2);
    (0..most)
        .map(|place| points[place * last / (most - 1)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinned_series_keep_their_ends() {
        let points: Vec<usize> = (0..1001).collect();
        let found = thinned(&points, 500);
        assert_eq!((found.len(), found[0], found[499]), (500, 0, 1000));
        assert!(found.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(thinned(&points[..3], 500), [0, 1, 2]);
    }
}
