//! The head of a model whose class is not known, by its weights.
//!
//! Transformers before 2.4 wrote no `architectures`, and others write the names of classes of their own.

use masformer_core::pretrained::{Checkpoint, Keys};
use serde_json::Value;

use super::{
    config::sequence_head,
    names::{BertLayout, POOLER_WEIGHT},
};
use crate::{file::FileError, heads::Head};

/// The classifier of sequences.
const CLASSIFIER: &str = "classifier.weight";
/// The start and the end of an answer.
const SPANS: &str = "qa_outputs.weight";

/// Whether a class is the beginning or the inside of an entity, as token classifiers call theirs.
fn is_entity(name: &str) -> bool {
    name.starts_with("B-") || name.starts_with("I-")
}

/// What the head predicts that is among the weights of an encoder of a hidden width.
///
/// # Errors
///
/// If the configuration says another number of labels than a classifier has.
pub(super) fn head_of_weights(
    keys: Keys<'_>,
    weights: &Checkpoint<BertLayout>,
    hidden: usize,
) -> Result<Head, FileError> {
    let is_of_tokens = keys
        .json
        .get("id2label")
        .and_then(Value::as_object)
        .is_some_and(|names| names.values().filter_map(Value::as_str).any(is_entity));
    let rows = |name| match weights.shape(name) {
        Some([rows, width]) if *width == hidden => Some(*rows),
        _ => None,
    };
    // Without a pooler it is one of tokens; with one it may be, in an old Transformers.
    let is_of_sequences = weights.contains(POOLER_WEIGHT) && !is_of_tokens;
    let classifier = rows(CLASSIFIER).filter(|_| is_of_sequences);
    match (classifier, rows(SPANS)) {
        (Some(rows), _) => sequence_head(keys, Some(rows)),
        (None, Some(2)) => Ok(Head::SpanQa),
        _ => Ok(Head::Encoder),
    }
}
