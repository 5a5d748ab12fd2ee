//! Owns one non-blocking TCP connection: recv and send are called directly once `readiness` says so. So no buffer is
//! pinned while a connection idles, the kernel owns no memory of ours when a future is dropped, and every driver
//! runs the same code (measured: docs/architecture.md).

use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::net::{RecvFlags, SendFlags};
use rustls::server::ServerConfig;
use rustls::server::danger::ClientCertVerifier;
use socket2::{Domain, Protocol, SockAddr, SockRef, Type};

use super::readiness::{Readiness, Socket};
use super::tls::{Tls, Towards};
use crate::runtime::buffer::{Buffer, BufferPool};
use crate::runtime::limits;

/// A connected socket, and the TLS on it, if any. Clones share both; it closes when the last one goes.
#[derive(Clone)]
pub struct Stream {
    socket: Rc<Socket>,
    tls: Option<Rc<Tls>>,
}

impl Stream {
    /// Takes a connected socket that is already non-blocking.
    pub fn from_socket(socket: socket2::Socket, readiness: &Rc<Readiness>) -> io::Result<Stream> {
        Ok(Stream { socket: readiness.register(socket.into())?, tls: None })
    }

    /// Connects without blocking; the caller bounds the time. Errors are the kernel's.
    pub async fn connect(address: SocketAddr, readiness: &Rc<Readiness>) -> io::Result<Stream> {
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = socket2::Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
        let socket = limits::for_traffic(socket)?;
        // Heads and small bodies leave in one send; Nagle would only delay the last piece of a stream.
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&SockAddr::from(address)) {
            Ok(()) => return Stream::from_socket(socket, readiness),
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let stream = Stream::from_socket(socket, readiness)?;
        stream.writable().await;
        match stream.options().take_error()? {
            Some(error) => Err(error),
            None => Ok(stream),
        }
    }

    /// Shakes hands as a server; from then on everything goes through TLS. The caller bounds the time. `received`: what was
    /// read already. Returns whether an earlier session goes on; one that began with a certificate that `verifier` does not
    /// believe any more does not. Errors: see `Tls::handshake`.
    pub async fn secure(
        &mut self,
        config: Arc<ServerConfig>,
        verifier: Option<&dyn ClientCertVerifier>,
        buffers: &Rc<BufferPool>,
        received: Option<Buffer>,
    ) -> io::Result<bool> {
        let tls = Tls::accept(config, buffers.clone(), received)?;
        tls.handshake(&self.socket).await?;
        let is_resumed = tls.is_resumed();
        if is_resumed && verifier.is_some_and(|verifier| !tls.is_still_believed(verifier)) {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "the session's certificate is not trusted any more",
            ));
        }
        self.tls = Some(Rc::new(tls));
        Ok(is_resumed)
    }

    /// Shakes hands as a client; from then on everything goes through TLS. The caller bounds the time. Errors: see
    /// `Tls::handshake`.
    pub async fn secure_towards(&mut self, towards: Towards, buffers: &Rc<BufferPool>) -> io::Result<()> {
        let tls = Tls::connect(towards, buffers.clone())?;
        tls.handshake(&self.socket).await?;
        self.tls = Some(Rc::new(tls));
        Ok(())
    }

    /// Whether it was secured in this very way, or, without one, is plain.
    pub fn is_secured_towards(&self, towards: Option<&Towards>) -> bool {
        match (&self.tls, towards) {
            (Some(tls), Some(towards)) => tls.is_towards(towards),
            (None, None) => true,
            _ => false,
        }
    }

    /// Whether bytes go through as they are.
    pub fn is_plain(&self) -> bool {
        self.tls.is_none()
    }

    /// Whether splice(2) may move bytes from here to there.
    pub fn may_splice_to(&self, to: &Stream) -> bool {
        self.is_plain() && to.is_plain()
    }

    /// Receives what is there. `Ok(0)` is the peer's FIN; `WouldBlock` means wait for readiness.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(tls) = &self.tls {
            return tls.try_read(&self.socket, buffer);
        }
        // Not libc's: a cancellation point costs as much there as the rest of the call's user side.
        let (count, _) = rustix::net::recv(self, buffer, RecvFlags::empty())?;
        Ok(count)
    }

    /// Sends what the kernel takes now. `WouldBlock` means wait for `writable`.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(tls) = &self.tls {
            return tls.try_write(&self.socket, bytes, &[]);
        }
        self.note_write(rustix::net::send(self, bytes, SendFlags::NOSIGNAL).map_err(io::Error::from))
    }

    /// The same of `first` and `second` behind it, in one system call.
    pub fn try_write_both(&self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        if let Some(tls) = &self.tls {
            return tls.try_write(&self.socket, first, second);
        }
        let slices = [IoSlice::new(first), IoSlice::new(second)];
        self.note_write(self.options().send_vectored_with_flags(&slices, libc::MSG_NOSIGNAL))
    }

    /// To be told how each attempt to write ended.
    pub fn note_write(&self, written: io::Result<usize>) -> io::Result<usize> {
        if matches!(&written, Err(error) if error.kind() == ErrorKind::WouldBlock) {
            self.socket.write_blocked();
        }
        written
    }

    /// Whether the peer has closed, reset, or sent something unasked: one `recv(MSG_PEEK)`, or as many as it takes to read
    /// what TLS itself has sent.
    pub fn has_input_or_is_closed(&self) -> bool {
        if let Some(tls) = &self.tls {
            return !tls.is_silent(&self.socket);
        }
        let mut byte = [std::mem::MaybeUninit::<u8>::uninit()];
        match self.options().recv_with_flags(&mut byte, libc::MSG_PEEK | libc::MSG_DONTWAIT) {
            Ok(_) => true,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Ready while there may be something to read.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.has_decrypted() { Poll::Ready(()) } else { self.socket.poll_readable(context) }
    }

    /// Whether there may be something to read.
    pub fn may_read(&self) -> bool {
        self.has_decrypted() || self.socket.may_read()
    }

    /// Whether what it may have to read turns out to be nothing but messages of TLS itself.
    pub fn is_silent(&self) -> bool {
        !self.may_read() || self.tls.as_ref().is_some_and(|tls| tls.is_silent(&self.socket))
    }

    /// A read took less than it had room for: all that was there, unless more was told of.
    pub fn was_drained(&self) {
        // Of TLS, only the records' reader knows.
        if self.is_plain() {
            self.socket.was_drained();
        }
    }

    /// Whether something was told of that a read may have stopped short of.
    pub fn knows_of_more(&self) -> bool {
        self.socket.knows_of_more()
    }

    /// A read would have blocked: there is neither input nor an end.
    pub fn read_blocked(&self) {
        self.socket.read_blocked();
    }

    /// Nobody is to be woken by input, nor kept in memory for it.
    pub fn forget_reader(&self) {
        self.socket.forget_reader();
    }

    fn has_decrypted(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_input())
    }

    /// Resolves when a write that would have blocked is worth another try.
    pub async fn writable(&self) {
        self.socket.writable().await
    }

    /// Ready when a write that would have blocked is worth another try.
    pub fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        self.socket.poll_writable(context)
    }

    /// What `read` makes of the certificate that the peer has shown, if it has.
    pub fn peer_certificate<T>(&self, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
        self.tls.as_ref()?.peer_certificate(read)
    }

    /// Whether the handshake agreed on HTTP/2 (RFC 7301).
    pub fn speaks_http2(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_agreed_on(b"h2"))
    }

    /// Says that nothing follows, where there are words for it: in TLS, so that no end is taken for a cut. The caller
    /// bounds the time.
    pub async fn say_end(&self) {
        if let Some(tls) = &self.tls {
            // Who is gone needs no word.
            let _ = tls.close_notify(&self.socket).await;
        }
    }

    /// Whether the rest of a record is awaited, of which a part has been received.
    pub fn awaits_record(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.awaits_record())
    }

    /// Sends FIN now, though clones may keep the descriptor open for a moment.
    pub fn shutdown_write(&self) {
        let _ = self.options().shutdown(std::net::Shutdown::Write);
    }

    /// Ends both directions now; the peer sees it at once even if the close itself comes later.
    pub fn shutdown_both(&self) {
        let _ = self.options().shutdown(std::net::Shutdown::Both);
    }

    /// Makes the close a reset, so that a peer can never take a cut stream for a complete one.
    pub fn reset_on_close(&self) {
        let _ = self.options().set_linger(Some(std::time::Duration::ZERO));
    }

    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.options().local_addr()?.as_socket().ok_or_else(|| ErrorKind::Unsupported.into())
    }

    fn options(&self) -> SockRef<'_> {
        SockRef::from(self)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
