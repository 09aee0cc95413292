//! The feed-forward half of a layer, dense or split into experts.

use std::convert::Infallible;

use burn::{module::Module, prelude::*};
use masformer_core::{Decoder, FeedForward, FeedForwardCost, Flow, Mlp, Trace};

use crate::expert::ExpertLayer;

/// The feed-forward half of a layer, which can change its kind without changing the model's type.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Half {
    /// The half as pretrained.
    Dense(Mlp),
    /// The half as experts with a router.
    Experts(ExpertLayer),
}

impl FeedForward for Half {
    fn forward(&self, flow: &Flow, trace: &mut Trace) -> Tensor<3> {
        match self {
            Self::Dense(mlp) => mlp.forward(flow, trace),
            Self::Experts(experts) => experts.forward(flow, trace),
        }
    }

    fn cost(&self) -> FeedForwardCost {
        match self {
            Self::Dense(mlp) => mlp.cost(),
            Self::Experts(experts) => experts.cost(),
        }
    }
}

impl Half {
    /// The dense half; `None` for experts.
    pub fn dense(&self) -> Option<&Mlp> {
        match self {
            Self::Dense(mlp) => Some(mlp),
            Self::Experts(_) => None,
        }
    }

    /// The experts; `None` for a dense half.
    pub fn experts(&self) -> Option<&ExpertLayer> {
        match self {
            Self::Dense(_) => None,
            Self::Experts(experts) => Some(experts),
        }
    }
}

/// A dense decoder whose halves may become experts.
pub fn dense(decoder: Decoder) -> Decoder<Half> {
    let halves = decoder.with_halves(|_, mlp| Ok::<_, Infallible>(Half::Dense(mlp)));
    match halves {
        Ok(decoder) => decoder,
        Err(never) => match never {},
    }
}
