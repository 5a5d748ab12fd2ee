//! Owns what only a client's side of a connection does: it opens streams with requests, takes the heads of responses, and
//! hears which of its streams are not served any more.

use std::rc::Rc;
use std::time::Instant;

use super::super::frame::{self, Code, Kind, WINDOW_MAX, setting};
use super::super::head::{Limits, each_field};
use super::super::stream::{Asked, State, Stream};
use super::receive::Done;
use super::{Connection, Ending, Key, Role, STREAM_WINDOW};
use crate::runtime::buffer::BufferPool;

/// Streams that we open before the server has said how many it takes: RFC 9113 §6.5.2 has no bound, and servers have.
pub const STREAMS_ASSUMED: u32 = 1;
/// Streams that we open at once, whatever it takes.
pub const STREAMS_OPEN_MAX: u32 = 1024;
/// Heads of one response, informational ones included, that wait to be taken.
const HEADS_BYTES_MAX: usize = 64 * 1024;

impl Connection {
    /// A client's side; its preface and SETTINGS wait to be sent. `limits` are those of responses.
    pub fn client(buffers: Rc<BufferPool>, limits: Limits, now: Instant) -> Connection {
        Connection::new(buffers, limits, Role::Client, &[(setting::ENABLE_PUSH, 0)], now)
    }

    /// Whether a stream may be opened now.
    pub fn may_open(&self) -> bool {
        let is_ending = self.ends_with.is_some() || self.peer.ends_with.is_some() || self.broken.is_some();
        let has_streams = self.open_streams() < self.peer.streams_max as usize;
        !is_ending && has_streams && self.last_stream < WINDOW_MAX - 1 && self.has_room()
    }

    /// Whether the server has sent its SETTINGS.
    pub fn knows_server(&self) -> bool {
        self.peer.are_known
    }

    /// Whether the server takes CONNECT with a protocol (RFC 8441); `None` before it has said anything.
    pub fn takes_protocols(&self) -> Option<bool> {
        self.peer.are_known.then_some(self.peer.takes_protocols)
    }

    /// Opens a stream with this request, an HTTP/1.1 head that is valid already; `is_end`: it has no content. With a
    /// `protocol` it asks for a change to that, and what follows is a tunnel's. `None` if no stream may be opened.
    pub fn request(
        &mut self,
        head: &[u8],
        scheme: &[u8],
        protocol: Option<&[u8]>,
        is_end: bool,
    ) -> Option<Key> {
        if !self.may_open() {
            return None;
        }
        let request = Request::of(head)?;
        let id = if self.last_stream == 0 { 1 } else { self.last_stream + 2 };
        self.last_stream = id;
        let state = if is_end { State::HalfClosedLocal } else { State::Open };
        let mut stream = Stream::new(id, state, self.peer.initial_window, STREAM_WINDOW);
        stream.asked = Some(Box::new(Asked {
            awaits_head: true,
            is_head: request.method == b"HEAD",
            begins_at: self.sent_bytes + self.output().len() as u64,
            ..Asked::default()
        }));
        let begin = self.out.len();
        frame::begin(&mut self.out, 0, Kind::Headers, 0, id);
        let Connection { encoder, out, .. } = self;
        encoder.begin(out);
        let mut field = |name: &[u8], value: &[u8]| encoder.field(name, value, out);
        request.each_field(scheme, protocol, &mut field);
        self.frame_block(begin, id, is_end);
        self.calm.useful();
        Some(self.insert(stream))
    }

    /// Heads of the response that nobody has taken: informational ones, and the final one behind them.
    pub fn take_heads(&mut self, key: Key) -> Vec<u8> {
        let asked = self.stream_mut(key).and_then(|stream| stream.asked.as_mut());
        asked.map(|asked| std::mem::take(&mut asked.heads)).unwrap_or_default()
    }

    /// Whether no byte of the request has been sent, or the server says that it has looked at none.
    pub fn is_unseen(&self, key: Key) -> bool {
        let asked = self.stream(key).and_then(|stream| stream.asked.as_ref());
        asked.is_some_and(|asked| asked.is_unseen || asked.begins_at >= self.sent_bytes)
    }

    /// Whether we have reset it for what the server sent.
    pub fn is_malformed(&self, key: Key) -> bool {
        let asked = self.stream(key).and_then(|stream| stream.asked.as_ref());
        asked.is_some_and(|asked| asked.is_malformed)
    }

    pub(super) fn awaits_head(&self, key: Key) -> bool {
        let asked = self.stream(key).and_then(|stream| stream.asked.as_ref());
        asked.is_some_and(|asked| asked.awaits_head)
    }

    /// The lines are the head of a response, an informational or the final one.
    pub(super) fn response(&mut self, key: Key, is_end: bool, is_too_large: bool) -> Done {
        let Connection { streams, lines, .. } = self;
        let Some(Some(stream)) = streams.get_mut(key.0 as usize) else { return Ok(()) };
        let id = stream.id;
        let may_receive = stream.state.may_receive();
        let Some(asked) = &mut stream.asked else { return Ok(()) };
        if !may_receive {
            return self.stream_error(id, Code::StreamClosed);
        }
        let rendered = lines.response(is_end, asked.is_head, &mut asked.heads);
        let has_room = !is_too_large && asked.heads.len() <= HEADS_BYTES_MAX;
        let Ok(response) = rendered else { return self.stream_error(id, Code::Protocol) };
        if !has_room {
            return self.stream_error(id, Code::EnhanceYourCalm);
        }
        if response.status >= 200 {
            asked.awaits_head = false;
            stream.expected = response.length;
            if is_end && !stream.count(0, true) {
                return self.stream_error(id, Code::Protocol);
            }
        }
        self.calm.useful();
        if is_end {
            self.deliver(key, &[], true);
        } else {
            self.input(key);
        }
        Ok(())
    }

    /// GOAWAY (RFC 9113 §6.8): the server serves no streams beyond `last`, and takes no new ones.
    pub(super) fn server_ends(&mut self, last: u32) {
        let last = self.peer.ends_with.map_or(last, |known| known.min(last));
        self.peer.ends_with = Some(last);
        let mut unseen = Vec::new();
        for (place, stream) in self.streams.iter_mut().enumerate() {
            let Some(stream) = stream.as_mut().filter(|stream| stream.id > last) else { continue };
            let is_over = matches!(stream.state, State::Closed | State::Reset(_));
            let Some(asked) = stream.asked.as_mut().filter(|_| !is_over) else { continue };
            asked.is_unseen = asked.awaits_head;
            stream.state = State::Reset(Code::RefusedStream);
            stream.received = None;
            unseen.push((stream.id, Key(place as u32)));
        }
        for (id, key) in unseen {
            self.forget(id, Ending::ResetByUs);
            self.sends_no_more(key);
            self.input(key);
        }
    }
}

/// What of an HTTP/1.1 head becomes pseudo-header fields (RFC 9113 §8.3.1), and the lines behind it.
struct Request<'h> {
    method: &'h [u8],
    target: &'h [u8],
    fields: &'h [u8],
}

impl<'h> Request<'h> {
    fn of(head: &'h [u8]) -> Option<Request<'h>> {
        let end = head.iter().position(|&byte| byte == b'\n')?;
        let mut words = head[..end].split(|&byte| byte == b' ');
        let (method, target) = (words.next()?, words.next()?);
        Some(Request { method, target, fields: &head[end + 1..] })
    }

    fn each_field(&self, scheme: &[u8], protocol: Option<&[u8]>, field: &mut impl FnMut(&[u8], &[u8])) {
        if protocol.is_none() && self.method == b"CONNECT" {
            field(b":method", self.method);
            field(b":authority", self.target);
        } else {
            match protocol {
                None => field(b":method", self.method),
                Some(protocol) => {
                    field(b":method", b"CONNECT");
                    field(b":protocol", protocol);
                }
            }
            field(b":scheme", scheme);
            if let Some(host) = self.host() {
                field(b":authority", host);
            }
            field(b":path", self.target);
        }
        each_field(self.fields, |name, value| {
            // The stream itself is the handshake (RFC 8441 §5).
            let is_handshakes = protocol.is_some() && name.eq_ignore_ascii_case(b"sec-websocket-key");
            if is_handshakes || name.eq_ignore_ascii_case(b"host") {
                return;
            }
            if !name.eq_ignore_ascii_case(b"cookie") {
                return field(name, value);
            }
            // Each for itself, so that those that stay cost a byte (RFC 9113 §8.2.3).
            let mut rest = value;
            while let Some(end) = rest.windows(2).position(|pair| pair == b"; ") {
                field(b"cookie", &rest[..end]);
                rest = &rest[end + 2..];
            }
            field(b"cookie", rest);
        });
    }

    fn host(&self) -> Option<&'h [u8]> {
        // It stands first, unless an edit has set it.
        self.fields.split(|&byte| byte == b'\n').find_map(|line| {
            let (name, value) = line.split_at_checked(5)?;
            name.eq_ignore_ascii_case(b"host:").then(|| value.trim_ascii())
        })
    }
}
