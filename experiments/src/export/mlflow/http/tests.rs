use std::{fmt::Write as _, net::TcpListener, thread};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::export::mlflow::{Method, request::create_experiment};

fn answer(text: &[u8]) -> Result<Response, Unreadable> {
    read(&mut BufReader::new(text))
}

fn problem(text: &str) -> &'static str {
    match answer(text.as_bytes()).unwrap_err() {
        Unreadable::Problem(problem) => problem,
        Unreadable::Io(error) => panic!("{error}"),
    }
}

fn response(status: u16, body: &str) -> Response {
    let body = body.as_bytes().to_vec();
    Response { status, body }
}

#[test]
fn reads_answers_in_all_forms() {
    for text in [
        "HTTP/1.1 200 OK\r\ncontent-LENGTH: 4\r\n\r\n{ } and more",
        "HTTP/1.0 200 OK\r\nX: y\r\n\r\n{ } ",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{ } ",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\n{ }\r\n1\r\n \r\n0\r\n\r\n",
        "HTTP/1.1 200\nContent-Length: 4\n\n{ } ",
    ] {
        assert_eq!(answer(text.as_bytes()).unwrap(), response(200, "{ } "));
    }
    let none = answer(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    assert_eq!(none, response(204, ""));
}

#[test]
fn says_what_is_wrong_with_an_answer() {
    assert_eq!(problem(""), "its answer ends early");
    assert_eq!(problem("SSH-2.0-OpenSSH\r\n"), "it sends no HTTP status");
    assert_eq!(
        problem("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{"),
        "its answer ends early"
    );
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(
        problem(&format!("{chunked}5\r\nab")),
        "its answer ends early"
    );
    assert_eq!(
        problem(&format!("{chunked}x\r\n")),
        "a chunk's length is not a number"
    );
    assert_eq!(
        problem(&format!("{chunked}fffffffffffffff\r\n")),
        "its answer is too long"
    );
    let long = "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n";
    assert_eq!(problem(long), "its answer is too long");
}

/// The address of a server that answers once, and the request it got.
fn server(answer: &'static str) -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/mlflow/", listener.local_addr().unwrap());
    let handle = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let mut request = String::new();
        let mut length = 0;
        loop {
            let line = read_line(&mut reader).unwrap();
            if let Some(number) = line.strip_prefix("Content-Length: ") {
                length = number.parse().unwrap();
            }
            request += &line;
            request.push('\n');
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        reader.get_mut().write_all(answer.as_bytes()).unwrap();
        request + &String::from_utf8(body).unwrap()
    });
    (url, handle)
}

#[test]
fn sends_json_and_reads_the_answer() {
    let (url, handle) = server("HTTP/1.1 400 Bad\r\nContent-Length: 2\r\n\r\n{}");
    let transport = HttpTransport::new(&url).unwrap();
    let found = transport.send(&create_experiment("é")).unwrap();
    assert_eq!(found, response(400, "{}"));
    let authority = url
        .strip_prefix("http://")
        .unwrap()
        .strip_suffix("/mlflow/")
        .unwrap();
    let body = json!({ "name": "é" }).to_string();
    let length = body.len();
    let expected = format!(
        "POST /mlflow/api/2.0/mlflow/experiments/create HTTP/1.1\nHost: {authority}\nUser-Agent: kiln\n\
         Accept: application/json\nContent-Type: application/json\nContent-Length: {length}\nConnection: close\n\n{body}"
    );
    assert_eq!(handle.join().unwrap(), expected);
}

#[test]
fn no_server_is_an_error_that_names_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let transport = HttpTransport::new(&format!("http://{address}")).unwrap();
    let request = Request {
        method: Method::Get,
        path: "/".to_owned(),
        body: Body::None,
    };
    let error = transport.send(&request).unwrap_err().to_string();
    let expected = format!("cannot connect to {address}: ");
    assert!(error.starts_with(&expected), "{error}");
}

proptest! {
    #[test]
    fn no_answer_makes_it_panic(
        text in "(HTTP/1.1 [0-9]{1,3}\r\n)?(Content-Length: [0-9]{0,3}\r\n)?(Transfer-Encoding: chunked\r\n)?(\r\n)?[0-9a-f\r\n ;]{0,30}",
    ) {
        let _ = answer(text.as_bytes());
    }

    #[test]
    fn chunks_come_back(chunks in prop::collection::vec("[a-z\r\n]{1,40}", 0..6)) {
        let mut text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
        for chunk in &chunks {
            write!(text, "{:x}\r\n{chunk}\r\n", chunk.len()).unwrap();
        }
        text += "0\r\n\r\n";
        prop_assert_eq!(answer(text.as_bytes()).unwrap(), response(200, &chunks.concat()));
    }
}
