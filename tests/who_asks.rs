//! Who asks, as tokens say: they are believed only where a route's own `auth` verifies them, routes may ask for their claims,
//! endpoints are told of them and of nobody else's word for them, and everybody else is turned away before anything is sent on.

mod harness;

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use harness::http2::Http2;
use harness::process::{Directory, tidegate};
use harness::{Backend, Gateway, Response, until};
use http::Request;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn signed(secret: &str, head: &str, claims: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// For ten minutes.
fn token(claims: &str) -> String {
    signed(SECRET, r#"{"alg":"HS256"}"#, &format!("{{{claims},\"aud\":\"models\",\"exp\":{}}}", now() + 600))
}

fn config(directory: &Directory, stable: &Backend, vip: &Backend) -> String {
    let file = directory.write("jwt.secret", &format!("{SECRET}\n"));
    format!(
        r#"
workers = 1
[listen.web]
address = "@web@"
[service.model-stable]
endpoints = ["{}"]
[service.model-vip]
endpoints = ["{}"]
[auth.users]
jwt = {{ secret_file = "{}", audience = "models" }}
[auth.others]
realm = "the others"
jwt = {{ secret = "fedcba9876543210fedcba9876543210" }}
[[route]]
name = "open"
match.path = "/open"
to = "model-stable"
[[route]]
name = "others"
match.path = "/others/**"
auth = "others"
to = "model-stable"
[[route]]
name = "by-claim"
match.path = "/tenant/**"
auth = "users"
to = "model-{{claim:tenant}}"
[[route]]
name = "admins"
match.path = "/admin/**"
auth = "users"
allow = {{ "realm.roles" = "admin", sub = true }}
to = "model-stable"
[[route]]
name = "vip"
match = {{ path = "/v2/**", claim.group = "vip" }}
auth = "users"
to = "model-vip"
[[route]]
name = "models"
match = {{ path = "/**" }}
auth = "users"
cors = {{ origins = ["https://app.test"] }}
to = "model-stable"
request_headers.set = {{ x-user = "{{claim:sub}}", x-group = "{{claim:group}}" }}
"#,
        stable.address,
        vip.address,
        file.display()
    )
}

struct Scene {
    gateway: Gateway,
    stable: Backend,
    _vip: Backend,
    directory: Directory,
}

fn scene() -> Scene {
    let (stable, vip) = (Backend::describing("stable"), Backend::describing("vip"));
    let directory = Directory::new();
    let gateway = Gateway::start(&config(&directory, &stable, &vip), &[]);
    Scene { gateway, stable, _vip: vip, directory }
}

impl Scene {
    fn ask(&self, path: &str, authorization: &str) -> Response {
        self.ask_with(path, &format!("Authorization: {authorization}\r\n"))
    }

    fn ask_with(&self, path: &str, fields: &str) -> Response {
        self.gateway.client().get_with(path, fields).unwrap()
    }
}

fn bearer(claims: &str) -> String {
    format!("Bearer {}", token(claims))
}

#[test]
fn whoever_is_verified_is_let_in_and_named() {
    let scene = scene();
    let answer = scene.ask("/v1", &bearer(r#""sub":"ann","group":"staff""#));
    assert_eq!(answer.status, 200);
    assert!(
        answer.text().contains("\"x-user\":\"ann\"") || answer.text().contains("x-user: ann"),
        "{}",
        answer.text()
    );
    // What others say of themselves does not arrive, also where the token says nothing.
    let forged = format!("Authorization: {}\r\nX-User: root\r\nx-group: vip\r\n", bearer(r#""sub":"eve""#));
    let text = scene.ask_with("/v1", &forged).text();
    assert!(text.contains("eve") && !text.contains("root") && !text.contains("vip"), "{text}");
    // A claim that would break out of its field is no value at all.
    let text = scene.ask("/v1", &bearer(r#""sub":"a\r\nx-admin: 1""#)).text();
    assert!(!text.contains("x-admin"), "{text}");
}

#[test]
fn everybody_else_is_turned_away() {
    let scene = scene();
    let good = token(r#""sub":"ann""#);
    let (head, rest) = good.split_once('.').unwrap();
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    let old = signed(SECRET, r#"{"alg":"HS256"}"#, r#"{"sub":"ann","aud":"models","exp":1000}"#);
    let foreign = signed(SECRET, r#"{"alg":"HS256"}"#, &format!(r#"{{"aud":"x","exp":{}}}"#, now() + 600));
    let endless = signed(SECRET, r#"{"alg":"HS256"}"#, r#"{"sub":"ann","aud":"models"}"#);
    let of_others = signed(
        "fedcba9876543210fedcba9876543210",
        r#"{"alg":"HS256"}"#,
        r#"{"aud":"models","exp":9999999999}"#,
    );
    for (token, why) in [
        (format!("{none}.{rest}"), "no key here is for"),
        (format!("{none}.{}.", rest.split_once('.').unwrap().0), "no key here is for"),
        (format!("{head}.{rest}x"), "signature is wrong"),
        (old, "has expired"),
        (foreign, "another audience"),
        (endless, "no claim exp"),
        (of_others, "signature is wrong"),
        ("x".into(), "not of three parts"),
        (String::new(), "not of three parts"),
    ] {
        let answer = scene.ask("/v1", &format!("Bearer {token}"));
        assert_eq!(answer.status, 401, "{token}");
        let challenge = answer.get("www-authenticate").expect("a challenge").to_owned();
        assert!(challenge.starts_with("Bearer realm=\"users\", error=\"invalid_token\""), "{challenge}");
        assert!(challenge.contains(why) && answer.text().contains(why), "{why}: {challenge}");
    }
    for fields in
        ["", "Authorization: Basic YTpi\r\n", "Authorization: \r\n", "X-Authorization: Bearer x\r\n"]
    {
        let answer = scene.ask_with("/v1", fields);
        assert_eq!(answer.status, 401, "{fields}");
        assert_eq!(answer.get("www-authenticate"), Some("Bearer realm=\"users\""), "{fields}");
        assert!(answer.text().contains("urn:tidegate:error:unauthorized"), "{}", answer.text());
    }
    let twice = format!("Authorization: Bearer {good}\r\nAuthorization: Bearer {good}\r\n");
    assert_eq!(scene.ask_with("/v1", &twice).status, 401);
    // Another way of spelling the path is the same route.
    for path in ["//v1", "/open/../v1", "/%76%31", "/x/%2e%2e/v1", "/open;x"] {
        assert_eq!(scene.ask_with(path, "").status, 401, "{path}");
    }
    assert_eq!(scene.stable.requests(), 0, "nothing has been sent on");
    assert_eq!(scene.ask_with("/open", "").status, 200);
    assert_eq!(
        scene.gateway.metrics().sum("tidegate_request_errors_total", &[("kind", "unauthorized")]) as u64,
        19
    );
}

#[test]
fn routes_may_ask_for_claims_that_are_verified() {
    let scene = scene();
    let name = |answer: Response| (answer.status, answer.text().contains("vip"));
    assert_eq!(name(scene.ask("/v2/models", &bearer(r#""sub":"ann","group":"vip""#))), (200, true));
    assert_eq!(name(scene.ask("/v2/models", &bearer(r#""sub":"ann","group":["a","vip"]"#))), (200, true));
    assert_eq!(name(scene.ask("/v2/models", &bearer(r#""sub":"ann","group":"VIP""#))), (200, false));
    assert_eq!(name(scene.ask("/v2/models", &bearer(r#""sub":"ann""#))), (200, false));
    // What another secret has signed says nothing here.
    let forged =
        signed("another", r#"{"alg":"HS256"}"#, r#"{"group":"vip","aud":"models","exp":9999999999}"#);
    assert_eq!(scene.ask("/v2/models", &format!("Bearer {forged}")).status, 401);
    assert_eq!(name(scene.ask("/tenant/x", &bearer(r#""tenant":"vip""#))), (200, true));
    assert_eq!(scene.ask("/tenant/x", &bearer(r#""tenant":"none""#)).status, 404);
}

#[test]
fn who_is_verified_may_still_not_be_allowed() {
    let scene = scene();
    let roles = |roles: &str| bearer(&format!(r#""sub":"ann","realm":{{"roles":{roles}}}"#));
    assert_eq!(scene.ask("/admin/x", &roles(r#"["user","admin"]"#)).status, 200);
    for (token, claim) in [
        (roles(r#"["user"]"#), "realm.roles"),
        (roles("[]"), "realm.roles"),
        (bearer(r#""sub":"ann""#), "realm.roles"),
        (bearer(r#""realm":{"roles":"admin"}"#), "sub"),
    ] {
        let answer = scene.ask("/admin/x", &token);
        assert_eq!(answer.status, 403);
        let challenge = answer.get("www-authenticate").unwrap();
        assert!(challenge.contains("insufficient_scope") && challenge.contains(claim), "{challenge}");
    }
    assert_eq!(scene.ask_with("/admin/x", "").status, 401);
    let answer = scene.ask_with("/others/x", "");
    assert_eq!(answer.get("www-authenticate"), Some("Bearer realm=\"the others\""));
}

#[test]
fn browsers_ask_before_they_say_who_they_are() {
    let scene = scene();
    let preflight = b"OPTIONS /v1 HTTP/1.1\r\nhost: a.test\r\norigin: https://app.test\r\n\
                      access-control-request-method: POST\r\naccess-control-request-headers: authorization\r\n\r\n";
    let answer = scene.gateway.client().request("OPTIONS", preflight).unwrap();
    assert_eq!((answer.status, answer.get("access-control-allow-headers")), (204, Some("authorization")));
    // And can read why they are turned away.
    let answer = scene.ask_with("/v1", "Origin: https://app.test\r\n");
    assert_eq!((answer.status, answer.get("access-control-allow-origin")), (401, Some("https://app.test")));
}

#[test]
fn calls_are_told_in_their_own_way() {
    let scene = scene();
    let client = Http2::connect(scene.gateway.web());
    let call = || Request::post("http://a.test/s.S/M").header("content-type", "application/grpc");
    let ask = |request: http::request::Builder| {
        let answer = client.exchange(request.body(()).unwrap(), Some(b"\0\0\0\0\0"), None).unwrap();
        (answer.status, answer.fields.get("grpc-status").map(|status| status.to_str().unwrap().to_owned()))
    };
    const UNAUTHENTICATED: &str = "16";
    assert_eq!(ask(call()), (200, Some(UNAUTHENTICATED.into())));
    let good = call().header("authorization", bearer(r#""sub":"ann""#));
    assert_eq!(ask(good), (200, None));
}

#[test]
fn a_new_secret_ends_the_old_one() {
    let mut scene = scene();
    let old = bearer(r#""sub":"ann""#);
    let new = format!(
        "Bearer {}",
        signed(
            "another secret of 32 bytes or more",
            r#"{"alg":"HS256"}"#,
            r#"{"aud":"models","exp":9999999999}"#
        )
    );
    for _ in 0..3 {
        assert_eq!((scene.ask("/v1", &old).status, scene.ask("/v1", &new).status), (200, 401));
    }
    scene.directory.write("jwt.secret", "another secret of 32 bytes or more\n");
    scene.gateway.reload_file();
    for _ in 0..3 {
        assert_eq!((scene.ask("/v1", &old).status, scene.ask("/v1", &new).status), (401, 200));
    }
    // A file that is gone changes nothing.
    std::fs::remove_file(scene.directory.path().join("jwt.secret")).unwrap();
    scene.gateway.signal(libc::SIGHUP);
    until("the reload is refused", || scene.gateway.stderr().contains("jwt.secret cannot be read"));
    assert_eq!(scene.ask("/v1", &new).status, 200);
}

#[test]
fn explain_knows_who_would_be_let_in() {
    let (stable, vip) = (Backend::fixed("stable"), Backend::fixed("vip"));
    let directory = Directory::new();
    let text = config(&directory, &stable, &vip).replace("@web@", "127.0.0.1:1");
    let file = directory.write("edge.toml", &text);
    let explain = |token: &str| {
        let field = format!("authorization: Bearer {token}");
        let file = file.to_str().unwrap();
        let output = tidegate(&["explain", "-c", file, "GET", "/v2/models", "-H", &field]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let vip = explain(&token(r#""sub":"ann","group":"vip""#));
    assert!(
        vip.contains("> vip") && vip.contains("asked by ann") && vip.contains("service model-vip"),
        "{vip}"
    );
    let nobody = explain("x");
    assert!(nobody.contains("no verified claim") && nobody.contains("but is answered 401"), "{nobody}");
}

/// What a route sets of a field's name, no client says in any spelling, in a field or in a trailer.
#[test]
fn no_spelling_says_who_asks() {
    let scene = scene();
    let ann = format!("Authorization: {}\r\n", bearer(r#""sub":"ann","group":"staff""#));
    let forged = "X_User: root\r\nx.group: vip\r\nX-USER: root\r\nx~user: root\r\n";
    let text = scene.ask_with("/v1", &format!("{ann}{forged}")).text();
    assert!(text.contains("x-user: ann\n") && text.contains("x-group: staff\n"), "{text}");
    assert!(!text.contains("root") && !text.contains("vip"), "{text}");
    let head = format!("POST /v1 HTTP/1.1\r\nHost: a.test\r\n{ann}Transfer-Encoding: chunked\r\n\r\n");
    for name in ["x-user", "X_User", "x.group"] {
        let end = format!("0\r\n{name}: root\r\n\r\n");
        // In one piece with its body, and behind it.
        let whole = format!("{head}1\r\na\r\n{end}");
        assert_eq!(scene.gateway.client().request("POST", whole.as_bytes()).unwrap().status, 400, "{name}");
        let mut client = scene.gateway.client();
        client.send_all(head.as_bytes());
        client.send_all(format!("{:x}\r\n{}\r\n", 100_000, "a".repeat(100_000)).as_bytes());
        assert_eq!(client.request("POST", end.as_bytes()).unwrap().status, 400, "{name}");
    }
    let good = format!("{head}1\r\na\r\n0\r\nx-other: 1\r\n\r\n");
    assert_eq!(scene.gateway.client().request("POST", good.as_bytes()).unwrap().status, 200);
    let trailers = http::HeaderMap::from_iter([("x-user".parse().unwrap(), "root".parse().unwrap())]);
    let request = Request::post("http://a.test/v1").header("authorization", bearer(r#""sub":"ann""#));
    let client = Http2::connect(scene.gateway.web());
    let answer = client.exchange(request.body(()).unwrap(), Some(&[7; 100_000]), Some(trailers)).unwrap();
    assert_eq!(answer.status, 400);
}

/// Who signs tokens by ES256, and a gateway that believes him.
struct Issuer {
    pair: EcdsaKeyPair,
    jwks: String,
    x: String,
    gateway: Gateway,
    backend: Backend,
    _directory: Directory,
}

const BY_ONE: &str = r#"{"alg":"ES256","kid":"one"}"#;

impl Issuer {
    fn start() -> Issuer {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let [x, y] = [x, y].map(|part| URL_SAFE_NO_PAD.encode(part));
        let jwks = format!(
            r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"one","alg":"ES256","x":"{x}","y":"{y}"}}]}}"#
        );
        let directory = Directory::new();
        let file = directory.write("jwks.json", &jwks);
        let backend = Backend::fixed("in");
        let config = format!(
            "[listen.web]\naddress = \"@web@\"\n[service.m]\nendpoints = [\"{}\"]\n[auth.users]\n\
             jwt = {{ jwks = \"{}\", issuer = \"https://id.test\", audience = \"models\", require = [\"exp\", \"sub\"], leeway = \"5s\" }}\n\
             [[route]]\nauth = \"users\"\nto = \"m\"\n",
            backend.address,
            file.display()
        );
        let gateway = Gateway::start(&config, &[]);
        Issuer { pair, jwks, x, gateway, backend, _directory: directory }
    }

    fn sign(&self, head: &str, claims: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    fn ask(&self, token: &str) -> u16 {
        let field = format!("Authorization: Bearer {token}\r\n");
        self.gateway.client().get_with("/", &field).unwrap().status
    }
}

/// As a good token's, with more.
fn claims_until(end: u64, more: &str) -> String {
    format!(r#"{{"sub":"ann","iss":"https://id.test","aud":"models","exp":{end}{more}}}"#)
}

/// Tokens that whoever has no key can make, by the head and the signature.
fn forged_by_head(issuer: &Issuer, good: &str) -> Vec<(&'static str, String)> {
    // By what everybody knows: the public key as a secret, in each way that it can be written.
    let confused = |secret: &str| signed(secret, r#"{"alg":"HS256","kid":"one"}"#, good);
    let unsigned = |alg: &str| {
        let head = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{alg}"}}"#));
        format!("{head}.{}.", URL_SAFE_NO_PAD.encode(good))
    };
    let own = |more: &str| signed("a", &format!(r#"{{"alg":"ES256",{more}}}"#), good);
    let (first, rest) =
        issuer.sign(BY_ONE, good).split_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let signature = rest.split_once('.').unwrap().1;
    vec![
        ("none", unsigned("none")),
        ("None", unsigned("NoNe")),
        ("no signature", unsigned("ES256")),
        ("HS by the key set", confused(&issuer.jwks)),
        ("HS by x", confused(&issuer.x)),
        ("HS by nothing", confused(" ")),
        ("another algorithm", issuer.sign(r#"{"alg":"ES384","kid":"one"}"#, good)),
        ("a key that is a path", issuer.sign(r#"{"alg":"ES256","kid":"../../../../dev/null"}"#, good)),
        ("a key that is a query", issuer.sign(r#"{"alg":"ES256","kid":"x' UNION SELECT 'a"}"#, good)),
        ("its own key", own(r#""jwk":{"kty":"EC"}"#)),
        ("a key set of its own", own(r#""jku":"http://127.0.0.1:1/""#)),
        ("a certificate of its own", own(r#""x5u":"http://127.0.0.1:1/""#)),
        ("critical", issuer.sign(r#"{"alg":"ES256","kid":"one","crit":["exp"]}"#, good)),
        ("two algorithms", issuer.sign(r#"{"alg":"none","alg":"ES256","kid":"one"}"#, good)),
        ("four parts", format!("{first}.{rest}.e30")),
        ("padded", format!("{first}.{rest}=")),
        ("cut", format!("{first}.")),
        (
            "another's payload",
            format!("{first}.{}.{signature}", URL_SAFE_NO_PAD.encode(good.replace("ann", "root"))),
        ),
        ("huge", format!("{first}.{}.{signature}", "A".repeat(12_000))),
    ]
}

/// Of the ways in which tokens are forged, none opens the door, and each is a 401 that says no more than that.
#[test]
fn forged_tokens_open_nothing() {
    let issuer = Issuer::start();
    let now = now();
    let good = claims_until(now + 600, "");
    assert_eq!(issuer.ask(&issuer.sign(BY_ONE, &good)), 200);
    for (what, token) in forged_by_head(&issuer, &good) {
        assert_eq!(issuer.ask(&token), 401, "{what}");
    }
    // Signed well, and of no use.
    let deep = format!(r#","a":{}1{}"#, "[".repeat(1500), "]".repeat(1500));
    for (what, claims) in [
        ("two subjects", claims_until(now + 600, r#","sub":"root""#)),
        ("another issuer", good.replace("id.test", "id.evil")),
        ("another audience", good.replace("models", "others")),
        ("over", claims_until(now - 60, "")),
        ("not yet", claims_until(now + 600, &format!(r#","nbf":{}"#, now + 60))),
        ("for ever", r#"{"sub":"ann","iss":"https://id.test","aud":"models"}"#.to_owned()),
        ("of nobody", good.replace("\"sub\"", "\"who\"")),
        ("an end that is text", good.replace(&(now + 600).to_string(), "\"9999999999\"")),
        ("nested", claims_until(now + 600, &deep)),
    ] {
        assert_eq!(issuer.ask(&issuer.sign(BY_ONE, &claims)), 401, "{what}");
    }
    // Within the leeway, and still nobody else.
    let soon = claims_until(now + 600, &format!(r#","nbf":{}"#, now + 3));
    assert_eq!(issuer.ask(&issuer.sign(BY_ONE, &soon)), 200);
    assert_eq!(issuer.backend.requests(), 2, "nobody else was let in");
}
