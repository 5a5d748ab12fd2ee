//! Owns the TLS of an admin connection: its handshake, within its time, and whether what the client has shown in it is believed.
//! Decides nothing about requests (`access` does).

use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::access::Certificate;
use crate::config::tls::ListenerTls;

/// The certificate that a client has shown, and those behind it. Empty: none.
pub type Chain = Vec<CertificateDer<'static>>;

/// Shakes hands. `None`: it is to be closed, and has been told why if there was anything to tell it.
pub async fn secure(tls: &ListenerTls, stream: TcpStream) -> Option<(TlsStream<TcpStream>, Chain)> {
    let accepting = TlsAcceptor::from(tls.config.clone()).accept(stream);
    let stream = timeout(HANDSHAKE_TIMEOUT, accepting).await.ok()?.ok()?;
    let chain = stream.get_ref().1.peer_certificates().map(<[_]>::to_vec).unwrap_or_default();
    // A session that goes on outlives certificates.
    (certificate(Some(tls), &chain) != Certificate::Stale).then_some((stream, chain))
}

/// Verified for each request, not once: certificates end, and roots change, while a connection stays. `tls` is what is in force now.
pub fn certificate(tls: Option<&ListenerTls>, chain: &[CertificateDer<'static>]) -> Certificate {
    let Some(verifier) = tls.and_then(|tls| tls.verifier.as_ref()) else { return Certificate::NotAsked };
    let [own, issuers @ ..] = chain else { return Certificate::Absent };
    match verifier.verify_client_cert(own, issuers, UnixTime::now()) {
        Ok(_) => Certificate::Believed,
        Err(_) => Certificate::Stale,
    }
}

/// Shorter than the wait for a request: who has begun a handshake is not idle.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
