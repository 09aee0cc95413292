//! What a report is made of: the results of a run with all that its figures show.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::layers::Layers;
use crate::{
    graph::Key,
    results::{Results, Timings},
};

/// All that a report shows, filled by [`load`](crate::report::load::load).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReportData {
    /// `results.json`.
    pub results: Results,
    /// `timings.json`; none where nothing was measured.
    pub timings: Option<Timings>,
    /// What was measured while models trained.
    pub curves: Vec<Curve>,
    /// What models answered.
    pub evaluations: Vec<Evaluation>,
    /// The examples of the evaluations.
    pub examples: Vec<Example>,
    /// Why the examples have no texts, where they have none.
    pub no_texts: Option<String>,
    /// Importance of neurons.
    pub importance: Vec<Importance>,
    /// What single layers did.
    pub layers: Layers,
    /// What the run was made with.
    pub record: Record,
}

/// One metric of a training.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    /// The model.
    pub arm: String,
    /// The seed.
    pub seed: u64,
    /// `train` or `valid`.
    pub split: String,
    /// The metric.
    pub name: String,
    /// Step and value, by rising step.
    pub points: Vec<(u64, f64)>,
}

/// What a model with one seed answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// The model.
    pub arm: String,
    /// The seed.
    pub seed: u64,
    /// What each example got, from 0 to 1, in the order of [`ReportData::examples`]; empty where the model was judged on other
    /// examples, or the metric has no value of one example.
    pub values: Vec<Option<f32>>,
    /// Answers by example; empty as `values`.
    pub answers: Vec<String>,
    /// The confidence of answers, in equal bins from 0 to 1; empty where there are no class scores.
    pub calibration: Vec<Bin>,
    /// Right answers by a position.
    pub positions: Option<Positions>,
}

/// Answers of about the same confidence.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bin {
    /// Their number.
    pub count: usize,
    /// The sum of their confidences.
    pub confidence: f64,
    /// How many are right.
    pub right: usize,
}

/// Right answers by what their place is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Positions {
    /// What the places are: `distance` or `position`.
    pub name: String,
    /// By place: how many are right, and how many there are.
    pub counts: BTreeMap<u64, (usize, usize)>,
}

/// An example that models were judged on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Example {
    /// Its name.
    pub id: String,
    /// Its text, if it can be read.
    pub text: Option<String>,
    /// The right answer.
    pub label: Option<String>,
}

/// Importance of the neurons of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Importance {
    /// The stage.
    pub key: Key,
    /// The seed.
    pub seed: u64,
    /// The arms that use it.
    pub arms: Vec<String>,
    /// Scores by layer and neuron.
    pub layers: Vec<Vec<f32>>,
    /// How many of the most important neurons all experts have; 0 if that is not known.
    pub shared: usize,
}

/// What a run was made with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// The recipe as resolved.
    pub recipe: String,
    /// What is known of each start.
    pub starts: Vec<Map<String, Value>>,
    /// Kind of stage and fingerprint of the data that it read.
    pub fingerprints: Vec<(String, String)>,
}
