//! Arms that fail: each is recorded with its cause, and all others are done.

use std::fmt::Write;

use serde_json::Value;

use super::kiln::{Kiln, results, text_of};

/// A block of 17 arms that can be done, and three that fail in their own ways.
const ARMS: &str = r#"
[ablate]
reference = "good=0"

[[ablate.block]]
variants = [
"#;
const BAD: [(&str, &str, &str); 3] = [
    ("nan", "\"layerwise.temperature\" = 1e-300", "not finite"),
    (
        "memory",
        "\"stages.student.methods\" = [], \"stages.student.random\" = { layers = 1, hidden = 16, heads = 2, width = 400000000 }",
        "lost",
    ),
    (
        "bad",
        "\"stages.student.freeze\" = [\"nothing\"]",
        "bad input",
    ),
];

fn status(arm: &Value) -> &str {
    arm["seeds"][0]["status"].as_str().unwrap()
}

#[test]
fn three_of_twenty_arms_fail_and_seventeen_are_done() {
    let kiln = Kiln::new();
    let mut text = std::fs::read_to_string(kiln.path("small.toml")).unwrap();
    text.push_str(ARMS);
    for number in 0..17 {
        let rate = 1e-3 * f64::from(number + 1);
        let set = format!("{{ \"stages.student.train.learning_rate\" = {rate} }}");
        writeln!(text, "{{ name = \"good={number}\", set = {set} }},").unwrap();
    }
    for (name, set, _) in BAD {
        writeln!(text, "{{ name = \"{name}\", set = {{ {set} }} }},").unwrap();
    }
    text.push_str("]\n");
    kiln.write("failing.toml", text);
    let arguments = [
        "ablate",
        "failing.toml",
        "arms=[]",
        "train.epochs=1",
        "data.synthetic.train=40",
        "data.synthetic.dev=20",
        "latency.repeats=1",
        "--out",
        "run",
        "--ui",
        "none",
    ];
    // So much memory that nothing but the arm for which it is too little needs more.
    let program = kiln.command(&[]).get_program().to_owned();
    let mut limited = std::process::Command::new("bash");
    limited
        .args(["-c", "ulimit -v 12000000; exec \"$0\" \"$@\""])
        .arg(program)
        .args(arguments)
        .current_dir(kiln.path(""));
    let output = limited.output().unwrap();
    let errors = text_of(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    let last = errors.lines().last().unwrap();
    assert!(
        last.starts_with("kiln: error: ") && last.matches("seed 1").count() >= 3,
        "{errors}"
    );
    let found = results(&kiln.path("run"));
    let arms: Vec<&Value> = found["arms"].as_array().unwrap().iter().collect();
    let arms: Vec<&Value> = arms
        .into_iter()
        .filter(|arm| arm["is_arm"] == true)
        .collect();
    assert_eq!(arms.len(), 20);
    assert_eq!(arms.iter().filter(|arm| status(arm) == "done").count(), 17);
    for (name, _, cause) in BAD {
        let arm = arms.iter().find(|arm| arm["name"] == name).unwrap();
        assert_eq!(status(arm), "failed", "{arm}");
        assert_eq!(arm["seeds"][0]["failure"]["cause"], cause, "{arm}");
        let notes = found["notes"].as_array().unwrap().iter();
        let notes: Vec<&str> = notes.filter_map(Value::as_str).collect();
        assert!(
            notes
                .iter()
                .any(|note| note.starts_with(&format!("{name}: 1 of 1 seeds failed"))),
            "{notes:?}"
        );
        let verdicts = found["comparisons"].as_array().unwrap().iter();
        let mut verdicts = verdicts.filter(|verdict| verdict["arm"] == name);
        assert_eq!(verdicts.next().unwrap()["verdict"]["kind"], "refused");
    }
    // They are not tried again, unless that is asked for.
    let again = kiln.start(&arguments);
    assert_eq!(again.status.code(), Some(1));
    assert!(text_of(&again.stderr).contains("in an earlier start"));
}
