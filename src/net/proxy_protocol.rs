//! Owns the PROXY protocol, version 1 (text) and 2 (binary): reads the header that a load balancer puts in front of
//! a connection, and writes ours. Sans-io: looks at the bytes received so far and says whether that is all of it.
//! Does not judge who may send one. Source: HAProxy's `proxy-protocol.txt`, sections 2.1 and 2.2.

use std::fmt;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::snapshot::ProxyVersion;

/// A header that has arrived whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of it; those behind are the client's.
    pub bytes: usize,
    pub origin: Origin,
}

/// What a header says about the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Nothing: the connection's own addresses hold. So it is for LOCAL (a load balancer's own health checks),
    /// UNKNOWN, and address families other than TCP over IP.
    Own,
    /// The client, and the address that it connected to.
    Client { from: SocketAddr, to: SocketAddr },
}

/// The bytes are no PROXY header, whatever follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

/// Reads the header at the front of what a connection received. `None`: more is needed to tell. The answer does
/// not depend on how the bytes were split, since nothing is told before it is certain.
pub fn parse(received: &[u8]) -> Result<Option<Header>, Malformed> {
    match received.first() {
        None => Ok(None),
        Some(&first) if first == V1_START[0] => parse_v1(received),
        Some(_) => parse_v2(received),
    }
}

/// Appends a header that says who the client is and where it connected to. Addresses of two families are both
/// written as IPv6.
pub fn append(version: ProxyVersion, from: SocketAddr, to: SocketAddr, out: &mut Vec<u8>) {
    let (from, to) = alike(from, to);
    match version {
        ProxyVersion::V1 => append_v1(from, to, out),
        ProxyVersion::V2 => append_v2(from, to, out),
    }
}

/// The longest header of version 1, its line end included.
pub const V1_BYTES_MAX: usize = 107;
/// Extensions (TLVs) of a version 2 header; they are passed over.
pub const TLV_BYTES_MAX: usize = 4096;
/// The longest header of version 2: fixed part, two addresses of unix sockets, extensions.
pub const V2_BYTES_MAX: usize = V2_FIXED_BYTES + UNIX_ADDRESSES_BYTES + TLV_BYTES_MAX;

const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED_BYTES: usize = 16;
const UNIX_ADDRESSES_BYTES: usize = 216;

fn starts_alike(received: &[u8], start: &[u8]) -> bool {
    let both = received.len().min(start.len());
    received[..both] == start[..both]
}

fn parse_v1(received: &[u8]) -> Result<Option<Header>, Malformed> {
    if !starts_alike(received, V1_START) {
        return Err(Malformed("it does not begin with a PROXY header"));
    }
    // The line feed has to fit behind the carriage return.
    let window = &received[..received.len().min(V1_BYTES_MAX - 1)];
    let Some(end) = window.iter().position(|&byte| byte == b'\r' || byte == b'\n') else {
        let is_full = window.len() == V1_BYTES_MAX - 1;
        return if is_full { Err(Malformed("the line is longer than 107 bytes")) } else { Ok(None) };
    };
    match (received[end], received.get(end + 1)) {
        (b'\r', None) => Ok(None),
        (b'\r', Some(b'\n')) => {
            let origin = received.get(V1_START.len()..end).and_then(v1_origin);
            let origin = origin.ok_or(Malformed("the line is not that of a PROXY header"))?;
            Ok(Some(Header { bytes: end + 2, origin }))
        }
        _ => Err(Malformed("the line does not end with CR LF")),
    }
}

/// What stands between `PROXY ` and the line end.
fn v1_origin(line: &[u8]) -> Option<Origin> {
    // What follows UNKNOWN is to be ignored, whatever it is.
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return Some(Origin::Own);
    }
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let is_v4 = match words.next()? {
        "TCP4" => true,
        "TCP6" => false,
        _ => return None,
    };
    let address = |word: &str| match is_v4 {
        true => word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        false => word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
    };
    let (from, to) = (address(words.next()?)?, address(words.next()?)?);
    let (from_port, to_port) = (port(words.next()?)?, port(words.next()?)?);
    let is_all = words.next().is_none();
    let origin = Origin::Client { from: SocketAddr::new(from, from_port), to: SocketAddr::new(to, to_port) };
    is_all.then_some(origin)
}

/// Digits only, and no zero in front: `u16::from_str` would also take `+80` and `0080`.
fn port(word: &str) -> Option<u16> {
    let is_plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    word.parse().ok().filter(|_| is_plain)
}

fn parse_v2(received: &[u8]) -> Result<Option<Header>, Malformed> {
    if !starts_alike(received, V2_START) {
        return Err(Malformed("it does not begin with a PROXY header"));
    }
    let Some((fixed, rest)) = received.split_first_chunk::<V2_FIXED_BYTES>() else {
        return check_v2_start(received).map(|()| None);
    };
    check_v2_start(fixed)?;
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let needed = if fixed[12] == V2_LOCAL { 0 } else { address_bytes(fixed[13]) };
    if length < needed {
        return Err(Malformed("it is shorter than the addresses that it announces"));
    }
    if length > V2_BYTES_MAX - V2_FIXED_BYTES {
        return Err(Malformed("its extensions are longer than 4 KiB"));
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let origin = if fixed[12] == V2_LOCAL { Origin::Own } else { v2_origin(fixed[13], body) };
    Ok(Some(Header { bytes: V2_FIXED_BYTES + length, origin }))
}

const V2_LOCAL: u8 = 0x20;
const V2_PROXY: u8 = 0x21;
/// Address family and transport: TCP over IPv4, over IPv6.
const V2_TCP4: u8 = 0x11;
const V2_TCP6: u8 = 0x21;

/// The bytes behind the signature, as far as they are there.
fn check_v2_start(received: &[u8]) -> Result<(), Malformed> {
    if received.get(12).is_some_and(|&byte| byte != V2_LOCAL && byte != V2_PROXY) {
        return Err(Malformed("its version or command is unknown"));
    }
    // Families: unspecified, IPv4, IPv6, unix. Transports: unspecified, stream, datagram. LOCAL has neither.
    let is_known = |byte: u8| byte >> 4 <= 3 && byte & 0xf <= 2;
    match (received.get(12), received.get(13)) {
        (Some(&V2_PROXY), Some(&family)) if !is_known(family) => {
            Err(Malformed("its address family or transport is unknown"))
        }
        _ => Ok(()),
    }
}

/// Bytes of both addresses and ports of a family.
fn address_bytes(family: u8) -> usize {
    match family >> 4 {
        1 => 12,
        2 => 36,
        3 => UNIX_ADDRESSES_BYTES,
        _ => 0,
    }
}

/// `body` has at least the bytes of the family's addresses.
fn v2_origin(family: u8, body: &[u8]) -> Origin {
    let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let v4 = |at: usize| IpAddr::from(std::array::from_fn::<u8, 4, _>(|i| body[at + i]));
    let v6 = |at: usize| IpAddr::from(std::array::from_fn::<u8, 16, _>(|i| body[at + i]));
    match family {
        V2_TCP4 => {
            Origin::Client { from: SocketAddr::new(v4(0), port(8)), to: SocketAddr::new(v4(4), port(10)) }
        }
        V2_TCP6 => {
            Origin::Client { from: SocketAddr::new(v6(0), port(32)), to: SocketAddr::new(v6(16), port(34)) }
        }
        _ => Origin::Own,
    }
}

/// Both in one family: IPv4 if both are (also where mapped into IPv6), else IPv6.
fn alike(from: SocketAddr, to: SocketAddr) -> (SocketAddr, SocketAddr) {
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let (from, to) = (plain(from), plain(to));
    if from.is_ipv4() == to.is_ipv4() {
        return (from, to);
    }
    let wide = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    };
    (wide(from), wide(to))
}

fn append_v1(from: SocketAddr, to: SocketAddr, out: &mut Vec<u8>) {
    let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
    // Writing to a Vec cannot fail.
    let _ = write!(out, "PROXY {family} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port());
}

fn append_v2(from: SocketAddr, to: SocketAddr, out: &mut Vec<u8>) {
    let family = if from.is_ipv4() { V2_TCP4 } else { V2_TCP6 };
    out.extend_from_slice(V2_START);
    out.extend_from_slice(&[V2_PROXY, family, 0, address_bytes(family) as u8]);
    for address in [from, to] {
        match address.ip() {
            IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
        }
    }
    out.extend_from_slice(&from.port().to_be_bytes());
    out.extend_from_slice(&to.port().to_be_bytes());
}

#[cfg(test)]
#[path = "proxy_protocol_tests.rs"]
mod tests;
