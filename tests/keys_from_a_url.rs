//! Keys that are fetched from a URL: there from the start, newer ones without a request that fails for them, and the ones before for as
//! long as nothing better comes, whatever the other server does.

mod harness;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use harness::backend::{answer, ok};
use harness::gateway::Reload;
use harness::process::{Directory, dead_address};
use harness::tls::Certificate;
use harness::tls_front::{Manner, TlsFront};
use harness::{Backend, Gateway, Response, until};

const PLAIN: &str = "fetched";

/// The server of an issuer, whose keys change.
struct Issuer {
    backend: Backend,
    answer: Arc<Mutex<Vec<u8>>>,
}

fn secret(id: &str) -> Vec<u8> {
    format!("{id:-<32}").into_bytes()
}

fn set(ids: &[&str]) -> Vec<u8> {
    let key = |id: &&str| {
        let secret = URL_SAFE_NO_PAD.encode(secret(id));
        format!(r#"{{"kty":"oct","kid":"{id}","alg":"HS256","k":"{secret}"}}"#)
    };
    ok(format!("{{\"keys\":[{}]}}", ids.iter().map(key).collect::<Vec<_>>().join(",")).as_bytes())
}

fn token(id: &str) -> String {
    signed(&format!(r#"{{"alg":"HS256","kid":"{id}"}}"#), id)
}

fn signed(head: &str, id: &str) -> String {
    let expires = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 600;
    let claims = format!(r#"{{"sub":"ann","exp":{expires}}}"#);
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret(id)), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

impl Issuer {
    fn start(ids: &[&str]) -> Issuer {
        Issuer::start_on("127.0.0.1:0".parse().unwrap(), ids)
    }

    fn start_on(address: std::net::SocketAddr, ids: &[&str]) -> Issuer {
        let answer = Arc::new(Mutex::new(set(ids)));
        let says = answer.clone();
        let backend = Backend::listen_on(address, move |connection| {
            connection.serve(&|_: &harness::Request, connection: &mut harness::Conn| {
                let bytes = says.lock().unwrap().clone();
                match bytes.is_empty() {
                    // It hears, and says nothing.
                    true => connection.wait_stop(),
                    false => _ = connection.write(&bytes),
                }
            });
        });
        Issuer { backend, answer }
    }

    fn says(&self, bytes: Vec<u8>) {
        *self.answer.lock().unwrap() = bytes;
    }

    fn url(&self) -> String {
        format!("http://{}/keys", self.backend.address)
    }
}

fn config(jwt: &str) -> String {
    format!(
        "workers = 2\n[admin]\naddress = \"@admin@\"\n[listen.web]\naddress = \"@web@\"\n[service.m]\nendpoints = [\"@m@\"]\n\
         [auth.users]\njwt = {{ {jwt} }}\n\
         [[route]]\nmatch = {{ path = \"/plain\" }}\nto = \"m\"\n\
         [[route]]\nmatch = {{ claim.sub = \"ann\" }}\nauth = \"users\"\nto = \"m\"\nrequest_headers.set = {{ x-who = \"{{claim:sub}}\" }}\n"
    )
}

fn start(url: &str, more: &str) -> (Gateway, Backend) {
    let backend = Backend::fixed(PLAIN);
    (Gateway::start(&config(&format!("jwks = \"{url}\"{more}")), &[("m", backend.address)]), backend)
}

fn ask(gateway: &Gateway, id: &str) -> Response {
    gateway.client().get_with("/", &format!("authorization: Bearer {}\r\n", token(id))).unwrap()
}

/// A route that asks for a claim has nobody without one: 404, as for who says nothing.
const STRANGER: u16 = 404;

#[test]
fn new_keys_are_fetched_when_a_token_needs_them_and_no_request_fails() {
    let issuer = Issuer::start(&["one"]);
    let (gateway, _backend) = start(&issuer.url(), "");
    assert_eq!(ask(&gateway, "one").status, 200);
    assert_eq!(issuer.backend.requests(), 1, "fetched before the first request");
    for round in 0..3 {
        let (old, new) = (["one", "two", "three"][round], ["two", "three", "four"][round]);
        issuer.says(set(&[old, new]));
        // Of keys that are not a second old nobody has newer ones fetched.
        until("the new key is believed", || ask(&gateway, new).status == 200);
        assert_eq!(ask(&gateway, old).status, 200);
    }
    // Once the keys that are known are old enough, the first request with another one has it.
    std::thread::sleep(Duration::from_millis(1_100));
    issuer.says(set(&["four", "five"]));
    let answers = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..20).map(|_| scope.spawn(|| ask(&gateway, "five").status)).collect();
        asking.into_iter().map(|asking| asking.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(answers, [200; 20]);
}

/// Also of tokens that name no key.
#[test]
fn tokens_that_name_no_key_have_newer_ones_fetched() {
    let unnamed = |id: &str| {
        let secret = URL_SAFE_NO_PAD.encode(secret(id));
        ok(format!(r#"{{"keys":[{{"kty":"oct","alg":"HS256","k":"{secret}"}}]}}"#).as_bytes())
    };
    let issuer = Issuer::start(&[]);
    issuer.says(unnamed("one"));
    let (gateway, _backend) = start(&issuer.url(), "");
    let ask = |id: &str| {
        let token = signed(r#"{"alg":"HS256"}"#, id);
        gateway.client().get_with("/", &format!("authorization: Bearer {token}\r\n")).unwrap().status
    };
    assert_eq!(ask("one"), 200);
    std::thread::sleep(Duration::from_millis(1_100));
    issuer.says(unnamed("two"));
    assert_eq!([ask("two"), ask("one")], [200, STRANGER]);
}

#[test]
fn what_a_key_that_is_gone_has_signed_is_refused() {
    let issuer = Issuer::start(&["one"]);
    let (gateway, _backend) = start(&issuer.url(), ", refresh = \"1s\"");
    assert_eq!(ask(&gateway, "one").status, 200);
    issuer.says(set(&["two"]));
    until("it is refused", || ask(&gateway, "one").status == STRANGER);
    assert_eq!(ask(&gateway, "two").status, 200);
}

#[test]
fn the_keys_before_stay_whatever_the_server_does() {
    let issuer = Issuer::start(&["one"]);
    let (gateway, _backend) = start(&issuer.url(), ", refresh = \"1s\"");
    let bad = [
        (answer("500 No", "", b"no"), "it answers 500"),
        (answer("302 Found", "location: /else\r\n", b""), "redirects are not followed"),
        (ok(b"{\"keys\":[]}"), "none of its keys"),
        (ok(b"<html>"), "it is no JSON"),
        (ok(&vec![b' '; 2 << 20]), "its answer cannot be read"),
        (b"nonsense\r\n\r\n".to_vec(), "no HTTP"),
        (Vec::new(), "no answer within 5s"),
    ];
    for (bytes, why) in bad {
        issuer.says(bytes);
        gateway.until_stderr(why);
        assert_eq!(ask(&gateway, "one").status, 200, "{why}");
    }
    let url = issuer.url();
    drop(issuer);
    gateway.until_stderr("cannot connect");
    assert_eq!(ask(&gateway, "one").status, 200);
    assert!(gateway.stderr().contains(&format!("keys cannot be fetched from {url}")));
}

#[test]
fn without_keys_tokens_are_not_judged_and_others_are_served() {
    let address = dead_address();
    let (gateway, _backend) = start(&format!("http://{address}/keys"), "");
    gateway.until_stderr("cannot connect");
    assert_eq!(gateway.get("/plain").text(), PLAIN);
    assert_eq!(gateway.get("/").status, STRANGER, "who says nothing needs no key");
    let issuer = Issuer::start_on(address, &["one"]);
    // It waits for the attempt that it asks for.
    until("it is there", || ask(&gateway, "one").status == 200);
    drop(issuer);

    let (mut gateway, _backend) = start(&format!("http://{}/keys", dead_address()), "");
    let anybody = config(&format!("jwks = \"http://{}/keys\"", dead_address()))
        .replace("match = { claim.sub = \"ann\" }\n", "");
    assert_eq!(gateway.reload(&anybody), Reload::Taken);
    let refused = ask(&gateway, "one");
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("urn:tidegate:error:keys_unavailable"), "{}", refused.text());
    assert_eq!(gateway.get("/").status, 401);
}

#[test]
fn strangers_do_not_have_keys_fetched_all_the_time() {
    let issuer = Issuer::start(&["one"]);
    let (gateway, _backend) = start(&issuer.url(), "");
    let began = SystemTime::now();
    for number in 0..200 {
        assert_eq!(ask(&gateway, &format!("stranger-{number}")).status, STRANGER);
    }
    let seconds = began.elapsed().unwrap().as_secs();
    assert!(issuer.backend.requests() <= 2 + seconds, "{} in {seconds} s", issuer.backend.requests());
}

#[test]
fn a_reload_keeps_keys_and_fetches_those_of_another_url_first() {
    let (first, second) = (Issuer::start(&["one"]), Issuer::start(&["two"]));
    let (mut gateway, _backend) = start(&first.url(), "");
    assert_eq!(
        gateway.reload(&config(&format!("jwks = \"{}\", leeway = \"1m\"", first.url()))),
        Reload::Taken
    );
    assert_eq!((ask(&gateway, "one").status, first.backend.requests()), (200, 1));
    assert_eq!(gateway.reload(&config(&format!("jwks = \"{}\"", second.url()))), Reload::Taken);
    assert_eq!((ask(&gateway, "two").status, second.backend.requests()), (200, 1));
}

/// However they are to be fetched from now on, what is known stays known while nobody answers.
#[test]
fn a_reload_while_the_issuer_is_down_forgets_nothing() {
    let issuer = Issuer::start(&["one"]);
    let (mut gateway, _backend) = start(&issuer.url(), "");
    let url = issuer.url();
    drop(issuer);
    assert_eq!(gateway.reload(&config(&format!("jwks = \"{url}\", refresh = \"1h\""))), Reload::Taken);
    gateway.until_stderr("the keys before stay in use");
    assert_eq!(ask(&gateway, "one").status, 200);
    let failed = gateway.metrics().sum("tidegate_key_fetches_failed_total", &[("url", &url)]);
    assert!(failed >= 1.0, "{failed}");
}

/// Whoever fetches what they wait for wakes them: here a reload, while another attempt hangs.
#[test]
fn a_reload_that_fetches_keys_wakes_who_waits_for_them() {
    let issuer = Issuer::start(&[]);
    issuer.says(Vec::new());
    let (mut gateway, _backend) = start(&issuer.url(), "");
    let silent = "no answer within 5s";
    gateway.until_stderr(silent);
    let before = issuer.backend.requests();
    let (mut client, fields) = (gateway.client(), format!("authorization: Bearer {}\r\n", token("one")));
    let waits = std::thread::spawn(move || client.get_with("/", &fields).unwrap().status);
    until("it has keys asked for", || issuer.backend.requests() > before);
    issuer.says(set(&["one"]));
    assert_eq!(gateway.reload(&config(&format!("jwks = \"{}\"", issuer.url()))), Reload::Taken);
    assert_eq!(waits.join().unwrap(), 200);
    // The attempt that it had asked for had not ended by then.
    assert_eq!(gateway.stderr().matches(silent).count(), 1);
}

#[test]
fn https_is_verified() {
    let (issuer, directory) = (Issuer::start(&["one"]), Directory::new());
    let certificate = Certificate::new(&["127.0.0.1"]);
    let front = TlsFront::start(issuer.backend.address, &Manner::of(&certificate));
    let (file, _) = certificate.write(&directory, "issuer");
    let url = format!("https://{}/keys", front.address);
    let (gateway, _backend) = start(&url, &format!(", tls = {{ roots = \"{}\" }}", file.display()));
    assert_eq!(ask(&gateway, "one").status, 200);
    let stranger = Certificate::new(&["127.0.0.1"]);
    let (file, _) = stranger.write(&directory, "stranger");
    let (gateway, _backend) = start(&url, &format!(", tls = {{ roots = \"{}\" }}", file.display()));
    gateway.until_stderr("no TLS");
    assert_eq!(issuer.backend.requests(), 1);
}
