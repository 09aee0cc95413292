//! An encoder with the head of a task.

use std::fmt;

use burn::{
    config::Config,
    module::Module,
    nn::{Dropout, DropoutConfig, Linear, LinearConfig},
    prelude::*,
};
use masformer_core::{
    Trace,
    dropout::dropout,
    linear::{apply_linear, zero_bias},
};
use serde::{Deserialize, Serialize};

use crate::bert::{Bert, BertConfig, BertInput};

/// What sits on an encoder: what a model predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    /// Nothing: a headless encoder.
    Encoder,
    /// One of several classes for a sequence or a pair of sequences.
    Classification {
        /// Number of classes `C`.
        classes: usize,
    },
    /// One number for a sequence or a pair of sequences.
    Regression,
    /// The first and last token of an answer.
    SpanQa,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encoder => f.write_str("encoding, without a head"),
            Self::Classification { classes } => write!(f, "classification in {classes} classes"),
            Self::Regression => f.write_str("regression"),
            Self::SpanQa => f.write_str("span question answering"),
        }
    }
}

impl Head {
    /// Number of outputs of the head; `None` for a headless encoder.
    pub fn outputs(self) -> Option<usize> {
        match self {
            Self::Encoder => None,
            Self::Classification { classes } => Some(classes),
            Self::Regression => Some(1),
            Self::SpanQa => Some(2),
        }
    }

    /// Whether the head reads the pooled first token.
    pub fn needs_pooler(self) -> bool {
        matches!(self, Self::Classification { .. } | Self::Regression)
    }
}

/// Configuration of [`BertModel`].
#[derive(Config, Debug)]
pub struct BertModelConfig {
    /// The encoder.
    pub bert: BertConfig,
    /// What the head predicts.
    pub head: Head,
}

/// The outputs of a head.
#[derive(Clone, Debug)]
pub enum Logits {
    /// Class scores `[B, C]`, or the predicted number `[B, 1]`.
    Sequence(Tensor<2>),
    /// Start and end scores of every token, `[B, T, 2]`.
    Span(Tensor<3>),
}

/// What a forward pass returns.
#[derive(Clone, Debug)]
pub struct ModelOutput {
    /// The last hidden state `[B, T, D]`.
    pub hidden: Tensor<3>,
    /// The pooled first token `[B, D]`, where the model has a pooler.
    pub pooled: Option<Tensor<2>>,
    /// The head's scores; `None` for a headless encoder.
    pub logits: Option<Logits>,
}

/// The encoder with the head of a task.
#[derive(Module, Debug)]
pub struct BertModel {
    /// The encoder.
    pub bert: Bert,
    /// Dropout before the head.
    pub dropout: Dropout,
    /// The head, `[D, outputs]`; `None` for a headless encoder.
    pub head: Option<Linear>,
    #[module(skip)]
    kind: Head,
}

impl BertModelConfig {
    /// Makes a dense model with fresh weights on a device; a head that reads the pooler gets one.
    pub fn init(&self, device: &Device) -> BertModel {
        let config = self
            .bert
            .clone()
            .with_pooler(self.bert.pooler || self.head.needs_pooler());
        let head = self.head.outputs().map(|outputs| {
            let linear = LinearConfig::new(config.hidden_size, outputs)
                .with_initializer(config.initializer());
            zero_bias(linear.init(device))
        });
        BertModel {
            bert: config.init(device),
            dropout: DropoutConfig::new(config.before_head()).init(),
            head,
            kind: self.head,
        }
    }
}

impl BertModel {
    /// What the model predicts.
    pub fn head_kind(&self) -> Head {
        self.kind
    }

    /// Encodes a batch and applies the head.
    ///
    /// # Shapes
    ///
    /// - input: `[B, T]`
    /// - logits: `[B, C]`, `[B, 1]` or `[B, T, 2]` by task
    ///
    /// # Panics
    ///
    /// As [`Bert::forward`], or if a sequence head has no pooler.
    pub fn forward(&self, input: &BertInput, trace: &mut Trace) -> ModelOutput {
        let output = self.bert.forward(input, trace);
        let logits = self.head.as_ref().map(|head| {
            if self.kind.needs_pooler() {
                let pooled = output
                    .pooled
                    .clone()
                    .expect("a model with a sequence head is made with a pooler");
                Logits::Sequence(apply_linear(head, dropout(&self.dropout, pooled)))
            } else {
                let [batch, length, _] = output.hidden.dims();
                let tokens = output.hidden.clone().flatten::<2>(0, 1);
                let scores = apply_linear(head, tokens);
                let [_, sides] = scores.dims();
                Logits::Span(scores.reshape([batch, length, sides]))
            }
        });
        ModelOutput {
            hidden: output.hidden,
            pooled: output.pooled,
            logits,
        }
    }
}
