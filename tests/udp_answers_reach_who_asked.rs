//! Promise: a UDP listener passes every datagram on whole and unmixed: a client's go to one endpoint for as long as
//! that is there, its answers come back from the address that it asked, and nobody else sees them. Flows end by their
//! answers or by silence, are bounded, and are lost to neither reload nor drain. What cannot be passed on is counted.

mod harness;

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use harness::gateway::Reload;
use harness::process::{dead_address, free_port};
use harness::{Gateway, PATIENCE, Setup, eventually, proof, until};

/// What came, from whom.
type Received = Vec<(SocketAddr, Vec<u8>)>;

/// A server of datagrams on a thread of its own.
struct Origin {
    address: SocketAddr,
    socket: UdpSocket,
    received: Arc<Mutex<Received>>,
    stop: Arc<AtomicBool>,
}

impl Origin {
    /// Answers each datagram with those that `answers` makes of it.
    fn start(at: &str, answers: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> Origin {
        let socket = UdpSocket::bind(at).expect("a free port");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let (received, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let origin = Origin {
            address: socket.local_addr().expect("bound"),
            socket: socket.try_clone().expect("a clone"),
            received: received.clone(),
            stop: stop.clone(),
        };
        thread::spawn(move || {
            let mut room = vec![0; 1 << 16];
            while !stop.load(Ordering::Relaxed) {
                let Ok((count, from)) = socket.recv_from(&mut room) else { continue };
                received.lock().expect("no panic").push((from, room[..count].to_vec()));
                for answer in answers(&room[..count]) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        origin
    }

    /// Answers with what it got, after its own name.
    fn named(name: &'static str) -> Origin {
        Origin::start("127.0.0.1:0", move |asked| vec![[name.as_bytes(), asked].concat()])
    }

    fn silent(at: &str) -> Origin {
        Origin::start(at, |_| Vec::new())
    }

    fn received(&self) -> Received {
        self.received.lock().expect("no panic").clone()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Client(UdpSocket);

impl Client {
    fn of(gateway: &Gateway) -> Client {
        Client::connect(gateway.web())
    }

    /// Connected: an answer from any other address than the one that was asked is never seen.
    fn connect(to: SocketAddr) -> Client {
        let any = if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let socket = UdpSocket::bind(any).expect("a socket");
        socket.connect(to).expect("a connect");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Client(socket)
    }

    fn send(&self, datagram: &[u8]) {
        assert_eq!(self.0.send(datagram).expect("it is sent"), datagram.len());
    }

    fn receive(&self) -> Vec<u8> {
        let mut room = vec![0; 1 << 16];
        let count = self.0.recv(&mut room).expect("an answer");
        room.truncate(count);
        room
    }

    fn ask(&self, datagram: &[u8]) -> Vec<u8> {
        self.send(datagram);
        self.receive()
    }

    /// Asks again and again, as a resolver does.
    fn ask_until_answered(&self, datagram: &[u8]) -> Vec<u8> {
        self.0.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        let mut room = vec![0; 1 << 16];
        let count = eventually("an answer", || {
            self.send(datagram);
            self.0.recv(&mut room).ok()
        });
        room.truncate(count);
        room
    }

    fn has_nothing(&self) -> bool {
        self.0.set_nonblocking(true).expect("non-blocking");
        let nothing = self.0.recv(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        self.0.set_nonblocking(false).expect("blocking");
        nothing
    }
}

fn config(endpoints: &[SocketAddr], listener: &str, service: &str) -> String {
    let list: Vec<String> = endpoints.iter().map(|address| format!("\"{address}\"")).collect();
    format!(
        "[listen.web]\naddress = \"@web@\"\nprotocol = \"udp\"\nto = \"main\"\n{listener}\n\
         [service.main]\nendpoints = [{}]\n{service}\n",
        list.join(", ")
    )
}

fn gateway(endpoints: &[SocketAddr], listener: &str) -> Gateway {
    Gateway::start(&config(endpoints, listener, ""), &[])
}

fn one_worker(endpoints: &[SocketAddr], listener: &str) -> Gateway {
    Gateway::start(&format!("workers = 1\n{}", config(endpoints, listener, "")), &[])
}

const OPENED: &str = "tidegate_udp_flows_opened_total";
const ENDED: &str = "tidegate_udp_flows_ended_total";
const ACTIVE: &str = "tidegate_udp_flows_active";
const DROPPED: &str = "tidegate_udp_dropped_total";
const DATAGRAMS: &str = "tidegate_udp_datagrams_total";

/// Many clients ask through `listen` and are answered by an origin at `origin`, one answer to each question.
fn everybody_is_answered(listen: &str, ask_at: &str, origin: &str) {
    let origin = Origin::start(origin, |asked| vec![[b"answer to ", asked].concat()]);
    let port = free_port();
    let at = |ip: &str| SocketAddr::from((ip.parse::<IpAddr>().expect("an address"), port));
    let setup = Setup::new().with("web", at(listen));
    let gateway = setup.start(&config(&[origin.address], "responses = 1", ""));
    let (clients, questions) = if proof() { (400, 200) } else { (40, 20) };
    thread::scope(|scope| {
        for number in 0..clients {
            scope.spawn(move || {
                let client = Client::connect(at(ask_at));
                for question in 0..questions {
                    let asked = format!("question {question} of client {number}");
                    assert_eq!(client.ask(asked.as_bytes()), format!("answer to {asked}").into_bytes());
                }
                assert!(client.has_nothing(), "one answer to each question");
            });
        }
    });
    gateway.until_metric(ACTIVE, &[("listener", "web")], 0.0);
    gateway.until_metric("tidegate_endpoint_in_flight", &[], 0.0);
    let (metrics, all) = (gateway.metrics(), f64::from(clients * questions));
    assert_eq!(metrics.sum(OPENED, &[]), all, "a flow is over with its answer");
    assert_eq!(metrics.sum(ENDED, &[("reason", "answered")]), all);
    assert_eq!(metrics.sum(DATAGRAMS, &[("to", "endpoint")]), all);
    assert_eq!(metrics.sum(DATAGRAMS, &[("to", "client")]), all);
    assert_eq!(metrics.sum(DROPPED, &[]), 0.0);
}

#[test]
fn everybody_is_answered_over_ipv4() {
    everybody_is_answered("127.0.0.1", "127.0.0.1", "127.0.0.1:0");
}

#[test]
fn everybody_is_answered_over_ipv6() {
    everybody_is_answered("::1", "::1", "[::1]:0");
}

#[test]
fn answers_come_from_the_address_that_was_asked() {
    everybody_is_answered("0.0.0.0", "127.0.0.7", "[::1]:0");
    everybody_is_answered("::", "::1", "127.0.0.1:0");
}

#[test]
fn a_client_stays_with_one_endpoint_and_one_port() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = gateway(&[a.address, b.address], "");
    let clients: Vec<Client> = (0..20).map(|_| Client::of(&gateway)).collect();
    for round in 0..10 {
        for (number, client) in clients.iter().enumerate() {
            let asked = format!(" {number} {round}");
            assert_eq!(&client.ask(asked.as_bytes())[1..], asked.as_bytes());
        }
    }
    assert_eq!(gateway.metrics().sum(OPENED, &[]), 20.0);
    let mut froms: HashMap<String, HashSet<(SocketAddr, SocketAddr)>> = HashMap::new();
    for origin in [&a, &b] {
        assert!(!origin.received().is_empty(), "both endpoints are used");
        for (from, asked) in origin.received() {
            let number = String::from_utf8(asked).expect("text").split(' ').nth(1).expect("a number").into();
            froms.entry(number).or_default().insert((origin.address, from));
        }
    }
    assert_eq!(froms.len(), 20);
    assert!(froms.values().all(|from| from.len() == 1), "{froms:?}");
}

#[test]
fn a_hash_of_the_client_sends_all_its_flows_to_one_endpoint() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    // Bounded load would rightly spread many open flows of one address.
    let text = config(&[a.address, b.address], "responses = 1", "balance = \"hash\"\nhash_by = \"client\"\n");
    let gateway = Gateway::start(&text, &[]);
    let names: HashSet<Vec<u8>> = (0..30).map(|_| Client::of(&gateway).ask(b"")).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    let until_quiet = || gateway.until_metric(ACTIVE, &[], 0.0);
    until_quiet();
}

#[test]
fn an_endpoint_that_refuses_is_left_for_another() {
    let alive = Origin::named("alive");
    let gateway = one_worker(&[dead_address(), alive.address], "");
    let clients: Vec<Client> = (0..2).map(|_| Client::of(&gateway)).collect();
    for client in &clients {
        assert_eq!(client.ask_until_answered(b"?"), b"alive?", "its next datagram goes elsewhere");
    }
    assert_eq!(gateway.metrics().sum(ENDED, &[("reason", "unreachable")]), 1.0);
    for _ in 0..20 {
        assert_eq!(Client::of(&gateway).ask(b"!"), b"alive!", "nobody else has to ask twice");
    }
    assert_eq!(gateway.metrics().sum(ENDED, &[("reason", "unreachable")]), 1.0);
}

#[test]
fn datagrams_to_nobody_are_counted_and_harm_no_one() {
    let dead = dead_address();
    let gateway = one_worker(&[dead], "");
    let client = Client::of(&gateway);
    client.send(b"lost");
    gateway.until_metric(ENDED, &[("reason", "unreachable")], 1.0);
    let origin = Origin::start(&dead.to_string(), |asked| vec![asked.to_vec()]);
    assert_eq!(client.ask_until_answered(b"there"), b"there", "the only one is tried though it refused");
    assert_eq!(origin.received()[0].1, b"there");
}

#[test]
fn silence_ends_a_flow() {
    let origin = Origin::named("");
    let gateway = gateway(&[origin.address], "idle_timeout = \"300ms\"");
    let client = Client::of(&gateway);
    assert_eq!(client.ask(b"one"), b"one");
    assert_eq!(gateway.metrics().sum(OPENED, &[]), 1.0);
    gateway.until_metric(ENDED, &[("reason", "idle")], 1.0);
    gateway.until_metric(ACTIVE, &[], 0.0);
    gateway.until_metric("tidegate_endpoint_in_flight", &[], 0.0);
    assert_eq!(client.ask(b"two"), b"two", "the next datagram begins a new one");
    let ports: HashSet<SocketAddr> = origin.received().iter().map(|(from, _)| *from).collect();
    assert_eq!(ports.len(), 2);
}

#[test]
fn a_full_table_refuses_newcomers_and_ends_nobody() {
    let origin = Origin::named("");
    let gateway = one_worker(&[origin.address], "flows_max = 3\nidle_timeout = \"1h\"");
    let clients: Vec<Client> = (0..3).map(|_| Client::of(&gateway)).collect();
    clients.iter().for_each(|client| assert_eq!(client.ask(b"in"), b"in"));
    let late = Client::of(&gateway);
    for count in 1..=5 {
        late.send(b"out");
        gateway.until_metric(DROPPED, &[("reason", "flows_full")], f64::from(count));
    }
    clients.iter().for_each(|client| assert_eq!(client.ask(b"still in"), b"still in"));
    assert!(late.has_nothing());
    assert_eq!(gateway.metrics().sum(ACTIVE, &[]), 3.0);
}

#[test]
fn flows_outlive_a_reload_and_move_when_their_endpoint_goes() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let mut gateway = gateway(&[a.address], "");
    let clients: Vec<Client> = (0..10).map(|_| Client::of(&gateway)).collect();
    clients.iter().for_each(|client| assert_eq!(client.ask(b"1"), b"a1"));
    assert_eq!(gateway.reload(&config(&[b.address, a.address], "", "")), Reload::Taken);
    clients.iter().for_each(|client| assert_eq!(client.ask(b"2"), b"a2"));
    let ports: HashSet<SocketAddr> = a.received().iter().map(|(from, _)| *from).collect();
    assert_eq!(ports.len(), 10, "the same flows as before");
    assert_eq!(gateway.metrics().sum(OPENED, &[]), 10.0);
    assert_eq!(gateway.reload(&config(&[b.address], "", "")), Reload::Taken);
    clients.iter().for_each(|client| assert_eq!(client.ask(b"3"), b"b3"));
    assert_eq!(gateway.metrics().sum(ENDED, &[("reason", "moved")]), 10.0);
    gateway.until_metric(ACTIVE, &[], 10.0);
}

#[test]
fn a_removed_listener_receives_no_more_and_may_come_back() {
    let origin = Origin::named("");
    let mut gateway = gateway(&[origin.address], "");
    let client = Client::of(&gateway);
    assert_eq!(client.ask(b"1"), b"1");
    let with = config(&[origin.address], "", "");
    let without = with.replace("@web@", "@other@");
    assert_eq!(gateway.reload(&without), Reload::Taken);
    gateway.until_metric(ENDED, &[], 1.0);
    until("the address refuses", || {
        client.0.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        let _ = client.0.send(b"?");
        client.0.recv(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
    assert_eq!(gateway.reload(&with), Reload::Taken);
    assert_eq!(client.ask_until_answered(b"again"), b"again");
}

#[test]
fn a_listener_that_comes_back_at_once_loses_nobody() {
    let origin = Origin::named("");
    let mut gateway = gateway(&[origin.address], "");
    let with = config(&[origin.address], "", "");
    for round in 0..5 {
        assert_eq!(gateway.reload(&with.replace("@web@", "@other@")), Reload::Taken);
        assert_eq!(gateway.reload(&with), Reload::Taken);
        // Each client's address falls on one socket of the group: none of them may be one that still closes.
        for number in 0..20 {
            let asked = format!("{round} {number}").into_bytes();
            assert_eq!(Client::of(&gateway).ask_until_answered(&asked), asked);
        }
    }
}

#[test]
fn a_drain_waits_for_answers_that_are_due() {
    let origin = Origin::silent("127.0.0.1:0");
    let mut gateway = gateway(&[origin.address], "responses = 1");
    let client = Client::of(&gateway);
    client.send(b"slow");
    until("it is asked", || origin.received().len() == 1);
    gateway.signal(libc::SIGTERM);
    let mut newcomers = Vec::new();
    until("a newcomer is turned away", || {
        let newcomer = Client::of(&gateway);
        newcomer.send(b"too late");
        newcomers.push(newcomer);
        gateway.metrics().sum(DROPPED, &[("reason", "closing")]) >= 1.0
    });
    assert!(gateway.is_running());
    // Those who came in before the workers had heard of the drain are waited for, too.
    for (asked_by, _) in origin.received() {
        origin.socket.send_to(b"here it is", asked_by).expect("it is sent");
    }
    assert_eq!(client.receive(), b"here it is");
    assert!(gateway.wait_exit(PATIENCE).expect("it ends").success());
}

#[test]
fn a_drain_ends_once_endless_flows_are_quiet() {
    let origin = Origin::named("");
    let mut gateway = gateway(&[origin.address], "idle_timeout = \"1h\"");
    assert_eq!(Client::of(&gateway).ask(b"?"), b"?");
    gateway.signal(libc::SIGTERM);
    assert!(gateway.wait_exit(PATIENCE).expect("it ends before the drain's deadline").success());
}

/// The most that UDP carries over IPv4, and one byte more than any datagram over IPv4 may have.
const MOST_V4: usize = 65_507;

#[test]
fn large_datagrams_are_passed_on_whole_or_not_at_all() {
    let origin = Origin::start("127.0.0.1:0", |asked| vec![asked.iter().rev().copied().collect()]);
    let port = free_port();
    let setup = Setup::new().with("web", SocketAddr::from(([0; 16], port)));
    let text = config(&[origin.address], "", "")
        + "[listen.four]\naddress = \"@four@\"\nprotocol = \"udp\"\nto = \"main\"\n";
    let gateway = setup.start(&text);
    let four = Client::connect(gateway.address("four"));
    for length in [0, 1, 1_472, 1_473, 9_000, 16_384, 65_000, MOST_V4] {
        let sent: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let back: Vec<u8> = sent.iter().rev().copied().collect();
        assert!(four.ask(&sent) == back, "{length} bytes there and back");
    }
    let six = Client::connect(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port)));
    six.send(&vec![7; MOST_V4 + 1]);
    gateway.until_metric(DROPPED, &[("reason", "too_large")], 1.0);
    assert_eq!(six.ask(b"small"), b"llams", "the flow goes on");
    assert_eq!(origin.received().last().expect("it got some").1, b"small", "nothing of the large one");
}

#[test]
fn a_stream_arrives_in_order_without_loss() {
    let origin = Origin::start("127.0.0.1:0", |packet| match packet[..4] == [0; 4] {
        // The receiver reports now and then, as RTCP does.
        true => vec![packet.to_vec()],
        false => Vec::new(),
    });
    let gateway = gateway(&[origin.address], "");
    let client = Client::of(&gateway);
    let packets = if proof() { 400_000u32 } else { 4_000 };
    for sequence in 1..=packets {
        let mut packet = vec![0; 172 + (sequence % 1_000) as usize];
        packet[..4].copy_from_slice(&sequence.to_be_bytes());
        client.send(&packet);
        // Never more on the way than any queue holds; how fast that is, the machine decides.
        if sequence % 32 == 0 {
            assert_eq!(client.ask(&[0; 8]), [0; 8]);
        }
    }
    until("the last one is there", || origin.received().len() as u32 == packets + packets / 32);
    let received = origin.received();
    let media = received.iter().filter(|(_, packet)| packet[..4] != [0; 4]);
    for (expected, (from, packet)) in (1u32..).zip(media) {
        assert_eq!((packet[..4] == expected.to_be_bytes(), *from), (true, received[0].0));
        assert_eq!(packet.len(), 172 + (expected % 1_000) as usize);
    }
    assert_eq!(gateway.metrics().sum(DROPPED, &[]), 0.0);
}

#[test]
fn several_answers_end_a_flow_with_the_last() {
    let origin = Origin::start("127.0.0.1:0", |asked| vec![asked.to_vec(); 3]);
    let gateway = gateway(&[origin.address], "responses = 3");
    let client = Client::of(&gateway);
    client.send(b"x");
    for _ in 0..3 {
        assert_eq!(client.receive(), b"x");
    }
    gateway.until_metric(ENDED, &[("reason", "answered")], 1.0);
    assert_eq!(gateway.metrics().sum(OPENED, &[]), 1.0);
}

#[test]
fn who_was_not_asked_cannot_answer() {
    let origin = Origin::silent("127.0.0.1:0");
    let gateway = gateway(&[origin.address], "");
    let client = Client::of(&gateway);
    client.send(b"?");
    until("it is asked", || origin.received().len() == 1);
    let flow = origin.received()[0].0;
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    stranger.send_to(b"forged", flow).expect("it is sent");
    origin.socket.send_to(b"genuine", flow).expect("it is sent");
    assert_eq!(client.receive(), b"genuine");
    assert!(client.has_nothing());
}

#[test]
fn tcp_and_udp_share_an_address() {
    let origin = Origin::named("");
    let text = config(&[origin.address], "", "")
        + "[listen.tcp]\naddress = \"@web@\"\n[[route]]\nrespond = { status = 204 }\n";
    let gateway = Gateway::start(&text, &[]);
    assert_eq!(Client::of(&gateway).ask(b"udp"), b"udp");
    assert_eq!(gateway.get("/").status, 204);
}

#[test]
fn an_address_that_others_receive_on_is_refused() {
    let other = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let setup = Setup::new().with("web", other.local_addr().expect("bound"));
    let mut gateway = setup.spawn(&config(&[dead_address()], "", ""));
    assert!(!gateway.wait_exit(PATIENCE).expect("it gives up").success());
    gateway.until_stderr("ss -lunp");
}
