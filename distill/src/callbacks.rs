//! The callbacks of a stage in their order, and the methods that ship with Kiln, one a file.

pub mod growing_length;
pub mod importance;
pub mod layerwise;
pub mod partition;
pub mod router;

use std::collections::BTreeMap;

use masformer_core::Keep;
use serde_json::Value;

use crate::{Callback, CallbackError, CallbackModel, StageError};

pub use growing_length::{Cut, GrowingLength, Growth};
pub use importance::{ImportanceScores, NeuronImportance};
pub use layerwise::{LayerwiseConfig, LayerwiseDistillation};
pub use partition::{ExpertPartition, PartitionIntoExperts};
pub use router::RouterLosses;

/// Callbacks in the order in which they run.
pub(crate) struct Callbacks<M: CallbackModel>(Vec<Box<dyn Callback<M>>>);

impl<M: CallbackModel> Default for Callbacks<M> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<M: CallbackModel> Callbacks<M> {
    /// Sorts the callbacks by their order; refuses two of one name.
    pub fn new(mut callbacks: Vec<Box<dyn Callback<M>>>) -> Result<Self, StageError> {
        callbacks.sort_by_key(|callback| callback.order());
        for (index, callback) in callbacks.iter().enumerate() {
            let name = callback.name();
            if callbacks[..index].iter().any(|other| other.name() == name) {
                return Err(StageError::DuplicateCallback(name.to_owned()));
            }
        }
        Ok(Self(callbacks))
    }

    /// Everything any callback wants kept.
    pub fn keep(&self) -> Keep {
        self.0
            .iter()
            .fold(Keep::default(), |keep, callback| keep.or(callback.keep()))
    }

    /// Whether any adds to the loss.
    pub fn add_to_loss(&self) -> bool {
        self.0.iter().any(|callback| callback.adds_to_loss())
    }

    /// Calls each in turn; the first error ends it and gets the callback's name.
    pub fn each(
        &mut self,
        mut call: impl FnMut(&mut dyn Callback<M>) -> Result<(), CallbackError>,
    ) -> Result<(), StageError> {
        self.fold((), |callback, ()| call(callback))
    }

    /// Passes a value through each in turn, as [`each`](Self::each).
    pub fn fold<T>(
        &mut self,
        value: T,
        mut call: impl FnMut(&mut dyn Callback<M>, T) -> Result<T, CallbackError>,
    ) -> Result<T, StageError> {
        self.0.iter_mut().try_fold(value, |value, callback| {
            call(callback.as_mut(), value).map_err(|source| StageError::Callback {
                name: callback.name().to_owned(),
                source,
            })
        })
    }

    /// The state of every callback that has one, by name.
    pub fn states(&self) -> BTreeMap<String, Value> {
        self.0
            .iter()
            .map(|callback| (callback.name().to_owned(), callback.state()))
            .filter(|(_, state)| !state.is_null())
            .collect()
    }

    /// Gives the saved states back.
    pub fn load_states(&mut self, mut states: BTreeMap<String, Value>) -> Result<(), StageError> {
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
