//! Mistakes end with one readable line and exit code 2, before any work is done.

use std::fs;

use super::chain::write_ids;
use super::kiln::{Kiln, text_of};

/// Gives a command that must fail with one line besides warnings, in which these texts are found.
pub fn refuse(kiln: &Kiln, arguments: &[&str], texts: &[&str]) {
    let message = kiln.fail(arguments);
    let errors = message
        .lines()
        .filter(|line| !line.starts_with("kiln: warning: "));
    assert_eq!(errors.count(), 1, "{arguments:?}: {message}");
    for text in texts {
        assert!(message.contains(text), "{arguments:?}: {message}");
    }
}

#[test]
fn a_recipe_that_cannot_work_is_refused_before_a_folder_is_made() {
    let kiln = Kiln::new();
    let cases: [(&str, &[&str]); 17] = [
        (
            "train.epohcs=2",
            &["`train.epohcs`", "did you mean `epochs`"],
        ),
        ("experts.count=64", &["`experts.", "64"]),
        ("experts.shared=3", &["`experts.shared`", "4 experts"]),
        ("experts.width=64", &["`experts.width`", "64"]),
        ("data.max_length=64", &["`data.max_length`", "32"]),
        ("train.batch_size=0", &["`train.batch_size`", "at least 1"]),
        ("data.synthetic.dev=0", &["`data.synthetic.dev`"]),
        (
            "layerwise.layers=0-0,3-3",
            &["`layerwise.layers`", "`cut`", "2 layers"],
        ),
        (
            "seeds=[9223372036854775808]",
            &["`seeds.0`", "9223372036854775807"],
        ),
        (
            "data.synthetic.seed=0xffff_ffff_ffff_ffff",
            &["`data.synthetic.seed`", "9223372036854775807"],
        ),
        (
            "stages.student.from=techer",
            &["`stages.student.from`", "did you mean `teacher`?"],
        ),
        (
            "stages.teacher.from=student",
            &["student -> teacher -> student"],
        ),
        ("stages.other={}", &["`stages.other`", "`stages.student`"]),
        (
            "arms=[{name='a'}, {name='b'}]",
            &["`arms.1`", "equal to the arm `a`"],
        ),
        (
            "arms=[{name='a', seeds=[2]}]",
            &["an arm cannot change `seeds`"],
        ),
        ("distill.lambda=2", &["`distill`", "`[layerwise]`"]),
        (
            "model.spans=bottom:3 window:8",
            &["`model.spans`", "at most 2"],
        ),
    ];
    for (change, texts) in cases {
        refuse(&kiln, &["run", "small.toml", "--out", "new", change], texts);
    }
    refuse(&kiln, &["run", "no.toml"], &["no.toml"]);
    for out in ["small.toml", "small.toml/run"] {
        refuse(&kiln, &["run", "small.toml", "--out", out], &[out]);
    }
    assert!(!kiln.path("new").exists());
}

#[test]
fn data_and_models_that_do_not_fit_are_refused_before_a_folder_is_made() {
    let kiln = Kiln::with_teacher();
    let run = |changes: &[&str], texts: &[&str]| {
        let command = ["run", "path.toml", "--out", "new"];
        refuse(&kiln, &[&command[..], changes].concat(), texts);
    };
    let model = "model.path=teacher";
    let data = "data.path=sst2";
    run(&["model.path=nowhere", data], &["nowhere/config.json"]);
    run(&[model, "data.path=nowhere"], &["nowhere/train.tsv"]);
    run(
        &[model, data, "data.max_length=64"],
        &["`data.max_length`", "64", "32", "teacher"],
    );
    run(
        &[model, data, "latency.length=64"],
        &["`latency.length`", "64", "32", "teacher"],
    );
    run(
        &[model, data, "experts.count=64"],
        &["model `cut`", "64 experts", "32 neurons"],
    );
    run(
        &[model, data, "experts.shared=3"],
        &["model `cut`", "32 neurons", "3 shared", "4 experts"],
    );
    run(
        &[model, data, "layerwise.layers=0-0,3-3"],
        &["`layerwise.layers`", "2 layers"],
    );
    run(
        &[model, data, "model.spans=layers:2 window:8"],
        &["model `teacher`", "below 2"],
    );
    let experts = "run/arms/cut/seed-1/train/model";
    run(
        &[&format!("model.path={experts}"), data],
        &[experts, "dense"],
    );

    for split in ["train", "dev"] {
        let file = format!("bad/{split}.tsv");
        let cases = [
            ("sentence\tlabel\n", "no examples"),
            ("", "no examples"),
            (
                "sentence\tlabel\nfine\t1\nlonely\n",
                "line 3: expected 2 cells",
            ),
            ("sentence\tlabel\nfine\t7\n", "line 2: label `7`"),
            ("sentence\tanswer\nfine\t1\n", "no column `label`"),
        ];
        for (text, problem) in cases {
            for split in ["train", "dev"] {
                let whole = fs::read(kiln.path(&format!("sst2/{split}.tsv"))).unwrap();
                kiln.write(&format!("bad/{split}.tsv"), whole);
            }
            kiln.write(&file, text);
            run(&[model, "data.path=bad"], &[&file, problem]);
        }
    }
    assert!(!kiln.path("new").exists());
}

#[test]
fn commands_on_single_models_refuse_what_they_cannot_use() {
    let kiln = Kiln::with_teacher();
    let refuse = |arguments: &[&[&str]], texts: &[&str]| refuse(&kiln, &arguments.concat(), texts);
    let task = ["--task", "sst2", "--data", "sst2"];
    let eval = |model: &str, texts: &[&str]| refuse(&[&["eval", model], &task], texts);
    eval("nowhere", &["nowhere/config.json"]);
    refuse(
        &[&["eval", "teacher", "--task", "sst2", "--data", "nowhere"]],
        &["nowhere/dev.tsv"],
    );
    refuse(
        &[&["eval", "teacher", "--task", "mnli", "--data", "sst2"]],
        &["2 classes", "3 classes"],
    );
    refuse(
        &[&["eval", "teacher", "--batch-size", "0"], &task],
        &["batch"],
    );
    refuse(&[&["eval", "teacher", "--max-length", "1"], &task], &["1"]);
    refuse(
        &[&["eval", "teacher", "--extend", "tile"], &task],
        &["`--extend` is for decoders, and teacher is a BERT"],
    );

    let weights = fs::read(kiln.path("teacher/model.safetensors")).unwrap();
    for file in ["config.json", "tokenizer.json"] {
        let text = fs::read(kiln.path("teacher").join(file)).unwrap();
        kiln.write(&format!("broken/{file}"), text);
    }
    eval("broken", &["broken", "model.safetensors"]);
    kiln.write("broken/model.safetensors", &weights[..weights.len() / 2]);
    eval("broken", &["broken/model.safetensors"]);

    let forward = |model: &str, ids: &str, output: &str, texts: &[&str]| {
        refuse(
            &[&["forward", model, "--input", ids, "--output", output]],
            texts,
        );
    };
    let ids = [[2, 5, 6, 3], [2, 7, 3, 0]];
    write_ids(&kiln, "ids", ids, [2, 4]);
    write_ids(&kiln, "shape", ids, [4, 2]);
    write_ids(&kiln, "beyond", [[2, 5, 6, 3], [2, 20_000, 3, 0]], [2, 4]);
    forward("broken", "ids", "out", &["broken/model.safetensors"]);
    forward("nowhere", "ids", "out", &["nowhere/config.json"]);
    forward("teacher", "nowhere", "out", &["nowhere"]);
    forward("teacher", "sst2/dev.tsv", "out", &["sst2/dev.tsv"]);
    forward(
        "teacher",
        "shape",
        "out",
        &["shape", "`token_type_ids`", "[4, 2]", "[2, 4]"],
    );
    forward(
        "teacher",
        "beyond",
        "out",
        &["beyond", "`input_ids`", "20000"],
    );
    forward("teacher", "ids", "nowhere/out", &["nowhere/out"]);
    let importance = ["importance", "teacher", "--output", "nowhere/out"];
    refuse(&[&importance, &task], &["nowhere/out"]);

    let adapt = |changes: &[&str], texts: &[&str]| {
        let command = ["adapt", "teacher", "--output", "new"];
        refuse(&[&command, changes], texts);
    };
    let fitting = ["--experts", "4", "--width", "8", "--shared", "4"];
    let random = ["--order", "random"];
    adapt(&fitting, &["`importance`", "--importance"]);
    adapt(
        &["--experts", "64", "--order", "random"],
        &["64 experts", "32 neurons"],
    );
    let balance = [&fitting[..], &random, &["--router", "hash-balance"]].concat();
    adapt(&balance, &["`hash-balance`", "--data"]);
    let experts = "run/arms/cut/seed-1/train/model";
    let importance = ["importance", experts, "--output", "out"];
    refuse(&[&importance, &task], &[experts, "dense"]);
    let again = ["adapt", experts, "--output", "new"];
    refuse(&[&again, &fitting, &random], &[experts, "dense"]);
    let smaller = [
        "model.random.layers=1",
        "train.epochs=1",
        "latency.repeats=1",
    ];
    kiln.succeed(&[&["run", "small.toml", "--out", "other"][..], &smaller].concat());
    let scores = "other/arms/cut/seed-1/importance/importance.safetensors";
    adapt(
        &[&fitting[..], &["--importance", scores]].concat(),
        &["importance", "1", "2"],
    );
    adapt(
        &[&fitting[..], &["--importance", "nowhere"]].concat(),
        &["nowhere"],
    );
    let unwritable = ["adapt", "teacher", "--output", "ids/new"];
    refuse(&[&unwritable, &fitting, &random], &["ids/new"]);
    assert!(!kiln.path("new").exists() && !kiln.path("out").exists());
}

#[test]
fn options_of_adapt_that_nothing_would_read_are_refused() {
    let kiln = Kiln::new();
    let adapt = |options: &[&str], texts: &[&str]| {
        let command = ["adapt", "model", "--output", "new", "--order", "random"];
        refuse(&kiln, &[&command[..], options].concat(), texts);
    };
    for scale in ["unit", "probability"] {
        adapt(
            &["--gate-scale", scale],
            &["--gate-scale", "`hash-random`", "choose `gate-token`"],
        );
    }
    adapt(
        &["--importance", "scores"],
        &["--importance", "`random`", "--order"],
    );
    adapt(
        &["--task", "sst2", "--data", "sst2"],
        &["--data", "`hash-random`", "choose `hash-balance`"],
    );
    // With a gate it is the model that is missing.
    let gated = ["--router", "gate-token", "--gate-scale", "unit"];
    adapt(&gated, &["model/config.json"]);
}

#[test]
fn a_loss_that_is_not_finite_names_its_step_and_layer() {
    let kiln = Kiln::new();
    let rate = "train.learning_rate=1e30";
    let run = ["run", "small.toml", "--out", "run", rate];
    let texts = [
        "not finite",
        "epoch 1, step 2",
        "layer 1",
        "not done",
        "and 4 more",
    ];
    // A second start says so again, and trains nothing.
    for more in [
        texts,
        [
            "--retry",
            "epoch 1, step 2",
            "layer 1",
            "not done",
            "and 4 more",
        ],
    ] {
        let output = kiln.start(&run);
        let message = text_of(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        for text in more {
            assert!(message.contains(text), "{text}: {message}");
        }
    }
}
