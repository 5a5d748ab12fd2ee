//! Owns the TLS that the config asks for: of listeners and the admin endpoint (`server`), towards endpoints (`client`), and towards
//! ourselves (`own`), from PEM files (`pem`). Reads those files; what is wrong with them is reported where the config names them.
//! Speaks to nobody.

mod client;
mod inspect;
mod kept;
pub mod own;
mod pem;
mod server;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, SupportedProtocolVersion};

pub use client::{EndpointTls, UpstreamTls, client};
pub use server::{ListenerTls, server};

use super::reader::Section;
use super::value;

/// A file that the TLS of a configuration was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFile {
    pub path: PathBuf,
    /// When the certificate that is shown from it ends, in seconds since 1970.
    pub not_after: Option<i64>,
}

/// The protocols that may be agreed on besides TLS (RFC 7301), in this order, HTTP/2 where it is spoken.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The provider of all cryptography here: named everywhere, since a process has room for one default only. AES-128 comes
/// first: with it goes SHA-256, which processors have instructions for, and SHA-384 is a sixth of a handshake.
pub fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        let mut provider = aws_lc_rs::default_provider();
        // Stable: the order of the others stays.
        provider.cipher_suites.sort_by_key(|suite| !is_aes_128(suite.suite()));
        Arc::new(provider)
    })
}

fn is_aes_128(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    )
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Tls12,
    Tls13,
}

const VERSIONS: &[(&str, Version)] = &[("1.2", Version::Tls12), ("1.3", Version::Tls13)];

const ALL_VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// The versions from `min_version` on.
fn versions(section: &Section<'_>) -> &'static [&'static SupportedProtocolVersion] {
    match section.value("min_version", value::word(VERSIONS)) {
        Version::Tls12 => ALL_VERSIONS,
        Version::Tls13 => &ALL_VERSIONS[..1],
    }
}
