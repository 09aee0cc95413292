//! A server in memory that answers as MLflow does, and a run.

use std::cell::RefCell;

use serde_json::{Value, json};

use super::{
    run::{Artifact, Metric, Run, Status},
    transport::{Body, Method, Request, Response, Transport, TransportError},
};

/// A run with two parameters, two metrics and a file.
pub(super) fn run() -> Run {
    let metric = |value, step| Metric {
        name: "valid/accuracy".to_owned(),
        value,
        at_ms: 2_000,
        step,
    };
    Run {
        arm: "experts.order=random".to_owned(),
        seed: 2,
        stage: "ab12".to_owned(),
        start_ms: 1_000,
        end_ms: 9_000,
        status: Status::Finished,
        parameters: vec![
            ("train.epochs".to_owned(), "3".to_owned()),
            ("note".to_owned(), String::new()),
        ],
        metrics: vec![metric(0.5, 10), metric(f64::NAN, 20)],
        artifacts: vec![Artifact {
            name: "report.html".to_owned(),
            bytes: b"<p>".to_vec(),
        }],
    }
}

/// The server: its experiments and runs, the requests it got, and what it does wrong.
#[derive(Default)]
pub(super) struct Server {
    pub(super) experiments: RefCell<Vec<String>>,
    pub(super) runs: RefCell<Vec<Value>>,
    pub(super) requests: RefCell<Vec<Request>>,
    /// The next requests fail with these statuses; a status of 0 lets one pass.
    pub(super) failures: RefCell<Vec<u16>>,
    /// Failing requests are carried out all the same.
    pub(super) fails_after: bool,
    pub(super) deleted: bool,
    /// The root of the files, `mlflow-artifacts:` if empty.
    pub(super) artifact_root: String,
}

impl Server {
    /// The method and end of path of each request so far.
    pub(super) fn log(&self) -> Vec<String> {
        let requests = self.requests.borrow();
        let short = |request: &Request| {
            let path = request.path.split('?').next().unwrap_or_default();
            let path = path.strip_prefix("/api/2.0/").unwrap();
            format!("{} {path}", request.method)
        };
        requests.iter().map(short).collect()
    }

    fn answer(&self, request: &Request) -> (u16, Value) {
        let body = match &request.body {
            Body::Json(body) => body.clone(),
            _ => Value::Null,
        };
        let path = request.path.strip_prefix("/api/2.0/").unwrap();
        match path.strip_prefix("mlflow/").unwrap_or(path) {
            "experiments/create" => {
                let name = body["name"].as_str().unwrap().to_owned();
                let mut experiments = self.experiments.borrow_mut();
                if experiments.contains(&name) {
                    let code = "RESOURCE_ALREADY_EXISTS";
                    return (400, json!({ "error_code": code, "message": "exists" }));
                }
                experiments.push(name);
                (
                    200,
                    json!({ "experiment_id": experiments.len().to_string() }),
                )
            }
            "runs/search" => {
                let runs = self.runs.borrow();
                let stage = |run: &&Value| {
                    let tags = run["data"]["tags"].as_array().unwrap();
                    tags.iter().any(|tag| {
                        let tag = tag["value"].as_str().unwrap();
                        body["filter"] == format!("tags.`kiln.stage` = '{tag}'")
                    })
                };
                let found: Vec<_> = runs.iter().filter(stage).cloned().collect();
                let absent = found.is_empty();
                let runs = json!({ "runs": found });
                (200, if absent { json!({}) } else { runs })
            }
            "runs/create" => {
                let mut runs = self.runs.borrow_mut();
                let id = format!("r{}", runs.len());
                let root = match self.artifact_root.as_str() {
                    "" => "mlflow-artifacts:",
                    root => root,
                };
                let info =
                    json!({ "run_id": id, "artifact_uri": format!("{root}/1/{id}/artifacts") });
                let run = json!({ "info": info, "data": { "tags": body["tags"], "params": [] } });
                runs.push(run.clone());
                (200, json!({ "run": run }))
            }
            "runs/log-batch" => {
                let mut runs = self.runs.borrow_mut();
                let id = &body["run_id"];
                let run = runs
                    .iter_mut()
                    .find(|run| run["info"]["run_id"] == *id)
                    .unwrap();
                let params = run["data"]["params"].as_array_mut().unwrap();
                params.extend(body["params"].as_array().unwrap().iter().cloned());
                (200, json!({}))
            }
            path if path.starts_with("experiments/get-by-name?") => {
                let stage = if self.deleted { "deleted" } else { "active" };
                let experiment = json!({ "experiment_id": "1", "lifecycle_stage": stage });
                (200, json!({ "experiment": experiment }))
            }
            "runs/update" => (200, json!({})),
            _ if request.method == Method::Put => (200, json!({})),
            path => panic!("{path}"),
        }
    }
}

impl Transport for Server {
    fn send(&self, request: &Request) -> Result<Response, TransportError> {
        self.requests.borrow_mut().push(request.clone());
        let mut failures = self.failures.borrow_mut();
        let failure = if failures.is_empty() {
            0
        } else {
            failures.remove(0)
        };
        let (status, body) = match failure {
            0 => self.answer(request),
            status => {
                if self.fails_after {
                    self.answer(request);
                }
                (status, Value::Null)
            }
        };
        let body = body.to_string().into_bytes();
        Ok(Response { status, body })
    }
}
