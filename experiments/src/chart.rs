//! Line charts as SVG: learning curves, and what something costs as it grows.

use std::{convert::Infallible, ops::Range};

use plotters::{
    coord::ranged1d::{AsRangedCoord, ValueFormatter},
    drawing::DrawingAreaErrorKind,
    element::DashedPathElement,
    prelude::*,
};

/// Width of a picture and height of its plot, in pixels.
const SIZE: (u32, u32) = (880, 480);
/// Height of a line of the legend, which is below the plot.
const LEGEND_LINE: u32 = 20;
/// Room to the left of the plot and of the legend.
const LEFT: u32 = 80;
/// Okabe and Ito's palette, which colour-blind people can tell apart.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x49, 0x50, 0x57),
];
const FONT: &str = "system-ui, 'DejaVu Sans', sans-serif";

/// A picture that cannot be drawn.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw `{title}`: {source}")]
pub struct ChartError {
    title: String,
    source: DrawingAreaErrorKind<Infallible>,
}

/// What one axis shows.
#[derive(Clone, Debug)]
pub struct Axis {
    /// Its name, with the unit.
    pub label: String,
    /// Whether equal distances are equal factors; values must then be above 0.
    pub log: bool,
}

impl Axis {
    /// An axis on which equal distances are equal differences.
    pub fn linear(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            log: false,
        }
    }

    /// An axis on which equal distances are equal factors. From left to right each mark is twice the one
    /// before, as sizes are.
    pub fn log(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            log: true,
        }
    }
}

/// A line of a chart.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Its points from left to right. Those that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// Lines over a common axis.
#[derive(Clone, Debug)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// From left to right.
    pub x: Axis,
    /// From bottom to top.
    pub y: Axis,
    /// The lines, in the order of the legend.
    pub series: Vec<Series>,
}

impl Chart {
    /// The picture, as the text of an SVG file.
    ///
    /// # Errors
    ///
    /// None that is known; the drawing library does not rule them out.
    pub fn to_svg(&self) -> Result<String, ChartError> {
        let mut text = String::new();
        let drawn = {
            let (width, height) = SIZE;
            let legend = LEGEND_LINE * (self.series.len() as u32 + 1);
            let size = (width, height + legend);
            let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
            let x = bounds(&self.x, self.points().map(|point| point.0));
            let y = bounds(&self.y, self.points().map(|point| point.1));
            match (self.x.log, self.y.log) {
                (false, false) => self.draw(&area, x, y),
                (true, false) => self.draw(&area, x.log_scale().base(2.0), y),
                (false, true) => self.draw(&area, x, y.log_scale()),
                (true, true) => self.draw(&area, x.log_scale().base(2.0), y.log_scale()),
            }
        };
        match drawn {
            Ok(()) => Ok(text),
            Err(source) => Err(ChartError {
                title: self.title.clone(),
                source,
            }),
        }
    }

    fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        let points = self.series.iter().flat_map(|series| &series.points);
        points.copied().filter(|point| self.is_drawable(*point))
    }

    fn is_drawable(&self, (x, y): (f64, f64)) -> bool {
        let fits = |value: f64, axis: &Axis| value.is_finite() && (!axis.log || value > 0.0);
        fits(x, &self.x) && fits(y, &self.y)
    }

    fn draw<X, Y>(
        &self,
        area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
        x: X,
        y: Y,
    ) -> Result<(), DrawingAreaErrorKind<Infallible>>
    where
        X: AsRangedCoord<Value = f64>,
        Y: AsRangedCoord<Value = f64>,
        X::CoordDescType: ValueFormatter<f64>,
        Y::CoordDescType: ValueFormatter<f64>,
    {
        let broken = |error| match error {
            DrawingAreaErrorKind::BackendError(_) | DrawingAreaErrorKind::SharingError => {
                DrawingAreaErrorKind::SharingError
            }
            DrawingAreaErrorKind::LayoutError => DrawingAreaErrorKind::LayoutError,
        };
        area.fill(&WHITE).map_err(broken)?;
        let (plot, legend) = area.split_vertically(SIZE.1);
        let margin = 16;
        let mut chart = ChartBuilder::on(&plot)
            .caption(&self.title, (FONT, 20))
            .margin(margin)
            .x_label_area_size(44)
            .y_label_area_size(LEFT - margin)
            .build_cartesian_2d(x, y)
            .map_err(broken)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .label_style((FONT, 13))
            .x_desc(&self.x.label)
            .y_desc(&self.y.label)
            .x_label_formatter(&|value| number(*value))
            .y_label_formatter(&|value| number(*value))
            .draw()
            .map_err(broken)?;
        for (index, series) in self.series.iter().enumerate() {
            let style = COLOURS[index % COLOURS.len()].stroke_width(2);
            let points = series.points.iter().copied();
            let points: Vec<_> = points.filter(|point| self.is_drawable(*point)).collect();
            let (left, middle) = (
                LEFT as i32,
                (LEGEND_LINE * (2 * index as u32 + 1) / 2) as i32,
            );
            let mark = [(left, middle), (left + 24, middle)];
            // Colours that come again are told apart by their strokes.
            if index < COLOURS.len() {
                let line = LineSeries::new(points, style);
                chart.draw_series(line).map_err(broken)?;
                legend
                    .draw(&PathElement::new(mark, style))
                    .map_err(broken)?;
            } else {
                let line = DashedLineSeries::new(points, 6, 4, style);
                chart.draw_series(line).map_err(broken)?;
                let mark = DashedPathElement::new(mark, 6, 4, style);
                legend.draw(&mark).map_err(broken)?;
            }
            let place = (left + 32, middle - 7);
            let name = Text::new(series.name.as_str(), place, (FONT, 13));
            legend.draw(&name).map_err(broken)?;
        }
        area.present().map_err(broken)
    }
}

/// From the least to the largest value, with some room; never empty.
fn bounds(axis: &Axis, values: impl Iterator<Item = f64>) -> Range<f64> {
    let (least, most) = values.fold(
        (f64::INFINITY, f64::NEG_INFINITY),
        |(least, most), value| (least.min(value), most.max(value)),
    );
    match (axis.log, least <= most) {
        (true, true) => least / 1.1..most * 1.1,
        (true, false) => 1.0..10.0,
        (false, true) => {
            let room = ((most - least) * 0.03).max(1e-9);
            least - room..most + room
        }
        (false, false) => 0.0..1.0,
    }
}

/// A number on an axis, in thousands, millions or billions where it is large.
fn number(value: f64) -> String {
    let (value, unit) = match value.abs() {
        size if size >= 1e9 => (value / 1e9, "B"),
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    // Four digits, and no zeros behind them.
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(x: Axis, y: Axis, points: &[(f64, f64)]) -> String {
        let series = |name: &str, points: &[(f64, f64)]| Series {
            name: name.to_owned(),
            points: points.to_vec(),
        };
        let chart = Chart {
            title: "Loss & more".to_owned(),
            x,
            y,
            series: vec![series("full", points), series("empty", &[])],
        };
        chart.to_svg().unwrap()
    }

    #[test]
    fn every_scale_draws_its_lines_and_names() {
        let points = [(1.0, 2.0), (10.0, 0.5), (100.0, f64::NAN), (1000.0, 0.25)];
        for (x, y) in [(false, false), (true, false), (false, true), (true, true)] {
            let axis = |label: &str, log| Axis {
                label: label.to_owned(),
                log,
            };
            let svg = chart(axis("step", x), axis("nats", y), &points);
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
            for text in ["Loss &amp; more", "step", "nats", "full", "<polyline"] {
                assert!(svg.contains(text), "{text}: {svg}");
            }
            assert!(!svg.contains("NaN"));
        }
    }

    #[test]
    fn the_legend_is_below_the_plot_and_lines_of_one_colour_differ() {
        let series = |index: usize| Series {
            name: format!("line {index}"),
            points: vec![(0.0, 0.0), (1.0, index as f64)],
        };
        let chart = Chart {
            title: "many".to_owned(),
            x: Axis::linear("step"),
            y: Axis::linear("nats"),
            series: (0..=COLOURS.len()).map(series).collect(),
        };
        let svg = chart.to_svg().unwrap();
        let texts = svg
            .split("<text ")
            .filter_map(|text| text.split_once("</text>"));
        let names = texts.filter(|(text, _)| text.contains("\nline "));
        let height = |text: &str| -> f64 {
            let (_, rest) = text.split_once("y=\"").expect("a place");
            rest.split('"').next().unwrap().parse().expect("a number")
        };
        let heights: Vec<f64> = names.map(|(text, _)| height(text)).collect();
        assert_eq!(heights.len(), COLOURS.len() + 1);
        assert!(
            heights.iter().all(|y| *y > f64::from(SIZE.1)),
            "{heights:?}"
        );
        // A dashed line is many short ones.
        let lines = |colour: &str| svg.matches(colour).count();
        assert!(lines("#0072B2") > 2 * lines("#E69F00"));
    }

    #[test]
    fn nothing_to_draw_is_a_picture_too() {
        assert!(chart(Axis::log("x"), Axis::linear("y"), &[]).contains("<svg"));
        let one = chart(Axis::linear("x"), Axis::linear("y"), &[(3.0, 3.0)]);
        assert!(one.contains("</svg>"));
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.25, "0.25"),
            (2048.0, "2048"),
            (16384.0, "16.384k"),
            (3e6, "3M"),
            (-1.5e9, "-1.5B"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
