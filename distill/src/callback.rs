//! The seam for what takes part in the training loop, one method a file.

pub mod ema;
pub mod growing_length;
pub mod pruning;

use std::collections::BTreeMap;

use burn::{
    optim::GradientsParams,
    tensor::Tensor,
    train::{Interrupter, metric::store::EventStoreClient},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Batch, Gauge, MethodError, StageError, Trainable};

pub use ema::Ema;
pub use growing_length::{Cut, GrowingLength, Growth};
pub use pruning::{Pruner, Pruning};

/// Where in the training a callback is called.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The epoch, from 1.
    pub epoch: usize,
    /// How many epochs there will be.
    pub epochs: usize,
    /// Batches of this epoch that were begun.
    pub iteration: usize,
    /// Optimiser steps taken in the whole training.
    pub step: usize,
    /// The share of the training that is done, from 0 to 1, by the samples of those steps.
    pub done: f64,
    /// The learning rate of the latest optimiser step.
    pub learning_rate: f64,
    /// Stops the training when asked to.
    pub interrupter: &'a Interrupter,
    /// The metrics so far: those of the epochs before.
    pub store: &'a EventStoreClient,
}

/// What a checkpoint must remember of a callback.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallbackState {
    /// Numbers and texts; `Null` for none.
    pub value: Value,
    /// Tensors by names of the callback's own, flat, float32 and without autodiff. They are read from the device only
    /// when a checkpoint is written.
    #[serde(skip)]
    pub tensors: BTreeMap<String, Tensor<1>>,
}

impl CallbackState {
    fn is_empty(&self) -> bool {
        self.value.is_null() && self.tensors.is_empty()
    }
}

/// A method that takes part in the training loop.
///
/// Callbacks run in the order in which a stage got them. An error of any of them stops the training and comes back from
/// `Stage::fit`.
#[allow(unused_variables, reason = "the defaults do nothing")]
pub trait Callback<M: Trainable>: Send {
    /// A name that is unique in a stage and has no `/`; the saved state and errors go by it.
    fn name(&self) -> &'static str;

    /// Refuses settings that cannot work, whatever the model is.
    ///
    /// # Errors
    ///
    /// What is wrong with a setting.
    fn check(&self) -> Result<(), MethodError> {
        Ok(())
    }

    /// Numbers that it shows on the dashboard.
    fn gauges(&self) -> Vec<Gauge> {
        vec![]
    }

    /// Before the training: sees the model that it begins with, after all surgery and as it is trained. Where a training
    /// goes on, that is the model of the checkpoint, and [`load_state`](Self::load_state) follows.
    ///
    /// # Errors
    ///
    /// If the method does not fit the model.
    fn begin(&mut self, model: &M) -> Result<(), MethodError> {
        Ok(())
    }

    /// Before the forward pass: may change the batch.
    ///
    /// # Errors
    ///
    /// Stops the training.
    fn before_forward(
        &mut self,
        context: &Context,
        model: &M,
        batch: &mut Batch<M>,
    ) -> Result<(), MethodError> {
        Ok(())
    }

    /// Before the optimiser's step: may change the parameters' gradients, which are averaged over
    /// the accumulated batches and not clipped yet.
    ///
    /// # Errors
    ///
    /// Stops the training.
    fn before_optimizer(
        &mut self,
        context: &Context,
        model: &M,
        gradients: &mut GradientsParams,
    ) -> Result<(), MethodError> {
        Ok(())
    }

    /// After the optimiser's step: may return another model to go on with.
    ///
    /// It must have the same structure, and each parameter must keep its id: the optimiser's state goes by the ids, and
    /// a checkpoint is loaded into the model that the stage began with.
    ///
    /// # Errors
    ///
    /// Stops the training.
    fn after_optimizer(&mut self, context: &Context, model: &M) -> Result<Option<M>, MethodError> {
        Ok(None)
    }

    /// The model as it is validated, and kept at the end, where that is not the model as it is trained. The given one
    /// has no autodiff; the result has the same structure.
    ///
    /// # Errors
    ///
    /// Stops the training.
    fn for_evaluation(&self, model: M) -> Result<M, MethodError> {
        Ok(model)
    }

    /// What a checkpoint must remember of this callback.
    fn state(&self) -> CallbackState {
        CallbackState::default()
    }

    /// Takes back what [`state`](Self::state) gave, before the training goes on.
    ///
    /// # Errors
    ///
    /// If the state does not fit this callback.
    fn load_state(&mut self, state: CallbackState) -> Result<(), MethodError> {
        Ok(())
    }
}

/// The callbacks of a stage.
pub(crate) struct Callbacks<M: Trainable>(Vec<Box<dyn Callback<M>>>);

impl<M: Trainable> Default for Callbacks<M> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<M: Trainable> Callbacks<M> {
    /// Takes another callback.
    pub fn push(&mut self, callback: Box<dyn Callback<M>>) {
        self.0.push(callback);
    }

    /// The names of the callbacks.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|callback| callback.name())
    }

    /// The numbers that they show.
    pub fn gauges(&self) -> Vec<Gauge> {
        self.0
            .iter()
            .flat_map(|callback| callback.gauges())
            .collect()
    }

    /// Calls each in turn; the first error ends it and gets the callback's name.
    pub fn each(
        &mut self,
        mut call: impl FnMut(&mut dyn Callback<M>) -> Result<(), MethodError>,
    ) -> Result<(), StageError> {
        self.0.iter_mut().try_for_each(|callback| {
            call(callback.as_mut()).map_err(|source| StageError::method(callback.name(), source))
        })
    }

    /// The model as it is validated and kept.
    pub fn for_evaluation(&self, model: M) -> Result<M, StageError> {
        self.0.iter().try_fold(model, |model, callback| {
            let model = callback.for_evaluation(model);
            model.map_err(|source| StageError::method(callback.name(), source))
        })
    }

    /// The state of every callback that has one, by name.
    pub fn states(&self) -> BTreeMap<String, CallbackState> {
        self.0
            .iter()
            .map(|callback| (callback.name().to_owned(), callback.state()))
            .filter(|(_, state)| !state.is_empty())
            .collect()
    }

    /// Gives the saved states back.
    pub fn load_states(
        &mut self,
        mut states: BTreeMap<String, CallbackState>,
    ) -> Result<(), StageError> {
        self.each(|callback| match states.remove(callback.name()) {
            Some(state) => callback.load_state(state),
            None => Ok(()),
        })?;
        for name in states.keys() {
            log::warn!("the checkpoint has a state of the callback `{name}`, which is not used");
        }
        Ok(())
    }
}
