//! Promise: what holds for HTTP holds through TLS 1.2 and 1.3: every byte of bodies and tunnels, keep-alive, timeouts,
//! reloads. The certificate is the one for the name that was asked for; sessions resume on every core and after a reload;
//! certificates change under load without a failure; who breaks the protocol, stalls or speaks something else is told so
//! and harms nobody.

mod harness;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};

use harness::gateway::Reload;
use harness::process::Directory;
use harness::tls::{BOTH, Certificate, Records, TlsClient, Trust};
use harness::{Backend, Client, Ended, Gateway, PATIENCE, Random, Setup, backend, until};

/// A gateway with `listen.web` on https, and the certificates it has.
struct Edge {
    directory: Directory,
    certificate: Certificate,
    gateway: Gateway,
}

impl Edge {
    /// `top` stands before everything, `rest` behind it; `@origin@` is the backend's address.
    fn start(origin: &Backend, top: &str, rest: &str) -> Edge {
        Edge::start_with(origin.address, top, "", rest)
    }

    fn start_with(origin: SocketAddr, top: &str, tls: &str, rest: &str) -> Edge {
        let directory = Directory::new();
        let certificate = Certificate::new(&["edge.test", "*.edge.test"]);
        certificate.write(&directory, "edge");
        let config = config(&directory, top, tls, rest);
        let gateway = Setup::new().with("origin", origin).start(&config);
        Edge { directory, certificate, gateway }
    }

    fn connect(&self) -> TlsClient {
        self.trust().connect(self.gateway.web(), "edge.test").expect("a handshake")
    }

    fn trust(&self) -> Trust {
        Trust::of(&[&self.certificate])
    }
}

fn config(directory: &Directory, top: &str, tls: &str, rest: &str) -> String {
    let file = |name: &str| directory.path().join(name).display().to_string();
    format!(
        "{top}\n[listen.web]\naddress = \"@web@\"\nprotocol = \"https\"\n\
         tls = {{ certificate = \"{}\", key = \"{}\"{tls} }}\n{rest}\n\
         [service.main]\nendpoints = [\"@origin@\"]\n[[route]]\nto = \"main\"\n",
        file("edge.pem"),
        file("edge.key")
    )
}

/// Answers with what it was sent.
fn echo() -> Backend {
    Backend::serve(|request, conn| drop(conn.write(&backend::ok(&request.body))))
}

fn bytes(length: usize) -> Vec<u8> {
    let mut random = Random(length as u64 | 1);
    (0..length).map(|_| random.next() as u8).collect()
}

#[test]
fn bodies_are_exact_both_ways_and_the_connection_is_kept() {
    let origin = echo();
    let edge = Edge::start(&origin, "[splice]\nfrom = \"64KiB\"", "");
    for version in [&TLS12, &TLS13] {
        let trust = Trust::speaking(&[&edge.certificate], &[version], &[]);
        let mut client = trust.connect(edge.gateway.web(), "edge.test").expect("a handshake");
        for length in [0, 1, 4_095, 4_097, 16_383, 16_384, 16_385, 65_536, 200_000, 5_000_000] {
            let answer =
                client.post("/", &bytes(length)).unwrap_or_else(|fault| panic!("{length}: {fault:?}"));
            assert_eq!(answer.status, 200);
            assert!(answer.body == bytes(length), "{length} bytes came back as {}", answer.body.len());
        }
        assert_eq!(client.connection().protocol_version(), Some(version.version));
    }
    assert_eq!(edge.gateway.metrics().sum("tidegate_connections_total", &[]), 2.0);
    assert_eq!(
        edge.gateway.metrics().sum("tidegate_spliced_bytes_total", &[]),
        0.0,
        "what is encrypted cannot be"
    );
}

/// Many at once, on both workers, each sending and receiving at the same time and as unevenly as it can.
#[test]
fn tunnels_are_exact_both_ways_at_once() {
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
    let edge = Edge::start(&origin, "", "");
    thread::scope(|scope| {
        for number in 1..=8u64 {
            let edge = &edge;
            scope.spawn(move || {
                let mut client = edge.connect();
                let upgrade = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
                assert_eq!(client.request("GET", upgrade).expect("an answer").status, 101);
                let mut random = Random(number * 7919);
                for _ in 0..40 {
                    let most = [3, 1_000, 40_000, 300_000][random.below(4) as usize];
                    let sent = bytes(1 + random.below(most) as usize);
                    // Not more than the sockets on the way hold: this client does one thing at a time.
                    for piece in sent.chunks(50_000) {
                        client.stream().write_all(piece).expect("the gateway takes it");
                        client.stream().flush().expect("the gateway takes it");
                        assert!(client.wire.take(piece.len()).expect("the echo") == piece, "client {number}");
                    }
                }
            });
        }
    });
    edge.gateway.until_metric("tidegate_tunnels_active", &[], 0.0);
}

#[test]
fn the_certificate_is_the_one_for_the_name_asked_for() {
    let origin = echo();
    let directory = Directory::new();
    let [first, exact, below] =
        [&["edge.test"][..], &["a.b.test"], &["*.b.test", "B2.test"]].map(Certificate::new);
    first.write(&directory, "edge");
    let listed = [(&exact, "exact"), (&below, "below")].map(|(certificate, name)| {
        let (certificate, key) = certificate.write(&directory, name);
        format!("{{ certificate = \"{}\", key = \"{}\" }}", certificate.display(), key.display())
    });
    let tls = format!(", certificates = [{}]", listed.join(", "));
    let gateway = Setup::new().with("origin", origin.address).start(&config(&directory, "", &tls, ""));
    let shown = |name: &str| {
        let trust = Trust::of(&[&first, &exact, &below]);
        let client = trust.connect(gateway.web(), name);
        client.map(|mut client| client.connection().peer_certificates().expect("one")[0].clone())
    };
    for (name, meant) in
        [("edge.test", &first), ("a.b.test", &exact), ("c.b.test", &below), ("b2.test", &below)]
    {
        assert_eq!(shown(name).expect("a handshake"), meant.der, "{name}");
    }
    // For an unknown name the first, which this client then refuses; below a wildcard's child is not below it.
    for name in ["unknown.test", "x.c.b.test", "127.0.0.1"] {
        assert!(shown(name).is_err(), "{name}");
    }
}

#[test]
fn sessions_resume_on_every_core_and_after_a_reload() {
    let origin = echo();
    let mut edge = Edge::start(&origin, "workers = 2", "");
    for version in [&TLS12, &TLS13] {
        let trust = Trust::speaking(&[&edge.certificate], &[version], &[]);
        let connect = |gateway: &Gateway| {
            let mut client = trust.connect(gateway.web(), "edge.test").expect("a handshake");
            assert_eq!(client.get("/").expect("an answer").status, 200);
            (client.connection().handshake_kind().expect("it is over"), client)
        };
        let (kind, first) = connect(&edge.gateway);
        assert_eq!(kind, HandshakeKind::Full);
        // All are kept, so that both workers have some.
        let more: Vec<_> = (0..15).map(|_| connect(&edge.gateway)).collect();
        assert!(more.iter().all(|(kind, _)| *kind == HandshakeKind::Resumed), "{:?}", version.version);
        let config = config(&edge.directory, "workers = 2", "", "# another one");
        assert_eq!(edge.gateway.reload(&config), Reload::Taken);
        assert_eq!(connect(&edge.gateway).0, HandshakeKind::Resumed, "after a reload");
        drop((first, more));
    }
    let ended = |result| edge.gateway.metrics().sum("tidegate_tls_handshakes_total", &[("result", result)]);
    assert_eq!((ended("full"), ended("resumed"), ended("failed")), (2.0, 32.0, 0.0));
}

#[test]
fn the_oldest_version_is_as_configured() {
    let origin = echo();
    let edge = Edge::start_with(origin.address, "", ", min_version = \"1.3\"", "");
    let with = |version| {
        Trust::speaking(&[&edge.certificate], &[version], &[]).connect(edge.gateway.web(), "edge.test")
    };
    let refused = with(&TLS12).err().expect("a refusal").to_string();
    assert!(refused.contains("ProtocolVersion"), "{refused}");
    assert_eq!(with(&TLS13).expect("a handshake").get("/").expect("an answer").status, 200);
}

#[test]
fn only_what_is_spoken_is_agreed_on() {
    let origin = echo();
    let mut edge = Edge::start(&origin, "", "");
    let web = edge.gateway.web();
    let with = |alpn: &[&[u8]]| Trust::speaking(&[&edge.certificate], BOTH, alpn).connect(web, "edge.test");
    let mut both = with(&[b"http/1.1", b"h2"]).expect("a handshake");
    assert_eq!(both.connection().alpn_protocol(), Some(&b"h2"[..]), "by our order");
    let mut one = with(&[b"http/1.1"]).expect("a handshake");
    assert_eq!(one.connection().alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(one.get("/").expect("an answer").status, 200);
    assert_eq!(with(&[]).expect("a handshake").connection().alpn_protocol(), None);
    let refused = |result: std::io::Result<TlsClient>| {
        let refused = result.err().expect("a refusal").to_string();
        assert!(refused.contains("NoApplicationProtocol"), "{refused}");
    };
    refused(with(&[b"h3"]));
    let without = config(&edge.directory, "", "", "").replace("@origin@", &origin.address.to_string());
    let without = without.replace("\"https\"", "\"https\"\nhttp2 = false");
    assert_eq!(edge.gateway.reload(&without), Reload::Taken);
    refused(with(&[b"h2"]));
    both = with(&[b"h2", b"http/1.1"]).expect("a handshake");
    assert_eq!(both.connection().alpn_protocol(), Some(&b"http/1.1"[..]));
}

/// Clients that never stop, while the certificate changes; and one that cannot be read changes nothing.
#[test]
fn certificates_change_under_load_and_a_bad_one_keeps_the_old() {
    let origin = echo();
    let mut edge = Edge::start(&origin, "", "");
    let next = Certificate::new(&["edge.test"]);
    let trust = Trust::of(&[&edge.certificate, &next]);
    let (web, stop, asked) = (edge.gateway.web(), AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for number in 0..4 {
            let (trust, stop, asked) = (trust.clone(), &stop, &asked);
            scope.spawn(move || {
                let mut kept = trust.connect(web, "edge.test").expect("a handshake");
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(kept.get("/").expect("an answer").status, 200, "client {number}");
                    let mut fresh = trust.connect(web, "edge.test").expect("a handshake");
                    assert_eq!(fresh.get("/").expect("an answer").status, 200, "client {number}");
                    asked.fetch_add(2, Ordering::Relaxed);
                }
            });
        }
        let more = |count: u64| {
            let enough = asked.load(Ordering::Relaxed) + count;
            until("the load goes on", || asked.load(Ordering::Relaxed) >= enough);
        };
        let shown = |edge: &Edge| {
            let mut client =
                Trust::of(&[&edge.certificate, &next]).connect(web, "edge.test").expect("a handshake");
            client.connection().peer_certificates().expect("one")[0].clone()
        };
        more(40);
        edge.directory.write("edge.pem", "no certificate");
        assert_eq!(edge.gateway.reload_file(), Reload::Refused);
        assert_eq!(shown(&edge), edge.certificate.der);
        more(40);
        // The new certificate with the old key.
        edge.directory.write("edge.pem", &next.pem);
        assert_eq!(edge.gateway.reload_file(), Reload::Refused);
        assert!(
            edge.gateway.stderr().contains("the key is not that of the certificate"),
            "{}",
            edge.gateway.stderr()
        );
        next.write(&edge.directory, "edge");
        assert_eq!(edge.gateway.reload_file(), Reload::Taken);
        assert_eq!(shown(&edge), next.der);
        more(40);
        stop.store(true, Ordering::Relaxed);
    });
}

/// What `tidegate check` says of each pair of files; the place is that of the value.
#[test]
fn files_that_cannot_be_used_are_explained() {
    let directory = Directory::new();
    let (one, other) = (Certificate::new(&["edge.test"]), Certificate::new(&["edge.test"]));
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let chained = [&*other.pem, &one.pem].concat();
    let cases: &[(&str, &str, &str, &str)] = &[
        (&one.pem, &one.key_pem, "", ""),
        ("", &one.key_pem, "edge.pem has no certificate", ""),
        (&one.key_pem, &one.key_pem, "edge.pem has no certificate", "are the two exchanged?"),
        (&one.pem, &one.pem, "edge.key has no private key", "are the two exchanged?"),
        (&one.pem, encrypted, "edge.key has no private key", "openssl pkey"),
        (&one.pem, &other.key_pem, "the key is not that of the certificate", "stands first"),
        // The issuer stands before the server's own.
        (&chained, &one.key_pem, "the key is not that of the certificate", "stands first"),
        ("-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n", &one.key_pem, "is no PEM file", ""),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            &one.key_pem,
            "cannot be used",
            "",
        ),
        (
            &one.pem,
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "the key cannot be used",
            "",
        ),
    ];
    for (certificate, key, message, help) in cases {
        directory.write("edge.pem", certificate);
        directory.write("edge.key", key);
        let text = "[listen.web]\naddress = \"127.0.0.1:1\"\nprotocol = \"https\"\n\
                    tls = { certificate = \"edge.pem\", key = \"edge.key\" }\n[[route]]\nrespond = { body = \"x\" }\n";
        let said = check(&directory.write("edge.toml", text));
        assert_eq!(said.contains(": error: "), !message.is_empty(), "{said}");
        assert!(said.contains(message) && said.contains(help), "not {message:?} and {help:?} but\n{said}");
        assert!(message.is_empty() || said.matches(": error: ").count() == 1, "{said}");
    }
    std::fs::remove_file(directory.path().join("edge.key")).expect("it was there");
    let said = check(&directory.path().join("edge.toml"));
    assert!(said.contains("edge.key cannot be read: No such file") && said.contains(":4:"), "{said}");
}

fn check(file: &Path) -> String {
    let output = harness::process::tidegate(&["check", "-c", &file.display().to_string()]);
    [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat()
}

/// Renewed files are taken without a word from anybody; a pair that does not fit, as between two writes, is not.
#[test]
fn renewed_files_are_taken_by_themselves() {
    let edge = Edge::start(&echo(), "", "");
    let shown = || {
        let mut client = Trust::of(&[&edge.certificate]).connect(edge.gateway.web(), "edge.test").ok()?;
        client.get("/").ok()
    };
    assert!(shown().is_some());
    let renewed = Certificate::new(&["edge.test"]);
    edge.directory.write("edge.pem", &renewed.pem);
    edge.gateway.until_stderr("the key is not that of the certificate");
    assert!(shown().is_some(), "the old ones stay");
    edge.directory.write("edge.key", &renewed.key_pem);
    until("the new one is shown", || Trust::of(&[&renewed]).connect(edge.gateway.web(), "edge.test").is_ok());
    assert_eq!(edge.gateway.metrics().sum("tidegate_config_generation", &[]), 2.0);
}

/// Whoever edits the config has yet to say that it is meant.
#[test]
fn a_renewal_takes_no_edited_config_with_it() {
    let mut edge = Edge::start(&echo(), "", "");
    let edited = config(&edge.directory, "workers = \"nonsense\"", "", "");
    edge.gateway.write_config(&edited);
    let renewed = Certificate::new(&["edge.test"]);
    renewed.write(&edge.directory, "edge");
    edge.gateway.until_stderr("too: reload to take both");
    assert!(!edge.gateway.stderr().contains("nonsense"));
    assert!(edge.trust().connect(edge.gateway.web(), "edge.test").is_ok());
}

#[test]
fn the_end_of_a_certificate_is_a_metric_and_a_warning() {
    let directory = Directory::new();
    let ends = |params: &mut rcgen::CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 2);
    Certificate::with(&["edge.test"], ends).write(&directory, "edge");
    let origin = echo();
    let config = config(&directory, "", "", "");
    let gateway = Setup::new().with("origin", origin.address).start(&config);
    let file = directory.path().join("edge.pem").display().to_string();
    let name = "tidegate_tls_certificate_not_after_timestamp_seconds";
    assert_eq!(gateway.metrics().sum(name, &[("file", &file)]), 1_577_923_200.0);
    let config = config.replace("@web@", "127.0.0.1:8443").replace("@origin@", "127.0.0.1:8000");
    let said = check(&directory.write("edge.toml", &config));
    assert!(said.contains("the certificate expired on") && !said.contains("error"), "{said}");
}

/// By openssl from one end to the other: an authority, its word on a certificate, and a client that asks for that.
#[test]
fn an_ocsp_response_is_stapled() {
    let directory = Directory::new();
    let commands = "\
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=authority -keyout ca.key -out ca.pem\n\
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=edge.test -keyout edge.key -out edge.csr\n\
        printf 'subjectAltName=DNS:edge.test' > edge.ext\n\
        openssl x509 -req -in edge.csr -CA ca.pem -CAkey ca.key -set_serial 4660 -days 30 -extfile edge.ext -out edge.pem\n\
        printf 'V\\t991231235959Z\\t\\t1234\\tunknown\\t/CN=edge.test\\n' > index.txt\n\
        openssl ocsp -index index.txt -CA ca.pem -rsigner ca.pem -rkey ca.key -issuer ca.pem -cert edge.pem -ndays 7 -respout edge.ocsp";
    let made = Command::new("sh").args(["-ec", commands]).current_dir(directory.path()).output();
    let made = made.expect("a shell");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let ocsp = format!(", ocsp = \"{}\"", directory.path().join("edge.ocsp").display());
    let origin = echo();
    let gateway = Setup::new().with("origin", origin.address).start(&config(&directory, "", &ocsp, ""));
    for version in ["-tls1_2", "-tls1_3"] {
        let asked = format!(
            "openssl s_client -connect {} -servername edge.test -CAfile ca.pem -status {version} </dev/null",
            gateway.web()
        );
        let seen =
            Command::new("sh").args(["-c", &asked]).current_dir(directory.path()).output().expect("a shell");
        let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
        assert!(
            seen.contains("OCSP Response Status: successful") && seen.contains("Cert Status: good"),
            "{seen}"
        );
    }
    let config = config(&directory, "", &ocsp.replace("edge.ocsp", "edge.pem"), "");
    let config = config.replace("@web@", "127.0.0.1:8443").replace("@origin@", "127.0.0.1:8000");
    let said = check(&directory.write("wrong.toml", &config));
    assert!(said.contains("is PEM, and OCSP responses are DER"), "{said}");
}

/// docs/tls.md: what is to be typed makes the files that the configs name, and nothing is wrong with any of these.
#[test]
fn the_recipes_work() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/tls.md");
    let recipes = std::fs::read_to_string(page).expect("the page");
    let directory = Directory::new();
    let blocks = |language: &str| -> Vec<String> {
        let fence = format!("```{language}\n");
        let behind = recipes.split(&fence).skip(1).map(|block| block.split_once("```").expect("its end").0);
        behind.map(str::to_owned).collect()
    };
    let commands = blocks("sh").into_iter().filter(|block| block.starts_with("openssl"));
    for block in commands {
        let made = Command::new("sh").args(["-ec", &block]).current_dir(directory.path()).output();
        let made = made.expect("a shell");
        assert!(made.status.success(), "{block}\n{}", String::from_utf8_lossy(&made.stderr));
    }
    let configs = blocks("toml");
    assert!(configs.len() >= 5);
    for config in configs {
        let said = check(&directory.write("edge.toml", &config));
        assert!(!said.contains("error") && !said.contains("warning"), "{config}\n{said}");
    }
}

#[test]
fn whoever_speaks_something_else_is_told_so_and_ended() {
    let origin = echo();
    let edge = Edge::start(&origin, "[timeouts]\nheader = \"1s\"", "");
    let alert = |sent: &[u8]| {
        let mut client = Client::connect(edge.gateway.web());
        client.send_all(sent);
        let read = client.read_to_close();
        read.unwrap_or_default()
    };
    for garbage in
        [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], b"\x16\x03\x01\xff\xff", &[0xff; 2000], &[0; 2000]]
    {
        let answer = alert(garbage);
        assert_eq!(answer.first(), Some(&21), "an alert, not {answer:?} to {:?}", &garbage[..4]);
    }
    // A message longer than any may be, a part of one and then something else: ended, though with no word for it.
    alert(b"\x16\x03\x01\x00\x04\x01\xff\xff\xff");
    alert(b"\x16\x03\x01\x00\x02\x01\x00\x17\x03\x03\x00\x01x");
    // A handshake record of no handshake, empty records without end.
    assert_eq!(alert(b"\x16\x03\x01\x00\x04\x63\x00\x00\x00").first(), Some(&21));
    alert(&b"\x16\x03\x01\x00\x00".repeat(10_000));
    assert_eq!(edge.connect().get("/").expect("an answer").status, 200);
    assert_eq!(origin.requests(), 1);
    assert!(edge.gateway.metrics().sum("tidegate_tls_handshakes_total", &[("result", "failed")]) >= 5.0);
    assert_eq!(edge.gateway.metrics().sum("tidegate_panics_total", &[]), 0.0);
}

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

/// What a client may do that has shaken hands, and what no client does: the worker serves others meanwhile, breaks are
/// told and ended, and a part of anything is waited for no longer than a head.
#[test]
fn records_that_no_honest_client_sends_harm_nobody() {
    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let origin = echo();
    let edge = Edge::start(&origin, "workers = 1\n[timeouts]\nheader = \"1s\"", "");
    let records = || {
        let mut client = edge.connect();
        assert_eq!(client.get("/").expect("an answer").status, 200);
        Records::of(client)
    };
    let sends: &[fn(&mut Records) -> Vec<u8>] = &[
        // A part of a KeyUpdate, alone and with data behind it; two where one may stand.
        |records| records.seal(HANDSHAKE, &[24]),
        |records| [records.seal(HANDSHAKE, &[24]), records.seal(DATA, GET)].concat(),
        |records| records.seal(HANDSHAKE, &[24, 0, 0, 1, 0, 24, 0, 0, 1, 0]),
        |records| records.seal(HANDSHAKE, &[24, 0, 0, 1, 7]),
        |records| records.seal(HANDSHAKE, &[1, 255, 255, 255]),
        // Encrypted with nothing that the gateway knows.
        |records| {
            let mut sealed = records.seal(DATA, GET);
            *sealed.last_mut().expect("a tag") ^= 1;
            sealed
        },
        // The end of everything behind a request.
        |records| [records.seal(DATA, GET), records.seal(ALERT, &[2, 40])].concat(),
        |records| [records.seal(DATA, GET), vec![0x17, 3, 3, 0xff, 0xff]].concat(),
        // A part of a record; a header that promises too much; no type at all.
        |records| records.seal(DATA, GET)[..20].to_vec(),
        |_| vec![0x17, 3, 3, 0xff, 0xff],
        |_| vec![0xff; 3000],
        |records| records.seal(0, &[]),
        // Nothing, again and again.
        |records| (0..50).flat_map(|_| records.seal(DATA, &[])).collect(),
        |records| (0..50).flat_map(|_| records.seal(ALERT, &[1, 90])).collect(),
    ];
    let mut other = edge.connect();
    for (number, send) in sends.iter().enumerate() {
        let mut records = records();
        let sent = send(&mut records);
        (&records.stream).write_all(&sent).expect("it is sent");
        assert_eq!(other.get("/").expect("an answer").status, 200, "beside {number}");
        // Empty records within reason are nothing, so that one may stay until it idles for too long.
        assert!(number == sends.len() - 2 || records.is_ended(), "{number} is still open");
    }
    drop(other);
    assert_eq!(edge.gateway.metrics().sum("tidegate_panics_total", &[]), 0.0, "{}", edge.gateway.stderr());
}

/// Says nothing, half a ClientHello, or all of it and nothing more.
#[test]
fn handshakes_that_stall_are_ended_in_time() {
    let origin = echo();
    let edge = Edge::start(&origin, "[timeouts]\nheader = \"1s\"", "");
    let hello = client_hello(&edge);
    let begun = Instant::now();
    let mut stalled: Vec<Client> = [&[][..], &hello[..hello.len() / 2], &hello]
        .map(|part| {
            let mut client = Client::connect(edge.gateway.web());
            client.send_all(part);
            client
        })
        .into();
    for client in &mut stalled {
        // What the server said of itself, and the end.
        let _ = client.read_to_close();
    }
    assert!(begun.elapsed() < PATIENCE);
    edge.gateway.until_metric("tidegate_tls_handshakes_total", &[("result", "timeout")], 3.0);
    edge.gateway.until_metric("tidegate_connections_active", &[], 0.0);
    edge.gateway.until_metric("tidegate_worker_buffer_bytes", &[], 0.0);
}

/// What a client sends first.
fn client_hello(edge: &Edge) -> Vec<u8> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let trust = edge.trust();
    let client = thread::spawn(move || trust.connect(address, "edge.test").map(|_| ()));
    let (mut stream, _) = listener.accept().expect("the client");
    let mut header = [0; 5];
    stream.read_exact(&mut header).expect("a record");
    let mut hello = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    stream.read_exact(&mut hello).expect("all of it");
    drop(stream);
    assert!(client.join().expect("no panic").is_err());
    [&header[..], &hello].concat()
}

/// Handshake and request byte by byte, each in a segment of its own.
#[test]
fn bytes_may_trickle_in() {
    let origin = echo();
    let edge = Edge::start(&origin, "", "");
    let (near, far) = (TcpStream::connect(edge.gateway.web()).expect("a connection"), pair());
    near.set_nodelay(true).expect("an option");
    let (ours, theirs) = far;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut byte = [0; 1];
            while matches!((&theirs).read(&mut byte), Ok(1)) && (&near).write_all(&byte).is_ok() {}
            let _ = near.shutdown(Shutdown::Write);
        });
        scope.spawn(|| {
            let _ = std::io::copy(&mut &near, &mut &theirs);
            let _ = theirs.shutdown(Shutdown::Write);
        });
        let mut client = edge.trust().over(ours, "edge.test").expect("a handshake");
        let answer = client.post("/", &bytes(20_000)).expect("an answer");
        assert!(answer.body == bytes(20_000));
    });
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let ours = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    (ours, listener.accept().expect("its other end").0)
}

#[test]
fn the_last_answer_ends_with_close_notify() {
    let origin = echo();
    let edge = Edge::start(&origin, "", "");
    let mut client = edge.connect();
    let answer = client.request("GET", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(answer.expect("an answer").status, 200);
    // Without it this would be `UnexpectedEof`: a cut connection.
    assert!(!client.wire.fill().expect("a clean end"));
}

#[test]
fn an_idle_connection_that_is_closed_without_a_word_is_no_error() {
    let origin = echo();
    let edge = Edge::start(&origin, "", "");
    for is_polite in [true, false] {
        let mut client = edge.connect();
        assert_eq!(client.get("/").expect("an answer").status, 200);
        if is_polite {
            client.connection().send_close_notify();
            client.stream().flush().expect("it is sent");
        }
        drop(client);
    }
    edge.gateway.until_metric("tidegate_connections_active", &[], 0.0);
    assert_eq!(edge.gateway.metrics().sum("tidegate_request_errors_total", &[]), 0.0);
}

/// A body that ends with the connection instead of its length is no request, however it ends.
#[test]
fn a_cut_upload_is_no_request() {
    let arrived = AtomicU64::new(0);
    let arrived = std::sync::Arc::new(arrived);
    let count = arrived.clone();
    let origin = Backend::start(move |conn| {
        if conn.read_request().is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let edge = Edge::start(&origin, "", "");
    for is_polite in [true, false] {
        let mut client = edge.connect();
        let half =
            [&b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"[..], &[b'x'; 50_000]].concat();
        client.stream().write_all(&half).expect("it is sent");
        if is_polite {
            client.connection().send_close_notify();
        }
        client.stream().flush().expect("it is sent");
        drop(client);
    }
    edge.gateway.until_metric("tidegate_connections_active", &[], 0.0);
    assert_eq!(arrived.load(Ordering::SeqCst), 0);
}

/// In a tunnel the end of the connection is the end of what was said, so that a cut must not look like one.
#[test]
fn a_cut_tunnel_is_no_ended_one() {
    let origin = Backend::start(|conn| {
        let Ok(_) = conn.read_request() else { return };
        let _ = conn.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
        conn.wait_end(PATIENCE);
    });
    let edge = Edge::start(&origin, "", "");
    let upgrade = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    for (number, is_polite) in [true, false].into_iter().enumerate() {
        let mut client = edge.connect();
        assert_eq!(client.request("GET", upgrade).expect("an answer").status, 101);
        if is_polite {
            client.connection().send_close_notify();
            client.stream().flush().expect("it is sent");
        }
        client.stream().sock.shutdown(Shutdown::Write).expect("a FIN");
        until("the endpoint sees the end", || origin.records()[number].ended.lock().unwrap().is_some());
        let ended = *origin.records()[number].ended.lock().unwrap();
        assert_eq!(ended, Some(if is_polite { Ended::Closed } else { Ended::Reset }));
    }
    edge.gateway.until_metric("tidegate_tunnels_active", &[], 0.0);
}

/// Nor does one that the endpoint has cut look ended to the client.
#[test]
fn a_tunnel_that_its_endpoint_cuts_is_no_ended_one() {
    let origin = Backend::start(|conn| {
        let Ok(request) = conn.read_request() else { return };
        let _ =
            conn.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhi");
        let _ = conn.wire.fill();
        if request.target == "/cut" {
            conn.reset();
        }
    });
    let edge = Edge::start(&origin, "", "");
    for (path, is_cut) in [("/end", false), ("/cut", true)] {
        let mut client = edge.connect();
        let upgrade = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
        assert_eq!(client.request("GET", upgrade.as_bytes()).expect("an answer").status, 101);
        client.stream().write_all(b"go").expect("it is sent");
        let mut room = [0; 16];
        let ended = loop {
            match client.stream().read(&mut room) {
                Ok(1..) => {}
                ended => break ended,
            }
        };
        assert_eq!(ended.is_err(), is_cut, "{path}: {ended:?}");
    }
}

#[test]
fn upstreams_and_templates_learn_the_scheme_and_http_is_sent_to_https() {
    let origin = Backend::describing("origin");
    let rest = "[listen.plain]\naddress = \"@plain@\"\n\
                [[route]]\nmatch = { listener = \"plain\" }\nredirect = { status = 308, to = \"https://{host}{uri}\" }\n\
                [[route]]\nmatch = { path = \"/where\" }\nredirect = { to = \"{scheme}://{host}/there\" }\n";
    let edge = Edge::start(&origin, "", rest);
    let mut client = edge.connect();
    let answer = client.get("/").expect("an answer").text();
    assert!(answer.contains("x-forwarded-proto: https\n"), "{answer}");
    assert_eq!(client.get("/where").expect("an answer").get("location"), Some("https://a/there"));
    let plain = harness::get(edge.gateway.address("plain"), "/x?y=1");
    assert_eq!((plain.status, plain.get("location")), (308, Some("https://test.example/x?y=1")));
}

/// The PROXY header, the ClientHello behind it in the same segment.
#[test]
fn a_proxy_header_comes_before_the_handshake() {
    let origin = Backend::describing("origin");
    let rest = "[listen.web.proxy_protocol]\ntrusted = [\"127.0.0.1\"]\n";
    let edge = Edge::start(&origin, "", rest);
    let (near, (ours, theirs)) = (TcpStream::connect(edge.gateway.web()).expect("a connection"), pair());
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut room = vec![0; 70_000];
            let count = (&theirs).read(&mut room).expect("the ClientHello");
            let header = b"PROXY TCP4 203.0.113.7 127.0.0.1 4711 443\r\n";
            (&near).write_all(&[&header[..], &room[..count]].concat()).expect("it is sent");
            let _ = std::io::copy(&mut &theirs, &mut &near);
            let _ = near.shutdown(Shutdown::Write);
        });
        scope.spawn(|| {
            let _ = std::io::copy(&mut &near, &mut &theirs);
            let _ = theirs.shutdown(Shutdown::Write);
        });
        let mut client = edge.trust().over(ours, "edge.test").expect("a handshake");
        let answer = client.get("/").expect("an answer").text();
        assert!(answer.contains("x-forwarded-for: 203.0.113.7\n"), "{answer}");
    });
}

/// As many as come, each going away in the middle: they cost nothing that stays, and others are served meanwhile.
#[test]
fn half_handshakes_leave_nothing() {
    harness::process::raise_open_files();
    let origin = echo();
    let edge = Edge::start(&origin, "", "");
    let hello = client_hello(&edge);
    let mut kept = edge.connect();
    for round in 0..if harness::proof() { 20_000 } else { 600 } {
        let mut client = Client::connect(edge.gateway.web());
        client.send_all(&hello[..hello.len() * (round % 4 + 1) / 4]);
        if round % 2 == 0 {
            client.reset();
        }
        if round % 100 == 0 {
            assert_eq!(kept.get("/").expect("an answer").status, 200);
        }
    }
    drop(kept);
    edge.gateway.until_metric("tidegate_connections_active", &[], 0.0);
    edge.gateway.until_metric("tidegate_worker_buffer_bytes", &[], 0.0);
    assert_eq!(edge.gateway.metrics().sum("tidegate_panics_total", &[]), 0.0);
}

/// A client that reads nothing is ended by the write timeout, and its ciphertext with it.
#[test]
fn a_stalled_reader_is_bounded_and_ended() {
    let origin = Backend::serve(|_, conn| drop(conn.write(&backend::ok(&vec![b'd'; 64 << 20]))));
    let edge = Edge::start(&origin, "[timeouts]\nwrite = \"1s\"", "");
    let mut client = edge.connect();
    client.stream().write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("it is sent");
    client.stream().flush().expect("it is sent");
    edge.gateway.until_metric("tidegate_request_errors_total", &[("kind", "client_stalled")], 1.0);
    edge.gateway.until_metric("tidegate_connections_active", &[], 0.0);
    edge.gateway.until_metric("tidegate_worker_buffer_bytes", &[], 0.0);
    let ended = std::io::copy(client.stream(), &mut std::io::sink());
    assert!(ended.is_err_and(|error| error.kind() != ErrorKind::WouldBlock), "a cut answer is no whole one");
}

#[test]
fn drain_ends_idle_connections_and_lets_answers_come() {
    let origin = Backend::serve(|_, conn| {
        thread::sleep(Duration::from_millis(300));
        let _ = conn.write(&backend::ok(b"late"));
    });
    let mut edge = Edge::start(&origin, "", "");
    let (mut idle, mut asking) = (edge.connect(), edge.connect());
    assert_eq!(idle.get("/").expect("an answer").text(), "late");
    asking.stream().write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("it is sent");
    asking.stream().flush().expect("it is sent");
    until("it is under way", || origin.requests() == 2);
    edge.gateway.signal(libc::SIGTERM);
    assert_eq!(asking.wire.read_response("GET").expect("the answer").text(), "late");
    assert!(edge.gateway.wait_exit(PATIENCE).is_some_and(|status| status.success()));
}
