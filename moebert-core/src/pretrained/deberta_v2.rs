//! DeBERTa-v2 and v3 (arXiv 2006.03654, 2111.09543): `config.json` and names of weights as in Transformers.
//!
//! It is a BERT whose attention is [disentangled](masformer_core::mixer::Disentangled): it reads relative positions, which all
//! layers share, and may have no others. The convolution of the largest models of v2 is not supported.

use std::path::Path;

use masformer_core::{
    Activation, MixerSpec,
    mixer::DisentangledSpec,
    pretrained::{CONFIG_FILE, Keys, read_activation, write_activation},
    relative::RelativeConfig,
};
use serde_json::{Map, Value, json};

use super::{
    bert::{self, SEGMENTS},
    family::{Family, read_head_dropout, write_head_dropout},
};
use crate::{
    bert::{BertConfig, PoolerActivation, PositionCount},
    file::FileError,
    heads::Head,
};

const RELATIVE: &str = "relative_attention";
const BUCKETS: &str = "position_buckets";
const DISTANCES: &str = "max_relative_positions";
const TERMS: &str = "pos_att_type";
const SHARED: &str = "share_att_key";
const NORM: &str = "norm_rel_ebd";
const ABSOLUTE: &str = "position_biased_input";
const POOLER_WIDTH: &str = "pooler_hidden_size";
const POOLER_ACTIVATION: &str = "pooler_hidden_act";
const POOLER_DROPOUT: &str = "pooler_dropout";
const HEAD_DROPOUT: &str = "cls_dropout";

/// Names in files and in the model that are not BERT's, `{l}` a layer.
const NAMES: [(&str, &str); 8] = [
    (
        "encoder.layer.{l}.attention.self.query_proj.",
        "stack.layers.{l}.mixer.attention.query.",
    ),
    (
        "encoder.layer.{l}.attention.self.key_proj.",
        "stack.layers.{l}.mixer.attention.key.",
    ),
    (
        "encoder.layer.{l}.attention.self.value_proj.",
        "stack.layers.{l}.mixer.attention.value.",
    ),
    (
        "encoder.layer.{l}.attention.output.dense.",
        "stack.layers.{l}.mixer.attention.output.",
    ),
    (
        "encoder.layer.{l}.attention.self.pos_query_proj.",
        "stack.layers.{l}.mixer.position_query.",
    ),
    (
        "encoder.layer.{l}.attention.self.pos_key_proj.",
        "stack.layers.{l}.mixer.position_key.",
    ),
    ("encoder.rel_embeddings.", "relative.table."),
    ("encoder.LayerNorm.", "relative.norm."),
];

/// The family `deberta-v2`, which v3 is of.
#[derive(Debug)]
pub(super) struct DebertaV2;

impl Family for DebertaV2 {
    fn model_type(&self) -> &'static str {
        "deberta-v2"
    }

    fn class(&self) -> &'static str {
        "DebertaV2"
    }

    fn tokenizer(&self) -> &'static str {
        "DebertaV2Tokenizer"
    }

    fn read(&self, keys: Keys<'_>) -> Result<BertConfig, FileError> {
        let default = BertConfig::new()
            .with_vocab_size(128_100)
            .with_hidden_size(1536)
            .with_num_hidden_layers(24)
            .with_num_attention_heads(24)
            .with_intermediate_size(6144)
            .with_layer_norm_eps(1e-7)
            .with_pooler(false);
        let encoder = bert::read_shared(keys, default)?;
        check_supported(keys, &encoder)?;
        let has_absolute = keys.get(ABSOLUTE, true, "true or false")?;
        let pooler_activation = read_activation(keys, POOLER_ACTIVATION, Activation::Gelu)?;
        let terms = read_terms(keys)?;
        Ok(BertConfig {
            type_vocab_size: keys.get(SEGMENTS, 0, "a whole number")?,
            position_count: if has_absolute {
                PositionCount::All
            } else {
                PositionCount::None
            },
            relative: Some(read_relative(keys, encoder.max_position_embeddings)?),
            mixers: vec![MixerSpec::Disentangled(terms); encoder.num_hidden_layers],
            pooler_activation: PoolerActivation::Other(pooler_activation),
            pooler_dropout: Some(keys.probability(POOLER_DROPOUT, 0.0)?),
            head_dropout: read_head_dropout(keys, HEAD_DROPOUT)?,
            ..encoder
        })
    }

    fn write(&self, encoder: &BertConfig, json: &mut Map<String, Value>) {
        bert::write(encoder, json);
        let has_absolute = encoder.position_count == PositionCount::All;
        json.insert(ABSOLUTE.to_owned(), has_absolute.into());
        json.insert(RELATIVE.to_owned(), true.into());
        if let Some(relative) = &encoder.relative {
            write_relative(relative, encoder.max_position_embeddings, json);
        }
        if let Some(MixerSpec::Disentangled(terms)) = encoder.mixers.first() {
            write_terms(*terms, json);
        }
        json.insert(POOLER_WIDTH.to_owned(), encoder.hidden_size.into());
        if let PoolerActivation::Other(activation) = encoder.pooler_activation {
            write_activation(json, POOLER_ACTIVATION, activation);
        }
        let dropout = encoder.pooler_dropout.unwrap_or(encoder.before_head());
        json.insert(POOLER_DROPOUT.to_owned(), dropout.into());
        write_head_dropout(encoder.head_dropout, json, HEAD_DROPOUT);
    }

    fn prefix(&self) -> &'static str {
        "deberta."
    }

    /// Mixers other than its own have the names of their fields, and so has attention.
    fn names(&self) -> Vec<(&'static str, &'static str)> {
        let is_attention =
            |file: &str| file.contains(".self.") || file.ends_with(".attention.output.dense.");
        let shared = bert::NAMES.into_iter();
        let shared = shared.filter(|(file, _)| !is_attention(file));
        NAMES.into_iter().chain(shared).collect()
    }

    fn pooler(&self, head: Head) -> Option<&'static str> {
        head.needs_pooler().then_some("pooler.dense.")
    }
}

/// Refuses what is not supported.
fn check_supported(keys: Keys<'_>, encoder: &BertConfig) -> Result<(), FileError> {
    if !keys.get(RELATIVE, false, "true or false")? {
        return Err(keys.wrong(RELATIVE, "true, which alone is supported"));
    }
    let (hidden, heads) = (encoder.hidden_size, encoder.num_attention_heads);
    for (key, supported) in [
        ("conv_kernel_size", 0),
        ("embedding_size", hidden),
        ("attention_head_size", hidden / heads),
        (POOLER_WIDTH, hidden),
    ] {
        if keys.get(key, supported, "a whole number")? != supported {
            let expected = format!("{supported}, which alone is supported");
            return Err(keys.wrong(key, expected));
        }
    }
    Ok(())
}

/// The relative positions of a model for inputs of `length` tokens.
fn read_relative(keys: Keys<'_>, length: usize) -> Result<RelativeConfig, FileError> {
    let expected = "a whole number";
    let buckets = keys.get(BUCKETS, -1_i64, expected)?;
    let distances = keys.get(DISTANCES, -1_i64, expected)?;
    let norm = keys.get(NORM, "none".to_owned(), "a name")?;
    let relative = RelativeConfig {
        buckets: usize::try_from(buckets).unwrap_or(0),
        distances: usize::try_from(distances)
            .ok()
            .filter(|distances| *distances > 0)
            .unwrap_or(length),
        norm: match norm.as_str() {
            "layer_norm" => true,
            "none" => false,
            _ => return Err(keys.wrong(NORM, "\"layer_norm\" or \"none\"")),
        },
    };
    match relative.check() {
        Ok(()) => Ok(relative),
        Err(needed) => Err(keys.wrong(BUCKETS, needed)),
    }
}

/// Writes what [`read_relative`] reads.
fn write_relative(relative: &RelativeConfig, length: usize, json: &mut Map<String, Value>) {
    let buckets = match relative.buckets {
        0 => json!(-1),
        buckets => json!(buckets),
    };
    let distances = match relative.distances {
        distances if distances == length => json!(-1),
        distances => json!(distances),
    };
    let norm = if relative.norm { "layer_norm" } else { "none" };
    json.insert(BUCKETS.to_owned(), buckets);
    json.insert(DISTANCES.to_owned(), distances);
    json.insert(NORM.to_owned(), norm.into());
}

/// The terms of the scores: a list of names, or one text with `|` between them.
fn read_terms(keys: Keys<'_>) -> Result<DisentangledSpec, FileError> {
    let expected = "names of \"c2p\" and \"p2c\"";
    let names = match keys.json.get(TERMS) {
        Some(Value::String(names)) => names.split('|').map(str::to_owned).collect(),
        _ => keys.get(TERMS, Vec::<String>::new(), expected)?,
    };
    let mut terms = DisentangledSpec {
        c2p: false,
        p2c: false,
        shared: keys.get(SHARED, false, "true or false")?,
    };
    for name in names {
        match name.trim() {
            "c2p" => terms.c2p = true,
            "p2c" => terms.p2c = true,
            _ => return Err(keys.wrong(TERMS, expected)),
        }
    }
    Ok(terms)
}

/// Writes what [`read_terms`] reads, unless it is there already in another form.
fn write_terms(terms: DisentangledSpec, json: &mut Map<String, Value>) {
    json.insert(SHARED.to_owned(), terms.shared.into());
    let path = Path::new(CONFIG_FILE);
    let said = read_terms(Keys { path, json });
    if !said.is_ok_and(|said| said == terms) {
        let names = [("p2c", terms.p2c), ("c2p", terms.c2p)].into_iter();
        let names: Vec<&str> = names
            .filter_map(|(name, is_there)| is_there.then_some(name))
            .collect();
        json.insert(TERMS.to_owned(), json!(names));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(keys: &[(&str, Value)]) -> Result<BertConfig, FileError> {
        let mut json = Map::from_iter([(RELATIVE.to_owned(), true.into())]);
        let keys = keys
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone()));
        json.extend(keys);
        let path = Path::new(CONFIG_FILE);
        DebertaV2.read(Keys { path, json: &json })
    }

    #[test]
    fn terms_are_a_list_or_a_text() {
        let both = DisentangledSpec {
            shared: false,
            ..DisentangledSpec::default()
        };
        for terms in [json!("p2c|c2p"), json!("c2p | p2c"), json!(["c2p", "p2c"])] {
            let encoder = read(&[(TERMS, terms.clone())]).unwrap();
            assert_eq!(encoder.mixers, vec![MixerSpec::Disentangled(both); 24]);
            let mut json = Map::from_iter([(TERMS.to_owned(), terms.clone())]);
            write_terms(both, &mut json);
            assert_eq!(json[TERMS], terms);
        }
        let encoder = read(&[(TERMS, json!(["c2p"])), (SHARED, true.into())]).unwrap();
        let MixerSpec::Disentangled(terms) = encoder.mixers[0] else {
            panic!("{:?}", encoder.mixers[0]);
        };
        assert_eq!((terms.c2p, terms.p2c, terms.shared), (true, false, true));
    }

    #[test]
    fn what_is_not_supported_is_named_by_its_key() {
        for (key, value, expected) in [
            (RELATIVE, json!(false), "is false; expected true"),
            ("conv_kernel_size", json!(3), "is 3; expected 0"),
            ("embedding_size", json!(128), "is 128; expected 1536"),
            ("attention_head_size", json!(32), "is 32; expected 64"),
            (POOLER_WIDTH, json!(8), "is 8; expected 1536"),
            (NORM, json!("rms"), "is \"rms\"; expected \"layer_norm\" or"),
            (TERMS, json!(["p2p"]), "is [\"p2p\"]; expected names of"),
            (
                BUCKETS,
                json!(1024),
                "is 1024; expected more distances than",
            ),
        ] {
            let error = read(&[(key, value)]).unwrap_err().to_string();
            assert!(error.contains(&format!("`{key}` {expected}")), "{error}");
        }
    }
}
