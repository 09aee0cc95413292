//! What the pipeline must know of a family of models and its task: all that differs between encoders and decoders.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use burn::{data::dataloader::DataLoader, prelude::*};
use distill::{
    Batch, Epoch, Method, Stage, Trainable, WithoutAutodiff, surgery::PartitionIntoExperts,
};
use masformer_core::{MixerSpec, Span};
use moebert_core::{expert_files::ExpertFiles, layered::Layered};

use crate::{
    error::Error,
    interrupt::Stop,
    learner::ExpertPlan,
    predictions::Judgement,
    recipe::{ImportanceRecipe, ModelPlan, RandomStudent, TrainRecipe},
    table::{AttentionCost, Row},
};

use super::{Progress, curves::Curve};

/// A model that can be trained, split into experts and measured, with the loss of its task.
pub(super) trait Learner:
    Trainable<Batch: WithoutAutodiff> + Layered + PartitionIntoExperts<Layout = ExpertPlan>
{
}

impl<M> Learner for M where
    M: Trainable<Batch: WithoutAutodiff> + Layered + PartitionIntoExperts<Layout = ExpertPlan>
{
}

/// Where the weights of a folder come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weights {
    /// The run has drawn them.
    Drawn,
    /// They were given: the head of another task, or parts that a file has not, are drawn and reported.
    Given,
    /// They were trained on the task: nothing may be missing.
    Trained,
}

/// What of a model is saved besides its weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extras<'a> {
    /// What the model was made by.
    pub plan: &'a ModelPlan,
    /// The layers that are left of those of its folder, by their indices from 0.
    pub kept: Option<&'a [usize]>,
    /// The expert files of a model with experts.
    pub experts: Option<&'a ExpertFiles>,
    /// The folder that the model started as, if it is that folder's but for what it was trained to.
    pub base: Option<&'a Path>,
}

/// The text of a token by its id, if it has one.
pub(super) type TokenTexts<'a> = Box<dyn Fn(u32) -> Option<String> + 'a>;

/// A family of models, with a task and its data at hand.
pub(super) trait Family {
    /// A model with the loss of the task.
    type Learner: Learner;
    /// An open folder of a model, under the arrangement that it is to be used in.
    type Folder: Clone;

    /// The folder to begin with, and where it is; none where weights are drawn.
    fn start(&self) -> Result<Option<(PathBuf, Self::Folder)>, Error>;

    /// Draws weights from the device's generator and saves the model to begin with, or one of another size.
    fn draw(&self, dir: &Path, size: Option<&RandomStudent>, device: &Device) -> Result<(), Error>;

    /// Opens the folder of a model.
    fn open(&self, dir: &Path) -> Result<Self::Folder, Error>;

    /// The folder with the spans and mixers of a plan.
    fn arrange(&self, folder: Self::Folder, plan: &ModelPlan) -> Result<Self::Folder, Error>;

    /// What the layers of a folder attend to and mix tokens with, from the bottom.
    fn layers(&self, folder: &Self::Folder) -> (Vec<Span>, Vec<MixerSpec>);

    /// The expert files of a folder.
    fn experts<'a>(&self, folder: &'a Self::Folder) -> Option<&'a ExpertFiles>;

    /// The model of a folder in evaluation form.
    fn load(
        &self,
        folder: &Self::Folder,
        weights: Weights,
        progress: Progress,
        device: &Device,
    ) -> Result<Self::Learner, Error>;

    /// Saves a model that began as that of a folder.
    fn save(
        &self,
        dir: &Path,
        learner: Self::Learner,
        folder: &Self::Folder,
        extras: Extras<'_>,
    ) -> Result<(), Error>;

    /// The name of the task.
    fn task(&self) -> String;

    /// The data to train on.
    fn train(
        &self,
        recipe: &TrainRecipe,
        seed: u64,
        epoch: Epoch,
        device: &Device,
    ) -> Result<Arc<dyn DataLoader<Batch<Self::Learner>>>, Error>;

    /// The data to validate on after each epoch.
    fn dev(
        &self,
        recipe: &TrainRecipe,
        device: &Device,
    ) -> Result<Arc<dyn DataLoader<Batch<Self::Learner>>>, Error>;

    /// The data that scores neurons.
    fn scoring(
        &self,
        recipe: &ImportanceRecipe,
        device: &Device,
    ) -> Result<Arc<dyn DataLoader<Batch<Self::Learner>>>, Error>;

    /// How often each token id occurs in the training data, `V` entries.
    fn token_counts(&self, vocabulary: usize) -> Result<Vec<u64>, Error>;

    /// The texts of tokens by their ids; none where an id has no text.
    ///
    /// # Errors
    ///
    /// If a tokenizer cannot be read.
    fn token_texts(&self) -> Result<TokenTexts<'_>, Error>;

    /// The model with what its metrics need in training.
    fn measured(&self, learner: Self::Learner) -> Self::Learner {
        learner
    }

    /// What takes part in the loop of every training.
    fn callbacks(&self) -> Vec<Method<Self::Learner>> {
        vec![]
    }

    /// The stage with its metrics, and with what decides between epochs.
    fn metrics(&self, stage: Stage<Self::Learner>, recipe: &TrainRecipe) -> Stage<Self::Learner>;

    /// The scores of a model on the data to judge by, with its answers.
    fn judge(
        &self,
        learner: &Self::Learner,
        progress: Progress,
        stop: &Stop,
    ) -> Result<Judgement, Error>;

    /// Tokens of a sequence that costs are counted for.
    fn length(&self) -> usize;

    /// What attention costs in a sequence of that length, where it matters.
    fn attention(&self, folder: &Self::Folder) -> Option<AttentionCost>;

    /// The times of forward passes of each model in milliseconds, the models taking turns.
    fn latencies(&self, learners: &[Self::Learner], stop: &Stop) -> Result<Vec<Vec<f64>>, Error>;

    /// The scores that the table shows, in its order.
    fn columns(&self, rows: &[Row]) -> Vec<String>;

    /// The picture of the trainings.
    fn curve(&self) -> Curve;
}
