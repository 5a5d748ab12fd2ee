//! Certificates made for one fault each.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

use super::*;

fn made(names: &[&str], adjust: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    adjust(&mut params);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
}

fn said(chain: &[CertificateDer<'_>]) -> Vec<String> {
    let warnings = inspect(chain).expect("certificates").warnings;
    warnings.into_iter().map(|problem| problem.message).collect()
}

#[test]
fn a_good_one_gives_no_reason() {
    assert_eq!(said(&[made(&["a.test"], |_| {})]), [""; 0]);
    let end = inspect(&[made(&["a.test"], |params| params.not_after = date_time_ymd(2100, 1, 1))]).unwrap();
    assert_eq!(end.not_after, 4_102_444_800);
}

#[test]
fn time_and_names() {
    let expired = made(&["a.test"], |params| params.not_after = date_time_ymd(2020, 1, 2));
    let later = made(&["a.test"], |params| params.not_before = date_time_ymd(2900, 1, 2));
    assert!(said(&[expired])[0].contains("expired on Jan  2"), "{:?}", said(&[made(&[], |_| {})]));
    assert!(said(&[later])[0].contains("not valid before"));
    assert!(said(&[made(&[], |_| {})])[0].contains("no DNS name"));
    let soon =
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + std::time::Duration::from_secs(200_000);
    let soon = made(&["a.test"], |params| params.not_after = date_time_ymd(1970, 1, 1) + soon);
    assert!(said(&[soon])[0].contains("in 2 days"));
}

#[test]
fn the_chains_order() {
    let signer = |name: &str| {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    };
    let keys = [(); 3].map(|()| KeyPair::generate().unwrap());
    let (root, middle, leaf) =
        (signer("root"), signer("middle"), CertificateParams::new(vec!["a.test".into()]).unwrap());
    let root_der = root.self_signed(&keys[0]).unwrap().der().clone();
    let middle_der = middle.signed_by(&keys[1], &Issuer::from_params(&root, &keys[0])).unwrap().der().clone();
    let leaf_der = leaf.signed_by(&keys[2], &Issuer::from_params(&middle, &keys[1])).unwrap().der().clone();
    assert_eq!(said(&[leaf_der.clone(), middle_der.clone()]), [""; 0]);
    assert_eq!(said(&[leaf_der.clone(), middle_der.clone(), root_der.clone()]), [""; 0]);
    assert!(said(&[leaf_der.clone(), root_der.clone(), middle_der])[0].starts_with("certificate 2"));
    assert!(said(&[leaf_der, root_der])[0].starts_with("certificate 2"));
}

/// Made by openssl, since no library here makes so weak ones: `req -x509 -newkey rsa:1024 -sha1`.
#[test]
fn weak_keys() {
    use rustls::pki_types::pem::PemObject;
    let weak = CertificateDer::from_pem_slice(include_bytes!("weak_rsa_1024.pem")).unwrap();
    assert!(said(&[weak]).iter().any(|line| line.contains("1024 bits")));
}
