//! A model's predictions for a list of sequences.

use std::sync::Arc;

use burn::{data::dataloader::DataLoader, prelude::*, tensor::ExecutionError};
use masformer_core::{Keep, ops::prepack};

use crate::{
    data::{
        DataError,
        loader::{Feature, GroupedLoader, TaskBatch},
        squad::spans::SpanLogits,
    },
    error::Error,
    interrupt::Stop,
    learner::TaskLearner,
    metric::MetricError,
    problem::Prediction,
};

/// What the model says of each sequence, in their order. The model must be in evaluation form.
///
/// # Errors
///
/// If the sequences cannot be batched, a result cannot be read or is not finite, or a stop is asked for.
pub fn predict(
    learner: &TaskLearner,
    features: &Arc<[Feature]>,
    batch_size: usize,
    pad_id: u32,
    stop: &Stop,
    mut progress: impl FnMut(usize, usize),
) -> Result<Vec<Prediction>, Error> {
    let _prepacked = prepack(learner);
    let device = learner.devices().into_iter().next().unwrap_or_default();
    let loader = GroupedLoader::sorted(features.clone(), batch_size, pad_id, &device)
        .map_err(DataError::from)?;
    let mut predictions = vec![Prediction::Scores(vec![]); features.len()];
    let mut batches = loader.iter();
    while let Some(batch) = batches.next() {
        stop.check()?;
        let batch = batch.map_err(DataError::from)?;
        let indices = batch.indices.clone();
        for (index, prediction) in indices.into_iter().zip(rows(learner, &batch)?) {
            if let Some(score) = prediction.not_finite() {
                return Err(DataError::from(MetricError::NotFinite { index, score }).into());
            }
            predictions[index] = prediction;
        }
        progress(batches.progress().items_processed, features.len());
    }
    Ok(predictions)
}

/// The predictions of one batch.
fn rows(learner: &TaskLearner, batch: &TaskBatch) -> Result<Vec<Prediction>, ExecutionError> {
    let logits = learner.signals(&batch.input, Keep::default()).logits;
    let sides = logits
        .into_iter()
        .map(|scores| {
            let [_, width] = scores.dims();
            let values: Vec<f32> = scores.try_into_data()?.iter::<f32>().collect();
            Ok(values.chunks(width).map(<[f32]>::to_vec).collect())
        })
        .collect::<Result<Vec<Vec<Vec<f32>>>, ExecutionError>>()?;
    let mut sides = sides.into_iter();
    Ok(match (sides.next(), sides.next()) {
        (Some(starts), Some(ends)) => starts
            .into_iter()
            .zip(ends)
            .map(|(start, end)| Prediction::Spans(SpanLogits { start, end }))
            .collect(),
        (Some(scores), None) => scores.into_iter().map(Prediction::Scores).collect(),
        (None, _) => vec![],
    })
}
