//! What the arms of an ablation show against one of them.

mod comparisons;
mod factors;
mod interim;
mod measured;
mod refusal;
#[cfg(test)]
mod testing;

pub use comparisons::{Comparison, Comparisons};
pub use factors::{Effect, FactorWorth};
pub use interim::{Interim, InterimDifference};
pub(super) use measured::Measured;
pub use measured::{direction, mean_of};

use std::collections::BTreeMap;

use super::{arms::Margin, statistics::StatisticsError};
use crate::examples::Examples;

/// Arms that cannot be compared.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum CompareError {
    /// The examples of an arm have no such metric.
    #[error("`{metric}` is no metric that examples have parts of; {hint}")]
    NoMetric {
        /// The metric.
        metric: String,
        /// The nearest one, or what there is.
        hint: String,
    },
    /// One seed was judged on other examples than the others.
    #[error("the seeds of `{0}` were judged on different examples")]
    Seeds(String),
    /// A number that is none, or a level that cannot be.
    #[error(transparent)]
    Statistics(#[from] StatisticsError),
}

/// An arm and, for each seed, the examples that it was judged on, by split.
#[derive(Clone, Debug)]
pub struct JudgedArm {
    /// Its name.
    pub name: String,
    /// By seed, by split.
    pub seeds: BTreeMap<u64, Vec<Examples>>,
    /// The number of seeds with which it failed.
    pub failed: usize,
    /// Whether other seeds than those that are reported decided to leave it out.
    pub is_dropped: bool,
}

impl JudgedArm {
    /// An arm without seeds.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            seeds: BTreeMap::new(),
            failed: 0,
            is_dropped: false,
        }
    }

    /// Whether its examples have parts of a metric.
    pub fn has_metric(&self, metric: &str) -> bool {
        let mut splits = self.seeds.values().flatten();
        splits.any(|split| split.metrics.contains_key(metric))
    }
}

/// What is asked of the comparisons.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The metric that decides.
    pub metric: &'a str,
    /// The difference that does not matter.
    pub margin: Option<Margin>,
    /// The level of tests and intervals.
    pub alpha: f64,
}
