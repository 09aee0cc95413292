//! Routers: which expert a token passes through.

use std::{fmt, str::FromStr};

use burn::{module::Module, nn::Linear, prelude::*};
use masformer_core::{Keep, Tokens};
use rand::{SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

pub mod gate;
pub mod hash;

pub use gate::{GateLevel, GateRouter, GateScale};
pub use hash::HashRouter;

/// What a router decided for `N = B * T` tokens.
#[derive(Clone, Debug)]
pub struct Routing {
    /// The expert of each token, `N` entries.
    pub experts: Vec<usize>,
    /// A factor on the output of each token, `[N, 1]`; `None` leaves the output as it is.
    pub scale: Option<Tensor<2>>,
    /// The balance loss `[1]`; `None` for routers without weights.
    pub balance_loss: Option<Tensor<1>>,
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
}

impl RouterKind {
    const NAMES: [(Self, &'static str); 4] = [
        (Self::HashRandom, "hash-random"),
        (Self::HashBalance, "hash-balance"),
        (Self::GateToken, "gate-token"),
        (Self::GateSentence, "gate-sentence"),
    ];

    /// Whether a token's experts depend on no token after it, as in a decoder they may not.
    pub fn is_causal(self) -> bool {
        self != Self::GateSentence
    }

    /// The routers that a decoder may have, for messages.
    pub(crate) fn causal_names() -> String {
        let names = Self::NAMES.iter().filter(|(kind, _)| kind.is_causal());
        let names: Vec<String> = names.map(|(_, name)| format!("`{name}`")).collect();
        names.join(" or ")
    }

    /// Whether it is a learned gate, and not a table.
    pub fn is_gate(self) -> bool {
        matches!(self, Self::GateToken | Self::GateSentence)
    }
}

/// A router name that is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown router `{0}`: expected `hash-random`, `hash-balance`, `gate-token` or `gate-sentence`"
)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterConfig {
    /// Which router.
    pub kind: RouterKind,
    /// How a gate's probability acts on the output; hash routers ignore it.
    pub gate_scale: GateScale,
    /// Seed of the tables and of the gates' weights.
    pub seed: u64,
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
}

impl RouterConfig {
    /// Makes the router of one layer.
    ///
    /// # Errors
    ///
    /// If `hash-balance` has no token counts, or they do not fit the vocabulary.
    pub fn init(&self, shape: RouterShape<'_>, device: &Device) -> Result<Router, RouterError> {
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
        })
    }
}

/// The random numbers of one layer's router.
fn layer_rng(seed: u64, layer: usize) -> StdRng {
    StdRng::seed_from_u64(seed ^ (layer as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

impl Router {
    /// Routes a batch; a gate adds its balance loss where `keep` asks for routes.
    ///
    /// # Shapes
    ///
    /// - input: `[B, T, D]`
    /// - the routing has `B * T` entries
    pub fn route(&self, input: &Tensor<3>, tokens: &Tokens, keep: Keep) -> Routing {
        match self {
            Self::Hash(hash) => hash.route(tokens),
            Self::Gate(gate) => gate.route(input, tokens, keep),
        }
    }

    /// The table `[V]` of a hash router.
    pub fn table(&self) -> Option<Tensor<1, Int>> {
        match self {
            Self::Hash(hash) => Some(hash.table.val()),
            Self::Gate(_) => None,
        }
    }

    /// The weights of a gate.
    pub fn gate(&self) -> Option<&Linear> {
        match self {
            Self::Hash(_) => None,
            Self::Gate(gate) => Some(&gate.linear),
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
        let error = "gate".parse::<RouterKind>().unwrap_err();
        assert!(error.to_string().contains("gate-sentence"));
    }
}
