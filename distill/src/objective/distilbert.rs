//! The direction of the last hidden state, after `DistilBERT`.

use burn::nn::Linear;
use masformer_core::{Keep, Layers};
use serde::{Deserialize, Serialize};

use super::{Given, Objective, Terms, check_weight, followed, hidden_state};
use crate::{MethodError, Signals, loss::cosine::cosine};

/// The cosine distance on the dashboard.
const COSINE: &str = "Cosine";

/// The student's last hidden states learn the directions of the teacher's (the cosine term of `DistilBERT`, arXiv
/// 1910.01108). The paper adds `kd` at temperature 2 with a factor of 5, and takes the labels' loss times 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DistilBert {
    /// The factor of the cosine distance.
    pub weight: f64,
}

impl Default for DistilBert {
    fn default() -> Self {
        Self { weight: 1.0 }
    }
}

impl Objective for DistilBert {
    fn name(&self) -> &'static str {
        "distilbert"
    }

    fn keep(&self) -> Keep {
        Keep {
            hidden: Layers::Last,
            ..Keep::default()
        }
    }

    fn keep_of_teacher(&self) -> Option<Keep> {
        Some(self.keep())
    }

    fn check(&self) -> Result<(), MethodError> {
        check_weight("weight", self.weight)
    }

    fn shows(&self) -> Vec<&'static str> {
        vec![COSINE]
    }

    fn parts(
        &self,
        Given {
            student, teacher, ..
        }: Given<'_>,
    ) -> Result<Vec<Linear>, MethodError> {
        if let Some(teacher) = teacher {
            student.check_width(teacher)?;
        }
        Ok(vec![])
    }

    fn terms(
        &self,
        _: &[Linear],
        student: &Signals,
        teacher: Option<&Signals>,
    ) -> Result<Terms, MethodError> {
        let (own, other) = (&student.trace, &followed(teacher)?.trace);
        let state = hidden_state("student", own, own.layers())?;
        let target = hidden_state("teacher", other, other.layers())?;
        let loss = cosine(state, target, student.padding.as_ref());
        let mut terms = Terms::default();
        terms.add(COSINE, [loss], self.weight);
        Ok(terms)
    }
}
