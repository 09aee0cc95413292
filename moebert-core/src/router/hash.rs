//! Hash routers: a fixed table from token ids to experts (Hash Layers, arXiv 2106.04426).

use burn::{
    module::{Module, Param, ParamId},
    prelude::*,
};
use masformer_core::{Tokens, text_form::TextForm};
use rand::{RngExt, rngs::StdRng};
use serde::{Deserialize, Serialize};

use super::{
    Route, RouteSpec, RouterConfig, RouterError, RouterKind, RouterShape, Routing, layer_rng,
};

/// `hash-random` in texts: a [`HashRouter`] with a table drawn uniformly, another one for each layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashRandom {}

/// `hash-balance` in texts: a [`HashRouter`] whose experts see about as many training tokens each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashBalance {}

/// Sends each token to the expert that a table holds for its id.
#[derive(Module, Debug)]
pub struct HashRouter {
    /// Expert of each token id, `[V]`. It is part of the model and is saved with it.
    pub table: Param<Tensor<1, Int>>,
}

impl HashRouter {
    /// A router with a given table, `V` entries.
    pub fn new(table: &[usize], device: &Device) -> Self {
        let table: Vec<i64> = table.iter().map(|&expert| expert as i64).collect();
        Self {
            table: Param::initialized(ParamId::new(), Tensor::from_data(table.as_slice(), device)),
        }
    }
}

impl Route for HashRouter {
    fn route(&self, _: &Tensor<3>, tokens: &Tokens, _: bool) -> Routing {
        let ids = tokens.ids.clone().flatten::<1>(0, 1);
        Routing {
            experts: self.table.val().select(0, ids).unsqueeze_dim(1),
            weights: None,
            losses: vec![],
            entropy: None,
        }
    }

    fn table(&self) -> Option<Tensor<1, Int>> {
        Some(self.table.val())
    }

    fn set_table(&mut self, table: &[usize]) {
        *self = Self::new(table, &self.table.val().device());
    }
}

impl TextForm for HashRandom {
    const NAME: &'static str = "hash-random";
}

impl RouteSpec for HashRandom {
    const KIND: RouterKind = RouterKind::table(Self::NAME);

    type Router = HashRouter;

    fn init(
        &self,
        config: &RouterConfig,
        shape: RouterShape<'_>,
        device: &Device,
    ) -> Result<HashRouter, RouterError> {
        let mut rng = layer_rng(config.seed, shape.layer);
        let table: Vec<usize> = (0..shape.vocabulary)
            .map(|_| rng.random_range(0..shape.experts))
            .collect();
        Ok(HashRouter::new(&table, device))
    }
}

impl TextForm for HashBalance {
    const NAME: &'static str = "hash-balance";
}

impl RouteSpec for HashBalance {
    const KIND: RouterKind = RouterKind {
        counts_tokens: true,
        ..RouterKind::table(Self::NAME)
    };

    type Router = HashRouter;

    fn init(
        &self,
        config: &RouterConfig,
        shape: RouterShape<'_>,
        device: &Device,
    ) -> Result<HashRouter, RouterError> {
        let counts = shape.token_counts;
        let counts = counts.ok_or(RouterError::NoTokenCounts(Self::NAME))?;
        if counts.len() != shape.vocabulary {
            return Err(RouterError::TokenCounts {
                found: counts.len(),
                expected: shape.vocabulary,
            });
        }
        let mut rng = layer_rng(config.seed, shape.layer);
        let table = balanced_table(counts, shape.experts, &mut rng);
        Ok(HashRouter::new(&table, device))
    }
}

/// Tokens by falling count (ties to the lower id), each to the expert with the lightest load (ties to
/// the lower expert); tokens that do not occur go anywhere.
fn balanced_table(counts: &[u64], experts: usize, rng: &mut StdRng) -> Vec<usize> {
    let mut by_count: Vec<usize> = (0..counts.len()).collect();
    by_count.sort_by_key(|&token| std::cmp::Reverse(counts[token]));
    let mut load = vec![0_u64; experts];
    let mut table = vec![0; counts.len()];
    for token in by_count {
        table[token] = if counts[token] == 0 {
            rng.random_range(0..experts)
        } else {
            let lightest = (0..experts).min_by_key(|&expert| load[expert]).unwrap_or(0);
            load[lightest] += counts[token];
            lightest
        };
    }
    table
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn balances_by_falling_count_with_ties_to_the_lowest() {
        let table = balanced_table(&[1, 5, 3, 3, 2], 2, &mut layer_rng(0, 0));
        // 5 -> expert 0; 3 (id 2) -> 1; 3 (id 3) -> 1; 2 -> 0; 1 -> 1
        assert_eq!(table, [1, 0, 1, 1, 0]);
    }

    #[test]
    fn layers_draw_tables_of_their_own_and_the_seed_repeats_them() {
        let device = Device::default();
        let table = |layer| {
            let shape = RouterShape {
                experts: 4,
                hidden: 8,
                vocabulary: 64,
                layer,
                token_counts: None,
            };
            let config = RouterConfig {
                seed: 7,
                ..RouterConfig::default()
            };
            let router = HashRandom {}.init(&config, shape, &device).unwrap();
            router
                .table
                .val()
                .into_data()
                .iter::<i64>()
                .collect::<Vec<_>>()
        };
        assert_eq!(table(0), table(0));
        assert_ne!(table(0), table(1));
        assert!(table(0).iter().all(|expert| (0..4).contains(expert)));
    }

    proptest! {
        #[test]
        fn no_expert_is_ahead_of_another_by_more_than_one_token_kind(
            counts in prop::collection::vec(1_u64..100, 1..60),
            experts in 1_usize..6,
        ) {
            let table = balanced_table(&counts, experts, &mut layer_rng(1, 0));
            let mut load = vec![0; experts];
            for (token, expert) in table.into_iter().enumerate() {
                load[expert] += counts[token];
            }
            let (most, least) = (load.iter().max().unwrap(), load.iter().min().unwrap());
            prop_assert!(most - least <= *counts.iter().max().unwrap());
        }
    }
}
