//! What a training measures layer by layer, as JSON lines.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::{self, Write},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use crate::StageError;

/// Later lines are this part of the steps before them apart.
const SHARE: usize = 50;

/// A line of `layers.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerLine {
    /// The epoch, from 1.
    pub epoch: usize,
    /// Optimiser steps taken in the whole training.
    pub step: usize,
    /// What was measured.
    pub name: String,
    /// The layer, from 0; of hidden states their index, where 0 is the output of the embedding.
    pub layer: usize,
    /// Means over the batches since the line before.
    pub values: Vec<f32>,
}

/// Writes `layers.jsonl`, which is there once something was measured. The same training writes the same bytes, however
/// often it is resumed.
#[derive(Debug)]
pub(crate) struct LayerLog {
    path: PathBuf,
    /// The fewest optimiser steps between two lines of a value.
    every: usize,
    state: LayerLogState,
}

/// What a checkpoint must remember of the log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LayerLogState {
    /// The length of the file.
    bytes: u64,
    /// Optimiser steps up to the last lines.
    written: usize,
    /// What was measured since the last lines, by name and layer.
    sums: BTreeMap<String, BTreeMap<usize, Sum>>,
}

/// Values of some batches.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sum {
    values: Vec<f64>,
    batches: usize,
}

impl LayerLog {
    /// The log at `path`, as it was when a checkpoint took its state: what was written later is written again.
    pub fn open(path: PathBuf, every: usize, mut state: LayerLogState) -> Result<Self, StageError> {
        state.bytes = match cut(&path, state.bytes) {
            Ok(bytes) => bytes,
            Err(source) => return Err(StageError::File { path, source }),
        };
        Ok(Self { path, every, state })
    }

    /// What a checkpoint must remember.
    pub fn state(&self) -> &LayerLogState {
        &self.state
    }

    /// Counts what a batch gave.
    pub fn add(&mut self, name: &'static str, layer: usize, values: &[f64]) {
        let layers = self.state.sums.entry(name.to_owned()).or_default();
        let sum = layers.entry(layer).or_default();
        sum.values.resize(values.len(), 0.0);
        for (sum, value) in sum.values.iter_mut().zip(values) {
            *sum += value;
        }
        sum.batches += 1;
    }

    /// Says that so many optimiser steps are taken, and writes if it is time: the later it is, the more seldom, so that the
    /// lines of a long training are hundreds and not thousands for each layer.
    pub fn end_step(&mut self, epoch: usize, step: usize) -> Result<(), StageError> {
        let before = self.state.written;
        if step >= before + self.every.max(before / SHARE) {
            return self.write(epoch, step);
        }
        Ok(())
    }

    /// Writes what is left of an epoch, if anything.
    pub fn write(&mut self, epoch: usize, step: usize) -> Result<(), StageError> {
        self.state.written = step;
        let sums = std::mem::take(&mut self.state.sums);
        let mut text = vec![];
        for (name, layers) in sums {
            for (layer, Sum { values, batches }) in layers {
                let mean = |sum: &f64| (sum / batches as f64) as f32;
                let line = LayerLine {
                    epoch,
                    step,
                    name: name.clone(),
                    layer,
                    values: values.iter().map(mean).collect(),
                };
                // JSON has no number for what is not finite.
                if !line.values.iter().all(|value| value.is_finite()) {
                    continue;
                }
                let written = serde_json::to_writer(&mut text, &line);
                written.map_err(|error| self.failed(error.into()))?;
                text.push(b'\n');
            }
        }
        if text.is_empty() {
            return Ok(());
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path);
        let written = file.and_then(|mut file| file.write_all(&text));
        written.map_err(|source| self.failed(source))?;
        self.state.bytes += text.len() as u64;
        Ok(())
    }

    fn failed(&self, source: io::Error) -> StageError {
        StageError::File {
            path: self.path.clone(),
            source,
        }
    }
}

/// Cuts a file to so many bytes, if it is there and longer; returns its length.
fn cut(path: &PathBuf, bytes: u64) -> io::Result<u64> {
    let file = match OpenOptions::new().write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    if length > bytes {
        file.set_len(bytes)?;
    }
    Ok(length.min(bytes))
}

#[cfg(test)]
mod tests {
    use std::{fs, ops::RangeInclusive};

    use super::*;

    fn lines(path: &PathBuf) -> Vec<LayerLine> {
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn lines_are_means_and_a_resume_writes_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("layers.jsonl");
        let open = |state| LayerLog::open(path.clone(), 2, state).unwrap();
        // Steps of two batches each; returns the states after them.
        let train = |log: &mut LayerLog, steps: RangeInclusive<i32>| -> Vec<LayerLogState> {
            let states = steps.map(|step| {
                for batch in 0..2 {
                    let value = f64::from(2 * step + batch);
                    log.add("load", 1, &[value, 0.0]);
                    log.add("hidden", 0, &[value]);
                }
                log.end_step(1, step as usize).unwrap();
                log.state().clone()
            });
            states.collect()
        };
        let mut log = open(LayerLogState::default());
        let states = train(&mut log, 1..=5);
        log.write(1, 5).unwrap();
        let whole = fs::read(&path).unwrap();
        let found = lines(&path);
        assert_eq!(found.len(), 6);
        assert_eq!((found[0].name.as_str(), found[0].step), ("hidden", 2));
        // Batches 2 to 5, and 10 and 11.
        assert_eq!(found[1].values, [3.5, 0.0]);
        assert_eq!((found[5].step, found[5].values[0]), (5, 10.5));

        let text = serde_json::to_string(&states[2]).unwrap();
        let mut log = open(serde_json::from_str(&text).unwrap());
        assert_eq!(lines(&path).len(), 2);
        train(&mut log, 4..=5);
        log.write(1, 5).unwrap();
        assert_eq!(fs::read(&path).unwrap(), whole);
    }

    #[test]
    fn long_trainings_have_few_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("layers.jsonl");
        let mut log = LayerLog::open(path.clone(), 10, LayerLogState::default()).unwrap();
        for step in 1..=20_000 {
            log.add("load", 0, &[1.0]);
            log.end_step(1, step).unwrap();
        }
        let steps: Vec<usize> = lines(&path).into_iter().map(|line| line.step).collect();
        assert_eq!(steps[..3], [10, 20, 30]);
        assert!((200..260).contains(&steps.len()), "{}", steps.len());
    }

    #[test]
    fn nothing_that_was_measured_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("layers.jsonl");
        let mut log = LayerLog::open(path.clone(), 1, LayerLogState::default()).unwrap();
        log.end_step(1, 1).unwrap();
        assert!(!path.exists());
    }
}
