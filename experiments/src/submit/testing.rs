//! What tests of all engines need: submissions, arbitrary arguments, and programs that run what was made of them.

use std::{
    env, fs,
    io::Write,
    num::NonZero,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use proptest::{collection::vec, prelude::*};

use super::{
    engine::Engine,
    submission::{Resources, Submission},
};

/// Eight workers with all limits.
pub fn example() -> Submission {
    let command = [
        "kiln",
        "ablate",
        "partition",
        "experts.order=[\"importance\", \"random\"]",
        "--out",
        "/data/runs/partition",
        "--store",
        "/data/runs/store",
    ];
    let command = command.map(str::to_owned).into();
    let resources = Resources {
        cpus: NonZero::new(4).unwrap(),
        memory: NonZero::new(8192),
        time: Some(Duration::from_hours(4)),
    };
    let workers = NonZero::new(8).unwrap();
    let run = Path::new("/data/runs/partition");
    Submission::new(command, Path::new("/data"), run, workers, resources).unwrap()
}

/// Three workers without limits.
pub fn submission(command: &[&str]) -> Submission {
    submission_at("/", "runs/a", command)
}

/// Three workers that start in a folder, with this run folder.
pub fn submission_at(folder: &str, run: &str, command: &[&str]) -> Submission {
    let command = command.iter().copied().map(str::to_owned).collect();
    let (folder, run) = (Path::new(folder), Path::new(run));
    let workers = NonZero::new(3).unwrap();
    Submission::new(command, folder, run, workers, Resources::default()).unwrap()
}

/// A submission of `kiln` with these arguments.
pub fn submission_of(arguments: &[String]) -> Submission {
    let arguments = arguments.iter().map(String::as_str);
    submission(&["kiln"].into_iter().chain(arguments).collect::<Vec<_>>())
}

/// Arguments of any characters but null, among them those that mean something to a shell, to engines or to YAML.
pub fn arguments() -> impl Strategy<Value = Vec<String>> {
    let special = "[-'\"\\\\$`!{}()\\[\\]<>|&;*?~#%= \n\t\r:,@^aé漢\u{85}\u{2028}\u{feff}\u{ffff}𝄞\x7f\x01]{0,12}";
    let known = prop::sample::select(vec![
        "{}", "{#}", "{= =}", "$(HOME)", "$$", "$é", "%{CWD}", "%A", "EOF", "--", "-n", ":::",
        "{{x}}", "\\n", "'\\''",
    ]);
    let any = any::<String>().prop_map(|text| text.replace('\0', ""));
    vec(
        prop_oneof![special, known.prop_map(str::to_owned), any],
        0..6,
    )
}

/// The first file of an engine.
pub fn text(engine: &dyn Engine, submission: &Submission) -> String {
    engine.files(submission).unwrap().swap_remove(0).text
}

/// The command lines of all calls of `kiln` while Bash executes a script. Stubs are programs in Bash.
pub fn calls(script: &str, stubs: &[(&str, &str)]) -> Vec<Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    stub(folder, "kiln", r#"printf '%s\0' "$#" kiln "$@" >>"$CALLS""#);
    for (name, body) in stubs {
        stub(folder, name, body);
    }
    let path = format!("{}:{}", folder.display(), env::var("PATH").unwrap());
    let output = Command::new("bash")
        .args(["-c", script])
        .current_dir(folder)
        .env("PATH", path)
        .env("CALLS", folder.join("calls"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}\n{script}");
    let calls = fs::read_to_string(folder.join("calls")).unwrap();
    let mut words = calls.split_terminator('\0').map(str::to_owned);
    let mut all = vec![];
    while let Some(count) = words.next() {
        let count: usize = count.parse().unwrap();
        all.push(words.by_ref().take(count + 1).collect());
    }
    all
}

/// An executable program in Bash.
pub fn stub(folder: &Path, name: &str, body: &str) {
    let path = folder.join(name);
    fs::write(&path, format!("#!/usr/bin/env bash\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The list of this name in a program in Python, as Python reads it.
pub fn python_list(program: &str, name: &str) -> Vec<String> {
    const READ: &str = r#"
import ast, sys
source = sys.stdin.buffer.read().decode()
[found] = [n.value for n in ast.parse(source).body if isinstance(n, ast.Assign) and n.targets[0].id == sys.argv[1]]
sys.stdout.buffer.write("".join(word + "\0" for word in ast.literal_eval(found)).encode())
"#;
    let mut python = Command::new("python3")
        .args(["-c", READ, name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = python.stdin.take().unwrap();
    input.write_all(program.as_bytes()).unwrap();
    drop(input);
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "{program}");
    let words = String::from_utf8(output.stdout).unwrap();
    words.split_terminator('\0').map(str::to_owned).collect()
}

/// What YAML reads between double quotes.
pub fn unquoted(text: &str) -> String {
    let mut characters = text.chars();
    let mut read = String::new();
    while let Some(character) = characters.next() {
        if character != '\\' {
            read.push(character);
            continue;
        }
        read.push(match characters.next().unwrap() {
            'n' => '\n',
            't' => '\t',
            'u' => {
                let digits: String = characters.by_ref().take(4).collect();
                char::from_u32(u32::from_str_radix(&digits, 16).unwrap()).unwrap()
            }
            other => other,
        });
    }
    read
}
