//! Opens many keep-alive connections, sends one request on each, and holds them open.
//! Measures nothing itself: the caller looks at the proxy's memory before, during and after.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::response::Head;

const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// The open connections; dropping them closes all.
pub fn open(address: SocketAddr, connections: usize) -> io::Result<Vec<TcpStream>> {
    (0..connections).map(|_| used_once(address)).collect()
}

fn used_once(address: SocketAddr) -> io::Result<TcpStream> {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
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
                return Ok(stream);
            }
        }
    }
}
