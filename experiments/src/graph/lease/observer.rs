//! The leases of a store as one who watches sees them, and takes none.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use moebert_core::file::FileError;

use super::{Clock, Monotonic, Timing, line::Line, path, read, split};
use crate::graph::{store::Store, walk};

/// A lease that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its fencing number.
    pub number: u64,
    /// The host of its owner.
    pub host: String,
    /// The process number of its owner there.
    pub pid: u32,
    /// Whether its owner is alive.
    pub life: Life,
}

/// Whether the owner of a lease is alive, as far as an observer can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Its process is running on this machine, or its heartbeat was seen to advance.
    Alive,
    /// It is on another machine, and has not been watched for long enough to see its heartbeat.
    Unknown,
    /// Its process has ended, or its heartbeat stood still until the lease expired.
    Dead,
}

/// An observer of the leases of a store. It writes nothing, and needs to live for as long as it watches: whether an owner on
/// another machine is alive follows from what was read before.
pub struct Observer {
    folder: PathBuf,
    timing: Timing,
    clock: Arc<dyn Clock>,
    /// By name, the highest lease.
    seen: HashMap<String, Seen>,
}

struct Seen {
    number: u64,
    /// What was read last; none once nothing more can be learnt from the file.
    line: Option<Vec<u8>>,
    since: Duration,
    /// Whether the heartbeat was seen to advance.
    is_beating: bool,
    held: Option<Held>,
}

impl Observer {
    /// An observer with default times and the system's clock.
    pub fn new(store: &Store) -> Self {
        Self::with(store, Timing::default(), Arc::new(Monotonic::default()))
    }

    /// An observer with given times and clock.
    pub fn with(store: &Store, timing: Timing, clock: Arc<dyn Clock>) -> Self {
        Self {
            folder: store.lease(),
            timing,
            clock,
            seen: HashMap::new(),
        }
    }

    /// The leases that are held, of names that are wanted. This lists one folder, and reads the leases that can have changed.
    ///
    /// # Errors
    ///
    /// If leases cannot be read.
    pub fn look(
        &mut self,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<BTreeMap<String, Held>, FileError> {
        let names = walk::names(&self.folder)?;
        let mut highest: BTreeMap<&str, u64> = BTreeMap::new();
        for (name, number) in names.iter().filter_map(|entry| split(entry)) {
            if is_wanted(name) {
                let known = highest.entry(name).or_default();
                *known = number.max(*known);
            }
        }
        self.seen
            .retain(|name, seen| highest.get(name.as_str()) == Some(&seen.number));
        let now = self.clock.now();
        let mut held = BTreeMap::new();
        for (name, number) in highest {
            let seen = self.seen.entry(name.to_owned()).or_insert_with(|| Seen {
                number,
                line: Some(vec![]),
                since: now,
                is_beating: false,
                held: None,
            });
            if seen.line.is_some() {
                // An owner that publishes removes its lease.
                let line = read(&path(&self.folder, name, number))?;
                seen.update(line, now, self.timing.expiry);
            }
            held.extend(seen.held.clone().map(|held| (name.to_owned(), held)));
        }
        Ok(held)
    }
}

impl Seen {
    /// Takes in what the file holds now.
    fn update(&mut self, line: Option<Vec<u8>>, now: Duration, expiry: Duration) {
        let Some(line) = line else {
            (self.line, self.held) = (None, None);
            return;
        };
        if self.line.as_ref() != Some(&line) {
            self.is_beating = self.held.is_some();
            self.since = now;
        }
        // Without hard links, a crash can leave a lease without a line.
        let parsed = Line::parse(&line).filter(|line| !line.released);
        let Some(Line { owner, .. }) = parsed else {
            self.line = Some(line).filter(|line| Line::parse(line).is_none());
            self.held = None;
            return;
        };
        let is_running = owner.process.is_running();
        let life = match is_running {
            Some(false) => Life::Dead,
            _ if now.saturating_sub(self.since) >= expiry => Life::Dead,
            Some(true) => Life::Alive,
            None if self.is_beating => Life::Alive,
            None => Life::Unknown,
        };
        // A process that has ended does not come back.
        self.line = Some(line).filter(|_| is_running != Some(false));
        self.held = Some(Held {
            number: self.number,
            host: owner.process.host,
            pid: owner.process.pid,
            life,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::graph::{
        owner::Owner,
        testing::{Manual, document, ours, store, timing, worker},
    };

    fn observer(store: &Store) -> (Observer, Arc<Manual>) {
        let clock = Arc::new(Manual::default());
        (Observer::with(store, timing(), clock.clone()), clock)
    }

    fn life(observer: &mut Observer) -> Option<Life> {
        let held = observer.look(|_| true).unwrap();
        held.into_values().next().map(|held| held.life)
    }

    #[test]
    fn an_owner_on_this_machine_is_alive_until_it_releases() {
        let (_folder, store) = store();
        let key = document(1).key().unwrap();
        let (mut observer, _) = observer(&store);
        assert_eq!(life(&mut observer), None);
        let (leases, _) = worker(&store);
        let work = ours(&leases, &key);
        let held = observer.look(|name| name == key.as_str()).unwrap();
        let held = &held[key.as_str()];
        assert_eq!((held.number, held.pid), (1, std::process::id()));
        assert_eq!(held.life, Life::Alive);
        assert!(observer.look(|_| false).unwrap().is_empty());
        work.release().unwrap();
        assert_eq!(life(&mut observer), None);
        let _again = ours(&leases, &key);
        assert_eq!(observer.look(|_| true).unwrap()[key.as_str()].number, 2);
    }

    #[test]
    fn an_owner_elsewhere_is_known_by_its_heartbeat() {
        let (_folder, store) = store();
        let mut line = Line::first(Owner::new());
        line.owner.process.host = "node2".to_owned();
        line.owner.process.boot = "another-boot".to_owned();
        let key = document(1).key().unwrap();
        let file = store.lease().join(format!("{key}.3"));
        fs::create_dir_all(store.lease()).unwrap();
        let beat = |line: &mut Line| {
            line.counter += 1;
            fs::write(&file, line.to_bytes()).unwrap();
        };
        beat(&mut line);
        let (mut observer, clock) = observer(&store);
        assert_eq!(life(&mut observer), Some(Life::Unknown));
        clock.advance(50);
        assert_eq!(life(&mut observer), Some(Life::Unknown));
        beat(&mut line);
        assert_eq!(life(&mut observer), Some(Life::Alive));
        clock.advance(99);
        assert_eq!(life(&mut observer), Some(Life::Alive));
        clock.advance(1);
        assert_eq!(life(&mut observer), Some(Life::Dead));
        // It was stalled.
        beat(&mut line);
        assert_eq!(life(&mut observer), Some(Life::Alive));
        fs::write(&file, "").unwrap();
        assert_eq!(life(&mut observer), None);
    }
}
