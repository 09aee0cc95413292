//! What can be wrong with a generation.

use burn::tensor::ExecutionError;

use crate::cache::EvictionError;

/// A generation that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// A number is outside its range.
    #[error("{name} = {value}: it must be {expected}")]
    Value {
        /// The field of the configuration.
        name: &'static str,
        /// What it is.
        value: f64,
        /// What would be right.
        expected: &'static str,
    },
    /// The model cannot give a stop token.
    #[error("stop token {id}: it must be below {vocabulary}, the model's number of tokens")]
    StopToken {
        /// The token id.
        id: u32,
        /// The model's number of tokens.
        vocabulary: usize,
    },
    /// A prompt cannot be continued.
    #[error("prompt {}: {problem}", prompt + 1)]
    Prompt {
        /// The prompt, counted from 0 (and from 1 in the message).
        prompt: usize,
        /// Why.
        problem: PromptError,
    },
    /// Pairs cannot be evicted so.
    #[error(transparent)]
    Eviction(#[from] EvictionError),
    /// The model's weights are damaged, or too large for its number format.
    #[error("prompt {}: the model's logits are not finite", prompt + 1)]
    NotFinite {
        /// The prompt, counted from 0 (and from 1 in the message).
        prompt: usize,
    },
    /// Logits cannot be read from the device.
    #[error("cannot read logits from the device: {0}")]
    Read(#[from] ExecutionError),
}

/// A prompt that cannot be continued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    /// There is nothing to go on from.
    #[error("it has no tokens; at least one is needed")]
    Empty,
    /// The model does not know a token.
    #[error("token {id} must be below {vocabulary}, the model's number of tokens")]
    Vocabulary {
        /// The token id.
        id: u32,
        /// The model's number of tokens.
        vocabulary: usize,
    },
    /// The model has not enough positions.
    #[error(
        "{tokens} tokens and {new_tokens} new ones are more than the model's {positions} positions; \
         {}",
        room(*tokens, *new_tokens, *positions)
    )]
    TooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Tokens that may follow.
        new_tokens: usize,
        /// Positions of the model.
        positions: usize,
    },
    /// The model has not enough positions for what its cache keeps.
    #[error(
        "its cache needs {places} positions at once, and the model has {positions}; expected a smaller budget, \
         narrower spans or fewer new tokens"
    )]
    Places {
        /// Places that a layer needs.
        places: usize,
        /// Positions of the model.
        positions: usize,
    },
}

impl GenerateError {
    pub(super) fn value(name: &'static str, value: f64, expected: &'static str) -> Self {
        Self::Value {
            name,
            value,
            expected,
        }
    }
}

/// What would fit.
fn room(tokens: usize, new_tokens: usize, positions: usize) -> String {
    let prompt = (positions > new_tokens).then(|| {
        let most = positions - new_tokens;
        format!("a prompt of at most {most} tokens")
    });
    let new = (positions > tokens).then(|| format!("at most {} new ones", positions - tokens));
    let choices: Vec<String> = prompt.into_iter().chain(new).collect();
    if choices.is_empty() {
        "both must be shorter".to_owned()
    } else {
        format!("it has room for {}", choices.join(", or "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_long_a_prompt_is_told_what_would_fit() {
        let told = |tokens, new_tokens| {
            let positions = 64;
            let problem = PromptError::TooLong {
                tokens,
                new_tokens,
                positions,
            };
            let prompt = 1;
            GenerateError::Prompt { prompt, problem }.to_string()
        };
        assert_eq!(
            told(60, 10),
            "prompt 2: 60 tokens and 10 new ones are more than the model's 64 positions; it has room \
             for a prompt of at most 54 tokens, or at most 4 new ones"
        );
        assert!(told(70, 10).ends_with("room for a prompt of at most 54 tokens"));
        assert!(told(60, 64).ends_with("room for at most 4 new ones"));
        assert!(told(64, 64).ends_with("both must be shorter"));
    }
}
