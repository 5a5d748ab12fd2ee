//! Promise: a WebSocket lives as long as its ends want, through reloads, within the silence and the age that the config allows
//! and the deadline of a drain. Whom we end is told so by a Close frame, on both sides, never in the middle of a frame;
//! nothing else is ever added to what either side says.

mod harness;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use harness::gateway::Reload;
use harness::process::Directory;
use harness::tls::{Certificate, Trust};
use harness::{Backend, Client, Conn, Gateway, PATIENCE, Setup, backend, until};

const UPGRADE: &[u8] = b"GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCHED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
/// A Close with 1001 as a server sends it.
const CLOSE: [u8; 4] = [0x88, 2, 0x03, 0xe9];

/// What the endpoint received after the switch.
type Received = Arc<Mutex<Vec<u8>>>;

/// Says `first` after the switch, then echoes.
fn endpoint(first: &'static [u8]) -> (Backend, Received) {
    let received = Received::default();
    let keeper = received.clone();
    let origin = Backend::start(move |conn: &mut Conn| {
        if conn.read_request().is_err() || conn.write(SWITCHED).is_err() || conn.write(first).is_err() {
            return;
        }
        loop {
            let got = std::mem::take(&mut conn.wire.buffer);
            keeper.lock().unwrap().extend(&got);
            if conn.write(&got).is_err() || !conn.wire.fill().unwrap_or(false) {
                return;
            }
        }
    });
    (origin, received)
}

fn gateway(origin: &Backend, top: &str) -> Gateway {
    Gateway::before_with(&[origin.address], top, "")
}

fn open(gateway: &Gateway, upgrade: &[u8]) -> Client {
    let mut client = gateway.client();
    client.send_all(upgrade);
    assert_eq!(client.wire.read_response_head("GET").expect("a head").status, 101);
    client
}

/// A short text frame of a client, masked with zeros.
fn text(content: &[u8]) -> Vec<u8> {
    [&[0x81, 0x80 | content.len() as u8, 0, 0, 0, 0][..], content].concat()
}

/// A Close of ours as an endpoint receives it: 1001 under whatever mask.
fn is_close_to_endpoint(frame: &[u8]) -> bool {
    matches!(frame, [0x88, 0x82, a, b, _, _, high, low] if [high ^ a, low ^ b] == [0x03, 0xe9])
}

/// An endpoint that has said why and closes while the client still sends: its kernel resets, and what it said arrives.
#[test]
fn last_words_arrive_although_the_rest_is_refused() {
    const TOO_BIG: [u8; 4] = [0x88, 2, 0x03, 0xf1];
    let origin = Backend::start(|conn: &mut Conn| {
        if conn.read_request().is_err() || conn.write(SWITCHED).is_err() {
            return;
        }
        let _ = conn.wire.fill();
        let _ = conn.write(&TOO_BIG);
        conn.close();
    });
    let gateway = gateway(&origin, "");
    let frame = [&[0x82, 0xff, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0][..], &[0; 1 << 20]].concat();
    for _ in 0..30 {
        let mut client = open(&gateway, UPGRADE);
        client.send_all(&frame);
        let mut seen = Vec::new();
        while let Ok(true) = client.wire.fill() {
            seen.append(&mut client.wire.buffer);
        }
        seen.append(&mut client.wire.buffer);
        assert_eq!(seen, TOO_BIG);
    }
    gateway.until_metric("tidegate_tunnels_active", &[], 0.0);
}

#[test]
fn silence_ends_with_a_close_on_both_sides_and_nothing_before_it() {
    let (origin, received) = endpoint(b"");
    let gateway = gateway(&origin, "[timeouts]\ntunnel = \"700ms\"\n");
    let mut client = open(&gateway, UPGRADE);
    let hello = text(b"hello");
    client.send_all(&hello);
    let started = Instant::now();
    let all = client.read_to_close().expect("an end");
    assert!(started.elapsed() >= Duration::from_millis(600));
    assert_eq!(all, [&hello[..], &CLOSE].concat(), "the echo, and no ping of ours");
    until("the endpoint has its own", || received.lock().unwrap().len() == hello.len() + 8);
    assert!(is_close_to_endpoint(&received.lock().unwrap()[hello.len()..]));
    gateway.until_metric("tidegate_tunnels_active", &[], 0.0);
}

#[test]
fn age_ends_one_that_is_never_silent() {
    let (origin, received) = endpoint(b"");
    let gateway = gateway(&origin, "[timeouts]\ntunnel_age = \"1s\"\n");
    let mut client = open(&gateway, UPGRADE);
    let started = Instant::now();
    let echoed = |client: &mut Client| {
        client.send_all(&text(b"tick"));
        let answer = client.wire.take(4).ok()?;
        if answer == CLOSE { None } else { client.wire.take(6).ok() }
    };
    while echoed(&mut client).is_some() {
        assert!(started.elapsed() < PATIENCE, "it is never ended");
    }
    assert!(started.elapsed() >= Duration::from_millis(900));
    until("the endpoint is told, too", || {
        let received = received.lock().unwrap();
        received.windows(8).any(is_close_to_endpoint)
    });
}

/// What stands in the middle of a frame would be taken for its content.
#[test]
fn a_frame_is_never_broken_into() {
    let (origin, received) = endpoint(&[0x82, 100, 1, 2, 3]);
    let gateway = gateway(&origin, "[timeouts]\ntunnel = \"700ms\"\n");
    let mut client = open(&gateway, UPGRADE);
    assert_eq!(client.read_to_close().expect("an end"), [0x82, 100, 1, 2, 3]);
    until("the other side is between two", || received.lock().unwrap().len() == 8);
    assert!(is_close_to_endpoint(&received.lock().unwrap()));
}

/// Of another protocol we know no last words.
#[test]
fn nothing_is_said_in_other_protocols() {
    let (origin, received) = endpoint(b"first");
    let gateway = gateway(&origin, "[timeouts]\ntunnel = \"700ms\"\n");
    let upgrade = String::from_utf8_lossy(UPGRADE).replace("websocket", "chat");
    let mut client = open(&gateway, upgrade.as_bytes());
    assert_eq!(client.read_to_close().expect("an end"), b"first");
    assert!(received.lock().unwrap().is_empty());
}

#[test]
fn reloads_cut_none_and_a_drain_tells_them() {
    let (origin, received) = endpoint(b"");
    let config = format!(
        "[shutdown]\ndeadline = \"6s\"\n[listen.web]\naddress = \"@web@\"\n[service.main]\nendpoints = [\"{}\"]\n[[route]]\nto = \"main\"\n",
        origin.address
    );
    let mut gateway = Setup::new().start(&config);
    let mut clients: Vec<Client> = (0..8).map(|_| open(&gateway, UPGRADE)).collect();
    for round in 0..10 {
        assert_eq!(gateway.reload(&format!("{config}# {round}\n")), Reload::Taken);
        for client in &mut clients {
            client.send_all(&text(b"still here"));
            assert_eq!(client.wire.take(16).expect("an echo"), text(b"still here"));
        }
    }
    gateway.signal(libc::SIGTERM);
    gateway.until_refused(gateway.web());
    for client in &mut clients {
        client.send_all(&text(b"one more"));
        assert_eq!(client.wire.take(14).expect("served until the deadline"), text(b"one more"));
    }
    for client in &mut clients {
        assert_eq!(client.read_to_close().expect("an end"), CLOSE);
    }
    let status = gateway.wait_exit(PATIENCE).expect("it ends");
    assert!(status.success());
    let received = received.lock().unwrap();
    assert_eq!(received.windows(8).filter(|frame| is_close_to_endpoint(frame)).count(), 8);
}

#[test]
fn a_close_goes_through_tls() {
    let (origin, _received) = endpoint(b"");
    let (directory, edge) = (Directory::new(), Certificate::new(&["edge.test"]));
    edge.write(&directory, "edge");
    let file = |name: &str| directory.path().join(name).display().to_string();
    let config = format!(
        "[timeouts]\ntunnel = \"700ms\"\n[listen.web]\naddress = \"@web@\"\nprotocol = \"https\"\ntls = {{ certificate = \"{}\", key = \"{}\" }}\n\
         [service.main]\nendpoints = [\"{}\"]\n[[route]]\nto = \"main\"\n",
        file("edge.pem"),
        file("edge.key"),
        origin.address
    );
    let gateway = Setup::new().start(&config);
    let mut client = Trust::of(&[&edge]).connect(gateway.web(), "edge.test").expect("a handshake");
    std::io::Write::write_all(client.stream(), UPGRADE).expect("it is taken");
    let mut all = Vec::new();
    std::io::Read::read_to_end(client.stream(), &mut all).expect("an end that is said");
    assert!(all.ends_with(&[b"\r\n\r\n".as_slice(), &CLOSE].concat()), "{}", String::from_utf8_lossy(&all));
}

/// What the endpoint answers instead is the answer, and the connection goes on.
#[test]
fn a_refusal_is_passed_on() {
    let origin = Backend::serve(|request, conn| {
        let answer = match request.head.has("upgrade") {
            true => {
                backend::answer("426 Upgrade Required", "Sec-WebSocket-Version: 13\r\n", b"another version")
            }
            false => backend::ok(b"plain"),
        };
        let _ = conn.write(&answer);
    });
    let gateway = gateway(&origin, "");
    let mut client = gateway.client();
    client.send_all(UPGRADE);
    let answer = client.wire.read_response("GET").expect("an answer");
    assert_eq!((answer.status, answer.text().as_str()), (426, "another version"));
    assert_eq!(answer.get("sec-websocket-version"), Some("13"));
    assert_eq!(client.get("/").expect("an answer").text(), "plain");
}
