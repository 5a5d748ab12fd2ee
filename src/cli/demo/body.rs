//! Owns the response bodies that the demo makes piece by piece: a long one of known length, and tokens with
//! pauses between them. None is held in memory as a whole.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Every body that the demo answers with.
#[derive(Debug)]
pub enum DemoBody {
    Whole(Full<Bytes>),
    Pattern(Pattern),
    Tokens(Tokens),
    /// What the client sends, as it arrives.
    Echo(Incoming),
}

impl Body for DemoBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            DemoBody::Whole(body) => Pin::new(body).poll_frame(context).map_err(never),
            DemoBody::Pattern(body) => Poll::Ready(body.next().map(|bytes| Ok(Frame::data(bytes)))),
            DemoBody::Tokens(body) => body.poll_next(context).map(|bytes| bytes.map(|b| Ok(Frame::data(b)))),
            DemoBody::Echo(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            DemoBody::Whole(body) => body.size_hint(),
            DemoBody::Pattern(body) => SizeHint::with_exact(body.left_bytes),
            DemoBody::Tokens(_) => SizeHint::default(),
            DemoBody::Echo(body) => body.size_hint(),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            DemoBody::Whole(body) => body.is_end_stream(),
            DemoBody::Pattern(body) => body.left_bytes == 0,
            DemoBody::Tokens(_) => false,
            DemoBody::Echo(body) => body.is_end_stream(),
        }
    }
}

fn never(impossible: Infallible) -> hyper::Error {
    match impossible {}
}

/// Byte i is i modulo 251: a reader can tell a missing, doubled or moved piece.
#[derive(Debug)]
pub struct Pattern {
    left_bytes: u64,
}

impl Pattern {
    pub fn new(bytes: u64) -> Self {
        Pattern { left_bytes: bytes }
    }

    fn next(&mut self) -> Option<Bytes> {
        let bytes = self.left_bytes.min(PATTERN_CHUNK.len() as u64);
        self.left_bytes -= bytes;
        // `as usize`: at most the length of a chunk.
        (bytes > 0).then(|| PATTERN_CHUNK.slice(..bytes as usize))
    }
}

/// A whole number of periods, so that every chunk begins alike.
static PATTERN_CHUNK: LazyLock<Bytes> =
    LazyLock::new(|| (0..PATTERN_PERIOD).cycle().take(256 * usize::from(PATTERN_PERIOD)).collect());
const PATTERN_PERIOD: u8 = 251;

/// Server-sent events, one per token, then `[DONE]`.
#[derive(Debug)]
pub struct Tokens {
    next: u32,
    count: u32,
    pause: Interval,
    done: bool,
}

impl Tokens {
    /// The first token comes at once. A pause of zero is one of a millisecond.
    pub fn new(count: u32, pause: Duration) -> Self {
        let mut pause = interval(pause.max(Duration::from_millis(1)));
        pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Tokens { next: 0, count, pause, done: false }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.done {
            return Poll::Ready(None);
        }
        ready!(self.pause.poll_tick(context));
        if self.next == self.count {
            self.done = true;
            return Poll::Ready(Some(Bytes::from_static(b"data: [DONE]\n\n")));
        }
        let index = self.next;
        self.next += 1;
        let token = WORDS[index as usize % WORDS.len()];
        let event = serde_json::json!({ "index": index, "token": token });
        Poll::Ready(Some(format!("data: {event}\n\n").into()))
    }
}

const WORDS: [&str; 12] =
    ["the", "tide", "comes", "in", "and", "the", "gate", "lets", "every", "ship", "through", "."];
