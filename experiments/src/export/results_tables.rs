//! `results`, `comparisons` and `timings`: what `results.json` and `timings.json` of a run say, as long tables.

use std::{collections::BTreeMap, path::Path};

use serde::Serialize;
use serde_json::Value;

use super::{
    long_table::{Column, LongTable, TableError},
    predictions::split_of,
};
use crate::{
    ablate::{compare::Comparison, statistics::ComparisonStatistics},
    graph::Key,
    results::{ArmResults, Latencies, Results, SeedResults, StageTime, Timings},
};

/// The files of the tables, without their ends.
pub const NAMES: [&str; 3] = ["results", "comparisons", "timings"];

/// The tables of a run with their names.
///
/// # Errors
///
/// If a key of an arm is there twice.
pub fn tables(
    results: &Results,
    timings: &Timings,
) -> Result<[(&'static str, LongTable); 3], TableError> {
    let [of_results, of_comparisons, of_timings] = NAMES;
    Ok([
        (of_results, of_arms(results)?),
        (of_comparisons, comparisons(&results.comparisons)?),
        (of_timings, times(results, timings)?),
    ])
}

/// What the files of the tables say of themselves.
pub fn metadata(results: &Results) -> [(&'static str, &str); 2] {
    [("kiln.schema", "1"), ("kiln.run", results.run.as_str())]
}

/// Writes the tables of a run into its folder, each as CSV and as Parquet. The same results make the same bytes; times are in
/// `timings` alone.
///
/// # Errors
///
/// As [`tables`], or if a file cannot be written.
pub fn write(folder: &Path, results: &Results, timings: &Timings) -> Result<(), TableError> {
    for (name, table) in tables(results, timings)? {
        table.write_csv(&folder.join(format!("{name}.csv")))?;
        let path = folder.join(format!("{name}.parquet"));
        table.write_parquet(&path, &metadata(results))?;
    }
    Ok(())
}

/// Columns of the same rows, by what each row has in them.
struct Columns<'a, T> {
    rows: &'a [T],
    columns: Vec<(String, Column)>,
}

impl<'a, T> Columns<'a, T> {
    fn of(rows: &'a [T]) -> Self {
        let columns = vec![];
        Self { rows, columns }
    }

    fn text(mut self, name: &str, cell: impl Fn(&T) -> Option<String>) -> Self {
        let cells = self.rows.iter().map(cell).collect();
        self.columns.push((name.to_owned(), Column::Text(cells)));
        self
    }

    fn real(mut self, name: &str, cell: impl Fn(&T) -> Option<f64>) -> Self {
        let cells = self.rows.iter().map(cell).collect();
        self.columns.push((name.to_owned(), Column::Real(cells)));
        self
    }

    fn whole(mut self, name: &str, cell: impl Fn(&T) -> Option<i64>) -> Self {
        let cells = self.rows.iter().map(cell).collect();
        self.columns.push((name.to_owned(), Column::Whole(cells)));
        self
    }

    /// A column of the type that all its values have.
    fn value(self, name: &str, cell: impl Fn(&T) -> Option<&'a Value>) -> Self {
        let all = |is: fn(&Value) -> bool| self.rows.iter().filter_map(&cell).all(is);
        if all(Value::is_i64) {
            self.whole(name, |row| cell(row)?.as_i64())
        } else if all(Value::is_number) {
            self.real(name, |row| cell(row)?.as_f64())
        } else {
            self.text(name, |row| cell(row).map(shown))
        }
    }
}

/// A string as it is, anything else as JSON.
fn shown(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// The word for a choice, as in `results.json`.
fn word(choice: impl Serialize) -> Option<String> {
    let value = serde_json::to_value(choice).ok()?;
    value.as_str().map(str::to_owned)
}

/// A value of a model, or none of one that is not done.
struct Line<'a> {
    arm: &'a ArmResults,
    seed: &'a SeedResults,
    metric: Option<(&'a str, f64)>,
}

/// One row per arm, seed and metric; one without a metric for a seed that is not done.
fn of_arms(results: &Results) -> Result<LongTable, TableError> {
    let mut lines = vec![];
    for arm in &results.arms {
        for seed in &arm.seeds {
            let metrics = seed.metrics.iter();
            let metrics = metrics.map(|(name, value)| Some((name.as_str(), *value)));
            let mut metrics: Vec<_> = metrics.collect();
            if metrics.is_empty() {
                metrics.push(None);
            }
            lines.extend(metrics.into_iter().map(|metric| Line { arm, seed, metric }));
        }
    }
    let columns = Columns::of(&lines)
        .text("arm", |line| Some(line.arm.name.clone()))
        .text("reference", |_| results.reference.clone())
        .whole("seed", |line| Some(line.seed.seed as i64))
        .text("metric", |line| Some(line.metric?.0.to_owned()))
        .text("split", |line| Some(split_of(line.metric?.0).to_owned()))
        .real("value", |line| Some(line.metric?.1))
        .whole("examples", |line| {
            Some(*line.seed.examples.get(line.metric?.0)? as i64)
        })
        .text("stage", |line| {
            last_stage(line.seed).map(ToString::to_string)
        })
        .text("status", |line| word(line.seed.status));
    let columns = keys_that_differ(results)
        .into_iter()
        .fold(columns, |columns, key| {
            columns.value(&format!("key.{key}"), |line| line.arm.set.get(key))
        });
    LongTable::new(columns.columns)
}

/// The stage that judged a model; of one that is not judged, the one that trained it.
pub(super) fn last_stage(seed: &SeedResults) -> Option<&Key> {
    let stage = stage_of(seed, "evaluate").or_else(|| stage_of(seed, "train"));
    stage.map(|(_, key)| key)
}

/// The stage that does something for a model, with its name in the model's folder. That of an arm that a search ends early says after how many
/// epochs: `train-after-3`.
pub(super) fn stage_of<'a>(seed: &'a SeedResults, what: &str) -> Option<(&'a str, &'a Key)> {
    let mut stages = seed.stages.iter().map(|(name, key)| (name.as_str(), key));
    stages.find(|(name, _)| {
        let rest = name.strip_prefix(what);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    })
}

/// The keys that arms give different values, in the order in which they first come.
fn keys_that_differ(results: &Results) -> Vec<&str> {
    let arms = || results.arms.iter().filter(|arm| arm.is_arm);
    let mut keys: Vec<&str> = vec![];
    for key in arms().flat_map(|arm| arm.set.keys()) {
        if !keys.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    keys.retain(|key| {
        let mut values = arms().map(|arm| arm.set.get(*key));
        let first = values.next().flatten();
        values.any(|value| value != first)
    });
    keys
}

/// One row per comparison. Numbers are null where arms could not be compared.
fn comparisons(rows: &[Comparison]) -> Result<LongTable, TableError> {
    let real = |read: fn(&ComparisonStatistics) -> Option<f64>| {
        move |row: &Comparison| row.statistics.as_ref().and_then(read)
    };
    let columns = Columns::of(rows)
        .text("arm", |row| Some(row.arm.clone()))
        .text("reference", |row| Some(row.reference.clone()))
        .text("metric", |row| Some(row.metric.clone()))
        .whole("seeds", |row| Some(row.seeds as i64))
        .whole("examples", |row| Some(row.examples as i64))
        .real("difference", real(|found| Some(found.difference)))
        .real("se", real(|found| Some(found.se)))
        .real("df", real(|found| found.df))
        .real("low", real(|found| found.low))
        .real("high", real(|found| found.high))
        .real("simultaneous_low", real(|found| found.simultaneous.low))
        .real("simultaneous_high", real(|found| found.simultaneous.high))
        .real(
            "alpha_star",
            real(|found| Some(found.simultaneous.alpha_star.value())),
        )
        .real("percentile_low", real(|found| Some(found.percentile?.low)))
        .real(
            "percentile_high",
            real(|found| Some(found.percentile?.high)),
        )
        .real("p_sign_flip", real(|found| Some(found.p_sign_flip)))
        .real("p_adjusted", real(|found| Some(found.p_adjusted)))
        .real("p_crossed", real(|found| Some(found.p_crossed)))
        .whole("gained", |row| changed(row, |test| test.0))
        .whole("lost", |row| changed(row, |test| test.1))
        .whole("needs_seeds_at_least", |row| {
            Some(row.statistics.as_ref()?.needs.seeds_at_least as i64)
        })
        .whole("needs_seeds", |row| {
            Some(row.statistics.as_ref()?.needs.seeds? as i64)
        })
        .real(
            "needs_examples_alone",
            real(|found| found.needs.examples_alone),
        )
        .text("verdict", |row| word(row.verdict.kind))
        .text("sentence", |row| Some(row.verdict.sentence.clone()));
    LongTable::new(columns.columns)
}

/// The examples gained or lost with all seeds.
fn changed(row: &Comparison, side: fn((usize, usize)) -> usize) -> Option<i64> {
    let tests = row
        .mcnemar
        .iter()
        .map(|test| side((test.gained, test.lost)) as i64);
    (!row.mcnemar.is_empty()).then(|| tests.sum())
}

/// A stage, or a pass of a model.
enum Timed<'a> {
    Stage(&'a StageTime),
    Pass(&'a Latencies, usize),
}

impl<'a> Timed<'a> {
    fn stage(&self) -> Option<&'a StageTime> {
        match self {
            Self::Stage(stage) => Some(stage),
            Self::Pass(..) => None,
        }
    }
}

/// One row per stage with what it took, and one per forward pass. A stage that several arms share has no arm.
fn times(results: &Results, timings: &Timings) -> Result<LongTable, TableError> {
    let mut owners: BTreeMap<&Key, Vec<&str>> = BTreeMap::new();
    for arm in &results.arms {
        for key in arm.seeds.iter().flat_map(|seed| seed.stages.values()) {
            let names = owners.entry(key).or_default();
            if !names.contains(&arm.name.as_str()) {
                names.push(&arm.name);
            }
        }
    }
    let owner = |key: &Key| match owners.get(key).map(Vec::as_slice) {
        Some([only]) => Some((*only).to_owned()),
        _ => None,
    };
    let stages = timings.stages.iter().map(Timed::Stage);
    let passes = timings.latencies.iter().flat_map(|model| {
        let rounds = 0..model.ms.len();
        rounds.map(move |round| Timed::Pass(model, round))
    });
    let rows: Vec<Timed<'_>> = stages.chain(passes).collect();
    let columns = Columns::of(&rows)
        .text("arm", |row| match row {
            Timed::Stage(stage) => owner(&stage.key),
            Timed::Pass(model, _) => Some(model.arm.clone()),
        })
        .text("stage", |row| Some(row.stage()?.key.to_string()))
        .text("title", |row| Some(row.stage()?.title.clone()))
        .whole("seed", |row| match row {
            Timed::Stage(stage) => Some(stage.seed as i64),
            Timed::Pass(model, _) => Some(model.seed as i64),
        })
        .text("machine", |row| Some(row.stage()?.host.clone()))
        .whole("round", |row| match row {
            Timed::Stage(_) => None,
            Timed::Pass(_, round) => Some(*round as i64),
        })
        .real("ms", |row| match row {
            Timed::Stage(_) => None,
            Timed::Pass(model, round) => model.ms.get(*round).copied(),
        })
        .real("seconds", |row| Some(row.stage()?.seconds))
        .whole("peak_memory", |row| Some(row.stage()?.peak_memory? as i64));
    LongTable::new(columns.columns)
}

#[cfg(test)]
mod tests;
