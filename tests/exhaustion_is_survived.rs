//! Promise: when descriptors, the log's disk or memory run out, the gateway sheds what is too much, goes on with the
//! rest, never spins, and is its old self once there is room again.

mod harness;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use harness::process::raise_open_files;
use harness::{Backend, Client, Gateway, Setup, backend, until, within};

const DESCRIPTORS: usize = 160;
/// More than the gateway has descriptors, and more than twice as many connections as it can proxy.
const CLIENTS: usize = 400;

/// A backend that holds its answers back while `held` is set.
fn holding(held: &Arc<AtomicBool>) -> Backend {
    let held = held.clone();
    Backend::serve(move |_, conn| {
        while held.load(SeqCst) {
            thread::sleep(Duration::from_millis(2));
        }
        let _ = conn.write(&backend::ok(b"fine"));
    })
}

fn with_few_descriptors(origin: &Backend) -> Gateway {
    Setup::new()
        .with("origin", origin.address)
        .under(&format!("ulimit -n {DESCRIPTORS}"))
        .start("[service.main]\nendpoints = [\"@origin@\"]\n[[route]]\nto = \"main\"\n")
}

/// The share of one core that the gateway uses over a while in which nothing happens.
fn idle_processor_share(gateway: &Gateway) -> f64 {
    const WHILE: Duration = Duration::from_secs(1);
    let before = gateway.processor_time();
    thread::sleep(WHILE);
    (gateway.processor_time() - before).as_secs_f64() / WHILE.as_secs_f64()
}

fn recovers(gateway: &Gateway) -> Duration {
    let start = Instant::now();
    let served = || Client::connect(gateway.web()).get("/").is_ok_and(|answer| answer.status == 200);
    assert!(within(Duration::from_secs(5), || served().then_some(())).is_some(), "no service 5 s later");
    start.elapsed()
}

#[test]
fn more_clients_than_descriptors_are_turned_away() {
    raise_open_files();
    let origin = Backend::fixed("fine");
    let gateway = with_few_descriptors(&origin);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| gateway.client()).collect();
    let refused = || gateway.metrics().sum("tidegate_connections_refused_total", &[]) as usize;
    until("all are let in or turned away", || {
        refused() + gateway.metrics().sum("tidegate_connections_active", &[]) as usize >= CLIENTS
    });
    clients.retain(|client| !client.answered());
    assert_eq!(clients.len() + refused(), CLIENTS, "who was not let in was closed, and counted");
    assert!(clients.len() > DESCRIPTORS / 2, "only {} were let in", clients.len());
    for client in &mut clients {
        assert_eq!(client.get("/").expect("who was let in is served").status, 200);
    }
    let share = idle_processor_share(&gateway);
    assert!(share < 0.5, "{share} of a core with nothing to do");
    let let_in = clients.len();
    drop(clients);
    let took = recovers(&gateway);
    println!(
        "{CLIENTS} clients, {DESCRIPTORS} descriptors: {let_in} let in and served, the others closed; {:.0} % of a core; \
         served again {took:?} after they left",
        share * 100.0
    );
}

#[test]
fn requests_that_find_no_descriptor_are_told_so() {
    raise_open_files();
    let held = Arc::new(AtomicBool::new(true));
    let origin = holding(&held);
    let gateway = with_few_descriptors(&origin);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    let overloaded = || {
        fs::read_to_string(gateway.access_log_file())
            .unwrap_or_default()
            .matches("\"error\":\"overloaded\"")
            .count()
    };
    until("some requests find no descriptor", || overloaded() > 0);
    let share = idle_processor_share(&gateway);
    assert!(share < 0.5, "{share} of a core while every descriptor is in use");
    held.store(false, SeqCst);
    let mut statuses = Vec::new();
    for client in &mut clients {
        // Closed at once, or answered: nobody is left waiting.
        match client.wire.read_response("GET") {
            Ok(answer) => statuses.push(answer.status),
            Err(fault) => assert!(!matches!(fault, harness::Fault::Timeout), "a client was left waiting"),
        }
    }
    assert!(statuses.iter().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
    assert!(statuses.contains(&200));
    drop(clients);
    println!(
        "every descriptor in use: {:.0} % of a core; served again {:?} later",
        share * 100.0,
        recovers(&gateway)
    );
    assert_eq!(gateway.metrics().sum("tidegate_panics_total", &[]), 0.0);
}
