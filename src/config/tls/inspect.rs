//! Owns what can be said of a certificate before anybody meets it: whether it is in its time, for any name, by a key and a
//! signature that are still believed, and followed by those that signed it. Decides nothing: all of it is advice.

use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::{OID_PKCS1_MD5WITHRSAENC, OID_PKCS1_SHA1WITHRSA};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use crate::config::diagnostic::Problem;

const DAY_S: i64 = 86_400;
/// An automatic renewal has failed for weeks by then.
const SOON_DAYS: i64 = 7;
/// NIST SP 800-131A: fewer are disallowed.
const RSA_BITS_MIN: usize = 2048;

/// What a chain tells of itself.
#[derive(Debug)]
pub struct Inspected {
    /// When its first certificate ends, in seconds since 1970.
    pub not_after: i64,
    pub warnings: Vec<Problem>,
}

/// Looks at a server's or client's certificate and those behind it. `None`: it cannot be read, which others will report.
pub fn inspect(chain: &[CertificateDer<'_>]) -> Option<Inspected> {
    let (_, first) = X509Certificate::from_der(chain.first()?).ok()?;
    let mut warnings = Vec::new();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    warnings.extend(time(&first, now));
    warnings.extend(names(&first));
    warnings.extend(weakness(&first));
    warnings.extend(order(&first, chain));
    Some(Inspected { not_after: first.validity().not_after.timestamp(), warnings })
}

fn time(certificate: &X509Certificate<'_>, now: i64) -> Option<Problem> {
    let (begin, end) = (certificate.validity().not_before, certificate.validity().not_after);
    let problem = if begin.timestamp() > now {
        Problem::new(format!("the certificate is not valid before {begin}"))
    } else if end.timestamp() <= now {
        let days = (now - end.timestamp()) / DAY_S;
        Problem::new(format!("the certificate expired on {end}, {days} days ago"))
    } else if end.timestamp() - now < SOON_DAYS * DAY_S {
        let days = (end.timestamp() - now) / DAY_S;
        return Some(
            Problem::new(format!("the certificate expires on {end}, in {days} days")).help("renew it"),
        );
    } else {
        return None;
    };
    Some(problem.help("peers refuse it, unless this machine's clock is wrong"))
}

fn names(certificate: &X509Certificate<'_>) -> Option<Problem> {
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let is_name =
        |name: &GeneralName<'_>| matches!(name, GeneralName::DNSName(_) | GeneralName::IPAddress(_));
    if alternatives.is_some_and(|names| names.value.general_names.iter().any(is_name)) {
        return None;
    }
    let help = "clients compare names with subjectAltName only, not with the subject's CN (RFC 9525)";
    Some(Problem::new("the certificate is for no DNS name and no IP address").help(help))
}

fn weakness(certificate: &X509Certificate<'_>) -> Option<Problem> {
    if let Ok(PublicKey::RSA(key)) = certificate.public_key().parsed()
        && key.key_size() < RSA_BITS_MIN
    {
        let problem = Problem::new(format!("an RSA key of {} bits is too weak", key.key_size()));
        return Some(problem.help("make one of 2048 bits or more, or a P-256 key, which is also faster"));
    }
    let signature = &certificate.signature_algorithm.algorithm;
    let weak = [OID_PKCS1_SHA1WITHRSA, OID_PKCS1_MD5WITHRSAENC];
    let is_own = certificate.subject() == certificate.issuer();
    (weak.contains(signature) && !is_own)
        .then(|| Problem::new("the certificate is signed by SHA-1 or MD5, which clients refuse"))
}

/// Each certificate behind the first has signed the one before it (RFC 5246 §7.4.2; later versions let clients sort, and not
/// all do).
fn order(first: &X509Certificate<'_>, chain: &[CertificateDer<'_>]) -> Option<Problem> {
    let mut issuer = first.issuer().as_raw().to_vec();
    for (at, der) in chain.iter().enumerate().skip(1) {
        let (_, next) = X509Certificate::from_der(der).ok()?;
        if next.subject().as_raw() != issuer {
            let number = at + 1;
            let problem =
                Problem::new(format!("certificate {number} of the file has not signed the one before it"));
            return Some(
                problem.help("order: the server's own, then its issuer's, then that one's issuer's"),
            );
        }
        issuer = next.issuer().as_raw().to_vec();
    }
    None
}

#[cfg(test)]
#[path = "inspect_tests.rs"]
mod tests;
