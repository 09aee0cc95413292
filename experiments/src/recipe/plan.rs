//! The models that a recipe asks for, in the same terms for every family of models.

use std::path::PathBuf;

use distill::loss::Padding;
use masformer_core::{MixerSchedule, SpanSchedule};
use moebert_core::keep_layers::KeepLayers;
use serde::Serialize;

use super::{ExpertsRecipe, LanguageRecipe, Recipe, StudentRecipe, TrainRecipe};
use crate::methods::{MethodTables, table};

/// The name in the table of the model that language models begin with.
pub(crate) const CHECKPOINT: &str = "checkpoint";
/// The name in the table of the model that students are cut from.
pub(crate) const TEACHER: &str = "teacher";

/// A model of a run: where its weights come from, how it is changed and trained, and what it learns from.
///
/// Serialised, it is what determines the model apart from its origin, its teacher and the data.
#[derive(Clone, Debug, Serialize)]
pub struct ModelPlan {
    /// Its name in the table and in the run folder.
    #[serde(skip)]
    pub name: String,
    /// Where its weights come from.
    #[serde(skip)]
    pub from: Origin,
    /// The layers that it keeps of those.
    pub keep_layers: Option<KeepLayers>,
    /// What its layers attend to; absent: what those of its origin do.
    pub spans: Option<SpanSchedule>,
    /// What its layers mix tokens with; absent: what those of its origin do.
    pub mixers: Option<MixerSchedule>,
    /// How its feed-forward layers are split.
    pub experts: Option<ExpertsRecipe>,
    /// What its routers add to the loss.
    pub routers: RouterWeights,
    /// The model, further up, that its methods compare it with.
    #[serde(skip)]
    pub teacher: Option<String>,
    /// The factor of the labels' loss.
    pub task: f64,
    /// What else it learns from.
    pub methods: MethodTables,
    /// How it is trained; absent: it is judged as it is.
    pub train: Option<TrainRecipe>,
    /// Whether it is also judged before its training.
    #[serde(skip)]
    pub judge_before: bool,
    /// What a legend says of it besides its name.
    #[serde(skip)]
    pub legend: Option<String>,
}

/// Where a model's weights come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The model of the recipe's `[model]`.
    Start,
    /// A model further up in the plan.
    Model(String),
    /// A folder of its own.
    Folder(PathBuf),
}

/// Weights of what routers add to the loss.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RouterWeights {
    /// The balance loss of gates.
    pub balance: f64,
    /// The z-loss of the router `top-k`.
    pub z: f64,
    /// Whether padded tokens count in the balance loss.
    pub padding: Padding,
}

impl ModelPlan {
    /// A model that is judged as it is.
    fn of(name: &str, from: Origin) -> Self {
        Self {
            name: name.to_owned(),
            from,
            keep_layers: None,
            spans: None,
            mixers: None,
            experts: None,
            routers: RouterWeights::default(),
            teacher: None,
            task: 1.0,
            methods: MethodTables::new(),
            train: None,
            judge_before: false,
            legend: None,
        }
    }
}

impl Recipe {
    /// The teacher, then the students.
    pub fn plan(&self) -> Vec<ModelPlan> {
        let teacher = ModelPlan {
            spans: self.model.spans.clone(),
            mixers: self.model.mixers.clone(),
            train: (!self.teacher.fine_tuned).then(|| self.teacher_train()),
            ..ModelPlan::of(TEACHER, Origin::Start)
        };
        let students = self
            .students
            .iter()
            .map(|student| self.student_plan(student));
        [teacher].into_iter().chain(students).collect()
    }

    fn student_plan(&self, student: &StudentRecipe) -> ModelPlan {
        let distill = &self.distill;
        let from = match &student.model {
            Some(dir) => Origin::Folder(dir.clone()),
            None => Origin::Model(TEACHER.to_owned()),
        };
        let mut methods = student.methods.clone();
        if student.distill {
            methods.insert("layerwise".to_owned(), table(&distill.layerwise()));
        }
        ModelPlan {
            keep_layers: student.keep_layers.clone(),
            experts: student.has_experts().then(|| self.student_experts(student)),
            routers: RouterWeights {
                balance: distill.balance,
                z: distill.z,
                padding: distill.padding,
            },
            teacher: (!methods.is_empty()).then(|| TEACHER.to_owned()),
            task: student.task,
            methods,
            train: Some(self.student_train()),
            ..ModelPlan::of(&student.name, from)
        }
    }
}

impl LanguageRecipe {
    /// The model of a folder as it is, then the models in their order.
    pub fn plan(&self) -> Vec<ModelPlan> {
        let is_pretrained = self.model.path.is_some();
        let start = is_pretrained.then(|| ModelPlan::of(CHECKPOINT, Origin::Start));
        let models = self.models.iter().map(|model| ModelPlan {
            spans: Some(model.spans.clone()),
            mixers: model.mixers.clone(),
            experts: model.experts.clone(),
            routers: RouterWeights {
                balance: self.router.balance,
                z: self.router.z,
                padding: Padding::Exclude,
            },
            teacher: model.teacher.clone(),
            task: model.task,
            methods: model.methods.clone(),
            train: Some(self.train.with(&model.train)),
            judge_before: is_pretrained,
            legend: Some(model.layers()),
            ..ModelPlan::of(&model.name, Origin::Start)
        });
        start.into_iter().chain(models).collect()
    }
}
