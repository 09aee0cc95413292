//! Finding where numbers first stop being finite.

use burn::optim::GradientsParams;
use masformer_core::{
    Keep, Layers,
    finite::{first_not_finite, not_finite},
};

use crate::{Batch, Trainable, Trainee};

/// The path of the first parameter with an infinite or undefined value.
pub(crate) fn broken_parameter<M: Trainable>(trainee: &Trainee<M>) -> Option<String> {
    Some(named(first_not_finite(trainee, None)?.0))
}

/// The path of a parameter without the place of the model in its trainee.
fn named(path: String) -> String {
    match path.strip_prefix("model.") {
        Some(path) => path.to_owned(),
        None => path,
    }
}

/// Where the numbers of a step first stop being finite, looked for in the order in which they are
/// computed: parameters, hidden states of the batches, the loss, gradients.
pub(crate) fn locate<M: Trainable>(
    trainee: &Trainee<M>,
    batches: &[Batch<M>],
    gradients: &GradientsParams,
    loss_is_finite: bool,
) -> String {
    if let Some(path) = broken_parameter(trainee) {
        return format!("the parameter `{path}`");
    }
    if !loss_is_finite {
        return batches
            .iter()
            .find_map(|batch| broken_hidden_state(&trainee.model, batch.clone()))
            .unwrap_or_else(|| "the loss itself".to_owned());
    }
    match first_not_finite(trainee, Some(gradients)) {
        Some((path, _)) => format!("the gradient of `{}`", named(path)),
        None => "the gradients' norm".to_owned(),
    }
}

fn broken_hidden_state<M: Trainable>(model: &M, batch: Batch<M>) -> Option<String> {
    let keep = Keep {
        hidden: Layers::All,
        ..Keep::default()
    };
    let hidden = model.forward_step(batch, keep).signals.trace.hidden;
    let mut hidden = hidden.into_iter();
    let (layer, _) = hidden.find(|(_, hidden)| not_finite(hidden.clone()).is_some())?;
    Some(match layer {
        0 => "the embedding output".to_owned(),
        layer => format!("the output of layer {layer}"),
    })
}
