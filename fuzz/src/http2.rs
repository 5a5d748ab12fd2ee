//! An HTTP/2 connection with a client that sends anything: behind an honest beginning, the input is frames, in pieces of any
//! size, and between them what the streams' owners do. Whatever comes, nothing panics, frames that we send are whole and on
//! streams that exist, we keep to the client's windows, requests are what our own parser takes, and after an error that ends
//! the connection nothing more is done. The pieces change nothing.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Instant;

use tidegate::http::h1_parse::{Progress, parse_request};
use tidegate::http::h2::conn::{Connection, Event, Key, Opened};
use tidegate::http::h2::frame::{self, Code, HEADER_BYTES, Header, Kind};
use tidegate::http::h2::head::Limits;
use tidegate::http::head::{HeadLimits, RequestHead};
use tidegate::runtime::buffer::BufferPool;

pub fn http2(data: &[u8]) {
    let Some((&piece, input)) = data.split_first() else { return };
    let mut whole = frame::PREFACE.to_vec();
    frame::settings(&mut whole, &[]);
    whole.extend_from_slice(input);
    let one = run(&whole, usize::MAX, piece);
    let other = run(&whole, usize::from(piece % 32) + 1, piece);
    // What the owners do comes at other moments; what was asked for does not.
    assert_eq!(one, other, "the pieces change what is asked");
}

/// The requests' texts, in order.
fn run(input: &[u8], piece: usize, seed: u8) -> Vec<Vec<u8>> {
    let now = Instant::now();
    let mut connection = Connection::server(Rc::new(BufferPool::default()), Limits::default(), 100, now);
    let mut client = Client::new(input);
    let mut open: Vec<Key> = Vec::new();
    let mut requests = Vec::new();
    let mut pending = Vec::new();
    for bytes in input.chunks(piece.min(input.len()).max(1)) {
        pending.extend_from_slice(bytes);
        let received = connection.receive(&pending, now);
        while let Some(event) = connection.next_event() {
            match event {
                Event::Request(key, Opened::Head(text)) => {
                    check_request(text.filled());
                    requests.push(text.filled().to_vec());
                    open.push(key);
                }
                Event::Request(key, Opened::TooLarge) => open.push(key),
                Event::Input(key) | Event::Room(key) => {
                    assert!(connection.received(key).len() <= 65_535, "more than a window is held");
                }
            }
        }
        client.sees(&mut connection);
        let Ok(taken) = received else {
            let before = connection.output().len();
            assert_eq!(connection.receive(b"\0\0\0\x04\0\0\0\0\0", now).map(|_| ()).err(), None);
            assert_eq!(connection.output().len(), before, "something is said after the end");
            break;
        };
        pending.drain(..taken);
        assert!(pending.len() < HEADER_BYTES + 16_384, "a whole frame waits");
    }
    // Only now, so that pieces do not matter: some are answered, some given up.
    for (n, key) in open.into_iter().enumerate() {
        if (n + usize::from(seed)) % 3 > 0 {
            connection.send_head(key, 200, b"content-type: text/plain\r\nx-y: z\r\n", false);
            while connection.send_data(key, &[b'x'; 40_000], true) > 0 {
                client.sees(&mut connection);
            }
        }
        connection.release(key, Code::Cancel);
        client.sees(&mut connection);
    }
    assert_eq!(connection.open_streams(), 0);
    requests
}

/// What our own parser says to it is its own affair, except that all of it is one head.
fn check_request(text: &[u8]) {
    let mut head = RequestHead::default();
    let limits = HeadLimits { head_bytes_max: 65_535, fields_max: 1_000, ..HeadLimits::default() };
    if parse_request(text, &mut Progress::default(), &limits, &mut head) == Ok(true) {
        assert_eq!(head.head_len, text.len(), "more than one head");
    }
    let ends = text.windows(4).filter(|end| end == b"\r\n\r\n").count();
    assert!(ends == 1 && text.ends_with(b"\r\n\r\n"), "an end in the middle");
}

/// The client's view: what it has allowed, and what it gets.
struct Client {
    /// By stream, 0 for the connection: the most that its WINDOW_UPDATEs allow, whichever of them count.
    allowed: HashMap<u32, u64>,
    initial_window: u64,
    got: HashMap<u32, u64>,
    answered: HashSet<u32>,
}

impl Client {
    fn new(input: &[u8]) -> Client {
        let (mut allowed, mut initial_window) = (HashMap::new(), 65_535);
        let mut rest = &input[frame::PREFACE.len()..];
        while let Some(header) = Header::parse(rest)
            && let Some(payload) = rest.get(HEADER_BYTES..HEADER_BYTES + header.length)
        {
            match header.kind {
                Kind::WindowUpdate if header.length == 4 => {
                    *allowed.entry(header.stream).or_insert(0) += u64::from(frame::be_u32(payload));
                }
                Kind::Settings => {
                    let values = payload.chunks_exact(6).map(|entry| u64::from(frame::be_u32(&entry[2..])));
                    initial_window = values.fold(initial_window, u64::max);
                }
                _ => {}
            }
            rest = &rest[HEADER_BYTES + header.length..];
        }
        Client { allowed, initial_window, got: HashMap::new(), answered: HashSet::new() }
    }

    /// Takes what waits to be sent.
    fn sees(&mut self, connection: &mut Connection) {
        let output = connection.output().to_vec();
        connection.sent(output.len());
        let mut rest = &output[..];
        while !rest.is_empty() {
            let header = Header::parse(rest).expect("a whole frame");
            assert!(header.length <= 16_384 && header.kind != Kind::Unknown);
            rest = rest.get(HEADER_BYTES + header.length..).expect("a whole frame");
            assert!(header.stream % 2 == 1 || header.stream == 0, "a stream of nobody's");
            match header.kind {
                Kind::Headers | Kind::Continuation => drop(self.answered.insert(header.stream)),
                Kind::Data => {
                    assert!(self.answered.contains(&header.stream), "DATA before HEADERS");
                    self.takes(header.stream, self.initial_window, header.length);
                    self.takes(0, 65_535, header.length);
                }
                _ => {}
            }
        }
    }

    fn takes(&mut self, window: u32, initial: u64, bytes: usize) {
        let got = self.got.entry(window).or_insert(0);
        *got += bytes as u64;
        let allowed = initial + self.allowed.get(&window).copied().unwrap_or(0);
        assert!(*got <= allowed, "{got} bytes beyond the window {window} of {allowed}");
    }
}
