//! The seam for what makes one model another before its training, one method a file.

pub mod drop_tokens;
pub mod experts;
pub mod lora;
pub mod losparse;

use burn::module::Module;
use masformer_core::linear::forms;

use crate::MethodError;

pub use drop_tokens::DropTokens;
pub use experts::{ExpertPartition, PartitionIntoExperts};
pub use lora::{Lora, LoraScale};
pub use losparse::LoSparse;

/// A method that changes the structure of a model before it is trained.
///
/// It must make the same structure each time: after a stop it runs again, and the saved parameters are loaded into what
/// it returns.
pub trait Surgery<M: Module>: Send {
    /// A name that is unique in a stage; errors go by it.
    fn name(&self) -> &'static str;

    /// Refuses settings that cannot work, whatever the model is.
    ///
    /// # Errors
    ///
    /// What is wrong with a setting.
    fn check(&self) -> Result<(), MethodError> {
        Ok(())
    }

    /// The changed model. Parameters that stay should keep their ids.
    ///
    /// # Errors
    ///
    /// If the method does not fit the model.
    fn apply(&self, model: M) -> Result<M, MethodError>;

    /// The model as it is kept after its training, which may be of another structure.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    fn finish(&self, model: M) -> Result<M, MethodError> {
        Ok(model)
    }
}

/// Checks that all weights of a model are plain matrices: a weight has one form alone.
fn check_plain<M: Module>(model: &M) -> Result<(), MethodError> {
    match forms(model).first() {
        Some(form) => Err(format!(
            "some weights have the form `{form}` already, and a weight can have one alone; begin with a model whose weights are \
             plain matrices"
        )
        .into()),
        None => Ok(()),
    }
}
