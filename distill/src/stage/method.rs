//! The methods of a stage, whatever their form.

use crate::{Callback, MethodError, Objective, Surgery, Trainable};

/// A method in one of its three forms. Most methods have one; a paper may need several, under one name.
pub enum Method<M: Trainable> {
    /// Changes the model before the training.
    Surgery(Box<dyn Surgery<M>>),
    /// Adds terms to the loss.
    Objective(Box<dyn Objective>),
    /// Takes part in the loop.
    Callback(Box<dyn Callback<M>>),
}

impl<M: Trainable> Method<M> {
    /// Refuses settings that cannot work, whatever the models are.
    ///
    /// # Errors
    ///
    /// What is wrong with a setting.
    pub fn check(&self) -> Result<(), MethodError> {
        match self {
            Self::Surgery(surgery) => surgery.check(),
            Self::Objective(objective) => objective.check(),
            Self::Callback(callback) => callback.check(),
        }
    }

    /// Whether it compares the model with a teacher.
    pub fn needs_teacher(&self) -> bool {
        match self {
            Self::Objective(objective) => objective.keep_of_teacher().is_some(),
            Self::Surgery(_) | Self::Callback(_) => false,
        }
    }

    /// Whether it adds to the loss, so that a model can learn from it alone.
    pub fn adds_to_loss(&self) -> bool {
        match self {
            Self::Objective(objective) => objective.adds_to_loss(),
            Self::Surgery(_) | Self::Callback(_) => false,
        }
    }

    /// Whether the model stays as it is while weights of the method are trained.
    pub fn freezes_model(&self) -> bool {
        match self {
            Self::Objective(objective) => objective.freezes_model(),
            Self::Surgery(_) | Self::Callback(_) => false,
        }
    }

    /// The method whose weights it begins with, which student and teacher were trained with.
    pub fn begins_with(&self) -> Option<&'static str> {
        match self {
            Self::Objective(objective) => objective.begins_with(),
            Self::Surgery(_) | Self::Callback(_) => None,
        }
    }
}
