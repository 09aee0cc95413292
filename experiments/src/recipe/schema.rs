//! The keys of a recipe, their meaning and their defaults.

use std::{fmt, path::PathBuf};

use distill::{
    CheckpointEvery, LayerMap,
    loss::{LogitsForm, Padding},
    objective::Layerwise,
};
use masformer_core::{MixerSchedule, SpanSchedule};
use moebert_core::keep_layers::KeepLayers;
use moebert_core::partition::{NeuronOrder, PartitionConfig};
use moebert_core::router::{GateScale, RouterConfig, RouterKind};
use serde::{Deserialize, Serialize};

use super::task::Task;
use crate::{data::squad::windows::WindowConfig, methods::MethodTables};

/// What a run does: fine-tune a teacher, score its neurons, cut it into students, train and measure
/// them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The run's name: letters, digits, `-`, `_` and `.`. The run folder is `runs/<name>` unless
    /// `--out` says otherwise.
    pub name: String,
    /// One whole run of the pipeline a seed; the table shows their mean and spread. Default `[1]`.
    #[serde(default = "one_seed")]
    pub seeds: Vec<u64>,
    /// The model to begin with.
    #[serde(default)]
    pub model: ModelRecipe,
    /// The task and its data.
    pub data: DataRecipe,
    /// Training, of the teacher and of the students.
    #[serde(default)]
    pub train: TrainRecipe,
    /// When trainings write checkpoints.
    #[serde(default)]
    pub checkpoint: CheckpointRecipe,
    /// What is different for the teacher.
    #[serde(default)]
    pub teacher: TeacherRecipe,
    /// How neurons are scored.
    #[serde(default)]
    pub importance: ImportanceRecipe,
    /// How feed-forward layers become experts.
    #[serde(default)]
    pub experts: ExpertsRecipe,
    /// What a student learns from the teacher.
    #[serde(default)]
    pub distill: DistillRecipe,
    /// How latency is measured.
    #[serde(default)]
    pub latency: LatencyRecipe,
    /// The models to compare, at least one.
    pub students: Vec<StudentRecipe>,
}

pub(super) fn one_seed() -> Vec<u64> {
    vec![1]
}

impl Recipe {
    /// How the teacher is fine-tuned: `[train]` with `[teacher.train]` on top.
    pub fn teacher_train(&self) -> TrainRecipe {
        self.train.with(&self.teacher.train)
    }

    /// How every student is trained, distilled or not: `[train]` with `[distill.train]` on top.
    pub fn student_train(&self) -> TrainRecipe {
        self.train.with(&self.distill.train)
    }

    /// The students that are cut into experts.
    pub fn expert_students(&self) -> impl Iterator<Item = &StudentRecipe> {
        self.students.iter().filter(|student| student.has_experts())
    }

    /// How `student` is cut into experts: `[experts]` with the student's own keys on top.
    pub fn student_experts(&self, student: &StudentRecipe) -> ExpertsRecipe {
        let shared = &self.experts;
        ExpertsRecipe {
            count: student.count.unwrap_or(shared.count),
            width: student.width.unwrap_or(shared.width),
            shared: student.shared.unwrap_or(shared.shared),
            order: student.order.unwrap_or(shared.order),
            router: student.router.unwrap_or(shared.router),
            k: student.k.unwrap_or(shared.k),
            gate_scale: student.gate_scale.unwrap_or(shared.gate_scale),
        }
    }
}

/// `[model]`: the model to begin with. Exactly one of `path`, `hub` and `random` is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelRecipe {
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
    #[serde(default = "bert_dropout")]
    pub dropout: f64,
    /// Standard deviation of the weights at the start. Default 0.02, BERT's; a narrow model learns
    /// faster from about `1 / sqrt(hidden)`.
    #[serde(default = "bert_initializer_range")]
    pub initializer_range: f64,
}

fn bert_initializer_range() -> f64 {
    0.02
}

fn bert_positions() -> usize {
    512
}

fn bert_dropout() -> f64 {
    0.1
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

/// `[train]`: optimisation by Adam with decoupled weight decay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainRecipe {
    /// Passes over the training data. Default 3.
    pub epochs: usize,
    /// Examples a step and device batch. Default 32.
    pub batch_size: usize,
    /// Peak learning rate; it falls linearly to zero. Default 2e-5.
    pub learning_rate: f64,
    /// Weight decay. Default 0.
    pub weight_decay: f64,
    /// Share of all steps in which the learning rate rises linearly from zero, 0 to below 1.
    /// Default 0.
    pub warmup: f64,
    /// Largest global norm of the gradients; 0 leaves them as they are. Default 1.
    pub clip_norm: f64,
    /// Batches whose gradients are averaged before a step. Default 1.
    pub accumulate: usize,
    /// Stop after this many epochs without a better score. Absent: train all epochs.
    pub early_stopping: Option<usize>,
    /// Which epoch's model is kept: the `last` (default), or the `best` by the score that
    /// `early_stopping` follows.
    pub keep: KeptEpoch,
}

/// The epoch whose model a training leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeptEpoch {
    /// The last one.
    #[default]
    Last,
    /// The one with the best score on the development data; of equal ones the earlier.
    Best,
}

impl Default for TrainRecipe {
    fn default() -> Self {
        Self {
            epochs: 3,
            batch_size: 32,
            learning_rate: 2e-5,
            weight_decay: 0.0,
            warmup: 0.0,
            clip_norm: 1.0,
            accumulate: 1,
            early_stopping: None,
            keep: KeptEpoch::default(),
        }
    }
}

impl TrainRecipe {
    /// These settings with `overrides` on top.
    pub fn with(&self, overrides: &TrainOverrides) -> Self {
        Self {
            epochs: overrides.epochs.unwrap_or(self.epochs),
            batch_size: overrides.batch_size.unwrap_or(self.batch_size),
            learning_rate: overrides.learning_rate.unwrap_or(self.learning_rate),
            weight_decay: overrides.weight_decay.unwrap_or(self.weight_decay),
            warmup: overrides.warmup.unwrap_or(self.warmup),
            clip_norm: overrides.clip_norm.unwrap_or(self.clip_norm),
            accumulate: overrides.accumulate.unwrap_or(self.accumulate),
            early_stopping: overrides.early_stopping.or(self.early_stopping),
            keep: overrides.keep.unwrap_or(self.keep),
        }
    }
}

/// `[checkpoint]`: when a training writes a checkpoint besides those at the ends of epochs and where it is stopped.
/// Results do not depend on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointRecipe {
    /// A time or a number of optimiser steps, such as `30s`, `10min`, `2h` or `500 steps`. Default `10min`.
    pub every: CheckpointEvery,
}

/// `[teacher.train]` and `[distill.train]`: any keys of `[train]`, for that stage only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainOverrides {
    /// See [`TrainRecipe::epochs`].
    pub epochs: Option<usize>,
    /// See [`TrainRecipe::batch_size`].
    pub batch_size: Option<usize>,
    /// See [`TrainRecipe::learning_rate`].
    pub learning_rate: Option<f64>,
    /// See [`TrainRecipe::weight_decay`].
    pub weight_decay: Option<f64>,
    /// See [`TrainRecipe::warmup`].
    pub warmup: Option<f64>,
    /// See [`TrainRecipe::clip_norm`].
    pub clip_norm: Option<f64>,
    /// See [`TrainRecipe::accumulate`].
    pub accumulate: Option<usize>,
    /// See [`TrainRecipe::early_stopping`].
    pub early_stopping: Option<usize>,
    /// See [`TrainRecipe::keep`].
    pub keep: Option<KeptEpoch>,
}

/// `[teacher]`: the dense model that students are cut from and learn from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TeacherRecipe {
    /// The model of `[model]` was already fine-tuned on the task: use it as it is. Default false.
    pub fine_tuned: bool,
    /// What is different from `[train]`.
    pub train: TrainOverrides,
}

/// `[importance]`: the data that scores neurons.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImportanceRecipe {
    /// `train` (default) or `dev`, the split that the published code runs on.
    pub split: DataSplit,
    /// Examples a batch; no effect on the scores. Default 32.
    pub batch_size: usize,
    /// Score on the first so many examples only. Absent: all.
    pub samples: Option<usize>,
}

/// A split with labels, as a command or recipe names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum DataSplit {
    /// The training data.
    Train,
    /// The development data.
    Dev,
}

impl DataSplit {
    /// The text form.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Dev => "dev",
        }
    }
}

impl Default for ImportanceRecipe {
    fn default() -> Self {
        Self {
            split: DataSplit::Train,
            batch_size: 32,
            samples: None,
        }
    }
}

/// `[experts]`: how each feed-forward layer of width F becomes experts. Defaults are the published
/// ones for BERT-base.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExpertsRecipe {
    /// Experts a layer, E. Default 4.
    pub count: usize,
    /// Neurons an expert. Default 768.
    pub width: usize,
    /// Most important neurons that every expert gets. Default 512.
    pub shared: usize,
    /// Which neurons count as important: `importance` (default), `random`, `inverse` or
    /// `contiguous`.
    pub order: NeuronOrder,
    /// Which tokens an expert sees: `hash-random` (default), `hash-balance`, `gate-token`, `gate-sentence` or
    /// `top-k`.
    pub router: RouterKind,
    /// Experts that a token passes; more than one is for `top-k`. Default 1.
    pub k: usize,
    /// A gate's factor on the output: `unit` (default; leaves the starting point as it is) or
    /// `probability` (as published).
    pub gate_scale: GateScale,
}

impl ExpertsRecipe {
    /// The routers; `seed` decides their tables and first weights.
    pub fn routers(&self, seed: u64) -> RouterConfig {
        RouterConfig {
            kind: self.router,
            k: self.k,
            gate_scale: self.gate_scale,
            seed,
        }
    }

    /// How neurons are dealt to the experts; `seed` decides random orders.
    pub fn partition(&self, seed: u64) -> PartitionConfig {
        PartitionConfig {
            experts: self.count,
            expert_width: self.width,
            shared: self.shared,
            order: self.order,
            seed,
        }
    }
}

/// As a table or a legend shows them, such as `4 experts of 768, hash-random`.
impl fmt::Display for ExpertsRecipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} experts of {}, {}",
            self.count, self.width, self.router
        )?;
        if self.k > 1 {
            write!(f, ":{}", self.k)?;
        }
        Ok(())
    }
}

impl Default for ExpertsRecipe {
    fn default() -> Self {
        Self {
            count: 4,
            width: 768,
            shared: 512,
            order: NeuronOrder::default(),
            router: RouterKind::default(),
            k: 1,
            gate_scale: GateScale::default(),
        }
    }
}

/// `[distill]`: what a student learns from the teacher, `loss = task + balance * B + lambda * D`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DistillRecipe {
    /// Weight of the distillation terms, the paper's `lambda_distill`. Default 1.
    pub lambda: f64,
    /// Weight of the balance loss of gate routers, the paper's `lambda_balance`. Default 0.
    pub balance: f64,
    /// Weight of the z-loss of the router `top-k`, which keeps its scores small. Default 0.
    pub z: f64,
    /// Which hidden states are matched: `all` (default), `last`, `every:K`, or pairs
    /// student-teacher as `0-0,2-4`.
    pub layers: LayerMap,
    /// Whether padded tokens count in the hidden-state error and in the balance loss: `exclude`
    /// (default) or `include` (the paper's form).
    pub padding: Padding,
    /// How the teacher's logits are matched. Default `symmetric-kl`.
    pub logits: LogitsForm,
    /// What both logits are divided by before the softmax, for `kl` and `symmetric-kl`. Default 1.
    pub temperature: f64,
    /// What is different from `[train]` for all students, distilled or not.
    pub train: TrainOverrides,
}

impl DistillRecipe {
    /// The distillation terms.
    pub fn layerwise(&self) -> Layerwise {
        Layerwise {
            weight: self.lambda,
            layers: self.layers.clone(),
            padding: self.padding,
            logits: self.logits,
            temperature: self.temperature,
        }
    }
}

impl Default for DistillRecipe {
    fn default() -> Self {
        Self {
            lambda: 1.0,
            balance: 0.0,
            z: 0.0,
            layers: LayerMap::default(),
            padding: Padding::default(),
            logits: LogitsForm::default(),
            temperature: 1.0,
            train: TrainOverrides::default(),
        }
    }
}

/// `[[students]]`: one model of the comparison. Keys that are absent are those of `[experts]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudentRecipe {
    /// Its name in the table and in the run folder.
    pub name: String,
    /// Whether it learns from the teacher as `[distill]` says. Default true.
    #[serde(default = "yes")]
    pub distill: bool,
    /// It begins with these layers of the teacher, such as `every:2` or `2,4,6` (from 1), and has no experts.
    pub keep_layers: Option<KeepLayers>,
    /// It begins with the model of this Hugging Face folder, which has the teacher's vocabulary, and has no experts.
    pub model: Option<PathBuf>,
    /// The factor of the labels' loss; 0 learns from the teacher alone. Default 1.
    #[serde(default = "all_of_it")]
    pub task: f64,
    /// What else it learns from, each method with its settings; `kiln methods` lists them.
    #[serde(default)]
    pub methods: MethodTables,
    /// See [`ExpertsRecipe::count`].
    pub count: Option<usize>,
    /// See [`ExpertsRecipe::width`].
    pub width: Option<usize>,
    /// See [`ExpertsRecipe::shared`].
    pub shared: Option<usize>,
    /// See [`ExpertsRecipe::order`].
    pub order: Option<NeuronOrder>,
    /// See [`ExpertsRecipe::router`].
    pub router: Option<RouterKind>,
    /// See [`ExpertsRecipe::k`].
    pub k: Option<usize>,
    /// See [`ExpertsRecipe::gate_scale`].
    pub gate_scale: Option<GateScale>,
}

fn yes() -> bool {
    true
}

pub(super) fn all_of_it() -> f64 {
    1.0
}

impl StudentRecipe {
    /// Whether it is the teacher cut into experts.
    pub fn has_experts(&self) -> bool {
        self.keep_layers.is_none() && self.model.is_none()
    }

    /// Its own keys for experts that are set.
    pub fn expert_keys(&self) -> impl Iterator<Item = &'static str> {
        let keys = [
            ("count", self.count.is_some()),
            ("width", self.width.is_some()),
            ("shared", self.shared.is_some()),
            ("order", self.order.is_some()),
            ("router", self.router.is_some()),
            ("k", self.k.is_some()),
            ("gate_scale", self.gate_scale.is_some()),
        ];
        keys.into_iter()
            .filter(|(_, is_set)| *is_set)
            .map(|(key, _)| key)
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
