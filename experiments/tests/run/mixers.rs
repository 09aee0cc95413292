//! Schedules of mixers: in recipes, on the command line, and in the folders of models.

use super::bad_input::refuse;
use super::kiln::{Kiln, printed, rows};
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
    let plain = run("plain", r#"models=[{name="a", spans="full"}]"#);
    let named = r#"models=[{name="a", spans="full", mixers="attention"}]"#;
    assert_eq!(run("named", named), plain);
    let model = "plain/artifacts/seed-1/a/model";
    let eval = ["eval", model, "--task=text", "--data=books/test.txt"];
    let same = kiln.succeed(&[&eval[..], &["--mixers=bottom:2 attention"]].concat());
    assert_eq!(same, printed(&plain));
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
