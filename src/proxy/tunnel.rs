//! Owns a connection, or a stream, after 101 or a successful CONNECT: bytes both ways, each direction with its own end
//! (half-close is kept), until both ended, nothing moved for the tunnel's idle timeout, or its age is reached. A WebSocket
//! that we end is told so in its own words, on both sides.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::error::{Error, Kind};
use crate::http::h1_conn::{Reader, write_all};
use crate::http::h2::frame::Code;
use crate::http::websocket::{self, Frames};
use crate::runtime::buffer::Buffer;
use crate::runtime::turns::Turns;

use super::client::{After, Client};
use super::deadline::bounded;
use super::end::{End, Outlet};
use super::exchange::Exchange;
use super::http2::{Http2Stream, Input};
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
    mut upstream: End,
    bounds: Bounds,
    is_websocket: bool,
) -> After {
    exchange.let_go_of_snapshot();
    let _open = Open::count(exchange);
    let Client { end, deadline, .. } = client;
    deadline.bound_request(bounds.age);
    let restart = || deadline.start(Kind::IdleTimeout, bounds.idle);
    restart();
    let (to_client, to_upstream) = (Sink::of(end, is_websocket), Sink::of(&upstream, is_websocket));
    let facts = &exchange.facts;
    let core = &exchange.core;
    let ended = {
        let broken = Broken::default();
        let (ends_up, ends_down) = broken.ends();
        let up = copy(Inlet::of(end), &to_upstream, &core.turns, ends_up, |count| {
            restart();
            facts.request_bytes.set(facts.request_bytes.get() + count);
        });
        let down = copy(Inlet::of(&mut upstream), &to_client, &core.turns, ends_down, |count| {
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
            to_upstream.reset();
            to_client.reset();
            return After::Abort;
        }
        Err(_) => {
            let mask = exchange.core.request_ids.make().mask();
            to_upstream.close(&websocket::close_to_server(mask));
            to_client.close(&websocket::close_to_client());
            deadline.bound_request(None);
            deadline.start(Kind::IdleTimeout, GOODBYE);
            let _ = bounded(pin!(goodbye(end, [&to_client, &to_upstream])), deadline).await;
        }
    }
    to_upstream.shut();
    to_client.shut();
    After::Closed
}

/// For the end to be heard of on both sides, before what they still send would make a reset of it.
const GOODBYE: Duration = Duration::from_millis(500);

/// Says that nothing follows, and takes what comes until the client has said so too.
async fn goodbye(client: &mut End, sinks: [&Sink; 2]) -> Result<(), Error> {
    for sink in sinks {
        // Who is gone needs no word.
        let _ = sink.end().await;
    }
    Inlet::of(client).forget().await;
    Ok(())
}

/// Where one direction comes from.
enum Inlet<'a> {
    Socket(&'a mut Reader),
    Stream(&'a Http2Stream, Option<Buffer>),
}

/// What there is.
enum More {
    Bytes,
    End,
}

impl<'a> Inlet<'a> {
    fn of(end: &'a mut End) -> Inlet<'a> {
        match end {
            End::Http1(reader) => Inlet::Socket(reader),
            End::Http2(stream) => Inlet::Stream(stream, None),
            End::Own(_) => unreachable!("a request of our own asks for no tunnel"),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Inlet::Socket(reader) => reader.bytes(),
            Inlet::Stream(_, piece) => piece.as_ref().map_or(&[], Buffer::filled),
        }
    }

    /// All of `bytes` is used.
    fn consume(&mut self) {
        match self {
            Inlet::Socket(reader) => reader.consume(reader.bytes().len()),
            Inlet::Stream(stream, piece) => {
                if let Some(piece) = piece.take() {
                    stream.credit(piece.len());
                }
            }
        }
    }

    /// Waits for more, with nothing of `bytes` left.
    async fn more(&mut self, turn: &mut Turn, ends: Ends<'_>) -> Result<More, Error> {
        match self {
            Inlet::Socket(reader) => match turn.fill(reader, usize::MAX).await {
                Ok(0) if !ends.is_end(&reader.stream) => Err(Kind::ClientClosed.into()),
                Ok(0) => Ok(More::End),
                Ok(_) => Ok(More::Bytes),
                Err(error) => Err(Error::with_source(Kind::ClientClosed, error)),
            },
            Inlet::Stream(stream, piece) => {
                let input = poll_fn(|context| {
                    let input = stream.poll_input(context);
                    turn.saw_wait(input.is_pending());
                    input
                });
                match input.await {
                    Input::Piece(next) => {
                        turn.moved(next.len());
                        *piece = Some(next);
                        Ok(More::Bytes)
                    }
                    Input::End(_) => Ok(More::End),
                    Input::Gone => Err(Kind::ClientClosed.into()),
                }
            }
        }
    }

    /// Takes what comes until the end.
    async fn forget(&mut self) {
        let (broken, mut turn) = (Broken::default(), Turn::default());
        let (ends, _) = broken.ends();
        self.consume();
        while let Ok(More::Bytes) = self.more(&mut turn, ends).await {
            self.consume();
        }
    }
}

/// Where one direction goes, and what is known of it.
struct Sink {
    to: Outlet,
    /// Of a WebSocket.
    frames: Option<RefCell<Frames>>,
    /// Bytes are under way of which it is not known how many have gone.
    is_sending: Cell<bool>,
}

impl Sink {
    fn of(end: &End, is_websocket: bool) -> Sink {
        let frames = is_websocket.then(RefCell::default);
        Sink { to: end.outlet(), frames, is_sending: Cell::new(false) }
    }

    async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.is_sending.set(true);
        match &self.to {
            Outlet::Http1(stream) => write_all(stream, bytes, || {}).await?,
            Outlet::Http2(stream) => stream.send(bytes, false, || {}).await?,
            Outlet::Own(_) => {}
        }
        self.is_sending.set(false);
        if let Some(frames) = &self.frames {
            frames.borrow_mut().saw(bytes);
        }
        Ok(())
    }

    /// Says that nothing follows.
    async fn end(&self) -> io::Result<()> {
        match &self.to {
            Outlet::Http1(stream) => {
                stream.say_end().await;
                stream.shutdown_write();
                Ok(())
            }
            Outlet::Http2(stream) => stream.send(&[], true, || {}).await,
            Outlet::Own(_) => Ok(()),
        }
    }

    /// Sends this Close if it would stand between two frames.
    fn close(&self, frame: &[u8]) {
        let fits = self.frames.as_ref().is_some_and(|frames| frames.borrow().may_close());
        if fits && !self.is_sending.get() {
            // What there is no room for now, nobody reads.
            match &self.to {
                Outlet::Http1(stream) => _ = stream.try_write(frame),
                Outlet::Http2(stream) => _ = stream.try_send(frame, false),
                Outlet::Own(_) => {}
            }
        }
    }

    /// Whoever reads must not take what follows for an end.
    fn reset(&self) {
        match &self.to {
            Outlet::Http1(stream) => stream.reset_on_close(),
            Outlet::Http2(stream) => stream.ends_with(Code::Connect),
            Outlet::Own(_) => {}
        }
    }

    fn shut(&self) {
        match &self.to {
            Outlet::Http1(stream) => stream.shutdown_both(),
            Outlet::Http2(stream) => stream.ends_with(Code::NoError),
            Outlet::Own(_) => {}
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
    mut from: Inlet<'_>,
    to: &Sink,
    turns: &Turns,
    ends: Ends<'_>,
    moved: impl Fn(u64),
) -> Result<(), Failed<Error>> {
    let failed = |error| {
        ends.receiver_broke();
        Failed::Writing(Error::with_source(Kind::ClientClosed, error))
    };
    let mut turn = Turn::default();
    loop {
        let count = from.bytes().len();
        if count > 0 {
            to.send(from.bytes()).await.map_err(failed)?;
            from.consume();
            moved(count as u64);
        }
        turn.end_if_over(turns).await;
        match from.more(&mut turn, ends).await.map_err(Failed::Reading)? {
            More::Bytes => {}
            More::End => return to.end().await.map_err(failed),
        }
    }
}
