//! Promise: with `admin.tls` the admin endpoint speaks TLS, and with its `client_roots` whoever shows a certificate that they have signed may
//! ask everything, as with the token; who has neither learns whether the gateway lives, on loopback as well. A certificate opens nothing to
//! a page in the browser that shows it. Renewed files are taken without a restart, and `tidegate reload` finds its way.

mod harness;

use std::net::SocketAddr;
use std::process::Output;
use std::time::{Duration, Instant, SystemTime};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose};
use rustls::version::{TLS12, TLS13};

use harness::process::{Directory, free_port, tidegate};
use harness::tls::{Authority, BOTH, Certificate, TlsClient, Trust};
use harness::{Client, Gateway, PATIENCE, Response, Setup, until};

const TOKEN: &str = "0123456789abcdef";
const BEARER: &str = "authorization: Bearer 0123456789abcdef\r\n";
const ROOTS: &str = ", client_roots = \"@dir@/clients.pem\"";
const HEALTH: [&str; 2] = ["GET /healthz", "GET /readyz"];
const REST: [&str; 5] = ["GET /", "GET /metrics", "GET /services", "GET /config", "POST /reload"];

/// A gateway whose admin endpoint speaks TLS, and who may come to it.
struct Edge {
    directory: Directory,
    certificate: Certificate,
    /// `client_roots`.
    clients: Authority,
    member: Certificate,
    gateway: Gateway,
    address: SocketAddr,
}

impl Edge {
    /// `admin`: more lines of `[admin]`. `tls`: more keys of its `tls`.
    fn start(admin: &str, tls: &str) -> Edge {
        Edge::start_at(&format!("127.0.0.1:{}", free_port()), admin, tls)
    }

    fn start_at(address: &str, admin: &str, tls: &str) -> Edge {
        let (directory, clients) = (Directory::new(), Authority::new("clients"));
        let certificate = Certificate::new(&["edge.test", "*.edge.test", "127.0.0.1"]);
        let member = clients.sign("member.test", |_| {});
        certificate.write(&directory, "edge");
        clients.certificate.write(&directory, "clients");
        member.write(&directory, "member");
        directory.write("token", TOKEN);
        let gateway = Setup::new().spawn(&config(&directory, address, admin, tls));
        let port = address.parse::<SocketAddr>().expect("an address").port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let edge = Edge { directory, certificate, clients, member, gateway, address };
        // Not by the endpoint's own word: it may ask everybody for a certificate.
        edge.gateway.until_stderr("admin on https://");
        edge
    }

    fn config(&self, admin: &str, tls: &str) -> String {
        config(&self.directory, &self.address.to_string(), admin, tls)
    }

    fn trust(&self, identity: Option<&Certificate>) -> Trust {
        Trust::presenting(identity, &[&self.certificate], BOTH, &[])
    }

    fn connect(&self, identity: Option<&Certificate>) -> TlsClient {
        self.trust(identity).connect(self.address, "edge.test").expect("a handshake")
    }

    fn ask(&self, identity: Option<&Certificate>, line: &str, fields: &str) -> Response {
        ask(&mut self.connect(identity), line, fields)
    }

    fn status(&self, identity: Option<&Certificate>, line: &str, fields: &str) -> u16 {
        self.ask(identity, line, fields).status
    }

    /// Whether the handshake succeeds. In TLS 1.3 a refusal arrives after the client's own part.
    fn admits(&self, trust: &Trust) -> bool {
        let Ok(mut client) = trust.connect(self.address, "edge.test") else { return false };
        client.request("GET", b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").is_ok()
    }

    fn generation(&self) -> u64 {
        let page = self.ask(Some(&self.member), "GET /reload", BEARER).text();
        serde_json::from_str::<serde_json::Value>(&page).expect("JSON")["generation"]
            .as_u64()
            .expect("a number")
    }

    fn reload(&self, more: &[&str]) -> Output {
        let file = self.gateway.config_file();
        tidegate(&[&["reload", "-c", file.to_str().expect("text")], more].concat())
    }
}

fn config(directory: &Directory, address: &str, admin: &str, tls: &str) -> String {
    let text = format!(
        "workers = 1\n[admin]\naddress = \"{address}\"\n{admin}\n\
         tls = {{ certificate = \"@dir@/edge.pem\", key = \"@dir@/edge.key\"{tls} }}\n\
         [listen.web]\naddress = \"@web@\"\n[[route]]\nrespond = {{ status = 204 }}\n"
    );
    text.replace("@dir@", &directory.path().display().to_string())
}

fn ask(client: &mut TlsClient, line: &str, fields: &str) -> Response {
    let host = if fields.contains("host:") { "" } else { "host: 127.0.0.1\r\n" };
    let method = line.split(' ').next().expect("a method");
    let head = format!("{line} HTTP/1.1\r\n{host}{fields}content-length: 0\r\n\r\n");
    let answer = client.request(method, head.as_bytes());
    answer.unwrap_or_else(|fault| panic!("{line} {fields}: {fault:?}"))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn who_shows_a_certificate_may_ask_everything() {
    let edge = Edge::start("", ROOTS);
    for version in [&TLS12, &TLS13] {
        let connect = |identity| {
            let trust = Trust::presenting(identity, &[&edge.certificate], &[version], &[b"h2", b"http/1.1"]);
            trust.connect(edge.address, "edge.test").expect("a handshake")
        };
        for line in HEALTH {
            assert_eq!(ask(&mut connect(None), line, "").status, 200, "{line}");
        }
        for line in REST {
            let refused = ask(&mut connect(None), line, BEARER);
            assert_eq!(
                (refused.status, refused.get("content-type")),
                (403, Some("application/problem+json"))
            );
            assert!(refused.text().contains("client_roots"), "{}", refused.text());
            assert_eq!(ask(&mut connect(Some(&edge.member)), line, "").status, 200, "{line}");
        }
        let mut client = connect(Some(&edge.member));
        assert_eq!(client.connection().alpn_protocol(), Some(&b"http/1.1"[..]));
        // A connection that is kept, too.
        assert!((0..3).all(|_| ask(&mut client, "GET /services", "").status == 200));
    }
}

#[test]
fn whose_certificate_is_not_believed_is_not_let_in() {
    let edge = Edge::start("", ROOTS);
    let another = Authority::new("clients").sign("member.test", |_| {});
    let expired = |params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 2);
    let server = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    };
    let (expired, server) =
        (edge.clients.sign("member.test", expired), edge.clients.sign("member.test", server));
    for version in [&TLS12, &TLS13] {
        let admits =
            |identity| edge.admits(&Trust::presenting(identity, &[&edge.certificate], &[version], &[]));
        for wrong in [&another, &expired, &server] {
            assert!(!admits(Some(wrong)), "{:?}", version.version);
        }
        assert!(admits(None) && admits(Some(&edge.member)));
    }
}

#[test]
fn metrics_may_be_for_everybody() {
    let edge = Edge::start("metrics_public = true", ROOTS);
    let page = edge.ask(None, "GET /metrics", "");
    assert_eq!(page.status, 200);
    let file = edge.directory.path().join("edge.pem").display().to_string();
    assert!(
        page.text()
            .contains(&format!("tidegate_tls_certificate_not_after_timestamp_seconds{{file=\"{file}\"}}"))
    );
    assert_eq!(edge.status(None, "GET /services", ""), 403);
}

#[test]
fn a_token_or_a_certificate() {
    let edge = Edge::start("token_file = \"@dir@/token\"", ROOTS);
    for line in ["GET /services", "POST /reload"] {
        let refused = edge.ask(None, line, "");
        assert_eq!(
            (refused.status, refused.get("www-authenticate")),
            (401, Some("Bearer realm=\"tidegate\""))
        );
        assert!(refused.text().contains("token") && refused.text().contains("client_roots"));
        assert_eq!(edge.status(None, line, "authorization: Bearer other\r\n"), 401);
        assert_eq!(edge.status(None, line, BEARER), 200);
        assert_eq!(edge.status(Some(&edge.member), line, ""), 200);
        assert_eq!(edge.status(Some(&edge.member), line, "authorization: Bearer other\r\n"), 200);
    }
    assert_eq!(edge.status(None, "GET /healthz", ""), 200);
}

#[test]
fn nobody_without_a_certificate_where_it_is_required() {
    let edge =
        Edge::start("token_file = \"@dir@/token\"", &format!("{ROOTS}, client_certificates = \"required\""));
    assert!(!edge.admits(&edge.trust(None)) && edge.admits(&edge.trust(Some(&edge.member))));
    assert_eq!(edge.status(Some(&edge.member), "GET /services", ""), 200);
    let refused = edge.reload(&[]);
    assert!(!refused.status.success() && stderr(&refused).contains("--cert FILE --key FILE"));
}

/// Without `client_roots` all is as it is without TLS, and nobody is asked for a certificate.
#[test]
fn without_roots_it_is_encrypted_and_nothing_more() {
    let edge = Edge::start("", "");
    assert_eq!(edge.status(None, "GET /services", ""), 200);
    assert_eq!(edge.status(Some(&edge.member), "GET /services", "host: rebound.test\r\n"), 403);
    let reloaded = edge.reload(&[]);
    assert!(reloaded.status.success(), "{}", stderr(&reloaded));

    let edge = Edge::start("token_file = \"@dir@/token\"", "");
    assert_eq!(edge.status(Some(&edge.member), "GET /services", ""), 401);
    assert_eq!(edge.status(None, "GET /services", BEARER), 200);

    let everywhere = format!("0.0.0.0:{}", free_port());
    let edge = Edge::start_at(&everywhere, "", "");
    assert_eq!(edge.status(None, "GET /healthz", ""), 200);
    assert_eq!(edge.status(Some(&edge.member), "GET /services", ""), 403);
    assert!(edge.gateway.stderr().contains("is no loopback address, and there is no token"));
}

/// Browsers show certificates unasked, to whatever page sends them here.
#[test]
fn a_certificate_opens_nothing_to_a_browsers_page() {
    let edge = Edge::start("token_file = \"@dir@/token\"", ROOTS);
    let certified = |line: &str, fields: &str| edge.status(Some(&edge.member), line, fields);
    // A name that is not ours, or one of the many that a wildcard is for.
    for host in ["host: rebound.test\r\n", "host: other.edge.test\r\n", "host: \r\n"] {
        for line in ["GET /services", "GET /config", "POST /reload"] {
            assert_eq!(certified(line, host), 403, "{line} {host}");
        }
        assert_eq!(certified("GET /metrics", host), 200, "scrapers come by any name");
        assert_eq!(certified("GET /services", &format!("{host}{BEARER}")), 200, "no page has the token");
        assert_eq!(certified("POST /reload", &format!("{host}{BEARER}")), 403);
    }
    for host in ["edge.test", "EDGE.test:9180", "localhost:1", "[::1]", "10.1.2.3"] {
        for line in ["GET /services", "POST /reload"] {
            assert_eq!(certified(line, &format!("host: {host}\r\n")), 200, "{line} {host}");
        }
        let origin = format!("host: {host}\r\norigin: https://{host}\r\n");
        assert_eq!(certified("POST /reload", &origin), 200, "{host}");
        // The same host without TLS is another origin.
        let origin = format!("host: {host}\r\norigin: http://{host}\r\n");
        assert_eq!(certified("POST /reload", &origin), 403, "{host}");
    }
    for origin in ["https://evil.test", "null", "https://edge.test.evil.test", "https://edge.test:444", ""] {
        let fields = format!("host: edge.test\r\norigin: {origin}\r\n");
        for line in ["POST /reload", "POST /services", "POST /canaries"] {
            assert_eq!(certified(line, &fields), 403, "{line} {origin}");
        }
    }
}

#[test]
fn renewed_files_are_taken_without_a_restart() {
    let edge = Edge::start("", ROOTS);
    let mut open = edge.connect(Some(&edge.member));
    assert_eq!(ask(&mut open, "GET /services", "").status, 200);
    let renewed = Certificate::new(&["edge.test"]);
    edge.directory.write("edge.pem", &renewed.pem);
    edge.gateway.until_stderr("the key is not that of the certificate");
    assert!(edge.admits(&edge.trust(None)), "the old ones stay");
    edge.directory.write("edge.key", &renewed.key_pem);
    until("the new one is shown", || Trust::of(&[&renewed]).connect(edge.address, "edge.test").is_ok());
    assert_eq!(ask(&mut open, "GET /services", "").status, 200, "what is open stays");

    let others = Authority::new("others");
    let stranger = others.sign("stranger.test", |_| {});
    others.certificate.write(&edge.directory, "clients");
    let believes = |identity| edge.admits(&Trust::presenting(Some(identity), &[&renewed], BOTH, &[]));
    until("the new roots are believed", || believes(&stranger));
    assert!(!believes(&edge.member));
    let refused = ask(&mut open, "GET /services", "");
    assert_eq!(refused.status, 403, "nor on a connection that is open");
    assert!(refused.text().contains("not trusted any more"));
    assert_eq!(ask(&mut open, "GET /healthz", "").status, 200);
}

#[test]
fn a_connection_outlives_its_certificate_but_is_nobodys_then() {
    let edge = Edge::start("", ROOTS);
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time").as_secs() + 4;
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let brief = edge.clients.sign("member.test", |params| {
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    });
    let trusts = [&TLS12, &TLS13]
        .map(|version| Trust::presenting(Some(&brief), &[&edge.certificate], &[version], &[]));
    let mut open = trusts.clone().map(|trust| trust.connect(edge.address, "edge.test").expect("a handshake"));
    for client in &mut open {
        assert_eq!(ask(client, "POST /reload", "").status, 200);
    }
    until("it has expired", || SystemTime::now() > end + Duration::from_secs(1));
    for client in &mut open {
        for line in ["GET /services", "POST /reload"] {
            let refused = ask(client, line, "");
            assert_eq!(refused.status, 403);
            assert!(refused.text().contains("expired"), "{}", refused.text());
        }
        assert_eq!(ask(client, "GET /readyz", "").status, 200);
    }
    for trust in trusts {
        assert!(!edge.admits(&trust), "in a session that goes on, too");
    }
}

#[test]
fn who_may_ask_is_decided_at_the_start() {
    let mut edge = Edge::start("", ROOTS);
    // Both halves of a change: what asks for certificates is gone, and the token that comes instead is not there yet.
    let edited = edge.config("token_file = \"@dir@/token\"", "");
    edge.gateway.write_config(&edited);
    let reloaded = edge.ask(Some(&edge.member), "POST /reload", "");
    assert!(
        reloaded.text().contains("`admin.tls` has changed and takes effect after a restart"),
        "{}",
        reloaded.text()
    );
    assert_eq!(edge.status(None, "GET /services", ""), 403);
    let shown = edge.ask(Some(&edge.member), "GET /config", "").text();
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    let admin = &shown["config"]["admin"];
    let file = |name: &str| edge.directory.path().join(name).display().to_string();
    assert_eq!(admin["tls"]["client_roots"], file("clients.pem"));
    assert_eq!(admin["tls"]["key"], file("edge.key"));
    assert!(admin.get("token_file").is_none());
    // Another certificate is no such change.
    let other = Certificate::new(&["edge.test"]);
    other.write(&edge.directory, "other");
    let edited = edge.config("", ROOTS).replace("/edge.", "/other.");
    edge.gateway.write_config(&edited);
    assert_eq!(edge.status(Some(&edge.member), "POST /reload", ""), 200);
    let trust = Trust::presenting(Some(&edge.member), &[&other], BOTH, &[]);
    let shown = ask(&mut trust.connect(edge.address, "edge.test").expect("a handshake"), "GET /config", "");
    assert!(shown.text().contains("other.pem"), "{}", shown.text());
}

#[test]
fn whoever_speaks_no_tls_is_closed() {
    let edge = Edge::start("", ROOTS);
    for sent in [&b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n"[..], &[0xff; 2000], b"\x16\x03\x01\xff\xff"] {
        let begun = Instant::now();
        let mut client = Client::connect(edge.address);
        client.send_all(sent);
        let answer = client.read_to_close().unwrap_or_default();
        assert!(!answer.windows(4).any(|part| part == b"HTTP"), "{answer:?}");
        assert!(begun.elapsed() < Duration::from_secs(4), "closed at once");
    }
}

/// A silent client, half a ClientHello: each is closed in its time, and holds up nobody.
#[test]
fn handshakes_that_stall_hold_up_nobody() {
    let edge = Edge::start("", ROOTS);
    let begun = Instant::now();
    let stall = |number: usize| {
        let mut client = Client::connect(edge.address);
        client.send_all(&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..number % 12]);
        client
    };
    let mut stalled: Vec<Client> = (0..50).map(stall).collect();
    let asked = Instant::now();
    for _ in 0..10 {
        assert_eq!(edge.status(Some(&edge.member), "GET /services", ""), 200);
    }
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    for client in &mut stalled {
        let _ = client.read_to_close();
    }
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    // Their places are free again.
    let open: Vec<TlsClient> = (0..60).map(|_| edge.connect(None)).collect();
    assert_eq!(open.len(), 60);
}

#[test]
fn the_reload_command_shows_its_certificate() {
    let edge = Edge::start("", ROOTS);
    let file = |name: &str| edge.directory.path().join(name).display().to_string();
    let with = |name: &str| {
        edge.reload(&["--cert", &file(&format!("{name}.pem")), "--key", &file(&format!("{name}.key"))])
    };
    let without = stderr(&edge.reload(&[]));
    assert!(without.contains("--cert FILE --key FILE") && without.contains("kill -HUP"), "{without}");
    assert_eq!(edge.generation(), 1);
    let done = with("member");
    assert!(done.status.success(), "{}", stderr(&done));
    assert_eq!(edge.generation(), 2);

    Authority::new("others").sign("stranger.test", |_| {}).write(&edge.directory, "stranger");
    let refused = with("stranger");
    assert!(!refused.status.success() && stderr(&refused).contains("trust"), "{}", stderr(&refused));
    let refused = edge.reload(&["--cert", &file("member.pem"), "--key", &file("stranger.key")]);
    assert!(stderr(&refused).contains("the key is not that of the certificate"), "{}", stderr(&refused));
    let refused = edge.reload(&["--cert", &file("absent.pem"), "--key", &file("member.key")]);
    assert!(stderr(&refused).contains("absent.pem cannot be read"), "{}", stderr(&refused));
    let half = edge.reload(&["--cert", &file("member.pem")]);
    assert_eq!(half.status.code(), Some(2), "{}", stderr(&half));
    assert_eq!(edge.generation(), 2);
}

#[test]
fn the_reload_command_gives_its_token_to_nobody_else() {
    let mut edge = Edge::start("token_file = \"@dir@/token\"", ROOTS);
    let done = edge.reload(&[]);
    assert!(done.status.success(), "{}", stderr(&done));
    assert_eq!(edge.generation(), 2);
    // Who is there has not the certificate that the config names.
    Certificate::new(&["edge.test", "127.0.0.1"]).write(&edge.directory, "other");
    let edited = edge.config("token_file = \"@dir@/token\"", ROOTS).replace("/edge.", "/other.");
    edge.gateway.write_config(&edited);
    let refused = stderr(&edge.reload(&[]));
    assert!(refused.contains("another certificate") && refused.contains("kill -HUP"), "{refused}");
    assert_eq!(edge.generation(), 2);
    edge.gateway.signal(libc::SIGHUP);
    edge.gateway.until_stderr("reloaded");
    until("it is taken", || edge.reload(&[]).status.success());
}

#[test]
fn the_reload_command_says_where_no_tls_is_spoken() {
    let mut gateway = Gateway::start("workers = 1\n[[route]]\nrespond = { status = 204 }\n", &[]);
    let (directory, admin) = (Directory::new(), gateway.address("admin").to_string());
    Certificate::new(&["127.0.0.1"]).write(&directory, "edge");
    gateway.write_config(&config(&directory, &admin, "", ""));
    let reload = || tidegate(&["reload", "-c", gateway.config_file().to_str().expect("text")]);
    let refused = stderr(&reload());
    assert!(refused.contains("it speaks no TLS there") && refused.contains("kill -HUP"), "{refused}");
}
