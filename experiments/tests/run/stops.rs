//! A stopped run resumes when the same command is run again, and ends as if nothing had
//! happened.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::kiln::{Kiln, refusal, results};

const STOPPED: &str = "kiln: error: stopped; run the same command again to resume";
/// A checkpoint within the first epoch.
const IN_EPOCH_1: &str =
    "runs/store/.kiln/work/train-*/training/checkpoints/epoch-1-batch-*/state.json";
const RUN: [&str; 4] = ["run", "small.toml", "--out", "run"];

/// A point of a run.
#[derive(Clone, Copy)]
pub enum Point {
    /// This file is there; a part of a name may be `*`.
    File(&'static str),
    /// Standard error holds this text.
    Told(&'static str),
}

pub use Point::File as Has;
pub use Point::Told;

/// Points of every stage in the order of a run, and what is told of work that need not be done
/// again after a stop there.
const POINTS: [(Point, Option<&str>); 9] = [
    (Has("run/recipe.toml"), None),
    (Told("teacher epoch 1/3 train 10%"), None),
    (
        Has("runs/store/.kiln/work/train-*/training/checkpoints/epoch-1"),
        Some("teacher epoch 1/"),
    ),
    (
        Told("scoring the neurons of `teacher`"),
        Some("training `teacher`"),
    ),
    (Has("runs/store/importance-*/done.json"), Some("scoring")),
    (Told("cut epoch 2/"), Some("cut epoch 1/")),
    (Told("training `gated`"), Some("training `cut`")),
    (Told("evaluating `gated`"), Some("training")),
    (Told("measuring latency"), Some("evaluating")),
];

/// The program at work; it does not outlive the test.
pub struct Started {
    process: Child,
    told: PathBuf,
    folder: PathBuf,
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Started {
    pub fn new(kiln: &Kiln, arguments: &[&str]) -> Self {
        let told = kiln.path("told");
        let process = kiln
            .command(arguments)
            .stdout(Stdio::null())
            .stderr(File::create(&told).unwrap())
            .process_group(0)
            .spawn()
            .unwrap();
        Self {
            process,
            told,
            folder: kiln.path(""),
        }
    }

    fn told(&self) -> String {
        fs::read_to_string(&self.told).unwrap()
    }

    pub fn wait_for(&mut self, point: Point) {
        let start = Instant::now();
        let reached = |started: &Self| match point {
            Has(file) => is_there(&started.folder, file),
            Told(text) => started.told().contains(text),
        };
        while !reached(self) {
            let ended = self.process.try_wait().unwrap();
            assert!(ended.is_none(), "it ended too early: {}", self.told());
            assert!(start.elapsed() < Duration::from_mins(1), "it hangs");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn signal(&self, signal: &str) {
        let process = self.process.id().to_string();
        let sent = Command::new("kill").args([signal, &process]).status();
        assert!(sent.unwrap().success());
    }

    pub fn stop(&mut self, signal: &str) -> ExitStatus {
        self.signal(signal);
        self.process.wait().unwrap()
    }

    /// As [`stop`](Self::stop), with the processes that work for it.
    fn stop_all(&mut self, signal: &str) -> ExitStatus {
        let group = format!("-{}", self.process.id());
        let sent = Command::new("kill").args([signal, "--", &group]).status();
        assert!(sent.unwrap().success());
        self.process.wait().unwrap()
    }
}

/// Whether a folder has a file of this path, of whose names a part may be `*`.
pub fn is_there(folder: &Path, path: &str) -> bool {
    let Some((name, rest)) = path.split_once('/') else {
        return folder.join(path).exists();
    };
    let Some((before, after)) = name.split_once('*') else {
        return is_there(&folder.join(name), rest);
    };
    let Ok(entries) = fs::read_dir(folder) else {
        return false;
    };
    let mut names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.any(|name| {
        name.starts_with(before) && name.ends_with(after) && is_there(&folder.join(name), rest)
    })
}

/// When each finished stage was finished.
fn finished(folder: &Path) -> BTreeMap<PathBuf, SystemTime> {
    let mut found = BTreeMap::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return found;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(finished(&path));
        } else if path.ends_with("done.json") {
            let time = path.metadata().unwrap().modified().unwrap();
            found.insert(path, time);
        }
    }
    found
}

fn temporary_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.contains("tmp") || name.contains("partial") {
            found.push(path);
        } else if path.is_dir() {
            found.extend(temporary_files(&path));
        }
    }
    found
}

fn metrics(run: &Path, stage: &str) -> String {
    let path = format!("arms/{stage}/seed-1/train/training/metrics.jsonl");
    fs::read_to_string(run.join(path)).unwrap()
}

/// Stops a run at every point and compares its end with that of an unbroken run.
fn stop_everywhere(signal: &str, check: impl Fn(ExitStatus, &str)) {
    let unbroken = Kiln::new();
    unbroken.succeed(&RUN);
    let kiln = Kiln::new();
    let run = kiln.path("run");
    let mut not_again: Vec<&str> = vec![];
    let mut before: BTreeMap<PathBuf, SystemTime> = BTreeMap::new();
    let mut check_work = |told: &str, not_again: &[&str]| {
        for text in not_again {
            assert!(!told.contains(text), "done again: {text}\n{told}");
        }
        let now = finished(&kiln.path("runs/store"));
        for (stage, time) in &before {
            assert_eq!(now.get(stage), Some(time), "{} again", stage.display());
        }
        before = now;
    };
    for (index, (point, done)) in POINTS.into_iter().enumerate() {
        if let Has(file) = point
            && is_there(&kiln.path(""), file)
        {
            // The signal before came late, at the end of its stage.
            continue;
        }
        let mut started = Started::new(&kiln, &RUN);
        started.wait_for(point);
        let status = started.stop(signal);
        // The last stage may end before the signal comes.
        if index + 1 < POINTS.len() || !status.success() {
            check(status, &started.told());
        }
        check_work(&started.told(), &not_again);
        not_again.extend(done);
    }
    let output = kiln.start(&RUN);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    check_work(&told, &not_again);
    assert_eq!(results(&run), results(&unbroken.path("run")));
    for stage in ["teacher", "cut", "gated"] {
        let whole = metrics(&unbroken.path("run"), stage);
        assert_eq!(metrics(&run, stage), whole, "{stage}");
    }
    for folder in [run, kiln.path("runs/store")] {
        let mut left = temporary_files(&folder);
        // What a killed process was writing in the store's own folders stays until `kiln prune`; nothing reads it.
        left.retain(|path| !path.to_string_lossy().contains("/.kiln/"));
        assert_eq!(left, Vec::<PathBuf>::new());
    }
}

#[test]
fn an_interrupt_in_every_stage_leaves_the_end_as_it_is() {
    stop_everywhere("-INT", |status, told| {
        assert_eq!(status.code(), Some(130), "{told}");
        assert_eq!(told.lines().last(), Some(STOPPED), "{told}");
    });
}

#[test]
fn the_exit_code_tells_which_signal_stopped_a_run() {
    let kiln = Kiln::new();
    let mut started = Started::new(&kiln, &RUN);
    started.wait_for(Told("teacher epoch 1/3 train 10%"));
    let status = started.stop("-TERM");
    assert_eq!(status.code(), Some(143), "{}", started.told());
    assert_eq!(started.told().lines().last(), Some(STOPPED));
}

/// An ablation works in a process of its own, which Ctrl-C and engines send the same signal.
#[test]
fn a_signal_to_all_processes_of_an_ablation_saves_a_checkpoint() {
    let kiln = Kiln::new();
    let ablation = ["ablate", "small.toml", "--out", "run"];
    let mut started = Started::new(&kiln, &ablation);
    started.wait_for(Told("teacher epoch 1/3 train 10%"));
    let status = started.stop_all("-TERM");
    assert_eq!(status.code(), Some(143), "{}", started.told());
    assert_eq!(started.told().lines().last(), Some(STOPPED));
    assert!(is_there(&kiln.path(""), IN_EPOCH_1));

    let mut started = Started::new(&kiln, &ablation);
    started.wait_for(Told("teacher epoch 1/3 train mean"));
    started.signal("-USR1");
    started.wait_for(Has(
        "runs/store/.kiln/work/train-*/training/checkpoints/epoch-2-batch-*/state.json",
    ));
    assert!(started.process.wait().unwrap().success(), "it went on");
}

#[test]
fn a_checkpoint_is_written_on_request() {
    let kiln = Kiln::new();
    let mut started = Started::new(&kiln, &RUN);
    started.wait_for(Told("teacher epoch 1/3 train 10%"));
    started.signal("-USR1");
    started.wait_for(Has(IN_EPOCH_1));
    assert!(started.process.wait().unwrap().success(), "it went on");
}

#[test]
fn a_kill_in_every_stage_leaves_the_end_as_it_is() {
    stop_everywhere("-KILL", |status, _| assert_eq!(status.signal(), Some(9)));
}

#[test]
fn a_finished_run_prints_its_table_and_does_nothing_again() {
    let kiln = Kiln::new();
    let table = kiln.succeed(&RUN);
    assert!(
        table.contains("teacher") && table.contains("gated"),
        "{table}"
    );
    let before = finished(&kiln.path("runs/store"));
    let output = kiln.start(&RUN);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), table);
    assert!(output.stderr.is_empty(), "it told of work");
    assert_eq!(finished(&kiln.path("runs/store")), before);
}

/// How often processes told of a text.
fn told_of(told: &[&str], text: &str) -> usize {
    told.iter().map(|told| told.matches(text).count()).sum()
}

#[test]
fn two_processes_divide_the_work_and_do_nothing_twice() {
    let alone = Kiln::new();
    alone.succeed(&RUN);
    let kiln = Kiln::new();
    let mut first = Started::new(&kiln, &RUN);
    first.wait_for(Told("training `teacher`"));
    let second = kiln.start(&RUN);
    assert!(first.process.wait().unwrap().success());
    assert!(second.status.success());
    let run = kiln.path("run");
    assert_eq!(results(&run), results(&alone.path("run")));
    let told = [first.told(), String::from_utf8(second.stderr).unwrap()];
    let told = told.each_ref().map(String::as_str);
    for what in [
        "training `cut`",
        "training `gated`",
        "scoring",
        "measuring latency",
        "evaluating `cut`",
    ] {
        assert_eq!(told_of(&told, what), 1, "{what}: {told:?}");
    }
}

#[test]
fn another_recipe_is_refused_in_a_folder_and_takes_what_it_shares_elsewhere() {
    let kiln = Kiln::new();
    kiln.succeed(&RUN);
    let message = kiln.fail(&[&RUN[..], &["train.epochs=4"]].concat());
    assert!(
        message.contains("`train.epochs` (3 there, 4 here)"),
        "{message}"
    );
    let other = ["run", RUN[1], "--out", "other", "layerwise.weight=2"];
    let output = kiln.start(&other);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    assert_eq!(told_of(&[&told], "`teacher`"), 0, "{told}");
    assert_eq!(told_of(&[&told], "training `cut`"), 1, "{told}");
}

/// The program as on a disk that takes no file above 60 KiB.
fn on_a_full_disk(kiln: &Kiln, arguments: &[&str]) -> String {
    // The shell counts in blocks of 512 bytes; with the signal ignored a write fails like on a full disk.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 120; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_kiln"))
        .args(arguments)
        .current_dir(kiln.path(""))
        .output()
        .unwrap();
    refusal(&output)
}

#[test]
fn a_full_disk_leaves_the_last_checkpoint_to_go_on_from() {
    let kiln = Kiln::new();
    let mut started = Started::new(&kiln, &RUN);
    started.wait_for(Has(
        "runs/store/.kiln/work/train-*/training/checkpoints/epoch-1",
    ));
    started.stop("-KILL");

    let message = on_a_full_disk(&kiln, &RUN);
    assert!(message.contains("checkpoints/epoch-"), "{message}");
    assert!(message.contains("File too large"), "{message}");
    let work = fs::read_dir(kiln.path("runs/store/.kiln/work")).unwrap();
    let mut work = work.map(|entry| entry.unwrap().path().join("training/checkpoints"));
    let checkpoints = work.find(|path| path.exists()).unwrap();
    assert_eq!(fs::read_dir(&checkpoints).unwrap().count(), 1);

    let output = kiln.start(&RUN);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    assert!(!told.contains("teacher epoch 1/"), "{told}");
}
