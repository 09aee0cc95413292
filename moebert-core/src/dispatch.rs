//! Tokens to experts and back.
//!
//! The tokens are sorted by expert, each expert works on one contiguous run of rows, and the results
//! are put back in order: one matrix product an expert, and an expert without tokens costs nothing.

use burn::prelude::*;

/// Which expert each of `N` tokens goes to, ready for grouped work.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// Token positions sorted by expert, and the inverse of that order; `None` where every token goes
    /// to one expert, so that no row has to move.
    orders: Option<(Tensor<1, Int>, Tensor<1, Int>)>,
    /// Tokens of each expert, `E` entries.
    counts: Vec<usize>,
}

impl Assignment {
    /// Sorts `N` tokens by their expert.
    ///
    /// # Panics
    ///
    /// If an entry of `experts` is not below `count`.
    pub fn new(experts: &[usize], count: usize, device: &Device) -> Self {
        let mut counts = vec![0; count];
        for &expert in experts {
            counts[expert] += 1;
        }
        let orders = (!counts.contains(&experts.len())).then(|| {
            let mut next = starts(&counts);
            let mut order = vec![0_i64; experts.len()];
            let mut inverse = vec![0_i64; experts.len()];
            for (token, &expert) in experts.iter().enumerate() {
                let place = next[expert];
                next[expert] += 1;
                order[place] = token as i64;
                inverse[token] = place as i64;
            }
            (
                Tensor::from_data(order.as_slice(), device),
                Tensor::from_data(inverse.as_slice(), device),
            )
        });
        Self { orders, counts }
    }

    /// Applies `expert(e, rows)` to the rows of each expert that has any.
    ///
    /// # Shapes
    ///
    /// - tokens: `[N, D]`
    /// - rows of expert `e`, and what it returns: `[counts[e], D]`
    /// - output: `[N, D]`, in the order of `tokens`
    pub fn apply(
        &self,
        tokens: Tensor<2>,
        expert: impl Fn(usize, Tensor<2>) -> Tensor<2>,
    ) -> Tensor<2> {
        let Some((order, inverse)) = &self.orders else {
            let only = self.counts.iter().position(|&count| count > 0);
            return only.map_or(tokens.clone(), |index| expert(index, tokens));
        };
        let sorted = tokens.select(0, order.clone());
        let outputs = starts(&self.counts)
            .into_iter()
            .zip(&self.counts)
            .enumerate()
            .filter(|(_, (_, count))| **count > 0)
            .map(|(index, (start, count))| {
                expert(index, sorted.clone().slice_dim(0, start..start + count))
            })
            .collect();
        Tensor::cat(outputs, 0).select(0, inverse.clone())
    }
}

/// Where the run of each expert starts.
fn starts(counts: &[usize]) -> Vec<usize> {
    counts
        .iter()
        .scan(0, |sum, count| {
            let start = *sum;
            *sum += count;
            Some(start)
        })
        .collect()
}
