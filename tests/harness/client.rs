//! Owns the raw client: it sends exactly the bytes it is given and reads answers with the strict reader.
//! Retries nothing, normalises nothing, and keeps no cookie jar.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use super::PATIENCE;
use super::wire::{Fault, Response, Wire};

pub struct Client {
    pub wire: Wire<TcpStream>,
    out: TcpStream,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        Client::try_connect(address).unwrap_or_else(|error| panic!("connect to {address}: {error}"))
    }

    pub fn try_connect(address: SocketAddr) -> std::io::Result<Client> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        Client::over(stream)
    }

    pub fn over(stream: TcpStream) -> std::io::Result<Client> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client { out: stream.try_clone()?, wire: Wire::new(stream) })
    }

    pub fn patience(&self, limit: Duration) {
        self.out.set_read_timeout(Some(limit)).expect("a positive timeout");
    }

    /// Sends what the peer still takes. A peer that has answered and closed is no error: the answer is judged.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.out.write_all(bytes).is_ok()
    }

    pub fn send_all(&mut self, bytes: &[u8]) {
        let _ = self.send(bytes);
    }

    /// One byte per segment, stopping early if the peer has already answered.
    pub fn send_bytewise(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.answered() || !self.send(std::slice::from_ref(byte)) {
                return;
            }
        }
    }

    /// Whether the peer has sent or closed something that is not read yet.
    pub fn answered(&self) -> bool {
        let mut byte = [0u8; 1];
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        // SAFETY: the pointer and the length describe `byte`, which outlives the call; the descriptor is open.
        unsafe { libc::recv(self.out.as_raw_fd(), byte.as_mut_ptr().cast(), 1, flags) >= 0 }
    }

    pub fn request(&mut self, method: &str, raw: &[u8]) -> Result<Response, Fault> {
        if !self.send(raw) && !self.answered() {
            return Err(Fault::Reset);
        }
        self.wire.read_response(method)
    }

    /// A GET on this connection, kept alive.
    pub fn get(&mut self, path: &str) -> Result<Response, Fault> {
        self.get_with(path, "")
    }

    /// `fields` are whole lines with their CRLF.
    pub fn get_with(&mut self, path: &str, fields: &str) -> Result<Response, Fault> {
        self.request("GET", format!("GET {path} HTTP/1.1\r\nHost: test.example\r\n{fields}\r\n").as_bytes())
    }

    pub fn post(&mut self, path: &str, body: &[u8]) -> Result<Response, Fault> {
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: test.example\r\nContent-Length: {}\r\n\r\n", body.len());
        self.request("POST", &[head.as_bytes(), body].concat())
    }

    /// Everything until the peer closes.
    pub fn read_to_close(&mut self) -> Result<Vec<u8>, Fault> {
        while self.wire.fill()? {}
        Ok(std::mem::take(&mut self.wire.buffer))
    }

    /// Whether the peer closes (or resets) without saying anything more.
    pub fn closes_silently(&mut self) -> Result<(), String> {
        match self.read_to_close() {
            Ok(rest) if rest.is_empty() => Ok(()),
            Ok(rest) => Err(format!("more bytes before the close: {}", super::show(&rest))),
            Err(Fault::Reset) => Ok(()),
            Err(fault) => Err(format!("{fault:?} instead of a close")),
        }
    }

    pub fn half_close(&self) {
        let _ = self.out.shutdown(Shutdown::Write);
    }

    /// Closes with a reset.
    pub fn reset(self) {
        linger_zero(&self.out);
    }

    /// The receive buffer, so that a client that reads nothing backs up early.
    pub fn small_receive_buffer(&self) {
        set_option(&self.out, libc::SOL_SOCKET, libc::SO_RCVBUF, 4096);
    }

    pub fn raw(&self) -> &TcpStream {
        &self.out
    }

    /// Reads what is there, at most `limit` bytes, without interpretation.
    pub fn read_some(&mut self, limit: usize) -> Result<Vec<u8>, Fault> {
        if !self.wire.buffer.is_empty() {
            let count = limit.min(self.wire.buffer.len());
            return Ok(self.wire.buffer.drain(..count).collect());
        }
        let mut piece = vec![0; limit];
        let count = self.wire.source.read(&mut piece)?;
        piece.truncate(count);
        Ok(piece)
    }
}

/// One GET on a connection of its own; panics unless an answer comes.
pub fn get(address: SocketAddr, path: &str) -> Response {
    let mut client = Client::connect(address);
    client.get_with(path, "Connection: close\r\n").unwrap_or_else(|fault| panic!("GET {path}: {fault:?}"))
}

/// Makes the close of this socket a reset.
pub fn linger_zero(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the pointer and the length describe `linger`, which outlives the call; the descriptor is open.
    unsafe {
        let size = std::mem::size_of::<libc::linger>() as libc::socklen_t;
        let value = std::ptr::from_ref(&linger).cast();
        libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value, size);
    }
}

fn set_option(stream: &TcpStream, level: i32, name: i32, value: i32) {
    // SAFETY: the pointer and the length describe `value`, which outlives the call; the descriptor is open.
    unsafe {
        let size = std::mem::size_of::<i32>() as libc::socklen_t;
        libc::setsockopt(stream.as_raw_fd(), level, name, std::ptr::from_ref(&value).cast(), size);
    }
}
