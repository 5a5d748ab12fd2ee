//! Closed-loop load of WebSockets: each sends a small message and waits for its echo, again and again. What is sent are
//! whole frames; what comes back is counted, not parsed.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::Outcome;
use super::response::Head;
use crate::histogram::Histogram;
use crate::sys::{self, EPOLLIN, Epoll};

const ANSWER_LIMIT: Duration = Duration::from_secs(5);
const WAIT_MAX: Duration = Duration::from_millis(100);

struct Socket {
    stream: TcpStream,
    awaited: usize,
    sent: Instant,
}

pub fn run(
    address: SocketAddr,
    sockets: usize,
    message_bytes: usize,
    duration: Duration,
) -> io::Result<Outcome> {
    let frame = frame(message_bytes);
    let epoll = Epoll::new()?;
    let mut open = Vec::new();
    for index in 0..sockets {
        let stream = switch(address)?;
        stream.set_nonblocking(true)?;
        epoll.add(&stream, EPOLLIN, index as u64)?;
        let mut socket = Socket { stream, awaited: frame.len(), sent: Instant::now() };
        socket.stream.write_all(&frame)?;
        open.push(Some(socket));
    }
    let mut outcome = Outcome::default();
    let mut delays = Histogram::new();
    let mut buffer = [0; 4096];
    let mut events = [sys::NO_EVENT; 256];
    let begin = Instant::now();
    while begin.elapsed() < duration {
        let count = epoll.wait(&mut events, Some(WAIT_MAX))?;
        for event in &events[..count] {
            let Some(socket) = open[event.u64 as usize].as_mut() else { continue };
            match advance(socket, &frame, &mut buffer, &mut delays) {
                Ok(messages) => outcome.requests += messages,
                Err(_) => {
                    outcome.errors += 1;
                    open[event.u64 as usize] = None;
                }
            }
        }
    }
    outcome.elapsed = begin.elapsed();
    outcome.body_bytes = outcome.requests * message_bytes as u64;
    (outcome.p50_us, outcome.p99_us) = (delays.percentile_us(50.0), delays.percentile_us(99.0));
    Ok(outcome)
}

fn advance(socket: &mut Socket, frame: &[u8], buffer: &mut [u8], delays: &mut Histogram) -> io::Result<u64> {
    let most = socket.awaited.min(buffer.len());
    match socket.stream.read(&mut buffer[..most]) {
        Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
        Ok(count) => socket.awaited -= count,
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        Err(error) => return Err(error),
    }
    if socket.awaited > 0 {
        return Ok(0);
    }
    delays.record(socket.sent.elapsed());
    (socket.awaited, socket.sent) = (frame.len(), Instant::now());
    socket.stream.write_all(frame)?;
    Ok(1)
}

/// RFC 6455 §4.1.
fn switch(address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    let request = format!(
        "GET /socket HTTP/1.1\r\nhost: {address}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let (mut received, mut byte) = (Vec::new(), [0]);
    loop {
        stream.read_exact(&mut byte)?;
        received.push(byte[0]);
        match Head::parse(&received)? {
            Some(head) if head.status == 101 => return Ok(stream),
            Some(head) => return Err(io::Error::other(format!("status {}", head.status))),
            None => {}
        }
    }
}

/// A binary frame of a client, masked with zeros. Up to 125 bytes fit its short form.
fn frame(message_bytes: usize) -> Vec<u8> {
    assert!(message_bytes <= 125, "the short form of a frame");
    [&[0x82, 0x80 | message_bytes as u8, 0, 0, 0, 0][..], &vec![b'm'; message_bytes]].concat()
}
