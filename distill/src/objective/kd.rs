//! The teacher's predictions.

use burn::nn::Linear;
use masformer_core::Keep;
use moebert_core::heads::Head;
use serde::{Deserialize, Serialize};

use super::{Given, Objective, Terms, check_weight, followed};
use crate::{
    MethodError, Signals,
    loss::logits::{LogitsForm, check_temperature, logits_distance},
};

/// The distance of the predictions on the dashboard.
const LOGITS: &str = "KD logits";

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

    fn check(&self) -> Result<(), MethodError> {
        check_weight("weight", self.weight)?;
        check_temperature(self.temperature)
    }

    fn parts(&self, Given { student, .. }: Given<'_>) -> Result<Vec<Linear>, MethodError> {
        if student.head == Head::Encoder && !student.is_causal {
            return Err("the student predicts nothing: it has no head of a task".into());
        }
        Ok(vec![])
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
