//! Owns who a request comes from, as one `[auth.NAME]` sees it: what was presented, and what of it is verified. Refuses nobody by
//! itself. Tokens that were verified are remembered for as long as they last, so that each is verified once on a core.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::api_key::{ApiKeys, PREFIX};
use super::claims::Claims;
use super::jwt::{Refusal, Verifier, digest_of};
use super::quota::Ledger;

/// One way of identifying, by tokens, keys, or both.
#[derive(Debug)]
pub struct Auth {
    /// What `www-authenticate` says it is.
    pub realm: Arc<str>,
    pub jwt: Option<Verifier>,
    pub api_keys: Option<ApiKeys>,
    /// Who presents neither is who the certificate of its connection is for.
    pub by_certificate: bool,
    /// Of all that decides about a token but its keys; whoever has the same decides the same.
    digest: [u8; 32],
}

/// Why nobody is identified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unknown {
    /// Nothing was presented.
    Absent,
    /// A token that is not known here, and that was not to be verified now.
    Unverified,
    Refused(Refusal),
}

pub type Identified = Result<Arc<Claims>, Unknown>;

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unknown::Absent => f.write_str("nothing was presented that says who asks"),
            Unknown::Unverified => f.write_str("the token has not been verified"),
            Unknown::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl Auth {
    pub fn new(
        realm: Arc<str>,
        jwt: Option<Verifier>,
        api_keys: Option<ApiKeys>,
        by_certificate: bool,
    ) -> Auth {
        let digest = jwt.as_ref().map(digest_of_verifier).unwrap_or_default();
        Auth { realm, jwt, api_keys, by_certificate, digest }
    }

    /// Whether something in a request itself can identify who asks.
    pub fn takes_tokens(&self) -> bool {
        self.jwt.is_some() || self.api_keys.is_some()
    }

    /// Where it is counted what its API keys have used, if they have quotas.
    pub fn ledger(&self) -> Option<&Arc<Ledger>> {
        self.api_keys.as_ref()?.ledger.as_ref()
    }

    /// `fields`: names and values of a request's. `certificate`: what that of its connection says. `now`: seconds since 1970. A key in
    /// its own field counts before anything else, and what is presented before the certificate. Where `verified` has not got a token it is
    /// verified only if it `is_new_welcome`, since that takes long.
    pub fn identify<'f>(
        &self,
        fields: impl Iterator<Item = (&'f [u8], &'f [u8])> + Clone,
        certificate: Option<&Arc<Claims>>,
        now: u64,
        verified: &mut Verified,
        is_new_welcome: bool,
    ) -> Identified {
        if !self.takes_tokens() {
            return believed(certificate, now);
        }
        match self.by_token(fields, now, verified, is_new_welcome) {
            Err(Unknown::Absent) if self.by_certificate => believed(certificate, now),
            identified => identified,
        }
    }

    fn by_token<'f>(
        &self,
        fields: impl Iterator<Item = (&'f [u8], &'f [u8])> + Clone,
        now: u64,
        verified: &mut Verified,
        is_new_welcome: bool,
    ) -> Identified {
        if let Some(keys) = &self.api_keys {
            let mut presented = values(fields.clone(), keys.header.as_bytes());
            if let Some(key) = presented.next() {
                if presented.next().is_some() {
                    return Err(Unknown::Refused(Refusal::NoApiKey));
                }
                return keys.verify(key.trim_ascii(), now).map_err(Unknown::Refused);
            }
        }
        let token = bearer(values(fields, b"authorization"))?;
        match (&self.api_keys, &self.jwt) {
            (Some(keys), _) if token.starts_with(PREFIX.as_bytes()) => {
                keys.verify(token, now).map_err(Unknown::Refused)
            }
            (_, Some(jwt)) => self.verify(jwt, token, now, verified, is_new_welcome),
            (_, None) => Err(Unknown::Refused(Refusal::NoApiKey)),
        }
    }

    fn verify(
        &self,
        jwt: &Verifier,
        token: &[u8],
        now: u64,
        verified: &mut Verified,
        is_new_welcome: bool,
    ) -> Identified {
        jwt.keys.with(|keys| {
            let keys = keys.ok_or(Unknown::Refused(Refusal::NoKeys))?;
            // What a key that is gone has signed is not found again.
            let key = digest_of([&self.digest, &keys.digest, token]);
            if let Some(claims) = verified.get(&key, now) {
                return Ok(claims);
            }
            if !is_new_welcome {
                return Err(Unknown::Unverified);
            }
            let claims = Arc::new(jwt.verify_by(keys, token, now).map_err(Unknown::Refused)?);
            let lasts = claims.expires().ok().flatten().unwrap_or(u64::MAX);
            verified.put(key, lasts.saturating_add(u64::from(jwt.leeway)), claims.clone());
            Ok(claims)
        })
    }
}

/// A connection may outlive its client's certificate.
fn believed(certificate: Option<&Arc<Claims>>, now: u64) -> Identified {
    let claims = certificate.ok_or(Unknown::Absent)?;
    match claims.expires() {
        Ok(Some(expires)) if expires > now => Ok(claims.clone()),
        _ => Err(Unknown::Refused(Refusal::CertificateExpired)),
    }
}

/// Of the fields of this name.
fn values<'f>(
    fields: impl Iterator<Item = (&'f [u8], &'f [u8])>,
    name: &[u8],
) -> impl Iterator<Item = &'f [u8]> {
    fields.filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn digest_of_verifier(jwt: &Verifier) -> [u8; 32] {
    let mut all = Vec::new();
    for list in [&jwt.issuers, &jwt.audiences, &jwt.required] {
        all.extend_from_slice(&(list.len() as u64).to_be_bytes());
        for text in list {
            all.extend_from_slice(&(text.len() as u64).to_be_bytes());
            all.extend_from_slice(text.as_bytes());
        }
    }
    all.extend_from_slice(&jwt.leeway.to_be_bytes());
    digest_of([&all])
}

/// RFC 6750 §2.1. Credentials of another scheme are somebody else's to look at.
fn bearer<'f>(mut fields: impl Iterator<Item = &'f [u8]>) -> Result<&'f [u8], Unknown> {
    let field = fields.next().ok_or(Unknown::Absent)?;
    if fields.next().is_some() {
        return Err(Unknown::Refused(Refusal::Malformed("there are two `authorization` fields")));
    }
    let (scheme, token) = field.split_at(field.iter().position(|&byte| byte == b' ').unwrap_or(field.len()));
    match scheme.eq_ignore_ascii_case(b"bearer") {
        true => Ok(token.trim_ascii()),
        false => Err(Unknown::Absent),
    }
}

/// Tokens that were verified on this core, by the hash of the token and of all that decided. Two generations: what nobody asked for
/// while the younger one filled up is forgotten.
#[derive(Debug, Default)]
pub struct Verified {
    young: HashMap<[u8; 32], Remembered>,
    old: HashMap<[u8; 32], Remembered>,
}

#[derive(Debug)]
struct Remembered {
    /// Seconds since 1970.
    lasts: u64,
    claims: Arc<Claims>,
}

/// Tokens of one generation, on each core.
const TOKENS_MAX: usize = 4096;

impl Verified {
    fn get(&mut self, key: &[u8; 32], now: u64) -> Option<Arc<Claims>> {
        if let Some(found) = self.young.get(key) {
            return (found.lasts > now).then(|| found.claims.clone());
        }
        let found = self.old.remove(key).filter(|found| found.lasts > now)?;
        let claims = found.claims.clone();
        self.put(*key, found.lasts, found.claims);
        Some(claims)
    }

    fn put(&mut self, key: [u8; 32], lasts: u64, claims: Arc<Claims>) {
        if self.young.len() >= TOKENS_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, Remembered { lasts, claims });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::jwt::{Key, KeySet, Keys};

    #[test]
    fn one_bearer_is_one_token() {
        let of = |fields: &[&'static str]| bearer(fields.iter().map(|field| field.as_bytes()));
        assert_eq!(of(&["Bearer a.b.c"]), Ok(&b"a.b.c"[..]));
        assert_eq!(of(&["bEARER   a.b.c "]), Ok(&b"a.b.c"[..]));
        assert_eq!(of(&["Bearer"]), Ok(&b""[..]));
        for absent in [&[][..], &["Basic YTpi"], &["Bearera.b.c"], &[""]] {
            assert_eq!(of(absent), Err(Unknown::Absent), "{absent:?}");
        }
        assert!(matches!(of(&["Bearer a", "Bearer a"]), Err(Unknown::Refused(Refusal::Malformed(_)))));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_ends() {
        let mut verified = Verified::default();
        let claims = Arc::new(Claims::new(serde_json::json!({})));
        let key = |number: usize| digest_of([&number.to_be_bytes()]);
        for number in 0..3 * TOKENS_MAX {
            verified.put(key(number), 100, claims.clone());
            // Asked for all the time, so never forgotten.
            assert!(verified.get(&key(0), 99).is_some(), "{number}");
        }
        assert!(verified.young.len() + verified.old.len() <= 2 * TOKENS_MAX);
        assert!(verified.get(&key(0), 100).is_none(), "it has expired");
        assert!(verified.get(&key(1), 99).is_none(), "nobody asked for it");
    }

    #[test]
    fn who_decides_otherwise_is_not_believed_for_another() {
        let auth = |secret: &[u8], audience: &str| {
            let keys = KeySet::one(Key::secret(secret, None).unwrap(), secret);
            let audiences = vec![audience.into()];
            let jwt = Verifier {
                keys: Keys::Known(keys),
                issuers: Vec::new(),
                audiences,
                leeway: 0,
                required: Vec::new(),
            };
            Auth::new("a".into(), Some(jwt), None, false)
        };
        let key = |auth: Auth| {
            let keys = auth.jwt.unwrap().keys.with(|keys| keys.unwrap().digest);
            digest_of([&auth.digest, &keys])
        };
        assert_eq!(key(auth(b"1", "x")), key(auth(b"1", "x")));
        assert_ne!(key(auth(b"1", "x")), key(auth(b"2", "x")));
        assert_ne!(key(auth(b"1", "x")), key(auth(b"1", "y")));
    }
}
