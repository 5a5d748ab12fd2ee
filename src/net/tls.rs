//! Owns the TLS of one connection, between its socket and whoever reads and writes plaintext: which side we are, the
//! handshake, and its end. Records are `session`'s. Chooses neither certificates nor versions (`ServerConfig` does).

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::Arc;

use rustix::net::{RecvFlags, SendFlags};
use rustls::HandshakeKind;
use rustls::client::{ClientConfig, UnbufferedClientConnection};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ServerConfig, UnbufferedServerConnection};

use super::readiness::Socket;
use crate::runtime::buffer::{Buffer, BufferPool};

use session::{Handshake, Session, Wire};

pub mod session;

/// One connection's state. Shared by all who hold its stream.
pub enum Tls {
    /// We are the server.
    Server(RefCell<Session<UnbufferedServerConnection>>),
    /// We are the client.
    Client(RefCell<Session<UnbufferedClientConnection>>, Towards),
}

/// By which configuration a server is believed, and as whom.
#[derive(Debug, Clone)]
pub struct Towards {
    pub config: Arc<ClientConfig>,
    pub name: ServerName<'static>,
}

/// Does the same with the session of either side.
macro_rules! either {
    ($tls:expr, $session:ident => $work:expr) => {
        match $tls {
            Tls::Server(session) => {
                let $session = &mut *session.borrow_mut();
                $work
            }
            Tls::Client(session, _) => {
                let $session = &mut *session.borrow_mut();
                $work
            }
        }
    };
}

impl Tls {
    /// The server's side. `received`: what the connection began with.
    pub fn accept(
        config: Arc<ServerConfig>,
        buffers: Rc<BufferPool>,
        received: Option<Buffer>,
    ) -> io::Result<Tls> {
        let connection = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
        Ok(Tls::Server(RefCell::new(Session::new(connection, buffers, received))))
    }

    /// The client's side.
    pub fn connect(towards: Towards, buffers: Rc<BufferPool>) -> io::Result<Tls> {
        let (config, name) = (towards.config.clone(), towards.name.clone());
        let connection = UnbufferedClientConnection::new(config, name).map_err(io::Error::other)?;
        Ok(Tls::Client(RefCell::new(Session::new(connection, buffers, None)), towards))
    }

    /// Whether this is the client's side, by this very configuration and to this name.
    pub fn is_towards(&self, towards: &Towards) -> bool {
        matches!(self, Tls::Client(_, ours) if Arc::ptr_eq(&ours.config, &towards.config) && ours.name == towards.name)
    }

    /// Whether who has shown a certificate, in this handshake or in the one that the session began with, would be believed
    /// now. A session outlives certificates.
    pub fn is_still_believed(&self, verifier: &dyn ClientCertVerifier) -> bool {
        let Tls::Server(session) = self else { return true };
        let session = session.borrow();
        let Some([own, chain @ ..]) = session.connection().peer_certificates() else { return true };
        verifier.verify_client_cert(own, chain, UnixTime::now()).is_ok()
    }

    /// What `read` makes of the certificate that the other side has shown, if it has.
    pub fn peer_certificate<T>(&self, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
        either!(self, session => session.connection().peer_certificates()?.first().map(|own| read(own)))
    }

    /// Whether ALPN has chosen this protocol.
    pub fn is_agreed_on(&self, protocol: &[u8]) -> bool {
        either!(self, session => session.connection().alpn_protocol() == Some(protocol))
    }

    /// Whether the handshake, which is over, continued an earlier session.
    pub fn is_resumed(&self) -> bool {
        either!(self, session => session.connection().handshake_kind() == Some(HandshakeKind::Resumed))
    }

    /// Until both sides may send data. `InvalidData` is the peer's breach of the protocol, or ours with its offer: it has
    /// been sent the alert that says so.
    pub async fn handshake(&self, socket: &Socket) -> io::Result<()> {
        loop {
            match either!(self, session => session.handshake(socket))? {
                Handshake::Over => return Ok(()),
                Handshake::AwaitsRoom => socket.writable().await,
                Handshake::AwaitsInput => poll_fn(|context| socket.poll_readable(context)).await,
            }
        }
    }

    /// As `recv` on a plain socket. `Ok(0)` is the peer's close_notify; a FIN without one is `UnexpectedEof`.
    pub fn try_read(&self, socket: &Socket, into: &mut [u8]) -> io::Result<usize> {
        either!(self, session => session.read(socket, into))
    }

    /// As `send` of `first` and `second` behind it, except that whoever is told `WouldBlock` has to come back with bytes
    /// that begin with the same: they are encrypted already.
    pub fn try_write(&self, socket: &Socket, first: &[u8], second: &[u8]) -> io::Result<usize> {
        either!(self, session => session.write(socket, first, second))
    }

    /// Whether a read would return something without asking the kernel.
    pub fn has_input(&self) -> bool {
        either!(self, session => session.has_input())
    }

    /// Whether a part of a record has been received, and none that is whole.
    pub fn awaits_record(&self) -> bool {
        either!(self, session => session.awaits_record())
    }

    /// Takes in what has arrived, if it is of the protocol's own (a ticket, say): false if it is more, or the end.
    pub fn is_silent(&self, socket: &Socket) -> bool {
        either!(self, session => session.is_silent(socket))
    }

    /// Tells the peer that nothing follows. Errors: it was gone before.
    pub async fn close_notify(&self, socket: &Socket) -> io::Result<()> {
        let mut is_queued = false;
        loop {
            let sent = either!(self, session => session.close_notify(socket, &mut is_queued));
            match sent {
                Err(error) if error.kind() == ErrorKind::WouldBlock => socket.writable().await,
                sent => return sent,
            }
        }
    }
}

impl Wire for Socket {
    fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        let room = into.len();
        let received = rustix::net::recv(self, into, RecvFlags::empty()).map_err(io::Error::from);
        match &received {
            Ok((0, _)) => {}
            Ok((count, _)) if *count < room => self.was_drained(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.read_blocked(),
            _ => {}
        }
        received.map(|(count, _)| count)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let sent = rustix::net::send(self, bytes, SendFlags::NOSIGNAL).map_err(io::Error::from);
            match &sent {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.write_blocked(),
                _ => {}
            }
            return sent;
        }
    }
}

/// Whether the peer has said that our certificate, or that there is none, is why it goes. In TLS 1.3 it does so after our
/// handshake is over, and before it looks at anything behind it.
pub fn refuses_our_certificate(error: &io::Error) -> bool {
    use rustls::AlertDescription as Alert;
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(
        inner,
        Some(rustls::Error::AlertReceived(
            Alert::CertificateRequired
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
        ))
    )
}
