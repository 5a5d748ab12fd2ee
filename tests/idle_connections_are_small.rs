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

/// What must be back, of a hundred, and when. What stays once a crowd has been there does not grow with the next: tables
/// that keep their size, code read for the first time. Of a debug build it is 2.4 MB, of a growth seen between 8 and 10.
fn returned() -> (u64, Duration) {
    if proof() { (80, Duration::from_secs(10)) } else { (50, Duration::from_secs(20)) }
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
    let grown = || gateway.resident_bytes().saturating_sub(before);
    let held = crowd_comes(&gateway, &grown);
    let (percent, limit) = returned();
    let most = held * (100 - percent) / 100;
    crowd_is_gone(&gateway, &grown, most, limit);
    // A second one leaves no more than the first may: what each of them left would add up.
    crowd_comes(&gateway, &grown);
    crowd_is_gone(&gateway, &grown, most, limit);
}

/// Opens the connections, uses each, and closes them all: how many bytes they held when they were idle.
fn crowd_comes(gateway: &Gateway, grown: &dyn Fn() -> u64) -> u64 {
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| gateway.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").unwrap().text(), "here");
    }
    let bound = CONNECTIONS as u64 * bytes_per_connection();
    let held = within(Duration::from_secs(20), || (grown() <= bound).then(grown));
    let held =
        held.unwrap_or_else(|| panic!("{} bytes for each idle connection", grown() / CONNECTIONS as u64));
    println!("{CONNECTIONS} idle connections: {} bytes each", held / CONNECTIONS as u64);
    held
}

fn crowd_is_gone(gateway: &Gateway, grown: &dyn Fn() -> u64, most: u64, limit: Duration) {
    let closed = Instant::now();
    until("all are closed", || gateway.metrics().sum("tidegate_connections_active", &[]) == 0.0);
    let returned = within(limit.saturating_sub(closed.elapsed()), || (grown() <= most).then_some(()));
    assert!(returned.is_some(), "{} bytes are still held, more than {most}", grown());
    println!(
        "{CONNECTIONS} idle connections: {most} bytes are left {:?} after their close",
        closed.elapsed()
    );
}
