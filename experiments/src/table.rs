//! The table at the end of a run: what each model scores and what it costs.

use serde::{Deserialize, Serialize};

use crate::metric::{Scores, UNDEFINED};

/// One model of one seed, as `results.json` holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// `teacher`, or the student's name.
    pub name: String,
    /// The seed of this run of the pipeline.
    pub seed: u64,
    /// Scores on the development data, by the metric's name.
    pub metrics: Scores,
    /// Number of weights.
    pub parameters: u64,
    /// Number of weights that one token passes through.
    pub active_parameters: u64,
    /// Multiply-adds of a forward pass, for one token.
    pub multiply_adds_per_token: u64,
    /// Median time of a forward pass in milliseconds.
    pub latency_ms: f64,
}

/// The rows of a run, ready to be shown: one line a model, mean and standard deviation over the
/// seeds.
#[derive(Clone, Debug)]
pub struct Table {
    cells: Vec<Vec<String>>,
    seeds: usize,
}

impl Table {
    /// A table of `rows`, in their order, with the metric `primary` before the others and latencies
    /// compared with the model called `teacher`.
    pub fn new(rows: &[Row], primary: &str, teacher: &str) -> Self {
        let groups = by_name(rows, |row| &row.name);
        let mut metrics: Vec<&str> = rows
            .iter()
            .flat_map(|row| row.metrics.keys().map(String::as_str))
            .collect();
        metrics.sort_unstable_by_key(|metric| (*metric != primary, *metric));
        metrics.dedup();
        let latency =
            |group: &[&Row]| mean(&group.iter().map(|row| row.latency_ms).collect::<Vec<_>>());
        let baseline = groups
            .iter()
            .find(|(name, _)| *name == teacher)
            .map(|(_, group)| latency(group));

        let mut cells = vec![header(&metrics, teacher)];
        for (name, group) in &groups {
            let mut line = vec![(*name).to_owned()];
            for metric in &metrics {
                let scores: Vec<f64> = group
                    .iter()
                    .filter_map(|row| row.metrics.get(*metric).copied())
                    .collect();
                line.push(score(&scores));
            }
            // Sizes follow from the architecture: they are the same for all seeds.
            line.push(count(group[0].parameters));
            line.push(count(group[0].active_parameters));
            line.push(count(group[0].multiply_adds_per_token));
            line.push(format!("{:.2}", latency(group)));
            line.push(baseline.map_or_else(
                || "-".to_owned(),
                |baseline| format!("{:.2}x", latency(group) / baseline),
            ));
            cells.push(line);
        }
        Self::from_cells(cells, groups.iter().map(|(_, group)| group.len()).max())
    }

    /// A table of texts, its header first; `seeds` are those that a line joins.
    pub(crate) fn from_cells(cells: Vec<Vec<String>>, seeds: Option<usize>) -> Self {
        let seeds = seeds.unwrap_or(0);
        Self { cells, seeds }
    }

    /// The table as aligned text, for a terminal.
    pub fn to_text(&self) -> String {
        let mut text = aligned(&self.cells);
        text.push_str(&self.note());
        text
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
        let note = self.note();
        if note.is_empty() {
            text
        } else {
            format!("{text}\n{note}")
        }
    }

    fn note(&self) -> String {
        match self.seeds {
            0 | 1 => String::new(),
            seeds => format!("mean ± standard deviation over {seeds} seeds\n"),
        }
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

fn header(metrics: &[&str], teacher: &str) -> Vec<String> {
    let mut header = vec!["model".to_owned()];
    header.extend(metrics.iter().map(ToString::to_string));
    header.extend(["parameters", "active", "multiply-adds/token", "latency ms"].map(str::to_owned));
    header.push(format!("vs {teacher}"));
    header
}

/// `cells` in columns of equal width: the first to the left, numbers to the right.
pub(crate) fn aligned(cells: &[Vec<String>]) -> String {
    let columns = cells.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        cells
            .iter()
            .filter_map(|line| line.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..columns)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let mut text = String::new();
    for line in cells {
        let padded: Vec<String> = line
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Mean and sample standard deviation of scores: fractions with four digits, percentages with two. What has no value
/// for a seed has none for all of them.
pub(crate) fn score(values: &[f64]) -> String {
    if values.is_empty() {
        return "-".to_owned();
    }
    let mean = mean(values);
    if mean.is_nan() {
        return UNDEFINED.to_owned();
    }
    let digits = if mean.abs() > 1.0 { 2 } else { 4 };
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
    const UNITS: [&str; 6] = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    // What would be shown as 1024 is 1 of the next unit.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0);
    format!("{value:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, seed: u64, accuracy: f64, latency_ms: f64) -> Row {
        Row {
            name: name.to_owned(),
            seed,
            metrics: Scores::from([
                ("accuracy".to_owned(), accuracy),
                ("a_second".to_owned(), 80.5),
            ]),
            parameters: 109_500_000,
            active_parameters: 66_400,
            multiply_adds_per_token: 850,
            latency_ms,
        }
    }

    fn table() -> Table {
        let rows = [
            row("teacher", 1, 0.9, 10.0),
            row("importance", 1, 0.8, 5.0),
            row("teacher", 2, 0.92, 12.0),
            row("importance", 2, 0.8, 6.0),
        ];
        Table::new(&rows, "accuracy", "teacher")
    }

    #[test]
    fn seeds_are_joined_and_latency_is_compared_with_the_teacher() {
        let text = table().to_text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "model              accuracy      a_second  parameters  active  multiply-adds/token  latency ms  vs teacher"
        );
        assert_eq!(
            lines[1],
            "teacher     0.9100 ± 0.0141  80.50 ± 0.00      109.5M   66.4k                  850       11.00       1.00x"
        );
        assert!(
            lines[2].starts_with("importance  0.8000 ± 0.0000") && lines[2].ends_with("0.50x"),
            "{text}"
        );
        assert_eq!(lines[3], "mean ± standard deviation over 2 seeds");
    }

    #[test]
    fn one_seed_has_no_spread() {
        let text = Table::new(&[row("teacher", 1, 0.9, 10.0)], "accuracy", "teacher").to_text();
        assert!(text.contains(" 0.9000 ") && !text.contains('±'), "{text}");
    }

    #[test]
    fn markdown_has_a_rule_under_its_header() {
        let text = table().to_markdown();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("| model | accuracy | a_second |"));
        assert_eq!(lines[1], "|---|---:|---:|---:|---:|---:|---:|---:|");
        assert_eq!(lines[1].matches('|').count(), lines[2].matches('|').count());
    }

    #[test]
    fn without_a_teacher_there_is_no_ratio() {
        let text = Table::new(&[row("alone", 1, 0.9, 10.0)], "accuracy", "teacher").to_text();
        assert!(
            text.lines().nth(1).is_some_and(|line| line.ends_with(" -")),
            "{text}"
        );
    }

    #[test]
    fn a_row_has_the_documented_form() {
        let json = serde_json::to_value(row("teacher", 1, 0.9, 10.0)).expect("JSON");
        let keys: Vec<&str> = json
            .as_object()
            .expect("an object")
            .keys()
            .map(String::as_str)
            .collect();
        let expected = [
            "name",
            "seed",
            "metrics",
            "parameters",
            "active_parameters",
            "multiply_adds_per_token",
            "latency_ms",
        ];
        assert_eq!(keys, expected);
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
