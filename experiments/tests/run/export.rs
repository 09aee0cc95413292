//! `kiln export`: what it writes, and what it refuses.

use std::{collections::BTreeSet, fs, path::Path};

use super::kiln::Kiln;

/// A run of an ablation of two arms, in `run`.
fn with_run() -> Kiln {
    let kiln = Kiln::new();
    let ablate = [
        "ablate",
        "small.toml",
        "arms=[]",
        "experts.order=random,inverse",
        "latency.repeats=2",
        "train.epochs=1",
        "data.synthetic.dev=60",
        "tracking=[\"tensorboard\"]",
        "--seeds",
        "2",
        "--out",
        "run",
        "--ui",
        "none",
    ];
    kiln.succeed(&ablate);
    kiln
}

/// The files below a folder, by their paths in it.
fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            let inner = files(&path).into_iter();
            found.extend(inner.map(|inner| format!("{name}/{inner}")));
        } else {
            found.insert(name);
        }
    }
    found
}

#[test]
fn a_run_is_written_for_other_programs() {
    let kiln = with_run();
    let results = fs::read_to_string(kiln.path("run/results.csv")).unwrap();
    let header =
        "arm,reference,seed,metric,split,value,examples,stage,status,key.experts.order\r\n";
    assert!(results.starts_with(header), "{results}");
    // A teacher and two arms on two seeds.
    assert_eq!(results.lines().count(), 7);
    assert!(
        results.contains("order=inverse,order=random,2,accuracy,eval,"),
        "{results}"
    );
    let comparisons = fs::read_to_string(kiln.path("run/comparisons.csv")).unwrap();
    assert_eq!(comparisons.lines().count(), 2);

    // While they went on, trainings were followed.
    let followed = files(&kiln.path("run/tensorboard"));
    assert_eq!(followed.len(), 6, "{followed:?}");
    let teacher = "teacher/seed-2/events.out.tfevents.";
    assert!(
        followed.iter().any(|file| file.starts_with(teacher)),
        "{followed:?}"
    );

    let told = kiln.succeed(&["export", "run", "--to", "csv"]);
    assert_eq!(told.lines().count(), 9);
    let csv = files(&kiln.path("run/export/csv"));
    assert_eq!(csv.len(), 9, "{csv:?}");
    assert!(
        csv.contains("predictions/teacher-seed-1-eval.csv"),
        "{csv:?}"
    );
    let again = fs::read_to_string(kiln.path("run/export/csv/results.csv")).unwrap();
    assert_eq!(again, results);
    let path = kiln.path("run/export/csv/predictions/teacher-seed-1-eval.csv");
    let predictions = fs::read_to_string(path).unwrap();
    let header =
        "example,group,label,prediction,scores,accuracy,nats,bytes,tokens,start\r\neval:0,,";
    assert!(predictions.starts_with(header), "{predictions}");
    assert_eq!(predictions.lines().count(), 61);

    // Once more, as other files with the same content.
    kiln.succeed(&["export", "run", "--to", "parquet", "--dir", "one"]);
    let json = kiln.succeed(&["export", "run", "--to", "parquet", "--dir", "two", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(
        json[0]["path"]
            .as_str()
            .unwrap()
            .ends_with("results.parquet")
    );
    for file in files(&kiln.path("one")) {
        let [one, two] = ["one", "two"].map(|dir| fs::read(kiln.path(dir).join(&file)).unwrap());
        assert_eq!(one, two, "{file}");
    }

    kiln.succeed(&["export", "run", "--to", "trackio"]);
    let path = kiln.path("run/export/trackio/teacher-seed-1.csv");
    let steps = fs::read_to_string(path).unwrap();
    assert!(steps.starts_with("step,timestamp,epoch/"), "{steps}");
    assert!(
        steps.lines().next().unwrap().contains(",eval/accuracy"),
        "{steps}"
    );

    kiln.succeed(&["export", "run", "--to", "tensorboard"]);
    let events = files(&kiln.path("run/export/tensorboard"));
    assert_eq!(events.len(), 6, "{events:?}");
    assert!(
        events
            .iter()
            .all(|file| file.contains("/seed-") && file.contains("events.out.tfevents."))
    );
    let again = kiln.fail(&["export", "run", "--to", "tensorboard"]);
    assert!(
        again.contains("is of an earlier export; delete run/export/tensorboard"),
        "{again}"
    );

    // The run goes on as before.
    let before = files(&kiln.path("run"));
    let told = kiln.fail(&["export", "run", "--to", "csv", "--dir", "run"]);
    assert!(
        told.contains("`--dir`: run is in a run folder; choose another folder"),
        "{told}"
    );
    for (dir, what) in [
        ("run/arms/new", "in a run folder"),
        ("runs/store/new", "in a store"),
        ("run/arms/teacher/seed-1/train/model", "in a store"),
        ("small.toml", "a file"),
    ] {
        let told = kiln.fail(&["export", "run", "--to", "parquet", "--dir", dir]);
        assert!(told.contains(&format!("{dir} is {what}; choose")), "{told}");
    }
    assert_eq!(files(&kiln.path("run")), before);
}

#[test]
fn what_cannot_be_exported_is_told() {
    let kiln = Kiln::new();
    let fail = |arguments: &[&str]| kiln.fail(&[&["export"], arguments].concat());
    assert!(fail(&["nowhere", "--to", "csv"]).contains("nowhere is no run folder"));
    assert!(fail(&["nowhere", "--to", "excel"]).contains("possible values: tensorboard, csv"));
    assert!(fail(&["nowhere", "--to", "mlflow"]).contains("needs the server's address: --url"));
    let told = fail(&["nowhere", "--to", "csv", "--url", "http://a"]);
    assert!(told.contains("`--url` is for `--to mlflow`"), "{told}");
    let told = fail(&["nowhere", "--to", "mlflow", "--url", "localhost"]);
    assert!(
        told.contains("`localhost` is not a server address"),
        "{told}"
    );
    kiln.write("begun/recipe.toml", "");
    kiln.write("begun/environment.json", "[]");
    let told = fail(&["begun", "--to", "csv"]);
    assert!(told.contains("begun has no results yet"), "{told}");
}
