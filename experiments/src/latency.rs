//! How long a forward pass takes.

use std::time::Instant;

use burn::prelude::*;
use masformer_core::{Trace, ops::prepack};
use moebert_core::{bert::BertInput, heads::BertModel};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{error::Error, interrupt::Stop, recipe::LatencyRecipe};

/// Passes of each model before the clock counts.
const WARM_UP: usize = 3;

/// The times of forward passes of each model in milliseconds, over the same random token ids, in their order.
///
/// The models take turns, so that a machine that slows down slows all of them.
///
/// # Errors
///
/// If a result cannot be read, or a stop is asked for.
pub fn latencies(
    models: &[BertModel],
    recipe: &LatencyRecipe,
    stop: &Stop,
) -> Result<Vec<Vec<f64>>, Error> {
    let _prepacked: Vec<_> = models.iter().map(prepack).collect();
    let mut times = vec![Vec::with_capacity(recipe.repeats); models.len()];
    for round in 0..WARM_UP + recipe.repeats {
        stop.check()?;
        for (model, times) in models.iter().zip(&mut times) {
            let weight = &model.bert.embeddings.word.weight;
            let [vocabulary, _] = weight.dims();
            let shape = [recipe.batch, recipe.length];
            let input = random_input(vocabulary, shape, &weight.device());
            let start = Instant::now();
            let output = model.forward(&input, &mut Trace::nothing());
            output.hidden.try_into_data()?;
            if round >= WARM_UP {
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    Ok(times)
}

/// Random token ids `[B, T]`, the same for the same vocabulary and shape.
pub(crate) fn random_input(vocabulary: usize, shape: [usize; 2], device: &Device) -> BertInput {
    let mut rng = StdRng::seed_from_u64(0);
    let ids: Vec<i64> = (0..shape[0] * shape[1])
        .map(|_| rng.random_range(0..vocabulary as i64))
        .collect();
    let input_ids = Tensor::from_data(TensorData::new(ids, shape), device);
    BertInput {
        token_type_ids: Tensor::zeros_like(&input_ids),
        input_ids,
        padding: None,
    }
}

/// The median of times; of an even number, the upper one of the two in the middle.
pub fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}
