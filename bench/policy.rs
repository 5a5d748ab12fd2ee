//! Backs the claims on what single policies cost: nanoseconds of each, alone and with all that it reads at hand but where it says
//! otherwise. Run: `cargo bench --bench policy`. `bench/instructions policy` counts instructions instead.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use aws_lc_rs::{hmac, rsa};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tidegate::inference::image_head::{self, Format};
use tidegate::inference::json_scan::{self, Rules};
use tidegate::policy::addresses::PerAddress;
use tidegate::policy::api_key::{self, ApiKeys};
use tidegate::policy::breaker::{Breaker, BreakerPolicy};
use tidegate::policy::concurrency::{Entered, Places, Room};
use tidegate::policy::identity::{Auth, Verified};
use tidegate::policy::jwt::{KeySet, Keys, Verifier};
use tidegate::policy::quota::{Account, Ledger, Quota, REQUESTS_MAX};
use tidegate::policy::rate_limit::{Buckets, Rate};

const ROUNDS: usize = 9;
const SECOND: u64 = 1_000_000_000;
/// Seconds since 1970.
const NOW: u64 = 1_800_000_000;

/// One policy, and what a request does with it.
struct Case {
    /// Its name on the command line, and what it is.
    name: &'static str,
    what: &'static str,
    /// In a round.
    calls: usize,
    make: fn() -> Box<dyn FnMut()>,
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    Case { name: "limit", what: "a rate limit with one bucket for all", calls: 1 << 17, make: || limit(0, 1) },
    Case { name: "limit-hot", what: "a rate limit, 64 hot keys of a million", calls: 1 << 17, make: || limit(1_000_000, 64) },
    Case { name: "limit-even", what: "a rate limit, a million keys evenly", calls: 1 << 17, make: || limit(1_000_000, 1_000_000) },
    Case { name: "quota", what: "a quota by day and month", calls: 1 << 17, make: quota },
    Case { name: "places", what: "a place of a service taken and given back", calls: 1 << 17, make: places },
    Case { name: "breaker", what: "a breaker asked and told", calls: 1 << 17, make: breaker },
    Case { name: "address", what: "a connection of an address, come and gone", calls: 1 << 16, make: address },
    Case { name: "key", what: "an API key", calls: 20_000, make: key },
    Case { name: "json", what: "an inference request of 1 KiB, its shape", calls: 20_000, make: json },
    Case { name: "image", what: "a JPEG's head behind 20 KiB of profile", calls: 1 << 17, make: image },
    Case { name: "hs256", what: "a token of HS256, verified before", calls: 20_000, make: || token("HS256", true) },
    Case { name: "hs256-new", what: "a token of HS256, verified anew", calls: 200, make: || token("HS256", false) },
    Case { name: "rs256-new", what: "a token of RS256, verified anew", calls: 200, make: || token("RS256", false) },
    Case { name: "eddsa-new", what: "a token of EdDSA, verified anew", calls: 200, make: || token("EdDSA", false) },
    Case { name: "es256-new", what: "a token of ES256, verified anew", calls: 200, make: || token("ES256", false) },
];

fn main() {
    // Cargo's own arguments begin with two dashes.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["cases"] => CASES.iter().for_each(|case| println!("{}", case.name)),
        ["count", name, calls] => {
            let case = CASES.iter().find(|case| case.name == name).expect("a case");
            let mut call = (case.make)();
            (0..calls.parse::<usize>().expect("a number")).for_each(|_| measured(&mut call));
        }
        _ => {
            println!("ns, the median of {ROUNDS} rounds");
            for case in CASES {
                println!("  {:42} {:10.1}", case.what, median(case.calls, (case.make)()));
            }
        }
    }
}

/// What `bench/instructions policy` counts: not what comes before it, which is another at each run.
#[inline(never)]
fn measured(call: &mut Box<dyn FnMut()>) {
    call();
}

/// Nanoseconds of one of so many calls, the median of some rounds.
fn median(count: usize, mut call: impl FnMut()) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            (0..count).for_each(|_| call());
            start.elapsed().as_nanos() as f64 / count as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

/// With `keys` live ones, of which so many are asked for: the key hashed and a token taken.
fn limit(keys: usize, asked: usize) -> Box<dyn FnMut()> {
    let buckets = Buckets::new(keys);
    // No key is ever without a token, and none is ever as good as new.
    let rate = Rate::new(1, SECOND, 1_000_000_000);
    let ticket = |number: usize| {
        let mut key = buckets.key();
        key.part(format!("tenant-{number:08}").as_bytes());
        key.ticket()
    };
    for number in 0..keys {
        buckets.take(ticket(number), rate, SECOND).expect("a token");
    }
    assert_eq!(buckets.overflowed_total.load(std::sync::atomic::Ordering::Relaxed), 0);
    let mut seed = 1u64;
    let names: Vec<[u8; 15]> = (0..1 << 17)
        .map(|_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let number = (seed >> 33) as usize % asked;
            format!("tenant-{number:08}").as_bytes().try_into().expect("15 bytes")
        })
        .collect();
    let mut at = 0;
    Box::new(move || {
        let mut key = buckets.key();
        if keys > 0 {
            key.part(&names[at % names.len()]);
        }
        at += 1;
        black_box(buckets.take(key.ticket(), rate, SECOND).is_ok());
    })
}

/// Looked at and taken, of a day and of a month.
fn quota() -> Box<dyn FnMut()> {
    let ledger = Arc::new(Ledger::new(Path::new("used")));
    let quota = Quota { day: Some(REQUESTS_MAX), month: Some(REQUESTS_MAX) };
    let account = Account::new(quota, ledger.used("5d0f3c9a1b7e"), ledger.clone());
    Box::new(move || {
        let now = black_box(NOW);
        account.look(now).and_then(|()| account.take(now)).expect("room");
    })
}

/// While nobody waits.
fn places() -> Box<dyn FnMut()> {
    let places = Places::default();
    let room = Room { requests_max: 64, each_max: u32::MAX, waiting_max: 64 };
    Box::new(move || {
        let (Entered::Now(place), _) = places.enter(&room, 0, 0, || 0) else { panic!("there is room") };
        black_box(places.leave(&room, place));
    })
}

/// Of a service that is well.
fn breaker() -> Box<dyn FnMut()> {
    let policy = BreakerPolicy {
        window: Duration::from_secs(10),
        requests_min: 20,
        shed_above: 10,
        reject_above: 30,
        probes: 3,
    };
    let breaker = Breaker::default();
    Box::new(move || {
        let pass = breaker.admit(&policy, black_box(1_000), 1).expect("it passes");
        breaker.record(&policy, black_box(1_000), pass, false);
    })
}

fn address() -> Box<dyn FnMut()> {
    let rate = Some(Rate::new(1, SECOND, 1_000_000_000));
    let limit = PerAddress { connections_max: Some(100), rate, state: Arc::default() };
    Box::new(move || drop(black_box(limit.enter(black_box("192.0.2.1".parse().expect("one")), SECOND))))
}

fn key() -> Box<dyn FnMut()> {
    let (presented, line) = api_key::create(&[7; 38]);
    let keys =
        ApiKeys::read("x-api-key".into(), &format!("{line} sub=ann"), Quota::default()).expect("a key");
    Box::new(move || drop(black_box(keys.verify(presented.as_bytes(), NOW).expect("it is known"))))
}

fn json() -> Box<dyn FnMut()> {
    let data = vec!["0.125"; 160].join(",");
    let text = format!(r#"{{"inputs":[{{"name":"a","shape":[160],"datatype":"FP32","data":[{data}]}}]}}"#);
    Box::new(move || {
        let rules = Rules { depth_max: 64, peek: None, is_inference: true };
        let mut scanner = json_scan::Scanner::new(rules);
        scanner.push(black_box(text.as_bytes())).and_then(|()| scanner.finish()).expect("it is one");
    })
}

fn image() -> Box<dyn FnMut()> {
    let mut image = vec![0xff, 0xd8, 0xff, 0xe2, 0x50, 0x00];
    image.resize(image.len() + 0x5000 - 2, 7);
    image.extend_from_slice(&[0xff, 0xc0, 0, 11, 8, 1, 0, 1, 0, 1, 1, 0x11, 0]);
    Box::new(move || {
        let mut scanner = image_head::Scanner::new(Format::Jpeg);
        black_box(scanner.push(black_box(&image)).expect("a head"));
    })
}

/// Presented by a request; remembered by its core, or not.
fn token(name: &str, is_remembered: bool) -> Box<dyn FnMut()> {
    let (_, keys, token) = tokens().into_iter().find(|(known, _, _)| *known == name).expect("a kind");
    let jwt = Verifier {
        keys: Keys::Known(KeySet::jwks(keys.as_bytes(), None).expect("keys")),
        issuers: Vec::new(),
        audiences: vec!["models".into()],
        leeway: 30,
        required: vec!["exp".into()],
    };
    let auth = Auth::new("users".into(), Some(jwt), None, false);
    let field = format!("Bearer {token}");
    let mut verified = Verified::default();
    Box::new(move || {
        if !is_remembered {
            verified = Verified::default();
        }
        let fields = [(&b"authorization"[..], field.as_bytes())];
        drop(black_box(
            auth.identify(fields.into_iter(), None, NOW, &mut verified, true).expect("a good token"),
        ));
    })
}

/// One for each kind of key.
fn tokens() -> Vec<(&'static str, String, String)> {
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let signed = |algorithm: &str, sign: &dyn Fn(&[u8]) -> Vec<u8>| {
        let claims =
            r#"{"sub":"ann","group":"staff","aud":"models","iss":"https://id.example.com","exp":1900000000}"#;
        let head = format!(r#"{{"alg":"{algorithm}","typ":"JWT"}}"#);
        let message = format!("{}.{}", text(head.as_bytes()), text(claims.as_bytes()));
        let signature = sign(message.as_bytes());
        format!("{message}.{}", text(&signature))
    };
    let random = SystemRandom::new();
    let secret = b"0123456789abcdef0123456789abcdef";
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let rsa = RsaKeyPair::generate(rsa::KeySize::Rsa2048).expect("a key");
    let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let ed = Ed25519KeyPair::generate().expect("a key");
    let (x, y) = ec.public_key().as_ref()[1..].split_at(32);
    let set = |key: String| format!("{{\"keys\":[{key}]}}");
    vec![
        (
            "HS256",
            set(format!(r#"{{"kty":"oct","k":"{}"}}"#, text(secret))),
            signed("HS256", &|message| hmac::sign(&key, message).as_ref().to_vec()),
        ),
        (
            "RS256",
            set(format!(r#"{{"kty":"RSA","n":"{}","e":"AQAB"}}"#, text(&rsa.public_key().as_ref()[9..265]))),
            signed("RS256", &|message| {
                let mut signature = vec![0; rsa.public_modulus_len()];
                rsa.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect("a signature");
                signature
            }),
        ),
        (
            "ES256",
            set(format!(r#"{{"kty":"EC","crv":"P-256","x":"{}","y":"{}"}}"#, text(x), text(y))),
            signed("ES256", &|message| ec.sign(&random, message).expect("a signature").as_ref().to_vec()),
        ),
        (
            "EdDSA",
            set(format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{}"}}"#, text(ed.public_key().as_ref()))),
            signed("EdDSA", &|message| ed.sign(message).as_ref().to_vec()),
        ),
    ]
}
