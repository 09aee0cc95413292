//! The requests, as pure functions. Each comment names the fields of the answer that are used.

use serde_json::{Value, json};

use super::{
    batch::Batch,
    run::{Artifact, Run, STAGE_TAG, Status},
    transport::{Body, Method, Request},
};

const API: &str = "/api/2.0/mlflow/";
const ARTIFACTS: &str = "/api/2.0/mlflow-artifacts/artifacts/";

/// Creates an experiment; `experiment_id`. Status 400 with `RESOURCE_ALREADY_EXISTS` if it exists.
pub fn create_experiment(name: &str) -> Request {
    post("experiments/create", json!({ "name": name }))
}

/// An experiment by its name; `experiment.experiment_id` and `experiment.lifecycle_stage`.
pub fn get_experiment(name: &str) -> Request {
    let name = percent_encoded(name, "");
    Request {
        method: Method::Get,
        path: format!("{API}experiments/get-by-name?experiment_name={name}"),
        body: Body::None,
    }
}

/// The active runs of a stage, at most 1,000; `runs`, absent if there are none. `stage` is of letters, digits, `-` and `_`.
pub fn search_runs(experiment: &str, stage: &str) -> Request {
    let body = json!({
        "experiment_ids": [experiment],
        "filter": format!("tags.`{STAGE_TAG}` = '{stage}'"),
        "run_view_type": "ACTIVE_ONLY",
        "max_results": 1000,
    });
    post("runs/search", body)
}

/// Creates a run with its tags; `run.info.run_id` and `run.info.artifact_uri`.
pub fn create_run(experiment: &str, run: &Run) -> Request {
    let tags = run.tags().map(|(key, value)| pair(key, &value));
    let body = json!({
        "experiment_id": experiment,
        "run_name": run.name(),
        "start_time": run.start_ms,
        "tags": tags,
    });
    post("runs/create", body)
}

/// Adds parameters and metrics to a run.
pub fn log_batch(run: &str, batch: &Batch) -> Request {
    let parameters = batch.parameters.iter();
    let parameters: Vec<_> = parameters.map(|(key, value)| pair(key, value)).collect();
    let metrics = batch.metrics.iter().map(|metric| {
        json!({
            "key": metric.name,
            "value": number(metric.value),
            "timestamp": metric.at_ms,
            "step": metric.step,
        })
    });
    let metrics: Vec<_> = metrics.collect();
    let body = json!({ "run_id": run, "metrics": metrics, "params": parameters, "tags": [] });
    post("runs/log-batch", body)
}

/// Ends a run.
pub fn update_run(run: &str, status: Status, end_ms: i64) -> Request {
    let body = json!({ "run_id": run, "status": status.name(), "end_time": end_ms });
    post("runs/update", body)
}

/// Uploads a file to a run. `folder` is the path of the run's `artifact_uri`: `EXPERIMENT/RUN/artifacts`.
pub fn put_artifact(folder: &str, artifact: &Artifact) -> Request {
    let path = format!("{}/{}", folder.trim_matches('/'), artifact.name);
    Request {
        method: Method::Put,
        path: ARTIFACTS.to_owned() + &percent_encoded(&path, "/"),
        body: Body::Bytes(artifact.bytes.clone()),
    }
}

fn post(path: &str, body: Value) -> Request {
    Request {
        method: Method::Post,
        path: API.to_owned() + path,
        body: Body::Json(body),
    }
}

fn pair(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": value })
}

/// A number as protobuf's JSON has it, where numbers that JSON lacks are strings.
fn number(value: f64) -> Value {
    if value.is_nan() {
        json!("NaN")
    } else if value.is_infinite() {
        json!(if value > 0.0 { "Infinity" } else { "-Infinity" })
    } else {
        json!(value)
    }
}

/// The text with all characters but letters, digits, `-._~` and `kept` percent-encoded.
fn percent_encoded(text: &str, kept: &str) -> String {
    let encoded = |byte: u8| {
        let c = char::from(byte);
        if c.is_ascii_alphanumeric() || "-._~".contains(c) || kept.contains(c) {
            c.to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(encoded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::mlflow::{run::Metric, testing::run};

    fn json_of(request: Request) -> Value {
        match request.body {
            Body::Json(body) => body,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn creates_and_finds_an_experiment() {
        let create = create_experiment("sst2 a");
        assert_eq!(create.method, Method::Post);
        assert_eq!(create.path, "/api/2.0/mlflow/experiments/create");
        assert_eq!(json_of(create), json!({ "name": "sst2 a" }));
        let get = get_experiment("a&b=c/é");
        let query = "experiment_name=a%26b%3Dc%2F%C3%A9";
        assert_eq!((get.method, get.body), (Method::Get, Body::None));
        assert_eq!(
            get.path,
            format!("/api/2.0/mlflow/experiments/get-by-name?{query}")
        );
    }

    #[test]
    fn searches_by_the_stage() {
        let body = json_of(search_runs("3", "ab12"));
        assert_eq!(body["experiment_ids"], json!(["3"]));
        assert_eq!(body["filter"], "tags.`kiln.stage` = 'ab12'");
    }

    #[test]
    fn creates_and_ends_a_run() {
        let body = json_of(create_run("3", &run()));
        let expected = json!({
            "experiment_id": "3",
            "run_name": "experts.order=random seed 2",
            "start_time": 1_000,
            "tags": [
                { "key": "kiln.arm", "value": "experts.order=random" },
                { "key": "kiln.seed", "value": "2" },
                { "key": "kiln.stage", "value": "ab12" },
            ],
        });
        assert_eq!(body, expected);
        let body = json_of(update_run("r", Status::Failed, 9_000));
        let expected = json!({ "run_id": "r", "status": "FAILED", "end_time": 9_000 });
        assert_eq!(body, expected);
    }

    #[test]
    fn numbers_that_json_lacks_are_strings() {
        let metric = |value| Metric {
            name: "loss".to_owned(),
            value,
            at_ms: 5,
            step: -1,
        };
        let values = [0.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        let batch = Batch {
            parameters: vec![("a".to_owned(), "b".to_owned())],
            metrics: values.map(metric).to_vec(),
        };
        let body = json_of(log_batch("r", &batch));
        let first = json!({ "key": "loss", "value": 0.1, "timestamp": 5, "step": -1 });
        assert_eq!(body["metrics"][0], first);
        for (at, value) in ["NaN", "Infinity", "-Infinity"].into_iter().enumerate() {
            assert_eq!(body["metrics"][at + 1]["value"], value);
        }
        assert_eq!(body["params"], json!([{ "key": "a", "value": "b" }]));
    }

    #[test]
    fn uploads_below_the_artifacts_of_the_run() {
        let artifact = Artifact {
            name: "plots/a b.svg".to_owned(),
            bytes: vec![1, 2],
        };
        let put = put_artifact("/3/r/artifacts", &artifact);
        let path = "/api/2.0/mlflow-artifacts/artifacts/3/r/artifacts/plots/a%20b.svg";
        assert_eq!((put.method, put.path.as_str()), (Method::Put, path));
        assert_eq!(put.body, Body::Bytes(vec![1, 2]));
    }
}
