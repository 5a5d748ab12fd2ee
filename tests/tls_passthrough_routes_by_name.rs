//! Promise: a TLS passthrough listener sends each connection to the service of the server name that it asks for, undecrypted and
//! unchanged, whatever pieces the name comes in. Who asks for nothing that is known goes to `to`, or is told so; who sends
//! something else, or nothing, is refused in time.

mod harness;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use harness::gateway::Reload;
use harness::tls::{BOTH, Certificate, Trust};
use harness::tls_front::{Manner, TlsFront};
use harness::{Backend, Gateway, PATIENCE, Random, Setup, backend, until};

const NAMES: [&str; 4] = ["a.test", "b.test", "deep.sub.b.test", "other.test"];

/// Two services with TLS of their own behind one listener: `a.test` by name, `*.b.test` by suffix.
struct Edge {
    certificate: Certificate,
    fronts: Vec<TlsFront>,
    gateway: Gateway,
    _origins: Vec<Backend>,
}

impl Edge {
    fn start(listener: &str) -> Edge {
        let certificate = Certificate::new(&NAMES);
        let origins: Vec<Backend> = ["first", "second", "third"]
            .map(|name| {
                Backend::serve(move |request, conn| {
                    let answer = [name.as_bytes(), b" ", &request.body].concat();
                    let _ = conn.write(&backend::ok(&answer));
                })
            })
            .into();
        let fronts: Vec<TlsFront> =
            origins.iter().map(|origin| TlsFront::start(origin.address, &Manner::of(&certificate))).collect();
        let mut setup = Setup::new();
        for (name, front) in ["first", "second", "third"].iter().zip(&fronts) {
            setup = setup.with(name, front.address);
        }
        let gateway = setup.start(&config(listener));
        Edge { certificate, fronts, gateway, _origins: origins }
    }

    fn address(&self) -> std::net::SocketAddr {
        self.gateway.address("edge")
    }

    /// Which service answers whom asks for this name.
    fn answers(&self, name: &str) -> Option<String> {
        let mut client = Trust::of(&[&self.certificate]).connect(self.address(), name).ok()?;
        let answer = client.post("/", b"body").expect("an answer");
        let text = String::from_utf8(answer.body).expect("text");
        Some(text.strip_suffix(" body").expect("the body").to_owned())
    }

    fn errors(&self, kind: &str) -> f64 {
        self.gateway.metrics().sum("tidegate_tcp_errors_total", &[("kind", kind)])
    }
}

fn config(listener: &str) -> String {
    let service = |name: &str| format!("[service.{name}]\nendpoints = [\"@{name}@\"]\n");
    let services = ["first", "second", "third"].map(service).concat();
    format!(
        "[timeouts]\nheader = \"2s\"\n[listen.edge]\naddress = \"@edge@\"\nprotocol = \"tls-passthrough\"\n{listener}\n{services}"
    )
}

const SNI: &str = "sni = { \"A.test\" = \"first\", \"*.b.test\" = \"second\" }\n";

#[test]
fn each_name_goes_to_its_service() {
    let edge = Edge::start(&format!("{SNI}to = \"third\""));
    assert_eq!(edge.answers("a.test").as_deref(), Some("first"));
    assert_eq!(edge.answers("deep.sub.b.test").as_deref(), Some("second"));
    assert_eq!(edge.answers("b.test").as_deref(), Some("third"), "`*.b.test` is for the names below it");
    assert_eq!(edge.answers("other.test").as_deref(), Some("third"));
    let asked: Vec<_> = edge.fronts[2].shown().into_iter().filter_map(|shown| shown.server_name).collect();
    assert_eq!(asked, ["b.test", "other.test"], "the endpoint sees what the client said");
    until("all are logged", || edge.gateway.access_log().len() == 4);
    let log = edge.gateway.access_log();
    assert!(log.iter().any(|line| line["host"] == "a.test" && line["service"] == "first"), "{log:?}");
    let sum =
        |service: &str| edge.gateway.metrics().sum("tidegate_tcp_connections_total", &[("service", service)]);
    assert_eq!((sum("first"), sum("second"), sum("third")), (1.0, 1.0, 2.0));
}

#[test]
fn who_asks_for_nothing_known_is_told_so() {
    let edge = Edge::start(SNI);
    let refused = Trust::of(&[&edge.certificate]).connect(edge.address(), "other.test");
    let error = refused.err().expect("no handshake").to_string();
    assert!(error.contains("UnrecognisedName"), "{error}");
    until("it is counted", || edge.errors("no_route") == 1.0);
    assert_eq!(edge.answers("a.test").as_deref(), Some("first"));
}

/// What a client says first.
fn hello(name: &'static str) -> Vec<u8> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_protocol_versions(BOTH).expect("versions");
    let config = builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let name = ServerName::try_from(name).expect("a name");
    let mut connection = ClientConnection::new(Arc::new(config), name).expect("a connection");
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).expect("it is written");
    bytes
}

fn connect(edge: &Edge) -> TcpStream {
    let stream = TcpStream::connect(edge.address()).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_nodelay(true).expect("no delay");
    stream
}

/// Of one message in records of a few bytes, each packet with a piece of one: a server answers it as if it had come whole.
#[test]
fn a_hello_in_pieces_is_understood_and_passed_on_as_it_came() {
    let edge = Edge::start(SNI);
    let whole = hello("a.test");
    let record = |part: &[u8]| [&[22, 3, 1, (part.len() >> 8) as u8, part.len() as u8], part].concat();
    for size in [7, 60, 16_384] {
        let bytes: Vec<u8> = whole[5..].chunks(size).flat_map(record).collect();
        let mut client = connect(&edge);
        let mut random = Random(size as u64);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at((random.next() as usize % 40 + 1).min(rest.len()));
            client.write_all(now).expect("it is taken");
            rest = later;
        }
        let mut header = [0; 6];
        client.read_exact(&mut header).expect("the endpoint's answer");
        assert_eq!((header[0], header[5]), (22, 2), "a ServerHello to records of {size}");
    }
}

#[test]
fn something_else_is_refused_and_a_standstill_ends_in_time() {
    let edge = Edge::start(&format!("{SNI}to = \"third\""));
    let refused = |bytes: &[u8]| {
        let mut client = connect(&edge);
        client.write_all(bytes).expect("it is taken");
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        answer
    };
    let decode_error = [21, 3, 3, 0, 2, 2, 50];
    assert_eq!(refused(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), decode_error);
    assert_eq!(refused(&[0xff; 100]), decode_error);
    // A message of over 48 KiB, and one in so small records that it does not fit a buffer.
    assert_eq!(refused(b"\x16\x03\x01\x00\x04\x01\x00\xff\xff"), decode_error);
    let drops: Vec<u8> =
        [&b"\x16\x03\x01\x00\x04\x01\x00\xbf\xff"[..], &b"\x16\x03\x01\x00\x01\x07".repeat(11_000)].concat();
    let mut client = connect(&edge);
    let _ = client.write_all(&drops);
    let _ = client.read_to_end(&mut Vec::new());
    until("each is counted", || edge.errors("bad_client_hello") == 4.0);
    let mut silent = connect(&edge);
    silent.write_all(&hello("a.test")[..50]).expect("it is taken");
    let started = std::time::Instant::now();
    let _ = silent.read_to_end(&mut Vec::new());
    assert!(started.elapsed() >= Duration::from_millis(1_900));
    until("it is counted", || edge.errors("header_timeout") == 1.0);
    drop(connect(&edge));
    until("one that says nothing is no more than gone", || edge.errors("client_closed") >= 1.0);
    assert!(edge.fronts.iter().all(|front| front.shown().is_empty()), "no endpoint was troubled");
    assert_eq!(edge.answers("a.test").as_deref(), Some("first"));
}

#[test]
fn large_bodies_are_spliced_both_ways_and_reloads_change_the_names() {
    let mut edge = Edge::start(SNI);
    let trust = Trust::of(&[&edge.certificate]);
    let mut client = trust.connect(edge.address(), "a.test").expect("a handshake");
    let mut random = Random(7);
    let body: Vec<u8> = (0..6_000_000).map(|_| random.next() as u8).collect();
    let answer = client.post("/", &body).expect("an answer");
    assert!(answer.body == [b"first ", &body[..]].concat());
    assert!(edge.gateway.metrics().sum("tidegate_spliced_bytes_total", &[]) > 0.0);
    let swapped = config("sni = { \"a.test\" = \"second\" }\nto = \"third\"");
    assert_eq!(edge.gateway.reload(&swapped), Reload::Taken);
    assert_eq!(edge.answers("a.test").as_deref(), Some("second"));
    assert_eq!(edge.answers("deep.sub.b.test").as_deref(), Some("third"));
    assert!(
        client.post("/", b"still").expect("an answer").body == b"first still",
        "what is open stays where it is"
    );
}

/// In from a load balancer, and out to an endpoint that wants one.
#[test]
fn proxy_headers_stand_before_the_hello_on_both_sides() {
    let certificate = Certificate::new(&NAMES);
    let origin = Backend::fixed("in");
    let manner = Manner { line_first: true, ..Manner::of(&certificate) };
    let front = TlsFront::start(origin.address, &manner);
    let config = "[listen.edge]\naddress = \"@edge@\"\nprotocol = \"tls-passthrough\"\nsni = { \"a.test\" = \"first\" }\n\
                  proxy_protocol = { trusted = [\"127.0.0.0/8\"] }\n\
                  [service.first]\nendpoints = [\"@first@\"]\nproxy_protocol = \"v1\"\n";
    let gateway = Setup::new().with("first", front.address).start(config);
    let mut stream = TcpStream::connect(gateway.address("edge")).expect("a connection");
    stream.write_all(b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n").expect("it is taken");
    let mut client = Trust::of(&[&certificate]).over(stream, "a.test").expect("a handshake");
    assert_eq!(client.get("/").expect("an answer").body, b"in");
    assert_eq!(front.shown()[0].before, b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n");
}
