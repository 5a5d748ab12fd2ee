//! Promise: towards endpoints with TLS everything holds that holds without: exact bytes, kept connections, retries, resets,
//! half-closes, tunnels. An endpoint is believed only if its certificate says so; what it is refused for is counted and named,
//! and nothing of a request has reached it. Ours is shown where it is asked for.

mod harness;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use rustls::version::{TLS12, TLS13};

use harness::gateway::Reload;
use harness::http2_server::Http2Backend;
use harness::process::Directory;
use harness::tls::{Certificate, Trust};
use harness::tls_front::{Manner, TlsFront};
use harness::{Backend, Gateway, PATIENCE, Random, Setup, backend, until};

/// What a gateway needs to reach an endpoint: the certificates that it may name.
struct Place {
    directory: Directory,
    endpoint: Certificate,
    own: Certificate,
}

impl Place {
    fn new(names: &[&str]) -> Place {
        let (directory, endpoint, own) =
            (Directory::new(), Certificate::new(names), Certificate::new(&["gateway.test"]));
        endpoint.write(&directory, "endpoint");
        own.write(&directory, "own");
        Place { directory, endpoint, own }
    }

    fn file(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// `tls` as the service has it, with `@roots@` for the endpoint's certificate.
    fn tls(&self, keys: &str) -> String {
        format!(
            "tls = {{ {} }}",
            keys.replace("@roots@", &format!("roots = \"{}\"", self.file("endpoint.pem")))
        )
    }

    fn gateway(&self, endpoints: &[SocketAddr], keys: &str) -> Gateway {
        Gateway::before_with(endpoints, "", &self.tls(keys))
    }
}

fn echo() -> Backend {
    Backend::serve(|request, conn| drop(conn.write(&backend::ok(&request.body))))
}

fn bytes(length: usize) -> Vec<u8> {
    let mut random = Random(length as u64 | 1);
    (0..length).map(|_| random.next() as u8).collect()
}

const NAMED: &str = "@roots@, server_name = \"models.test\"";

#[test]
fn bodies_are_exact_both_ways_and_connections_are_kept() {
    let (place, origin) = (Place::new(&["models.test"]), echo());
    for version in [&TLS12, &TLS13] {
        let manner = Manner { versions: &[version], ..Manner::of(&place.endpoint) };
        let front = TlsFront::start(origin.address, &manner);
        let gateway = place.gateway(&[front.address], NAMED);
        let mut client = gateway.client();
        for length in [0, 1, 4_097, 16_384, 16_385, 65_536, 200_000, 3_000_000] {
            let answer =
                client.post("/", &bytes(length)).unwrap_or_else(|fault| panic!("{length}: {fault:?}"));
            assert_eq!(answer.status, 200, "{length} bytes, {:?}, {}", version.version, gateway.stderr());
            assert!(answer.body == bytes(length), "{length} bytes came back as {}", answer.body.len());
        }
        let [shown] = &front.shown()[..] else { panic!("one connection, not {:?}", front.shown()) };
        assert_eq!(shown.server_name.as_deref(), Some("models.test"));
        assert_eq!(shown.alpn.as_deref(), Some(&b"http/1.1"[..]));
        assert_eq!(shown.certificate, None);
    }
}

#[test]
fn an_endpoint_is_asked_for_its_own_name_or_address() {
    let (place, origin) = (Place::new(&["127.0.0.1", "localhost"]), echo());
    let front = TlsFront::start(origin.address, &Manner::of(&place.endpoint));
    let gateway = place.gateway(&[front.address], "@roots@");
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(front.shown()[0].server_name, None, "an address is no server name (RFC 6066 §3)");
    let named = format!("[\"localhost:{}\"]", front.address.port());
    let config = format!(
        "[listen.web]\naddress = \"@web@\"\n[service.main]\nendpoints = {named}\n{}\n[[route]]\nto = \"main\"\n",
        place.tls("@roots@")
    );
    let gateway = Setup::new().start(&config);
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(front.shown()[1].server_name.as_deref(), Some("localhost"));
}

/// Nothing of a request reaches who is not believed: even a POST goes elsewhere.
#[test]
fn who_is_not_believed_gets_nothing() {
    let (place, impostor) = (Place::new(&["models.test"]), Certificate::new(&["models.test"]));
    let other_name = Certificate::new(&["elsewhere.test"]);
    let origin = echo();
    let good = TlsFront::start(origin.address, &Manner::of(&place.endpoint));
    // Answers without having understood anything.
    let plain = Backend::start(|conn| {
        let _ = conn.wire.fill();
        let _ = conn.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    });
    let bad = [
        TlsFront::start(origin.address, &Manner::of(&impostor)).address,
        TlsFront::start(origin.address, &Manner::of(&other_name)).address,
        plain.address,
    ];
    for bad in bad {
        let gateway = place.gateway(&[bad], NAMED);
        let answer = gateway.get("/");
        assert_eq!(answer.status, 502, "{bad}");
        let errors = |gateway: &Gateway| {
            gateway.metrics().sum("tidegate_request_errors_total", &[("kind", "upstream_tls_failed")])
        };
        assert_eq!(errors(&gateway), 1.0);
        assert!(
            !String::from_utf8_lossy(&answer.body).contains("127.0.0.1"),
            "clients are told no more than that"
        );
        let said = gateway.stderr();
        assert!(said.contains("service main: no TLS with endpoint"), "{said}");

        let gateway = place.gateway(&[bad, good.address], NAMED);
        let mut client = gateway.client();
        let before = origin.requests();
        for number in 0..10 {
            assert_eq!(client.post("/", b"once").expect("an answer").status, 200, "request {number}");
        }
        assert_eq!(origin.requests() - before, 10, "each arrived once");
        assert_eq!(errors(&gateway), 0.0);
    }
    assert_eq!(plain.requests(), 0);
}

#[test]
fn a_name_is_checked_even_where_the_certificate_is_known() {
    let (place, origin) = (Place::new(&["models.test"]), echo());
    let front = TlsFront::start(origin.address, &Manner::of(&place.endpoint));
    let gateway = place.gateway(&[front.address], "@roots@, server_name = \"other.test\"");
    assert_eq!(gateway.get("/").status, 502);
    let gateway = place.gateway(&[front.address], "verify = false");
    assert_eq!(gateway.get("/").status, 200, "whoever answers is believed if the config says so");
}

/// What everybody makes with openssl for a try: signed by itself, for itself.
#[test]
fn a_certificate_that_the_config_names_may_be_the_endpoints_own() {
    let origin = echo();
    let status = |certificate: Certificate, name: &str| {
        let place = Place { endpoint: certificate, ..Place::new(&[]) };
        place.endpoint.write(&place.directory, "endpoint");
        let front = TlsFront::start(origin.address, &Manner::of(&place.endpoint));
        let gateway = place.gateway(&[front.address], &format!("@roots@, server_name = \"{name}\""));
        gateway.get("/").status
    };
    let expired = |params: &mut rcgen::CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    assert_eq!(status(Certificate::of_authority(&["models.test"]), "models.test"), 200);
    assert_eq!(
        status(Certificate::of_authority(&["models.test"]), "other.test"),
        502,
        "only for its own name"
    );
    assert_eq!(status(Certificate::with(&["models.test"], expired), "models.test"), 502, "only in its time");
    let both = |params: &mut rcgen::CertificateParams| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        expired(params);
    };
    assert_eq!(status(Certificate::with(&["models.test"], both), "models.test"), 502, "only in its time");
}

#[test]
fn our_certificate_is_shown_where_it_is_asked_for() {
    let (place, origin) = (Place::new(&["models.test"]), echo());
    let manner = Manner { client: Some(&place.own), ..Manner::of(&place.endpoint) };
    for versions in [&[&TLS12][..], &[&TLS13]] {
        let front = TlsFront::start(origin.address, &Manner { versions, ..manner });
        let own = format!(
            "{NAMED}, certificate = \"{}\", key = \"{}\"",
            place.file("own.pem"),
            place.file("own.key")
        );
        let gateway = place.gateway(&[front.address], &own);
        assert_eq!(gateway.get("/").status, 200);
        assert_eq!(front.shown()[0].certificate.as_deref(), Some(&*place.own.der));
        let gateway = place.gateway(&[front.address], NAMED);
        let mut client = gateway.client();
        assert_eq!(client.get("/").expect("an answer").status, 502, "without one we are not let in");
        let errors = [("kind", "upstream_tls_failed")];
        assert_eq!(gateway.metrics().sum("tidegate_request_errors_total", &errors), 1.0);
        assert!(gateway.stderr().contains("no TLS with endpoint"), "{}", gateway.stderr());

        // In TLS 1.3 the refusal comes behind our request, of which nothing has been looked at.
        let other = TlsFront::start(origin.address, &Manner::of(&place.endpoint));
        let gateway = place.gateway(&[front.address, other.address], NAMED);
        let mut client = gateway.client();
        let before = origin.requests();
        for number in 0..10 {
            assert_eq!(client.post("/", b"once").expect("an answer").status, 200, "request {number}");
        }
        assert_eq!(origin.requests() - before, 10, "each arrived once");
    }
}

/// The same over HTTP/2, where it is the connection that ends, and others' requests with it.
#[test]
fn a_refusal_over_http2_is_told_as_one_and_tried_elsewhere() {
    let (place, origin) = (Place::new(&["models.test"]), Http2Backend::echo());
    let manner = Manner { alpn: &[b"h2"], ..Manner::of(&place.endpoint) };
    let strict = Manner { client: Some(&place.own), ..manner };
    let front = TlsFront::start(origin.address, &Manner { versions: &[&TLS13], ..strict });
    let other = TlsFront::start(origin.address, &manner);
    let service = format!("protocol = \"h2\"\n{}", place.tls(NAMED));
    let gateway = Gateway::before_with(&[front.address], "", &service);
    assert_eq!(gateway.client().get("/").expect("an answer").status, 502);
    let errors = [("kind", "upstream_tls_failed")];
    assert_eq!(gateway.metrics().sum("tidegate_request_errors_total", &errors), 1.0);
    assert!(gateway.stderr().contains("no TLS with endpoint"), "{}", gateway.stderr());
    let gateway = Gateway::before_with(&[front.address, other.address], "", &service);
    for number in 0..10 {
        assert_eq!(gateway.client().post("/", b"once").unwrap().status, 200, "request {number}");
    }
    assert_eq!(origin.requests(), 10, "each arrived once");
}

/// What nothing has changed of goes on; what was agreed on under other settings does not.
#[test]
fn a_reload_keeps_connections_and_sessions_of_what_is_the_same() {
    let (place, origin) = (Place::new(&["models.test", "models2.test"]), echo());
    let front = TlsFront::start(origin.address, &Manner::of(&place.endpoint));
    let config = |tls: &str| {
        format!(
            "workers = 1\n[listen.web]\naddress = \"@web@\"\n[service.main]\nendpoints = [\"{}\"]\n{tls}\n[[route]]\nto = \"main\"\n",
            front.address
        )
    };
    let mut gateway = Setup::new().start(&config(&place.tls(NAMED)));
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(gateway.reload(&format!("{}\n# the same", config(&place.tls(NAMED)))), Reload::Taken);
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(front.shown().len(), 1, "the pooled connection is still good");
    assert_eq!(gateway.reload(&config(&place.tls("@roots@, server_name = \"models2.test\""))), Reload::Taken);
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(front.shown().len(), 2, "it was not agreed on for this name");
    assert_eq!(front.shown()[1].server_name.as_deref(), Some("models2.test"));
    assert_eq!(gateway.reload(&config("")), Reload::Taken);
    assert_ne!(
        gateway.client().get("/").map(|answer| answer.status),
        Ok(200),
        "plain HTTP is not what is spoken there"
    );
    assert_eq!(gateway.reload(&config(&place.tls("@roots@, server_name = \"models2.test\""))), Reload::Taken);
    assert_eq!(gateway.get("/").status, 200);
}

/// A connection was agreed on for one name; who has another now is asked for his own certificate.
#[test]
fn a_pooled_connection_belongs_to_the_name_that_it_was_opened_for() {
    let (place, origin) = (Place::new(&["127.0.0.1", "localhost"]), echo());
    let front = TlsFront::start(origin.address, &Manner::of(&place.endpoint));
    let config = |host: &str| {
        let endpoint = format!("{host}:{}", front.address.port());
        format!(
            "workers = 1\n[listen.web]\naddress = \"@web@\"\n[service.main]\nendpoints = [\"{endpoint}\"]\n{}\n[[route]]\nto = \"main\"\n",
            place.tls("@roots@")
        )
    };
    let mut gateway = Setup::new().start(&config("127.0.0.1"));
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(gateway.reload(&config("localhost")), Reload::Taken);
    assert_eq!(gateway.get("/").status, 200);
    let names: Vec<_> = front.shown().into_iter().map(|shown| shown.server_name).collect();
    assert_eq!(names, [None, Some("localhost".to_owned())]);
}

#[test]
fn sessions_resume() {
    let place = Place::new(&["models.test"]);
    let closing = Backend::serve(|_, conn| {
        let _ = conn.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
        conn.close();
    });
    for versions in [&[&TLS12][..], &[&TLS13]] {
        let front = TlsFront::start(closing.address, &Manner { versions, ..Manner::of(&place.endpoint) });
        let gateway = place.gateway(&[front.address], NAMED);
        for _ in 0..5 {
            assert_eq!(gateway.get("/").status, 200, "{}", gateway.stderr());
        }
        let resumed = front.shown().iter().filter(|shown| shown.is_resumed).count();
        assert_eq!(resumed, 4, "{:?}", front.shown());
    }
}

#[test]
fn an_endpoint_that_shakes_no_hand_is_given_up_in_time() {
    let place = Place::new(&["models.test"]);
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let top = "[timeouts]\nconnect = \"200ms\"\n";
    let gateway = Gateway::before_with(&[silent.local_addr().unwrap()], top, &place.tls(NAMED));
    assert_eq!(gateway.get("/").status, 504);
    assert_eq!(gateway.metrics().sum("tidegate_request_errors_total", &[("kind", "connect_timeout")]), 1.0);
}

#[test]
fn a_proxy_header_comes_before_the_handshake() {
    let (place, origin) = (Place::new(&["models.test"]), echo());
    let manner = Manner { line_first: true, ..Manner::of(&place.endpoint) };
    let front = TlsFront::start(origin.address, &manner);
    let config = format!(
        "[listen.web]\naddress = \"@web@\"\n[listen.tcp]\naddress = \"@tcp@\"\nprotocol = \"tcp\"\nto = \"main\"\n\
         [service.main]\nendpoints = [\"{}\"]\nproxy_protocol = \"v1\"\n{}\n[[route]]\nto = \"main\"\n",
        front.address,
        place.tls(NAMED)
    );
    let gateway = Setup::new().start(&config);
    let mut client = gateway.client();
    for _ in 0..3 {
        assert_eq!(client.post("/", b"body").expect("an answer").body, b"body");
    }
    let mut tcp = TcpStream::connect(gateway.address("tcp")).expect("a connection");
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    tcp.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\ntcp").unwrap();
    tcp.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).expect("an end");
    assert!(answer.ends_with(b"tcp"));
    let shown = front.shown();
    assert_eq!(shown.len(), 2, "the client's own connection is kept for it");
    for shown in shown {
        assert!(shown.before.starts_with(b"PROXY TCP4 127.0.0.1 127.0.0.1 "), "{:?}", shown.before);
    }
}

/// The listener passes bytes on as they are; only the way to the endpoint is encrypted.
#[test]
fn tcp_connections_are_exact_and_half_close() {
    let place = Place::new(&["models.test"]);
    // Answers once all has arrived.
    let origin = Backend::start(|conn| {
        let mut all = std::mem::take(&mut conn.wire.buffer);
        while conn.wire.fill().unwrap_or(false) {
            all.append(&mut conn.wire.buffer);
        }
        let _ = conn.write(&all);
    });
    for versions in [&[&TLS12][..], &[&TLS13]] {
        let front = TlsFront::start(origin.address, &Manner { versions, ..Manner::of(&place.endpoint) });
        let config = format!(
            "[listen.tcp]\naddress = \"@tcp@\"\nprotocol = \"tcp\"\nto = \"main\"\n[service.main]\nendpoints = [\"{}\"]\n{}\n",
            front.address,
            place.tls(NAMED)
        );
        let gateway = Setup::new().start(&config);
        for length in [1, 70_000, 1_500_000] {
            let mut client = TcpStream::connect(gateway.address("tcp")).expect("a connection");
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client.write_all(&bytes(length)).expect("it is taken");
            client.shutdown(Shutdown::Write).unwrap();
            let mut back = Vec::new();
            client.read_to_end(&mut back).expect("an end");
            assert!(back == bytes(length), "{length} bytes came back as {}", back.len());
        }
        let says_what_follows = |shown: &harness::tls_front::Shown| shown.alpn.is_some();
        assert!(!front.shown().iter().any(says_what_follows), "nobody has looked at what it is");
    }
}

#[test]
fn tunnels_go_through_tls_on_both_sides() {
    let place = Place::new(&["models.test"]);
    let origin = Backend::start(|conn| {
        let Ok(_) = conn.read_request() else { return };
        let _ =
            conn.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
        loop {
            let got = std::mem::take(&mut conn.wire.buffer);
            if conn.write(&got).is_err() || !conn.wire.fill().unwrap_or(false) {
                return;
            }
        }
    });
    let front = TlsFront::start(origin.address, &Manner::of(&place.endpoint));
    let edge = Certificate::new(&["edge.test"]);
    edge.write(&place.directory, "edge");
    let config = format!(
        "[listen.web]\naddress = \"@web@\"\nprotocol = \"https\"\ntls = {{ certificate = \"{}\", key = \"{}\" }}\n\
         [service.main]\nendpoints = [\"{}\"]\n{}\n[[route]]\nto = \"main\"\n",
        place.file("edge.pem"),
        place.file("edge.key"),
        front.address,
        place.tls(NAMED)
    );
    let gateway = Setup::new().start(&config);
    let mut client = Trust::of(&[&edge]).connect(gateway.web(), "edge.test").expect("a handshake");
    let upgrade = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    client.stream().write_all(upgrade).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.stream().read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    for length in [1, 100, 16_385, 100_000] {
        client.stream().write_all(&bytes(length)).unwrap();
        client.stream().flush().unwrap();
        let mut back = vec![0; length];
        client.stream().read_exact(&mut back).expect("an echo");
        assert!(back == bytes(length));
    }
    client.stream().conn.send_close_notify();
    client.stream().flush().unwrap();
    let mut rest = Vec::new();
    client.stream().read_to_end(&mut rest).expect("the echo's end is passed on");
    until("the tunnel is over", || gateway.metrics().sum("tidegate_tunnels_active", &[]) == 0.0);
}

/// Cut without the word that says so, an answer is not taken for whole.
#[test]
fn an_answer_that_is_cut_is_no_end() {
    let place = Place::new(&["models.test"]);
    let origin = Backend::serve(|_, conn| {
        let _ = conn.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf");
        conn.reset();
    });
    let front = TlsFront::start(origin.address, &Manner::of(&place.endpoint));
    let gateway = place.gateway(&[front.address], NAMED);
    let answer = gateway.client().get("/");
    assert!(answer.is_err(), "{answer:?}");
    let whole = Backend::serve(|_, conn| {
        let _ = conn.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nwhole");
        conn.close();
    });
    let front = TlsFront::start(whole.address, &Manner::of(&place.endpoint));
    let gateway = place.gateway(&[front.address], NAMED);
    assert_eq!(gateway.get("/").body, b"whole");
}
