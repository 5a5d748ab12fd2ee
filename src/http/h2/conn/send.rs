//! Owns our half of a connection: heads, payload within the windows, resets, and the end.

use super::super::frame::{self, Code, HEADER_BYTES, Kind, WINDOW_MAX};
use super::super::head::each_field;
use super::super::stream::State;
use super::{Broken, Connection, Ending, Key, Reading, Role, STREAM_WINDOW};

impl Connection {
    /// Queues a response's head: `fields` are HTTP/1 lines, without those that are an HTTP/1 connection's own. Nothing
    /// happens on a stream that has ended.
    pub fn send_head(&mut self, key: Key, status: u16, fields: &[u8], is_end: bool) {
        self.send_fields(key, Some(status), fields, is_end);
    }

    /// Queues trailers, which end the stream.
    pub fn send_trailers(&mut self, key: Key, fields: &[u8]) {
        self.send_fields(key, None, fields, true);
    }

    fn send_fields(&mut self, key: Key, status: Option<u16>, fields: &[u8], is_end: bool) {
        let Some(stream) = self.stream(key) else { return };
        let id = stream.id;
        if !stream.state.may_send() || self.broken.is_some() {
            return;
        }
        let begin = self.out.len();
        frame::begin(&mut self.out, 0, Kind::Headers, 0, id);
        let Connection { encoder, out, .. } = self;
        encoder.begin(out);
        if let Some(status) = status {
            encoder.status(status, out);
        }
        each_field(fields, |name, value| encoder.field(name, value, out));
        self.frame_block(begin, id, is_end);
        self.calm.useful();
        if is_end {
            self.we_end(key);
        }
    }

    /// The block lies behind a frame's first nine bytes: fills them in, and cuts the block where it is longer than a frame.
    pub(super) fn frame_block(&mut self, begin: usize, id: u32, is_end: bool) {
        let most = self.peer.frame_bytes_max;
        let block = self.out.len() - begin - HEADER_BYTES;
        let end_flag = if is_end { frame::END_STREAM } else { 0 };
        if block <= most {
            let header = frame::header(block, Kind::Headers, end_flag | frame::END_HEADERS, id);
            self.out[begin..begin + HEADER_BYTES].copy_from_slice(&header);
            return;
        }
        let block = self.out.split_off(begin + HEADER_BYTES);
        self.out.truncate(begin);
        let mut pieces = block.chunks(most).peekable();
        let (mut kind, mut flags) = (Kind::Headers, end_flag);
        while let Some(piece) = pieces.next() {
            flags |= if pieces.peek().is_none() { frame::END_HEADERS } else { 0 };
            frame::begin(&mut self.out, piece.len(), kind, flags, id);
            self.out.extend_from_slice(piece);
            (kind, flags) = (Kind::Continuation, 0);
        }
    }

    /// Queues as much of `payload` as windows and room allow, at most one frame; returns how much that was. `is_end`: nothing
    /// follows it. 0 of more means that an `Event::Room` will come, or that the stream has ended.
    pub fn send_data(&mut self, key: Key, payload: &[u8], is_end: bool) -> usize {
        let (has_room, others_come_first) = (self.has_room(), self.grants > 0);
        let window = usize::try_from(self.send_window).unwrap_or(0);
        let frame_bytes_max = self.peer.frame_bytes_max;
        let Some(Some(stream)) = self.streams.get_mut(key.0 as usize) else { return 0 };
        if !stream.state.may_send() || self.broken.is_some() {
            return 0;
        }
        let own_window = usize::try_from(stream.send_window).unwrap_or(0);
        let is_its_turn = stream.has_grant || !others_come_first;
        let shared = if has_room && is_its_turn { frame_bytes_max.min(window) } else { 0 };
        let count = payload.len().min(own_window).min(shared);
        let ends = is_end && count == payload.len() && has_room && is_its_turn;
        if count > 0 || ends {
            let (id, flags) = (stream.id, if ends { frame::END_STREAM } else { 0 });
            stream.send_window -= count as i64;
            self.send_window -= count as i64;
            frame::begin(&mut self.out, count, Kind::Data, flags, id);
            self.out.extend_from_slice(&payload[..count]);
            self.calm.useful();
        } else if own_window == 0 && !payload.is_empty() {
            stream.waits = true;
        } else if !stream.is_queued {
            stream.is_queued = true;
            self.waiting.push_back(key);
        }
        if ends {
            self.we_end(key);
        }
        self.give_up_grant(key);
        if self.send_window > 0 {
            self.wake_waiting();
        }
        count
    }

    /// Whether `send_data` of nothing, which ends the stream, has been taken.
    pub fn has_ended(&self, key: Key) -> bool {
        self.stream(key).is_none_or(|stream| !stream.state.may_send())
    }

    fn we_end(&mut self, key: Key) {
        let Some(stream) = self.stream_mut(key) else { return };
        stream.we_end();
        if stream.state == State::Closed {
            let id = stream.id;
            self.forget(id, Ending::Other);
            self.calm.completed();
        }
        self.sends_no_more(key);
    }

    /// So much of what was received is used: the peer may send as much again.
    pub fn credit(&mut self, key: Key, count: usize) {
        let Some(Some(stream)) = self.streams.get_mut(key.0 as usize) else { return };
        stream.taken += count as u32;
        // Not for every few bytes, and nothing for a stream on which nothing comes.
        if stream.taken >= STREAM_WINDOW / 2 && stream.state.may_receive() {
            stream.receive_window += stream.taken;
            frame::window_update(&mut self.out, stream.id, std::mem::take(&mut stream.taken));
        }
    }

    /// Its owner is done with the stream. What of it is not over is reset: `code` says why, where it is not that the answer
    /// is complete (RFC 9113 §8.1).
    pub fn release(&mut self, key: Key, code: Code) {
        // The place's next owner waits for nothing.
        self.sends_no_more(key);
        let Some(stream) = self.streams.get_mut(key.0 as usize).and_then(Option::take) else { return };
        if let Reading::Data { to, .. } = &mut self.reading {
            // The rest of a frame that is being received is nobody's, least of all the place's next owner's.
            *to = to.filter(|to| *to != key);
        }
        self.free.push(key.0);
        let is_answered = match self.role {
            Role::Server { .. } => State::HalfClosedLocal,
            Role::Client => State::HalfClosedRemote,
        };
        match stream.state {
            State::Closed | State::Reset(_) => {}
            state if state == is_answered => self.write_reset(stream.id, Code::NoError),
            _ => self.write_reset(stream.id, code),
        }
    }

    pub(super) fn write_reset(&mut self, id: u32, code: Code) {
        if self.broken.is_some() {
            return;
        }
        frame::reset_stream(&mut self.out, id, code);
        self.forget(id, Ending::ResetByUs);
    }

    /// Ends a stream for what the peer did on it.
    pub(super) fn stream_error(&mut self, id: u32, code: Code) -> Result<(), Broken> {
        if let Some(key) = self.place(id) {
            if let Some(stream) = self.stream_mut(key) {
                stream.state = State::Reset(code);
                stream.received = None;
                if let Some(asked) = &mut stream.asked {
                    asked.is_malformed = true;
                    asked.heads.clear();
                }
            }
            self.sends_no_more(key);
            self.input(key);
        }
        self.write_reset(id, code);
        self.count_reset()
    }

    /// Streams that a client opens and that come to nothing cost its server more than itself. We open no more than we like.
    pub(super) fn count_reset(&mut self) -> Result<(), Broken> {
        if self.role == Role::Client || self.calm.allows_reset() {
            return Ok(());
        }
        Err(self.break_off(Code::EnhanceYourCalm, "too many resets"))
    }

    /// A connection error: says so, and nothing more.
    pub(super) fn break_off(&mut self, code: Code, reason: &'static str) -> Broken {
        if self.broken.is_none() {
            self.broken = Some(code);
            // Never more than was said before (RFC 9113 §6.8).
            let last = self.ends_with.unwrap_or(self.last_stream);
            frame::go_away(&mut self.out, last, code, reason.as_bytes());
        }
        Broken { code, reason }
    }

    /// The peer has taken too long to complete what it began.
    pub fn give_up(&mut self) {
        self.break_off(Code::EnhanceYourCalm, "a frame or a field block that never ends");
    }

    /// Tells the peer to open no more streams; those that it has opened before it hears of that are served.
    pub fn announce_end(&mut self) {
        if self.broken.is_none() && self.ends_with.is_none() {
            frame::go_away(&mut self.out, WINDOW_MAX, Code::NoError, b"");
        }
    }

    /// No stream beyond those seen so far is served.
    pub fn end(&mut self) {
        if self.broken.is_none() && self.ends_with.is_none() {
            self.ends_with = Some(self.last_stream);
            frame::go_away(&mut self.out, self.last_stream, Code::NoError, b"");
        }
    }

    /// Whether nothing is to be done any more, once all is sent.
    pub fn is_over(&self) -> bool {
        let is_ending = self.ends_with.is_some() || self.peer.ends_with.is_some();
        self.broken.is_some() || (is_ending && self.open_streams() == 0)
    }
}
