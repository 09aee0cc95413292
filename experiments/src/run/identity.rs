//! What determines the results of a run besides its plan.

use serde_json::Value;

use crate::graph::Fingerprint;

/// The content of data and of the model to begin with, and how they are read. Paths have no part in it.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// The data to train on.
    pub train: Fingerprint,
    /// The data to validate on.
    pub valid: Fingerprint,
    /// The data to judge by.
    pub judged: Fingerprint,
    /// Whether models are judged by the data that they are validated on.
    pub is_judged_on_valid: bool,
    /// The folder to begin with; none where weights are drawn.
    pub model: Option<Fingerprint>,
    /// How weights are drawn and their tokenizer is made; null with a folder.
    pub fresh: Value,
    /// How data is read.
    pub reading: Value,
    /// What else decides a training.
    pub training: Value,
    /// What else decides a judgement.
    pub judging: Value,
    /// How latency is measured, if it is.
    pub latency: Option<Value>,
}
