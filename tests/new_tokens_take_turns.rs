//! Tokens that nobody has shown before cost the most of all that a core does for a request, so they share its turns with everybody else:
//! however many come at once, each is judged as if it were alone, and by the route that its own claims lead to.

mod harness;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use harness::process::Directory;
use harness::{Backend, Client, Gateway};

/// A key whose signatures take long to verify.
struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Signer {
        Signer(EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).unwrap())
    }

    fn jwks(&self) -> String {
        let point = self.0.public_key().as_ref();
        let (x, y) = point[1..].split_at((point.len() - 1) / 2);
        let [x, y] = [x, y].map(|part| URL_SAFE_NO_PAD.encode(part));
        format!(r#"{{"keys":[{{"kty":"EC","crv":"P-521","alg":"ES512","x":"{x}","y":"{y}"}}]}}"#)
    }

    fn token(&self, claims: &str) -> String {
        let [head, claims] = [r#"{"alg":"ES512"}"#, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
        let signed = format!("{head}.{claims}");
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

const CONNECTIONS: usize = 64;

#[test]
fn many_new_tokens_at_once_are_each_judged_by_themselves() {
    let (stable, vip) = (Backend::describing("stable"), Backend::describing("vip"));
    let (ours, theirs) = (Signer::new(), Signer::new());
    let directory = Directory::new();
    let keys = [&ours, &theirs].map(|signer| signer.jwks());
    let files = [directory.write("ours.json", &keys[0]), directory.write("theirs.json", &keys[1])];
    let config = format!(
        r#"
workers = 1
[listen.web]
address = "@web@"
[service.stable]
endpoints = ["{}"]
[service.vip]
endpoints = ["{}"]
[auth.others]
jwt = {{ jwks = "{}" }}
[auth.users]
jwt = {{ jwks = "{}" }}
# Whose token it is takes two looks at it.
[[route]]
match = {{ path = "/**", claim.group = "vip" }}
auth = "others"
to = "vip"
[[route]]
match = {{ path = "/**", claim.group = "vip" }}
auth = "users"
to = "vip"
[[route]]
match.path = "/**"
auth = "users"
to = "stable"
request_headers.set = {{ x-user = "{{claim:sub}}" }}
"#,
        stable.address,
        vip.address,
        files[1].display(),
        files[0].display(),
    );
    let gateway = Gateway::start(&config, &[]);
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| gateway.client()).collect();
    let requests: Vec<String> = (0..CONNECTIONS)
        .map(|number| {
            let group = if number % 4 == 1 { "vip" } else { "staff" };
            let claims = format!(r#"{{"sub":"user-{number}","group":"{group}","exp":9999999999}}"#);
            // Nobody here has the key of the last ones.
            let token = if number % 4 == 3 { Signer::new().token(&claims) } else { ours.token(&claims) };
            format!("GET /{number} HTTP/1.1\r\nHost: a.test\r\nAuthorization: Bearer {token}\r\n\r\n")
        })
        .collect();
    for (client, request) in clients.iter_mut().zip(&requests) {
        client.send_all(request.as_bytes());
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let answer = client.request("GET", b"").unwrap();
        let text = answer.text();
        match number % 4 {
            1 => assert!(answer.status == 200 && text.starts_with("vip\n"), "{number}: {text}"),
            3 => assert_eq!(answer.status, 401, "{number}: {text}"),
            _ => assert!(
                answer.status == 200
                    && text.starts_with("stable\n")
                    && text.contains(&format!("x-user: user-{number}\n")),
                "{number}: {text}"
            ),
        }
    }
    let metrics = gateway.metrics();
    // Each once by either way, and nobody twice.
    assert_eq!(metrics.sum("tidegate_tokens_verified_total", &[]), 2.0 * CONNECTIONS as f64);
    // No turn has time for more than a few, however fast the machine: most had to wait for theirs.
    let waited = metrics.sum("tidegate_tokens_waited_total", &[]);
    assert!(waited >= CONNECTIONS as f64 / 4.0, "{waited} waits");
    // Those that were believed are remembered.
    let remembered = clients[0].request("GET", requests[0].as_bytes()).unwrap();
    assert_eq!(remembered.status, 200);
}
