use serde_json::json;

use super::*;

fn key(digit: &str) -> String {
    format!("evaluate-{}", digit.repeat(32))
}

/// Two arms on two seeds, one of which failed, and a model that is no arm.
fn results() -> Results {
    let seed = |seed: u64, digit: &str, accuracy: Option<f64>| {
        let mut metrics = serde_json::Map::new();
        metrics.extend(accuracy.map(|value| ("accuracy".to_owned(), value.into())));
        json!({
            "seed": seed, "stages": { "before": key("f"), "evaluate-after-2": key(digit) },
            "status": if accuracy.is_some() { "done" } else { "failed" },
            "metrics": metrics, "examples": { "accuracy": 20 },
        })
    };
    let arm = |name: &str, set: Value, seeds: Value| {
        json!({
            "name": name, "is_arm": set.as_object().is_some_and(|set| !set.is_empty()), "set": set, "layers": null, "spans": [],
            "experts": null, "seeds": seeds, "metrics": {}, "cost": null,
        })
    };
    let set = |order: &str, shared: u32| json!({ "experts.order": order, "experts.shared": shared, "seed": 1 });
    let comparison = json!({
        "arm": "b", "reference": "a, or so", "metric": "accuracy", "unit": "points", "seeds": 2, "examples": 20,
        "mcnemar": [{ "gained": 3, "lost": 1, "p": 0.625 }, { "gained": 2, "lost": 0, "p": 0.5 }],
        "difference": 0.1, "se": 0.05, "df": null, "low": -0.1, "high": 0.3,
        "simultaneous": { "low": -0.2, "high": 0.4, "alpha_star": 0.05 }, "percentile": null,
        "p_sign_flip": 0.5, "p_adjusted": 0.5, "p_crossed": 0.25,
        "needs": { "seeds_at_least": 6, "seeds": null, "examples_alone": 0.25 },
        "verdict": { "kind": "undecided", "sentence": "b against a is not decided" },
    });
    let refused = json!({
        "arm": "c", "reference": "a, or so", "metric": "accuracy", "unit": "points", "seeds": 2, "examples": 20, "mcnemar": [],
        "verdict": { "kind": "refused", "sentence": "no" },
    });
    let results = json!({
        "schema": 1, "run": "test", "metric": "accuracy", "metrics": ["accuracy"], "directions": {}, "alpha": 0.05, "margin": null,
        "reference": "a, or so", "seeds": [1, 2], "factors": [], "notes": [],
        "arms": [
            arm("teacher", json!({}), json!([seed(1, "0", Some(1.0))])),
            arm("a, or so", set("random", 0), json!([seed(1, "1", Some(0.5)), seed(2, "2", Some(0.75))])),
            arm("b", set("importance", 4), json!([seed(1, "3", Some(1e-7)), seed(2, "4", None)])),
        ],
        "comparisons": [comparison, refused],
    });
    serde_json::from_value(results).unwrap()
}

fn timings() -> Timings {
    let stage = |digit: &str, memory: Option<u64>| {
        json!({
            "key": key(digit), "title": "evaluating", "seed": 1, "seconds": 2.5, "peak_memory": memory, "host": "h",
            "finished": null,
        })
    };
    let timings = json!({
        "schema": 1, "stages": [stage("1", Some(7)), stage("9", None)],
        "latencies": [{ "arm": "b", "seed": 2, "ms": [1.5, 2.5] }],
    });
    serde_json::from_value(timings).unwrap()
}

#[test]
fn results_have_a_row_per_metric_and_the_keys_that_differ() {
    let [(_, table), ..] = tables(&results(), &timings()).unwrap();
    let expected = [
        "arm,reference,seed,metric,split,value,examples,stage,status,key.experts.order,key.experts.shared".to_owned(),
        format!("teacher,\"a, or so\",1,accuracy,eval,1.0,20,{},done,,", key("0")),
        format!("\"a, or so\",\"a, or so\",1,accuracy,eval,0.5,20,{},done,random,0", key("1")),
        format!("\"a, or so\",\"a, or so\",2,accuracy,eval,0.75,20,{},done,random,0", key("2")),
        format!("b,\"a, or so\",1,accuracy,eval,1e-7,20,{},done,importance,4", key("3")),
        format!("b,\"a, or so\",2,,,,,{},failed,importance,4", key("4")),
        String::new(),
    ];
    assert_eq!(table.to_csv(), expected.join("\r\n"));
}

#[test]
fn comparisons_are_flat() {
    let [_, (_, table), _] = tables(&results(), &timings()).unwrap();
    let expected = "arm,reference,metric,seeds,examples,difference,se,df,low,high,simultaneous_low,simultaneous_high,alpha_star,\
         percentile_low,percentile_high,p_sign_flip,p_adjusted,p_crossed,gained,lost,needs_seeds_at_least,needs_seeds,needs_examples_alone,\
         verdict,sentence\r\n\
         b,\"a, or so\",accuracy,2,20,0.1,0.05,,-0.1,0.3,-0.2,0.4,0.05,,,0.5,0.5,0.25,5,1,6,,0.25,undecided,b against a is not decided\r\n\
         c,\"a, or so\",accuracy,2,20,,,,,,,,,,,,,,,,,,,refused,no\r\n";
    assert_eq!(table.to_csv(), expected);
}

#[test]
fn times_are_of_stages_and_of_passes() {
    let [.., (_, table)] = tables(&results(), &timings()).unwrap();
    let expected = [
        "arm,stage,title,seed,machine,round,ms,seconds,peak_memory".to_owned(),
        format!("\"a, or so\",{},evaluating,1,h,,,2.5,7", key("1")),
        format!(",{},evaluating,1,h,,,2.5,", key("9")),
        "b,,,2,,0,1.5,,".to_owned(),
        "b,,,2,,1,2.5,,".to_owned(),
        String::new(),
    ];
    assert_eq!(table.to_csv(), expected.join("\r\n"));
}

#[test]
fn a_run_folder_has_both_forms_and_the_same_bytes_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let files = || {
        write(folder.path(), &results(), &timings()).unwrap();
        let names = NAMES
            .iter()
            .flat_map(|name| ["csv", "parquet"].map(|end| format!("{name}.{end}")));
        let files = names.map(|name| std::fs::read(folder.path().join(name)).unwrap());
        files.collect::<Vec<_>>()
    };
    assert_eq!(files(), files());
}
