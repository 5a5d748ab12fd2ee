//! Owns one side of an HTTP/2 connection (RFC 9113) without its socket: takes what was received, keeps the streams and both
//! flow controls, and has the bytes that are to be sent. `receive` is the peer's half of it, `send` ours, `client` what only a
//! client's side does. Decides nothing about a request, and waits for nothing.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::time::Instant;

use super::calm::Calm;
use super::frame::{self, Code, WINDOW_DEFAULT, setting};
use super::head::{Limits, Lines};
use super::hpack::{Decoder, Encoder};
use super::stream::{State, Stream};
use crate::runtime::buffer::{Buffer, BufferPool};

mod client;
mod receive;
mod send;

/// Frames that wait to be sent; whoever has more to say waits for room.
const OUT_BYTES_MAX: usize = 128 * 1024;
/// Room for them that an idle connection keeps: an answer of a usual size.
const OUT_BYTES_KEPT: usize = 2048;
/// Of the whole connection. Given back as it is used, whoever reads or does not: the streams' own windows bound what is held.
const CONNECTION_WINDOW: u32 = 1 << 20;
const STREAM_WINDOW: u32 = WINDOW_DEFAULT;
/// Our decoder's table, the protocol's default.
const TABLE_BYTES: usize = 4096;
/// Streams that ended a moment ago: what comes for them is judged by how. Of those that we reset, whose frames may still be on
/// their way, more than may be open at once.
const ENDED_STREAMS_KEPT: usize = 128;
const RESET_STREAMS_KEPT: usize = 256;
/// Room for events that is kept.
const EVENTS_KEPT: usize = 64;

/// Names a stream for as long as its owner has not released it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(pub u32);

/// Something that whoever serves the streams has to know.
pub enum Event {
    /// A stream was opened.
    Request(Key, Opened),
    /// There is more to read on a stream: payload, its end, trailers, or a reset.
    Input(Key),
    /// A stream that was refused room may have some.
    Room(Key),
}

/// What a stream began with.
pub enum Opened {
    /// The request as an HTTP/1.1 head.
    Head(Buffer),
    /// Its fields are larger than allowed.
    TooLarge,
}

/// A connection error (RFC 9113 §5.4.1): the GOAWAY that says so waits to be sent, and nothing else is done any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken {
    pub code: Code,
    pub reason: &'static str,
}

pub struct Connection {
    buffers: Rc<BufferPool>,
    role: Role,
    /// As the peer's SETTINGS say.
    peer: PeerSettings,
    decoder: Decoder,
    encoder: Encoder,
    lines: Lines,
    reading: Reading,
    /// A field block that CONTINUATION frames have to complete.
    block: Option<Block>,
    streams: Vec<Option<Stream>>,
    free: Vec<u32>,
    /// Places of the streams that are not closed, by their numbers.
    places: HashMap<u32, u32, BuildHasherDefault<NumberHasher>>,
    /// The highest number that a client has used.
    last_stream: u32,
    reset_by_us: VecDeque<u32>,
    ended: VecDeque<u32>,
    send_window: i64,
    receive_window: u32,
    /// Streams that wait for the connection's window, or for room in `out`.
    waiting: VecDeque<Key>,
    /// Streams that have been told of room and have not used it: one frame each, before anybody has a second one.
    grants: usize,
    /// The peer has acknowledged our SETTINGS, and knows our limits.
    knows_limits: bool,
    events: VecDeque<Event>,
    out: Vec<u8>,
    /// Of `out`, what has been sent.
    out_at: usize,
    /// Bytes of the connection that have been sent.
    sent_bytes: u64,
    /// Streams beyond this one are not served any more.
    ends_with: Option<u32>,
    calm: Calm,
    /// The connection error that has ended it.
    broken: Option<Code>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Server {
        /// That may be open at once.
        streams_max: u32,
    },
    Client,
}

/// How a stream ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// By us: frames for it may still be on their way.
    ResetByUs,
    /// By the peer, or by both sides' last frame: nothing may follow.
    Other,
}

struct PeerSettings {
    initial_window: u32,
    frame_bytes_max: usize,
    /// That we may have open at once.
    streams_max: u32,
    /// It takes CONNECT with a protocol (RFC 8441).
    takes_protocols: bool,
    /// It has said any.
    are_known: bool,
    /// It has said that it serves no streams beyond this one.
    ends_with: Option<u32>,
}

/// Where in the input we are.
#[derive(Clone, Copy)]
enum Reading {
    Preface,
    /// The first frame, which has to be SETTINGS.
    First,
    Frame,
    /// Inside a DATA frame: payload as it comes, then padding.
    Data {
        to: Option<Key>,
        payload: usize,
        padding: usize,
        is_end: bool,
    },
}

struct Block {
    stream: u32,
    ends_stream: bool,
    depends_on_itself: bool,
    fragments: Vec<u8>,
    continuations: u32,
}

impl Connection {
    /// A server's side; its SETTINGS wait to be sent. `streams_max`: that may be open at once.
    pub fn server(buffers: Rc<BufferPool>, limits: Limits, streams_max: u32, now: Instant) -> Connection {
        let own = [(setting::MAX_CONCURRENT_STREAMS, streams_max), (setting::ENABLE_CONNECT_PROTOCOL, 1)];
        Connection::new(buffers, limits, Role::Server { streams_max }, &own, now)
    }

    fn new(
        buffers: Rc<BufferPool>,
        limits: Limits,
        role: Role,
        own: &[(u16, u32)],
        now: Instant,
    ) -> Connection {
        let is_client = role == Role::Client;
        let mut out = if is_client { frame::PREFACE.to_vec() } else { Vec::new() };
        let list_bytes = u32::try_from(limits.bytes_max).unwrap_or(u32::MAX);
        frame::settings(&mut out, &[own, &[(setting::MAX_HEADER_LIST_SIZE, list_bytes)]].concat());
        frame::window_update(&mut out, 0, CONNECTION_WINDOW - WINDOW_DEFAULT);
        Connection {
            buffers,
            role,
            peer: PeerSettings {
                initial_window: WINDOW_DEFAULT,
                frame_bytes_max: frame::PAYLOAD_BYTES_DEFAULT,
                streams_max: if is_client { client::STREAMS_ASSUMED } else { 0 },
                takes_protocols: false,
                are_known: false,
                ends_with: None,
            },
            decoder: Decoder::new(TABLE_BYTES),
            encoder: Encoder::new(TABLE_BYTES),
            lines: Lines::new(limits, is_client),
            reading: if is_client { Reading::First } else { Reading::Preface },
            block: None,
            streams: Vec::new(),
            free: Vec::new(),
            places: HashMap::default(),
            last_stream: 0,
            reset_by_us: VecDeque::new(),
            ended: VecDeque::new(),
            send_window: i64::from(WINDOW_DEFAULT),
            receive_window: CONNECTION_WINDOW,
            waiting: VecDeque::new(),
            grants: 0,
            knows_limits: false,
            events: VecDeque::new(),
            out,
            out_at: 0,
            sent_bytes: 0,
            ends_with: None,
            calm: Calm::new(now),
            broken: None,
        }
    }

    /// Whether the peer has sent its SETTINGS.
    pub fn has_begun(&self) -> bool {
        !matches!(self.reading, Reading::Preface | Reading::First)
    }

    /// Whether a field block has begun and not ended.
    pub fn is_within_block(&self) -> bool {
        self.block.is_some()
    }

    /// The connection error that has ended it.
    pub fn broken(&self) -> Option<Code> {
        self.broken
    }

    pub fn next_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if event.is_none() && self.events.capacity() > EVENTS_KEPT {
            self.events = VecDeque::new();
        }
        event
    }

    /// Streams whose owners have not released them.
    pub fn open_streams(&self) -> usize {
        self.streams.len() - self.free.len()
    }

    /// Payload of a stream that was received and not taken, oldest first.
    pub fn received(&self, key: Key) -> &[u8] {
        self.stream(key).and_then(|stream| stream.received.as_ref()).map_or(&[], Buffer::filled)
    }

    /// The same, for who tells with `credit` when it is used.
    pub fn take_received(&mut self, key: Key) -> Option<Buffer> {
        self.stream_mut(key)?.received.take()
    }

    /// How the peer stands to a stream.
    pub fn state(&self, key: Key) -> State {
        self.stream(key).map_or(State::Closed, |stream| stream.state)
    }

    /// Lines of what was received as trailers; empty before the end.
    pub fn trailers(&self, key: Key) -> &[u8] {
        self.stream(key).map_or(&[], |stream| &stream.trailers)
    }

    fn stream(&self, key: Key) -> Option<&Stream> {
        self.streams.get(key.0 as usize)?.as_ref()
    }

    fn stream_mut(&mut self, key: Key) -> Option<&mut Stream> {
        self.streams.get_mut(key.0 as usize)?.as_mut()
    }

    fn place(&self, id: u32) -> Option<Key> {
        self.places.get(&id).map(|place| Key(*place))
    }

    /// The stream with this number is over for the peer.
    fn forget(&mut self, id: u32, ending: Ending) {
        self.places.remove(&id);
        let (kept, most) = match ending {
            Ending::ResetByUs => (&mut self.reset_by_us, RESET_STREAMS_KEPT),
            Ending::Other => (&mut self.ended, ENDED_STREAMS_KEPT),
        };
        if kept.len() == most {
            kept.pop_front();
        }
        kept.push_back(id);
    }

    /// How it ended, if that was a moment ago. One that was never served, as we have said the end, is as good as reset.
    fn ending(&self, id: u32) -> Option<Ending> {
        if self.ends_with.is_some_and(|last| id > last) || self.reset_by_us.contains(&id) {
            return Some(Ending::ResetByUs);
        }
        self.ended.contains(&id).then_some(Ending::Other)
    }

    fn input(&mut self, key: Key) {
        if !matches!(self.events.back(), Some(Event::Input(last)) if *last == key) {
            self.events.push_back(Event::Input(key));
        }
    }

    fn insert(&mut self, stream: Stream) -> Key {
        let id = stream.id;
        let place = self.free.pop().unwrap_or_else(|| {
            self.streams.push(None);
            (self.streams.len() - 1) as u32
        });
        self.streams[place as usize] = Some(stream);
        self.places.insert(id, place);
        Key(place)
    }

    /// What waits to be sent.
    pub fn output(&self) -> &[u8] {
        &self.out[self.out_at..]
    }

    /// So much of it has been sent.
    pub fn sent(&mut self, count: usize) {
        self.out_at += count;
        self.sent_bytes += count as u64;
        if self.out_at == self.out.len() {
            self.out_at = 0;
            self.out.clear();
            if self.open_streams() == 0 {
                self.out.shrink_to(OUT_BYTES_KEPT);
            }
        } else if self.out_at >= OUT_BYTES_MAX / 2 {
            // Who takes a little at a time must not have it grow by all that was ever sent.
            self.out.drain(..self.out_at);
            self.out_at = 0;
        }
        self.wake_waiting();
    }

    /// Whether more frames may be queued.
    pub fn has_room(&self) -> bool {
        self.output().len() < OUT_BYTES_MAX
    }

    /// Tells as many of those who wait, first come first, as there is room for that each may send a frame, once all who were
    /// told before have used theirs.
    fn wake_waiting(&mut self) {
        if !self.has_room() || self.grants > 0 {
            return;
        }
        let room = (OUT_BYTES_MAX - self.output().len()).min(usize::try_from(self.send_window).unwrap_or(0));
        let frames = room / self.peer.frame_bytes_max + 1;
        for _ in 0..frames {
            let Some(key) = self.waiting.pop_front() else { return };
            let Some(stream) = self.stream_mut(key) else { continue };
            stream.is_queued = false;
            stream.has_grant = true;
            self.grants += 1;
            self.events.push_back(Event::Room(key));
        }
    }

    /// A stream has nothing more to send: its turn is the next one's.
    fn sends_no_more(&mut self, key: Key) {
        self.leave_queue(key);
        self.give_up_grant(key);
        self.wake_waiting();
    }

    /// A stream in the queue is there once, and knows that it is.
    fn leave_queue(&mut self, key: Key) {
        if self.stream_mut(key).is_some_and(|stream| std::mem::take(&mut stream.is_queued)) {
            self.waiting.retain(|waiting| *waiting != key);
        }
    }

    /// A stream has used what it was granted, or cannot.
    fn give_up_grant(&mut self, key: Key) {
        let has_grant = self.stream_mut(key).is_some_and(|stream| std::mem::take(&mut stream.has_grant));
        if has_grant {
            self.grants -= 1;
        }
    }
}

/// Numbers of streams are even enough as they are.
#[derive(Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u32(&mut self, number: u32) {
        // The map takes its bits from both ends.
        self.0 = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
#[path = "conn_tests.rs"]
mod tests;
