//! Trains on short sequences first, which cost less, and on longer ones later.

use serde::{Deserialize, Serialize};

use super::{Callback, Context};
use crate::{Batch, Gauge, MethodError, Trainable};

/// A batch of sequences that can be cut into shorter ones.
pub trait Cut {
    /// Tokens of its sequences, `T`.
    fn length(&self) -> usize;

    /// Cuts each sequence into pieces of `length` tokens, which divides `T`: `[B, T]` becomes
    /// `[B T / length, length]`. No token is lost, and none sees another piece any more.
    #[must_use]
    fn cut(self, length: usize) -> Self;
}

/// A part of the training with sequences of one length.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Growth {
    /// Tokens of a sequence; divides the length of the data's sequences.
    pub length: usize,
    /// The share of the training after which longer sequences follow, from above 0 to 1.
    pub until: f64,
}

/// Cuts the sequences of each batch to the length that the training has grown to, as staged
/// training does (Shortformer, arXiv 2012.15832, section 3): each step has the same tokens, in more and
/// shorter sequences at first. After the last part, sequences are as long as the data has them.
///
/// The length follows from the share of the training that is done, so there is no state. The gauge
/// shows it.
pub struct GrowingLength {
    parts: Vec<Growth>,
    length: Gauge,
}

impl GrowingLength {
    /// Grows through these parts, in the order in which they end.
    pub fn new(parts: impl Into<Vec<Growth>>) -> Self {
        Self {
            parts: parts.into(),
            length: Gauge::new("Length"),
        }
    }

    /// The length when a share `done` of the training is done; `None` for that of the data.
    fn at(&self, done: f64) -> Option<usize> {
        let part = self.parts.iter().find(|part| done < part.until);
        part.map(|part| part.length)
    }
}

impl<M: Trainable> Callback<M> for GrowingLength
where
    Batch<M>: Cut,
{
    fn name(&self) -> &'static str {
        "growing-length"
    }

    fn gauges(&self) -> Vec<Gauge> {
        vec![self.length.clone()]
    }

    fn before_forward(
        &mut self,
        context: &Context,
        _: &M,
        batch: &mut Batch<M>,
    ) -> Result<(), MethodError> {
        let whole = batch.length();
        let length = self.at(context.done).unwrap_or(whole);
        if length == 0 || !whole.is_multiple_of(length) {
            return Err(format!(
                "sequences of {whole} tokens cannot be cut into pieces of {length}"
            )
            .into());
        }
        if length < whole {
            *batch = batch.clone().cut(length);
        }
        self.length.set(length as f64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Stage, StageConfig, StageError, Ui,
        toy::{TOKENS, Toy, ToyBatch, ToyLoader, serial},
    };

    impl Cut for ToyBatch {
        fn length(&self) -> usize {
            self.inputs.dims()[1]
        }

        fn cut(self, length: usize) -> Self {
            let [batch, whole, hidden] = self.inputs.dims();
            let pieces = whole / length;
            Self {
                inputs: self.inputs.reshape([batch * pieces, length, hidden]),
                labels: self.labels.repeat_dim(0, pieces),
                padding: None,
            }
        }
    }

    fn fit(parts: &[Growth]) -> Result<Vec<f64>, StageError> {
        let _turn = serial();
        let directory = tempfile::tempdir().unwrap();
        let config = StageConfig {
            ui: Ui::None,
            log_every: 1,
            ..StageConfig::new(directory.path(), 2, 0.01)
        };
        let loader = || ToyLoader::new(4, 2).shared();
        let growing = GrowingLength::new(parts);
        Stage::new(config, loader(), loader())
            .callback(growing)
            .fit(Toy::new(1, 3, 0.0))?;
        let metrics = std::fs::read_to_string(directory.path().join("metrics.jsonl")).unwrap();
        let value = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        let steps = metrics
            .lines()
            .map(value)
            .filter(|line| line["name"] == "Length" && line["last"].is_null());
        Ok(steps.map(|line| line["value"].as_f64().unwrap()).collect())
    }

    #[test]
    fn sequences_grow_with_the_share_that_is_done() {
        let part = Growth {
            length: 1,
            until: 0.5,
        };
        // Two epochs of two steps: the first is short, the second whole.
        assert_eq!(
            fit(&[part]).unwrap(),
            [1.0, 1.0, TOKENS as f64, TOKENS as f64]
        );
    }

    #[test]
    fn a_length_that_does_not_divide_the_sequences_is_an_error() {
        let part = Growth {
            length: 2,
            until: 1.0,
        };
        let error = fit(&[part]).unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        let expected = "sequences of 3 tokens cannot be cut into pieces of 2";
        assert!(
            error.to_string().contains(expected) || cause.as_deref() == Some(expected),
            "{error}: {cause:?}"
        );
    }
}
