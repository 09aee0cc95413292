//! The model in training with the weights of its objectives, and the optimiser that moves both.

use burn::{
    module::Module,
    nn::Linear,
    optim::{GradientsParams, ModuleOptimizer, OptimizerRecord},
};

use crate::{Adam, Trainable};

/// A model and the weights that its objectives train beside it.
#[derive(Module, Debug)]
pub struct Trainee<M: Module> {
    /// The model.
    pub model: M,
    /// The weights of each objective, in the order of the objectives; most have none.
    pub parts: Vec<Vec<Linear>>,
}

/// A trainee and its optimiser, which updates parameters in place where nothing else holds them.
pub(crate) struct Learner<M: Trainable> {
    /// `None` while the optimiser has it, so never between two calls.
    trainee: Option<Trainee<M>>,
    optimizer: ModuleOptimizer,
}

impl<M: Trainable> Learner<M> {
    /// Makes a model and the parts of its objectives ready to be trained.
    pub fn new(trainee: Trainee<M>, adam: &Adam) -> Self {
        // Surgery may leave parameters that are results of operations; optimisers need leaves.
        let trainee = trainee.valid().train();
        Self {
            optimizer: adam.init(&trainee),
            trainee: Some(trainee),
        }
    }

    /// The model and the parts.
    pub fn trainee(&self) -> &Trainee<M> {
        // Only `step` and `replace` take it, and both give one back.
        self.trainee.as_ref().expect("the trainee is here")
    }

    /// The model.
    pub fn model(&self) -> &M {
        &self.trainee().model
    }

    /// The optimiser.
    pub fn optimizer(&self) -> &ModuleOptimizer {
        &self.optimizer
    }

    /// Restores the optimiser's state.
    pub fn load_optimizer(&mut self, record: OptimizerRecord) {
        self.optimizer = self.optimizer.clone().load_record(record);
    }

    /// One step of the optimiser.
    pub fn step(&mut self, rate: f64, gradients: GradientsParams) {
        self.trainee = self
            .trainee
            .take()
            .map(|trainee| self.optimizer.step(rate, trainee, gradients));
    }

    /// Goes on with another model of the same structure and parameter ids, which the optimiser's state goes by.
    pub fn replace(&mut self, model: M) {
        self.trainee = self.trainee.take().map(|trainee| Trainee {
            model: model.valid().train(),
            parts: trainee.parts,
        });
    }

    /// Hands out the model and the parts in evaluation form.
    pub fn into_valid(self) -> Trainee<M> {
        self.trainee().valid()
    }
}
