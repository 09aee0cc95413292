//! Replaces dense feed-forward layers by experts before the training.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{Callback, CallbackError, CallbackModel};

/// A dense model whose feed-forward neurons can be dealt to experts.
pub trait PartitionIntoExperts: Sized {
    /// Which neurons each expert owns.
    type Layout: Serialize + DeserializeOwned + Clone + Send;

    /// Feed-forward layers and neurons in each.
    fn neurons(&self) -> (usize, usize);

    /// The model with expert layers in place of its dense feed-forward layers.
    ///
    /// # Errors
    ///
    /// If the layout does not fit the model.
    fn partition(self, layout: &Self::Layout) -> Result<Self, CallbackError>;
}

/// Deals the neurons of a dense model to experts before the training.
///
/// The layout is saved with the checkpoints, so a stage that goes on has the same experts, whatever
/// the plan would say then.
pub struct ExpertPartition<M: PartitionIntoExperts> {
    plan: Box<Plan<M>>,
    layout: Option<M::Layout>,
}

type Plan<M> =
    dyn FnMut(usize, usize) -> Result<<M as PartitionIntoExperts>::Layout, CallbackError> + Send;

impl<M: PartitionIntoExperts> ExpertPartition<M> {
    /// Partitions by the layout that `plan` makes for so many layers of so many neurons. It is called
    /// when the importance scores are there.
    pub fn new(
        plan: impl FnMut(usize, usize) -> Result<M::Layout, CallbackError> + Send + 'static,
    ) -> Self {
        Self {
            plan: Box::new(plan),
            layout: None,
        }
    }
}

impl<M: CallbackModel + PartitionIntoExperts> Callback<M> for ExpertPartition<M> {
    fn name(&self) -> &'static str {
        "expert-partition"
    }

    /// After the scores, before what looks at the experts.
    fn order(&self) -> i32 {
        -10
    }

    fn before_fit(&mut self, model: M) -> Result<M, CallbackError> {
        let layout = if let Some(layout) = self.layout.take() {
            layout
        } else {
            let (layers, width) = model.neurons();
            (self.plan)(layers, width)?
        };
        let model = model.partition(&layout)?;
        self.layout = Some(layout);
        Ok(model)
    }

    fn state(&self) -> Value {
        // A layout is numbers; should one not be JSON, the plan is followed again.
        serde_json::to_value(&self.layout).unwrap_or_default()
    }

    fn load_state(&mut self, state: Value) -> Result<(), CallbackError> {
        self.layout = serde_json::from_value(state)?;
        Ok(())
    }
}
