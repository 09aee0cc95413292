//! Model folders as others leave them: without a class, with `PyTorch`'s wrappers in the names, with other
//! activations, cloned without Git LFS, or with weights that are none.

use std::fs;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Map, Value};

use super::bad_input::refuse;
use super::generate;
use super::kiln::{Kiln, text_of};

const TASK: [&str; 4] = ["--task", "sst2", "--data", "sst2"];
const SIZES: [&str; 6] = ["--experts", "4", "--width", "8", "--shared", "4"];
const GENERATE: [&str; 6] = [
    "generate",
    "model",
    "--prompt",
    "a",
    "--max-new-tokens",
    "4",
];
const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";

/// Changes the configuration of a folder.
fn configure(kiln: &Kiln, folder: &str, change: impl FnOnce(&mut Map<String, Value>)) {
    let path = kiln.path(&format!("{folder}/config.json"));
    let mut json = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut json);
    fs::write(&path, Value::from(json).to_string()).unwrap();
}

/// Changes names and values of a folder's weights.
fn rewrite(kiln: &Kiln, folder: &str, change: impl Fn(&mut String, &mut [u8])) {
    let path = kiln.path(&format!("{folder}/model.safetensors"));
    let bytes = fs::read(&path).unwrap();
    let mut tensors = vec![];
    for (name, view) in SafeTensors::deserialize(&bytes).unwrap().iter() {
        assert_eq!(view.dtype(), Dtype::F32);
        let (mut name, mut data) = (name.to_owned(), view.data().to_vec());
        change(&mut name, &mut data);
        tensors.push((name, view.shape().to_vec(), data));
    }
    let views = tensors.iter().map(|(name, shape, data)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), data);
        (name, view.unwrap())
    });
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn spoil(kiln: &Kiln, folder: &str, tensor: &str, value: f32) {
    rewrite(kiln, folder, |name, data| {
        if name == tensor {
            data[..4].copy_from_slice(&value.to_le_bytes());
        }
    });
}

#[test]
fn a_classifier_is_one_without_a_class_and_in_wrappers() {
    let kiln = Kiln::with_teacher();
    let eval = |folder: &str| kiln.start(&[&["eval", folder][..], &TASK].concat());
    let expected = text_of(&eval("teacher").stdout);
    assert!(expected.starts_with("accuracy "), "{expected}");

    // As Transformers 2 wrote it.
    kiln.copy("teacher", "old");
    configure(&kiln, "old", |json| {
        for key in ["architectures", "id2label", "label2id", "problem_type"] {
            json.shift_remove(key);
        }
        json.insert("num_labels".to_owned(), 2.into());
    });
    let output = eval("old");
    assert_eq!(text_of(&output.stdout), expected);

    rewrite(&kiln, "old", |name, _| {
        name.insert_str(0, "module._orig_mod.");
    });
    let output = eval("old");
    assert_eq!(text_of(&output.stdout), expected);
    let told = text_of(&output.stderr);
    let note = "left out of the names in the checkpoint: _orig_mod., module.\n";
    assert!(told.contains(note), "{told}");

    configure(&kiln, "old", |json| {
        json.insert("num_labels".to_owned(), 3.into());
    });
    refuse(
        &kiln,
        &[&["eval", "old"][..], &TASK].concat(),
        &["old/config.json", "`num_labels` is 3; expected 2"],
    );
}

#[test]
fn experts_have_the_activation_of_the_dense_model() {
    let kiln = Kiln::with_teacher();
    let said = |folder: &str| {
        let bytes = fs::read(kiln.path(&format!("{folder}/config.json"))).unwrap();
        let json: Value = serde_json::from_slice(&bytes).unwrap();
        json["hidden_act"].clone()
    };
    let eval = |folder: &str| kiln.succeed(&[&["eval", folder][..], &TASK].concat());
    // An expert that is as wide as the layer, and so computes what it does.
    let whole = ["--experts", "1", "--width", "32", "--shared", "0"];
    let adapt = [&whole[..], &["--order", "random"]].concat();
    for name in ["relu", "swish", "quick_gelu", "gelu_fast"] {
        configure(&kiln, "teacher", |json| {
            json.insert("hidden_act".to_owned(), name.into());
        });
        let output = format!("experts-{name}");
        let command = ["adapt", "teacher", "--output", &output];
        kiln.succeed(&[&command[..], &adapt].concat());
        assert_eq!(said(&output), name);
        assert_eq!(eval(&output), eval("teacher"), "{name}");
    }
    configure(&kiln, "teacher", |json| {
        json.insert("hidden_act".to_owned(), "mish".into());
    });
    refuse(
        &kiln,
        &[&["eval", "teacher"][..], &TASK].concat(),
        &["`hidden_act` is \"mish\"", "relu, silu, swish, quick_gelu"],
    );
}

#[test]
fn weights_that_are_not_finite_are_refused_by_every_command() {
    let kiln = Kiln::with_teacher();
    let tensor = "bert.encoder.layer.1.output.dense.weight";
    for (value, told) in [
        (f32::NAN, "holds NaN"),
        (f32::INFINITY, "holds an infinite"),
    ] {
        kiln.copy("teacher", "broken");
        spoil(&kiln, "broken", tensor, value);
        let adapt = ["adapt", "broken", "--output", "new", "--order", "random"];
        for command in [
            &[&["eval", "broken"][..], &TASK].concat(),
            &[&["importance", "broken", "--output", "new"][..], &TASK].concat(),
            &[&adapt[..], &SIZES].concat(),
        ] {
            refuse(&kiln, command, &["broken/model.safetensors", tensor, told]);
        }
        assert!(!kiln.path("new").exists());
    }

    let kiln = generate::kiln();
    let tensor = "transformer.h.1.attn.c_attn.bias";
    spoil(&kiln, "model", tensor, f32::NAN);
    refuse(
        &kiln,
        &GENERATE,
        &["model/model.safetensors", tensor, "NaN"],
    );
}

#[test]
fn pointers_of_git_lfs_are_named_with_what_to_do() {
    let kiln = Kiln::with_teacher();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        kiln.copy("teacher", "cloned");
        kiln.write(&format!("cloned/{name}"), POINTER);
        let expected = [&format!("cloned/{name}"), "Git LFS", "`git lfs pull`"];
        refuse(&kiln, &[&["eval", "cloned"][..], &TASK].concat(), &expected);
    }
    kiln.write("scores", POINTER);
    let adapt = [
        "adapt",
        "teacher",
        "--output",
        "new",
        "--importance",
        "scores",
    ];
    let adapt = [&adapt[..], &SIZES].concat();
    refuse(&kiln, &adapt, &["scores", "`git lfs pull`"]);

    for name in ["tokenizer.json", "model.safetensors"] {
        let kiln = generate::kiln();
        kiln.write(&format!("model/{name}"), POINTER);
        refuse(&kiln, &GENERATE, &[name, "`git lfs pull`"]);
    }
}
