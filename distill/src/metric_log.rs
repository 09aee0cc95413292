//! The metrics of a stage as JSON lines, one number a line.

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

use crate::StageError;

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
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Optimiser steps between two lines of a training metric.
    pub every: usize,
    /// Batches an optimiser step.
    pub accumulation: usize,
    /// The newest epoch with a checkpoint: later lines are of epochs that are run again.
    pub epoch: usize,
    /// Optimiser steps taken by then.
    pub step: usize,
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
    /// Sums of training metrics since their last line, with their weight.
    sums: HashMap<String, (f64, usize)>,
    /// Training batches of the current epoch.
    batches: usize,
}

impl MetricLog {
    /// Opens the file for appending, without the lines of epochs that are run again.
    pub fn open(path: &Path, pace: Pace, failure: LogFailure) -> Result<Self, StageError> {
        let at = |source| StageError::File {
            path: PathBuf::from(path),
            source,
        };
        let lines = keep_lines(path, pace.epoch).map_err(at)?;
        let file = OpenOptions::new().append(true).open(path).map_err(at)?;
        let epochs = lines
            .into_iter()
            .filter(|line| line.last)
            .map(|line| ((line.split, line.epoch, line.name), line.value))
            .collect();
        Ok(Self {
            file,
            failure,
            pace,
            names: HashMap::new(),
            epochs,
            sums: HashMap::new(),
            batches: 0,
        })
    }

    fn step(&self) -> usize {
        self.pace.step + self.batches.div_ceil(self.pace.accumulation)
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
        let mut sums: Vec<_> = self.sums.drain().collect();
        sums.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, (sum, count)) in sums {
            self.write(&Line {
                epoch,
                step: self.step(),
                split: split.to_string(),
                name,
                value: sum / count as f64,
                last: false,
            });
        }
    }
}

/// Rewrites the file with the readable lines of epochs up to this one; returns them.
fn keep_lines(path: &Path, epoch: usize) -> io::Result<Vec<Line>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    // A kill can leave half a line, and only as the last one.
    let lines: Vec<Line> = text
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .filter(|line: &Line| line.epoch <= epoch)
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
        let mut batch = false;
        for metric in update.entries_numeric {
            let Some(name) = self.names.get(&metric.entry.metric_id).cloned() else {
                continue;
            };
            // Only the value of a whole epoch comes without a running value.
            match (metric.numeric_entry, metric.running_entry) {
                (Some(value), None) => {
                    let value = value.current();
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
                    batch = true;
                    if let Some(value) = value {
                        let count = match value {
                            NumericEntry::Aggregated { count, .. } => count,
                            NumericEntry::Value(_) | NumericEntry::Final(_) => 1,
                        };
                        let sum = self.sums.entry(name).or_default();
                        sum.0 += value.current() * count as f64;
                        sum.1 += count;
                    }
                }
                _ => {}
            }
        }
        if batch {
            self.batches += 1;
            if self
                .batches
                .is_multiple_of(self.pace.every * self.pace.accumulation)
            {
                self.write_means(epoch, split);
            }
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
        if summary.split == Split::Train {
            self.sums.clear();
            self.pace.step = self.step();
            self.batches = 0;
        }
    }
}
