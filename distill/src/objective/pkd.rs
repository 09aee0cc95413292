//! The first token's states of many layers, after BERT-PKD.

use burn::nn::Linear;
use masformer_core::{Keep, Layers};
use serde::{Deserialize, Serialize};

use super::{Given, Objective, Terms, check_weight, followed, hidden_state};
use crate::{MethodError, Signals, loss::first_token::first_tokens};

/// The patience loss on the dashboard.
const PATIENCE: &str = "Patience";

/// The first token's states of the student's layers, but for the last, learn from those of the teacher (patient
/// knowledge distillation, BERT-PKD, arXiv 1908.09355). The paper adds `kd` beside it.
///
/// It is for encoders, whose first token sums the text up, and for equal widths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pkd {
    /// The factor of the mean over samples, layers and the width, as in the published code: 10 to 1000 there.
    pub weight: f64,
    /// Which of the teacher's layers are followed.
    pub layers: Patience,
    /// Whether states are compared by their directions alone.
    pub normalize: bool,
}

/// Which layers of a deeper teacher a student follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Patience {
    /// Every `L / M`-th.
    #[default]
    Skip,
    /// The last ones, but for the very last.
    Last,
}

impl Default for Pkd {
    fn default() -> Self {
        Self {
            weight: 100.0,
            layers: Patience::default(),
            normalize: true,
        }
    }
}

impl Pkd {
    /// The pairs of hidden states (student, teacher) for models of so many layers.
    ///
    /// # Errors
    ///
    /// If the student is deeper, or the teacher's depth is no multiple of the student's where layers are skipped.
    pub fn pairs(
        &self,
        student: usize,
        teacher: usize,
    ) -> Result<Vec<(usize, usize)>, MethodError> {
        if student < 2 {
            return Err("a student of one layer has no layer before the last to compare".into());
        }
        if student > teacher {
            return Err(format!(
                "a student of {student} layers is deeper than its teacher of {teacher}"
            )
            .into());
        }
        let of: Box<dyn Fn(usize) -> usize> = match self.layers {
            Patience::Skip if !teacher.is_multiple_of(student) => {
                return Err(format!(
                    "`layers = \"skip\"` needs a teacher k times as deep: a teacher of {teacher} layers does not fit a \
                     student of {student}; write `layers = \"last\"`"
                )
                .into());
            }
            Patience::Skip => Box::new(|layer| layer * (teacher / student)),
            Patience::Last => Box::new(|layer| teacher - student + layer),
        };
        Ok((1..student).map(|layer| (layer, of(layer))).collect())
    }
}

impl Objective for Pkd {
    fn name(&self) -> &'static str {
        "pkd"
    }

    fn keep(&self) -> Keep {
        Keep {
            hidden: Layers::All,
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
        vec![PATIENCE]
    }

    fn parts(
        &self,
        Given {
            student, teacher, ..
        }: Given<'_>,
    ) -> Result<Vec<Linear>, MethodError> {
        if student.is_causal {
            return Err(
                "the first token of a decoder sees nothing else; `pkd` is for encoders".into(),
            );
        }
        if let Some(teacher) = teacher {
            self.pairs(student.layers, teacher.layers)?;
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
        let (student, teacher) = (&student.trace, &followed(teacher)?.trace);
        let (mut states, mut targets) = (vec![], vec![]);
        for (from, to) in self.pairs(student.layers(), teacher.layers())? {
            states.push(hidden_state("student", student, from)?);
            targets.push(hidden_state("teacher", teacher, to)?);
        }
        let mut terms = Terms::default();
        terms.add(
            PATIENCE,
            first_tokens(&states, &targets, self.normalize),
            self.weight,
        );
        Ok(terms)
    }
}
