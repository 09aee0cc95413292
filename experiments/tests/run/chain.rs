//! The commands that work on single models, one after the other.

use std::collections::HashMap;
use std::fs;

use burn::prelude::Device;
use masformer_core::{
    DecoderConfig, Span,
    pretrained::{DecoderFolderConfig, save_decoder},
};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};

use super::kiln::Kiln;

const TASK: [&str; 4] = ["--task", "sst2", "--data", "sst2"];
const SIZES: [&str; 6] = ["--experts", "4", "--width", "8", "--shared", "4"];

/// Writes token ids of two sequences, the second one padded.
pub fn write_ids<const T: usize>(
    kiln: &Kiln,
    name: &str,
    ids: [[i64; T]; 2],
    types_shape: [usize; 2],
) {
    let bytes = |values: &[i64]| -> Vec<u8> {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    };
    let mut mask = vec![1; 2 * T];
    mask[2 * T - 1] = 0;
    let (ids, mask, types) = (
        bytes(ids.as_flattened()),
        bytes(&mask),
        bytes(&vec![0; 2 * T]),
    );
    let view =
        |shape: [usize; 2], bytes| TensorView::new(Dtype::I64, shape.to_vec(), bytes).unwrap();
    let tensors = HashMap::from([
        ("input_ids", view([2, T], &ids)),
        ("attention_mask", view([2, T], &mask)),
        ("token_type_ids", view(types_shape, &types)),
    ]);
    kiln.write(name, safetensors::serialize(tensors, None).unwrap());
}

#[test]
fn scores_experts_evaluation_and_outputs_follow_from_a_fine_tuned_model() {
    let kiln = Kiln::with_teacher();
    let run = |arguments: &[&[&str]]| kiln.succeed(&arguments.concat());
    let teacher = run(&[&["eval", "teacher"], &TASK]);
    assert!(teacher.starts_with("accuracy "), "{teacher}");
    let local = run(&[&["eval", "teacher", "--spans", "window:2"], &TASK]);
    assert!(local.starts_with("accuracy "), "{local}");

    run(&[&["importance", "teacher", "--output", "scores"], &TASK]);
    let cut = ["--importance", "scores", "--output", "cut"];
    let counted = ["--router", "hash-balance"];
    run(&[&["adapt", "teacher"], &SIZES, &cut, &counted, &TASK]);
    let gated = [
        "--order",
        "random",
        "--router",
        "gate-sentence",
        "--output",
        "gated",
    ];
    run(&[&["adapt", "teacher"], &SIZES, &gated]);
    write_ids(&kiln, "ids", [[2, 5, 6, 3], [2, 7, 3, 0]], [2, 4]);
    run(&[&[
        "forward",
        "teacher",
        "--input",
        "ids",
        "--output",
        "of-teacher",
    ]]);

    fs::rename(kiln.path("teacher"), kiln.path("away")).unwrap();
    for model in ["cut", "gated"] {
        let scores = run(&[&["eval", model], &TASK]);
        assert!(scores.starts_with("accuracy "), "{scores}");
        let output = format!("of-{model}");
        run(&[&["forward", model, "--input", "ids", "--output", &output]]);
    }
    for output in ["of-teacher", "of-cut", "of-gated"] {
        let shapes = outputs(&kiln, output);
        let expected = [
            ("hidden_states.0", vec![2, 4, 16]),
            ("hidden_states.1", vec![2, 4, 16]),
            ("hidden_states.2", vec![2, 4, 16]),
            ("logits", vec![2, 2]),
            ("pooled", vec![2, 16]),
        ];
        assert_eq!(shapes, expected.map(owned), "{output}");
    }
}

#[test]
fn spans_stay_with_the_teacher_and_its_experts() {
    let kiln = Kiln::with_teacher();
    let settings = [
        "run",
        "sst2.toml",
        "--out",
        "local",
        "data.path=sst2",
        "model.spans=every:2 window:4",
        "train.epochs=1",
        "latency.repeats=1",
    ];
    kiln.succeed(&settings);
    let spans = |model: &str| {
        let text = fs::read(kiln.path(model).join("config.json")).unwrap();
        let config: Value = serde_json::from_slice(&text).unwrap();
        config["kiln"]["spans"].clone()
    };
    let expected = json!(["full", "window:4"]);
    for model in [
        "start/seed-1/model",
        "arms/teacher/seed-1/train/model",
        "arms/cut/seed-1/train/model",
    ] {
        assert_eq!(spans(&format!("local/{model}")), expected);
    }

    // A folder without spans, under those of the recipe, and a folder with its own.
    write_ids(
        &kiln,
        "ids",
        [[2, 5, 6, 7, 8, 3], [2, 7, 5, 6, 3, 0]],
        [2, 6],
    );
    let forward = |model: &str, output: &str, more: &[&str]| {
        let command = ["forward", model, "--input", "ids", "--output", output];
        kiln.succeed(&[&command, more].concat());
        fs::read(kiln.path(output)).unwrap()
    };
    let local = ["--spans", "every:2 window:4"];
    assert_ne!(
        forward("teacher", "full", &[]),
        forward("teacher", "out", &local)
    );
    let student = "local/arms/cut/seed-1/train/model";
    assert_eq!(
        forward(student, "own", &[]),
        forward(student, "out", &local)
    );
    // A teacher that was fine-tuned without them.
    let tuned = [
        "run",
        "path.toml",
        "--out",
        "tuned",
        "data.path=sst2",
        "model.path=teacher",
        "model.spans=window:4",
        "stages.teacher.train.epochs=0",
        "train.epochs=1",
        "latency.repeats=1",
    ];
    kiln.succeed(&tuned);
    let expected = json!(["window:4", "window:4"]);
    assert_eq!(spans("tuned/arms/cut/seed-1/train/model"), expected);
}

/// The names and shapes of a file of float32 tensors, sorted.
fn outputs(kiln: &Kiln, name: &str) -> Vec<(String, Vec<usize>)> {
    let bytes = fs::read(kiln.path(name)).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut shapes: Vec<_> = tensors
        .iter()
        .map(|(name, tensor)| {
            assert_eq!(tensor.dtype(), Dtype::F32, "{name}");
            (name.to_owned(), tensor.shape().to_vec())
        })
        .collect();
    shapes.sort();
    shapes
}

fn owned((name, shape): (&str, Vec<usize>)) -> (String, Vec<usize>) {
    (name.to_owned(), shape)
}

/// A GPT-2 of two layers and 8 positions in the folder `decoder`.
fn write_decoder(kiln: &Kiln) {
    let spans = vec![Span::Full, "window:2".parse().unwrap()];
    let decoder = DecoderConfig::new(20, 8, 16, 2, 32, spans);
    let model = decoder.init(&Device::default());
    let config = DecoderFolderConfig::new("gpt2", decoder).unwrap();
    save_decoder(&kiln.path("decoder"), &model, &config, None).unwrap();
}

#[test]
fn a_decoder_gives_logits_for_every_position() {
    let kiln = Kiln::new();
    write_decoder(&kiln);
    write_ids(&kiln, "ids", [[2, 5, 6, 3], [2, 7, 3, 0]], [2, 4]);
    let forward = |more: &[&str]| {
        let command = ["forward", "decoder", "--input", "ids", "--output", "out"];
        kiln.succeed(&[&command, more].concat());
        let expected = [
            ("hidden_states.0", vec![2, 4, 16]),
            ("hidden_states.1", vec![2, 4, 16]),
            ("hidden_states.2", vec![2, 4, 16]),
            ("logits", vec![2, 4, 20]),
        ];
        assert_eq!(outputs(&kiln, "out"), expected.map(owned));
        fs::read(kiln.path("out")).unwrap()
    };
    let own = forward(&[]);
    assert_eq!(forward(&["--spans", "bottom:1 window:2"]), own);
    assert_eq!(forward(&["--extend", "tile"]), own);
    assert_ne!(forward(&["--spans", "full"]), own);
}

#[test]
fn a_decoder_reads_longer_inputs_with_an_extension() {
    let kiln = Kiln::new();
    write_decoder(&kiln);
    write_ids(&kiln, "long", [[2; 12], [3; 12]], [2, 12]);
    let command = ["forward", "decoder", "--input", "long", "--output", "out"];
    for how in ["tile", "interpolate"] {
        kiln.succeed(&[&command[..], &["--extend", how]].concat());
        let logits = outputs(&kiln, "out").pop();
        assert_eq!(logits, Some(owned(("logits", vec![2, 12, 20]))));
    }
    fs::remove_file(kiln.path("out")).unwrap();
    for (more, texts) in [
        (
            &[][..],
            &["decoder", "12 tokens", "8 positions", "`tile`"][..],
        ),
        (
            &["--extend", "scale-base"],
            &["`scale-base`", "`interpolate`"],
        ),
        (&["--extend", "tiled"], &["`tiled`", "`scale-base`"]),
        (
            &["--spans", "bottom:3 window:2"],
            &["`bottom:3`", "at most 2"],
        ),
        (&["--spans", "botom:1"], &["`botom:1`"]),
    ] {
        let message = kiln.fail(&[&command, more].concat());
        assert_eq!(message.lines().count(), 1, "{more:?}: {message}");
        for text in texts {
            assert!(message.contains(text), "{more:?}: {message}");
        }
    }
    assert!(!kiln.path("out").exists());
}
