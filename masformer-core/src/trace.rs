//! What a forward pass keeps: intermediates are returned as data, there are no hooks.

use std::collections::{BTreeMap, BTreeSet};

use burn::prelude::*;
use burn::tensor::Gradients;

use crate::{
    flow::Tokens,
    span::{Direction, Span},
};

/// The layers of which a forward pass keeps something, by their index from the bottom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Layers {
    /// No layer.
    #[default]
    None,
    /// Every layer.
    All,
    /// The last layer, whatever the depth of the model.
    Last,
    /// These layers. A layer that the model does not have is not kept.
    Only(BTreeSet<usize>),
    /// These layers and the last one: the union of [`Self::Only`] and [`Self::Last`].
    OnlyAndLast(BTreeSet<usize>),
}

impl Layers {
    /// The union of two choices.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, layers) | (layers, Self::None) => layers,
            (Self::All, _) | (_, Self::All) => Self::All,
            (Self::Last, Self::Last) => Self::Last,
            (Self::Only(one), Self::Only(other)) => Self::Only(&one | &other),
            (one, other) => Self::OnlyAndLast(&one.listed() | &other.listed()),
        }
    }

    /// Whether the choice has the index, in a model whose last index is `last`.
    pub fn contains(&self, index: usize, last: usize) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Last => index == last,
            Self::Only(layers) => layers.contains(&index),
            Self::OnlyAndLast(layers) => index == last || layers.contains(&index),
        }
    }

    fn listed(self) -> BTreeSet<usize> {
        match self {
            Self::Only(layers) | Self::OnlyAndLast(layers) => layers,
            Self::None | Self::All | Self::Last => BTreeSet::new(),
        }
    }
}

/// Which intermediates a forward pass is asked to keep. The default keeps nothing and costs nothing.
///
/// The `L` layers are counted from 0 to `L - 1`, hidden states from 0, the embedding output, to `L`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Hidden states: the embedding output is 0, the output of layer `l` is `l + 1`, and the last is `L`.
    pub hidden: Layers,
    /// Queries, keys and values of attention.
    pub heads: Layers,
    /// The decisions of routers.
    pub routes: Layers,
    /// Probes that receive the gradients of feed-forward neurons, for importance scores.
    pub probes: Layers,
    /// The logits of a model that computes its loss without them, as language models do. All other models have them.
    pub logits: bool,
}

impl Keep {
    /// The union of two wishes.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            hidden: self.hidden.or(other.hidden),
            heads: self.heads.or(other.heads),
            routes: self.routes.or(other.routes),
            probes: self.probes.or(other.probes),
            logits: self.logits || other.logits,
        }
    }
}

/// The intermediates of one forward pass, filled according to its [`Keep`].
///
/// A part that is applied outside a model counts as layer 0, the only one.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    keep: Keep,
    layers: usize,
    /// The index of the layer that is being applied.
    layer: usize,
    /// Whether the attention that its tokens receive is needed.
    needs_received: bool,
    received: Option<Tensor<2>>,
    /// Hidden states `[B, T, D]`: 0 is the embedding output, `l + 1` the output of layer `l`.
    pub hidden: BTreeMap<usize, Tensor<3>>,
    /// Queries, keys and values of the layers whose mixer has attention, by layer.
    pub heads: BTreeMap<usize, HeadTrace>,
    /// What the routers of expert layers decided, by layer.
    pub routes: BTreeMap<usize, RouteTrace>,
    /// Probes of dense feed-forward layers, by layer.
    pub probes: BTreeMap<usize, NeuronProbe>,
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
    pub fn keep(&self) -> &Keep {
        &self.keep
    }

    /// How many layers `L` the model of the forward pass has; 0 before the pass.
    pub fn layers(&self) -> usize {
        self.layers
    }

    /// Says that a model of so many layers `L` is about to be applied to hidden state 0, `[B, T, D]`.
    pub fn start(&mut self, layers: usize, hidden: &Tensor<3>) {
        self.layers = layers;
        self.layer = 0;
        self.keep_hidden(|| hidden.clone());
    }

    /// Says that the next layer has been applied and what its output `[B, T, D]` is, which is asked for if it is kept.
    pub fn finish_layer(&mut self, hidden: impl FnOnce() -> Tensor<3>) {
        self.layer += 1;
        self.keep_hidden(hidden);
    }

    fn keep_hidden(&mut self, hidden: impl FnOnce() -> Tensor<3>) {
        if self.keep.hidden.contains(self.layer, self.layers) {
            self.hidden.insert(self.layer, hidden());
        }
    }

    /// Asks the mixer of the layer that is being applied for the attention that its tokens receive, or does not.
    pub(crate) fn ask_received(&mut self, is_needed: bool) {
        self.needs_received = is_needed;
    }

    /// Whether the attention that tokens receive in the layer that is being applied is needed.
    pub fn needs_received(&self) -> bool {
        self.needs_received
    }

    /// Gives the attention `[B, T]` that the tokens of the layer that is being applied receive.
    pub fn put_received(&mut self, received: Tensor<2>) {
        self.received = Some(received);
    }

    /// The attention that was asked for and given.
    pub(crate) fn take_received(&mut self) -> Option<Tensor<2>> {
        self.received.take()
    }

    fn keeps(&self, layers: &Layers) -> bool {
        layers.contains(self.layer, self.layers.saturating_sub(1))
    }

    /// Whether the queries, keys and values of the layer that is being applied are kept.
    pub fn keeps_heads(&self) -> bool {
        self.keeps(&self.keep.heads)
    }

    /// Whether the decision of the router of the layer that is being applied is kept.
    pub fn keeps_route(&self) -> bool {
        self.keeps(&self.keep.routes)
    }

    /// Whether a probe of the layer that is being applied is kept.
    pub fn keeps_probe(&self) -> bool {
        self.keeps(&self.keep.probes)
    }

    /// Keeps queries, keys and values as those of the layer that is being applied.
    pub fn put_heads(&mut self, heads: HeadTrace) {
        self.heads.insert(self.layer, heads);
    }

    /// Keeps a router's decision as that of the layer that is being applied.
    pub fn put_route(&mut self, route: RouteTrace) {
        self.routes.insert(self.layer, route);
    }

    /// Keeps a probe as that of the layer that is being applied.
    pub fn put_probe(&mut self, probe: NeuronProbe) {
        self.probes.insert(self.layer, probe);
    }

    /// The sum over the layers of the routers' losses of one name `[1]`, or `None` where no router has one.
    pub fn router_loss(&self, name: &str) -> Option<Tensor<1>> {
        let losses = self.routes.values().flat_map(|route| &route.losses);
        losses
            .filter(|(found, _)| *found == name)
            .map(|(_, loss)| loss.clone())
            .reduce(|sum, loss| sum + loss)
    }
}

/// Queries, keys and values of one attention layer, before they are split into heads and before rotary positions.
///
/// With a cache, those of the new tokens alone.
#[derive(Clone, Debug)]
pub struct HeadTrace {
    /// Queries `[B, T, D]`: `H` heads of `d = D / H` numbers, one after the other.
    pub query: Tensor<3>,
    /// Keys `[B, T, G d]`: `G` heads, each shared by `H / G` heads of the queries.
    pub key: Tensor<3>,
    /// Values `[B, T, G d]`, as the keys.
    pub value: Tensor<3>,
    /// Heads `H` of the queries.
    pub heads: usize,
    /// The positions that a query attends to.
    pub span: Span,
    /// Whether a query sees what comes after it.
    pub direction: Direction,
}

/// What one router decided in one forward pass. It stays on the device.
#[derive(Clone, Debug)]
pub struct RouteTrace {
    /// The tokens that were routed, `N = B * T` of them.
    pub tokens: Tokens,
    /// The `k` experts of each token, `[N, k]`; padding has some, too.
    pub experts: Tensor<2, Int>,
    /// How many real (not padded) tokens went to each expert, `[E]`.
    pub load: Tensor<1>,
    /// How undecided a gate is: the mean entropy `[1]` of its probabilities in nats, over real tokens or sequences and without
    /// autodiff; `None` without a gate.
    pub entropy: Option<Tensor<1>>,
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
    /// `act(W1 a + b1)`, or `act(Wg a + bg) * (W1 a + b1)` of a gated layer, `[B, T, F]`, not tracked.
    pub hidden: Tensor<3>,
    /// `Wg a`, the gate's pre-activation without its bias, `[B, T, F]`, not tracked; `None` without a gate.
    pub gate: Option<Tensor<3>>,
    pre_leaf: Tensor<3>,
    hidden_leaf: Tensor<3>,
    gate_leaf: Option<Tensor<3>>,
}

impl NeuronProbe {
    /// Adds a zero leaf to the pre-activation `[B, T, F]`; returns the sum and the leaf.
    pub(crate) fn leaf(value: &Tensor<3>) -> (Tensor<3>, Tensor<3>) {
        let leaf = value.zeros_like().detach().require_grad();
        (value.clone() + leaf.clone(), leaf)
    }

    /// Builds a probe from the observed values, each with its leaf.
    pub(crate) fn new(
        (pre, pre_leaf): (Tensor<3>, Tensor<3>),
        (hidden, hidden_leaf): (Tensor<3>, Tensor<3>),
        gate: Option<(Tensor<3>, Tensor<3>)>,
    ) -> Self {
        let (gate, gate_leaf) = gate.unzip();
        Self {
            pre,
            hidden,
            gate,
            pre_leaf,
            hidden_leaf,
            gate_leaf,
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

    /// `dL/dgate` `[B, T, F]`, or `None` if the layer has no gate or the backward pass did not reach it.
    pub fn gate_grad(&self, gradients: &Gradients) -> Option<Tensor<3>> {
        self.gate_leaf.as_ref()?.grad(gradients)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_union_has_what_either_has() {
        let choices = [
            Layers::None,
            Layers::All,
            Layers::Last,
            Layers::Only([0, 2].into()),
            Layers::Only([1].into()),
            Layers::OnlyAndLast([1].into()),
        ];
        for (one, other) in choices
            .iter()
            .flat_map(|one| choices.iter().map(move |other| (one, other)))
        {
            let union = one.clone().or(other.clone());
            for last in 0..4 {
                for index in 0..=last {
                    let either = one.contains(index, last) || other.contains(index, last);
                    assert_eq!(union.contains(index, last), either, "{one:?} {other:?}");
                }
            }
        }
        let keep = Keep {
            hidden: Layers::Last,
            heads: Layers::Only([1].into()),
            ..Keep::default()
        };
        let other = Keep {
            heads: Layers::Only([3].into()),
            probes: Layers::All,
            logits: true,
            ..Keep::default()
        };
        let union = Keep {
            hidden: Layers::Last,
            heads: Layers::Only([1, 3].into()),
            routes: Layers::None,
            probes: Layers::All,
            logits: true,
        };
        assert_eq!(keep.or(other), union);
    }
}
