//! Finding where numbers first stop being finite.

use burn::{module::Module, optim::GradientsParams};
use masformer_core::{
    Keep, Layers,
    finite::{first_not_finite, not_finite},
};

use crate::{Batch, CallbackModel};

/// The path of the first parameter with an infinite or undefined value.
pub(crate) fn broken_parameter<M: Module>(model: &M) -> Option<String> {
    Some(first_not_finite(model, None)?.0)
}

/// Where the numbers of a step first stop being finite, looked for in the order in which they are
/// computed: parameters, hidden states of the batches, the loss, gradients.
pub(crate) fn locate<M: CallbackModel>(
    model: &M,
    batches: &[Batch<M>],
    gradients: &GradientsParams,
    loss_is_finite: bool,
) -> String {
    if let Some(path) = broken_parameter(model) {
        return format!("the parameter `{path}`");
    }
    if !loss_is_finite {
        return batches
            .iter()
            .find_map(|batch| broken_hidden_state(model, batch.clone()))
            .unwrap_or_else(|| "the loss itself".to_owned());
    }
    match first_not_finite(model, Some(gradients)) {
        Some((path, _)) => format!("the gradient of `{path}`"),
        None => "the gradients' norm".to_owned(),
    }
}

fn broken_hidden_state<M: CallbackModel>(model: &M, batch: Batch<M>) -> Option<String> {
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
