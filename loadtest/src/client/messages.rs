//! Closed-loop load of bidirectional gRPC streams, one on each connection: each sends a message and waits for as many bytes,
//! again and again.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::Outcome;
use crate::histogram::Histogram;
use crate::http2::{
    ACK, DATA, END_HEADERS, Frame, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, WINDOW,
    WINDOW_UPDATE, block, message, write, write_wide_open,
};
use crate::sys::{self, EPOLLIN, Epoll};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const WAIT_MAX: Duration = Duration::from_millis(100);
const STREAM: u32 = 1;

struct Call {
    stream: TcpStream,
    received: Vec<u8>,
    awaited: usize,
    sent: Instant,
    /// Of the stream and of the connection.
    windows: [i64; 2],
    initial_window: i64,
}

pub fn run(
    address: SocketAddr,
    calls: usize,
    message_bytes: usize,
    duration: Duration,
) -> io::Result<Outcome> {
    let message = message(message_bytes);
    let epoll = Epoll::new()?;
    let mut open = Vec::new();
    for index in 0..calls {
        let mut call = Call::begin(address)?;
        epoll.add(&call.stream, EPOLLIN, index as u64)?;
        call.say(&message)?;
        open.push(Some(call));
    }
    let mut outcome = Outcome::default();
    let mut delays = Histogram::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut events = [sys::NO_EVENT; 256];
    let begin = Instant::now();
    while begin.elapsed() < duration {
        let count = epoll.wait(&mut events, Some(WAIT_MAX))?;
        for event in &events[..count] {
            let Some(call) = open[event.u64 as usize].as_mut() else { continue };
            match call.advance(&message, &mut buffer, &mut delays) {
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

impl Call {
    fn begin(address: SocketAddr) -> io::Result<Call> {
        let mut stream = TcpStream::connect_timeout(&address, CONNECT_LIMIT)?;
        stream.set_nodelay(true)?;
        let mut out = PREFACE.to_vec();
        write_wide_open(&mut out);
        let authority = address.to_string();
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", &*authority),
            (":path", "/load.Test/Chat"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        write(&mut out, HEADERS, END_HEADERS, STREAM, &block(&fields));
        stream.write_all(&out)?;
        stream.set_nonblocking(true)?;
        Ok(Call {
            stream,
            received: Vec::new(),
            awaited: 0,
            sent: Instant::now(),
            windows: [WINDOW; 2],
            initial_window: WINDOW,
        })
    }

    fn say(&mut self, message: &[u8]) -> io::Result<()> {
        self.windows.iter_mut().for_each(|window| *window -= message.len() as i64);
        if self.windows.iter().any(|window| *window < 0) {
            return Err(io::Error::other("what was echoed was not credited"));
        }
        (self.awaited, self.sent) = (message.len(), Instant::now());
        let mut out = Vec::with_capacity(message.len() + 9);
        write(&mut out, DATA, 0, STREAM, message);
        self.stream.write_all(&out)
    }

    fn advance(&mut self, message: &[u8], buffer: &mut [u8], delays: &mut Histogram) -> io::Result<u64> {
        match self.stream.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => self.received.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error),
        }
        let (mut at, mut echoed) = (0, 0);
        let mut out = Vec::new();
        while let Some(frame) = Frame::parse(&self.received[at..]) {
            at += frame.bytes();
            match frame.kind {
                DATA => echoed += frame.payload.len(),
                SETTINGS if !frame.has(ACK) => {
                    let initial = frame.initial_window().unwrap_or(self.initial_window);
                    self.windows[0] += initial - self.initial_window;
                    self.initial_window = initial;
                    write(&mut out, SETTINGS, ACK, 0, &[]);
                }
                PING if !frame.has(ACK) => write(&mut out, PING, ACK, 0, frame.payload),
                WINDOW_UPDATE => self.windows[usize::from(frame.stream == 0)] += frame.increment(),
                RST_STREAM | GOAWAY => return Err(ErrorKind::ConnectionReset.into()),
                _ => {}
            }
        }
        self.received.drain(..at);
        self.stream.write_all(&out)?;
        self.awaited = self.awaited.checked_sub(echoed).ok_or(ErrorKind::InvalidData)?;
        if self.awaited > 0 {
            return Ok(0);
        }
        delays.record(self.sent.elapsed());
        self.say(message)?;
        Ok(1)
    }
}
