//! Layer-wise distillation: the student follows the teacher's hidden states and predictions.

use burn::{nn::Linear, prelude::*};
use masformer_core::Keep;
use serde::{Deserialize, Serialize};

use super::{Given, LayerValues, Objective, Terms, check_weight, followed, hidden_state};
use crate::{
    LayerMap, MethodError, Signals,
    loss::{
        LogitsForm, Padding,
        hidden::hidden_error,
        logits::{check_temperature, logits_distance},
    },
};

/// The term of one hidden state in `layers.jsonl`.
const LAYER_HIDDEN: &str = "hidden";
/// The sum of the hidden terms on the dashboard.
const HIDDEN: &str = "Distill hidden";
/// The logits term on the dashboard.
const LOGITS: &str = "Distill logits";

/// The student follows the hidden states and predictions of its teacher: adds `weight * (sum of hidden terms + logits
/// term)` to the loss (`MoEBERT`, arXiv 2204.07675, equations 7 and 8).
///
/// Where there are two logits, start and end of a span, the logits term is the mean of theirs. The dashboard shows both
/// terms before they are weighted; `layers.jsonl` gets the term of each of the student's hidden states (`hidden`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Layerwise {
    /// What the sum of the distillation terms is multiplied by before it joins the loss.
    pub weight: f64,
    /// Which hidden states are compared.
    pub layers: LayerMap,
    /// Whether padded positions count.
    pub padding: Padding,
    /// How predictions are compared.
    pub logits: LogitsForm,
    /// What logits are divided by before the softmax; the paper has 1.
    pub temperature: f64,
}

impl Default for Layerwise {
    fn default() -> Self {
        Self {
            weight: 1.0,
            layers: LayerMap::default(),
            padding: Padding::default(),
            logits: LogitsForm::default(),
            temperature: 1.0,
        }
    }
}

/// The distillation terms of one batch.
struct Distances {
    hidden: Option<Tensor<1>>,
    logits: Option<Tensor<1>>,
    layers: Vec<LayerValues>,
}

impl Layerwise {
    fn distances(&self, student: &Signals, teacher: &Signals) -> Result<Distances, MethodError> {
        let (student_trace, teacher_trace) = (&student.trace, &teacher.trace);
        let depths = (student_trace.layers(), teacher_trace.layers());
        let (mut hidden, mut layers) = (None, vec![]);
        for (from, to) in self.layers.pairs(depths.0, depths.1)? {
            let state = hidden_state("student", student_trace, from)?;
            let target = hidden_state("teacher", teacher_trace, to)?;
            if state.dims() != target.dims() {
                return Err(format!(
                    "hidden state {from} of the student is {:?} and hidden state {to} of the \
                     teacher {:?}; they must have the same shape",
                    state.dims(),
                    target.dims()
                )
                .into());
            }
            let term = hidden_error(state, target, student.padding.as_ref(), self.padding);
            layers.push(LayerValues::new(LAYER_HIDDEN, from, term.clone()));
            hidden = Some(sum(hidden, term));
        }

        let (outputs, targets) = (&student.logits, &teacher.logits);
        let logits = logits_distance(outputs, targets, self.logits, self.temperature)?;
        Ok(Distances {
            hidden,
            logits,
            layers,
        })
    }
}

fn sum(sum: Option<Tensor<1>>, term: Tensor<1>) -> Tensor<1> {
    match sum {
        Some(sum) => sum + term,
        None => term,
    }
}

impl Objective for Layerwise {
    fn name(&self) -> &'static str {
        "layerwise"
    }

    fn keep(&self) -> Keep {
        let (hidden, _) = self.layers.hidden();
        Keep {
            hidden,
            ..Keep::default()
        }
    }

    fn keep_of_teacher(&self) -> Option<Keep> {
        let (_, hidden) = self.layers.hidden();
        Some(Keep {
            hidden,
            ..Keep::default()
        })
    }

    fn shows(&self) -> Vec<&'static str> {
        match self.logits {
            LogitsForm::None => vec![HIDDEN],
            _ => vec![HIDDEN, LOGITS],
        }
    }

    fn check(&self) -> Result<(), MethodError> {
        check_weight("weight", self.weight)?;
        check_temperature(self.temperature)
    }

    fn parts(
        &self,
        Given {
            student, teacher, ..
        }: Given<'_>,
    ) -> Result<Vec<Linear>, MethodError> {
        if let Some(teacher) = teacher {
            self.layers.pairs(student.layers, teacher.layers)?;
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
        let Distances {
            hidden,
            logits,
            layers,
        } = self.distances(student, followed(teacher)?)?;
        let mut terms = Terms {
            layers,
            ..Terms::default()
        };
        let mut total = None;
        for (name, term) in [(HIDDEN, hidden), (LOGITS, logits)] {
            if let Some(term) = term {
                terms.shown.push((name, term.clone()));
                total = Some(sum(total, term));
            }
        }
        let total = total.map(|total| total.mul_scalar(self.weight));
        terms.added.extend(total);
        Ok(terms)
    }
}

#[cfg(test)]
mod tests {
    use masformer_core::{Layers, Trace};

    use super::*;
    use crate::{
        SignalSource, Stage, StageConfig, Teacher, Ui,
        toy::{Toy, ToyBatch, ToyLoader, serial},
    };

    fn signals(states: &[f64], logits: &[[f64; 2]]) -> Signals {
        let device = Device::flex();
        let mut trace = Trace::new(Keep {
            hidden: Layers::All,
            ..Keep::default()
        });
        let state = |value: &f64| Tensor::full([1, 2, 1], *value, &device);
        if let Some((first, rest)) = states.split_first() {
            trace.start(rest.len(), &state(first));
            for value in rest {
                trace.finish_layer(|| state(value));
            }
        }
        let logits = logits
            .iter()
            .map(|row| Tensor::from_data([[row[0] as f32, row[1] as f32]], &device))
            .collect();
        Signals {
            trace,
            logits,
            task: None,
            padding: None,
            losses: 1,
        }
    }

    fn value(term: Option<Tensor<1>>) -> f64 {
        f64::from(term.unwrap().into_scalar::<f32>())
    }

    #[test]
    fn terms_are_summed_over_layers_and_averaged_over_start_and_end() {
        let config = Layerwise {
            logits: LogitsForm::Mse,
            ..Layerwise::default()
        };
        let student = signals(&[1.0, 2.0, 3.0], &[[1.0, 1.0], [0.0, 2.0]]);
        let teacher = signals(&[0.0, 0.0, 1.0], &[[0.0, 1.0], [0.0, 0.0]]);
        let terms = config.distances(&student, &teacher).unwrap();
        let by_layer = terms.layers.into_iter();
        let by_layer: Vec<_> = by_layer
            .map(|layer| (layer.layer, value(Some(layer.values))))
            .collect();
        assert_eq!(by_layer, [(0, 1.0), (1, 4.0), (2, 4.0)]);
        assert!((value(terms.hidden) - (1.0 + 4.0 + 4.0)).abs() < 1e-6);
        assert!((value(terms.logits) - 1.25).abs() < 1e-6);

        let last = Layerwise {
            layers: LayerMap::Last,
            logits: LogitsForm::None,
            ..config
        };
        let shallow = signals(&[5.0, 7.0], &[[1.0, 0.0]]);
        let terms = last
            .distances(&signals(&[0.0, 0.0, 1.0], &[]), &shallow)
            .unwrap();
        assert!((value(terms.hidden) - 36.0).abs() < 1e-5);
        assert!(terms.logits.is_none());
    }

    #[test]
    fn models_that_do_not_match_are_errors() {
        let config = Layerwise::default();
        let student = signals(&[1.0, 2.0], &[[0.0, 0.0]]);
        let message = |teacher| {
            config
                .distances(&student, &teacher)
                .err()
                .unwrap()
                .to_string()
        };
        assert!(message(signals(&[1.0; 3], &[[0.0; 2]])).contains("`all`"));
        assert!(message(signals(&[1.0; 2], &[])).contains("logits"));
        let mut without_last = signals(&[1.0; 2], &[[0.0; 2]]);
        without_last.trace.hidden.remove(&1);
        assert!(message(without_last).contains("the teacher kept no hidden state 1"));
    }

    #[test]
    fn a_teacher_is_in_evaluation_mode_and_off_autodiff() {
        let _turn = serial();
        let loader = ToyLoader::new(4, 4);
        let batch = loader.batch(&[0, 1, 2, 3]);
        let tracked = ToyBatch {
            inputs: batch.inputs.autodiff(),
            ..batch
        };
        let teacher = Teacher::new(&Toy::new(2, 6, 0.5));
        let keep = Keep {
            hidden: Layers::All,
            ..Keep::default()
        };
        let (first, second) = (
            teacher.signals(&tracked, keep.clone()),
            teacher.signals(&tracked, keep),
        );
        let last = first.trace.hidden[&2].clone();
        assert!(!last.is_autodiff());
        let again = second.trace.hidden[&2].clone().into_data();
        last.into_data().assert_eq(&again, true);
    }

    #[test]
    fn a_student_comes_to_its_teacher() {
        let _turn = serial();
        let teacher = Toy::new(2, 6, 0.0);
        let mut student = teacher.clone();
        let outer = &mut student.layers[0].outer.weight;
        *outer = outer.clone().map(|weight| weight.mul_scalar(-0.5));
        let keep = Keep {
            hidden: Layers::All,
            ..Keep::default()
        };
        let batch = ToyLoader::new(8, 8).batch(&[0, 1, 2, 3, 4, 5, 6, 7]);
        let distance = |student: &Toy| {
            let source = |model: &Toy| Teacher::new(model).signals(&batch, keep.clone());
            let terms = Layerwise::default().distances(&source(student), &source(&teacher));
            value(terms.unwrap().hidden)
        };
        let fit = |weight| {
            let directory = tempfile::tempdir().unwrap();
            let config = StageConfig {
                ui: Ui::None,
                ..StageConfig::new(directory.path(), 40, 0.02)
            };
            let config_of_term = Layerwise {
                weight,
                ..Layerwise::default()
            };
            let loader = || ToyLoader::new(8, 4).shared();
            let stage = Stage::new(config, loader(), loader())
                .teacher(Teacher::new(&teacher))
                .objective(config_of_term);
            stage.fit(student.clone()).unwrap().model
        };
        let (before, without, with) = (
            distance(&student),
            distance(&fit(0.0)),
            distance(&fit(100.0)),
        );
        assert!(with < 0.1 * before, "{with} {before}");
        assert!(with < 0.5 * without, "{with} {without}");
    }
}
