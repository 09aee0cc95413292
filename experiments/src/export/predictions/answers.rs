//! What a model answered and what is right, by the lines of `predictions.jsonl`.

use serde_json::{Map, Value};

use crate::{
    examples::{Examples, Parts},
    export::long_table::Column,
};

/// The most classes whose probabilities are in a table.
const MAX_SCORES: usize = 8;

/// The columns of answers, one entry per example.
#[derive(Debug)]
pub(super) struct Answers {
    pub labels: Column,
    pub predictions: Column,
    pub scores: Vec<Option<Vec<f32>>>,
    pub nats: Vec<Option<f64>>,
    pub bytes: Vec<Option<i64>>,
    pub tokens: Vec<Option<i64>>,
    /// The first token in its document.
    pub starts: Vec<Option<i64>>,
    /// Whether the names of the examples are places in a file, rather than the task's own.
    pub ids_are_places: bool,
}

/// A line that is none of a prediction: the field that it lacks.
#[derive(Debug, thiserror::Error)]
#[error("line {line} of its split has no `{field}`")]
pub(super) struct Unknown {
    line: usize,
    field: &'static str,
}

impl Answers {
    /// The answers in the lines of a split.
    pub fn of(examples: &Examples, rows: &[Value]) -> Result<Self, Unknown> {
        let first = rows.first().unwrap_or(&Value::Null);
        let has = |field: &str| first.get(field).is_some();
        if has("probabilities") {
            Self::of_classes(examples, rows)
        } else if has("score") {
            let predicted = cells(rows, "score", |value| Some(value.as_f64()? as f32))?;
            let right = right_numbers(examples).unwrap_or_else(|| vec![None; rows.len()]);
            let both = (Column::Real32(right), Column::Real32(predicted));
            Ok(Self::plain(rows.len(), both, true))
        } else if has("right") {
            let number = |value: &Value| i32::try_from(value.as_i64()?).ok();
            let right = Column::Whole32(cells(rows, "right", number)?);
            let answer = Column::Whole32(cells(rows, "answer", number)?);
            Ok(Self::plain(rows.len(), (right, answer), false))
        } else if has("document") {
            Self::of_documents(rows)
        } else {
            let field = if has("summary") { "summary" } else { "answer" };
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let both = (no_text(rows.len()), Column::Text(cells(rows, field, text)?));
            Ok(Self::plain(rows.len(), both, false))
        }
    }

    fn of_classes(examples: &Examples, rows: &[Value]) -> Result<Self, Unknown> {
        const PROBABILITIES: &str = "probabilities";
        let (mut predicted, mut scores, mut classes) = (vec![], vec![], 0);
        for (line, row) in rows.iter().enumerate() {
            let lacks = |field| Unknown {
                line: line + 1,
                field,
            };
            let probabilities: &Map<String, Value> = row[PROBABILITIES]
                .as_object()
                .ok_or_else(|| lacks(PROBABILITIES))?;
            let name = row["label"].as_str();
            let class = probabilities
                .keys()
                .position(|class| Some(class.as_str()) == name);
            predicted.push(class.ok_or_else(|| lacks("label"))?);
            let numbers = probabilities
                .values()
                .map(|value| Some(value.as_f64()? as f32));
            let numbers: Option<Vec<f32>> = numbers.collect();
            let numbers = numbers.ok_or_else(|| lacks(PROBABILITIES))?;
            classes = numbers.len();
            scores.push((classes <= MAX_SCORES).then_some(numbers));
        }
        let right = right_classes(examples, &predicted, classes);
        let labels = right.into_iter().map(|class| Some(class? as i32));
        let predictions = predicted.iter().map(|class| Some(*class as i32));
        let both = (
            Column::Whole32(labels.collect()),
            Column::Whole32(predictions.collect()),
        );
        Ok(Self {
            scores,
            ..Self::plain(rows.len(), both, true)
        })
    }

    fn of_documents(rows: &[Value]) -> Result<Self, Unknown> {
        let count = rows.len();
        Ok(Self {
            nats: cells(rows, "nats", Value::as_f64)?,
            bytes: cells(rows, "bytes", Value::as_i64)?,
            tokens: cells(rows, "tokens", Value::as_i64)?,
            starts: vec![Some(0); count],
            ..Self::plain(count, (no_text(count), no_text(count)), true)
        })
    }

    /// Labels and predictions alone.
    fn plain(count: usize, (labels, predictions): (Column, Column), ids_are_places: bool) -> Self {
        Self {
            labels,
            predictions,
            scores: vec![None; count],
            nats: vec![None; count],
            bytes: vec![None; count],
            tokens: vec![None; count],
            starts: vec![None; count],
            ids_are_places,
        }
    }
}

/// A field of each line.
fn cells<T>(
    rows: &[Value],
    field: &'static str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Vec<Option<T>>, Unknown> {
    let cells = rows.iter().enumerate().map(|(line, row)| {
        let cell = row.get(field).and_then(&read);
        cell.map(Some).ok_or(Unknown {
            line: line + 1,
            field,
        })
    });
    cells.collect()
}

/// No texts.
fn no_text(count: usize) -> Column {
    Column::Text(vec![None; count])
}

/// The right classes, as far as the parts of the metrics tell them: accuracy does where an answer is right, or there are two
/// classes.
fn right_classes(examples: &Examples, predicted: &[usize], classes: usize) -> Vec<Option<usize>> {
    for parts in examples.metrics.values() {
        if let Parts::F1(both) | Parts::Matthews(both) = parts {
            return both.right.iter().copied().map(Some).collect();
        }
    }
    let accuracy = examples.metrics.values().find_map(|parts| match parts {
        Parts::Mean(values) => Some(values.as_slice()),
        _ => None,
    });
    let values = accuracy.unwrap_or_default().iter();
    let values = values.copied().chain(std::iter::repeat(None));
    let right = predicted
        .iter()
        .zip(values)
        .map(|(&class, value)| match value {
            Some(1.0) => Some(class),
            Some(0.0) if classes == 2 => Some(1 - class),
            _ => None,
        });
    right.collect()
}

/// The right numbers of a regression.
fn right_numbers(examples: &Examples) -> Option<Vec<Option<f32>>> {
    examples.metrics.values().find_map(|parts| match parts {
        Parts::Pearson(both) | Parts::Spearman(both) => {
            let right = both.right.iter();
            Some(right.map(|number| Some(*number as f32)).collect())
        }
        _ => None,
    })
}
