//! BERT as it is and with experts: a forward pass, and a step of training.

use burn::{optim::GradientsParams, prelude::*};
use distill::{
    Adam, SignalSource, Teacher, Trainable,
    loss::{LogitsForm, Padding, hidden::hidden_error},
};
use masformer_core::{Keep, Layers, Trace, ops::prepack};
use moebert_core::{
    adapt::adapt,
    bert::{BertConfig, BertInput},
    cost::Cost,
    heads::{BertModel, BertModelConfig, Head},
    partition::NeuronOrder,
};

use super::{Case, Pass, Plan, Work, held};
use crate::{
    data::loader::{Targets, TaskBatch},
    error::Error,
    latency::random_input,
    learner::TaskLearner,
    recipe::ExpertsRecipe,
    run::expert_plan,
};

/// A model with random weights, and its input.
#[derive(Clone, Debug)]
pub struct BertBench {
    /// The dense model.
    pub bert: BertConfig,
    /// Sequences at once, a case each.
    pub batches: Vec<usize>,
    /// Tokens of a sequence.
    pub length: usize,
}

impl BertBench {
    /// A forward pass of the dense model and of the expert model, for every batch.
    ///
    /// # Errors
    ///
    /// If the neurons cannot be assigned to the experts.
    pub fn inference(&self, device: &Device) -> Result<Plan, Error> {
        let [dense, experts] = self.models(device)?;
        let mut cases = Vec::new();
        for (name, model) in [("dense, forward", dense), ("experts, forward", experts)] {
            for &batch in &self.batches {
                let (model, input) = (model.clone(), self.input(batch, device));
                cases.push(Case {
                    name: name.to_owned(),
                    size: batch,
                    work: self.work(&model, batch, 1),
                    prepare: Box::new(move || Ok(forward_pass(&model, &input))),
                });
            }
        }
        Ok(Plan {
            name: "bert",
            title: "A forward pass of BERT",
            unit: "sequences",
            cases,
        })
    }

    /// A step of training of the dense model, and one of the expert model that learns from it, for every
    /// batch.
    ///
    /// # Errors
    ///
    /// If the neurons cannot be assigned to the experts.
    pub fn training(&self, device: &Device) -> Result<Plan, Error> {
        let device = device.clone().autodiff();
        let [dense, experts] = self.models(&device)?.map(|model| TaskLearner { model });
        let mut cases = Vec::new();
        for (name, model, teacher) in [
            ("dense, training", &dense, None),
            ("experts, distillation", &experts, Some(&dense)),
        ] {
            for &batch in &self.batches {
                let inputs = self.batch(batch, &device);
                let (model, teacher) = (model.clone(), teacher.map(Teacher::new));
                let mut work = self.work(&model.model, batch, 3);
                if teacher.is_some() {
                    let reading = self.work(&dense.model, batch, 1);
                    work.multiply_adds += reading.multiply_adds;
                    work.bytes += reading.bytes;
                }
                cases.push(Case {
                    name: name.to_owned(),
                    size: batch,
                    work,
                    prepare: Box::new(move || {
                        Ok(training_pass(
                            model.clone(),
                            teacher.clone(),
                            inputs.clone(),
                        ))
                    }),
                });
            }
        }
        Ok(Plan {
            name: "train",
            title: "A step of training of BERT",
            unit: "sequences",
            cases,
        })
    }

    /// The dense model, and the same one with experts.
    fn models(&self, device: &Device) -> Result<[BertModel; 2], Error> {
        let task = Head::Classification { classes: 2 };
        let dense = BertModelConfig::new(self.bert.clone(), task).init(device);
        // The shares of MoEBERT's BERT-base: four experts of 768 of 3072 neurons, 512 of them shared.
        let defaults = ExpertsRecipe::default();
        let width = self.bert.intermediate_size / defaults.count;
        let recipe = ExpertsRecipe {
            width,
            shared: width * 2 / 3,
            order: NeuronOrder::Random,
            ..defaults
        };
        let sizes = (self.bert.num_hidden_layers, self.bert.intermediate_size);
        let plan = expert_plan(&recipe, None, sizes, None, 1)?;
        let experts = adapt(dense.clone(), &plan.layout, &plan.router, None)?;
        Ok([dense, experts])
    }

    /// Two passes backward for one forward make `passes` three.
    fn work(&self, model: &BertModel, batch: usize, passes: u64) -> Work {
        let cost = Cost::of(model, self.length);
        let tokens = (batch * self.length) as u64;
        // Weights are read forward and backward, which writes their gradients; the optimiser reads
        // both and two moments, and writes all but the gradients.
        let transfers = if passes > 1 { 10 } else { 1 };
        let [vocabulary, hidden] = model.bert.embeddings.word.weight.dims();
        let weights = if passes > 1 {
            cost.parameters
        } else {
            // A single token passes one expert alone.
            let passed = if tokens == 1 {
                cost.active_parameters
            } else {
                cost.parameters
            };
            passed - vocabulary * hidden
        };
        Work {
            multiply_adds: passes * tokens * cost.multiply_adds_per_token as u64,
            bytes: transfers * 4 * weights as u64,
            tokens,
        }
    }

    fn input(&self, batch: usize, device: &Device) -> BertInput {
        random_input(self.bert.vocab_size, [batch, self.length], device)
    }

    fn batch(&self, batch: usize, device: &Device) -> TaskBatch {
        let classes: Vec<i64> = (0..batch as i64).map(|row| row % 2).collect();
        TaskBatch {
            input: self.input(batch, device),
            targets: Some(Targets::Classes(Tensor::from_data(
                classes.as_slice(),
                device,
            ))),
            indices: (0..batch).collect(),
        }
    }
}

fn forward_pass(model: &BertModel, input: &BertInput) -> Pass {
    let (model, input) = (model.clone(), input.clone());
    let prepacked = prepack(&model);
    Box::new(move || {
        // So that the pass owns them, and they live as long as it.
        let _prepacked = &prepacked;
        Ok(held(model.forward(&input, &mut Trace::nothing())))
    })
}

/// Forward, backward and the optimiser's step, with the losses of distillation if there is a teacher.
fn training_pass(
    model: TaskLearner,
    teacher: Option<Teacher<TaskLearner>>,
    batch: TaskBatch,
) -> Pass {
    const RATE: f64 = 1e-5;
    let adam = Adam {
        weight_decay: 0.01,
        ..Adam::default()
    };
    let mut optimizer = adam.init(&model);
    let mut slot = Some(model);
    Box::new(move || {
        // A pass that fails ends the measurement, so there is a model in every other.
        let Some(model) = slot.take() else {
            return Ok(held(()));
        };
        let mut keep = Keep::default();
        if teacher.is_some() {
            keep.hidden = Layers::All;
        }
        let step = model.forward_step(batch.clone(), keep.clone());
        let mut loss = step.loss;
        if let Some(teacher) = &teacher {
            let target = teacher.signals(&batch, keep);
            let states = step.signals.trace.hidden.into_values();
            for (state, target) in states.zip(target.trace.hidden.into_values()) {
                loss = loss + hidden_error(state, target, None, Padding::default());
            }
            for (logits, target) in step.signals.logits.into_iter().zip(target.logits) {
                let term = LogitsForm::default().loss(logits, target, 1.0);
                loss = term.into_iter().fold(loss, |loss, term| loss + term);
            }
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        slot = Some(optimizer.step(RATE, model, gradients));
        Ok(held(()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bench() -> BertBench {
        BertBench {
            bert: BertConfig::new()
                .with_vocab_size(40)
                .with_hidden_size(16)
                .with_num_hidden_layers(2)
                .with_num_attention_heads(2)
                .with_intermediate_size(48)
                .with_max_position_embeddings(8),
            batches: vec![1, 3],
            length: 8,
        }
    }

    #[test]
    fn every_case_runs() {
        let device = Device::default();
        let plans = [bench().inference(&device), bench().training(&device)];
        for plan in plans {
            let cases = plan.unwrap().cases;
            assert_eq!(cases.len(), 4);
            for case in cases {
                let mut pass = (case.prepare)().unwrap();
                pass().unwrap();
                pass().unwrap();
            }
        }
    }

    #[test]
    fn experts_have_less_to_do() {
        let plan = bench().inference(&Device::default()).unwrap();
        let work = |index: usize| plan.cases[index].work;
        assert_eq!(work(1).multiply_adds, 3 * work(0).multiply_adds);
        assert!(work(2).multiply_adds < work(0).multiply_adds);
    }
}
