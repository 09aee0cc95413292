//! Which pairs of a cache stay.

use std::ops::Range;

use burn::{prelude::*, tensor::IndexingUpdateOp};

use crate::span::Span;

/// The pairs of a cache that stay; the others go for good.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Survivors {
    /// All of them.
    All,
    /// The same places in every sequence: two ranges, one after the other; the first may be empty.
    Ranges([Range<usize>; 2]),
    /// The places `[B, K]` in each sequence, in ascending order.
    Chosen(Tensor<2, Int>),
}

impl Survivors {
    /// Those of `length` pairs that queries after the first `seen` positions may see, in a layer with a span.
    ///
    /// Of a window they are one more than the next query sees, unless positions are places in the cache: a pair
    /// that is not seen would take a place between sinks and window.
    pub(super) fn of_span(span: Span, length: usize, seen: usize, is_placed: bool) -> Self {
        match span {
            Span::Full => Self::All,
            Span::Window { width, sinks } => {
                let width = width.get();
                let newest = if is_placed { (width - 1).max(1) } else { width };
                if length > sinks + newest {
                    Self::Ranges([0..sinks, length - newest..length])
                } else {
                    Self::All
                }
            }
            Span::Block { width } => Self::Ranges([0..0, length - seen % width..length]),
        }
    }
}

/// The places of the pairs with the largest scores, all but `count` of each sequence; of equal ones the older go.
///
/// # Shapes
///
/// - scores: `[B, S]`, `S` above `count`
/// - output: `[B, S - count]`, in ascending order
pub(super) fn without_least(scores: Tensor<2>, count: usize) -> Tensor<2, Int> {
    let [batch, length] = scores.dims();
    let (kept, device) = (length - count, scores.device());
    let bound = match count {
        1 => scores.clone().min_dim(1),
        _ => scores.clone().sort(1).slice_dim(1, count - 1..count),
    };
    let bound = bound.expand([batch, length]);
    let lower = scores.clone().lower(bound.clone());
    let equal = scores.equal(bound);
    // Of those at the bound, the first ones go until there are as many as must.
    let left = lower.clone().int().sum_dim(1).neg() + count as i64;
    let is_first = equal
        .clone()
        .int()
        .cumsum(1)
        .lower_equal(left.expand([batch, length]));
    let goes = lower.bool_or(equal.bool_and(is_first));
    // Each that stays writes its place behind those that stay before it; the others write behind all.
    let slots = goes.clone().bool_not().int().cumsum(1) - 1;
    let slots = slots.mask_fill(goes, kept as i64);
    let places = Tensor::<1, Int>::arange(0..length as i64, &device)
        .unsqueeze::<2>()
        .expand([batch, length]);
    let room = Tensor::<2, Int>::zeros([batch, kept + 1], &device);
    let written = room.scatter(1, slots, places, IndexingUpdateOp::Add);
    written.slice_dim(1, 0..kept)
}

/// Chosen places `[B, K]`, then those of a range, which comes after all of them.
pub(super) fn followed_by(places: Tensor<2, Int>, rest: Range<usize>) -> Tensor<2, Int> {
    if rest.is_empty() {
        // Burn cannot shape a tensor without elements.
        return places;
    }
    let [batch, _] = places.dims();
    let count = rest.len();
    let rest = Tensor::arange(rest.start as i64..rest.end as i64, &places.device());
    let rest = rest.unsqueeze::<2>().expand([batch, count]);
    Tensor::cat(vec![places, rest], 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_least_go_and_of_equals_the_older(
            rows in (2..40_usize).prop_flat_map(|length| {
                prop::collection::vec(prop::collection::vec(0..5_i8, length), 1..4)
            }),
            share in 0.0..1.0_f64,
        ) {
            let length = rows[0].len();
            let count = 1 + ((length - 1) as f64 * share) as usize;
            prop_assume!(count < length);
            let mut expected: Vec<i64> = vec![];
            for row in &rows {
                let mut places: Vec<usize> = (0..length).collect();
                places.sort_by_key(|&place| (row[place], place));
                let mut kept = places.split_off(count);
                kept.sort_unstable();
                expected.extend(kept.into_iter().map(|place| place as i64));
            }
            let scores: Vec<f32> = rows.iter().flatten().map(|&score| score.into()).collect();
            let scores = TensorData::new(scores, [rows.len(), length]);
            let found = without_least(Tensor::from_data(scores, &Device::default()), count);
            prop_assert_eq!(found.dims(), [rows.len(), length - count]);
            let found: Vec<i64> = found.into_data().iter().collect();
            prop_assert_eq!(found, expected);
        }
    }
}
