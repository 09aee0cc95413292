//! What an epoch's training metrics sum up to, so that a training can go on in its middle.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

/// The metrics of an epoch up to a batch of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sums {
    /// Optimiser steps taken before the epoch.
    pub(super) start: usize,
    /// Training batches of the epoch.
    pub(super) batches: usize,
    /// Training metrics since their last line.
    pub(super) since_line: BTreeMap<String, Sum>,
    /// Training metrics of the epoch.
    pub(super) of_epoch: BTreeMap<String, Sum>,
}

/// A sum of weighted values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sum {
    value: f64,
    weight: usize,
}

impl Sum {
    fn add(&mut self, value: f64, weight: usize) {
        self.value += value * weight as f64;
        self.weight += weight;
    }

    /// The weighted mean.
    pub fn mean(self) -> f64 {
        self.value / self.weight as f64
    }
}

/// The values of a batch by name, with their weights.
pub(super) type Values = Vec<(String, f64, usize)>;

impl Sums {
    /// Counts a batch.
    pub fn add(&mut self, batch: &Values) {
        self.batches += 1;
        for (name, value, weight) in batch {
            for sums in [&mut self.since_line, &mut self.of_epoch] {
                sums.entry(name.clone()).or_default().add(*value, *weight);
            }
        }
    }
}

/// The sums of the present epoch, for checkpoints; clones share them.
#[derive(Clone, Default)]
pub(crate) struct SharedSums(Arc<Mutex<Recent>>);

/// Sums up to the latest whole group of batches, and the batches after it.
#[derive(Default)]
pub(super) struct Recent {
    pub sums: Sums,
    pub batches: Vec<Values>,
}

impl SharedSums {
    /// The sums of the epoch's first so many batches, no fewer than in the latest whole group.
    pub fn up_to(&self, batch: usize) -> Sums {
        let recent = self.lock();
        let mut sums = recent.sums.clone();
        let more = batch.saturating_sub(sums.batches);
        recent
            .batches
            .iter()
            .take(more)
            .for_each(|batch| sums.add(batch));
        sums
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Recent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
