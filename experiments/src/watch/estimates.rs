//! What arms say so far, made again where a seed was added.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::{
    ablate::compare::{Interim, JudgedArm},
    examples::Examples,
    graph::{Key, Store},
    results::{ArmStages, ArmsFile},
};

/// What each arm says so far.
#[derive(Default)]
pub(super) struct Estimates {
    /// The metric; none until examples tell which there are.
    metric: Option<String>,
    /// The place of the arm that others are compared with.
    reference: Option<usize>,
    /// Its examples.
    base: Option<JudgedArm>,
    /// By arm.
    values: BTreeMap<usize, Interim>,
    /// Arms whose values are out of date.
    stale: BTreeSet<usize>,
}

impl Estimates {
    pub fn new(plan: &ArmsFile) -> Self {
        let reference = plan.reference.as_ref();
        let reference =
            reference.and_then(|name| plan.arms.iter().position(|arm| arm.name == *name));
        Self {
            metric: plan.metric.clone(),
            reference,
            ..Self::default()
        }
    }

    /// What an arm says so far.
    pub fn of(&self, arm: usize) -> Option<&Interim> {
        self.values.get(&arm)
    }

    pub fn reference(&self) -> Option<usize> {
        self.reference
    }

    /// What the metric is called.
    pub fn metric(&self) -> Option<&str> {
        let told = self.values.values().next();
        told.map(|value| value.metric.as_str())
            .or(self.metric.as_deref())
    }

    /// Notes that an arm has one more seed.
    pub fn add(&mut self, arm: usize) {
        self.stale.insert(arm);
        if self.reference == Some(arm) {
            self.base = None;
            self.stale.extend(self.values.keys());
        }
    }

    /// Whether values are out of date.
    pub fn is_behind(&self) -> bool {
        !self.stale.is_empty()
    }

    /// Brings values up to date, the reference first, for so long at most. `is_done` tells of the stage of a key.
    pub fn catch_up(
        &mut self,
        plan: &ArmsFile,
        store: &Store,
        budget: Duration,
        is_done: impl Fn(&Key) -> bool,
    ) {
        let begin = Instant::now();
        while !self.stale.is_empty() && begin.elapsed() < budget {
            let first = self.reference.filter(|arm| self.stale.contains(arm));
            let Some(place) = first.or(self.stale.first().copied()) else {
                return;
            };
            self.stale.remove(&place);
            let arm = judged(&plan.arms[place], store, &is_done);
            if self.metric.is_none() {
                let splits = arm.seeds.values().flatten();
                let mut metrics = splits.flat_map(|split| split.metrics.keys());
                self.metric = metrics.next().cloned();
            }
            if self.reference == Some(place) {
                self.base = Some(arm.clone());
            }
            let base = self.base.as_ref().filter(|_| plan.arms[place].is_arm);
            let metric = self.metric.as_deref().unwrap_or_default();
            // Whatever cannot be told now, the results will name.
            match Interim::of(&arm, base, metric, plan.alpha) {
                Ok(value) => drop(self.values.insert(place, value)),
                Err(_) => drop(self.values.remove(&place)),
            }
        }
    }
}

/// The examples of the seeds of an arm that are done. What cannot be read is left out.
fn judged(arm: &ArmStages, store: &Store, is_done: impl Fn(&Key) -> bool) -> JudgedArm {
    let seeds = arm.seeds.iter().filter_map(|seed| {
        let key = seed.stages.get(EVALUATE).filter(|key| is_done(key))?;
        let examples = Examples::read(&store.stage(key)).ok()?;
        Some((seed.seed, examples))
    });
    JudgedArm {
        name: arm.name.clone(),
        seeds: seeds.collect(),
        failed: 0,
        is_dropped: false,
    }
}

/// What the stage that judges a model is in its folder.
pub(super) const EVALUATE: &str = "evaluate";
