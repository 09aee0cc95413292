//! The predictions of an evaluation as tables, one per split: what the files of its stage say, one row per example.

mod answers;
mod split;

use std::{fmt::Display, path::Path};

use moebert_core::file::{self, FileError};
use serde_json::{Map, Value};

use self::answers::Answers;
pub use self::split::split_of;
use super::{
    error::ExportError,
    long_table::{Column, LongTable},
};
use crate::{
    examples::{Examples, Parts},
    graph::Done,
    json_file,
    predictions::PREDICTIONS,
};

/// The version of the tables' columns.
const SCHEMA: &str = "1";
/// The record in the folder of a stage.
const DONE: &str = "done.json";

/// The predictions of one split.
#[derive(Clone, Debug, PartialEq)]
pub struct SplitTable {
    /// The split ([`split_of`]).
    pub split: String,
    /// One row per example, in the order of the data.
    pub table: LongTable,
    /// What the table is of: its schema, the stage's key, the task and the metrics that are columns, with commas between.
    pub metadata: [(&'static str, String); 4],
}

/// The predictions of the evaluation in a stage's folder, by split. Columns that a task has nothing for are null.
///
/// | column | type | meaning |
/// |---|---|---|
/// | `example` | string | the task's own id, otherwise `SPLIT:LINE` |
/// | `group` | string | what it shares with other examples: a passage, a sequence |
/// | `label`, `prediction` | int32, float32 or string | what is right, where the stage keeps it, and the answer |
/// | `scores` | list of float32 | the probabilities of at most 8 classes |
/// | one per metric that is a mean | float64 | the value of the example; null where it does not count |
/// | `nats`, `bytes`, `tokens`, `start` | float64, int64 | for text: a document's negative log-likelihood, length and first token |
///
/// # Errors
///
/// If a file of the stage cannot be read or is damaged.
pub fn of_stage(folder: &Path) -> Result<Vec<SplitTable>, ExportError> {
    let done = Done::of_folder(folder)?;
    let key = done
        .document
        .key()
        .map_err(|error| FileError::entry(&folder.join(DONE), "document", error))?;
    let task = task(&done.document.settings);
    let path = folder.join(PREDICTIONS);
    let rows: Vec<Value> = json_file::lines(&path, &file::read(&path)?)?;
    let splits = Examples::read(folder)?;
    let expected: usize = splits.iter().map(|split| split.ids.len()).sum();
    if expected != rows.len() {
        let problem = format!("has {} lines for {expected} examples", rows.len());
        return Err(FileError::entry(&path, "predictions", problem).into());
    }
    let mut rows = rows.as_slice();
    let mut tables = vec![];
    for split in &splits {
        let (own, others) = rows.split_at(split.ids.len());
        rows = others;
        tables.push(table(split, own, &task, &key.to_string(), &path)?);
    }
    Ok(tables)
}

/// The task's name, by what an evaluation reads.
fn task(settings: &Map<String, Value>) -> String {
    let reading = settings.get("reading").unwrap_or(&Value::Null);
    let name = reading["task"].as_str();
    let name = name.or_else(|| reading["data"]["task"].as_str());
    name.unwrap_or_default().to_owned()
}

fn table(
    examples: &Examples,
    rows: &[Value],
    task: &str,
    stage: &str,
    path: &Path,
) -> Result<SplitTable, ExportError> {
    let damaged = |problem: &dyn Display| FileError::entry(path, "predictions", problem);
    let answers = Answers::of(examples, rows).map_err(|problem| damaged(&problem))?;
    let metric = examples.metrics.keys().next();
    let split = metric.map_or_else(|| split_of(""), |metric| split_of(metric));
    let count = examples.ids.len();
    let ids = examples.ids.iter().map(|id| {
        let is_place = answers.ids_are_places;
        Some(if is_place {
            format!("{split}:{id}")
        } else {
            id.clone()
        })
    });
    let groups = match examples.groups.as_slice() {
        [] => vec![None; count],
        groups => groups.iter().cloned().map(Some).collect(),
    };
    let mut columns = vec![
        ("example".to_owned(), Column::Text(ids.collect())),
        ("group".to_owned(), Column::Text(groups)),
        ("label".to_owned(), answers.labels),
        ("prediction".to_owned(), answers.predictions),
        ("scores".to_owned(), Column::Reals32(answers.scores)),
    ];
    let mut metrics = vec![];
    for (name, parts) in &examples.metrics {
        if let Parts::Mean(values) | Parts::Percent(values) = parts {
            columns.push((name.clone(), Column::Real(values.clone())));
            metrics.push(name.as_str());
        }
    }
    columns.push(("nats".to_owned(), Column::Real(answers.nats)));
    for (name, cells) in [
        ("bytes", answers.bytes),
        ("tokens", answers.tokens),
        ("start", answers.starts),
    ] {
        columns.push((name.to_owned(), Column::Whole(cells)));
    }
    let metadata = [
        ("kiln.schema", SCHEMA.to_owned()),
        ("kiln.stage", stage.to_owned()),
        ("kiln.task", task.to_owned()),
        ("kiln.metrics", metrics.join(",")),
    ];
    Ok(SplitTable {
        split: split.to_owned(),
        table: LongTable::new(columns)?,
        metadata,
    })
}

#[cfg(test)]
mod tests;
