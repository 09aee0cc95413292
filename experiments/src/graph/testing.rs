//! Stores, stages and clocks for the tests of this module.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tempfile::TempDir;

use super::{
    key::{Document, Format, Key},
    lease::{Clock, Leases, Timing},
    store::Store,
    work::{Claim, Outcome, Publication, Work, claim},
};

/// A clock that advances when told to.
#[derive(Debug, Default)]
pub(super) struct Manual(AtomicU64);

impl Manual {
    pub(super) fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clock for Manual {
    fn now(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

/// Heartbeat threads never wake during a test, and leases expire after 100 s of the observer's clock.
pub(super) fn timing() -> Timing {
    Timing {
        beat: Duration::from_hours(1),
        expiry: Duration::from_secs(100),
    }
}

/// A worker with a clock of its own.
pub(super) fn worker(store: &Store) -> (Leases, Arc<Manual>) {
    let clock = Arc::new(Manual::default());
    (Leases::with(store, timing(), clock.clone()), clock)
}

pub(super) fn store() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    (folder, store)
}

pub(super) fn document(seed: u64) -> Document {
    let data = format!("sha256:{}", "ab".repeat(32));
    Document {
        format: Format,
        kind: "train".to_owned(),
        settings: [("train.epochs".to_owned(), json!(3))]
            .into_iter()
            .collect(),
        inputs: [].into(),
        data: serde_json::from_value(json!(data)).unwrap(),
        seed: Some(seed),
        result_version: 1,
    }
}

pub(super) fn outcome(document: &Document) -> Outcome {
    Outcome {
        document: document.clone(),
        result: json!({ "loss": 0.1 }),
        elapsed: Duration::from_secs(2),
        peak_memory: None,
        backend: "flex".to_owned(),
        environment: json!({}),
    }
}

/// Claims a stage that must be free.
pub(super) fn ours(leases: &Leases, key: &Key) -> Work {
    match claim(leases, key).unwrap() {
        Claim::Ours(work) => work,
        other => panic!("not ours: {other:?}"),
    }
}

/// Does a stage whose folder has one file.
pub(super) fn publish(store: &Store, document: &Document, content: &str) -> Key {
    let key = document.key().unwrap();
    let (leases, _) = worker(store);
    let work = ours(&leases, &key);
    fs::write(work.folder().join("model.bin"), content).unwrap();
    let publication = work.publish(outcome(document)).unwrap();
    assert_eq!(publication, Publication::Published);
    key
}
