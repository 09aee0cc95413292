//! The metrics of a stage as JSON lines, with one number per line.

mod sums;

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use burn::train::{
    logger::MetricLogger,
    metric::{
        MetricDefinition, MetricId, NumericEntry,
        store::{EpochSummary, MetricsUpdate, Split},
    },
};
use moebert_core::file::write_whole;
use serde::{Deserialize, Serialize};

use self::sums::{Recent, Values};
pub(crate) use self::sums::{SharedSums, Sums};
use crate::{StageError, checkpoint::Position};

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Line {
    /// The epoch, from 1.
    epoch: usize,
    /// Optimiser steps taken in the whole training.
    step: usize,
    /// `train` or `valid`.
    split: String,
    /// The metric.
    name: String,
    /// Its mean over the steps since the line before, or over the epoch if `last`.
    value: f64,
    /// Whether this is the value of the whole epoch.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    last: bool,
}

/// How often and from where on metrics are written.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    /// Optimiser steps between two lines of a training metric.
    pub every: usize,
    /// Batches per optimiser step.
    pub accumulation: usize,
    /// Where the training goes on: later lines are of batches that are run again.
    pub position: Position,
    /// Optimiser steps taken by then.
    pub step: usize,
    /// The metrics of the epoch that the training goes on in.
    pub sums: Option<Sums>,
}

/// An error while writing, for the training to find; clones share it.
#[derive(Clone, Default)]
pub(crate) struct LogFailure(Arc<Mutex<Option<io::Error>>>);

impl LogFailure {
    pub fn take(&self) -> Option<io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, error: io::Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}

/// Writes `metrics.jsonl` and answers the questions of early stopping from it, so that they have the
/// same answers after a stop.
pub(crate) struct MetricLog {
    file: File,
    failure: LogFailure,
    pace: Pace,
    names: HashMap<MetricId, String>,
    /// The values of whole epochs by split, epoch and name.
    epochs: HashMap<(String, usize, String), f64>,
    /// The metrics of the latest epoch's training.
    sums: Sums,
    /// Whether that training is over.
    is_over: bool,
    shared: SharedSums,
}

impl MetricLog {
    /// Opens the file for appending, without the lines of batches that are run again.
    pub fn open(
        path: &Path,
        mut pace: Pace,
        failure: LogFailure,
        shared: SharedSums,
    ) -> Result<Self, StageError> {
        let at = |source| StageError::File {
            path: PathBuf::from(path),
            source,
        };
        let lines = keep_lines(path, &pace).map_err(at)?;
        let file = OpenOptions::new().append(true).open(path).map_err(at)?;
        let epochs = lines
            .into_iter()
            .filter(|line| line.last)
            .map(|line| ((line.split, line.epoch, line.name), line.value))
            .collect();
        let sums = pace.sums.take().unwrap_or(Sums {
            start: pace.step,
            ..Sums::default()
        });
        shared.lock().sums = sums.clone();
        Ok(Self {
            file,
            failure,
            pace,
            names: HashMap::new(),
            epochs,
            sums,
            is_over: false,
            shared,
        })
    }

    fn step(&self) -> usize {
        self.sums.start + self.sums.batches.div_ceil(self.pace.accumulation)
    }

    fn write(&mut self, line: &Line) {
        // JSON has no number for what is not finite.
        if line.value.is_finite()
            && let Err(error) = write_line(&mut self.file, line)
        {
            self.failure.set(error);
        }
    }

    fn write_means(&mut self, epoch: usize, split: &Split) {
        for (name, sum) in std::mem::take(&mut self.sums.since_line) {
            self.write(&Line {
                epoch,
                step: self.step(),
                split: split.to_string(),
                name,
                value: sum.mean(),
                last: false,
            });
        }
    }

    /// Counts a training batch.
    fn add_batch(&mut self, batch: Values, epoch: usize, split: &Split) {
        if std::mem::take(&mut self.is_over) {
            self.sums = Sums {
                start: self.step(),
                ..Sums::default()
            };
            *self.shared.lock() = Recent {
                sums: self.sums.clone(),
                batches: vec![],
            };
        }
        self.sums.add(&batch);
        let group = self.pace.accumulation;
        if self.sums.batches.is_multiple_of(self.pace.every * group) {
            self.write_means(epoch, split);
        }
        let mut recent = self.shared.lock();
        if self.sums.batches.is_multiple_of(group) {
            *recent = Recent {
                sums: self.sums.clone(),
                batches: vec![],
            };
        } else {
            recent.batches.push(batch);
        }
    }
}

/// Rewrites the file with the readable lines up to where the training goes on; returns them.
fn keep_lines(path: &Path, pace: &Pace) -> io::Result<Vec<Line>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    // A kill can leave half a line, and only as the last one.
    let lines: Vec<Line> = text
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .filter(|line: &Line| {
            let is_of_epoch = line.epoch == pace.position.epoch;
            line.epoch < pace.position.epoch || is_of_epoch && !line.last && line.step <= pace.step
        })
        .collect();
    let mut kept = Vec::new();
    for line in &lines {
        write_line(&mut kept, line)?;
    }
    write_whole(path, &kept)?;
    Ok(lines)
}

fn write_line(file: &mut impl Write, line: &Line) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    file.write_all(&text)
}

impl MetricLogger for MetricLog {
    fn log(&mut self, update: MetricsUpdate, epoch: usize, split: &Split) {
        let mut batch: Option<Values> = None;
        for metric in update.entries_numeric {
            let Some(name) = self.names.get(&metric.entry.metric_id).cloned() else {
                continue;
            };
            // Only the value of a whole epoch comes without a running value.
            match (metric.numeric_entry, metric.running_entry) {
                (Some(value), None) => {
                    // burn-train has seen the batches since the training went on alone.
                    let value = match self.sums.of_epoch.get(&name) {
                        Some(sum) if *split == Split::Train => sum.mean(),
                        _ => value.current(),
                    };
                    let line = Line {
                        epoch,
                        step: self.step(),
                        split: split.to_string(),
                        name: name.clone(),
                        value,
                        last: true,
                    };
                    self.write(&line);
                    if value.is_finite() {
                        self.epochs.insert((split.to_string(), epoch, name), value);
                    }
                }
                (value, _) if *split == Split::Train => {
                    let batch = batch.get_or_insert_default();
                    if let Some(value) = value
                        && value.current().is_finite()
                    {
                        let weight = match value {
                            NumericEntry::Aggregated { count, .. } => count,
                            NumericEntry::Value(_) | NumericEntry::Final(_) => 1,
                        };
                        batch.push((name, value.current(), weight));
                    }
                }
                _ => {}
            }
        }
        if let Some(batch) = batch {
            self.add_batch(batch, epoch, split);
        }
    }

    fn read_numeric(
        &mut self,
        name: &str,
        epoch: usize,
        split: &Split,
    ) -> Result<Vec<NumericEntry>, String> {
        let key = (split.to_string(), epoch, name.to_owned());
        let value = self.epochs.get(&key).copied().map(NumericEntry::Final);
        Ok(value.into_iter().collect())
    }

    fn log_metric_definition(&mut self, definition: MetricDefinition) {
        self.names
            .insert(definition.metric_id, definition.name.to_string());
    }

    fn log_epoch_summary(&mut self, summary: EpochSummary) {
        self.is_over |= summary.split == Split::Train;
    }
}
