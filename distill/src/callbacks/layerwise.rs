//! Layer-wise distillation: the student follows the teacher's hidden states and predictions.

use burn::prelude::*;
use masformer_core::Keep;
use serde::{Deserialize, Serialize};

use crate::{
    Batch, Callback, CallbackError, CallbackModel, Context, Gauge, LayerMap, Output, SignalSource,
    Signals, Step,
    loss::{HiddenLoss, LogitsLoss},
};

/// How a student follows its teacher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LayerwiseConfig {
    /// What the sum of the distillation terms is multiplied by before it joins the loss.
    pub weight: f64,
    /// Which hidden states are compared.
    pub layers: LayerMap,
    /// How hidden states are compared.
    pub hidden: HiddenLoss,
    /// How predictions are compared.
    pub logits: LogitsLoss,
}

impl Default for LayerwiseConfig {
    fn default() -> Self {
        Self {
            weight: 1.0,
            layers: LayerMap::default(),
            hidden: HiddenLoss::default(),
            logits: LogitsLoss::default(),
        }
    }
}

/// Adds `weight * (sum of hidden terms + logits term)` to the loss (`MoEBERT`, arXiv 2204.07675,
/// equations 7 and 8).
///
/// Where there are two logits, start and end of a span, the logits term is the mean of theirs.
pub struct LayerwiseDistillation<B> {
    teacher: Box<dyn SignalSource<B>>,
    config: LayerwiseConfig,
    hidden: Gauge,
    logits: Gauge,
}

impl<B> LayerwiseDistillation<B> {
    /// Follows this teacher.
    pub fn new(teacher: impl SignalSource<B> + 'static, config: LayerwiseConfig) -> Self {
        Self {
            teacher: Box::new(teacher),
            config,
            hidden: Gauge::new("Distill hidden"),
            logits: Gauge::new("Distill logits"),
        }
    }

    /// The two terms before they are weighted, for the dashboard.
    pub fn gauges(&self) -> [Gauge; 2] {
        [self.hidden.clone(), self.logits.clone()]
    }
}

/// The distillation terms of one batch.
struct Terms {
    hidden: Option<Tensor<1>>,
    logits: Option<Tensor<1>>,
}

impl LayerwiseConfig {
    fn terms(&self, student: &Signals, teacher: &Signals) -> Result<Terms, CallbackError> {
        let (layers, teacher_layers) = (&student.trace.hidden_states, &teacher.trace.hidden_states);
        let depth = |states: &[Tensor<3>]| {
            let no_states = "the model kept no hidden states to distil";
            states.len().checked_sub(1).ok_or(no_states)
        };
        let pairs = self.layers.pairs(depth(layers)?, depth(teacher_layers)?)?;
        let mut hidden = None;
        for (from, to) in pairs {
            let (state, target) = (layers[from].clone(), teacher_layers[to].clone());
            if state.dims() != target.dims() {
                return Err(format!(
                    "hidden state {from} of the student is {:?} and hidden state {to} of the \
                     teacher {:?}; they must have the same shape",
                    state.dims(),
                    target.dims()
                )
                .into());
            }
            let term = self.hidden.forward(state, target, student.padding.as_ref());
            hidden = Some(sum(hidden, term));
        }

        let (outputs, targets) = (&student.logits, &teacher.logits);
        let shapes = |logits: &[Tensor<2>]| logits.iter().map(Tensor::dims).collect::<Vec<_>>();
        if shapes(outputs) != shapes(targets) {
            return Err(format!(
                "the student's logits are {:?} and the teacher's {:?}; they must have the same shapes",
                shapes(outputs),
                shapes(targets)
            )
            .into());
        }
        let logits = outputs
            .iter()
            .zip(targets)
            .map(|(output, target)| self.logits.forward(output.clone(), target.clone()))
            .reduce(|sum, term| sum + term)
            .map(|sum| sum.div_scalar(outputs.len() as f64));
        Ok(Terms { hidden, logits })
    }
}

fn sum(sum: Option<Tensor<1>>, term: Tensor<1>) -> Tensor<1> {
    match sum {
        Some(sum) => sum + term,
        None => term,
    }
}

impl<M: CallbackModel> Callback<M> for LayerwiseDistillation<Batch<M>> {
    fn name(&self) -> &'static str {
        "layerwise-distillation"
    }

    fn keep(&self) -> Keep {
        Keep {
            hidden_states: true,
            ..Keep::default()
        }
    }

    fn after_forward(
        &mut self,
        _: &Context,
        _: &M,
        batch: &Batch<M>,
        step: &mut Step<Output<M>>,
    ) -> Result<(), CallbackError> {
        let keep = Callback::<M>::keep(self);
        let teacher = self.teacher.signals(batch, keep);
        let terms = self.config.terms(&step.signals, &teacher)?;
        let mut total = None;
        for (term, gauge) in [(terms.hidden, &self.hidden), (terms.logits, &self.logits)] {
            if let Some(term) = term {
                gauge.set(f64::from(term.clone().into_scalar::<f32>()));
                total = Some(sum(total, term));
            }
        }
        if let Some(total) = total {
            step.loss = step.loss.clone() + total.mul_scalar(self.config.weight);
        }
        Ok(())
    }
}
