//! Owns UDP sockets: those that clients send to, one per worker and address in a SO_REUSEPORT group, and the
//! connected ones towards endpoints. Datagrams are received and sent directly, as bytes on TCP (`net::tcp`); who waits
//! does so in a `net::ready_set`. Keeps no flows and drops nothing by itself.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg,
    sendmsg, setsockopt, sockopt,
};
use rustix::net::{RecvFlags, SendFlags};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::runtime::limits;

/// Room for any datagram (65,527 bytes over IPv6) and one byte more at least: what fills it was cut.
pub const DATAGRAM_BUFFER_BYTES: usize = 64 * 1024;
/// Asked for each socket that clients send to, both ways, so that a burst waits instead of being lost; the kernel
/// caps it at net.core.rmem_max and wmem_max, and takes the memory only for what waits.
const QUEUE_BYTES: usize = 4 << 20;

/// Who sent a datagram, and to which of our addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Client {
    pub address: SocketAddr,
    /// Where answers must come from. `None`: from the address that the socket is bound to.
    pub local: Option<IpAddr>,
}

/// Opens one socket of the address's group.
///
/// The kernel gives each datagram to the socket that the hash of its four-tuple falls on, so a client stays with
/// one worker for as long as the group has the same sockets in the same order: a reload keeps them.
///
/// Errors: as for `net::listener::open`.
pub fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = new_socket(address)?;
    socket.set_reuse_port(true)?;
    // A smaller queue than asked for is a queue still.
    let _ = socket.set_recv_buffer_size(QUEUE_BYTES);
    let _ = socket.set_send_buffer_size(QUEUE_BYTES);
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
        IpAddr::V6(ip) if ip.is_unspecified() => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        _ => {}
    }
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}

/// Fails if anybody already receives on the address (see `net::listener::probe_free`).
pub fn probe_free(address: SocketAddr) -> io::Result<()> {
    let socket = new_socket(address)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&SockAddr::from(address))
}

fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::DGRAM.nonblocking().cloexec();
    Socket::new(Domain::for_address(address), kind, Some(Protocol::UDP))
}

/// A socket that clients send to.
pub struct ClientSocket {
    socket: UdpSocket,
    /// Only of a socket that is bound to no single address: where the kernel says to which one it was sent.
    control: Option<RefCell<Vec<u8>>>,
}

impl ClientSocket {
    /// Takes a socket from `open`.
    pub fn new(socket: Socket) -> io::Result<ClientSocket> {
        let socket = UdpSocket::from(socket);
        let is_wildcard = socket.local_addr()?.ip().is_unspecified();
        let control = is_wildcard.then(|| RefCell::new(nix::cmsg_space!(nix::libc::in6_pktinfo)));
        Ok(ClientSocket { socket, control })
    }

    /// One datagram. `WouldBlock` means wait for readiness.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Client)> {
        if let Some(control) = &self.control {
            return self.receive_with_local(buffer, &mut control.borrow_mut());
        }
        // Not libc's, as in `net::tcp`.
        let (count, _, address) = rustix::net::recvfrom(&self.socket, buffer, RecvFlags::empty())?;
        let address = address.and_then(|any| any.try_into().ok()).ok_or(ErrorKind::InvalidData)?;
        Ok((count, Client { address, local: None }))
    }

    /// Sends from the address that the client sent to.
    pub fn send(&self, datagram: &[u8], client: &Client) -> io::Result<usize> {
        match client.local {
            Some(local) => self.send_from(local, datagram, client.address),
            None => Ok(rustix::net::sendto(&self.socket, datagram, SendFlags::empty(), &client.address)?),
        }
    }

    fn receive_with_local(&self, buffer: &mut [u8], control: &mut [u8]) -> io::Result<(usize, Client)> {
        let mut slices = [IoSliceMut::new(buffer)];
        let fd = self.socket.as_raw_fd();
        let received = recvmsg::<SockaddrStorage>(fd, &mut slices, Some(control), MsgFlags::MSG_DONTWAIT)?;
        let address = received.address.as_ref().and_then(socket_address);
        let address = address.ok_or(ErrorKind::InvalidData)?;
        let local = received.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                Some(IpAddr::V4(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr))))
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::V6(info.ipi6_addr.s6_addr.into())),
            _ => None,
        });
        Ok((received.bytes, Client { address, local }))
    }

    fn send_from(&self, local: IpAddr, datagram: &[u8], to: SocketAddr) -> io::Result<usize> {
        let slices = [IoSlice::new(datagram)];
        let (fd, flags) = (self.socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        let sent = match (local, to) {
            (IpAddr::V4(local), SocketAddr::V4(to)) => {
                let address = nix::libc::in_addr { s_addr: u32::from(local).to_be() };
                let nowhere = nix::libc::in_addr { s_addr: 0 };
                let info = nix::libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address, ipi_addr: nowhere };
                let control = [ControlMessage::Ipv4PacketInfo(&info)];
                sendmsg(fd, &slices, &control, flags, Some(&SockaddrIn::from(to)))
            }
            (IpAddr::V6(local), SocketAddr::V6(to)) => {
                let address = nix::libc::in6_addr { s6_addr: local.octets() };
                // A link-local answer leaves by the interface that the client's own address names.
                let info = nix::libc::in6_pktinfo { ipi6_addr: address, ipi6_ifindex: to.scope_id() };
                let control = [ControlMessage::Ipv6PacketInfo(&info)];
                sendmsg(fd, &slices, &control, flags, Some(&SockaddrIn6::from(to)))
            }
            _ => return Err(ErrorKind::InvalidInput.into()),
        };
        Ok(sent?)
    }
}

impl AsFd for ClientSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::from((v4.ip(), v4.port())));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
}

/// A socket connected to one endpoint: only that one's datagrams arrive, and ICMP errors of ours are reported.
pub struct EndpointSocket(Socket);

impl EndpointSocket {
    /// Nothing is sent. Errors: no descriptor or local port left, no route.
    pub fn connect(address: SocketAddr) -> io::Result<EndpointSocket> {
        let socket = limits::for_traffic(new_socket(address)?)?;
        socket.connect(&SockAddr::from(address))?;
        Ok(EndpointSocket(socket))
    }

    /// One datagram, which may be empty. `ConnectionRefused` is an earlier one of ours come back by ICMP.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (count, _) = rustix::net::recv(&self.0, buffer, RecvFlags::empty())?;
        Ok(count)
    }

    /// As `receive` for the errors; a datagram that meets an earlier one's error was not sent.
    pub fn send(&self, datagram: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(&self.0, datagram, SendFlags::empty())?)
    }
}

impl AsFd for EndpointSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What a failed send or receive says of the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing to receive, or no room to send.
    Busy,
    TooLarge,
    /// An ICMP error: nobody there.
    Unreachable,
    Other,
}

impl Trouble {
    pub fn of(error: &io::Error) -> Trouble {
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::ENOBUFS) => Trouble::Busy,
            Some(libc::EMSGSIZE) => Trouble::TooLarge,
            Some(
                libc::ECONNREFUSED
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::ENOPROTOOPT
                | libc::EPROTO
                | libc::EACCES
                | libc::EPERM,
            ) => Trouble::Unreachable,
            _ => Trouble::Other,
        }
    }
}
