//! Owns what a listener's TLS is made of: certificates and keys from PEM files, chosen by the name that the client asks
//! for, and the policy of versions and session tickets. Reads those files; what is wrong with them is reported where the
//! config names them. Serves nobody.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, ServerConfig,
};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use toml::de::DeValue;

use super::diagnostic::Problem;
use super::reader::Section;
use super::value::{self, Parsed};

/// What clients may agree on besides TLS. HTTP/2 joins when it is spoken.
const ALPN: [&[u8]; 1] = [b"http/1.1"];

/// The provider of all cryptography here: named everywhere, since a process has room for one default only.
pub fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider()))
}

/// Tickets of all listeners without client certificates: the keys outlive reloads and are the same on every core. They
/// change every few hours, and the last ones are still read. `None` where the machine has no randomness.
fn tickets() -> Option<Arc<dyn ProducesTickets>> {
    static TICKETS: OnceLock<Option<Arc<dyn ProducesTickets>>> = OnceLock::new();
    TICKETS.get_or_init(|| aws_lc_rs::Ticketer::new().ok()).clone()
}

/// The TLS of the listener whose `tls` table this is. `None`: something is wrong, and reported.
pub fn server(section: &Section<'_>, directory: &Path) -> Option<Arc<ServerConfig>> {
    let first = pair(section, directory);
    let more = section.nodes("certificates").iter().map(|node| {
        let table = section.table_of("certificates", node)?;
        pair(&table, directory)
    });
    let more: Vec<Option<CertifiedKey>> = more.collect();
    let versions = section.value("min_version", value::word(VERSIONS));
    let certificates = Certificates::new(first?, more.into_iter().collect::<Option<Vec<_>>>()?);
    let builder = ServerConfig::builder_with_provider(provider().clone());
    let versions: &[_] = if versions == Version::Tls13 { &[&TLS13] } else { &[&TLS13, &TLS12] };
    let builder = match builder.with_protocol_versions(versions) {
        Ok(builder) => builder.with_no_client_auth(),
        Err(error) => {
            section.error(section.span(), "min_version", Problem::new(error.to_string()));
            return None;
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).into();
    // Tickets alone: a store would have to be shared between cores.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if let Some(tickets) = tickets() {
        config.ticketer = tickets;
    }
    Some(Arc::new(config))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Tls12,
    Tls13,
}

const VERSIONS: &[(&str, Version)] = &[("1.2", Version::Tls12), ("1.3", Version::Tls13)];

/// A certificate with its chain, and its key.
fn pair(section: &Section<'_>, directory: &Path) -> Option<CertifiedKey> {
    let path = |value: &DeValue<'_>| file(value, directory);
    let (certificate, key) = (section.required("certificate", path), section.required("key", path));
    let chain = certificate.as_ref().and_then(|found| {
        let read = chain(&found.value);
        read.map_err(|problem| section.error(found.span.clone(), "certificate", problem)).ok()
    });
    let (key_span, key) = key.and_then(|found| {
        let read = private_key(&found.value);
        let key = read.map_err(|problem| section.error(found.span.clone(), "key", problem)).ok()?;
        Some((found.span, key))
    })?;
    let chain = chain?;
    let refused = |message: String| section.error(key_span.clone(), "key", Problem::new(message));
    let key = match provider().key_provider.load_private_key(key) {
        Ok(key) => key,
        Err(error) => {
            refused(format!("the key cannot be used: {error}"));
            return None;
        }
    };
    let pair = CertifiedKey::new(chain, key);
    match pair.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Some(pair),
        Err(rustls::Error::InconsistentKeys(_)) => {
            let problem = Problem::new("the key is not that of the certificate");
            let help = "`openssl x509 -noout -pubkey -in CERTIFICATE` and `openssl pkey -pubout -in KEY` print the same if they belong together; the server's own certificate stands first in its file";
            section.error(key_span, "key", problem.help(help));
            None
        }
        Err(error) => {
            refused(format!("the certificate cannot be used: {error}"));
            None
        }
    }
}

fn file(value: &DeValue<'_>, directory: &Path) -> Parsed<PathBuf> {
    match value.as_str() {
        Some(text) if !text.is_empty() && !text.contains('\0') => Ok(directory.join(text)),
        _ => Err(value::wrong_type("a path to a PEM file", value)),
    }
}

fn chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let bytes = read(file)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.map_err(|error| no_pem(file, "certificate", &error, &bytes))?;
    match chain.is_empty() {
        true => Err(no_pem(file, "certificate", &pem::Error::NoItemsFound, &bytes)),
        false => Ok(chain),
    }
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, Problem> {
    let bytes = read(file)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| no_pem(file, "private key", &error, &bytes))
}

fn read(file: &Path) -> Result<Vec<u8>, Problem> {
    std::fs::read(file).map_err(|error| Problem::new(format!("{} cannot be read: {error}", file.display())))
}

/// Why there is no such item in the file, and what is there instead.
fn no_pem(file: &Path, wanted: &str, error: &pem::Error, bytes: &[u8]) -> Problem {
    let problem = match error {
        pem::Error::NoItemsFound => Problem::new(format!("{} has no {wanted}", file.display())),
        error => Problem::new(format!("{} is no PEM file: {error}", file.display())),
    };
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    problem.help_if(if holds("ENCRYPTED PRIVATE KEY") || holds("Proc-Type: 4,ENCRYPTED") {
        Some("the key is encrypted: `openssl pkey -in FILE -out PLAIN` asks for its password".to_owned())
    } else if holds("BEGIN CERTIFICATE") && wanted != "certificate" {
        Some("there is a certificate in it: are the two exchanged?".to_owned())
    } else if holds("PRIVATE KEY") && wanted == "certificate" {
        Some("there is a private key in it: are the two exchanged?".to_owned())
    } else if bytes.first() == Some(&0x30) {
        Some(format!("it looks like DER: `openssl x509 -inform der -in {}` makes PEM of it", file.display()))
    } else {
        None
    })
}

/// By the names in them: the exact one, else the one for all names below its parent, else the first of the file.
#[derive(Debug)]
struct Certificates {
    default: Arc<CertifiedKey>,
    exact: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// Without their `*.`.
    wildcard: HashMap<Box<str>, Arc<CertifiedKey>>,
}

impl Certificates {
    fn new(first: CertifiedKey, more: Vec<CertifiedKey>) -> Certificates {
        let default = Arc::new(first);
        let mut certificates =
            Certificates { default: default.clone(), exact: HashMap::new(), wildcard: HashMap::new() };
        certificates.add(&default);
        more.into_iter().for_each(|pair| certificates.add(&Arc::new(pair)));
        certificates
    }

    /// Of two with the same name the earlier one stays.
    fn add(&mut self, pair: &Arc<CertifiedKey>) {
        let Some(Ok(certificate)) = pair.cert.first().map(webpki::EndEntityCert::try_from) else { return };
        for name in certificate.valid_dns_names() {
            let name = name.to_ascii_lowercase();
            let (names, name) = match name.strip_prefix("*.") {
                Some(parent) => (&mut self.wildcard, parent),
                None => (&mut self.exact, &*name),
            };
            names.entry(name.into()).or_insert_with(|| pair.clone());
        }
    }

    fn of(&self, name: Option<&str>) -> &Arc<CertifiedKey> {
        let Some(name) = name.map(str::to_ascii_lowercase) else { return &self.default };
        let below = || self.wildcard.get(name.split_once('.')?.1);
        self.exact.get(&*name).or_else(below).unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.of(hello.server_name()).clone())
    }
}
