use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::graph::testing::{self, document, publish};

fn store() -> (TempDir, Store) {
    testing::store()
}

#[test]
fn is_made_once_and_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("runs/store");
    let made = Store::open(&root).unwrap();
    assert_eq!(made.claim(), ClaimBy::Link);
    let path = root.join(".kiln/store.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text, "format = 1\nclaim = \"link\"\n");
    assert_eq!(fs::read_dir(root.join(".kiln")).unwrap().count(), 1);
    fs::write(&path, "format = 1\nclaim = \"create\"\n").unwrap();
    assert_eq!(Store::open(&root).unwrap().claim(), ClaimBy::Create);
    assert!(made.done().unwrap().is_empty());
    // A store that another process is creating has the folder, and not yet the settings.
    fs::remove_file(&path).unwrap();
    Store::open(&root).unwrap();
}

#[test]
fn another_format_or_folder_is_refused_in_one_line() {
    let (folder, store) = store();
    let path = store.root().join(".kiln/store.toml");
    for (text, problem) in [
        (
            "format = 2\nlayout = \"flat\"",
            "format 2 is unknown, expected 1",
        ),
        ("format = \"1\"", "format \"1\" is unknown"),
        ("claim = \"link\"", "`format` is missing"),
        ("format = 1\nclaim = \"hope\"", "hope"),
        ("format = ", "delete this file"),
    ] {
        fs::write(&path, text).unwrap();
        let error = Store::open(store.root()).unwrap_err().to_string();
        assert!(error.contains("store.toml: "), "{error}");
        assert!(error.contains(problem), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let other = folder.path().join("home");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("letter.txt"), "").unwrap();
    let error = Store::open(&other).unwrap_err().to_string();
    assert!(
        error.contains("home is not a store: it holds `letter.txt`"),
        "{error}"
    );
    let error = Store::open(&other.join("letter.txt")).unwrap_err();
    assert!(error.to_string().contains("it is a file"), "{error}");
    assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
}

#[test]
fn a_path_in_the_way_leaves_no_store() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let error = Store::open(&folder.path().join("file/store")).unwrap_err();
    assert!(error.to_string().contains("file/store"), "{error}");
    let root = folder.path().join("store");
    fs::create_dir_all(root.join(".kiln/store.toml")).unwrap();
    let error = Store::open(&root).unwrap_err();
    assert!(error.to_string().contains("store.toml"), "{error}");
    assert_eq!(fs::read_dir(root.join(".kiln")).unwrap().count(), 1);
}

#[test]
fn reads_what_is_done() {
    let (_folder, store) = store();
    let keys = [1, 2].map(|seed| publish(&store, &document(seed), "weights"));
    fs::create_dir(store.root().join("lost+found")).unwrap();
    let mut sorted = keys.to_vec();
    sorted.sort();
    assert_eq!(store.done().unwrap(), sorted);
    let done = store.read(&keys[0]).unwrap().unwrap();
    assert_eq!(done.document, document(1));
    assert_eq!(done.result, json!({ "loss": 0.1 }));
    assert_eq!(done.files["model.bin"].length, 7);
    let absent = document(3).key().unwrap();
    assert!(!store.is_done(&absent).unwrap());
    assert!(store.read(&absent).unwrap().is_none());
}

#[test]
fn a_damaged_or_foreign_record_names_the_file_and_what_to_do() {
    let (_folder, store) = store();
    let key = publish(&store, &document(1), "weights");
    let other = publish(&store, &document(2), "weights");
    let path = store.stage(&key).join("done.json");
    let whole = fs::read_to_string(&path).unwrap();
    let foreign = fs::read_to_string(store.stage(&other).join("done.json")).unwrap();
    let half = whole[..whole.len() / 2].to_owned();
    let unknown = whole.replacen('{', "{ \"later\": 1,", 1);
    for (text, problem) in [
        (half, "EOF"),
        (String::new(), "EOF"),
        (foreign, "the file is the record of train-"),
        (unknown, "unknown field `later`"),
    ] {
        fs::write(&path, text).unwrap();
        let error = store.read(&key).unwrap_err().to_string();
        assert!(error.contains(&format!("{}: ", path.display())), "{error}");
        assert!(error.contains(problem), "{error}");
        assert!(error.contains(&format!("delete {}", store.stage(&key).display())));
        assert_eq!(store.check().unwrap().len(), 1);
    }
    fs::remove_file(&path).unwrap();
    let error = store.read(&key).unwrap_err().to_string();
    assert!(error.contains("done.json: the file is missing"), "{error}");
}

#[test]
fn check_finds_what_changed() {
    let (_folder, store) = store();
    let keys = [1, 2, 3].map(|seed| publish(&store, &document(seed), "weights"));
    assert!(store.check().unwrap().is_empty());
    let of = |key| store.stage(key).join("model.bin");
    fs::write(of(&keys[0]), "weightS").unwrap();
    fs::rename(of(&keys[1]), store.stage(&keys[1]).join("other.bin")).unwrap();
    let findings = store.check().unwrap();
    let mut found = findings.iter().map(ToString::to_string).collect::<Vec<_>>();
    found.sort_by_key(|text| {
        text.split_once("model.bin")
            .map(|(_, rest)| rest.to_owned())
    });
    assert_eq!(found.len(), 3);
    assert!(found[0].ends_with("other.bin is not part of the stage; delete it"));
    assert!(found[1].contains("model.bin has changed"), "{found:?}");
    assert!(found[2].contains("model.bin is missing"), "{found:?}");
}
