//! The sequence of requests that exports a run.

use std::{thread, time::Duration};

use super::{
    batch::{Batch, batches},
    error::MlflowError,
    request,
    response::{Answer, pairs},
    run::Run,
    transport::{Request, Transport},
};

/// How often a request is sent again that the server failed to answer (5xx).
const RETRIES: u32 = 3;
/// The pause before the first of these; it doubles each time.
const PAUSE: Duration = Duration::from_secs(1);

/// Exports runs to a server.
///
/// A request that the server fails to answer (5xx) is sent three times more, after 1, 2 and 4 seconds.
#[derive(Clone, Debug)]
pub struct Client<T> {
    transport: T,
    pause: Duration,
}

/// Where a run is in MLflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The experiment's id.
    pub experiment: String,
    /// The run's id.
    pub run: String,
    /// Whether this export created the run; else it updated the run of an earlier export.
    pub created: bool,
}

/// A run in MLflow.
struct Remote {
    id: String,
    artifact_uri: String,
    /// The parameters that it has; none if it is new.
    parameters: Option<Vec<(String, String)>>,
}

impl<T: Transport> Client<T> {
    /// A client of the server behind `transport`.
    pub fn new(transport: T) -> Self {
        let pause = PAUSE;
        Self { transport, pause }
    }

    /// Exports a run. If the experiment has a run of the same stage, arm and seed, this run is updated: parameters and
    /// metrics that it lacks are added, status and files replaced.
    ///
    /// # Errors
    ///
    /// If the server cannot be reached, refuses a request or fails to answer one four times; if names are the same as
    /// keys; if a parameter has another value than in an earlier export.
    pub fn export(&self, experiment: &str, run: &Run) -> Result<Exported, MlflowError> {
        let is_of_key = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if run.stage.is_empty() || !run.stage.chars().all(is_of_key) {
            return Err(MlflowError::Stage(run.stage.clone()));
        }
        let batches = batches(run)?;
        let experiment = self.experiment(experiment)?;
        let remote = self.retried(|| self.find_or_create(&experiment, run))?;
        for batch in new_parts(batches, &remote)? {
            self.send(&request::log_batch(&remote.id, &batch))?;
        }
        if !run.artifacts.is_empty() {
            let folder = artifact_folder(&remote)?;
            for artifact in &run.artifacts {
                self.send(&request::put_artifact(folder, artifact))?;
            }
        }
        self.send(&request::update_run(&remote.id, run.status, run.end_ms))?;
        Ok(Exported {
            experiment,
            run: remote.id,
            created: remote.parameters.is_none(),
        })
    }

    /// The id of the experiment, which is created if needed.
    fn experiment(&self, name: &str) -> Result<String, MlflowError> {
        let create = request::create_experiment(name);
        match self.retried(|| self.once(&create)?.text("experiment_id")) {
            Err(error) if error.is_existing() => {}
            created => return created,
        }
        let get = request::get_experiment(name);
        self.retried(|| {
            let answer = self.once(&get)?;
            if answer.text("experiment.lifecycle_stage")? == "deleted" {
                return Err(MlflowError::DeletedExperiment(name.to_owned()));
            }
            answer.text("experiment.experiment_id")
        })
    }

    /// The run of an earlier export, or a new one. Retries repeat the search, as the server may have created the run before
    /// it failed to say so.
    fn find_or_create(&self, experiment: &str, run: &Run) -> Result<Remote, MlflowError> {
        let search = request::search_runs(experiment, &run.stage);
        let found = self.once(&search)?;
        for candidate in found.list("runs") {
            let tags = pairs(&candidate["data"]["tags"]);
            let has = |(key, value): &(&str, String)| tags.contains(&(*key, value.as_str()));
            if run.tags().iter().all(has) {
                let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
                let parameters = pairs(&candidate["data"]["params"]).into_iter();
                return Ok(Remote {
                    id: found.text_in(candidate, "info.run_id")?,
                    artifact_uri: found.text_in(candidate, "info.artifact_uri")?,
                    parameters: Some(parameters.map(owned).collect()),
                });
            }
        }
        let create = request::create_run(experiment, run);
        let created = self.once(&create)?;
        Ok(Remote {
            id: created.text("run.info.run_id")?,
            artifact_uri: created.text("run.info.artifact_uri")?,
            parameters: None,
        })
    }

    fn send(&self, request: &Request) -> Result<(), MlflowError> {
        self.retried(|| self.once(request).map(drop))
    }

    fn once<'a>(&self, request: &'a Request) -> Result<Answer<'a>, MlflowError> {
        Answer::new(request, &self.transport.send(request)?)
    }

    /// Tries again while the fault is the server's.
    fn retried<R>(&self, attempt: impl Fn() -> Result<R, MlflowError>) -> Result<R, MlflowError> {
        let mut pause = self.pause;
        for _ in 0..RETRIES {
            match attempt() {
                Err(error) if error.is_servers_fault() => {}
                ended => return ended,
            }
            thread::sleep(pause);
            pause *= 2;
        }
        attempt()
    }
}

/// The batches without the parameters that the run has. Metrics that it has may be sent again: the server keeps one of each
/// name, time, step and value.
fn new_parts(batches: Vec<Batch>, remote: &Remote) -> Result<Vec<Batch>, MlflowError> {
    let there = remote.parameters.as_deref().unwrap_or_default();
    let mut parts = vec![];
    for mut batch in batches {
        for (key, value) in &batch.parameters {
            let other = there
                .iter()
                .find(|(name, other)| name == key && other != value);
            if let Some((_, there)) = other {
                return Err(MlflowError::ParameterChanged {
                    run: remote.id.clone(),
                    key: key.clone(),
                    there: there.clone(),
                    here: value.clone(),
                });
            }
        }
        batch
            .parameters
            .retain(|parameter| !there.contains(parameter));
        if batch != Batch::default() {
            parts.push(batch);
        }
    }
    Ok(parts)
}

/// The path of the run's files behind the server.
fn artifact_folder(remote: &Remote) -> Result<&str, MlflowError> {
    let path = remote.artifact_uri.strip_prefix("mlflow-artifacts:");
    // `mlflow-artifacts://HOST/PATH` names the server, too.
    let path = path.and_then(|path| match path.strip_prefix("//") {
        Some(rest) => rest.find('/').map(|at| &rest[at..]),
        None => Some(path),
    });
    path.ok_or_else(|| MlflowError::Artifacts {
        run: remote.id.clone(),
        uri: remote.artifact_uri.clone(),
    })
}

#[cfg(test)]
mod tests;
