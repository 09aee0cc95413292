//! The distance between relations of tokens, of which attention is one.

use burn::{
    prelude::*,
    tensor::{FloatDType, activation::log_softmax},
};
use masformer_core::{Direction, Span};

/// The score of a pair that is not seen: its probability is zero in float32, and its logarithm is finite.
const UNSEEN: f64 = -1e4;

/// The pairs of tokens that a relation is made of.
#[derive(Clone, Debug)]
pub struct Pairs {
    /// `[B or 1, 1, T, T]`, true where a token does not see another.
    unseen: Option<Tensor<4, Bool>>,
    /// `[B, 1, T]`, 1 at real tokens and 0 at padding.
    real: Tensor<3>,
}

impl Pairs {
    /// The pairs that a layer of this span sees in sequences of `length` tokens, and of them those of real tokens.
    ///
    /// # Shapes
    ///
    /// - padding: `[B, T]`, true where a position is padding
    pub fn new(
        (span, direction): (Span, Direction),
        [batch, length]: [usize; 2],
        padding: Option<&Tensor<2, Bool>>,
        device: &Device,
    ) -> Self {
        let outside = (span, direction) != (Span::Full, Direction::Bidirectional);
        let outside = outside.then(|| {
            let queries = 0..length;
            let unseen: Vec<bool> = queries
                .flat_map(|query| (0..length).map(move |key| !span.sees(direction, query, key)))
                .collect();
            let unseen = TensorData::new(unseen, [1, 1, length, length]);
            Tensor::<4, Bool>::from_data(unseen, device)
        });
        let padded = padding.map(|padding| padding.clone().reshape([batch, 1, 1, length]));
        let unseen = match (outside, padded) {
            (Some(outside), Some(padded)) => {
                let all = [batch, 1, length, length];
                Some(outside.expand(all).bool_or(padded.expand(all)))
            }
            (outside, padded) => outside.or(padded),
        };
        let real = match padding {
            Some(padding) => padding.clone().bool_not().float(),
            None => Tensor::ones([batch, length], device),
        };
        Self {
            unseen,
            real: real.reshape([batch, 1, length]),
        }
    }
}

/// `1/B sum_b 1/(A n_b) sum_r sum_i KL(R_t[b,r,i] || R_s[b,r,i])` `[1]` over relation heads `r` and real tokens `i`, where
/// `R = softmax(X Y^T / sqrt(d_r))` over the pairs that are seen (`MiniLMv2`, arXiv 2012.15828; `MiniLM`, arXiv 2002.10957,
/// is the case of as many relation heads as attention heads).
///
/// A sample without real tokens counts as 0. Relations are float32 whatever the inputs are.
///
/// # Shapes
///
/// - student `[X, Y]`: `[B, T, D_s]` each, teacher: `[B, T, D_t]` each; `A` divides all widths
pub fn relation(
    student: [Tensor<3>; 2],
    teacher: [Tensor<3>; 2],
    heads: usize,
    pairs: &Pairs,
) -> Tensor<1> {
    let student = log_relation(student, heads, pairs);
    let teacher = log_relation(teacher, heads, pairs);
    let rows = (teacher.clone().exp() * (teacher - student)).sum_dim(3);
    let rows = rows.squeeze_dim::<3>(3) * pairs.real.clone();
    let real = pairs.real.clone().sum_dim(2).clamp_min(1.0);
    let samples = rows.sum_dim(1).sum_dim(2) / real.mul_scalar(heads as f64);
    samples.mean()
}

/// The logarithm of a relation, `[B, A, T, T]`.
fn log_relation([queries, keys]: [Tensor<3>; 2], heads: usize, pairs: &Pairs) -> Tensor<4> {
    let split = |vectors: Tensor<3>| {
        let [batch, length, width] = vectors.dims();
        let vectors = vectors.cast(FloatDType::F32);
        let vectors = vectors.reshape([batch, length, heads, width / heads]);
        vectors.swap_dims(1, 2)
    };
    let (queries, keys) = (split(queries), split(keys));
    let [batch, _, length, width] = queries.dims();
    let scores = queries
        .matmul(keys.transpose())
        .div_scalar((width as f64).sqrt());
    let scores = match &pairs.unseen {
        Some(unseen) => {
            let unseen = unseen.clone().expand([batch, heads, length, length]);
            scores.mask_fill(unseen, UNSEEN)
        }
        None => scores,
    };
    log_softmax(scores, 3)
}
