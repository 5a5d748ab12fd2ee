//! What RFC 9113 asks of a server, frame by frame: for each case the bytes behind an honest beginning, and what has to come
//! of them. The connection has no socket here, so that nothing depends on time.

use std::fmt::Write;

use super::super::frame::*;
use super::*;

/// What a case has to lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// GOAWAY with this code, and nothing more is done.
    Connection(Code),
    /// RST_STREAM of this stream, and the connection goes on.
    Stream(u32, Code),
    /// As many requests, and no complaint.
    Requests(usize),
    /// One request that is too large, and no complaint.
    TooLarge,
}

use Outcome::{Requests, TooLarge};

pub struct Case {
    name: String,
    input: Vec<u8>,
    outcome: Outcome,
}

impl Connection {
    /// Who may send next: each that waits stands in the queue once, the turns given are those that somebody has, and nobody has
    /// one, or waits for one, who sends no more.
    pub fn assert_turns(&self) {
        let mut given = 0;
        for (place, stream) in self.streams.iter().enumerate() {
            let Some(stream) = stream else { continue };
            let queued = self.waiting.iter().filter(|key| key.0 as usize == place).count();
            assert_eq!(queued, usize::from(stream.is_queued), "place {place}");
            assert!(stream.state.may_send() || !(stream.is_queued || stream.has_grant), "place {place}");
            given += usize::from(stream.has_grant);
        }
        assert_eq!(given, self.grants);
        assert!(self.waiting.iter().all(|key| self.stream(*key).is_some()));
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY_FRAME: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// Literals that nobody indexes (RFC 7541 §6.2.2), so that any bytes may stand in them.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127 + 128, "longer ones need another byte");
            if text.len() < 127 {
                block.push(text.len() as u8);
            } else {
                block.extend([127, (text.len() - 127) as u8]);
            }
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":authority", "a.test"), (":path", "/")];
const POST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), (":authority", "a.test"), (":path", "/")];

fn headers(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, &block(fields))
}

fn get(stream: u32) -> Vec<u8> {
    headers(stream, END_STREAM, &GET)
}

fn post(stream: u32) -> Vec<u8> {
    headers(stream, 0, &POST)
}

fn with<'f>(base: &[(&'f str, &'f str)], more: &[(&'f str, &'f str)]) -> Vec<(&'f str, &'f str)> {
    base.iter().chain(more).copied().collect()
}

fn without<'f>(base: &[(&'f str, &'f str)], name: &str) -> Vec<(&'f str, &'f str)> {
    base.iter().copied().filter(|(known, _)| *known != name).collect()
}

fn changed<'f>(base: &[(&'f str, &'f str)], name: &'f str, value: &'f str) -> Vec<(&'f str, &'f str)> {
    base.iter().map(|&(known, old)| (known, if known == name { value } else { old })).collect()
}

#[derive(Default)]
struct Table(Vec<Case>);

impl Table {
    fn case(&mut self, name: impl Into<String>, frames: &[Vec<u8>], outcome: Outcome) {
        self.0.push(Case { name: name.into(), input: frames.concat(), outcome });
    }

    fn breaks(&mut self, name: impl Into<String>, frames: &[Vec<u8>], code: Code) {
        self.case(name, frames, Outcome::Connection(code));
    }

    fn resets(&mut self, name: impl Into<String>, frames: &[Vec<u8>], code: Code) {
        self.case(name, frames, Outcome::Stream(1, code));
    }

    fn malformed(&mut self, name: &str, fields: &[(&str, &str)]) {
        self.resets(format!("a request with {name}"), &[headers(1, END_STREAM, fields)], Code::Protocol);
    }

    fn requests(&mut self, name: impl Into<String>, frames: &[Vec<u8>], count: usize) {
        self.case(name, frames, Requests(count));
    }
}

pub fn connection() -> Connection {
    Connection::server(Rc::new(BufferPool::default()), Limits::default(), 100, Instant::now())
}

/// The preface and SETTINGS.
pub fn beginning() -> Vec<u8> {
    [PREFACE.to_vec(), frame(SETTINGS, 0, 0, &[])].concat()
}

/// What came of it: the outcome, and the requests' texts.
pub fn outcome(connection: &mut Connection, input: &[u8], piece: usize) -> (Outcome, String) {
    let mut pending = Vec::new();
    let mut broken = None;
    for bytes in input.chunks(piece) {
        pending.extend_from_slice(bytes);
        match connection.receive(&pending, Instant::now()) {
            Ok(taken) => drop(pending.drain(..taken)),
            Err(error) => {
                broken = Some(error.code);
                break;
            }
        }
    }
    let (mut requests, mut too_large, mut texts) = (0, 0, String::new());
    while let Some(event) = connection.next_event() {
        match event {
            Event::Request(_, Opened::Head(text)) => {
                requests += 1;
                let _ = write!(texts, "{}", String::from_utf8_lossy(text.filled()));
            }
            Event::Request(_, Opened::TooLarge) => too_large += 1,
            Event::Input(_) | Event::Room(_) => {}
        }
    }
    let mut reset = None;
    let mut said = None;
    let output = connection.output().to_vec();
    let mut rest = &output[..];
    while let Some(header) = Header::parse(rest) {
        let payload = &rest[HEADER_BYTES..HEADER_BYTES + header.length];
        match header.kind {
            Kind::ResetStream => reset = Some((header.stream, Code::of(be_u32(payload)))),
            Kind::GoAway => said = Some(Code::of(be_u32(&payload[4..]))),
            _ => {}
        }
        rest = &rest[HEADER_BYTES + header.length..];
    }
    assert!(rest.is_empty(), "frames are whole");
    assert_eq!(broken, said, "whoever breaks off says why");
    let outcome = match (said, reset) {
        (Some(code), _) => Outcome::Connection(code),
        (None, Some((stream, code))) => Outcome::Stream(stream, code),
        (None, None) if too_large > 0 => TooLarge,
        (None, None) => Requests(requests),
    };
    (outcome, texts)
}

fn check(table: &Table) {
    let mut wrong = String::new();
    for Case { name, input, outcome: expected } in &table.0 {
        for piece in [usize::MAX, 1, 7] {
            let whole = [beginning(), input.clone()].concat();
            let (seen, _) = outcome(&mut connection(), &whole, piece);
            if seen != *expected {
                let _ = writeln!(wrong, "{name}, in pieces of {piece}: {seen:?}, not {expected:?}");
            }
        }
    }
    assert!(wrong.is_empty(), "of {} cases:\n{wrong}", table.0.len());
}

#[test]
fn a_connection_begins_as_it_must() {
    let settings = || frame(SETTINGS, 0, 0, &[]);
    let cases: [(&str, Vec<u8>, Outcome); 8] = [
        ("nothing but the preface", PREFACE.to_vec(), Requests(0)),
        (
            "another preface",
            b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec(),
            Outcome::Connection(Code::Protocol),
        ),
        ("HTTP/1.1", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), Outcome::Connection(Code::Protocol)),
        (
            "PING first",
            [PREFACE.to_vec(), frame(PING, 0, 0, &[0; 8])].concat(),
            Outcome::Connection(Code::Protocol),
        ),
        ("HEADERS first", [PREFACE.to_vec(), get(1)].concat(), Outcome::Connection(Code::Protocol)),
        (
            "an acknowledgement first",
            [PREFACE.to_vec(), frame(SETTINGS, ACK, 0, &[])].concat(),
            Outcome::Connection(Code::Protocol),
        ),
        (
            "a frame that is too large first",
            [PREFACE.to_vec(), frame(SETTINGS, 0, 0, &[0; 16_386])].concat(),
            Outcome::Connection(Code::FrameSize),
        ),
        ("an honest one", [PREFACE.to_vec(), settings(), get(1)].concat(), Requests(1)),
    ];
    for (name, input, expected) in cases {
        for piece in [usize::MAX, 1] {
            assert_eq!(outcome(&mut connection(), &input, piece).0, expected, "{name}");
        }
    }
}

#[test]
fn frames_have_their_size() {
    let mut table = Table::default();
    let half = || post(1);
    for kind in [DATA, HEADERS, PING, 77] {
        table.breaks(
            format!("kind {kind}, 1 byte too large"),
            &[half(), frame(kind, 0, 1, &[0; 16_385])],
            Code::FrameSize,
        );
    }
    for length in [0, 7, 9] {
        table.breaks(format!("PING of {length}"), &[frame(PING, 0, 0, &vec![0; length])], Code::FrameSize);
    }
    for length in [1, 5, 7, 11] {
        table.breaks(
            format!("SETTINGS of {length}"),
            &[frame(SETTINGS, 0, 0, &vec![0; length])],
            Code::FrameSize,
        );
    }
    table.breaks("an acknowledgement with settings", &[frame(SETTINGS, ACK, 0, &[0; 6])], Code::FrameSize);
    for length in [0, 3, 5] {
        let payload = vec![1; length];
        table.breaks(
            format!("WINDOW_UPDATE of {length}"),
            &[frame(WINDOW_UPDATE, 0, 0, &payload)],
            Code::FrameSize,
        );
        table.breaks(
            format!("a stream's, of {length}"),
            &[half(), frame(WINDOW_UPDATE, 0, 1, &payload)],
            Code::FrameSize,
        );
        table.breaks(
            format!("RST_STREAM of {length}"),
            &[half(), frame(RST_STREAM, 0, 1, &payload)],
            Code::FrameSize,
        );
    }
    for length in [0, 4, 6] {
        let priority = frame(PRIORITY_FRAME, 0, 1, &vec![0; length]);
        table.resets(format!("PRIORITY of {length}"), &[half(), priority], Code::FrameSize);
    }
    check(&table);
}

#[test]
fn frames_stand_on_the_streams_that_they_are_for() {
    let mut table = Table::default();
    let half = || post(1);
    table.breaks("GOAWAY of 7", &[frame(GOAWAY, 0, 0, &[0; 7])], Code::FrameSize);
    table.breaks(
        "HEADERS without its padding's length",
        &[frame(HEADERS, PADDED | END_HEADERS, 1, &[])],
        Code::FrameSize,
    );
    table.breaks(
        "HEADERS without its priority",
        &[frame(HEADERS, PRIORITY | END_HEADERS, 1, &[0; 4])],
        Code::FrameSize,
    );
    table.breaks(
        "DATA without its padding's length",
        &[half(), frame(DATA, PADDED, 1, &[])],
        Code::FrameSize,
    );
    for kind in [DATA, HEADERS, PRIORITY_FRAME, RST_STREAM] {
        let length = if kind == PRIORITY_FRAME { 5 } else { 4 };
        table.breaks(
            format!("kind {kind} on stream 0"),
            &[frame(kind, END_HEADERS, 0, &vec![0; length])],
            Code::Protocol,
        );
    }
    table.breaks("CONTINUATION on stream 0", &[frame(CONTINUATION, END_HEADERS, 0, &[])], Code::Protocol);
    for (kind, length) in [(SETTINGS, 6), (PING, 8), (GOAWAY, 8)] {
        table.breaks(
            format!("kind {kind} on stream 1"),
            &[half(), frame(kind, 0, 1, &vec![0; length])],
            Code::Protocol,
        );
    }
    table.breaks(
        "PUSH_PROMISE",
        &[half(), frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])],
        Code::Protocol,
    );
    table.breaks("HEADERS on an even stream", &[headers(2, END_STREAM, &GET)], Code::Protocol);
    for (kind, length) in [(DATA, 1), (RST_STREAM, 4), (WINDOW_UPDATE, 4)] {
        for stream in [2, 3] {
            let name = format!("kind {kind} on idle stream {stream}");
            table.breaks(name, &[half(), frame(kind, 0, stream, &vec![1; length])], Code::Protocol);
        }
    }
    table.requests("PRIORITY on an idle stream", &[frame(PRIORITY_FRAME, 0, 3, &[0, 0, 0, 1, 9]), get(3)], 1);
    table.requests("an unknown frame", &[frame(77, 0xff, 0, &[1; 100]), frame(255, 0, 9, &[]), get(1)], 1);
    table.requests(
        "flags that nobody knows",
        &[frame(HEADERS, 0xd2 | END_HEADERS | END_STREAM, 1, &block(&GET))],
        1,
    );
    let mut reserved = get(1);
    reserved[5] |= 0x80;
    table.requests("the reserved bit", &[reserved], 1);
    check(&table);
}

#[test]
fn streams_are_in_the_state_for_what_comes() {
    let mut table = Table::default();
    let reset = |stream| frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
    table.breaks("streams in descending order", &[get(5), get(3)], Code::Protocol);
    table.resets("DATA after the end", &[get(1), frame(DATA, 0, 1, b"x")], Code::StreamClosed);
    table.resets("HEADERS after the end", &[get(1), get(1)], Code::StreamClosed);
    table.resets("trailers that are no end", &[post(1), headers(1, 0, &[("x-t", "1")])], Code::Protocol);
    table.breaks("DATA after RST_STREAM", &[post(1), reset(1), frame(DATA, 0, 1, b"x")], Code::StreamClosed);
    table.breaks("HEADERS after RST_STREAM", &[post(1), reset(1), get(1)], Code::StreamClosed);
    table.requests("RST_STREAM twice", &[post(1), reset(1), reset(1), get(3)], 2);
    let update = frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]);
    table.requests("WINDOW_UPDATE after RST_STREAM", &[post(1), reset(1), update, get(3)], 2);
    table.resets(
        "a stream that depends on itself",
        &[post(1), frame(PRIORITY_FRAME, 0, 1, &[0, 0, 0, 1, 9])],
        Code::Protocol,
    );
    let own = [&[0, 0, 0, 1, 9][..], &block(&GET)].concat();
    table.resets(
        "a request that depends on itself",
        &[frame(HEADERS, PRIORITY | END_HEADERS | END_STREAM, 1, &own)],
        Code::Protocol,
    );
    table.requests("many streams", &(0..100).map(|n| get(2 * n + 1)).collect::<Vec<_>>(), 100);
    let one_more: Vec<_> = (0..101).map(|n| get(2 * n + 1)).collect();
    table.case("one more than allowed", &one_more, Outcome::Stream(201, Code::RefusedStream));
    let open = frame(HEADERS, 0, 1, &block(&GET));
    for (name, between) in [
        ("DATA", frame(DATA, 0, 1, b"x")),
        ("PING", frame(PING, 0, 0, &[0; 8])),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[])),
        ("an unknown frame", frame(77, 0, 0, &[])),
        ("another stream's HEADERS", get(3)),
        ("another stream's CONTINUATION", frame(CONTINUATION, END_HEADERS, 3, &[])),
    ] {
        table.breaks(format!("{name} within a field block"), &[open.clone(), between], Code::Protocol);
    }
    table.breaks(
        "CONTINUATION of nothing",
        &[get(1), frame(CONTINUATION, END_HEADERS, 1, &[])],
        Code::Protocol,
    );
    let whole = block(&GET);
    let pieces: Vec<_> = std::iter::once(frame(HEADERS, END_STREAM, 1, &whole[..9]))
        .chain(whole[9..].chunks(9).map(|piece| frame(CONTINUATION, 0, 1, piece)))
        .chain([frame(CONTINUATION, END_HEADERS, 1, &[])])
        .collect();
    table.requests("a block in pieces", &pieces, 1);
    let endless: Vec<_> =
        std::iter::once(open.clone()).chain((0..17).map(|_| frame(CONTINUATION, 0, 1, &[]))).collect();
    table.breaks("a block of empty pieces without end", &endless, Code::EnhanceYourCalm);
    let large: Vec<_> =
        std::iter::once(open).chain((0..5).map(|_| frame(CONTINUATION, 0, 1, &[0; 16_384]))).collect();
    table.breaks("a block of large pieces without end", &large, Code::EnhanceYourCalm);
    check(&table);
}

#[test]
fn windows_settings_and_padding_are_judged() {
    let mut table = Table::default();
    let update = |stream, by: u32| frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    let setting = |number: u16, value: u32| {
        frame(SETTINGS, 0, 0, &[&number.to_be_bytes()[..], &value.to_be_bytes()].concat())
    };
    table.resets("a stream's window by nothing", &[post(1), update(1, 0)], Code::Protocol);
    table.breaks("the connection's window by nothing", &[update(0, 0)], Code::Protocol);
    table.resets("a stream's window beyond all", &[post(1), update(1, WINDOW_MAX)], Code::FlowControl);
    table.breaks("the connection's window beyond all", &[update(0, WINDOW_MAX)], Code::FlowControl);
    table.requests(
        "windows as wide as may be",
        &[update(0, WINDOW_MAX - 65_535), post(1), update(1, WINDOW_MAX - 65_535)],
        1,
    );
    table.breaks("an initial window beyond all", &[setting(4, 1 << 31)], Code::FlowControl);
    table.breaks(
        "an initial window that is too much for an open stream",
        &[post(1), update(1, 1), setting(4, WINDOW_MAX)],
        Code::FlowControl,
    );
    table.requests("an initial window of nothing", &[setting(4, 0), get(1)], 1);
    table.breaks("ENABLE_PUSH of 2", &[setting(2, 2)], Code::Protocol);
    table.requests("ENABLE_PUSH of 0 and 1", &[setting(2, 0), setting(2, 1), get(1)], 1);
    table.breaks("MAX_FRAME_SIZE of 16,383", &[setting(5, 16_383)], Code::Protocol);
    table.breaks("MAX_FRAME_SIZE of 2^24", &[setting(5, 1 << 24)], Code::Protocol);
    table.requests("MAX_FRAME_SIZE of 2^24 - 1", &[setting(5, (1 << 24) - 1), get(1)], 1);
    table.requests("a setting that nobody knows", &[setting(0x7777, 7), get(1)], 1);
    let kibs = |count| (0..count).map(|_| frame(DATA, 0, 1, &[b'x'; 1024])).collect::<Vec<_>>();
    table.requests(
        "as much as a stream's window",
        &[vec![post(1)], kibs(63), vec![frame(DATA, 0, 1, &[0; 1023])]].concat(),
        1,
    );
    table.resets("more than a stream's window", &[vec![post(1)], kibs(64)].concat(), Code::FlowControl);
    table.requests("padding", &[post(1), frame(DATA, PADDED | END_STREAM, 1, &[3, b'x', 0, 0, 0])], 1);
    table.requests("nothing but padding", &[post(1), frame(DATA, PADDED | END_STREAM, 1, &[3, 0, 0, 0])], 1);
    table.breaks("more padding than DATA", &[post(1), frame(DATA, PADDED, 1, &[4, 0, 0, 0])], Code::Protocol);
    let padded = [&[2][..], &block(&GET), &[0, 0]].concat();
    table.requests("padded HEADERS", &[frame(HEADERS, PADDED | END_HEADERS | END_STREAM, 1, &padded)], 1);
    let padded = [&[250][..], &block(&GET)].concat();
    table.breaks(
        "more padding than HEADERS",
        &[frame(HEADERS, PADDED | END_HEADERS, 1, &padded)],
        Code::Protocol,
    );
    for (name, bytes) in [
        ("an index of nothing", &[0x80][..]),
        ("an index beyond the tables", &[0xff, 0x00]),
        ("a literal that ends early", &[0x00, 0x05, b'x']),
        ("a table larger than allowed", &[0x3f, 0xe2, 0x1f]),
        ("a table's size in the middle", &[0x82, 0x20]),
        ("bad Huffman padding", &[0x00, 0x81, 0x00, 0x00]),
    ] {
        table.breaks(name, &[frame(HEADERS, END_HEADERS, 1, bytes)], Code::Compression);
    }
    check(&table);
}

#[test]
fn malformed_requests_reach_nobody() {
    let mut table = Table::default();
    for name in [":method", ":scheme", ":path"] {
        table.malformed(&format!("no {name}"), &without(&GET, name));
    }
    for (name, value) in GET {
        table.malformed(&format!("{name} twice"), &with(&GET[..4], &[(name, value)]));
    }
    for (name, value) in [
        (":method", ""),
        (":method", "GE T"),
        (":method", "G\r\nT"),
        (":scheme", "1x"),
        (":scheme", "ht tp"),
        (":scheme", ""),
        (":path", ""),
        (":path", "x"),
        (":path", "/a b"),
        (":path", "/\r\nx: y"),
        (":path", "/\0"),
        (":path", "*"),
        (":path", "/\u{7f}"),
        (":path", "http://a.test/"),
        (":authority", "a b"),
        (":authority", "a\r\nx: y"),
    ] {
        table.malformed(&format!("{name} {value:?}"), &changed(&GET, name, value));
    }
    table.malformed("a response's :status", &with(&GET, &[(":status", "200")]));
    table.malformed("an unknown pseudo-header field", &with(&GET, &[(":x", "y")]));
    table.malformed(":protocol that nobody offered", &with(&GET, &[(":protocol", "websocket")]));
    table.malformed("a pseudo-header field behind others", &[GET[0], GET[1], ("x", "y"), GET[2], GET[3]]);
    for name in ["", "X-Upper", "x y", "x:y", "x\r\ny", "x\0y", "x\u{e9}", "x(y"] {
        table.malformed(&format!("a name {name:?}"), &with(&GET, &[(name, "1")]));
    }
    for value in ["a\rb", "a\nb", "a\r\nx: y", "a\0b", " a", "a ", "\ta", "a\t", "a\u{1}b", "a\u{7f}b"] {
        table.malformed(&format!("a value {value:?}"), &with(&GET, &[("x", value)]));
    }
    for name in ["connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"] {
        table.malformed(name, &with(&GET, &[(name, "x")]));
    }
    check(&table);
}

#[test]
fn fields_that_contradict_others_reach_nobody() {
    let mut table = Table::default();
    table.malformed("te: gzip", &with(&GET, &[("te", "gzip")]));
    table.malformed("te: trailers, gzip", &with(&GET, &[("te", "trailers, gzip")]));
    table.malformed("another host", &with(&GET, &[("host", "b.test")]));
    table.malformed("host twice", &with(&GET, &[("host", "a.test"), ("host", "a.test")]));
    for value in ["", "-1", "+1", "1,1", "1 1", "0x1", "99999999999999999999"] {
        table.malformed(&format!("content-length {value:?}"), &with(&POST, &[("content-length", value)]));
    }
    table
        .malformed("content-length twice", &with(&POST, &[("content-length", "0"), ("content-length", "0")]));
    table.malformed("content-length and no content", &with(&POST, &[("content-length", "1")]));
    let connect = [(":method", "CONNECT"), (":authority", "a.test:1")];
    table.malformed("CONNECT with :path", &with(&connect, &[(":path", "/")]));
    table.malformed("CONNECT with :scheme", &with(&connect, &[(":scheme", "http")]));
    table.malformed("CONNECT without :authority", &connect[..1]);
    let sized = headers(1, 0, &with(&POST, &[("content-length", "3")]));
    table.resets(
        "less content than announced",
        &[sized.clone(), frame(DATA, END_STREAM, 1, b"ab")],
        Code::Protocol,
    );
    table.resets("more content than announced", &[sized.clone(), frame(DATA, 0, 1, b"abcd")], Code::Protocol);
    table.resets(
        "trailers before all content",
        &[sized.clone(), headers(1, END_STREAM, &[("x", "y")])],
        Code::Protocol,
    );
    table.requests("as much content as announced", &[sized, frame(DATA, END_STREAM, 1, b"abc")], 1);
    for trailer in [
        (":path", "/"),
        ("X", "y"),
        ("x", "a\nb"),
        ("content-length", "1"),
        ("host", "a"),
        ("te", "trailers"),
    ] {
        let frames = [post(1), headers(1, END_STREAM, &[trailer])];
        table.resets(format!("trailers with {trailer:?}"), &frames, Code::Protocol);
    }
    table.requests(
        "trailers",
        &[post(1), frame(DATA, 0, 1, b"x"), headers(1, END_STREAM, &[("x-sum", "1")])],
        1,
    );
    let crumbs = vec![("cookie", "a=b"); 200];
    table.requests("a cookie of many crumbs", &[headers(1, END_STREAM, &with(&GET, &crumbs))], 1);
    let fields = vec![("x-a", "b"); 101];
    table.case("too many fields", &[headers(1, END_STREAM, &with(&GET, &fields))], TooLarge);
    let crumbs = vec![("cookie", "a=b"); 900];
    let crumbs = block(&with(&GET, &crumbs));
    let large = [frame(HEADERS, END_STREAM | END_HEADERS, 1, &crumbs[..crumbs.len().min(16_384)])];
    table.case("crumbs beyond the bound of bytes", &large, TooLarge);
    let long = "x".repeat(200);
    let much: Vec<(&str, &str)> =
        (0..90).map(|_| ("x-much", &*long)).chain([("x-more", &*long); 60]).collect();
    let much = block(&with(&GET, &much[..95]));
    let (first, rest) = much.split_at(16_000);
    let frames = [frame(HEADERS, END_STREAM, 1, first), frame(CONTINUATION, END_HEADERS, 1, rest), get(3)];
    table.requests("many bytes, within the bound", &frames, 2);
    check(&table);
}

#[test]
fn floods_are_answered_with_calm() {
    let mut table = Table::default();
    let many = |frame: Vec<u8>| vec![frame; 2_010];
    let calm = Code::EnhanceYourCalm;
    table.breaks("PING", &many(frame(PING, 0, 0, &[0; 8])), calm);
    table.breaks("PING's acknowledgements", &many(frame(PING, ACK, 0, &[0; 8])), calm);
    table.breaks("SETTINGS", &many(frame(SETTINGS, 0, 0, &[])), calm);
    table.breaks("PRIORITY", &many(frame(PRIORITY_FRAME, 0, 1, &[0, 0, 0, 3, 9])), calm);
    table.breaks("unknown frames", &many(frame(99, 0, 0, &[])), calm);
    table.breaks("GOAWAY", &many(frame(GOAWAY, 0, 0, &[0; 8])), calm);
    table.breaks("the connection's windows", &many(frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])), calm);
    let after_post = |frame: Vec<u8>| [vec![post(1)], many(frame)].concat();
    table.breaks("a stream's windows", &after_post(frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])), calm);
    table.breaks("empty DATA", &after_post(frame(DATA, 0, 1, &[])), calm);
    table.breaks("padding alone", &after_post(frame(DATA, PADDED, 1, &[0])), calm);
    let rapid = (0..120).flat_map(|n| [get(2 * n + 1), frame(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8])]);
    table.breaks("rapid reset", &rapid.collect::<Vec<_>>(), calm);
    let knows = frame(SETTINGS, ACK, 0, &[]);
    let made = (0..120).flat_map(|n| [post(2 * n + 1), frame(WINDOW_UPDATE, 0, 2 * n + 1, &[0; 4])]);
    table.breaks(
        "streams that we have to reset",
        &std::iter::once(knows).chain(made).collect::<Vec<_>>(),
        calm,
    );
    table.breaks("more streams than ours", &(0..2_600).map(|n| get(2 * n + 1)).collect::<Vec<_>>(), calm);
    check(&table);
}

/// What a request becomes, to the byte.
#[test]
fn requests_become_heads_that_mean_the_same() {
    let text = |fields: &[(&str, &str)], flags| {
        let input = [beginning(), headers(1, flags, fields)].concat();
        let (outcome, text) = outcome(&mut connection(), &input, usize::MAX);
        assert_eq!(outcome, Requests(1), "{fields:?}");
        text
    };
    assert_eq!(text(&GET, END_STREAM), "GET / HTTP/1.1\r\nhost: a.test\r\n\r\n");
    assert_eq!(text(&POST, 0), "POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n");
    let many = with(
        &GET,
        &[("cookie", "a=1"), ("x", "1"), ("cookie", "b=2"), ("te", "trailers"), ("host", "A.test")],
    );
    assert_eq!(
        text(&many, END_STREAM),
        "GET / HTTP/1.1\r\nhost: a.test\r\nx: 1\r\nte: trailers\r\ncookie: a=1; b=2\r\n\r\n"
    );
    let host = with(&without(&GET, ":authority"), &[("host", "b.test"), ("cookie", "a=1"), ("x", "")]);
    assert_eq!(text(&host, END_STREAM), "GET / HTTP/1.1\r\nhost: b.test\r\ncookie: a=1\r\nx: \r\n\r\n");
    let port = with(&GET, &[("host", "A.test:80")]);
    assert_eq!(text(&port, END_STREAM), "GET / HTTP/1.1\r\nhost: a.test\r\n\r\n");
    let other = changed(&GET, ":scheme", "ftp");
    assert_eq!(text(&other, END_STREAM), "GET ftp://a.test/ HTTP/1.1\r\nhost: a.test\r\n\r\n");
    let sized = with(&POST, &[("content-length", "12")]);
    assert_eq!(text(&sized, 0), "POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 12\r\n\r\n");
    let all = with(&changed(&changed(&GET, ":method", "OPTIONS"), ":path", "*"), &[]);
    assert_eq!(text(&all, END_STREAM), "OPTIONS * HTTP/1.1\r\nhost: a.test\r\n\r\n");
    let connect = [(":method", "CONNECT"), (":authority", "a.test:1")];
    assert_eq!(text(&connect, 0), "CONNECT a.test:1 HTTP/1.1\r\nhost: a.test:1\r\n\r\n");
}

#[test]
fn what_was_on_its_way_to_a_stream_that_we_reset_harms_nobody() {
    let mut connection = connection();
    let (seen, _) = outcome(&mut connection, &[beginning(), post(1)].concat(), usize::MAX);
    assert_eq!(seen, Requests(1));
    connection.release(Key(0), Code::Cancel);
    let late = [frame(DATA, 0, 1, b"late"), headers(1, END_STREAM, &[("x", "y")]), get(3)].concat();
    let (seen, text) = outcome(&mut connection, &late, usize::MAX);
    assert_eq!(seen, Outcome::Stream(1, Code::Cancel));
    assert_eq!(text, "GET / HTTP/1.1\r\nhost: a.test\r\n\r\n");
}

/// A request that is opened while the end is on its way is not served, and what comes for it harms nobody.
#[test]
fn what_comes_behind_our_end_is_passed_over() {
    let mut connection = connection();
    outcome(&mut connection, &[beginning(), post(1)].concat(), usize::MAX);
    connection.end();
    let late =
        [post(3), frame(DATA, 0, 3, b"late"), headers(3, END_STREAM, &[("x", "y")]), frame(DATA, 0, 1, b"x")];
    let (_, text) = outcome_of(&mut connection, &late.concat());
    assert!(text.is_empty() && connection.broken().is_none(), "{text}");
    assert_eq!(connection.received(Key(0)), b"x");
    connection.release(Key(0), Code::NoError);
    assert!(connection.is_over());
}

/// What `receive` makes of it, where a GOAWAY of ours has been said already.
fn outcome_of(connection: &mut Connection, input: &[u8]) -> (bool, String) {
    let received = connection.receive(input, Instant::now());
    let mut texts = String::new();
    while let Some(event) = connection.next_event() {
        if let Event::Request(_, Opened::Head(text)) = event {
            texts.push_str(&String::from_utf8_lossy(text.filled()));
        }
    }
    (received.is_ok(), texts)
}

/// Takes all that waits to be sent; the streams of its DATA frames, in order.
fn sent_data(connection: &mut Connection) -> Vec<u32> {
    let output = connection.output().to_vec();
    connection.sent(output.len());
    let (mut rest, mut streams) = (&output[..], Vec::new());
    while let Some(header) = Header::parse(rest) {
        streams.extend((header.kind == Kind::Data).then_some(header.stream));
        rest = &rest[HEADER_BYTES + header.length..];
    }
    streams
}

#[test]
fn streams_that_wait_have_their_turns() {
    let mut connection = connection();
    let wide = [
        frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]),
        frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xfe, 0, 0]),
    ];
    outcome(&mut connection, &[beginning(), wide.concat(), get(1), get(3), get(5)].concat(), usize::MAX);
    let keys = [Key(0), Key(1), Key(2)];
    keys.iter().for_each(|key| connection.send_head(*key, 200, b"", false));
    let payload = vec![b'x'; 1 << 20];
    // All ask as long as they are given anything, the first one first; then as they are told of room.
    let ask = |connection: &mut Connection, key| while connection.send_data(key, &payload, false) > 0 {};
    keys.iter().for_each(|key| ask(&mut connection, *key));
    sent_data(&mut connection);
    let mut frames = [0; 3];
    for _ in 0..50 {
        while let Some(event) = connection.next_event() {
            if let Event::Room(key) = event {
                ask(&mut connection, key);
            }
        }
        for stream in sent_data(&mut connection) {
            frames[(stream / 2) as usize] += 1;
        }
    }
    let (most, least) = (frames.iter().max().unwrap(), frames.iter().min().unwrap());
    assert!(*least > 100 && most - least <= 2, "{frames:?}");
}

#[test]
fn what_is_sent_is_not_held() {
    let mut connection = connection();
    let wide = [
        frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]),
        frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xfe, 0, 0]),
    ];
    outcome(&mut connection, &[beginning(), wide.concat(), get(1)].concat(), usize::MAX);
    connection.send_head(Key(0), 200, b"", false);
    let payload = vec![b'x'; 16_384];
    for _ in 0..10_000 {
        while connection.send_data(Key(0), &payload, false) > 0 {}
        // The client takes a little at a time: never is there nothing left.
        connection.sent(10_000);
        while connection.next_event().is_some() {}
    }
    assert!(connection.out.capacity() <= 4 * OUT_BYTES_MAX, "{}", connection.out.capacity());
}
