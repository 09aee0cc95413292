//! The results of a bench: as JSON, as a table, and as a chart.

use std::path::Path;

use moebert_core::file::{self, FileError};
use serde::{Deserialize, Serialize};

use super::{BenchRow, machine};
use crate::{
    chart::{Axis, Chart, Series},
    environment::Environment,
    error::Error,
    table::{Table, by_name, memory},
};

/// What a bench measured, and where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The bench, such as `attention`.
    pub bench: String,
    /// What the sizes of its cases count, such as `tokens`.
    pub unit: String,
    /// Where it ran.
    pub environment: Environment,
    /// The cases, those of the machine itself before the others.
    pub rows: Vec<BenchRow>,
}

impl Report {
    /// A report that was saved.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or is no report.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = file::read(path)?;
        serde_json::from_slice(&bytes).map_err(|source| {
            let path = path.to_owned();
            FileError::Json { path, source }.into()
        })
    }

    /// The report as [`Self::read`] reads it.
    pub fn to_json(&self) -> String {
        // Names, numbers and lists of them always have a form in JSON.
        let json = serde_json::to_string_pretty(self);
        json.unwrap_or_default() + "\n"
    }

    /// Where the numbers come from, in Markdown.
    pub fn origin(&self) -> String {
        let Environment {
            kiln,
            burn,
            system,
            device,
            cpus,
            command,
            ..
        } = &self.environment;
        let quoted = |argument: &String| {
            if argument.contains(' ') {
                format!("\"{argument}\"")
            } else {
                argument.clone()
            }
        };
        let arguments = command.get(1..).unwrap_or_default().iter().map(quoted);
        let arguments = arguments.collect::<Vec<_>>().join(" ");
        format!(
            "`kiln {arguments}`, kiln {kiln} and Burn {burn} on {device}, {system}, {cpus} CPUs. \
             Numbers have 32 bits."
        )
    }

    /// The row of a case.
    pub fn row(&self, name: &str, size: usize) -> Option<&BenchRow> {
        let mut rows = self.rows.iter();
        rows.find(|row| row.name == name && row.size == size)
    }

    /// One line per case.
    pub fn table(&self) -> Table {
        let has_tokens = self.rows.iter().any(|row| row.work.tokens > 0);
        let mut header = vec![
            "case",
            &self.unit,
            "ms",
            "quartiles",
            "of peak",
            "peak memory",
        ];
        header.extend(has_tokens.then_some("tokens/s"));
        let lines = self.rows.iter().map(|row| {
            let time = &row.time;
            let size = if row.size == 0 {
                String::new()
            } else {
                row.size.to_string()
            };
            let quartiles = [time.lower_quartile_ms, time.upper_quartile_ms].map(milliseconds);
            let mut cells = vec![
                row.name.clone(),
                size,
                milliseconds(time.median_ms),
                quartiles.join(" to "),
                format!("{:.0} %", 100.0 * self.share_of_peak(row)),
                memory(row.peak_bytes),
            ];
            if has_tokens {
                let rate = row.work.tokens as f64 * 1e3 / time.median_ms;
                cells.push(if row.work.tokens > 0 {
                    format!("{rate:.0}")
                } else {
                    String::new()
                });
            }
            cells
        });
        let header = header.into_iter().map(str::to_owned).collect();
        Table::from_cells(std::iter::once(header).chain(lines).collect())
    }

    /// How a case grows from each size to the next one: the factors of time and memory.
    ///
    /// Cases of one size alone are left out; `None` if there are no others.
    pub fn growth(&self) -> Option<Table> {
        let mut cells = vec![
            ["case", &self.unit, "time", "peak memory"]
                .map(str::to_owned)
                .to_vec(),
        ];
        for rows in self.groups() {
            for pair in rows.windows(2) {
                let [from, to] = [pair[0], pair[1]];
                let time = to.time.median_ms / from.time.median_ms;
                let memory = to.peak_bytes as f64 / from.peak_bytes.max(1) as f64;
                cells.push(vec![
                    to.name.clone(),
                    format!("{} to {}", from.size, to.size),
                    format!("{time:.2}x"),
                    format!("{memory:.2}x"),
                ]);
            }
        }
        (cells.len() > 1).then(|| Table::from_cells(cells))
    }

    /// The time, or the memory, of each case by its size; `None` where nothing has several sizes.
    pub fn chart(&self, title: &str, of: Measure) -> Option<Chart> {
        let series: Vec<Series> = self
            .groups()
            .into_iter()
            .map(|rows| Series {
                name: rows[0].name.clone(),
                points: rows
                    .iter()
                    .map(|row| (row.size as f64, of.of(row)))
                    .collect(),
            })
            .collect();
        (!series.is_empty()).then(|| Chart {
            title: title.to_owned(),
            x: Axis::log(&self.unit),
            y: Axis::log(of.label()),
            series,
        })
    }

    /// The least time in which the machine could do the work, as a share of the time taken.
    fn share_of_peak(&self, row: &BenchRow) -> f64 {
        let rate = |name: &str, amount: fn(&BenchRow) -> u64| {
            let row = self.rows.iter().find(|row| row.name == name)?;
            Some(amount(row) as f64 / row.time.median_ms)
        };
        let multiply_adds = |row: &BenchRow| row.work.multiply_adds;
        let bytes = |row: &BenchRow| row.work.bytes;
        let least = [
            rate(machine::PRODUCT, multiply_adds).map(|rate| multiply_adds(row) as f64 / rate),
            rate(machine::COPY, bytes).map(|rate| bytes(row) as f64 / rate),
        ];
        let least = least.into_iter().flatten().fold(0.0, f64::max);
        least / row.time.median_ms
    }

    /// The rows of each case, by their sizes; the machine's own are left out.
    fn groups(&self) -> Vec<Vec<&BenchRow>> {
        let groups = by_name(&self.rows, |row| &row.name).into_iter();
        groups
            .filter(|(_, rows)| rows.len() > 1 && !rows[0].is_machine())
            .map(|(_, mut rows)| {
                rows.sort_by_key(|row| row.size);
                rows
            })
            .collect()
    }
}

/// What a chart shows of a case.
#[derive(Clone, Copy, Debug)]
pub enum Measure {
    /// The median time.
    Time,
    /// The most memory.
    Memory,
}

impl Measure {
    fn of(self, row: &BenchRow) -> f64 {
        match self {
            Self::Time => row.time.median_ms,
            Self::Memory => row.peak_bytes as f64 / f64::from(1 << 20),
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Time => "time (ms)",
            Self::Memory => "peak memory (MiB)",
        }
    }
}

/// A time with three digits or more.
pub(super) fn milliseconds(value: f64) -> String {
    match value {
        _ if value < 10.0 => format!("{value:.2}"),
        _ if value < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::bench::{Timing, Work};

    pub(in crate::bench) fn row(name: &str, size: usize, median_ms: f64) -> BenchRow {
        BenchRow {
            name: name.to_owned(),
            size,
            time: Timing {
                median_ms,
                lower_quartile_ms: median_ms * 0.9,
                upper_quartile_ms: median_ms * 1.1,
                passes: 9,
            },
            work: Work {
                multiply_adds: 1000 * size as u64,
                bytes: 10 * size as u64,
                tokens: 0,
            },
            peak_bytes: size as u64 * 1024,
        }
    }

    pub(in crate::bench) fn report(rows: Vec<BenchRow>) -> Report {
        Report {
            bench: "attention".to_owned(),
            unit: "tokens".to_owned(),
            environment: Environment::capture("flex", &[]),
            rows,
        }
    }

    fn example() -> Report {
        report(vec![
            row(machine::PRODUCT, 1024, 1.0),
            row(machine::COPY, 1024, 2.0),
            row("full, forward", 1024, 4.0),
            row("full, forward", 2048, 16.0),
        ])
    }

    #[test]
    fn a_case_is_compared_with_the_bound_that_holds_it() {
        let text = example().table().to_text();
        let lines: Vec<&str> = text.lines().collect();
        // The product's rate is 1,024,000 a ms, the copy's 5,120 bytes: 1,024,000 and 10,240 take 1 and 2.
        assert!(lines[3].contains("4.00  3.60 to 4.40     50 %"), "{text}");
        assert!(lines[1].contains("200 %"), "{text}");
        assert!(!text.contains("tokens/s"), "{text}");
    }

    #[test]
    fn growth_is_from_size_to_size_of_one_case() {
        let text = example().growth().unwrap().to_text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(
            lines[1].contains("1024 to 2048") && lines[1].contains("4.00x"),
            "{text}"
        );
        assert!(lines[1].ends_with("2.00x"), "{text}");
        assert!(report(vec![row("gelu", 0, 1.0)]).growth().is_none());
    }

    #[test]
    fn the_chart_has_a_line_for_each_case_with_several_sizes() {
        let chart = example().chart("Attention", Measure::Memory).unwrap();
        assert_eq!(chart.series.len(), 1);
        assert_eq!(chart.series[0].points, [(1024.0, 1.0), (2048.0, 2.0)]);
    }

    #[test]
    fn a_saved_report_is_read_as_it_was() {
        let report = example();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("attention.json");
        file::write(&path, report.to_json().as_bytes()).unwrap();
        assert_eq!(Report::read(&path).unwrap(), report);
        std::fs::write(&path, "{\"bench\": 1}").unwrap();
        let line = Report::read(&path).unwrap_err().line();
        assert!(line.contains("attention.json"), "{line}");
    }
}
