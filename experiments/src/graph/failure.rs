//! Records of failed stages, which are not tried again until the user asks for it.

use std::{collections::BTreeMap, fmt, fs, io::ErrorKind, path::PathBuf, time::Duration};

use moebert_core::file::{self, FileError};
use serde::{Deserialize, Serialize};

use super::{error::StoreError, key::Key, lease, owner, stamp::Stamp, store::Store, walk};
use crate::unix_time::now;

/// This many owners that died in a row count as a failure.
const LOST: usize = 3;
/// The number of lines of the log in a record.
pub const LINES: usize = 20;
/// The folder for records of stages that are to be tried again.
const OLD: &str = "old";

/// Why a stage failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// A loss or weight is NaN or infinite.
    #[serde(rename = "not finite")]
    NotFinite,
    /// The stage panicked.
    Panic,
    /// The system ended the process because memory ran out.
    #[serde(rename = "out of memory")]
    OutOfMemory,
    /// The stage cannot use its settings or files.
    #[serde(rename = "bad input")]
    BadInput,
    /// A disk is full or read-only.
    Disk,
    /// The process ended without recording a failure.
    Lost,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFinite => "not finite",
            Self::Panic => "panic",
            Self::OutOfMemory => "out of memory",
            Self::BadInput => "bad input",
            Self::Disk => "disk",
            Self::Lost => "lost",
        })
    }
}

/// A failure that a stage reports.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The cause.
    pub cause: Cause,
    /// The error in one line.
    pub message: String,
    /// Where it happened, such as a step or a line of source, if it is known.
    pub place: Option<String>,
    /// The lines of the log, of which the last 20 are recorded.
    pub log: Vec<String>,
    /// The time that the attempt took.
    pub elapsed: Duration,
}

/// A failed attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// When it failed, in seconds since 1970-01-01 UTC.
    pub time: u64,
    /// The host that it failed on.
    pub host: String,
    /// The cause.
    pub cause: Cause,
    /// The error in one line.
    pub message: String,
    /// Where it happened, if it is known.
    pub place: Option<String>,
    /// The last lines of the log.
    pub log: Vec<String>,
    /// The time that the attempt took, in seconds.
    pub seconds: f64,
}

/// The failed attempts at a stage since the last [`retry`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Oldest first.
    pub attempts: Vec<Attempt>,
}

impl Record {
    /// Whether the stage has failed and is not tried again. A single owner that died is not a failure of the stage;
    /// three in a row are.
    pub fn is_failed(&self) -> bool {
        let lost = self.attempts.iter().rev();
        let lost = lost.take_while(|attempt| attempt.cause == Cause::Lost);
        let lost = lost.count();
        lost >= LOST || lost < self.attempts.len()
    }
}

/// The failed attempts at a stage; `None` if there are none.
///
/// # Errors
///
/// If the record cannot be read or is damaged.
pub fn read(store: &Store, key: &Key) -> Result<Option<Record>, StoreError> {
    let path = path(store, key);
    let Some(bytes) = file::read_if_there(&path)? else {
        return Ok(None);
    };
    match serde_json::from_slice(&bytes) {
        Ok(record) => Ok(Some(record)),
        Err(error) => Err(StoreError::Damaged {
            path: path.clone(),
            problem: error.to_string(),
            delete: path,
        }),
    }
}

/// The failed stages with their attempts.
///
/// # Errors
///
/// If a record cannot be read or is damaged.
pub fn failed(store: &Store) -> Result<BTreeMap<Key, Record>, StoreError> {
    let mut failed = BTreeMap::new();
    for (key, record) in all(store)? {
        if record.is_failed() && !store.is_done(&key)? {
            failed.insert(key, record);
        }
    }
    Ok(failed)
}

/// All stages with attempts that failed or were lost.
///
/// # Errors
///
/// If a record cannot be read or is damaged.
pub fn all(store: &Store) -> Result<BTreeMap<Key, Record>, StoreError> {
    let mut records = BTreeMap::new();
    for name in walk::names(&store.failed())? {
        let key = name.strip_suffix(".json").and_then(|key| key.parse().ok());
        let Some(key) = key else { continue };
        // Another process may have moved the record meanwhile.
        if let Some(record) = read(store, &key)? {
            records.insert(key, record);
        }
    }
    Ok(records)
}

/// The stages that have a record of failed attempts, each with a stamp that changes when its record does. Records are not read.
///
/// # Errors
///
/// If the records cannot be listed.
pub fn records(store: &Store) -> Result<BTreeMap<Key, Stamp>, StoreError> {
    let mut records = BTreeMap::new();
    for name in walk::names(&store.failed())? {
        let key: Option<Key> = name.strip_suffix(".json").and_then(|key| key.parse().ok());
        if let Some(key) = key
            && let Some(stamp) = Stamp::of(&path(store, &key))?
        {
            records.insert(key, stamp);
        }
    }
    Ok(records)
}

/// Moves the record of a stage to `.kiln/failed/old/`, so that the stage is tried again; false if there is no record.
///
/// # Errors
///
/// If the record cannot be moved.
pub fn retry(store: &Store, key: &Key) -> Result<bool, StoreError> {
    let from = path(store, key);
    let old = store.failed().join(OLD);
    if !from.exists() {
        return Ok(false);
    }
    walk::make(&old)?;
    let number = lease::numbers(&old, key.as_str())?
        .last()
        .map_or(1, |last| last + 1);
    let to = old.join(format!("{key}.{number}"));
    match fs::rename(&from, &to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(walk::write(&to)(error).into()),
    }
}

/// Whether a stage has failed and is not tried again.
///
/// # Errors
///
/// If its record cannot be read or is damaged.
pub(super) fn is_failed(store: &Store, key: &Key) -> Result<bool, StoreError> {
    Ok(read(store, key)?.is_some_and(|record| record.is_failed()))
}

/// Adds an attempt to the record of a stage. The caller must hold the lease.
///
/// # Errors
///
/// If the record cannot be read or written.
pub(super) fn add(store: &Store, key: &Key, failure: Failure) -> Result<(), StoreError> {
    let Failure {
        cause,
        message,
        place,
        mut log,
        elapsed,
    } = failure;
    log.drain(..log.len().saturating_sub(LINES));
    push(
        store,
        key,
        Attempt {
            time: now(),
            host: owner::host(),
            cause,
            message,
            place,
            log,
            seconds: elapsed.as_secs_f64(),
        },
    )?;
    Ok(())
}

/// Adds to the record of a stage that its previous owner died on `host`, and returns whether the stage has failed. The
/// caller must hold the lease.
///
/// # Errors
///
/// If the record cannot be read or written.
pub(super) fn add_lost(store: &Store, key: &Key, host: &str) -> Result<bool, StoreError> {
    let attempt = Attempt {
        time: now(),
        host: host.to_owned(),
        cause: Cause::Lost,
        message: "the process ended without recording a failure; out of memory?".to_owned(),
        place: None,
        log: vec![],
        seconds: 0.0,
    };
    Ok(push(store, key, attempt)?.is_failed())
}

fn push(store: &Store, key: &Key, attempt: Attempt) -> Result<Record, StoreError> {
    let path = path(store, key);
    let mut record = read(store, key)?.unwrap_or_default();
    record.attempts.push(attempt);
    let json = serde_json::to_vec_pretty(&record).map_err(|source| FileError::Json {
        path: path.clone(),
        source,
    })?;
    walk::make(&store.failed())?;
    file::write(&path, &json)?;
    Ok(record)
}

fn path(store: &Store, key: &Key) -> PathBuf {
    store.failed().join(format!("{key}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::testing::{document, publish, store};

    fn failure(cause: Cause) -> Failure {
        Failure {
            cause,
            message: "the loss is NaN".to_owned(),
            place: Some("step 410".to_owned()),
            log: (0..30).map(|line| format!("line {line}")).collect(),
            elapsed: Duration::from_millis(1500),
        }
    }

    #[test]
    fn the_text_of_a_record() {
        let (_folder, store) = store();
        let key = document(1).key().unwrap();
        assert!(read(&store, &key).unwrap().is_none());
        add(&store, &key, failure(Cause::NotFinite)).unwrap();
        let text = fs::read_to_string(path(&store, &key)).unwrap();
        assert!(text.contains("\"cause\": \"not finite\""), "{text}");
        let record = read(&store, &key).unwrap().unwrap();
        let attempt = &record.attempts[0];
        assert_eq!(attempt.log.len(), 20);
        assert_eq!(attempt.log[0], "line 10");
        assert_eq!(attempt.seconds.to_bits(), 1.5_f64.to_bits());
        assert!(record.is_failed());
        assert_eq!(failed(&store).unwrap(), [(key, record)].into());
    }

    #[test]
    fn three_owners_in_a_row_that_died_are_a_failure() {
        let (_folder, store) = store();
        let key = document(1).key().unwrap();
        for expected in [false, false, true] {
            assert!(failed(&store).unwrap().is_empty());
            assert_eq!(add_lost(&store, &key, "node2").unwrap(), expected);
            assert_eq!(is_failed(&store, &key).unwrap(), expected);
        }
        assert_eq!(failed(&store).unwrap()[&key].attempts[0].host, "node2");
        assert!(!Record::default().is_failed());
    }

    #[test]
    fn a_retry_keeps_the_old_records() {
        let (_folder, store) = store();
        let key = document(1).key().unwrap();
        assert!(!retry(&store, &key).unwrap());
        for number in 1..=3 {
            add(&store, &key, failure(Cause::Panic)).unwrap();
            assert!(retry(&store, &key).unwrap());
            assert!(!retry(&store, &key).unwrap());
            assert!(!is_failed(&store, &key).unwrap());
            let old = store.failed().join(format!("old/{key}.{number}"));
            let record: Record = serde_json::from_slice(&fs::read(old).unwrap()).unwrap();
            assert_eq!(record.attempts.len(), 1);
        }
    }

    #[test]
    fn what_is_done_has_not_failed() {
        let (_folder, store) = store();
        let key = publish(&store, &document(1), "weights");
        add(&store, &key, failure(Cause::Panic)).unwrap();
        assert!(failed(&store).unwrap().is_empty());
    }

    #[test]
    fn a_damaged_record_names_the_file_and_what_to_do() {
        let (_folder, store) = store();
        let key = document(1).key().unwrap();
        walk::make(&store.failed()).unwrap();
        fs::write(path(&store, &key), "{").unwrap();
        let error = failed(&store).unwrap_err().to_string();
        let name = path(&store, &key).display().to_string();
        assert!(error.starts_with(&name), "{error}");
        assert!(error.contains(&format!("delete {name}")), "{error}");
    }
}
