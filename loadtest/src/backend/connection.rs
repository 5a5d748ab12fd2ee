//! One connection of the backend: reads requests, sinks bodies, writes answers, one after another.
//! Owns the connection's state and its unwritten bytes; the event loop decides when it is called.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::answer::{self, Answer, Answers, Transfer};
use super::request::{Chunks, Framing, Request, head_length};
use crate::sys;

const READ_BYTES: usize = 64 << 10;
const HEAD_BYTES_MAX: usize = 64 << 10;
/// A stream whose client stopped reading is dropped beyond this.
const UNWRITTEN_BYTES_MAX: usize = 1 << 20;
/// Body bytes that one discard may drop, so that one upload does not starve the others.
const DISCARD_BYTES: usize = 1 << 20;

/// What a thread's connections share: the buffers in use only during a call, and the answers.
pub struct Shared {
    pub answers: Arc<Answers>,
    requests: Arc<AtomicU64>,
    read: Vec<u8>,
    out: Vec<u8>,
}

impl Shared {
    pub fn new(answers: Arc<Answers>, requests: Arc<AtomicU64>) -> Self {
        Self { answers, requests, read: vec![0; READ_BYTES], out: Vec::with_capacity(READ_BYTES) }
    }
}

/// What a connection waits for next.
pub enum Step {
    Read,
    Write,
    Close,
}

/// What the connection is doing.
///
/// `Idle` → request → (`Sinking` its body →) answer → `Idle`, or `Sending` a large one → `Idle`,
/// or `Streaming` events, which ends in `Idle` when a count was asked for, or `Echoing`.
enum State {
    Idle,
    Sinking(Upload),
    Sending(Transfer),
    Streaming(Stream),
    /// Of a WebSocket, to its end.
    Echoing,
}

struct Upload {
    rest: Rest,
    received: u64,
    /// Answered when the body has ended.
    target: String,
}

enum Rest {
    Length(u64),
    Chunked(Chunks),
}

struct Stream {
    interval: Duration,
    due: Instant,
    left: Option<u64>,
    announced: bool,
}

pub struct Connection {
    pub stream: TcpStream,
    pub waits_to_write: bool,
    state: State,
    /// Received bytes not used yet: part of a head, or requests behind one still being answered.
    input: Vec<u8>,
    /// Answer bytes that the socket did not take.
    unwritten: Vec<u8>,
    close: bool,
}

impl Connection {
    pub fn new(stream: TcpStream) -> Self {
        let (input, unwritten) = (Vec::new(), Vec::new());
        Self { stream, waits_to_write: false, state: State::Idle, input, unwritten, close: false }
    }

    /// Goes on as far as the socket allows.
    pub fn advance(&mut self, shared: &mut Shared) -> Step {
        match self.try_advance(shared) {
            Ok(step) => step,
            Err(_) => Step::Close,
        }
    }

    /// True once, when the connection has begun to stream events.
    pub fn begins_stream(&mut self) -> bool {
        match &mut self.state {
            State::Streaming(stream) if !stream.announced => {
                stream.announced = true;
                true
            }
            _ => false,
        }
    }

    /// Sends the events that are due; false when the stream has ended.
    pub fn stream_events(&mut self, now: Instant, event: &[u8], shared: &Shared) -> io::Result<bool> {
        let State::Streaming(stream) = &mut self.state else { return Ok(false) };
        let mut out = Vec::new();
        while stream.due <= now && stream.left != Some(0) {
            stream.due += stream.interval;
            stream.left = stream.left.map(|left| left - 1);
            shared.requests.fetch_add(1, Ordering::Relaxed);
            out.extend_from_slice(event);
        }
        let ended = stream.left == Some(0);
        if ended {
            out.extend_from_slice(b"0\r\n\r\n");
            self.state = State::Idle;
        }
        if !out.is_empty() {
            self.write(&out)?;
        }
        if self.unwritten.len() > UNWRITTEN_BYTES_MAX || (ended && self.close) {
            return Err(ErrorKind::BrokenPipe.into());
        }
        Ok(!ended)
    }

    fn try_advance(&mut self, shared: &mut Shared) -> io::Result<Step> {
        loop {
            if !self.flush()? {
                return Ok(Step::Write);
            }
            if self.close && matches!(self.state, State::Idle) {
                return Ok(Step::Close);
            }
            let progressed = match self.state {
                State::Sending(_) => {
                    if !self.send(shared)? {
                        return Ok(Step::Write);
                    }
                    self.serve_leftover(shared)?
                }
                State::Sinking(Upload { rest: Rest::Length(_), .. }) => self.sink(shared)?,
                _ => self.receive(shared)?,
            };
            if !progressed {
                // Whatever is left to do or to close is seen by the loop's head; nothing more can be read now.
                if !self.unwritten.is_empty() {
                    return Ok(Step::Write);
                }
                return Ok(if self.close && matches!(self.state, State::Idle) {
                    Step::Close
                } else {
                    Step::Read
                });
            }
        }
    }

    /// Reads once and serves what came; false when the socket has no more for now.
    fn receive(&mut self, shared: &mut Shared) -> io::Result<bool> {
        let mut buffer = std::mem::take(&mut shared.read);
        let result = self.receive_into(&mut buffer, shared);
        shared.read = buffer;
        result
    }

    fn receive_into(&mut self, buffer: &mut [u8], shared: &mut Shared) -> io::Result<bool> {
        let count = match self.stream.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        if self.input.is_empty() {
            let used = self.serve(&buffer[..count], shared)?;
            self.input.extend_from_slice(&buffer[used..count]);
        } else {
            self.input.extend_from_slice(&buffer[..count]);
            self.serve_leftover(shared)?;
        }
        if self.input.len() > HEAD_BYTES_MAX + READ_BYTES {
            return Err(ErrorKind::InvalidData.into());
        }
        // A short read emptied the socket, so a second one would only cost a call, unless work was left.
        Ok(count == buffer.len() || matches!(self.state, State::Sending(_) | State::Sinking(_)))
    }

    fn serve_leftover(&mut self, shared: &mut Shared) -> io::Result<bool> {
        let input = std::mem::take(&mut self.input);
        let used = self.serve(&input, shared)?;
        self.input = input;
        self.input.drain(..used);
        Ok(used > 0 || !matches!(self.state, State::Idle))
    }

    /// Answers the requests in `input` and writes the answers at once. Returns the bytes used.
    fn serve(&mut self, input: &[u8], shared: &mut Shared) -> io::Result<usize> {
        let mut out = std::mem::take(&mut shared.out);
        out.clear();
        let mut used = 0;
        let mut result = Ok(());
        while used < input.len() && result.is_ok() {
            match &mut self.state {
                State::Sinking(upload) => {
                    let (taken, ended) = upload.feed(&input[used..]);
                    used += taken;
                    if !ended {
                        break;
                    }
                    self.finish_upload(shared, &mut out);
                }
                State::Echoing => {
                    out.extend_from_slice(&input[used..]);
                    used = input.len();
                    shared.requests.fetch_add(1, Ordering::Relaxed);
                }
                State::Idle if !self.close => {
                    let Some(length) = head_length(&input[used..]) else { break };
                    result = self.begin(&input[used..used + length], shared, &mut out);
                    used += length;
                }
                _ => break,
            }
        }
        if !out.is_empty() && result.is_ok() {
            result = self.write(&out);
        }
        shared.out = out;
        result.map(|()| used)
    }

    fn begin(&mut self, head: &[u8], shared: &Shared, out: &mut Vec<u8>) -> io::Result<()> {
        let request = Request::parse(head).ok_or(ErrorKind::InvalidData)?;
        self.close = request.close;
        let rest = match request.framing {
            Framing::None | Framing::Length(0) => {
                self.answer(&request, head, shared, out);
                return Ok(());
            }
            Framing::Length(length) => Rest::Length(length),
            Framing::Chunked => Rest::Chunked(Chunks::START),
        };
        if request.expects_continue {
            out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        self.state = State::Sinking(Upload { rest, received: 0, target: request.target.to_owned() });
        Ok(())
    }

    fn answer(&mut self, request: &Request, head: &[u8], shared: &Shared, out: &mut Vec<u8>) {
        let start = out.len();
        let answer = Answer::for_target(request.target);
        if !matches!(answer, Answer::Count) {
            shared.requests.fetch_add(1, Ordering::Relaxed);
        }
        match answer {
            Answer::Small => out.extend_from_slice(&shared.answers.small),
            Answer::Count => {
                answer::text(200, shared.requests.load(Ordering::Relaxed).to_string().as_bytes(), out);
            }
            Answer::EchoHead => answer::text(200, head, out),
            Answer::Upload => answer::text(200, b"0", out),
            Answer::Bytes(size) => self.send_later(shared.answers.bytes(size, out)),
            Answer::Chunked(size) => self.send_later(shared.answers.chunked(size, out)),
            Answer::Echo => {
                out.extend_from_slice(
                    b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
                );
                self.state = State::Echoing;
            }
            Answer::Events { rate, count } => {
                answer::events_head(out);
                let interval = Duration::from_secs_f64(1.0 / rate);
                let due = Instant::now() + interval;
                self.state = State::Streaming(Stream { interval, due, left: count, announced: false });
            }
            Answer::NotFound => answer::text(404, b"no such path\n", out),
        }
        if self.close {
            // Without it a client would take our close for a failure.
            let headers =
                out[start..].iter().position(|&byte| byte == b'\n').map_or(out.len(), |end| start + end + 1);
            out.splice(headers..headers, *b"connection: close\r\n");
        }
        if request.is_head {
            self.state = State::Idle;
            let end = head_length(&out[start..]).map_or(out.len(), |length| start + length);
            out.truncate(end);
        }
    }

    fn send_later(&mut self, transfer: Option<Transfer>) {
        if let Some(transfer) = transfer {
            self.state = State::Sending(transfer);
        }
    }

    fn finish_upload(&mut self, shared: &Shared, out: &mut Vec<u8>) {
        let State::Sinking(upload) = std::mem::replace(&mut self.state, State::Idle) else { return };
        shared.requests.fetch_add(1, Ordering::Relaxed);
        match Answer::for_target(&upload.target) {
            Answer::Small => out.extend_from_slice(&shared.answers.small),
            Answer::NotFound => answer::text(404, b"no such path\n", out),
            _ => answer::text(200, upload.received.to_string().as_bytes(), out),
        }
    }

    /// Drops body bytes in the kernel; false when the socket has no more for now.
    fn sink(&mut self, shared: &mut Shared) -> io::Result<bool> {
        let State::Sinking(upload) = &mut self.state else { return Ok(false) };
        let Rest::Length(left) = &mut upload.rest else { return Ok(false) };
        match sys::discard(&self.stream, (*left).min(DISCARD_BYTES as u64) as usize) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                *left -= count as u64;
                upload.received += count as u64;
                if *left > 0 {
                    // The rest, if any is there already, raises the next event (level triggered).
                    return Ok(false);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
        let mut out = Vec::new();
        self.finish_upload(shared, &mut out);
        self.write(&out)?;
        Ok(false)
    }

    /// Writes the large body; true when all of it is out.
    fn send(&mut self, shared: &Shared) -> io::Result<bool> {
        let State::Sending(transfer) = &mut self.state else { return Ok(true) };
        loop {
            let next = transfer.next(&shared.answers);
            if next.is_empty() {
                self.state = State::Idle;
                return Ok(true);
            }
            match self.stream.write(next) {
                Ok(count) => transfer.wrote(count, &shared.answers),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes now what fits and keeps the rest.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        if self.unwritten.is_empty() {
            written = match self.stream.write(bytes) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
        }
        self.unwritten.extend_from_slice(&bytes[written..]);
        Ok(())
    }

    /// True when nothing is left from earlier answers.
    fn flush(&mut self) -> io::Result<bool> {
        if self.unwritten.is_empty() {
            return Ok(true);
        }
        match self.stream.write(&self.unwritten) {
            Ok(count) => drop(self.unwritten.drain(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(self.unwritten.is_empty())
    }
}

impl Upload {
    /// Takes body bytes out of `input`: how many, and whether the body has ended.
    fn feed(&mut self, input: &[u8]) -> (usize, bool) {
        match &mut self.rest {
            Rest::Length(left) => {
                let taken = (*left).min(input.len() as u64);
                *left -= taken;
                self.received += taken;
                (taken as usize, *left == 0)
            }
            Rest::Chunked(chunks) => {
                let (taken, bytes) = chunks.feed(input);
                self.received += bytes;
                (taken, matches!(chunks, Chunks::Done))
            }
        }
    }
}
