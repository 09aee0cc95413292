//! Plain HTTP/1.1 over TCP, one connection per request.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

use super::{
    transport::{Body, Request, Response, Transport, TransportError},
    url::{self, Address},
};

/// How long a connection, and each read and write, may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The most bytes of the status line and headers.
const MAX_HEAD: u64 = 64 << 10;
/// The most bytes of a body.
const MAX_BODY: u64 = 64 << 20;

/// A server by its `http://` address, without a proxy. `https://` is refused: the program has no TLS without the feature
/// `hub`.
#[derive(Clone, Debug)]
pub struct HttpTransport {
    address: Address,
}

/// Why an answer cannot be read.
#[derive(Debug)]
enum Unreadable {
    Io(io::Error),
    Problem(&'static str),
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl HttpTransport {
    /// The server at `http://HOST[:PORT][/PREFIX]`.
    ///
    /// # Errors
    ///
    /// If `url` is no such address.
    pub fn new(url: &str) -> Result<Self, TransportError> {
        let address = url::parse(url)?;
        Ok(Self { address })
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut error = io::Error::from(io::ErrorKind::NotFound);
        for address in (self.address.host.as_str(), self.address.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, TIMEOUT) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(TIMEOUT))?;
                    stream.set_write_timeout(Some(TIMEOUT))?;
                    return Ok(stream);
                }
                Err(last) => error = last,
            }
        }
        Err(error)
    }
}

impl Transport for HttpTransport {
    fn send(&self, request: &Request) -> Result<Response, TransportError> {
        let failed = |action| {
            let server = self.address.authority.clone();
            move |source| TransportError::Io {
                action,
                server,
                source,
            }
        };
        let mut stream = self.connect().map_err(failed("connect to"))?;
        let bytes = written(&self.address, request);
        stream.write_all(&bytes).map_err(failed("write to"))?;
        read(&mut BufReader::new(stream)).map_err(|unreadable| match unreadable {
            Unreadable::Io(source) => failed("read from")(source),
            Unreadable::Problem(problem) => TransportError::Answer {
                server: self.address.authority.clone(),
                problem,
            },
        })
    }
}

/// The request as it is sent.
fn written(address: &Address, request: &Request) -> Vec<u8> {
    let (kind, body) = match &request.body {
        Body::None => ("", vec![]),
        Body::Json(json) => ("application/json", json.to_string().into_bytes()),
        Body::Bytes(bytes) => ("application/octet-stream", bytes.clone()),
    };
    let kind = match kind {
        "" => String::new(),
        kind => format!("Content-Type: {kind}\r\n"),
    };
    let head = format!(
        "{} {}{} HTTP/1.1\r\nHost: {}\r\nUser-Agent: kiln\r\nAccept: application/json\r\n{kind}Content-Length: {}\r\n\
         Connection: close\r\n\r\n",
        request.method,
        address.prefix,
        request.path,
        address.authority,
        body.len()
    );
    [head.into_bytes(), body].concat()
}

/// What the headers say of an answer.
struct Head {
    status: u16,
    length: Option<u64>,
    chunked: bool,
}

fn read(stream: &mut impl BufRead) -> Result<Response, Unreadable> {
    let mut head = read_head(stream)?;
    // 1xx: the answer is yet to come.
    while head.status < 200 {
        head = read_head(stream)?;
    }
    let body = if [204, 304].contains(&head.status) {
        vec![]
    } else if head.chunked {
        read_chunks(stream)?
    } else {
        let mut body = vec![];
        let limit = head.length.unwrap_or(MAX_BODY + 1);
        if head.length.is_some_and(|length| length > MAX_BODY) {
            return Err(TOO_LONG);
        }
        stream.take(limit).read_to_end(&mut body)?;
        match head.length {
            Some(length) if length > body.len() as u64 => return Err(CUT),
            None if body.len() as u64 > MAX_BODY => return Err(TOO_LONG),
            _ => body,
        }
    };
    let status = head.status;
    Ok(Response { status, body })
}

const TOO_LONG: Unreadable = Unreadable::Problem("its answer is too long");
const CUT: Unreadable = Unreadable::Problem("its answer ends early");
const NO_CHUNK: Unreadable = Unreadable::Problem("a chunk's length is not a number");

fn read_head(stream: &mut impl BufRead) -> Result<Head, Unreadable> {
    let mut stream = stream.take(MAX_HEAD);
    let first = read_line(&mut stream)?;
    let mut words = first.split(' ');
    let version = words.next().unwrap_or_default();
    let status = words.next().and_then(|status| status.parse().ok());
    let status =
        status.filter(|status| version.starts_with("HTTP/1.") && (100..600).contains(status));
    let status = status.ok_or(Unreadable::Problem("it sends no HTTP status"))?;
    let mut head = Head {
        status,
        length: None,
        chunked: false,
    };
    loop {
        let line = read_line(&mut stream)?;
        if line.is_empty() {
            return Ok(head);
        }
        let (name, value) = line.split_once(':').unwrap_or_default();
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            let length = value.parse().ok();
            head.length =
                Some(length.ok_or(Unreadable::Problem("its Content-Length is not a number"))?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            head.chunked = value.to_ascii_lowercase().ends_with("chunked");
        }
    }
}

/// A line without its end.
fn read_line(stream: &mut impl BufRead) -> Result<String, Unreadable> {
    let mut line = vec![];
    stream.read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(CUT);
    }
    let line = String::from_utf8_lossy(&line);
    Ok(line.trim_end_matches('\r').to_owned())
}

fn read_chunks(stream: &mut impl BufRead) -> Result<Vec<u8>, Unreadable> {
    let mut body = vec![];
    loop {
        let line = read_line(&mut stream.by_ref().take(MAX_HEAD))?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let length = u64::from_str_radix(digits, 16).map_err(|_| NO_CHUNK)?;
        if length == 0 {
            return Ok(body);
        }
        if length > MAX_BODY - body.len() as u64 {
            return Err(TOO_LONG);
        }
        let before = body.len() as u64;
        stream.by_ref().take(length).read_to_end(&mut body)?;
        if body.len() as u64 != before + length {
            return Err(CUT);
        }
        read_line(&mut stream.by_ref().take(MAX_HEAD))?;
    }
}

#[cfg(test)]
mod tests;
