//! A line of `metrics.jsonl`, and what its value is called elsewhere.

use std::path::Path;

use moebert_core::file::{self, FileError};
use serde::Deserialize;

use crate::json_file;

/// The file of them in the folder of a stage that trains a model.
pub const TRAINED: &str = "training/metrics.jsonl";

/// A value of a training.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct MetricLine {
    /// The seed and the model, as in `seed-1/teacher`, in the file of a run; empty in that of a training.
    #[serde(default)]
    pub stage: String,
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
    /// Reads the lines of a file.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or a line is none.
    pub fn read(path: &Path) -> Result<Vec<Self>, FileError> {
        json_file::lines(path, &file::read(path)?)
    }

    /// `train/NAME`, `valid/NAME`, or `epoch/NAME` for the mean over an epoch of training.
    pub fn tag(&self) -> String {
        let is_epoch = self.last && self.split == "train";
        let kind = if is_epoch { "epoch" } else { &self.split };
        format!("{kind}/{}", self.name)
    }

    /// The seed and the model of a line of a run; the seed is 0 where the stage names none.
    pub fn model(&self) -> (u64, &str) {
        let Some((seed, model)) = self.stage.split_once('/') else {
            return (0, &self.stage);
        };
        let seed = seed.strip_prefix("seed-").map(str::parse);
        (seed.and_then(Result::ok).unwrap_or(0), model)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lines_of_runs_and_of_trainings_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let text = r#"{"stage":"seed-2/a/b","epoch":1,"step":1,"split":"train","name":"Loss","value":1.0,"last":true}

{"epoch":1,"step":2,"split":"valid","name":"Loss","value":0.5}
"#;
        fs::write(&path, text).unwrap();
        let lines = MetricLine::read(&path).unwrap();
        assert_eq!(lines.len(), 2);
        assert_eq!((lines[0].model(), lines[1].model()), ((2, "a/b"), (0, "")));
        assert_eq!(
            (lines[0].tag(), lines[1].tag()),
            ("epoch/Loss".to_owned(), "valid/Loss".to_owned())
        );
        fs::write(&path, "{}").unwrap();
        let error = MetricLine::read(&path).unwrap_err().to_string();
        assert!(
            error.contains("metrics.jsonl: missing field `step`"),
            "{error}"
        );
    }
}
