//! Promise: no worker ever frees a configuration, however long a request keeps it, since freeing a large one would
//! stall every other request of its core. A debug build ends at once if a worker does (`Drop` of `Snapshot`), so these
//! tests only have to bring about every order in which a configuration can be let go of.
//! `scripts/proof routes` measures the same with 100,000 routes.

mod harness;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::gateway::Reload;
use harness::{Backend, Gateway, backend, until};

const ROUTES: usize = 500;
const RELOADS: usize = 5;

fn config(generation: usize) -> String {
    let mut text = String::from("[listen.web]\naddress = \"@web@\"\n[service.a]\nendpoints = [\"@a@\"]\n");
    for n in 0..ROUTES {
        text += &format!("[[route]]\nmatch = {{ path = \"/{generation}/{n}/**\" }}\nto = \"a\"\n");
    }
    text + "[[route]]\nmatch = { path = \"/here\" }\nrespond = { body = \"here\" }\n\
            [[route]]\nmatch = { path = \"/held\" }\nto = \"a\"\n"
}

fn retired(gateway: &Gateway) -> f64 {
    gateway.metrics().sum("tidegate_config_retired", &[])
}

/// A backend that answers once `open` is set.
fn holding(open: &Arc<AtomicBool>) -> Backend {
    let open = open.clone();
    Backend::serve(move |_, conn| {
        until("the test lets go", || open.load(Ordering::SeqCst));
        // The test sees it if this fails.
        let _ = conn.write(&backend::ok(b"held"));
    })
}

fn start(address: SocketAddr) -> Gateway {
    Gateway::start(&config(0), &[("a", address)])
}

#[test]
fn idle_workers_let_go_and_the_rest_is_freed_elsewhere() {
    let backend = Backend::fixed("a");
    let mut gateway = start(backend.address);
    let mut client = gateway.client();
    for generation in 1..=RELOADS {
        assert_eq!(client.get("/here").unwrap().body, b"here");
        assert_eq!(gateway.reload(&config(generation)), Reload::Taken);
    }
    until("everything is freed", || retired(&gateway) == 0.0);
    assert!(gateway.is_running(), "{}", gateway.stderr());
}

#[test]
fn a_request_keeps_its_configuration_and_does_not_free_it() {
    let open = Arc::new(AtomicBool::new(false));
    let backend = holding(&open);
    let mut gateway = start(backend.address);
    let mut client = gateway.client();
    client.send_all(b"GET /held HTTP/1.1\r\nhost: a\r\n\r\n");
    until("the request is under way", || backend.requests() == 1);
    for generation in 1..=RELOADS {
        assert_eq!(gateway.reload(&config(generation)), Reload::Taken);
    }
    until("only what the request has is left", || retired(&gateway) == 1.0);
    open.store(true, Ordering::SeqCst);
    assert!(client.read_some(1).unwrap().starts_with(b"H"));
    until("the last one is freed", || retired(&gateway) == 0.0);
    assert!(gateway.is_running(), "{}", gateway.stderr());
}
