//! What single layers of models do, as reports show it.

use serde::{Deserialize, Serialize};

use crate::inside::record::{Distances, Routed};

/// What was measured of single layers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Layers {
    /// While models trained.
    pub series: Vec<Series>,
    /// Which tokens the experts of models got.
    pub routed: Vec<OfModel<Routed>>,
    /// How far models are from others.
    pub distances: Vec<OfModel<Distances>>,
}

/// Values of a layer by step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Series {
    /// The model.
    pub arm: String,
    /// The seed.
    pub seed: u64,
    /// `load`, `entropy` or `hidden`.
    pub name: String,
    /// The layer, or the hidden state, from 0.
    pub layer: usize,
    /// Step and values, by rising step.
    pub points: Vec<(u64, Vec<f32>)>,
}

/// What is known of a model with one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OfModel<T> {
    /// The model.
    pub arm: String,
    /// The seed.
    pub seed: u64,
    /// It.
    pub what: T,
}
