//! Workers that engines start, here by stand-ins for the programs of the engines, and shares of the arms.

use std::{env, fs, os::unix::fs::PermissionsExt, process::Output};

use super::kiln::{Kiln, refusal, results, text_of};

/// The recipe with two arms and two seeds.
const SWEEP: [&str; 8] = [
    "small.toml",
    "train.epochs=1",
    "data.synthetic.dev=60",
    "latency.repeats=1",
    "--seeds",
    "2",
    "--store",
    "store",
];

fn submit(kiln: &Kiln, arguments: &[&str]) -> Output {
    let path = format!(
        "{}:{}",
        kiln.path("bin").display(),
        env::var("PATH").unwrap()
    );
    let mut command = kiln.command(&[&["submit"], &SWEEP[..], arguments].concat());
    command.env("PATH", path).output().unwrap()
}

/// A program in Bash.
fn program(kiln: &Kiln, name: &str, text: &str) {
    let name = format!("bin/{name}");
    kiln.write(&name, format!("#!/usr/bin/env bash\n{text}\n"));
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(kiln.path(&name), mode).unwrap();
}

#[test]
fn workers_of_an_engine_do_the_work_of_one_process() {
    let alone = Kiln::new();
    alone.succeed(&[&["ablate"], &SWEEP[..], &["--out", "run"]].concat());
    let kiln = Kiln::new();
    // As Slurm, but one worker after the other, and in another folder.
    let sbatch = r#"cd /
for id in 1 2; do SLURM_ARRAY_TASK_ID=$id SLURM_ARRAY_TASK_COUNT=2 bash "$2" >&2 || exit; done; echo 7"#;
    program(&kiln, "sbatch", sbatch);
    let to = ["--to", "slurm", "--workers", "2", "--shard", "--out", "run"];
    let output = submit(&kiln, &to);
    let told = text_of(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert_eq!(text_of(&output.stdout).lines().last(), Some("7"));
    assert_eq!(results(&kiln.path("run")), results(&alone.path("run")));
    // The first worker has its share alone, the second one what is left.
    let (first, second) = told.split_once("the worker that ends last").unwrap();
    for (told, done, left) in [(first, "cut", "gated"), (second, "gated", "cut")] {
        for seed in 1..=2 {
            assert!(
                told.contains(&format!("seed {seed}: training `{done}`")),
                "{told}"
            );
            assert!(
                !told.contains(&format!("seed {seed}: training `{left}`")),
                "{told}"
            );
        }
    }
}

#[test]
fn a_script_is_shown_and_not_written() {
    let kiln = Kiln::new();
    let to = ["--to", "parallel", "--workers", "2", "--print"];
    let script = text_of(&submit(&kiln, &to).stdout);
    let store = fs::canonicalize(kiln.path("")).unwrap().join("store");
    let store = format!("--store {} --seeds 2", store.display());
    assert!(script.contains(&store), "{script}");
    assert!(!kiln.path("runs").exists());
}

#[test]
fn an_edited_script_is_kept() {
    let kiln = Kiln::new();
    program(&kiln, "sbatch", "exit 3");
    let to = ["--to", "slurm", "--out", "run", "--workers"];
    for (workers, is_kept) in [("2", false), ("2", false), ("3", true)] {
        let output = submit(&kiln, &[&to[..], &[workers]].concat());
        assert_eq!(output.status.code(), Some(3), "that of the engine");
        assert_eq!(kiln.path("run/submit/slurm.sh.old").exists(), is_kept);
    }
}

#[test]
fn mistakes_are_refused_before_a_file_is_written() {
    let kiln = Kiln::new();
    kiln.write("mine/notes", "");
    for (arguments, problem) in [
        (
            &["--to", "pbs", "--workers", "2"][..],
            "one of slurm, hq, parallel, ray, k8s",
        ),
        (&["--to", "slurm", "--workers", "0"], "--workers"),
        (&["--to", "slurm", "--workers", "2", "--memory", "8"], "8G"),
        (
            &["--to", "slurm", "--workers", "2", "train.epohcs=1"],
            "train.epohcs",
        ),
        (
            &["--to", "slurm", "--workers", "2", "--out", "mine"],
            "is no run folder",
        ),
    ] {
        let message = refusal(&submit(&kiln, arguments));
        assert!(message.contains(problem), "{message}");
    }
    assert!(!kiln.path("runs").exists() && !kiln.path("mine/submit").exists());
    let mut command = kiln.command(&["submit", "--to", "slurm", "--workers", "2", "small.toml"]);
    let message = refusal(&command.env("PATH", "").output().unwrap());
    assert!(message.contains("cannot start `sbatch`"), "{message}");
}

#[test]
fn shares_are_checked() {
    let kiln = Kiln::new();
    for (shard, problem) in [("3/2", "is no share"), ("auto", "--shard i/n")] {
        let message = kiln.fail(&[&["ablate", "--shard", shard], &SWEEP[..]].concat());
        assert!(message.contains(problem), "{message}");
    }
}

#[test]
fn variables_are_read() {
    let kiln = Kiln::new();
    let with = |name: &str, value: &str| {
        let mut command = kiln.command(&["run", "small.toml"]);
        refusal(&command.env(name, value).output().unwrap())
    };
    let message = with("KILN_THREADS", "0");
    assert!(
        message.contains("the variable KILN_THREADS is `0`"),
        "{message}"
    );
    let message = with("KILN_DEVICE", "gpuu");
    assert!(message.contains("unknown device `gpuu`"), "{message}");
}
