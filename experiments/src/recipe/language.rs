//! The keys of a recipe for language models, their meaning and their defaults.

mod tokenizer;
mod validate;

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use distill::callback::Growth;
use masformer_core::{MixerSchedule, PositionExtension, SpanSchedule};
use serde::{Deserialize, Serialize};

pub use tokenizer::TokenizerChoice;

use super::{
    CheckpointRecipe, ExpertsRecipe, ImportanceRecipe, RecipeError, Schema, TrainOverrides,
    TrainRecipe, one_seed, schema::all_of_it, validate::NO_MODEL,
};
use crate::{
    data::{packing::Documents, recall::RecallConfig, summary::SummaryConfig},
    methods::MethodTables,
    metric::perplexity::SlidingWindows,
};

/// What a run of language models does: train the same model under several span schedules, on the
/// same data from the same weights, and judge each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanguageRecipe {
    /// The run's name: letters, digits, `-`, `_` and `.`. The run folder is `runs/<name>` unless
    /// `--out` says otherwise.
    pub name: String,
    /// Every model once a seed; the table shows their mean and spread. Default `[1]`.
    #[serde(default = "one_seed")]
    pub seeds: Vec<u64>,
    /// The model to begin with.
    #[serde(default)]
    pub model: DecoderRecipe,
    /// The task and its data.
    pub data: LanguageData,
    /// Training, the same for all models.
    #[serde(default)]
    pub train: TrainRecipe,
    /// When trainings write checkpoints.
    #[serde(default)]
    pub checkpoint: CheckpointRecipe,
    /// Shorter sequences in the first part of the training. Default none.
    #[serde(default)]
    pub grow: Vec<Growth>,
    /// How models are judged.
    #[serde(default)]
    pub evaluate: EvaluateRecipe,
    /// The data that scores neurons, where experts are cut by their importance.
    #[serde(default)]
    pub importance: ImportanceRecipe,
    /// Weights of the losses of experts' routers.
    #[serde(default)]
    pub router: RouterRecipe,
    /// The models to compare, at least one.
    pub models: Vec<SpanModel>,
}

/// `[model]`: the decoder to begin with, from a folder or fresh.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DecoderRecipe {
    /// A Hugging Face folder of a GPT-2 or GPT-Neo, or one that Kiln saved: weights and tokenizer.
    pub path: Option<PathBuf>,
    /// How its positions become as many as `data.length`, where it has fewer. Absent: that is an
    /// error.
    pub extend: Option<PositionExtension>,
    /// Tokens in a chunk of the feed-forward layers, whose activations the backward pass computes again,
    /// so that memory grows by D and not by F a token. Absent: they are kept, which is faster.
    pub feed_forward_chunk: Option<usize>,
    /// A fresh decoder.
    pub random: Option<RandomDecoder>,
}

/// The decoder to begin with, as [`DecoderRecipe::source`] finds it.
#[derive(Clone, Copy, Debug)]
pub enum DecoderSource<'a> {
    /// `model.path`.
    Folder(&'a Path),
    /// `model.random`.
    Fresh(&'a RandomDecoder),
}

impl DecoderRecipe {
    /// The decoder to begin with.
    ///
    /// # Errors
    ///
    /// If there is none; recipes that were loaded have one.
    pub fn source(&self) -> Result<DecoderSource<'_>, RecipeError> {
        match (&self.path, &self.random) {
            (Some(path), _) => Ok(DecoderSource::Folder(path)),
            (None, Some(random)) => Ok(DecoderSource::Fresh(random)),
            (None, None) => Err(RecipeError::Missing {
                key: "model",
                reason: NO_MODEL,
            }),
        }
    }
}

/// `[model.random]`: the size of a fresh decoder of GPT-2's architecture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomDecoder {
    /// Number of transformer layers L.
    pub layers: usize,
    /// Hidden size D, a multiple of `heads`.
    pub hidden: usize,
    /// Attention heads H.
    pub heads: usize,
    /// Feed-forward width F.
    pub width: usize,
    /// Longest sequence in tokens. Default: `data.length`.
    pub positions: Option<usize>,
    /// Rotary positions with this base, `10000` in their paper. Absent: learned positions.
    pub rotary: Option<f32>,
    /// Dropout of embeddings, attention and hidden states. Default 0.1.
    #[serde(default = "dropout")]
    pub dropout: f64,
    /// Standard deviation of the weights at the start. Default 0.02, GPT-2's; a narrow model learns
    /// faster from about `1 / sqrt(hidden)`.
    #[serde(default = "initializer_range")]
    pub initializer_range: f64,
}

fn dropout() -> f64 {
    0.1
}

fn initializer_range() -> f64 {
    0.02
}

/// `[data]`: the task and where its text is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanguageData {
    /// `text`, `summary` or `recall`.
    pub task: LanguageTask,
    /// For `text`: the folder with `train`, `valid` and `test`, each a folder of `.txt` files or one
    /// file such as `train.txt`. Without `test`, models are judged on `valid`. For `summary`: the folder
    /// with `train.jsonl`, `validation.jsonl` or `dev.jsonl`, and `test.jsonl`. Without the last one,
    /// models are judged on the second.
    pub path: Option<PathBuf>,
    /// Tokens of a training sequence, T; for `summary` the most of a text, the separator and a summary.
    pub length: usize,
    /// For text and a fresh model: `bytes` (default), or `bpe:V` to learn `V` tokens from the
    /// training text. A model from a folder brings its own.
    pub tokenizer: Option<TokenizerChoice>,
    /// For `text`, what a sequence may span: `joined` (default; documents with the end-of-document
    /// token between them) or `separate` (one document).
    #[serde(default)]
    pub documents: Documents,
    /// Sequences an epoch, after which comes a validation and a checkpoint; the next epoch goes on
    /// where this one ended. Absent: all sequences.
    pub epoch: Option<usize>,
    /// How the data is made; for `recall` only.
    pub recall: Option<RecallData>,
    /// How a text and its summary are read; for `summary` only.
    pub summary: Option<SummaryData>,
}

/// A task with what it is made of, as [`LanguageData::source`] finds it.
#[derive(Clone, Debug)]
pub enum LanguageSource<'a> {
    /// Plain text in a folder.
    Text(&'a Path),
    /// Texts with summaries in a folder.
    Summary(&'a Path, SummaryData),
    /// Associative recall.
    Recall(RecallData),
}

impl LanguageData {
    /// The task and what it is made of.
    ///
    /// # Errors
    ///
    /// If the folder is missing; recipes that were loaded have it.
    pub fn source(&self) -> Result<LanguageSource<'_>, RecipeError> {
        let folder = |reason| {
            let missing = RecipeError::Missing {
                key: "data",
                reason,
            };
            self.path.as_deref().ok_or(missing)
        };
        Ok(match self.task {
            LanguageTask::Text => LanguageSource::Text(folder(
                "has no folder: add data.path=FOLDER with train, valid and test, each a folder of .txt \
                 files or one .txt file",
            )?),
            LanguageTask::Summary => LanguageSource::Summary(
                folder(
                    "has no folder: add data.path=FOLDER with train.jsonl, validation.jsonl and \
                     test.jsonl",
                )?,
                self.summary.clone().unwrap_or_default(),
            ),
            LanguageTask::Recall => LanguageSource::Recall(self.recall.clone().unwrap_or_default()),
        })
    }
}

/// What a language model is trained on and judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum LanguageTask {
    /// Plain text, judged by perplexity and bits per byte.
    Text,
    /// Summaries of texts, judged by ROUGE.
    Summary,
    /// Multi-query associative recall, which kiln makes itself, judged by the share recalled.
    Recall,
}

impl LanguageTask {
    /// Every task.
    pub const ALL: [Self; 3] = [Self::Text, Self::Summary, Self::Recall];

    /// The text form.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Summary => "summary",
            Self::Recall => "recall",
        }
    }
}

/// No language task has this name; the text is for programs only, as names are looked up before.
#[derive(Debug, thiserror::Error)]
#[error("unknown language task `{0}`")]
pub struct UnknownLanguageTask(String);

impl FromStr for LanguageTask {
    type Err = UnknownLanguageTask;

    fn from_str(name: &str) -> Result<Self, UnknownLanguageTask> {
        Self::ALL
            .into_iter()
            .find(|task| task.name() == name)
            .ok_or_else(|| UnknownLanguageTask(name.to_owned()))
    }
}

impl TryFrom<String> for LanguageTask {
    type Error = UnknownLanguageTask;

    fn try_from(name: String) -> Result<Self, UnknownLanguageTask> {
        name.parse()
    }
}

impl From<LanguageTask> for String {
    fn from(task: LanguageTask) -> Self {
        task.name().to_owned()
    }
}

impl fmt::Display for LanguageTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `[data.recall]`: pairs of a key and a value at the beginning of a sequence, and queries after
/// them. The defaults of the first six are those of [`RecallConfig`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecallData {
    /// Pairs, each with a key of its own. Default 16.
    pub pairs: usize,
    /// Keys that are asked for, each once; at most as many as pairs. Default 16.
    pub queries: usize,
    /// Number of different keys. Default 64.
    pub keys: usize,
    /// Number of different values; a guess is right once in so many. Default 64.
    pub values: usize,
    /// Number of different fillers between the queries. Default 64.
    pub fillers: usize,
    /// A query is beyond the window if its pair is at least so many tokens away. Tokens travel
    /// `W - 1` positions a layer: local layers alone fail from `L (W - 1) + 1` on. Default 64.
    pub window: usize,
    /// The least share of the queries that are beyond it. Default 0.5.
    pub beyond: f64,
    /// Decides every sequence. The same for all seeds of the run. Default 1.
    pub seed: u64,
    /// Sequences to train on. Default 100000.
    pub train: usize,
    /// Sequences to validate on after each epoch. Default 200.
    pub dev: usize,
    /// Sequences to judge on. Default 1000.
    pub test: usize,
}

impl Default for RecallData {
    fn default() -> Self {
        let config = RecallConfig::new();
        Self {
            pairs: config.pairs,
            queries: config.queries,
            keys: config.keys,
            values: config.values,
            fillers: config.fillers,
            window: config.window,
            beyond: config.beyond,
            seed: 1,
            train: 100_000,
            dev: 200,
            test: 1000,
        }
    }
}

impl RecallData {
    /// The task with sequences of `length` tokens.
    pub fn config(&self, length: usize) -> RecallConfig {
        RecallConfig {
            length,
            pairs: self.pairs,
            queries: self.queries,
            keys: self.keys,
            values: self.values,
            fillers: self.fillers,
            window: self.window,
            beyond: self.beyond,
            seed: self.seed,
        }
    }
}

/// `[data.summary]`: how a decoder reads a text and writes its summary. The defaults are those of
/// [`SummaryConfig`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SummaryData {
    /// The most tokens of a summary, with the one that ends it. Default 128.
    pub max_new_tokens: usize,
    /// What stands between text and summary. Default `"\n\nTL;DR:"`.
    pub separator: String,
}

impl Default for SummaryData {
    fn default() -> Self {
        let SummaryConfig {
            max_new_tokens,
            separator,
            ..
        } = SummaryConfig::new(0);
        Self {
            max_new_tokens,
            separator,
        }
    }
}

impl SummaryData {
    /// The format of sequences of at most `length` tokens.
    pub fn config(&self, length: usize) -> SummaryConfig {
        SummaryConfig {
            length,
            max_new_tokens: self.max_new_tokens,
            separator: self.separator.clone(),
        }
    }
}

/// `[evaluate]`: how a trained model is judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluateRecipe {
    /// For `text`: tokens between the beginnings of two windows of `data.length` tokens that slide
    /// over a document. Each token is scored with at least `length - stride` tokens before it, or all
    /// there are. Default: half of `data.length`.
    pub stride: Option<usize>,
    /// For `summary`: the hypotheses of a beam search; with 1 (default) the likeliest token follows.
    pub beams: Option<usize>,
    /// Windows or sequences a forward pass; no effect on the scores. Default 8.
    pub batch_size: usize,
}

impl Default for EvaluateRecipe {
    fn default() -> Self {
        Self {
            stride: None,
            beams: None,
            batch_size: 8,
        }
    }
}

/// `[router]`: what the routers of models with experts add to the loss.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouterRecipe {
    /// Weight of the balance loss of gates. Default 0.
    pub balance: f64,
    /// Weight of the z-loss of the router `top-k`, which keeps its scores small. Default 0.
    pub z: f64,
}

/// `[[models]]`: one model of the comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpanModel {
    /// Its name in the table and in the run folder.
    pub name: String,
    /// What each layer attends to, such as `bottom:1 window:256`.
    pub spans: SpanSchedule,
    /// What each layer mixes tokens with, such as `bottom:1 s4d`. Default: what the layers of the model to
    /// begin with do.
    pub mixers: Option<MixerSchedule>,
    /// Split the feed-forward layers of the model to begin with into experts before the training. Absent: they
    /// stay as they are.
    pub experts: Option<ExpertsRecipe>,
    /// The model, further up in the list, that its `methods` compare it with.
    pub teacher: Option<String>,
    /// The factor of the labels' loss; 0 learns from the teacher alone. Default 1.
    #[serde(default = "all_of_it")]
    pub task: f64,
    /// What else it learns from, each method with its settings; `kiln methods` lists them.
    #[serde(default)]
    pub methods: MethodTables,
    /// What is different from `[train]`.
    #[serde(default)]
    pub train: TrainOverrides,
}

impl SpanModel {
    /// What its layers are, for messages and legends.
    pub fn layers(&self) -> String {
        let mixers = self
            .mixers
            .as_ref()
            .map(|mixers| format!("mixers {mixers}"));
        let experts = self.experts.as_ref().map(ToString::to_string);
        let methods = self.methods.keys().cloned().collect::<Vec<_>>();
        let methods = (!methods.is_empty()).then(|| methods.join(" and "));
        let parts = [Some(self.spans.to_string()), mixers, experts, methods];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        parts.join(", ")
    }
}

impl LanguageRecipe {
    /// Tokens between the beginnings of two evaluation windows.
    pub fn stride(&self) -> usize {
        let stride = self.evaluate.stride;
        stride.unwrap_or_else(|| SlidingWindows::default_stride(self.data.length))
    }

    /// Hypotheses of the search for a summary.
    pub fn beams(&self) -> usize {
        self.evaluate.beams.unwrap_or(1)
    }
}

impl Schema for LanguageRecipe {
    fn complete(&mut self) {
        if let Some(random) = &mut self.model.random {
            random.positions.get_or_insert(self.data.length);
        }
        match self.data.task {
            LanguageTask::Text => self.evaluate.stride = Some(self.stride()),
            LanguageTask::Summary => {
                self.data.summary.get_or_insert_default();
                self.evaluate.beams = Some(self.beams());
            }
            LanguageTask::Recall => drop(self.data.recall.get_or_insert_default()),
        }
        if self.data.task != LanguageTask::Recall && self.model.random.is_some() {
            self.data.tokenizer.get_or_insert_default();
        }
    }

    fn problems(&self) -> Vec<(String, String)> {
        validate::problems(self)
    }
}
