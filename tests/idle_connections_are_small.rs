//! An idle connection holds a small task and no buffer, and what a crowd of them used goes back to the system.
//! Bounds are generous for debug builds, whose tasks are larger; as a proof, of a release build, they are the goals.

mod harness;

use std::time::{Duration, Instant};

use harness::process::raise_open_files;
use harness::{Backend, Client, Gateway, proof, until, within};

const CONNECTIONS: usize = 5_000;

/// Of resident memory, for each idle connection.
fn bytes_per_connection() -> u64 {
    if proof() { 1536 } else { 3 * 1024 }
}

/// What must be back, of a hundred, and when.
fn returned() -> (u64, Duration) {
    if proof() { (80, Duration::from_secs(10)) } else { (70, Duration::from_secs(20)) }
}

#[test]
fn a_crowd_leaves_no_weight_behind() {
    raise_open_files();
    let backend = Backend::fixed("here");
    let gateway = Gateway::before_with(&[backend.address], "workers = 1", "");
    for _ in 0..50 {
        assert_eq!(gateway.get("/").status, 200);
    }
    let before = gateway.resident_bytes();
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| gateway.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").unwrap().text(), "here");
    }
    let grown = || gateway.resident_bytes().saturating_sub(before);
    let bound = CONNECTIONS as u64 * bytes_per_connection();
    let small = within(Duration::from_secs(20), || (grown() <= bound).then(grown));
    let held =
        small.unwrap_or_else(|| panic!("{} bytes for each idle connection", grown() / CONNECTIONS as u64));
    drop(clients);
    let closed = Instant::now();
    until("all are closed", || gateway.metrics().sum("tidegate_connections_active", &[]) == 0.0);
    let (percent, limit) = returned();
    let most = held * (100 - percent) / 100;
    let returned = within(limit.saturating_sub(closed.elapsed()), || (grown() <= most).then_some(()));
    assert!(returned.is_some(), "of {held} bytes, {} are still held", grown());
    println!(
        "{CONNECTIONS} idle connections: {} bytes each; {percent} % were back {:?} after their close",
        held / CONNECTIONS as u64,
        closed.elapsed()
    );
}
