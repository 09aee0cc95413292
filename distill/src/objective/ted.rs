//! Filtered hidden states, stage II of TED.

use burn::{
    nn::{Linear, LinearConfig},
    prelude::*,
};
use masformer_core::{Keep, Layers};
use serde::{Deserialize, Serialize};

use super::{
    Given, Objective, Terms, check_weight, followed, hidden_state,
    ted_filters::{TED_FILTERS, filtered_states},
};
use crate::{
    LeftParts, MethodError, Signals,
    loss::{Padding, hidden::hidden_error},
};

/// The mean squared error of filtered states on the dashboard.
const FILTERED: &str = "Filtered hidden";

/// The student's filtered hidden states follow the teacher's (TED, arXiv 2210.01351, stage II). The paper adds `kd` at
/// temperature 2. The teacher's filters stay as they are, the student's are trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ted {
    /// The factor of the mean squared error; 10 to 7500 in the published settings.
    pub weight: f64,
    /// Whether padded positions count, as in the published code.
    pub padding: Padding,
    /// Where the filters come from.
    pub filters: StudentFilters,
    /// Layers of the student from one random filter to the next; divides their number.
    pub every: usize,
}

/// The filters that a student begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StudentFilters {
    /// Those that `ted-filters` trained for it; the teacher has its own.
    #[default]
    Trained,
    /// Fresh ones from the student's width to the teacher's, whose states are not filtered: layer-wise distillation of the
    /// paper's comparison.
    Random,
}

impl Default for Ted {
    fn default() -> Self {
        Self {
            weight: 100.0,
            padding: Padding::default(),
            filters: StudentFilters::default(),
            every: 1,
        }
    }
}

/// The states of a model of so many layers that its filters are for.
fn states(filters: usize, layers: usize) -> Result<Vec<usize>, MethodError> {
    if filters == 0 || !layers.is_multiple_of(filters) {
        return Err(format!("{filters} filters do not fit a model of {layers} layers").into());
    }
    filtered_states(layers / filters, layers)
}

/// The filters that `ted-filters` trained for a model.
fn trained(model: &str, left: &LeftParts) -> Result<Vec<Linear>, MethodError> {
    let filters = left.of(TED_FILTERS).to_vec();
    if filters.is_empty() {
        return Err(format!("the {model} has no filters: train some by `{TED_FILTERS}`").into());
    }
    Ok(filters)
}

/// Refuses filters that do not map the states of a model to those that are compared.
fn check_sizes(
    model: &str,
    filters: &[Linear],
    [width, target]: [usize; 2],
) -> Result<(), MethodError> {
    for (index, filter) in filters.iter().enumerate() {
        let found = filter.weight.dims();
        if found != [width, target] {
            return Err(format!(
                "filter {index} of the {model} is {found:?}, and [{width}, {target}] is needed, from the {width} wide \
                 states of the {model} to the compared ones; train the filters of both models with the same `width`"
            )
            .into());
        }
    }
    Ok(())
}

impl Objective for Ted {
    fn name(&self) -> &'static str {
        "ted"
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
        check_weight("weight", self.weight)?;
        if self.every == 0 {
            return Err("`every` must be at least 1, not 0".into());
        }
        Ok(())
    }

    fn shows(&self) -> Vec<&'static str> {
        vec![FILTERED]
    }

    fn begins_with(&self) -> Option<&'static str> {
        (self.filters == StudentFilters::Trained).then_some(TED_FILTERS)
    }

    /// The student's filters `[D_s, D_f]`, then the teacher's `[D_t, D_f]`, which are frozen, if it has any.
    fn parts(
        &self,
        Given {
            student,
            teacher,
            of_student,
            of_teacher,
            device,
        }: Given<'_>,
    ) -> Result<Vec<Linear>, MethodError> {
        let teacher = teacher.unwrap_or(student);
        let (mut own, other) = match self.filters {
            StudentFilters::Random => {
                let count = filtered_states(self.every, student.layers)?.len();
                let config = LinearConfig::new(student.hidden, teacher.hidden);
                ((0..count).map(|_| config.init(device)).collect(), vec![])
            }
            StudentFilters::Trained => {
                let own = trained("student", of_student)?;
                let other = trained("teacher", of_teacher)?;
                if own.len() != other.len() {
                    return Err(format!(
                        "the student has {} filters and the teacher {}; choose `every` of both stages of `{TED_FILTERS}` so \
                         that they are as many",
                        own.len(),
                        other.len()
                    )
                    .into());
                }
                let target = other[0].weight.dims()[1];
                check_sizes("teacher", &other, [teacher.hidden, target])?;
                check_sizes("student", &own, [student.hidden, target])?;
                (own, other)
            }
        };
        states(own.len(), student.layers)?;
        states(own.len(), teacher.layers)?;
        own.extend(other.into_iter().map(Linear::freeze));
        Ok(own.into_iter().map(|filter| filter.fork(device)).collect())
    }

    fn terms(
        &self,
        parts: &[Linear],
        student: &Signals,
        teacher: Option<&Signals>,
    ) -> Result<Terms, MethodError> {
        let (own, other) = (&student.trace, &followed(teacher)?.trace);
        let (filters, of_teacher) = match self.filters {
            StudentFilters::Random => (parts, None),
            StudentFilters::Trained => {
                let (own, other) = parts.split_at(parts.len() / 2);
                (own, Some(other))
            }
        };
        let from = states(filters.len(), own.layers())?;
        let to = states(filters.len(), other.layers())?;
        let mut losses = vec![];
        for (index, filter) in filters.iter().enumerate() {
            let state = filter.forward(hidden_state("student", own, from[index])?);
            let target = hidden_state("teacher", other, to[index])?;
            let target = match of_teacher {
                Some(filters) => filters[index].valid().forward(target),
                None => target,
            };
            losses.push(hidden_error(
                state,
                target,
                student.padding.as_ref(),
                self.padding,
            ));
        }
        let mut terms = Terms::default();
        let count = losses.len() as f64;
        terms.add(
            FILTERED,
            losses.into_iter().map(|loss| loss.div_scalar(count)),
            self.weight,
        );
        Ok(terms)
    }
}

#[cfg(test)]
mod tests {
    use moebert_core::heads::Head;

    use super::*;
    use crate::Shape;

    fn shape(hidden: usize) -> Shape {
        Shape {
            layers: 2,
            hidden,
            heads: 1,
            key_value: hidden,
            head: Head::Regression,
            is_causal: false,
        }
    }

    #[test]
    fn filters_of_other_sizes_are_refused() {
        let device = Device::flex();
        let filters = |sizes: [[usize; 2]; 2]| {
            let filter = |[from, to]: [usize; 2]| LinearConfig::new(from, to).init(&device);
            sizes.map(filter).to_vec()
        };
        let left = |sizes| {
            let mut left = LeftParts::default();
            left.insert(TED_FILTERS, filters(sizes));
            left
        };
        let parts = |student: [[usize; 2]; 2], teacher: [[usize; 2]; 2]| {
            Ted::default().parts(Given {
                student: &shape(4),
                teacher: Some(&shape(6)),
                of_student: &left(student),
                of_teacher: &left(teacher),
                device: &device,
            })
        };
        let _turn = crate::toy::serial();
        assert_eq!(parts([[4, 3]; 2], [[6, 3]; 2]).unwrap().len(), 4);
        for (student, teacher, message) in [
            ([[4, 3]; 2], [[6, 3], [4, 3]], "filter 1 of the teacher"),
            ([[4, 3], [6, 3]], [[6, 3]; 2], "filter 1 of the student"),
            (
                [[4, 5]; 2],
                [[6, 3]; 2],
                "filter 0 of the student is [4, 5], and [4, 3]",
            ),
        ] {
            let error = parts(student, teacher).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
