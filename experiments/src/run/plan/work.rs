//! How much there is to compute in a stage, relative to others of its kind.
//!
//! Work is counted in multiply-adds of forward passes; a backward pass counts as two. A training passes its data once an
//! epoch, and through its teacher, too; scores of neurons take one pass with gradients; a measurement passes each model.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::signature::hash_of;
use crate::{
    graph::{Document, Key},
    recipe::{ModelPlan, Origin},
    run::nodes::{Job, Node},
};

/// What a forward and a backward pass take of a forward pass.
const WITH_GRADIENTS: f64 = 3.0;

/// What is known of the models and data of a recipe before anything is computed.
#[derive(Clone, Debug, Default)]
pub(in crate::run) struct Sizes {
    /// Multiply-adds per token of each model of the plan.
    pub multiply_adds: Vec<f64>,
    /// Sequences to train on, where they are counted before they are made.
    pub sequences: Option<usize>,
    /// Examples to judge by, where they are counted.
    pub judged: Option<usize>,
}

/// The work of a stage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::run) struct Work {
    /// A hash of how data is read: stages that agree in it have as many tokens.
    scope: u64,
    /// The epochs of a training; 1 for other stages.
    epochs: f64,
    /// Multiply-adds per token, times passes of the data.
    passes: f64,
    /// Tokens in a pass, where they are known.
    tokens: Option<f64>,
}

impl Work {
    /// How many times the work of another stage of the kind this one is. None if their numbers of tokens cannot be compared.
    pub fn ratio(&self, other: &Self) -> Option<f64> {
        let tokens = if self.scope == other.scope {
            1.0
        } else {
            self.tokens? / other.tokens?
        };
        let ratio = tokens * self.passes / other.passes;
        (ratio.is_finite() && ratio > 0.0).then_some(ratio)
    }

    /// How many times the epochs of another stage this one has.
    pub fn ratio_of_epochs(&self, other: &Self) -> f64 {
        self.epochs / other.epochs
    }

    /// The epochs of a training; 1 for other stages.
    pub fn epochs(&self) -> f64 {
        self.epochs
    }

    /// Whether data is read as for another stage.
    pub fn has_scope_of(&self, other: &Self) -> bool {
        self.scope == other.scope
    }

    /// The same with so many tokens in a pass.
    pub fn with_tokens(self, tokens: Option<f64>) -> Self {
        Self { tokens, ..self }
    }

    /// That of a stage of a plan.
    pub fn planned(node: &Node, plan: &[ModelPlan], sizes: &Sizes) -> Option<Self> {
        let cost = |index: usize| sizes.multiply_adds.get(index).copied();
        let named = |name: &str| cost(plan.iter().position(|model| model.name == name)?);
        let settings = &node.document.settings;
        let (mut tokens, mut epochs) = (None, 1.0);
        let passes = match node.job {
            Job::Start | Job::Draw(_) => 1.0,
            Job::Importance(index) => {
                let from = match &plan.get(index)?.from {
                    Origin::Model(name) => named(name),
                    // The layers that it begins with are not split yet; it is the nearest that is counted.
                    _ => cost(index),
                };
                WITH_GRADIENTS * from?
            }
            Job::Before(index) | Job::Evaluate(index) => cost(index)?,
            Job::Train(index) | Job::Rung(index, _) => {
                let model = plan.get(index)?;
                let teacher = model.teacher.as_deref().map_or(Some(0.0), named);
                tokens = sizes
                    .sequences
                    .zip(length(settings))
                    .map(|(sequences, length)| sequences as f64 * length);
                epochs = epochs_of(settings)?;
                epochs * (WITH_GRADIENTS * cost(index)? + teacher?)
            }
            Job::Measure => {
                let judged = plan.iter().zip(&sizes.multiply_adds);
                let judged = judged.filter(|(model, _)| model.is_judged);
                judged.map(|(_, cost)| cost).sum()
            }
        };
        Some(Self {
            scope: scope(&node.document),
            epochs,
            passes,
            tokens,
        })
    }

    /// That of a finished stage; `costs` are the multiply-adds per token of the models that trainings made.
    pub(super) fn finished(
        key: &Key,
        document: &Document,
        result: &Value,
        costs: &Costs,
    ) -> Option<Self> {
        let input = |role: &str| document.inputs.get(role).map(|key| costs.get(key));
        let mut epochs = 1.0;
        let passes = match document.kind.as_str() {
            "start" => 1.0,
            "importance" => WITH_GRADIENTS * input("from")??,
            "evaluate" => multiply_adds(result)?,
            "train" => {
                let teacher = input("teacher").unwrap_or(Some(0.0));
                epochs = epochs_of(&document.settings)?;
                epochs * (WITH_GRADIENTS * costs.get(key)? + teacher?)
            }
            "measure" => {
                let costs = document.inputs.values().map(|key| costs.get(key));
                costs.sum::<Option<f64>>()?
            }
            _ => return None,
        };
        Some(Self {
            scope: scope(document),
            epochs,
            passes,
            tokens: None,
        })
    }
}

/// The multiply-adds per token of the models that trainings made, as evaluations counted them.
#[derive(Default)]
pub(super) struct Costs(HashMap<Key, f64>);

impl Costs {
    /// Takes in what a finished stage says.
    pub fn add(&mut self, document: &Document, result: &Value) {
        if let (Some(model), Some(cost)) = (document.inputs.get("model"), multiply_adds(result)) {
            self.0.insert(model.clone(), cost);
        }
    }

    fn get(&self, key: &Key) -> Option<f64> {
        self.0.get(key).copied()
    }
}

fn multiply_adds(result: &Value) -> Option<f64> {
    result.get("multiply_adds_per_token")?.as_f64()
}

/// How data is read, or latency measured.
fn scope(document: &Document) -> u64 {
    let keys = ["reading", "latency", "samples"];
    let settings = keys.map(|key| document.settings.get(key).cloned().unwrap_or_default());
    hash_of(&Value::Array(settings.to_vec()))
}

/// The epochs of a training, or of the part of it that a rung does.
fn epochs_of(settings: &Map<String, Value>) -> Option<f64> {
    match settings.get("rung") {
        Some(rung) => Some(rung.get("up_to")?.as_f64()? - rung.get("after")?.as_f64()?),
        None => settings.get("model")?.pointer("/train/epochs")?.as_f64(),
    }
}

/// Tokens of a sequence to train on, at most.
pub(super) fn length(settings: &Map<String, Value>) -> Option<f64> {
    let reading = settings.get("reading")?;
    let lengths = ["/max_length", "/data/length"];
    lengths
        .iter()
        .find_map(|place| reading.pointer(place)?.as_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_compared_by_passes_and_by_tokens_where_data_differs() {
        let work = |scope, passes, tokens| Work {
            scope,
            epochs: 1.0,
            passes,
            tokens,
        };
        let (one, other) = (work(1, 60.0, None), work(1, 20.0, Some(5.0)));
        assert_eq!(one.ratio(&other), Some(3.0));
        assert_eq!(work(2, 60.0, None).ratio(&other), None);
        let elsewhere = work(2, 60.0, Some(10.0));
        assert_eq!(elsewhere.ratio(&other), Some(6.0));
        assert!(!elsewhere.has_scope_of(&other));
        assert_eq!(one.ratio(&work(1, 0.0, None)), None);
        assert_eq!(one.with_tokens(Some(2.0)).tokens, Some(2.0));
    }
}
