//! The keys that the recipes of encoders and decoders share, and what differs.

use std::{collections::BTreeMap, fmt::Debug, path::Path};

use masformer_core::{Direction, MixerSchedule, SpanSchedule};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    CheckpointRecipe, ImportanceRecipe, ModelPlan, Problem, RandomStudent, StageRecipe, Tracking,
    TrainRecipe, stages,
};
use crate::{
    ablate::arms::Ablation,
    methods::{
        self, MethodTables, Model,
        experts::{EXPERTS, Experts},
    },
};

/// The stage of a recipe that names none.
const ONLY_STAGE: &str = "train";

/// What a run does: train and judge the models of its stages, under the changes of each arm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Recipe<T: RecipeFamily> {
    /// The run's name: letters, digits, `-`, `_` and `.`. The run folder is `runs/<name>` unless
    /// `--out` says otherwise.
    pub name: String,
    /// Every model is trained once per seed; the table shows their mean and spread. Default `[1]`.
    #[serde(default = "one_seed")]
    pub seeds: Vec<u64>,
    /// The model to begin with.
    #[serde(default)]
    pub model: T::Model,
    /// The task and its data.
    pub data: T::Data,
    /// How models are trained.
    #[serde(default)]
    pub train: TrainRecipe,
    /// When trainings write checkpoints.
    #[serde(default)]
    pub checkpoint: CheckpointRecipe,
    /// The programs that trainings are written for while they go on. The record of a run leaves it out, since nothing of a run depends
    /// on it. Default: none.
    #[serde(default, skip_serializing)]
    pub tracking: Vec<Tracking>,
    /// Shorter sequences in the first part of the training.
    #[serde(default)]
    pub grow: T::Grow,
    /// How models are judged.
    #[serde(default)]
    pub evaluate: T::Evaluate,
    /// How latency is measured.
    #[serde(default)]
    pub latency: T::Latency,
    /// The data that scores neurons.
    #[serde(default)]
    pub importance: ImportanceRecipe,
    /// The stages by their names. Default: one stage that trains the model.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stages: BTreeMap<String, StageRecipe>,
    /// The arms: each has a name and the keys that it changes. Default: one that changes nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arms: Vec<toml::Table>,
    /// The settings of methods that stages share, each under the name of its method.
    #[serde(flatten)]
    pub methods: MethodTables,
    /// The models of all arms, which loading works out.
    #[serde(skip)]
    pub(super) models: Vec<ModelPlan>,
    /// What the arms stand on, which loading works out.
    #[serde(skip)]
    pub(super) bases: Vec<Recipe<T>>,
    /// The ablation that the arms are of, if they are.
    #[serde(skip)]
    pub ablation: Option<Ablation>,
}

fn one_seed() -> Vec<u64> {
    vec![1]
}

/// The top-level keys of every recipe, but for the settings of methods.
pub(super) const SHARED_KEYS: [&str; 10] = [
    "name",
    "seeds",
    "model",
    "data",
    "train",
    "checkpoint",
    "tracking",
    "importance",
    "stages",
    "arms",
];

/// The parts of a recipe that differ between encoders and decoders.
pub trait RecipeFamily: Clone + Debug + PartialEq + 'static {
    /// `[model]`.
    type Model: Part + Default + StartModel;
    /// `[data]`.
    type Data: Part;
    /// `[[grow]]`.
    type Grow: Part + Default;
    /// `[evaluate]`.
    type Evaluate: Part + Default;
    /// `[latency]`.
    type Latency: Part + Default;
    /// What methods change and train.
    type Learner: Model;

    /// The top-level keys that are for this family alone.
    const KEYS: &'static [&'static str];
    /// Whether a model is also judged before its training where it starts as a given one.
    const JUDGES_BEFORE: bool;
    /// Whether tokens see later ones.
    const DIRECTION: Direction;

    /// The names of its tasks.
    fn tasks() -> Vec<&'static str>;

    /// The metrics that arms can be compared by.
    fn metrics(recipe: &Recipe<Self>) -> Vec<String>;

    /// Spells out the defaults that depend on other keys, for the record.
    fn complete(recipe: &mut Recipe<Self>);

    /// What cannot work in the parts that differ.
    fn problems(recipe: &Recipe<Self>) -> Vec<Problem>;

    /// Settings that nothing would read in the task of this recipe.
    fn ignored(recipe: &Recipe<Self>) -> Vec<Problem>;
}

/// A part of a recipe.
pub trait Part: Clone + Debug + PartialEq + Serialize + DeserializeOwned {}

impl<P: Clone + Debug + PartialEq + Serialize + DeserializeOwned> Part for P {}

/// A table that the recipes of a family do not have, always absent as `Option<NoKeys>`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum NoKeys {}

/// `[model]` of any family.
pub trait StartModel {
    /// What its layers attend to, if that is set.
    fn spans(&self) -> Option<&SpanSchedule>;

    /// What its layers mix tokens with, if that is set.
    fn mixers(&self) -> Option<&MixerSchedule>;

    /// The local folder that it is in.
    fn folder(&self) -> Option<&Path>;

    /// Its size, if its weights are drawn.
    fn fresh(&self) -> Option<RandomStudent>;

    /// The same model with the spans and mixers of another table.
    #[must_use]
    fn arranged_as(self, other: &Self) -> Self;
}

impl<T: RecipeFamily> Recipe<T> {
    /// The models of a run, each after those that it needs: what is begun with, where that is judged, then the stages
    /// that arms share, then the last stage of each arm.
    pub fn plan(&self) -> &[ModelPlan] {
        &self.models
    }

    /// The recipes that the arms stand on, each with the models of its arms: one for each choice of what models begin with,
    /// read and are judged by. There is one unless arms change these.
    pub fn bases(&self) -> &[Self] {
        &self.bases
    }

    /// The names of `[[arms]]`, in their order.
    pub fn arm_names(&self) -> Vec<&str> {
        let names = self.arms.iter().map(|arm| arm.get("name"));
        names.filter_map(|name| name?.as_str()).collect()
    }

    /// This recipe with what the models of an arm begin with, read and are judged by.
    pub(super) fn with_base_of(&self, arm: &Self) -> Self {
        Self {
            model: arm.model.clone().arranged_as(&self.model),
            data: arm.data.clone(),
            grow: arm.grow.clone(),
            evaluate: arm.evaluate.clone(),
            latency: arm.latency.clone(),
            importance: arm.importance.clone(),
            ..self.clone()
        }
    }

    /// Whether this recipe is what another one is with the base of an arm.
    pub(super) fn is_base_of(&self, recipe: &Self, arm: &Self) -> bool {
        self.data == arm.data
            && self.grow == arm.grow
            && self.evaluate == arm.evaluate
            && self.latency == arm.latency
            && self.importance == arm.importance
            && self.model == arm.model.clone().arranged_as(&recipe.model)
    }

    /// All its values, with the defaults of methods.
    pub(super) fn with_defaults(&self) -> toml::Table {
        // A recipe that was read can be written.
        let mut table = toml::Table::try_from(self).unwrap_or_default();
        for name in methods::names::<T::Learner>() {
            let settings = methods::settings::<T::Learner>(name, self.methods.get(name));
            if let Some(settings) = settings {
                table.insert(name.to_owned(), settings.into());
            }
        }
        table
    }

    /// Puts the stage that is meant where none is named.
    pub(super) fn with_stages(mut self) -> Self {
        if self.stages.is_empty() {
            let only = StageRecipe::default();
            self.stages.insert(ONLY_STAGE.to_owned(), only);
        }
        self
    }

    /// The methods of a stage with all their settings: the shared ones over the defaults, and the stage's own over these.
    pub fn methods_of(&self, stage: &StageRecipe) -> MethodTables {
        let own = stage.methods.tables().into_iter();
        let methods = own.filter_map(|(name, own)| {
            let settings = self.settings_of(&name, &own)?;
            Some((name, settings))
        });
        methods.collect()
    }

    /// All settings of a method of a stage that has these of its own.
    fn settings_of(&self, method: &str, own: &toml::Table) -> Option<toml::Table> {
        let layers = self.methods.get(method).into_iter().chain([own]);
        methods::settings::<T::Learner>(method, layers)
    }

    /// How a stage splits its model into experts, if it does.
    pub fn experts_of(&self, stage: &StageRecipe) -> Option<Experts> {
        let own = stage.methods.tables().remove(EXPERTS)?;
        let settings = self.settings_of(EXPERTS, &own)?;
        // Settings that are none of this method are refused elsewhere.
        settings.try_into().ok()
    }

    /// How a stage is trained: `[train]` with its own keys on top.
    pub fn train_of(&self, stage: &StageRecipe) -> TrainRecipe {
        self.train.with(&stage.train)
    }

    /// The stage whose model a stage starts from, if it starts from another one.
    pub fn start_of(&self, stage: &StageRecipe) -> Option<&str> {
        stages::start(&self.stages, stage)
    }

    /// The stage that the methods of a stage compare it with.
    pub fn teacher_of(&self, stage: &StageRecipe) -> Option<&str> {
        let teacher = stage.teacher.as_ref().or(stage.from.as_ref())?;
        let (name, _) = self.stages.get_key_value(teacher)?;
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AnyRecipe, SHIPPED, of_any};
    use super::*;

    fn own<T: RecipeFamily>(_: &Recipe<T>) -> &'static [&'static str] {
        T::KEYS
    }

    #[test]
    fn every_key_of_a_record_is_known() {
        for (name, _) in SHIPPED {
            let folders = ["model.path=m", "data.path=d"].map(str::to_owned);
            let Ok(recipe) = AnyRecipe::load(name, &folders).or(AnyRecipe::load(name, &[])) else {
                continue;
            };
            let (keys, own) =
                of_any!(&recipe, recipe => (toml::Table::try_from(recipe), own(recipe)));
            for key in keys.expect("TOML").keys() {
                let is_known = SHARED_KEYS.contains(&key.as_str()) || own.contains(&key.as_str());
                assert!(
                    is_known
                        || methods::names::<crate::learner::TaskLearner>().contains(&key.as_str()),
                    "{key}"
                );
            }
        }
    }
}
