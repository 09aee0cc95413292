//! The stages of a worker's share of the arms.

use std::collections::{BTreeMap, BTreeSet};

use super::nodes::{ModelKeys, Nodes};
use crate::{graph::Key, recipe::ModelPlan, submit::Shard};

/// Which stages a worker does that has a share of the arms.
pub(super) struct Share {
    own: BTreeSet<Key>,
    others: BTreeSet<Key>,
}

/// Whose a stage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// The worker does it, and waits until it can.
    Own,
    /// An arm of another share alone needs it.
    Others,
    /// No arm needs it, as the latency of all models: whoever finds it ready does it, and nobody waits.
    Anyone,
}

impl Share {
    /// A share of the arms, which are given by their names in order. `parts` are the models of each base with their stages.
    pub fn new<'a>(
        shard: Shard,
        arms: impl Iterator<Item = &'a str>,
        parts: &[(&[ModelPlan], &Nodes)],
    ) -> Self {
        let nodes = parts.iter().flat_map(|(_, nodes)| &nodes.all);
        let inputs: BTreeMap<&Key, _> = nodes
            .map(|node| (&node.key, node.document.inputs.values()))
            .collect();
        let (mut own, mut others) = (BTreeSet::new(), BTreeSet::new());
        for (index, arm) in arms.enumerate() {
            let needed = if shard.has(index) {
                &mut own
            } else {
                &mut others
            };
            let mut keys: Vec<&Key> = stages(arm, parts).collect();
            while let Some(key) = keys.pop() {
                if needed.insert(key.clone()) {
                    keys.extend(inputs.get(key).cloned().into_iter().flatten());
                }
            }
        }
        Self { own, others }
    }

    /// Whose a stage is.
    pub fn whose(&self, key: &Key) -> Whose {
        if self.own.contains(key) {
            Whose::Own
        } else if self.others.contains(key) {
            Whose::Others
        } else {
            Whose::Anyone
        }
    }
}

/// The stages of an arm with all seeds.
fn stages<'a>(arm: &'a str, parts: &'a [(&[ModelPlan], &Nodes)]) -> impl Iterator<Item = &'a Key> {
    let parts = parts.iter().filter_map(move |(plan, nodes)| {
        let place = plan.iter().position(|plan| plan.name == arm)?;
        Some(nodes.seeds.iter().map(move |keys| &keys.models[place]))
    });
    parts
        .flatten()
        .flat_map(ModelKeys::stages)
        .map(|(_, key)| key)
}
