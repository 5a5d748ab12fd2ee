//! Backs the claims on what single policies cost: nanoseconds per check of a rate limit, with few and a million live keys, per request that
//! a quota counts, and per token, verified anew and remembered. Run: `cargo bench --bench policy`.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use aws_lc_rs::{hmac, rsa};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tidegate::policy::identity::{Auth, Verified};
use tidegate::policy::jwt::{KeySet, Keys, Verifier};
use tidegate::policy::quota::{Account, Ledger, Quota, REQUESTS_MAX};
use tidegate::policy::rate_limit::{Buckets, Rate};

const ROUNDS: usize = 9;
const SECOND: u64 = 1_000_000_000;

fn main() {
    println!("ns per check of a rate limit, the key hashed and a token taken");
    println!("  one bucket for all                {:8.1}", limit(0, 1));
    println!("  64 hot keys of a million          {:8.1}", limit(1_000_000, 64));
    println!("  a million keys, evenly            {:8.1}", limit(1_000_000, 1_000_000));
    println!("ns per request that a quota counts  {:8.1}", quota());
    println!("ns per token");
    for (name, keys, token) in tokens() {
        let jwt = Verifier {
            keys: Keys::Known(KeySet::jwks(keys.as_bytes(), None).expect("keys")),
            issuers: Vec::new(),
            audiences: vec!["models".into()],
            leeway: 30,
            required: vec!["exp".into()],
        };
        let auth = Auth::new("users".into(), Some(jwt), None, false);
        let field = format!("Bearer {token}");
        let fields = [(&b"authorization"[..], field.as_bytes())];
        let mut verified = Verified::default();
        let ask = |verified: &mut Verified| {
            auth.identify(fields.into_iter(), None, 1_800_000_000, verified).expect("a good token")
        };
        let anew = median(200, || drop(black_box(ask(&mut Verified::default()))));
        let again = median(20_000, || drop(black_box(ask(&mut verified))));
        println!("  {name:6} verified anew {anew:10.0}   remembered {again:8.1}");
    }
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

/// Looked at and taken, of a day and of a month.
fn quota() -> f64 {
    let ledger = Arc::new(Ledger::new(Path::new("used")));
    let quota = Quota { day: Some(REQUESTS_MAX), month: Some(REQUESTS_MAX) };
    let account = Account::new(quota, ledger.used("5d0f3c9a1b7e"), ledger.clone());
    median(1 << 17, || {
        let now = black_box(1_795_737_600);
        account.look(now).and_then(|()| account.take(now)).expect("room");
    })
}

/// With `keys` live ones, of which so many are asked for.
fn limit(keys: usize, asked: usize) -> f64 {
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
    let mut seed = 1u64;
    let names: Vec<[u8; 15]> = (0..1 << 17)
        .map(|_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let number = (seed >> 33) as usize % asked;
            format!("tenant-{number:08}").as_bytes().try_into().expect("15 bytes")
        })
        .collect();
    let mut at = 0;
    let cost = median(names.len(), || {
        let mut key = buckets.key();
        if keys > 0 {
            key.part(&names[at % names.len()]);
        }
        at += 1;
        black_box(buckets.take(key.ticket(), rate, SECOND).is_ok());
    });
    assert_eq!(buckets.overflowed_total.load(std::sync::atomic::Ordering::Relaxed), 0);
    cost
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
