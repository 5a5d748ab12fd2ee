//! What tokens are believed, and the table of attacks that are not.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use aws_lc_rs::{encoding, hmac};

use super::*;

const NOW: u64 = 1_800_000_000;
const SECRET: &[u8] = b"a secret of thirty-two bytes, no less";

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token with this head and these claims, signed as `sign` does.
fn token(head: &str, claims: &str, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", encode(head), encode(claims));
    let signature = sign(signed.as_bytes());
    format!("{signed}.{}", encode(signature))
}

fn hs256(secret: &[u8]) -> impl FnOnce(&[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    move |message| hmac::sign(&key, message).as_ref().to_vec()
}

impl Verifier {
    fn verify(&self, token: &[u8], now: u64) -> Result<Claims, Refusal> {
        self.keys.with(|keys| self.verify_by(keys.unwrap(), token, now))
    }
}

fn by(keys: KeySet) -> Verifier {
    Verifier {
        keys: Keys::Known(keys),
        issuers: Vec::new(),
        audiences: Vec::new(),
        leeway: 30,
        required: vec!["exp".into()],
    }
}

fn by_secret() -> Verifier {
    by(KeySet::one(Key::secret(SECRET, None).unwrap(), SECRET))
}

fn jwks(keys: &[String]) -> KeySet {
    KeySet::jwks(format!("{{\"keys\":[{}]}}", keys.join(",")).as_bytes(), None).unwrap()
}

const GOOD: &str = r#"{"sub":"ann","exp":1800000100}"#;
const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

#[test]
fn the_examples_of_the_standards() {
    // RFC 7515 §A.1.
    let key = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let keys = jwks(&[format!(r#"{{"kty":"oct","k":"{key}"}}"#)]);
    let token = b"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let verifier = Verifier { issuers: vec!["joe".into()], ..by(keys) };
    let claims = verifier.verify(token, 1_300_000_000).unwrap();
    assert_eq!(claims.text("http://example.com/is_root").unwrap(), "true");
    assert_eq!(verifier.verify(token, 1_300_819_380 + 30), Err(Refusal::Expired));
    assert!(verifier.verify(token, 1_300_819_380 + 29).is_ok(), "within the leeway");
    // RFC 8037 §A.4.
    let keys =
        jwks(&[r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#.into()]);
    let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    assert!(keys.named(None).next().unwrap().has_signed(message, &signature));
}

#[test]
fn every_algorithm_verifies_what_it_signed_and_nothing_else() {
    let random = SystemRandom::new();
    for (algorithm, hash) in
        [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)]
    {
        let keys = jwks(&[format!(r#"{{"kty":"oct","alg":"{algorithm}","k":"{}"}}"#, encode(SECRET))]);
        let key = hmac::Key::new(hash, SECRET);
        round_trip(by(keys), algorithm, |message| hmac::sign(&key, message).as_ref().to_vec());
    }
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    // RFC 8017 §A.1.1: two lengths and a zero before the modulus.
    let public = rsa.public_key().as_ref();
    let (n, e) = (&public[9..265], [1, 0, 1]);
    for (algorithm, encoding) in [
        ("RS256", &signature::RSA_PKCS1_SHA256 as &dyn signature::RsaEncoding),
        ("RS384", &signature::RSA_PKCS1_SHA384),
        ("RS512", &signature::RSA_PKCS1_SHA512),
        ("PS256", &signature::RSA_PSS_SHA256),
        ("PS384", &signature::RSA_PSS_SHA384),
        ("PS512", &signature::RSA_PSS_SHA512),
    ] {
        let jwk = format!(r#"{{"kty":"RSA","alg":"{algorithm}","n":"{}","e":"{}"}}"#, encode(n), encode(e));
        round_trip(by(jwks(&[jwk])), algorithm, |message| {
            let mut signature = vec![0; rsa.public_modulus_len()];
            rsa.sign(encoding, &random, message, &mut signature).unwrap();
            signature
        });
    }
    for (algorithm, curve, signing) in [
        ("ES256", "P-256", &signature::ECDSA_P256_SHA256_FIXED_SIGNING),
        ("ES384", "P-384", &signature::ECDSA_P384_SHA384_FIXED_SIGNING),
        ("ES512", "P-521", &signature::ECDSA_P521_SHA512_FIXED_SIGNING),
    ] {
        let pair = EcdsaKeyPair::generate(signing).unwrap();
        let (x, y) = pair.public_key().as_ref()[1..].split_at((pair.public_key().as_ref().len() - 1) / 2);
        let jwk = format!(r#"{{"kty":"EC","crv":"{curve}","x":"{}","y":"{}"}}"#, encode(x), encode(y));
        let sign = |message: &[u8]| pair.sign(&random, message).unwrap().as_ref().to_vec();
        round_trip(by(jwks(&[jwk])), algorithm, sign);
        let der = AsDer::<encoding::PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap();
        round_trip(
            by(KeySet::one(Key::pem(pem(der.as_ref()).as_bytes(), None).unwrap(), b"")),
            algorithm,
            sign,
        );
    }
    let pair = Ed25519KeyPair::generate().unwrap();
    let jwk = format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{}"}}"#, encode(pair.public_key()));
    round_trip(by(jwks(&[jwk])), "EdDSA", |message| pair.sign(message).as_ref().to_vec());
}

fn pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
}

fn round_trip(verifier: Verifier, algorithm: &str, sign: impl Fn(&[u8]) -> Vec<u8>) {
    let head = format!(r#"{{"alg":"{algorithm}"}}"#);
    let good = token(&head, GOOD, &sign);
    assert_eq!(verifier.verify(good.as_bytes(), NOW).unwrap().text("sub").unwrap(), "ann", "{algorithm}");
    // Any other claim, head or signature.
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let other =
        token(&head, r#"{"sub":"eve","exp":1800000100}"#, |_| URL_SAFE_NO_PAD.decode(signature).unwrap());
    assert_eq!(verifier.verify(other.as_bytes(), NOW), Err(Refusal::Signature), "{algorithm}");
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    for at in [0, bytes.len() / 2, bytes.len() - 1] {
        bytes[at] ^= 1;
        let other = format!("{signed}.{}", encode(&bytes));
        assert_eq!(verifier.verify(other.as_bytes(), NOW), Err(Refusal::Signature), "{algorithm}, byte {at}");
        bytes[at] ^= 1;
    }
    for wrong in [String::new(), encode(&bytes[1..]), encode(&bytes[..bytes.len() - 1])] {
        let other = format!("{signed}.{wrong}");
        assert_eq!(verifier.verify(other.as_bytes(), NOW), Err(Refusal::Signature), "{algorithm}");
    }
    for named in Algorithm::ALL.iter().map(|known| known.name()).chain(["none", "None", ""]) {
        if named != algorithm {
            let other = token(&format!(r#"{{"alg":"{named}"}}"#), GOOD, &sign);
            assert_eq!(
                verifier.verify(other.as_bytes(), NOW),
                Err(Refusal::Algorithm),
                "{algorithm} for {named}"
            );
        }
    }
}

#[test]
fn attacks_on_the_head() {
    let verifier = by_secret();
    let cases: &[(&str, &str, Refusal)] = &[
        ("none", r#"{"alg":"none"}"#, Refusal::Algorithm),
        ("none in other letters", r#"{"alg":"nOnE"}"#, Refusal::Algorithm),
        ("HS256 in small letters", r#"{"alg":"hs256"}"#, Refusal::Algorithm),
        ("no alg", r#"{"typ":"JWT"}"#, Refusal::Malformed("it has no alg")),
        ("alg is a list", r#"{"alg":["HS256"]}"#, Refusal::Malformed("it has no alg")),
        (
            "alg twice",
            r#"{"alg":"HS256","alg":"none"}"#,
            Refusal::Malformed("it is no JSON, or says something twice"),
        ),
        (
            "critical extensions",
            r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
            Refusal::Malformed("it has critical extensions"),
        ),
        ("kid is a number", r#"{"alg":"HS256","kid":1}"#, Refusal::Malformed("its kid is no text")),
        ("a list", r#"["HS256"]"#, Refusal::Malformed("it is no JSON object")),
        ("nothing", "", Refusal::Malformed("it is no JSON, or says something twice")),
    ];
    for (name, head, expected) in cases {
        let token = token(head, GOOD, hs256(SECRET));
        assert_eq!(verifier.verify(token.as_bytes(), NOW), Err(expected.clone()), "{name}");
    }
    // What it says of where its key is leads nowhere: it is signed with the attacker's.
    for head in [
        format!(r#"{{"alg":"HS256","jwk":{{"kty":"oct","k":"{}"}}}}"#, encode("attacker")),
        r#"{"alg":"HS256","jku":"https://evil.test/jwks.json"}"#.into(),
        r#"{"alg":"HS256","x5u":"https://evil.test/key.pem"}"#.into(),
        r#"{"alg":"HS256","kid":"../../dev/null"}"#.into(),
        r#"{"alg":"HS256","kid":"' UNION SELECT 'attacker"}"#.into(),
    ] {
        for secret in [&b"attacker"[..], b"\0"] {
            let token = token(&head, GOOD, hs256(secret));
            assert_eq!(verifier.verify(token.as_bytes(), NOW), Err(Refusal::Signature), "{head}");
        }
    }
}

#[test]
fn a_public_key_is_no_secret() {
    let pair = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let der = AsDer::<encoding::PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap();
    let text = pem(der.as_ref());
    let verifier = by(KeySet::one(Key::pem(text.as_bytes(), None).unwrap(), b""));
    for secret in [text.as_bytes(), der.as_ref(), pair.public_key().as_ref(), text.trim_end().as_bytes()] {
        let token = token(HS256, GOOD, hs256(secret));
        assert_eq!(verifier.verify(token.as_bytes(), NOW), Err(Refusal::Algorithm));
    }
}

#[test]
fn keys_are_chosen_by_their_ids() {
    let jwk = |id: &str, secret: &[u8]| format!(r#"{{"kty":"oct","kid":"{id}","k":"{}"}}"#, encode(secret));
    let verifier = by(jwks(&[jwk("a", b"one"), jwk("b", b"two")]));
    let ask =
        |head: &str, secret: &[u8]| verifier.verify(token(head, GOOD, hs256(secret)).as_bytes(), NOW).err();
    assert_eq!(ask(r#"{"alg":"HS256","kid":"a"}"#, b"one"), None);
    assert_eq!(ask(r#"{"alg":"HS256","kid":"b"}"#, b"two"), None);
    assert_eq!(ask(r#"{"alg":"HS256","kid":"a"}"#, b"two"), Some(Refusal::Signature));
    assert_eq!(ask(r#"{"alg":"HS256","kid":"c"}"#, b"one"), Some(Refusal::UnknownKey));
    assert_eq!(ask(r#"{"alg":"HS256"}"#, b"two"), None, "all of them are tried");
}

#[test]
fn claims_are_held_to_what_is_asked() {
    let verifier = Verifier {
        issuers: vec!["https://id.test".into()],
        audiences: vec!["models".into(), "video".into()],
        required: vec!["exp".into(), "sub".into()],
        ..by_secret()
    };
    let ask = |claims: &str| verifier.verify(token(HS256, claims, hs256(SECRET)).as_bytes(), NOW).err();
    let good = r#""iss":"https://id.test","aud":["other","video"],"sub":"ann","exp":1800000100"#;
    assert_eq!(ask(&format!("{{{good}}}")), None);
    assert_eq!(ask(&format!("{{{good},\"nbf\":1800000030}}")), None, "within the leeway");
    assert_eq!(ask(&format!("{{{good},\"nbf\":1800000031}}")), Some(Refusal::NotYetValid));
    let cases: &[(&str, &str, Refusal)] = &[
        ("https://id.test", "https://id.test/", Refusal::Issuer),
        (r#""iss":"https://id.test","#, "", Refusal::Issuer),
        (r#""iss":"https://id.test""#, r#""iss":["https://id.test"]"#, Refusal::Issuer),
        (r#"["other","video"]"#, r#""mode""#, Refusal::Audience),
        (r#"["other","video"]"#, "[]", Refusal::Audience),
        (r#""sub":"ann","#, "", Refusal::Missing("sub".into())),
        (r#""sub":"ann","#, r#""sub":null,"#, Refusal::Missing("sub".into())),
        (r#","exp":1800000100"#, "", Refusal::Missing("exp".into())),
        ("1800000100", "1799999970", Refusal::Expired),
        ("1800000100", "\"1800000100\"", Refusal::Malformed("its exp is no time")),
        ("1800000100", "-5", Refusal::Malformed("its exp is no time")),
    ];
    for (from, to, expected) in cases {
        assert!(good.contains(from), "{from}");
        assert_eq!(ask(&format!("{{{}}}", good.replace(from, to))), Some(expected.clone()), "{to}");
    }
    let twice = format!("{{{good},\"sub\":\"eve\"}}");
    assert!(matches!(ask(&twice), Some(Refusal::Malformed(_))), "which of the two would it be?");
    assert!(matches!(ask("[]"), Some(Refusal::Malformed(_))));
    let nested = format!("{{\"a\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    assert!(matches!(ask(&nested), Some(Refusal::Malformed(_))));
}

#[test]
fn what_is_no_token_is_told_so() {
    let verifier = by_secret();
    let good = token(HS256, GOOD, hs256(SECRET));
    let (head, rest) = good.split_once('.').unwrap();
    for wrong in [
        String::new(),
        ".".into(),
        "..".into(),
        head.into(),
        rest.into(),
        format!("{good}."),
        format!("{good}.x"),
        format!(" {good}"),
        format!("{good}="),
        format!("{good}\n"),
        good.replace('.', "/"),
        format!("{head}A.{rest}"),
        "x".repeat(TOKEN_BYTES_MAX + 1),
    ] {
        let refused = verifier.verify(wrong.as_bytes(), NOW).unwrap_err();
        assert!(matches!(refused, Refusal::Malformed(_) | Refusal::Signature), "{wrong:?}: {refused:?}");
    }
    // The last letter of a signature has bits that decode to nothing: only one way of writing them is taken.
    let mut other = good.clone();
    let last = other.pop().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let next = alphabet.chars().nth(alphabet.find(last).unwrap() + 1).unwrap();
    other.push(next);
    assert!(verifier.verify(other.as_bytes(), NOW).is_err());
}

#[test]
fn sets_leave_out_what_is_not_for_verifying() {
    let good = format!(r#"{{"kty":"oct","kid":"good","k":"{}"}}"#, encode(SECRET));
    let odd = [
        r#"{"kty":"oct","use":"enc","k":"YQ"}"#,
        r#"{"kty":"oct","key_ops":["encrypt"],"k":"YQ"}"#,
        r#"{"kty":"oct","alg":"A128KW","k":"YQ"}"#,
        r#"{"kty":"oct","alg":"RS256","k":"YQ"}"#,
        r#"{"kty":"EC","crv":"secp256k1","x":"YQ","y":"YQ"}"#,
        r#"{"kty":"EC","crv":"P-256","x":"YQ","y":"YQ"}"#,
        r#"{"kty":"RSA","n":"YQ","e":"AQAB"}"#,
        r#"{"kty":"new"}"#,
        "7",
    ];
    for odd in odd {
        let keys = jwks(&[odd.to_owned(), good.clone()]);
        assert_eq!(keys.algorithms().count(), 1, "{odd}");
        assert!(KeySet::jwks(format!("{{\"keys\":[{odd}]}}").as_bytes(), None).is_err(), "{odd}");
    }
    for wrong in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[]}"#, r#"{"keys":[],"keys":[]}"#] {
        assert!(KeySet::jwks(wrong.as_bytes(), None).is_err(), "{wrong}");
    }
}
