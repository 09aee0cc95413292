//! Finding where numbers first stop being finite.

use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::GradientsParams,
    prelude::*,
};
use masformer_core::Keep;

use crate::{Batch, CallbackModel};

/// The path of the first parameter with an infinite or undefined value.
pub(crate) fn broken_parameter<M: Module>(model: &M) -> Option<String> {
    first_broken(model, None)
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
    match first_broken(model, Some(gradients)) {
        Some(path) => format!("the gradient of `{path}`"),
        None => "the gradients' norm".to_owned(),
    }
}

fn broken_hidden_state<M: CallbackModel>(model: &M, batch: Batch<M>) -> Option<String> {
    let keep = Keep {
        hidden_states: true,
        ..Keep::default()
    };
    let hidden = model.forward_step(batch, keep).signals.trace.hidden_states;
    let layer = hidden.into_iter().position(|hidden| !is_finite(hidden))?;
    Some(match layer {
        0 => "the embedding output".to_owned(),
        layer => format!("the output of layer {layer}"),
    })
}

fn is_finite<const D: usize>(tensor: Tensor<D>) -> bool {
    tensor.without_autodiff().is_finite().all().into_scalar()
}

fn first_broken<M: Module>(model: &M, gradients: Option<&GradientsParams>) -> Option<String> {
    let mut visitor = FirstBroken {
        gradients,
        path: Vec::new(),
        found: None,
    };
    model.visit(&mut visitor);
    visitor.found
}

struct FirstBroken<'a> {
    /// Looks at these gradients, or at the parameters themselves.
    gradients: Option<&'a GradientsParams>,
    path: Vec<String>,
    found: Option<String>,
}

impl ModuleVisitor for FirstBroken<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.found.is_some() {
            return;
        }
        let value = match self.gradients {
            Some(gradients) => gradients.get::<D>(param.id),
            None => Some(param.val()),
        };
        if value.is_some_and(|value| !is_finite(value)) {
            self.found = Some(self.path.join("."));
        }
    }
}
