//! The head of a model whose class is not known, by its weights.
//!
//! Transformers before 2.4 wrote no `architectures`, and others write the names of classes of their own.

use masformer_core::pretrained::{Checkpoint, Keys, Layout};
use serde_json::Value;

use super::{
    config::sequence_head,
    family::{EncoderLayout, Family, HEAD_WEIGHT, POOLER_WEIGHT},
};
use crate::{file::FileError, heads::Head};

/// Whether a class is the beginning or the inside of an entity, as token classifiers call theirs.
fn is_entity(name: &str) -> bool {
    name.starts_with("B-") || name.starts_with("I-")
}

/// What the head predicts that is among the weights, opened as those of a model without one, of an encoder of a hidden
/// width.
///
/// # Errors
///
/// If the configuration says another number of labels than a classifier has.
pub(super) fn head_of_weights(
    keys: Keys<'_>,
    family: &dyn Family,
    weights: &Checkpoint<EncoderLayout>,
    hidden: usize,
) -> Result<Head, FileError> {
    let is_of_tokens = keys
        .json
        .get("id2label")
        .and_then(Value::as_object)
        .is_some_and(|names| names.values().filter_map(Value::as_str).any(is_entity));
    let opened = EncoderLayout::new(family, Head::Encoder, true);
    // The shape of a weight that a model with a head would have.
    let shape = |head, module| {
        let file = EncoderLayout::new(family, head, true)
            .names()
            .in_file(module);
        let mut names = opened.names().in_model(&file).into_iter();
        names.find_map(|name| weights.shape(&name))
    };
    let rows = |head| match shape(head, HEAD_WEIGHT) {
        Some([rows, width]) if *width == hidden => Some(*rows),
        _ => None,
    };
    // Without a pooler it is one of tokens; with one it may be, in an old Transformers.
    let is_of_sequences = shape(Head::Regression, POOLER_WEIGHT).is_some() && !is_of_tokens;
    let classifier = rows(Head::Regression).filter(|_| is_of_sequences);
    match (classifier, rows(Head::SpanQa)) {
        (Some(rows), _) => sequence_head(keys, Some(rows)),
        (None, Some(2)) => Ok(Head::SpanQa),
        _ => Ok(Head::Encoder),
    }
}
