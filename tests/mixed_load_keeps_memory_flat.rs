//! Promise: hours of everything at once (kept and closed connections, chunked and large bodies both ways, clients that
//! leave anywhere, event streams, tunnels, TCP and UDP, the access log, reloads) fail no request and grow no memory. Minutes as a proof, seconds here.

mod harness;

use std::fs;
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use harness::gateway::Reload;
use harness::{Client, Fault, Gateway, PATIENCE, Random, Wire, backend, get, proof, within};

const LARGE_BYTES: usize = 4 << 20;
const EVENTS: usize = 20;
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);
const SAMPLE_INTERVAL: Duration = Duration::from_millis(500);

/// How long the load runs; `TIDEGATE_PROOF_LOAD_SECONDS` says otherwise for a proof.
fn load_time() -> Duration {
    let asked = std::env::var("TIDEGATE_PROOF_LOAD_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(if proof() { asked.unwrap_or(600) } else { 4 })
}

struct Origins {
    http: SocketAddr,
    tcp: SocketAddr,
    udp: SocketAddr,
}

impl Origins {
    /// They keep nothing of what they are sent, unlike the harness's backend, so that it can go on for hours.
    fn start() -> Origins {
        let http = listen(|stream| {
            let Ok(mut out) = stream.try_clone() else { return };
            let mut wire = Wire::new(stream);
            while serve_one(&mut wire, &mut out).is_ok() {}
        });
        let tcp = listen(|stream| {
            let _ = std::io::copy(&mut &stream, &mut &stream);
            let _ = stream.shutdown(Shutdown::Write);
        });
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let udp = socket.local_addr().expect("an address");
        thread::spawn(move || {
            let mut room = [0; 2048];
            while let Ok((count, from)) = socket.recv_from(&mut room) {
                let _ = socket.send_to(&room[..count], from);
            }
        });
        Origins { http, tcp, udp }
    }
}

/// Serves each connection on a thread of its own, until the process of this test ends.
fn listen(serve: fn(TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    address
}

fn serve_one(wire: &mut Wire<TcpStream>, out: &mut TcpStream) -> Result<(), Fault> {
    let request = wire.read_request()?;
    let chunk = |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    match request.target.as_str() {
        "/large" => out.write_all(&backend::ok(&vec![b'l'; LARGE_BYTES]))?,
        "/large-chunked" => {
            out.write_all(CHUNKED)?;
            let piece = chunk(&[b'c'; 1 << 16]);
            (0..LARGE_BYTES >> 16).try_for_each(|_| out.write_all(&piece))?;
            out.write_all(b"0\r\n\r\n")?;
        }
        "/events" => {
            out.write_all(CHUNKED)?;
            for number in 0..EVENTS {
                out.write_all(&chunk(format!("data: {number}\n\n").as_bytes()))?;
                thread::sleep(Duration::from_millis(5));
            }
            out.write_all(b"0\r\n\r\n")?;
        }
        "/tunnel" => {
            out.write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n",
            )?;
            loop {
                out.write_all(&std::mem::take(&mut wire.buffer))?;
                if !wire.fill()? {
                    return Err(Fault::Closed);
                }
            }
        }
        _ => out.write_all(&backend::ok(request.body.len().to_string().as_bytes()))?,
    }
    Ok(())
}

/// What the clients share.
#[derive(Default)]
struct Course {
    stop: AtomicBool,
    requests: AtomicU64,
    aborts: AtomicU64,
}

/// Where the gateway listens.
#[derive(Clone, Copy)]
struct Edge {
    web: SocketAddr,
    raw: SocketAddr,
    datagrams: SocketAddr,
}

/// One way of using the gateway, on a connection of its own; panics when it is not served as it should.
type Manner = fn(Edge, &mut Random, &Course);

const MANNERS: &[Manner] =
    &[kept, closed, chunked, large, aborts, events, tunnels, tcp_streams, tcp_aborts, datagrams];

fn kept(edge: Edge, random: &mut Random, course: &Course) {
    let mut client = Client::connect(edge.web);
    for _ in 0..random.below(200) {
        assert_eq!(client.get("/small").expect("an answer").status, 200);
        course.requests.fetch_add(1, Relaxed);
    }
}

fn closed(edge: Edge, _: &mut Random, course: &Course) {
    assert_eq!(get(edge.web, "/small").status, 200);
    course.requests.fetch_add(1, Relaxed);
}

fn chunked(edge: Edge, random: &mut Random, course: &Course) {
    let mut client = Client::connect(edge.web);
    let size = random.below(100_000) as usize + 1;
    client.send_all(b"POST /small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send_all(format!("{size:x}\r\n").as_bytes());
    client.send_all(&vec![b'p'; size]);
    client.send_all(b"\r\n0\r\n\r\n");
    assert_eq!(client.wire.read_response("POST").expect("an answer").text(), size.to_string());
    course.requests.fetch_add(1, Relaxed);
}

fn large(edge: Edge, random: &mut Random, course: &Course) {
    let mut client = Client::connect(edge.web);
    match random.below(3) {
        0 => {
            let answer = client.post("/small", &vec![b'u'; LARGE_BYTES]).expect("an answer");
            assert_eq!(answer.text(), LARGE_BYTES.to_string());
        }
        1 => assert_eq!(client.get("/large").expect("an answer").body.len(), LARGE_BYTES),
        _ => assert_eq!(client.get("/large-chunked").expect("an answer").body.len(), LARGE_BYTES),
    }
    course.requests.fetch_add(1, Relaxed);
}

/// Leaves at any point of a request or its answer, with a FIN or a reset.
fn aborts(edge: Edge, random: &mut Random, course: &Course) {
    let mut client = Client::connect(edge.web);
    let target = ["/small", "/large", "/large-chunked", "/events", "/tunnel"][random.below(5) as usize];
    let upload =
        format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n{}", "a".repeat(200_000));
    let download =
        format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
    let request = if random.below(2) == 0 { upload } else { download };
    let sent = random.below(request.len() as u64 * 2) as usize;
    client.send_all(&request.as_bytes()[..sent.min(request.len())]);
    if sent >= request.len() && random.below(2) == 0 {
        let _ = client.read_some(random.below(1 << 18) as usize + 1);
    }
    if random.below(2) == 0 {
        client.reset();
    }
    course.aborts.fetch_add(1, Relaxed);
}

fn events(edge: Edge, _: &mut Random, course: &Course) {
    let answer = Client::connect(edge.web).get("/events").expect("a whole stream");
    assert_eq!(answer.text().matches("data: ").count(), EVENTS);
    course.requests.fetch_add(1, Relaxed);
}

fn tunnels(edge: Edge, random: &mut Random, course: &Course) {
    let mut client = Client::connect(edge.web);
    let answer = client.get_with("/tunnel", "Connection: upgrade\r\nUpgrade: echo\r\n").expect("an answer");
    assert_eq!(answer.status, 101);
    for _ in 0..random.below(50) {
        client.send_all(b"over and back");
        assert_eq!(client.wire.take(13).expect("the echo"), b"over and back");
    }
    course.requests.fetch_add(1, Relaxed);
}

/// Over and back through an echo, large enough at times to be spliced.
fn tcp_streams(edge: Edge, random: &mut Random, course: &Course) {
    let mut client = Client::connect(edge.raw);
    for _ in 0..1 + random.below(5) {
        let most = [2_000, 2 << 20][random.below(2) as usize];
        let bytes = vec![random.next() as u8; 1 + random.below(most) as usize];
        let mut writes = client.raw().try_clone().expect("a clone");
        thread::scope(|scope| {
            scope.spawn(|| writes.write_all(&bytes).expect("the gateway takes it"));
            assert!(client.wire.take(bytes.len()).expect("the echo") == bytes);
        });
        course.requests.fetch_add(1, Relaxed);
    }
    client.half_close();
    client.closes_silently().expect("a FIN for a FIN");
}

/// Leaves anywhere. Paced: without an answer to wait for it would be a flood, and what a flood meets is another test's.
fn tcp_aborts(edge: Edge, random: &mut Random, course: &Course) {
    let mut client = Client::connect(edge.raw);
    client.send_all(&vec![b'x'; random.below(200_000) as usize]);
    if random.below(2) == 0 {
        client.reset();
    }
    thread::sleep(Duration::from_millis(5));
    course.aborts.fetch_add(1, Relaxed);
}

/// A new flow each time. A datagram that a full queue lost is sent again, as its users do.
fn datagrams(edge: Edge, random: &mut Random, course: &Course) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.connect(edge.datagrams).expect("an address");
    socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    for number in 0..random.below(20) {
        let asked = format!("{number} {}", random.next());
        let mut room = [0; 64];
        let answered = within(PATIENCE, || {
            socket.send(asked.as_bytes()).ok()?;
            let count = socket.recv(&mut room).ok()?;
            (room[..count] == *asked.as_bytes()).then_some(())
        });
        assert!(answered.is_some(), "{asked} found no answer");
        course.requests.fetch_add(1, Relaxed);
    }
}

fn config(origins: &Origins, generation: u32) -> String {
    let Origins { http: origin, tcp, udp } = origins;
    format!(
        "[listen.web]\naddress = \"@web@\"\n\
         [listen.raw]\naddress = \"@raw@\"\nprotocol = \"tcp\"\nto = \"raw\"\n\
         [listen.datagrams]\naddress = \"@datagrams@\"\nprotocol = \"udp\"\nto = \"datagrams\"\nidle_timeout = \"1s\"\n\
         [service.raw]\nendpoints = [\"{tcp}\"]\n[service.datagrams]\nendpoints = [\"{udp}\"]\n\
         [service.main]\nendpoints = [\"{origin}\"]\n\
         [[route]]\nname = \"generation-{}\"\nmatch = {{ path = \"/generation\" }}\nrespond = {{ status = 200, body = \"{generation}\" }}\n\
         [[route]]\nname = \"all\"\nto = \"main\"\n\n",
        generation % 2
    )
}

#[test]
fn everything_at_once() {
    harness::process::raise_open_files();
    let origins = Origins::start();
    let mut gateway = Gateway::start(&config(&origins, 0), &[]);
    let address = |name| gateway.address(name);
    let edge = Edge { web: address("web"), raw: address("raw"), datagrams: address("datagrams") };
    let course = Course::default();
    let samples = thread::scope(|scope| {
        let clients: Vec<_> = (1..)
            .zip(MANNERS)
            .map(|(seed, manner)| {
                let course = &course;
                scope.spawn(move || {
                    let mut random = Random(seed * 7919);
                    while !course.stop.load(Relaxed) {
                        manner(edge, &mut random, course);
                    }
                })
            })
            .collect();
        let samples =
            reload_and_watch(&mut gateway, &origins, || clients.iter().any(|client| client.is_finished()));
        course.stop.store(true, Relaxed);
        samples
    });
    for gauge in [
        "tidegate_requests_active",
        "tidegate_endpoint_in_flight",
        "tidegate_tunnels_active",
        "tidegate_udp_flows_active",
        "tidegate_worker_buffer_bytes",
    ] {
        gateway.until_metric(gauge, &[], 0.0);
    }
    assert_eq!(gateway.metrics().sum("tidegate_panics_total", &[]), 0.0);
    let (requests, aborts) = (course.requests.load(Relaxed), course.aborts.load(Relaxed));
    println!("{requests} requests in {:?}, none failed; {aborts} aborts", load_time());
    if proof() {
        judge(&samples);
    }
}

/// Resident bytes over the time of the load; ends early if a client has failed.
fn reload_and_watch(
    gateway: &mut Gateway,
    origins: &Origins,
    has_failed: impl Fn() -> bool,
) -> Vec<(Duration, u64)> {
    let start = Instant::now();
    let (mut samples, mut generation) = (Vec::new(), 0);
    let interval = RELOAD_INTERVAL.min(load_time() / 4);
    while start.elapsed() < load_time() && !has_failed() {
        thread::sleep(SAMPLE_INTERVAL);
        samples.push((start.elapsed(), gateway.resident_bytes()));
        // Hours of lines are not the test's to keep. The gateway appends, so it goes on at the new end.
        fs::File::options()
            .write(true)
            .open(gateway.access_log_file())
            .and_then(|log| log.set_len(0))
            .expect("a log");
        if start.elapsed() > interval * (generation + 1) {
            generation += 1;
            assert_eq!(gateway.reload(&config(origins, generation)), Reload::Taken);
            assert_eq!(gateway.get("/generation").text(), generation.to_string());
        }
    }
    samples
}

/// The last tenth of the time against the tenth in its middle: means, since each sample meets another moment.
fn judge(samples: &[(Duration, u64)]) {
    let mean = |part: &[(Duration, u64)]| part.iter().map(|sample| sample.1).sum::<u64>() / part.len() as u64;
    let tenth = (samples.len() / 10).max(1);
    for part in samples.chunks(tenth) {
        println!(
            "{:6.0} s  {:6.1} MiB resident",
            part[0].0.as_secs_f64(),
            mean(part) as f64 / f64::from(1 << 20)
        );
    }
    let middle = mean(&samples[samples.len() / 2 - tenth / 2..][..tenth]);
    let end = mean(&samples[samples.len() - tenth..]);
    assert!(end <= middle + middle / 20 + (1 << 20), "memory grew from {middle} to {end} in the second half");
}
