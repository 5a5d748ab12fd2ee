//! Two ends of ours, a client and a server, with nothing between them but bytes: random requests, answers, resets and credits in
//! random order, delivered in pieces of any size. Whatever the schedule, neither end breaks off, every byte arrives once and in
//! its order, nobody holds more than a window, and at the end nothing is left.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Instant;

use super::conn::{Connection, Event, Key, Opened};
use super::frame::Code;
use super::head::Limits;
use super::stream::State;
use crate::runtime::buffer::BufferPool;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % bound
    }
}

/// One side's view of a stream.
#[derive(Default)]
struct Half {
    to_send: usize,
    sent: usize,
    has_trailers: bool,
    has_head: bool,
    is_sent: bool,
    got: usize,
    uncredited: usize,
    is_over: bool,
}

struct End {
    connection: Connection,
    /// Received and not consumed.
    input: Vec<u8>,
    /// By the streams' owners.
    halves: BTreeMap<u32, Half>,
    /// Names are known to both by this: the path of the request.
    names: BTreeMap<u32, u64>,
}

/// What stands at a place of a stream's payload.
fn byte(name: u64, is_answer: bool, at: usize) -> u8 {
    (name.wrapping_mul(31) as usize + at * 7 + usize::from(is_answer) * 101) as u8
}

struct Simulation {
    random: Random,
    ends: [End; 2],
    wires: [VecDeque<u8>; 2],
    opened: u64,
    completed: u64,
}

const CLIENT: usize = 0;
const SERVER: usize = 1;

impl Simulation {
    fn new(seed: u64) -> Simulation {
        let (now, buffers) = (Instant::now(), Rc::new(BufferPool::default()));
        let end = |connection| End {
            connection,
            input: Vec::new(),
            halves: BTreeMap::new(),
            names: BTreeMap::new(),
        };
        let client = Connection::client(buffers.clone(), Limits::default(), now);
        let server = Connection::server(buffers, Limits::default(), 20, now);
        Simulation {
            random: Random(seed),
            ends: [end(client), end(server)],
            wires: Default::default(),
            opened: 0,
            completed: 0,
        }
    }

    fn step(&mut self, may_open: bool) {
        let side = self.random.below(2) as usize;
        match self.random.below(10) {
            0 if may_open => self.open(),
            0..=2 => self.flush(side),
            3..=5 => self.deliver(side),
            6 | 7 => self.send_some(side),
            8 => self.credit_some(side),
            _ if may_open && self.random.below(8) == 0 => self.give_up(side),
            _ => self.send_some(side),
        }
        self.check();
    }

    fn open(&mut self) {
        let (name, length) =
            (self.opened, self.random.below(100_000) as usize * self.random.below(2) as usize);
        let head =
            format!("POST /{name} HTTP/1.1\r\nhost: a.test\r\ncookie: a=1; b={name}\r\nx-y: z\r\n\r\n");
        let client = &mut self.ends[CLIENT];
        let Some(key) = client.connection.request(head.as_bytes(), b"http", None, length == 0) else {
            return;
        };
        self.opened += 1;
        let has_trailers = length > 0 && self.random.below(3) == 0;
        let half =
            Half { to_send: length, has_trailers, has_head: true, is_sent: length == 0, ..Half::default() };
        client.halves.insert(key.0, half);
        client.names.insert(key.0, name);
    }

    /// What one end has to say goes onto the wire, as much as the socket takes.
    fn flush(&mut self, side: usize) {
        let End { connection, .. } = &mut self.ends[side];
        let count = (self.random.below(40_000) as usize + 1).min(connection.output().len());
        self.wires[side].extend(&connection.output()[..count]);
        connection.sent(count);
        self.hear(side);
    }

    /// From the wire to the other end.
    fn deliver(&mut self, from: usize) {
        let count = (self.random.below(30_000) as usize + 1).min(self.wires[from].len());
        let side = 1 - from;
        let end = &mut self.ends[side];
        end.input.extend(self.wires[from].drain(..count));
        let taken = end.connection.receive(&end.input, Instant::now()).expect("no connection error");
        end.input.drain(..taken);
        self.hear(side);
    }

    fn hear(&mut self, side: usize) {
        while let Some(event) = self.ends[side].connection.next_event() {
            match event {
                Event::Request(key, Opened::Head(text)) => {
                    let text = String::from_utf8(text.filled().to_vec()).unwrap();
                    let name =
                        text.strip_prefix("POST /").unwrap().split(' ').next().unwrap().parse().unwrap();
                    assert!(text.contains(&format!("\r\ncookie: a=1; b={name}\r\n")), "{text}");
                    let length = self.random.below(150_000) as usize * self.random.below(2) as usize;
                    let half =
                        Half { to_send: length, has_trailers: self.random.below(3) == 0, ..Half::default() };
                    self.ends[side].halves.insert(key.0, half);
                    self.ends[side].names.insert(key.0, name);
                    self.take(side, key);
                }
                Event::Request(..) => panic!("no head is too large here"),
                Event::Input(key) => self.take(side, key),
                Event::Room(key) => self.send(side, key),
            }
        }
    }

    /// Takes what has come on a stream, and checks each byte.
    fn take(&mut self, side: usize, key: Key) {
        let End { connection, halves, names, .. } = &mut self.ends[side];
        let Some(half) = halves.get_mut(&key.0) else { return };
        let heads = connection.take_heads(key);
        assert!(heads.is_empty() || heads.starts_with(b"HTTP/1.1 200 \r\n"), "{}", heads.escape_ascii());
        if let Some(piece) = connection.take_received(key) {
            for (at, &got) in piece.filled().iter().enumerate() {
                let expected = byte(names[&key.0], side == CLIENT, half.got + at);
                assert_eq!(got, expected, "side {side}, name {}, at {}", names[&key.0], half.got + at);
            }
            half.got += piece.len();
            half.uncredited += piece.len();
        }
        match connection.state(key) {
            State::Reset(code) => {
                assert!(matches!(code, Code::Cancel | Code::RefusedStream | Code::NoError), "{code:?}");
                self.release(side, key);
            }
            state => {
                let half = self.ends[side].halves.get_mut(&key.0).expect("it is there");
                half.is_over = !state.may_receive();
                self.end_if_over(side, key);
            }
        }
    }

    fn end_if_over(&mut self, side: usize, key: Key) {
        let half = &self.ends[side].halves[&key.0];
        if half.is_over && half.is_sent {
            self.completed += u64::from(side == CLIENT);
            self.release(side, key);
        }
    }

    fn release(&mut self, side: usize, key: Key) {
        let End { connection, halves, names, .. } = &mut self.ends[side];
        halves.remove(&key.0);
        names.remove(&key.0);
        connection.release(key, Code::Cancel);
    }

    fn any(&mut self, side: usize) -> Option<Key> {
        let halves = &self.ends[side].halves;
        let at = self.random.below(halves.len().max(1) as u64) as usize;
        halves.keys().nth(at).map(|place| Key(*place))
    }

    fn send_some(&mut self, side: usize) {
        if let Some(key) = self.any(side) {
            self.send(side, key);
        }
    }

    /// A piece of what a side has to say on a stream, its head before, its end behind.
    fn send(&mut self, side: usize, key: Key) {
        let End { connection, halves, names, .. } = &mut self.ends[side];
        let Some(half) = halves.get_mut(&key.0).filter(|half| !half.is_sent) else { return };
        if !half.has_head {
            half.has_head = true;
            connection.send_head(key, 200, b"content-type: text/plain\r\n", false);
        }
        let piece = (half.to_send - half.sent).min(self.random.below(20_000) as usize);
        let is_last = half.sent + piece == half.to_send;
        let payload: Vec<u8> =
            (half.sent..half.sent + piece).map(|at| byte(names[&key.0], side == SERVER, at)).collect();
        let count = connection.send_data(key, &payload, is_last && !half.has_trailers);
        half.sent += count;
        if half.sent == half.to_send && half.has_trailers {
            connection.send_trailers(key, b"x-sum: 7\r\n");
        }
        half.is_sent = connection.has_ended(key);
        self.end_if_over(side, key);
    }

    fn credit_some(&mut self, side: usize) {
        let Some(key) = self.any(side) else { return };
        let End { connection, halves, .. } = &mut self.ends[side];
        let half = halves.get_mut(&key.0).expect("it is there");
        connection.credit(key, std::mem::take(&mut half.uncredited));
    }

    fn give_up(&mut self, side: usize) {
        // A server that gives up what was asked of it is another test's.
        if side == CLIENT
            && let Some(key) = self.any(side)
        {
            self.release(side, key);
        }
    }

    fn check(&mut self) {
        for end in &self.ends {
            assert_eq!(end.connection.broken(), None);
            end.connection.assert_turns();
            assert_eq!(end.connection.open_streams(), end.halves.len());
            assert!(end.connection.output().len() <= 128 * 1024 + 64 * 1024, "more waits than may");
            for &place in end.halves.keys() {
                let held = end.connection.received(Key(place)).len();
                assert!(held + end.halves[&place].uncredited <= 65_535, "more than a window is held");
            }
        }
    }

    /// Without anything new, all comes to its end.
    fn settle(&mut self) {
        for _ in 0..200_000 {
            for side in [CLIENT, SERVER] {
                self.flush(side);
                self.deliver(side);
                self.send_some(side);
                self.credit_some(side);
            }
            self.check();
            let is_quiet = |end: &End| end.halves.is_empty() && end.connection.output().is_empty();
            if self.ends.iter().all(is_quiet) && self.wires.iter().all(VecDeque::is_empty) {
                return;
            }
        }
        let left: Vec<_> = self.ends.iter().map(|end| end.halves.len()).collect();
        panic!("it never comes to an end: {left:?}");
    }
}

#[test]
fn two_ends_agree_whatever_the_schedule() {
    // The long proof runs more of them (`TIDEGATE_PROOF=1`).
    let seeds = if std::env::var_os("TIDEGATE_PROOF").is_some() { 300 } else { 8 };
    let mut completed = 0;
    for seed in 1..=seeds {
        let mut simulation = Simulation::new(seed * 7919);
        for _ in 0..3_000 {
            simulation.step(true);
        }
        simulation.settle();
        completed += simulation.completed;
        // GOAWAY ends it for good, when all is quiet.
        simulation.ends[SERVER].connection.end();
        simulation.settle();
        assert!(simulation.ends.iter().all(|end| end.connection.is_over()), "seed {seed}");
        assert!(!simulation.ends[CLIENT].connection.may_open());
    }
    assert!(completed > 100 * seeds / 8, "only {completed} exchanges were completed");
}
