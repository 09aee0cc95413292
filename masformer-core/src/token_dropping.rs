//! Layers above which a sequence has fewer tokens.

use burn::prelude::*;

use crate::flow::{Dropped, Flow, Tokens};

/// What is taken off a product of a share and a length before it is rounded up, so that the rounding of `0.1 * 10` is no
/// eleventh token.
const ROUNDING: f64 = 1e-3;

/// The score of the first token, which is always left: above that of any other.
const FIRST: f64 = 1e30;

/// Leaves of each sequence the tokens that receive most attention (latency-adjustable encoder, arXiv 2201.03327).
///
/// The score of a token is the attention that it receives in the layer's mixer, the mean over heads and the sum over real
/// tokens. The first token is always left, the rest in their order. A sequence of `n` tokens is left with
/// `ceil(share n)`, whatever else is in the batch; `n` counts those that layers below have dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenDropping {
    share: f64,
}

/// Layers that cannot drop tokens so.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TokenDroppingError {
    /// The share is none.
    #[error("the share of tokens that are left must be above 0 and at most 1, not {0}")]
    Share(f64),
    /// There are not as many shares as layers.
    #[error("a share of tokens is needed for each of {layers} layers, not {given}")]
    Layers {
        /// Layers of the model.
        layers: usize,
        /// Shares.
        given: usize,
    },
    /// Nothing says which tokens matter.
    #[error(
        "layer {layer} cannot drop tokens: its mixer `{mixer}` has no attention, which says which are left"
    )]
    NoAttention {
        /// The layer.
        layer: usize,
        /// Its mixer.
        mixer: &'static str,
    },
    /// Mixer and feed-forward half read the same tokens.
    #[error(
        "layer {layer} cannot drop tokens: its halves are parallel, so that nothing is between them"
    )]
    Parallel {
        /// The layer.
        layer: usize,
    },
}

impl TokenDropping {
    /// Leaves this share of each sequence's tokens; 1 leaves all.
    ///
    /// # Errors
    ///
    /// If it is not above 0 and at most 1.
    pub fn new(share: f64) -> Result<Self, TokenDroppingError> {
        if share > 0.0 && share <= 1.0 {
            Ok(Self { share })
        } else {
            Err(TokenDroppingError::Share(share))
        }
    }

    /// The share of tokens that are left.
    pub fn share(self) -> f64 {
        self.share
    }

    /// How many tokens are left of so many.
    pub fn left(self, length: usize) -> usize {
        let left = (self.share * length as f64 - ROUNDING).ceil() as usize;
        left.clamp(1.min(length), length)
    }

    /// Whether tokens of a flow are left out: layers below may have left fewer.
    pub fn drops(self, flow: &Flow) -> bool {
        let share = flow.dropped.as_ref().map_or(1.0, |dropped| dropped.share);
        self.share < share
    }

    /// Drops tokens of a flow, where [`Self::drops`].
    ///
    /// # Shapes
    ///
    /// - received: `[B, T]`, the attention that each token receives
    pub fn apply(self, flow: Flow, received: Tensor<2>) -> Flow {
        if !self.drops(&flow) {
            return flow;
        }
        let before = before(&flow);
        let Flow {
            hidden,
            tokens,
            relative,
            ..
        } = flow;
        let [batch, present, width] = hidden.dims();
        let [_, length, _] = before.hidden.dims();
        let count = self.left(length).min(present);
        let device = hidden.device();
        // The first token scores highest, padding lowest; then each sequence takes as many as it may have.
        let scores = received.mask_fill(before.real.clone().equal_elem(0), -1.0);
        let first = Tensor::full([batch, 1], FIRST, (&device, scores.dtype()));
        let scores = scores.slice_assign([0..batch, 0..1], first);
        let best = scores.argsort_descending(1).narrow(1, 0, count);
        let quota = (before.lengths.clone() * self.share - ROUNDING).ceil();
        let quota = quota.min_pair(before.real.clone().sum_dim(1).float());
        let ranks = Tensor::<1, Int>::arange(0..count as i64, &device).float();
        let ranks = ranks.unsqueeze::<2>().expand([batch, count]);
        let is_over = ranks.greater_equal(quota.expand([batch, count]));
        let last = present as i64;
        let places = best.mask_fill(is_over, last).sort(1);
        let real = places.clone().lower_elem(last).int();
        let places = places.clamp_max(last - 1);
        let wide = places.clone().unsqueeze_dim::<3>(2);
        Flow {
            hidden: hidden.gather(1, wide.expand([batch, count, width])),
            relative: relative.map(|relative| relative.select(&places)),
            tokens: Tokens {
                ids: tokens.ids.gather(1, places.clone()),
                padding: Some(real.clone().equal_elem(0)),
            },
            dropped: Some(Dropped {
                share: self.share,
                positions: before.positions.gather(1, places),
                real,
                hidden: before.hidden,
                lengths: before.lengths,
            }),
        }
    }
}

/// What is known of the tokens of a flow, the hidden states brought up to date.
fn before(flow: &Flow) -> Dropped {
    let hidden = flow.all_hidden();
    if let Some(dropped) = flow.dropped.clone() {
        return Dropped { hidden, ..dropped };
    }
    let [batch, length, _] = hidden.dims();
    let device = hidden.device();
    let positions = Tensor::<1, Int>::arange(0..length as i64, &device);
    let real = match &flow.tokens.padding {
        Some(padding) => padding.clone().bool_not().int(),
        None => Tensor::ones([batch, length], &device),
    };
    Dropped {
        share: 1.0,
        hidden,
        positions: positions.unsqueeze::<2>().expand([batch, length]),
        lengths: real.clone().sum_dim(1).float(),
        real,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(rows: [[f32; 5]; 2], padding: Option<[[bool; 5]; 2]>, device: &Device) -> Flow {
        let hidden = Tensor::<2>::from_data(rows, device);
        let tokens = Tokens {
            ids: hidden.clone().int(),
            padding: padding.map(|padding| Tensor::from_data(padding, device)),
        };
        Flow::new(hidden.unsqueeze_dim(2), tokens)
    }

    const ROWS: [[f32; 5]; 2] = [
        [10.0, 11.0, 12.0, 13.0, 14.0],
        [20.0, 21.0, 22.0, 23.0, 24.0],
    ];
    const RECEIVED: [[f32; 5]; 2] = [[0.0, 0.1, 0.5, 0.2, 0.4], [0.0, 0.3, 0.1, 0.2, 9.0]];

    fn ids(flow: &Flow) -> Vec<i32> {
        let ids = flow.tokens.ids.to_data().convert::<i32>();
        ids.iter::<i32>().collect()
    }

    fn padding(flow: &Flow) -> Vec<bool> {
        let padding = flow.tokens.padding.clone().unwrap().int();
        let numbers = padding.into_data().convert::<i32>();
        numbers.iter::<i32>().map(|number| number == 1).collect()
    }

    #[test]
    fn the_first_token_and_those_that_receive_most_are_left_in_their_order() {
        let device = Device::default();
        let received = Tensor::from_data(RECEIVED, &device);
        // The last token of the second sequence is padding: of its four tokens, ceil(2.4) are left.
        let mut masks = [[false; 5]; 2];
        masks[1][4] = true;
        let flow = flow(ROWS, Some(masks), &device);
        let left = TokenDropping::new(0.6).unwrap().apply(flow, received);
        assert_eq!(ids(&left), [10, 12, 14, 20, 21, 23]);
        assert_eq!(padding(&left), [false; 6]);
        // Of five ceil(2.0) are left, and of four ceil(1.6).
        let received = Tensor::from_data([[0.0_f32, 0.9, 0.1], [0.0, 0.1, 0.8]], &device);
        let fewer = TokenDropping::new(0.4).unwrap().apply(left, received);
        assert_eq!(ids(&fewer), [10, 12, 20, 23]);
        let all = Flow {
            hidden: fewer.hidden.clone() * 2.0,
            ..fewer
        };
        let expected = [
            [20.0_f32, 11.0, 24.0, 13.0, 14.0],
            [40.0, 21.0, 22.0, 46.0, 24.0],
        ];
        let expected = Tensor::<2>::from_data(expected, &device).unsqueeze_dim::<3>(2);
        all.all_hidden()
            .into_data()
            .assert_eq(&expected.into_data(), true);
    }

    #[test]
    fn other_sequences_of_a_batch_change_nothing() {
        let device = Device::default();
        let mut masks = [[false; 5]; 2];
        masks[1] = [false, false, true, true, true];
        let both = flow(ROWS, Some(masks), &device);
        let received = Tensor::from_data(RECEIVED, &device);
        let left = TokenDropping::new(0.5).unwrap().apply(both, received);
        assert_eq!(ids(&left)[..3], [10, 12, 14]);
        assert_eq!(
            (ids(&left)[3], padding(&left)),
            (20, vec![false, false, false, false, true, true])
        );
    }

    #[test]
    fn a_share_of_one_leaves_the_flow_as_it_is() {
        let device = Device::default();
        let flow = flow(ROWS, None, &device);
        let received = Tensor::from_data(RECEIVED, &device);
        let left = TokenDropping::new(1.0).unwrap().apply(flow, received);
        assert!(left.dropped.is_none() && left.tokens.padding.is_none());
        for share in [0.0, -0.1, 1.1, f64::NAN] {
            assert!(TokenDropping::new(share).is_err(), "{share}");
        }
        let tenth = TokenDropping::new(0.1).unwrap();
        assert_eq!(
            [10, 11, 1, 0].map(|length| tenth.left(length)),
            [1, 2, 1, 0]
        );
    }
}
