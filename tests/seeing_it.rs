//! Promise: what happened can be seen: metrics that Prometheus takes as they are and that add up, one access log line
//! per request with the right fields, drops counted instead of hidden, and health that tells the truth.

mod harness;

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use harness::{Backend, Client, Gateway, backend, process, until};

const CONFIG: &str = r#"
[service.main]
endpoints = ["@origin@"]
[service.dead]
endpoints = ["@dead@"]
[[route]]
name = "good"
match = { path = "/good/**" }
to = "main"
[[route]]
name = "broken"
match = { path = "/broken" }
to = "dead"
[[route]]
name = "fixed"
match = { path = "/fixed" }
respond = { status = 203, body = "fixed" }
"#;

fn observed() -> (Backend, Gateway) {
    let origin = Backend::serve(|request, conn| {
        let status = if request.target.starts_with("/good/404") { "404 Not Found" } else { "200 OK" };
        let _ = conn.write(&backend::answer(status, "", b"0123456789"));
    });
    let names = [("origin", origin.address), ("dead", process::dead_address())];
    let gateway = Gateway::start(CONFIG, &names);
    (origin, gateway)
}

#[test]
fn counters_match_what_was_sent() {
    let (_origin, gateway) = observed();
    let mut client = gateway.client();
    let mut send =
        |times: usize, path: &str| (0..times).for_each(|_| drop(client.get(path).expect("an answer")));
    send(30, "/good/a");
    send(7, "/good/404");
    send(5, "/broken");
    send(4, "/fixed");
    send(3, "/nothing");
    let posted = gateway.client().post("/good/post", &[b'p'; 1000]).expect("an answer");
    assert_eq!(posted.status, 200);
    assert_eq!(gateway.client().request("GET", b"GET / HTTP/1.1\r\n\r\n").expect("an answer").status, 400);
    gateway.until_metric("tidegate_requests_active", &[], 0.0);
    let metrics = gateway.metrics();
    let count = |labels: &[(&str, &str)]| metrics.sum("tidegate_requests_total", labels);
    assert_eq!(count(&[("route", "good"), ("service", "main"), ("status", "200")]), 31.0);
    assert_eq!(count(&[("route", "good"), ("status", "404")]), 7.0);
    assert_eq!(count(&[("route", "broken"), ("service", "dead"), ("status", "502")]), 5.0);
    assert_eq!(count(&[("route", "fixed"), ("service", ""), ("status", "203")]), 4.0);
    assert_eq!(count(&[("route", ""), ("status", "404")]), 3.0);
    assert_eq!(count(&[("status", "400")]), 1.0);
    assert_eq!(count(&[]), 51.0, "and nothing else");
    let error = |kind| metrics.sum("tidegate_request_errors_total", &[("kind", kind)]);
    assert_eq!((error("connect_failed"), error("no_route"), error("bad_request")), (5.0, 3.0, 1.0));
    assert_eq!(metrics.sum("tidegate_response_bytes_total", &[("route", "good")]), 380.0, "ten bytes each");
    assert_eq!(metrics.sum("tidegate_request_bytes_total", &[("route", "good")]), 1000.0);
    assert_eq!(metrics.sum("tidegate_request_duration_seconds_count", &[("route", "good")]), 38.0);
    assert_eq!(metrics.sum("tidegate_upstream_duration_seconds_count", &[("service", "main")]), 38.0);
    assert!(metrics.sum("tidegate_connections_total", &[("listener", "web")]) >= 3.0);
    let endpoint = gateway.address("origin").to_string();
    assert_eq!(metrics.sum("tidegate_endpoint_requests_total", &[("endpoint", &endpoint)]), 38.0);
}

#[test]
fn the_metrics_are_clean() {
    let (_origin, gateway) = observed();
    for path in ["/good/a", "/broken", "/fixed", "/nothing"] {
        gateway.get(path);
    }
    let answer = gateway.admin_get("/metrics").expect("the metrics");
    assert!(answer.get("content-type").is_some_and(|kind| kind.starts_with("text/plain; version=0.0.4")));
    let metrics = harness::prom::Metrics::parse(&answer.text()).expect("Prometheus text");
    for (name, kind) in &metrics.types {
        let well_named = name.starts_with("tidegate_") || name.starts_with("process_");
        assert!(well_named, "{name}");
        assert_eq!(*kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        assert!(!metrics.helps[name].is_empty(), "{name} has no help");
    }
    for name in ["tidegate_build_info", "tidegate_config_generation", "process_resident_memory_bytes"] {
        assert!(metrics.has(name), "{name} is missing");
    }
    promtool(&answer.text());
}

/// What Prometheus itself says, where its tool is installed.
fn promtool(text: &str) {
    let tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut tool) = tool else { return };
    tool.stdin.take().expect("piped").write_all(text.as_bytes()).expect("promtool reads");
    let output = tool.wait_with_output().expect("promtool ends");
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && complaints.trim().is_empty(), "promtool: {complaints}");
}

#[test]
fn counters_only_grow() {
    let (_origin, gateway) = observed();
    let mut before = gateway.metrics();
    for _ in 0..5 {
        gateway.get("/good/a");
        let now = gateway.metrics();
        for sample in
            before.samples.iter().filter(|s| s.name.ends_with("_total") || s.name.ends_with("_count"))
        {
            let labels: Vec<(&str, &str)> =
                sample.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            assert!(now.sum(&sample.name, &labels) >= sample.value, "{sample:?} shrank");
        }
        before = now;
    }
}

#[test]
fn each_request_has_one_line_in_the_log() {
    let (origin, gateway) = observed();
    let mut client = gateway.client();
    let mut ids = BTreeSet::new();
    for number in 0..100 {
        let answer = client
            .get_with(&format!("/good/{number}?secret=1"), "User-Agent: te\"st\\\x7e\r\n")
            .expect("an answer");
        ids.insert(answer.get("x-request-id").expect("an id").to_owned());
    }
    gateway.client().post("/good/404", b"12345").expect("an answer");
    gateway.get("/broken");
    gateway.get("/nothing");
    let _ = gateway.client().request("GET", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    until("all lines are written", || gateway.access_log().len() >= 104);
    let lines = gateway.access_log();
    assert_eq!(lines.len(), 104, "one line each");
    let logged: BTreeSet<String> =
        lines.iter().map(|line| line["request_id"].as_str().expect("an id").to_owned()).collect();
    assert_eq!(logged.len(), 104);
    assert!(ids.is_subset(&logged), "the ids that clients saw");
    let one = lines
        .iter()
        .find(|line| line["path"].as_str().is_some_and(|path| path.starts_with("/good/42")))
        .expect("its line");
    assert_eq!(one["method"], "GET");
    assert_eq!(one["status"], 200);
    assert_eq!(one["host"], "test.example");
    assert_eq!(one["route"], "good");
    assert_eq!(one["service"], "main");
    assert_eq!(one["endpoint"], origin.address.to_string());
    assert_eq!(one["listener"], "web");
    assert_eq!(one["response_bytes"], 10);
    assert_eq!(one["user_agent"], "te\"st\\~");
    assert!(one["client"].as_str().is_some_and(|client| client.starts_with("127.0.0.1:")), "{one}");
    assert!(one["duration_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{one}");
    assert!(one["time"].as_str().is_some_and(|time| time.contains('T')), "{one}");
    let of = |path: &str| {
        lines.iter().find(|line| line["path"] == path).unwrap_or_else(|| panic!("no line of {path}"))
    };
    assert_eq!((&of("/good/404")["status"], &of("/good/404")["request_bytes"]), (&404.into(), &5.into()));
    assert_eq!((&of("/broken")["status"], &of("/broken")["error"]), (&502.into(), &"connect_failed".into()));
    assert_eq!(
        (&of("/nothing")["status"], &of("/nothing")["route"]),
        (&404.into(), &serde_json::Value::Null)
    );
    assert_eq!(lines.iter().filter(|line| line["status"] == 400).count(), 1);
}

#[test]
fn what_clients_send_cannot_break_a_log_line() {
    let (_origin, gateway) = observed();
    let mut client = gateway.client();
    for value in [&b"\xff\xfe\x80"[..], b"\"},{\"", b"a\tb", b"\\u0000\\", "ünï→💥".as_bytes()] {
        let raw = [b"GET /good/\"x\\ HTTP/1.1\r\nHost: a\r\nUser-Agent: ", value, b"\r\n\r\n"].concat();
        client.send_all(&raw);
        let _ = client.wire.read_response("GET");
        client = gateway.client();
    }
    until("all lines are written", || gateway.access_log().len() == 5);
}

#[test]
fn an_aborted_request_is_logged_too() {
    let origin = Backend::serve(|_, conn| {
        conn.wait_end(harness::PATIENCE);
    });
    let gateway = Gateway::before(&[origin.address]);
    let mut client = gateway.client();
    client.send_all(b"GET /gone HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the request arrives", || origin.requests() == 1);
    drop(client);
    until("the line is written", || gateway.access_log().len() == 1);
    let line = &gateway.access_log()[0];
    assert_eq!((&line["status"], &line["error"]), (&499.into(), &"client_closed".into()), "{line}");
    assert_eq!(gateway.metrics().sum("tidegate_requests_total", &[("status", "499")]), 1.0);
}

#[test]
fn a_log_that_cannot_keep_up_drops_lines_and_counts_them() {
    // The log is a pipe that nobody reads: its writer blocks, and requests must not.
    let origin = Backend::fixed("x");
    let directory = process::Directory::new();
    let pipe = directory.path().join("log");
    let status = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs");
    assert!(status.success());
    let reader = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).expect("the pipe opens");
    let config = format!(
        "[log]\naccess = \"{}\"\n[service.main]\nendpoints = [\"@origin@\"]\n[[route]]\nto = \"main\"\n",
        pipe.display()
    );
    let gateway = Gateway::start(&config, &[("origin", origin.address)]);
    let filler = format!("User-Agent: {}\r\n", "f".repeat(4000));
    let mut client = gateway.client();
    let mut sent = 0;
    until("lines are dropped", || {
        for _ in 0..500 {
            assert_eq!(client.get_with("/", &filler).expect("requests go on").status, 200);
            sent += 1;
        }
        gateway.metrics().sum("tidegate_access_log_dropped_total", &[]) > 0.0
    });
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("tidegate_requests_total", &[]), f64::from(sent));
    drop(reader);
}

#[test]
fn health_and_readiness_are_told() {
    let (_origin, gateway) = observed();
    for path in ["/healthz", "/readyz"] {
        assert_eq!(gateway.admin_get(path).expect("an answer").status, 200, "{path}");
    }
    assert_eq!(gateway.admin_get("/no-such-page").expect("an answer").status, 404);
    let mut admin = Client::connect(gateway.address("admin"));
    let posted = admin
        .request("POST", b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        .expect("an answer");
    assert_eq!(posted.status, 405);
    let foreign = b"POST /reload HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n";
    let refused = Client::connect(gateway.address("admin")).request("POST", foreign).expect("an answer");
    assert_eq!(refused.status, 403, "a page in a browser cannot reload the gateway");
    assert_eq!(gateway.get("/metrics").status, 404, "the admin's pages are the admin's only");
}

#[test]
fn the_driver_is_told() {
    let (_origin, gateway) = observed();
    let metrics = gateway.metrics();
    let drivers: BTreeSet<String> = metrics
        .matching("tidegate_worker_driver_info", &[])
        .map(|sample| sample.labels["driver"].clone())
        .collect();
    assert_eq!(drivers.len(), 1, "{drivers:?}");
    let driver = drivers.first().expect("one").clone();
    if let Ok(wanted) = std::env::var("TIDEGATE_TEST_DRIVER")
        .map_err(drop)
        .and_then(|d| if d == "auto" { Err(()) } else { Ok(d) })
    {
        assert_eq!(driver, wanted);
    }
    gateway.until_stderr(&format!("workers on {driver}"));
    assert_eq!(metrics.sum("tidegate_workers", &[]), 2.0);
}
