//! Filtered hidden states, stage II of TED.

use burn::{
    nn::{Linear, LinearConfig},
    prelude::*,
};
use masformer_core::{Keep, Layers};
use serde::{Deserialize, Serialize};

use super::{Objective, Terms, check_weight, followed, hidden_state, ted_filters::filtered_states};
use crate::{
    MethodError, Shape, Signals,
    loss::{Padding, hidden::hidden_error},
};

/// The mean squared error of filtered states on the dashboard.
const FILTERED: &str = "Filtered hidden";

/// How a student follows filtered states.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TedConfig {
    /// The factor of the mean squared error; 10 to 7500 in the published settings.
    pub weight: f64,
    /// Whether padded positions count, as in the published code.
    pub padding: Padding,
}

impl Default for TedConfig {
    fn default() -> Self {
        Self {
            weight: 100.0,
            padding: Padding::default(),
        }
    }
}

/// The student's filtered hidden states follow the teacher's (TED, arXiv 2210.01351, stage II). The paper adds `kd` at
/// temperature 2. The teacher's filters stay as they are, the student's are trained on.
pub struct Ted {
    config: TedConfig,
    student: StudentFilters,
    teacher: Vec<Linear>,
}

/// The filters that a student begins with.
pub enum StudentFilters {
    /// Those of its own stage of `ted-filters`.
    Trained(Vec<Linear>),
    /// As many fresh ones, from the student's width to the teacher's: layer-wise distillation of the paper's comparison,
    /// for a teacher without filters.
    Random(usize),
}

impl Ted {
    /// Follows these filters of the teacher; without any, its raw states.
    pub fn new(config: TedConfig, student: StudentFilters, teacher: Vec<Linear>) -> Self {
        let teacher = teacher.into_iter().map(|filter| filter.valid()).collect();
        Self {
            config,
            student,
            teacher,
        }
    }

    /// Number of filters `K` of the student.
    fn filters(&self) -> usize {
        match &self.student {
            StudentFilters::Trained(filters) => filters.len(),
            StudentFilters::Random(count) => *count,
        }
    }

    /// The states that are compared in a model of so many layers.
    fn states(&self, layers: usize) -> Result<Vec<usize>, MethodError> {
        let filters = self.filters();
        if filters == 0 || !layers.is_multiple_of(filters) {
            return Err(format!("{filters} filters do not fit a model of {layers} layers").into());
        }
        filtered_states(layers / filters, layers)
    }
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
        check_weight("weight", self.config.weight)
    }

    fn shows(&self) -> Vec<&'static str> {
        vec![FILTERED]
    }

    /// The student's filters `[D_s, D_f]`.
    fn parts(
        &self,
        student: &Shape,
        teacher: Option<&Shape>,
        device: &Device,
    ) -> Result<Vec<Linear>, MethodError> {
        let teacher = teacher.unwrap_or(student);
        self.states(student.layers)?;
        self.states(teacher.layers)?;
        if !self.teacher.is_empty() && self.teacher.len() != self.filters() {
            return Err(format!(
                "the student has {} filters and the teacher {}",
                self.filters(),
                self.teacher.len()
            )
            .into());
        }
        let target = match self.teacher.first() {
            Some(filter) => filter.weight.dims()[1],
            None => teacher.hidden,
        };
        check_sizes("teacher", &self.teacher, [teacher.hidden, target])?;
        match &self.student {
            StudentFilters::Random(count) => {
                let config = LinearConfig::new(student.hidden, target);
                Ok((0..*count).map(|_| config.init(device)).collect())
            }
            StudentFilters::Trained(filters) => {
                check_sizes("student", filters, [student.hidden, target])?;
                let own = |filter: &Linear| filter.clone().fork(device);
                Ok(filters.iter().map(own).collect())
            }
        }
    }

    fn terms(
        &self,
        parts: &[Linear],
        student: &Signals,
        teacher: Option<&Signals>,
    ) -> Result<Terms, MethodError> {
        let (own, other) = (&student.trace, &followed(teacher)?.trace);
        let states = self.states(own.layers())?;
        let targets = self.states(other.layers())?;
        let mut losses = vec![];
        for (index, (filter, (from, to))) in
            parts.iter().zip(states.iter().zip(targets)).enumerate()
        {
            let state = filter.forward(hidden_state("student", own, *from)?);
            let target = hidden_state("teacher", other, to)?;
            let target = match self.teacher.get(index) {
                Some(filter) => filter.forward(target),
                None => target,
            };
            losses.push(hidden_error(
                state,
                target,
                student.padding.as_ref(),
                self.config.padding,
            ));
        }
        let mut terms = Terms::default();
        let count = losses.len() as f64;
        terms.add(
            FILTERED,
            losses.into_iter().map(|loss| loss.div_scalar(count)),
            self.config.weight,
        );
        Ok(terms)
    }
}

#[cfg(test)]
mod tests {
    use moebert_core::heads::Head;

    use super::*;

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
        let parts = |student: [[usize; 2]; 2], teacher: [[usize; 2]; 2]| {
            let student = StudentFilters::Trained(filters(student));
            let ted = Ted::new(TedConfig::default(), student, filters(teacher));
            ted.parts(&shape(4), Some(&shape(6)), &device)
        };
        let _turn = crate::toy::serial();
        assert_eq!(parts([[4, 3]; 2], [[6, 3]; 2]).unwrap().len(), 2);
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
