//! Owns the request body on its way up: how much of it is there already, whether it is too large, and the
//! relay of the rest, validated before it is passed on. Does not wait for the response.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use crate::error::{Error, Kind};
use crate::http::h1_body::{Advance, ChunkedDecoder};
use crate::http::h1_conn::{Reader, write_all};
use crate::http::head::{Framing, is_alike};
use crate::net::tcp::Stream;

use super::bounds::Bounds;
use super::client::Client;
use super::deadline::{Deadline, bounded, supervised};
use super::end::End;
use super::exchange::Exchange;
use super::http2::{Http2Stream, Input};
use super::media::MediaType;
use super::routed::view;
use super::rule::Route;
use super::shadow;
use super::splice::{self, Broken, Course};
use super::turn::Turn;

mod to_stream;

/// Behind a chunked body's trailers.
const LINE_END: usize = 2;

pub use to_stream::{Replay, Whole};

/// The body of a request at the moment its route is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upload {
    None,
    /// All of it, framing included, lies in the client's buffer: these many bytes. Sent along with the head,
    /// and kept until the exchange is over, so that a retry can send it again.
    Whole(usize),
    /// Relayed as it arrives.
    Stream,
}

/// Judges the body by the head and by what has arrived with it.
pub fn admit(exchange: &Exchange, client: &Client, route: &Route) -> Result<Upload, Error> {
    let (arrived, chunks): (usize, &[u8]) = match &client.end {
        End::Http1(reader) => (reader.bytes().len(), reader.bytes()),
        // Whatever is there has no framing of its own.
        End::Http2(stream) => (stream.arrived().0, &[]),
        End::Own(own) => (own.body.len(), &own.body),
    };
    if exchange.head.framing != Framing::None && !route.takes.is_empty() {
        let sent = view(exchange).only_value("content-type").unwrap_or_default();
        if !route.takes.iter().any(|takes| takes.is_of(sent)) {
            return Err(Error::with_source(Kind::UnsupportedMediaType, Takes(route.takes.clone())));
        }
    }
    let is_judged_by_message = exchange.call.is_some() && exchange.is_http2;
    match exchange.head.framing {
        Framing::None | Framing::Close => Ok(Upload::None),
        Framing::Length(length) if length > route.body_bytes_max && !is_judged_by_message => {
            Err(Kind::BodyTooLarge.into())
        }
        Framing::Length(length) if length <= arrived as u64 => {
            exchange.facts.request_bytes.set(length);
            Ok(Upload::Whole(length as usize))
        }
        Framing::Length(_) => Ok(Upload::Stream),
        Framing::Chunked if chunks.is_empty() => Ok(Upload::Stream),
        Framing::Chunked => admit_chunked(exchange, chunks, route),
    }
}

/// What has come of the body of a request that is refused is passed over, so that the connection serves the next one.
pub fn skip(exchange: &mut Exchange, client: &mut Client, upload: Upload) {
    // Who has taken it before has said so by the framing.
    if let Upload::Whole(length) = upload
        && exchange.head.framing != Framing::None
    {
        client.end.consume(length);
        exchange.head.framing = Framing::None;
    }
}

/// Refuses trailers that say what only we may say: endpoints may take them for fields.
fn check_trailers(exchange: &Exchange, lines: &[u8]) -> Result<(), Error> {
    let Some(reserved) = &exchange.reserved else { return Ok(()) };
    let mut names =
        lines.split(|&byte| byte == b'\n').filter_map(|line| line.split(|&byte| byte == b':').next());
    match names.any(|name| reserved.iter().any(|known| is_alike(name, known.as_bytes()))) {
        true => Err(Error::with_source(Kind::BadRequestBody, "a trailer says what only the gateway may")),
        false => Ok(()),
    }
}

/// What a route takes instead.
#[derive(Debug)]
struct Takes(Vec<MediaType>);

impl fmt::Display for Takes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(MediaType::to_string).collect();
        f.write_str(&names.join(", "))
    }
}

impl std::error::Error for Takes {}

fn admit_chunked(exchange: &Exchange, arrived: &[u8], route: &Route) -> Result<Upload, Error> {
    let limits = exchange.snapshot().map(|snapshot| snapshot.settings.chunk_limits).unwrap_or_default();
    let mut decoder = ChunkedDecoder::new(limits);
    let advance = decoder.advance(arrived, |_| {});
    let advance = advance.map_err(|error| Error::with_source(Kind::BadRequestBody, error))?;
    if decoder.payload_bytes_announced() > route.body_bytes_max {
        return Err(Kind::BodyTooLarge.into());
    }
    if !advance.complete {
        return Ok(Upload::Stream);
    }
    let lines_end = advance.consumed - LINE_END;
    check_trailers(exchange, &arrived[lines_end - decoder.trailer_bytes()..lines_end])?;
    exchange.facts.request_bytes.set(decoder.payload_bytes());
    Ok(Upload::Whole(advance.consumed))
}

/// What the two directions of one try tell each other. Both run in one task.
#[derive(Default)]
pub struct Progress {
    /// The head is with the upstream: the body may follow.
    pub head_sent: Cell<bool>,
    /// The whole body is with the upstream.
    pub upload_done: Cell<bool>,
    /// A byte of a streamed body was taken from the client: it cannot be sent again.
    pub upload_begun: Cell<bool>,
    /// Between two messages of a call its client may be silent for as long as the endpoint may.
    pub rests: Cell<bool>,
    /// The upstream takes no more of the body: it closed or reset its side.
    pub upload_failed: Cell<bool>,
    /// The upstream's response head is complete.
    pub head_received: Cell<bool>,
    /// The response's direction waits for the upstream, not for the client.
    pub receiving: Cell<bool>,
    /// The upstream's go-ahead (100) went to a client that waits for it.
    pub told_to_go_on: Cell<bool>,
}

/// Where a body goes.
pub enum Outgoing<'a> {
    Http1(&'a Stream),
    /// With what is left to send of a body that was all there.
    Http2(&'a Http2Stream, Option<Whole>),
}

/// The client's direction of a try.
pub struct Uplink<'a> {
    pub exchange: &'a Exchange,
    pub progress: &'a Progress,
    pub upload: Upload,
    pub bounds: &'a Bounds,
    /// Of what was taken from a client's stream, what another try may need.
    pub replay: &'a Replay,
    /// The response's clock, which starts when the body is through.
    pub response_deadline: &'a Deadline,
}

impl Uplink<'_> {
    /// Relays the body, then watches the client. Ends only with what ends the exchange.
    pub async fn run(&self, client: &mut End, upstream: &Outgoing<'_>) -> Error {
        if (self.upload == Upload::Stream || matches!(upstream, Outgoing::Http2(_, Some(_))))
            // Apart, since most requests have no body to make room for.
            && let Err(error) = Box::pin(self.stream(client, upstream)).await
        {
            return error;
        }
        client.gone().await;
        Kind::ClientClosed.into()
    }

    async fn stream(&self, client: &mut End, upstream: &Outgoing<'_>) -> Result<(), Error> {
        poll_fn(|_| if self.progress.head_sent.get() { Poll::Ready(()) } else { Poll::Pending }).await;
        match self.relay(client, upstream).await {
            Ok(()) => self.progress.upload_done.set(true),
            // The upstream takes no more: it may have answered already, and then closed.
            Err(error) if error.kind == Kind::UpstreamClosed => self.progress.upload_failed.set(true),
            Err(error) => return Err(error),
        }
        self.expect_answer();
        Ok(())
    }

    /// From now on the upstream has nothing to wait for but itself.
    fn expect_answer(&self) {
        if !self.progress.head_received.get() {
            self.response_deadline.start(Kind::FirstByteTimeout, self.bounds.upstream_timeouts.first_byte);
        } else if self.progress.receiving.get() {
            self.response_deadline.start(Kind::ResponseTimeout, self.bounds.upstream_timeouts.idle);
        }
    }

    /// The client may be waiting for the upstream's 100: its silence is then nobody's fault yet.
    fn client_waits_for_go_ahead(&self) -> bool {
        let begun = self.progress.upload_begun.get() || self.progress.told_to_go_on.get();
        self.exchange.head.expect_continue && !begun
    }

    async fn relay(&self, client: &mut End, upstream: &Outgoing<'_>) -> Result<(), Error> {
        let deadline = Deadline::new(self.exchange.core.timers.timer());
        let upstream = match upstream {
            Outgoing::Http1(upstream) => *upstream,
            Outgoing::Http2(stream, Some(whole)) => return self.rest(stream, whole, &deadline).await,
            Outgoing::Http2(stream, None) => return self.to_stream(client, stream, &deadline).await,
        };
        let client = match client {
            End::Http1(reader) => reader,
            // Apart, as the largest of them.
            End::Http2(stream) => return Box::pin(self.relay_http2(stream, upstream, &deadline)).await,
            // All of it went with the head.
            End::Own(_) => return Ok(()),
        };
        match self.exchange.head.framing {
            Framing::Length(length) => self.relay_length(client, upstream, length, &deadline).await,
            Framing::Chunked => self.relay_chunked(client, upstream, &deadline).await,
            Framing::None | Framing::Close => Ok(()),
        }
    }

    async fn relay_length(
        &self,
        client: &mut Reader,
        upstream: &Stream,
        length: u64,
        deadline: &Deadline,
    ) -> Result<(), Error> {
        let mut remaining = length;
        let mut turn = Turn::default();
        while remaining > 0 {
            if client.bytes().is_empty() && self.may_splice(client, upstream, remaining) {
                remaining = self.splice(client, upstream, remaining, &mut turn, deadline).await?;
                if remaining == 0 {
                    break;
                }
            }
            if client.bytes().is_empty() {
                self.fill(client, remaining, &mut turn, deadline).await?;
            }
            let piece = client.bytes().len().min(usize::try_from(remaining).unwrap_or(usize::MAX));
            self.inspect(&client.bytes()[..piece], piece as u64 == remaining)?;
            self.send(upstream, &client.bytes()[..piece], deadline).await?;
            client.consume(piece);
            remaining -= piece as u64;
            self.exchange.facts.request_bytes.set(length - remaining);
        }
        Ok(())
    }

    /// As much without a copy, as far as there are pipes; returns what is left.
    async fn splice(
        &self,
        client: &mut Reader,
        upstream: &Stream,
        remaining: u64,
        turn: &mut Turn,
        deadline: &Deadline,
    ) -> Result<u64, Error> {
        let course = Up { link: self, deadline };
        let core = &self.exchange.core;
        let moved = async {
            let moved = splice::splice(
                core,
                client,
                upstream,
                remaining,
                self.bounds.splice.pipes_max,
                turn,
                &course,
            )
            .await;
            moved.map_err(|broken| match broken {
                Broken::Sender(None) => Kind::ClientClosed.into(),
                Broken::Sender(Some(error)) => Error::with_source(Kind::ClientClosed, error),
                Broken::Receiver(error) => Error::with_source(Kind::UpstreamClosed, error).after_sending(),
            })
        };
        bounded(pin!(moved), deadline).await
    }

    async fn relay_chunked(
        &self,
        client: &mut Reader,
        upstream: &Stream,
        deadline: &Deadline,
    ) -> Result<(), Error> {
        let mut decoder = ChunkedDecoder::new(self.bounds.chunk_limits);
        let mut turn = Turn::default();
        loop {
            let advance = self.advance(&mut decoder, client.bytes(), |_| {})?;
            self.send(upstream, &client.bytes()[..advance.consumed], deadline).await?;
            client.consume(advance.consumed);
            if advance.complete {
                return Ok(());
            }
            // All that was received is sent, so that the rest of a large chunk needs no look.
            let left = decoder.chunk_bytes_left();
            if self.may_splice(client, upstream, left) {
                decoder.pass(left - self.splice(client, upstream, left, &mut turn, deadline).await?);
            }
            self.fill(client, u64::MAX, &mut turn, deadline).await?;
        }
    }

    /// A stream's payload, which gets the framing that the head has announced.
    async fn relay_http2(
        &self,
        client: &Http2Stream,
        upstream: &Stream,
        deadline: &Deadline,
    ) -> Result<(), Error> {
        let is_chunked = self.exchange.head.framing == Framing::Chunked;
        let total = &self.exchange.facts.request_bytes;
        let mut framed = Vec::new();
        for piece in self.replay.end() {
            self.send_piece(client, upstream, piece.filled(), &mut framed, deadline).await?;
        }
        client.credit(self.replay.owed());
        loop {
            self.client_is_silent(deadline);
            let input = async { Ok(client.input().await) };
            let piece = match bounded(pin!(input), deadline).await? {
                Input::Piece(piece) => piece,
                Input::End(trailers) if is_chunked => {
                    check_trailers(self.exchange, &trailers)?;
                    self.inspect(&[], true)?;
                    framed.clear();
                    framed.extend_from_slice(b"0\r\n");
                    framed.extend_from_slice(&trailers);
                    framed.extend_from_slice(b"\r\n");
                    return self.send(upstream, &framed, deadline).await;
                }
                Input::End(_) => return Ok(()),
                Input::Gone => return Err(Kind::ClientClosed.into()),
            };
            let bytes = piece.filled();
            total.set(total.get() + bytes.len() as u64);
            if total.get() > self.bounds.body_bytes_max {
                return Err(Kind::BodyTooLarge.into());
            }
            let is_last = self.exchange.head.framing == Framing::Length(total.get());
            self.inspect(bytes, is_last)?;
            self.send_piece(client, upstream, bytes, &mut framed, deadline).await?;
            client.credit(bytes.len());
        }
    }

    /// Sends a piece of a stream's payload in the framing that the head has announced. `framed` is room for it.
    async fn send_piece(
        &self,
        client: &Http2Stream,
        upstream: &Stream,
        bytes: &[u8],
        framed: &mut Vec<u8>,
        deadline: &Deadline,
    ) -> Result<(), Error> {
        const COPIED_BYTES_MAX: usize = 8 * 1024;
        let is_chunked = self.exchange.head.framing == Framing::Chunked;
        framed.clear();
        if is_chunked {
            framed.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
        }
        // One copy of a small piece is cheaper than two more sends.
        if is_chunked && bytes.len() <= COPIED_BYTES_MAX {
            framed.extend_from_slice(bytes);
            framed.extend_from_slice(b"\r\n");
            return self.send_or_gone(client, upstream, framed, deadline).await;
        }
        self.send_or_gone(client, upstream, framed, deadline).await?;
        self.send_or_gone(client, upstream, bytes, deadline).await?;
        let end: &[u8] = if is_chunked { b"\r\n" } else { b"" };
        self.send_or_gone(client, upstream, end, deadline).await
    }

    /// `send`, which ends with the client too: its stream may be reset while the upstream takes nothing.
    async fn send_or_gone(
        &self,
        client: &Http2Stream,
        upstream: &Stream,
        bytes: &[u8],
        deadline: &Deadline,
    ) -> Result<(), Error> {
        let left = async {
            client.gone().await;
            Kind::ClientClosed.into()
        };
        // Its clock is restarted with each step by `send` itself.
        supervised(pin!(self.send(upstream, bytes, deadline)), pin!(left), deadline).await
    }

    /// What has come of the body's payload, before it goes on. `is_last`: nothing follows it.
    fn inspect(&self, payload: &[u8], is_last: bool) -> Result<(), Error> {
        if let Some(inspection) = &self.exchange.inspection {
            inspection.take(payload, is_last)?;
        }
        shadow::take(self.exchange, payload, is_last);
        Ok(())
    }

    /// Takes more of a chunked body: all of the framing is judged, and of the payload what its route checks.
    fn advance(
        &self,
        decoder: &mut ChunkedDecoder,
        bytes: &[u8],
        mut payload: impl FnMut(&[u8]),
    ) -> Result<Advance, Error> {
        let mut judged = Ok(());
        let trailers_before = decoder.trailer_bytes();
        let advance = decoder.advance(bytes, |piece| {
            if judged.is_ok() {
                judged = self.inspect(piece, false);
            }
            payload(piece);
        });
        let advance = advance.map_err(|error| Error::with_source(Kind::BadRequestBody, error))?;
        self.exchange.facts.request_bytes.set(decoder.payload_bytes());
        if decoder.payload_bytes_announced() > self.bounds.body_bytes_max {
            return Err(Kind::BodyTooLarge.into());
        }
        judged?;
        if decoder.trailer_bytes() > trailers_before {
            let lines_end = advance.consumed - if advance.complete { LINE_END } else { 0 };
            let lines = &bytes[lines_end - (decoder.trailer_bytes() - trailers_before)..lines_end];
            check_trailers(self.exchange, lines)?;
        }
        if advance.complete {
            self.inspect(&[], true)?;
        }
        Ok(advance)
    }

    /// Whether what is still to come may pass from socket to socket.
    fn may_splice(&self, client: &Reader, upstream: &Stream, remaining: u64) -> bool {
        let is_seen = self.exchange.inspection.as_ref().is_none_or(|inspection| inspection.is_over());
        is_seen
            && self.exchange.shadow.borrow().is_none()
            && client.stream.may_splice_to(upstream)
            && self.bounds.splice.takes(remaining)
    }

    /// Receives more of the body, at most `most` bytes.
    async fn fill(
        &self,
        client: &mut Reader,
        most: u64,
        turn: &mut Turn,
        deadline: &Deadline,
    ) -> Result<(), Error> {
        turn.end_if_over(&self.exchange.core.turns).await;
        if client.is_full() {
            if client.is_large() {
                return Err(Kind::BadRequestBody.into());
            }
            client.grow()?;
        }
        self.client_is_silent(deadline);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let filled = async {
            match turn.fill(client, most).await {
                Ok(0) => Err(Kind::ClientClosed.into()),
                Ok(_) => Ok(()),
                Err(error) => Err(Error::with_source(Kind::ClientClosed, error)),
            }
        };
        bounded(pin!(filled), deadline).await
    }

    async fn send(&self, upstream: &Stream, bytes: &[u8], deadline: &Deadline) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.begin();
        let restart = || deadline.start(Kind::ResponseTimeout, self.bounds.upstream_timeouts.idle);
        restart();
        let sent = async {
            let sent = write_all(upstream, bytes, restart).await;
            sent.map_err(|error| Error::with_source(Kind::UpstreamClosed, error).after_sending())
        };
        bounded(pin!(sent), deadline).await
    }

    /// A part of the body is taken from the client.
    fn begin(&self) {
        if !self.progress.upload_begun.replace(true) && !self.progress.head_received.get() {
            // The body flows: its own clocks run now.
            self.response_deadline.pause();
        }
    }

    fn client_is_silent(&self, deadline: &Deadline) {
        match self.client_waits_for_go_ahead() {
            true => deadline.pause(),
            false => deadline.start(Kind::BodyTimeout, self.bounds.client_timeouts.body),
        }
    }
}

/// The clocks and counts of a spliced request body.
struct Up<'a> {
    link: &'a Uplink<'a>,
    deadline: &'a Deadline,
}

impl Course for Up<'_> {
    fn awaits_sender(&self) {
        self.link.client_is_silent(self.deadline);
    }

    fn taken(&self) {
        self.link.begin();
    }

    fn awaits_receiver(&self) {
        self.deadline.start(Kind::ResponseTimeout, self.link.bounds.upstream_timeouts.idle);
    }

    fn moved(&self, bytes: u64) {
        let total = &self.link.exchange.facts.request_bytes;
        total.set(total.get() + bytes);
    }
}
