//! How many requests a service has at once: never more than it has places, from whichever worker and over whichever protocol; who waits
//! is served in turns; who leaves holds up nobody; and a full line is told at once.

mod harness;

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};

use harness::backend::ok;
use harness::gateway::Reload;
use harness::http2::Http2;
use harness::{Backend, Gateway, Response};

/// A backend that answers when it is let: knows who has come, in their order.
struct Held {
    backend: Backend,
    state: Arc<(Mutex<State>, Condvar)>,
    most_at_once: Arc<AtomicUsize>,
}

#[derive(Default)]
struct State {
    arrived: Vec<String>,
    let_go: usize,
    inside: usize,
}

impl Held {
    fn start() -> Held {
        let state = Arc::<(Mutex<State>, Condvar)>::default();
        let most_at_once = Arc::<AtomicUsize>::default();
        let (shared, most) = (state.clone(), most_at_once.clone());
        let backend = Backend::serve(move |request, connection| {
            let (lock, changed) = &*shared;
            let mut state = lock.lock().unwrap();
            state.arrived.push(request.target.clone());
            state.inside += 1;
            most.fetch_max(state.inside, SeqCst);
            let mut state = changed.wait_while(state, |state| state.let_go == 0).unwrap();
            state.let_go -= 1;
            state.inside -= 1;
            // Before the answer, which the next one may follow at once.
            drop(state);
            let _ = connection.write(&ok(request.target.as_bytes()));
        });
        Held { backend, state, most_at_once }
    }

    fn let_go(&self, count: usize) {
        self.state.0.lock().unwrap().let_go += count;
        self.state.1.notify_all();
    }

    fn arrived(&self) -> Vec<String> {
        self.state.0.lock().unwrap().arrived.clone()
    }

    fn until_arrived(&self, count: usize) {
        harness::until(&format!("{count} have arrived"), || self.arrived().len() >= count);
        assert_eq!(self.arrived().len(), count, "{:?}", self.arrived());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.let_go(1_000_000);
    }
}

fn config(workers: usize, concurrency: &str) -> String {
    format!(
        "workers = {workers}\n[admin]\naddress = \"@admin@\"\n[listen.web]\naddress = \"@web@\"\n\
         [service.m]\nendpoints = [\"@m@\"]\nconcurrency = {{ {concurrency} }}\n[[route]]\nto = \"m\"\n"
    )
}

fn start(workers: usize, concurrency: &str) -> (Gateway, Held) {
    let held = Held::start();
    let gateway = Gateway::start(&config(workers, concurrency), &[("m", held.backend.address)]);
    (gateway, held)
}

/// Asks in the background.
fn ask(gateway: &Gateway, path: &str, tenant: &str) -> JoinHandle<Response> {
    let (mut client, path, fields) = (gateway.client(), path.to_owned(), format!("x-tenant: {tenant}\r\n"));
    thread::spawn(move || client.get_with(&path, &fields).unwrap())
}

fn until_waiting(gateway: &Gateway, count: usize) {
    gateway.until_metric("tidegate_service_waiting", &[("service", "m")], count as f64);
}

#[test]
fn tenants_take_turns_and_nobody_is_lost() {
    let (gateway, held) = start(2, "requests = 1, by = \"header:x-tenant\", wait = \"1m\"");
    let mut asked = vec![ask(&gateway, "/first", "a")];
    held.until_arrived(1);
    for (count, (path, tenant)) in
        [("/a1", "a"), ("/a2", "a"), ("/a3", "a"), ("/b1", "b"), ("/c1", "c"), ("/b2", "b")]
            .iter()
            .enumerate()
    {
        asked.push(ask(&gateway, path, tenant));
        until_waiting(&gateway, count + 1);
    }
    for count in 2..=7 {
        held.let_go(1);
        held.until_arrived(count);
    }
    held.let_go(1);
    assert_eq!(held.arrived(), ["/first", "/a1", "/b1", "/c1", "/a2", "/b2", "/a3"]);
    for asked in asked {
        assert_eq!(asked.join().unwrap().status, 200);
    }
    assert_eq!(held.most_at_once.load(SeqCst), 1);
    gateway.until_metric("tidegate_service_places_taken", &[("service", "m")], 0.0);
}

#[test]
fn there_are_never_more_than_places_whoever_asks() {
    let (gateway, held) = start(2, "requests = 3, queue = 1000, wait = \"1m\"");
    held.let_go(100_000);
    let answers: usize = thread::scope(|scope| {
        let over_http1 = (0..12).map(|_| {
            scope.spawn(|| {
                let mut client = gateway.client();
                (0..60).filter(|_| client.get("/one").unwrap().status == 200).count()
            })
        });
        let over_http2 = (0..4).map(|_| {
            scope.spawn(|| {
                let client = Http2::connect(gateway.web());
                (0..60).filter(|_| client.get("/two").unwrap().status == 200).count()
            })
        });
        let clients: Vec<_> = over_http1.chain(over_http2).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert_eq!((answers, held.arrived().len()), (16 * 60, 16 * 60));
    assert!(held.most_at_once.load(SeqCst) <= 3, "{}", held.most_at_once.load(SeqCst));
    gateway.until_metric("tidegate_service_places_taken", &[("service", "m")], 0.0);
    assert_eq!(gateway.metrics().sum("tidegate_service_waiting", &[]), 0.0);
}

#[test]
fn one_tenant_has_his_part_and_others_pass_him() {
    let (gateway, held) =
        start(1, "requests = 3, by = \"header:x-tenant\", each = 2, queue = 1, wait = \"1m\"");
    let mut asked = vec![ask(&gateway, "/a1", "a"), ask(&gateway, "/a2", "a")];
    held.until_arrived(2);
    asked.push(ask(&gateway, "/a3", "a"));
    until_waiting(&gateway, 1);
    asked.push(ask(&gateway, "/b1", "b"));
    held.until_arrived(3);
    assert_eq!(held.arrived()[2], "/b1");
    // He may wait for his own, but only so many times.
    let refused = ask(&gateway, "/a4", "a").join().unwrap();
    assert_eq!((refused.status, refused.get("retry-after")), (429, Some("1")));
    assert!(refused.text().contains("urn:tidegate:error:concurrency_limited"), "{}", refused.text());
    held.let_go(4);
    assert!(asked.into_iter().all(|asked| asked.join().unwrap().status == 200));
}

#[test]
fn a_full_line_makes_room_for_another_tenant() {
    let (gateway, held) = start(2, "requests = 1, by = \"header:x-tenant\", queue = 2, wait = \"1m\"");
    let first = ask(&gateway, "/a1", "a");
    held.until_arrived(1);
    let second = ask(&gateway, "/a2", "a");
    until_waiting(&gateway, 1);
    let third = ask(&gateway, "/a3", "a");
    until_waiting(&gateway, 2);
    let mut client = gateway.client();
    let refused = client.get_with("/a4", "x-tenant: a\r\n").unwrap();
    assert_eq!((refused.status, refused.get("retry-after")), (503, Some("1")));
    assert!(refused.text().contains("urn:tidegate:error:queue_full"), "{}", refused.text());
    // Its body does not stand in the way of the next one.
    let posted = b"POST /a5 HTTP/1.1\r\nhost: a\r\nx-tenant: a\r\ncontent-length: 4\r\n\r\nbody";
    assert_eq!(client.request("POST", posted).unwrap().status, 503);
    assert_eq!(client.get_with("/a6", "x-tenant: a\r\n").unwrap().status, 503, "the connection is kept");
    let other = ask(&gateway, "/b1", "b");
    assert_eq!(third.join().unwrap().status, 503, "the last of who has the most");
    held.let_go(3);
    for asked in [first, second, other] {
        assert_eq!(asked.join().unwrap().status, 200);
    }
    assert_eq!(held.arrived().len(), 3);
    let refused = gateway.metrics().sum("tidegate_service_queue_refused_total", &[("service", "m")]);
    assert_eq!(refused, 4.0);
}

#[test]
fn waiting_ends_with_its_time_or_its_client() {
    let (gateway, held) = start(1, "requests = 1, wait = \"300ms\"");
    let first = ask(&gateway, "/1", "");
    held.until_arrived(1);
    let late = ask(&gateway, "/2", "").join().unwrap();
    assert_eq!((late.status, late.get("retry-after")), (503, Some("1")));
    assert!(late.text().contains("urn:tidegate:error:queue_timeout"), "{}", late.text());
    held.let_go(1);
    assert_eq!(first.join().unwrap().status, 200);

    let (gateway, held) = start(1, "requests = 1, wait = \"1m\"");
    let first = ask(&gateway, "/1", "");
    held.until_arrived(1);
    let mut gone = gateway.client();
    gone.send_all(b"GET /gone HTTP/1.1\r\nhost: a\r\n\r\n");
    until_waiting(&gateway, 1);
    let next = ask(&gateway, "/next", "");
    until_waiting(&gateway, 2);
    drop(gone);
    until_waiting(&gateway, 1);
    held.let_go(2);
    assert_eq!((first.join().unwrap().status, next.join().unwrap().status), (200, 200));
    assert_eq!(held.arrived(), ["/1", "/next"]);
}

#[test]
fn a_reload_with_more_room_lets_more_in() {
    let (mut gateway, held) = start(1, "requests = 1, wait = \"1m\"");
    let mut asked = vec![ask(&gateway, "/0", "")];
    held.until_arrived(1);
    for count in 1..=3 {
        asked.push(ask(&gateway, "/1", ""));
        until_waiting(&gateway, count);
    }
    let reload = gateway.reload(&config(1, "requests = 4, wait = \"1m\""));
    assert_eq!(reload, Reload::Taken);
    // Who comes now lets in those who wait, and waits himself.
    asked.push(ask(&gateway, "/2", ""));
    held.until_arrived(4);
    assert_eq!(held.arrived(), ["/0", "/1", "/1", "/1"]);
    until_waiting(&gateway, 1);
    held.let_go(5);
    assert!(asked.into_iter().all(|asked| asked.join().unwrap().status == 200));
    // The last place is given back just behind the answer.
    harness::until("all places are free", || {
        let services = gateway.admin_get("/services").unwrap().text();
        let services: serde_json::Value = serde_json::from_str(&services).unwrap();
        let free = serde_json::json!({"requests": 0, "most": 4, "waiting": 0, "refused": 0});
        services["services"][0]["concurrency"] == free
    });
}
