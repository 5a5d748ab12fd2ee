//! Owns what TLS towards a service's endpoints is made of: whom we trust, by which name we ask, and who we say we are.
//! Connects to nobody.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientConfig, Resumption, VerifierBuilderError, WebPkiServerVerifier, verify_server_name,
};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion,
};
use toml::de::DeValue;

use super::kept::{self, Digest, Kept};
use super::{ALPN, TlsFile, pem, provider, versions};
use crate::config::diagnostic::Problem;
use crate::config::reader::Section;
use crate::config::snapshot::HttpVersion;
use crate::config::value::{self, Parsed, Place};
use crate::net::tls::Towards;

/// TLS towards the endpoints of one service.
#[derive(Debug, Clone)]
pub struct UpstreamTls {
    /// The same ones in all configurations in which nothing of them has changed: pooled connections and sessions belong to them.
    configs: Arc<Configs>,
    /// What all endpoints are asked for; otherwise each for its own name.
    server_name: Option<ServerName<'static>>,
}

/// TLS towards one endpoint.
#[derive(Debug, Clone)]
pub struct EndpointTls {
    /// Of connections that requests are sent on.
    pub http: Towards,
    /// Of connections of a TCP listener.
    pub bytes: Towards,
}

#[derive(Debug)]
struct Configs {
    /// Says that HTTP/1.1 follows.
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    /// Leaves it to the endpoint.
    either: Arc<ClientConfig>,
    /// Does not say what follows: whoever connects has not looked.
    bytes: Arc<ClientConfig>,
}

impl UpstreamTls {
    /// How the endpoint there is believed. `None`: no certificate can be for it.
    pub fn towards(&self, place: &Place, protocol: HttpVersion) -> Option<EndpointTls> {
        let name = self.server_name.clone().or_else(|| server_name(place))?;
        let towards = |config: &Arc<ClientConfig>| Towards { config: config.clone(), name: name.clone() };
        let http = match protocol {
            HttpVersion::Http1 => &self.configs.http1,
            HttpVersion::Http2 => &self.configs.http2,
            HttpVersion::Agreed => &self.configs.either,
        };
        Some(EndpointTls { http: towards(http), bytes: towards(&self.configs.bytes) })
    }

    /// Whether a certificate can be for the endpoint there.
    pub fn can_name(&self, place: &Place) -> bool {
        self.server_name.is_some() || server_name(place).is_some()
    }
}

/// The name of this endpoint, if it is one that a certificate may be for.
fn server_name(place: &Place) -> Option<ServerName<'static>> {
    match place {
        Place::Address(address) => Some(ServerName::from(address.ip())),
        Place::Name(name) => ServerName::try_from(name.host.to_string()).ok(),
    }
}

/// The TLS of the service whose `tls` table this is. `None`: something is wrong, and reported.
pub fn client(section: &Section<'_>, directory: &Path) -> Option<UpstreamTls> {
    let server_name = section.optional("server_name", name);
    let is_verified = section.value("verify", value::boolean);
    let versions = versions(section);
    let trusted = if is_verified { trusted(section, directory) } else { nobody(section) };
    let own = match section.has("certificate") || section.has("key") {
        true => Some(pem::pair(section, directory)?),
        false => None,
    };
    if server_name.is_none() && section.has("server_name") {
        return None;
    }
    let (trusted, server_name) = (trusted?, server_name.map(|found| found.value));
    if !is_verified {
        let problem = Problem::new(
            "whoever answers on an endpoint's address is believed: this encrypts, but for anybody",
        );
        let help =
            "name the certificate that signs the endpoints', or the endpoint's own: `roots = \"ca.pem\"`";
        section.warning(section.key_span("verify"), "verify", problem.help(help));
    }
    let asked = server_name.as_ref().map_or(String::new(), |name| name.to_str().into_owned());
    let digest = Digest::of(
        [asked.as_bytes(), &[u8::from(is_verified), versions.len() as u8]]
            .into_iter()
            .chain(own.iter().flat_map(|own| &own.cert).map(|certificate| &**certificate))
            .chain(kept::trusted(&trusted.roots))
            .chain(trusted.named.iter().map(|certificate| &**certificate)),
    );
    static KEPT: Kept<Configs> = Kept::new();
    let configs = KEPT.get_or_make(&digest, || {
        let made = configs(trusted, is_verified, own, versions);
        made.map_err(|error| section.error(section.span(), "tls", Problem::new(error.to_string()))).ok()
    })?;
    Some(UpstreamTls { configs, server_name })
}

fn configs(
    trusted: Trusted,
    is_verified: bool,
    own: Option<CertifiedKey>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<Arc<Configs>, Box<dyn std::error::Error>> {
    let builder = ClientConfig::builder_with_provider(provider().clone()).with_protocol_versions(versions)?;
    let verifier = if is_verified { Verifier::new(trusted)? } else { Verifier::default() };
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let config = match own {
        Some(own) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own))),
        None => builder.with_no_client_auth(),
    };
    let saying = |protocols: &[&[u8]]| {
        let mut config = config.clone();
        // What was agreed on is a session's, too.
        config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    };
    Ok(Arc::new(Configs {
        http1: saying(&ALPN[1..]),
        http2: saying(&ALPN[..1]),
        either: saying(&ALPN),
        bytes: saying(&[]),
    }))
}

/// Names and addresses whose sessions are remembered, of one service.
const SESSIONS_MAX: usize = 256;

fn name(value: &DeValue<'_>) -> Parsed<ServerName<'static>> {
    let text = value.as_str().ok_or_else(|| value::wrong_type("a DNS name or an IP address", value))?;
    let problem =
        || Problem::new(format!("\"{}\" is no name that a certificate may be for", value::shown(text)));
    match ServerName::try_from(text.to_owned()) {
        Ok(name) => Ok(name),
        Err(_) if text.contains(':') && text.parse::<IpAddr>().is_err() => {
            Err(problem().help("write it without a port and without a scheme"))
        }
        Err(_) => Err(problem().help("write a DNS name such as \"models.internal\", or an IP address")),
    }
}

/// Whom we believe.
struct Trusted {
    roots: RootCertStore,
    /// Those of `roots` that the config names, as they are.
    named: Vec<CertificateDer<'static>>,
}

/// Those of `roots`, or those that the machine trusts.
fn trusted(section: &Section<'_>, directory: &Path) -> Option<Trusted> {
    if section.has("roots") {
        let file = section.optional("roots", |value| pem::file(value, directory))?;
        section.report().note_file(TlsFile { path: file.value.clone(), not_after: None });
        let read = pem::roots(&file.value).map_err(|problem| section.error(file.span, "roots", problem));
        return read.ok().map(|(roots, named)| Trusted { roots, named });
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let problem = Problem::new("this machine has no certificates that it trusts");
        let help = "install ca-certificates, or name your own: `roots = \"ca.pem\"`";
        section.error(section.span(), "roots", problem.help(help));
        return None;
    }
    Some(Trusted { roots, named: Vec::new() })
}

/// With `verify = false`.
fn nobody(section: &Section<'_>) -> Option<Trusted> {
    if section.has("roots") {
        let problem = Problem::new("`roots` has no effect with `verify = false`");
        section.error(section.key_span("roots"), "roots", problem.help("remove one of both"));
        return None;
    }
    Some(Trusted { roots: RootCertStore::empty(), named: Vec::new() })
}

/// As WebPKI has it, but for one thing: a certificate that the config names may be the endpoint's own although it says that it
/// is an authority's, as all do that `openssl req -x509` makes.
#[derive(Debug, Default)]
struct Verifier {
    /// `None`: every certificate is believed; that its owner is there has still to be shown.
    inner: Option<Arc<WebPkiServerVerifier>>,
    named: Vec<CertificateDer<'static>>,
}

impl Verifier {
    fn new(trusted: Trusted) -> Result<Verifier, VerifierBuilderError> {
        let roots = Arc::new(trusted.roots);
        let inner = WebPkiServerVerifier::builder_with_provider(roots, provider().clone()).build()?;
        Ok(Verifier { inner: Some(inner), named: trusted.named })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(inner) = &self.inner else { return Ok(ServerCertVerified::assertion()) };
        match inner.verify_server_cert(certificate, chain, name, ocsp, now) {
            // That it is valid now has been looked at before; what its key is for has not: the config says it.
            Err(error) if is_of_authority(&error) && self.named.contains(certificate) => {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

fn is_of_authority(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}
