//! Wherever its client leaves it, a request is counted once, logged once, and nothing of it stays: in its head, in its body, while somebody
//! else decides about it, in a line, while it is delayed, at the endpoint, or after its answer.

mod harness;

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use harness::{Backend, Conn, Gateway, Request, backend, until};

const CLIENTS: u64 = 8;
const REQUESTS_EACH: u64 = 80;
/// Where a request passes on its way.
const WAYS: [&str; 4] = ["plain", "queue", "delay", "asked"];

/// Answers after some milliseconds, which differ.
fn slow_backend() -> Backend {
    Backend::serve(|request: &Request, connection: &mut Conn| {
        let id: u64 = request.target.rsplit('/').next().and_then(|id| id.parse().ok()).unwrap_or(0);
        thread::sleep(Duration::from_millis(id * 7 % 11));
        let _ = connection.write(&backend::ok(b"done"));
    })
}

const CONFIG: &str = r#"
workers = 2
[log]
access = "access.log"
[listen.web]
address = "@web@"
[service.main]
endpoints = ["@main@"]
concurrency = { requests = 3, queue = 100 }
outlier.failures = "off"
[service.decides]
endpoints = ["@decides@"]
outlier.failures = "off"
[authorizer.asked]
to = "decides"
path = "/9"
[[route]]
match.path = "/delay/**"
fault = { delay = "5ms", delay_percent = 100 }
to = "main"
[[route]]
match.path = "/asked/**"
authorizer = "asked"
to = "main"
[[route]]
match.path = "/**"
to = "main"
"#;

/// A generator of Lehmer's.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0 * 48_271 % 0x7fff_ffff;
        self.0 % bound
    }
}

/// Sends requests and leaves most of them somewhere; the paths of those that were answered.
fn come_and_go(gateway: &Gateway, number: u64) -> Vec<String> {
    let mut random = Random(number + 1);
    let mut answered = Vec::new();
    for id in number * REQUESTS_EACH..(number + 1) * REQUESTS_EACH {
        let path = format!("/{}/{id}", WAYS[random.below(4) as usize]);
        let body = "b".repeat(random.below(3) as usize * 20_000);
        let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len());
        let whole = format!("{head}{body}").into_bytes();
        let mut client = gateway.client();
        match random.below(4) {
            0 => {
                assert_eq!(client.request("POST", &whole).unwrap().status, 200, "{path}");
                answered.push(path);
            }
            // In its head, or in its body.
            1 => {
                client.send(&whole[..1 + random.below(whole.len() as u64 - 1) as usize]);
                client.reset();
            }
            _ => {
                client.send(&whole);
                thread::sleep(Duration::from_millis(random.below(12)));
                client.reset();
            }
        }
    }
    answered
}

#[test]
fn each_request_is_counted_and_logged_once_wherever_it_is_left() {
    let (main, decides) = (slow_backend(), slow_backend());
    let gateway = Gateway::start(CONFIG, &[("main", main.address), ("decides", decides.address)]);
    let answered: Vec<String> = thread::scope(|scope| {
        let gateway = &gateway;
        let clients: Vec<_> =
            (0..CLIENTS).map(|number| scope.spawn(move || come_and_go(gateway, number))).collect();
        clients.into_iter().flat_map(|client| client.join().expect("no panic")).collect()
    });
    for gauge in [
        "tidegate_requests_active",
        "tidegate_endpoint_in_flight",
        "tidegate_service_places_taken",
        "tidegate_service_waiting",
    ] {
        until(gauge, || gateway.metrics().sum(gauge, &[]) == 0.0);
    }
    until("every request that was counted is logged", || {
        gateway.access_log().len() as f64 == gateway.metrics().sum("tidegate_requests_total", &[])
    });
    let mut lines: HashMap<String, Vec<u64>> = HashMap::new();
    for line in gateway.access_log() {
        let path = line["path"].as_str().unwrap_or_default();
        lines.entry(path.to_owned()).or_default().push(line["status"].as_u64().unwrap());
    }
    for path in &answered {
        assert_eq!(lines.get(path), Some(&vec![200]), "{path}");
    }
    // Heads that broke off have no path.
    let twice: Vec<_> = lines.iter().filter(|(path, seen)| !path.is_empty() && seen.len() > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let metrics = gateway.metrics();
    let of = |status: &str| metrics.sum("tidegate_requests_total", &[("status", status)]);
    assert!(of("499") > 50.0, "{} were left", of("499"));
    assert!(of("200") >= answered.len() as f64);
    assert_eq!(metrics.sum("tidegate_panics_total", &[]), 0.0);
}
