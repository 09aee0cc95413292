//! ELECTRA (arXiv 2003.10555): `config.json` and names of weights as in Transformers.
//!
//! It is a BERT whose embeddings may be narrower than its layers. It has no pooler; a classifier of sequences has a dense
//! layer with gelu, before and after which the first token is dropped out.

use masformer_core::{Activation, pretrained::Keys};
use serde_json::{Map, Value};

use super::{
    bert,
    family::{Family, HEAD_DROPOUT, read_head_dropout, write_head_dropout},
};
use crate::{
    bert::{BertConfig, PoolerActivation},
    file::FileError,
    heads::Head,
};

/// Width of the embeddings.
const WIDTH: &str = "embedding_size";

/// The family `electra`.
#[derive(Debug)]
pub(super) struct Electra;

impl Family for Electra {
    fn model_type(&self) -> &'static str {
        "electra"
    }

    fn class(&self) -> &'static str {
        "Electra"
    }

    fn tokenizer(&self) -> &'static str {
        "ElectraTokenizer"
    }

    fn read(&self, keys: Keys<'_>) -> Result<BertConfig, FileError> {
        let default = BertConfig::new()
            .with_hidden_size(256)
            .with_num_attention_heads(4)
            .with_intermediate_size(1024)
            .with_pooler(false)
            .with_pooler_activation(PoolerActivation::Other(Activation::Gelu))
            .with_pooler_dropout(None);
        let encoder = bert::read(keys, default)?;
        let width = keys.size(WIDTH, 128)?;
        Ok(BertConfig {
            embedding_size: (width != encoder.hidden_size).then_some(width),
            head_dropout: read_head_dropout(keys, HEAD_DROPOUT)?,
            ..encoder
        })
    }

    fn write(&self, encoder: &BertConfig, json: &mut Map<String, Value>) {
        bert::write(encoder, json);
        let width = encoder.embedding_size.unwrap_or(encoder.hidden_size);
        json.insert(WIDTH.to_owned(), width.into());
        write_head_dropout(encoder.head_dropout, json, HEAD_DROPOUT);
    }

    fn prefix(&self) -> &'static str {
        "electra."
    }

    fn names(&self) -> Vec<(&'static str, &'static str)> {
        let project = ("embeddings_project.", "embeddings.project.");
        bert::NAMES.into_iter().chain([project]).collect()
    }

    fn pooler(&self, head: Head) -> Option<&'static str> {
        head.needs_pooler().then_some("classifier.dense.")
    }

    fn classifier(&self) -> &'static str {
        "classifier.out_proj."
    }
}
