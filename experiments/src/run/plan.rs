//! What a run would do.

use serde::Serialize;

use super::{jobs, nodes::Node};
use crate::{
    error::Error,
    graph::{Key, Leases, failure},
    recipe::ModelPlan,
};

/// A stage of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Planned {
    /// The key.
    pub key: Key,
    /// What it does, for people.
    pub title: String,
    /// How far it is.
    pub state: State,
    /// The keys of the stages that it reads.
    pub inputs: Vec<Key>,
}

/// How far a stage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its result is in the store.
    Done,
    /// A process is at work on it.
    InWork,
    /// It failed and is not tried again.
    Failed,
    /// It is yet to be done.
    ToDo,
}

/// The stages with their states.
///
/// # Errors
///
/// If the store cannot be read.
pub(super) fn planned(
    nodes: Vec<Node>,
    plan: &[ModelPlan],
    leases: &Leases,
) -> Result<Vec<Planned>, Error> {
    let nodes = nodes.into_iter().map(|node| {
        Ok(Planned {
            title: jobs::title(plan, node.seed, node.job),
            state: state(&node.key, leases)?,
            inputs: node.document.inputs.into_values().collect(),
            key: node.key,
        })
    });
    nodes.collect()
}

fn state(key: &Key, leases: &Leases) -> Result<State, Error> {
    let store = leases.store();
    if store.is_done(key)? {
        return Ok(State::Done);
    }
    let record = failure::read(store, key)?;
    if record.is_some_and(|record| record.is_failed()) {
        return Ok(State::Failed);
    }
    let is_held = leases.is_held(key.as_str())?;
    Ok(if is_held { State::InWork } else { State::ToDo })
}
