//! Promise: SIGTERM and SIGQUIT finish what is under way, take nothing new, and end by a deadline; a second SIGTERM, or
//! SIGINT at any time, ends at once. SIGUSR1 reopens the log. Exit codes tell a clean end from a cut one.

mod harness;

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use harness::{Backend, Client, Conn, Fault, Gateway, backend, until};

/// A backend that answers `/slow` in two halves: the second once it was told to.
fn held() -> (Backend, SyncSender<()>) {
    let (tell, told) = sync_channel::<()>(16);
    let told = Mutex::new(told);
    let origin = Backend::serve(move |request, conn| match request.target.as_str() {
        "/slow" => answer_in_halves(conn, &told),
        _ => drop(conn.write(&backend::ok(b"quick"))),
    });
    (origin, tell)
}

fn answer_in_halves(conn: &mut Conn, told: &Mutex<Receiver<()>>) {
    let _ = conn.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
    if told.lock().unwrap().recv_timeout(harness::PATIENCE).is_ok() {
        let _ = conn.write(b"later");
    }
}

/// A client whose request is under way, its head already here.
fn under_way(gateway: &Gateway) -> Client {
    let mut client = gateway.client();
    client.send_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.wire.read_response_head("GET").expect("a head").status, 200);
    client
}

fn finish(client: &mut Client) {
    let (body, _) = client.wire.read_body(harness::Framing::Length(10)).expect("the rest of the answer");
    assert_eq!(body, b"firstlater");
}

#[test]
fn sigterm_finishes_what_is_under_way() {
    drains(libc::SIGTERM);
}

#[test]
fn sigquit_drains_too() {
    drains(libc::SIGQUIT);
}

fn drains(signal: i32) {
    let (origin, tell) = held();
    let mut gateway = Gateway::before(&[origin.address]);
    let mut client = under_way(&gateway);
    let mut idle = gateway.client();
    assert_eq!(idle.get("/").expect("an answer").text(), "quick");
    gateway.signal(signal);
    gateway.until_refused(gateway.web());
    assert!(gateway.is_running(), "a request is under way");
    idle.closes_silently().expect("idle connections are closed");
    tell.send(()).expect("the backend waits");
    finish(&mut client);
    client.closes_silently().expect("a close after the answer");
    let status = gateway.wait_exit(harness::PATIENCE).expect("the gateway ends once all is done");
    assert_eq!(status.code(), Some(0), "a clean end");
}

#[test]
fn readiness_ends_with_the_drain() {
    let (origin, tell) = held();
    let mut gateway = Gateway::before(&[origin.address]);
    let mut client = under_way(&gateway);
    gateway.signal(libc::SIGTERM);
    until("/readyz says no", || gateway.admin_get("/readyz").is_ok_and(|answer| answer.status == 503));
    assert_eq!(gateway.admin_get("/healthz").expect("the process lives").status, 200);
    tell.send(()).expect("the backend waits");
    finish(&mut client);
    assert!(gateway.wait_exit(harness::PATIENCE).is_some());
}

#[test]
fn a_request_sent_while_draining_is_answered_or_refused_but_not_lost_halfway() {
    let (origin, tell) = held();
    let mut gateway = Gateway::before(&[origin.address]);
    let mut kept = gateway.client();
    assert_eq!(kept.get("/").expect("an answer").status, 200);
    let mut client = under_way(&gateway);
    gateway.signal(libc::SIGTERM);
    gateway.until_stderr("drain");
    // The workers hear of the drain one by one: until this one has, an answer is like any other.
    until("an answer that says it is the last, or a close", || match kept.get("/") {
        Ok(answer) => {
            assert_eq!(answer.status, 200);
            answer.get("connection") == Some("close")
        }
        Err(fault) => {
            assert!(matches!(fault, Fault::Closed | Fault::Reset), "{fault:?}");
            true
        }
    });
    tell.send(()).expect("the backend waits");
    finish(&mut client);
    assert!(gateway.wait_exit(harness::PATIENCE).is_some());
}

#[test]
fn a_drain_ends_by_its_deadline() {
    let (origin, _tell) = held();
    let mut gateway = Gateway::before_with(&[origin.address], "[shutdown]\ndeadline = \"1s\"\n", "");
    let mut client = under_way(&gateway);
    let start = Instant::now();
    gateway.signal(libc::SIGTERM);
    gateway.wait_exit(Duration::from_secs(10)).expect("the deadline ends it");
    assert!(start.elapsed() >= Duration::from_millis(900), "before the deadline it waits");
    let cut = client.wire.read_body(harness::Framing::Length(10)).expect_err("half an answer is no answer");
    assert!(matches!(cut, Fault::Truncated(_) | Fault::Reset), "{cut:?}");
}

#[test]
fn a_second_sigterm_stops_at_once() {
    let (origin, _tell) = held();
    let mut gateway = Gateway::before(&[origin.address]);
    let _client = under_way(&gateway);
    gateway.signal(libc::SIGTERM);
    gateway.until_refused(gateway.web());
    assert!(gateway.is_running());
    gateway.signal(libc::SIGTERM);
    gateway.wait_exit(Duration::from_secs(5)).expect("the second one stops it");
}

#[test]
fn sigint_stops_at_once() {
    let (origin, _tell) = held();
    let mut gateway = Gateway::before(&[origin.address]);
    let _client = under_way(&gateway);
    gateway.signal(libc::SIGINT);
    gateway.wait_exit(Duration::from_secs(5)).expect("it stops");
}

#[test]
fn sigwinch_and_sigpipe_mean_nothing() {
    let (origin, _tell) = held();
    let mut gateway = Gateway::before(&[origin.address]);
    gateway.signal(libc::SIGWINCH);
    gateway.signal(libc::SIGPIPE);
    assert_eq!(gateway.get("/").text(), "quick");
    assert!(gateway.is_running());
}

#[test]
fn a_hangup_while_draining_does_not_bring_it_back() {
    let (origin, tell) = held();
    let mut gateway = Gateway::before(&[origin.address]);
    let mut client = under_way(&gateway);
    gateway.signal(libc::SIGTERM);
    gateway.until_refused(gateway.web());
    gateway.signal(libc::SIGHUP);
    tell.send(()).expect("the backend waits");
    finish(&mut client);
    gateway.wait_exit(harness::PATIENCE).expect("it still ends");
}

#[test]
fn sigusr1_reopens_the_log() {
    let origin = Backend::fixed("x");
    let gateway = Gateway::before(&[origin.address]);
    let lines = |name: &str| {
        std::fs::read_to_string(gateway.directory().join(name)).unwrap_or_default().lines().count()
    };
    gateway.get("/before");
    until("the line is written", || lines("access.log") == 1);
    std::fs::rename(gateway.access_log_file(), gateway.directory().join("access.log.1")).expect("a rename");
    gateway.get("/between");
    until("the renamed file still gets lines", || lines("access.log.1") == 2);
    gateway.signal(libc::SIGUSR1);
    until("a new file appears", || gateway.access_log_file().exists());
    gateway.get("/after");
    until("the new file gets lines", || lines("access.log") == 1);
    assert_eq!(lines("access.log.1"), 2);
}

#[test]
fn the_last_log_lines_are_written_before_the_end() {
    let origin = Backend::fixed("x");
    let mut gateway = Gateway::before(&[origin.address]);
    let mut client = gateway.client();
    for _ in 0..500 {
        client.get("/").expect("an answer");
    }
    gateway.signal(libc::SIGTERM);
    assert!(gateway.wait_exit(harness::PATIENCE).is_some());
    assert_eq!(gateway.access_log().len(), 500);
}
