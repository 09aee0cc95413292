//! Objectives against what other code computed, on the files of `fixtures/distillation`.

#[path = "../fixture/mod.rs"]
mod fixture;

mod distilbert;
mod kd;
mod minilm;
mod pkd;
mod ted;
mod tinybert;

use burn::{
    prelude::*,
    tensor::{Gradients, Tolerance},
};
use distill::Signals;
use fixture::Fixture;
use masformer_core::{Keep, Layers, Trace};

/// Losses and gradients: 1e-4 relative, and for numbers near 0 a hundredth of that absolute.
fn tolerance() -> Tolerance<f32> {
    Tolerance::rel_abs(1e-4, 1e-6)
}

impl Fixture {
    fn distillation(name: &str) -> Self {
        Self::open("distillation", name)
    }

    /// The tensor of this name as one whose gradient is asked for.
    fn tracked<const D: usize>(&self, name: &str) -> Tensor<D> {
        self.tensor::<D>(name).autodiff().require_grad()
    }

    /// Padding `[B, T]` from the file's `attention_mask`; the mask of a file without padding is one of zeros, too.
    fn padding(&self) -> Tensor<2, Bool> {
        let (shape, mask) = self.file.indices::<2>("attention_mask").unwrap();
        let padded: Vec<bool> = mask.iter().map(|real| *real == 0).collect();
        Tensor::from_data(TensorData::new(padded, shape), &self.device)
    }

    fn number(&self, key: &str) -> f64 {
        self.file.metadata(key).unwrap().parse().unwrap()
    }

    fn assert_loss(&self, name: &str, found: &Tensor<1>) {
        self.assert_close(name, found.clone().inner(), tolerance());
    }

    /// Compares the gradient of a tensor with the one under its name.
    fn assert_gradient<const D: usize>(&self, name: &str, of: &Tensor<D>, gradients: &Gradients) {
        let found = of.grad(gradients).unwrap();
        self.assert_close(&format!("grad.{name}"), found, tolerance());
    }
}

/// Signals with these hidden states, the embedding output first.
fn signals(
    hidden: Vec<Tensor<3>>,
    logits: Vec<Tensor<2>>,
    padding: Option<Tensor<2, Bool>>,
) -> Signals {
    let mut trace = Trace::new(Keep {
        hidden: Layers::All,
        ..Keep::default()
    });
    if let Some((first, rest)) = hidden.split_first() {
        trace.start(rest.len(), first);
        for state in rest {
            trace.finish_layer(|| state.clone());
        }
    }
    Signals {
        trace,
        logits,
        task: None,
        padding,
        losses: 1,
    }
}
