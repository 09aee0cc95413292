//! How many arms have a stage.

use std::collections::{HashMap, HashSet};

use crate::{
    graph::Key,
    run::nodes::{ModelKeys, Nodes},
};

/// The number of arms that need each stage, itself or for one that it reads. `arms` are the models of arms in the plan of
/// each base. Stages of no arm, as measurements of all, have no entry.
pub(super) fn arms_of<'a>(bases: &[&'a Nodes], arms: &[Vec<usize>]) -> HashMap<&'a Key, usize> {
    let nodes = bases.iter().flat_map(|base| &base.all);
    let inputs: HashMap<&Key, Vec<&Key>> = nodes
        .map(|node| (&node.key, node.document.inputs.values().collect()))
        .collect();
    let mut counts: HashMap<&Key, usize> = HashMap::new();
    for (base, arms) in bases.iter().zip(arms) {
        for arm in arms {
            let mut seen: HashSet<&Key> = HashSet::new();
            for seed in &base.seeds {
                let own = seed.models.get(*arm).into_iter();
                let mut open: Vec<&Key> = own
                    .flat_map(ModelKeys::stages)
                    .map(|(_, key)| key)
                    .collect();
                while let Some(key) = open.pop() {
                    if seen.insert(key) {
                        open.extend(inputs.get(key).into_iter().flatten());
                    }
                }
            }
            for key in seen {
                *counts.entry(key).or_default() += 1;
            }
        }
    }
    counts
}
