//! Owns what the TLS of a listener, or of the admin endpoint, is made of: certificates chosen by the name that the client asks
//! for, who may come in, and the policy of versions and session tickets. Serves nobody.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, ServerConfig,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;

use super::kept::{Digest, Kept, trusted};
use super::{ALPN, TlsFile, pem, provider, versions};
use crate::config::diagnostic::Problem;
use crate::config::reader::Section;
use crate::config::value;

/// TLS of one listener, or of the admin endpoint.
#[derive(Debug)]
pub struct ListenerTls {
    pub config: Arc<ServerConfig>,
    /// Of the clients' certificates, if they are asked for some. A resumed session's are not looked at by rustls.
    pub verifier: Option<Arc<dyn ClientCertVerifier>>,
    certificates: Arc<Certificates>,
}

impl ListenerTls {
    /// What is shown to whoever asks for no name.
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.certificates.default.cert.first()
    }

    /// Whether one of the certificates has exactly this DNS name. One for all names below another may cover names that are
    /// somebody else's.
    pub fn has_name(&self, name: &str) -> bool {
        self.certificates.exact.contains_key(&*name.to_ascii_lowercase())
    }
}

/// The TLS of whose `tls` table this is. `None`: something is wrong, and reported.
pub fn server(section: &Section<'_>, directory: &Path, http2: bool) -> Option<Arc<ListenerTls>> {
    let first = stapled_pair(section, directory);
    let more = section.nodes("certificates").iter().map(|node| {
        let table = section.table_of("certificates", node)?;
        stapled_pair(&table, directory)
    });
    let more: Vec<Option<CertifiedKey>> = more.collect();
    let versions = versions(section);
    let admission = Admission::read(section, directory)?;
    let certificates = Arc::new(Certificates::new(first?, more.into_iter().collect::<Option<Vec<_>>>()?));
    let builder = ServerConfig::builder_with_provider(provider().clone());
    let builder = match builder.with_protocol_versions(versions) {
        Ok(builder) => match &admission.verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier.clone()),
            None => builder.with_no_client_auth(),
        },
        Err(error) => {
            section.error(section.span(), "min_version", Problem::new(error.to_string()));
            return None;
        }
    };
    let mut config = builder.with_cert_resolver(certificates.clone());
    // By our order: nearly all clients put AES-256 first, for no reason of theirs.
    config.ignore_client_order = true;
    config.alpn_protocols = ALPN[usize::from(!http2)..].iter().map(|name| name.to_vec()).collect();
    // Tickets alone: a store would have to be shared between cores.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if let Some(tickets) = admission.tickets {
        config.ticketer = tickets;
    }
    Some(Arc::new(ListenerTls { config: Arc::new(config), verifier: admission.verifier, certificates }))
}

/// A certificate with its key, and the word of its issuer that it is still good, if there is one.
fn stapled_pair(section: &Section<'_>, directory: &Path) -> Option<CertifiedKey> {
    let pair = pem::pair(section, directory);
    let Some(file) = section.optional("ocsp", |value| pem::file(value, directory)) else {
        return pair.filter(|_| !section.has("ocsp"));
    };
    section.report().note_file(TlsFile { path: file.value.clone(), not_after: None });
    let response = pem::ocsp_response(&file.value);
    let response = response.map_err(|problem| section.error(file.span, "ocsp", problem)).ok()?;
    pair.map(|pair| CertifiedKey { ocsp: Some(response), ..pair })
}

/// Whose connections are let in, and the tickets that let them in again.
struct Admission {
    /// `None`: nobody is asked.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// `None` where the machine has no randomness.
    tickets: Option<Arc<dyn ProducesTickets>>,
}

const CLIENT_CERTIFICATES: &[(&str, bool)] = &[("required", true), ("optional", false)];

impl Admission {
    /// `None`: something is wrong, and reported.
    fn read(section: &Section<'_>, directory: &Path) -> Option<Admission> {
        let required = section.optional("client_certificates", value::word(CLIENT_CERTIFICATES));
        let Some(roots) = section.optional("client_roots", |value| pem::file(value, directory)) else {
            if let Some(required) = required {
                let problem = Problem::new("nothing says whose certificates are accepted");
                let help = "add `client_roots = \"clients.pem\"`: the certificates of those who sign them";
                section.error(required.span, "client_certificates", problem.help(help));
                return None;
            }
            // Misspelt ones are reported; nobody is let in by mistake.
            let is_absent = !section.has("client_roots") && !section.has("client_certificates");
            return is_absent.then(|| Admission { verifier: None, tickets: tickets() });
        };
        if required.is_none() && section.has("client_certificates") {
            return None;
        }
        // What it is by itself differs: probes of the admin endpoint have none.
        let is_required = section.value("client_certificates", value::word(CLIENT_CERTIFICATES));
        section.report().note_file(TlsFile { path: roots.value.clone(), not_after: None });
        let refuse = |problem: Problem| section.error(roots.span.clone(), "client_roots", problem);
        let (store, _) = pem::roots(&roots.value).map_err(refuse).ok()?;
        let digest = Digest::of(trusted(&store).chain([&[u8::from(is_required)][..]]));
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider().clone());
        let builder = if is_required { builder } else { builder.allow_unauthenticated() };
        let verifier = builder
            .build()
            .map_err(|error| refuse(Problem::new(format!("these cannot be trusted: {error}"))))
            .ok()?;
        Some(Admission { verifier: Some(verifier), tickets: tickets_for(&digest) })
    }
}

/// Tickets of all listeners without client certificates: the keys outlive reloads and are the same on every core. They
/// change every few hours, and the last ones are still read.
fn tickets() -> Option<Arc<dyn ProducesTickets>> {
    static TICKETS: OnceLock<Option<Arc<dyn ProducesTickets>>> = OnceLock::new();
    TICKETS.get_or_init(|| aws_lc_rs::Ticketer::new().ok()).clone()
}

/// Tickets of those listeners that ask for client certificates in this way: who got one elsewhere has shown nothing that
/// counts here.
fn tickets_for(admission: &Digest) -> Option<Arc<dyn ProducesTickets>> {
    static TICKETS: Kept<dyn ProducesTickets> = Kept::new();
    TICKETS.get_or_make(admission, || aws_lc_rs::Ticketer::new().ok())
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
