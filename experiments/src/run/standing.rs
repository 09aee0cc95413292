//! How far the stages of a run are.

use std::{cell::RefCell, collections::BTreeMap};

use super::{Part, family::Family, jobs::title, nodes::Node};
use crate::{
    error::Error,
    graph::{Key, Store, failure},
    results::{SeedFailure, Status},
};

/// The stages of a run, each with how far it is.
pub(super) struct Standing<'a> {
    store: &'a Store,
    nodes: BTreeMap<&'a Key, (&'a Node, String)>,
    known: RefCell<BTreeMap<Key, Stand>>,
}

/// How far a stage is, and what failed of what it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stand {
    pub status: Status,
    pub failure: Option<SeedFailure>,
}

impl Stand {
    const DONE: Self = Self {
        status: Status::Done,
        failure: None,
    };
}

impl<'a> Standing<'a> {
    /// The stages of all parts.
    pub fn new<F: Family>(parts: &'a [Part<'_, F>], store: &'a Store) -> Self {
        let nodes = parts.iter().flat_map(|part| {
            let nodes = part.nodes.all.iter();
            nodes.map(|node| {
                let title = title(part.run.plan, node.seed, node.job);
                (&node.key, (node, title))
            })
        });
        Self {
            store,
            nodes: nodes.collect(),
            known: RefCell::default(),
        }
    }

    /// The stages with what they do, in the order of their keys.
    pub fn stages(&self) -> impl Iterator<Item = (&'a Node, &str)> {
        self.nodes
            .values()
            .map(|(node, title)| (*node, title.as_str()))
    }

    /// How far a model is whose stages these are.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn of_all<'k>(&self, keys: impl IntoIterator<Item = &'k Key>) -> Result<Stand, Error> {
        let mut found = Stand::DONE;
        for key in keys {
            let stand = self.of(key)?;
            if rank(stand.status) > rank(found.status) {
                found = stand;
            }
        }
        Ok(found)
    }

    /// How far a stage is.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn of(&self, key: &Key) -> Result<Stand, Error> {
        let known = self.known.borrow().get(key).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let stand = self.look(key)?;
        self.known.borrow_mut().insert(key.clone(), stand.clone());
        Ok(stand)
    }

    fn look(&self, key: &Key) -> Result<Stand, Error> {
        if self.store.is_done(key)? {
            return Ok(Stand::DONE);
        }
        let Some((node, title)) = self.nodes.get(key) else {
            return Ok(Stand {
                status: Status::Open,
                failure: None,
            });
        };
        let record = failure::read(self.store, key)?.filter(failure::Record::is_failed);
        if let Some(attempt) = record.and_then(|mut record| record.attempts.pop()) {
            return Ok(Stand {
                status: Status::Failed,
                failure: Some(SeedFailure {
                    stage: key.clone(),
                    title: title.clone(),
                    cause: attempt.cause,
                    message: attempt.message,
                    log: attempt.log,
                }),
            });
        }
        let inputs = self.of_all(node.document.inputs.values())?;
        Ok(Stand {
            status: match inputs.status {
                Status::Failed | Status::Blocked => Status::Blocked,
                Status::Done | Status::Open => Status::Open,
            },
            failure: inputs.failure,
        })
    }
}

/// What says more of a model has a higher rank.
fn rank(status: Status) -> u8 {
    match status {
        Status::Done => 0,
        Status::Open => 1,
        Status::Blocked => 2,
        Status::Failed => 3,
    }
}
