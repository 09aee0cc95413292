//! Kubernetes: an indexed job with one pod per worker.

use std::path::Path;

use super::{
    engine::{Engine, Script},
    error::{ShardError, SubmitError},
    literal::literal,
    submission::{Submission, THREADS},
    worker::{self, Variables, Worker},
};

/// `kubectl create` of an indexed job; needs Kubernetes 1.29 or later.
///
/// The image, which has a program `kiln` of its own, and the claim of a volume that all pods can write have names to be
/// edited.
#[derive(Debug)]
pub struct K8s;

const MANIFEST: &str = "k8s.yaml";

/// The program in the image.
const PROGRAM: &str = "kiln";

/// The longest part of the run folder's name in the name of a pod, which has at most 63 characters.
const NAME: usize = 30;

impl Engine for K8s {
    fn name(&self) -> &'static str {
        "k8s"
    }

    fn files(&self, submission: &Submission) -> Result<Vec<Script>, SubmitError> {
        let workers = submission.workers();
        let cpus = submission.cpus();
        let program = PROGRAM.to_owned();
        let command = [&program].into_iter().chain(&submission.command()[1..]);
        let command = command.map(|word| format!("            - {}\n", literal(&verbatim(word))));
        let seconds = submission.seconds();
        let deadline = seconds.map_or_else(String::new, |seconds| {
            format!("  activeDeadlineSeconds: {seconds}\n")
        });
        let memory = submission.memory();
        let resources = memory.map_or_else(String::new, |mib| {
            format!(", memory: {mib}Mi}}\n            limits: {{memory: {mib}Mi")
        });
        let text = format!(
            r#"# Each worker is a pod. Edit: the image, and the claim of a volume that all pods can write (ReadWriteMany).
apiVersion: batch/v1
kind: Job
metadata:
  generateName: {name}
spec:
  completionMode: Indexed
  completions: {workers}
  parallelism: {workers}
{deadline}  backoffLimitPerIndex: 10
  podFailurePolicy:
    rules:
      - action: Ignore
        onPodConditions:
          - type: DisruptionTarget
            status: "True"
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 120
      containers:
        - name: kiln
          image: kiln:latest
          workingDir: {folder}
          command:
{command}          env:
            - name: {THREADS}
              value: "{cpus}"
          resources:
            requests: {{cpu: {cpus}{resources}}}
          volumeMounts:
            - name: runs
              mountPath: {mount}
      volumes:
        - name: runs
          persistentVolumeClaim:
            claimName: kiln
"#,
            name = literal(&format!("kiln-{}", name(submission.run()))),
            command = command.collect::<String>(),
            folder = literal(submission.folder()),
            mount = literal(&mount(submission)?),
        );
        let name = MANIFEST;
        Ok(vec![Script { name, text }])
    }

    fn start(&self, submission: &Submission) -> Vec<String> {
        let manifest = submission.file(MANIFEST);
        ["kubectl", "create", "-f", &manifest]
            .map(str::to_owned)
            .into()
    }

    fn worker(&self, variables: Variables<'_>) -> Result<Option<Worker>, ShardError> {
        let index = worker::number(variables, "JOB_COMPLETION_INDEX", 0usize)?;
        Ok(index.map(|index| Worker {
            number: index + 1,
            count: None,
        }))
    }
}

/// The word of a command such that Kubernetes, which replaces `$(NAME)` and `$$`, leaves it as it is.
fn verbatim(word: &str) -> String {
    word.replace('$', "$$")
}

/// What the run folder's name adds to the name of the job, up to the dash before a random end.
fn name(run: &str) -> String {
    let folder = run
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let mut name = String::new();
    for character in folder.chars().take(NAME) {
        let lower = character.to_ascii_lowercase();
        if lower.is_ascii_alphanumeric() {
            name.push(lower);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    if !name.is_empty() && !name.ends_with('-') {
        name.push('-');
    }
    name
}

/// Where the volume is in a pod: the folder of submission if the run folder is below it, else the folder that holds the run
/// folder, and usually the store.
fn mount(submission: &Submission) -> Result<String, SubmitError> {
    let (run, folder) = (submission.run().trim_end_matches('/'), submission.folder());
    let parent = run.rsplit_once('/').map(|(parent, _)| parent);
    let is_below = run != folder && Path::new(run).starts_with(folder);
    let above = is_below.then_some(folder);
    // No volume can be the root.
    let mut mounts = [above, parent].into_iter().flatten();
    let mount = mounts.find(|mount| !mount.trim_matches('/').is_empty());
    let mount = mount.unwrap_or(submission.run());
    if mount.contains(':') {
        let problem = "contains a colon, which Kubernetes does not allow in paths of volumes";
        return Err(Submission::refuse(mount, problem));
    }
    Ok(mount.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::submit::testing;

    #[test]
    fn the_manifest_is_this() {
        assert_eq!(
            testing::text(&K8s, &testing::example()),
            r#"# Each worker is a pod. Edit: the image, and the claim of a volume that all pods can write (ReadWriteMany).
apiVersion: batch/v1
kind: Job
metadata:
  generateName: "kiln-partition-"
spec:
  completionMode: Indexed
  completions: 8
  parallelism: 8
  activeDeadlineSeconds: 14400
  backoffLimitPerIndex: 10
  podFailurePolicy:
    rules:
      - action: Ignore
        onPodConditions:
          - type: DisruptionTarget
            status: "True"
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 120
      containers:
        - name: kiln
          image: kiln:latest
          workingDir: "/data"
          command:
            - "kiln"
            - "ablate"
            - "partition"
            - "experts.order=[\"importance\", \"random\"]"
            - "--out"
            - "/data/runs/partition"
            - "--store"
            - "/data/runs/store"
          env:
            - name: KILN_THREADS
              value: "4"
          resources:
            requests: {cpu: 4, memory: 8192Mi}
            limits: {memory: 8192Mi}
          volumeMounts:
            - name: runs
              mountPath: "/data"
      volumes:
        - name: runs
          persistentVolumeClaim:
            claimName: kiln
"#
        );
        let start = K8s.start(&testing::example());
        assert_eq!(
            start.join(" "),
            "kubectl create -f /data/runs/partition/submit/k8s.yaml"
        );
    }

    #[test]
    fn there_are_no_limits_if_none_are_given() {
        let text = testing::text(&K8s, &testing::submission(&["kiln"]));
        assert!(text.contains("requests: {cpu: 1}\n"));
        assert!(!text.contains("activeDeadlineSeconds"));
    }

    #[test]
    fn names_are_those_of_hosts() {
        assert_eq!(name("runs/My_run=2/"), "my-run-2-");
        assert_eq!(name("runs/--é"), "");
        assert_eq!(name("runs/é1 "), "1-");
        assert!(name(&"a".repeat(99)).len() <= NAME + 1);
    }

    #[test]
    fn the_volume_holds_the_run_folder() {
        for (folder, run, expected) in [
            ("/data", "runs/a", "/data"),
            ("/data", "/data/runs/a/", "/data"),
            ("/data", "/database/a", "/database"),
            ("/data", "/data", "/data"),
            ("/", "runs/a", "/runs"),
            ("/", "/a", "/a"),
        ] {
            let submission = testing::submission_at(folder, run, &["kiln"]);
            assert_eq!(mount(&submission).unwrap(), expected);
        }
        assert!(mount(&testing::submission_at("/", "/a:b/c", &["kiln"])).is_err());
    }

    /// The program of the container, as YAML and Kubernetes read it.
    fn command(manifest: &str) -> Vec<String> {
        let words = manifest
            .lines()
            .filter_map(|line| line.strip_prefix("            - \""));
        let words = words.map(|word| expanded(&testing::unquoted(word.strip_suffix('"').unwrap())));
        words.collect()
    }

    /// What `Expand` in Kubernetes' `third_party/forked/golang/expansion/expand.go` makes of a word, where no variable
    /// is defined as empty.
    fn expanded(word: &str) -> String {
        let mut text = String::new();
        let mut rest = word;
        while let Some((before, after)) = rest.split_once('$') {
            text.push_str(before);
            let (read, skipped) = match after.as_bytes().first() {
                None => ("$", 0),
                Some(b'$') => ("$", 1),
                Some(b'(') if after.contains(')') => ("", after.find(')').unwrap() + 1),
                Some(b'(') => ("$(", 1),
                // A byte that is no whole character would be taken for one.
                Some(byte) if byte.is_ascii() => ("$", 0),
                Some(_) => panic!("`{word}` would be damaged"),
            };
            text.push_str(read);
            rest = &after[skipped..];
        }
        text + rest
    }

    proptest! {
        #[test]
        fn pods_get_the_command(words in testing::arguments()) {
            let submission = testing::submission_of(&words);
            let manifest = testing::text(&K8s, &submission);
            prop_assert_eq!(command(&manifest), submission.command());
        }
    }
}
