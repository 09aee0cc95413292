//! Routers: which expert a token passes through.

use std::{fmt, str::FromStr};

use burn::{module::Module, nn::Linear, prelude::*};
use masformer_core::{Tokens, nearest::hint};
use rand::{SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

pub mod gate;
pub mod hash;
pub mod top_k;

pub use gate::{GateLevel, GateRouter, GateScale};
pub use hash::HashRouter;
pub use top_k::TopKRouter;

/// What a router decided for `N = B * T` tokens. It stays on the device.
#[derive(Clone, Debug)]
pub struct Routing {
    /// The `k` experts of each token, `[N, k]`.
    pub experts: Tensor<2, Int>,
    /// The factors on their outputs, `[N, k]`; `None` leaves the output of a single one as it is.
    pub weights: Option<Tensor<2>>,
    /// Losses `[1]` that a training may add, by name; none unless they are asked for.
    pub losses: Vec<(&'static str, Tensor<1>)>,
}

/// 1 where a pair of a token and an expert has the expert of the column, otherwise 0: `[N k, E]` from
/// `[N, k]`.
pub(crate) fn chosen(experts: Tensor<2, Int>, count: usize) -> Tensor<2> {
    let [tokens, k] = experts.dims();
    // Burn's one_hot reads the device and refuses a single class.
    let ids = Tensor::<1, Int>::arange(0..count as i64, &experts.device()).unsqueeze::<2>();
    let pairs = experts.reshape([tokens * k, 1]).expand([tokens * k, count]);
    pairs.equal(ids.expand([tokens * k, count])).float()
}

/// The routers by name; a new router is a file, a variant here and one in [`Router`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouterKind {
    /// A table drawn at random for each layer: token id to expert.
    #[default]
    HashRandom,
    /// A table that balances the tokens of the training set.
    HashBalance,
    /// A learned gate for each token.
    GateToken,
    /// A learned gate for each sequence.
    GateSentence,
    /// A learned gate that sends each token to several experts.
    TopK,
}

impl RouterKind {
    const NAMES: [(Self, &'static str); 5] = [
        (Self::HashRandom, "hash-random"),
        (Self::HashBalance, "hash-balance"),
        (Self::GateToken, "gate-token"),
        (Self::GateSentence, "gate-sentence"),
        (Self::TopK, "top-k"),
    ];

    /// Every name, for messages.
    fn names(fits: impl Fn(Self) -> bool) -> String {
        let names = Self::NAMES.iter().filter(|(kind, _)| fits(*kind));
        let names: Vec<String> = names.map(|(_, name)| format!("`{name}`")).collect();
        match names.as_slice() {
            [all @ .., last] if !all.is_empty() => format!("{} or {last}", all.join(", ")),
            names => names.concat(),
        }
    }

    /// Whether a token's experts depend on no token after it, as in a decoder they may not.
    pub fn is_causal(self) -> bool {
        self != Self::GateSentence
    }

    /// The routers that a decoder may have, for messages.
    pub(crate) fn causal_names() -> String {
        Self::names(Self::is_causal)
    }

    /// Whether padded tokens take part in a balance loss that counts them.
    pub fn sees_padding(self) -> bool {
        matches!(self, Self::GateToken | Self::TopK)
    }

    /// Whether a token may pass several experts.
    pub fn takes_several(self) -> bool {
        self == Self::TopK
    }

    /// Whether it is a learned gate, and not a table.
    pub fn is_gate(self) -> bool {
        matches!(self, Self::GateToken | Self::GateSentence | Self::TopK)
    }
}

/// A router name that is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown router `{name}`; {hint}", name = .0, hint = hint(.0, &RouterKind::NAMES.map(|(_, name)| name)))]
pub struct UnknownRouter(String);

impl fmt::Display for RouterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(kind, _)| kind == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

impl FromStr for RouterKind {
    type Err = UnknownRouter;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let kind = Self::NAMES.iter().find(|(_, name)| *name == text);
        kind.map(|(kind, _)| *kind)
            .ok_or_else(|| UnknownRouter(text.to_owned()))
    }
}

/// How to make the routers of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterConfig {
    /// Which router.
    pub kind: RouterKind,
    /// Experts per token, `k`; only `top-k` can have more than one.
    #[serde(default = "one")]
    pub k: usize,
    /// How a gate's probability acts on the output; hash routers ignore it.
    pub gate_scale: GateScale,
    /// Seed of the tables and of the gates' weights.
    pub seed: u64,
}

fn one() -> usize {
    1
}

impl Default for RouterConfig {
    fn default() -> Self {
        Self {
            kind: RouterKind::default(),
            k: 1,
            gate_scale: GateScale::default(),
            seed: 0,
        }
    }
}

/// What a router is made for.
#[derive(Clone, Copy, Debug)]
pub struct RouterShape<'a> {
    /// Number of experts `E`.
    pub experts: usize,
    /// Hidden width `D`.
    pub hidden: usize,
    /// Number of token ids `V`.
    pub vocabulary: usize,
    /// The layer, so that every layer draws a table of its own.
    pub layer: usize,
    /// How often each token id occurs in the training set, `V` entries.
    pub token_counts: Option<&'a [u64]>,
}

/// A router that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouterError {
    /// `hash-balance` balances the tokens of the training set, which were not given.
    #[error("the router `hash-balance` needs the token counts of the training set")]
    NoTokenCounts,
    /// A token cannot pass as many experts.
    #[error("a token cannot pass {k} of {experts} experts: expected k from 1 to {experts}")]
    TooMany {
        /// Experts per token, `k`.
        k: usize,
        /// Experts `E`.
        experts: usize,
    },
    /// The router knows only one expert a token.
    #[error("the router `{router}` sends a token to one expert, not {k}: expected k = 1, or {several}",
        several = RouterKind::names(RouterKind::takes_several))]
    OnlyOne {
        /// The router.
        router: RouterKind,
        /// Experts per token that were asked for.
        k: usize,
    },
    /// The counts are for another vocabulary.
    #[error("{found} token counts were given for a vocabulary of {expected}")]
    TokenCounts {
        /// Length of the counts.
        found: usize,
        /// Size of the vocabulary.
        expected: usize,
    },
}

/// Any router, as part of an expert layer.
#[derive(Module, Debug)]
pub enum Router {
    /// A fixed table from token ids to experts.
    Hash(HashRouter),
    /// A learned gate.
    Gate(GateRouter),
    /// A learned gate for several experts per token.
    TopK(TopKRouter),
}

impl RouterConfig {
    /// Checks the number of experts per token against the number of experts.
    ///
    /// # Errors
    ///
    /// If there are not as many, or the router knows only one.
    pub fn check(&self, experts: usize) -> Result<(), RouterError> {
        let (router, k) = (self.kind, self.k);
        if k == 0 || k > experts {
            return Err(RouterError::TooMany { k, experts });
        }
        if k > 1 && !router.takes_several() {
            return Err(RouterError::OnlyOne { router, k });
        }
        Ok(())
    }

    /// Makes the router of one layer.
    ///
    /// # Errors
    ///
    /// As [`Self::check`], and if `hash-balance` has no token counts, or they do not fit the vocabulary.
    pub fn init(&self, shape: RouterShape<'_>, device: &Device) -> Result<Router, RouterError> {
        self.check(shape.experts)?;
        let gate = |level| {
            let gate = GateRouter::new(level, self.gate_scale, shape, self.seed, device);
            Router::Gate(gate)
        };
        Ok(match self.kind {
            RouterKind::HashRandom => Router::Hash(HashRouter::random(shape, self.seed, device)),
            RouterKind::HashBalance => {
                Router::Hash(HashRouter::balanced(shape, self.seed, device)?)
            }
            RouterKind::GateToken => gate(GateLevel::Token),
            RouterKind::GateSentence => gate(GateLevel::Sentence),
            RouterKind::TopK => {
                let gate = TopKRouter::new(self.k, self.gate_scale, shape, self.seed, device);
                Router::TopK(gate)
            }
        })
    }
}

/// The random numbers of one layer's router.
fn layer_rng(seed: u64, layer: usize) -> StdRng {
    StdRng::seed_from_u64(seed ^ (layer as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

impl Router {
    /// Routes a batch; a gate adds its losses where they are asked for.
    ///
    /// # Shapes
    ///
    /// - input: `[B, T, D]`
    /// - the routing is of `B * T` tokens
    pub fn route(&self, input: &Tensor<3>, tokens: &Tokens, with_losses: bool) -> Routing {
        match self {
            Self::Hash(hash) => hash.route(tokens),
            Self::Gate(gate) => gate.route(input, tokens, with_losses),
            Self::TopK(gate) => gate.route(input, tokens, with_losses),
        }
    }

    /// The number of experts per token, `k`.
    pub fn experts_per_token(&self) -> usize {
        match self {
            Self::Hash(_) | Self::Gate(_) => 1,
            Self::TopK(gate) => gate.k(),
        }
    }

    /// The table `[V]` of a hash router.
    pub fn table(&self) -> Option<Tensor<1, Int>> {
        match self {
            Self::Hash(hash) => Some(hash.table.val()),
            Self::Gate(_) | Self::TopK(_) => None,
        }
    }

    /// The weights of a gate.
    pub fn gate(&self) -> Option<&Linear> {
        match self {
            Self::Hash(_) => None,
            Self::Gate(gate) => Some(&gate.linear),
            Self::TopK(gate) => Some(&gate.linear),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for (kind, name) in RouterKind::NAMES {
            assert_eq!(kind.to_string(), name);
            assert_eq!(name.parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), name);
        }
        let error = |name: &str| name.parse::<RouterKind>().unwrap_err().to_string();
        assert_eq!(
            error("gate-tokens"),
            "unknown router `gate-tokens`; did you mean `gate-token`?"
        );
        assert!(error("xyz").contains("gate-sentence"));
    }
}
