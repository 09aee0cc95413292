//! What burn-train is told that it trains. Its dashboard, metrics and early stopping are used through a
//! learner; a stage trains its model itself, so that learner has a stand-in.

use std::{marker::PhantomData, sync::Arc};

use burn::{
    data::{
        dataloader::{DataLoader, DataLoaderIterator, Progress},
        dataset::DatasetError,
    },
    module::{Module, Param},
    optim::ModuleOptimizer,
    prelude::*,
    train::{InferenceStep, Learner, TrainOutput, TrainStep},
};

use crate::{Adam, Output, Trainable};

/// Stands for a model where burn-train asks for one: it has the outputs that metrics see, and no weights but one,
/// for burn-train asks which device its learner is on.
#[derive(Module, Debug)]
pub struct StandIn<M: Trainable> {
    anchor: Param<Tensor<1>>,
    #[module(skip)]
    model: PhantomData<fn() -> M>,
}

impl<M: Trainable> StandIn<M> {
    /// A learner for burn-train; its optimiser and its rate are never asked for.
    pub(crate) fn learner(device: &Device) -> Learner<Self> {
        let anchor = Param::from_tensor(Tensor::zeros([1], device));
        let model = PhantomData;
        let optimizer = ModuleOptimizer::from(Adam::default());
        Learner::new(Self { anchor, model }, optimizer, 0.0)
    }
}

impl<M: Trainable> TrainStep for StandIn<M> {
    type Input = ();
    type Output = Output<M>;

    fn step(&self, (): ()) -> TrainOutput<Output<M>> {
        unreachable!("the session trains, and its strategy never calls this")
    }
}

impl<M: Trainable> InferenceStep for StandIn<M> {
    type Input = ();
    type Output = Output<M>;

    fn step(&self, (): ()) -> Output<M> {
        unreachable!("the session validates, and its strategy never calls this")
    }
}

/// The data of a stand-in.
pub(crate) struct NoData;

impl DataLoader<()> for NoData {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<()> + 'a> {
        Box::new(Self)
    }

    fn num_items(&self) -> usize {
        0
    }

    fn to_device(&self, _: &Device) -> Arc<dyn DataLoader<()>> {
        Arc::new(Self)
    }

    fn slice(&self, _: usize, _: usize) -> Arc<dyn DataLoader<()>> {
        Arc::new(Self)
    }
}

impl Iterator for NoData {
    type Item = Result<(), DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}

impl DataLoaderIterator<()> for NoData {
    fn progress(&self) -> Progress {
        Progress::new(0, 0, None)
    }
}
