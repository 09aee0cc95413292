//! Schedules of mixers: in recipes, on the command line, and in the folders of models.

use std::fs;

use serde_json::{Value, json};

use super::bad_input::refuse;
use super::kiln::{Kiln, printed, rows, text_of, without_intervals};
use super::language;

const SPANS: [&str; 6] = ["spans", "window:4", "--layers", "2", "--length", "8"];

#[test]
fn attention_by_its_name_is_attention() {
    let kiln = language::kiln();
    let plain = kiln.succeed(&SPANS);
    let named = kiln.succeed(&[&SPANS[..], &["--mixers", "top:1 attention"]].concat());
    let rest = |text: &str| text.split_once('\n').map(|(_, rest)| rest.to_owned());
    assert!(named.starts_with("window:4, mixers top:1 attention: 2 layers"));
    assert_eq!(rest(&named), rest(&plain));

    let run = |out: &str, model: &str| {
        let command = ["run", "text.toml", "--out", out, "train.epochs=1", model];
        kiln.succeed(&command);
        rows(&kiln, out)[0]["metrics"].clone()
    };
    let plain = run("plain", r#"arms=[{name="a", model.spans="full"}]"#);
    let named = r#"arms=[{name="a", model={spans="full", mixers="attention"}}]"#;
    assert_eq!(run("named", named), plain);
    let model = "plain/arms/a/seed-1/train/model";
    let eval = ["eval", model, "--task=text", "--data=books/test.txt"];
    let same = kiln.succeed(&[&eval[..], &["--mixers=bottom:2 attention"]].concat());
    assert_eq!(without_intervals(&same), printed(&plain));
}

#[test]
fn mixers_that_cannot_be_are_refused_on_one_line() {
    let kiln = Kiln::new();
    for (mixers, texts) in [
        ("atention", &["unknown mixer `atention`", "`attention`?"]),
        ("top:3 attention", &["`top:3`", "at most 2"]),
        ("attention:heads=4", &["`attention`", "no key `heads`"]),
    ] {
        let command = [&SPANS[..], &["--mixers", mixers]].concat();
        refuse(&kiln, &command, texts);
    }
    let command = [&SPANS[..], &["--heads=4"]].concat();
    refuse(&kiln, &command, &["--mixers"]);
}

const STATES: &str = r#"arms=[{name="s4d", model={spans="window:4", mixers="bottom:1 s4d:states=8"}}, {name="frozen", model={spans="window:4", mixers="bottom:1 s4d:states=8,train=false"}}, {name="local", model.spans="window:4"}]"#;

#[test]
fn a_state_space_is_trained_judged_and_kept() {
    let kiln = language::kiln();
    let run = ["run", "text.toml", "--out", "run", "train.epochs=2", STATES];
    let table = kiln.succeed(&run);
    assert!(table.contains("1 s4d:states=8, 1 window:4"), "{table}");
    let rows = rows(&kiln, "run");
    let number = |row: usize, key: &str| rows[row][key].as_u64().unwrap();
    assert_eq!(rows[0]["mixers"], json!(["s4d:states=8", "attention"]));
    assert_eq!(number(0, "state_numbers"), 16 * 8);
    assert_eq!(
        number(0, "attention_pairs") * 2,
        number(2, "attention_pairs")
    );
    assert_eq!(
        number(0, "cached_positions") * 2,
        number(2, "cached_positions")
    );
    assert_ne!(number(0, "parameters"), number(2, "parameters"));
    assert_eq!(number(0, "parameters"), number(1, "parameters"));
    assert_ne!(rows[0]["metrics"], rows[1]["metrics"]);
    assert!(rows[2].get("mixers").is_none(), "{}", rows[2]);

    // The folder alone has the same scores, and goes on writing.
    let model = "run/arms/s4d/seed-1/train/model";
    let eval = |model: &str, more: &[&str]| {
        let command = ["eval", model, "--task=text", "--data=books/test.txt"];
        without_intervals(&kiln.succeed(&[&command, more].concat()))
    };
    assert_eq!(eval(model, &[]), printed(&rows[0]["metrics"]));
    let other_rule = ["--mixers=bottom:1 s4d:states=8,rule=zoh"];
    assert_ne!(eval(model, &other_rule), printed(&rows[0]["metrics"]));
    let generate = [
        "generate",
        model,
        "--prompt",
        "the cat",
        "--max-new-tokens=8",
    ];
    let text = kiln.succeed(&generate);
    assert_eq!(
        kiln.succeed(&[&generate[..], &["--no-cache"]].concat()),
        text
    );

    // A model that never had it.
    let local = "run/arms/local/seed-1/train/model";
    let mixers = "--mixers=top:1 s4d";
    for command in [
        vec![
            "eval",
            local,
            "--task=text",
            "--data=books/test.txt",
            mixers,
        ],
        vec!["generate", local, "--prompt", "the cat", mixers],
    ] {
        let texts = [
            "lacks weights of the mixers: transformer.h.1.mixer.",
            "recipe",
        ];
        refuse(&kiln, &command, &texts);
    }
    let output = kiln.start(&[
        "run",
        "continue",
        "--out",
        "next",
        &format!("model.path={local}"),
        "data.path=books",
        "data.length=32",
        "data.epoch=16",
        r#"arms=[{name="mixed", model={spans="window:4", mixers="top:1 s4d:states=4"}}]"#,
    ]);
    let told = text_of(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(
        told.contains("not in the checkpoint, newly initialised: transformer.h.1.mixer."),
        "{told}"
    );
}

#[test]
fn a_state_space_stays_with_the_teacher_and_its_experts() {
    let kiln = Kiln::with_teacher();
    let settings = ["data.path=sst2", "train.epochs=1", "latency.repeats=1"];
    let mixers = "model.mixers=bottom:1 s4d:states=4";
    kiln.succeed(
        &[
            &["run", "sst2.toml", "--out", "mixed", mixers][..],
            &settings,
        ]
        .concat(),
    );
    for model in [
        "start/seed-1/model",
        "arms/teacher/seed-1/train/model",
        "arms/cut/seed-1/train/model",
    ] {
        let folder = kiln.path(&format!("mixed/{model}"));
        let config: Value =
            serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
        assert_eq!(
            config["kiln"]["mixers"],
            json!(["s4d:states=4", "attention"])
        );
    }
    let path = [
        "run",
        "path.toml",
        "--out",
        "tuned",
        "model.path=teacher",
        mixers,
    ];
    let tuned = [&path[..], &["stages.teacher.train.epochs=0"], &settings].concat();
    refuse(
        &kiln,
        &tuned,
        &["model `teacher`: its `mixers` give layer 0 another mixer"],
    );
    kiln.succeed(&[&path[..], &settings].concat());
}

#[test]
fn a_state_space_is_told_and_drawn() {
    let kiln = Kiln::new();
    let more = ["--mixers", "bottom:1 s4d", "--svg", "masks.svg"];
    let text = kiln.succeed(&[&SPANS[..], &more].concat());
    let lines: Vec<&str> = text.lines().collect();
    let expected = [
        "window:4, mixers bottom:1 s4d: 2 layers, 8 tokens, causal",
        "",
        "layers              mixer      span  pairs  of full      cache",
        "0                     s4d         -      0    0.000   96.0 KiB",
        "1               attention  window:4     26    0.722   12.0 KiB",
        "all                                     26    0.361  108.0 KiB",
        "full attention                          72    1.000   48.0 KiB",
    ];
    assert_eq!(lines[..7], expected, "{text}");
    assert!(
        text.contains("s4d (1 layer)") && text.contains('░'),
        "{text}"
    );
    assert!(
        text.contains("░: tokens that reach them through a state"),
        "{text}"
    );
    let svg = fs::read_to_string(kiln.path("masks.svg")).unwrap();
    assert!(
        svg.contains(">s4d: 1 layer<") && svg.contains("#b3e0d5"),
        "{svg}"
    );
}
