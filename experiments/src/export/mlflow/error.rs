//! Why an export fails.

use super::{
    key::SameKey,
    transport::{Method, TransportError},
};

/// A run that cannot be exported. Messages are one line.
#[derive(Debug, thiserror::Error)]
pub enum MlflowError {
    /// The server cannot be reached or understood.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The server refuses a request.
    #[error("MLflow refuses {method} {path}: {status} {message}")]
    Refused {
        /// The request's method.
        method: Method,
        /// Its path.
        path: String,
        /// The HTTP status.
        status: u16,
        /// MLflow's name of the error; empty if there is none.
        code: String,
        /// What the server says.
        message: String,
    },
    /// An answer lacks what follows from the request.
    #[error("MLflow's answer to {method} {path} has no `{field}`")]
    Field {
        /// The request's method.
        method: Method,
        /// Its path.
        path: String,
        /// What is missing.
        field: &'static str,
    },
    /// The experiment is deleted, and its name still taken.
    #[error("the experiment `{0}` was deleted in MLflow; restore it or choose another name")]
    DeletedExperiment(String),
    /// The stage key is invalid.
    #[error("`{0}` is not a stage key: stage keys have only letters, digits, `-` and `_`")]
    Stage(String),
    /// Two names become the same key.
    #[error(transparent)]
    SameKey(#[from] SameKey),
    /// The run was exported with another value of a parameter.
    #[error(
        "the parameter `{key}` of run {run} is `{there}` in MLflow and cannot change to `{here}`"
    )]
    ParameterChanged {
        /// The run's id.
        run: String,
        /// The parameter.
        key: String,
        /// Its value in MLflow.
        there: String,
        /// The run's.
        here: String,
    },
    /// The server does not take files.
    #[error(
        "the MLflow server does not accept files for run {run}, which are stored in `{uri}`; start it with --serve-artifacts"
    )]
    Artifacts {
        /// The run's id.
        run: String,
        /// Where its files are.
        uri: String,
    },
}

impl MlflowError {
    /// Whether the server failed (5xx), so that another try may succeed.
    pub(super) fn is_servers_fault(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status >= 500)
    }

    /// Whether the server says that the experiment exists.
    pub(super) fn is_existing(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "RESOURCE_ALREADY_EXISTS")
    }
}
