//! Owns the peer's half of a connection: every frame is judged, acted on, or refused with the error that RFC 9113 names, of
//! its stream or of the connection.

use std::time::Instant;

use super::super::frame::{
    self, Code, HEADER_BYTES, Header, Kind, PAYLOAD_BYTES_DEFAULT, WINDOW_MAX, be_u32, setting,
};
use super::super::hpack::BlockError;
use super::super::stream::{State, Stream};
use super::client::STREAMS_OPEN_MAX;
use super::{
    Block, Broken, CONNECTION_WINDOW, Connection, Ending, Event, Key, Opened, Reading, Role, STREAM_WINDOW,
};

/// Encoded field blocks are bounded, too: nobody needs more to say what fits into the decoded bound.
const BLOCK_BYTES_MAX: usize = 64 * 1024;
const CONTINUATIONS_MAX: u32 = 16;

pub(super) type Done = Result<(), Broken>;

impl Connection {
    /// Takes in what was received; returns how much of `input` is done with. The rest is to be presented again, with more
    /// behind it: at most one frame, of 16 KiB and 9 bytes.
    pub fn receive(&mut self, input: &[u8], now: Instant) -> Result<usize, Broken> {
        self.calm.turn(now);
        let mut at = 0;
        while self.broken.is_none() {
            let taken = self.receive_one(&input[at..])?;
            if taken == 0 {
                break;
            }
            at += taken;
        }
        Ok(at)
    }

    /// The next frame, or what there is of a DATA frame; 0 if more has to be there.
    fn receive_one(&mut self, input: &[u8]) -> Result<usize, Broken> {
        match self.reading {
            Reading::Preface => self.preface(input),
            Reading::Data { .. } => Ok(self.data(input)),
            Reading::First | Reading::Frame => self.frame(input),
        }
    }

    fn preface(&mut self, input: &[u8]) -> Result<usize, Broken> {
        let known = frame::PREFACE.len().min(input.len());
        if input[..known] != frame::PREFACE[..known] {
            return Err(self.break_off(Code::Protocol, "this is not HTTP/2"));
        }
        if known < frame::PREFACE.len() {
            return Ok(0);
        }
        self.reading = Reading::First;
        Ok(known)
    }

    fn frame(&mut self, input: &[u8]) -> Result<usize, Broken> {
        let Some(header) = Header::parse(input) else { return Ok(0) };
        if header.length > PAYLOAD_BYTES_DEFAULT {
            return Err(self.break_off(Code::FrameSize, "a frame is too large"));
        }
        if matches!(self.reading, Reading::First) && (header.kind != Kind::Settings || header.has(frame::ACK))
        {
            return Err(self.break_off(Code::Protocol, "the first frame is not SETTINGS"));
        }
        let continues = |block: &Block| header.kind == Kind::Continuation && header.stream == block.stream;
        if !self.block.as_ref().is_none_or(continues) {
            return Err(self.break_off(Code::Protocol, "a field block is interrupted"));
        }
        if header.kind == Kind::Data {
            return self.begin_data(header, &input[HEADER_BYTES..]);
        }
        let Some(payload) = input.get(HEADER_BYTES..HEADER_BYTES + header.length) else { return Ok(0) };
        self.reading = Reading::Frame;
        self.dispatch(header, payload)?;
        Ok(HEADER_BYTES + header.length)
    }

    fn dispatch(&mut self, header: Header, payload: &[u8]) -> Done {
        match header.kind {
            Kind::Headers => self.headers(header, payload),
            Kind::Continuation => self.continuation(header, payload),
            Kind::ResetStream => self.reset_stream(header, payload),
            Kind::Settings => self.settings(header, payload),
            Kind::WindowUpdate => self.window_update(header, payload),
            Kind::Ping => self.ping(header, payload),
            Kind::GoAway => self.go_away(header, payload),
            Kind::Priority => self.priority(header, payload),
            // Of a server, because our SETTINGS say so.
            Kind::PushPromise => Err(self.break_off(Code::Protocol, "PUSH_PROMISE, which nobody may send")),
            Kind::Data | Kind::Unknown => self.useless(),
        }
    }

    fn useless(&mut self) -> Done {
        match self.calm.allows_useless() {
            true => Ok(()),
            false => Err(self.break_off(Code::EnhanceYourCalm, "too many frames that serve nobody")),
        }
    }

    /// A stream that has never been used (RFC 9113 §5.1).
    pub(super) fn is_idle(&self, stream: u32) -> bool {
        stream > self.last_stream || stream.is_multiple_of(2)
    }

    fn needs_stream(&mut self, header: Header) -> Done {
        if header.stream == 0 {
            return Err(self.break_off(Code::Protocol, "a stream's frame on stream 0"));
        }
        Ok(())
    }

    fn needs_used_stream(&mut self, header: Header) -> Done {
        self.needs_stream(header)?;
        if self.is_idle(header.stream) {
            return Err(self.break_off(Code::Protocol, "a frame on an idle stream"));
        }
        Ok(())
    }

    fn needs_connection(&mut self, header: Header) -> Done {
        if header.stream != 0 {
            return Err(self.break_off(Code::Protocol, "a connection's frame on a stream"));
        }
        Ok(())
    }

    fn needs_length(&mut self, header: Header, length: usize) -> Done {
        if header.length != length {
            return Err(self.break_off(Code::FrameSize, "a frame of the wrong size"));
        }
        Ok(())
    }

    /// Judges a DATA frame by its header, before its payload comes.
    fn begin_data(&mut self, header: Header, behind: &[u8]) -> Result<usize, Broken> {
        self.needs_used_stream(header)?;
        let padded = header.has(frame::PADDED);
        let (padding, prefix) = match behind.first() {
            _ if !padded => (0, 0),
            Some(&padding) => (usize::from(padding), 1),
            None if header.length > 0 => return Ok(0),
            None => (0, 1),
        };
        if header.length < prefix {
            return Err(self.break_off(Code::FrameSize, "no room for the padding's length"));
        }
        let Some(payload) = header.length.checked_sub(padding + prefix) else {
            return Err(self.break_off(Code::Protocol, "more padding than frame"));
        };
        let length = header.length as u32;
        let Some(window) = self.receive_window.checked_sub(length) else {
            return Err(self.break_off(Code::FlowControl, "more than the connection's window"));
        };
        self.receive_window = window;
        if self.receive_window <= CONNECTION_WINDOW / 2 {
            frame::window_update(&mut self.out, 0, CONNECTION_WINDOW - self.receive_window);
            self.receive_window = CONNECTION_WINDOW;
        }
        let is_end = header.has(frame::END_STREAM);
        let to = self.data_goes_to(header, payload, is_end)?;
        match payload {
            1.. if to.is_some() => self.calm.useful(),
            _ if is_end && to.is_some() => {}
            _ => self.useless()?,
        }
        self.reading = Reading::Data { to, payload, padding, is_end };
        self.data(&[]);
        Ok(HEADER_BYTES + prefix)
    }

    /// The stream that takes a DATA frame; `None` if nobody does, which is no fault of the connection's.
    fn data_goes_to(&mut self, header: Header, payload: usize, is_end: bool) -> Result<Option<Key>, Broken> {
        let id = header.stream;
        let Some(key) = self.place(id) else {
            return match self.ending(id) {
                // What was on its way before the peer knew.
                Some(Ending::ResetByUs) => Ok(None),
                None if self.role == Role::Client => Ok(None),
                _ => Err(self.break_off(Code::StreamClosed, "DATA on a closed stream")),
            };
        };
        let Some(stream) = self.stream_mut(key) else { return Ok(None) };
        if !stream.state.may_receive() {
            self.stream_error(id, Code::StreamClosed)?;
            return Ok(None);
        }
        if stream.asked.as_ref().is_some_and(|asked| asked.awaits_head) {
            self.stream_error(id, Code::Protocol)?;
            return Ok(None);
        }
        let Some(window) = stream.receive_window.checked_sub(header.length as u32) else {
            self.stream_error(id, Code::FlowControl)?;
            return Ok(None);
        };
        stream.receive_window = window;
        // Padding is nobody's to take.
        stream.taken += (header.length - payload) as u32;
        if !stream.count(payload as u64, is_end) {
            self.stream_error(id, Code::Protocol)?;
            return Ok(None);
        }
        self.credit(key, 0);
        Ok(Some(key))
    }

    /// Payload, as far as it has come, and padding. The stream's end is told of with the last byte of payload, and once.
    fn data(&mut self, input: &[u8]) -> usize {
        let Reading::Data { mut to, payload, padding, is_end } = self.reading else { return 0 };
        let piece = &input[..payload.min(input.len())];
        let skipped = padding.min(input.len() - piece.len());
        let (payload, padding) = (payload - piece.len(), padding - skipped);
        let ends = is_end && payload == 0;
        if let Some(key) = to
            && (ends || !piece.is_empty())
        {
            self.deliver(key, piece, ends);
            to = to.filter(|_| !ends);
        }
        self.reading = match payload + padding {
            0 => Reading::Frame,
            _ => Reading::Data { to, payload, padding, is_end },
        };
        piece.len() + skipped
    }

    pub(super) fn deliver(&mut self, key: Key, piece: &[u8], is_end: bool) {
        let buffers = self.buffers.clone();
        let Some(stream) = self.stream_mut(key) else { return };
        if !stream.state.may_receive() {
            return;
        }
        if !piece.is_empty() {
            let buffer = stream.received.get_or_insert_with(|| buffers.take());
            let appended = buffer.append(piece);
            if appended < piece.len() && buffers.is_exhausted() {
                return self.drop_for_memory(key);
            }
            if appended < piece.len() {
                // A window is no more than a large buffer.
                let mut larger = buffers.take_large();
                larger.append(buffer.filled());
                larger.append(&piece[appended..]);
                *buffer = larger;
            }
        }
        if is_end {
            stream.they_end();
            let (id, is_closed) = (stream.id, stream.state == State::Closed);
            if is_closed {
                self.forget(id, Ending::Other);
                self.calm.completed();
            }
        }
        self.input(key);
    }

    /// Memory is for those who need little to end. No fault of the peer's.
    fn drop_for_memory(&mut self, key: Key) {
        let Some(stream) = self.stream_mut(key) else { return };
        (stream.state, stream.received) = (State::Reset(Code::EnhanceYourCalm), None);
        let id = stream.id;
        self.sends_no_more(key);
        self.input(key);
        self.write_reset(id, Code::EnhanceYourCalm);
    }

    fn headers(&mut self, header: Header, payload: &[u8]) -> Done {
        self.needs_stream(header)?;
        let mut fragment = payload;
        let mut padding = 0;
        if header.has(frame::PADDED) {
            let Some((&length, rest)) = fragment.split_first() else {
                return Err(self.break_off(Code::FrameSize, "no room for the padding's length"));
            };
            (padding, fragment) = (usize::from(length), rest);
        }
        let mut depends_on_itself = false;
        if header.has(frame::PRIORITY) {
            let Some((priority, rest)) = fragment.split_at_checked(5) else {
                return Err(self.break_off(Code::FrameSize, "no room for the priority"));
            };
            depends_on_itself = be_u32(priority) & WINDOW_MAX == header.stream;
            fragment = rest;
        }
        let Some(length) = fragment.len().checked_sub(padding) else {
            return Err(self.break_off(Code::Protocol, "more padding than frame"));
        };
        if header.stream.is_multiple_of(2) {
            return Err(self.break_off(Code::Protocol, "a client's stream has an odd number"));
        }
        let is_client = self.role == Role::Client;
        if self.is_idle(header.stream) && is_client {
            return Err(self.break_off(Code::Protocol, "HEADERS on a stream that nobody has opened"));
        }
        if !self.is_idle(header.stream) && self.place(header.stream).is_none() {
            match self.ending(header.stream) {
                Some(Ending::ResetByUs) => self.useless()?,
                // Of our own streams there may be many that we have reset.
                None if is_client => self.useless()?,
                Some(Ending::Other) => {
                    return Err(self.break_off(Code::StreamClosed, "HEADERS on a closed stream"));
                }
                // Passed over when a higher one was opened, or ended long ago (RFC 9113 §5.1.1).
                None => return Err(self.break_off(Code::Protocol, "streams are opened in ascending order")),
            }
        }
        let (stream, ends_stream) = (header.stream, header.has(frame::END_STREAM));
        let fragment = &fragment[..length];
        if header.has(frame::END_HEADERS) {
            return self.finish_block(stream, ends_stream, fragment, depends_on_itself);
        }
        self.block = Some(Block {
            stream,
            ends_stream,
            depends_on_itself,
            fragments: fragment.to_vec(),
            continuations: 0,
        });
        Ok(())
    }

    fn continuation(&mut self, header: Header, payload: &[u8]) -> Done {
        let Some(block) = &mut self.block else {
            return Err(self.break_off(Code::Protocol, "CONTINUATION of nothing"));
        };
        block.continuations += 1;
        if block.continuations > CONTINUATIONS_MAX || block.fragments.len() + payload.len() > BLOCK_BYTES_MAX
        {
            return Err(self.break_off(Code::EnhanceYourCalm, "a field block without end"));
        }
        block.fragments.extend_from_slice(payload);
        match self.block.take() {
            Some(Block { stream, ends_stream, depends_on_itself, fragments, .. })
                if header.has(frame::END_HEADERS) =>
            {
                self.finish_block(stream, ends_stream, &fragments, depends_on_itself)
            }
            unfinished => {
                self.block = unfinished;
                Ok(())
            }
        }
    }

    /// The block is whole. It is decoded whatever becomes of its stream: the tables have to stay in step.
    fn finish_block(&mut self, id: u32, ends_stream: bool, block: &[u8], depends_on_itself: bool) -> Done {
        self.lines.clear();
        let Connection { decoder, lines, .. } = self;
        let decoded = decoder.decode(block, lines);
        let is_too_large = match decoded {
            Ok(fields) => fields.is_err(),
            Err(BlockError::Malformed(reason)) => return Err(self.break_off(Code::Compression, reason)),
            Err(BlockError::Excessive) => {
                return Err(self.break_off(Code::EnhanceYourCalm, "a field block that grows"));
            }
        };
        if depends_on_itself {
            self.last_stream = self.last_stream.max(id);
            return self.stream_error(id, Code::Protocol);
        }
        let done = match self.place(id) {
            Some(key) if self.awaits_head(key) => self.response(key, ends_stream, is_too_large),
            Some(key) => self.trailers_of(key, ends_stream, is_too_large),
            None if self.is_idle(id) => self.open(id, ends_stream, is_too_large),
            // Reset by us a moment ago.
            None => Ok(()),
        };
        self.lines.clear();
        done
    }

    fn open(&mut self, id: u32, is_whole: bool, is_too_large: bool) -> Done {
        self.last_stream = id;
        if self.ends_with.is_some_and(|last| id > last) {
            // Nobody will answer: the GOAWAY that is on its way says that it may be tried elsewhere.
            return Ok(());
        }
        let Role::Server { streams_max } = self.role else { return Ok(()) };
        if self.open_streams() >= streams_max as usize {
            if self.knows_limits {
                return self.stream_error(id, Code::RefusedStream);
            }
            // It cannot know better yet.
            self.write_reset(id, Code::RefusedStream);
            return self.useless();
        }
        let mut stream = Stream::new(id, State::Open, self.peer.initial_window, STREAM_WINDOW);
        let opened = if is_too_large {
            Opened::TooLarge
        } else {
            let mut text = Vec::new();
            match self.lines.request(is_whole, &mut text) {
                Ok(request) => stream.expected = request.length,
                Err(_) => return self.stream_error(id, Code::Protocol),
            }
            // A stream may last for hours.
            Opened::Head(self.buffers.holding(&text))
        };
        if is_whole {
            stream.they_end();
        }
        let key = self.insert(stream);
        self.calm.useful();
        self.events.push_back(Event::Request(key, opened));
        Ok(())
    }

    fn trailers_of(&mut self, key: Key, is_end: bool, is_too_large: bool) -> Done {
        let mut text = Vec::new();
        let rendered = self.lines.trailers(&mut text);
        let Some(stream) = self.stream_mut(key) else { return Ok(()) };
        let id = stream.id;
        if !stream.state.may_receive() {
            return self.stream_error(id, Code::StreamClosed);
        }
        if !is_end || rendered.is_err() || is_too_large || !stream.count(0, true) {
            return self.stream_error(id, Code::Protocol);
        }
        stream.trailers = text;
        self.deliver(key, &[], true);
        Ok(())
    }

    fn reset_stream(&mut self, header: Header, payload: &[u8]) -> Done {
        self.needs_used_stream(header)?;
        self.needs_length(header, 4)?;
        if let Some(key) = self.place(header.stream) {
            self.forget(header.stream, Ending::Other);
            if let Some(stream) = self.stream_mut(key) {
                if stream.asked.is_some() && !stream.state.may_receive() {
                    // The answer is complete; the server wants no more of the request (RFC 9113 §8.1).
                    stream.state = State::Closed;
                } else {
                    stream.state = State::Reset(Code::of(be_u32(payload)));
                    stream.received = None;
                }
            }
            self.sends_no_more(key);
            self.input(key);
        }
        self.count_reset()
    }

    fn settings(&mut self, header: Header, payload: &[u8]) -> Done {
        self.needs_connection(header)?;
        if header.has(frame::ACK) {
            self.knows_limits = true;
            return self.needs_length(header, 0);
        }
        if !payload.len().is_multiple_of(6) {
            return Err(self.break_off(Code::FrameSize, "SETTINGS of the wrong size"));
        }
        if !std::mem::replace(&mut self.peer.are_known, true) && self.role == Role::Client {
            // As many as it likes, if it does not say.
            self.peer.streams_max = STREAMS_OPEN_MAX;
        }
        for entry in payload.chunks_exact(6) {
            self.setting(u16::from_be_bytes([entry[0], entry[1]]), be_u32(&entry[2..]))?;
        }
        frame::settings_ack(&mut self.out);
        self.useless()
    }

    fn setting(&mut self, identifier: u16, value: u32) -> Done {
        match identifier {
            setting::HEADER_TABLE_SIZE => self.encoder.set_table_bytes_max(value as usize),
            setting::ENABLE_PUSH if value > 1 => {
                return Err(self.break_off(Code::Protocol, "ENABLE_PUSH is neither 0 nor 1"));
            }
            setting::ENABLE_PUSH if value == 1 && self.role == Role::Client => {
                return Err(self.break_off(Code::Protocol, "ENABLE_PUSH from a server"));
            }
            setting::ENABLE_CONNECT_PROTOCOL if value > 1 => {
                return Err(self.break_off(Code::Protocol, "ENABLE_CONNECT_PROTOCOL is neither 0 nor 1"));
            }
            setting::ENABLE_CONNECT_PROTOCOL if value < u32::from(self.peer.takes_protocols) => {
                return Err(self.break_off(Code::Protocol, "ENABLE_CONNECT_PROTOCOL is withdrawn"));
            }
            setting::ENABLE_CONNECT_PROTOCOL => self.peer.takes_protocols = value == 1,
            setting::MAX_CONCURRENT_STREAMS if self.role == Role::Client => {
                self.peer.streams_max = value.min(STREAMS_OPEN_MAX);
            }
            setting::INITIAL_WINDOW_SIZE if value > WINDOW_MAX => {
                return Err(self.break_off(Code::FlowControl, "INITIAL_WINDOW_SIZE is too large"));
            }
            setting::INITIAL_WINDOW_SIZE => return self.initial_window(value),
            setting::MAX_FRAME_SIZE if !(16_384..1 << 24).contains(&value) => {
                return Err(self.break_off(Code::Protocol, "MAX_FRAME_SIZE is out of range"));
            }
            // A larger one would let one stream hold up the others for longer.
            setting::MAX_FRAME_SIZE => {}
            _ => {}
        }
        Ok(())
    }

    /// RFC 9113 §6.9.2: changes the windows of all streams.
    fn initial_window(&mut self, value: u32) -> Done {
        let by = i64::from(value) - i64::from(self.peer.initial_window);
        self.peer.initial_window = value;
        let mut is_possible = true;
        for (place, stream) in self.streams.iter_mut().enumerate() {
            let Some(stream) = stream else { continue };
            is_possible &= stream.widen(by);
            if stream.send_window > 0 && std::mem::take(&mut stream.waits) {
                self.events.push_back(Event::Room(Key(place as u32)));
            }
        }
        match is_possible {
            true => Ok(()),
            false => Err(self.break_off(Code::FlowControl, "a window is too large")),
        }
    }

    fn window_update(&mut self, header: Header, payload: &[u8]) -> Done {
        self.needs_length(header, 4)?;
        let increment = be_u32(payload) & WINDOW_MAX;
        if header.stream == 0 {
            if increment == 0 {
                return Err(self.break_off(Code::Protocol, "WINDOW_UPDATE of nothing"));
            }
            self.send_window += i64::from(increment);
            if self.send_window > i64::from(WINDOW_MAX) {
                return Err(self.break_off(Code::FlowControl, "the connection's window is too large"));
            }
            self.wake_waiting();
            return self.useless();
        }
        self.needs_used_stream(header)?;
        self.useless()?;
        let Some(key) = self.place(header.stream) else { return Ok(()) };
        if increment == 0 {
            return self.stream_error(header.stream, Code::Protocol);
        }
        let Some(stream) = self.stream_mut(key) else { return Ok(()) };
        if !stream.widen(i64::from(increment)) {
            return self.stream_error(header.stream, Code::FlowControl);
        }
        if stream.send_window > 0 && std::mem::take(&mut stream.waits) {
            self.events.push_back(Event::Room(key));
        }
        Ok(())
    }

    fn ping(&mut self, header: Header, payload: &[u8]) -> Done {
        self.needs_connection(header)?;
        self.needs_length(header, 8)?;
        if !header.has(frame::ACK) {
            frame::ping_ack(&mut self.out, payload);
        }
        self.useless()
    }

    fn go_away(&mut self, header: Header, payload: &[u8]) -> Done {
        self.needs_connection(header)?;
        if payload.len() < 8 {
            return Err(self.break_off(Code::FrameSize, "a GOAWAY of the wrong size"));
        }
        if self.role == Role::Client {
            self.server_ends(be_u32(payload) & WINDOW_MAX);
        }
        self.useless()
    }

    /// Said and not followed (RFC 9113 §5.3).
    fn priority(&mut self, header: Header, payload: &[u8]) -> Done {
        self.needs_stream(header)?;
        let code = match payload.len() {
            5 if be_u32(payload) & WINDOW_MAX != header.stream => return self.useless(),
            5 => Code::Protocol,
            _ => Code::FrameSize,
        };
        // A stream that is not open cannot be reset.
        match self.place(header.stream) {
            Some(_) => self.stream_error(header.stream, code),
            None => Err(self.break_off(code, "a malformed PRIORITY")),
        }
    }
}
