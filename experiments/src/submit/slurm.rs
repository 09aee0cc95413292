//! Slurm: an array of batch jobs that start again at their time limit.

use super::{
    engine::{Engine, Script},
    error::{ShardError, SubmitError},
    shell,
    submission::{Submission, THREADS},
    worker::{self, Variables, Worker},
};

/// `sbatch` of an array job.
#[derive(Debug)]
pub struct Slurm;

const SCRIPT: &str = "slurm.sh";

/// How long before the time limit a worker is stopped, in seconds; half of the limit if that is less.
const NOTICE: u64 = 120;

impl Engine for Slurm {
    fn name(&self) -> &'static str {
        "slurm"
    }

    fn files(&self, submission: &Submission) -> Result<Vec<Script>, SubmitError> {
        let mut options = vec![
            "job-name=kiln".to_owned(),
            format!("array=1-{}", submission.workers()),
            format!("cpus-per-task={}", submission.cpus()),
        ];
        options.extend(submission.memory().map(|mib| format!("mem={mib}M")));
        let seconds = submission.seconds();
        options.extend(seconds.map(|seconds| format!("time={}", duration(seconds))));
        let notice = seconds.map_or(NOTICE, |seconds| NOTICE.min(seconds / 2));
        options.extend([
            "requeue".to_owned(),
            "open-mode=append".to_owned(),
            format!("output={}", log(submission)?),
            format!("signal=B:USR1@{notice}"),
        ]);
        let options = options.iter().map(|option| format!("#SBATCH --{option}\n"));
        let text = format!(
            r#"#!/usr/bin/env bash
{options}
export {THREADS}="${{SLURM_CPUS_PER_TASK:-{cpus}}}"
cd {folder} || exit

# A requeue, a preemption and a cancellation send SIGTERM to kiln and to this script, which only waits. Near the time
# limit, Slurm sends SIGUSR1 to this script alone, which stops kiln and starts this task of the array again.
again=1 limit=
trap 'again=1' TERM
trap 'again=1; [ "$limit" ] || kill -TERM "$!"; limit=1' USR1

{command} &
while [ "$again" ]; do again=; wait "$!"; status=$?; done

if [ "$limit" ] && [ "$status" = 143 ]; then
  scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"
fi
exit "$status"
"#,
            options = options.collect::<String>(),
            cpus = submission.cpus(),
            folder = shell::word(submission.folder()),
            command = shell::command_line(submission.command()),
        );
        Ok(vec![Script { name: SCRIPT, text }])
    }

    fn start(&self, submission: &Submission) -> Vec<String> {
        let script = submission.file(SCRIPT);
        vec!["sbatch".to_owned(), "--parsable".to_owned(), script]
    }

    /// The place in the array, whatever its first number and its step are.
    fn worker(&self, variables: Variables<'_>) -> Result<Option<Worker>, ShardError> {
        const ID: &str = "SLURM_ARRAY_TASK_ID";
        let Some(id) = worker::number(variables, ID, 0usize)? else {
            return Ok(None);
        };
        let first = worker::number(variables, "SLURM_ARRAY_TASK_MIN", 0)?.unwrap_or(1);
        let step = worker::number(variables, "SLURM_ARRAY_TASK_STEP", 1)?.unwrap_or(1);
        let place = id.checked_sub(first).ok_or_else(|| {
            let value = id.to_string();
            ShardError::Variable { name: ID, value }
        })?;
        Ok(Some(Worker {
            number: place / step + 1,
            count: worker::number(variables, "SLURM_ARRAY_TASK_COUNT", 1)?,
        }))
    }
}

/// The path of the logs, as an option in a batch script: in it, `%` starts a number, and a backslash anywhere would
/// switch the numbers off.
fn log(submission: &Submission) -> Result<String, SubmitError> {
    if submission.run().contains(['\\', '\n', '\r']) {
        return Err(Submission::refuse(
            submission.run(),
            "contains a backslash or a line break, which Slurm does not allow in paths of logs",
        ));
    }
    // `submit` cannot add a `%`.
    let folder = submission.file("").replace('%', "%%");
    let path = folder.replace('"', "\\\"") + "slurm-%A_%a.log";
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./%".contains(&byte);
    Ok(if path.bytes().all(is_plain) {
        path
    } else {
        format!("\"{path}\"")
    })
}

/// Days, hours, minutes and seconds.
fn duration(seconds: u64) -> String {
    let (minutes, seconds) = (seconds / 60, seconds % 60);
    let (hours, minutes) = (minutes / 60, minutes % 60);
    let (days, hours) = (hours / 24, hours % 24);
    format!("{days}-{hours:02}:{minutes:02}:{seconds:02}")
}

#[cfg(test)]
mod tests {
    use std::{
        env, fs, num::NonZero, os::unix::process::CommandExt, path::Path, process::Command, thread,
        time::Duration,
    };

    use proptest::prelude::*;

    use super::*;
    use crate::submit::{submission::Resources, testing};

    #[test]
    fn the_script_is_this() {
        assert_eq!(
            testing::text(&Slurm, &testing::example()),
            r#"#!/usr/bin/env bash
#SBATCH --job-name=kiln
#SBATCH --array=1-8
#SBATCH --cpus-per-task=4
#SBATCH --mem=8192M
#SBATCH --time=0-04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=/data/runs/partition/submit/slurm-%A_%a.log
#SBATCH --signal=B:USR1@120

export KILN_THREADS="${SLURM_CPUS_PER_TASK:-4}"
cd /data || exit

# A requeue, a preemption and a cancellation send SIGTERM to kiln and to this script, which only waits. Near the time
# limit, Slurm sends SIGUSR1 to this script alone, which stops kiln and starts this task of the array again.
again=1 limit=
trap 'again=1' TERM
trap 'again=1; [ "$limit" ] || kill -TERM "$!"; limit=1' USR1

kiln ablate partition 'experts.order=["importance", "random"]' --out /data/runs/partition --store /data/runs/store &
while [ "$again" ]; do again=; wait "$!"; status=$?; done

if [ "$limit" ] && [ "$status" = 143 ]; then
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
fi
exit "$status"
"#
        );
        let start = Slurm.start(&testing::example());
        assert_eq!(
            start.join(" "),
            "sbatch --parsable /data/runs/partition/submit/slurm.sh"
        );
    }

    #[test]
    fn limits_are_left_to_slurm_if_none_are_given() {
        let text = testing::text(&Slurm, &testing::submission(&["kiln"]));
        assert!(!text.contains("--mem"));
        assert!(!text.contains("--time"));
        assert!(text.contains("B:USR1@120"));
    }

    #[test]
    fn durations_have_days() {
        assert_eq!(duration(59), "0-00:00:59");
        assert_eq!(duration(90_061), "1-01:01:01");
    }

    #[test]
    fn a_short_limit_leaves_half_of_it_for_work() {
        let resources = Resources {
            time: Some(Duration::from_mins(1)),
            ..Resources::default()
        };
        let command = vec!["kiln".to_owned()];
        let (folder, workers) = (Path::new("/"), NonZero::<usize>::MIN);
        let submission = Submission::new(command, folder, folder, workers, resources);
        let text = testing::text(&Slurm, &submission.unwrap());
        assert!(text.contains("--signal=B:USR1@30\n"));
    }

    #[test]
    fn paths_of_logs_are_quoted_or_refused() {
        let log = |run| log(&testing::submission_at("/", run, &["kiln"]));
        assert_eq!(log("r").unwrap(), "/r/submit/slurm-%A_%a.log");
        let expected = r##""/r 5%% \"é\"#/submit/slurm-%A_%a.log""##;
        assert_eq!(log("r 5% \"é\"#").unwrap(), expected);
        for run in ["r\\n", "r\n", "r\r"] {
            let error = log(run).unwrap_err().to_string();
            assert!(error.contains("backslash or a line break"), "{error}");
        }
    }

    #[test]
    fn arrays_may_start_and_step_as_they_like() {
        let worker = |id: &str, first: &str, step: &str| {
            let look_up = |name: &str| {
                let value = match name {
                    "SLURM_ARRAY_TASK_ID" => id,
                    "SLURM_ARRAY_TASK_MIN" => first,
                    "SLURM_ARRAY_TASK_STEP" => step,
                    "SLURM_ARRAY_TASK_COUNT" => "4",
                    _ => return None,
                };
                Some(value.to_owned())
            };
            let worker = Slurm.worker(&look_up);
            worker.map(|worker| worker.map(|worker| (worker.number, worker.count)))
        };
        assert_eq!(worker("3", "1", "1"), Ok(Some((3, Some(4)))));
        assert_eq!(worker("0", "0", "1"), Ok(Some((1, Some(4)))));
        assert_eq!(worker("6", "0", "2"), Ok(Some((4, Some(4)))));
        assert!(worker("0", "1", "1").is_err());
        assert!(worker("1", "1", "0").is_err());
        assert!(worker("x", "1", "1").is_err());
    }

    /// Runs the script, sends a signal to it alone or to it and `kiln`, and returns its exit code and what was called.
    fn signalled(signal: &str, to_both: bool) -> (Option<i32>, String) {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        testing::stub(folder, "scontrol", r#"echo "scontrol $*" >>calls"#);
        testing::stub(
            folder,
            "kiln",
            r#"trap 'echo TERM >>calls; stop=1' TERM
touch ready
until [ "$stop" ]; do sleep 0.01; done
sleep 0.3
exit 143"#,
        );
        let text = testing::text(
            &Slurm,
            &testing::submission_at(folder.to_str().unwrap(), "run", &["./kiln"]),
        );
        let path = format!("{}:{}", folder.display(), env::var("PATH").unwrap());
        let mut script = Command::new("bash")
            .args(["-c", &text])
            .current_dir(folder)
            .env("PATH", path)
            .env("SLURM_ARRAY_JOB_ID", "7")
            .env("SLURM_ARRAY_TASK_ID", "2")
            .process_group(0)
            .spawn()
            .unwrap();
        while !folder.join("ready").exists() {
            thread::sleep(Duration::from_millis(5));
        }
        let group = if to_both { "-" } else { "" };
        let kill = format!("kill -{signal} -- {group}{}", script.id());
        assert!(
            Command::new("bash")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
        let code = script.wait().unwrap().code();
        (code, fs::read_to_string(folder.join("calls")).unwrap())
    }

    #[test]
    fn near_the_limit_kiln_is_stopped_and_starts_again() {
        let expected = (Some(143), "TERM\nscontrol requeue 7_2\n".to_owned());
        assert_eq!(signalled("USR1", false), expected);
    }

    #[test]
    fn a_requeue_sends_kiln_one_signal() {
        let expected = (Some(143), "TERM\n".to_owned());
        assert_eq!(signalled("TERM", true), expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn kiln_gets_the_command(words in testing::arguments()) {
            let submission = testing::submission_of(&words);
            let calls = testing::calls(&testing::text(&Slurm, &submission), &[]);
            prop_assert_eq!(calls, vec![submission.command().to_vec()]);
        }
    }
}
