//! One client connection that sends a request, with a body if asked, and reads its answer, again and again.
//! Owns the request's progress; the callers own the event loop and the clock. Made for edge-triggered readiness:
//! every call goes on until the socket has nothing more.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;

use super::response::Head;
use crate::sys;

/// What every request of a load looks like.
pub struct Request {
    head: Vec<u8>,
    /// Sent round and round until `body_bytes` are out.
    filler: Vec<u8>,
    body_bytes: u64,
}

impl Request {
    pub fn get(host: SocketAddr, path: &str) -> Self {
        Self::get_with(host, path, "")
    }

    /// `fields`: whole lines.
    pub fn get_with(host: SocketAddr, path: &str, fields: &str) -> Self {
        let head = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{fields}\r\n").into_bytes();
        Self { head, filler: Vec::new(), body_bytes: 0 }
    }

    pub fn post(host: SocketAddr, path: &str, body_bytes: u64) -> Self {
        let head = format!("POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {body_bytes}\r\n\r\n")
            .into_bytes();
        Self { head, filler: vec![b'u'; (body_bytes as usize).min(1 << 20)], body_bytes }
    }
}

/// `Ready` → `Sending` → `Head` → `Body` → `Ready`; an error ends the connection.
enum Phase {
    Ready,
    Sending { sent_bytes: u64 },
    Head,
    Body { left: u64 },
}

pub struct Exchange {
    pub stream: TcpStream,
    request: Rc<Request>,
    phase: Phase,
    received: Vec<u8>,
    body_bytes: u64,
}

impl Exchange {
    pub fn connect(address: SocketAddr, request: Rc<Request>) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, request, phase: Phase::Ready, received: Vec::new(), body_bytes: 0 })
    }

    /// Begins a request; the one before must have been answered.
    pub fn start(&mut self) {
        self.received.clear();
        self.phase = Phase::Sending { sent_bytes: 0 };
    }

    /// Goes on until the answer is whole (its body bytes, sent or received) or the socket blocks (`None`).
    pub fn advance(&mut self, buffer: &mut [u8]) -> io::Result<Option<u64>> {
        loop {
            let step = match self.phase {
                Phase::Ready => return Ok(None),
                Phase::Sending { sent_bytes } => self.send(sent_bytes),
                Phase::Head => self.read_head(buffer),
                Phase::Body { left: 0 } => {
                    self.phase = Phase::Ready;
                    return Ok(Some(self.body_bytes.max(self.request.body_bytes)));
                }
                Phase::Body { left } => self.read_body(left),
            };
            match step {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    fn send(&mut self, sent_bytes: u64) -> io::Result<()> {
        let request = &self.request;
        let head_bytes = request.head.len() as u64;
        let rest = match sent_bytes.checked_sub(head_bytes) {
            None => &request.head[sent_bytes as usize..],
            Some(body_sent) => {
                let left = (request.body_bytes - body_sent).min(request.filler.len() as u64);
                &request.filler[..left as usize]
            }
        };
        if rest.is_empty() {
            self.phase = Phase::Head;
            return Ok(());
        }
        let count = self.stream.write(rest)? as u64;
        let done = sent_bytes + count == head_bytes + request.body_bytes;
        self.phase = if done { Phase::Head } else { Phase::Sending { sent_bytes: sent_bytes + count } };
        Ok(())
    }

    fn read_head(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let count = self.stream.read(buffer)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.received.extend_from_slice(&buffer[..count]);
        let Some(head) = Head::parse(&self.received)? else { return Ok(()) };
        if head.status != 200 {
            return Err(io::Error::other(format!("status {}", head.status)));
        }
        self.body_bytes = head.content_length.ok_or(ErrorKind::InvalidData)?;
        let here = (self.received.len() - head.head_bytes) as u64;
        let left = self.body_bytes.checked_sub(here).ok_or(ErrorKind::InvalidData)?;
        self.check_receipt(head.head_bytes, left)?;
        self.phase = Phase::Body { left };
        Ok(())
    }

    /// The backend answers an upload with the bytes that it counted.
    fn check_receipt(&self, head_bytes: usize, left: u64) -> io::Result<()> {
        let expected = self.request.body_bytes;
        if expected > 0 && left == 0 && self.received[head_bytes..] != *expected.to_string().as_bytes() {
            return Err(io::Error::other("the backend received another length"));
        }
        Ok(())
    }

    fn read_body(&mut self, left: u64) -> io::Result<()> {
        // The generator must be cheap, so body bytes are dropped in the kernel, never copied out.
        match sys::discard(&self.stream, left as usize)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            count => {
                self.phase = Phase::Body { left: left - count as u64 };
                Ok(())
            }
        }
    }
}
