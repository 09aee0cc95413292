//! A line of `metrics.jsonl`, and what its value is called elsewhere.

use std::path::Path;

use moebert_core::file::FileError;
use serde::Deserialize;

/// A value of a training.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct MetricLine {
    /// The optimiser step.
    pub step: u64,
    /// `train` or `valid`.
    pub split: String,
    /// The metric.
    pub name: String,
    /// Its value.
    pub value: f64,
    /// Whether it is of a whole epoch.
    #[serde(default)]
    pub last: bool,
}

impl MetricLine {
    /// `train/NAME`, `valid/NAME`, or `epoch/NAME` for the mean over an epoch of training.
    pub fn tag(&self) -> String {
        let is_epoch = self.last && self.split == "train";
        let kind = if is_epoch { "epoch" } else { &self.split };
        format!("{kind}/{}", self.name)
    }
}

/// The lines in the text of the file at `path`.
///
/// # Errors
///
/// If one is none.
pub fn lines(path: &Path, text: &[u8]) -> Result<Vec<MetricLine>, FileError> {
    let lines = text.split(|byte| *byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty());
    let lines: Result<_, _> = lines.map(serde_json::from_slice).collect();
    lines.map_err(|source| FileError::Json {
        path: path.to_owned(),
        source,
    })
}
