//! BERT: `config.json` and names of weights as in Transformers.

use masformer_core::pretrained::Keys;
use serde_json::{Map, Value};

use super::family::{Family, read_heads};
use crate::{bert::BertConfig, file::FileError, heads::Head};

/// Names in files and in the model, `{l}` a layer.
pub(super) const NAMES: [(&str, &str); 13] = [
    ("embeddings.word_embeddings.", "embeddings.word."),
    ("embeddings.position_embeddings.", "embeddings.position."),
    (
        "embeddings.token_type_embeddings.",
        "embeddings.token_type.",
    ),
    ("embeddings.LayerNorm.", "embeddings.norm."),
    (
        "encoder.layer.{l}.attention.self.query.",
        "stack.layers.{l}.mixer.query.",
    ),
    (
        "encoder.layer.{l}.attention.self.key.",
        "stack.layers.{l}.mixer.key.",
    ),
    (
        "encoder.layer.{l}.attention.self.value.",
        "stack.layers.{l}.mixer.value.",
    ),
    (
        "encoder.layer.{l}.attention.output.dense.",
        "stack.layers.{l}.mixer.output.",
    ),
    // Of any other mixer than attention.
    ("encoder.layer.{l}.mixer.", "stack.layers.{l}.mixer."),
    (
        "encoder.layer.{l}.attention.output.LayerNorm.",
        "stack.layers.{l}.mixer_norm.",
    ),
    (
        "encoder.layer.{l}.intermediate.dense.",
        "stack.layers.{l}.feed_forward.inner.",
    ),
    (
        "encoder.layer.{l}.output.dense.",
        "stack.layers.{l}.feed_forward.outer.",
    ),
    (
        "encoder.layer.{l}.output.LayerNorm.",
        "stack.layers.{l}.feed_forward.norm.",
    ),
];

/// The number of segments.
pub(super) const SEGMENTS: &str = "type_vocab_size";
/// The number of positions.
pub(super) const POSITIONS: &str = "max_position_embeddings";

/// The family `bert`.
#[derive(Debug)]
pub(super) struct Bert;

impl Family for Bert {
    fn model_type(&self) -> &'static str {
        "bert"
    }

    /// Transformers would load an expert model as a BERT and make up the feed-forward weights that it does not find; a
    /// type that it does not know it refuses.
    fn expert_type(&self) -> &'static str {
        "moebert"
    }

    fn class(&self) -> &'static str {
        "Bert"
    }

    fn tokenizer(&self) -> &'static str {
        "BertTokenizer"
    }

    fn read(&self, keys: Keys<'_>) -> Result<BertConfig, FileError> {
        read(keys, BertConfig::new())
    }

    fn write(&self, encoder: &BertConfig, json: &mut Map<String, Value>) {
        write(encoder, json);
    }

    fn prefix(&self) -> &'static str {
        "bert."
    }

    fn names(&self) -> Vec<(&'static str, &'static str)> {
        NAMES.into()
    }

    fn pooler(&self, _head: Head) -> Option<&'static str> {
        Some("bert.pooler.dense.")
    }
}

/// Reads the keys that BERT and its relatives share, which have these defaults.
pub(super) fn read(keys: Keys<'_>, default: BertConfig) -> Result<BertConfig, FileError> {
    Ok(BertConfig {
        type_vocab_size: keys.size(SEGMENTS, default.type_vocab_size)?,
        ..read_shared(keys, default)?
    })
}

/// [`read`], but for the number of segments, which may be 0 in some.
pub(super) fn read_shared(keys: Keys<'_>, default: BertConfig) -> Result<BertConfig, FileError> {
    keys.check_fixed([
        ("position_embedding_type", "absolute".into()),
        ("is_decoder", false.into()),
        ("add_cross_attention", false.into()),
    ])?;
    let hidden = keys.size("hidden_size", default.hidden_size)?;
    let heads = ("num_attention_heads", default.num_attention_heads);
    Ok(BertConfig {
        vocab_size: keys.size("vocab_size", default.vocab_size)?,
        hidden_size: hidden,
        num_hidden_layers: keys.size("num_hidden_layers", default.num_hidden_layers)?,
        num_attention_heads: read_heads(keys, heads, ("hidden_size", hidden))?,
        intermediate_size: keys.size("intermediate_size", default.intermediate_size)?,
        max_position_embeddings: keys.size(POSITIONS, default.max_position_embeddings)?,
        hidden_dropout_prob: keys
            .probability("hidden_dropout_prob", default.hidden_dropout_prob)?,
        attention_probs_dropout_prob: keys.probability(
            "attention_probs_dropout_prob",
            default.attention_probs_dropout_prob,
        )?,
        layer_norm_eps: keys.positive("layer_norm_eps", default.layer_norm_eps)?,
        initializer_range: keys.positive("initializer_range", default.initializer_range)?,
        ..default
    })
}

/// Writes the keys that [`read`] reads.
pub(super) fn write(encoder: &BertConfig, json: &mut Map<String, Value>) {
    let mut set = |key: &str, value: Value| json.insert(key.to_owned(), value);
    set("vocab_size", encoder.vocab_size.into());
    set("hidden_size", encoder.hidden_size.into());
    set("num_hidden_layers", encoder.num_hidden_layers.into());
    set("num_attention_heads", encoder.num_attention_heads.into());
    set("intermediate_size", encoder.intermediate_size.into());
    set(POSITIONS, encoder.max_position_embeddings.into());
    set(SEGMENTS, encoder.type_vocab_size.into());
    set("hidden_dropout_prob", encoder.hidden_dropout_prob.into());
    set(
        "attention_probs_dropout_prob",
        encoder.attention_probs_dropout_prob.into(),
    );
    set("layer_norm_eps", encoder.layer_norm_eps.into());
    set("initializer_range", encoder.initializer_range.into());
}

#[cfg(test)]
mod tests {
    use masformer_core::pretrained::Layout;

    use super::{
        super::family::{EncoderLayout, POOLER_WEIGHT},
        *,
    };

    #[test]
    fn older_and_headless_names_are_understood() {
        let layout = EncoderLayout::new(&Bert, Head::Encoder, true);
        let names = layout.names();
        for file in [
            "bert.encoder.layer.2.attention.output.LayerNorm.beta",
            "encoder.layer.2.attention.output.LayerNorm.bias",
        ] {
            assert_eq!(
                names.in_model(file),
                ["bert.stack.layers.2.mixer_norm.beta"]
            );
        }
        assert_eq!(names.in_model("pooler.dense.weight"), [POOLER_WEIGHT]);
    }

    #[test]
    fn only_the_head_of_the_task_is_a_head() {
        let name = |head, file| {
            let layout = EncoderLayout::new(&Bert, head, true);
            layout.names().in_model(file)
        };
        let classes = Head::Classification { classes: 2 };
        assert_eq!(name(classes, "classifier.bias"), ["head.bias"]);
        assert_eq!(name(classes, "qa_outputs.bias"), ["qa_outputs.bias"]);
        assert_eq!(name(Head::Encoder, "classifier.bias"), ["classifier.bias"]);
    }
}
