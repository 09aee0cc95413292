//! `HyperQueue`: an array of tasks, by its program or by its Python interface.

use std::fmt::Write;

use super::{
    engine::{Engine, Script},
    error::{ShardError, SubmitError},
    literal::literal,
    shell,
    submission::{Submission, THREADS},
    worker::{self, Variables, Worker},
};

/// `hq submit` of an array, and the same in Python, which can start a cluster on this machine.
///
/// `HyperQueue` sends SIGINT at a time limit and SIGKILL a second later, so that the last regular checkpoint counts.
#[derive(Debug)]
pub struct Hq;

const SCRIPT: &str = "hq.sh";
const PYTHON: &str = "hq.py";

/// Times that a task may run while its machine is lost before it counts as failed.
const CRASHES: usize = 5;

impl Engine for Hq {
    fn name(&self) -> &'static str {
        "hq"
    }

    fn files(&self, submission: &Submission) -> Result<Vec<Script>, SubmitError> {
        // Version 0.27.0 hangs at a `%` in a path with characters beyond ASCII, even where nothing is to be replaced.
        for folder in [submission.run(), submission.folder()] {
            if folder.contains('%') {
                let problem = "contains a `%`, which HyperQueue replaces";
                return Err(Submission::refuse(folder, problem));
            }
        }
        let scripts = [(SCRIPT, script(submission)), (PYTHON, python(submission))];
        Ok(scripts.map(|(name, text)| Script { name, text }).into())
    }

    fn start(&self, submission: &Submission) -> Vec<String> {
        vec!["bash".to_owned(), submission.file(SCRIPT)]
    }

    fn worker(&self, variables: Variables<'_>) -> Result<Option<Worker>, ShardError> {
        // From 0, as the Python interface counts.
        let id = worker::number(variables, "HQ_TASK_ID", 0usize)?;
        Ok(id.map(|id| Worker {
            number: id + 1,
            count: None,
        }))
    }
}

/// The path of a log of one start of a task.
fn log(submission: &Submission, stream: &str) -> String {
    let name = format!("hq-%{{JOB_ID}}-%{{TASK_ID}}-%{{INSTANCE_ID}}.{stream}");
    submission.file(&name)
}

fn script(submission: &Submission) -> String {
    let (workers, cpus) = (submission.workers(), submission.cpus());
    let last = workers - 1;
    let mut limits = String::new();
    // Writing to a text does not fail.
    if let Some(mib) = submission.memory() {
        let _ = write!(limits, " --resource mem={mib}");
    }
    if let Some(seconds) = submission.seconds() {
        let _ = write!(limits, " --time-limit {seconds}s");
    }
    format!(
        r"#!/usr/bin/env bash
# For a running server and its workers; without them, use {PYTHON}.
cd {folder} || exit
exec hq submit --name kiln --array 0-{last} --cpus {cpus}{limits} --max-fails {workers} --crash-limit {CRASHES} \
  --env {THREADS}={cpus} --stdout {out} --stderr {err} \
  -- {command}
",
        folder = shell::word(submission.folder()),
        out = shell::word(&log(submission, "out")),
        err = shell::word(&log(submission, "err")),
        command = shell::command_line(submission.command()),
    )
}

fn python(submission: &Submission) -> String {
    let words = submission.command().iter();
    let words: Vec<String> = words
        .map(|word| format!("    {},", literal(word)))
        .collect();
    format!(
        r#""""python {PYTHON}: a cluster on this machine. python {PYTHON} SERVER_DIR: a running server and its workers."""

import sys

from hyperqueue import Client, Job, LocalCluster
from hyperqueue.cluster import WorkerConfig
from hyperqueue.ffi.protocol import ResourceRequest

WORKERS = {workers}
CPUS = {cpus}
COMMAND = [
{words}
]


def run(client):
    job = Job(name="kiln", max_fails=WORKERS)
    for _ in range(WORKERS):
        job.program(
            COMMAND,
            env={{"{THREADS}": str(CPUS)}},
            cwd={folder},
            stdout={out},
            stderr={err},
            resources=ResourceRequest(cpus=CPUS),
            crash_limit={CRASHES},
        )
    return client.wait_for_jobs([client.submit(job)], raise_on_error=False)


if len(sys.argv) > 1:
    done = run(Client(sys.argv[1]))
else:
    with LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=WORKERS * CPUS))
        done = run(cluster.client())
sys.exit(0 if done else 1)
"#,
        workers = submission.workers(),
        cpus = submission.cpus(),
        words = words.join("\n"),
        folder = literal(submission.folder()),
        out = literal(&log(submission, "out")),
        err = literal(&log(submission, "err")),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::submit::testing;

    #[test]
    fn the_scripts_are_these() {
        let files = Hq.files(&testing::example()).unwrap();
        assert_eq!(
            files[0].text,
            r"#!/usr/bin/env bash
# For a running server and its workers; without them, use hq.py.
cd /data || exit
exec hq submit --name kiln --array 0-7 --cpus 4 --resource mem=8192 --time-limit 14400s --max-fails 8 --crash-limit 5 \
  --env KILN_THREADS=4 --stdout '/data/runs/partition/submit/hq-%{JOB_ID}-%{TASK_ID}-%{INSTANCE_ID}.out' --stderr '/data/runs/partition/submit/hq-%{JOB_ID}-%{TASK_ID}-%{INSTANCE_ID}.err' \
  -- kiln ablate partition 'experts.order=[.importance., .random.]' --out /data/runs/partition --store /data/runs/store
".replace("[.importance., .random.]", "[\"importance\", \"random\"]")
        );
        assert_eq!(
            files[1].text,
            r#""""python hq.py: a cluster on this machine. python hq.py SERVER_DIR: a running server and its workers."""

import sys

from hyperqueue import Client, Job, LocalCluster
from hyperqueue.cluster import WorkerConfig
from hyperqueue.ffi.protocol import ResourceRequest

WORKERS = 8
CPUS = 4
COMMAND = [
    "kiln",
    "ablate",
    "partition",
    "experts.order=[\"importance\", \"random\"]",
    "--out",
    "/data/runs/partition",
    "--store",
    "/data/runs/store",
]


def run(client):
    job = Job(name="kiln", max_fails=WORKERS)
    for _ in range(WORKERS):
        job.program(
            COMMAND,
            env={"KILN_THREADS": str(CPUS)},
            cwd="/data",
            stdout="/data/runs/partition/submit/hq-%{JOB_ID}-%{TASK_ID}-%{INSTANCE_ID}.out",
            stderr="/data/runs/partition/submit/hq-%{JOB_ID}-%{TASK_ID}-%{INSTANCE_ID}.err",
            resources=ResourceRequest(cpus=CPUS),
            crash_limit=5,
        )
    return client.wait_for_jobs([client.submit(job)], raise_on_error=False)


if len(sys.argv) > 1:
    done = run(Client(sys.argv[1]))
else:
    with LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=WORKERS * CPUS))
        done = run(cluster.client())
sys.exit(0 if done else 1)
"#
        );
        let start = Hq.start(&testing::example());
        assert_eq!(start, ["bash", "/data/runs/partition/submit/hq.sh"]);
    }

    #[test]
    fn paths_of_logs_that_would_be_replaced_are_refused() {
        let error = Hq
            .files(&testing::submission_at("/", "r%", &["kiln"]))
            .unwrap_err();
        assert!(error.to_string().contains("which HyperQueue replaces"));
    }

    #[test]
    fn there_are_no_limits_if_none_are_given() {
        let files = Hq.files(&testing::submission(&["kiln"])).unwrap();
        assert!(files[0].text.contains("--cpus 1 --max-fails"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn hq_gets_the_command(words in testing::arguments()) {
            let submission = testing::submission_of(&words);
            let files = Hq.files(&submission).unwrap();
            let stub = ("hq", r#"while [ "$1" != -- ]; do shift; done; shift; "$@""#);
            let calls = testing::calls(&files[0].text, &[stub]);
            prop_assert_eq!(calls, vec![submission.command().to_vec()]);
        }

        #[test]
        fn python_gets_the_command(words in testing::arguments()) {
            let submission = testing::submission_of(&words);
            let files = Hq.files(&submission).unwrap();
            prop_assert_eq!(testing::python_list(&files[1].text, "COMMAND"), submission.command());
        }
    }
}
