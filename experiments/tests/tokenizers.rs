//! Folders of tokenizers as people have them: Kiln reads in them what Transformers does
//! (`fixtures/tokenizer_fixtures.py`).

use std::{collections::BTreeMap, fs};

use experiments::data::{
    example::Example, loader::Feature, text_tokenizer::TextTokenizer, tokenizer::Tokenizer,
};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

#[derive(Deserialize)]
struct Cases {
    bert: Vec<BertCase>,
    gpt2: Vec<Gpt2Case>,
}

#[derive(Deserialize)]
struct BertCase {
    name: String,
    files: BTreeMap<String, Value>,
    texts: Vec<(String, Option<String>)>,
    ids: Vec<Vec<u32>>,
    /// The segment of each token.
    types: Vec<Vec<u8>>,
    /// With room for 8 tokens.
    first_8: Vec<Vec<u32>>,
    pad: u32,
}

#[derive(Deserialize)]
struct Gpt2Case {
    name: String,
    files: BTreeMap<String, Value>,
    texts: Vec<String>,
    ids: Vec<Vec<u32>>,
    /// The text of the tokens without special ones.
    shown: Vec<String>,
    stops: Vec<u32>,
    start: u32,
}

fn cases() -> Cases {
    serde_json::from_str(include_str!("fixtures/tokenizers.json")).unwrap()
}

fn folder(files: &BTreeMap<String, Value>) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let text = content
            .as_str()
            .map_or_else(|| content.to_string(), str::to_owned);
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn features(
    tokenizer: &Tokenizer,
    texts: &[(String, Option<String>)],
    length: usize,
) -> Vec<Feature> {
    let examples: Vec<Example> = texts
        .iter()
        .map(|(first, second)| Example {
            first: first.clone(),
            second: second.clone(),
            row: 0,
            label: None,
        })
        .collect();
    tokenizer.features(&examples, length).unwrap()
}

fn ids(tokenizer: &Tokenizer, texts: &[(String, Option<String>)], length: usize) -> Vec<Vec<u32>> {
    let features = features(tokenizer, texts, length).into_iter();
    features.map(|feature| feature.input_ids).collect()
}

#[test]
fn a_bert_reads_the_tokens_of_transformers() {
    for case in cases().bert {
        let folder = folder(&case.files);
        let tokenizer = Tokenizer::load(folder.path()).unwrap();
        assert_eq!(ids(&tokenizer, &case.texts, 512), case.ids, "{}", case.name);
        assert_eq!(
            ids(&tokenizer, &case.texts, 8),
            case.first_8,
            "{}",
            case.name
        );
        let features = features(&tokenizer, &case.texts, 512).into_iter();
        let types: Vec<Vec<u8>> = features.map(|feature| feature.type_ids).collect();
        assert_eq!(types, case.types, "{}", case.name);
        assert_eq!(tokenizer.pad_id(), case.pad, "{}", case.name);
        // What Kiln writes says the same.
        let saved = tempfile::tempdir().unwrap();
        tokenizer.save(saved.path()).unwrap();
        let again = Tokenizer::load(saved.path()).unwrap();
        assert_eq!(
            ids(&again, &case.texts, 512),
            case.ids,
            "{}, saved",
            case.name
        );
    }
}

#[test]
fn a_decoder_reads_and_ends_as_in_transformers() {
    for case in cases().gpt2 {
        let folder = folder(&case.files);
        let tokenizer = TextTokenizer::load(folder.path()).unwrap();
        let found = tokenizer.encode_prompts(&case.texts).unwrap();
        assert_eq!(found, case.ids, "{}", case.name);
        for (ids, shown) in found.iter().zip(&case.shown) {
            assert_eq!(tokenizer.decode(ids), *shown, "{}", case.name);
        }
        let vocabulary = tokenizer.vocab_size();
        assert_eq!(tokenizer.stop_ids(vocabulary), case.stops, "{}", case.name);
        assert_eq!(tokenizer.start_id(vocabulary), case.start, "{}", case.name);
    }
}

#[test]
fn ids_that_no_model_has_end_and_begin_nothing() {
    let case = cases().gpt2.remove(0);
    let mut files = case.files;
    files.insert(
        "generation_config.json".to_owned(),
        serde_json::json!({"eos_token_id": [50256, 3], "bos_token_id": 50256}),
    );
    let folder = folder(&files);
    let tokenizer = TextTokenizer::load(folder.path()).unwrap();
    assert_eq!(tokenizer.stop_ids(265), [3]);
    assert_eq!(tokenizer.start_id(265), 3);
    fs::write(
        folder.path().join("generation_config.json"),
        r#"{"eos_token_id": 50256}"#,
    )
    .unwrap();
    let tokenizer = TextTokenizer::load(folder.path()).unwrap();
    assert!(tokenizer.stop_ids(265).is_empty());
    assert_eq!(tokenizer.start_id(265), tokenizer.end_id());
}

/// What two files disagree on is refused, with the file and what it says.
#[test]
fn contradictions_are_refused() {
    let cases = cases();
    let bert = |name: &str, file: &str, content: &str| {
        let case = cases.bert.iter().find(|case| case.name == name).unwrap();
        let folder = folder(&case.files);
        fs::write(folder.path().join(file), content).unwrap();
        Tokenizer::load(folder.path()).unwrap_err().to_string()
    };
    let gpt2 = |file: &str, content: &str| {
        let folder = folder(&cases.gpt2[0].files);
        fs::write(folder.path().join(file), content).unwrap();
        TextTokenizer::load(folder.path()).unwrap_err().to_string()
    };
    for (error, expected) in [
        (
            bert(
                "tokens in added_tokens.json",
                "added_tokens.json",
                r#"{"covid": 41}"#,
            ),
            "added_tokens.json gives the token `covid` the id 41; beside the vocabulary's other tokens it has 38",
        ),
        (
            bert("a vocabulary alone", "added_tokens.json", r#"["covid"]"#),
            "added_tokens.json is malformed: invalid type: sequence, expected a map",
        ),
        (
            bert(
                "a vocabulary alone",
                "tokenizer_config.json",
                r#"{"do_lower_case": "no"}"#,
            ),
            "tokenizer_config.json is malformed: `do_lower_case` is \"no\"; expected true or false",
        ),
        (
            bert(
                "a vocabulary alone",
                "special_tokens_map.json",
                r#"{"cls_token": "<s>"}"#,
            ),
            "the vocabulary has no <s>, which BERT needs",
        ),
        (
            gpt2("tokenizer_config.json", r#"{"add_prefix_space": true}"#),
            "`add_prefix_space` is true, which would change the text; expected false",
        ),
        (
            gpt2("merges.txt", "#version: 0.2\nthe\n"),
            "merges.txt is malformed: line 2 is `the`; expected two tokens with a space between them",
        ),
        (gpt2("merges.txt", "no such\n"), "merges.txt is malformed: "),
        (
            gpt2("generation_config.json", r#"{"eos_token_id": "end"}"#),
            "generation_config.json is malformed: `eos_token_id` is \"end\"; expected an id or a list of ids",
        ),
        (
            gpt2("special_tokens_map.json", r#"{"eos_token": "</s>"}"#),
            "vocab.json is malformed: it has no </s>, which ends a document",
        ),
    ] {
        assert!(error.contains(expected), "{error}\n{expected}");
    }
}

#[test]
fn documents_read_special_tokens_but_never_end_by_their_text() {
    let name = "special tokens in tokenizer.json";
    let case = cases()
        .gpt2
        .into_iter()
        .find(|case| case.name == name)
        .unwrap();
    let folder = folder(&case.files);
    let tokenizer = TextTokenizer::load(folder.path()).unwrap();
    let [ids] = &tokenizer.encode(&["<|title|>the<|endoftext|>ran"]).unwrap()[..] else {
        panic!("one text")
    };
    assert!(!ids.contains(&tokenizer.end_id()));
    assert_eq!(ids[0], 265);
    assert_eq!(tokenizer.decode(ids), "the<|endoftext|>ran");
}
