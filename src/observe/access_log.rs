//! Owns the access log on a core: one JSON line per request, gathered in a buffer and handed to the writer
//! thread in chunks. Never waits and never fails: a full queue drops the lines and counts them.
//! Does not write files (`observe::log_writer`).

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use crate::error::Kind;
use crate::observe::clock::{Clock, unix_ms_now};
use crate::observe::json::{append_string, append_thousandths, append_u64};
use crate::observe::log_writer::{Chunk, Message, Shared};

/// One request, borrowed from whoever served it. The time in the line is that of `AccessLog::record`: the
/// request's end.
#[derive(Debug, Clone, Copy)]
pub struct LogLine<'a> {
    pub request_id: &'a [u8],
    pub client: SocketAddr,
    pub listener: &'a str,
    /// Empty where the head could not be read, as are host and path.
    pub method: &'a [u8],
    pub host: &'a [u8],
    /// With the query.
    pub path: &'a [u8],
    pub protocol: &'a str,
    pub status: u16,
    pub route: Option<&'a str>,
    pub service: Option<&'a str>,
    /// Of the last try.
    pub endpoint: Option<&'a str>,
    pub tries: u32,
    pub duration: Duration,
    pub upstream_first_byte: Option<Duration>,
    /// Body bytes.
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub error: Option<Kind>,
    pub user_agent: Option<&'a [u8]>,
    /// Who has asked (`sub`), if somebody wanted to know and it was verified.
    pub user: Option<&'a str>,
}

/// One core's end of the access log. Made by `LogWriter::core` and moved to its worker.
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<Shared>,
    queue: SyncSender<Message>,
    buffer: RefCell<Vec<u8>>,
    lines: Cell<u32>,
    clock: Clock,
    /// Written buffers come back here.
    returned: Receiver<Vec<u8>>,
    home: SyncSender<Vec<u8>>,
}

impl AccessLog {
    pub(super) fn new(shared: Arc<Shared>, queue: SyncSender<Message>) -> Self {
        let (home, returned) = sync_channel(SPARE_BUFFERS_MAX);
        AccessLog {
            shared,
            queue,
            buffer: RefCell::new(Vec::with_capacity(BUFFER_BYTES)),
            lines: Cell::new(0),
            clock: Clock::default(),
            returned,
            home,
        }
    }

    /// Whether lines go anywhere; a caller may skip gathering what only the log needs.
    #[inline]
    pub fn enabled(&self) -> bool {
        self.shared.enabled.load(Relaxed)
    }

    pub fn record(&self, line: &LogLine<'_>) {
        if !self.enabled() {
            return;
        }
        let mut buffer = self.buffer.borrow_mut();
        append_line(line, &self.clock, unix_ms_now(), &mut buffer);
        self.lines.set(self.lines.get() + 1);
        if buffer.len() >= CHUNK_BYTES {
            self.hand_over(&mut buffer);
        }
    }

    /// Hands over what is there. A worker calls it every 100 ms and once before it ends.
    pub fn flush(&self) {
        let mut buffer = self.buffer.borrow_mut();
        if !buffer.is_empty() {
            self.hand_over(&mut buffer);
        }
    }

    fn hand_over(&self, buffer: &mut Vec<u8>) {
        let lines = self.lines.replace(0);
        let next = self.returned.try_recv().unwrap_or_else(|_| Vec::with_capacity(BUFFER_BYTES));
        let bytes = std::mem::replace(buffer, next);
        let chunk = Chunk { bytes, lines, home: self.home.clone() };
        if let Err(full) = self.queue.try_send(Message::Lines(chunk)) {
            self.shared.lines_dropped.fetch_add(u64::from(lines), Relaxed);
            self.take_back(full.into());
        }
    }

    fn take_back(&self, message: Message) {
        if let Message::Lines(chunk) = message {
            chunk.recycle();
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.flush();
    }
}

fn append_line(line: &LogLine<'_>, clock: &Clock, unix_ms: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"time\":\"");
    clock.append_rfc3339(unix_ms, out);
    text(b"\",\"request_id\":", line.request_id, out);
    out.extend_from_slice(b",\"client\":\"");
    append_address(line.client, out);
    text(b"\",\"listener\":", line.listener.as_bytes(), out);
    text(b",\"method\":", line.method, out);
    text(b",\"host\":", line.host, out);
    text(b",\"path\":", line.path, out);
    text(b",\"protocol\":", line.protocol.as_bytes(), out);
    number(b",\"status\":", line.status.into(), out);
    optional_text(b",\"route\":", line.route.map(str::as_bytes), out);
    optional_text(b",\"service\":", line.service.map(str::as_bytes), out);
    optional_text(b",\"endpoint\":", line.endpoint.map(str::as_bytes), out);
    number(b",\"tries\":", line.tries.into(), out);
    optional_ms(b",\"duration_ms\":", Some(line.duration), out);
    optional_ms(b",\"upstream_first_byte_ms\":", line.upstream_first_byte, out);
    number(b",\"request_bytes\":", line.request_bytes, out);
    number(b",\"response_bytes\":", line.response_bytes, out);
    optional_text(b",\"error\":", line.error.map(|kind| kind.word().as_bytes()), out);
    optional_text(b",\"user_agent\":", line.user_agent, out);
    if let Some(user) = line.user {
        optional_text(b",\"user\":", Some(user.as_bytes()), out);
    }
    out.extend_from_slice(b"}\n");
}

fn text(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(key);
    append_string(value, FIELD_BYTES_MAX, out);
}

/// Absent is `null`, so that every line has the same keys.
fn optional_text(key: &[u8], value: Option<&[u8]>, out: &mut Vec<u8>) {
    out.extend_from_slice(key);
    match value {
        Some(value) => append_string(value, FIELD_BYTES_MAX, out),
        None => out.extend_from_slice(b"null"),
    }
}

fn number(key: &[u8], value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(key);
    append_u64(value, out);
}

fn optional_ms(key: &[u8], value: Option<Duration>, out: &mut Vec<u8>) {
    out.extend_from_slice(key);
    match value {
        Some(value) => append_thousandths(
            value.as_secs().saturating_mul(1_000_000).saturating_add(value.subsec_micros().into()),
            out,
        ),
        None => out.extend_from_slice(b"null"),
    }
}

/// `192.0.2.1:443` or `[2001:db8::1]:443`. IPv4, also when mapped into IPv6 by a dual-stack listener, is
/// written by hand: `Display` costs more than the rest of a line's numbers together.
fn append_address(address: SocketAddr, out: &mut Vec<u8>) {
    match address.ip().to_canonical() {
        std::net::IpAddr::V4(ip) => {
            for (i, octet) in ip.octets().into_iter().enumerate() {
                if i > 0 {
                    out.push(b'.');
                }
                append_u64(octet.into(), out);
            }
        }
        std::net::IpAddr::V6(ip) => {
            use std::io::Write;
            // Writing to a Vec cannot fail.
            let _ = write!(out, "[{ip}]");
        }
    }
    // Of whom a header names, nobody knows the port.
    if address.port() != 0 {
        out.push(b':');
        append_u64(address.port().into(), out);
    }
}

/// A buffer this full is handed over without waiting for the next flush.
pub const CHUNK_BYTES: usize = 32 * 1024;
/// Longer values are cut: a line stays bounded whatever a client sends.
pub const FIELD_BYTES_MAX: usize = 8 * 1024;
/// A full chunk and a usual line.
const BUFFER_BYTES: usize = CHUNK_BYTES + 2 * 1024;
const SPARE_BUFFERS_MAX: usize = 4;

#[cfg(test)]
#[path = "access_log_tests.rs"]
mod tests;
