//! Owns the judgement of one JSON Web Token (RFC 7519, signed in compact form, RFC 7515): its signature by a key whose algorithm
//! is the key's own, then its claims. Nothing in a token chooses how it is verified: `none`, another algorithm, `jku`, `x5u` and
//! `jwk` lead nowhere. Does no I/O and has no clock.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::claims::{Claims, unique};

pub use keys::{Algorithm, Key, KeyError, KeySet, digest_of};
pub use remote::{Joined, RemoteKeys, Source};

mod keys;
mod remote;

/// Longer tokens are not looked at. Heads are no longer than that, either, unless a config says so.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Keys tried for a token that names none of them.
const KEYS_TRIED_MAX: usize = 16;

/// What a token must be to be believed.
#[derive(Debug)]
pub struct Verifier {
    pub keys: Keys,
    /// `iss` must be one of these. Empty: any, or none.
    pub issuers: Vec<Box<str>>,
    /// `aud` must hold one of these. Empty: any, or none.
    pub audiences: Vec<Box<str>>,
    /// By how many seconds clocks may differ.
    pub leeway: u32,
    /// Claims that must be there.
    pub required: Vec<Box<str>>,
}

/// The keys that tokens may be signed with.
#[derive(Debug)]
pub enum Keys {
    Known(KeySet),
    /// As far as they have been fetched.
    Remote(Arc<RemoteKeys>),
}

impl Keys {
    /// `None`: they have yet to be fetched.
    pub fn with<R>(&self, use_it: impl FnOnce(Option<&KeySet>) -> R) -> R {
        match self {
            Keys::Known(set) => use_it(Some(set)),
            Keys::Remote(keys) => keys.with(use_it),
        }
    }

    pub fn remote(&self) -> Option<&Arc<RemoteKeys>> {
        match self {
            Keys::Known(_) => None,
            Keys::Remote(keys) => Some(keys),
        }
    }
}

/// Why a token is not believed. In words that its sender may know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    Malformed(&'static str),
    /// No key has the id that it names.
    UnknownKey,
    /// There are no keys yet.
    NoKeys,
    /// There is no key for what it says it is signed with.
    Algorithm,
    Signature,
    Expired,
    NotYetValid,
    Issuer,
    Audience,
    Missing(Box<str>),
    /// Of API keys.
    NoApiKey,
    UnknownApiKey,
    ApiKeyRevoked,
    ApiKeyExpired,
    /// Of clients' certificates.
    CertificateExpired,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Malformed(what) => write!(f, "the token is malformed: {what}"),
            Refusal::UnknownKey => f.write_str("the token is signed with a key that is not known here"),
            Refusal::NoKeys => {
                f.write_str("the keys that tokens are verified with have not been fetched yet")
            }
            Refusal::Algorithm => f.write_str("the token is signed in a way that no key here is for"),
            Refusal::Signature => f.write_str("the token's signature is wrong"),
            Refusal::Expired => f.write_str("the token has expired"),
            Refusal::NotYetValid => f.write_str("the token is not valid yet"),
            Refusal::Issuer => f.write_str("the token is from another issuer"),
            Refusal::Audience => f.write_str("the token is for another audience"),
            Refusal::Missing(claim) => write!(f, "the token has no claim {claim}"),
            Refusal::NoApiKey => f.write_str("what is presented is no API key"),
            Refusal::UnknownApiKey => f.write_str("the API key is not known here"),
            Refusal::ApiKeyRevoked => f.write_str("the API key has been revoked"),
            Refusal::CertificateExpired => f.write_str("the client's certificate has expired"),
            Refusal::ApiKeyExpired => f.write_str("the API key has expired"),
        }
    }
}

impl Verifier {
    /// By one of `keys`, which are this verifier's. `now`: seconds since 1970.
    pub fn verify_by(&self, keys: &KeySet, token: &[u8], now: u64) -> Result<Claims, Refusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refusal::Malformed("it is too long"));
        }
        let mut parts = token.split(|&byte| byte == b'.');
        let (Some(head), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refusal::Malformed("it is not of three parts"));
        };
        let signed = &token[..head.len() + 1 + payload.len()];
        let signature = decoded(signature)?;
        let head = object(head)?;
        check_signature(keys, &head, signed, &signature).map_err(|refusal| match refusal {
            // It names no key: one that has come since may be the one.
            Refusal::Signature if head.get("kid").is_none() && self.keys.remote().is_some() => {
                Refusal::UnknownKey
            }
            refusal => refusal,
        })?;
        let claims = Claims::new(object(payload)?);
        self.check_claims(&claims, now)?;
        Ok(claims)
    }

    /// A token of these claims by the first key that can sign. Says nothing of whether it would be believed.
    pub fn sign(&self, claims: &Value) -> Option<String> {
        let by = |key: &Key| {
            let mut head = serde_json::json!({ "alg": key.algorithm.name(), "typ": "JWT" });
            key.id().into_iter().for_each(|id| head["kid"] = id.into());
            let [head, claims] = [&head, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
            let signed = format!("{head}.{claims}");
            let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes())?);
            Some(format!("{signed}.{signature}"))
        };
        self.keys.with(|set| set?.all().find_map(by))
    }

    fn check_claims(&self, claims: &Claims, now: u64) -> Result<(), Refusal> {
        let leeway = u64::from(self.leeway);
        if claims.expires()?.is_some_and(|end| end.saturating_add(leeway) <= now) {
            return Err(Refusal::Expired);
        }
        if claims.not_before()?.is_some_and(|begin| begin > now.saturating_add(leeway)) {
            return Err(Refusal::NotYetValid);
        }
        let is_one_of = |claim: &str, wanted: &[Box<str>]| {
            wanted.is_empty() || claims.texts(claim).any(|text| wanted.iter().any(|wanted| **wanted == *text))
        };
        if !self.issuers.is_empty() && !claims.is_text("iss") || !is_one_of("iss", &self.issuers) {
            return Err(Refusal::Issuer);
        }
        if !is_one_of("aud", &self.audiences) {
            return Err(Refusal::Audience);
        }
        match self.required.iter().find(|name| !claims.has(name)) {
            Some(name) => Err(Refusal::Missing(name.clone())),
            None => Ok(()),
        }
    }
}

/// The key is chosen by what the head says it is; the algorithm is the key's.
fn check_signature(keys: &KeySet, head: &Value, signed: &[u8], signature: &[u8]) -> Result<(), Refusal> {
    if head.get("crit").is_some() {
        // RFC 7515 §4.1.11: whoever does not know an extension that matters refuses.
        return Err(Refusal::Malformed("it has critical extensions"));
    }
    let name = head.get("alg").and_then(Value::as_str).ok_or(Refusal::Malformed("it has no alg"))?;
    let id = match head.get("kid") {
        None => None,
        Some(Value::String(id)) => Some(&**id),
        Some(_) => return Err(Refusal::Malformed("its kid is no text")),
    };
    let named: Vec<&Key> = keys.named(id).collect();
    if named.is_empty() {
        return Err(Refusal::UnknownKey);
    }
    let mut fitting = named.iter().filter(|key| key.algorithm.name() == name).peekable();
    if fitting.peek().is_none() {
        return Err(Refusal::Algorithm);
    }
    let is_signed = fitting.take(KEYS_TRIED_MAX).any(|key| key.has_signed(signed, signature));
    is_signed.then_some(()).ok_or(Refusal::Signature)
}

/// base64url without padding, and nothing that decodes to the same as something else (RFC 7515 §2).
fn decoded(text: &[u8]) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Refusal::Malformed("it is not base64url"))
}

fn object(text: &[u8]) -> Result<Value, Refusal> {
    let value =
        unique(&decoded(text)?).map_err(|_| Refusal::Malformed("it is no JSON, or says something twice"))?;
    value.is_object().then_some(value).ok_or(Refusal::Malformed("it is no JSON object"))
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
