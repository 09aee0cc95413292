//! Which attention weights dropout keeps.

use super::WeightDropout;

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

/// A bijection whose every output bit depends on every input bit (the constants are those of
/// Wellons' search for the least bias, <https://github.com/skeeto/hash-prospector>).
#[inline(always)]
fn mix(mut x: u32) -> u32 {
    x = (x ^ x >> 16).wrapping_mul(0x7FEB_352D);
    x = (x ^ x >> 15).wrapping_mul(0x846C_A68B);
    x ^ x >> 16
}

/// The output function of `SplitMix64` (Steele et al., OOPSLA 2014).
fn scramble(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ x >> 31
}
