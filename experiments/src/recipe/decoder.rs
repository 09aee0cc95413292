//! The keys of a recipe that are for decoders alone, their meaning and their defaults.

mod data;
mod tokenizer;
mod validate;

use std::path::{Path, PathBuf};

use distill::callback::Growth;
use masformer_core::{Direction, MixerSchedule, PositionExtension, SpanSchedule};
use serde::{Deserialize, Serialize};

pub use data::{LanguageData, LanguageSource, LanguageTask, RecallData, SummaryData};
pub use tokenizer::TokenizerChoice;

use super::{
    Problem, RandomStudent, Recipe, RecipeError, RecipeFamily, StartModel, random, schema::NoKeys,
    validate::NO_MODEL,
};
use crate::{learner::language::LanguageLearner, metric::perplexity::SlidingWindows};

/// The recipes of decoders: language models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfDecoders;

impl RecipeFamily for OfDecoders {
    type Model = DecoderModel;
    type Data = LanguageData;
    type Grow = Vec<Growth>;
    type Evaluate = EvaluateRecipe;
    type Latency = Option<NoKeys>;
    type Learner = LanguageLearner;

    const KEYS: &'static [&'static str] = &["grow", "evaluate"];
    const JUDGES_BEFORE: bool = true;
    const DIRECTION: Direction = Direction::Causal;

    fn tasks() -> Vec<&'static str> {
        LanguageTask::ALL.map(LanguageTask::name).into()
    }

    fn metrics(recipe: &Recipe<Self>) -> Vec<String> {
        let metrics: &[&str] = match recipe.data.task {
            LanguageTask::Text => &["bits_per_byte", "perplexity"],
            LanguageTask::Summary => &["rouge1", "rouge2", "rougeL", "rougeLsum"],
            LanguageTask::Recall => &["recall", "recall_beyond", "recall_within"],
        };
        metrics.iter().map(ToString::to_string).collect()
    }

    fn complete(recipe: &mut Recipe<Self>) {
        let (stride, beams) = (recipe.stride(), recipe.beams());
        if let Some(random) = &mut recipe.model.random {
            random.positions.get_or_insert(recipe.data.length);
        }
        match recipe.data.task {
            LanguageTask::Text => recipe.evaluate.stride = Some(stride),
            LanguageTask::Summary => {
                recipe.data.summary.get_or_insert_default();
                recipe.evaluate.beams = Some(beams);
            }
            LanguageTask::Recall => drop(recipe.data.recall.get_or_insert_default()),
        }
        if recipe.data.task != LanguageTask::Recall && recipe.model.random.is_some() {
            recipe.data.tokenizer.get_or_insert_default();
        }
    }

    fn problems(recipe: &Recipe<Self>) -> Vec<Problem> {
        validate::problems(recipe)
    }

    fn ignored(_: &Recipe<Self>) -> Vec<Problem> {
        vec![]
    }
}

/// `[model]`: the decoder to begin with, from a folder or fresh.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DecoderModel {
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
    /// What its layers attend to, such as `bottom:1 window:256`. Absent: what those of the folder do, or
    /// everything for a fresh decoder.
    pub spans: Option<SpanSchedule>,
    /// What its layers mix tokens with, such as `bottom:1 s4d`. Absent: what those of the folder do, or
    /// attention for a fresh decoder. Mixers that the folder has no weights of start anew.
    pub mixers: Option<MixerSchedule>,
}

impl StartModel for DecoderModel {
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
        self.random.as_ref().map(RandomDecoder::size)
    }

    fn arranged_as(self, other: &Self) -> Self {
        Self {
            spans: other.spans.clone(),
            mixers: other.mixers.clone(),
            ..self
        }
    }
}

/// The decoder to begin with, as [`DecoderModel::source`] finds it.
#[derive(Clone, Copy, Debug)]
pub enum DecoderSource<'a> {
    /// `model.path`.
    Folder(&'a Path),
    /// `model.random`.
    Fresh(&'a RandomDecoder),
}

impl DecoderModel {
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
    #[serde(default = "random::dropout")]
    pub dropout: f64,
    /// Standard deviation of the weights at the start. Default 0.02, GPT-2's; a narrow model learns
    /// faster from about `1 / sqrt(hidden)`.
    #[serde(default = "random::initializer_range")]
    pub initializer_range: f64,
}

impl RandomDecoder {
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

impl Recipe<OfDecoders> {
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
