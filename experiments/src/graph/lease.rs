//! Leases: while heartbeats flow, one process works on a stage, and a process that dies gives it up.
//!
//! The lease `KEY.G` is a file with one line. G is a fencing number: exactly one process can create the file, and a
//! higher number ends the lease of a lower one. The owner rewrites the line with a counter at each heartbeat. An
//! observer that reads the same line for [`Timing::expiry`] of its own monotonic clock treats the owner as dead, so
//! clocks of two machines are never compared. Leases only save work: renames guarantee that a stage is published once
//! (`work.rs`).

mod heartbeat;
mod held;
mod line;
mod observer;

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    fs::{self, File},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

pub use self::{
    held::Lease,
    observer::{Held, Life, Observer},
};
use moebert_core::file::{self, FileError};

use self::line::Line;
use super::{
    owner::{self, Owner},
    store::{ClaimBy, Store},
    walk,
};

/// Begins the names of files that are not leases yet.
const TEMPORARY: &str = ".tmp-";

/// The times of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The interval between two heartbeats.
    pub beat: Duration,
    /// How long an observer must read the same line before it treats the owner as dead. It should be several beats.
    pub expiry: Duration,
}

impl Default for Timing {
    /// A heartbeat every 15 s, and expiry after 120 s.
    fn default() -> Self {
        Self {
            beat: Duration::from_secs(15),
            expiry: Duration::from_mins(2),
        }
    }
}

/// A monotonic clock.
pub trait Clock: Send + Sync {
    /// The time since a fixed moment.
    fn now(&self) -> Duration;
}

/// The monotonic clock of the system.
#[derive(Clone, Copy, Debug)]
pub struct Monotonic(Instant);

impl Default for Monotonic {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for Monotonic {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// The leases of a store as one worker sees them.
///
/// A worker needs one for its whole life, because expiry counts from what it has read before.
pub struct Leases {
    store: Store,
    timing: Timing,
    clock: Arc<dyn Clock>,
    seen: Mutex<HashMap<String, Seen>>,
}

/// The highest lease of a name, as an observer has read it.
struct Seen {
    number: u64,
    line: Vec<u8>,
    since: Duration,
}

/// A name without a live lease.
#[derive(Debug)]
pub(super) struct Free {
    /// The highest fencing number so far; 0 if there is none.
    number: u64,
    /// The host of the last owner, if that died.
    lost: Option<String>,
}

impl fmt::Debug for Leases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leases")
            .field("store", &self.store)
            .field("timing", &self.timing)
            .finish_non_exhaustive()
    }
}

impl Leases {
    /// The leases of a store, with default times and the system's clock.
    pub fn new(store: &Store) -> Self {
        Self::with(store, Timing::default(), Arc::new(Monotonic::default()))
    }

    /// The leases of a store, with given times and clock.
    pub fn with(store: &Store, timing: Timing, clock: Arc<dyn Clock>) -> Self {
        Self {
            store: store.clone(),
            timing,
            clock,
            seen: Mutex::default(),
        }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Claims this machine for a stage that measures times; `None` while another process holds it.
    ///
    /// # Errors
    ///
    /// If leases cannot be read or written.
    pub fn claim_machine(&self) -> Result<Option<Lease>, FileError> {
        let name = format!("measure-{}", owner::host());
        match self.look(&name)? {
            Some(free) => self.take(&name, &free),
            None => Ok(None),
        }
    }

    /// Whether a name has a lease whose owner is not known to be dead. An owner on another machine counts as live when
    /// it is first seen.
    ///
    /// # Errors
    ///
    /// If leases cannot be read.
    pub fn is_held(&self, name: &str) -> Result<bool, FileError> {
        Ok(self.look(name)?.is_none())
    }

    /// The names that have leases, live or not.
    ///
    /// # Errors
    ///
    /// If leases cannot be listed.
    pub fn names(&self) -> Result<BTreeSet<String>, FileError> {
        let entries = walk::names(&self.store.lease())?;
        let names = entries.iter().filter_map(|entry| split(entry));
        Ok(names.map(|(name, _)| name.to_owned()).collect())
    }

    /// The first step of a claim: checks that a name is free; `None` if it is held.
    ///
    /// # Errors
    ///
    /// If leases cannot be read.
    pub(super) fn look(&self, name: &str) -> Result<Option<Free>, FileError> {
        let folder = self.store.lease();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let number = highest(&folder, name)?;
        // An owner that publishes removes its lease, so the file may be gone.
        let line = match number {
            0 => None,
            _ => read(&path(&folder, name, number))?,
        };
        let Some(line) = line else {
            seen.remove(name);
            return Ok(Some(Free { number, lost: None }));
        };
        let parsed = Line::parse(&line);
        if parsed.as_ref().is_some_and(|line| line.released) {
            seen.remove(name);
            return Ok(Some(Free { number, lost: None }));
        }
        let now = self.clock.now();
        let same = seen
            .get(name)
            .filter(|seen| seen.number == number && seen.line == line);
        let since = same.map_or(now, |seen| seen.since);
        let is_dead = now.saturating_sub(since) >= self.timing.expiry
            || parsed
                .as_ref()
                .is_some_and(|line| line.owner.process.is_gone());
        if is_dead {
            // Without hard links, a crash can leave a lease without a line.
            let host = parsed.map_or_else(|| "unknown".to_owned(), |line| line.owner.process.host);
            let lost = Some(host);
            return Ok(Some(Free { number, lost }));
        }
        let entry = Seen {
            number,
            line,
            since,
        };
        seen.insert(name.to_owned(), entry);
        Ok(None)
    }

    /// The second step of a claim: creates the next lease of a free name; `None` if another process did.
    ///
    /// # Errors
    ///
    /// If the lease cannot be written; then it does not exist.
    pub(super) fn take(&self, name: &str, free: &Free) -> Result<Option<Lease>, FileError> {
        let folder = self.store.lease();
        walk::make(&folder)?;
        let number = free.number + 1;
        let path = path(&folder, name, number);
        let owner = Owner::new();
        let line = Line::first(owner.clone());
        let is_ours = match self.store.claim() {
            ClaimBy::Link => link(&folder, &path, &line),
            ClaimBy::Create => create(&path, &line),
        };
        if !is_ours.map_err(walk::write(&path))? {
            return Ok(None);
        }
        let lease = Lease::start(
            self.store.clone(),
            name.to_owned(),
            number,
            owner,
            free.lost.clone(),
            self.timing.beat,
        )?;
        Ok(Some(lease))
    }
}

/// Links a complete file to the name of a lease. This fails if the name exists, so exactly one process succeeds.
fn link(folder: &Path, path: &Path, line: &Line) -> io::Result<bool> {
    let temporary = folder.join(format!("{TEMPORARY}{}", line.owner.id));
    let linked = write_new(&temporary, line).and_then(|()| fs::hard_link(&temporary, path));
    // If it stays, it is ignored: it does not have the name of a lease.
    let _ = fs::remove_file(&temporary);
    match linked {
        Ok(()) => Ok(true),
        Err(error) => {
            // On NFS, the reply to a successful request can be lost; the client repeats it and is told that the file
            // exists.
            let there = fs::read(path).ok();
            let found = there.as_deref().and_then(Line::parse);
            if found.is_some_and(|found| found.owner.id == line.owner.id) {
                Ok(true)
            } else if error.kind() == ErrorKind::AlreadyExists {
                Ok(false)
            } else {
                Err(error)
            }
        }
    }
}

/// Creates a lease under its name, for file systems without hard links. A crash before the write leaves an empty
/// file, which expires like any other.
fn create(path: &Path, line: &Line) -> io::Result<bool> {
    let mut file = match File::create_new(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(error),
    };
    let written = file
        .write_all(&line.to_bytes())
        .and_then(|()| file.sync_all());
    if let Err(error) = written {
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(true)
}

fn write_new(path: &Path, line: &Line) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(&line.to_bytes())?;
    file.sync_all()
}

/// The file of a lease.
fn path(folder: &Path, name: &str, number: u64) -> PathBuf {
    folder.join(format!("{name}.{number}"))
}

/// The content of a lease; `None` if it does not exist. NFS guarantees that a reader sees what another machine wrote
/// only if it opens the file afterwards, so the file is opened each time.
fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    file::read_if_there(path)
}

/// The highest fencing number of a name; 0 if there is none.
///
/// # Errors
///
/// If the folder cannot be read.
fn highest(folder: &Path, name: &str) -> Result<u64, FileError> {
    Ok(numbers(folder, name)?.last().copied().unwrap_or(0))
}

/// The sorted fencing numbers of a name in a folder.
///
/// # Errors
///
/// If the folder exists and cannot be read.
pub(super) fn numbers(folder: &Path, name: &str) -> Result<Vec<u64>, FileError> {
    let names = walk::names(folder)?;
    let mut numbers: Vec<_> = names
        .iter()
        .filter_map(|entry| split(entry))
        .filter(|(entry, _)| *entry == name)
        .map(|(_, number)| number)
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The name and the fencing number of a file or folder `NAME.G`.
pub(super) fn split(entry: &str) -> Option<(&str, u64)> {
    let (name, number) = entry.rsplit_once('.')?;
    let parsed = number.parse().ok()?;
    (!name.is_empty() && format!("{parsed}") == number).then_some((name, parsed))
}

#[cfg(test)]
mod tests;
