//! What differs between families of encoders: their keys of `config.json`, their names of weights and of classes.

use std::fmt;

use masformer_core::pretrained::{Keys, Layout, Names, is_of_mixers};
use serde_json::{Map, Value};

use crate::{bert::BertConfig, file::FileError, heads::Head};

/// A family of encoders in Transformers.
///
/// A family is a file that implements this and a line of the registry in `config.rs`.
pub(super) trait Family: fmt::Debug + Sync {
    /// The `model_type`.
    fn model_type(&self) -> &'static str;

    /// The `model_type` of a model with experts, without what says that only Kiln reads it.
    fn expert_type(&self) -> &'static str {
        self.model_type()
    }

    /// What the names of its classes begin with, such as `Bert` of `BertForQuestionAnswering`.
    fn class(&self) -> &'static str;

    /// The class of its tokenizers, for folders that name none.
    fn tokenizer(&self) -> &'static str;

    /// The key that names the activation of the feed-forward layers.
    fn activation(&self) -> &'static str {
        "hidden_act"
    }

    /// The encoder that the keys describe, but for the activation of its feed-forward layers. A key that asks for what is
    /// not supported is an error.
    fn read(&self, keys: Keys<'_>) -> Result<BertConfig, FileError>;

    /// Writes into the keys what [`Self::read`] reads, as far as they can say it.
    fn write(&self, encoder: &BertConfig, json: &mut Map<String, Value>);

    /// What the names of the encoder's weights begin with in files, unless it is left out.
    fn prefix(&self) -> &'static str;

    /// Names of the encoder's weights, up to the parameter itself: in files after [`Self::prefix`], and in
    /// [`Bert`](crate::bert::Bert); `{l}` is a layer.
    fn names(&self) -> Vec<(&'static str, &'static str)>;

    /// The name in files of the pooler of a model with a head, if such a model has one.
    fn pooler(&self, head: Head) -> Option<&'static str>;

    /// The name in files of the last layer of a head for sequences.
    fn classifier(&self) -> &'static str {
        "classifier."
    }

    /// The endings of names in files that are not weights: the constant `0..positions`, which older versions of
    /// Transformers saved.
    fn constants(&self) -> &'static [&'static str] {
        &["embeddings.position_ids"]
    }
}

/// The name in files of the last layer of a head.
pub(super) fn head_name(family: &dyn Family, head: Head) -> Option<&'static str> {
    match head {
        Head::Encoder => None,
        Head::Classification { .. } | Head::Regression => Some(family.classifier()),
        Head::SpanQa => Some("qa_outputs."),
    }
}

/// The number of attention heads, by its key and that of the hidden width.
pub(super) fn read_heads(
    keys: Keys<'_>,
    (key, default): (&str, usize),
    (hidden_key, hidden): (&str, usize),
) -> Result<usize, FileError> {
    let heads = keys.size(key, default)?;
    if hidden.is_multiple_of(heads) {
        Ok(heads)
    } else {
        Err(keys.wrong(key, format!("a divisor of `{hidden_key}`, {hidden}")))
    }
}

/// Dropout before the layers of a classifier that has one of its own.
pub(super) const HEAD_DROPOUT: &str = "classifier_dropout";

/// Dropout before the layers of a classifier; `None` where that of hidden states counts.
pub(super) fn read_head_dropout(keys: Keys<'_>, key: &str) -> Result<Option<f64>, FileError> {
    match keys.json.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(_) => keys.probability(key, 0.0).map(Some),
    }
}

/// Writes what [`read_head_dropout`] reads.
pub(super) fn write_head_dropout(dropout: Option<f64>, json: &mut Map<String, Value>, key: &str) {
    json.insert(key.to_owned(), dropout.into());
}

const ENCODER: &str = "bert.";
const EMBEDDINGS: &str = "bert.embeddings.";
const PROJECT: &str = "bert.embeddings.project.";
const RELATIVE: &str = "bert.relative.";
const RELATIVE_TABLE: &str = "bert.relative.table.";
const POOLER: &str = "bert.pooler.";
const HEAD: &str = "head.";

/// The model's name of the pooler's weight, by which a checkpoint with a pooler is known.
pub(super) const POOLER_WEIGHT: &str = "bert.pooler.weight";
/// The model's name of the head's weight.
pub(super) const HEAD_WEIGHT: &str = "head.weight";

/// Where the weights of an encoder with the head of a task lie in files.
pub(super) struct EncoderLayout {
    names: Names,
    constants: &'static [&'static str],
    is_own_head: bool,
    /// The layers whose mixer is not that of the files.
    pub(super) new_mixers: Vec<usize>,
}

impl EncoderLayout {
    /// The layout for a head; `is_own_head` where the folder was saved for it, so that
    /// its head has to fit.
    pub(super) fn new(family: &dyn Family, head: Head, is_own_head: bool) -> Self {
        let prefix = family.prefix();
        let encoder = family
            .names()
            .into_iter()
            .map(|(file, module)| (format!("{prefix}{file}"), format!("{ENCODER}{module}")));
        // For families whose files know no relative positions; the first name that fits is written.
        let relative = (format!("{prefix}relative."), RELATIVE.to_owned());
        let above = [
            (family.pooler(head), POOLER),
            (head_name(family, head), HEAD),
        ];
        let above = above
            .into_iter()
            .filter_map(|(file, module)| Some((file?.to_owned(), module.to_owned())));
        let pairs: Vec<(String, String)> = encoder.chain([relative]).chain(above).collect();
        let pairs = pairs
            .iter()
            .map(|(file, module)| (file.as_str(), module.as_str()));
        Self {
            names: Names::new(pairs, prefix),
            constants: family.constants(),
            is_own_head,
            new_mixers: vec![],
        }
    }

    /// Whether a weight belongs to mixers that are not those of the files, or to what they read.
    fn is_new(&self, module: &str) -> bool {
        let reads_new = !self.new_mixers.is_empty() && module.starts_with(RELATIVE);
        reads_new || is_of_mixers(module, &self.new_mixers)
    }

    /// Whether a name in a file is that of a weight of the encoder, not of its head.
    pub(super) fn is_of_encoder(&self, file: &str) -> bool {
        let mut modules = self.names.in_model(file).into_iter();
        modules.any(|module| module.starts_with(ENCODER))
    }
}

impl Layout for EncoderLayout {
    const PART: &'static str = "encoder";

    fn names(&self) -> &Names {
        &self.names
    }

    fn is_embedding(&self, module: &str) -> bool {
        let is_embedding = module.starts_with(EMBEDDINGS) && !module.starts_with(PROJECT);
        is_embedding || module.starts_with(RELATIVE_TABLE)
    }

    fn is_constant(&self, file: &str) -> bool {
        let mut endings = self.constants.iter();
        endings.any(|ending| file.ends_with(ending))
    }

    /// Routing tables have a file of their own.
    fn is_weight(&self, module: &str) -> bool {
        !module.ends_with(".router.table")
    }

    fn is_optional(&self, module: &str) -> bool {
        module.starts_with(HEAD) || module.starts_with(POOLER) || self.is_new(module)
    }

    fn may_differ(&self, module: &str) -> bool {
        let is_other_head = !self.is_own_head && module.starts_with(HEAD);
        is_other_head || self.is_new(module)
    }
}
