//! A route's check of bodies: what is no JSON, no inference request or no image is refused with the reason, however it comes and whoever
//! it goes to, and no endpoint ever has all of it; what is right passes byte for byte.

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use harness::backend::answer;
use harness::http2::Http2;
use harness::http2_server::{self, Http2Backend};
use harness::process::tidegate;
use harness::{Backend, Gateway, Response, until};
use http::Request;

const CONFIG: &str = r#"
workers = 1
[admin]
address = "@admin@"
[listen.web]
address = "@web@"
[service.one]
endpoints = ["@one@"]
[service.two]
protocol = "h2"
endpoints = ["@two@"]
[limit.few]
rate = "1/d"
burst = 2
[[route]]
match = { path = "/limited" }
check = { json = "any" }
limits = "few"
to = "one"
[[route]]
match = { path = "/two/**" }
check = { json = "inference", json_depth = 8, images = true, image_side = 1000, image_pixels = 100_000 }
to = "two"
[[route]]
match = { path = "/**" }
check = { json = "inference", json_depth = 8, images = true, image_side = 1000, image_pixels = 100_000 }
to = "one"
"#;

struct Scene {
    gateway: Gateway,
    one: Backend,
    /// Requests that the second endpoint has got whole.
    complete: Arc<AtomicU64>,
    _two: Http2Backend,
}

fn start() -> Scene {
    let one = Backend::serve(|request, connection| {
        let _ = connection.write(&answer("200 OK", "", &request.body));
    });
    let complete = Arc::<AtomicU64>::default();
    let counted = complete.clone();
    let two = Http2Backend::serve(move |request, respond| {
        let counted = counted.clone();
        async move {
            let mut incoming = request.into_body();
            let mut body = Vec::new();
            while let Some(piece) = incoming.data().await {
                let piece = piece?;
                incoming.flow_control().release_capacity(piece.len())?;
                body.extend_from_slice(&piece);
            }
            counted.fetch_add(1, SeqCst);
            http2_server::answer(respond, http::Response::new(()), &body)
        }
    });
    let gateway = Gateway::start(CONFIG, &[("one", one.address), ("two", two.address)]);
    Scene { gateway, one, complete, _two: two }
}

/// An inference request of about so many bytes.
fn inference(bytes: usize) -> Vec<u8> {
    let data = vec!["1"; bytes / 2].join(",");
    format!(r#"{{"inputs":[{{"name":"a","shape":[{}],"datatype":"FP32","data":[{data}]}}]}}"#, bytes / 2)
        .into_bytes()
}

/// A JPEG's head behind so many bytes of a colour profile, and as many of anything behind it.
fn jpeg(width: u16, height: u16, bytes: usize) -> Vec<u8> {
    let mut image = vec![0xff, 0xd8];
    for _ in 0..bytes / 60_000 {
        image.extend_from_slice(&[0xff, 0xe2, 0xea, 0x62]);
        image.resize(image.len() + 60_000, 7);
    }
    image.extend_from_slice(&[0xff, 0xc0, 0, 11, 8]);
    image.extend_from_slice(&height.to_be_bytes());
    image.extend_from_slice(&width.to_be_bytes());
    image.extend_from_slice(&[1, 1, 0x11, 0]);
    image.resize(image.len() + bytes, 9);
    image
}

/// The ways that a body may come in, and go on.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// With its head.
    Whole,
    /// Behind its head, of known length.
    Length,
    Chunked,
    Http2,
    /// Over HTTP/2, and no length is said.
    Http2Open,
}

const WAYS: [Way; 5] = [Way::Whole, Way::Length, Way::Chunked, Way::Http2, Way::Http2Open];

impl Scene {
    fn post(&self, way: Way, path: &str, kind: &str, body: &[u8]) -> (u16, Vec<u8>) {
        match way {
            Way::Http2 | Way::Http2Open => {
                let url = format!("http://a.test{path}");
                let request = Request::post(url).header("content-type", kind);
                let request = match way {
                    Way::Http2 => request.header("content-length", body.len()),
                    _ => request,
                };
                let client = Http2::connect(self.gateway.web());
                let answer = client.exchange(request.body(()).unwrap(), Some(body), None).unwrap();
                (answer.status, answer.body)
            }
            _ => {
                let answer = self.over_http1(way, path, kind, body);
                (answer.status, answer.body)
            }
        }
    }

    fn over_http1(&self, way: Way, path: &str, kind: &str, body: &[u8]) -> Response {
        let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: {kind}\r\n");
        let mut client = self.gateway.client();
        match way {
            Way::Chunked => {
                client.send_all(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes());
                for piece in body.chunks(7_001) {
                    let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
                    // It may have heard enough.
                    client.send(&chunk);
                }
                client.request("POST", b"0\r\n\r\n").unwrap()
            }
            _ => {
                let mut raw = format!("{head}content-length: {}\r\n\r\n", body.len()).into_bytes();
                if let Way::Length = way {
                    client.send_all(&raw);
                    raw.clear();
                }
                raw.extend_from_slice(body);
                client.request("POST", &raw).unwrap()
            }
        }
    }

    /// Requests that endpoints have got whole.
    fn served(&self) -> u64 {
        let one = self
            .one
            .records()
            .into_iter()
            .map(|record| harness::wire::complete_requests_in(&record.bytes.lock().unwrap()) as u64);
        one.sum::<u64>() + self.complete.load(SeqCst)
    }
}

#[test]
fn what_is_right_passes_byte_for_byte() {
    let scene = start();
    for path in ["/one", "/two/x"] {
        for way in WAYS {
            for bytes in [10, 3_000, 300_000] {
                for (kind, body) in [
                    ("application/json", inference(bytes)),
                    ("image/jpeg", jpeg(300, 200, bytes)),
                    ("text/plain", vec![b'{'; bytes]),
                ] {
                    let (status, got) = scene.post(way, path, kind, &body);
                    assert_eq!((status, got == body), (200, true), "{path} {way:?} {kind} {bytes}");
                }
            }
        }
    }
}

#[test]
fn what_is_wrong_is_told_and_never_complete_at_an_endpoint() {
    let scene = start();
    let cut = |mut body: Vec<u8>, from_end: usize| {
        body.truncate(body.len() - from_end);
        body
    };
    for path in ["/one", "/two/x"] {
        for way in WAYS {
            for bytes in [10, 3_000, 300_000] {
                for (kind, body, status, words) in [
                    // Found with the last byte, or only by its end.
                    ("application/json", cut(inference(bytes), 1), 400, "it ends in the middle"),
                    ("application/json", [&inference(bytes)[..], b"}"].concat(), 400, "something follows"),
                    ("application/json", b"{\"inputs\":[]}".to_vec(), 400, "inputs that are empty"),
                    ("application/json", b"[[[[[[[[[".to_vec(), 400, "not an inference request"),
                    ("application/json", b"{\"inputs\":[{\"a\":[[[[[[[[".to_vec(), 400, "nested too deep"),
                    ("image/png", jpeg(3, 2, bytes), 400, "no PNG"),
                    ("image/jpeg", jpeg(0, 2, bytes), 400, "its width is 0"),
                    ("image/jpeg", vec![0xff, 0xd8, 0xff, 0xe0], 400, "it ends before it says how large"),
                    ("image/jpeg", jpeg(1_001, 2, bytes), 422, "it is 1001 x 2"),
                    ("image/jpeg", jpeg(400, 300, bytes), 422, "and 100000 pixels are"),
                ] {
                    let (got, text) = scene.post(way, path, kind, &body);
                    let text = String::from_utf8_lossy(&text).into_owned();
                    assert_eq!((got, text.contains(words)), (status, true), "{path} {way:?} {words}: {text}");
                }
            }
        }
    }
    assert_eq!(scene.served(), 0);
    // Nobody is blamed but who has sent it.
    let metrics = scene.gateway.metrics();
    assert_eq!(metrics.sum("tidegate_retries_total", &[]), 0.0);
}

/// The binary extension: as many bytes of JSON as a field says, and tensors behind them.
#[test]
fn tensors_behind_an_inference_request_are_not_read() {
    let scene = start();
    let json =
        br#"{"inputs":[{"name":"a","shape":[4],"datatype":"UINT8","parameters":{"binary_data_size":4}}]}"#;
    let body = [&json[..], b"{\"\xff}"].concat();
    let ask = |length: &str| {
        let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-type: application/octet-stream";
        let fields = format!("inference-header-content-length: {length}\r\ncontent-length: {}", body.len());
        let raw = [format!("{head}\r\n{fields}\r\n\r\n").as_bytes(), &body].concat();
        scene.gateway.client().request("POST", &raw).unwrap()
    };
    let right = ask(&json.len().to_string());
    assert_eq!((right.status, right.body == body), (200, true));
    // None of it is JSON: a tensor alone.
    assert_eq!(ask("0").status, 200);
    for (length, words) in [
        ("90", "it ends in the middle"),
        ("96", "something follows"),
        ("+5", "is no length"),
        ("5, 5", "is no length"),
        ("99999999999999999999999", "is no length"),
        ("95\r\ninference-header-content-length: 95", "is no length"),
    ] {
        let answer = ask(length);
        assert_eq!(
            (answer.status, answer.text().contains(words)),
            (400, true),
            "{length}: {}",
            answer.text()
        );
    }
}

#[test]
fn what_cannot_be_checked_is_not_let_past() {
    let scene = start();
    for fields in [
        "content-type: application/json\r\ncontent-encoding: gzip",
        "content-type: application/json\r\ncontent-type: text/plain",
    ] {
        let raw = format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\ncontent-length: 2\r\n\r\n{{}}");
        let mut client = scene.gateway.client();
        assert_eq!(client.request("POST", raw.as_bytes()).unwrap().status, 415, "{fields}");
        // What is refused at once is passed over.
        assert_eq!(client.get("/").unwrap().status, 200);
    }
    // Whatever parameters the type has; a second coding; a tensor that says it is JSON.
    let post = |fields: &[u8], body: &[u8]| {
        let head = [b"POST / HTTP/1.1\r\nhost: a\r\n", fields, b"\r\n"].concat();
        let length = format!("content-length: {}\r\n\r\n", body.len());
        let raw = [&head, length.as_bytes(), body].concat();
        scene.gateway.client().request("POST", &raw).unwrap().status
    };
    assert_eq!(post(b"content-type: image/jpeg; x=\xff", &jpeg(5_000, 5_000, 10)), 422);
    let codings = b"content-type: text/json\r\ncontent-encoding: identity\r\ncontent-encoding: gzip";
    assert_eq!(post(codings, b"{}"), 415);
    assert_eq!(post(b"content-type: text/json\r\ninference-header-content-length: 0", b"[[[["), 400);
    // Framed messages are no JSON, whatever is in them.
    assert_eq!(post(b"content-type: application/connect+json", &[0, 0, 0, 0, 0]), 200);
    let plain = "POST / HTTP/1.1\r\nhost: a\r\ncontent-type: text/plain\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}";
    assert_eq!(scene.gateway.client().request("POST", plain.as_bytes()).unwrap().status, 200);
}

/// Who sends nonsense is held to the limits as anybody else is, and his connection goes on.
#[test]
fn nonsense_costs_a_token() {
    let scene = start();
    let mut client = scene.gateway.client();
    let raw = b"POST /limited HTTP/1.1\r\nhost: a\r\ncontent-type: text/json\r\ncontent-length: 1\r\n\r\n{";
    let statuses = [1, 2, 3].map(|_| client.request("POST", raw).unwrap().status);
    assert_eq!(statuses, [400, 400, 429]);
    until("they are counted", || {
        let metrics = scene.gateway.metrics();
        metrics.sum("tidegate_request_errors_total", &[("kind", "invalid_body")]) == 2.0
    });
    assert_eq!(scene.served(), 0);
}

#[test]
fn explain_tells_what_is_wrong_with_a_body() {
    let scene = start();
    let file = scene.gateway.config_file();
    let explain = |body: &str| {
        let arguments = ["-c", file.to_str().unwrap(), "-H", "content-type: application/json", "-d", body];
        let output = tidegate(&[&["explain", "POST", "/v2/x"], &arguments[..]].concat());
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let said = explain(r#"{"inputs":[{"name":"a","shape":[1],"data":[1]}]}"#);
    assert!(said.contains("but is answered 400") && said.contains("inputs[0] has no datatype"), "{said}");
    let said = explain(r#"{"inputs":[{"name":"a","shape":[1],"datatype":"FP32","data":[1]}]}"#);
    assert!(!said.contains("answered") && said.contains("goes to service one"), "{said}");
}
