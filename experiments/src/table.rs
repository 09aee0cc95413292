//! The table at the end of a run: what each model scores and what it costs.

mod aligned;

use std::collections::BTreeMap;

use masformer_core::{MixerSpec, Mixing, Span};
use serde::{Deserialize, Serialize};

use crate::{
    ablate::statistics::Interval,
    metric::{Scores, UNDEFINED},
    number::in_unit,
    terminal::{self, wrapped},
};

pub(crate) use aligned::aligned;

/// One model of one seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The model's name.
    pub name: String,
    /// The seed of this run of the pipeline.
    pub seed: u64,
    /// What each layer attends to, from the bottom.
    pub spans: Vec<Span>,
    /// What each layer mixes tokens with, from the bottom; empty where all are attention.
    pub mixers: Vec<MixerSpec>,
    /// Its experts; none for dense feed-forward layers.
    pub experts: Option<String>,
    /// Scores before its training, where a given model goes on.
    pub metrics_before: Option<Scores>,
    /// Scores on the data to judge by, by the metric's name.
    pub metrics: Scores,
    /// Number of weights.
    pub parameters: u64,
    /// Number of weights that one token passes through.
    pub active_parameters: u64,
    /// Multiply-adds of a forward pass, for one token.
    pub multiply_adds_per_token: u64,
    /// What attention costs.
    pub attention: Option<AttentionCost>,
    /// Median time of a forward pass in milliseconds.
    pub latency_ms: Option<f64>,
}

/// What the mixers of a model cost in a sequence of the training's length.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttentionCost {
    /// Pairs of a query and a key, one head per layer.
    pub attention_pairs: u64,
    /// These as a share of those of full attention.
    pub attention_share: f64,
    /// Positions that a decoder keeps after such a sequence, over all layers.
    pub cached_positions: u64,
    /// Numbers that a decoder keeps for a sequence besides keys and values, over all layers: the states of mixers.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub state_numbers: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How sure the means of a table are.
#[derive(Clone, Debug, Default)]
pub struct Intervals {
    /// One less the probability that an interval stands for, such as 0.05.
    pub alpha: f64,
    /// The interval of a mean by its model and metric.
    pub after: BTreeMap<(String, String), Interval>,
    /// The same before the model's training.
    pub before: BTreeMap<(String, String), Interval>,
    /// By model, the ratio of its latency to that of the first one.
    pub ratios: BTreeMap<String, (f64, Interval)>,
    /// The model that the others are compared with.
    pub reference: Option<String>,
}

/// The rows of a run, ready to be shown: one line per model, with means over the seeds.
#[derive(Clone, Debug)]
pub struct Table {
    cells: Vec<Vec<String>>,
    /// The model that the others are compared with, if the table has it.
    reference: Option<String>,
    /// What its numbers are, one line each.
    notes: Vec<String>,
}

/// What a column shows of the rows of one model.
type Cell<'a> = Box<dyn Fn(&[&Row]) -> String + 'a>;

impl Table {
    /// A table of `rows`, in their order, with the scores of `metrics`. Other columns are there if they have something
    /// to show. Latencies are compared with the first model. A mean without an interval has the standard deviation over
    /// the seeds.
    pub fn new(rows: &[Row], metrics: &[String], intervals: &Intervals) -> Self {
        let groups = by_name(rows, |row| &row.name);
        let columns = columns(rows, metrics, intervals, &groups);
        let mut header = vec!["model".to_owned()];
        header.extend(columns.iter().map(|(title, _)| title.clone()));
        let mut cells = vec![header];
        for (name, group) in &groups {
            let mut line = vec![(*name).to_owned()];
            line.extend(columns.iter().map(|(_, cell)| cell(group)));
            cells.push(line);
        }
        let seeds = groups.iter().map(|(_, group)| group.len()).max();
        let reference = intervals.reference.as_ref();
        let reference = reference.filter(|name| groups.iter().any(|(other, _)| other == name));
        Self {
            notes: intervals.notes(&cells, seeds.unwrap_or(0)),
            cells,
            reference: reference.cloned(),
        }
    }

    /// A table of texts, its header first.
    pub(crate) fn from_cells(cells: Vec<Vec<String>>) -> Self {
        Self {
            cells,
            reference: None,
            notes: vec![],
        }
    }

    /// The table as aligned text, for a terminal; the reference is marked.
    pub fn to_text(&self) -> String {
        let mut cells = self.cells.clone();
        let mut notes = String::new();
        if let Some(reference) = &self.reference {
            let mut names = cells.iter_mut().filter_map(|line| line.first_mut());
            if let Some(name) = names.find(|name| *name == reference) {
                name.push_str(" *");
            }
            notes.push_str("* what the others are compared with\n");
        }
        for note in &self.notes {
            notes.push_str(&wrapped(note, terminal::columns(), 2));
        }
        aligned(&cells) + &notes
    }

    /// The table in Markdown.
    pub fn to_markdown(&self) -> String {
        let mut text = String::new();
        for (index, line) in self.cells.iter().enumerate() {
            text.extend(["| ", &line.join(" | "), " |\n"]);
            if index == 0 {
                text.extend(["|---", &"|---:".repeat(line.len() - 1), "|\n"]);
            }
        }
        if !self.notes.is_empty() {
            text.extend(["\n", &self.notes.join("; "), "\n"]);
        }
        text
    }
}

impl Intervals {
    /// What the forms of numbers in `cells` are.
    fn notes(&self, cells: &[Vec<String>], seeds: usize) -> Vec<String> {
        let has = |is: fn(&str) -> bool| {
            let mut cells = cells.iter().skip(1).flatten();
            cells.any(|cell| is(cell))
        };
        // `100 * (1 - 0.05)` has roundings.
        let level = format!("{:.4}", 100.0 * (1.0 - self.alpha));
        let level = level.trim_end_matches('0').trim_end_matches('.');
        let mut notes = vec![];
        if has(|cell| cell.contains(" [") && !cell.contains("x [")) {
            notes.push(match seeds {
                1 => format!("score [{level} % interval over the examples]"),
                seeds => {
                    format!("mean [{level} % interval over seeds and examples], {seeds} seeds")
                }
            });
        }
        if has(|cell| cell.contains(" ± ")) {
            notes.push(format!("mean ± standard deviation over {seeds} seeds"));
        }
        if has(|cell| cell.contains("x [")) {
            notes.push(format!(
                "ratio of latencies [{level} % interval over rounds in which models took turns]"
            ));
        }
        notes
    }
}

/// Rows of the same name, in the order in which the names come first.
pub(crate) fn by_name<'a, R>(
    rows: &'a [R],
    name: impl Fn(&'a R) -> &'a str,
) -> Vec<(&'a str, Vec<&'a R>)> {
    let mut groups: Vec<(&str, Vec<&R>)> = Vec::new();
    for row in rows {
        let name = name(row);
        match groups.iter_mut().find(|(other, _)| *other == name) {
            Some((_, group)) => group.push(row),
            None => groups.push((name, vec![row])),
        }
    }
    groups
}

/// The columns after the name of the model. What follows from the architecture is the same for all seeds, and is that of
/// the first.
fn columns<'a>(
    rows: &[Row],
    metrics: &'a [String],
    intervals: &'a Intervals,
    groups: &[(&str, Vec<&Row>)],
) -> Vec<(String, Cell<'a>)> {
    let mut columns: Vec<(String, Cell<'a>)> = vec![];
    let mut add = |title: &str, is_shown: bool, cell: Cell<'a>| {
        if is_shown {
            columns.push((title.to_owned(), cell));
        }
    };
    let has = |test: &dyn Fn(&Row) -> bool| rows.iter().any(test);
    let has_attention = has(&|row| row.attention.is_some());
    add(
        "layers",
        has_attention,
        Box::new(|group| summary(&group[0].spans, &group[0].mixers)),
    );
    let has_before = has(&|row| row.metrics_before.is_some());
    for metric in metrics {
        let before = |row: &Row| row.metrics_before.as_ref()?.get(metric).copied();
        let title = format!("{metric} before training");
        add(
            &title,
            has_before,
            Box::new(move |group| scores(group, before, (metric, &intervals.before))),
        );
        let after = |row: &Row| row.metrics.get(metric).copied();
        add(
            metric,
            true,
            Box::new(move |group| scores(group, after, (metric, &intervals.after))),
        );
    }
    add(
        "parameters",
        true,
        Box::new(|group| count(group[0].parameters)),
    );
    let attention = |show: fn(&AttentionCost) -> String| -> Cell<'a> {
        Box::new(move |group| group[0].attention.as_ref().map_or_else(none, show))
    };
    add(
        "attention pairs",
        has_attention,
        attention(|cost| count(cost.attention_pairs)),
    );
    add(
        "of full",
        has_attention,
        attention(|cost| format!("{:.3}", cost.attention_share)),
    );
    add(
        "cache",
        has_attention,
        attention(|cost| count(cost.cached_positions)),
    );
    let has_state = has(&|row| {
        row.attention
            .as_ref()
            .is_some_and(|cost| cost.state_numbers > 0)
    });
    add(
        "state",
        has_state,
        attention(|cost| count(cost.state_numbers)),
    );
    let has_experts = has(&|row| row.experts.is_some());
    let experts = |group: &[&Row]| group[0].experts.clone().unwrap_or("dense".to_owned());
    add("experts", has_experts, Box::new(experts));
    add(
        "active",
        has_experts,
        Box::new(|group| count(group[0].active_parameters)),
    );
    let products = |group: &[&Row]| count(group[0].multiply_adds_per_token);
    add("multiply-adds/token", true, Box::new(products));
    if let Some((first, group)) = groups.first()
        && let Some(baseline) = latency(group)
    {
        add(
            "latency ms",
            true,
            Box::new(|group| latency(group).map_or_else(none, |it| format!("{it:.2}"))),
        );
        let ratio = move |group: &[&Row]| match intervals.ratios.get(&group[0].name) {
            Some((ratio, Interval { low, high })) => {
                format!("{ratio:.2}x [{low:.2}, {high:.2}]")
            }
            None => latency(group).map_or_else(none, |it| format!("{:.2}x", it / baseline)),
        };
        add(&format!("vs {first}"), true, Box::new(ratio));
    }
    columns
}

/// Stands where there is no value.
fn none() -> String {
    "-".to_owned()
}

/// The mean of a score over the seeds that have it, with its interval.
fn scores(
    group: &[&Row],
    of: impl Fn(&Row) -> Option<f64>,
    (metric, intervals): (&String, &BTreeMap<(String, String), Interval>),
) -> String {
    let values: Vec<f64> = group.iter().filter_map(|row| of(row)).collect();
    let interval = intervals.get(&(group[0].name.clone(), metric.clone()));
    match interval {
        Some(interval) if !values.is_empty() => {
            score_within(mean(&values), Some((interval.low, interval.high)))
        }
        _ => score(&values),
    }
}

/// The mean latency over the seeds.
fn latency(group: &[&Row]) -> Option<f64> {
    let latencies = group.iter().map(|row| row.latency_ms);
    Some(mean(&latencies.collect::<Option<Vec<f64>>>()?))
}

/// Runs of equal layers from the bottom, as in `2 full, 4 window:64`.
pub(crate) fn summary(spans: &[Span], mixers: &[MixerSpec]) -> String {
    let layers = Mixing::of_layers(spans, mixers);
    let runs = layers.chunk_by(|a, b| a == b);
    let runs = runs.map(|run| format!("{} {}", run.len(), run[0]));
    runs.collect::<Vec<_>>().join(", ")
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// A score with the ends of its interval, as in `0.9100 [0.9012, 0.9188]`: fractions with four digits, percentages with two.
pub(crate) fn score_within(value: f64, ends: Option<(f64, f64)>) -> String {
    let digits = digits(value);
    match ends {
        _ if value.is_nan() => UNDEFINED.to_owned(),
        Some((low, high)) => format!("{value:.digits$} [{low:.digits$}, {high:.digits$}]"),
        None => format!("{value:.digits$}"),
    }
}

/// Digits after the point.
fn digits(score: f64) -> usize {
    if score.abs() > 1.0 { 2 } else { 4 }
}

/// Mean and sample standard deviation of scores. What has no value for a seed has none for all of them.
pub(crate) fn score(values: &[f64]) -> String {
    if values.is_empty() {
        return "-".to_owned();
    }
    let mean = mean(values);
    if mean.is_nan() {
        return UNDEFINED.to_owned();
    }
    let digits = digits(mean);
    if values.len() == 1 {
        return format!("{mean:.digits$}");
    }
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let deviation = (squares / (values.len() - 1) as f64).sqrt();
    format!("{mean:.digits$} ± {deviation:.digits$}")
}

/// A large number in thousands, millions or billions, to three or four digits.
pub(crate) fn count(value: u64) -> String {
    let value = value as f64;
    match value {
        _ if value < 1e4 => format!("{value}"),
        _ if value < 1e6 => format!("{:.1}k", value / 1e3),
        _ if value < 1e9 => format!("{:.1}M", value / 1e6),
        _ => format!("{:.2}B", value / 1e9),
    }
}

/// A number of bytes in the unit that suits it, to about three digits.
pub(crate) fn memory(bytes: u64) -> String {
    let (value, unit) = in_unit(bytes as f64);
    let digits = usize::from(unit != "bytes");
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, seed: u64, scores: Scores) -> Row {
        Row {
            name: name.to_owned(),
            seed,
            spans: vec![Span::Full],
            mixers: vec![],
            experts: None,
            metrics_before: None,
            metrics: scores,
            parameters: 1_200_000,
            active_parameters: 800_000,
            multiply_adds_per_token: 850,
            attention: None,
            latency_ms: None,
        }
    }

    fn timed(name: &str, seed: u64, accuracy: f64, latency_ms: f64) -> Row {
        let scores = [
            ("accuracy".to_owned(), accuracy),
            ("a_second".to_owned(), 80.5),
        ];
        Row {
            latency_ms: Some(latency_ms),
            ..row(name, seed, scores.into())
        }
    }

    fn decoder(name: &str, seed: u64, before: Option<f64>, after: f64) -> Row {
        let scores = |value| Scores::from([("bits_per_byte".to_owned(), value)]);
        Row {
            spans: ["full", "window:8", "window:8"]
                .map(|span| span.parse().unwrap())
                .into(),
            metrics_before: before.map(scores),
            attention: Some(AttentionCost {
                attention_pairs: 5000,
                attention_share: 0.25,
                cached_positions: 48,
                state_numbers: 0,
            }),
            ..row(name, seed, scores(after))
        }
    }

    fn table(rows: &[Row], metrics: &[&str]) -> Table {
        let metrics: Vec<String> = metrics.iter().map(ToString::to_string).collect();
        Table::new(rows, &metrics, &Intervals::default())
    }

    fn encoders() -> Table {
        let mut rows = [
            timed("teacher", 1, 0.9, 10.0),
            timed("importance", 1, 0.8, 5.0),
            timed("teacher", 2, 0.92, 12.0),
            timed("importance", 2, 0.8, 6.0),
        ];
        rows[1].experts = Some("4 experts of 8, hash-random".to_owned());
        table(&rows, &["accuracy", "a_second"])
    }

    #[test]
    fn seeds_are_joined_and_latency_is_compared_with_the_first_model() {
        let text = encoders().to_markdown();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "| model | accuracy | a_second | parameters | experts | active | multiply-adds/token | latency ms | vs teacher |"
        );
        assert_eq!(
            lines[2],
            "| teacher | 0.9100 ± 0.0141 | 80.50 ± 0.00 | 1.2M | dense | 800.0k | 850 | 11.00 | 1.00x |"
        );
        assert_eq!(
            lines[3],
            "| importance | 0.8000 ± 0.0000 | 80.50 ± 0.00 | 1.2M | 4 experts of 8, hash-random | 800.0k | 850 | 5.50 | 0.50x |"
        );
        assert_eq!(lines[5], "mean ± standard deviation over 2 seeds");
        assert_eq!(lines[1], "|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    }

    #[test]
    fn means_have_intervals_and_the_reference_a_mark() {
        let rows = [
            timed("teacher", 1, 0.9, 10.0),
            timed("student", 1, 0.8, 5.0),
            timed("teacher", 2, 0.92, 12.0),
            timed("student", 2, 0.8, 6.0),
        ];
        let key = |name: &str| (name.to_owned(), "accuracy".to_owned());
        let around = |low, high| Interval { low, high };
        let intervals = Intervals {
            alpha: 0.05,
            after: BTreeMap::from([
                (key("teacher"), around(0.88, 0.9412)),
                (key("student"), around(0.75, 0.85)),
            ]),
            ratios: BTreeMap::from([("student".to_owned(), (0.498, around(0.45, 0.532)))]),
            reference: Some("teacher".to_owned()),
            ..Intervals::default()
        };
        let metrics = ["accuracy".to_owned(), "a_second".to_owned()];
        let table = Table::new(&rows, &metrics, &intervals);
        let text = table.to_markdown();
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[2].starts_with("| teacher | 0.9100 [0.8800, 0.9412] | 80.50 ± 0.00 | "),
            "{text}"
        );
        assert!(lines[2].ends_with(" | 11.00 | 1.00x |"), "{text}");
        assert!(
            lines[3].ends_with(" | 5.50 | 0.50x [0.45, 0.53] |"),
            "{text}"
        );
        let note = "mean [95 % interval over seeds and examples], 2 seeds; mean ± standard deviation over 2 seeds; \
                    ratio of latencies [95 % interval over rounds in which models took turns]";
        assert_eq!(lines[5], note);
        let text = table.to_text();
        assert!(
            text.contains("\nteacher *  0.9100 [0.8800, 0.9412]  "),
            "{text}"
        );
        assert!(
            text.contains("\nstudent    0.8000 [0.7500, 0.8500]  "),
            "{text}"
        );
        assert!(
            text.contains("\n* what the others are compared with\n"),
            "{text}"
        );
    }

    #[test]
    fn one_seed_has_no_spread() {
        let text = table(&[timed("teacher", 1, 0.9, 10.0)], &["accuracy"]).to_text();
        assert!(text.contains(" 0.9000 ") && !text.contains('±'), "{text}");
    }

    #[test]
    fn a_continued_model_is_shown_before_and_after() {
        let rows = [
            decoder("checkpoint", 1, None, 2.0),
            decoder("local", 1, Some(4.0), 2.5),
            decoder("local", 2, Some(4.0), 2.7),
        ];
        let text = table(&rows, &["bits_per_byte"]).to_markdown();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "| model | layers | bits_per_byte before training | bits_per_byte | parameters | \
             attention pairs | of full | cache | multiply-adds/token |"
        );
        assert_eq!(
            lines[2],
            "| checkpoint | 1 full, 2 window:8 | - | 2.00 | 1.2M | 5000 | 0.250 | 48 | 850 |"
        );
        assert_eq!(
            lines[3],
            "| local | 1 full, 2 window:8 | 4.00 ± 0.00 | 2.60 ± 0.14 | 1.2M | 5000 | 0.250 | 48 | 850 |"
        );
    }

    #[test]
    fn a_fresh_model_has_no_before() {
        let text = table(&[decoder("full", 1, None, 0.5)], &["bits_per_byte"]).to_text();
        assert!(!text.contains("before"), "{text}");
        assert!(text.contains("0.5000"), "{text}");
    }

    #[test]
    fn memory_is_told_in_a_unit_that_suits_it() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (9216 * 3072, "27.0 MiB"),
            (5 << 29, "2.5 GiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(memory(bytes), text);
        }
    }
}
