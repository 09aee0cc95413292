//! Rows of weights that are set to zero during the training, by their sensitivity.

use std::collections::BTreeMap;

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId},
    optim::GradientsParams,
    prelude::*,
    tensor::FloatDType,
};
use serde::{Deserialize, Serialize};

use super::{Callback, CallbackState, Context};
use crate::{MethodError, Trainable};

/// The names of the tensors in a checkpoint.
const WINDOW: &str = "window";
const AVERAGE: &str = "average";

/// What is set to zero together. A row of a matrix `[output, input]` is a neuron; weights here are stored
/// `[input, output]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// The weights to one output.
    #[default]
    Row,
    /// The weights from one input.
    Column,
    /// Each number alone.
    None,
}

/// The score of a group, of the sensitivities of its numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Score {
    /// Their mean.
    #[default]
    Mean,
    /// Their sum.
    Sum,
    /// The largest.
    Max,
    /// The smallest.
    Min,
}

/// What competes for what is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// All weights of the model.
    #[default]
    Model,
    /// Each weight alone.
    Layer,
}

/// How the trained bases of weights with factors of low rank are pruned, as in `LoSparse` (arXiv 2306.11222) by the
/// sensitivity of PLATON (arXiv 2206.12562).
///
/// After each optimiser step, `I = |S dL/dS|` is averaged over a window of `every` steps, and the averages of windows are
/// smoothed: `E <- smoothing E + (1 - smoothing) J`. Groups are scored by `E`. At the end of each window, the groups with
/// the lowest scores become zero, so that a share `v` of the numbers is left; it falls from 1 to `keep` by
/// `v = keep + (1 - keep) (1 - x)^3`, where `x` goes from 0 to 1 between the first share of the training, `start`, and the
/// last, `settle`, in which every step prunes. What is zero is trained on and may come back until the next pruning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pruning {
    /// The share of the numbers that is left in the end.
    pub keep: f64,
    /// What becomes zero together.
    pub group: Group,
    /// How a group is scored.
    pub score: Score,
    /// The share of the average that a window leaves.
    pub smoothing: f64,
    /// Optimiser steps in a window.
    pub every: usize,
    /// The share of the training before the first pruning.
    pub start: f64,
    /// The share of the training with the final number of groups.
    pub settle: f64,
    /// What competes for what is left.
    pub scope: Scope,
}

impl Default for Pruning {
    fn default() -> Self {
        Self {
            keep: 0.15,
            group: Group::Row,
            score: Score::Mean,
            smoothing: 0.85,
            every: 10,
            start: 0.055,
            settle: 0.275,
            scope: Scope::Model,
        }
    }
}

impl Pruning {
    /// Refuses settings that cannot work.
    ///
    /// # Errors
    ///
    /// What is wrong with a setting.
    pub fn check(&self) -> Result<(), MethodError> {
        let Self {
            keep,
            smoothing,
            start,
            settle,
            ..
        } = *self;
        if !(0.0..=1.0).contains(&keep) {
            return Err(format!("`keep` must be from 0 to 1, not {keep}").into());
        }
        if !(0.0..1.0).contains(&smoothing) {
            return Err(
                format!("`smoothing` must be 0 or more and below 1, not {smoothing}").into(),
            );
        }
        if self.every == 0 {
            return Err("`every` must be at least 1, not 0".into());
        }
        if !(start >= 0.0 && settle >= 0.0 && start + settle < 1.0) {
            return Err(format!(
                "`start` and `settle` must be 0 or more and below 1 together, not {start} and {settle}"
            )
            .into());
        }
        Ok(())
    }

    /// The callback that prunes.
    pub fn init(self) -> Pruner {
        Pruner {
            settings: self,
            shapes: BTreeMap::new(),
            gradients: BTreeMap::new(),
            windows: BTreeMap::new(),
            averages: BTreeMap::new(),
        }
    }

    /// The share of the numbers that is left when a share `done` of the training is.
    pub fn left(&self, done: f64) -> f64 {
        if done <= self.start {
            1.0
        } else if done > 1.0 - self.settle {
            self.keep
        } else {
            let x = (done - self.start) / (1.0 - self.settle - self.start);
            self.keep + (1.0 - self.keep) * (1.0 - x).powi(3)
        }
    }

    /// Whether the optimiser step of this number, from 0, prunes.
    pub fn prunes(&self, step: usize, done: f64) -> bool {
        done > self.start && (done > 1.0 - self.settle || step.is_multiple_of(self.every))
    }

    /// The scores of the groups of a weight `[input, output]`: `[1, output]`, `[input, 1]` or one for each number.
    fn scores(&self, average: Tensor<2>) -> Tensor<2> {
        let dim = match self.group {
            Group::Row => 0,
            Group::Column => 1,
            Group::None => return average,
        };
        match self.score {
            Score::Mean => average.mean_dim(dim),
            Score::Sum => average.sum_dim(dim),
            Score::Max => average.max_dim(dim),
            Score::Min => average.min_dim(dim),
        }
    }
}

/// The score of some groups, and how many numbers each of them has.
struct Scored {
    scores: Vec<f32>,
    size: usize,
}

/// The score below which groups become zero, so that a share `left` of all numbers stays, or more where scores are equal;
/// `None` if all stay.
fn threshold(groups: &[Scored], left: f64) -> Option<f32> {
    let numbers: usize = groups
        .iter()
        .map(|group| group.scores.len() * group.size)
        .sum();
    let pruned = (numbers as f64 * (1.0 - left)).floor() as usize;
    let mut all: Vec<(f32, usize)> = groups
        .iter()
        .flat_map(|group| group.scores.iter().map(|score| (*score, group.size)))
        .collect();
    all.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut so_far = 0;
    let smallest = all.into_iter().find(|(_, size)| {
        so_far += size;
        so_far >= pruned
    });
    smallest.filter(|_| pruned > 0).map(|(score, _)| score)
}

/// Matrices by the ids of the parameters that they belong to.
pub type Matrices = BTreeMap<ParamId, Tensor<2>>;

/// Prunes the trained bases of weights with factors: see [`Pruning`].
#[derive(Clone, Debug)]
pub struct Pruner {
    settings: Pruning,
    /// Inputs and outputs of each weight.
    shapes: BTreeMap<ParamId, [usize; 2]>,
    /// The gradients of the step that is being taken.
    gradients: Matrices,
    /// The mean sensitivities of the current window.
    windows: Matrices,
    /// The smoothed sensitivities of finished windows.
    averages: Matrices,
}

/// Finds the trained bases of weights with factors.
#[derive(Default)]
struct Bases {
    last: Option<(ParamId, Tensor<2>)>,
    found: Matrices,
}

impl ModuleVisitor for Bases {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let is_candidate = D == 2 && param.is_require_grad();
        self.last = is_candidate.then(|| {
            let value = param.base().without_autodiff();
            let shape = value.dims();
            (param.id, value.reshape([shape[0], shape[1]]))
        });
    }

    fn enter_module(&mut self, _: &str, container: &str) {
        if container == "Reparameterization" {
            self.found.extend(self.last.take());
        }
    }
}

fn bases<M: Module>(model: &M) -> Matrices {
    let mut bases = Bases::default();
    model.visit(&mut bases);
    bases.found
}

/// Multiplies the weights of these ids.
struct Mask(Matrices);

impl ModuleMapper for Mask {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(mask) = self.0.remove(&param.id) else {
            return param;
        };
        param.map(|value| {
            let shape = value.dims();
            let mask = mask.expand([shape[0], shape[1]]).cast(value.dtype());
            value * Tensor::from_inner(mask.reshape(shape))
        })
    }
}

impl Pruner {
    /// Takes in a step of the optimiser, counted from 0: the weights after it and the gradients of it. What is left of each
    /// weight, if the step prunes: 1 or 0 for each group, `[1, output]`, `[input, 1]` or `[input, output]`.
    pub fn step(
        &mut self,
        step: usize,
        weights: Matrices,
        gradients: &Matrices,
        done: f64,
    ) -> Matrices {
        let place = step % self.settings.every;
        for (id, weight) in weights {
            if let Some(gradient) = gradients.get(&id) {
                self.observe(id, weight * gradient.clone(), place);
            }
        }
        if self.settings.prunes(step, done) {
            self.masks(self.settings.left(done))
        } else {
            Matrices::new()
        }
    }

    /// Takes in the product of a weight and its gradient in a step at this place of its window.
    fn observe(&mut self, id: ParamId, product: Tensor<2>, place: usize) {
        let sensitivity = product.abs().cast(FloatDType::F32);
        let window = match self.windows.remove(&id) {
            None => {
                self.averages.insert(id, sensitivity.zeros_like());
                sensitivity
            }
            Some(window) if place == 0 => {
                let smoothing = self.settings.smoothing;
                if let Some(average) = self.averages.get_mut(&id) {
                    *average = average.clone() * smoothing + window * (1.0 - smoothing);
                }
                sensitivity
            }
            Some(window) => {
                let place = place as f64;
                (window * place + sensitivity) / (place + 1.0)
            }
        };
        self.windows.insert(id, window);
    }

    /// The smoothed sensitivities of finished windows, by which groups are scored.
    pub fn averages(&self) -> &Matrices {
        &self.averages
    }

    /// What is left of each weight, 1 or 0 for each group, so that a share `left` of the numbers stays.
    fn masks(&self, left: f64) -> Matrices {
        let scores: Vec<(ParamId, Tensor<2>)> = self
            .averages
            .iter()
            .map(|(id, average)| (*id, self.settings.scores(average.clone())))
            .collect();
        let mut groups = vec![];
        for (id, scores) in &scores {
            let numbers = self.averages[id].shape().num_elements();
            #[expect(
                clippy::disallowed_methods,
                reason = "the scores of all weights are compared, once in a window until the number of groups is the final one"
            )]
            let data = scores.clone().into_data();
            let scores: Vec<f32> = data.iter::<f32>().collect();
            groups.push(Scored {
                size: numbers / scores.len().max(1),
                scores,
            });
        }
        let thresholds: Vec<Option<f32>> = match self.settings.scope {
            Scope::Model => vec![threshold(&groups, left); groups.len()],
            Scope::Layer => groups
                .chunks(1)
                .map(|group| threshold(group, left))
                .collect(),
        };
        let masks = scores.into_iter().zip(thresholds);
        let masks = masks.filter_map(|((id, scores), threshold)| {
            Some((id, scores.greater_equal_elem(threshold?).float()))
        });
        masks.collect()
    }
}

impl<M: Trainable> Callback<M> for Pruner {
    fn name(&self) -> &'static str {
        "losparse"
    }

    fn begin(&mut self, model: &M) -> Result<(), MethodError> {
        let bases = bases(model).into_iter();
        self.shapes = bases.map(|(id, weight)| (id, weight.dims())).collect();
        if self.shapes.is_empty() {
            return Err("no weight of the model is split into factors and a rest to prune".into());
        }
        Ok(())
    }

    fn before_optimizer(
        &mut self,
        _: &Context,
        _: &M,
        gradients: &mut GradientsParams,
    ) -> Result<(), MethodError> {
        let ids = self.shapes.keys();
        let found = ids.filter_map(|id| Some((*id, gradients.get::<2>(*id)?)));
        self.gradients = found.collect();
        Ok(())
    }

    fn after_optimizer(&mut self, context: &Context, model: &M) -> Result<Option<M>, MethodError> {
        let gradients = std::mem::take(&mut self.gradients);
        let masks = self.step(context.step - 1, bases(model), &gradients, context.done);
        if masks.is_empty() {
            return Ok(None);
        }
        Ok(Some(model.clone().map(&mut Mask(masks))))
    }

    fn state(&self) -> CallbackState {
        let named = |kind: &'static str, matrices: &Matrices| {
            let matrices = matrices.clone().into_iter();
            matrices.map(move |(id, tensor)| (format!("{kind}.{id}"), tensor.flatten(0, 1)))
        };
        let windows = named(WINDOW, &self.windows);
        CallbackState {
            tensors: windows.chain(named(AVERAGE, &self.averages)).collect(),
            ..CallbackState::default()
        }
    }

    fn load_state(&mut self, mut state: CallbackState) -> Result<(), MethodError> {
        for (id, shape) in &self.shapes {
            let mut take = |kind: &str| {
                let tensor = state.tensors.remove(&format!("{kind}.{id}"));
                tensor.map(|tensor| tensor.reshape(*shape))
            };
            if let (Some(window), Some(average)) = (take(WINDOW), take(AVERAGE)) {
                self.windows.insert(*id, window);
                self.averages.insert(*id, average);
            }
        }
        if state.tensors.is_empty() {
            Ok(())
        } else {
            Err("the checkpoint has sensitivities of other weights".into())
        }
    }
}
