//! Owns the other side of our own admin endpoint: who has the same config knows the one certificate that is shown there, and
//! believes no other, whoever has signed it. Connects to nobody.

use std::path::Path;
use std::sync::Arc;

use rustls::client::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use super::{ALL_VERSIONS, pem, provider};

/// Believes `certificate` alone, and shows `identity` to who asks for one.
pub fn towards(
    certificate: CertificateDer<'static>,
    identity: Option<CertifiedKey>,
) -> Result<Arc<ClientConfig>, Error> {
    let builder = ClientConfig::builder_with_provider(provider().clone());
    let builder = builder.with_protocol_versions(ALL_VERSIONS)?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Pinned(certificate)));
    Ok(Arc::new(match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity))),
        None => builder.with_no_client_auth(),
    }))
}

/// A certificate and its key, from PEM files that the command line names. The error is for people.
pub fn identity(certificate: &Path, key: &Path) -> Result<CertifiedKey, String> {
    pem::pair_of(certificate, key).map_err(|problem| match problem.help {
        Some(help) => format!("{}\n  help: {help}", problem.message),
        None => problem.message,
    })
}

/// Names and dates are not looked at: the config says whose certificate it is, and one that has expired is to be replaced by
/// just such a reload.
#[derive(Debug)]
struct Pinned(CertificateDer<'static>);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match *certificate == self.0 {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
