//! A frozen model that a student learns from.

use masformer_core::Keep;

use crate::{Batch, Shape, Signals, Trainable};

/// Where a student's targets come from: a teacher, or stored signals.
pub trait SignalSource<B>: Send {
    /// The signals for a batch; they carry no gradients.
    fn signals(&self, batch: &B, keep: Keep) -> Signals;

    /// The sizes of the model that the signals are of.
    fn shape(&self) -> Shape;
}

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

impl<M: Trainable> Teacher<M> {
    /// Freezes a model.
    pub fn new(model: &M) -> Self {
        Self {
            model: model.valid(),
        }
    }
}

impl<M: Trainable> SignalSource<Batch<M>> for Teacher<M>
where
    Batch<M>: WithoutAutodiff,
{
    fn signals(&self, batch: &Batch<M>, keep: Keep) -> Signals {
        self.model
            .forward_step(batch.without_autodiff(), keep)
            .signals
    }

    fn shape(&self) -> Shape {
        self.model.shape()
    }
}
