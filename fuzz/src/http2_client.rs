//! An HTTP/2 connection to an endpoint that sends anything: behind honest SETTINGS, the input is frames, in pieces of any size,
//! and requests are opened, fed and given up between them. Whatever comes, nothing panics, heads are what our own parser reads
//! to their end, no more than a window is held, frames that we send are whole, and after a connection error nothing is done.

use std::rc::Rc;
use std::time::Instant;

use tidegate::http::h1_parse::{Progress, parse_response};
use tidegate::http::h2::conn::{Connection, Event, Key};
use tidegate::http::h2::frame::{self, Code, HEADER_BYTES, Header, Kind};
use tidegate::http::h2::head::Limits;
use tidegate::http::head::{HeadLimits, ResponseHead};
use tidegate::runtime::buffer::BufferPool;

pub fn http2_client(data: &[u8]) {
    let Some((&seed, input)) = data.split_first() else { return };
    let mut whole = Vec::new();
    frame::settings(&mut whole, &[]);
    whole.extend_from_slice(input);
    let now = Instant::now();
    let mut connection = Connection::client(Rc::new(BufferPool::default()), Limits::default(), now);
    // Before anything is heard, one may be opened.
    let mut open: Vec<Key> = ask(&mut connection, seed).into_iter().collect();
    let mut pending = Vec::new();
    for (turn, bytes) in whole.chunks(usize::from(seed % 64) + 1).enumerate() {
        pending.extend_from_slice(bytes);
        let received = connection.receive(&pending, now);
        while let Some(event) = connection.next_event() {
            if let Event::Input(key) | Event::Room(key) = event {
                assert!(connection.received(key).len() <= 65_535, "more than a window is held");
                check_heads(&connection.take_heads(key));
            }
        }
        let Ok(taken) = received else {
            assert!(connection.broken().is_some() && !connection.may_open());
            break;
        };
        pending.drain(..taken);
        assert!(pending.len() < HEADER_BYTES + 16_384, "a whole frame waits");
        check_output(&mut connection);
        open.extend(ask(&mut connection, seed.wrapping_add(turn as u8)));
        if let Some(&key) = open.first() {
            connection.send_data(key, b"some of a body", turn % 3 == 0);
            if turn % 5 == 0 {
                connection.release(open.remove(0), Code::Cancel);
            }
        }
    }
    for key in open {
        connection.release(key, Code::Cancel);
    }
    assert_eq!(connection.open_streams(), 0);
    check_output(&mut connection);
}

fn ask(connection: &mut Connection, seed: u8) -> Option<Key> {
    let method = if seed.is_multiple_of(4) { "HEAD" } else { "POST" };
    let head =
        format!("{method} /{seed} HTTP/1.1\r\nhost: a.test\r\ncookie: a=1; b=2\r\nte: trailers\r\n\r\n");
    let protocol: Option<&[u8]> = seed.is_multiple_of(7).then_some(b"websocket");
    connection.request(head.as_bytes(), b"http", protocol, seed.is_multiple_of(2))
}

/// All of the text is heads.
fn check_heads(mut text: &[u8]) {
    let limits = HeadLimits { head_bytes_max: 65_535, fields_max: 1_000, ..HeadLimits::default() };
    while !text.is_empty() {
        let mut head = ResponseHead::default();
        match parse_response(text, &mut Progress::default(), &limits, &mut head) {
            Ok(true) => text = &text[head.head_len..],
            // What it does not like is its own affair; where it ends is not.
            Ok(false) => panic!("a head without an end"),
            Err(_) => return,
        }
    }
}

fn check_output(connection: &mut Connection) {
    let output = connection.output().to_vec();
    connection.sent(output.len());
    let mut rest = output.strip_prefix(frame::PREFACE).unwrap_or(&output);
    while !rest.is_empty() {
        let header = Header::parse(rest).expect("a whole frame");
        assert!(header.length <= 16_384 && header.kind != Kind::Unknown);
        assert!(header.stream % 2 == 1 || header.stream == 0, "a stream of nobody's");
        rest = rest.get(HEADER_BYTES + header.length..).expect("a whole frame");
    }
}
