//! What clients send, an image or JSON of their own, reaches a model server as the tensor that its model was declared to take, and comes
//! back as what they read. What cannot be is refused with the reason, and costs nobody else anything.

mod harness;

use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use harness::http2_server::{Http2Backend, body_of};
use harness::process::tidegate;
use harness::{Backend, Client, Gateway, Response, until};
use http::{HeaderMap, HeaderValue};
use tidegate::inference::image::{Limits as ImageLimits, Plan, Scratch, Wanted, to_tensor};
use tidegate::inference::image_head::Format;
use tidegate::inference::oip::limits::Limits;
use tidegate::inference::oip::model::TensorMetadata;
use tidegate::inference::oip::model::{Carried, InferRequest, InferResponse, ModelMetadata, Parameters};
use tidegate::inference::oip::protobuf;
use tidegate::inference::tensor::{Datatype, Tensor};

const IMAGE: &str = r#"
[[service.main.model.inputs]]
name = "input"
datatype = "FP32"
shape = [3, 64, 64]
image = true
layout = "NCHW"
scale = "1/255"
json = "/image"
[[service.main.model.outputs]]
name = "output"
top = 2
"#;

fn config(before: &str, inputs: &str) -> String {
    format!(
        "workers = 1\n{before}\n[listen.web]\naddress = \"@web@\"\n[service.main]\nendpoints = [\"@main@\"]\nprotocol = \"h2\"\n\
         outlier.failures = \"off\"\n[service.main.model]\nprotocol = \"grpc\"\nname = \"m\"\nmemory = \"4MiB\"\n{inputs}\n\
         [[route]]\nmatch.path = \"/**\"\nto = \"main\"\n"
    )
}

/// A server of the protocol's gRPC that keeps what it is asked, and answers a row of three scores for each of the batch.
struct Model {
    server: Http2Backend,
    asked: Arc<Mutex<Vec<InferRequest>>>,
}

fn message(encoded: &[u8]) -> Bytes {
    [&[0][..], &(encoded.len() as u32).to_be_bytes(), encoded].concat().into()
}

fn scores(request: &InferRequest) -> Vec<u8> {
    let rows = request.inputs[0].tensor.shape.first().copied().unwrap_or(1);
    let row: Vec<u8> = [1.0f32, 3.0, 2.0].iter().flat_map(|score| score.to_le_bytes()).collect();
    let data = row.repeat(rows as usize).into();
    let tensor = Tensor { name: "output".into(), datatype: Datatype::Fp32, shape: vec![rows, 3], data };
    let outputs = vec![Carried { tensor, parameters: Parameters::new() }];
    let response = InferResponse { model_name: "m".into(), outputs, ..InferResponse::default() };
    let mut encoded = Vec::new();
    protobuf::encode_response(&response, &mut encoded);
    encoded
}

fn metadata() -> Vec<u8> {
    let tensor = |name: &str, shape: &[i64]| TensorMetadata {
        name: name.into(),
        datatype: "FP32".into(),
        shape: shape.to_vec(),
    };
    protobuf::encode_model_metadata(&ModelMetadata {
        name: "m".into(),
        inputs: vec![tensor("input", &[-1, 3, 32, 32])],
        outputs: vec![tensor("output", &[-1, 3])],
        ..ModelMetadata::default()
    })
}

impl Model {
    fn start(status: &'static str) -> Model {
        let asked: Arc<Mutex<Vec<InferRequest>>> = Arc::default();
        let keeps = asked.clone();
        let server = Http2Backend::serve(move |request, mut respond| {
            let keeps = keeps.clone();
            async move {
                let is_infer = request.uri().path().ends_with("/ModelInfer");
                let (body, _) = body_of(&mut request.into_body()).await?;
                let answer = if is_infer {
                    let request = Bytes::copy_from_slice(&body[5..]);
                    let request = protobuf::decode_request(&request, &Limits::default()).expect("a request");
                    let answer = scores(&request);
                    keeps.lock().unwrap().push(request);
                    answer
                } else {
                    metadata()
                };
                let head = http::Response::builder().header("content-type", "application/grpc");
                let mut stream = respond.send_response(head.body(()).unwrap(), false)?;
                if status == "0" {
                    stream.send_data(message(&answer), false)?;
                }
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static(status));
                stream.send_trailers(trailers)
            }
        });
        Model { server, asked }
    }

    fn gateway(&self, before: &str, inputs: &str) -> Gateway {
        Gateway::start(&config(before, inputs), &[("main", self.server.address)])
    }

    fn last(&self) -> Tensor {
        self.asked.lock().unwrap().last().expect("it was asked").inputs[0].tensor.clone()
    }
}

fn image(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/corpus/images/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn expected(encoded: &[u8], format: Format) -> Vec<u8> {
    let plan = Plan::new(Wanted { width: 64, height: 64, scale: 1.0 / 255.0, ..Wanted::default() }).unwrap();
    let limits = ImageLimits { pixels_max: 1 << 30, side_max: 1 << 14 };
    let mut out = Vec::new();
    to_tensor(encoded, format, &plan, &limits, &mut Scratch::default(), &mut out).unwrap();
    out
}

fn head(path: &str, content_type: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n"
    )
}

fn send(client: &mut Client, path: &str, content_type: &str, body: &[u8]) -> Response {
    let request = [head(path, content_type, body.len()).as_bytes(), body].concat();
    client.request("POST", &request).unwrap()
}

fn classes(answer: &Response) -> serde_json::Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap()["predictions"].take()
}

#[test]
fn an_image_is_the_tensor_that_was_declared_however_it_comes() {
    let model = Model::start("0");
    let gateway = model.gateway("", IMAGE);
    let client = &mut gateway.client();
    let (jpeg, png) = (image("420.jpg"), image("animated.png"));
    let row = serde_json::json!([{ "index": 1, "score": 3.0 }, { "index": 2, "score": 2.0 }]);
    let told = classes(&send(client, "/x", "image/jpeg", &jpeg));
    assert_eq!(told, serde_json::json!([row]));
    let tensor = model.last();
    assert_eq!(
        (&*tensor.name, tensor.datatype, &tensor.shape[..]),
        ("input", Datatype::Fp32, &[1, 3, 64, 64][..])
    );
    assert!(tensor.data == expected(&jpeg, Format::Jpeg));
    // As base64 in JSON, and with a browser's prefix.
    for prefix in ["", "data:image/png;base64,"] {
        let json = format!("{{\"image\": \"{prefix}{}\"}}", STANDARD.encode(&png));
        assert_eq!(send(client, "/x", "application/json", json.as_bytes()).status, 200);
        assert!(model.last().data == expected(&png, Format::Png));
    }
    // Two in a form are a batch of two.
    let part = |name: &str, kind: &str, body: &[u8]| {
        let head =
            format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"\r\ncontent-type: {kind}\r\n\r\n");
        [head.as_bytes(), body, b"\r\n"].concat()
    };
    let form =
        [part("one", "image/jpeg", &jpeg), part("other", "image/png", &png), b"--b--\r\n".to_vec()].concat();
    let told = classes(&send(client, "/x", "multipart/form-data; boundary=b", &form));
    assert_eq!(told, serde_json::json!([row, row]));
    let tensor = model.last();
    assert_eq!(tensor.shape, [2, 3, 64, 64]);
    assert!(tensor.data == [expected(&jpeg, Format::Jpeg), expected(&png, Format::Png)].concat());
    // None of it was a worker's work, however small the body: the smallest may be a large image.
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("tidegate_compute_jobs_total", &[("result", "done")]), 4.0);
    assert_eq!(
        metrics.sum("tidegate_endpoint_requests_total", &[]),
        4.0,
        "each is one request of its endpoint"
    );
    until("all of it is logged", || gateway.access_log().len() == 4);
    let line = gateway.access_log().pop().unwrap();
    assert_eq!((&line["tries"], &line["endpoint"]), (&1.into(), &model.server.address.to_string().into()));
}

#[test]
fn what_is_converted_may_be_larger_than_what_clients_may_send() {
    let model = Model::start("0");
    let large = IMAGE.replace("64, 64", "224, 224");
    let gateway = model.gateway("limits.body = \"64KiB\"\n", &large);
    assert_eq!(send(&mut gateway.client(), "/x", "image/jpeg", &image("420.jpg")).status, 200);
    assert_eq!(model.last().data.len(), 3 * 224 * 224 * 4);
}

#[test]
fn who_is_refused_is_told_why_and_the_connection_serves_the_next() {
    let model = Model::start("0");
    let gateway = model.gateway("", IMAGE);
    let client = &mut gateway.client();
    let (jpeg, bomb) = (image("420.jpg"), {
        let mut head = image("animated.png")[..33].to_vec();
        head[16..20].copy_from_slice(&30_000u32.to_be_bytes());
        let crc = {
            let mut crc = !0u32;
            for &byte in &head[12..29] {
                crc ^= u32::from(byte);
                (0..8).for_each(|_| crc = crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg()));
            }
            !crc
        };
        head[29..33].copy_from_slice(&crc.to_be_bytes());
        head
    });
    for (content_type, body, status, words) in [
        ("image/jpeg", &jpeg[..jpeg.len() / 2], 400, "image is not valid"),
        ("image/png", &jpeg, 400, "image is not valid"),
        ("image/png", &bomb, 422, "pixels"),
        ("text/plain", b"abc", 415, "the model takes an image"),
        ("application/json", b"{\"image\": 1}", 400, "base64"),
        ("application/json", b"{\"picture\": \"\"}", 400, "there is nothing at \\\"/image\\\""),
        ("application/json", b"{", 400, "no JSON"),
        ("multipart/form-data; boundary=b", b"--b--", 400, "there is no image"),
        ("application/x-protobuf", b"\x0a", 400, ""),
    ] {
        let answer = send(client, "/x", content_type, body);
        assert!(
            answer.status == status && answer.text().contains(words),
            "{content_type}: {}",
            answer.text()
        );
        assert_eq!(answer.head.get("content-type"), Some("application/problem+json"));
    }
    // By the protocol, in its own words.
    let request = r#"{"inputs":[{"name":"input","datatype":"FP32","shape":[1,3],"data":[1,2,3]}]}"#;
    let answer = send(client, "/v2/models/m/infer", "application/json", request.as_bytes());
    let told: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let words = told["error"].as_str().unwrap();
    assert!(
        answer.status == 400 && words.contains("[-1, 3, 64, 64] was expected, and [1, 3] came"),
        "{words}"
    );
    assert!(model.asked.lock().unwrap().is_empty(), "nobody was asked");
    assert_eq!(send(client, "/x", "image/jpeg", &jpeg).status, 200, "on the same connection");
}

#[test]
fn memory_is_kept_for_who_was_let_in_and_given_back_when_he_leaves() {
    let model = Model::start("0");
    let gateway = model.gateway("", IMAGE);
    let jpeg = image("420.jpg");
    // Announces what takes most of it, and sends little.
    let mut holder = gateway.client();
    holder.send_all(head("/x", "image/jpeg", 1_900_000).as_bytes());
    holder.send_all(&jpeg[..100]);
    until("he is let in", || gateway.metrics().sum("tidegate_conversion_bytes", &[]) > 3e6);
    // Its body is not waited for.
    let mut next = gateway.client();
    next.send_all(head("/x", "image/jpeg", 500_000).as_bytes());
    let answer = next.request("POST", b"").unwrap();
    assert!(answer.status == 503 && answer.text().contains("conversion_busy"), "{}", answer.text());
    // What can never fit is another matter.
    let mut large = gateway.client();
    large.send_all(head("/x", "image/jpeg", 9_000_000).as_bytes());
    assert_eq!(large.request("POST", b"").unwrap().status, 413);
    holder.reset();
    gateway.until_metric("tidegate_conversion_bytes", &[], 0.0);
    assert_eq!(send(&mut gateway.client(), "/x", "image/jpeg", &jpeg).status, 200);
    gateway.until_metric("tidegate_conversion_bytes", &[], 0.0);
}

#[test]
fn a_call_that_its_server_cancels_is_an_answer() {
    let model = Model::start("1");
    let gateway = model.gateway("", IMAGE);
    let client = &mut gateway.client();
    for _ in 0..2 {
        assert_eq!(send(client, "/x", "image/jpeg", &image("420.jpg")).status, 499);
    }
}

#[test]
fn a_live_model_that_is_another_one_is_told_of() {
    let model = Model::start("0");
    let gateway = model.gateway("", IMAGE);
    gateway.until_event(
        "model_differs",
        "input \"input\" is declared as [-1, 3, 64, 64], and is [-1, 3, 32, 32]",
    );
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).to_lowercase()
}

#[test]
fn servers_are_told_whom_a_request_was_from_also_without_a_host() {
    let server = Backend::describing("model");
    let inputs = "[[service.main.model.inputs]]\nname = \"x\"\ndatatype = \"BYTES\"\nshape = [1]\n";
    let rest = config("", inputs).replace("protocol = \"h2\"\n", "").replace("\"grpc\"", "\"rest\"");
    let gateway = Gateway::start(&rest, &[("main", server.address)]);
    let request = "POST /x HTTP/1.0\r\nx-forwarded-for: 192.0.2.7\r\nx-mine: yes\r\naccept: a/b\r\ncontent-length: 3\r\n\r\nabc";
    // The server describes what it was sent, which is no response of a model.
    assert_eq!(gateway.client().request("POST", request.as_bytes()).unwrap().status, 502);
    let sent: Vec<String> =
        server.records().iter().map(|record| text(&record.bytes.lock().unwrap())).collect();
    let sent = sent.iter().find(|sent| sent.contains("x-mine")).expect("the request");
    assert!(sent.contains("\r\nx-forwarded-for: 192.0.2.7, 127.0.0.1\r\n"), "{sent}");
    assert!(sent.contains("\r\nx-mine: yes\r\n") && !sent.contains("accept:"), "{sent}");
}

#[test]
fn a_conversion_can_be_done_offline() {
    let model = Model::start("0");
    let gateway = model.gateway("", IMAGE);
    let (file, output) = (gateway.config_file(), gateway.directory().join("a.npy"));
    let input = format!("{}/tests/corpus/images/420.jpg", env!("CARGO_MANIFEST_DIR"));
    let words = [
        "convert",
        "-c",
        file.to_str().unwrap(),
        "--service",
        "main",
        "--input",
        &input,
        "--output",
        output.to_str().unwrap(),
    ];
    let done = tidegate(&words);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let written = std::fs::read(&output).unwrap();
    assert!(written.ends_with(&expected(&image("420.jpg"), Format::Jpeg)));
    let refused = tidegate(&[&words[..4], &["mian"], &words[5..]].concat());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("did you mean `main`?"));
}
