//! `RoBERTa` (arXiv 1907.11692): `config.json` and names of weights as in Transformers.
//!
//! It is a BERT that counts positions over the tokens that are not padding, from the row of the position table after the
//! id of padding; `max_position_embeddings` counts the rows before as well. A classifier of sequences has a dense layer of its
//! own, before and after which the first token is dropped out, in the place of a pooler.

use masformer_core::pretrained::Keys;
use serde_json::{Map, Value};

use super::{
    bert::{self, POSITIONS},
    family::{Family, HEAD_DROPOUT, read_head_dropout, write_head_dropout},
};
use crate::{
    bert::{BertConfig, PositionCount},
    file::FileError,
    heads::Head,
};

/// The id of padding.
const PADDING: &str = "pad_token_id";

/// The family `roberta`.
#[derive(Debug)]
pub(super) struct Roberta;

impl Family for Roberta {
    fn model_type(&self) -> &'static str {
        "roberta"
    }

    fn class(&self) -> &'static str {
        "Roberta"
    }

    fn tokenizer(&self) -> &'static str {
        "RobertaTokenizer"
    }

    fn read(&self, keys: Keys<'_>) -> Result<BertConfig, FileError> {
        let default = BertConfig::new()
            .with_vocab_size(50265)
            .with_pooler(false)
            .with_pooler_dropout(None);
        let encoder = bert::read(keys, default)?;
        let id = keys.get(PADDING, 1, "the id of a token")?;
        let rows = encoder.max_position_embeddings;
        if rows.saturating_sub(1) <= id {
            let expected = format!("at least 2 more than `{PADDING}`, {id}");
            return Err(keys.wrong(POSITIONS, expected));
        }
        Ok(BertConfig {
            max_position_embeddings: rows - 1 - id,
            position_count: PositionCount::AfterPadding { id },
            head_dropout: read_head_dropout(keys, HEAD_DROPOUT)?,
            ..encoder
        })
    }

    fn write(&self, encoder: &BertConfig, json: &mut Map<String, Value>) {
        bert::write(encoder, json);
        json.insert(POSITIONS.to_owned(), encoder.position_rows().into());
        if let PositionCount::AfterPadding { id } = encoder.position_count {
            json.insert(PADDING.to_owned(), id.into());
        }
        write_head_dropout(encoder.head_dropout, json, HEAD_DROPOUT);
    }

    fn prefix(&self) -> &'static str {
        "roberta."
    }

    fn names(&self) -> Vec<(&'static str, &'static str)> {
        bert::NAMES.into()
    }

    fn pooler(&self, head: Head) -> Option<&'static str> {
        match head {
            Head::Encoder => Some("roberta.pooler.dense."),
            Head::Classification { .. } | Head::Regression => Some("classifier.dense."),
            Head::SpanQa => None,
        }
    }

    fn classifier(&self) -> &'static str {
        "classifier.out_proj."
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn read(json: Value) -> Result<BertConfig, FileError> {
        let Value::Object(json) = json else {
            panic!("keys");
        };
        let path = Path::new("config.json");
        Roberta.read(Keys { path, json: &json })
    }

    #[test]
    fn positions_begin_after_the_id_of_padding() {
        let encoder = read(json!({"max_position_embeddings": 514})).unwrap();
        assert_eq!(encoder.max_position_embeddings, 512);
        assert_eq!(encoder.position_rows(), 514);
        let encoder = read(json!({"max_position_embeddings": 5, "pad_token_id": 3})).unwrap();
        assert_eq!(encoder.max_position_embeddings, 1);
        let error = read(json!({"max_position_embeddings": 4, "pad_token_id": 3}));
        let error = error.unwrap_err().to_string();
        let expected =
            "`max_position_embeddings` is 4; expected at least 2 more than `pad_token_id`, 3";
        assert!(error.ends_with(expected), "{error}");
        assert!(read(json!({"pad_token_id": -1})).is_err());
    }
}
