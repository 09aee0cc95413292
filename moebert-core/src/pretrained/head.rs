//! The head of a model whose class is not known, by its weights.
//!
//! Transformers before 2.4 wrote no `architectures`, and others write the names of classes of their own.

use masformer_core::pretrained::{Checkpoint, Keys};

use super::{
    config::sequence_task,
    names::{BertLayout, POOLER_WEIGHT},
};
use crate::{file::FileError, heads::Task};

/// The classifier of sequences.
const CLASSIFIER: &str = "classifier.weight";
/// The start and the end of an answer.
const SPANS: &str = "qa_outputs.weight";

/// What the head predicts that is among the weights of an encoder of a hidden width.
///
/// # Errors
///
/// If the configuration says another number of labels than a classifier has.
pub(super) fn task_of_weights(
    keys: Keys<'_>,
    weights: &Checkpoint<BertLayout>,
    hidden: usize,
) -> Result<Task, FileError> {
    let rows = |name| match weights.shape(name) {
        Some([rows, width]) if *width == hidden => Some(*rows),
        _ => None,
    };
    // Without a pooler it is one of tokens.
    let classifier = rows(CLASSIFIER).filter(|_| weights.contains(POOLER_WEIGHT));
    match (classifier, rows(SPANS)) {
        (Some(rows), _) => sequence_task(keys, Some(rows)),
        (None, Some(2)) => Ok(Task::SpanQa),
        _ => Ok(Task::Encoder),
    }
}
