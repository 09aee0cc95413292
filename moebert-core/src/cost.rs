//! What a model costs: parameters, and multiply-adds per token.

use masformer_core::{FeedForward, Mix};

use crate::layered::Layered;

/// The size of a model and the work it does for one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// All parameters. Routing tables are no parameters.
    pub parameters: usize,
    /// The parameters that one token passes: of an expert layer, the router and one expert.
    pub active_parameters: usize,
    /// Multiply-adds of the layers' matrix products for one token of a full sequence.
    pub multiply_adds_per_token: usize,
}

impl Cost {
    /// Counts a model on sequences of `length` tokens.
    ///
    /// A layer takes what its mixer says ([`Mix::cost`]: `4 D^2` for projections, and `2 K D` for
    /// scores and weighted sums where a query sees `K` keys on average), and `2 D F` for its feed-forward
    /// half, `3 D F` if it is gated (`2 D d_e` or `3 D d_e`, and `D E` for a gate, in an expert layer). A half and the
    /// layers above it work for the tokens that are left ([`TokenDropping`](masformer_core::TokenDropping)).
    pub fn of<M: Layered>(model: &M, length: usize) -> Self {
        let parameters = model.num_params();
        let layers = &model.stack().layers;
        let length = length.max(1);
        let (mut idle, mut multiply_adds, mut left) = (0, 0, length);
        for layer in layers {
            multiply_adds += layer.mixer.cost(left);
            if let Some(dropping) = layer.dropping() {
                left = left.min(dropping.left(length));
            }
            let half = layer.feed_forward.cost();
            multiply_adds += half.multiply_adds * left;
            idle += half.idle_parameters;
        }
        Self {
            parameters,
            active_parameters: parameters - idle,
            multiply_adds_per_token: multiply_adds / length,
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::prelude::*;

    use super::*;
    use crate::{
        adapt::adapt,
        bert::BertConfig,
        heads::{BertModelConfig, Head},
        partition::ExpertLayout,
        router::{GateToken, RouterConfig, RouterSpec},
    };

    #[test]
    fn counts_dense_and_expert_models() {
        let bert = BertConfig::new()
            .with_vocab_size(10)
            .with_hidden_size(4)
            .with_num_hidden_layers(1)
            .with_num_attention_heads(2)
            .with_intermediate_size(8)
            .with_max_position_embeddings(6);
        let local = bert.clone().with_spans(vec!["block:2".parse().unwrap()]);
        let model = BertModelConfig::new(bert, Head::Encoder).init(&Device::default());
        let embeddings = 10 * 4 + 6 * 4 + 2 * 4 + 8;
        let attention = 4 * (4 * 4 + 4) + 8;
        let pooler = 4 * 4 + 4;
        let dense = (4 * 8 + 8) + (8 * 4 + 4) + 8;
        let cost = Cost::of(&model, 5);
        assert_eq!(cost.parameters, embeddings + attention + pooler + dense);
        assert_eq!(cost.active_parameters, cost.parameters);
        assert_eq!(cost.multiply_adds_per_token, 4 * 16 + 2 * 5 * 4 + 2 * 4 * 8);

        // Two blocks of two tokens, and one of one: 9 pairs.
        let local = BertModelConfig::new(local, Head::Encoder).init(&Device::default());
        assert_eq!(
            Cost::of(&local, 5).multiply_adds_per_token,
            4 * 16 + 2 * 9 * 4 / 5 + 2 * 4 * 8
        );

        let layout = ExpertLayout {
            neurons: vec![vec![vec![0, 1], vec![2, 3], vec![4, 5]]],
        };
        let gates = RouterConfig {
            spec: RouterSpec::GateToken(GateToken {}),
            ..RouterConfig::default()
        };
        let expert = (4 * 2 + 2) + (2 * 4 + 4) + 8;
        let gate = 4 * 3;
        let split = Cost::of(&adapt(model, &layout, &gates, None).unwrap(), 5);
        let rest = embeddings + attention + pooler + gate;
        assert_eq!(split.parameters, rest + 3 * expert);
        assert_eq!(split.active_parameters, rest + expert);
        assert_eq!(
            split.multiply_adds_per_token,
            4 * 16 + 2 * 5 * 4 + 2 * 4 * 2 + gate
        );
    }
}
