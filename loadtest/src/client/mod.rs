//! The load generators: `wrk` for small requests, `h2load` for those of HTTP/2, and our own where they cannot measure.
//! All run on the caller's core and end by themselves; what they return is what they saw, errors included.

pub mod echo;
pub mod events;
pub mod exchange;
pub mod h2load;
pub mod handshakes;
pub mod idle;
pub mod messages;
pub mod open_loop;
pub mod response;
pub mod stream;
pub mod transfer;
pub mod wrk;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What a generator saw.
#[derive(Debug, Default, Clone)]
pub struct Outcome {
    /// Requests answered in full (or events received).
    pub requests: u64,
    /// Body bytes of those requests, as sent or received.
    pub body_bytes: u64,
    pub errors: u64,
    pub elapsed: Duration,
    pub p50_us: f64,
    pub p99_us: f64,
}

/// One GET on a connection of its own; the body of a 200 answer.
pub fn get(address: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    let limit = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let head = response::Head::parse(&answer)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    if head.status != 200 {
        return Err(io::Error::other(format!("status {}", head.status)));
    }
    Ok(answer.split_off(head.head_bytes))
}
