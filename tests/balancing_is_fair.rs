//! Promise: each way of balancing spreads requests as its name says, across all workers, and what is in flight is
//! counted exactly: after any storm of requests cut short, every gauge is back at zero.

mod harness;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;

use harness::{Backend, Gateway, Random, backend, until};

const NAMES: [&str; 4] = ["b0", "b1", "b2", "b3"];

fn named(name: &'static str) -> Backend {
    Backend::serve(move |_, conn| drop(conn.write(&backend::ok(name.as_bytes()))))
}

/// How often each backend answered these requests, from one connection each or all from one.
fn tally(gateway: &Gateway, requests: usize, fields: impl Fn(usize) -> String) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let mut client = gateway.client();
    for number in 0..requests {
        if number % 50 == 0 {
            client = gateway.client();
        }
        let answer = client.get_with("/", &fields(number)).expect("an answer");
        *counts.entry(answer.text()).or_default() += 1;
    }
    counts
}

fn gateway_of(service: &str, backends: &[Backend]) -> Gateway {
    let names: Vec<(&str, SocketAddr)> =
        NAMES.iter().zip(backends).map(|(name, b)| (*name, b.address)).collect();
    Gateway::start(&format!("[service.main]\n{service}\n[[route]]\nname = \"all\"\nto = \"main\"\n"), &names)
}

fn four() -> Vec<Backend> {
    NAMES.map(named).into()
}

const ALL: &str = "endpoints = [\"@b0@\", \"@b1@\", \"@b2@\", \"@b3@\"]";

#[test]
fn round_robin_takes_turns() {
    let backends = four();
    let counts = tally(&gateway_of(ALL, &backends), 400, |_| String::new());
    assert_eq!(counts.len(), 4, "{counts:?}");
    // Each worker takes its own turns, so the counts differ by the workers at most, times the connections.
    assert!(counts.values().all(|count| (92..=108).contains(count)), "{counts:?}");
}

#[test]
fn weights_are_proportions() {
    let backends = four();
    let service =
        "endpoints = [{ address = \"@b0@\", weight = 5 }, { address = \"@b1@\", weight = 2 }, \"@b2@\"]";
    for balance in ["round-robin", "random", "least-request"] {
        let gateway = gateway_of(&format!("{service}\nbalance = \"{balance}\""), &backends);
        let counts = tally(&gateway, 1600, |_| String::new());
        let share = |name: &str| *counts.get(name).unwrap_or(&0) as f64 / 1600.0;
        let close = |name, expected: f64| (share(name) - expected).abs() < 0.07;
        assert!(close("b0", 0.625) && close("b1", 0.25) && close("b2", 0.125), "{balance}: {counts:?}");
        assert!(!counts.contains_key("b3"), "{counts:?}");
    }
}

#[test]
fn random_reaches_everyone() {
    let backends = four();
    let counts =
        tally(&gateway_of(&format!("{ALL}\nbalance = \"random\""), &backends), 800, |_| String::new());
    assert!(counts.len() == 4 && counts.values().all(|count| (120..=290).contains(count)), "{counts:?}");
}

#[test]
fn least_request_avoids_the_busy() {
    let busy = Backend::serve(|request, conn| match request.target.as_str() {
        "/hold" => drop(conn.wait_end(harness::PATIENCE).is_some()),
        _ => drop(conn.write(&backend::ok(b"busy"))),
    });
    let free = named("free");
    let config = "[service.main]\nendpoints = [\"@busy@\", \"@free@\"]\nbalance = \"least-request\"\n\
                  [service.held]\nendpoints = [\"@busy@\"]\n\
                  [[route]]\nto = \"main\"\n";
    let gateway = Gateway::start(config, &[("busy", busy.address), ("free", free.address)]);
    // Requests to hold: those that land on the busy one stay there, on whichever worker they came in.
    let mut held = Vec::new();
    until("ten requests are held", || {
        let mut client = gateway.client();
        client.send_all(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
        held.push(client);
        gateway.metrics().sum("tidegate_endpoint_in_flight", &[("service", "main")]) >= 1.0
            && held.len() >= 10
    });
    let counts = tally(&gateway, 300, |_| String::new());
    let to_busy = counts.get("busy").copied().unwrap_or(0);
    // A request just answered may still be counted for a moment on another worker, so that a choice is a tie.
    assert!(to_busy <= 10, "with requests in flight there, each choice of two prefers the other: {counts:?}");
    drop(held);
    gateway.until_metric("tidegate_endpoint_in_flight", &[], 0.0);
    let after = tally(&gateway, 300, |_| String::new());
    assert!(after.values().all(|count| *count > 90), "and comes back when it is free: {after:?}");
}

#[test]
fn hashing_sends_the_same_key_to_the_same_endpoint() {
    let backends = four();
    for (by, field) in [("header:x-user", "X-User: "), ("cookie:session", "Cookie: a=b; session=")] {
        let gateway = gateway_of(&format!("{ALL}\nbalance = \"hash\"\nhash_by = \"{by}\""), &backends);
        let mut home: BTreeMap<usize, String> = BTreeMap::new();
        for round in 0..3 {
            // The load is bounded: a request still counted elsewhere may move a key, so none is left.
            gateway.until_metric("tidegate_endpoint_in_flight", &[], 0.0);
            let mut client = gateway.client();
            for key in 0..120 {
                let answer =
                    client.get_with("/", &format!("{field}user-{key}\r\n")).expect("an answer").text();
                let known = home.entry(key).or_insert(answer.clone());
                assert_eq!(*known, answer, "{by}: key {key} moved in round {round}");
            }
        }
        let used: std::collections::BTreeSet<&String> = home.values().collect();
        assert_eq!(used.len(), 4, "{by}: 120 keys use all endpoints");
    }
}

#[test]
fn hashing_moves_few_keys_when_an_endpoint_leaves() {
    let backends = four();
    let config = |endpoints: &str| {
        format!(
            "[service.main]\n{endpoints}\nbalance = \"hash\"\nhash_by = \"query:k\"\n[[route]]\nto = \"main\"\n"
        )
    };
    let names: Vec<(&str, SocketAddr)> =
        NAMES.iter().zip(&backends).map(|(name, b)| (*name, b.address)).collect();
    let mut gateway = Gateway::start(&config(ALL), &names);
    let homes = |gateway: &Gateway| -> Vec<String> {
        let mut client = gateway.client();
        (0..300).map(|key| client.get(&format!("/?k={key}")).expect("an answer").text()).collect()
    };
    let before = homes(&gateway);
    gateway.reload(&config("endpoints = [\"@b0@\", \"@b1@\", \"@b3@\"]"));
    let after = homes(&gateway);
    let moved = before.iter().zip(&after).filter(|(a, b)| a != b && *a != "b2").count();
    assert!(!after.contains(&"b2".to_owned()));
    assert!(moved <= 15, "{moved} of 300 keys moved although their endpoint stayed");
}

#[test]
fn in_flight_counts_return_to_zero() {
    let per_thread = if harness::proof() { 12_500 } else { 400 };
    let origin = || {
        Backend::serve(|request, conn| {
            let size = request.target.trim_start_matches('/').parse().unwrap_or(10usize);
            let _ = conn.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").as_bytes());
            let _ = conn.write(&vec![b'b'; size]);
        })
    };
    let (first, second) = (origin(), origin());
    let config = "[limits]\nbody = \"off\"\n[service.main]\nendpoints = [\"@first@\", \"@second@\"]\nbalance = \"least-request\"\n\
                  [[route]]\nto = \"main\"\n";
    let gateway = Gateway::start(config, &[("first", first.address), ("second", second.address)]);
    let web = gateway.web();
    thread::scope(|scope| {
        for seed in 1..=8 {
            scope.spawn(move || kill_at_random_points(web, Random(seed * 104_729), per_thread));
        }
    });
    gateway.until_metric("tidegate_requests_active", &[], 0.0);
    gateway.until_metric("tidegate_connections_active", &[], 0.0);
    for address in [first.address, second.address] {
        let label = address.to_string();
        gateway.until_metric("tidegate_endpoint_in_flight", &[("endpoint", &label)], 0.0);
    }
    assert_eq!(gateway.metrics().sum("tidegate_panics_total", &[]), 0.0);
    let finished = gateway.metrics().sum("tidegate_requests_total", &[]);
    assert!(finished > f64::from(per_thread), "requests were really made: {finished}");
    assert_eq!(gateway.get("/10").status, 200);
}

/// Requests whose client leaves after a random part of the request or of the answer, politely or not.
fn kill_at_random_points(web: SocketAddr, mut random: Random, count: u32) {
    for _ in 0..count {
        let size = random.below(60_000);
        let raw =
            format!("POST /{size} HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n{}", "q".repeat(2000));
        let Ok(mut client) = harness::Client::try_connect(web) else { continue };
        let cut = random.below(raw.len() as u64 + 1500) as usize;
        client.send_all(&raw.as_bytes()[..cut.min(raw.len())]);
        if cut >= raw.len() && random.below(2) == 0 {
            let _ = client.read_some(random.below(size + 1) as usize + 1);
        }
        if random.below(2) == 0 {
            client.reset();
        }
    }
}
