//! A model on its way through the jobs of a stage.

use std::path::PathBuf;

use burn::prelude::Device;
use distill::LeftParts;
use moebert_core::{
    expert_files::ExpertFiles, importance::Importance, keep_layers::keep_layers, layered::Layered,
};

use super::super::{
    expert_files,
    family::{Family, Weights},
};
use crate::{
    error::Error,
    learner::ExpertPlan,
    recipe::{ExpertsRecipe, ModelPlan},
};

/// A model that is there.
pub(in crate::run) struct Model<F: Family> {
    pub(super) folder: F::Folder,
    pub(super) weights: Weights,
    /// The folder on disk, where it holds the model as it is.
    pub(super) dir: Option<PathBuf>,
    /// What the objectives of its training left, if anything.
    pub(super) left: Option<PathBuf>,
}

/// A model before its training.
pub(super) struct Begun<F: Family> {
    pub(super) learner: F::Learner,
    pub(super) folder: F::Folder,
    /// The layers that are left of the folder's.
    pub(super) kept: Option<Vec<usize>>,
    /// The folder on disk, if the model is exactly that.
    pub(super) base: Option<PathBuf>,
    pub(super) split: Option<Split>,
}

/// How the feed-forward layers of a model are split.
pub(super) struct Split {
    pub(super) plan: ExpertPlan,
    pub(super) importance: Option<Importance>,
    pub(super) dense_width: usize,
}

impl<F: Family> Model<F> {
    pub(super) fn given(folder: F::Folder, dir: PathBuf) -> Self {
        Self {
            folder,
            weights: Weights::Given,
            dir: Some(dir),
            left: None,
        }
    }

    /// What the objectives of its training left.
    pub(super) fn left(&self, device: &Device) -> Result<LeftParts, Error> {
        match &self.left {
            Some(path) => Ok(LeftParts::load(path, device)?),
            None => Ok(LeftParts::default()),
        }
    }

    /// The model, to be used as it is.
    pub(super) fn trained(self) -> Self {
        Self {
            weights: Weights::Trained,
            ..self
        }
    }
}

impl<F: Family> Begun<F> {
    /// The model in the structure that it is trained in.
    pub(super) fn split(self) -> Result<F::Learner, Error> {
        match self.split {
            Some(split) => Ok(split.plan.split(self.learner)?),
            None => Ok(self.learner),
        }
    }
}

impl Split {
    /// What is saved beside the weights.
    pub(super) fn files(
        &self,
        model: &impl Layered,
        recipe: &ExpertsRecipe,
    ) -> Result<ExpertFiles, Error> {
        let importance = self.importance.clone();
        expert_files(model, &self.plan, recipe, self.dense_width, importance)
    }
}

/// The model with the layers that a plan keeps, and their indices if some go.
pub(super) fn kept_layers<M: Layered>(
    plan: &ModelPlan,
    learner: M,
) -> Result<(M, Option<Vec<usize>>), Error> {
    let Some(layers) = &plan.keep_layers else {
        return Ok((learner, None));
    };
    let (depth, _) = learner.neurons();
    let kept = layers.indices(depth).map_err(|source| Error::OfModel {
        name: plan.name.clone(),
        source: source.into(),
    })?;
    let learner = keep_layers(learner, &kept);
    Ok((learner, (kept.len() < depth).then_some(kept)))
}
