//! What a forward pass keeps: intermediates are returned as data, there are no hooks.

use burn::prelude::*;
use burn::tensor::Gradients;

/// Which intermediates a forward pass is asked to keep. The default keeps nothing and costs nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a wish of its own")]
pub struct Keep {
    /// Every hidden state: the embedding output and the output of each layer.
    pub hidden_states: bool,
    /// The decision of every router.
    pub routes: bool,
    /// Probes that receive the gradients of feed-forward neurons, for importance scores.
    pub probes: bool,
}

impl Keep {
    /// The union of two wishes.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            hidden_states: self.hidden_states || other.hidden_states,
            routes: self.routes || other.routes,
            probes: self.probes || other.probes,
        }
    }
}

/// The intermediates of one forward pass, filled according to its [`Keep`].
#[derive(Clone, Debug, Default)]
pub struct Trace {
    keep: Keep,
    /// `L + 1` hidden states `[B, T, D]`: the embedding output, then the output of each layer.
    pub hidden_states: Vec<Tensor<3>>,
    /// One entry for each expert layer, in layer order.
    pub routes: Vec<RouteTrace>,
    /// One entry for each dense feed-forward layer, in layer order.
    pub probes: Vec<NeuronProbe>,
}

impl Trace {
    /// A trace that keeps nothing.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// An empty trace for one forward pass.
    pub fn new(keep: Keep) -> Self {
        Self {
            keep,
            ..Self::default()
        }
    }

    /// What this trace keeps.
    pub fn keep(&self) -> Keep {
        self.keep
    }

    /// Keeps a hidden state `[B, T, D]` if asked to.
    pub fn push_hidden_state(&mut self, hidden: &Tensor<3>) {
        if self.keep.hidden_states {
            self.hidden_states.push(hidden.clone());
        }
    }

    /// The sum over the layers of the routers' losses of one name `[1]`, or `None` where no router has one.
    pub fn router_loss(&self, name: &str) -> Option<Tensor<1>> {
        let losses = self.routes.iter().flat_map(|route| &route.losses);
        losses
            .filter(|(found, _)| *found == name)
            .map(|(_, loss)| loss.clone())
            .reduce(|sum, loss| sum + loss)
    }
}

/// What one router decided in one forward pass.
#[derive(Clone, Debug)]
pub struct RouteTrace {
    /// How many real (not padded) tokens went to each expert, `[E]`, on the device.
    pub load: Tensor<1>,
    /// The losses `[1]` of a gate that a training may add, by name; none for routers without weights.
    pub losses: Vec<(&'static str, Tensor<1>)>,
}

/// A window on the neurons of one feed-forward layer during one forward pass.
///
/// Zero tensors are added before and after the activation; being leaves of the graph they receive
/// the gradients that the neurons see, without changing any value.
#[derive(Clone, Debug)]
pub struct NeuronProbe {
    /// `W1 a`, the pre-activation without its bias, `[B, T, F]`, not tracked.
    pub pre: Tensor<3>,
    /// `act(W1 a + b1)`, `[B, T, F]`, not tracked.
    pub hidden: Tensor<3>,
    pre_leaf: Tensor<3>,
    hidden_leaf: Tensor<3>,
}

impl NeuronProbe {
    /// Adds a zero leaf to the pre-activation `[B, T, F]`; returns the sum and the leaf.
    pub(crate) fn leaf(value: &Tensor<3>) -> (Tensor<3>, Tensor<3>) {
        let leaf = value.zeros_like().detach().require_grad();
        (value.clone() + leaf.clone(), leaf)
    }

    /// Builds a probe from the observed values and the two leaves.
    pub(crate) fn new(
        pre: Tensor<3>,
        hidden: Tensor<3>,
        pre_leaf: Tensor<3>,
        hidden_leaf: Tensor<3>,
    ) -> Self {
        Self {
            pre,
            hidden,
            pre_leaf,
            hidden_leaf,
        }
    }

    /// `dL/dpre` `[B, T, F]`, or `None` if the backward pass did not reach this layer.
    pub fn pre_grad(&self, gradients: &Gradients) -> Option<Tensor<3>> {
        self.pre_leaf.grad(gradients)
    }

    /// `dL/dhidden` `[B, T, F]`, or `None` if the backward pass did not reach this layer.
    pub fn hidden_grad(&self, gradients: &Gradients) -> Option<Tensor<3>> {
        self.hidden_leaf.grad(gradients)
    }
}
