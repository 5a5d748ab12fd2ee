//! Owns a TLS server before a plain backend, on the buffered API of rustls, which is not the one that the gateway uses:
//! what an endpoint with TLS is. Keeps what each connection asked for and showed.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};

use super::tls::{BOTH, Certificate};

/// What a connection showed, once its handshake was over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub server_name: Option<String>,
    pub certificate: Option<Vec<u8>>,
    pub is_resumed: bool,
    pub alpn: Option<Vec<u8>>,
    /// What stood before the handshake.
    pub before: Vec<u8>,
}

pub struct TlsFront {
    pub address: SocketAddr,
    shown: Arc<Mutex<Vec<Shown>>>,
}

/// How it is set up.
pub struct Manner<'m> {
    pub certificate: &'m Certificate,
    /// Asks for a certificate that this one signed.
    pub client: Option<&'m Certificate>,
    pub versions: &'m [&'static SupportedProtocolVersion],
    /// Connections begin with a line.
    pub line_first: bool,
    /// Protocols that it agrees on.
    pub alpn: &'m [&'m [u8]],
}

impl<'m> Manner<'m> {
    pub fn of(certificate: &'m Certificate) -> Manner<'m> {
        Manner { certificate, client: None, versions: BOTH, line_first: false, alpn: &[b"http/1.1"] }
    }
}

impl TlsFront {
    pub fn start(behind: SocketAddr, manner: &Manner<'_>) -> TlsFront {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (config, line_first) = (config(manner), manner.line_first);
        let shown: Arc<Mutex<Vec<Shown>>> = Arc::default();
        let keeper = shown.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (config, keeper) = (config.clone(), keeper.clone());
                thread::spawn(move || serve(client, behind, config, line_first, &keeper));
            }
        });
        TlsFront { address, shown }
    }

    pub fn shown(&self) -> Vec<Shown> {
        self.shown.lock().unwrap().clone()
    }
}

fn config(manner: &Manner<'_>) -> Arc<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(manner.versions).expect("versions");
    let builder = match manner.client {
        None => builder.with_no_client_auth(),
        Some(trusted) => {
            let mut roots = RootCertStore::empty();
            roots.add(trusted.der.clone()).expect("a root");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        }
    };
    let certificate = manner.certificate;
    let mut config =
        builder.with_single_cert(vec![certificate.der.clone()], certificate.key()).expect("a pair");
    config.alpn_protocols = manner.alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

fn serve(
    mut client: TcpStream,
    behind: SocketAddr,
    config: Arc<ServerConfig>,
    line_first: bool,
    keeper: &Mutex<Vec<Shown>>,
) -> Option<()> {
    client.set_nodelay(true).ok()?;
    let mut before = Vec::new();
    while line_first && !before.ends_with(b"\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).ok()?;
        before.push(byte[0]);
    }
    let mut tls = ServerConnection::new(config).ok()?;
    tls.set_buffer_limit(None);
    while tls.is_handshaking() {
        if tls.complete_io(&mut client).is_err() {
            // The alert has been written; what the client sends behind his part must not overtake it with a reset.
            client.shutdown(Shutdown::Write).ok()?;
            io::copy(&mut client, &mut io::sink()).ok()?;
            return None;
        }
    }
    keeper.lock().unwrap().push(Shown {
        server_name: tls.server_name().map(str::to_owned),
        certificate: tls.peer_certificates().map(|chain| chain[0].to_vec()),
        is_resumed: tls.handshake_kind() == Some(HandshakeKind::Resumed),
        alpn: tls.alpn_protocol().map(<[u8]>::to_vec),
        before,
    });
    let mut plain = TcpStream::connect(behind).ok()?;
    plain.set_nodelay(true).ok()?;
    if pass_on(&mut tls, &mut client, &mut plain).is_err() {
        super::client::linger_zero(&client);
    }
    Some(())
}

/// Both ways until both have ended.
fn pass_on(tls: &mut ServerConnection, client: &mut TcpStream, plain: &mut TcpStream) -> io::Result<()> {
    let (mut client_open, mut plain_open) = (true, true);
    let mut buffer = vec![0; 64 * 1024];
    while client_open || plain_open {
        while tls.wants_write() {
            tls.write_tls(client)?;
        }
        // With the end of the handshake, the first bytes may have come.
        let mut state = tls.process_new_packets().map_err(io::Error::other)?;
        let has_bytes = state.plaintext_bytes_to_read() > 0 || (client_open && state.peer_has_closed());
        let (from_client, from_plain) = match has_bytes {
            true => (true, false),
            false => readable(client, client_open, plain, plain_open)?,
        };
        if from_client {
            let count = if has_bytes { 1 } else { tls.read_tls(client)? };
            state = tls.process_new_packets().map_err(io::Error::other)?;
            let mut bytes = vec![0; state.plaintext_bytes_to_read()];
            tls.reader().read_exact(&mut bytes)?;
            plain.write_all(&bytes)?;
            if state.peer_has_closed() || count == 0 {
                client_open = false;
                plain.shutdown(Shutdown::Write)?;
            }
        }
        if from_plain {
            match plain.read(&mut buffer)? {
                0 => {
                    plain_open = false;
                    tls.send_close_notify();
                }
                count => tls.writer().write_all(&buffer[..count])?,
            }
        }
    }
    while tls.wants_write() {
        tls.write_tls(client)?;
    }
    Ok(())
}

fn readable(one: &TcpStream, wants_one: bool, two: &TcpStream, wants_two: bool) -> io::Result<(bool, bool)> {
    let entry = |stream: &TcpStream, wanted: bool| libc::pollfd {
        fd: if wanted { stream.as_raw_fd() } else { -1 },
        events: libc::POLLIN,
        revents: 0,
    };
    let mut entries = [entry(one, wants_one), entry(two, wants_two)];
    // SAFETY: the entries live through the call, and their descriptors are open.
    let ready = unsafe { libc::poll(entries.as_mut_ptr(), 2, -1) };
    if ready < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((entries[0].revents != 0, entries[1].revents != 0))
}
