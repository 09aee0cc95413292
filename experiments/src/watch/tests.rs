use std::{fs, path::Path, time::Duration};

use serde_json::{Map, json};
use tempfile::TempDir;

use super::{frame::*, *};
use crate::{
    examples::{Examples, Parts},
    graph::{
        Claim, Document, Format, Key, Leases, Outcome, PROGRESS, Store, Work, claim,
        failure::{self, Cause, Failure},
    },
    results::{ArmStages, ArmsFile, SCHEMA, SeedStages, StageLine},
};

const ARMS: [&str; 2] = ["order=importance", "order=random"];
const SEEDS: [u64; 2] = [1, 2];

/// A run of two arms and two seeds, and its store.
struct Fixture {
    folder: TempDir,
    store: Store,
}

fn document(kind: &str, arm: &str, seed: u64) -> Document {
    Document {
        format: Format,
        kind: kind.to_owned(),
        settings: Map::from_iter([("arm".to_owned(), json!(arm))]),
        inputs: [].into(),
        data: serde_json::from_value(json!(format!("sha256:{}", "ab".repeat(32)))).unwrap(),
        seed: Some(seed),
        result_version: 1,
    }
}

fn key(kind: &str, arm: &str, seed: u64) -> Key {
    document(kind, arm, seed).key().unwrap()
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let fixture = Self { folder, store };
        fs::create_dir(fixture.run()).unwrap();
        fixture.write_plan(&SEEDS);
        fixture
    }

    fn run(&self) -> std::path::PathBuf {
        self.folder.path().join("run")
    }

    fn write_plan(&self, seeds: &[u64]) {
        let stages = seeds.iter().flat_map(|seed| {
            ARMS.iter().flat_map(move |arm| {
                let line = |kind: &str, title: &str, inputs| StageLine {
                    key: key(kind, arm, *seed),
                    title: format!("seed {seed}: {title} `{arm}`"),
                    seed: *seed,
                    inputs,
                };
                let train = line("train", "training", vec![]);
                let inputs = vec![train.key.clone()];
                [train, line("evaluate", "evaluating", inputs)]
            })
        });
        let arms = ARMS.iter().map(|arm| ArmStages {
            name: (*arm).to_owned(),
            set: Map::new(),
            is_arm: true,
            seeds: seeds
                .iter()
                .map(|seed| SeedStages {
                    seed: *seed,
                    stages: ["train", "evaluate"]
                        .map(|kind| (kind.to_owned(), key(kind, arm, *seed)))
                        .into(),
                })
                .collect(),
        });
        let plan = ArmsFile {
            schema: SCHEMA,
            run: "small".to_owned(),
            metric: Some("accuracy".to_owned()),
            alpha: 0.05,
            reference: Some(ARMS[0].to_owned()),
            seeds: seeds.to_vec(),
            arms: arms.collect(),
            stages: stages.collect(),
        };
        fs::write(
            self.run().join("arms.json"),
            serde_json::to_vec(&plan).unwrap(),
        )
        .unwrap();
    }

    fn claim(&self, kind: &str, arm: &str, seed: u64) -> Work {
        match claim(&Leases::new(&self.store), &key(kind, arm, seed)).unwrap() {
            Claim::Ours(work) => work,
            other => panic!("{other:?}"),
        }
    }

    fn publish(work: &Work, document: Document) {
        let outcome = Outcome {
            document,
            result: json!(null),
            elapsed: Duration::from_secs(20),
            peak_memory: None,
            backend: "flex".to_owned(),
            environment: json!({}),
        };
        work.publish(outcome).unwrap();
    }

    /// Trains and judges an arm, which is wrong on every so many examples.
    fn finish(&self, arm: &str, seed: u64, wrong: usize) {
        let work = self.claim("train", arm, seed);
        Self::publish(&work, document("train", arm, seed));
        let work = self.claim("evaluate", arm, seed);
        let right = (0..100).map(|example| {
            let is_right = !(example + seed as usize).is_multiple_of(wrong);
            Some(f64::from(u8::from(is_right)))
        });
        let examples = Examples {
            ids: (0..100).map(|example| example.to_string()).collect(),
            content: "same".to_owned(),
            groups: vec![],
            metrics: [("accuracy".to_owned(), Parts::Mean(right.collect()))].into(),
        };
        Examples::write(&[examples], work.folder()).unwrap();
        Self::publish(&work, document("evaluate", arm, seed));
    }

    fn open(&self) -> Watch {
        Watch::open(&self.run(), self.store.root()).unwrap()
    }
}

fn poll(watch: &mut Watch) -> (bool, View) {
    let is_changed = watch.poll(Duration::MAX).unwrap();
    (is_changed, View::of(watch))
}

fn marks(view: &View) -> Vec<String> {
    let mark = |seed: &SeedView| match seed {
        SeedView::Done => '#',
        SeedView::Running => '*',
        SeedView::Failed => '!',
        SeedView::Waiting => '.',
    };
    let arms = view.arms.iter();
    arms.map(|arm| arm.seeds.iter().map(mark).collect())
        .collect()
}

/// Every file with its content.
fn files(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_run_is_watched_from_its_beginning_to_its_end() {
    let fixture = Fixture::new();
    let mut watch = fixture.open();
    let (is_changed, view) = poll(&mut watch);
    assert!(!is_changed && !view.is_over);
    assert_eq!((view.stages, view.done, view.workers), (8, 0, 0));
    assert_eq!(marks(&view), ["..", ".."]);
    assert_eq!(view.seconds_left, None);

    fixture.finish(ARMS[0], 1, 10);
    let work = fixture.claim("train", ARMS[1], 1);
    let progress = json!({
        "step": 30, "steps": 100, "loss": 0.5, "steps_per_second": 7.0, "epoch": 1, "epochs": 1, "started": 1
    });
    fs::write(work.folder().join(PROGRESS), progress.to_string()).unwrap();
    let before = files(fixture.folder.path());
    let (is_changed, view) = poll(&mut watch);
    assert!(is_changed);
    assert_eq!(marks(&view), ["#.", "*."]);
    assert_eq!((view.done, view.workers, view.seeds_done), (2, 1, 0));
    let running = &view.running[0];
    assert_eq!((running.step, running.steps), (Some(30), Some(100)));
    assert_eq!(running.seconds_left, Some(10.0));
    assert_eq!(running.is_alive, Some(true));
    // The training's 10 s, and five stages of 20 s.
    assert_eq!((view.seconds_left, view.is_longer), (Some(110.0), false));
    let [reference, other] = [&view.arms[0], &view.arms[1]];
    assert!(reference.is_reference && reference.interval.is_some());
    assert_eq!((reference.mean, other.mean), (Some(0.9), None));
    let events: Vec<String> = watch
        .take_events()
        .into_iter()
        .map(|event| event.text)
        .collect();
    assert_eq!(events.len(), 3, "{events:?}");
    assert!(events[0].starts_with("training order=importance seed 1 done in 20 s"));
    assert!(events[2].starts_with("training order=random seed 1 begins, "));
    assert!(!poll(&mut watch).0, "nothing has changed");
    assert_eq!(
        files(fixture.folder.path()),
        before,
        "a watcher writes nothing"
    );

    work.fail(Failure {
        cause: Cause::NotFinite,
        message: "the loss is not finite".to_owned(),
        place: Some("step 41".to_owned()),
        log: vec![],
        elapsed: Duration::from_secs(1),
    })
    .unwrap();
    fixture.finish(ARMS[0], 2, 10);
    fixture.finish(ARMS[1], 2, 5);
    let (_, view) = poll(&mut watch);
    assert_eq!(marks(&view), ["##", "!#"]);
    assert!(view.is_over);
    assert_eq!((view.failed, view.blocked, view.seeds_done), (1, 1, 2));
    assert_eq!(view.failures[0].blocks, 1);
    let failed = &view.arms[1];
    assert_eq!(
        failed.failure.as_deref(),
        Some("failed: not finite, train seed 1, step 41")
    );
    // On the seed that both have.
    assert!((failed.difference.unwrap() + 10.0).abs() < 1e-9);
    let text = Frame::of(
        &view,
        Shown {
            width: 80,
            height: None,
            panel: Panel::Arms,
            scroll: 0,
            events: &[],
            message: None,
        },
    )
    .text();
    assert!(text.contains("nothing is left that can be done"), "{text}");

    failure::retry(&fixture.store, &key("train", ARMS[1], 1)).unwrap();
    fixture.finish(ARMS[1], 1, 5);
    let (_, view) = poll(&mut watch);
    assert_eq!(marks(&view), ["##", "##"]);
    let interval = view.arms[1].difference_interval.unwrap();
    assert!(interval.low < -9.9 && interval.high > -10.1);
}

#[test]
fn more_seeds_are_seen_when_the_run_is_started_again() {
    let fixture = Fixture::new();
    fixture.finish(ARMS[0], 1, 10);
    let mut watch = fixture.open();
    poll(&mut watch);
    fixture.write_plan(&[1, 2, 3]);
    let (is_changed, view) = poll(&mut watch);
    assert!(is_changed);
    assert_eq!(marks(&view), ["#..", "..."]);
    assert!(view.arms[0].mean.is_some());
    assert!(watch.take_events().is_empty());
}

#[test]
fn what_is_no_run_and_no_store_is_refused() {
    let fixture = Fixture::new();
    let error = |run: &Path, store: &Path| match Watch::open(run, store) {
        Ok(_) => panic!("it is watched"),
        Err(error) => error.line(),
    };
    let (run, root) = (fixture.run(), fixture.folder.path());
    assert!(error(root, fixture.store.root()).contains("has no arms.json"));
    let absent = root.join("absent");
    assert!(error(&run, &absent).ends_with("there is no such store"));
    assert!(!absent.exists());
    fs::write(run.join("arms.json"), "{").unwrap();
    assert!(error(&run, fixture.store.root()).contains("arms.json"));
}
