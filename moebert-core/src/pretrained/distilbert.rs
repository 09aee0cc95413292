//! `DistilBERT` (arXiv 1910.01108): `config.json` and names of weights as in Transformers.
//!
//! It is a BERT without segments, with names of its own. It has no pooler; a classifier of sequences has a dense layer with
//! relu. What attention returns is not dropped out, and the dropout that Transformers' model has before the scores of
//! an answer is left out.

use masformer_core::{Activation, pretrained::Keys};
use serde_json::{Map, Value};

use super::family::{Family, read_heads};
use crate::{
    bert::{BertConfig, PoolerActivation},
    file::FileError,
    heads::Head,
};

/// Names in files and in the model, `{l}` a layer.
const NAMES: [(&str, &str); 12] = [
    ("embeddings.word_embeddings.", "embeddings.word."),
    ("embeddings.position_embeddings.", "embeddings.position."),
    ("embeddings.LayerNorm.", "embeddings.norm."),
    (
        "transformer.layer.{l}.attention.q_lin.",
        "stack.layers.{l}.mixer.query.",
    ),
    (
        "transformer.layer.{l}.attention.k_lin.",
        "stack.layers.{l}.mixer.key.",
    ),
    (
        "transformer.layer.{l}.attention.v_lin.",
        "stack.layers.{l}.mixer.value.",
    ),
    (
        "transformer.layer.{l}.attention.out_lin.",
        "stack.layers.{l}.mixer.output.",
    ),
    // Of any other mixer than attention.
    ("transformer.layer.{l}.mixer.", "stack.layers.{l}.mixer."),
    (
        "transformer.layer.{l}.sa_layer_norm.",
        "stack.layers.{l}.mixer_norm.",
    ),
    (
        "transformer.layer.{l}.ffn.lin1.",
        "stack.layers.{l}.feed_forward.inner.",
    ),
    (
        "transformer.layer.{l}.ffn.lin2.",
        "stack.layers.{l}.feed_forward.outer.",
    ),
    (
        "transformer.layer.{l}.output_layer_norm.",
        "stack.layers.{l}.feed_forward.norm.",
    ),
];

/// The family `distilbert`.
#[derive(Debug)]
pub(super) struct DistilBert;

impl Family for DistilBert {
    fn model_type(&self) -> &'static str {
        "distilbert"
    }

    fn class(&self) -> &'static str {
        "DistilBert"
    }

    fn tokenizer(&self) -> &'static str {
        "DistilBertTokenizer"
    }

    fn activation(&self) -> &'static str {
        "activation"
    }

    fn read(&self, keys: Keys<'_>) -> Result<BertConfig, FileError> {
        let default = BertConfig::new();
        let hidden = keys.size("dim", 768)?;
        Ok(BertConfig {
            vocab_size: keys.size("vocab_size", 30522)?,
            hidden_size: hidden,
            num_hidden_layers: keys.size("n_layers", 6)?,
            num_attention_heads: read_heads(keys, ("n_heads", 12), ("dim", hidden))?,
            intermediate_size: keys.size("hidden_dim", 3072)?,
            max_position_embeddings: keys.size("max_position_embeddings", 512)?,
            type_vocab_size: 0,
            hidden_dropout_prob: keys.probability("dropout", 0.1)?,
            mixer_dropout: Some(0.0),
            attention_probs_dropout_prob: keys.probability("attention_dropout", 0.1)?,
            initializer_range: keys.positive("initializer_range", 0.02)?,
            pooler: false,
            pooler_activation: PoolerActivation::Other(Activation::Relu),
            head_dropout: Some(keys.probability("seq_classif_dropout", 0.2)?),
            ..default
        })
    }

    fn write(&self, encoder: &BertConfig, json: &mut Map<String, Value>) {
        let mut set = |key: &str, value: Value| json.insert(key.to_owned(), value);
        set("vocab_size", encoder.vocab_size.into());
        set("dim", encoder.hidden_size.into());
        set("n_layers", encoder.num_hidden_layers.into());
        set("n_heads", encoder.num_attention_heads.into());
        set("hidden_dim", encoder.intermediate_size.into());
        set(
            "max_position_embeddings",
            encoder.max_position_embeddings.into(),
        );
        set("dropout", encoder.hidden_dropout_prob.into());
        set(
            "attention_dropout",
            encoder.attention_probs_dropout_prob.into(),
        );
        set("initializer_range", encoder.initializer_range.into());
        set("seq_classif_dropout", encoder.before_head().into());
    }

    fn prefix(&self) -> &'static str {
        "distilbert."
    }

    fn names(&self) -> Vec<(&'static str, &'static str)> {
        NAMES.into()
    }

    fn pooler(&self, head: Head) -> Option<&'static str> {
        head.needs_pooler().then_some("pre_classifier.")
    }
}
