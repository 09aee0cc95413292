//! A frozen model that a student learns from.

use masformer_core::Keep;

use crate::{Batch, CallbackModel, SignalSource, Signals};

/// Data that can leave autodiff: every tensor in it through `Tensor::without_autodiff`.
pub trait WithoutAutodiff {
    /// The same data for a model without autodiff.
    #[must_use]
    fn without_autodiff(&self) -> Self;
}

/// A model in evaluation form: no dropout, no gradients, and no part of any checkpoint.
#[derive(Clone, Debug)]
pub struct Teacher<M> {
    model: M,
}

impl<M: CallbackModel> Teacher<M> {
    /// Freezes a model.
    pub fn new(model: &M) -> Self {
        Self {
            model: model.valid(),
        }
    }
}

impl<M: CallbackModel> SignalSource<Batch<M>> for Teacher<M>
where
    Batch<M>: WithoutAutodiff,
{
    fn signals(&self, batch: &Batch<M>, keep: Keep) -> Signals {
        self.model
            .forward_step(batch.without_autodiff(), keep)
            .signals
    }
}
