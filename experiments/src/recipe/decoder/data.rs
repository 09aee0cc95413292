//! `[data]` of language models: the task and where its text is.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use super::TokenizerChoice;
use crate::{
    data::{packing::Documents, recall::RecallConfig, summary::SummaryConfig},
    recipe::RecipeError,
};

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
