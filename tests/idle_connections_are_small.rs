//! An idle connection holds a small task and no buffer, and what a crowd of them used goes back to the system.
//! Bounds are generous: debug builds run here, whose tasks are larger; docs/benchmarks.md has the figures.

mod harness;

use std::time::Duration;

use harness::process::raise_open_files;
use harness::{Backend, Client, Gateway, until, within};

const CONNECTIONS: usize = 5_000;
const BYTES_PER_CONNECTION: u64 = 3 * 1024;
/// What must be back, of a hundred.
const RETURNED_PERCENT: u64 = 70;

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
    let bound = CONNECTIONS as u64 * BYTES_PER_CONNECTION;
    let small = within(Duration::from_secs(20), || (grown() <= bound).then(grown));
    let held =
        small.unwrap_or_else(|| panic!("{} bytes for each idle connection", grown() / CONNECTIONS as u64));
    drop(clients);
    until("all are closed", || gateway.metrics().sum("tidegate_connections_active", &[]) == 0.0);
    let most = held * (100 - RETURNED_PERCENT) / 100;
    let returned = within(Duration::from_secs(20), || (grown() <= most).then_some(()));
    assert!(returned.is_some(), "of {held} bytes, {} are still held", grown());
}
