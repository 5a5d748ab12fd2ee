//! Owns what a client's certificate says of who it is, as claims: read once, after the handshake in which it was believed. Believes
//! nothing by itself.

use serde_json::{Map, Value};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Name};

use super::claims::Claims;
use super::jwt::digest_of;

/// `sub` (the subject's common name, else the first URI or DNS name), `cn`, `o`, `ou`, `dns`, `uri`, `email`, `issuer` (its common name),
/// `serial` and `fingerprint` (SHA-256), both in hexadecimal, and `exp`. `None`: it cannot be read.
pub fn claims(der: &[u8]) -> Option<Claims> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let (dns, uri, email) = names(&certificate);
    let common = common_name(certificate.subject());
    let first = |names: &[Value]| names.first().cloned();
    let sub = common.clone().or_else(|| first(&uri)).or_else(|| first(&dns));
    let texts = |found: Vec<Value>| (!found.is_empty()).then_some(Value::Array(found));
    let subject = certificate.subject();
    let text = |name: &x509_parser::prelude::AttributeTypeAndValue<'_>| name.as_str().ok().map(Value::from);
    let exp = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    let said = [
        ("sub", sub),
        ("cn", common),
        ("o", texts(subject.iter_organization().filter_map(text).collect())),
        ("ou", texts(subject.iter_organizational_unit().filter_map(text).collect())),
        ("dns", texts(dns)),
        ("uri", texts(uri)),
        ("email", texts(email)),
        ("issuer", common_name(certificate.issuer())),
        ("serial", Some(hexadecimal(certificate.raw_serial()).into())),
        ("fingerprint", Some(hexadecimal(&digest_of([der])).into())),
        ("exp", Some(exp.into())),
    ];
    let said = said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Some(Claims::new(Value::Object(said.collect::<Map<_, _>>())))
}

fn common_name(name: &X509Name<'_>) -> Option<Value> {
    name.iter_common_name().find_map(|name| name.as_str().ok()).map(Value::from)
}

fn names(certificate: &X509Certificate<'_>) -> (Vec<Value>, Vec<Value>, Vec<Value>) {
    let (mut dns, mut uri, mut email) = (Vec::new(), Vec::new(), Vec::new());
    if let Ok(Some(names)) = certificate.subject_alternative_name() {
        for name in &names.value.general_names {
            match name {
                GeneralName::DNSName(name) => dns.push((*name).into()),
                GeneralName::URI(name) => uri.push((*name).into()),
                GeneralName::RFC822Name(name) => email.push((*name).into()),
                _ => {}
            }
        }
    }
    (dns, uri, email)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_says_are_claims() {
        let mut params = rcgen::CertificateParams::new(vec!["ann.test".into()]).unwrap();
        let uri = "spiffe://edge.test/ann".try_into().unwrap();
        params.subject_alt_names.push(rcgen::SanType::URI(uri));
        params.distinguished_name.push(rcgen::DnType::CommonName, "ann");
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Edge");
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let said = claims(certificate.der()).unwrap();
        let text = |name: &str| said.text(name).map(std::borrow::Cow::into_owned).unwrap_or_default();
        assert_eq!((text("sub"), text("cn"), text("o")), ("ann".into(), "ann".into(), "Edge".into()));
        assert_eq!((text("dns"), text("uri")), ("ann.test".into(), "spiffe://edge.test/ann".into()));
        assert_eq!(text("fingerprint"), hexadecimal(&digest_of([certificate.der()])));
        assert!(said.expires().unwrap().is_some());
        assert!(!said.has("ou") && !said.has("email"));

        let mut nameless = rcgen::CertificateParams::new(vec!["edge.test".into()]).unwrap();
        nameless.distinguished_name = rcgen::DistinguishedName::new();
        let certificate = nameless.self_signed(&key).unwrap();
        assert_eq!(claims(certificate.der()).unwrap().text("sub").unwrap(), "edge.test");
        assert!(claims(b"no certificate").is_none() && claims(&certificate.der()[..100]).is_none());
    }
}
