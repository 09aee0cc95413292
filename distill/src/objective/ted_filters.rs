//! Filters of hidden states and their heads, stage I of TED.

use burn::{
    nn::{DropoutConfig, Linear, LinearConfig},
    prelude::*,
};
use masformer_core::{Activation, Keep, Layers};
use moebert_core::heads::Head;
use serde::{Deserialize, Serialize};

use super::{Given, Objective, Terms, check_weight, hidden_state};
use crate::{MethodError, Shape, Signals};

/// The name of the method.
pub(super) const TED_FILTERS: &str = "ted-filters";
/// The mean over the filters of the losses of their heads, on the dashboard.
const FILTERS: &str = "Filters";

/// Trains a filter on every `every`-th layer, and a head on it that does the model's task: what part of the layer's state
/// the task needs (TED, arXiv 2210.01351, stage I). The model itself stays as it is; the filters go to `ted`, the heads are
/// left behind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TedFilters {
    /// The factor of the mean over the filters.
    pub weight: f64,
    /// Layers from one filter to the next; divides the model's layers.
    pub every: usize,
    /// Width `D_f` of the filtered states. Absent: the model's.
    pub width: Option<usize>,
    /// Dropout before the last layer of a head for classification.
    pub dropout: f64,
    /// The activation within a head for classification.
    pub activation: HeadActivation,
}

/// The activation within a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadActivation {
    /// The hyperbolic tangent, as in BERT's pooler.
    #[default]
    Tanh,
    /// `gelu`, as in that of `DeBERTa`.
    Gelu,
}

impl Default for TedFilters {
    fn default() -> Self {
        Self {
            weight: 1.0,
            every: 1,
            width: None,
            dropout: 0.1,
            activation: HeadActivation::default(),
        }
    }
}

/// The hidden states that have a filter, in a model of so many layers.
///
/// # Errors
///
/// If the interval does not divide the layers.
pub fn filtered_states(every: usize, layers: usize) -> Result<Vec<usize>, MethodError> {
    if every == 0 || layers < every || !layers.is_multiple_of(every) {
        return Err(
            format!("a filter on every {every} layers does not fit {layers} layers").into(),
        );
    }
    Ok((every..=layers).step_by(every).collect())
}

/// The parts of one filter: the filter, and the layers of its head.
fn parts_of_filter(head: Head) -> Result<usize, MethodError> {
    match head {
        Head::Classification { .. } | Head::Regression => Ok(3),
        Head::SpanQa => Ok(2),
        Head::Encoder => {
            Err("filters learn what a task needs, and this model has no head of a task".into())
        }
    }
}

impl TedFilters {
    /// The logits of a head on filtered states `[B, T, D_f]`.
    fn logits(&self, head: &[Linear], filtered: Tensor<3>) -> Vec<Tensor<2>> {
        let [batch, _, width] = filtered.dims();
        match head {
            [pooler, outputs] => {
                let first = filtered
                    .slice([0..batch, 0..1, 0..width])
                    .squeeze_dim::<2>(1);
                let pooled = pooler.forward(first);
                let pooled = match self.activation {
                    HeadActivation::Tanh => pooled.tanh(),
                    HeadActivation::Gelu => Activation::Gelu.forward(pooled),
                };
                let dropped = DropoutConfig::new(self.dropout).init().forward(pooled);
                vec![outputs.forward(dropped)]
            }
            [outputs] => {
                let scores = outputs.forward(filtered);
                let side = |side: usize| scores.clone().slice_dim(2, side..=side).squeeze_dim(2);
                vec![side(0), side(1)]
            }
            _ => vec![],
        }
    }
}

impl Objective for TedFilters {
    fn name(&self) -> &'static str {
        TED_FILTERS
    }

    fn keep(&self) -> Keep {
        Keep {
            hidden: Layers::All,
            ..Keep::default()
        }
    }

    fn freezes_model(&self) -> bool {
        true
    }

    fn check(&self) -> Result<(), MethodError> {
        check_weight("weight", self.weight)?;
        if self.every == 0 {
            return Err("`every` must be at least 1, not 0".into());
        }
        if self.width == Some(0) {
            return Err("`width` must be at least 1, not 0".into());
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(
                format!("`dropout` must be from 0 to below 1, not {}", self.dropout).into(),
            );
        }
        Ok(())
    }

    fn shows(&self) -> Vec<&'static str> {
        vec![FILTERS]
    }

    /// For each filter `[D, D_f]`: the filter, then its head: two layers for classification and regression, one for
    /// question answering.
    fn parts(
        &self,
        Given {
            student, device, ..
        }: Given<'_>,
    ) -> Result<Vec<Linear>, MethodError> {
        parts_of_filter(student.head)?;
        let width = self.width.unwrap_or(student.hidden);
        let linear = |from: usize, to: usize| LinearConfig::new(from, to).init(device);
        let mut parts = vec![];
        for _ in filtered_states(self.every, student.layers)? {
            parts.push(linear(student.hidden, width));
            match student.head {
                Head::Classification { classes } => {
                    parts.extend([linear(width, width), linear(width, classes)]);
                }
                Head::Regression => parts.extend([linear(width, width), linear(width, 1)]),
                Head::SpanQa => parts.push(linear(width, 2)),
                Head::Encoder => {}
            }
        }
        Ok(parts)
    }

    /// The filters, without their heads.
    fn leaves(&self, parts: &[Linear], model: &Shape) -> Vec<Linear> {
        let each = parts_of_filter(model.head).unwrap_or(1);
        parts.iter().step_by(each).cloned().collect()
    }

    fn terms(
        &self,
        parts: &[Linear],
        student: &Signals,
        _: Option<&Signals>,
    ) -> Result<Terms, MethodError> {
        let Some(task) = &student.task else {
            return Err("the batch has no labels for the filters to learn from".into());
        };
        let states = filtered_states(self.every, student.trace.layers())?;
        let groups = parts.chunks(parts.len() / states.len());
        let mut losses = vec![];
        for (state, group) in states.iter().zip(groups) {
            let hidden = hidden_state("model", &student.trace, *state)?;
            let Some((filter, head)) = group.split_first() else {
                continue;
            };
            let logits = self.logits(head, filter.forward(hidden));
            losses.push(task.of(&logits).div_scalar(states.len() as f64));
        }
        let mut terms = Terms::default();
        terms.add(FILTERS, losses, self.weight);
        Ok(terms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let refused = |change: fn(&mut TedFilters), key: &str| {
            let mut filters = TedFilters::default();
            change(&mut filters);
            let error = filters.check().unwrap_err().to_string();
            assert!(error.starts_with(key), "{error}");
        };
        refused(
            |filters| filters.weight = -1.0,
            "`weight` must be 0 or more",
        );
        refused(|filters| filters.every = 0, "`every` must be at least 1");
        refused(
            |filters| filters.width = Some(0),
            "`width` must be at least 1",
        );
        refused(|filters| filters.dropout = 1.0, "`dropout` must be from 0");
        refused(
            |filters| filters.dropout = f64::NAN,
            "`dropout` must be from 0",
        );
        assert!(TedFilters::default().check().is_ok());
    }
}
