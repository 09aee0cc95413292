//! `kiln spans`: the cost of a schedule, its masks, and schedules that cannot be.

use std::fs;

use super::kiln::Kiln;

const SIZES: [&str; 5] = ["spans", "--layers", "24", "--length", "8192"];

fn spans<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&SIZES[..], more].concat()
}

#[test]
fn a_schedule_is_told_and_drawn() {
    let kiln = Kiln::new();
    let text = kiln.succeed(&spans(&["bottom:4", "block:1024", "--svg", "masks.svg"]));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "bottom:4 block:1024: 24 layers, 8192 tokens, causal"
    );
    let line = |start: &str| {
        let found = lines.iter().find(|line| line.starts_with(start));
        found.unwrap_or_else(|| panic!("no `{start}`: {text}"))
    };
    assert!(line("4-23 ").contains("block:1024"), "{text}");
    assert!(
        line("all ").contains(" 0.271 ") && line("all ").ends_with("156.0 MiB"),
        "{text}"
    );
    assert!(
        line("full attention ").ends_with("1.000  576.0 MiB"),
        "{text}"
    );
    assert!(
        line("full (4 layers) ").ends_with("block:1024 (20 layers)"),
        "{text}"
    );
    let svg = fs::read_to_string(kiln.path("masks.svg")).unwrap();
    assert_eq!(svg.matches("<use ").count(), 24);

    // The words may come in one argument, and in another order.
    let same = kiln.succeed(&spans(&["block:1024 bottom:4"]));
    assert_eq!(same, text);
    let smaller = [
        "--key-value-heads",
        "3",
        "--head-width",
        "32",
        "--bytes",
        "4",
    ];
    let text = kiln.succeed(&spans(&[&["full"][..], &smaller].concat()));
    assert!(text.contains("144.0 MiB"), "{text}");
}

#[test]
fn an_encoder_attends_in_both_directions_and_has_no_cache() {
    let text = Kiln::new().succeed(&spans(&["every:3", "window:128", "--encoder"]));
    assert!(text.contains("both directions"), "{text}");
    assert!(!text.contains("cache"), "{text}");
}

#[test]
fn what_cannot_be_is_refused_on_one_line() {
    let kiln = Kiln::new();
    let refuse = |arguments: &[&str], texts: &[&str]| {
        let message = kiln.fail(&spans(arguments));
        assert_eq!(message.lines().count(), 1, "{arguments:?}: {message}");
        for text in texts {
            assert!(message.contains(text), "{arguments:?}: {message}");
        }
    };
    refuse(&[], &["required", "WORD"]);
    refuse(&["botom:4", "block:8"], &["`botom:4`", "`bottom:N`"]);
    refuse(&["bottom:4"], &["20 of 24 layers", "window:256"]);
    refuse(&["bottom:25", "block:8"], &["`bottom:25`", "at most 24"]);
    refuse(&["layers:0,24", "block:8"], &["layer 24", "below 24"]);
    refuse(&["every:0", "block:8"], &["`every:0`", "K at least 1"]);
    refuse(
        &["bottom:4", "top:4", "block:8"],
        &["`bottom:4`", "`top:4`"],
    );
    refuse(&["block:0"], &["`block:0`", "at least 1"]);
    refuse(
        &["full", "--encoder", "--bytes", "4"],
        &["--bytes", "--encoder"],
    );
    refuse(
        &["full", "--svg", "nowhere/masks.svg"],
        &["nowhere/masks.svg"],
    );
    let message = kiln.fail(&["spans", "full", "--layers", "0", "--length", "8"]);
    assert!(
        message.contains("--layers") && message.contains("1..=1000"),
        "{message}"
    );
}
