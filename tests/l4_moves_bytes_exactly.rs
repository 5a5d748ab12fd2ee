//! Promise: a TCP listener passes on every byte of both directions and nothing else, keeps half-closes, shows resets
//! as resets, finds another endpoint where one does not answer, ends silence by its timeout, and is cut by neither
//! reload nor drain. Bytes are a function of their seed, so every one is judged.

mod harness;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::client::linger_zero;
use harness::process::dead_address;
use harness::{Backend, Client, Conn, Ended, Fault, Gateway, PATIENCE, Random, proof, until};

/// A TCP listener `web` before these endpoints; `more` stands in the service, `listener` in the listener.
fn gateway(endpoints: &[SocketAddr], top: &str, listener: &str, more: &str) -> Gateway {
    Gateway::start(&config(endpoints, top, listener, more), &[])
}

fn config(endpoints: &[SocketAddr], top: &str, listener: &str, more: &str) -> String {
    let list: Vec<String> = endpoints.iter().map(|address| format!("\"{address}\"")).collect();
    format!(
        "{top}\n[listen.web]\naddress = \"@web@\"\nprotocol = \"tcp\"\nto = \"main\"\n{listener}\n\
         [service.main]\nendpoints = [{}]\n{more}\n",
        list.join(", ")
    )
}

fn connect(gateway: &Gateway) -> Client {
    Client::connect(gateway.web())
}

/// What a client that sends `bytes` reads to the end. It may be reset before `connect` returns.
fn answer_to(gateway: &Gateway, bytes: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut client = match Client::try_connect(gateway.web()) {
        Ok(client) => client,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => return Err(Fault::Reset),
        Err(error) => panic!("connect: {error}"),
    };
    client.send_all(bytes);
    client.read_to_close()
}

fn bytes_of(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).collect();
    bytes.truncate(length);
    bytes
}

/// Writes in pieces of random size, now and then after a pause.
fn write_unevenly(mut to: &TcpStream, bytes: &[u8], random: &mut Random) -> std::io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let most = [97, 4_096, 70_000, 1_200_000][random.below(4) as usize];
        let count = rest.len().min(1 + random.below(most) as usize);
        to.write_all(&rest[..count])?;
        rest = &rest[count..];
        pause(random);
    }
    Ok(())
}

/// Reads as unevenly to the end, which is a FIN if there is no error.
fn read_unevenly(mut from: &TcpStream, random: &mut Random) -> Seen {
    let mut got = Vec::new();
    let mut piece = vec![0; 300_000];
    loop {
        let room = 1 + random.below(piece.len() as u64) as usize;
        match from.read(&mut piece[..room]) {
            Ok(0) => return (got, Ok(())),
            Ok(count) => got.extend_from_slice(&piece[..count]),
            Err(error) => return (got, Err(error)),
        }
        pause(random);
    }
}

type Seen = (Vec<u8>, std::io::Result<()>);

/// Lets the other side run into an empty or a full socket.
fn pause(random: &mut Random) {
    match random.below(24) {
        0 => thread::sleep(Duration::from_millis(random.below(8))),
        1..4 => thread::yield_now(),
        _ => {}
    }
}

/// What both sides know of a connection; its first bytes. Both send at once, `up` one way and `down` the other.
#[derive(Clone, Copy)]
struct Plan {
    seed: u64,
    up: usize,
    down: usize,
    ending: u64,
}

/// Both sides say all they have and close their direction.
const WHOLE: u64 = 0;
/// One side resets in the middle of what it has to say.
const ENDPOINT_RESETS: u64 = 1;
const CLIENT_RESETS: u64 = 2;

impl Plan {
    const BYTES: usize = 32;

    fn random(seed: u64, resets: bool, random: &mut Random) -> Plan {
        let ending = if resets { random.below(5).saturating_sub(2) } else { WHOLE };
        Plan { seed, up: length(random), down: length(random), ending }
    }

    fn encode(self) -> Vec<u8> {
        let numbers = [self.seed, self.up as u64, self.down as u64, self.ending];
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    fn decode(bytes: &[u8; Plan::BYTES]) -> Plan {
        let number = |at: usize| u64::from_le_bytes(bytes[at * 8..][..8].try_into().expect("eight bytes"));
        Plan { seed: number(0), up: number(1) as usize, down: number(2) as usize, ending: number(3) }
    }

    fn going_up(self) -> Vec<u8> {
        bytes_of(self.seed + 1, self.up)
    }

    fn going_down(self) -> Vec<u8> {
        bytes_of(self.seed, self.down)
    }

    /// How many of `bytes` the side that ends with `ending` says before it does.
    fn said(self, bytes: usize, ending: u64) -> usize {
        if self.ending == ending { Random(self.seed | 1).below(bytes as u64 + 1) as usize } else { bytes }
    }

    /// Judges what one side read: everything and a FIN, or, once the other side has reset, a beginning and never a FIN.
    /// Who resets itself reads any beginning. `written`: a socket tells of a reset once, and a write may have had it.
    fn judge(self, what: &str, got: Seen, written: std::io::Result<()>, sent: &[u8], own: u64, other: u64) {
        let (bytes, read) = got;
        let ended = read.and(written);
        let seed = self.seed;
        if self.ending != own && self.ending != other {
            assert!(ended.is_ok() && bytes == sent, "{what}, seed {seed}: {ended:?} after {}", bytes.len());
        } else {
            assert!(sent.starts_with(&bytes), "{what}, seed {seed}: {} foreign bytes", bytes.len());
            assert!(self.ending == own || ended.is_err(), "{what}, seed {seed}: a reset passed for a FIN");
        }
    }
}

/// The endpoint's side.
fn exchange(conn: &mut Conn) {
    let stream = conn.stream().expect("open").try_clone().expect("a clone");
    let mut first = [0; Plan::BYTES];
    if (&stream).read_exact(&mut first).is_err() {
        return;
    }
    let plan = Plan::decode(&first);
    let down = plan.going_down();
    let said = plan.said(plan.down, ENDPOINT_RESETS);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let written = write_unevenly(&stream, &down[..said], &mut Random(plan.seed | 1));
            match plan.ending {
                ENDPOINT_RESETS => reset_now(&stream),
                _ => _ = stream.shutdown(Shutdown::Write),
            }
            written
        });
        let got = read_unevenly(&stream, &mut Random((plan.seed * 3) | 1));
        let written = writer.join().expect("the writer");
        plan.judge("what came up", got, written, &plan.going_up(), ENDPOINT_RESETS, CLIENT_RESETS);
    });
}

/// Resets though clones are open and somebody reads: connecting to nowhere dissolves a connection at once (tcp(7)).
fn reset_now(stream: &TcpStream) {
    linger_zero(stream);
    // SAFETY: plain system call; the address is a whole sockaddr of the family AF_UNSPEC that outlives it.
    unsafe {
        let nowhere: libc::sockaddr = std::mem::zeroed();
        let size = std::mem::size_of::<libc::sockaddr>() as libc::socklen_t;
        libc::connect(stream.as_raw_fd(), &nowhere, size);
    }
}

fn length(random: &mut Random) -> usize {
    match random.below(6) {
        0 => 0,
        1 => random.below(100) as usize,
        2 => 16_384 - 2 + random.below(4) as usize,
        3 => 65_536 * 3 - 2 + random.below(4) as usize,
        4 => random.below(300_000) as usize,
        _ => 1_000_000 + random.below(3_000_000) as usize,
    }
}

fn live(gateway: &Gateway, seeds: &AtomicU64, rounds: u32, resets: bool, mut random: Random) {
    for _ in 0..rounds {
        let plan = Plan::random(seeds.fetch_add(2, Ordering::Relaxed), resets, &mut random);
        let client = connect(gateway);
        let stream = client.raw();
        let (mut ours, mut theirs) = (Random(random.next() | 1), Random(random.next() | 1));
        let (got, written) = thread::scope(|scope| {
            let writer = scope.spawn(move || {
                let up = plan.going_up();
                let said = plan.said(plan.up, CLIENT_RESETS);
                let written = write_unevenly(stream, &plan.encode(), &mut ours)
                    .and_then(|()| write_unevenly(stream, &up[..said], &mut ours));
                match plan.ending {
                    CLIENT_RESETS => reset_now(stream),
                    _ => _ = stream.shutdown(Shutdown::Write),
                }
                written
            });
            (read_unevenly(stream, &mut theirs), writer.join().expect("the writer"))
        });
        plan.judge("what came down", got, written, &plan.going_down(), CLIENT_RESETS, ENDPOINT_RESETS);
    }
}

fn descriptors(gateway: &Gateway) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).expect("the process runs").count()
}

fn everything_arrives(splice: &str, rounds: u32) -> Gateway {
    let gateway = everything_is_judged(splice, rounds, false);
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("tidegate_tcp_connections_total", &[("service", "main")]), f64::from(8 * rounds));
    assert_eq!(metrics.sum("tidegate_tcp_errors_total", &[]), 0.0);
    gateway
}

/// Eight clients on both workers, `rounds` connections each; then everything must be as before.
fn everything_is_judged(splice: &str, rounds: u32, resets: bool) -> Gateway {
    let origin = Backend::start(exchange);
    let gateway = gateway(&[origin.address], &format!("[splice]\n{splice}\n"), "", "");
    quiet(&gateway);
    let before = descriptors(&gateway);
    let seeds = AtomicU64::new(100);
    thread::scope(|scope| {
        for client in 1..=8 {
            let (gateway, seeds) = (&gateway, &seeds);
            scope.spawn(move || live(gateway, seeds, rounds, resets, Random(client * 7919)));
        }
    });
    quiet(&gateway);
    until("descriptors are back", || descriptors(&gateway) <= before);
    gateway
}

/// Nothing is counted as under way any more, and no pipe is left open.
fn quiet(gateway: &Gateway) {
    gateway.until_metric("tidegate_connections_active", &[], 0.0);
    gateway.until_metric("tidegate_endpoint_in_flight", &[], 0.0);
    gateway.until_metric("tidegate_pipes_open", &[], 0.0);
}

fn failures(gateway: &Gateway, kind: &str, count: f64) {
    gateway.until_metric("tidegate_tcp_errors_total", &[("listener", "web"), ("kind", kind)], count);
}

#[test]
fn both_directions_are_exact() {
    let gateway = everything_arrives("", if proof() { 400 } else { 10 });
    assert!(
        gateway.metrics().sum("tidegate_spliced_bytes_total", &[]) > (1 << 20) as f64,
        "large ones are spliced"
    );
}

#[test]
fn both_directions_are_exact_when_pipes_run_out() {
    let gateway = everything_arrives("pipes = 1", if proof() { 100 } else { 5 });
    let metrics = gateway.metrics();
    let spliced = metrics.sum("tidegate_spliced_bytes_total", &[]);
    let moved = metrics.sum("tidegate_tcp_received_bytes_total", &[])
        + metrics.sum("tidegate_tcp_sent_bytes_total", &[]);
    assert!(spliced > 0.0 && spliced < moved, "{spliced} of {moved} bytes were spliced, the others copied");
}

#[test]
fn both_directions_are_exact_without_splicing() {
    let gateway = everything_arrives("from = \"off\"", 4);
    assert_eq!(gateway.metrics().sum("tidegate_spliced_bytes_total", &[]), 0.0);
}

/// Three of five connections end by a FIN of both sides, the others by a reset of one in the middle of what it says.
#[test]
fn resets_anywhere_are_passed_on_and_leave_nothing() {
    for splice in ["", "pipes = 1"] {
        let gateway = everything_is_judged(splice, if proof() { 200 } else { 8 }, true);
        let metrics = gateway.metrics();
        let ended =
            |kind: &str| metrics.sum("tidegate_tcp_errors_total", &[("service", "main"), ("kind", kind)]);
        assert!(ended("client_closed") > 0.0 && ended("upstream_closed") > 0.0, "both sides have reset");
    }
}

#[test]
fn bytes_are_counted_as_they_move_and_logged_once_at_the_end() {
    let origin = Backend::start(|conn| {
        while matches!(conn.wire.take(5), Ok(five) if conn.write(&[&five[..], b"!"].concat()).is_ok()) {}
    });
    let gateway = gateway(&[origin.address], "", "", "");
    let mut client = connect(&gateway);
    for _ in 0..3 {
        client.send_all(b"hello");
        assert_eq!(client.wire.take(6).expect("an echo"), b"hello!");
    }
    let labels = [("listener", "web"), ("service", "main")];
    gateway.until_metric("tidegate_tcp_received_bytes_total", &labels, 15.0);
    gateway.until_metric("tidegate_tcp_sent_bytes_total", &labels, 18.0);
    assert!(gateway.access_log().is_empty(), "it is still open");
    client.half_close();
    client.closes_silently().expect("a FIN for a FIN");
    until("one line", || gateway.access_log().len() == 1);
    let line = &gateway.access_log()[0];
    let text = |key: &str| line[key].as_str().unwrap_or_else(|| panic!("{key} in {line}")).to_owned();
    assert_eq!(
        (text("protocol"), text("listener"), text("service")),
        ("TCP".into(), "web".into(), "main".into())
    );
    assert_eq!(text("endpoint"), origin.address.to_string());
    assert_eq!(text("client"), client.raw().local_addr().expect("an address").to_string());
    assert_eq!((line["status"].as_u64(), line["tries"].as_u64()), (Some(200), Some(1)));
    assert_eq!((line["request_bytes"].as_u64(), line["response_bytes"].as_u64()), (Some(15), Some(18)));
    assert!(line["error"].is_null());
}

/// The client has said all, the answer is still to come.
#[test]
fn a_half_close_of_the_client_reaches_the_endpoint_and_the_answer_still_comes() {
    let origin = Backend::start(|conn| {
        while conn.wire.fill().is_ok_and(|more| more) {}
        let got = std::mem::take(&mut conn.wire.buffer);
        let _ = conn.write(&got);
        let _ = conn.write(b", all of it");
    });
    let gateway = gateway(&[origin.address], "", "", "");
    let mut client = connect(&gateway);
    client.send_all(b"question");
    client.half_close();
    assert_eq!(client.read_to_close().expect("a clean end"), b"question, all of it");
    quiet(&gateway);
}

#[test]
fn a_half_close_of_the_endpoint_reaches_the_client_which_may_go_on() {
    let origin = Backend::start(|conn| {
        let _ = conn.write(b"that is all from me");
        conn.half_close();
        while conn.wire.fill().is_ok_and(|more| more) {}
    });
    let gateway = gateway(&[origin.address], "", "", "");
    let mut client = connect(&gateway);
    assert_eq!(client.read_to_close().expect("a FIN"), b"that is all from me");
    client.send_all(b"but I go on");
    until("it arrives", || origin.bytes_received() == 11);
    client.half_close();
    quiet(&gateway);
    until("the endpoint saw the end", || origin.open_connections() == 0);
    assert_eq!(*origin.records()[0].ended.lock().unwrap(), Some(Ended::Closed));
}

#[test]
fn a_reset_of_the_client_is_a_reset_at_the_endpoint() {
    let origin = Backend::start(|conn| {
        conn.wait_end(PATIENCE);
    });
    let gateway = gateway(&[origin.address], "", "", "");
    let mut client = connect(&gateway);
    client.send_all(b"x");
    until("it arrives", || origin.bytes_received() == 1);
    client.reset();
    until("the endpoint sees the end", || origin.records()[0].ended.lock().unwrap().is_some());
    assert_eq!(*origin.records()[0].ended.lock().unwrap(), Some(Ended::Reset));
    failures(&gateway, "client_closed", 1.0);
    quiet(&gateway);
}

#[test]
fn a_reset_of_the_endpoint_is_a_reset_at_the_client() {
    let origin = Backend::start(|conn| {
        let _ = conn.wire.take(1);
        conn.reset();
    });
    let gateway = gateway(&[origin.address], "", "", "");
    let mut client = connect(&gateway);
    client.send_all(b"x");
    assert_eq!(client.read_to_close(), Err(Fault::Reset));
    failures(&gateway, "upstream_closed", 1.0);
    quiet(&gateway);
}

/// In the middle of a bulk transfer, when bytes may lie in a pipe.
#[test]
fn a_reset_in_the_middle_of_much_data_is_a_reset_on_the_other_side() {
    let origin = Backend::start(|conn| {
        let stream = conn.stream().expect("open").try_clone().expect("a clone");
        let piece = vec![7; 1 << 20];
        while (&stream).write_all(&piece).is_ok() {}
        let ended = conn.wait_end(PATIENCE);
        assert!(ended.is_some());
    });
    let gateway = gateway(&[origin.address], "", "", "");
    for _ in 0..8 {
        let mut client = connect(&gateway);
        client.wire.take(8 << 20).expect("it flows");
        client.reset();
    }
    failures(&gateway, "client_closed", 8.0);
    quiet(&gateway);
    until("all are ended", || origin.open_connections() == 0);
}

#[test]
fn another_endpoint_takes_over_where_one_refuses() {
    let origin = Backend::start(|conn| drop(conn.write(b"here")));
    let gateway = gateway(&[dead_address(), dead_address(), origin.address], "", "", "");
    for _ in 0..6 {
        assert_eq!(connect(&gateway).read_to_close().expect("an answer"), b"here");
    }
    let metrics = gateway.metrics();
    assert!(metrics.sum("tidegate_endpoint_connect_failures_total", &[]) > 0.0);
    assert_eq!(metrics.sum("tidegate_tcp_errors_total", &[]), 0.0);
    quiet(&gateway);
}

/// Its queue is full, so that the kernel drops every handshake.
struct Blackhole {
    address: SocketAddr,
    _listener: TcpListener,
    _filling: Vec<TcpStream>,
}

impl Blackhole {
    fn new() -> Blackhole {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        socket.listen(0).expect("it listens");
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().expect("an address");
        let brief = Duration::from_millis(200);
        let filling =
            std::iter::from_fn(|| TcpStream::connect_timeout(&address, brief).ok()).take(8).collect();
        Blackhole { address, _listener: listener, _filling: filling }
    }
}

#[test]
fn another_endpoint_takes_over_where_one_does_not_answer() {
    let hole = Blackhole::new();
    let origin = Backend::start(|conn| drop(conn.write(b"here")));
    let gateway = gateway(&[hole.address, origin.address], "", "", "timeouts = { connect = \"200ms\" }");
    for _ in 0..4 {
        assert_eq!(connect(&gateway).read_to_close().expect("an answer"), b"here");
    }
    quiet(&gateway);
}

#[test]
fn each_endpoint_is_tried_at_most_once_and_then_the_client_is_reset() {
    let gateway = gateway(&[dead_address(), dead_address()], "", "", "retry = { attempts = 10 }");
    assert_eq!(answer_to(&gateway, b"anybody?"), Err(Fault::Reset));
    failures(&gateway, "connect_failed", 1.0);
    until("a line", || gateway.access_log().len() == 1);
    let line = &gateway.access_log()[0];
    assert_eq!((line["tries"].as_u64(), line["status"].as_u64()), (Some(2), Some(502)));
    assert_eq!(line["error"].as_str(), Some("connect_failed"));
    quiet(&gateway);
}

#[test]
fn one_attempt_is_one_attempt() {
    let origin = Backend::start(|conn| drop(conn.write(b"here")));
    let gateway = gateway(&[dead_address(), origin.address], "workers = 1\n", "", "retry = { attempts = 1 }");
    let answers: Vec<_> = (0..4).map(|_| answer_to(&gateway, b"")).collect();
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 2, "every second one: {answers:?}");
}

/// An urgent byte stops reads and splices short of it, and is itself no part of the stream: what stands behind it arrives
/// none the less. While the gateway is stopped all of it arrives, so that one event tells of everything.
#[test]
fn what_stands_behind_an_urgent_byte_arrives() {
    for before in [3, 2 << 20] {
        let origin = Backend::start(|conn| _ = conn.wait_end(PATIENCE));
        let gateway = gateway(&[origin.address], "workers = 1", "", "");
        let client = connect(&gateway);
        let sent = bytes_of(before as u64, before + 50_000);
        let mut stream = client.raw();
        stream.write_all(&sent[..before]).unwrap();
        until("the connection is under way", || origin.bytes_received() == before as u64);
        gateway.pause();
        stream.write_all(&sent[before..before + 20_000]).unwrap();
        socket2::SockRef::from(stream).send_out_of_band(b"!").unwrap();
        stream.write_all(&sent[before + 20_000..]).unwrap();
        gateway.resume();
        until("all but the urgent byte has arrived", || origin.bytes_received() == sent.len() as u64);
        assert!(origin.since(&[])[0].1 == sent);
    }
}

#[test]
fn silence_on_both_sides_ends_a_connection_by_a_reset() {
    let origin = Backend::start(|conn| {
        let _ = conn.write(b"hello");
        conn.wait_end(PATIENCE);
    });
    let gateway = gateway(&[origin.address], "", "idle_timeout = \"700ms\"", "");
    let mut client = connect(&gateway);
    assert_eq!(client.wire.take(5).expect("it greets"), b"hello");
    let start = Instant::now();
    // One byte now and then keeps both directions alive.
    for _ in 0..8 {
        thread::sleep(Duration::from_millis(150));
        assert!(client.send(b"."), "it is not silent");
    }
    assert!(!client.answered(), "alive after {:?}", start.elapsed());
    let silent_since = Instant::now();
    assert_eq!(client.read_to_close(), Err(Fault::Reset));
    assert!(silent_since.elapsed() >= Duration::from_millis(600), "not before its time");
    failures(&gateway, "idle_timeout", 1.0);
    until("the endpoint sees it", || origin.records()[0].ended.lock().unwrap().is_some());
    quiet(&gateway);
}

/// The receiver takes nothing: what is stuck counts as silence, and the memory held for it is bounded.
#[test]
fn a_receiver_that_takes_nothing_stops_the_sender_and_is_ended() {
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    let origin = Backend::start(move |conn| {
        let piece = vec![0; 1 << 16];
        while conn.write(&piece).is_ok() {
            count.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
    });
    let gateway = gateway(&[origin.address], "", "idle_timeout = \"1s\"", "");
    let client = connect(&gateway);
    client.small_receive_buffer();
    failures(&gateway, "idle_timeout", 1.0);
    assert!(sent.load(Ordering::Relaxed) < 64 << 20, "the origin was held back");
    quiet(&gateway);
}

#[test]
fn connections_are_spread_and_counted_while_they_last() {
    let origins: Vec<Backend> =
        (0..3).map(|_| Backend::start(|conn| while conn.wire.fill().is_ok_and(|more| more) {})).collect();
    let addresses: Vec<SocketAddr> = origins.iter().map(|origin| origin.address).collect();
    let gateway = gateway(&addresses, "", "", "balance = \"least-request\"");
    let clients: Vec<Client> = (0..30).map(|_| connect(&gateway)).collect();
    gateway.until_metric("tidegate_endpoint_in_flight", &[], 30.0);
    for address in &addresses {
        let in_flight =
            gateway.metrics().sum("tidegate_endpoint_in_flight", &[("endpoint", &address.to_string())]);
        assert!((8.0..=12.0).contains(&in_flight), "{in_flight} of 30 on one of three");
    }
    drop(clients);
    quiet(&gateway);
}

#[test]
fn a_client_address_sticks_to_its_endpoint() {
    let origins: Vec<Backend> = (0..4).map(|_| Backend::start(|conn| drop(conn.write(b"x")))).collect();
    let addresses: Vec<SocketAddr> = origins.iter().map(|origin| origin.address).collect();
    let gateway = gateway(&addresses, "", "", "balance = \"hash\"");
    for _ in 0..12 {
        assert_eq!(connect(&gateway).read_to_close().expect("an answer"), b"x");
        // One that is still counted would leave too little room for the next.
        gateway.until_metric("tidegate_endpoint_in_flight", &[], 0.0);
    }
    let busy = origins.iter().filter(|origin| origin.connections() > 0).count();
    assert_eq!(busy, 1, "one address, one endpoint");
}

/// An echo that lives as long as its client.
fn echo() -> Backend {
    Backend::start(|conn| {
        while let Ok(byte) = conn.wire.take(1) {
            if conn.write(&byte).is_err() {
                return;
            }
        }
    })
}

fn is_alive(client: &mut Client) {
    client.send_all(b"?");
    assert_eq!(client.wire.take(1).expect("it lives"), b"?");
}

#[test]
fn a_reload_cuts_no_connection_and_new_ones_go_where_it_says() {
    let (old, new) = (echo(), echo());
    let mut gateway = gateway(&[old.address], "", "", "");
    let mut client = connect(&gateway);
    is_alive(&mut client);
    assert_eq!(
        gateway.reload(&config(&[new.address], "", "idle_timeout = \"1h\"", "")),
        harness::gateway::Reload::Taken
    );
    is_alive(&mut client);
    let mut second = connect(&gateway);
    is_alive(&mut second);
    assert_eq!((old.connections(), new.connections()), (1, 1));
    // The listener goes; its connections stay.
    let without = format!(
        "[listen.other]\naddress = \"@other@\"\n[service.main]\nendpoints = [\"{}\"]\n[[route]]\nto = \"main\"\n",
        new.address
    );
    assert_eq!(gateway.reload(&without), harness::gateway::Reload::Taken);
    gateway.until_refused(gateway.web());
    is_alive(&mut client);
    is_alive(&mut second);
}

#[test]
fn a_listener_may_change_what_it_speaks() {
    let origin = Backend::fixed("http");
    let mut gateway = gateway(&[origin.address], "", "", "");
    assert_eq!(gateway.get("/").text(), "http", "as bytes");
    let http = format!(
        "[listen.web]\naddress = \"@web@\"\n[service.main]\nendpoints = [\"{}\"]\n[[route]]\nrespond = {{ body = \"routed\" }}\n",
        origin.address
    );
    gateway.reload(&http);
    until("every worker routes", || (0..8).all(|_| gateway.get("/").text() == "routed"));
}

#[test]
fn a_drain_waits_for_connections_and_ends_by_its_deadline() {
    let origin = echo();
    let mut gateway = gateway(&[origin.address], "[shutdown]\ndeadline = \"30s\"\n", "", "");
    let mut client = connect(&gateway);
    is_alive(&mut client);
    gateway.signal(libc::SIGTERM);
    gateway.until_refused(gateway.web());
    is_alive(&mut client);
    assert!(gateway.is_running());
    client.half_close();
    client.closes_silently().expect("its own end");
    let status = gateway.wait_exit(PATIENCE).expect("nothing is left");
    assert_eq!(status.code(), Some(0));

    let mut gateway = self::gateway(&[origin.address], "[shutdown]\ndeadline = \"300ms\"\n", "", "");
    let mut client = connect(&gateway);
    is_alive(&mut client);
    gateway.signal(libc::SIGTERM);
    gateway.wait_exit(PATIENCE).expect("the deadline ends it");
    client.closes_silently().expect("it is cut");
}

/// Waiting connections cost a task and two sockets: no buffer, no pipe.
#[test]
fn idle_connections_hold_neither_buffers_nor_pipes() {
    const COUNT: usize = 400;
    let origin = Backend::start(|conn| {
        let _ = conn.write(&vec![1; 200_000]);
        conn.wait_end(PATIENCE);
    });
    let gateway = gateway(&[origin.address], "workers = 1\n", "", "");
    let mut first = connect(&gateway);
    first.wire.take(200_000).expect("a greeting");
    let before = gateway.resident_bytes();
    let mut clients = Vec::new();
    for _ in 0..COUNT {
        let mut client = connect(&gateway);
        client.wire.take(200_000).expect("a greeting");
        client.wire.buffer = Vec::new();
        clients.push(client);
    }
    gateway.until_metric("tidegate_pipes_open", &[], 0.0);
    let each = gateway.resident_bytes().saturating_sub(before) / COUNT as u64;
    assert!(each < 12 * 1024, "{each} bytes for each idle connection: a buffer is 16 KiB or more");
    drop(clients);
}

/// A reset of the client while the endpoint is still being connected must not keep anything counted.
#[test]
fn clients_that_leave_at_once_leave_nothing_behind() {
    let origin = echo();
    let gateway = gateway(&[origin.address], "", "", "");
    for round in 0..64 {
        let stream = TcpStream::connect(gateway.web()).expect("it accepts");
        if round % 2 == 0 {
            linger_zero(&stream);
        }
    }
    gateway.until_metric("tidegate_tcp_connections_total", &[], 64.0);
    quiet(&gateway);
    until("the endpoint sees all ends", || origin.open_connections() == 0);
}
