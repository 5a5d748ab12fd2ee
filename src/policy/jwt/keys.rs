//! Owns the keys that tokens are verified with: read from a secret, from a PEM file's public key or certificate, or from a JSON
//! Web Key Set (RFC 7517, RFC 7518 §6, RFC 8037). Each is for one algorithm and no other.

use std::fmt;

use aws_lc_rs::digest::{self, SHA256};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use serde_json::Value;
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509Certificate};
use x509_parser::public_key::PublicKey;

use crate::policy::claims::unique;

/// RFC 7518 §3.1 and RFC 8037 §3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

/// What a key is, which bounds what it may be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Secret,
    Rsa,
    P256,
    P384,
    P521,
    Ed25519,
}

use Algorithm::*;

impl Algorithm {
    pub const ALL: [Algorithm; 13] =
        [Hs256, Hs384, Hs512, Rs256, Rs384, Rs512, Ps256, Ps384, Ps512, Es256, Es384, Es512, EdDsa];

    /// As a token's head has it.
    pub fn name(self) -> &'static str {
        match self {
            Hs256 => "HS256",
            Hs384 => "HS384",
            Hs512 => "HS512",
            Rs256 => "RS256",
            Rs384 => "RS384",
            Rs512 => "RS512",
            Ps256 => "PS256",
            Ps384 => "PS384",
            Ps512 => "PS512",
            Es256 => "ES256",
            Es384 => "ES384",
            Es512 => "ES512",
            EdDsa => "EdDSA",
        }
    }

    pub fn of(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    fn family(self) -> Family {
        match self {
            Hs256 | Hs384 | Hs512 => Family::Secret,
            Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512 => Family::Rsa,
            Es256 => Family::P256,
            Es384 => Family::P384,
            Es512 => Family::P521,
            EdDsa => Family::Ed25519,
        }
    }

    /// Of HMAC: bytes that its hash has, and a secret should have (RFC 7518 §3.2).
    pub fn secret_bytes(self) -> usize {
        match self {
            Hs384 => 48,
            Hs512 => 64,
            _ => 32,
        }
    }
}

impl Family {
    /// What a key is for that does not say it.
    fn usual(self) -> Algorithm {
        match self {
            Family::Secret => Hs256,
            Family::Rsa => Rs256,
            Family::P256 => Es256,
            Family::P384 => Es384,
            Family::P521 => Es512,
            Family::Ed25519 => EdDsa,
        }
    }
}

#[derive(Debug)]
pub struct Key {
    /// `kid`. A key without one is for every token.
    id: Option<Box<str>>,
    pub algorithm: Algorithm,
    material: Material,
}

enum Material {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Material::Secret(_) => "(secret)",
            Material::Public(_) => "(public)",
        })
    }
}

/// What is wrong with a key, or with where it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyError(pub String);

fn wrong(what: impl Into<String>) -> KeyError {
    KeyError(what.into())
}

impl Key {
    /// Of HMAC. `algorithm`: HS256 unless said.
    pub fn secret(bytes: &[u8], algorithm: Option<Algorithm>) -> Result<Key, KeyError> {
        let algorithm = fitting(Family::Secret, algorithm)?;
        let hash = match algorithm {
            Hs384 => hmac::HMAC_SHA384,
            Hs512 => hmac::HMAC_SHA512,
            _ => hmac::HMAC_SHA256,
        };
        if bytes.is_empty() {
            return Err(wrong("the secret is empty"));
        }
        Ok(Key { id: None, algorithm, material: Material::Secret(Box::new(hmac::Key::new(hash, bytes))) })
    }

    /// A public key or a certificate, in PEM.
    pub fn pem(text: &[u8], algorithm: Option<Algorithm>) -> Result<Key, KeyError> {
        if let Ok(key) = SubjectPublicKeyInfoDer::from_pem_slice(text) {
            return Key::public(&key, algorithm);
        }
        let Ok(certificate) = CertificateDer::from_pem_slice(text) else {
            return Err(wrong("there is no public key in it, and no certificate"));
        };
        let (_, certificate) = X509Certificate::from_der(&certificate)
            .map_err(|error| wrong(format!("its certificate: {error}")))?;
        Key::public(certificate.public_key().raw, algorithm)
    }

    /// Of whatever family it is, in X.509's form.
    fn public(info: &[u8], algorithm: Option<Algorithm>) -> Result<Key, KeyError> {
        const FAMILIES: [Family; 5] =
            [Family::Rsa, Family::P256, Family::P384, Family::P521, Family::Ed25519];
        let is = |family: &Family| ParsedPublicKey::new(verification(family.usual()), info).is_ok();
        let Some(family) = FAMILIES.into_iter().find(is) else {
            return Err(wrong("its key is none of RSA, P-256, P-384, P-521 and Ed25519"));
        };
        if family == Family::Rsa {
            let parsed = SubjectPublicKeyInfo::from_der(info).ok();
            if let Some(Ok(PublicKey::RSA(key))) = parsed.as_ref().map(|(_, info)| info.parsed()) {
                check_modulus(key.modulus)?;
            }
        }
        Key::of(info, fitting(family, algorithm)?, None)
    }

    fn of(bytes: &[u8], algorithm: Algorithm, id: Option<Box<str>>) -> Result<Key, KeyError> {
        let key = ParsedPublicKey::new(verification(algorithm), bytes);
        let key = key.map_err(|error| wrong(format!("the key cannot be used: {error}")))?;
        Ok(Key { id, algorithm, material: Material::Public(key) })
    }

    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether the signature is this key's.
    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Material::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }

    /// Signs; `None` if it only verifies.
    pub fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        match &self.material {
            Material::Secret(key) => Some(hmac::sign(key, message).as_ref().to_vec()),
            Material::Public(_) => None,
        }
    }

    /// One of a set. `None`: for encryption, or of a kind that is not known here (RFC 7517 §5 has them ignored).
    fn of_jwk(jwk: &Value, usual: Option<Algorithm>) -> Result<Option<Key>, KeyError> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let is_for_else = text("use").is_some_and(|purpose| purpose != "sig")
            || jwk
                .get("key_ops")
                .and_then(Value::as_array)
                .is_some_and(|all| !all.iter().any(|one| one == "verify"));
        let algorithm = match text("alg") {
            Some(name) => match Algorithm::of(name) {
                Some(known) => Some(known),
                None => return Ok(None),
            },
            None => None,
        };
        let curve = |family: Family| Ok::<_, KeyError>(Some((family, point(jwk, family)?)));
        let found = match (text("kty"), text("crv")) {
            _ if is_for_else => None,
            (Some("oct"), _) => Some((Family::Secret, bytes(jwk, "k")?)),
            (Some("RSA"), _) => {
                let modulus = bytes(jwk, "n")?;
                check_modulus(&modulus)?;
                Some((Family::Rsa, rsa_public_key(&modulus, &bytes(jwk, "e")?)))
            }
            (Some("EC"), Some("P-256")) => curve(Family::P256)?,
            (Some("EC"), Some("P-384")) => curve(Family::P384)?,
            (Some("EC"), Some("P-521")) => curve(Family::P521)?,
            (Some("OKP"), Some("Ed25519")) => Some((Family::Ed25519, bytes(jwk, "x")?)),
            _ => None,
        };
        let Some((family, material)) = found else { return Ok(None) };
        // Its own word goes before the config's, which is for those that say nothing.
        let algorithm = fitting(family, algorithm.or(usual.filter(|usual| usual.family() == family)))?;
        let id = text("kid").map(Box::from);
        match family {
            Family::Secret => Ok(Some(Key { id, ..Key::secret(&material, Some(algorithm))? })),
            _ => Key::of(&material, algorithm, id).map(Some),
        }
    }
}

fn fitting(family: Family, algorithm: Option<Algorithm>) -> Result<Algorithm, KeyError> {
    let algorithm = algorithm.unwrap_or(family.usual());
    match algorithm.family() == family {
        true => Ok(algorithm),
        false => Err(wrong(format!("the key is not one for {}", algorithm.name()))),
    }
}

fn verification(algorithm: Algorithm) -> &'static dyn VerificationAlgorithm {
    match algorithm {
        Rs256 | Hs256 | Hs384 | Hs512 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        Es256 => &signature::ECDSA_P256_SHA256_FIXED,
        Es384 => &signature::ECDSA_P384_SHA384_FIXED,
        Es512 => &signature::ECDSA_P521_SHA512_FIXED,
        EdDsa => &signature::ED25519,
    }
}

fn bytes(jwk: &Value, name: &str) -> Result<Vec<u8>, KeyError> {
    let text =
        jwk.get(name).and_then(Value::as_str).ok_or_else(|| wrong(format!("a key has no `{name}`")))?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong(format!("a key's `{name}` is not base64url")))
}

/// RFC 7518 §3.3. A smaller one would verify nothing, but only say so of each token.
fn check_modulus(modulus: &[u8]) -> Result<(), KeyError> {
    let zeros = modulus.iter().take_while(|&&byte| byte == 0).count();
    match modulus.len() - zeros {
        256..=1024 => Ok(()),
        other => Err(wrong(format!("an RSA key has 2048 to 8192 bits, this one {}", 8 * other))),
    }
}

/// SEC 1 §2.3.3, uncompressed.
fn point(jwk: &Value, family: Family) -> Result<Vec<u8>, KeyError> {
    let length = match family {
        Family::P256 => 32,
        Family::P384 => 48,
        _ => 66,
    };
    let (x, y) = (bytes(jwk, "x")?, bytes(jwk, "y")?);
    if x.len() != length || y.len() != length {
        return Err(wrong("a key's point is not as long as its curve has it"));
    }
    Ok([&[4][..], &x, &y].concat())
}

/// RFC 8017 §A.1.1, in DER.
fn rsa_public_key(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    const INTEGER: u8 = 2;
    const SEQUENCE: u8 = 0x30;
    let integer = |bytes: &[u8]| {
        let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
        let bytes = &bytes[zeros..];
        let is_negative = bytes.first().is_none_or(|first| first & 0x80 != 0);
        element(INTEGER, &[if is_negative { &[0][..] } else { &[] }, bytes].concat())
    };
    element(SEQUENCE, &[integer(modulus), integer(exponent)].concat())
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|&&byte| byte == 0).count()..];
    let mut out = vec![tag];
    if content.len() < 0x80 {
        out.push(content.len() as u8);
    } else {
        out.push(0x80 | significant.len() as u8);
        out.extend_from_slice(significant);
    }
    out.extend_from_slice(content);
    out
}

/// The keys of one issuer.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<Key>,
    /// Of what they were read from: sets of the same keys have the same.
    pub digest: [u8; 32],
}

/// Keys of one set.
const KEYS_MAX: usize = 1000;

impl KeySet {
    pub fn one(key: Key, read_from: &[u8]) -> KeySet {
        let digest = digest_of([key.algorithm.name().as_bytes(), read_from]);
        KeySet { keys: vec![key], digest }
    }

    /// RFC 7517 §5. `usual`: for keys that do not say their algorithm.
    pub fn jwks(text: &[u8], usual: Option<Algorithm>) -> Result<KeySet, KeyError> {
        let set = unique(text).map_err(|error| wrong(format!("it is no JSON: {error}")))?;
        let Some(listed) = set.get("keys").and_then(Value::as_array) else {
            return Err(wrong("it has no list `keys`"));
        };
        if listed.len() > KEYS_MAX {
            return Err(wrong(format!("it has {} keys; at most {KEYS_MAX} are read", listed.len())));
        }
        // What cannot be used is left out (RFC 7517 §5), so that one odd key does not lock everybody out.
        let mut why = wrong("none of its keys is for verifying signatures");
        let mut keys = Vec::new();
        for jwk in listed {
            match Key::of_jwk(jwk, usual) {
                Ok(key) => keys.extend(key),
                Err(error) => why = error,
            }
        }
        if keys.is_empty() {
            return Err(why);
        }
        let usual = usual.map_or("", Algorithm::name);
        Ok(KeySet { keys, digest: digest_of([usual.as_bytes(), text]) })
    }

    /// Those that a token of this `kid` may be signed with.
    pub fn named(&self, id: Option<&str>) -> impl Iterator<Item = &Key> {
        let fits = move |key: &&Key| match (&key.id, id) {
            (Some(own), Some(id)) => **own == *id,
            (None, _) | (_, None) => true,
        };
        self.keys.iter().filter(fits)
    }

    pub fn all(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }

    pub fn algorithms(&self) -> impl Iterator<Item = Algorithm> {
        self.keys.iter().map(|key| key.algorithm)
    }
}

/// SHA-256 of all of these, end to end.
pub fn digest_of<const N: usize>(parts: [&[u8]; N]) -> [u8; 32] {
    let mut hash = digest::Context::new(&SHA256);
    parts.iter().for_each(|part| hash.update(part));
    let mut out = [0; 32];
    out.copy_from_slice(hash.finish().as_ref());
    out
}
