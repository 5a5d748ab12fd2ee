//! What the backend answers: prebuilt small answers, and the source that large bodies are written from.
//! Owns the paths' meaning; writing to sockets is `connection`'s.

use std::time::{SystemTime, UNIX_EPOCH};

pub const BODY_BYTES_MAX: u64 = 64 << 20;
/// Bodies up to this size go out in one write with their head.
const INLINE_BYTES_MAX: usize = 16 << 10;
const CHUNK_BYTES: usize = 64 << 10;
const CHUNKS_IN_SOURCE: usize = 16;
/// A server-sent event, shaped as an LLM's token, around the time at which it is sent. `client::events`
/// counts `[` and reads the time behind it.
const EVENT_START: &str = "data: {\"choices\":[{\"at\":";
const EVENT_END: &str = ",\"delta\":{\"content\":\" tide\"}}]}\n\n";
/// Digits of the time, microseconds since 1970.
pub const EVENT_TIME_DIGITS: usize = 16;

/// What a target asks for.
pub enum Answer {
    Small,
    Count,
    EchoHead,
    Upload,
    Bytes(u64),
    Chunked(u64),
    /// A switch to WebSocket, of which every byte comes back.
    Echo,
    Events {
        rate: f64,
        count: Option<u64>,
    },
    NotFound,
}

impl Answer {
    pub fn for_target(target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if let Some(size) = path.strip_prefix("/bytes/") {
            return sized(size, Self::Bytes);
        }
        if let Some(size) = path.strip_prefix("/chunked/") {
            return sized(size, Self::Chunked);
        }
        match path {
            "/" => Self::Small,
            "/count" => Self::Count,
            "/echo-head" => Self::EchoHead,
            "/upload" => Self::Upload,
            "/socket" => Self::Echo,
            "/sse" => Self::Events {
                rate: parameter(query, "rate").unwrap_or(1.0_f64).clamp(0.001, 1000.0),
                count: parameter(query, "count").filter(|&count| count > 0),
            },
            _ => Self::NotFound,
        }
    }
}

fn sized(text: &str, answer: fn(u64) -> Answer) -> Answer {
    text.parse().ok().filter(|&size| size <= BODY_BYTES_MAX).map_or(Answer::NotFound, answer)
}

fn parameter<T: std::str::FromStr>(query: &str, name: &str) -> Option<T> {
    query.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name)?.1.parse().ok())
}

/// The static buffers that answers are written from.
pub struct Answers {
    pub small: Vec<u8>,
    pub plain: Vec<u8>,
    pub chunks: Vec<u8>,
}

impl Answers {
    pub fn new() -> Self {
        let plain = vec![b'x'; 1 << 20];
        let mut small = head(200, "text/plain", 1024);
        small.extend_from_slice(&plain[..1024]);
        let chunk = chunk(&plain[..CHUNK_BYTES]);
        Self { small, chunks: chunk.repeat(CHUNKS_IN_SOURCE), plain }
    }

    /// A body of known length: what goes out at once, and the rest as a transfer.
    pub fn bytes(&self, size: u64, out: &mut Vec<u8>) -> Option<Transfer> {
        out.extend_from_slice(&head(200, "application/octet-stream", size));
        if size as usize <= INLINE_BYTES_MAX {
            out.extend_from_slice(&self.plain[..size as usize]);
            return None;
        }
        Some(Transfer { chunked: false, position: 0, left: size, tail: Vec::new() })
    }

    /// A chunked body: whole chunks from the source, then one of the remaining size and the last chunk.
    pub fn chunked(&self, size: u64, out: &mut Vec<u8>) -> Option<Transfer> {
        out.extend_from_slice(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ntransfer-encoding: chunked\r\n\r\n",
        );
        let (whole, rest) = (size / CHUNK_BYTES as u64, (size % CHUNK_BYTES as u64) as usize);
        let mut tail = if rest > 0 { chunk(&self.plain[..rest]) } else { Vec::new() };
        tail.extend_from_slice(b"0\r\n\r\n");
        if whole == 0 {
            out.extend_from_slice(&tail);
            return None;
        }
        let left = whole * (self.chunks.len() / CHUNKS_IN_SOURCE) as u64;
        Some(Transfer { chunked: true, position: 0, left, tail })
    }
}

/// A body being written: `left` bytes of a source read round and round, then `tail`.
pub struct Transfer {
    chunked: bool,
    position: usize,
    left: u64,
    tail: Vec<u8>,
}

impl Transfer {
    /// The bytes to write next; empty at the end.
    pub fn next<'a>(&'a self, answers: &'a Answers) -> &'a [u8] {
        if self.left == 0 {
            return &self.tail;
        }
        let source = if self.chunked { &answers.chunks } else { &answers.plain };
        let end = source.len().min(self.position.saturating_add(self.left as usize));
        &source[self.position..end]
    }

    pub fn wrote(&mut self, bytes: usize, answers: &Answers) {
        if self.left == 0 {
            self.tail.drain(..bytes);
            return;
        }
        let source = if self.chunked { &answers.chunks } else { &answers.plain };
        self.left -= bytes as u64;
        self.position = (self.position + bytes) % source.len();
    }
}

pub fn text(status: u16, body: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&head(status, "text/plain", body.len() as u64));
    out.extend_from_slice(body);
}

/// X-Accel-Buffering asks nginx not to hold events back, as an application server would.
pub fn events_head(out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n\
          x-accel-buffering: no\r\ntransfer-encoding: chunked\r\n\r\n",
    );
}

/// One event in a chunk of its own.
pub fn event(now: SystemTime) -> Vec<u8> {
    let at_us = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    chunk(format!("{EVENT_START}{at_us:0EVENT_TIME_DIGITS$}{EVENT_END}").as_bytes())
}

fn head(status: u16, kind: &str, length: u64) -> Vec<u8> {
    let reason = if status == 200 { "OK" } else { "Not Found" };
    format!("HTTP/1.1 {status} {reason}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n")
        .into_bytes()
}

fn chunk(data: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}
