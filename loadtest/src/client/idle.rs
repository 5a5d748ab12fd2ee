//! Opens many keep-alive connections, sends one request on each, and holds them open.
//! Measures nothing itself: the caller looks at the proxy's memory before, during and after.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::response::Head;

pub const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// The open connections; dropping them closes all. `certificate`: they speak TLS with whom it belongs to.
pub fn open(
    address: SocketAddr,
    connections: usize,
    certificate: Option<&Path>,
) -> io::Result<Vec<TcpStream>> {
    let tls = certificate.map(trusting).transpose()?;
    let mut held = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        match &tls {
            None => use_once(&mut stream, address)?,
            Some(config) => {
                let name = ServerName::from(address.ip());
                let session = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
                let mut secured = StreamOwned::new(session, stream);
                use_once(&mut secured, address)?;
                // Without a word of farewell, so that it stays open.
                stream = secured.sock;
            }
        }
        held.push(stream);
    }
    Ok(held)
}

pub fn trusting(certificate: &Path) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(certificate).map_err(io::Error::other)?;
    roots.add(certificate).map_err(io::Error::other)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

pub fn use_once(stream: &mut (impl Read + Write), address: SocketAddr) -> io::Result<()> {
    stream.write_all(format!("GET / HTTP/1.1\r\nhost: {address}\r\n\r\n").as_bytes())?;
    let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        received.extend_from_slice(&buffer[..count]);
        if let Some(head) = Head::parse(&received)? {
            let body_bytes = head.content_length.ok_or(io::ErrorKind::InvalidData)? as usize;
            if head.status != 200 {
                return Err(io::Error::other(format!("status {}", head.status)));
            }
            if received.len() == head.head_bytes + body_bytes {
                return Ok(());
            }
        }
    }
}
