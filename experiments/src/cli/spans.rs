//! `kiln spans`: what schedules of spans and mixers cost, and what they look like.

mod picture;
mod svg;

use std::path::PathBuf;

use clap::Args;
use masformer_core::{
    Direction, KeyValueSize, MixerSchedule, MixerSpec, Mixing, ScheduleError, Span,
    SpanAttentionConfig, SpanCost, SpanSchedule,
};
use moebert_core::file;
use serde_json::{Value, json};

use super::output;
use crate::error::Error;
use crate::table::{aligned, count, memory};
use crate::terminal::{columns, wrapped};

/// Show what each layer of a span schedule attends to, and what that costs
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  kiln spans bottom:4 block:1024 --layers 24 --length 8192 --svg masks.svg"
)]
pub struct SpansArgs {
    /// The schedule, such as `full`, `window:256`, `bottom:4 block:1024`, `every:6+5 window:512+4`.
    /// Full layers: bottom:N, top:N, middle:N, even:N, every:K, every:K+S or layers:I,J,...
    /// The others: window:W, window:W+SINKS or block:W
    #[arg(required = true, value_name = "WORD")]
    schedule: Vec<String>,
    /// The mixers of the layers, such as "bottom:1 s4d"; layers without one are attention under the schedule
    #[arg(long, value_name = "SCHEDULE")]
    mixers: Option<MixerSchedule>,
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
    /// Query heads of a layer, for the states of mixers [default: as many as key and value heads]
    #[arg(
        long, value_name = "HEADS", requires = "mixers", conflicts_with = "encoder",
        value_parser = clap::value_parser!(u32).range(1..=1024)
    )]
    heads: Option<u32>,
    /// Bytes of a number in the caches
    #[arg(
        long, default_value_t = 2, conflicts_with = "encoder",
        value_parser = clap::value_parser!(u32).range(1..=8)
    )]
    bytes: u32,
    /// Draw the mask of every layer into this file
    #[arg(long, value_name = "FILE.svg")]
    svg: Option<PathBuf>,
    /// Print what each layer attends to and what it costs as JSON
    #[arg(long)]
    json: bool,
}

/// What a model's layers are, and the input that they are shown for.
struct Layers {
    /// The schedules.
    name: String,
    /// From the bottom.
    mixing: Vec<Mixing>,
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
    let count = args.layers as usize;
    let direction = if args.encoder {
        Direction::Bidirectional
    } else {
        Direction::Causal
    };
    let key_values = KeyValueSize {
        heads: args.key_value_heads as usize,
        width: args.head_width as usize,
        bytes: args.bytes as usize,
    };
    let heads = args.heads.unwrap_or(args.key_value_heads) as usize;
    let attention = SpanAttentionConfig::new(heads * key_values.width, heads)
        .with_key_value_heads(Some(key_values.heads))
        .with_direction(direction);
    let mixers = match &args.mixers {
        None => vec![],
        Some(mixers) => mixers.mixers(count)?,
    };
    MixerSpec::check(&mixers, &attention).map_err(ScheduleError::from)?;
    let layers = Layers {
        mixing: Mixing::of_layers(&schedule.spans(count)?, &mixers),
        name: match &args.mixers {
            None => schedule.to_string(),
            Some(mixers) => format!("{schedule}, mixers {mixers}"),
        },
        direction,
        length: args.length as usize,
    };
    let cache = (!args.encoder).then_some(Cache {
        key_values,
        attention,
    });
    if let Some(path) = &args.svg {
        file::write(path, svg::draw(&layers).as_bytes())?;
    }
    if args.json {
        return super::print_json(&described(&layers, cache.as_ref()));
    }
    let table = table(&layers, cache.as_ref());
    let columns = columns();
    super::print(&format!(
        "{}\n{table}\n{}\n{}",
        wrapped(&layers.title(), columns, 2),
        wrapped(&note(cache.as_ref()), columns, 0),
        picture::draw(&layers, columns)
    ))
}

impl Layers {
    fn title(&self) -> String {
        format!("{}: {}", self.name, self.input())
    }

    fn input(&self) -> String {
        let direction = match self.direction {
            Direction::Causal => "causal",
            Direction::Bidirectional => "both directions",
        };
        let layers = layer_count(self.mixing.len());
        format!("{layers}, {} tokens, {direction}", self.length)
    }

    fn cost(&self) -> SpanCost {
        Mixing::cost(&self.mixing, self.direction, self.length)
    }

    /// The different layers in the order in which they first come, each with its number.
    fn kinds(&self) -> Vec<(&Mixing, usize)> {
        let mut kinds: Vec<(&Mixing, usize)> = Vec::new();
        for layer in &self.mixing {
            match kinds.iter_mut().find(|(kind, _)| *kind == layer) {
                Some((_, layers)) => *layers += 1,
                None => kinds.push((layer, 1)),
            }
        }
        kinds
    }

    /// Whether tokens of some layer reach a query through a state or another summary.
    fn is_summarised(&self) -> bool {
        self.mixing.iter().any(Mixing::is_summarised)
    }
}

/// What the sizes of caches follow from.
struct Cache {
    key_values: KeyValueSize,
    /// Attention in each layer, but for its span.
    attention: SpanAttentionConfig,
}

impl Cache {
    /// Bytes that the caches of some layers take, whose keys and values are those of `positions`.
    fn bytes(&self, layers: &[Mixing], positions: usize) -> u64 {
        let state = |layer: &Mixing| layer.mixer.state(&self.attention) as u64;
        let states = layers.iter().map(state).sum::<u64>() * self.key_values.bytes as u64;
        self.key_values.bytes(positions).saturating_add(states)
    }
}

fn layer_count(count: usize) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} layer{plural}")
}

/// What the table says, for programs: each layer, and all of them.
fn described(layers: &Layers, cache: Option<&Cache>) -> Value {
    let costs = |run: &[Mixing]| {
        let cost = Mixing::cost(run, layers.direction, layers.length);
        json!({
            "pairs": cost.pairs,
            "of_full": cost.share(),
            "cache_bytes": cache.map(|cache| cache.bytes(run, cost.cached_positions)),
        })
    };
    let own = layers.mixing.iter().map(|layer| {
        json!({
            "mixer": layer.mixer.to_string(),
            "span": layer.span.map(|span| span.to_string()),
            "cost": costs(std::slice::from_ref(layer)),
        })
    });
    json!({
        "schedule": layers.name,
        "is_causal": layers.direction == Direction::Causal,
        "length": layers.length,
        "layers": own.collect::<Vec<_>>(),
        "cost": costs(&layers.mixing),
    })
}

/// One line for each run of equal layers, and one for all; then what full attention would be. Mixers have a column
/// where some layer is not attention.
fn table(layers: &Layers, cache: Option<&Cache>) -> String {
    let attention = MixerSpec::default();
    let has_mixers = layers.mixing.iter().any(|layer| layer.mixer != attention);
    let line = |name: String, [mixer, span]: [String; 2], run: &[Mixing]| {
        let cost = Mixing::cost(run, layers.direction, layers.length);
        let mut cells = vec![name];
        cells.extend(has_mixers.then_some(mixer));
        cells.extend([span, count(cost.pairs), format!("{:.3}", cost.share())]);
        cells.extend(cache.map(|cache| memory(cache.bytes(run, cost.cached_positions))));
        cells
    };
    let mut header = vec!["layers"];
    header.extend(has_mixers.then_some("mixer"));
    header.extend(["span", "pairs", "of full"]);
    header.extend(cache.map(|_| "cache"));
    let mut cells = vec![header.into_iter().map(str::to_owned).collect()];
    let mut first = 0;
    for run in layers.mixing.chunk_by(PartialEq::eq) {
        let last = first + run.len() - 1;
        let name = if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        };
        let span = run[0].span.map_or("-".to_owned(), |span| span.to_string());
        cells.push(line(name, [run[0].mixer.to_string(), span], run));
        first = last + 1;
    }
    let none = [String::new(), String::new()];
    cells.push(line("all".to_owned(), none.clone(), &layers.mixing));
    let full = vec![Mixing::new(attention, Span::Full); layers.mixing.len()];
    cells.push(line("full attention".to_owned(), none, &full));

    aligned(&cells)
}

/// What the columns count.
fn note(cache: Option<&Cache>) -> String {
    let per_position = cache.map(
        |Cache {
             key_values:
                 KeyValueSize {
                     heads,
                     width,
                     bytes,
                 },
             ..
         }| {
            format!(
                " A position in a layer's cache takes 2 x {heads} heads x {width} x {bytes} bytes."
            )
        },
    );
    let pairs = "Pairs are of a query and a key, for one head.".to_owned();
    pairs + &per_position.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(schedule: &str, layers: usize, length: usize, direction: Direction) -> Layers {
        let schedule: SpanSchedule = schedule.parse().unwrap();
        Layers {
            mixing: Mixing::of_layers(&schedule.spans(layers).unwrap(), &[]),
            name: schedule.to_string(),
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
        let cache = Cache {
            key_values: KeyValueSize {
                heads: 12,
                width: 64,
                bytes: 2,
            },
            attention: SpanAttentionConfig::new(768, 12),
        };
        let layers = causal("bottom:4 block:1024", 24, 8192);
        let text = table(&layers, Some(&cache));
        let lines: Vec<&str> = text.lines().collect();
        let expected = [
            "layers                span   pairs  of full      cache",
            "0-3                   full  134.2M    1.000   96.0 MiB",
            "4-23            block:1024   84.0M    0.125   60.0 MiB",
            "all                         218.2M    0.271  156.0 MiB",
            "full attention              805.4M    1.000  576.0 MiB",
        ];
        assert_eq!(lines, expected);
        assert_eq!(
            note(Some(&cache)),
            "Pairs are of a query and a key, for one head. A position in a layer's cache takes \
             2 x 12 heads x 64 x 2 bytes."
        );
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
