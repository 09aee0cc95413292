//! The stages of a plan by what they do, as a table shows them.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use serde::Serialize;

use super::{Basis, Planned, State};

/// Stages that do the same for several seeds or arms.
#[derive(Clone, Debug, Serialize)]
pub struct PlanRow {
    /// What they do: the stage of the recipe that they train, or their kind.
    pub stage: String,
    /// How many there are.
    pub all: usize,
    /// Those with a result in the store.
    pub done: usize,
    /// Those that a process is at work on.
    pub in_work: usize,
    /// Those that failed and are not tried again.
    pub failed: usize,
    /// Those that are yet to be done.
    pub to_do: usize,
    /// The fewest and most seconds that one of those that are not done takes; none if all are done or nothing is known.
    pub seconds: Option<[f64; 2]>,
    /// How many of those that are not done have no estimate.
    pub unknown: usize,
    /// What the estimates are made of.
    pub basis: BTreeSet<Basis>,
    /// The largest peak memory that is known, in bytes.
    pub memory: Option<u64>,
    /// The fewest and most arms that share one of them; none if no arm needs them.
    pub arms: Option<[usize; 2]>,
    /// Whether they run alone on their machine.
    pub alone: bool,
}

/// The kinds that come last, in this order.
const LAST: [&str; 2] = ["evaluate", "measure"];

/// The rows in the order in which their stages begin.
pub(super) fn rows(stages: &[Planned]) -> Vec<PlanRow> {
    let mut order: Vec<(&str, &str)> = vec![];
    let mut groups: BTreeMap<(&str, &str), Vec<&Planned>> = BTreeMap::new();
    for stage in stages {
        let key = (stage.key.kind(), stage.stage.as_str());
        let group = groups.entry(key).or_default();
        if group.is_empty() {
            order.push(key);
        }
        group.push(stage);
    }
    order.sort_by_key(|(kind, _)| {
        LAST.iter()
            .position(|last| last == kind)
            .map_or(0, |at| at + 1)
    });
    let rows = order.iter().map(|key| row(key.1, &groups[key]));
    rows.collect()
}

fn row(stage: &str, stages: &[&Planned]) -> PlanRow {
    let count = |state| stages.iter().filter(|stage| stage.state == state).count();
    let open = || stages.iter().filter(|stage| stage.state != State::Done);
    let estimates = || open().filter_map(|stage| stage.estimate);
    let arms = stages
        .iter()
        .map(|stage| stage.arms)
        .filter(|arms| *arms > 0);
    let memory = stages.iter().filter_map(|stage| stage.memory);
    PlanRow {
        stage: stage.to_owned(),
        all: stages.len(),
        done: count(State::Done),
        in_work: count(State::InWork),
        failed: count(State::Failed),
        to_do: count(State::ToDo),
        seconds: range(estimates().map(|estimate| estimate.seconds), f64::total_cmp)
            .map(RangeInclusive::into_inner)
            .map(Into::into),
        unknown: open().filter(|stage| stage.estimate.is_none()).count(),
        basis: estimates().map(|estimate| estimate.basis).collect(),
        memory: memory
            .chain(estimates().filter_map(|estimate| estimate.memory))
            .max(),
        arms: range(arms, usize::cmp)
            .map(RangeInclusive::into_inner)
            .map(Into::into),
        alone: stages
            .iter()
            .any(|stage| stage.key.kind() == super::MEASURE),
    }
}

/// The least and the greatest.
fn range<T: Copy>(
    values: impl Iterator<Item = T>,
    order: impl Fn(&T, &T) -> std::cmp::Ordering,
) -> Option<RangeInclusive<T>> {
    values.fold(None, |range, value| {
        let (low, high) = range.map_or((value, value), RangeInclusive::into_inner);
        let low = if order(&value, &low).is_lt() {
            value
        } else {
            low
        };
        let high = if order(&value, &high).is_gt() {
            value
        } else {
            high
        };
        Some(low..=high)
    })
}
