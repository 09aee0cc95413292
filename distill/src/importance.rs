//! Scores how much the loss depends on each feed-forward neuron.

use burn::data::dataloader::DataLoader;
use masformer_core::{Keep, Layers};
use moebert_core::importance::Importance;

use crate::{Batch, MethodError, Trainable};

/// Scores a model over all batches of a loader: without dropout, with one backward pass per batch.
///
/// The model must be on an autodiff device, or is brought there; its parameters take no part in the
/// backward passes, only the probes do. `progress` is told how many of how many samples are done, and ends the scoring
/// with an error.
///
/// # Errors
///
/// If a batch cannot be read, the loss depends on no probe, the scores refuse a batch, or `progress` fails.
pub fn score<M: Trainable>(
    model: &M,
    loader: &dyn DataLoader<Batch<M>>,
    scores: &mut Importance,
    mut progress: impl FnMut(usize, usize) -> Result<(), MethodError>,
) -> Result<(), MethodError> {
    // Autodiff for the probes' sake; freezing turns dropout off and leaves the probes alone.
    let model = model.valid().train().freeze();
    let device = model.devices().into_iter().next().unwrap_or_default();
    let loader = loader.to_device(&device.autodiff());
    let samples = loader.num_items();
    let keep = Keep {
        probes: Layers::All,
        ..Keep::default()
    };
    let mut batches = loader.iter();
    while let Some(batch) = batches.next() {
        let step = model.forward_step(batch.map_err(|error| error.to_string())?, keep.clone());
        if !step.loss.is_tracked() {
            return Err("the loss depends on no probe; does the model keep them?".into());
        }
        // The scores take the absolute value for each sample, so the batch must not be averaged.
        let sum = step.loss.mul_scalar(step.signals.losses as f64);
        scores.add_batch(&step.signals.trace, &sum.backward())?;
        progress(batches.progress().items_processed, samples)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use burn::prelude::*;

    use super::*;
    use crate::toy::{Toy, ToyLoader, serial};

    /// The definition: a backward pass for each sample, through the weights themselves.
    fn by_definition(model: &Toy, loader: &ToyLoader, samples: usize) -> Vec<Vec<f64>> {
        let mut scores = vec![Vec::new(); model.layers.len()];
        for sample in 0..samples {
            let step = model.forward_step(loader.batch(&[sample]), Keep::default());
            let gradients = step.loss.backward();
            for (layer, row) in model.layers.iter().zip(&mut scores) {
                let product = |weight: Tensor<2>, dim| {
                    let gradient = weight.grad(&gradients).unwrap();
                    (weight.inner() * gradient).sum_dim(dim).into_data()
                };
                let inner = product(layer.inner.weight.val(), 0);
                let outer = product(layer.outer.weight.val(), 1);
                let neurons = inner.iter::<f64>().zip(outer.iter::<f64>());
                row.resize(inner.num_elements(), 0.0);
                for (sum, (inner, outer)) in row.iter_mut().zip(neurons) {
                    *sum += (inner + outer).abs();
                }
            }
        }
        scores
    }

    #[test]
    fn scores_follow_the_definition_with_dropout_off() {
        let _turn = serial();
        let loader = ToyLoader::new(5, 2);
        let mut scores = Importance::new(2, 6);
        let mut seen = Vec::new();
        let progress = |done, all| {
            seen.push((done, all));
            Ok(())
        };
        score(&Toy::new(2, 6, 0.5), &loader, &mut scores, progress).unwrap();
        assert_eq!(seen, [(2, 5), (4, 5), (5, 5)]);
        let expected = by_definition(&Toy::new(2, 6, 0.0), &loader, 5);
        let found = (0..2).flat_map(|layer| scores.scores(layer));
        for (found, expected) in found.map(f64::from).zip(expected.iter().flatten()) {
            assert!(
                (found - expected).abs() < 1e-5 * (1.0 + expected),
                "{found} {expected}"
            );
        }
        assert_eq!(scores.samples(), 5);
    }
}
