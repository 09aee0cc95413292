//! Attention scores and projected hidden states, after `TinyBERT`.

use burn::nn::{Linear, LinearConfig};
use masformer_core::{Keep, Layers};
use serde::{Deserialize, Serialize};

use super::{Given, Objective, Terms, check_weight, followed, hidden_state};
use crate::{
    MethodError, Signals,
    loss::{
        Padding,
        hidden::hidden_error,
        pairs::Pairs,
        scores::{attention_scores, scores},
    },
};

/// The sum over layers of the attention terms on the dashboard.
const ATTENTION: &str = "Attention scores";
/// The sum over layers of the hidden terms on the dashboard.
const HIDDEN: &str = "Projected hidden";

/// The student's attention scores and hidden states learn from those of every `L / M`-th layer of the teacher, hidden
/// states through one trained projection (`TinyBERT`, arXiv 1909.10351, equations 7 to 9). The prediction loss of the
/// paper is `kd` at temperature 1, in a stage of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TinyBert {
    /// The factor of the attention terms; 0 leaves them out, as models with other numbers of heads need it.
    pub attention: f64,
    /// The factor of the hidden terms.
    pub hidden: f64,
    /// Whether padded positions count, as in the published code.
    pub padding: Padding,
}

impl Default for TinyBert {
    fn default() -> Self {
        Self {
            attention: 1.0,
            hidden: 1.0,
            padding: Padding::default(),
        }
    }
}

/// How many layers of the teacher one of the student stands for.
fn step(student: usize, teacher: usize) -> Result<usize, MethodError> {
    if student > 0 && teacher.is_multiple_of(student) && teacher > 0 {
        return Ok(teacher / student);
    }
    Err(format!(
        "the teacher must be k times as deep: a teacher of {teacher} layers does not fit a student of {student}"
    )
    .into())
}

impl Objective for TinyBert {
    fn name(&self) -> &'static str {
        "tinybert"
    }

    fn keep(&self) -> Keep {
        let all = |weight: f64| {
            if weight == 0.0 {
                Layers::None
            } else {
                Layers::All
            }
        };
        Keep {
            hidden: all(self.hidden),
            heads: all(self.attention),
            ..Keep::default()
        }
    }

    fn keep_of_teacher(&self) -> Option<Keep> {
        Some(self.keep())
    }

    fn check(&self) -> Result<(), MethodError> {
        check_weight("attention", self.attention)?;
        check_weight("hidden", self.hidden)?;
        if self.attention == 0.0 && self.hidden == 0.0 {
            return Err("`attention` and `hidden` are both 0; give one of them a weight".into());
        }
        Ok(())
    }

    fn shows(&self) -> Vec<&'static str> {
        let shown = [(ATTENTION, self.attention), (HIDDEN, self.hidden)];
        let shown = shown.into_iter().filter(|(_, weight)| *weight != 0.0);
        shown.map(|(name, _)| name).collect()
    }

    /// The projection of hidden states, `[D_s, D_t]`.
    fn parts(
        &self,
        Given {
            student,
            teacher,
            device,
            ..
        }: Given<'_>,
    ) -> Result<Vec<Linear>, MethodError> {
        let teacher = teacher.unwrap_or(student);
        step(student.layers, teacher.layers)?;
        if self.attention != 0.0 && student.heads != teacher.heads {
            return Err(format!(
                "attention scores of {} heads cannot be compared with those of {}; leave them out with `attention = 0`",
                student.heads, teacher.heads
            )
            .into());
        }
        Ok(vec![
            LinearConfig::new(student.hidden, teacher.hidden).init(device),
        ])
    }

    fn terms(
        &self,
        parts: &[Linear],
        student: &Signals,
        teacher: Option<&Signals>,
    ) -> Result<Terms, MethodError> {
        let teacher = followed(teacher)?;
        let padding = student.padding.as_ref();
        let (own, other) = (&student.trace, &teacher.trace);
        let layers = own.layers();
        let step = step(layers, other.layers())?;
        let mut terms = Terms::default();
        if self.attention != 0.0 {
            let mut losses = vec![];
            for layer in 0..layers {
                let target = (layer + 1) * step - 1;
                let (Some(from), Some(to)) = (own.heads.get(&layer), other.heads.get(&target))
                else {
                    return Err(format!(
                        "layer {layer} of the student or layer {target} of the teacher has no attention"
                    )
                    .into());
                };
                let [batch, length, _] = from.query.dims();
                let seen = (from.span, from.direction);
                let pairs = Pairs::new(seen, [batch, length], padding, &from.query.device());
                let (from, to) = (attention_scores(from), attention_scores(to));
                losses.push(scores(from, to, &pairs, self.padding));
            }
            terms.add(ATTENTION, losses, self.attention);
        }
        if self.hidden != 0.0 {
            let mut losses = vec![];
            for state in 0..=layers {
                let from = hidden_state("student", own, state)?;
                let to = hidden_state("teacher", other, state * step)?;
                let from = match parts {
                    [projection, ..] => projection.forward(from),
                    [] => from,
                };
                losses.push(hidden_error(from, to, padding, self.padding));
            }
            terms.add(HIDDEN, losses, self.hidden);
        }
        Ok(terms)
    }
}
