//! The files that evaluations write of single layers.

use std::path::Path;

use moebert_core::file::{self, FileError};
use serde::{Deserialize, Serialize};

use crate::graph::Key;

/// The version of the form of the files.
pub(super) const SCHEMA: u32 = 1;

/// What the experts of a model got.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Routed {
    pub(super) schema: u32,
    /// The layers that have experts, from the bottom.
    pub layers: Vec<RoutedLayer>,
}

/// What the experts of a layer got.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoutedLayer {
    /// The layer, from 0.
    pub layer: usize,
    /// Tokens, without padding.
    pub tokens: u64,
    /// The experts.
    pub experts: Vec<RoutedExpert>,
}

/// What an expert got.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoutedExpert {
    /// Tokens; one with several experts counts for each.
    pub tokens: u64,
    /// The entries of the vocabulary that are typical of it, the most typical first: by `count * ln(lift)`, where the lift is
    /// the expert's share of the entry's occurrences over its share of all. What all experts get alike is at the end,
    /// however frequent it is.
    pub words: Vec<Word>,
}

/// An entry of the vocabulary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Word {
    /// Its text, or `#ID` where ids have no texts.
    pub token: String,
    /// How often the expert got it.
    pub count: u64,
    /// That as a share of its occurrences.
    pub share: f64,
}

impl Routed {
    /// The file of them in the folder of an evaluation.
    pub const FILE: &str = "routed.json";

    /// Writes them into the folder of an evaluation.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write(&self, dir: &Path) -> Result<(), FileError> {
        // Numbers and texts always have a form in JSON.
        let text = serde_json::to_string(self).unwrap_or_default();
        file::write(&dir.join(Self::FILE), text.as_bytes())
    }
}

/// The distances of a model to another one, before and after its training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distances {
    pub(super) schema: u32,
    /// The stage that trained the other model; none if the run has not trained it.
    pub to: Option<Key>,
    /// The number of tokens that are compared.
    pub tokens: usize,
    /// The mean square of the other model's hidden states.
    pub squares: Vec<f64>,
    /// Before its training, as it began.
    pub before: Apart,
    /// After its training.
    pub after: Apart,
}

/// How far two models are apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Apart {
    /// The unbiased linear alignment by hidden state of this model and of the other.
    pub cka: Vec<Vec<f64>>,
    /// The mean squared error by hidden state of this model and of the other; none where their widths differ.
    pub mse: Option<Vec<Vec<f64>>>,
}

impl Distances {
    /// The file of them in the folder of an evaluation.
    pub const FILE: &str = "distances.json";

    /// Writes them into the folder of an evaluation.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write(&self, dir: &Path) -> Result<(), FileError> {
        // Numbers and texts always have a form in JSON.
        let text = serde_json::to_string(self).unwrap_or_default();
        file::write(&dir.join(Self::FILE), text.as_bytes())
    }
}
