//! Faults that a route injects: the part of its requests that it says, none that it does not mean, and no endpoint hears of an abort.

mod harness;

use std::time::{Duration, Instant};

use harness::http2::Http2;
use harness::{Backend, Gateway};

fn start(fault: &str) -> (Gateway, Backend) {
    let backend = Backend::fixed("ok");
    let config = format!(
        "workers = 1\n[admin]\naddress = \"@admin@\"\n[listen.web]\naddress = \"@web@\"\n[service.m]\nendpoints = [\"@m@\"]\n\
         [[route]]\nto = \"m\"\nfault = {{ {fault} }}\n"
    );
    (Gateway::start(&config, &[("m", backend.address)]), backend)
}

#[test]
fn so_many_are_answered_with_an_error() {
    let (gateway, backend) = start("abort = 529, abort_percent = 25");
    let mut client = gateway.client();
    let statuses: Vec<u16> = (0..2_000).map(|_| client.get("/").unwrap().status).collect();
    let aborted = statuses.iter().filter(|status| **status == 529).count();
    assert!(statuses.iter().all(|status| [200, 529].contains(status)));
    // Eight standard deviations.
    assert!((345..=655).contains(&aborted), "{aborted} of 2,000");
    assert_eq!(backend.requests(), 2_000 - aborted as u64);
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("tidegate_faults_injected_total", &[]), aborted as f64);
    assert_eq!(metrics.sum("tidegate_request_errors_total", &[("kind", "fault_injected")]), aborted as f64);
}

#[test]
fn an_error_says_what_it_is_and_keeps_the_connection() {
    let (gateway, backend) = start("abort = 503");
    let mut client = gateway.client();
    for _ in 0..3 {
        let answer = client.post("/", b"a body").unwrap();
        assert_eq!(answer.status, 503);
        assert!(answer.text().contains("urn:tidegate:error:fault_injected"), "{}", answer.text());
    }
    assert_eq!(Http2::connect(gateway.web()).get("/").unwrap().status, 503);
    assert_eq!(backend.requests(), 0);
}

#[test]
fn only_requests_that_are_meant_are_touched() {
    let (gateway, _backend) = start("abort = 500, header = { x-chaos = \"on\" }");
    let mut client = gateway.client();
    assert_eq!(client.get("/").unwrap().status, 200);
    assert_eq!(client.get_with("/", "x-chaos: off\r\n").unwrap().status, 200);
    assert_eq!(client.get_with("/", "x-chaos: on\r\n").unwrap().status, 500);
}

#[test]
fn a_delay_counts_as_the_requests_time() {
    let (gateway, backend) =
        start("delay = \"1h\" }\ntimeout = \"200ms\"\nrequest_headers = { remove = \"x\"");
    let answer = gateway.client().get("/").unwrap();
    assert_eq!(answer.status, 504);
    assert!(answer.text().contains("urn:tidegate:error:request_timeout"), "{}", answer.text());
    assert_eq!(backend.requests(), 0);
}

#[test]
fn a_delay_comes_before_the_endpoint_hears_of_it() {
    let (gateway, backend) = start("delay = \"400ms\"");
    let began = Instant::now();
    assert_eq!(gateway.client().get("/").unwrap().status, 200);
    assert!(began.elapsed() >= Duration::from_millis(400));
    // Who does not wait for it costs the endpoint nothing.
    let mut gone = gateway.client();
    gone.send_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    gateway.until_metric("tidegate_faults_injected_total", &[], 2.0);
    drop(gone);
    gateway.until_metric("tidegate_requests_active", &[], 0.0);
    assert_eq!(backend.requests(), 1);
}
