//! Requests, answers and the trait that carries them.

use std::{fmt, io};

use serde_json::Value;

/// The method of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Creates, searches and updates.
    Post,
    /// Uploads.
    Put,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
        })
    }
}

/// What a request carries.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Nothing.
    None,
    /// A JSON document.
    Json(Value),
    /// The content of a file.
    Bytes(Vec<u8>),
}

/// A request to the server.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// The path from the server's root, with the query; percent-encoded.
    pub path: String,
    /// What it carries.
    pub body: Body,
}

/// A server's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The content.
    pub body: Vec<u8>,
}

/// A server that cannot be reached or understood.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The address is invalid.
    #[error("`{url}` is not a server address: {problem}; expected `http://HOST:PORT`")]
    Url {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The address needs TLS.
    #[error(
        "`{url}` needs https, which kiln does not support; give an http:// address, such as that of a local proxy"
    )]
    Https {
        /// As it was given.
        url: String,
    },
    /// There is no connection, or it broke.
    #[error("cannot {action} {server}: {source}")]
    Io {
        /// `connect to`, `write to` or `read from`.
        action: &'static str,
        /// The server's address.
        server: String,
        /// What the system said.
        source: io::Error,
    },
    /// The answer is not HTTP.
    #[error("{server} does not answer as an HTTP server: {problem}")]
    Answer {
        /// The server's address.
        server: String,
        /// What is wrong with the answer.
        problem: &'static str,
    },
}

/// Carries requests to one server.
pub trait Transport {
    /// Sends a request and waits for the answer, whatever its status.
    ///
    /// # Errors
    ///
    /// If there is no answer.
    fn send(&self, request: &Request) -> Result<Response, TransportError>;
}

impl<T: Transport + ?Sized> Transport for &T {
    fn send(&self, request: &Request) -> Result<Response, TransportError> {
        (**self).send(request)
    }
}
