//! Owns the TLS side of tests: certificates made on the spot, and a client on the buffered API of rustls, which is not
//! the one that the gateway uses. Verifies what it is shown.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use ::aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, ConnectionTrafficSecrets, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
};

use super::process::Directory;
use super::wire::Wire;
use super::{Fault, PATIENCE, Response};

/// A self-signed certificate for these names, in files.
pub struct Certificate {
    pub der: CertificateDer<'static>,
    pub pem: String,
    pub key_pem: String,
}

impl Certificate {
    pub fn new(names: &[&str]) -> Certificate {
        Certificate::with(names, |_| {})
    }

    /// As `openssl req -x509` makes it: it says of itself that it is an authority's.
    pub fn of_authority(names: &[&str]) -> Certificate {
        Certificate::with(names, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))
    }

    pub fn with(names: &[&str], adjust: impl FnOnce(&mut CertificateParams)) -> Certificate {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        adjust(&mut params);
        let certificate = params.self_signed(&key).expect("a certificate");
        Certificate { der: certificate.der().clone(), pem: certificate.pem(), key_pem: key.serialize_pem() }
    }

    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).expect("a key")
    }

    /// Writes `NAME.pem` and `NAME.key`; says where they are.
    pub fn write(&self, directory: &Directory, name: &str) -> (PathBuf, PathBuf) {
        (
            directory.write(&format!("{name}.pem"), &self.pem),
            directory.write(&format!("{name}.key"), &self.key_pem),
        )
    }
}

/// Somebody whose signature is trusted.
pub struct Authority {
    pub certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let own = params.self_signed(&key).expect("a certificate");
        let certificate =
            Certificate { der: own.der().clone(), pem: own.pem(), key_pem: key.serialize_pem() };
        Authority { certificate, issuer: Issuer::new(params, key) }
    }

    pub fn sign(&self, name: &str, adjust: impl FnOnce(&mut CertificateParams)) -> Certificate {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        adjust(&mut params);
        let signed = params.signed_by(&key, &self.issuer).expect("a certificate");
        Certificate { der: signed.der().clone(), pem: signed.pem(), key_pem: key.serialize_pem() }
    }
}

/// What a client brings: whom it trusts, what it speaks, and its memory of earlier sessions.
#[derive(Clone)]
pub struct Trust(Arc<ClientConfig>);

pub const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

impl Trust {
    pub fn of(certificates: &[&Certificate]) -> Trust {
        Trust::speaking(certificates, BOTH, &[])
    }

    pub fn speaking(
        certificates: &[&Certificate],
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[&[u8]],
    ) -> Trust {
        Trust::presenting(None, certificates, versions, alpn)
    }

    /// The same of a client with a certificate of its own.
    pub fn presenting(
        identity: Option<&Certificate>,
        certificates: &[&Certificate],
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[&[u8]],
    ) -> Trust {
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots.add(certificate.der.clone()).expect("a root");
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_protocol_versions(versions).expect("versions");
        let builder = builder.with_root_certificates(roots);
        let mut config = match identity {
            Some(own) => builder.with_client_auth_cert(vec![own.der.clone()], own.key()).expect("a pair"),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config.resumption = Resumption::in_memory_sessions(256);
        config.enable_secret_extraction = true;
        Trust(Arc::new(config))
    }

    /// Connects and shakes hands.
    pub fn connect(&self, address: SocketAddr, name: &str) -> std::io::Result<TlsClient> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        self.over(stream, name)
    }

    /// Shakes hands on a connection.
    pub fn over(&self, mut stream: TcpStream, name: &str) -> std::io::Result<TlsClient> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let mut connection = ClientConnection::new(self.0.clone(), name).map_err(std::io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(TlsClient { wire: Wire::new(StreamOwned::new(connection, stream)) })
    }
}

/// The client's side of a TLS 1.3 connection after its handshake, record by record: what no library would send.
pub struct Records {
    pub stream: TcpStream,
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    number: u64,
}

impl Records {
    pub fn of(client: TlsClient) -> Records {
        let StreamOwned { conn, sock } = client.wire.source;
        let secrets = conn.dangerous_extract_secrets().expect("they may be extracted");
        let (number, ConnectionTrafficSecrets::Aes128Gcm { key, iv }) = secrets.tx else {
            panic!("another cipher than the first one");
        };
        let key = UnboundKey::new(&AES_128_GCM, key.as_ref()).expect("a key");
        let iv = iv.as_ref().try_into().expect("its length");
        Records { stream: sock, key: LessSafeKey::new(key), iv, number }
    }

    /// The next record, encrypted (RFC 8446 §5.2).
    pub fn seal(&mut self, kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = payload.len() + 1 + AES_128_GCM.tag_len();
        let header = [0x17, 3, 3, (length >> 8) as u8, length as u8];
        let mut nonce = self.iv;
        for (byte, of_number) in nonce[4..].iter_mut().zip(self.number.to_be_bytes()) {
            *byte ^= of_number;
        }
        self.number += 1;
        let mut inner = [payload, &[kind]].concat();
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce, Aad::from(header), &mut inner).expect("it is sealed");
        [&header[..], &inner].concat()
    }

    /// Whether the peer ends the connection, whatever it says before.
    pub fn is_ended(&mut self) -> bool {
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        match std::io::copy(&mut self.stream, &mut std::io::sink()) {
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

pub struct TlsClient {
    pub wire: Wire<StreamOwned<ClientConnection, TcpStream>>,
}

impl TlsClient {
    pub fn connection(&mut self) -> &mut ClientConnection {
        &mut self.wire.source.conn
    }

    pub fn stream(&mut self) -> &mut StreamOwned<ClientConnection, TcpStream> {
        &mut self.wire.source
    }

    /// For another protocol than HTTP/1.
    pub fn into_stream(self) -> StreamOwned<ClientConnection, TcpStream> {
        self.wire.source
    }

    pub fn request(&mut self, method: &str, raw: &[u8]) -> Result<Response, Fault> {
        use std::io::Write;
        self.stream().write_all(raw)?;
        self.stream().flush()?;
        self.wire.read_response(method)
    }

    pub fn get(&mut self, path: &str) -> Result<Response, Fault> {
        self.request("GET", format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
    }

    pub fn post(&mut self, path: &str, body: &[u8]) -> Result<Response, Fault> {
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
        self.request("POST", &[head.as_bytes(), body].concat())
    }
}
