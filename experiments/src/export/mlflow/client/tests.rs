use super::*;
use crate::export::mlflow::{
    run::Metric,
    testing::{Server, run},
    transport::Body,
};

fn client(server: &Server) -> Client<&Server> {
    Client {
        transport: server,
        pause: Duration::ZERO,
    }
}

fn export(server: &Server) -> Result<Exported, MlflowError> {
    client(server).export("sst2", &run())
}

const FIRST: [&str; 7] = [
    "POST mlflow/experiments/create",
    "POST mlflow/runs/search",
    "POST mlflow/runs/create",
    "POST mlflow/runs/log-batch",
    "POST mlflow/runs/log-batch",
    "PUT mlflow-artifacts/artifacts/1/r0/artifacts/report.html",
    "POST mlflow/runs/update",
];

#[test]
fn a_first_export_creates_the_run() {
    let server = Server::default();
    let exported = export(&server).unwrap();
    let expected = Exported {
        experiment: "1".to_owned(),
        run: "r0".to_owned(),
        created: true,
    };
    assert_eq!(exported, expected);
    assert_eq!(server.log(), FIRST);
}

#[test]
fn a_second_export_updates_the_run() {
    let server = Server::default();
    let first = export(&server).unwrap();
    server.requests.borrow_mut().clear();
    let second = export(&server).unwrap();
    assert_eq!(
        second,
        Exported {
            created: false,
            ..first
        }
    );
    let expected = [
        "POST mlflow/experiments/create",
        "GET mlflow/experiments/get-by-name",
        "POST mlflow/runs/search",
        "POST mlflow/runs/log-batch",
        "PUT mlflow-artifacts/artifacts/1/r0/artifacts/report.html",
        "POST mlflow/runs/update",
    ];
    assert_eq!(server.log(), expected);
    assert_eq!(server.runs.borrow().len(), 1);
}

#[test]
fn arms_that_share_a_stage_are_two_runs() {
    let server = Server::default();
    let other = Run {
        arm: "experts.order=importance".to_owned(),
        ..run()
    };
    export(&server).unwrap();
    let second = client(&server).export("sst2", &other).unwrap();
    assert!(second.created);
    assert_eq!(export(&server).unwrap().run, "r0");
    assert_eq!(server.runs.borrow().len(), 2);
}

#[test]
fn a_parameter_cannot_change() {
    let server = Server::default();
    export(&server).unwrap();
    let mut changed = run();
    changed.parameters[0].1 = "4".to_owned();
    let error = client(&server).export("sst2", &changed).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the parameter `train.epochs` of run r0 is `3` in MLflow and cannot change to `4`"
    );
}

#[test]
fn metrics_are_split_into_calls() {
    let server = Server::default();
    let metric = |step| Metric {
        name: "loss".to_owned(),
        value: 0.5,
        at_ms: 1,
        step,
    };
    let run = Run {
        metrics: (0..2_500).map(metric).collect(),
        ..run()
    };
    client(&server).export("sst2", &run).unwrap();
    let requests = server.requests.borrow();
    let sizes = requests.iter().filter_map(|request| match &request.body {
        Body::Json(body) => body["metrics"].as_array().map(Vec::len),
        _ => None,
    });
    assert_eq!(sizes.collect::<Vec<_>>(), [0, 1_000, 1_000, 500]);
}

#[test]
fn three_failures_of_the_server_are_forgiven() {
    let server = Server {
        failures: vec![503, 500, 502].into(),
        ..Server::default()
    };
    assert!(export(&server).unwrap().created);
    assert_eq!(server.log()[..3], [FIRST[0]; 3]);
    assert_eq!(server.log()[3..], FIRST);
}

#[test]
fn the_fourth_failure_is_an_error() {
    let server = Server {
        failures: vec![500; 9].into(),
        ..Server::default()
    };
    let error = export(&server).unwrap_err();
    assert!(error.is_servers_fault());
    assert_eq!(server.log().len(), 4);
}

#[test]
fn a_refusal_is_not_repeated() {
    let server = Server {
        failures: vec![403].into(),
        ..Server::default()
    };
    assert!(matches!(
        export(&server),
        Err(MlflowError::Refused { status: 403, .. })
    ));
    assert_eq!(server.log().len(), 1);
}

#[test]
fn a_run_that_was_created_before_the_failure_is_found() {
    let server = Server {
        failures: vec![0, 0, 500].into(),
        fails_after: true,
        ..Server::default()
    };
    let exported = export(&server).unwrap();
    assert_eq!((exported.run.as_str(), exported.created), ("r0", false));
    assert_eq!(server.runs.borrow().len(), 1);
}

#[test]
fn a_deleted_experiment_is_an_error() {
    let server = Server {
        experiments: vec!["sst2".to_owned()].into(),
        deleted: true,
        ..Server::default()
    };
    let error = export(&server).unwrap_err();
    assert!(matches!(error, MlflowError::DeletedExperiment(name) if name == "sst2"));
}

#[test]
fn files_need_a_server_that_takes_them() {
    let server = Server {
        artifact_root: "/home/me/mlruns".to_owned(),
        ..Server::default()
    };
    let error = export(&server).unwrap_err().to_string();
    assert!(
        error.contains("`/home/me/mlruns/1/r0/artifacts`"),
        "{error}"
    );
    let server = Server {
        artifact_root: "mlflow-artifacts://host:5000".to_owned(),
        ..Server::default()
    };
    export(&server).unwrap();
    assert_eq!(server.log(), FIRST);
}

#[test]
fn the_key_of_a_stage_cannot_end_the_filter() {
    for stage in ["", "a' or tags.x = 'y"] {
        let run = Run {
            stage: stage.to_owned(),
            ..run()
        };
        let server = Server::default();
        let error = client(&server).export("sst2", &run).unwrap_err();
        assert!(matches!(error, MlflowError::Stage(_)));
        assert!(server.log().is_empty());
    }
}
