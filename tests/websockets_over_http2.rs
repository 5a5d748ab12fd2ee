//! A WebSocket, or any other tunnel, passes between HTTP/1.1 and HTTP/2 in every combination (RFC 8441): CONNECT with a
//! protocol on one side is Upgrade on the other, bytes are the same both ways, and each end is told of the other's end.

mod harness;

use std::sync::mpsc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use harness::http2::{self, DATA, END_STREAM, HEADERS, RST_STREAM, Raw, SETTINGS, frame, headers};
use harness::{Backend, Client, Conn, Gateway, PATIENCE, Random};

const H2: &str = "protocol = \"h2\"";
const TOP: &str = "workers = 1\n";
const ENABLE_CONNECT_PROTOCOL: [u8; 6] = [0, 8, 0, 0, 0, 1];
const CONNECT_ERROR: u32 = 10;

fn accept(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

fn bytes(length: usize) -> Vec<u8> {
    let mut random = Random(length as u64 + 1);
    (0..length).map(|_| random.below(256) as u8).collect()
}

/// Upgrades as RFC 6455 asks for, and gives back what comes, until its end. Says what each connection began and ended with.
fn echoing() -> (Backend, mpsc::Receiver<String>) {
    let (say, said) = mpsc::channel();
    let say = std::sync::Mutex::new(say);
    let backend = Backend::start(move |conn: &mut Conn| {
        let Ok(request) = conn.read_request() else { return };
        let Some(key) = request.head.get("sec-websocket-key") else {
            let _ = conn.write(&harness::backend::ok(b"no WebSocket"));
            return;
        };
        say.lock()
            .unwrap()
            .send(format!(
                "{} {} {}",
                request.method,
                request.target,
                request.head.get("x-mine").unwrap_or("")
            ))
            .unwrap();
        let accept = if request.target == "/wrong" { "wrong".into() } else { accept(key) };
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-protocol: chat\r\nsec-websocket-accept: {accept}\r\n\r\n"
        );
        conn.write(head.as_bytes()).unwrap();
        let mut stream = conn.stream().unwrap().try_clone().unwrap();
        if request.target == "/reset" {
            let mut byte = [0];
            let _ = std::io::Read::read(&mut stream, &mut byte);
            return conn.reset();
        }
        let ended = std::io::copy(&mut stream.try_clone().unwrap(), &mut stream);
        let word = if ended.is_ok() { "closed" } else { "reset" };
        say.lock().unwrap().send(word.into()).unwrap();
    });
    (backend, said)
}

fn connect(stream: u32, path: &str) -> Vec<u8> {
    let fields = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", "a.test"),
        (":path", path),
        ("sec-websocket-version", "13"),
        ("x-mine", "yes"),
    ];
    headers(stream, 0, &fields)
}

/// The status of a HEADERS frame that indexes it: 200 is one byte (RFC 7541 A).
fn is_ok(frame: &http2::Frame) -> bool {
    frame.payload[0] == 0x88
}

/// Sends as the window allows, and takes what comes back.
fn exchange(raw: &mut Raw, stream: u32, sent: &[u8]) {
    let mut got = Vec::new();
    for piece in sent.chunks(10_000) {
        raw.send(&frame(DATA, 0, stream, piece));
        let until = got.len() + piece.len();
        while got.len() < until {
            let next = raw.frame().expect("no end");
            assert!(next.kind != RST_STREAM && !next.ends_stream(), "{next:?}");
            if next.kind == DATA && next.stream == stream {
                got.extend_from_slice(&next.payload);
                for stream in [0, stream] {
                    raw.send(&frame(
                        http2::WINDOW_UPDATE,
                        0,
                        stream,
                        &(next.payload.len() as u32).to_be_bytes(),
                    ));
                }
            }
        }
    }
    assert!(got == sent);
}

#[test]
fn a_stream_of_a_client_reaches_an_http1_endpoint() {
    let (origin, said) = echoing();
    let gateway = Gateway::before_with(&[origin.address], TOP, "");
    let mut raw = Raw::connect(gateway.web());
    let settings = raw.until(SETTINGS);
    assert!(settings.payload.chunks(6).any(|entry| entry == ENABLE_CONNECT_PROTOCOL), "it is offered");
    raw.send(&connect(1, "/chat?x=1"));
    let head = raw.until(HEADERS);
    assert!(is_ok(&head) && !head.ends_stream());
    let text = String::from_utf8_lossy(&head.payload).into_owned();
    assert!(!text.contains("accept") && !text.contains("upgrade"), "{text:?}");
    assert_eq!(said.recv_timeout(PATIENCE).unwrap(), "GET /chat?x=1 yes");
    exchange(&mut raw, 1, &bytes(300_000));
    // Another stream is not in its way.
    raw.send(&http2::request(3, "GET", "/", END_STREAM));
    while raw.until(HEADERS).stream != 3 {}
    raw.send(&frame(DATA, END_STREAM, 1, b"bye"));
    assert_eq!(raw.body(1), b"bye");
    assert_eq!(said.recv_timeout(PATIENCE).unwrap(), "closed");
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("tidegate_tunnels_total", &[]), 1.0);
}

#[test]
fn a_broken_end_is_told_as_one() {
    let (origin, said) = echoing();
    let gateway = Gateway::before_with(&[origin.address], TOP, "");
    let mut raw = Raw::connect(gateway.web());
    raw.send(&connect(1, "/reset"));
    assert!(is_ok(&raw.until(HEADERS)));
    raw.send(&frame(DATA, 0, 1, b"x"));
    assert_eq!(raw.until(RST_STREAM).code(), CONNECT_ERROR);
    said.recv_timeout(PATIENCE).unwrap();
    // And the other way round.
    raw.send(&connect(3, "/chat"));
    assert!(is_ok(&raw.until(HEADERS)));
    exchange(&mut raw, 3, b"hello");
    raw.send(&frame(RST_STREAM, 0, 3, &8u32.to_be_bytes()));
    said.recv_timeout(PATIENCE).unwrap();
    assert_eq!(said.recv_timeout(PATIENCE).unwrap(), "reset");
}

/// A 2xx would open a tunnel to whoever has not agreed on one.
#[test]
fn only_a_change_of_protocol_opens_a_tunnel() {
    let (origin, _said) = echoing();
    let plain = Backend::fixed("just an answer");
    let gateway = Gateway::start(
        "workers = 1\n[listen.web]\naddress = \"@web@\"\n[service.main]\nendpoints = [\"@origin@\"]\n\
         [service.plain]\nendpoints = [\"@plain@\"]\n[[route]]\nmatch.path = \"/plain\"\nto = \"plain\"\n\
         [[route]]\nmatch.path = \"/fixed\"\nrespond = { body = \"fixed\" }\n[[route]]\nto = \"main\"\n",
        &[("origin", origin.address), ("plain", plain.address)],
    );
    let mut raw = Raw::connect(gateway.web());
    for (turn, path) in ["/wrong", "/plain", "/fixed"].iter().enumerate() {
        raw.send(&connect(2 * turn as u32 + 1, path));
        assert!(!is_ok(&raw.until(HEADERS)), "{path}");
    }
    type Fields = Vec<(&'static str, &'static str)>;
    let malformed = |extra: &'static [(&str, &str)], without: &str| -> Fields {
        let base = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":authority", "a.test"),
            (":path", "/"),
        ];
        base.iter().filter(|(name, _)| *name != without).chain(extra).copied().collect::<Vec<_>>()
    };
    let cases = [
        malformed(&[], ":path"),
        malformed(&[], ":scheme"),
        malformed(&[("content-length", "0")], ""),
        malformed(&[("upgrade", "x")], ""),
        [(":method", "GET"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/")].to_vec(),
        [
            (":method", "CONNECT"),
            (":protocol", "web socket"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", "/"),
        ]
        .to_vec(),
    ];
    for (turn, fields) in cases.iter().enumerate() {
        let stream = 2 * turn as u32 + 101;
        raw.send(&headers(stream, 0, fields));
        let reset = std::iter::from_fn(|| Some(raw.until(RST_STREAM))).find(|reset| reset.stream == stream);
        assert_eq!(reset.unwrap().code(), 1, "{fields:?}");
    }
}

/// An endpoint that takes CONNECT with a protocol, checks how it is asked, and gives back what comes.
fn taking() -> Backend {
    Backend::start(|conn| {
        let mut raw = Raw::answering(conn.stream().unwrap().try_clone().unwrap(), &ENABLE_CONNECT_PROTOCOL);
        while let Some(asked) = raw.frame() {
            match asked.kind {
                HEADERS => {
                    assert!(!asked.ends_stream());
                    raw.send(&headers(
                        asked.stream,
                        0,
                        &[(":status", "200"), ("sec-websocket-protocol", "chat")],
                    ));
                }
                DATA => raw.send(&frame(DATA, asked.flags & END_STREAM, asked.stream, &asked.payload)),
                _ => {}
            }
        }
    })
}

fn upgraded(gateway: &Gateway) -> Client {
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let mut client = gateway.client();
    client.send_all(
        format!(
            "GET /chat HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\r\n"
        )
        .as_bytes(),
    );
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(client.read_some(1).unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    for line in ["connection: upgrade\r\n", "upgrade: websocket\r\n", "sec-websocket-protocol: chat\r\n"] {
        assert!(head.contains(line), "{line} in {head}");
    }
    // RFC 6455 §1.3 has this one.
    assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    client
}

#[test]
fn a_websocket_reaches_a_stream_of_an_endpoint() {
    let origin = taking();
    let gateway = Gateway::before_with(&[origin.address], TOP, H2);
    let mut client = upgraded(&gateway);
    for _ in 0..3 {
        let sent = bytes(5_000);
        client.send_all(&sent);
        let mut got = Vec::new();
        while got.len() < sent.len() {
            got.extend(client.read_some(sent.len() - got.len()).unwrap());
        }
        assert!(got == sent);
    }
    client.half_close();
    assert!(client.read_to_close().unwrap().is_empty());

    let mut raw = Raw::connect(gateway.web());
    raw.send(&connect(1, "/chat"));
    assert!(is_ok(&raw.until(HEADERS)));
    exchange(&mut raw, 1, &bytes(30_000));
    raw.send(&frame(DATA, END_STREAM, 1, b"bye"));
    assert_eq!(raw.body(1), b"bye");
    assert_eq!(origin.connections(), 1, "tunnels share a connection as well");
}

#[test]
fn an_endpoint_that_takes_none_is_not_asked() {
    let origin = Backend::start(|conn| {
        let mut raw = Raw::answering(conn.stream().unwrap().try_clone().unwrap(), &[]);
        while let Some(asked) = raw.frame() {
            assert!(asked.kind != HEADERS, "it was asked all the same");
        }
    });
    let gateway = Gateway::before_with(&[origin.address], TOP, H2);
    let mut client = gateway.client();
    let answer = client.request(
        "GET",
        b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
          sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert_eq!(answer.unwrap().status, 502);
}

/// A drain ends a WebSocket in its own words, whatever it goes over: a Close with 1001, and then the stream.
#[test]
fn a_drain_tells_those_on_streams() {
    const CLOSE: [u8; 4] = [0x88, 2, 0x03, 0xe9];
    let ((one, _said), two) = (echoing(), taking());
    let mut gateway = Gateway::start(
        "workers = 1\n[shutdown]\ndeadline = \"5s\"\n[listen.web]\naddress = \"@web@\"\n\
         [service.one]\nendpoints = [\"@one@\"]\n[service.two]\nprotocol = \"h2\"\nendpoints = [\"@two@\"]\n\
         [[route]]\nmatch.path = \"/two\"\nto = \"two\"\n[[route]]\nto = \"one\"\n",
        &[("one", one.address), ("two", two.address)],
    );
    let mut raw = Raw::connect(gateway.web());
    let text = [0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
    for (stream, path) in [(1, "/one"), (3, "/two")] {
        raw.send(&connect(stream, path));
        assert!(is_ok(&raw.until(HEADERS)));
        exchange(&mut raw, stream, &text);
    }
    gateway.signal(libc::SIGTERM);
    gateway.until_refused(gateway.web());
    exchange(&mut raw, 1, &text);
    let frames = raw.rest();
    for stream in [1, 3] {
        let payload: Vec<u8> = frames
            .iter()
            .filter(|frame| frame.kind == DATA && frame.stream == stream)
            .flat_map(|frame| frame.payload.clone())
            .collect();
        assert_eq!(payload, CLOSE, "stream {stream}");
        assert!(frames.iter().any(|frame| frame.stream == stream && frame.ends_stream()), "stream {stream}");
    }
    assert!(gateway.wait_exit(PATIENCE).expect("it ends").success());
}
