//! Long-lived connections end up even on all workers however the kernel hashed them, none is lost on the way, and
//! a worker that hangs is seen.

mod harness;

use std::thread;

use harness::process::StoppedThread;
use harness::{Backend, Client, Gateway, until};

/// Far more than the usual difference of a hash would be allowed for.
const CONNECTIONS: usize = 96;

fn by_worker(gateway: &Gateway, workers: usize) -> Vec<f64> {
    let metrics = gateway.metrics();
    let count =
        |worker: usize| metrics.sum("tidegate_worker_connections_active", &[("worker", &worker.to_string())]);
    (0..workers).map(count).collect()
}

#[test]
fn long_lived_connections_are_even() {
    let backend = Backend::fixed("here");
    for workers in [2, 3] {
        let gateway = Gateway::before_with(&[backend.address], &format!("workers = {workers}"), "");
        let mut clients = Vec::new();
        while clients.len() < CONNECTIONS {
            for _ in 0..8 {
                let mut client = gateway.client();
                assert_eq!(client.get("/").unwrap().text(), "here");
                clients.push(client);
            }
            let counts = by_worker(&gateway, workers);
            let (least, most) = counts.iter().fold((f64::MAX, 0.0f64), |(l, m), c| (l.min(*c), m.max(*c)));
            assert_eq!(counts.iter().sum::<f64>(), clients.len() as f64);
            assert!(most <= least + 1.0 + (least / 8.0).floor(), "{counts:?}");
        }
        // All of them serve, handed over or not.
        for client in &mut clients {
            assert_eq!(client.get("/").unwrap().text(), "here");
        }
        assert!(gateway.metrics().sum("tidegate_worker_connections_handed_over_total", &[]) > 0.0);
        drop(clients);
        until("all are closed", || by_worker(&gateway, workers).iter().sum::<f64>() == 0.0);
    }
}

/// Many at once, so that sockets are on their way between workers all the time.
#[test]
fn connections_that_come_all_at_once_are_all_served() {
    let backend = Backend::fixed("here");
    let gateway = Gateway::before_with(&[backend.address], "workers = 4", "");
    let web = gateway.web();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            thread::spawn(move || {
                for _ in 0..200 {
                    let mut client = Client::connect(web);
                    assert_eq!(client.get("/").unwrap().text(), "here");
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    until("all are closed", || by_worker(&gateway, 4).iter().sum::<f64>() == 0.0);
    assert_eq!(gateway.metrics().sum("tidegate_connections_total", &[("listener", "web")]), 1600.0);
}

#[test]
fn a_worker_that_hangs_is_seen_and_handed_nothing() {
    let backend = Backend::fixed("here");
    let gateway = Gateway::before_with(&[backend.address], "workers = 2", "");
    let stuck =
        |worker: &str, value| gateway.until_metric("tidegate_worker_stuck", &[("worker", worker)], value);
    stuck("0", 0.0);
    let Some(stopped) = StoppedThread::stop(gateway.pid(), "worker-1") else {
        return eprintln!("skipped: ptrace is not allowed here");
    };
    stuck("1", 1.0);
    stuck("0", 0.0);
    assert!(gateway.stderr().contains("worker 1 is stuck"), "{}", gateway.stderr());
    // Whoever the kernel gave to the other worker is served, however many they are.
    let mut clients: Vec<Client> = (0..32).map(|_| gateway.client()).collect();
    clients.iter_mut().for_each(|client| client.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    until("the other worker goes on", || clients.iter().any(Client::answered));
    drop(stopped);
    stuck("1", 0.0);
    until("all are answered", || clients.iter().all(Client::answered));
    assert!(gateway.stderr().contains("worker 1 turns again"), "{}", gateway.stderr());
    gateway.until_metric("tidegate_worker_stuck_total", &[("worker", "1")], 1.0);
    gateway.until_metric("tidegate_worker_stuck_total", &[("worker", "0")], 0.0);
}
