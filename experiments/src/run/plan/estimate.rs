//! How long a stage will take, and what it will need.

use std::collections::HashMap;

use serde::Serialize;

use super::{
    history::{Group, History},
    signature::Signature,
    work::Work,
};

/// What an estimate is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// Stages that differ by their seed alone were timed on this machine.
    Timed,
    /// Another stage of the kind was timed on this machine; its time is scaled by the work.
    Scaled,
}

/// What a stage will take. Sizes are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Seconds.
    pub seconds: f64,
    /// What it is made of.
    pub basis: Basis,
    /// The peak memory.
    pub memory: Option<u64>,
    /// The files that it leaves.
    pub disk: u64,
}

/// Estimates from a history, each made once.
pub(super) struct Estimates<'a> {
    history: &'a History,
    known: HashMap<Signature, Option<Estimate>>,
}

impl<'a> Estimates<'a> {
    pub fn new(history: &'a History) -> Self {
        Self {
            history,
            known: HashMap::new(),
        }
    }

    /// The estimate for a stage: the median of its group, or else that of the group with the nearest work, scaled; none if
    /// nothing like it was done on this machine.
    pub fn of(&mut self, signature: Signature, kind: &str, work: Option<Work>) -> Option<Estimate> {
        let history = self.history;
        *self.known.entry(signature).or_insert_with(|| {
            if let Some(group) = history.get(signature) {
                return Some(scaled(group, 1.0, Basis::Timed));
            }
            let work = work?;
            let (group, ratio) = nearest(history, kind, work)?;
            Some(scaled(group, ratio, Basis::Scaled))
        })
    }
}

fn scaled(group: &Group, ratio: f64, basis: Basis) -> Estimate {
    Estimate {
        seconds: group.seconds() * ratio,
        basis,
        memory: group.memory,
        disk: group.bytes(),
    }
}

/// The group of a kind with the nearest work, and how many times that the work is. Groups that read their data in the same
/// way come first.
fn nearest<'a>(history: &'a History, kind: &str, work: Work) -> Option<(&'a Group, f64)> {
    let among = |in_scope: bool| {
        let groups = history.of_kind(kind).filter_map(|group| {
            let other = group.work(!in_scope)?;
            let ratio = work.ratio(&other)?;
            (work.has_scope_of(&other) || !in_scope).then_some((group, ratio))
        });
        // Of equal distances, the order of a map must not decide.
        let distance = |(group, ratio): &(&Group, f64)| (ratio.ln().abs(), group.seconds());
        groups.min_by(|one, other| {
            let ((a, b), (c, d)) = (distance(one), distance(other));
            a.total_cmp(&c).then(b.total_cmp(&d))
        })
    };
    among(true).or_else(|| among(false))
}
