//! Replaces dense feed-forward layers by experts.

use burn::module::Module;

use super::Surgery;
use crate::MethodError;

/// A dense model whose feed-forward neurons can be assigned to experts.
pub trait PartitionIntoExperts: Sized {
    /// Which neurons each expert owns, and how tokens find their experts.
    type Layout: Send;

    /// The model with expert layers in place of its dense feed-forward layers.
    ///
    /// # Errors
    ///
    /// If the layout does not fit the model.
    fn partition(self, layout: &Self::Layout) -> Result<Self, MethodError>;
}

/// Splits the feed-forward layers of a dense model into experts (`MoEBERT`, arXiv 2204.07675, section 3).
pub struct ExpertPartition<M: PartitionIntoExperts> {
    layout: M::Layout,
}

impl<M: PartitionIntoExperts> ExpertPartition<M> {
    /// Splits by this layout.
    pub fn new(layout: M::Layout) -> Self {
        Self { layout }
    }
}

impl<M: Module + PartitionIntoExperts> Surgery<M> for ExpertPartition<M> {
    fn name(&self) -> &'static str {
        "experts"
    }

    fn apply(&self, model: M) -> Result<M, MethodError> {
        model.partition(&self.layout)
    }
}
