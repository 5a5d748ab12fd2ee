//! Promise: backends that die, hang or come back, and clients that vanish or stall, cost their own requests at most.
//! Only what is safe to repeat is repeated, what cannot be finished ends visibly, and no fault grows memory.

mod harness;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::process::{BackendProcess, be_a_backend, dead_address, free_port};
use harness::{Backend, Client, Fault, Gateway, backend, until, within};

/// Serves in a process of its own when started by `BackendProcess`; as a test it does nothing.
#[test]
#[ignore = "run by BackendProcess only"]
fn backend_process() {
    be_a_backend(|address| {
        Backend::listen_on(address, |conn| {
            conn.serve(
                &|request: &harness::Request, conn: &mut harness::Conn| match request.target.as_str() {
                    "/half" => {
                        let _ = conn.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhalf");
                        conn.wait_end(Duration::from_secs(60));
                    }
                    "/hang" => {
                        conn.wait_end(Duration::from_secs(60));
                    }
                    _ => drop(conn.write(&backend::ok(b"process"))),
                },
            );
        })
    });
}

#[test]
fn a_killed_backend_comes_back_into_service() {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let process = BackendProcess::start(address);
    let gateway = Gateway::before(&[address]);
    let mut client = gateway.client();
    assert_eq!(client.get("/").expect("an answer").text(), "process");
    // One request waits for its answer, one is in the middle of its body.
    let mut waiting = gateway.client();
    waiting.send_all(b"POST /hang HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    let mut reading = gateway.client();
    reading.send_all(b"GET /half HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(reading.wire.read_response_head("GET").expect("a head").status, 200);
    gateway.until_metric("tidegate_requests_active", &[], 2.0);
    process.kill();
    assert_eq!(waiting.wire.read_response("POST").expect("an answer").status, 502);
    let cut =
        reading.wire.read_body(harness::Framing::Length(1_000_000)).expect_err("half a body is no body");
    assert!(matches!(cut, Fault::Truncated(_) | Fault::Reset), "{cut:?}");
    for _ in 0..5 {
        assert_eq!(client.get("/").expect("an answer").status, 502, "nothing listens there");
    }
    let _back = BackendProcess::start(address);
    assert_eq!(client.get("/").expect("an answer").text(), "process");
}

#[test]
fn killing_one_of_two_backends_loses_no_get() {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let doomed = BackendProcess::start(address);
    let steady = Backend::fixed("steady");
    let gateway = Gateway::before(&[address, steady.address]);
    let mut client = gateway.client();
    for number in 0..200 {
        assert_eq!(client.get("/").expect("an answer").status, 200, "request {number}");
    }
    doomed.kill();
    for number in 0..200 {
        assert_eq!(client.get("/").expect("an answer").text(), "steady", "request {number} after the kill");
    }
}

#[test]
fn a_refused_connection_is_tried_elsewhere_even_for_a_post() {
    let steady = Backend::describing("steady");
    let gateway = Gateway::before(&[dead_address(), steady.address]);
    let mut client = gateway.client();
    for number in 0..20 {
        let answer = client.post("/", b"once").expect("an answer");
        assert_eq!(answer.status, 200, "request {number}: nothing was sent, so all may be tried again");
    }
    assert_eq!(steady.requests(), 20, "and each arrived once");
}

#[test]
fn a_dead_endpoint_spends_no_retry_budget() {
    let steady = Backend::fixed("steady");
    let budget = "retry = { budget_percent = 0, budget_min = 0 }";
    let gateway = Gateway::before_with(&[dead_address(), steady.address], "", budget);
    let mut client = gateway.client();
    for number in 0..20 {
        assert_eq!(client.get("/").expect("an answer").status, 200, "request {number}: nobody saw it before");
    }
}

#[test]
fn the_request_that_asks_for_a_retry_counts_as_under_way() {
    let (hole, steady) = (black_hole(harness::Conn::reset), Backend::fixed("steady"));
    let budget = "retry = { budget_percent = 100, budget_min = 0 }";
    let gateway = Gateway::before_with(&[hole.address, steady.address], "", budget);
    for number in 0..4 {
        assert_eq!(gateway.get("/").status, 200, "request {number}: all requests may be retries");
    }
}

#[test]
fn whom_the_budget_refuses_is_told_of_the_fault_and_counted() {
    let (hole, steady) = (black_hole(harness::Conn::reset), Backend::fixed("steady"));
    let budget = "retry = { budget_percent = 0, budget_min = 0 }";
    let gateway = Gateway::before_with(&[hole.address, steady.address], "", budget);
    let failed = (0..4).filter(|_| gateway.get("/").status == 502).count();
    assert!(failed > 0);
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("tidegate_retries_refused_total", &[]), failed as f64);
    assert_eq!(metrics.sum("tidegate_retries_total", &[]), 0.0);
}

/// A budget of one retry at a time, which four requests want at once: it is theirs one by one.
#[test]
fn a_request_waits_for_room_in_the_budget() {
    let (hole, steady) = (black_hole(harness::Conn::reset), Backend::fixed("steady"));
    let budget = "retry = { budget_percent = 0, budget_min = 1 }";
    let gateway = Gateway::before_with(&[hole.address, steady.address], "", budget);
    thread::scope(|scope| {
        for client in 0..4 {
            let gateway = &gateway;
            scope.spawn(move || {
                for number in 0..50 {
                    assert_eq!(gateway.get("/").status, 200, "request {number} of client {client}");
                }
            });
        }
    });
    let metrics = gateway.metrics();
    assert!(metrics.sum("tidegate_retries_total", &[]) > 0.0);
    assert_eq!(metrics.sum("tidegate_retries_refused_total", &[]), 0.0);
}

#[test]
fn no_backend_at_all_is_a_502() {
    let gateway = Gateway::before(&[dead_address(), dead_address()]);
    let answer = gateway.client().get("/").expect("an answer");
    assert_eq!(answer.status, 502);
    assert_eq!(answer.get("content-type"), Some("application/problem+json"));
}

/// Reads whole requests and answers none of them.
fn black_hole(ending: fn(&mut harness::Conn)) -> Backend {
    Backend::serve(move |_, conn| ending(conn))
}

#[test]
fn a_post_is_never_repeated_once_it_was_sent() {
    for ending in [harness::Conn::reset, harness::Conn::close] {
        let hole = black_hole(ending);
        let gateway = Gateway::before(&[hole.address]);
        for round in 1..=5 {
            let answer = gateway.client().post("/", b"pay 100").expect("an answer");
            assert_eq!(answer.status, 502);
            assert_eq!(hole.requests(), round, "sent {} times in {round} requests", hole.requests());
        }
    }
}

/// What has been passed on is not kept: a body larger than the first buffer can be sent only once.
#[test]
fn an_upload_under_way_is_never_repeated() {
    const LENGTH: usize = 200_000;
    let hole = Backend::start(|conn| {
        let _ = conn.wire.read_head().and_then(|_| conn.wire.take(LENGTH / 2));
        conn.reset();
    });
    let steady = Backend::fixed("steady");
    let gateway = Gateway::before(&[hole.address, steady.address]);
    for round in 1..=10 {
        let seen = gateway.client().request("PUT", &upload(LENGTH)).map(|answer| answer.status);
        let arrived = hole.connections() as u64 + steady.requests();
        assert_eq!(arrived, round, "one arrival for each, whatever becomes of it: {seen:?}");
    }
    assert!(hole.connections() > 0 && steady.requests() > 0);
    assert_eq!(gateway.metrics().sum("tidegate_retries_total", &[]), 0.0);
}

fn upload(length: usize) -> Vec<u8> {
    let head = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
    [head.into_bytes(), vec![b'u'; length]].concat()
}

#[test]
fn a_get_is_repeated_within_its_attempts() {
    let hole = black_hole(harness::Conn::reset);
    let gateway = Gateway::before(&[hole.address]);
    assert_eq!(gateway.client().get("/").expect("an answer").status, 502);
    assert_eq!(hole.requests(), 3, "three attempts by default");
    assert_eq!(gateway.metrics().sum("tidegate_retries_total", &[]), 2.0);

    let never = Gateway::before_with(&[hole.address], "", "retry = { attempts = 1 }");
    assert_eq!(never.client().get("/").expect("an answer").status, 502);
    assert_eq!(hole.requests(), 4, "one attempt if so configured");
}

#[test]
fn a_get_moves_on_to_a_backend_that_answers() {
    let (hole, steady) = (black_hole(harness::Conn::reset), Backend::fixed("steady"));
    let gateway = Gateway::before(&[hole.address, steady.address]);
    let mut client = gateway.client();
    for _ in 0..20 {
        assert_eq!(client.get("/").expect("an answer").text(), "steady");
    }
}

#[test]
fn nothing_is_repeated_once_the_response_began() {
    let origin = Backend::serve(|_, conn| {
        let _ = conn.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin");
        thread::sleep(Duration::from_millis(20));
        conn.reset();
    });
    let gateway = Gateway::before(&[origin.address]);
    for round in 1..=5 {
        let fault = gateway.client().get("/").expect_err("half a body is no answer");
        assert!(matches!(fault, Fault::Truncated(_) | Fault::Reset), "{fault:?}");
        assert_eq!(origin.requests(), round);
    }
}

#[test]
fn statuses_are_retried_only_if_asked_for() {
    let served = Arc::new(AtomicU64::new(0));
    let counter = served.clone();
    let origin = Backend::serve(move |_, conn| {
        let status =
            if counter.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) { "503 Busy" } else { "200 OK" };
        let _ = conn.write(&backend::answer(status, "", b"x"));
    });
    let plain = Gateway::before(&[origin.address]);
    assert_eq!(plain.client().get("/").expect("an answer").status, 503);
    assert_eq!(plain.client().get("/").expect("an answer").status, 200);
    let asked = Gateway::before_with(&[origin.address], "", "retry = { on_status = [503] }");
    assert_eq!(asked.client().get("/").expect("an answer").status, 200);
    assert_eq!(asked.client().post("/", b"x").expect("an answer").status, 503, "not for a POST");
}

#[test]
fn stale_pooled_connections_cost_no_get() {
    // The backend closes each connection after its third answer, without saying so.
    let origin = Backend::serve(|_, conn| {
        let _ = conn.write(&backend::ok(b"fine"));
        conn.last = conn.wire.chunk_lines.len() == 2;
        conn.wire.chunk_lines.push(String::new());
    });
    let gateway = Gateway::before(&[origin.address]);
    let mut client = gateway.client();
    for number in 0..300 {
        assert_eq!(client.get("/").expect("an answer").status, 200, "request {number}");
    }
    // And when all idle ones are cut at once, in either way.
    for reset in [true, false] {
        origin.cut(reset);
        for number in 0..20 {
            assert_eq!(gateway.get("/").status, 200, "request {number} after a cut");
        }
    }
}

#[test]
fn a_client_that_leaves_cancels_its_upstream_request() {
    let ended = Arc::new(AtomicU64::new(0));
    let counter = ended.clone();
    let origin = Backend::serve(move |request, conn| {
        if request.target == "/half" {
            let _ = conn.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf");
        }
        if conn.wait_end(harness::PATIENCE).is_some() {
            counter.fetch_add(1, Ordering::SeqCst);
        }
        conn.last = true;
    });
    let gateway = Gateway::before(&[origin.address]);
    let mut expected = 0;
    for target in ["/hang", "/half"] {
        for how in ["fin", "reset", "fin behind a pipelined request"] {
            let mut client = gateway.client();
            client.send_all(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
            if how.contains("pipelined") {
                client.send_all(b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
            }
            expected += 1;
            until("the request arrives", || origin.requests() == expected);
            match how {
                "reset" => client.reset(),
                _ => drop(client),
            }
            let gone =
                within(Duration::from_secs(3), || (ended.load(Ordering::SeqCst) == expected).then_some(()));
            assert!(gone.is_some(), "{target}, {how}: the upstream connection is still there");
        }
    }
    gateway.until_metric("tidegate_endpoint_in_flight", &[], 0.0);
    gateway.until_metric("tidegate_requests_active", &[], 0.0);
}

/// A download of 256 MiB that nobody reads.
#[test]
fn a_stalled_reader_costs_no_memory() {
    const SIZE: usize = 256 << 20;
    let written = Arc::new(AtomicU64::new(0));
    let counter = written.clone();
    let origin = Backend::serve(move |_, conn| {
        let _ = conn.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes());
        let piece = vec![b'z'; 64 << 10];
        for _ in 0..SIZE / piece.len() {
            if conn.write(&piece).is_err() {
                return conn.close();
            }
            counter.fetch_add(piece.len() as u64, Ordering::SeqCst);
        }
    });
    let gateway = Gateway::before(&[origin.address]);
    assert_eq!(gateway.get("/").body.len(), SIZE, "who reads gets all of it");
    let before = gateway.resident_bytes();
    let start = written.load(Ordering::SeqCst);
    let mut client = gateway.client();
    client.small_receive_buffer();
    client.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    // Stalled means that the backend cannot write any more for a while.
    let mut last = (start, Instant::now());
    until("backpressure reaches the backend", || {
        let now = written.load(Ordering::SeqCst);
        if now != last.0 {
            last = (now, Instant::now());
        }
        now > start && last.1.elapsed() > Duration::from_millis(500)
    });
    let grown = gateway.resident_bytes().saturating_sub(before);
    let taken = written.load(Ordering::SeqCst) - start;
    assert!(grown < 8 << 20, "resident memory grew by {grown} bytes");
    assert!(taken < 64 << 20, "the gateway took {taken} bytes that nobody reads");
}

#[test]
fn a_client_that_only_asks_costs_no_memory() {
    let origin = Backend::serve(|_, conn| drop(conn.write(&backend::ok(&[b'a'; 10_000]))));
    let gateway = Gateway::before(&[origin.address]);
    gateway.get("/");
    let before = gateway.resident_bytes();
    let mut client = gateway.client();
    client.small_receive_buffer();
    client.raw().set_write_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    let many = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(10_000);
    let sent = (0..400).take_while(|_| client.send(&many)).count();
    assert!(sent < 100, "the gateway took {sent} times 10,000 requests whose answers nobody reads");
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 8 << 20, "resident memory grew by {grown} bytes");
    assert_eq!(gateway.get("/").status, 200);
}

#[test]
fn a_client_that_reads_nothing_is_let_go_in_time() {
    let origin = Backend::serve(|_, conn| {
        let _ = conn.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        while conn.write(&[b'z'; 65_536]).is_ok() {}
        conn.close();
    });
    let gateway = Gateway::before_with(&[origin.address], "[timeouts]\nwrite = \"1s\"\n", "");
    let mut client = gateway.client();
    client.small_receive_buffer();
    client.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    gateway.until_metric("tidegate_request_errors_total", &[("kind", "client_stalled")], 1.0);
    until("the upstream connection is closed", || origin.open_connections() == 0);
}

#[test]
fn a_silent_tunnel_is_closed_in_time() {
    let origin = Backend::start(|conn| {
        let _ = conn.wire.read_head();
        let _ = conn.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
        conn.wait_end(harness::PATIENCE);
    });
    let gateway = Gateway::before_with(&[origin.address], "[timeouts]\ntunnel = \"1s\"\n", "");
    let mut client = gateway.client();
    let answer = client.get_with("/", "Connection: upgrade\r\nUpgrade: x\r\n").expect("an answer");
    assert_eq!(answer.status, 101);
    client.closes_silently().expect("a close");
    gateway.until_metric("tidegate_tunnels_active", &[], 0.0);
    until("the other end is closed too", || origin.open_connections() == 0);
}

#[test]
fn more_connections_than_allowed_are_refused_and_counted() {
    let origin = Backend::fixed("x");
    let gateway = Gateway::before_with(&[origin.address], "workers = 1\n[limits]\nconnections = 5\n", "");
    let mut kept: Vec<Client> = (0..5).map(|_| gateway.client()).collect();
    for client in &mut kept {
        assert_eq!(client.get("/").expect("an answer").status, 200);
    }
    assert!(gateway.client().get("/").is_err(), "the sixth is closed at once");
    assert_eq!(gateway.metrics().sum("tidegate_connections_refused_total", &[]), 1.0);
    kept.pop();
    until("its place is free again", || gateway.client().get("/").is_ok());
}

#[test]
fn a_name_stands_for_its_addresses_and_a_bad_one_for_none() {
    let origin = Backend::fixed("named");
    let config = format!(
        "[service.good]\nendpoints = [\"localhost:{}\"]\n[service.bad]\nendpoints = [\"no-such-host.invalid:80\"]\n\
         [[route]]\nmatch = {{ path = \"/good\" }}\nto = \"good\"\n[[route]]\nto = \"bad\"\n",
        origin.port()
    );
    let gateway = Gateway::start(&config, &[]);
    assert_eq!(gateway.get("/good").text(), "named");
    assert_eq!(gateway.get("/bad").status, 503);
}

#[test]
fn a_backend_that_reads_nothing_costs_no_memory() {
    let origin = Backend::start(|conn| {
        let _ = conn.wire.read_head();
        conn.wait_stop();
    });
    let gateway = Gateway::before_with(
        &[origin.address],
        "[limits]\nbody = \"off\"\n[timeouts]\nupstream_idle = \"2s\"\n",
        "",
    );
    let before = gateway.resident_bytes();
    let mut client = gateway.client();
    client.raw().set_write_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    client.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741824\r\n\r\n");
    let piece = vec![0u8; 1 << 20];
    let sent = (0..1024).take_while(|_| client.send(&piece)).count();
    assert!(sent < 64, "the gateway took {sent} MiB that the backend did not");
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 8 << 20, "resident memory grew by {grown} bytes");
    assert_eq!(client.wire.read_response("POST").expect("an answer").status, 504);
}

#[test]
fn a_slow_writer_is_served_as_long_as_it_writes() {
    let origin = Backend::describing("origin");
    let gateway = Gateway::before_with(&[origin.address], "[timeouts]\nbody = \"1s\"\nheader = \"5s\"\n", "");
    let mut client = gateway.client();
    client.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n");
    for _ in 0..20 {
        client.send_all(b"x");
        thread::sleep(Duration::from_millis(100));
    }
    let answer = client.wire.read_response("POST").expect("an answer");
    assert!(answer.status == 200 && answer.text().contains("body 20\n"), "{}", answer.text());
}

#[test]
fn slow_heads_are_closed() {
    let origin = Backend::describing("origin");
    let gateway = Gateway::before_with(&[origin.address], "[timeouts]\nheader = \"1s\"\n", "");
    slow_heads(&gateway, Duration::from_secs(6));
    assert_eq!(origin.bytes_received(), 0);
}

#[test]
fn slow_heads_are_closed_within_15_seconds_by_default() {
    if harness::proof() {
        slow_heads(&Gateway::before(&[dead_address()]), Duration::from_secs(15));
    }
}

/// Eight connections that send a byte now and then; all must be closed within the limit.
fn slow_heads(gateway: &Gateway, limit: Duration) {
    let start = Instant::now();
    let mut slow: Vec<Client> = (0..8).map(|_| gateway.client()).collect();
    slow.iter_mut().for_each(|client| client.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n"));
    while !slow.is_empty() {
        assert!(start.elapsed() < limit, "{} slow heads live after {limit:?}", slow.len());
        slow.retain_mut(|client| !client.answered());
        slow.iter_mut().for_each(|client| client.send_all(b"X"));
        thread::sleep(Duration::from_millis(50));
    }
    println!("slow heads: all closed after {:?}", start.elapsed());
}

#[test]
fn stalled_bodies_and_readers_are_closed() {
    stalled_clients("[timeouts]\nbody = \"1s\"\nwrite = \"1s\"\n", Duration::from_secs(6));
}

#[test]
fn stalled_bodies_and_readers_are_closed_within_35_seconds_by_default() {
    if harness::proof() {
        stalled_clients("", Duration::from_secs(35));
    }
}

/// Clients that stop in the middle of a body of either framing, and clients that read neither a spliced nor a copied
/// response; both ends of all must be closed within the limit.
fn stalled_clients(timeouts: &str, limit: Duration) {
    let origin = Backend::start(|conn| {
        let Ok(head) = conn.wire.read_head() else { return };
        if head.start.starts_with("POST") {
            conn.wait_end(harness::PATIENCE * 3);
            return;
        }
        let (fields, piece) = match head.start.contains("chunked") {
            true => ("Transfer-Encoding: chunked", [b"10000\r\n", &[b'z'; 65_536][..], b"\r\n"].concat()),
            false => ("Content-Length: 1000000000", vec![b'z'; 65_536]),
        };
        let _ = conn.write(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n").as_bytes());
        while conn.write(&piece).is_ok() {}
        conn.close();
    });
    let gateway = Gateway::before_with(&[origin.address], timeouts, "");
    let requests = [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n4",
        "GET /known-length HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /chunked HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    let start = Instant::now();
    let mut clients: Vec<Client> = requests.iter().map(|_| gateway.client()).collect();
    for (client, request) in clients.iter_mut().zip(requests) {
        client.small_receive_buffer();
        client.send_all(request.as_bytes());
    }
    let errors = |kind: &str| gateway.metrics().sum("tidegate_request_errors_total", &[("kind", kind)]);
    let all_closed = || {
        let ended = errors("body_timeout") == 2.0 && errors("client_stalled") == 2.0;
        ended && origin.open_connections() == 0
    };
    let closed = within(limit.saturating_sub(start.elapsed()), || all_closed().then_some(()));
    assert!(closed.is_some(), "{} upstream connections live after {limit:?}", origin.open_connections());
    println!("stalled bodies and readers: all closed after {:?}", start.elapsed());
}

#[test]
fn an_idle_connection_is_closed_in_time() {
    let origin = Backend::describing("origin");
    let gateway = Gateway::before_with(&[origin.address], "[timeouts]\nidle = \"1s\"\n", "");
    let mut client = gateway.client();
    assert_eq!(client.get("/").expect("an answer").status, 200);
    client.closes_silently().expect("a close");
    gateway.client().closes_silently().expect("a close of a connection that never asked");
}

/// A stream may be silent for longer than other answers, and a model may think for longer before it speaks.
#[test]
fn a_route_has_timeouts_of_its_own() {
    let origin = Backend::serve(|request, conn| match request.target.as_str() {
        "/think" => {
            thread::sleep(Duration::from_millis(900));
            let _ = conn.write(&backend::ok(b"thought"));
        }
        _ => {
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
            let _ = conn.write(head);
            conn.wait_stop();
        }
    });
    let config = "[timeouts]\nfirst_byte = \"300ms\"\nupstream_idle = \"30s\"\n[listen.web]\naddress = \"@web@\"\n\
                  [service.main]\nendpoints = [\"@origin@\"]\nretry = { attempts = 1 }\n\
                  [[route]]\nmatch = { path = \"/think\", header.x-patient = \"yes\" }\nto = \"main\"\nfirst_byte_timeout = \"20s\"\n\
                  [[route]]\nmatch = { path = \"/stream\" }\nto = \"main\"\nidle_timeout = \"300ms\"\n\
                  [[route]]\nto = \"main\"\n";
    let gateway = harness::Setup::new().with("origin", origin.address).start(config);
    assert_eq!(gateway.get("/think").status, 504, "the service's");
    let mut client = gateway.client();
    client.send_all(b"GET /think HTTP/1.1\r\nHost: a\r\nX-Patient: yes\r\n\r\n");
    assert_eq!(client.wire.read_response("GET").expect("an answer").body, b"thought", "the route's");
    let started = Instant::now();
    assert!(gateway.client().get("/stream").is_err(), "what is cut is no end");
    assert!(started.elapsed() < harness::PATIENCE, "not after the service's 30 s");
    assert_eq!(gateway.metrics().sum("tidegate_request_errors_total", &[("kind", "response_timeout")]), 1.0);
}

#[test]
fn each_phase_has_its_timeout_and_its_status() {
    let origin = Backend::serve(|request, conn| {
        match request.target.as_str() {
            "/first-byte" => {}
            "/half-head" => drop(conn.write(b"HTTP/1.1 200 OK\r\nContent-")),
            "/drip" => {
                let drips = conn.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
                let _ = drips.and_then(|()| conn.drip(&[b'd'; 60], 1, Duration::from_millis(100)));
            }
            _ => drop(conn.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")),
        }
        conn.wait_end(harness::PATIENCE);
        conn.last = true;
    });
    let top = "[timeouts]\nfirst_byte = \"600ms\"\nupstream_idle = \"700ms\"\nbody = \"500ms\"\n";
    let gateway = Gateway::start(
        &format!(
            "{top}[service.main]\nendpoints = [\"@origin@\"]\n\
             [[route]]\nname = \"whole\"\nmatch = {{ path = \"/drip\" }}\nto = \"main\"\ntimeout = \"1500ms\"\n\
             [[route]]\nname = \"all\"\nto = \"main\"\n"
        ),
        &[("origin", origin.address)],
    );
    let status = |target: &str| gateway.client().get(target).map(|answer| answer.status);
    assert_eq!(status("/first-byte"), Ok(504));
    assert_eq!(status("/half-head"), Ok(504));
    assert!(
        matches!(status("/idle"), Err(Fault::Truncated(_) | Fault::Reset)),
        "a response that stops ends visibly"
    );
    assert!(
        matches!(status("/drip"), Err(Fault::Truncated(_) | Fault::Reset)),
        "the whole request has an end too"
    );
    let mut client = gateway.client();
    client.send_all(b"POST /first-byte HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
    assert_eq!(client.wire.read_response("POST").expect("an answer").status, 408);
    client.closes_silently().expect("a close");
    let log = |kind: &str| gateway.metrics().sum("tidegate_request_errors_total", &[("kind", kind)]);
    assert_eq!(
        (log("first_byte_timeout"), log("response_timeout"), log("request_timeout"), log("body_timeout")),
        (2.0, 1.0, 1.0, 1.0)
    );
}

#[test]
fn the_whole_request_has_a_timeout_before_the_response_too() {
    let origin = Backend::serve(|_, conn| {
        conn.wait_end(harness::PATIENCE);
    });
    let gateway = Gateway::before_with(&[origin.address], "[timeouts]\nrequest = \"500ms\"\n", "");
    assert_eq!(gateway.client().get("/").expect("an answer").status, 504);
    assert!(gateway.metrics().sum("tidegate_request_errors_total", &[("kind", "request_timeout")]) == 1.0);
}

#[test]
fn connecting_has_a_timeout() {
    let hole = Unaccepting::new();
    let gateway = Gateway::before_with(
        &[hole.address],
        "[timeouts]\nconnect = \"300ms\"\n",
        "retry = { attempts = 1 }",
    );
    assert_eq!(gateway.client().get("/").expect("an answer").status, 504);
    assert!(gateway.metrics().sum("tidegate_request_errors_total", &[("kind", "connect_timeout")]) == 1.0);
}

/// A listener whose queue is full, so that a further connection gets no answer at all.
struct Unaccepting {
    address: SocketAddr,
    _listener: std::net::TcpListener,
    _queued: Vec<std::net::TcpStream>,
}

impl Unaccepting {
    fn new() -> Unaccepting {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        // SAFETY: plain system call on a descriptor that is open; listening again only sets the backlog.
        unsafe { libc::listen(std::os::fd::AsRawFd::as_raw_fd(&listener), 0) };
        let address = listener.local_addr().expect("an address");
        let connect = |_| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok();
        let queued = (0..8).map_while(connect).collect();
        Unaccepting { address, _listener: listener, _queued: queued }
    }
}

#[test]
fn a_storm_of_faults_leaves_nothing_behind() {
    // Backends that misbehave in turn, clients that leave at any point; afterwards every gauge is at rest.
    let origin = Backend::serve(|_, conn| match conn.index % 5 {
        0 => conn.reset(),
        1 => {
            let _ = conn.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n0123456789");
            conn.reset();
        }
        2 => conn.close(),
        _ => drop(conn.write(&backend::ok(&[b'k'; 20_000]))),
    });
    let gateway = Gateway::before(&[origin.address]);
    thread::scope(|scope| {
        for seed in 1..=4u64 {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut random = harness::Random(seed * 7919);
                for _ in 0..250 {
                    let mut client = gateway.client();
                    client.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
                    match random.below(4) {
                        0 => client.reset(),
                        1 => drop(client.read_some(random.below(8000) as usize + 1)),
                        _ => drop(client.wire.read_response("POST")),
                    }
                }
            });
        }
    });
    gateway.until_metric("tidegate_requests_active", &[], 0.0);
    gateway.until_metric("tidegate_endpoint_in_flight", &[], 0.0);
    gateway.until_metric("tidegate_connections_active", &[], 0.0);
    assert_eq!(gateway.metrics().sum("tidegate_panics_total", &[]), 0.0);
}
