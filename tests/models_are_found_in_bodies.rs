//! Requests are routed by the model that their JSON body names, and by what their body is: found wherever it stands and however it is cut,
//! the body passed on byte for byte, and nobody taken in by a name that stands twice.

mod harness;

use std::time::Duration;

use harness::backend::answer;
use harness::http2::Http2;
use harness::process::tidegate;
use harness::{Backend, Gateway, Response};
use http::Request;

const CONFIG: &str = r#"
workers = 1
[admin]
address = "@admin@"
[listen.web]
address = "@web@"
[service.small]
endpoints = ["@small@"]
[service.large]
endpoints = ["@large@"]
[service.other]
endpoints = ["@other@"]
[limit.per-model]
key = "model"
rate = "1/d"
burst = 3
[[route]]
match = { path = "/limited" }
limits = "per-model"
to = "other"
[[route]]
match = { path = "/only-png" }
content_types = "image/png"
to = "other"
[[route]]
match = { path = "/by-name" }
to = "{model}"
otherwise = "other"
[[route]]
match = { content_type = "image/*" }
content_types = ["image/png", "image/jpeg"]
to = "large"
[[route]]
name = "small"
match = { model = ["small", "tiny*"] }
to = "small"
[[route]]
match = { model = "large" }
to = "large"
[[route]]
to = "other"
"#;

struct Three {
    gateway: Gateway,
    _backends: [Backend; 3],
}

/// Says who it is, whether it was asked to go on, and what it got.
fn echo(name: &'static str) -> Backend {
    Backend::serve(move |request, connection| {
        let expects = request.head.get("expect").is_some();
        let fields = format!("x-who: {name}\r\nx-expects: {expects}\r\n");
        let _ = connection.write(&answer("200 OK", &fields, &request.body));
    })
}

fn start() -> Three {
    let names = ["small", "large", "other"];
    let backends = names.map(echo);
    let named: Vec<_> =
        names.into_iter().zip(&backends).map(|(name, backend)| (name, backend.address)).collect();
    Three { gateway: Gateway::start(CONFIG, &named), _backends: backends }
}

fn post(gateway: &Gateway, path: &str, kind: &str, body: &[u8]) -> Response {
    let mut raw = format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    raw.extend_from_slice(body);
    gateway.client().request("POST", &raw).unwrap()
}

fn who(answer: &Response) -> String {
    answer.get("x-who").unwrap_or("nobody").to_owned()
}

fn ask(gateway: &Gateway, body: &str) -> String {
    who(&post(gateway, "/v1/chat/completions", "application/json", body.as_bytes()))
}

#[test]
fn a_model_is_found_wherever_it_stands() {
    let three = start();
    for (body, service) in [
        (r#"{"model":"small","messages":[]}"#, "small"),
        (r#"{"messages":[{"model":"large"}],"stream":true,"model" : "tiny-1"}"#, "small"),
        (r#"{"model":"large"}"#, "large"),
        (r#"{"mod\u0065l":"lar\u0067e"}"#, "large"),
        (r#"{"model":"unknown"}"#, "other"),
        (r#"{"model":7}"#, "other"),
        (r#"{"messages":{"model":"small"}}"#, "other"),
        (r#"["model","small"]"#, "other"),
        (r#"{"model":"small""#, "other"),
        ("", "other"),
    ] {
        assert_eq!(ask(&three.gateway, body), service, "{body}");
    }
    // Which one of two counts is what parsers differ in.
    assert_eq!(ask(&three.gateway, r#"{"model":"small","model":"large"}"#), "other");
    // What is no JSON by its own word is not looked into; what is, by any of its names.
    let body = br#"{"model":"small"}"#;
    assert_eq!(who(&post(&three.gateway, "/", "text/plain", body)), "other");
    assert_eq!(who(&post(&three.gateway, "/", "Application/vnd.api+JSON; charset=utf-8", body)), "small");
}

#[test]
fn it_is_found_however_the_body_comes_and_passed_on_as_it_is() {
    let three = start();
    let filler = "x".repeat(40_000);
    let body = format!(r#"{{"prompt":"{filler}","model":"small"}}"#);
    let head = "POST /v1 HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n";
    // In two parts, the second when the first has been taken in.
    let mut client = three.gateway.client();
    client.send_all(format!("{head}content-length: {}\r\n\r\n", body.len()).as_bytes());
    client.send_all(&body.as_bytes()[..30_000]);
    std::thread::sleep(Duration::from_millis(50));
    let got = client.request("POST", &body.as_bytes()[30_000..]).unwrap();
    assert_eq!((who(&got), got.text() == body), ("small".into(), true));
    // In chunks, byte by byte around the name.
    let mut chunks = Vec::new();
    for piece in [&body[..20_000], &body[20_000..body.len() - 10], &body[body.len() - 10..]] {
        chunks.extend_from_slice(format!("{:x};e=1\r\n{piece}\r\n", piece.len()).as_bytes());
    }
    chunks.extend_from_slice(b"0\r\n\r\n");
    let mut client = three.gateway.client();
    client.send_all(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes());
    let (early, late) = chunks.split_at(chunks.len() - 40);
    client.send_all(early);
    client.send_bytewise(&late[..late.len() - 1]);
    let got = client.request("POST", &late[late.len() - 1..]).unwrap();
    assert_eq!((who(&got), got.text() == body), ("small".into(), true));
    // Over HTTP/2.
    let got = over_http2(&three.gateway, body.as_bytes());
    assert_eq!((got.fields["x-who"].to_str().unwrap(), got.body == body.as_bytes()), ("small", true));
}

fn over_http2(gateway: &Gateway, body: &[u8]) -> harness::http2::Answer {
    let request =
        Request::post("http://a.test/v1").header("content-type", "application/json").body(()).unwrap();
    Http2::connect(gateway.web()).exchange(request, Some(body), None).unwrap()
}

#[test]
fn beyond_what_is_looked_at_there_is_none_and_that_is_counted() {
    let three = start();
    let filler = "x".repeat(200_000);
    assert_eq!(ask(&three.gateway, &format!(r#"{{"model":"small","prompt":"{filler}"}}"#)), "small");
    assert_eq!(ask(&three.gateway, &format!(r#"{{"prompt":"{filler}","model":"small"}}"#)), "other");
    assert_eq!(three.gateway.metrics().sum("tidegate_body_peeks_exceeded_total", &[]), 1.0);
    let body = format!(r#"{{"model":"large","prompt":"{filler}"}}"#);
    let got = over_http2(&three.gateway, body.as_bytes());
    assert_eq!((got.fields["x-who"].to_str().unwrap(), got.body == body.as_bytes()), ("large", true));
}

#[test]
fn who_waits_for_a_go_ahead_gets_one_and_the_endpoint_is_not_asked_for_it() {
    let three = start();
    let body = br#"{"model":"large"}"#;
    let mut client = three.gateway.client();
    client.send_all(
        format!(
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .as_bytes(),
    );
    let told = client.read_some(1000).unwrap();
    assert_eq!(told, b"HTTP/1.1 100 Continue\r\n\r\n");
    let answer = client.request("POST", body).unwrap();
    assert_eq!(who(&answer), "large");
    assert_eq!(answer.get("x-expects"), Some("false"));
}

/// Nobody has said yet who asks: a client that drips must not hold a buffer for as long as it likes.
#[test]
fn a_body_that_drips_is_not_waited_for_for_ever() {
    let config = CONFIG.replacen("[admin]", "[timeouts]\nbody = \"500ms\"\n[admin]", 1);
    let backend = echo("other");
    let named = ["small", "large", "other"].map(|name| (name, backend.address));
    let gateway = Gateway::start(&config, &named);
    let mut client = gateway.client();
    client.send_all(
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 60000\r\n\r\n{",
    );
    // Each byte comes well within the silence that a body may have.
    let dripped = (0..400).take_while(|_| {
        std::thread::sleep(Duration::from_millis(50));
        !client.answered() && client.send(b" ")
    });
    assert!(dripped.count() < 400, "it is told before it has dripped all");
    assert_eq!(client.request("POST", b"").unwrap().status, 408);
    assert_eq!(backend.requests(), 0);
}

/// Which one of two an endpoint takes nobody knows.
#[test]
fn two_content_types_are_none() {
    let three = start();
    let ask = |path: &str, first: &str, second: &str, body: &str| {
        let raw = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: {first}\r\ncontent-type: {second}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        three.gateway.client().request("POST", raw.as_bytes()).unwrap()
    };
    let model = r#"{"model":"small"}"#;
    assert_eq!(who(&ask("/", "application/json", "text/plain", model)), "other");
    assert_eq!(who(&ask("/", "text/plain", "application/json", model)), "other");
    assert_eq!(who(&ask("/", "image/png", "text/xml", "png")), "other", "no image");
    assert_eq!(ask("/only-png", "image/png", "text/xml", "png").status, 415);
    assert_eq!(post(&three.gateway, "/only-png", "image/png", b"png").status, 200);
}

#[test]
fn templates_and_limits_know_it() {
    let three = start();
    let ask = |path: &str, model: &str| {
        post(&three.gateway, path, "application/json", format!("{{\"model\":\"{model}\"}}").as_bytes())
    };
    assert_eq!(who(&ask("/by-name", "small")), "small");
    assert_eq!(who(&ask("/by-name", "../small")), "other");
    for model in ["small", "large"] {
        let statuses: Vec<u16> = (0..5).map(|_| ask("/limited", model).status).collect();
        assert_eq!(statuses, [200, 200, 200, 429, 429], "{model}");
    }
}

#[test]
fn bodies_of_other_types_are_refused() {
    let three = start();
    assert_eq!(who(&post(&three.gateway, "/", "image/PNG; q=1", b"png")), "large");
    let refused = post(&three.gateway, "/", "image/tiff", b"tiff");
    assert_eq!(refused.status, 415);
    assert!(refused.text().contains("image/png, image/jpeg"), "{}", refused.text());
    assert_eq!(three.gateway.get("/").status, 200);
}

#[test]
fn explain_takes_a_body() {
    let three = start();
    let file = three.gateway.config_file();
    let ask = |body: &str| {
        let output = tidegate(&["explain", "-c", file.to_str().unwrap(), "POST", "/v1", "-d", body]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let found = ask(r#"{"model":"tiny-1"}"#);
    assert!(found.contains("> small") && found.contains("goes to service small"), "{found}");
    let other = ask(r#"{"model":"huge"}"#);
    assert!(other.contains("the body's model is not \"small\" or \"tiny\"*"), "{other}");
}
