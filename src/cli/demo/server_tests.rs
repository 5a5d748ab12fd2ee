//! Tests of the demo's model servers over real sockets, with a client of a few lines.
//! The computation and its JSON have tests of their own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use super::*;
use crate::cli::demo::{ModelServer, spawn};

fn start(variant: Variant) -> ModelServer {
    spawn(std::net::TcpListener::bind("127.0.0.1:0").unwrap(), variant).unwrap()
}

/// Head and body of the answer to a request that asks to close.
fn exchange(address: SocketAddr, line: &str, body: &[u8]) -> (String, Vec<u8>) {
    exchange_with(address, line, "", body)
}

/// With these lines of fields.
fn exchange_with(address: SocketAddr, line: &str, fields: &str, body: &[u8]) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    let fields = format!("host: x\r\nconnection: close\r\n{fields}content-length: {length}\r\n");
    write!(stream, "{line} HTTP/1.1\r\n{fields}\r\n").unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    (String::from_utf8(answer[..end].to_vec()).unwrap(), answer[end..].to_vec())
}

fn json_of(address: SocketAddr, line: &str, body: &[u8]) -> (String, Value) {
    let (head, body) = exchange(address, line, body);
    (head, serde_json::from_slice(&body).unwrap())
}

const FLOWER: &[u8] =
    br#"{"inputs":[{"name":"features","shape":[1,4],"datatype":"FP64","data":[5.1,3.5,1.4,0.2]}]}"#;

#[test]
fn every_answer_names_its_server() {
    for (variant, name) in
        [(Variant::Stable, "stable"), (Variant::V2, "v2"), (Variant::Classifier, "classifier")]
    {
        let server = start(variant);
        for line in ["GET /v2", "GET /v2/health/live", "GET /nope", "DELETE /v2", "GET /large?bytes=1"] {
            let (head, _) = exchange(server.address(), line, b"");
            assert!(head.contains(&format!("x-model-server: {name}\r\n")), "{line}: {head}");
        }
    }
}

#[test]
fn the_protocols_paths_are_served() {
    let server = start(Variant::Stable);
    let address = server.address();
    assert_eq!(json_of(address, "GET /v2", b"").1["name"], "tidegate-demo-stable");
    assert_eq!(json_of(address, "GET /v2/health/live", b"").1["live"], true);
    assert_eq!(json_of(address, "GET /v2/health/ready", b"").1["ready"], true);
    assert_eq!(json_of(address, "GET /v2/models/iris", b"").1["versions"], json!(["1"]));
    assert_eq!(json_of(address, "GET /v2/models/iris/versions/1/ready", b"").1["ready"], true);
    for line in ["POST /v2/models/iris/infer", "POST /v2/models/iris/versions/1/infer"] {
        let (head, answer) = json_of(address, line, FLOWER);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(answer["outputs"][1]["data"], json!(["setosa"]));
    }
}

#[test]
fn the_classifier_takes_tensors_in_binary() {
    let server = start(Variant::Classifier);
    let address = server.address();
    assert_eq!(json_of(address, "GET /v2", b"").1["extensions"], json!(["binary_tensor_data"]));
    let model = json_of(address, "GET /v2/models/classifier", b"").1;
    assert_eq!(model["inputs"], json!([{ "name": "input", "datatype": "FP32", "shape": [-1, 3, 224, 224] }]));
    assert!(json_of(address, "GET /v2/models/iris", b"").0.starts_with("HTTP/1.1 404 "));
    let header = br#"{"inputs":[{"name":"input","shape":[1,3,224,224],"datatype":"FP32","parameters":{"binary_data_size":602112}}],"parameters":{"binary_data_output":true}}"#;
    let body = [&header[..], &[0; 3 * 224 * 224 * 4]].concat();
    let field = format!("{HEADER_LENGTH}: {}\r\n", header.len());
    let (head, answer) = exchange_with(address, "POST /v2/models/classifier/infer", &field, &body);
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let (_, length) = head.split_once(&format!("{HEADER_LENGTH}: ")).unwrap();
    let length: usize = length.lines().next().unwrap().parse().unwrap();
    let told: Value = serde_json::from_slice(&answer[..length]).unwrap();
    assert_eq!(told["outputs"][0]["shape"], json!([1, 11]));
    assert_eq!(answer.len(), length + 11 * 4);
    let (head, refused) = json_of(address, "POST /v2/models/classifier/infer", b"{}");
    assert!(head.starts_with("HTTP/1.1 400 ") && refused["error"].is_string(), "{head} {refused}");
}

#[test]
fn errors_are_json_with_the_right_status() {
    let server = start(Variant::V2);
    let large = vec![b' '; INFER_BYTES_MAX + 1];
    for (line, body, status) in [
        ("GET /", &b""[..], "404"),
        ("GET /v2/models/nope", b"", "404"),
        ("GET /v2/models/iris/versions/1", b"", "404"),
        ("GET /v2/models/iris/versions", b"", "404"),
        ("GET /v2/models/iris/infer", b"", "405"),
        ("POST /v2/models/iris/infer", b"{}", "400"),
        ("POST /v2/models/iris/infer", &large, "413"),
        ("GET /large?bytes=1073741825", b"", "400"),
        ("GET /stream?tokens=x", b"", "400"),
    ] {
        let (head, answer) = json_of(server.address(), line, body);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {head}");
        assert!(answer["error"].is_string(), "{line}: {answer}");
    }
}

#[test]
fn a_large_body_has_a_known_length_and_a_checkable_content() {
    let server = start(Variant::Stable);
    let (head, body) = exchange(server.address(), "GET /large?bytes=1000003", b"");
    assert!(head.contains("content-length: 1000003\r\n"), "{head}");
    assert_eq!(body.len(), 1_000_003);
    assert!(body.iter().enumerate().all(|(i, &byte)| usize::from(byte) == i % 251));
    assert!(exchange(server.address(), "GET /large?bytes=0", b"").1.is_empty());
    let (head, body) = exchange(server.address(), "HEAD /large?bytes=1073741824", b"");
    assert!(head.contains("content-length: 1073741824\r\n") && body.is_empty(), "{head}");
}

#[test]
fn tokens_arrive_one_by_one() {
    let server = start(Variant::Stable);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let begin = Instant::now();
    write!(stream, "GET /stream?tokens=3&delay_ms=60 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    let mut first = None;
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        if text.contains("data: ") {
            first.get_or_insert_with(|| begin.elapsed());
        }
    }
    let pause_between = begin.elapsed() - first.unwrap();
    assert!(pause_between >= Duration::from_millis(120), "{pause_between:?}");
    assert!(text.contains("content-type: text/event-stream\r\n"), "{text}");
    assert!(text.contains("data: {\"index\":0,\"token\":\"the\"}\n\n"), "{text}");
    assert_eq!(text.matches("data: ").count(), 4, "{text}");
    assert!(text.contains("data: [DONE]\n\n"), "{text}");
}

#[test]
fn an_echo_begins_before_the_request_has_ended() {
    let server = start(Variant::Stable);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    write!(stream, "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-type: a/b\r\ncontent-length: 6\r\n\r\nabc")
        .unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !answer.ends_with(b"abc") {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0);
        answer.extend_from_slice(&buffer[..count]);
    }
    stream.write_all(b"def").unwrap();
    while !answer.ends_with(b"abcdef") {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0);
        answer.extend_from_slice(&buffer[..count]);
    }
    assert!(String::from_utf8(answer).unwrap().contains("content-type: a/b\r\n"));
}

#[test]
fn a_stopped_server_is_gone() {
    let server = start(Variant::Stable);
    let address = server.address();
    let _idle = TcpStream::connect(address).unwrap();
    drop(server);
    assert!(TcpStream::connect(address).is_err());
}
