//! Owns the state of one HTTP/2 stream (RFC 9113 §5.1), its flow-control windows, and what was received on it and not yet
//! taken. Writes no frames.

use super::frame::{Code, WINDOW_MAX};
use crate::runtime::buffer::Buffer;

/// A stream that a client opened, on the client's end or on the server's. Idle ones are no more than numbers, and no stream is
/// ever pushed.
///
/// ```text
///                 HEADERS                their HEADERS with END_STREAM
///   idle ────────────────────► Open      ──────────────► HalfClosedRemote
///                                │  their END_STREAM           ▲   │
///                                ├─────────────────────────────┘   │ our END_STREAM
///                our END_STREAM  ▼                                 ▼
///                         HalfClosedLocal ──────────────────────► Closed
///                                           their END_STREAM
///   any state: RST_STREAM of either side ──► Reset
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Open,
    /// The peer has said all.
    HalfClosedRemote,
    /// We have.
    HalfClosedLocal,
    Closed,
    Reset(Code),
}

impl State {
    pub fn may_receive(self) -> bool {
        matches!(self, State::Open | State::HalfClosedLocal)
    }

    pub fn may_send(self) -> bool {
        matches!(self, State::Open | State::HalfClosedRemote)
    }

    fn after_their_end(self) -> State {
        match self {
            State::Open => State::HalfClosedRemote,
            State::HalfClosedLocal => State::Closed,
            other => other,
        }
    }

    fn after_our_end(self) -> State {
        match self {
            State::Open => State::HalfClosedLocal,
            State::HalfClosedRemote => State::Closed,
            other => other,
        }
    }
}

pub struct Stream {
    pub id: u32,
    pub state: State,
    /// What we may still send; negative after the peer has reduced its windows (RFC 9113 §6.9.2).
    pub send_window: i64,
    /// What the peer may still send.
    pub receive_window: u32,
    /// Taken by whoever reads, and not yet returned to the peer's window.
    pub taken: u32,
    /// Of the content-length, what is still to come.
    pub expected: Option<u64>,
    /// Payload that nobody has taken.
    pub received: Option<Buffer>,
    /// Lines of trailers, once they have come.
    pub trailers: Vec<u8>,
    /// What only a client's end of it knows.
    pub asked: Option<Box<Asked>>,
    /// Waits for its own window.
    pub waits: bool,
    /// Waits for the connection's, or for room among the frames that are to be sent.
    pub is_queued: bool,
    /// May send a frame before those who have had theirs.
    pub has_grant: bool,
}

/// A request that we have sent, or are about to send.
#[derive(Default)]
pub struct Asked {
    /// The final head of the response is still to come.
    pub awaits_head: bool,
    /// Heads of the response that nobody has taken, informational ones first, as HTTP/1.1.
    pub heads: Vec<u8>,
    /// It is for a head alone.
    pub is_head: bool,
    /// Bytes of the connection before it.
    pub begins_at: u64,
    /// The server has said that it has not looked at it, and never will.
    pub is_unseen: bool,
    /// What came of it breaks the protocol, so that we have reset the stream.
    pub is_malformed: bool,
}

impl Stream {
    pub fn new(id: u32, state: State, send_window: u32, receive_window: u32) -> Stream {
        Stream {
            id,
            state,
            send_window: i64::from(send_window),
            receive_window,
            taken: 0,
            expected: None,
            received: None,
            trailers: Vec::new(),
            asked: None,
            waits: false,
            is_queued: false,
            has_grant: false,
        }
    }

    /// Notes `count` bytes of payload, and the end; false if that contradicts the content-length.
    pub fn count(&mut self, count: u64, is_end: bool) -> bool {
        if let Some(expected) = &mut self.expected {
            let Some(rest) = expected.checked_sub(count) else { return false };
            *expected = rest;
            return !is_end || rest == 0;
        }
        true
    }

    pub fn they_end(&mut self) {
        self.state = self.state.after_their_end();
    }

    pub fn we_end(&mut self) {
        self.state = self.state.after_our_end();
    }

    /// False if the window would exceed what is possible.
    pub fn widen(&mut self, by: i64) -> bool {
        self.send_window += by;
        self.send_window <= i64::from(WINDOW_MAX)
    }
}
