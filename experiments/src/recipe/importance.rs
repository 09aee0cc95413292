//! `[importance]`: the data that scores neurons.

use serde::{Deserialize, Serialize};

/// `[importance]`: the data that scores neurons.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImportanceRecipe {
    /// `train` (default) or `dev`, the split that the published code runs on.
    pub split: DataSplit,
    /// Examples a batch; no effect on the scores. Default 32.
    pub batch_size: usize,
    /// Score on the first so many examples only. Absent: all.
    pub samples: Option<usize>,
}

/// A split with labels, as a command or recipe names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum DataSplit {
    /// The training data.
    Train,
    /// The development data.
    Dev,
}

impl DataSplit {
    /// The text form.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Dev => "dev",
        }
    }
}

impl Default for ImportanceRecipe {
    fn default() -> Self {
        Self {
            split: DataSplit::Train,
            batch_size: 32,
            samples: None,
        }
    }
}
