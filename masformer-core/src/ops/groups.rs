//! Rows of a matrix by the group that each belongs to: a stable counting sort.

use std::ops::Range;

use burn::{prelude::*, tensor::IndexingUpdateOp};

/// Which of `P` rows belong to each of `E` groups, each group in rising order.
#[derive(Clone, Debug)]
pub struct Groups {
    order: Order,
    /// Rows of each group, `E` entries.
    counts: Vec<usize>,
}

/// The rows, group after group, `P` of them.
#[derive(Clone, Debug)]
enum Order {
    Host(Vec<i64>, Device),
    Device(Tensor<1, Int>),
}

impl Order {
    fn part(&self, range: Range<usize>) -> Tensor<1, Int> {
        match self {
            Self::Host(rows, device) => Tensor::from_data(&rows[range], device),
            Self::Device(rows) => rows.clone().slice_dim(0, range),
        }
    }
}

impl Groups {
    /// Sorts rows by their group, `ids` `[P]`.
    ///
    /// On a device with memory of its own, the rows are sorted there, and the host waits for the `E` counts
    /// alone.
    ///
    /// # Panics
    ///
    /// If an id is not below `count`, or cannot be read from the device.
    pub fn new(ids: Tensor<1, Int>, count: usize) -> Self {
        if is_on_host(&ids.device()) {
            Self::on_host(&ids, count)
        } else {
            Self::on_device(&ids, count)
        }
    }

    fn on_host(ids: &Tensor<1, Int>, count: usize) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "the memory is the host's, so nothing waits"
        )]
        let groups: Vec<usize> = ids.to_data().iter::<i64>().map(|id| id as usize).collect();
        let mut counts = vec![0; count];
        for &group in &groups {
            counts[group] += 1;
        }
        let mut next: Vec<usize> = starts(&counts).collect();
        let mut order = vec![0_i64; groups.len()];
        for (row, group) in groups.into_iter().enumerate() {
            order[next[group]] = row as i64;
            next[group] += 1;
        }
        let order = Order::Host(order, ids.device());
        Self { order, counts }
    }

    /// The place of a row is the number of rows in the groups before its own, and of those before it in its own.
    fn on_device(ids: &Tensor<1, Int>, count: usize) -> Self {
        let device = ids.device();
        let [rows] = ids.dims();
        let groups = Tensor::<1, Int>::arange(0..count as i64, &device).unsqueeze::<2>();
        let member = ids.clone().unsqueeze_dim::<2>(1).expand([rows, count]);
        let member = member.equal(groups.expand([rows, count])).int();
        let seen = member.clone().cumsum(0);
        let counts = member.clone().sum_dim(0);
        let before = counts.clone().cumsum(1) - counts.clone();
        let places = ((seen - 1 + before) * member)
            .sum_dim(1)
            .squeeze_dim::<1>(1);
        let order = inverse(places);
        #[expect(
            clippy::disallowed_methods,
            reason = "the host makes one product per group, of its size: E numbers per expert layer"
        )]
        let counts = counts.into_data();
        let counts: Vec<usize> = counts.iter::<i64>().map(|count| count as usize).collect();
        assert_eq!(counts.iter().sum::<usize>(), rows, "an id is below {count}");
        let order = Order::Device(order);
        Self { order, counts }
    }

    /// Rows of each group, `E` entries.
    pub fn counts(&self) -> &[usize] {
        &self.counts
    }

    /// The groups that have rows, each with them.
    pub fn filled(&self) -> impl Iterator<Item = (usize, Tensor<1, Int>)> {
        let runs = self.runs();
        runs.map(|(group, run)| (group, self.order.part(run)))
    }

    /// The same on the host; `None` where the rows are on a device with memory of its own.
    #[cfg(feature = "flex")]
    pub(super) fn filled_on_host(&self) -> Option<impl Iterator<Item = (usize, &[i64])>> {
        let Order::Host(rows, _) = &self.order else {
            return None;
        };
        let runs = self.runs();
        Some(runs.map(|(group, run)| (group, &rows[run])))
    }

    /// The groups that have rows, each with the places of its run.
    fn runs(&self) -> impl Iterator<Item = (usize, Range<usize>)> {
        let runs = starts(&self.counts).zip(&self.counts).enumerate();
        let runs = runs.filter(|(_, (_, count))| **count > 0);
        runs.map(|(group, (start, count))| (group, start..start + count))
    }

    /// Applies `work(e, rows)` to the rows of each group that has any: one run of rows a group.
    ///
    /// # Shapes
    ///
    /// - input and output: `[P, D]`
    /// - rows of group `e`, and what `work` returns: `[counts[e], D]`
    pub fn map(&self, input: Tensor<2>, work: impl Fn(usize, Tensor<2>) -> Tensor<2>) -> Tensor<2> {
        let [rows, _] = input.dims();
        if let Some(only) = self.counts.iter().position(|&count| count == rows) {
            return if rows == 0 { input } else { work(only, input) };
        }
        let outputs = self
            .filled()
            .map(|(group, rows)| work(group, input.clone().select(0, rows)));
        let sorted = Tensor::cat(outputs.collect(), 0);
        sorted.select(0, inverse(self.order.part(0..rows)))
    }
}

/// The inverse of a permutation `[P]`.
fn inverse(places: Tensor<1, Int>) -> Tensor<1, Int> {
    let [rows] = places.dims();
    let numbers = Tensor::arange(0..rows as i64, &places.device());
    let none = places.zeros_like();
    none.scatter(0, places, numbers, IndexingUpdateOp::Add)
}

/// Where the run of each group begins.
fn starts(counts: &[usize]) -> impl Iterator<Item = usize> {
    counts.iter().scan(0, |sum, count| {
        let start = *sum;
        *sum += count;
        Some(start)
    })
}

/// Whether a device's memory is the host's, so that nothing is waited for when it is read.
pub fn is_on_host(device: &Device) -> bool {
    use burn::backend::DispatchDevice;
    let device = device.clone().without_autodiff();
    match device.as_dispatch() {
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(_) => true,
        #[cfg(feature = "ndarray")]
        DispatchDevice::NdArray(_) => true,
        #[allow(unreachable_patterns, reason = "there may be no other backend")]
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn both_sorts_are_stable_and_put_back_what_they_take(
            ids in prop::collection::vec(0_usize..4, 1..40),
        ) {
            // Of five groups one at least is empty.
            let device = Device::default();
            let numbers: Vec<i64> = ids.iter().map(|&id| id as i64).collect();
            let tensor = Tensor::<1, Int>::from_data(numbers.as_slice(), &device);
            let mut expected: Vec<usize> = (0..ids.len()).collect();
            expected.sort_by_key(|&row| ids[row]);
            for groups in [Groups::on_host(&tensor, 5), Groups::on_device(&tensor, 5)] {
                let order = groups.order.part(0..ids.len()).into_data();
                let order: Vec<usize> = order.iter::<i64>().map(|row| row as usize).collect();
                prop_assert_eq!(&order, &expected);
                let counts: Vec<usize> =
                    (0..5).map(|group| ids.iter().filter(|&&id| id == group).count()).collect();
                prop_assert_eq!(groups.counts(), counts);
                let rows = tensor.clone().float().unsqueeze_dim::<2>(1);
                let mapped = groups.map(rows.clone(), |group, rows| rows * 10.0 + group as f64);
                mapped.into_data().assert_eq(&(rows * 11.0).into_data(), true);
            }
        }
    }
}
