//! Routers: which expert a token passes through.
//!
//! A router is one file with three small implementations ([`TextForm`], [`RouteSpec`], [`Route`]) and one line of the
//! registry below, which makes [`Router`] and [`RouterSpec`] and everything that they hand on.

use burn::{
    module::{Module, ModuleDisplay},
    prelude::*,
};
use masformer_core::{Tokens, text_form::TextForm, text_forms};
use rand::{SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

mod kind;

pub mod gate;
pub mod hash;
pub mod top_k;

pub use gate::{GateRouter, GateScale, GateSentence, GateToken};
pub use hash::{HashBalance, HashRandom, HashRouter};
pub use kind::{RouterKind, RouterLoss};
pub use top_k::{TopK, TopKRouter};

/// What a router decided for `N = B * T` tokens. It stays on the device.
#[derive(Clone, Debug)]
pub struct Routing {
    /// The `k` experts of each token, `[N, k]`.
    pub experts: Tensor<2, Int>,
    /// The factors on their outputs, `[N, k]`; `None` leaves the output of a single one as it is.
    pub weights: Option<Tensor<2>>,
    /// Losses `[1]` that a training may add, by name; none unless they are asked for.
    pub losses: Vec<(&'static str, Tensor<1>)>,
    /// The mean entropy `[1]` of a gate's probabilities, as [`RouteTrace::entropy`](masformer_core::RouteTrace::entropy);
    /// `None` without a gate, and unless losses are asked for.
    pub entropy: Option<Tensor<1>>,
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

/// A router as part of an expert layer.
///
/// Its parameters are saved under the names of its fields, a table under that of [`Self::table`] alone.
pub trait Route: Module + ModuleDisplay {
    /// Routes a batch, and gives the losses that [`RouterKind::losses`] names, and a gate's entropy, where they are asked for.
    ///
    /// # Shapes
    ///
    /// - input: `[B, T, D]`
    /// - the routing is of `B * T` tokens
    fn route(&self, input: &Tensor<3>, tokens: &Tokens, with_losses: bool) -> Routing;

    /// The number of experts per token, `k`.
    fn experts_per_token(&self) -> usize {
        1
    }

    /// Multiply-adds for one token.
    fn cost(&self) -> usize {
        0
    }

    /// The table `[V]` from token ids to experts, if it has one.
    fn table(&self) -> Option<Tensor<1, Int>> {
        None
    }

    /// Puts a table `[V]` in the place of that which it has.
    fn set_table(&mut self, _table: &[usize]) {}
}

/// How a router is made: its settings beside those that all have ([`RouterConfig`]), and what they alone say of it.
pub trait RouteSpec: TextForm {
    /// What is known of the router before it is made.
    const KIND: RouterKind;

    /// The router.
    type Router: Route;

    /// Makes the router of one layer; `config` has the settings that all routers have.
    ///
    /// # Errors
    ///
    /// If the router counts tokens, and there are no counts or they do not fit the vocabulary.
    fn init(
        &self,
        config: &RouterConfig,
        shape: RouterShape<'_>,
        device: &Device,
    ) -> Result<Self::Router, RouterError>;
}

/// Makes the enums of all routers from one line for each, with the specification that makes it.
macro_rules! routers {
    ($($(#[$doc:meta])* $arm:ident($spec:ty)),+ $(,)?) => {
        /// Any router, as part of an expert layer.
        ///
        /// The variant is no part of the names under which parameters are saved.
        #[derive(Module, Debug)]
        pub enum Router {
            $($(#[$doc])* $arm(<$spec as RouteSpec>::Router)),+
        }

        /// How any router is made; by default, `hash-random`.
        ///
        /// The text form is `NAME` or `NAME:KEY=VALUE,KEY=VALUE,...`, with the keys that are not to have their
        /// default value.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum RouterSpec {
            $($(#[$doc])* $arm($spec)),+
        }

        impl Route for Router {
            fn route(&self, input: &Tensor<3>, tokens: &Tokens, with_losses: bool) -> Routing {
                match self {
                    $(Self::$arm(router) => Route::route(router, input, tokens, with_losses)),+
                }
            }

            fn experts_per_token(&self) -> usize {
                match self {
                    $(Self::$arm(router) => Route::experts_per_token(router)),+
                }
            }

            fn cost(&self) -> usize {
                match self {
                    $(Self::$arm(router) => Route::cost(router)),+
                }
            }

            fn table(&self) -> Option<Tensor<1, Int>> {
                match self {
                    $(Self::$arm(router) => Route::table(router)),+
                }
            }

            fn set_table(&mut self, table: &[usize]) {
                match self {
                    $(Self::$arm(router) => Route::set_table(router, table)),+
                }
            }
        }

        impl Router {
            /// What is known of the router.
            pub fn kind(&self) -> &'static RouterKind {
                match self {
                    $(Self::$arm(_) => &<$spec as RouteSpec>::KIND),+
                }
            }
        }

        impl RouterSpec {
            /// What is known of the router.
            pub fn kind(&self) -> &'static RouterKind {
                match self {
                    $(Self::$arm(_) => &<$spec as RouteSpec>::KIND),+
                }
            }

            /// Makes the router of one layer: see [`RouteSpec::init`].
            fn init(
                &self,
                config: &RouterConfig,
                shape: RouterShape<'_>,
                device: &Device,
            ) -> Result<Router, RouterError> {
                Ok(match self {
                    $(Self::$arm(spec) => Router::$arm(spec.init(config, shape, device)?)),+
                })
            }
        }

        impl RouterKind {
            /// Every kind, in the order of the registry.
            pub const ALL: &[&Self] = &[$(&<$spec as RouteSpec>::KIND),+];
        }

        text_forms!("router", RouterSpec { $($arm($spec)),+ });
    };
}

routers! {
    /// A table drawn at random for each layer: token id to expert.
    HashRandom(HashRandom),
    /// A table that balances the tokens of the training set.
    HashBalance(HashBalance),
    /// A learned gate for each token.
    GateToken(GateToken),
    /// A learned gate for each sequence.
    GateSentence(GateSentence),
    /// A learned gate that sends each token to several experts.
    TopK(TopK),
}

impl Default for RouterSpec {
    fn default() -> Self {
        Self::HashRandom(HashRandom {})
    }
}

/// How to make the routers of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouterConfig {
    /// Which router.
    pub spec: RouterSpec,
    /// Experts per token, `k`; more than one is for routers that send a token to several.
    #[serde(default = "one")]
    pub k: usize,
    /// How a gate's probability acts on the output; routers without a gate ignore it.
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
            spec: RouterSpec::default(),
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
    /// The router counts the tokens of the training set, and no counts were given.
    #[error("the router `{0}` needs the token counts of the training set")]
    NoTokenCounts(&'static str),
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
        several = RouterKind::names(|kind| kind.takes_several))]
    OnlyOne {
        /// The router.
        router: &'static str,
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

impl RouterConfig {
    /// Checks the number of experts per token against the number of experts.
    ///
    /// # Errors
    ///
    /// If there are not as many, or the router knows only one.
    pub fn check(&self, experts: usize) -> Result<(), RouterError> {
        let (kind, k) = (self.spec.kind(), self.k);
        if k == 0 || k > experts {
            return Err(RouterError::TooMany { k, experts });
        }
        if k > 1 && !kind.takes_several {
            let router = kind.name;
            return Err(RouterError::OnlyOne { router, k });
        }
        Ok(())
    }

    /// Makes the router of one layer.
    ///
    /// # Errors
    ///
    /// As [`Self::check`], and if the router counts tokens, and there are no counts or they do not fit the vocabulary.
    pub fn init(&self, shape: RouterShape<'_>, device: &Device) -> Result<Router, RouterError> {
        self.check(shape.experts)?;
        self.spec.init(self, shape, device)
    }
}

/// The random numbers of one layer's router.
fn layer_rng(seed: u64, layer: usize) -> StdRng {
    StdRng::seed_from_u64(seed ^ (layer as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for (name, kind) in RouterSpec::NAMES.iter().zip(RouterKind::ALL) {
            let spec: RouterSpec = name.parse().unwrap();
            assert_eq!((spec.to_string().as_str(), kind.name), (*name, *name));
            assert_eq!(spec.kind(), *kind);
            assert_eq!(serde_json::to_value(&spec).unwrap(), *name);
        }
        let error = |name: &str| name.parse::<RouterSpec>().unwrap_err().to_string();
        let all = RouterSpec::NAMES.join(", ");
        assert_eq!(
            error("gate-tokens"),
            format!("unknown router `gate-tokens`; did you mean `gate-token`? There is {all}")
        );
        assert_eq!(
            error("xyz"),
            format!("unknown router `xyz`; there is {all}")
        );
        assert_eq!(
            error("top-k:k=2"),
            "the router `top-k` has no key `k`; it has none"
        );
    }

    #[test]
    fn a_router_has_what_its_kind_says() {
        let device = Device::default();
        let counts = [1; 10];
        for name in RouterSpec::NAMES {
            let config = RouterConfig {
                spec: name.parse().unwrap(),
                ..RouterConfig::default()
            };
            let shape = RouterShape {
                experts: 3,
                hidden: 4,
                vocabulary: 10,
                layer: 0,
                token_counts: Some(&counts),
            };
            let router = config.init(shape, &device).unwrap();
            let kind = router.kind();
            assert_eq!(kind, config.spec.kind());
            let tokens = Tokens::new(Tensor::zeros([1, 2], &device), None);
            let routing = router.route(&Tensor::ones([1, 2, 4], &device), &tokens, true);
            let given: Vec<_> = routing.losses.iter().map(|(name, _)| *name).collect();
            for loss in kind.losses {
                assert!(given.contains(&loss.name), "{name}: {}", loss.name);
                let padded = loss.with_padding.is_none_or(|name| given.contains(&name));
                assert!(padded, "{name}: {}", loss.name);
            }
            assert!(kind.losses.is_empty() == given.is_empty(), "{name}");
            assert_eq!(kind.is_gate, routing.entropy.is_some(), "{name}");
        }
    }
}
