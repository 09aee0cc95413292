//! The tokenizer of a fresh language model, by name.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// How a fresh language model divides text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TokenizerChoice {
    /// `bytes`: a token is a byte.
    #[default]
    Bytes,
    /// `bpe:V`: byte-level BPE of `V` tokens, learned from the training text.
    Bpe {
        /// Tokens of the vocabulary, `V`.
        vocabulary: usize,
    },
}

/// A text that names no tokenizer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown tokenizer `{0}`: expected `bytes` or `bpe:V`, V at least 257")]
pub struct UnknownTokenizer(String);

/// Every byte and the end of a document.
const LEAST_VOCABULARY: usize = 257;

impl FromStr for TokenizerChoice {
    type Err = UnknownTokenizer;

    fn from_str(text: &str) -> Result<Self, UnknownTokenizer> {
        if text == "bytes" {
            return Ok(Self::Bytes);
        }
        text.strip_prefix("bpe:")
            .and_then(|vocabulary| vocabulary.parse().ok())
            .filter(|vocabulary| *vocabulary >= LEAST_VOCABULARY)
            .map(|vocabulary| Self::Bpe { vocabulary })
            .ok_or_else(|| UnknownTokenizer(text.to_owned()))
    }
}

impl fmt::Display for TokenizerChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes => f.write_str("bytes"),
            Self::Bpe { vocabulary } => write!(f, "bpe:{vocabulary}"),
        }
    }
}

impl TryFrom<String> for TokenizerChoice {
    type Error = UnknownTokenizer;

    fn try_from(text: String) -> Result<Self, UnknownTokenizer> {
        text.parse()
    }
}

impl From<TokenizerChoice> for String {
    fn from(choice: TokenizerChoice) -> Self {
        choice.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_nonsense_is_named() {
        for text in ["bytes", "bpe:257", "bpe:50257"] {
            assert_eq!(text.parse::<TokenizerChoice>().unwrap().to_string(), text);
        }
        for text in ["byte", "bpe", "bpe:256", "bpe:-1", ""] {
            let error = text.parse::<TokenizerChoice>().unwrap_err().to_string();
            let expected = "expected `bytes` or `bpe:V`, V at least 257";
            assert_eq!(error, format!("unknown tokenizer `{text}`: {expected}"));
        }
    }
}
