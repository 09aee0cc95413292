//! The keys of a recipe that are for encoders alone, their meaning and their defaults.

mod validate;

use std::path::{Path, PathBuf};

use masformer_core::{Direction, MixerSchedule, SpanSchedule};
use moebert_core::heads::Head;
use serde::{Deserialize, Serialize};

use super::{
    Problem, RandomStudent, Recipe, RecipeFamily, StartModel, Task, random, schema::NoKeys,
};
use crate::{data::squad::windows::WindowConfig, learner::TaskLearner};

/// The recipes of encoders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfEncoders;

impl RecipeFamily for OfEncoders {
    type Model = EncoderModel;
    type Data = DataRecipe;
    type Grow = Option<NoKeys>;
    type Evaluate = Option<NoKeys>;
    type Latency = LatencyRecipe;
    type Learner = TaskLearner;

    const KEYS: &'static [&'static str] = &["latency"];
    const JUDGES_BEFORE: bool = false;
    const DIRECTION: Direction = Direction::Bidirectional;

    fn tasks() -> Vec<&'static str> {
        Task::all().map(Task::name).collect()
    }

    fn metrics(recipe: &Recipe<Self>) -> Vec<String> {
        recipe.data.task.metrics()
    }

    fn complete(recipe: &mut Recipe<Self>) {
        let data = &mut recipe.data;
        data.max_length = Some(data.max_length());
        match data.task {
            Task::Glue(_) => {}
            Task::Squad(_) => drop(data.squad.get_or_insert_default()),
            Task::Synthetic => drop(data.synthetic.get_or_insert_default()),
        }
    }

    fn problems(recipe: &Recipe<Self>) -> Vec<Problem> {
        validate::problems(recipe)
    }

    /// A regression compares numbers, which have no temperature.
    fn ignored(recipe: &Recipe<Self>) -> Vec<Problem> {
        let mut found = vec![];
        if recipe.data.task.head() != Head::Regression {
            return found;
        }
        for (name, stage) in &recipe.stages {
            let methods = recipe.methods_of(stage);
            let Some(settings) = methods.get("layerwise") else {
                continue;
            };
            let reason = "is for classes, and a regression compares logits by their squared error: leave it out";
            let number = |value: &toml::Value| {
                value
                    .as_float()
                    .or(value.as_integer().map(|value| value as f64))
            };
            let temperature = settings.get("temperature").and_then(number);
            let is_kl = settings.get("logits").and_then(toml::Value::as_str) == Some("kl");
            let is_set = [
                (
                    "temperature",
                    temperature.is_some_and(|it| (it - 1.0).abs() > 0.0),
                ),
                ("logits", is_kl),
            ];
            for (setting, _) in is_set.into_iter().filter(|(_, is_set)| *is_set) {
                let key = super::validate::setting(stage, name, "layerwise", setting);
                found.push((key, reason.to_owned()));
            }
        }
        found
    }
}

/// `[model]`: the model to begin with. Exactly one of `path`, `hub` and `random` is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncoderModel {
    /// A Hugging Face folder: `config.json`, weights, tokenizer.
    pub path: Option<PathBuf>,
    /// A model of the Hugging Face hub, `org/name`. Needs a kiln built with the feature `hub`.
    pub hub: Option<String>,
    /// A fresh BERT with a tokenizer trained on the data.
    pub random: Option<RandomModel>,
    /// What its layers attend to, such as `every:3 window:128`. Absent: what those of the folder do, or
    /// everything for a fresh model.
    pub spans: Option<SpanSchedule>,
    /// What its layers mix tokens with, such as `top:1 s4d`. Absent: what those of the folder do, or
    /// attention for a fresh model. Mixers that the folder has no weights of start anew.
    pub mixers: Option<MixerSchedule>,
}

impl StartModel for EncoderModel {
    fn spans(&self) -> Option<&SpanSchedule> {
        self.spans.as_ref()
    }

    fn mixers(&self) -> Option<&MixerSchedule> {
        self.mixers.as_ref()
    }

    fn folder(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    fn fresh(&self) -> Option<RandomStudent> {
        self.random.as_ref().map(RandomModel::size)
    }

    fn arranged_as(self, other: &Self) -> Self {
        Self {
            spans: other.spans.clone(),
            mixers: other.mixers.clone(),
            ..self
        }
    }
}

/// `[model.random]`: the size of a fresh BERT.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomModel {
    /// Number of transformer layers L.
    pub layers: usize,
    /// Hidden size D, a multiple of `heads`.
    pub hidden: usize,
    /// Attention heads H.
    pub heads: usize,
    /// Feed-forward width F.
    pub width: usize,
    /// Vocabulary size V of the tokenizer that is trained on the data.
    pub vocabulary: usize,
    /// Longest input in tokens. Default 512.
    #[serde(default = "bert_positions")]
    pub positions: usize,
    /// Dropout of hidden states and attention. Default 0.1.
    #[serde(default = "random::dropout")]
    pub dropout: f64,
    /// Standard deviation of the weights at the start. Default 0.02, BERT's; a narrow model learns
    /// faster from about `1 / sqrt(hidden)`.
    #[serde(default = "random::initializer_range")]
    pub initializer_range: f64,
}

fn bert_positions() -> usize {
    512
}

impl RandomModel {
    /// Its size, without its tokens and positions.
    pub fn size(&self) -> RandomStudent {
        RandomStudent {
            layers: self.layers,
            hidden: self.hidden,
            heads: self.heads,
            width: self.width,
            dropout: self.dropout,
            initializer_range: self.initializer_range,
        }
    }
}

/// `[data]`: the task and where its files are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataRecipe {
    /// `cola`, `sst2`, `mrpc`, `qqp`, `stsb`, `mnli`, `qnli`, `rte`, `wnli`, `squad`, `squad2` or
    /// `synthetic`.
    pub task: Task,
    /// The folder with the task's files, as GLUE and `SQuAD` publish them. Not for `synthetic`.
    pub path: Option<PathBuf>,
    /// A data set of the Hugging Face hub, `org/name`. Needs a kiln built with the feature `hub`.
    pub hub: Option<String>,
    /// Longest input in tokens; longer ones are cut (`SQuAD`: covered by sliding windows). Default
    /// 384 for `squad` and `squad2`, 128 otherwise.
    pub max_length: Option<usize>,
    /// How passages are read and answers are found; for `squad` and `squad2` only.
    pub squad: Option<SquadData>,
    /// How the data is made; for `synthetic` only.
    pub synthetic: Option<SyntheticData>,
}

impl DataRecipe {
    /// A task with the defaults, its files yet to be named.
    pub fn new(task: Task) -> Self {
        Self {
            task,
            path: None,
            hub: None,
            max_length: None,
            squad: None,
            synthetic: None,
        }
    }

    /// The longest input in tokens.
    pub fn max_length(&self) -> usize {
        self.max_length.unwrap_or(self.task.max_length())
    }
}

/// `[data.squad]`: long passages and answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SquadData {
    /// Tokens that two neighbouring windows of a long passage share. Default 128.
    pub doc_stride: usize,
    /// Questions are cut to this many tokens. Default 64.
    pub max_query_length: usize,
    /// Longest answer in tokens. Default 30.
    pub max_answer_length: usize,
}

impl SquadData {
    /// How passages are cut into inputs of at most `max_length` tokens.
    pub fn windows(&self, max_length: usize) -> WindowConfig {
        WindowConfig {
            max_length,
            doc_stride: self.doc_stride,
            max_query_length: self.max_query_length,
        }
    }
}

impl Default for SquadData {
    fn default() -> Self {
        Self {
            doc_stride: 128,
            max_query_length: 64,
            max_answer_length: 30,
        }
    }
}

/// `[data.synthetic]`: the data that kiln makes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SyntheticData {
    /// Decides every sentence. The same for all seeds of the run. Default 1.
    pub seed: u64,
    /// Examples to train on. Default 4000.
    pub train: usize,
    /// Examples to judge on. Default 1000.
    pub dev: usize,
}

impl Default for SyntheticData {
    fn default() -> Self {
        Self {
            seed: 1,
            train: 4000,
            dev: 1000,
        }
    }
}

/// `[latency]`: how the time of a forward pass is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LatencyRecipe {
    /// Sequences a batch. Default 1.
    pub batch: usize,
    /// Tokens a sequence. Default 128.
    pub length: usize,
    /// Timed passes; the median counts. Default 20.
    pub repeats: usize,
}

impl Default for LatencyRecipe {
    fn default() -> Self {
        Self {
            batch: 1,
            length: 128,
            repeats: 20,
        }
    }
}
