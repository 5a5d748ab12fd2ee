//! What fails is left alone and comes back: endpoints whose requests fail or whose checks do, services most of whose requests fail, and
//! endpoints that an operator takes out. Requests that another endpoint can answer are answered by it, and none is asked twice for nothing.

mod harness;

use std::sync::Arc;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering::Relaxed;

use harness::backend::{answer, ok};
use harness::{Backend, Gateway, Response, until};

/// A backend whose answers can be switched, to requests and to checks.
struct Switched {
    backend: Backend,
    status: Arc<AtomicU16>,
    health: Arc<AtomicU16>,
}

impl Switched {
    fn start(name: &'static str) -> Switched {
        let (status, health) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicU16::new(200)));
        let (says, is) = (status.clone(), health.clone());
        let backend = Backend::serve(move |request, connection| {
            let status = if request.target == "/healthz" { is.load(Relaxed) } else { says.load(Relaxed) };
            let bytes =
                if status == 200 { ok(name.as_bytes()) } else { answer(&format!("{status} No"), "", b"no") };
            let _ = connection.write(&bytes);
        });
        Switched { backend, status, health }
    }

    fn address(&self) -> String {
        self.backend.address.to_string()
    }
}

const LONG: &str = "interval = \"100ms\", timeout = \"5s\"";

/// A gateway before two such backends, with these keys for their service.
fn two(keys: &str) -> (Gateway, Switched, Switched) {
    let (one, two) = (Switched::start("one"), Switched::start("two"));
    let config = config("[\"@one@\", \"@two@\"]", keys);
    let gateway = Gateway::start(&config, &[("one", one.backend.address), ("two", two.backend.address)]);
    (gateway, one, two)
}

/// One worker, so that the order of the endpoints is known.
fn config(endpoints: &str, keys: &str) -> String {
    format!(
        "workers = 1\n[admin]\naddress = \"@admin@\"\n[listen.web]\naddress = \"@web@\"\n\
         [[route]]\nto = \"m\"\n[service.m]\nendpoints = {endpoints}\n{keys}\n"
    )
}

fn up(gateway: &Gateway, of: &Switched) -> f64 {
    gateway.metrics().sum("tidegate_endpoint_up", &[("endpoint", &of.address())])
}

fn until_up(gateway: &Gateway, of: &Switched, is_up: bool) {
    gateway.until_metric("tidegate_endpoint_up", &[("endpoint", &of.address())], f64::from(is_up));
}

/// Who answers so many requests, in their order.
fn who(gateway: &Gateway, count: usize) -> Vec<String> {
    let mut client = gateway.client();
    (0..count).map(|_| client.get("/").unwrap().text()).collect()
}

fn post(gateway: &Gateway, body: &str) -> Response {
    let head =
        format!("POST /services HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    harness::Client::connect(gateway.address("admin")).request("POST", head.as_bytes()).unwrap()
}

#[test]
fn bad_answers_in_a_row_eject_and_time_brings_back() {
    let (gateway, one, two) = two("outlier = { failures = 5, ejection = \"1s\" }");
    assert_eq!((up(&gateway, &one), up(&gateway, &two)), (1.0, 1.0));
    two.status.store(503, Relaxed);
    let answers = who(&gateway, 60);
    assert_eq!(answers.iter().filter(|answer| *answer == "no").count(), 5, "{answers:?}");
    assert!(answers[10..].iter().all(|answer| answer == "one"));
    assert_eq!((up(&gateway, &one), up(&gateway, &two)), (1.0, 0.0));
    let said = format!("service m: endpoint {} is ejected for 1 s: bad answers", two.address());
    gateway.until_stderr(&said);
    let ejections = gateway.metrics().sum("tidegate_endpoint_ejections_total", &[("service", "m")]);
    assert_eq!(ejections, 1.0);
    two.status.store(200, Relaxed);
    until("it has requests again", || who(&gateway, 2).contains(&"two".into()));
    assert_eq!(up(&gateway, &two), 1.0);
}

#[test]
fn statuses_that_are_about_the_request_eject_nobody() {
    for status in [400, 404, 429, 501, 505] {
        let (gateway, _one, two) = two("");
        two.status.store(status, Relaxed);
        assert_eq!(who(&gateway, 40).iter().filter(|answer| *answer == "no").count(), 20, "{status}");
    }
}

#[test]
fn one_that_is_gone_costs_five_tries_and_no_request() {
    let (gateway, one, two) = two("");
    let address = two.address();
    drop(two);
    assert!(who(&gateway, 100).iter().all(|answer| answer == "one"));
    let failures =
        gateway.metrics().sum("tidegate_endpoint_connect_failures_total", &[("endpoint", &address)]);
    assert_eq!(failures, 5.0);
    assert_eq!(one.backend.requests(), 100);
}

#[test]
fn the_last_one_is_never_ejected() {
    let backend = Switched::start("one");
    backend.status.store(500, Relaxed);
    let gateway = Gateway::start(&config("[\"@one@\"]", ""), &[("one", backend.backend.address)]);
    assert!(who(&gateway, 20).iter().all(|answer| answer == "no"));
    backend.status.store(200, Relaxed);
    assert_eq!(who(&gateway, 1), ["one"]);
}

#[test]
fn an_ejection_lasts_over_a_reload() {
    let (mut gateway, one, two) = two("");
    two.status.store(500, Relaxed);
    who(&gateway, 10);
    assert_eq!(up(&gateway, &two), 0.0);
    two.status.store(200, Relaxed);
    let endpoints = format!("[\"{}\", \"{}\"]", one.address(), two.address());
    gateway.reload(&config(&endpoints, "slow_start = \"1s\""));
    assert!(who(&gateway, 20).iter().all(|answer| answer == "one"));
}

#[test]
fn checks_take_an_endpoint_out_and_bring_it_back() {
    let (gateway, one, two) =
        two(&format!("outlier.failures = \"off\"\nhealth = {{ path = \"/healthz\", {LONG} }}"));
    who(&gateway, 1);
    two.health.store(503, Relaxed);
    until_up(&gateway, &two, false);
    gateway.until_stderr(&format!("service m: endpoint {} is down: it answers 503", two.address()));
    let before = two.backend.requests();
    assert!(who(&gateway, 40).iter().all(|answer| answer == "one"));
    two.health.store(200, Relaxed);
    until_up(&gateway, &two, true);
    gateway.until_stderr(&format!("service m: endpoint {} is up", two.address()));
    assert!(two.backend.requests() > before, "the checks themselves");
    assert!(who(&gateway, 4).contains(&"two".into()));
    assert_eq!(up(&gateway, &one), 1.0);
    let checks = |name: &str| gateway.metrics().sum(name, &[("endpoint", &two.address())]);
    let (all, failed) =
        (checks("tidegate_endpoint_checks_total"), checks("tidegate_endpoint_failed_checks_total"));
    assert!(failed >= 1.0 && all > failed, "{failed} of {all}");
}

#[test]
fn checks_may_ask_another_port_want_another_status_or_a_connection_alone() {
    // What answers the requests is never asked for its health.
    let doctor = Switched::start("doctor");
    doctor.health.store(418, Relaxed);
    let check = format!("port = {}, path = \"/healthz\", {LONG}", doctor.backend.port());
    let (gateway, one, _two) = two(&format!("health = {{ status = [204, 418], {check} }}"));
    until("checks were made", || doctor.backend.requests() > 4);
    assert_eq!((up(&gateway, &one), one.backend.requests()), (1.0, 0));
    drop(gateway);
    let (gateway, one, _two) = two(&format!("panic = 0\nhealth = {{ {check} }}"));
    until_up(&gateway, &one, false);
    assert_eq!(gateway.get("/").status, 503);
    drop(gateway);
    let (gateway, one, two) = two(&format!("health = {{ type = \"tcp\", {LONG} }}"));
    one.health.store(500, Relaxed);
    let address = two.address();
    drop(two);
    gateway.until_metric("tidegate_endpoint_up", &[("endpoint", &address)], 0.0);
    assert_eq!(up(&gateway, &one), 1.0);
}

#[test]
fn a_check_that_hangs_is_a_bad_one() {
    let silent = Backend::start(|connection| connection.wait_stop());
    let one = Switched::start("one");
    let keys = "health = { path = \"/healthz\", interval = \"100ms\", timeout = \"200ms\" }";
    let names = [("one", one.backend.address), ("two", silent.address)];
    let gateway = Gateway::start(&config("[\"@one@\", \"@two@\"]", keys), &names);
    gateway.until_metric("tidegate_endpoint_up", &[("endpoint", &silent.address.to_string())], 0.0);
    gateway.until_stderr(&format!("endpoint {} is down: no answer within 200ms", silent.address));
    assert!(who(&gateway, 20).iter().all(|answer| answer == "one"));
}

#[test]
fn without_checks_any_more_nobody_is_down() {
    let (mut gateway, one, two) = two(&format!("health = {{ path = \"/healthz\", {LONG} }}"));
    two.health.store(500, Relaxed);
    until_up(&gateway, &two, false);
    let endpoints = format!("[\"{}\", \"{}\"]", one.address(), two.address());
    gateway.reload(&config(&endpoints, &format!("health = {{ path = \"/healthz\", healthy = 3, {LONG} }}")));
    until("the new checks have begun", || {
        let before = two.backend.requests();
        until("another check", || two.backend.requests() > before);
        true
    });
    assert_eq!(up(&gateway, &two), 0.0, "another way to ask makes nobody well");
    gateway.reload(&config(&endpoints, ""));
    until_up(&gateway, &two, true);
    assert!(who(&gateway, 4).contains(&"two".into()));
}

#[test]
fn a_check_speaks_what_its_service_speaks_after_a_reload_too() {
    let one = Switched::start("one");
    let keys = format!("panic = 0\nhealth = {{ path = \"/healthz\", {LONG} }}");
    let endpoints = format!("[\"{}\"]", one.address());
    let mut gateway = Gateway::start(&config(&endpoints, &keys), &[]);
    assert_eq!(who(&gateway, 1), ["one"]);
    // It speaks HTTP/1.1 alone.
    gateway.reload(&config(&endpoints, &format!("protocol = \"h2\"\n{keys}")));
    until_up(&gateway, &one, false);
    gateway.reload(&config(&endpoints, &keys));
    until_up(&gateway, &one, true);
    assert_eq!(who(&gateway, 1), ["one"]);
}

#[test]
fn with_most_of_them_down_all_are_used_unless_panic_is_off() {
    for (keys, status) in [("", 200), ("panic = 0\n", 503)] {
        let (gateway, one, two) = two(&format!("{keys}health = {{ path = \"/healthz\", {LONG} }}"));
        [&one, &two].iter().for_each(|of| of.health.store(500, Relaxed));
        [&one, &two].iter().for_each(|of| until_up(&gateway, of, false));
        let answer = gateway.get("/");
        assert_eq!(answer.status, status, "{keys}");
        if status == 503 {
            assert!(answer.text().contains("no_endpoint"), "{}", answer.text());
        }
    }
}

#[test]
fn the_next_priority_serves_when_the_first_cannot() {
    let backends = ["one", "two", "spare"].map(Switched::start);
    let [one, two, spare] = &backends;
    let endpoints = "[\"@one@\", \"@two@\", { address = \"@spare@\", priority = 1 }]";
    let keys = format!("health = {{ path = \"/healthz\", {LONG} }}");
    let names =
        [("one", one.backend.address), ("two", two.backend.address), ("spare", spare.backend.address)];
    let gateway = Gateway::start(&config(endpoints, &keys), &names);
    assert!(!who(&gateway, 50).contains(&"spare".into()));
    [one, two].iter().for_each(|of| of.health.store(500, Relaxed));
    [one, two].iter().for_each(|of| until_up(&gateway, of, false));
    assert!(who(&gateway, 50).iter().all(|answer| answer == "spare"));
    one.health.store(200, Relaxed);
    until_up(&gateway, one, true);
    // One of two takes 70 %: 140 % of its half, as Envoy has it.
    let first = who(&gateway, 400).iter().filter(|answer| *answer == "one").count();
    assert!((220..340).contains(&first), "{first} of 400");
}

#[test]
fn an_operator_takes_an_endpoint_out_and_back_in() {
    let (gateway, one, two) = two("");
    let drain = |of: &str, drained: bool| {
        post(&gateway, &format!("{{\"service\": \"m\", \"endpoint\": \"{of}\", \"drained\": {drained}}}"))
    };
    let answer = drain(&two.address(), true);
    assert_eq!(answer.status, 200);
    let shown: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let states: Vec<&str> = shown["services"][0]["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["up", "drained"]);
    assert!(who(&gateway, 40).iter().all(|answer| answer == "one"));
    assert_eq!(drain(&one.address(), true).status, 200);
    assert_eq!(gateway.get("/").status, 503, "not in a panic either");
    assert_eq!(drain(&two.address(), false).status, 200);
    assert!(who(&gateway, 40).iter().all(|answer| answer == "two"));
    assert_eq!(drain("127.0.0.1:1", true).status, 404);
    assert_eq!(post(&gateway, "{\"service\": \"m\", \"breaker\": \"reset\"}").status, 404, "it has none");
}

/// A gateway before one such backend, with this breaker.
fn breaker(keys: &str) -> (Gateway, Switched) {
    let backend = Switched::start("one");
    let config = config("[\"@one@\"]", &format!("breaker = {keys}"));
    let gateway = Gateway::start(&config, &[("one", backend.backend.address)]);
    (gateway, backend)
}

fn statuses(gateway: &Gateway, count: usize) -> Vec<u16> {
    let mut client = gateway.client();
    (0..count).map(|_| client.get("/").unwrap().status).collect()
}

#[test]
fn a_service_that_fails_is_spared_and_probed_and_used_again() {
    let (gateway, backend) = breaker("{ window = \"1s\", requests = 10, probes = 2 }");
    backend.status.store(500, Relaxed);
    assert_eq!(statuses(&gateway, 10), [500; 10]);
    assert_eq!(statuses(&gateway, 30), [503; 30]);
    assert_eq!(backend.backend.requests(), 10, "rejections do not reach it");
    let answer = gateway.get("/");
    assert!(answer.text().contains("urn:tidegate:error:breaker_open"), "{}", answer.text());
    assert_eq!(answer.get("retry-after"), Some("1"));
    let metric = |name: &str| gateway.metrics().sum(name, &[("service", "m")]);
    assert_eq!(metric("tidegate_breaker_state"), 2.0);
    assert_eq!(
        (metric("tidegate_breaker_opened_total"), metric("tidegate_breaker_rejected_total")),
        (1.0, 31.0)
    );
    // A window later one request tries; it fails, and all is as before.
    until("a probe goes", || gateway.get("/").status == 500);
    assert_eq!(backend.backend.requests(), 11);
    assert_eq!(statuses(&gateway, 5), [503; 5]);
    backend.status.store(200, Relaxed);
    until("a probe goes", || gateway.get("/").status == 200);
    assert_eq!(statuses(&gateway, 20), [200; 20], "its second probe is one of them");
    assert_eq!((metric("tidegate_breaker_state"), metric("tidegate_breaker_opened_total")), (0.0, 2.0));
}

#[test]
fn a_breaker_is_reset_by_hand() {
    let (gateway, backend) = breaker("\"adaptive\"");
    backend.status.store(500, Relaxed);
    assert_eq!(statuses(&gateway, 21), [&[500; 20][..], &[503]].concat());
    backend.status.store(200, Relaxed);
    let answer = post(&gateway, "{\"service\": \"m\", \"breaker\": \"reset\"}");
    let shown: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let breaker = serde_json::json!({ "state": "passing", "requests": 0, "failures": 0, "rejected": 1 });
    assert_eq!((answer.status, &shown["services"][0]["breaker"]), (200, &breaker));
    assert_eq!(statuses(&gateway, 20), [200; 20]);
}

#[test]
fn half_of_the_requests_pass_while_a_fifth_fails() {
    let count = AtomicU16::new(0);
    let backend = Backend::serve(move |_, connection| {
        let is_bad = count.fetch_add(1, Relaxed).is_multiple_of(5);
        let _ = connection.write(&if is_bad { answer("500 No", "", b"no") } else { ok(b"yes") });
    });
    let config = config("[\"@one@\"]", "breaker = { window = \"1h\" }");
    let gateway = Gateway::start(&config, &[("one", backend.address)]);
    let rejected = statuses(&gateway, 420).iter().filter(|status| **status == 503).count();
    // Five standard deviations around 200.
    assert!((150..250).contains(&rejected), "{rejected}");
    assert_eq!(backend.requests(), 420 - rejected as u64);
    gateway.until_metric("tidegate_breaker_state", &[("service", "m")], 1.0);
}

#[test]
fn what_a_client_gives_up_is_no_failure() {
    let backend = Backend::serve(|_, connection| _ = connection.wait_end(harness::PATIENCE));
    let config = config("[\"@one@\"]", "breaker = { window = \"1h\", requests = 1 }");
    let gateway = Gateway::start(&config, &[("one", backend.address)]);
    for number in 1..=5 {
        let mut client = gateway.client();
        client.send_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        until("the request is there", || backend.requests() == number);
        client.reset();
    }
    gateway.until_metric("tidegate_request_errors_total", &[("kind", "client_closed")], 5.0);
    assert_eq!(gateway.metrics().sum("tidegate_breaker_state", &[("service", "m")]), 0.0);
}
