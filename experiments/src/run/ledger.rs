//! The stages of a run, as its folder and the store know them.

use std::collections::BTreeSet;

use super::{Retry, nodes::Nodes};
use crate::{
    error::Error,
    graph::{Key, Store, failure},
    record::{self, RunFolder},
};

/// The run folder, with the stages that are known so far.
pub(super) struct Ledger<'a> {
    pub folder: RunFolder,
    pub store: &'a Store,
    /// Whether stages follow from results: processes that are ahead know more of them.
    pub grows: bool,
    /// Which stages that failed before are tried again.
    pub retry: Option<&'a Retry>,
    /// The stages that this process knows.
    pub keys: BTreeSet<Key>,
}

impl Ledger<'_> {
    /// Writes down the stages of a phase, so that nothing deletes them.
    ///
    /// # Errors
    ///
    /// If the folder or the store cannot be written.
    pub fn add(&mut self, nodes: &[Nodes]) -> Result<(), Error> {
        let nodes = nodes.iter().flat_map(|nodes| &nodes.all);
        let mut keys: Vec<Key> = nodes.map(|node| node.key.clone()).collect();
        if self.grows {
            let mut all = self.keys.clone();
            all.extend(keys);
            all.extend(record::stages(self.folder.path())?.into_iter().flatten());
            keys = all.into_iter().collect();
        }
        let fresh = keys.iter().filter(|key| !self.keys.contains(key));
        let fresh: Vec<Key> = fresh.cloned().collect();
        self.keys.extend(fresh.iter().cloned());
        self.folder.write_stages(&keys)?;
        self.store.register(self.folder.path())?;
        for key in &fresh {
            match self.retry {
                Some(Retry::Stage(only)) if only != key => {}
                Some(_) => drop(failure::retry(self.store, key)?),
                None => {}
            }
        }
        Ok(())
    }
}
