//! A service with a model asks its server in the words that the server reads, and answers its clients in theirs: answers, errors, and no more
//! of either than there is memory for. What real servers say to it is seen by `scripts/proof inference`.

mod harness;

use bytes::Bytes;
use harness::backend::answer;
use harness::http2::{Answer, Http2};
use harness::http2_server::{Http2Backend, body_of};
use harness::{Backend, Client, Gateway, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use tidegate::inference::oip::limits::Limits;
use tidegate::inference::oip::model::{Carried, InferRequest, InferResponse, Parameters, RequestedOutput};
use tidegate::inference::oip::protobuf;
use tidegate::inference::tensor::{Datatype, Tensor};

fn config(protocol: &str, more: &str) -> String {
    let version = if protocol == "grpc" { "protocol = \"h2\"" } else { "" };
    format!(
        "workers = 1\n[listen.web]\naddress = \"@web@\"\n[service.main]\nendpoints = [\"@main@\"]\n{version}\n\
         [service.main.model]\nprotocol = \"{protocol}\"\nname = \"m\"\n{more}\n\
         [[route]]\nmatch.path = \"/**\"\nto = \"main\"\n"
    )
}

fn tensor(name: &str, datatype: Datatype, data: &'static [u8]) -> Carried {
    let shape = vec![(data.len() / datatype.size().unwrap_or(data.len())) as u64];
    let tensor = Tensor { name: name.into(), datatype, shape, data: Bytes::from_static(data) };
    Carried { tensor, parameters: Parameters::new() }
}

fn message(encoded: &[u8]) -> Vec<u8> {
    [&[0][..], &(encoded.len() as u32).to_be_bytes(), encoded].concat()
}

/// A server of the protocol's gRPC that answers every call with these bytes, or with a status.
fn grpc_server(encoded: Result<Vec<u8>, (&'static str, &'static str)>) -> Http2Backend {
    Http2Backend::serve(move |request, mut respond| {
        let encoded = encoded.clone();
        async move {
            body_of(&mut request.into_body()).await?;
            let head = http::Response::builder().header("content-type", "application/grpc").body(()).unwrap();
            let mut stream = respond.send_response(head, false)?;
            let (status, words) = *encoded.as_ref().err().unwrap_or(&("0", ""));
            if let Ok(encoded) = encoded {
                stream.send_data(message(&encoded).into(), false)?;
            }
            let line = |name, value| (HeaderName::from_static(name), HeaderValue::from_static(value));
            stream.send_trailers(HeaderMap::from_iter([
                line("grpc-status", status),
                line("grpc-message", words),
            ]))
        }
    })
}

fn infer(gateway: &Gateway, body: &str) -> Response {
    let fields = format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
    let request = format!("POST /v2/models/m/infer HTTP/1.1\r\nhost: a\r\n{fields}\r\n{body}");
    Client::connect(gateway.web()).request("POST", request.as_bytes()).unwrap()
}

const JSON: &str = r#"{"id":"7","inputs":[{"name":"x","datatype":"INT8","shape":[1],"data":[1]}]}"#;

fn call(gateway: &Gateway, request: &InferRequest) -> Answer {
    let mut encoded = Vec::new();
    protobuf::encode_request(request, &mut encoded);
    let head = Request::post("http://a.test/inference.GRPCInferenceService/ModelInfer")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    Http2::connect(gateway.web()).exchange(head.body(()).unwrap(), Some(&message(&encoded)), None).unwrap()
}

/// How a call ended, in number and words.
fn ended(answer: &Answer) -> (&str, &str) {
    let fields = answer.trailers.as_ref().unwrap_or(&answer.fields);
    let value = |name| fields.get(name).map_or("", |value| value.to_str().unwrap());
    (value("grpc-status"), value("grpc-message"))
}

/// MLServer has contents without elements beside raw ones.
#[test]
fn an_answer_with_empty_contents_is_read() {
    let mut output = Vec::new();
    for (number, bytes) in [(1, &b"y"[..]), (2, b"INT8"), (3, &[2]), (5, b"")] {
        output.extend_from_slice(&[number << 3 | 2, bytes.len() as u8]);
        output.extend_from_slice(bytes);
    }
    let mut response = vec![1 << 3 | 2, 1, b'm', 5 << 3 | 2, output.len() as u8];
    response.extend_from_slice(&output);
    response.extend_from_slice(&[6 << 3 | 2, 2, 1, 0xff]);
    let server = grpc_server(Ok(response));
    let gateway = Gateway::start(&config("grpc", ""), &[("main", server.address)]);
    let answer = infer(&gateway, JSON);
    let told: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let outputs = serde_json::json!([{ "name": "y", "datatype": "INT8", "shape": [2], "data": [1, -1] }]);
    assert_eq!((answer.status, &told["outputs"], &told["id"]), (200, &outputs, &"7".into()));
}

#[test]
fn what_a_server_says_against_it_reaches_both_kinds_of_clients() {
    let server = grpc_server(Err(("5", "no model \"m\"%21")));
    let gateway = Gateway::start(&config("grpc", ""), &[("main", server.address)]);
    let answer = infer(&gateway, JSON);
    assert_eq!((answer.status, &answer.body[..]), (404, &br#"{"error":"no model \"m\"!"}"#[..]));

    let server = Backend::serve(|_, connection| {
        let _ = connection.write(&answer_of("400 Bad Request", r#"{"error":"100 % wrong ü "}"#));
    });
    let gateway = Gateway::start(&config("rest", ""), &[("main", server.address)]);
    let request = InferRequest {
        model: "m".into(),
        inputs: vec![tensor("x", Datatype::Int8, &[1])],
        ..InferRequest::default()
    };
    assert_eq!(ended(&call(&gateway, &request)), ("3", "100 %25 wrong %C3%BC"));
    // And so does what is said of it here.
    let declared = "[[service.main.model.inputs]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = []\n";
    let gateway = Gateway::start(&config("rest", declared), &[("main", server.address)]);
    let answer = call(&gateway, &request);
    let (status, words) = ended(&answer);
    assert!(status == "3" && words.contains("input \"x\": FP32 was expected, and INT8 came"), "{words}");
}

fn answer_of(status: &str, json: &str) -> Vec<u8> {
    answer(status, "content-type: application/json\r\n", json.as_bytes())
}

/// Compressed, a body would be taken for what it is not.
#[test]
fn what_is_encoded_is_not_taken_for_content() {
    let server = Backend::fixed("{}");
    let input = "[[service.main.model.inputs]]\nname = \"x\"\ndatatype = \"BYTES\"\nshape = [1]\n";
    let gateway = Gateway::start(&config("rest", input), &[("main", server.address)]);
    let ask = |coding: &str| {
        let fields = format!("host: a\r\ncontent-length: 1\r\ncontent-encoding: {coding}\r\n");
        let request = format!("POST / HTTP/1.1\r\n{fields}\r\na");
        Client::connect(gateway.web()).request("POST", request.as_bytes()).unwrap().status
    };
    assert_eq!(["gzip", "identity, br", "deflate"].map(ask), [415; 3]);
    // It may have been asked what its model takes.
    let is_asked =
        |record: &std::sync::Arc<harness::backend::Record>| record.bytes.lock().unwrap().starts_with(b"POST");
    assert!(!server.records().iter().any(is_asked));
    assert_eq!(ask("identity"), 502, "the server's answer is none");
}

/// Triton heeds what is said of all outputs only where none is named.
#[test]
fn outputs_are_wanted_in_binary_where_json_cannot_say_what_goes_in() {
    let server = Backend::serve(|request, connection| {
        let body = String::from_utf8_lossy(&request.body);
        let is_asked = body.contains(r#""outputs":[{"name":"y","parameters":{"binary_data":true}}]"#);
        let said =
            if is_asked { r#"{"error":"as it should be"}"# } else { r#"{"error":"as it should not be"}"# };
        let _ = connection.write(&answer_of("400 Bad Request", said));
    });
    for protocol in ["rest", "binary"] {
        let gateway = Gateway::start(&config(protocol, ""), &[("main", server.address)]);
        for input in [tensor("x", Datatype::Fp16, &[0, 0]), tensor("x", Datatype::Fp32, &[0, 0, 0xc0, 0x7f])]
        {
            let output = RequestedOutput { name: "y".into(), parameters: Parameters::new(), is_binary: None };
            let request = InferRequest {
                model: "m".into(),
                inputs: vec![input],
                outputs: vec![output],
                ..InferRequest::default()
            };
            assert_eq!(ended(&call(&gateway, &request)), ("3", "as it should be"), "{protocol}");
        }
    }
}

/// The answer is held, too. Who cannot be answered is told so, and what he held is there for the next.
#[test]
fn answers_take_of_the_memory() {
    const LARGE: &[u8] = &[1; 300_000];
    let encoded = |data| {
        let response = InferResponse {
            model_name: "m".into(),
            outputs: vec![tensor("y", Datatype::Int8, data)],
            ..InferResponse::default()
        };
        let mut encoded = Vec::new();
        protobuf::encode_response(&response, &mut encoded);
        assert!(protobuf::decode_response(&encoded.clone().into(), &Limits::default()).is_ok());
        encoded
    };
    let small = grpc_server(Ok(encoded(&LARGE[..1000])));
    let gateway = Gateway::start(&config("grpc", "memory = \"256KiB\"\n"), &[("main", small.address)]);
    assert_eq!(infer(&gateway, JSON).status, 200);
    let large = grpc_server(Ok(encoded(LARGE)));
    let gateway = Gateway::start(&config("grpc", "memory = \"256KiB\"\n"), &[("main", large.address)]);
    for _ in 0..3 {
        assert_eq!(infer(&gateway, JSON).status, 502, "it is more than there is at all");
    }
    let gateway = Gateway::start(&config("grpc", "memory = \"1MiB\"\n"), &[("main", large.address)]);
    for _ in 0..10 {
        assert_eq!(infer(&gateway, JSON).status, 200, "each gives back what it had");
    }
}
