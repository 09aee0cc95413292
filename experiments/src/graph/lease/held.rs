//! A lease of this process.

use std::{
    fs::File,
    io::{self, ErrorKind, Write},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use moebert_core::file::FileError;

use super::{heartbeat::Heartbeat, highest, line::Line, numbers, path, read};
use crate::graph::{owner::Owner, store::Store, walk};

/// A lease of this process, kept alive by a heartbeat thread.
///
/// If it is dropped without [`release`](Self::release), the heartbeat stops, and other processes wait until the lease
/// expires or this process ends.
#[derive(Debug)]
pub struct Lease {
    held: Arc<Held>,
    id: String,
    /// The host of the previous owner, if that died.
    lost: Option<String>,
    _heartbeat: Heartbeat,
}

#[derive(Debug)]
struct Held {
    store: Store,
    name: String,
    number: u64,
    path: PathBuf,
    line: Mutex<Option<Line>>,
    lost: AtomicBool,
}

impl Lease {
    /// Starts the heartbeat of a new lease.
    pub(super) fn start(
        store: Store,
        name: String,
        number: u64,
        owner: Owner,
        lost: Option<String>,
        interval: Duration,
    ) -> Result<Self, FileError> {
        let path = path(&store.lease(), &name, number);
        let id = owner.id.clone();
        let held = Arc::new(Held {
            store,
            name,
            number,
            path,
            line: Mutex::new(Some(Line::first(owner))),
            lost: AtomicBool::new(false),
        });
        let beating = Arc::clone(&held);
        let mut is_failing = false;
        let beat = move || match beating.beat() {
            Ok(is_ours) => {
                is_failing = false;
                is_ours
            }
            Err(error) => {
                // A file server may recover before another process takes the lease.
                if !is_failing {
                    log::warn!("{error}; another process may take over {}", beating.name);
                }
                is_failing = true;
                true
            }
        };
        match Heartbeat::start(interval, beat) {
            Ok(heartbeat) => Ok(Self {
                held,
                id,
                lost,
                _heartbeat: heartbeat,
            }),
            Err(error) => {
                held.release()?;
                Err(walk::write(&held.path)(error))
            }
        }
    }

    /// The fencing number.
    pub fn number(&self) -> u64 {
        self.held.number
    }

    /// Whether the last heartbeat found that the lease has ended. Then the stage must stop: its result would not be
    /// published. This reads a flag and no file.
    pub fn is_lost(&self) -> bool {
        self.held.lost.load(Ordering::Relaxed)
    }

    /// Whether the lease is still held, as read from the store.
    ///
    /// # Errors
    ///
    /// If leases cannot be read.
    pub fn holds(&self) -> Result<bool, FileError> {
        let line = self.held.line();
        match line.as_ref() {
            Some(line) => self.held.is_ours(line),
            None => Ok(false),
        }
    }

    /// Releases the lease, so that another process can continue at once.
    ///
    /// # Errors
    ///
    /// If it cannot be written; then it expires.
    pub fn release(self) -> Result<(), FileError> {
        self.held.release()
    }

    /// The random id of the claim.
    pub(in crate::graph) fn id(&self) -> &str {
        &self.id
    }

    /// The host of the previous owner, if that died.
    pub(in crate::graph) fn lost_by(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    /// Ends this lease and removes all leases of its name.
    ///
    /// # Errors
    ///
    /// If one cannot be removed.
    pub(in crate::graph) fn remove_all(&self) -> Result<(), FileError> {
        self.held.line().take();
        let folder = self.held.store.lease();
        for number in numbers(&folder, &self.held.name)? {
            walk::remove_file(&path(&folder, &self.held.name, number))?;
        }
        Ok(())
    }

    /// Ends this lease and removes it.
    ///
    /// # Errors
    ///
    /// If it cannot be removed; then it expires.
    pub(in crate::graph) fn remove(&self) -> Result<(), FileError> {
        self.held.line().take();
        walk::remove_file(&self.held.path)
    }

    /// A heartbeat, for tests.
    #[cfg(test)]
    pub(in crate::graph) fn beat(&self) -> Result<bool, FileError> {
        self.held.beat()
    }
}

impl Held {
    /// The line as last written; `None` after the lease has ended.
    fn line(&self) -> MutexGuard<'_, Option<Line>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a heartbeat; false if the lease has ended.
    fn beat(&self) -> Result<bool, FileError> {
        let mut slot = self.line();
        let Some(line) = slot.as_mut() else {
            return Ok(false);
        };
        if self.store.holds(&self.name)? || !self.is_ours(line)? {
            self.lost.store(true, Ordering::Relaxed);
            *slot = None;
            return Ok(false);
        }
        line.counter += 1;
        // If another process has removed the file since, the next heartbeat finds out.
        self.write(line).map(|_| true)
    }

    /// Whether there is no higher lease and this one still has our line.
    fn is_ours(&self, line: &Line) -> Result<bool, FileError> {
        if highest(&self.store.lease(), &self.name)? > self.number {
            return Ok(false);
        }
        self.has(line)
    }

    /// Whether the file of the lease has our line.
    fn has(&self, line: &Line) -> Result<bool, FileError> {
        let found = read(&self.path)?;
        let found = found.as_deref().and_then(Line::parse);
        Ok(found.is_some_and(|found| found.owner.id == line.owner.id))
    }

    fn release(&self) -> Result<(), FileError> {
        let Some(mut line) = self.line().take() else {
            return Ok(());
        };
        if self.has(&line)? {
            line.released = true;
            self.write(&line)?;
        }
        Ok(())
    }

    /// Rewrites the line in place; false if the file is gone.
    fn write(&self, line: &Line) -> Result<bool, FileError> {
        let write = || -> io::Result<()> {
            let mut file = File::options().write(true).open(&self.path)?;
            file.write_all(&line.to_bytes())?;
            file.sync_data()
        };
        match write() {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(walk::write(&self.path)(error)),
        }
    }
}
