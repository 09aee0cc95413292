//! `kiln spans`: what a span schedule costs, and what it looks like.

mod picture;
mod svg;

use std::path::PathBuf;

use clap::Args;
use masformer_core::{Direction, KeyValueSize, Span, SpanCost, SpanSchedule};
use moebert_core::file;

use super::output;
use crate::error::Error;
use crate::table::{aligned, count, memory};

/// Show what each layer of a span schedule attends to, and what that costs
#[derive(Debug, Args)]
pub struct SpansArgs {
    /// The schedule, such as `full`, `window:256`, `bottom:4 block:1024`, `every:6+5 window:512+4`.
    /// Full layers: bottom:N, top:N, middle:N, even:N, every:K, every:K+S or layers:I,J,...
    /// The others: window:W, window:W+SINKS or block:W
    #[arg(required = true, value_name = "WORD")]
    schedule: Vec<String>,
    /// Layers of the model
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    layers: u32,
    /// Tokens of the input
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    length: u32,
    /// Attend in both directions, as encoders do; they have no cache
    #[arg(long)]
    encoder: bool,
    /// Key and value heads of a layer, for the size of the caches
    #[arg(
        long, value_name = "HEADS", default_value_t = 12, conflicts_with = "encoder",
        value_parser = clap::value_parser!(u32).range(1..=1024)
    )]
    key_value_heads: u32,
    /// Width of a head, for the size of the caches
    #[arg(
        long, value_name = "WIDTH", default_value_t = 64, conflicts_with = "encoder",
        value_parser = clap::value_parser!(u32).range(1..=8192)
    )]
    head_width: u32,
    /// Bytes of a number in the caches
    #[arg(
        long, default_value_t = 2, conflicts_with = "encoder",
        value_parser = clap::value_parser!(u32).range(1..=8)
    )]
    bytes: u32,
    /// Draw the mask of every layer into this file
    #[arg(long, value_name = "FILE.svg")]
    svg: Option<PathBuf>,
}

/// The spans of a model's layers, and the input that they are shown for.
struct Layers {
    schedule: SpanSchedule,
    spans: Vec<Span>,
    direction: Direction,
    length: usize,
}

/// Prints the table and the masks, and draws the file.
///
/// # Errors
/// The schedule cannot be read or does not fit the model, or the file cannot be written.
pub fn run(args: &SpansArgs) -> Result<(), Error> {
    if let Some(path) = &args.svg {
        output::check_file("--svg", path, &[])?;
    }
    let schedule: SpanSchedule = args.schedule.join(" ").parse()?;
    let layers = Layers {
        spans: schedule.spans(args.layers as usize)?,
        schedule,
        direction: if args.encoder {
            Direction::Bidirectional
        } else {
            Direction::Causal
        },
        length: args.length as usize,
    };
    let key_values = (!args.encoder).then_some(KeyValueSize {
        heads: args.key_value_heads as usize,
        width: args.head_width as usize,
        bytes: args.bytes as usize,
    });
    if let Some(path) = &args.svg {
        file::write(path, svg::draw(&layers).as_bytes())?;
    }
    let table = table(&layers, key_values);
    let masks = picture::draw(&layers);
    super::print(&format!("{}\n\n{table}\n{masks}", layers.title()))
}

impl Layers {
    fn title(&self) -> String {
        format!("{}: {}", self.schedule, self.input())
    }

    fn input(&self) -> String {
        let direction = match self.direction {
            Direction::Causal => "causal",
            Direction::Bidirectional => "both directions",
        };
        let layers = layer_count(self.spans.len());
        format!("{layers}, {} tokens, {direction}", self.length)
    }

    fn cost(&self) -> SpanCost {
        SpanCost::of(&self.spans, self.direction, self.length)
    }

    /// The different spans in the order in which they first come, each with its number of layers.
    fn kinds(&self) -> Vec<(Span, usize)> {
        let mut kinds: Vec<(Span, usize)> = Vec::new();
        for &span in &self.spans {
            match kinds.iter_mut().find(|(kind, _)| *kind == span) {
                Some((_, layers)) => *layers += 1,
                None => kinds.push((span, 1)),
            }
        }
        kinds
    }
}

fn layer_count(count: usize) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} layer{plural}")
}

/// One line for each run of layers with the same span, and one for all; then what full attention
/// would be.
fn table(layers: &Layers, key_values: Option<KeyValueSize>) -> String {
    let cost = |spans: &[Span]| SpanCost::of(spans, layers.direction, layers.length);
    let line = |name: String, span: &str, cost: &SpanCost| {
        let share = format!("{:.3}", cost.share());
        let mut cells = vec![name, span.to_owned(), count(cost.pairs), share];
        cells.extend(key_values.map(|size| memory(size.bytes(cost.cached_positions))));
        cells
    };
    let mut header = vec!["layers", "span", "pairs", "of full"];
    header.extend(key_values.map(|_| "cache"));
    let mut cells = vec![header.into_iter().map(str::to_owned).collect()];
    let mut first = 0;
    for run in layers.spans.chunk_by(PartialEq::eq) {
        let last = first + run.len() - 1;
        let name = if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        };
        cells.push(line(name, &run[0].to_string(), &cost(run)));
        first = last + 1;
    }
    cells.push(line("all".to_owned(), "", &layers.cost()));
    let full = vec![Span::Full; layers.spans.len()];
    cells.push(line("full attention".to_owned(), "", &cost(&full)));

    let mut text = aligned(&cells);
    let per_position = key_values.map(
        |KeyValueSize {
             heads,
             width,
             bytes,
         }| {
            format!(
                " A position in a layer's cache takes 2 x {heads} heads x {width} x {bytes} bytes."
            )
        },
    );
    text.push_str("\nPairs are of a query and a key, for one head.");
    text.extend(per_position);
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(schedule: &str, layers: usize, length: usize, direction: Direction) -> Layers {
        let schedule: SpanSchedule = schedule.parse().unwrap();
        Layers {
            spans: schedule.spans(layers).unwrap(),
            schedule,
            direction,
            length,
        }
    }

    pub(super) fn causal(schedule: &str, count: usize, length: usize) -> Layers {
        layers(schedule, count, length, Direction::Causal)
    }

    pub(super) fn both(schedule: &str, count: usize, length: usize) -> Layers {
        layers(schedule, count, length, Direction::Bidirectional)
    }

    #[test]
    fn the_table_has_a_line_for_each_run_of_layers_and_the_baseline() {
        let key_values = KeyValueSize {
            heads: 12,
            width: 64,
            bytes: 2,
        };
        let layers = causal("bottom:4 block:1024", 24, 8192);
        let text = table(&layers, Some(key_values));
        let lines: Vec<&str> = text.lines().collect();
        let expected = [
            "layers                span   pairs  of full      cache",
            "0-3                   full  134.2M    1.000   96.0 MiB",
            "4-23            block:1024   84.0M    0.125   60.0 MiB",
            "all                         218.2M    0.271  156.0 MiB",
            "full attention              805.4M    1.000  576.0 MiB",
            "",
            "Pairs are of a query and a key, for one head. A position in a layer's cache takes \
             2 x 12 heads x 64 x 2 bytes.",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn encoders_have_no_cache() {
        let text = table(&both("every:3 window:2", 4, 4), None);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "layers              span  pairs  of full");
        assert_eq!(lines[1], "0                   full     16    1.000");
        assert_eq!(lines[2], "1-2             window:2     20    0.625");
        assert_eq!(lines[3], "3                   full     16    1.000");
        assert!(!text.contains("cache"), "{text}");
    }
}
