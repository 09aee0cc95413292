//! GNU parallel: workers on this machine, or on machines that `ssh` reaches.

use super::{
    engine::{Engine, Script},
    error::{ShardError, SubmitError},
    shell,
    submission::{Submission, THREADS},
    worker::{self, Variables, Worker},
};

/// `parallel` with one job per worker.
#[derive(Debug)]
pub struct Parallel;

const SCRIPT: &str = "parallel.sh";

impl Engine for Parallel {
    fn name(&self) -> &'static str {
        "parallel"
    }

    fn files(&self, submission: &Submission) -> Result<Vec<Script>, SubmitError> {
        let workers = submission.workers();
        let seconds = submission.seconds();
        let text = format!(
            r#"#!/usr/bin/env bash
# The exit code is the number of workers that failed; parallel.log has the code of each. SIGTERM to this process lets the
# workers finish, a second one stops them.
export {THREADS}={cpus} PARALLEL_SHELL="$BASH"
cd {folder} || exit

# A function, because parallel replaces texts such as {{}} in a command.
worker() {{
  exec {command}
}}
export -f worker

# For machines that see the same folders, add: --sshlogin NODE1,NODE2 --env worker --env {THREADS} --workdir .
exec parallel -j {workers} -N0 {timeout}--termseq TERM,60000,KILL --joblog {log} \
  --line-buffer --tagstring '{{#}}' worker ::: $(seq {workers})
"#,
            cpus = submission.cpus(),
            folder = shell::word(submission.folder()),
            command = shell::command_line(submission.command()),
            timeout = seconds.map_or_else(String::new, |seconds| format!("--timeout {seconds} ")),
            log = shell::word(&submission.file("parallel.log")),
        );
        Ok(vec![Script { name: SCRIPT, text }])
    }

    fn start(&self, submission: &Submission) -> Vec<String> {
        vec!["bash".to_owned(), submission.file(SCRIPT)]
    }

    fn worker(&self, variables: Variables<'_>) -> Result<Option<Worker>, ShardError> {
        let number = worker::number(variables, "PARALLEL_SEQ", 1)?;
        Ok(number.map(|number| Worker {
            number,
            count: None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::submit::testing;

    #[test]
    fn the_script_is_this() {
        assert_eq!(
            testing::text(&Parallel, &testing::example()),
            r#"#!/usr/bin/env bash
# The exit code is the number of workers that failed; parallel.log has the code of each. SIGTERM to this process lets the
# workers finish, a second one stops them.
export KILN_THREADS=4 PARALLEL_SHELL="$BASH"
cd /data || exit

# A function, because parallel replaces texts such as {} in a command.
worker() {
  exec kiln ablate partition 'experts.order=["importance", "random"]' --out /data/runs/partition --store /data/runs/store
}
export -f worker

# For machines that see the same folders, add: --sshlogin NODE1,NODE2 --env worker --env KILN_THREADS --workdir .
exec parallel -j 8 -N0 --timeout 14400 --termseq TERM,60000,KILL --joblog /data/runs/partition/submit/parallel.log \
  --line-buffer --tagstring '{#}' worker ::: $(seq 8)
"#
        );
        let start = Parallel.start(&testing::example());
        assert_eq!(start, ["bash", "/data/runs/partition/submit/parallel.sh"]);
    }

    #[test]
    fn there_is_no_limit_if_none_is_given() {
        let text = testing::text(&Parallel, &testing::submission(&["kiln"]));
        assert!(text.contains("-N0 --termseq"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn each_worker_gets_the_command(words in testing::arguments()) {
            let submission = testing::submission_of(&words);
            let stub = ("parallel", r#"while [ "$2" != ::: ]; do shift; done; for _ in "${@:3}"; do "$PARALLEL_SHELL" -c "$1"; done"#);
            let calls = testing::calls(&testing::text(&Parallel, &submission), &[stub]);
            prop_assert_eq!(calls, vec![submission.command().to_vec(); submission.workers()]);
        }
    }
}
