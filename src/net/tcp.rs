//! Owns one non-blocking TCP connection: readiness is waited for through the driver, then recv and send are
//! called directly. So no buffer is pinned while a connection idles, the kernel owns no memory of ours when
//! a future is dropped, and the epoll driver runs the same code (measured: docs/architecture.md).

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::rc::Rc;

use rustix::net::{RecvFlags, SendFlags};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

/// A connected socket. Clones share it; it closes when the last one goes.
#[derive(Clone)]
pub struct Stream {
    inner: Rc<monoio::net::TcpStream>,
}

impl Stream {
    /// Takes a connected socket that is already non-blocking.
    pub fn from_socket(socket: Socket) -> io::Result<Stream> {
        let inner = monoio::net::TcpStream::from_std(socket.into())?;
        Ok(Stream { inner: Rc::new(inner) })
    }

    /// Connects without blocking; the caller bounds the time. Errors are the kernel's.
    pub async fn connect(address: SocketAddr) -> io::Result<Stream> {
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
        // Heads and small bodies leave in one send; Nagle would only delay the last piece of a stream.
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&SockAddr::from(address)) {
            Ok(()) => return Stream::from_socket(socket),
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let stream = Stream::from_socket(socket)?;
        stream.writable().await?;
        match stream.socket().take_error()? {
            Some(error) => Err(error),
            None => Ok(stream),
        }
    }

    /// Receives what is there. `Ok(0)` is the peer's FIN; `WouldBlock` means wait for readiness.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // Not libc's: a cancellation point costs as much there as the rest of the call's user side.
        let (count, _) = rustix::net::recv(self, buffer, RecvFlags::empty())?;
        Ok(count)
    }

    /// Sends what the kernel takes now. `WouldBlock` means wait for `writable`.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(self, bytes, SendFlags::NOSIGNAL)?)
    }

    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.socket().send_vectored_with_flags(slices, libc::MSG_NOSIGNAL)
    }

    /// Whether the peer has closed, reset, or sent something unasked: one `recv(MSG_PEEK)`.
    pub fn has_input_or_is_closed(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::<u8>::uninit()];
        match self.socket().recv_with_flags(&mut byte, libc::MSG_PEEK | libc::MSG_DONTWAIT) {
            Ok(_) => true,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    pub async fn readable(&self) -> io::Result<()> {
        // Not relaxed: on the epoll driver the relaxed form never clears readiness and spins on EAGAIN.
        self.inner.readable(false).await
    }

    pub async fn writable(&self) -> io::Result<()> {
        self.inner.writable(false).await
    }

    /// Sends FIN now, though clones and pending polls may keep the descriptor open for a moment.
    pub fn shutdown_write(&self) {
        let _ = self.socket().shutdown(std::net::Shutdown::Write);
    }

    /// Ends both directions now; the peer sees it at once even if the close itself comes later.
    pub fn shutdown_both(&self) {
        let _ = self.socket().shutdown(std::net::Shutdown::Both);
    }

    /// Makes the close a reset, so that a peer can never take a cut stream for a complete one.
    pub fn reset_on_close(&self) {
        let _ = self.socket().set_linger(Some(std::time::Duration::ZERO));
    }

    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn socket(&self) -> SockRef<'_> {
        SockRef::from(self)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to `inner`, which `self` keeps open for at least the lifetime of
        // the returned borrow; nothing closes it earlier, since monoio closes on drop of its last reference.
        unsafe { BorrowedFd::borrow_raw(self.inner.as_raw_fd()) }
    }
}
