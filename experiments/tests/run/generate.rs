//! `kiln generate`: continuations as a person reads them and as a program does, and what cannot be.

use std::io::Read;
use std::process::{Command, Stdio};

use burn::prelude::*;
use experiments::data::text_tokenizer::TextTokenizer;
use masformer_core::pretrained::{DecoderFolder, DecoderFolderConfig, save_decoder};
use masformer_core::{Decoder, DecoderConfig, PositionEncoding};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use super::kiln::{Kiln, text_of};

const HIDDEN: usize = 16;
const END: usize = 256;

/// A model over bytes that writes small letters, or ends at once if it `ends`.
fn model(config: &DecoderConfig, ends: bool) -> Decoder {
    let device = Device::default();
    let mut model = config.init(&device);
    let mut rng = StdRng::seed_from_u64(3);
    let mut embeddings = Vec::new();
    for id in 0..config.vocabulary {
        let is_letter = (usize::from(b'a')..=usize::from(b'z')).contains(&id);
        embeddings.push(match id {
            END if ends => 4.0,
            _ if is_letter => 2.0,
            _ => -2.0,
        });
        embeddings.extend((1..HIDDEN).map(|_| rng.random_range(-0.5..0.5_f32)));
    }
    let embeddings = TensorData::new(embeddings, [config.vocabulary, HIDDEN]);
    let weight = model.token.weight;
    model.token.weight = weight.map(|_| Tensor::from_data(embeddings.clone(), &device));
    // The first number of the last hidden state is 4: logits of about 8 for letters, -8 for others.
    let first = |tensor: Tensor<1>, value: f32| {
        tensor.slice_assign([0..1], Tensor::from_data([value], &device))
    };
    model.norm.gamma = model.norm.gamma.map(|gamma| first(gamma, 0.0));
    let beta = model.norm.beta.take();
    model.norm.beta = beta.map(|beta| beta.map(|beta| first(beta, 4.0)));
    model
}

fn save(kiln: &Kiln, name: &str, config: &DecoderConfig, ends: bool) {
    let folder = DecoderFolderConfig::new("gpt2", config.clone()).unwrap();
    let model = model(config, ends);
    save_decoder(&kiln.path(name), &model, &folder, None).unwrap();
    TextTokenizer::bytes()
        .unwrap()
        .save(&kiln.path(name))
        .unwrap();
}

fn config(vocabulary: usize, positions: usize) -> DecoderConfig {
    let spans = ["full", "window:8"]
        .map(|span| span.parse().unwrap())
        .to_vec();
    DecoderConfig::new(vocabulary, positions, HIDDEN, 2, 32, spans).with_initializer_range(0.5)
}

/// With the folder `model` of 64 positions.
pub fn kiln() -> Kiln {
    let kiln = Kiln::new();
    save(&kiln, "model", &config(END + 1, 64), false);
    kiln
}

fn generate<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["generate", "model", "--max-new-tokens", "24"], more].concat()
}

const DRAW: [&str; 6] = ["--prompt", "once upon", "--temperature", "1", "--seed", "5"];

/// The objects of JSON lines.
fn objects(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_prompt_is_continued_by_every_strategy() {
    let kiln = kiln();
    let greedy = ["--prompt", "once upon"];
    let beams = [&greedy[..], &["--beams", "3", "--length-penalty", "-0.5"]].concat();
    let nucleus = [&DRAW[..], &["--top-k", "20", "--top-p", "0.9"]].concat();
    let mut texts = Vec::new();
    for more in [&greedy, &DRAW[..], &nucleus, &beams] {
        let output = kiln.start(&generate(more));
        let (text, told) = (text_of(&output.stdout), text_of(&output.stderr));
        assert!(output.status.success(), "{told}");
        let letters = text.strip_suffix('\n').unwrap();
        assert_eq!(letters.len(), 24, "{text}");
        assert!(
            letters.bytes().all(|byte| byte.is_ascii_lowercase()),
            "{text}"
        );
        assert!(
            told.starts_with("24 tokens in ") && told.contains(" tokens/s"),
            "{told}"
        );
        assert_eq!(
            kiln.succeed(&generate(&[more, &["--no-cache"]].concat())),
            text
        );

        let object = json!({
            "prompt": "once upon",
            "text": letters,
            "tokens": letters.bytes().collect::<Vec<u8>>(),
            "stopped": "length",
        });
        let found = kiln.succeed(&generate(&[more, &["--json"]].concat()));
        assert_eq!(objects(&found), [object]);
        texts.push(text);
    }
    let mut other = DRAW;
    other[5] = "6";
    assert_ne!(kiln.succeed(&generate(&other)), texts[1]);
    let windows = [&DRAW[..], &["--spans", "window:2"]].concat();
    assert_ne!(kiln.succeed(&generate(&windows)), texts[1]);
    // The schedule of the model itself.
    let same = [&DRAW[..], &["--spans", "bottom:1 window:8"]].concat();
    assert_eq!(kiln.succeed(&generate(&same)), texts[1]);
}

#[test]
fn a_temperature_of_0_takes_the_likeliest_token() {
    let kiln = kiln();
    let greedy = ["--prompt", "once upon"];
    let expected = kiln.succeed(&generate(&greedy));
    let cold = [&greedy[..], &["--temperature", "0"]].concat();
    assert_eq!(kiln.succeed(&generate(&cold)), expected);
    let output = kiln.start(&generate(
        &[&cold[..], &["--seed", "3", "--top-k", "4"]].concat(),
    ));
    assert_eq!(text_of(&output.stdout), expected);
    let told = text_of(&output.stderr);
    let warning =
        "kiln: warning: ignored with --temperature 0, which draws nothing: --top-k, --seed\n";
    assert!(told.starts_with(warning), "{told}");
}

#[test]
fn a_continuation_need_not_repeat_itself() {
    let kiln = kiln();
    for strategy in [&[][..], &["--temperature", "1"], &["--beams", "3"]] {
        let prompt = [&["--prompt", "ab", "--json"], strategy].concat();
        let plain = objects(&kiln.succeed(&generate(&prompt)));
        let once = [&prompt[..], &["--no-repeat-ngram", "1"]].concat();
        let found = objects(&kiln.succeed(&generate(&once)));
        // The letters, once each: 24 are left.
        let mut letters = found[0]["text"].as_str().unwrap().as_bytes().to_vec();
        letters.sort_unstable();
        assert_eq!(letters, (b'c'..=b'z').collect::<Vec<u8>>(), "{strategy:?}");
        let penalty = [&prompt[..], &["--repetition-penalty", "1.7"]].concat();
        let penalised = objects(&kiln.succeed(&generate(&penalty)));
        assert_ne!(penalised, plain, "{strategy:?}");
        let uncached = [&penalty[..], &["--no-cache"]].concat();
        assert_eq!(objects(&kiln.succeed(&generate(&uncached))), penalised);
    }
}

#[test]
fn a_prompt_is_continued_beyond_the_positions_with_an_extension() {
    let kiln = kiln();
    let long = [
        "generate",
        "model",
        "--prompt",
        "once upon",
        "--max-new-tokens",
        "80",
    ];
    for how in ["tile", "interpolate"] {
        let text = kiln.succeed(&[&long[..], &["--extend", how]].concat());
        assert_eq!(text.trim_end().len(), 80, "{how}: {text}");
    }
    let message = kiln.fail(&[&long[..], &["--extend", "scale-base"]].concat());
    assert!(
        message.contains("`scale-base`") && message.contains("`tile`"),
        "{message}"
    );
    // Where the model has positions enough, they stay as they are.
    let tiled = [&DRAW[..], &["--extend", "tile"]].concat();
    assert_eq!(
        kiln.succeed(&generate(&tiled)),
        kiln.succeed(&generate(&DRAW))
    );
}

/// A folder `rotary`, whose first layer attends to everything.
fn save_rotary(kiln: &Kiln) {
    let rotary = PositionEncoding::Rotary { theta: 100.0 };
    let config = config(END + 1, 64).with_position_encoding(rotary);
    save(kiln, "rotary", &config, false);
}

#[test]
fn a_text_longer_than_the_positions_is_continued_with_what_a_policy_keeps() {
    let kiln = kiln();
    save_rotary(&kiln);
    kiln.write("long.txt", "It was a dark and stormy night. ".repeat(10));
    let draw = [
        "--max-new-tokens",
        "24",
        "--temperature",
        "1",
        "--seed",
        "5",
    ];
    for &(more, most) in POLICIES {
        let rotary = [&["generate", "rotary"], &draw[..], more].concat();
        let long = [
            &rotary[..],
            &["--prompt-file", "long.txt", "--budget", "12"],
        ]
        .concat();
        let output = kiln.start(&long);
        let (text, told) = (text_of(&output.stdout), text_of(&output.stderr));
        assert!(output.status.success(), "{told}");
        assert_eq!(text.trim_end().len(), 24, "{text}");
        let peak = format!("; at most {most} pairs kept in a layer\n");
        assert!(told.ends_with(&peak), "{told}");
        assert_eq!(kiln.succeed(&long), text);
        // A budget for all gives what a cache of all gives.
        let short = ["--prompt", "once upon a time"];
        let roomy = [&rotary[..], &short, &["--budget", "64"]].concat();
        let instruction = more.iter().skip_while(|&&option| option != "--instruction");
        let whole = format!(
            "once upon a time{}",
            instruction.skip(1).copied().collect::<String>()
        );
        let plain = [&["generate", "rotary", "--prompt", &whole], &draw[..]].concat();
        assert_eq!(kiln.succeed(&roomy), kiln.succeed(&plain));
    }
}

/// Options with the most pairs that a layer holds with a budget of 12.
const POLICIES: &[(&[&str], usize)] = &[
    (&["--evict", "streaming:2"], 12),
    (&["--evict", "tova"], 13),
    (&["--evict", "h2o"], 13),
    // The budget, the instruction and all new tokens but the last.
    (&["--evict", "citrus:8", "--instruction", "Why?"], 39),
];

#[test]
fn what_cannot_be_evicted_is_refused_on_one_line() {
    let kiln = kiln();
    save_rotary(&kiln);
    for model in ["model", "rotary"] {
        std::fs::remove_file(kiln.path(&format!("{model}/model.safetensors"))).unwrap();
    }
    let refuse = |model: &str, more: &[&str], texts: &[&str]| {
        let message = kiln.fail(&[&["generate", model, "--prompt", "once"], more].concat());
        assert_eq!(message.lines().count(), 1, "{more:?}: {message}");
        for text in texts {
            assert!(message.contains(text), "{more:?}: {message}");
        }
    };
    let streaming = ["--evict", "streaming:2", "--budget", "8"];
    refuse(
        "model",
        &streaming,
        &["the model has learned positions", "rotary"],
    );
    refuse("rotary", &["--evict", "streaming:2"], &["--budget"]);
    refuse("rotary", &["--budget", "8"], &["--evict"]);
    refuse(
        "rotary",
        &["--evict", "streaming:2", "--budget", "0"],
        &["budget = 0", "at least 3"],
    );
    refuse(
        "rotary",
        &["--evict", "steaming:2", "--budget", "8"],
        &["unknown eviction policy `steaming`; did you mean `streaming`?"],
    );
    refuse("rotary", &["--instruction", "Why?"], &["--evict"]);
    refuse(
        "rotary",
        &["--evict", "citrus:4", "--budget", "8"],
        &["`citrus:4` keeps what an instruction attends to"],
    );
    refuse(
        "rotary",
        &["--evict", "citrus:4,scorer=triple", "--budget", "8"],
        &["`scorer` cannot be `triple`"],
    );
    refuse(
        "rotary",
        &[&streaming[..], &["--instruction", "Why?"]].concat(),
        &["`streaming:2` does not choose by an instruction"],
    );
    refuse(
        "rotary",
        &[&streaming[..], &["--no-cache"]].concat(),
        &["--no-cache"],
    );
    refuse(
        "rotary",
        &["--evict", "streaming:2", "--budget", "100"],
        &["prompt 1: its cache needs 101 positions at once, and the model has 64"],
    );
}

#[test]
fn several_prompts_stand_under_their_names() {
    let kiln = kiln();
    kiln.write("tale.txt", "It was a dark and stormy night.\n");
    kiln.write("tales/one.txt", "a");
    kiln.write("tales/two.txt", "Il était une fois");
    let names = [
        "prompt 1",
        "prompt 2",
        "tale.txt",
        "tales/one.txt",
        "tales/two.txt",
    ];
    let prompts = [
        "--prompt",
        "once upon",
        "--prompt",
        "a time",
        "--prompt-file",
        "tale.txt",
        "--prompt-file",
        "tales",
    ];
    let draw = ["--temperature", "1", "--seed", "5"];
    let text = kiln.succeed(&generate(&[&prompts[..], &draw].concat()));
    let lines: Vec<&str> = text.lines().collect();
    let headers: Vec<&str> = lines.iter().step_by(2).copied().collect();
    assert_eq!(headers, names.map(|name| format!("==> {name} <==")));
    let found = kiln.succeed(&generate(&[&prompts[..], &draw, &["--json"]].concat()));
    let found = objects(&found);
    assert_eq!(found[2]["prompt"], "It was a dark and stormy night.\n");
    for (object, text) in found.iter().zip(lines.iter().skip(1).step_by(2)) {
        assert_eq!(object["text"], *text);
    }
    // The first prompt alone is continued in the same way.
    let alone = kiln.succeed(&generate(&DRAW));
    assert_eq!(alone.trim_end(), lines[1]);
}

#[test]
fn a_continuation_ends_with_the_document_and_before_the_stop_text() {
    let kiln = kiln();
    let whole = kiln.succeed(&generate(&DRAW));
    let stop = &whole[9..12];
    let before = &whole[..whole.find(stop).unwrap()];
    let stopping = [&DRAW[..], &["--stop", stop]].concat();
    assert_eq!(kiln.succeed(&generate(&stopping)), format!("{before}\n"));
    let found = kiln.succeed(&generate(&[&stopping[..], &["--json"]].concat()));
    let tokens: Vec<u8> = whole.bytes().take(before.len() + 3).collect();
    let object = json!({
        "prompt": "once upon", "text": before, "tokens": tokens, "stopped": "text",
    });
    assert_eq!(objects(&found), [object]);

    save(&kiln, "ends", &config(END + 1, 64), true);
    let ends = ["generate", "ends", "--prompt", "once upon"];
    let limit = ["--max-new-tokens", "9"];
    assert_eq!(kiln.succeed(&[&ends[..], &limit].concat()), "\n");
    let found = kiln.succeed(&[&ends[..], &limit, &["--json"]].concat());
    let object = json!({
        "prompt": "once upon", "text": "", "tokens": [END], "stopped": "end",
    });
    assert_eq!(objects(&found), [object]);
}

#[cfg(unix)]
#[test]
fn an_interrupt_leaves_the_text_as_far_as_it_came() {
    let kiln = Kiln::new();
    let windows = vec!["window:8".parse().unwrap(); 2];
    let config = DecoderConfig::new(END + 1, 400_000, HIDDEN, 2, 32, windows);
    save(&kiln, "model", &config, false);
    let long = [
        "generate",
        "model",
        "--prompt",
        "on",
        "--max-new-tokens",
        "399998",
    ];
    let mut process = kiln
        .command(&long)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 20];
    let stdout = process.stdout.as_mut().unwrap();
    stdout.read_exact(&mut first).unwrap();
    let id = process.id().to_string();
    let sent = Command::new("kill").args(["-INT", &id]).status();
    assert!(sent.unwrap().success());
    let output = process.wait_with_output().unwrap();
    let told = text_of(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{told}");
    assert!(told.contains(" tokens/s"), "{told}");
    let last = "kiln: error: interrupted; the text is not complete\n";
    assert!(told.ends_with(last), "{told}");
    assert!(text_of(&output.stdout).ends_with('\n'));
}

#[test]
fn without_a_prompt_a_text_begins_after_the_end_of_another() {
    let kiln = kiln();
    let json = |more: &[&str]| objects(&kiln.succeed(&generate(&[more, &["--json"]].concat())));
    let empty = json(&["--prompt", ""]);
    assert_eq!(json(&[]), empty);
    assert_eq!(empty[0]["prompt"], "");
    // As after a prompt that is that token, which a prompt may mention.
    let after_end = json(&["--prompt", "<|endoftext|>"]);
    assert_eq!(after_end[0]["tokens"], empty[0]["tokens"]);
    assert_eq!(empty[0]["tokens"].as_array().unwrap().len(), 24);
    // 64 positions have room for 63 tokens after it.
    let all = objects(&kiln.succeed(&["generate", "model", "--json"]));
    assert_eq!(all[0]["tokens"].as_array().unwrap().len(), 63);
}

#[test]
fn what_cannot_be_is_refused_on_one_line() {
    let kiln = kiln();
    let refuse = |arguments: &[&str], texts: &[&str]| {
        let message = kiln.fail(arguments);
        assert_eq!(message.lines().count(), 1, "{arguments:?}: {message}");
        for text in texts {
            assert!(message.contains(text), "{arguments:?}: {message}");
        }
    };
    let prompt = ["--prompt", "once upon"];
    let refuse_with = |more: &[&str], texts: &[&str]| {
        refuse(&generate(&[&prompt, more].concat()), texts);
    };
    refuse(
        &["generate", "nowhere", "--prompt", "a"],
        &["nowhere/config.json"],
    );
    refuse_with(
        &["--beams", "3", "--temperature", "1"],
        &["--beams", "--temperature"],
    );
    refuse_with(&["--top-k", "3"], &["--temperature"]);
    refuse_with(&["--length-penalty", "0.5"], &["--beams"]);
    refuse_with(&["--stop", ""], &["--stop"]);
    for temperature in ["--temperature=-1", "--temperature=nan"] {
        refuse_with(&[temperature], &["temperature = ", "above 0"]);
    }
    refuse_with(
        &["--repetition-penalty", "0"],
        &["repetition_penalty = 0", "above 0"],
    );
    refuse_with(
        &["--no-repeat-ngram", "0"],
        &["no_repeat_ngram = 0", "at least 1"],
    );
    let drawn = ["--temperature", "1"];
    refuse_with(
        &[&drawn[..], &["--top-p", "1.5"]].concat(),
        &["top_p = 1.5", "at most 1"],
    );
    refuse_with(
        &[&drawn[..], &["--top-k", "0"]].concat(),
        &["top_k = 0", "at least 1"],
    );
    refuse_with(&["--beams", "0"], &["--beams", "1..=1024"]);
    refuse_with(&["--spans", "botom:1 window:8"], &["--spans", "`botom:1`"]);
    refuse_with(
        &["--spans", "bottom:3 window:8"],
        &["`bottom:3`", "at most 2"],
    );
    refuse_with(&["--prompt-file", "none.txt"], &["none.txt"]);
    kiln.write("long.txt", "so ".repeat(15));
    let room = "a prompt of at most 40 tokens, or at most 19 new ones";
    refuse_with(
        &["--prompt-file", "long.txt"],
        &["long.txt: 45 tokens", "64 positions", room],
    );
    kiln.write("bytes.txt", b"ab\xff");
    refuse_with(&["--prompt-file", "bytes.txt"], &["bytes.txt", "byte 2"]);

    save(&kiln, "small", &config(END, 64), false);
    let small = ["generate", "small", "--prompt", "a"];
    refuse(&small, &["257 tokens", "256"]);
    std::fs::remove_file(kiln.path("small/tokenizer.json")).unwrap();
    refuse(&small, &["small has neither tokenizer.json nor vocab.json"]);
    std::fs::remove_file(kiln.path("model/model.safetensors")).unwrap();
    refuse_with(&[], &["model", "no weights"]);
    kiln.write("bert/config.json", r#"{"model_type": "bert"}"#);
    refuse(
        &["generate", "bert", "--prompt", "a"],
        &["bert/config.json", "`model_type`", "gpt2"],
    );
    assert!(DecoderFolder::open(kiln.path("model")).is_ok());
}
