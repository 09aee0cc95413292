//! Experts in decoders: the commands one after the other, and recipes that split the model to begin with.

use std::fs;

use serde_json::Value;

use super::{
    bad_input::refuse,
    chain::write_ids,
    kiln::{Kiln, rows},
    language,
};

const TEXT: [&str; 3] = ["--task=text", "--data=books/test.txt", "--max-length=32"];
const SIZES: [&str; 3] = ["--experts=4", "--width=8", "--shared=4"];
const MODEL: &str = "run/arms/full/seed-1/train/model";

/// Recipes with data, and a dense decoder trained on it.
fn trained() -> Kiln {
    let kiln = language::kiln();
    kiln.succeed(&["run", "text.toml", "--out", "run", "train.epochs=6"]);
    kiln
}

fn bits(kiln: &Kiln, model: &str) -> f64 {
    let scores = kiln.succeed(&[&["eval", model][..], &TEXT].concat());
    let line = scores
        .lines()
        .find(|line| line.starts_with("bits_per_byte "));
    line.unwrap().split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_decoder_is_scored_split_judged_and_continued() {
    let kiln = trained();
    let run = |arguments: &[&[&str]]| kiln.succeed(&arguments.concat());
    let data = ["--task=text", "--data=books/train", "--max-length=32"];
    run(&[&["importance", MODEL, "--output=scores"], &data]);
    let one_by_one = ["--batch-size=1", "--output=again"];
    run(&[&["importance", MODEL], &data, &one_by_one]);
    let close = |file: &str| -> Vec<f32> {
        let bytes = fs::read(kiln.path(file)).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let scores = file.tensor("importance").unwrap();
        assert_eq!(scores.shape(), [2, 32]);
        let numbers = scores.data().chunks_exact(4);
        numbers
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
            .collect()
    };
    for (whole, alone) in close("scores").into_iter().zip(close("again")) {
        assert!(
            (whole - alone).abs() <= 1e-3 * whole.abs(),
            "{whole} {alone}"
        );
    }

    let cut = ["--importance=scores", "--output=cut"];
    run(&[&["adapt", MODEL], &SIZES, &cut]);
    let random = ["--order=random", "--output=random"];
    run(&[&["adapt", MODEL], &SIZES, &random]);
    // What is lost least is what matters least.
    assert!(bits(&kiln, "cut") < bits(&kiln, "random"));
    assert!(bits(&kiln, MODEL) < bits(&kiln, "cut"));

    // The dense model is gone: a folder with experts stands by itself.
    let balanced = [
        "--order=random",
        "--router=hash-balance",
        "--output=balanced",
    ];
    run(&[&["adapt", MODEL], &SIZES, &balanced, &data]);
    let several = [
        "--order=random",
        "--router=top-k",
        "--k=2",
        "--output=several",
    ];
    run(&[&["adapt", MODEL], &SIZES, &several]);
    let copies = ["--experts=3", "--width=32", "--shared=32", "--order=random"];
    for (router, name) in [("hash-random", "copies"), ("gate-token", "gated")] {
        let router = format!("--router={router}");
        let output = format!("--output={name}");
        run(&[&["adapt", MODEL], &copies, &[&router, &output]]);
    }
    let dense = bits(&kiln, MODEL);
    write_ids(&kiln, "ids", [[2, 5, 6, 3], [2, 7, 3, 0]], [2, 4]);
    fs::rename(kiln.path(MODEL), kiln.path("away")).unwrap();
    for model in ["copies", "gated"] {
        assert!((bits(&kiln, model) - dense).abs() < 1e-6, "{model}");
    }
    for model in ["cut", "balanced", "several"] {
        run(&[&["forward", model, "--input=ids", "--output=out"]]);
        let generate = ["generate", model, "--prompt=the cat", "--max-new-tokens=8"];
        let cached = run(&[&generate]);
        assert_eq!(run(&[&generate, &["--no-cache"]]), cached, "{model}");
    }
}

#[test]
fn a_recipe_compares_spans_and_experts() {
    let kiln = language::kiln();
    let models = r#"arms=[
        {name="full", model.spans="full"},
        {name="full-experts", model.spans="full", stages.train.methods=["experts"],
            experts={count=4, width=8, shared=4, order="random"}},
        {name="local-several", model.spans="window:4", stages.train.methods=["experts"],
            experts={count=4, width=8, shared=0, router="top-k", k=2}},
    ]"#;
    let models = models.replace('\n', "");
    let losses = [
        "experts.balance=0.01",
        "experts.z=0.001",
        "importance.samples=8",
    ];
    let run = |recipe: &str, out: &str, more: &[&str]| {
        let command = ["run", recipe, "--out", out, &models];
        kiln.succeed(&[&command, &losses[..], more].concat())
    };
    let table = run("text.toml", "text", &["train.epochs=1"]);
    assert!(table.contains("4 experts of 8, top-k:2"), "{table}");
    let found = rows(&kiln, "text");
    let number = |row: &Value, key: &str| row[key].as_u64().unwrap();
    assert!(found[0]["experts"].is_null());
    let [dense, split, several] =
        [0, 1, 2].map(|row| number(&found[row], "multiply_adds_per_token"));
    // One of four experts of a quarter of the width, and two of them, narrower attention and a gate.
    assert_eq!(dense - split, 2 * 2 * 16 * (32 - 8));
    assert!(several < dense);
    assert!(number(&found[1], "active_parameters") < number(&found[1], "parameters"));

    // The same again, from a checkpoint: each model is judged as it is cut, before it is trained.
    let start = "model.path=text/arms/full/seed-1/train/model";
    let text = fs::read_to_string(kiln.path("text.toml")).unwrap();
    let (before, rest) = text.split_once("[model.random]").unwrap();
    let (_, data) = rest.split_once("[data]").unwrap();
    kiln.write("continue.toml", format!("{before}[data]{data}"));
    run("continue.toml", "more", &["train.epochs=1", start]);
    let found = rows(&kiln, "more");
    assert_eq!(found.len(), 4);
    assert!(found[2]["metrics_before"]["bits_per_byte"].is_number());
    // Its experts stay as they are in another training.
    let start = "model.path=more/arms/full-experts/seed-1/train/model";
    let plain = r#"arms=[{name="again", model.spans="full"}]"#;
    kiln.succeed(&[
        "run",
        "continue.toml",
        "--out=again",
        "train.epochs=1",
        start,
        plain,
    ]);
    let again = "again/arms/again/seed-1/train/model";
    assert!(kiln.path(again).join("experts.safetensors").exists());
    let command = ["run", "continue.toml", "--out=no", start, &models];
    refuse(
        &kiln,
        &[&command, &losses[..]].concat(),
        &["full-experts/seed-1/train/model has expert layers already"],
    );
}

#[test]
fn what_cannot_be_split_is_refused_on_one_line() {
    let kiln = trained();
    let adapt = |more: &[&str], texts: &[&str]| {
        let command = ["adapt", MODEL, "--order=random", "--output=no"];
        refuse(&kiln, &[&command, &SIZES[..], more].concat(), texts);
        assert!(!kiln.path("no").exists());
    };
    adapt(
        &["--router=gate-sentence"],
        &["`gate-sentence` looks at a whole sequence", "`top-k`"],
    );
    adapt(
        &["--router=top-k", "--k=5"],
        &["5 of 4 experts", "from 1 to 4"],
    );
    adapt(
        &["--k=2"],
        &["`hash-random` sends a token to one expert, not 2"],
    );
    adapt(&["--router=top"], &["unknown router `top`", "`top-k`"]);
    adapt(
        &["--router=hash-balance", "--task=sst2", "--data=books"],
        &["`--task sst2` does not go with a decoder"],
    );
    kiln.succeed(
        &[
            &["adapt", MODEL, "--order=random", "--output=split"],
            &SIZES[..],
        ]
        .concat(),
    );
    refuse(
        &kiln,
        &[
            &["adapt", "split", "--order=random", "--output=no"],
            &SIZES[..],
        ]
        .concat(),
        &["split has expert layers already"],
    );
    let eval = [&["eval", "split"][..], &TEXT].concat();
    let lost = kiln.path("split/experts.safetensors");
    fs::rename(&lost, kiln.path("lost")).unwrap();
    refuse(&kiln, &eval, &["split/experts.safetensors"]);
    fs::rename(kiln.path("lost"), &lost).unwrap();
    // The experts of another architecture: a BERT's names are not there.
    let config = kiln.path("split/config.json");
    let text = fs::read_to_string(&config).unwrap();
    let other = text.replace("kiln-gpt2", "kiln-gpt_neo");
    fs::write(&config, other).unwrap();
    refuse(&kiln, &eval, &["split/"]);
    fs::write(&config, text.replace("\"n_inner\": 32", "\"n_inner\": 48")).unwrap();
    refuse(
        &kiln,
        &eval,
        &["experts.json: `dense_width` is 32; config.json says 48"],
    );
}
