//! Shadow traffic: a share of a route's requests goes to another service, too. The shadow is the same request, byte for byte, and whatever
//! becomes of it, the client's answer, the counts and the log are as if there were none.

mod harness;

use std::sync::{Arc, Mutex};

use harness::backend::answer;
use harness::http2::Http2;
use harness::http2_server::{self, Http2Backend};
use harness::{Backend, Gateway, until};
use http::Request;

/// What endpoints have got: method, target, some fields, body.
type Seen = Arc<Mutex<Vec<Heard>>>;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Heard {
    method: String,
    target: String,
    fields: Vec<Option<String>>,
    body: Vec<u8>,
}

const FIELDS: [&str; 6] = ["host", "x-a", "x-request-id", "x-forwarded-for", "x-user", "content-type"];

fn config(shadow: &str) -> String {
    format!(
        r#"
workers = 1
[admin]
address = "@admin@"
[listen.web]
address = "@web@"
[service.main]
endpoints = ["@main@"]
[service.other]
endpoints = ["@other@"]
[service.two]
protocol = "h2"
endpoints = ["@two@"]
[[route]]
name = "to-h2"
match = {{ path = "/two/**" }}
shadow = {{ to = "two" }}
to = "main"
[[route]]
match = {{ path = "/large" }}
body_limit = "15KiB"
shadow = {{ {shadow} }}
to = "main"
[[route]]
name = "all"
request_headers = {{ set = {{ x-user = "{{query:user}}" }} }}
shadow = {{ {shadow} }}
to = "main"
"#
    )
}

/// Keeps what it gets, and answers with it.
fn keeping(seen: &Seen, status: &'static str) -> Backend {
    let seen = seen.clone();
    Backend::serve(move |request, connection| {
        let fields = FIELDS.map(|name| request.head.get(name).map(str::to_owned)).to_vec();
        let (method, target) = (request.method.clone(), request.target.clone());
        seen.lock().unwrap().push(Heard { method, target, fields, body: request.body.clone() });
        let _ = connection.write(&answer(status, "x-who: backend\r\n", &request.body));
    })
}

/// The same over HTTP/2.
fn keeping_http2(seen: &Seen) -> Http2Backend {
    let seen = seen.clone();
    Http2Backend::serve(move |request, respond| {
        let seen = seen.clone();
        async move {
            let (head, mut incoming) = request.into_parts();
            let mut body = Vec::new();
            while let Some(piece) = incoming.data().await {
                let piece = piece?;
                incoming.flow_control().release_capacity(piece.len())?;
                body.extend_from_slice(&piece);
            }
            let field = |name| match name {
                "host" => head.uri.authority().map(|host| host.to_string()),
                _ => head.headers.get(name).map(|value| value.to_str().unwrap().to_owned()),
            };
            let fields = FIELDS.map(field).to_vec();
            let target = head.uri.path_and_query().unwrap().to_string();
            seen.lock().unwrap().push(Heard { method: head.method.to_string(), target, fields, body });
            http2_server::answer(respond, http::Response::new(()), b"shadow")
        }
    })
}

struct Scene {
    gateway: Gateway,
    main: Seen,
    other: Seen,
    two: Seen,
    _backends: (Backend, Backend, Http2Backend),
}

fn start(shadow: &str) -> Scene {
    let [main, other, two] = [(); 3].map(|()| Seen::default());
    let backends = (keeping(&main, "200 OK"), keeping(&other, "500 No"), keeping_http2(&two));
    let named = [("main", backends.0.address), ("other", backends.1.address), ("two", backends.2.address)];
    let gateway = Gateway::start(&config(shadow), &named);
    Scene { gateway, main, other, two, _backends: backends }
}

fn sorted(seen: &Seen) -> Vec<Heard> {
    let mut seen = seen.lock().unwrap().clone();
    seen.sort();
    seen
}

impl Scene {
    fn until_shadowed(&self, seen: &Seen, count: usize) {
        until(&format!("{count} have a shadow"), || seen.lock().unwrap().len() >= count);
        assert_eq!(seen.lock().unwrap().len(), count);
    }

    /// Sends the body in this way, and looks at the answer.
    fn post(&self, way: usize, path: &str, body: &[u8]) {
        let path = format!("{path}?user=ann&n={way}");
        let (status, got) = match way {
            0 | 1 => {
                let head = format!(
                    "POST {path} HTTP/1.1\r\nhost: h.test\r\nx-a: b\r\ncontent-type: a/b\r\ncontent-length: {}\r\n",
                    body.len()
                );
                let mut client = self.gateway.client();
                let mut raw = format!("{head}\r\n").into_bytes();
                if way == 1 {
                    raw = format!("{head}expect: 100-continue\r\n\r\n").into_bytes();
                    client.send_all(&raw);
                    raw.clear();
                }
                raw.extend_from_slice(body);
                let answer = client.request("POST", &raw).unwrap();
                (answer.status, answer.body)
            }
            2 => {
                let mut client = self.gateway.client();
                client.send_all(format!("POST {path} HTTP/1.1\r\nhost: h.test\r\nx-a: b\r\ncontent-type: a/b\r\ntransfer-encoding: chunked\r\n\r\n").as_bytes());
                for piece in body.chunks(7_001) {
                    client.send_all(&[format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
                }
                let answer = client.request("POST", b"0\r\n\r\n").unwrap();
                (answer.status, answer.body)
            }
            _ => {
                let request = Request::post(format!("http://h.test{path}"))
                    .header("x-a", "b")
                    .header("content-type", "a/b");
                let request = if way == 3 { request.header("content-length", body.len()) } else { request };
                let client = Http2::connect(self.gateway.web());
                let answer = client.exchange(request.body(()).unwrap(), Some(body), None).unwrap();
                (answer.status, answer.body)
            }
        };
        assert_eq!((status, got == body), (200, true), "{way}: {} bytes", body.len());
    }
}

#[test]
fn a_shadow_is_the_same_request_and_its_answer_nobodys() {
    let scene = start("to = \"other\"");
    let mut count = 0;
    let client = scene.gateway.client().get_with("/x/%7ey//z?user=b&q", "x-a: 1\r\n").unwrap();
    assert_eq!((client.status, client.get("x-who")), (200, Some("backend")));
    for way in 0..5 {
        for bytes in [0, 10, 5_000, 300_000] {
            let body: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
            scene.post(way, "/y", &body);
            scene.post(way, "/two/y", &body);
            count += 1;
        }
    }
    scene.until_shadowed(&scene.other, count + 1);
    scene.until_shadowed(&scene.two, count);
    let (to_two, to_one) =
        sorted(&scene.main).into_iter().partition(|heard| heard.target.starts_with("/two"));
    assert_eq!((sorted(&scene.other), sorted(&scene.two)), (to_one, to_two));
    // Only what clients have asked is a request.
    let all = count as f64 * 2.0 + 1.0;
    until("all are counted", || {
        let metrics = scene.gateway.metrics();
        metrics.sum("tidegate_requests_total", &[("status", "200")]) == all
            && metrics.sum("tidegate_requests_total", &[]) == all
            && metrics.sum("tidegate_shadow_requests_total", &[("service", "other"), ("status", "500")])
                == count as f64 + 1.0
            && metrics.sum(
                "tidegate_shadow_requests_total",
                &[("service", "two"), ("route", "to-h2"), ("status", "200")],
            ) == count as f64
            && metrics.sum("tidegate_shadow_upstream_duration_seconds_count", &[]) == all
            && metrics.sum("tidegate_requests_active", &[]) == 0.0
    });
    until("all are logged once", || scene.gateway.access_log().len() as f64 == all);
    assert!(scene.gateway.access_log().iter().all(|line| line["service"] == "main"));
}

#[test]
fn a_share_is_drawn() {
    let scene = start("to = \"other\", percent = 25");
    let mut client = scene.gateway.client();
    for _ in 0..2_000 {
        assert_eq!(client.get("/").unwrap().status, 200);
    }
    let shadowed = || scene.gateway.metrics().sum("tidegate_shadow_requests_total", &[]);
    until("about a quarter has a shadow", || (400.0..600.0).contains(&shadowed()));
    assert_eq!(scene.main.lock().unwrap().len(), 2_000);
    let none = start("to = \"other\", percent = 0");
    assert!((0..100).all(|_| none.gateway.get("/").status == 200));
    assert_eq!(none.other.lock().unwrap().len(), 0);
}

/// One that never answers, one that refuses connections: nobody waits for it, and there is an end to how many are kept.
#[test]
fn nobody_waits_for_a_shadow() {
    let silent = Backend::start(|connection| connection.wait_stop());
    let seen = Seen::default();
    let main = keeping(&seen, "200 OK");
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let named = [("main", main.address), ("other", silent.address), ("two", dead)];
    let gateway = Gateway::start(&config("to = \"other\""), &named);
    let mut client = gateway.client();
    for path in ["/two/x", "/x"] {
        for _ in 0..400 {
            assert_eq!(client.get(path).unwrap().status, 200);
        }
    }
    until("those that cannot be sent are counted", || {
        gateway.metrics().sum("tidegate_shadow_requests_total", &[("service", "two")]) == 400.0
    });
    let metrics = gateway.metrics();
    let skipped = metrics.sum("tidegate_shadows_skipped_total", &[("reason", "busy")]);
    assert!((1.0..=400.0).contains(&skipped), "{skipped}");
    assert_eq!(metrics.sum("tidegate_requests_total", &[("status", "200")]), 800.0);
    assert_eq!(metrics.sum("tidegate_request_errors_total", &[]), 0.0);
}

#[test]
fn what_is_too_large_or_never_whole_has_none() {
    let scene = start("to = \"other\", body_limit = \"20KiB\"");
    for way in 0..5 {
        scene.post(way, "/y", &[7; 20 * 1024 + 1]);
    }
    until("they are counted", || {
        scene.gateway.metrics().sum("tidegate_shadows_skipped_total", &[("reason", "too_large")]) == 5.0
    });
    // It is too large for the route, and only its end says so.
    let mut large = scene.gateway.client();
    let chunk = |length: usize| format!("{length:x}\r\n{}\r\n", "a".repeat(length));
    large.send_all(
        format!("POST /large HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{}", chunk(8_000))
            .as_bytes(),
    );
    let answer = large.request("POST", format!("{}0\r\n\r\n", chunk(8_000)).as_bytes()).unwrap();
    assert_eq!(answer.status, 413);
    // Its client leaves in the middle of it.
    let mut gone = scene.gateway.client();
    gone.send_all(b"POST /gone HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n12345");
    until("it is under way", || scene.gateway.metrics().sum("tidegate_requests_active", &[]) == 1.0);
    drop(gone);
    until("it is over", || scene.gateway.metrics().sum("tidegate_requests_active", &[]) == 0.0);
    // The last one's shadow comes behind all others'.
    scene.post(0, "/last", b"1");
    scene.until_shadowed(&scene.other, 1);
    assert!(scene.other.lock().unwrap()[0].target.starts_with("/last"));
}

/// A canary that is also shadowed to is judged by its clients alone.
#[test]
fn shadows_are_on_no_side_of_a_canary() {
    let seen = [(); 2].map(|()| Seen::default());
    let (main, other) = (keeping(&seen[0], "200 OK"), keeping(&seen[1], "500 No"));
    let text = config("to = \"other\"").replace(
        "name = \"all\"",
        "name = \"all\"\ncanary = { to = \"other\", percent = 0.0001, header = { x-canary = true }, rollback = { requests = 5 } }",
    );
    let named = [("main", main.address), ("other", other.address), ("two", main.address)];
    let gateway = Gateway::start(&text, &named);
    let mut client = gateway.client();
    for _ in 0..100 {
        assert_eq!(client.get("/").unwrap().status, 200);
    }
    until("all have a shadow", || {
        gateway.metrics().sum("tidegate_shadow_requests_total", &[("status", "500")]) == 100.0
    });
    let canaries = gateway.admin_get("/canaries").unwrap().text();
    assert!(canaries.contains("\"given_up\":null"), "{canaries}");
}

#[test]
fn tunnels_have_no_shadow_and_calls_do() {
    let scene = start("to = \"two\"");
    let client = Http2::connect(scene.gateway.web());
    let request = Request::post("http://h.test/s.S/M")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let message = [&[0, 0, 0, 0, 3][..], b"abc"].concat();
    client.exchange(request.body(()).unwrap(), Some(&message), None).unwrap();
    scene.until_shadowed(&scene.two, 1);
    assert_eq!(scene.two.lock().unwrap()[0].body, message);
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-version: 13\r\n";
    assert_eq!(scene.gateway.client().get_with("/ws", upgrade).unwrap().status, 200);
    assert_eq!(scene.gateway.get("/last").status, 200);
    scene.until_shadowed(&scene.two, 2);
    assert_eq!(scene.two.lock().unwrap()[1].target, "/last");
}
