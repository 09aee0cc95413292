//! A shallower model made of some layers of a deeper one.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{bert::BertConfig, layered::Layered};

/// The layers of a model that a shallower one begins with, in their order.
///
/// Layers are counted from 1, as papers on distillation do. The text forms are `2,4,6` and `every:2` (the same for a
/// model of 6 layers).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum KeepLayers {
    /// Every `k`-th, the last one included.
    Every(usize),
    /// These, in rising order.
    Only(Vec<usize>),
}

/// Layers that cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeepLayersError {
    /// The text is no choice of layers.
    #[error(
        "`{0}` is no choice of layers; write `every:2`, or the layers in rising order from 1, as in `2,4,6`"
    )]
    Parse(String),
    /// The model has other layers.
    #[error("`{choice}` does not fit a model of {layers} layers; {rule}")]
    Depth {
        /// The choice.
        choice: String,
        /// Layers of the model.
        layers: usize,
        /// What would be right.
        rule: &'static str,
    },
}

impl KeepLayers {
    /// The indices, from 0, of the kept layers of a model of so many layers.
    ///
    /// # Errors
    ///
    /// If the model has other layers, or the choice is empty or out of order.
    pub fn indices(&self, layers: usize) -> Result<Vec<usize>, KeepLayersError> {
        let error = |rule| KeepLayersError::Depth {
            choice: self.to_string(),
            layers,
            rule,
        };
        match self {
            Self::Every(step) if layers > 0 && layers.is_multiple_of(*step) => {
                Ok((0..layers).skip(step - 1).step_by(*step).collect())
            }
            Self::Every(_) => Err(error("`every:k` needs a multiple of k layers")),
            Self::Only(kept) if kept.is_empty() => Err(error("at least one layer must be kept")),
            Self::Only(kept) if !kept.is_sorted_by(|one, next| one < next) => {
                Err(error("the layers must be in rising order"))
            }
            Self::Only(kept) if kept.iter().all(|layer| (1..=layers).contains(layer)) => {
                Ok(kept.iter().map(|layer| layer - 1).collect())
            }
            Self::Only(_) => Err(error("layers are counted from 1 to the last one")),
        }
    }
}

impl fmt::Display for KeepLayers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(step) => write!(f, "every:{step}"),
            Self::Only(layers) => {
                let layers: Vec<String> = layers.iter().map(ToString::to_string).collect();
                f.write_str(&layers.join(","))
            }
        }
    }
}

impl FromStr for KeepLayers {
    type Err = KeepLayersError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || KeepLayersError::Parse(text.to_owned());
        let number = |text: &str| {
            let number = text.trim().parse::<usize>().ok();
            number.filter(|number| *number > 0).ok_or_else(error)
        };
        let text = text.trim();
        if let Some(step) = text.strip_prefix("every:") {
            return number(step).map(Self::Every);
        }
        let layers: Vec<usize> = text.split(',').map(number).collect::<Result<_, _>>()?;
        if layers.is_sorted_by(|one, next| one < next) {
            Ok(Self::Only(layers))
        } else {
            Err(error())
        }
    }
}

impl TryFrom<String> for KeepLayers {
    type Error = KeepLayersError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<KeepLayers> for String {
    fn from(choice: KeepLayers) -> Self {
        choice.to_string()
    }
}

/// The model with these of its layers, by their indices from 0; embeddings and head stay.
pub fn keep_layers<M: Layered>(mut model: M, kept: &[usize]) -> M {
    let layers = &mut model.stack_mut().layers;
    *layers = picked(layers, kept);
    model
}

impl BertConfig {
    /// The configuration of a model with these of its layers, by their indices from 0.
    #[must_use]
    pub fn with_kept_layers(self, kept: &[usize]) -> Self {
        Self {
            num_hidden_layers: kept.len(),
            spans: picked(&self.spans, kept),
            mixers: picked(&self.mixers, kept),
            ..self
        }
    }
}

/// The values at these places; of an empty list, which stands for the same value everywhere, nothing.
fn picked<T: Clone>(values: &[T], kept: &[usize]) -> Vec<T> {
    kept.iter()
        .filter_map(|index| values.get(*index).cloned())
        .collect()
}

#[cfg(test)]
mod tests {
    use burn::prelude::*;
    use masformer_core::Trace;

    use super::*;
    use crate::{
        bert::BertInput,
        heads::{BertModelConfig, Head},
    };

    fn indices(text: &str, layers: usize) -> Vec<usize> {
        text.parse::<KeepLayers>().unwrap().indices(layers).unwrap()
    }

    #[test]
    fn layers_are_counted_from_1() {
        assert_eq!(indices("every:2", 6), [1, 3, 5]);
        assert_eq!(indices(" 2, 4,6", 6), [1, 3, 5]);
        assert_eq!(indices("every:1", 2), [0, 1]);
        assert_eq!(indices("1", 12), [0]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for text in ["", "every:0", "every:", "0", "2,2", "4,2", "1,", "all"] {
            assert!(text.parse::<KeepLayers>().is_err(), "{text}");
        }
        for (text, layers) in [("every:2", 5), ("every:2", 0), ("2,7", 6)] {
            let error = text.parse::<KeepLayers>().unwrap().indices(layers);
            let error = error.unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("`{text}` does not fit")),
                "{error}"
            );
        }
        // Choices that no text has.
        for (choice, rule) in [
            (KeepLayers::Every(0), "a multiple of k layers"),
            (KeepLayers::Only(vec![]), "at least one layer"),
            (KeepLayers::Only(vec![0, 2]), "counted from 1"),
            (KeepLayers::Only(vec![4, 2]), "in rising order"),
            (KeepLayers::Only(vec![2, 2]), "in rising order"),
        ] {
            let error = choice.indices(6).unwrap_err().to_string();
            assert!(error.contains(rule), "{error}");
        }
    }

    #[test]
    fn text_is_read_back() {
        for text in ["every:3", "1,5,6"] {
            assert_eq!(text.parse::<KeepLayers>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_shallower_model_applies_the_layers_that_are_left() {
        let device = Device::default();
        let bert = BertConfig::new()
            .with_vocab_size(7)
            .with_hidden_size(8)
            .with_num_hidden_layers(3)
            .with_num_attention_heads(2)
            .with_intermediate_size(12)
            .with_max_position_embeddings(6)
            .with_spans(
                ["full", "window:2", "block:2"]
                    .map(|span| span.parse().unwrap())
                    .into(),
            );
        let config = bert.clone().with_kept_layers(&[0, 2]);
        assert_eq!((config.num_hidden_layers, config.spans.len()), (2, 2));
        assert_eq!(config.spans[1], bert.spans[2]);
        let whole = BertModelConfig::new(bert, Head::Classification { classes: 2 }).init(&device);
        let input_ids = Tensor::<2, Int>::from_data([[2, 5, 3, 1]], &device);
        let input = BertInput {
            token_type_ids: input_ids.zeros_like(),
            input_ids,
            padding: None,
        };
        // The middle layer is passed over.
        let mut skipping = whole.clone();
        skipping.bert.stack.layers.remove(1);
        let expected = skipping.forward(&input, &mut Trace::nothing()).hidden;
        let kept = keep_layers(whole, &[0, 2]);
        let found = kept.forward(&input, &mut Trace::nothing()).hidden;
        assert_eq!(kept.bert.spans(), config.spans);
        found.into_data().assert_eq(&expected.into_data(), true);
    }
}
