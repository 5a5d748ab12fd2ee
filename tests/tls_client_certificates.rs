//! Promise: a listener with `client_roots` lets in whom one of them has signed, and with `required` nobody else: neither by
//! another certificate nor by a session that began where nothing was asked for.

mod harness;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};

use harness::gateway::Reload;
use harness::process::Directory;
use harness::tls::{BOTH, Certificate, Trust};
use harness::{Backend, Gateway, Setup, until};

/// A gateway with three listeners of one certificate: `web` asks nobody, `members` requires a certificate, `guests` does not.
struct Club {
    directory: Directory,
    edge: Certificate,
    member: Certificate,
    stranger: Certificate,
    gateway: Gateway,
    _origin: Backend,
}

impl Club {
    fn open() -> Club {
        let origin = Backend::fixed("come in");
        let (directory, edge) = (Directory::new(), Certificate::new(&["edge.test"]));
        let (member, stranger) = (Certificate::new(&["member.test"]), Certificate::new(&["stranger.test"]));
        edge.write(&directory, "edge");
        member.write(&directory, "member");
        stranger.write(&directory, "stranger");
        let config = config(&directory, "member.pem");
        let gateway = Setup::new().with("origin", origin.address).start(&config);
        Club { directory, edge, member, stranger, gateway, _origin: origin }
    }

    fn trust(
        &self,
        identity: Option<&Certificate>,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> Trust {
        Trust::presenting(identity, &[&self.edge], &[version], &[])
    }

    fn address(&self, listener: &str) -> SocketAddr {
        self.gateway.address(listener)
    }

    /// Whether who comes with this is served. In TLS 1.3 a refusal arrives after the client's own handshake.
    fn admits(&self, listener: &str, trust: &Trust) -> bool {
        let Ok(mut client) = trust.connect(self.address(listener), "edge.test") else { return false };
        client.get("/").is_ok_and(|answer| answer.status == 200)
    }
}

fn config(directory: &Directory, roots: &str) -> String {
    let file = |name: &str| directory.path().join(name).display().to_string();
    let pair = format!("certificate = \"{}\", key = \"{}\"", file("edge.pem"), file("edge.key"));
    let listener = |name: &str, more: &str| {
        format!("[listen.{name}]\naddress = \"@{name}@\"\nprotocol = \"https\"\ntls = {{ {pair}{more} }}\n")
    };
    let roots = format!(", client_roots = \"{}\"", file(roots));
    [
        listener("web", ""),
        listener("members", &roots),
        listener("guests", &format!("{roots}, client_certificates = \"optional\"")),
        "[service.main]\nendpoints = [\"@origin@\"]\n[[route]]\nto = \"main\"\n".to_owned(),
    ]
    .concat()
}

#[test]
fn who_is_let_in() {
    let club = Club::open();
    for version in [&TLS12, &TLS13] {
        let (nobody, member, stranger) = (
            club.trust(None, version),
            club.trust(Some(&club.member), version),
            club.trust(Some(&club.stranger), version),
        );
        let answers = ["web", "members", "guests"]
            .map(|listener| [&nobody, &member, &stranger].map(|trust| club.admits(listener, trust)));
        assert_eq!(answers[0], [true, true, true], "{:?}: nobody is asked", version.version);
        assert_eq!(answers[1], [false, true, false], "{:?}: members only", version.version);
        assert_eq!(answers[2], [true, true, false], "{:?}: who shows one shows a good one", version.version);
    }
    until("each refusal is counted", || {
        club.gateway.metrics().sum("tidegate_tls_handshakes_total", &[("result", "failed")]) == 6.0
    });
}

/// A client uses whatever session it has for a name, and all of these listeners have the same one.
#[test]
fn a_session_opens_no_other_door() {
    let club = Club::open();
    for version in [&TLS12, &TLS13] {
        let nobody = club.trust(None, version);
        for _ in 0..2 {
            assert!(club.admits("web", &nobody));
        }
        assert!(!club.admits("members", &nobody), "{:?}", version.version);
        assert!(club.admits("guests", &nobody));
        assert!(!club.admits("members", &nobody), "{:?}", version.version);
    }
}

#[test]
fn a_members_session_resumes_until_the_roots_change() {
    let mut club = Club::open();
    let member = Trust::presenting(Some(&club.member), &[&club.edge], BOTH, &[]);
    let kind = |club: &Club| {
        let mut client = member.connect(club.address("members"), "edge.test").expect("a handshake");
        assert_eq!(client.get("/").expect("an answer").status, 200);
        client.connection().handshake_kind()
    };
    assert_eq!(kind(&club), Some(HandshakeKind::Full));
    assert_eq!(kind(&club), Some(HandshakeKind::Resumed));
    let same = format!("{}# the same", config(&club.directory, "member.pem"));
    assert_eq!(club.gateway.reload(&same), Reload::Taken);
    assert_eq!(kind(&club), Some(HandshakeKind::Resumed), "the same roots");
    assert_eq!(club.gateway.reload(&config(&club.directory, "stranger.pem")), Reload::Taken);
    assert!(!club.admits("members", &member), "he is no member any more");
    let stranger = Trust::presenting(Some(&club.stranger), &[&club.edge], BOTH, &[]);
    assert!(club.admits("members", &stranger));
}

/// A session outlives the certificate that it began with, but opens nothing any more.
#[test]
fn a_session_ends_with_its_certificate() {
    let mut club = Club::open();
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time").as_secs() + 5;
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let brief = Certificate::with(&["member.test"], |params| {
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    });
    brief.write(&club.directory, "brief");
    assert_eq!(club.gateway.reload(&config(&club.directory, "brief.pem")), Reload::Taken);
    let visits = |versions, expected: &[HandshakeKind]| {
        let trust = Trust::presenting(Some(&brief), &[&club.edge], versions, &[]);
        for kind in expected {
            let mut client = trust.connect(club.address("members"), "edge.test").expect("a handshake");
            assert_eq!(client.get("/").expect("an answer").status, 200);
            assert_eq!(client.connection().handshake_kind(), Some(*kind));
        }
        trust
    };
    let trusts = [&[&TLS12][..], &[&TLS13]]
        .map(|versions| visits(versions, &[HandshakeKind::Full, HandshakeKind::Resumed]));
    until("it has expired", || SystemTime::now() > end + Duration::from_millis(1_000));
    for trust in trusts {
        assert!(!club.admits("members", &trust));
    }
}

/// What a certificate says is who asks: for routes, for endpoints, and for nobody who has not shown one.
#[test]
fn a_certificate_is_an_identity() {
    let origin = Backend::describing("origin");
    let (directory, edge) = (Directory::new(), Certificate::new(&["edge.test"]));
    let named = |name: &str, organisation: &str| {
        Certificate::with(&["member.test"], |params| {
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params.distinguished_name.push(rcgen::DnType::OrganizationName, organisation);
        })
    };
    let (ann, ben) = (named("ann", "Edge"), named("ben", "Other"));
    edge.write(&directory, "edge");
    let roots = [ann.write(&directory, "ann").0, ben.write(&directory, "ben").0];
    let both = roots.map(|file| std::fs::read_to_string(file).unwrap()).concat();
    directory.write("member.pem", &both);
    let by_certificate = "[auth.machines]\ncertificate = true\n[auth.either]\ncertificate = true\n\
        jwt = { secret = \"0123456789abcdef0123456789abcdef\" }\n\
        [[route]]\nmatch = { path = \"/edge\", claim.o = \"Edge\" }\nauth = \"machines\"\nto = \"main\"\n\
        request_headers.set = { x-who = \"{claim:sub} {claim:dns}\" }\n\
        [[route]]\nmatch = { path = \"/allowed\" }\nallow = { o = \"Edge\" }\nauth = \"machines\"\nto = \"main\"\n\
        [[route]]\nmatch = { path = \"/either\" }\nauth = \"either\"\nto = \"main\"\n\
        [[route]]\nmatch = { path = \"/**\" }\nrespond = { status = 404 }\n";
    let config = config(&directory, "member.pem").replace("[[route]]\nto = \"main\"\n", by_certificate);
    let gateway = Setup::new().with("origin", origin.address).start(&config);
    for version in [&TLS12, &TLS13] {
        let ask = |identity: Option<&Certificate>, listener: &str, path: &str| {
            let trust = Trust::presenting(identity, &[&edge], &[version], &[]);
            let answer = trust.connect(gateway.address(listener), "edge.test").unwrap().get(path).unwrap();
            (answer.status, answer.text().contains("x-who: ann member.test"))
        };
        assert_eq!(ask(Some(&ann), "guests", "/edge"), (200, true));
        // In a session that goes on, too.
        assert_eq!(ask(Some(&ann), "guests", "/edge"), (200, true));
        assert_eq!(ask(Some(&ben), "guests", "/edge").0, 404, "another organisation");
        assert_eq!(ask(None, "guests", "/edge").0, 404);
        assert_eq!(ask(Some(&ann), "web", "/edge").0, 404, "nobody is asked there");
        assert_eq!(ask(Some(&ben), "guests", "/allowed").0, 403);
        assert_eq!(ask(None, "guests", "/allowed").0, 403);
        assert_eq!(ask(Some(&ben), "guests", "/either").0, 200);
        assert_eq!(ask(None, "guests", "/either").0, 401, "a token would help");
    }
}
