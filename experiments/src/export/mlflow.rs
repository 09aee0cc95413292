//! Runs of an MLflow server, over its REST interface.
//!
//! A run is one arm and seed. [`request`] has the requests as pure functions, [`Client`] sends them in order over a
//! [`Transport`]: [`HttpTransport`] in the program, a recorded server in tests.

mod batch;
mod client;
mod error;
mod http;
mod key;
pub mod request;
mod response;
mod run;
#[cfg(test)]
mod testing;
mod transport;
mod url;

pub use batch::{Batch, batches};
pub use client::{Client, Exported};
pub use error::MlflowError;
pub use http::HttpTransport;
pub use key::{SameKey, key, keys};
pub use run::{Artifact, Metric, Run, Status};
pub use transport::{Body, Method, Request, Response, Transport, TransportError};
