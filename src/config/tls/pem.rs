//! Owns the reading of PEM files that the config names: certificates with their chains, keys, and roots to trust. Says what is
//! wrong with a file where the config names it, and what it holds instead.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use toml::de::DeValue;

use super::inspect::inspect;
use super::{TlsFile, provider};
use crate::config::diagnostic::Problem;
use crate::config::reader::Section;
use crate::config::value::{self, Parsed};

/// A certificate with its chain, and its key.
pub fn pair(section: &Section<'_>, directory: &Path) -> Option<CertifiedKey> {
    let path = |value: &DeValue<'_>| file(value, directory);
    let (certificate, key) = (section.required("certificate", path), section.required("key", path));
    let chain = certificate.as_ref().and_then(|found| {
        let read = chain(&found.value);
        let chain = read.map_err(|problem| section.error(found.span.clone(), "certificate", problem)).ok()?;
        let inspected = inspect(&chain);
        let not_after = inspected.as_ref().map(|inspected| inspected.not_after);
        section.report().note_file(TlsFile { path: found.value.clone(), not_after });
        for problem in inspected.into_iter().flat_map(|inspected| inspected.warnings) {
            section.warning(found.span.clone(), "certificate", problem);
        }
        Some(chain)
    });
    let (key_span, key) = key.and_then(|found| {
        let read = private_key(&found.value);
        section.report().note_file(TlsFile { path: found.value.clone(), not_after: None });
        let key = read.map_err(|problem| section.error(found.span.clone(), "key", problem)).ok()?;
        Some((found.span, key))
    })?;
    joined(chain?, key).map_err(|problem| section.error(key_span, "key", problem)).ok()
}

/// The same from files that no config names.
pub fn pair_of(certificate: &Path, key: &Path) -> Result<CertifiedKey, Problem> {
    joined(chain(certificate)?, private_key(key)?)
}

fn joined(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<CertifiedKey, Problem> {
    let key = provider().key_provider.load_private_key(key);
    let key = key.map_err(|error| Problem::new(format!("the key cannot be used: {error}")))?;
    let pair = CertifiedKey::new(chain, key);
    match pair.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(pair),
        Err(rustls::Error::InconsistentKeys(_)) => {
            let problem = Problem::new("the key is not that of the certificate");
            let help = "`openssl x509 -noout -pubkey -in CERTIFICATE` and `openssl pkey -pubout -in KEY` print the same if they belong together; the server's own certificate stands first in its file";
            Err(problem.help(help))
        }
        Err(error) => Err(Problem::new(format!("the certificate cannot be used: {error}"))),
    }
}

pub fn file(value: &DeValue<'_>, directory: &Path) -> Parsed<PathBuf> {
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

/// Those whose signatures are trusted, and the same as they stand in the file.
pub fn roots(file: &Path) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), Problem> {
    let mut roots = RootCertStore::empty();
    let certificates = chain(file)?;
    for (number, certificate) in certificates.iter().enumerate() {
        roots.add(certificate.clone()).map_err(|error| {
            let number = number + 1;
            Problem::new(format!("certificate {number} in {} cannot be trusted: {error}", file.display()))
        })?;
    }
    Ok((roots, certificates))
}

/// RFC 6960 §4.2.1: a successful OCSPResponse, in DER.
pub fn ocsp_response(file: &Path) -> Result<Vec<u8>, Problem> {
    let bytes = read(file)?;
    let name = file.display();
    // SEQUENCE, its length in one to three bytes, ENUMERATED of one byte: the status.
    let status = match bytes[..] {
        [0x30, ..=0x7f, 0x0a, 1, status, ..]
        | [0x30, 0x81, _, 0x0a, 1, status, ..]
        | [0x30, 0x82, _, _, 0x0a, 1, status, ..] => status,
        [b'-', ..] => {
            let help = format!("`openssl base64 -d` makes DER of what stands between the lines of {name}");
            return Err(Problem::new(format!("{name} is PEM, and OCSP responses are DER")).help(help));
        }
        _ => {
            let help = "`openssl ocsp -issuer CHAIN -cert CERTIFICATE -url URL -respout FILE` asks for one";
            return Err(Problem::new(format!("{name} is no OCSP response")).help(help));
        }
    };
    if status != 0 {
        return Err(Problem::new(format!(
            "the OCSP response in {name} says no more than that it failed ({status})"
        )));
    }
    Ok(bytes)
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
