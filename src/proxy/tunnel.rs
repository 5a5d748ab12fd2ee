//! Owns a connection after 101 or a successful CONNECT: bytes both ways, each direction with its own end
//! (half-close is kept), until both ended, nothing moved for the tunnel's idle timeout, or its age is reached. A WebSocket
//! that we end is told so in its own words, on both sides.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::error::{Error, Kind};
use crate::http::h1_conn::{Reader, write_all};
use crate::http::websocket::{self, Frames};
use crate::net::tcp::Stream;
use crate::runtime::turns::Turns;

use super::client::{After, Client};
use super::deadline::bounded;
use super::end::End;
use super::exchange::Exchange;
use super::turn::Turn;
use super::ways::{Broken, Ends, Failed, both};

/// How long a tunnel may be.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Longest silence, both directions together.
    pub idle: Duration,
    /// In all.
    pub age: Option<Duration>,
}

pub async fn run(
    exchange: &Exchange,
    client: &mut Client,
    mut upstream: Reader,
    bounds: Bounds,
    is_websocket: bool,
) -> After {
    exchange.let_go_of_snapshot();
    let _open = Open::count(exchange);
    let Client { end, deadline, .. } = client;
    // No stream changes its protocol.
    let End::Http1(reader) = end else { return After::Abort };
    deadline.bound_request(bounds.age);
    let restart = || deadline.start(Kind::IdleTimeout, bounds.idle);
    restart();
    let (client_stream, upstream_stream) = (reader.stream.clone(), upstream.stream.clone());
    let facts = &exchange.facts;
    let core = &exchange.core;
    let (to_upstream, to_client) = (Direction::new(is_websocket), Direction::new(is_websocket));
    let ended = {
        let broken = Broken::default();
        let (ends_up, ends_down) = broken.ends();
        let up = copy(reader, &upstream_stream, &core.turns, &to_upstream, ends_up, |count| {
            restart();
            facts.request_bytes.set(facts.request_bytes.get() + count);
        });
        let down = copy(&mut upstream, &client_stream, &core.turns, &to_client, ends_down, |count| {
            restart();
            facts.response_bytes.set(facts.response_bytes.get() + count);
        });
        let (up, down) = (pin!(up), pin!(down));
        let mut both = pin!(both(up, down));
        let mut knows_of_drain = false;
        poll_fn(|context| {
            if let Poll::Ready(ended) = both.as_mut().poll(context) {
                return Poll::Ready(ended);
            }
            if is_websocket
                && !knows_of_drain
                && let Some(end) = core.tunnels_end.get()
            {
                knows_of_drain = true;
                deadline.end_request_by(end);
                restart();
            }
            deadline.poll(context).map(Err)
        })
        .await
    };
    match ended {
        Ok(()) => {}
        // One of them has gone in the middle: the other one must not take that for an end.
        Err(Error { kind: Kind::ClientClosed, .. }) => {
            upstream_stream.reset_on_close();
            client_stream.reset_on_close();
            return After::Abort;
        }
        Err(_) => {
            let mask = exchange.core.request_ids.make().mask();
            to_upstream.close(&upstream_stream, &websocket::close_to_server(mask));
            to_client.close(&client_stream, &websocket::close_to_client());
            deadline.bound_request(None);
            deadline.start(Kind::IdleTimeout, GOODBYE);
            let _ = bounded(pin!(goodbye(reader, &mut upstream)), deadline).await;
        }
    }
    upstream_stream.shutdown_both();
    client_stream.shutdown_both();
    After::Closed
}

/// For the end to be heard of on both sides, before what they still send would make a reset of it.
const GOODBYE: Duration = Duration::from_millis(500);

/// Says that nothing follows, and takes what comes until the client has said so too.
async fn goodbye(client: &mut Reader, upstream: &mut Reader) -> Result<(), Error> {
    for stream in [&client.stream, &upstream.stream] {
        stream.say_end().await;
        stream.shutdown_write();
    }
    loop {
        client.consume(client.bytes().len());
        if !matches!(client.fill().await, Ok(1..)) {
            return Ok(());
        }
    }
}

/// What is known of one direction.
struct Direction {
    /// Of a WebSocket.
    frames: Option<RefCell<Frames>>,
    /// Bytes are under way of which it is not known how many have gone.
    is_sending: Cell<bool>,
}

impl Direction {
    fn new(is_websocket: bool) -> Direction {
        Direction { frames: is_websocket.then(RefCell::default), is_sending: Cell::new(false) }
    }

    fn sends(&self) {
        self.is_sending.set(true);
    }

    fn sent(&self, bytes: &[u8]) {
        self.is_sending.set(false);
        if let Some(frames) = &self.frames {
            frames.borrow_mut().saw(bytes);
        }
    }

    /// Sends this Close if it would stand between two frames.
    fn close(&self, to: &Stream, frame: &[u8]) {
        let fits = self.frames.as_ref().is_some_and(|frames| frames.borrow().may_close());
        if fits && !self.is_sending.get() {
            // What the kernel has no room for now, nobody reads.
            let _ = to.try_write(frame);
        }
    }
}

/// Counts the tunnel until it drops.
struct Open<'a>(&'a Exchange);

impl<'a> Open<'a> {
    fn count(exchange: &'a Exchange) -> Open<'a> {
        exchange.core.metrics.tunnel_opened();
        Open(exchange)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.core.metrics.tunnel_closed();
    }
}

/// Moves bytes until the sender's FIN, which is passed on.
async fn copy(
    from: &mut Reader,
    to: &Stream,
    turns: &Turns,
    direction: &Direction,
    ends: Ends<'_>,
    moved: impl Fn(u64),
) -> Result<(), Failed<Error>> {
    let closed = |error| Error::with_source(Kind::ClientClosed, error);
    let mut turn = Turn::default();
    loop {
        let count = from.bytes().len();
        if count > 0 {
            direction.sends();
            let sent = write_all(to, from.bytes(), || {}).await;
            sent.map_err(|error| {
                ends.receiver_broke();
                Failed::Writing(closed(error))
            })?;
            direction.sent(from.bytes());
            from.consume(count);
            moved(count as u64);
        }
        turn.end_if_over(turns).await;
        match turn.fill(from, usize::MAX).await {
            Ok(0) if !ends.is_end(&from.stream) => return Err(Failed::Reading(Kind::ClientClosed.into())),
            Ok(0) => {
                to.say_end().await;
                to.shutdown_write();
                return Ok(());
            }
            Ok(_) => {}
            Err(error) => return Err(Failed::Reading(closed(error))),
        }
    }
}
