//! A decoder as a learner of language: the loss, and what callbacks and metrics see.

use burn::{
    module::{Module, Param},
    prelude::*,
    tensor::ExecutionError,
    train::{
        ItemLazy,
        metric::{AccuracyInput, Adaptor, LossInput},
    },
};
use distill::{MethodError, Shape, Signals, Step, Trainable, surgery::PartitionIntoExperts};
use masformer_core::{
    Decoder, DecoderInput, Keep, Stack, Trace,
    ops::{cross_entropy, linear_cross_entropy, linear_cross_entropy_mean},
};
use moebert_core::{half::Half, heads::Head, layered::Layered};

use super::{ExpertPlan, shape};
use crate::data::language::{LanguageBatch, Sequence};

/// A decoder with the loss of a language model.
#[derive(Module, Debug)]
pub struct LanguageLearner {
    /// The model.
    pub model: Decoder<Half>,
    /// Whether its outputs have logits, as the metrics of right and wrong answers need them.
    #[module(skip)]
    pub answers: bool,
}

/// What one batch gives to the metrics.
#[derive(Clone, Debug)]
pub struct LanguageOutput {
    /// The mean negative log-likelihood of the targets in nats `[1]`.
    pub loss: Tensor<1>,
    /// The scores `[N, V]` at the positions that have a target; `None` unless
    /// [`LanguageLearner::answers`], as they are more than memory should hold where text is predicted.
    pub logits: Option<Tensor<2>>,
    /// The targets `[N]`.
    pub targets: Tensor<1, Int>,
}

impl LanguageLearner {
    /// The model to judge: its outputs are asked for one by one.
    pub fn to_judge(model: &Decoder<Half>) -> Self {
        Self {
            model: model.clone(),
            answers: false,
        }
    }

    /// The hidden states `[N, D]` at the positions of a batch that have a target.
    pub fn asked(&self, batch: &LanguageBatch, trace: &mut Trace) -> Tensor<2> {
        let input = DecoderInput {
            input_ids: batch.input_ids.clone(),
            padding: batch.padding.clone(),
        };
        let hidden = self.model.hidden(&input, trace).flatten::<2>(0, 1);
        match &batch.asked {
            Some(positions) => hidden.select(0, positions.clone()),
            None => hidden,
        }
    }

    /// The negative log-likelihoods in nats `[N]` of a batch's targets, from the hidden states
    /// `[N, D]` at their positions.
    pub fn nats(&self, hidden: Tensor<2>, batch: &LanguageBatch) -> Tensor<1> {
        linear_cross_entropy(hidden, self.model.token.weight.val(), batch.targets.clone())
    }

    /// The negative log-likelihoods in nats of the tokens that sequences ask for, one after the other.
    /// `pad_id` may be any token.
    ///
    /// # Errors
    ///
    /// If the result cannot be read from the device.
    pub fn surprisals(
        &self,
        sequences: &[Sequence],
        pad_id: u32,
    ) -> Result<Vec<f64>, ExecutionError> {
        let device = self.model.token.weight.device();
        let batch = LanguageBatch::collate(sequences, pad_id, &device);
        let hidden = self.asked(&batch, &mut Trace::nothing());
        let nats = self.nats(hidden, &batch).try_into_data()?;
        Ok(nats.iter().collect())
    }

    /// The scores `[N, V]` of hidden states `[N, D]`.
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        self.model.logits(hidden.unsqueeze::<3>()).squeeze_dim(0)
    }
}

impl PartitionIntoExperts for LanguageLearner {
    type Layout = ExpertPlan;

    fn partition(self, plan: &ExpertPlan) -> Result<Self, MethodError> {
        Ok(plan.split(self)?)
    }
}

impl Layered for LanguageLearner {
    fn stack(&self) -> &Stack<Half> {
        &self.model.stack
    }

    fn stack_mut(&mut self) -> &mut Stack<Half> {
        &mut self.model.stack
    }

    fn embedding(&self) -> &Param<Tensor<2>> {
        &self.model.token.weight
    }

    fn width(&self) -> usize {
        self.model.width()
    }

    fn is_causal(&self) -> bool {
        true
    }
}

impl Trainable for LanguageLearner {
    type Batch = LanguageBatch;
    type Output = LanguageOutput;

    fn shape(&self) -> Shape {
        shape(&self.model, Head::Encoder)
    }

    fn forward_step(&self, batch: LanguageBatch, keep: Keep) -> Step<LanguageOutput> {
        let mut trace = Trace::new(keep);
        let hidden = self.asked(&batch, &mut trace);
        let targets = batch.targets.clone();
        let [losses] = targets.dims();
        let logits = trace.keep().logits.then(|| self.logits(hidden.clone()));
        let loss = if let Some(logits) = &logits {
            // Logits that are kept anyway need no second product with the vocabulary.
            cross_entropy(logits.clone(), targets).sum() / losses.max(1) as f64
        } else {
            let head = self.model.token.weight.val();
            linear_cross_entropy_mean(hidden.clone(), head, targets)
        };
        // What the metrics see needs no gradient.
        let answers = self.answers.then(|| match &logits {
            Some(logits) => logits.clone().detach(),
            None => self.logits(hidden.detach()).detach(),
        });
        Step {
            output: LanguageOutput {
                loss: loss.clone(),
                logits: answers,
                targets: batch.targets,
            },
            loss,
            signals: Signals {
                trace,
                logits: logits.into_iter().collect(),
                task: None,
                padding: batch.padding,
                losses,
            },
        }
    }
}

impl ItemLazy for LanguageOutput {
    fn sync(self) -> Result<Self, ExecutionError> {
        self.loss.device().flush()?;
        Ok(Self {
            loss: self.loss.without_autodiff(),
            logits: self.logits.map(Tensor::without_autodiff),
            targets: self.targets.without_autodiff(),
        })
    }
}

impl Adaptor<LossInput> for LanguageOutput {
    fn adapt(&self) -> LossInput {
        LossInput::new(self.loss.clone())
    }
}

impl Adaptor<AccuracyInput> for LanguageOutput {
    fn adapt(&self) -> AccuracyInput {
        // Accuracy is a metric of those learners alone that have answers.
        let logits = self.logits.clone().expect("the learner has answers");
        AccuracyInput::new(logits, self.targets.clone())
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Tolerance, activation::log_softmax};
    use masformer_core::DecoderConfig;
    use moebert_core::half;

    use super::*;

    fn learner(device: &Device) -> LanguageLearner {
        let spans = vec!["full".parse().unwrap(), "window:2".parse().unwrap()];
        let config = DecoderConfig::new(7, 6, 8, 2, 16, spans)
            .with_initializer_range(0.5)
            .with_embedding_dropout(0.0)
            .with_attention_dropout(0.0)
            .with_residual_dropout(0.0);
        LanguageLearner {
            model: half::dense(config.init(device)),
            answers: true,
        }
    }

    fn sequences() -> [Sequence; 2] {
        [
            Sequence {
                input_ids: vec![1, 2, 3, 4],
                targets: vec![None, Some(3), None, Some(6)],
            },
            Sequence {
                input_ids: vec![5, 6],
                targets: vec![Some(0), None],
            },
        ]
    }

    #[test]
    fn logits_that_are_kept_change_neither_the_loss_nor_its_gradient() {
        let device = Device::default().autodiff();
        let learner = learner(&device);
        let batch = LanguageBatch::collate(&sequences(), 0, &device);
        let [plain, kept] = [false, true].map(|logits| {
            let keep = Keep {
                logits,
                ..Keep::default()
            };
            let step = learner.forward_step(batch.clone(), keep);
            assert_eq!(step.signals.logits.len(), usize::from(logits));
            let gradients = step.loss.backward();
            let gradient = learner.model.token.weight.val().grad(&gradients);
            (step.loss.inner().into_data(), gradient.unwrap().into_data())
        });
        let tolerance = Tolerance::<f32>::absolute(1e-5);
        plain.0.assert_approx_eq(&kept.0, tolerance);
        plain.1.assert_approx_eq(&kept.1, tolerance);
    }

    #[test]
    fn the_loss_is_the_mean_over_the_targets() {
        let device = Device::default();
        let learner = learner(&device);
        let sequences = sequences();
        let batch = LanguageBatch::collate(&sequences, 0, &device);
        let output = learner.forward_step(batch.clone(), Keep::default()).output;
        assert_eq!(output.logits.as_ref().unwrap().dims(), [3, 7]);

        let input = DecoderInput {
            input_ids: batch.input_ids,
            padding: batch.padding,
        };
        let logits = learner.model.forward(&input, &mut Trace::nothing()).logits;
        let logs: Vec<f32> = log_softmax(logits, 2).into_data().iter().collect();
        let at = |row: usize, position: usize, id: usize| logs[(row * 4 + position) * 7 + id];
        let expected = -(at(0, 1, 3) + at(0, 3, 6) + at(1, 0, 0)) / 3.0;
        output
            .loss
            .into_data()
            .assert_approx_eq::<f32>(&TensorData::from([expected]), Tolerance::absolute(1e-5));

        let nats = learner.surprisals(&sequences, 0).unwrap();
        let one_by_one = [at(0, 1, 3), at(0, 3, 6), at(1, 0, 0)];
        for (found, log) in nats.iter().zip(one_by_one) {
            assert!((found + f64::from(log)).abs() < 1e-5, "{nats:?}");
        }
        assert_eq!(nats.len(), 3);

        let judged = LanguageLearner::to_judge(&learner.model);
        let batch = LanguageBatch::collate(&sequences, 0, &device);
        let output = judged.forward_step(batch, Keep::default()).output;
        assert!(output.logits.is_none());
    }
}
