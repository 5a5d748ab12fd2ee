//! Owns the server's side of one HTTP/2 connection (RFC 9113) without its socket: takes what was received, keeps the streams
//! and both flow controls, and has the bytes that are to be sent. `receive` is the peer's half of it, `send` ours. Decides
//! nothing about a request, and waits for nothing.

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

mod receive;
mod send;

/// Frames that wait to be sent; whoever has more to say waits for room.
const OUT_BYTES_MAX: usize = 128 * 1024;
/// Of the whole connection. Given back as it is used, whoever reads or does not: the streams' own windows bound what is held.
const CONNECTION_WINDOW: u32 = 1 << 20;
const STREAM_WINDOW: u32 = WINDOW_DEFAULT;
/// Our decoder's table, the protocol's default.
const TABLE_BYTES: usize = 4096;
/// Streams that ended a moment ago: what comes for them is judged by how.
const ENDED_STREAMS_KEPT: usize = 128;

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
    streams_max: u32,
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
    /// The highest number that the peer has used.
    last_stream: u32,
    ended: VecDeque<(u32, Ending)>,
    send_window: i64,
    receive_window: u32,
    /// Streams that wait for the connection's window, or for room in `out`.
    waiting: VecDeque<Key>,
    events: VecDeque<Event>,
    out: Vec<u8>,
    /// Of `out`, what has been sent.
    out_at: usize,
    /// Streams beyond this one are not served any more.
    ends_with: Option<u32>,
    calm: Calm,
    is_broken: bool,
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
    fragments: Vec<u8>,
    continuations: u32,
}

impl Connection {
    /// Our SETTINGS wait to be sent. `streams_max`: that may be open at once.
    pub fn new(buffers: Rc<BufferPool>, limits: Limits, streams_max: u32, now: Instant) -> Connection {
        let mut out = Vec::new();
        let list_bytes = u32::try_from(limits.bytes_max).unwrap_or(u32::MAX);
        frame::settings(
            &mut out,
            &[(setting::MAX_CONCURRENT_STREAMS, streams_max), (setting::MAX_HEADER_LIST_SIZE, list_bytes)],
        );
        frame::window_update(&mut out, 0, CONNECTION_WINDOW - WINDOW_DEFAULT);
        Connection {
            buffers,
            streams_max,
            peer: PeerSettings {
                initial_window: WINDOW_DEFAULT,
                frame_bytes_max: frame::PAYLOAD_BYTES_DEFAULT,
            },
            decoder: Decoder::new(TABLE_BYTES),
            encoder: Encoder::new(TABLE_BYTES),
            lines: Lines::new(limits),
            reading: Reading::Preface,
            block: None,
            streams: Vec::new(),
            free: Vec::new(),
            places: HashMap::default(),
            last_stream: 0,
            ended: VecDeque::new(),
            send_window: i64::from(WINDOW_DEFAULT),
            receive_window: CONNECTION_WINDOW,
            waiting: VecDeque::new(),
            events: VecDeque::new(),
            out,
            out_at: 0,
            ends_with: None,
            calm: Calm::new(now),
            is_broken: false,
        }
    }

    /// Whether the peer has sent its SETTINGS.
    pub fn has_begun(&self) -> bool {
        !matches!(self.reading, Reading::Preface | Reading::First)
    }

    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
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

    /// Lines of a request's trailers; empty before its end.
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
        if self.ended.len() == ENDED_STREAMS_KEPT {
            self.ended.pop_front();
        }
        self.ended.push_back((id, ending));
    }

    /// How it ended, if that was a moment ago.
    fn ending(&self, id: u32) -> Option<Ending> {
        self.ended.iter().rev().find(|(ended, _)| *ended == id).map(|(_, ending)| *ending)
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
        if self.out_at == self.out.len() {
            self.out_at = 0;
            self.out.clear();
            if self.out.capacity() > OUT_BYTES_MAX / 2 || self.open_streams() == 0 {
                self.out = Vec::new();
            }
        }
        if self.has_room() && self.send_window > 0 {
            self.wake_waiting();
        }
    }

    /// Whether more frames may be queued.
    pub fn has_room(&self) -> bool {
        self.output().len() < OUT_BYTES_MAX
    }

    fn wake_waiting(&mut self) {
        while let Some(key) = self.waiting.pop_front() {
            if let Some(stream) = self.stream_mut(key)
                && std::mem::take(&mut stream.waits)
            {
                self.events.push_back(Event::Room(key));
            }
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
