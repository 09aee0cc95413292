//! A stage from its claim to its result.
//!
//! Two renames keep the store correct. A new owner renames the work folder of the previous one to a name with its own
//! fencing number, and an owner that finishes renames its work folder to that of the stage. An owner that stalled and
//! lost its lease finds its folder gone, so it cannot publish; and a published folder is always whole.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, ErrorKind, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use moebert_core::file;
use serde_json::Value;

use super::{
    digest::Digest,
    done::{self, Done, Written},
    error::StoreError,
    failure::{self, Failure},
    key::{Document, Key},
    lease::{self, Lease, Leases},
    owner,
    store::Store,
    walk,
};

/// The file in a work folder that tells how far its stage is. It is not part of the stage.
pub const PROGRESS: &str = "progress.json";

/// The outcome of a claim.
#[derive(Debug)]
pub enum Claim {
    /// This process now owns the stage.
    Ours(Work),
    /// The stage is done.
    Done,
    /// The stage has failed and is not tried again.
    Failed,
    /// Another process owns the stage.
    Held,
}

/// The outcome of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publication {
    /// The result is in the store.
    Published,
    /// Another process published the stage before. Its result stays, and this one is deleted.
    Repeated {
        /// Whether both results are equal; if not, a warning names the files that differ.
        same: bool,
    },
    /// Another process has taken over the stage; this result is not published.
    Fenced,
}

/// The result of a stage, apart from its files.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What determined the result.
    pub document: Document,
    /// The result, in a form that depends on the kind.
    pub result: Value,
    /// The time it took, over all resumes.
    pub elapsed: Duration,
    /// The peak memory in bytes, if known.
    pub peak_memory: Option<u64>,
    /// The backend that computed it.
    pub backend: String,
    /// Versions, machine and command line.
    pub environment: Value,
}

/// A stage in progress that this process owns.
///
/// It ends with [`publish`](Self::publish), [`fail`](Self::fail) or [`release`](Self::release). If it is dropped
/// without one of them, other processes wait until its lease expires or this process ends.
#[derive(Debug)]
pub struct Work {
    store: Store,
    key: Key,
    lease: Lease,
    folder: PathBuf,
    is_resumed: bool,
}

/// Claims a stage.
///
/// # Errors
///
/// If the store cannot be read or written, or a record of failures is damaged.
pub fn claim(leases: &Leases, key: &Key) -> Result<Claim, StoreError> {
    let store = leases.store();
    if store.is_done(key)? {
        return Ok(Claim::Done);
    }
    if failure::is_failed(store, key)? {
        return Ok(Claim::Failed);
    }
    let Some(free) = leases.look(key.as_str())? else {
        return Ok(Claim::Held);
    };
    match leases.take(key.as_str(), &free)? {
        Some(lease) => settle(store, key, lease),
        None => Ok(Claim::Held),
    }
}

/// The last step of a claim: takes over the work folder of the previous owner, and checks that this one did not finish
/// the stage just before it lost its lease.
fn settle(store: &Store, key: &Key, lease: Lease) -> Result<Claim, StoreError> {
    match prepare(store, key, &lease) {
        Ok(Prepared::Folder { folder, is_resumed }) => Ok(Claim::Ours(Work {
            store: store.clone(),
            key: key.clone(),
            lease,
            folder,
            is_resumed,
        })),
        Ok(Prepared::Done) => {
            lease.remove()?;
            Ok(Claim::Done)
        }
        Ok(Prepared::Failed) => {
            lease.release()?;
            Ok(Claim::Failed)
        }
        Ok(Prepared::Fenced) => Ok(Claim::Held),
        Err(error) => {
            // The first error is the cause; if this fails too, the lease expires.
            let _ = lease.release();
            Err(error)
        }
    }
}

enum Prepared {
    Folder { folder: PathBuf, is_resumed: bool },
    Done,
    Failed,
    Fenced,
}

fn prepare(store: &Store, key: &Key, lease: &Lease) -> Result<Prepared, StoreError> {
    walk::make(&store.work())?;
    // If this process stalled, a later owner may already be at work.
    if !lease.holds()? {
        return Ok(Prepared::Fenced);
    }
    let folder = work_folder(store, key, lease.number());
    let is_resumed = take_over(store, key, lease.number(), &folder)?;
    // From here on, previous owners cannot publish: their folders are gone.
    if store.is_done(key)? {
        walk::remove_folder(&folder)?;
        return Ok(Prepared::Done);
    }
    if failure::is_failed(store, key)? {
        return Ok(Prepared::Failed);
    }
    if let Some(host) = lease.lost_by()
        && failure::add_lost(store, key, host)?
    {
        return Ok(Prepared::Failed);
    }
    if !is_resumed {
        fs::create_dir(&folder).map_err(walk::write(&folder))?;
    }
    Ok(Prepared::Folder { folder, is_resumed })
}

/// Renames the latest work folder of previous owners to `folder`; false if there is none.
fn take_over(store: &Store, key: &Key, number: u64, folder: &Path) -> Result<bool, StoreError> {
    // If someone deleted the leases, numbers are used again.
    if folder.exists() {
        return Ok(true);
    }
    let mut tried = None;
    loop {
        let numbers = lease::numbers(&store.work(), key.as_str())?;
        let before = numbers.into_iter().rfind(|before| *before < number);
        // A network file system may still list a folder that is gone.
        let Some(before) = before.filter(|before| Some(*before) != tried) else {
            return Ok(false);
        };
        match fs::rename(work_folder(store, key, before), folder) {
            Ok(()) => return Ok(true),
            // It was published, or an owner with a number in between has just renamed it.
            Err(error) if error.kind() == ErrorKind::NotFound => tried = Some(before),
            Err(error) => return Err(walk::write(folder)(error).into()),
        }
    }
}

impl Work {
    /// The stage.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The folder for files and checkpoints of the stage. If it is gone, another process has taken over the stage, so it
    /// must not be created again.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether the folder comes from a previous owner and may have checkpoints.
    pub fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// Whether the last heartbeat found that another process has taken over or finished the stage; then this process
    /// must stop. This reads a flag and no file.
    pub fn is_lost(&self) -> bool {
        self.lease.is_lost()
    }

    /// Truncates a log of the previous owner to the `length` in bytes that a checkpoint records. The log is copied to a
    /// new file, because a stalled owner may still have the old one open and append to it.
    ///
    /// # Errors
    ///
    /// If the log is shorter, or cannot be read or written.
    pub fn resume_log(&self, name: &str, length: u64) -> Result<(), StoreError> {
        let path = self.folder.join(name);
        let mut kept = vec![];
        File::open(&path)
            .and_then(|log| log.take(length).read_to_end(&mut kept))
            .map_err(walk::read(&path))?;
        if (kept.len() as u64) < length {
            let problem = format!(
                "it has {} bytes, but the checkpoint records {length}",
                kept.len()
            );
            let error = io::Error::new(ErrorKind::UnexpectedEof, problem);
            return Err(walk::read(&path)(error).into());
        }
        Ok(file::write(&path, &kept)?)
    }

    /// Publishes the folder as the stage, if this process still owns it. All files in the folder become part of the
    /// stage.
    ///
    /// # Errors
    ///
    /// If the result is that of another stage, or a file cannot be read or written. Then nothing is published, and the
    /// caller can still [`fail`](Self::fail) the stage.
    pub fn publish(&self, outcome: Outcome) -> Result<Publication, StoreError> {
        match self.seal(outcome) {
            Ok(done) => self.commit(&done),
            // The files may be missing because another process has taken the folder.
            Err(_) if !self.lease.holds()? => Ok(Publication::Fenced),
            Err(error) => Err(error),
        }
    }

    /// Records a failure and releases the stage; its folder stays. If another process has taken over the stage, this
    /// records nothing and returns false.
    ///
    /// # Errors
    ///
    /// If the record cannot be written.
    pub fn fail(self, failure: Failure) -> Result<bool, StoreError> {
        if !self.lease.holds()? {
            return Ok(false);
        }
        let recorded = failure::add(&self.store, &self.key, failure);
        let released = self.lease.release();
        recorded?;
        released?;
        Ok(true)
    }

    /// Releases the stage with its checkpoints, so that another process can resume it at once.
    ///
    /// # Errors
    ///
    /// If the lease cannot be written; then it expires.
    pub fn release(self) -> Result<(), StoreError> {
        if self.lease.holds()? {
            // A clean stop ends a series of owners that died.
            failure::retry(&self.store, &self.key)?;
        }
        Ok(self.lease.release()?)
    }

    /// A heartbeat, for tests in which the thread has a long interval.
    #[cfg(test)]
    pub(super) fn beat(&self) -> bool {
        self.lease.beat().is_ok_and(|is_ours| is_ours)
    }

    /// Writes the record of the finished stage, after all its files are on the disk.
    fn seal(&self, outcome: Outcome) -> Result<Done, StoreError> {
        let found = outcome.document.key()?;
        if found != self.key {
            let claimed = self.key.clone();
            return Err(StoreError::OtherStage { claimed, found });
        }
        let tree = walk::tree(&self.folder)?;
        let mut files = BTreeMap::new();
        for (name, path) in tree.files {
            // The previous owner may have died between this record and the rename.
            if name == done::FILE {
                continue;
            }
            // It is for watchers, or a previous owner was killed while it wrote this file.
            if name == PROGRESS || name.rsplit('/').next().is_some_and(file::is_temporary) {
                walk::remove_file(&path)?;
                continue;
            }
            walk::sync(&path)?;
            let (length, sha256) = Digest::of_file(&path)?;
            files.insert(name, Written { length, sha256 });
        }
        let done = Done {
            document: outcome.document,
            result: outcome.result,
            files,
            seconds: outcome.elapsed.as_secs_f64(),
            peak_memory: outcome.peak_memory,
            host: owner::host(),
            backend: outcome.backend,
            environment: outcome.environment,
            claim: self.lease.id().to_owned(),
        };
        done.write(&self.folder)?;
        for folder in tree.folders.iter().rev() {
            walk::sync(folder)?;
        }
        Ok(done)
    }

    /// Renames the folder to that of the stage. This fails if the stage exists or the folder was taken over.
    fn commit(&self, done: &Done) -> Result<Publication, StoreError> {
        let stage = self.store.stage(&self.key);
        if !self.store.is_done(&self.key)? {
            if !self.lease.holds()? && !self.store.is_done(&self.key)? {
                // If the folder still exists, the next owner is about to take it over.
                return Ok(Publication::Fenced);
            }
            match fs::rename(&self.folder, &stage) {
                Ok(()) => return Ok(self.conclude(Publication::Published)),
                Err(_) if self.store.is_done(&self.key)? => {}
                Err(_) if !self.folder.exists() => return Ok(Publication::Fenced),
                Err(error) => return Err(walk::write(&stage)(error).into()),
            }
        }
        let other = Done::read(&stage, &self.key)?;
        if other.claim == done.claim {
            // On NFS, the reply to a successful rename can be lost.
            return Ok(self.conclude(Publication::Published));
        }
        let differences = other.differences(done);
        let same = differences.is_empty();
        if !same {
            log::warn!(
                "{} is not reproducible: {} from {} and {} differ; the first result is kept",
                self.key,
                differences.join(", "),
                other.host,
                done.host
            );
        }
        Ok(self.conclude(Publication::Repeated { same }))
    }

    /// Cleans up after a publication. The stage is in the store, so a failure is a warning.
    fn conclude(&self, publication: Publication) -> Publication {
        let tidy = || -> Result<(), StoreError> {
            if publication == Publication::Published {
                walk::sync(self.store.root())?;
                walk::sync(&self.store.work())?;
            }
            failure::retry(&self.store, &self.key)?;
            // An owner that stalled in its claim may have created one, too.
            for number in lease::numbers(&self.store.work(), self.key.as_str())? {
                walk::remove_folder(&work_folder(&self.store, &self.key, number))?;
            }
            Ok(self.lease.remove_all()?)
        };
        if let Err(error) = tidy() {
            log::warn!("{error}; {} is published nevertheless", self.key);
        }
        publication
    }
}

/// The work folder of a stage and a fencing number.
pub fn work_folder(store: &Store, key: &Key, number: u64) -> PathBuf {
    store.work().join(format!("{key}.{number}"))
}

#[cfg(test)]
mod machine;
#[cfg(test)]
mod tests;
