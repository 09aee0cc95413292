//! The best epoch of a stage, for those that keep its model and not the last one.

use burn::train::metric::{
    MetricName,
    store::{Aggregate, Direction, EventStoreClient, Split},
};
use serde::{Deserialize, Serialize};

/// What makes an epoch the best.
#[derive(Clone)]
pub(crate) struct Judge {
    /// A metric of the validation.
    pub metric: MetricName,
    /// Which of its values is better.
    pub better: Direction,
}

/// The best epoch so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Best {
    /// The epoch, from 1.
    pub epoch: usize,
    /// Its value of the metric, which is finite.
    pub value: f64,
}

impl Judge {
    /// The best epoch up to this one. Of equal ones the earlier stays, and an epoch whose value is not
    /// finite is never the best.
    pub fn best(
        &self,
        before: Option<Best>,
        epoch: usize,
        store: &EventStoreClient,
    ) -> Option<Best> {
        let value = store.find_metric(&self.metric, epoch, Aggregate::Mean, &Split::Valid);
        self.better_of(
            before,
            Best {
                epoch,
                value: value.unwrap_or(f64::NAN),
            },
        )
    }

    fn better_of(&self, before: Option<Best>, now: Best) -> Option<Best> {
        if !now.value.is_finite() {
            return before;
        }
        match before {
            Some(before) if !self.prefers(now.value, before.value) => Some(before),
            _ => Some(now),
        }
    }

    fn prefers(&self, value: f64, other: f64) -> bool {
        match self.better {
            Direction::Highest => value > other,
            Direction::Lowest => value < other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn of_equal_epochs_the_earlier_stays_and_what_is_not_finite_is_never_best() {
        let best = |better, values: &[f64]| {
            let judge = Judge {
                metric: Arc::new("Loss".to_owned()),
                better,
            };
            let epochs = values.iter().zip(1..);
            epochs.fold(None, |best, (&value, epoch)| {
                judge.better_of(best, Best { epoch, value })
            })
        };
        let epoch = |better, values: &[f64]| best(better, values).map(|best| best.epoch);
        assert_eq!(epoch(Direction::Lowest, &[3.0, 1.0, 1.0, 2.0]), Some(2));
        assert_eq!(epoch(Direction::Highest, &[3.0, 1.0, 3.0]), Some(1));
        assert_eq!(
            epoch(Direction::Highest, &[f64::NAN, 0.0, f64::INFINITY]),
            Some(2)
        );
        assert_eq!(
            best(Direction::Lowest, &[f64::NAN, f64::NEG_INFINITY]),
            None
        );
    }
}
