//! The teacher's predictions.

use burn::nn::Linear;
use masformer_core::Keep;
use serde::{Deserialize, Serialize};

use super::{Objective, Terms, followed};
use crate::{
    MethodError, Signals,
    loss::logits::{LogitsForm, logits_distance},
};

/// The distance of the predictions on the dashboard.
const LOGITS: &str = "Distill logits";

/// The student learns from the teacher's predictions (knowledge distillation, Hinton, Vinyals and Dean, arXiv
/// 1503.02531): of classification and question answering by a divergence, of regression by the squared error, of a
/// language model over its vocabulary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kd {
    /// The factor of the distance.
    pub weight: f64,
    /// What both logits are divided by before the softmax.
    pub temperature: f64,
    /// How predictions are compared.
    pub form: LogitsForm,
}

impl Default for Kd {
    fn default() -> Self {
        Self {
            weight: 1.0,
            temperature: 1.0,
            form: LogitsForm::Kl,
        }
    }
}

impl Objective for Kd {
    fn name(&self) -> &'static str {
        "kd"
    }

    fn keep(&self) -> Keep {
        Keep {
            logits: true,
            ..Keep::default()
        }
    }

    fn keep_of_teacher(&self) -> Option<Keep> {
        Some(self.keep())
    }

    fn shows(&self) -> Vec<&'static str> {
        vec![LOGITS]
    }

    fn terms(
        &self,
        _: &[Linear],
        student: &Signals,
        teacher: Option<&Signals>,
    ) -> Result<Terms, MethodError> {
        let (own, other) = (&student.logits, &followed(teacher)?.logits);
        let loss = logits_distance(own, other, self.form, self.temperature)?;
        let mut terms = Terms::default();
        terms.add(LOGITS, loss, self.weight);
        Ok(terms)
    }
}
