//! The distance between relations of tokens, of which attention is one.

use burn::{
    prelude::*,
    tensor::{FloatDType, activation::log_softmax},
};

use super::pairs::Pairs;

/// The score of a pair that is not seen: its probability is zero in float32, and its logarithm is finite.
const UNSEEN: f64 = -1e4;

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
