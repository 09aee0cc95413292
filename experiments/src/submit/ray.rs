//! Ray: one task per worker, which runs the command as a process.

use super::{
    engine::{Engine, Script},
    error::{ShardError, SubmitError},
    literal::literal,
    submission::{Submission, THREADS},
    worker::{Variables, Worker},
};

/// A Python program for `python` or `ray job submit`.
///
/// Ray sets no variable with the number of a task, so the program sets `KILN_WORKER=i/n`.
#[derive(Debug)]
pub struct Ray;

/// Not `ray.py`: Python would import it instead of Ray.
const SCRIPT: &str = "ray.workers.py";

/// The variable with the number of a worker and how many there are.
const WORKER: &str = "KILN_WORKER";

impl Engine for Ray {
    fn name(&self) -> &'static str {
        "ray"
    }

    fn files(&self, submission: &Submission) -> Result<Vec<Script>, SubmitError> {
        let command = submission.command().iter();
        let command = command.map(|word| format!("    {},\n", literal(word)));
        let memory = submission.memory();
        let seconds = submission.seconds();
        let text = format!(
            r#""""python {SCRIPT}: on the cluster in RAY_ADDRESS or that runs on this machine, otherwise on this machine alone."""

import os
import subprocess
import sys

import ray

WORKERS = {workers}
CPUS = {cpus}
SECONDS = {seconds}
DIRECTORY = {folder}
COMMAND = [
{command}]


@ray.remote(num_cpus=CPUS{memory}, max_retries=-1)
def work(number):
    variables = {{"{THREADS}": str(CPUS), "{WORKER}": f"{{number}}/{{WORKERS}}"}}
    process = subprocess.Popen(COMMAND, cwd=DIRECTORY, env=os.environ | variables)
    try:
        return process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        process.terminate()
        return process.wait()


ray.init()
codes = ray.get([work.remote(number) for number in range(1, WORKERS + 1)])
print("exit codes of the workers:", codes)
sys.exit(1 if any(codes) else 0)
"#,
            workers = submission.workers(),
            cpus = submission.cpus(),
            seconds = seconds.map_or_else(|| "None".to_owned(), |seconds| seconds.to_string()),
            folder = literal(submission.folder()),
            command = command.collect::<String>(),
            memory = memory.map_or_else(String::new, |mib| format!(", memory={mib} * 2**20")),
        );
        Ok(vec![Script { name: SCRIPT, text }])
    }

    fn start(&self, submission: &Submission) -> Vec<String> {
        vec!["python3".to_owned(), submission.file(SCRIPT)]
    }

    fn worker(&self, variables: Variables<'_>) -> Result<Option<Worker>, ShardError> {
        let Some(value) = variables(WORKER) else {
            return Ok(None);
        };
        let parts = value.split_once('/');
        let parts =
            parts.and_then(|(number, count)| Some((number.parse().ok()?, count.parse().ok()?)));
        let parts = parts.filter(|(number, count)| (1..=*count).contains(number));
        let name = WORKER;
        let (number, count) = parts.ok_or(ShardError::Variable { name, value })?;
        let count = Some(count);
        Ok(Some(Worker { number, count }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::submit::testing;

    #[test]
    fn the_program_is_this() {
        assert_eq!(
            testing::text(&Ray, &testing::example()),
            r#""""python ray.workers.py: on the cluster in RAY_ADDRESS or that runs on this machine, otherwise on this machine alone."""

import os
import subprocess
import sys

import ray

WORKERS = 8
CPUS = 4
SECONDS = 14400
DIRECTORY = "/data"
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


@ray.remote(num_cpus=CPUS, memory=8192 * 2**20, max_retries=-1)
def work(number):
    variables = {"KILN_THREADS": str(CPUS), "KILN_WORKER": f"{number}/{WORKERS}"}
    process = subprocess.Popen(COMMAND, cwd=DIRECTORY, env=os.environ | variables)
    try:
        return process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        process.terminate()
        return process.wait()


ray.init()
codes = ray.get([work.remote(number) for number in range(1, WORKERS + 1)])
print("exit codes of the workers:", codes)
sys.exit(1 if any(codes) else 0)
"#
        );
        let start = Ray.start(&testing::example());
        assert_eq!(
            start,
            ["python3", "/data/runs/partition/submit/ray.workers.py"]
        );
    }

    #[test]
    fn there_are_no_limits_if_none_are_given() {
        let text = testing::text(&Ray, &testing::submission(&["kiln"]));
        assert!(text.contains("SECONDS = None\n"));
        assert!(text.contains("(num_cpus=CPUS, max_retries=-1)"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn python_gets_the_command(words in testing::arguments()) {
            let submission = testing::submission_of(&words);
            let text = testing::text(&Ray, &submission);
            prop_assert_eq!(testing::python_list(&text, "COMMAND"), submission.command());
        }
    }
}
