//! Owns listening sockets: one per worker and address in a SO_REUSEPORT group, opened by the control thread
//! before a configuration is published, closed without losing what waits in the accept queue.
//! Knows nothing of protocols; what a listener means is looked up in the snapshot at accept.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use socket2::{Domain, Protocol, SockAddr, SockFilter, Socket, Type};

/// Connections waiting to be accepted, per socket; the kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// Opens one socket of the address's group.
///
/// Errors: the kernel's, e.g. `AddrInUse` when another process (or one without SO_REUSEPORT) has it,
/// `PermissionDenied` below port 1024 without CAP_NET_BIND_SERVICE.
pub fn open(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Accepted sockets inherit it, which saves a system call on each.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Fails if anybody already listens on the address, so that a second gateway started by mistake does not
/// quietly share the first one's port through SO_REUSEPORT.
pub fn probe_free(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Without REUSEADDR a lingering TIME_WAIT would refuse a quick restart; with it, bind still fails on an
    // address that somebody listens on. Not listening ourselves, we take no connection away from anybody.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&SockAddr::from(address))
}

/// Drops new SYNs from now on, while handshakes under way complete and the queue can be emptied. Whoever
/// was dropped tries again after a second and then meets whatever stands on the address by then.
pub fn refuse_new(socket: &Socket) -> io::Result<()> {
    // Classic BPF on a TCP socket sees the packet from the TCP header on; byte 13 holds the flags.
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    let load_flags = SockFilter::new((libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16, 0, 0, 13);
    let keep_bits = SockFilter::new((libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16, 0, 0, SYN | ACK);
    let is_syn = SockFilter::new((libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, 0, 1, SYN);
    let drop_packet = SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0);
    let pass_packet = SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, u32::MAX);
    socket.attach_filter(&[load_flags, keep_bits, is_syn, drop_packet, pass_packet])
}

/// Takes one waiting connection, non-blocking from birth.
pub fn accept(socket: &Socket) -> io::Result<(Socket, SocketAddr)> {
    let (accepted, address) = socket.accept4(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC)?;
    match address.as_socket() {
        Some(address) => Ok((accepted, address)),
        None => Err(io::Error::other("accepted a connection that has no internet address")),
    }
}

/// Readiness of a listening socket on this worker's driver.
pub struct Acceptor {
    socket: Socket,
    readiness: monoio::net::TcpListener,
}

impl Acceptor {
    pub fn new(socket: Socket) -> io::Result<Acceptor> {
        // monoio owns a duplicate and closes it by itself; ours stays for accept and the filter.
        let readiness = monoio::net::TcpListener::from_std(socket.try_clone()?.into())?;
        Ok(Acceptor { socket, readiness })
    }

    pub async fn readable(&self) -> io::Result<()> {
        self.readiness.readable(false).await
    }

    pub fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        accept(&self.socket)
    }

    pub fn refuse_new(&self) -> io::Result<()> {
        refuse_new(&self.socket)
    }

    /// Stops listening now: whoever comes is refused, whoever still waited in the queue is reset. A plain close
    /// would take effect only when the last pending poll has let go of the socket, and a ring whose thread has
    /// ended never lets go before the process ends.
    pub fn stop_listening(&self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

impl AsRawFd for Acceptor {
    fn as_raw_fd(&self) -> i32 {
        self.socket.as_raw_fd()
    }
}
