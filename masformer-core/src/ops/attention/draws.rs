//! Which attention weights dropout keeps.

use std::ops::Range;

#[cfg(feature = "cube")]
use burn::backend::{TensorMetadata, get_device_settings, tensor::IntTensor};
use burn::{
    backend::{Backend, tensor::FloatTensor},
    prelude::*,
};

use super::WeightDropout;
use crate::ops::primitive::Float;

/// The definition of [`SpanAttentionOps::kept_weights`](super::SpanAttentionOps::kept_weights), drawn on
/// the host.
pub(super) fn kept<B: Backend>(
    query: FloatTensor<B>,
    dropout: WeightDropout,
    rows: &Range<usize>,
    keys: &Range<usize>,
) -> FloatTensor<B> {
    let query = Float::<B>(query);
    let [batch, heads, _, _] = query.dims();
    let shape = [batch, heads, rows.len(), keys.len()];
    let mut values = Vec::with_capacity(shape.iter().product());
    for head in 0..batch * heads {
        let draws = Draws::new(dropout, head);
        let key_shares: Vec<u32> = keys.clone().map(|key| draws.key(key)).collect();
        for query in rows.clone().map(|row| draws.query(row)) {
            values.extend(key_shares.iter().map(|&key| draws.kept(query, key)));
        }
    }
    query.like(TensorData::new(values, shape)).0
}

/// The same, drawn on a device whose integers wrap: what travels there is a number for each query and one
/// for each key of a tile and head, not one for each weight.
#[cfg(feature = "cube")]
pub(super) fn kept_on_device<B: Backend>(
    query: FloatTensor<B>,
    dropout: WeightDropout,
    rows: &Range<usize>,
    keys: &Range<usize>,
) -> FloatTensor<B> {
    let (device, dtype) = (query.device(), query.dtype());
    let [batch, heads, _, _] = query.shape().dims();
    let draws: Vec<Draws> = (0..batch * heads)
        .map(|head| Draws::new(dropout, head))
        .collect();
    let shares = |share: fn(&Draws, usize) -> u32, places: &Range<usize>, shape: [usize; 4]| {
        let of_head = |draws| places.clone().map(move |place| share(draws, place));
        let shares: Vec<u32> = draws.iter().flat_map(of_head).collect();
        B::int_from_data(TensorData::new(shares, shape), &device)
    };
    let of_rows = shares(Draws::query, rows, [batch, heads, rows.len(), 1]);
    let of_keys = shares(Draws::key, keys, [batch, heads, 1, keys.len()]);

    let Draws { limit, factor, .. } = Draws::new(dropout, 0);
    let mixed = mix_all::<B>(B::int_add(of_rows, of_keys));
    let bools = get_device_settings::<B>(&device).bool_dtype;
    let kept = B::int_greater_equal_elem(mixed, limit.into(), bools);
    let kept = B::bool_into_float(kept, dtype.into());
    Float::<B>(kept).scale(f64::from(factor)).0
}

/// The draws of one head of one sequence.
///
/// Whether a weight is kept is a function of the seed, the head, the query and the key alone, so that
/// every backend draws alike, in any order, forward and backward.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draws {
    query_salt: u32,
    key_salt: u32,
    limit: u32,
    /// What a kept weight is multiplied by, so that the mean stays.
    pub(super) factor: f32,
}

impl Draws {
    /// `head` counts the heads of all sequences of the batch.
    pub(super) fn new(WeightDropout { prob, seed }: WeightDropout, head: usize) -> Self {
        let salt = scramble(seed ^ scramble(head as u64));
        Self {
            query_salt: (salt >> 32) as u32,
            key_salt: salt as u32,
            limit: (prob * f64::from(u32::MAX)) as u32,
            factor: (1.0 / (1.0 - prob)) as f32,
        }
    }

    /// The share of query `row` in its draws.
    #[inline(always)]
    pub(super) fn query(&self, row: usize) -> u32 {
        mix(row as u32 ^ self.query_salt)
    }

    /// The share of a key in its draws.
    #[inline(always)]
    pub(super) fn key(&self, key: usize) -> u32 {
        mix(key as u32 ^ self.key_salt)
    }

    /// What a weight is multiplied by: 0, or the inverse of the kept share.
    #[inline(always)]
    pub(super) fn kept(&self, query: u32, key: u32) -> f32 {
        if mix(query.wrapping_add(key)) < self.limit {
            0.0
        } else {
            self.factor
        }
    }
}

/// The factors of [`mix`], from Wellons' search for the least bias
/// (<https://github.com/skeeto/hash-prospector>).
const MIX: [u32; 2] = [0x7FEB_352D, 0x846C_A68B];

/// A bijection whose every output bit depends on every input bit.
#[inline(always)]
fn mix(mut x: u32) -> u32 {
    x = (x ^ x >> 16).wrapping_mul(MIX[0]);
    x = (x ^ x >> 15).wrapping_mul(MIX[1]);
    x ^ x >> 16
}

/// [`mix`] of each number, of type `u32`.
#[cfg(feature = "cube")]
fn mix_all<B: Backend>(x: IntTensor<B>) -> IntTensor<B> {
    let folded = |x: IntTensor<B>, bits: u32| {
        let shifted = B::bitwise_right_shift_scalar(x.clone(), bits.into());
        B::bitwise_xor(x, shifted)
    };
    let x = B::int_mul_scalar(folded(x, 16), MIX[0].into());
    let x = B::int_mul_scalar(folded(x, 15), MIX[1].into());
    folded(x, 16)
}

/// The output function of `SplitMix64` (Steele et al., OOPSLA 2014).
fn scramble(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ x >> 31
}
