//! Owns the response on its way down: the upstream's head, informational ones before it, and the body, each
//! piece validated before it is passed on. A body that ends early ends the client's connection visibly.
//! Does not choose, retry or pool.

use std::time::Instant;

use crate::error::{Error, Kind};
use crate::http::grpc;
use crate::http::h1_body::ChunkedDecoder;
use crate::http::h1_conn::Reader;
use crate::http::h1_parse::{self, HeadError, Progress as HeadProgress};
use crate::http::head::{Framing, Method, ResponseHead};
use crate::net::tcp::Stream;

use super::body::{Progress, Upload};
use super::bounds::Bounds;
use super::client::After;
use super::deadline::Deadline;
use super::end::Outlet;
use super::exchange::Exchange;
use super::grpc::Reset;
use super::http2::{Failure, Http2Stream};
use super::routed::Routed;
use super::splice::{self, Broken, Course};
use super::transform::{self, Answer};
use super::turn::Turn;

mod of_stream;

/// Informational responses relayed before the final one; more is an attack or a loop.
const INFORMATIONAL_MAX: u32 = 32;

/// The upstream's direction of a try.
pub struct Downlink<'a> {
    pub exchange: &'a Exchange,
    pub progress: &'a Progress,
    pub upload: Upload,
    pub bounds: &'a Bounds,
    pub deadline: &'a Deadline,
    pub client: &'a Outlet,
    /// When this try began.
    pub started: Instant,
}

/// How the two directions of a try ended together.
pub enum Ended {
    /// The response is with the client, whole.
    Complete { upstream_reusable: bool, after: After },
    /// The response was not wanted: another try follows.
    GivenUp,
    /// 101, or 2xx to CONNECT: from here on bytes only.
    Switched,
}

/// Where a response comes from.
pub enum Source<'a> {
    Http1(&'a mut Reader),
    Http2(Answering<'a>),
}

/// A stream at an endpoint, and what of its heads has not been used.
pub struct Answering<'a> {
    pub stream: &'a Http2Stream,
    pub heads: Vec<u8>,
}

impl Source<'_> {
    /// The gRPC status of an answer that is a head, and nothing else.
    pub fn bare_status(&self, head: &Received) -> Option<u8> {
        let bytes = self.bytes();
        let is_bare = self.length_at_hand() == Some(0) && head.status == 200;
        let mut fields = head.head.fields.iter().filter(|_| is_bare);
        let field = fields.find(|field| field.name.of(bytes) == b"grpc-status")?;
        grpc::status(field.value.of(bytes))
    }

    /// Whether a gRPC call's answer says at its end how it went.
    pub fn says_at_its_end(&self, head: &Received) -> bool {
        matches!(self, Source::Http2(_)) && head.status == 200 && self.bare_status(head).is_none()
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Source::Http1(reader) => reader.bytes(),
            Source::Http2(answering) => &answering.heads,
        }
    }

    fn consume(&mut self, count: usize) {
        match self {
            Source::Http1(reader) => reader.consume(count),
            Source::Http2(answering) => _ = answering.heads.drain(..count),
        }
    }
}

/// A response head with where it came from; its spans index the first bytes there.
pub struct Received {
    head: Box<ResponseHead>,
    pub status: u16,
}

impl Downlink<'_> {
    /// Where what is still to come may pass from socket to socket.
    fn may_splice(&self, upstream: &Reader, remaining: u64) -> Option<&Stream> {
        self.client.may_splice_from(&upstream.stream).filter(|_| self.bounds.splice.takes(remaining))
    }

    /// The final response head (or 101), relaying informational ones. Leaves the head's bytes in `upstream`.
    pub async fn receive_head(&self, upstream: &mut Source<'_>) -> Result<Received, Error> {
        let mut head = self.exchange.core.response_heads.take();
        for _ in 0..=INFORMATIONAL_MAX {
            match upstream {
                Source::Http1(reader) => self.receive_one_head(reader, &mut head).await?,
                Source::Http2(answering) => self.take_one_head(answering, &mut head).await?,
            }
            self.note_first_byte();
            if !is_informational(head.status) {
                self.progress.head_received.set(true);
                return Ok(Received { status: head.status, head });
            }
            if !self.exchange.client_is_http10() {
                Box::pin(self.inform(upstream.bytes(), &head)).await?;
            }
            upstream.consume(head.head_len);
            self.await_next_head();
        }
        Err(Error::with_source(Kind::BadResponse, "too many informational responses"))
    }

    /// Relays an informational response whole.
    async fn inform(&self, bytes: &[u8], head: &ResponseHead) -> Result<(), Error> {
        let mut out = self.exchange.core.take_scratch();
        transform::informational(bytes, head, &mut out);
        let facts = &self.exchange.facts;
        // Half of it would be a broken answer: an error meanwhile can only abort.
        facts.answered.set(true);
        let sent = self.client.inform(&out, || self.client_is_slow()).await;
        sent.map_err(|error| Error::with_source(Kind::ClientClosed, error))?;
        facts.answered.set(false);
        facts.informed.set(true);
        self.exchange.core.give_back_scratch(out);
        Ok(())
    }

    /// After an informational response: who is to move next?
    fn await_next_head(&self) {
        if self.progress.upload_done.get() || self.progress.upload_failed.get() {
            self.deadline.start(Kind::FirstByteTimeout, self.bounds.upstream_timeouts.first_byte);
        } else if self.exchange.head.expect_continue && !self.progress.upload_begun.get() {
            self.progress.told_to_go_on.set(true);
            self.deadline.start(Kind::BodyTimeout, self.bounds.client_timeouts.body);
        } else {
            self.upstream_is_silent();
        }
    }

    async fn receive_one_head(&self, upstream: &mut Reader, head: &mut ResponseHead) -> Result<(), Error> {
        let mut progress = HeadProgress::default();
        loop {
            if !upstream.bytes().is_empty() {
                match h1_parse::parse_response(
                    upstream.bytes(),
                    &mut progress,
                    &self.bounds.head_limits,
                    head,
                ) {
                    Ok(true) => return Ok(()),
                    Ok(false) => {}
                    Err(error) => return Err(bad_response(error)),
                }
            }
            if upstream.is_full() {
                if upstream.is_large() {
                    return Err(bad_response(HeadError::TooLarge));
                }
                upstream.grow()?;
            }
            match upstream.fill().await {
                Ok(0) if upstream.bytes().is_empty() => {
                    return Err(Error::new(Kind::UpstreamClosed).after_sending());
                }
                Ok(0) => {
                    return Err(Error::with_source(Kind::BadResponse, "the head ended early").after_sending());
                }
                Ok(_) => {}
                Err(error) => return Err(Error::with_source(Kind::UpstreamClosed, error).after_sending()),
            }
        }
    }

    async fn take_one_head(&self, from: &mut Answering<'_>, head: &mut ResponseHead) -> Result<(), Error> {
        if from.heads.is_empty() {
            from.heads = from.stream.heads().await.map_err(failed)?;
        }
        let limits = &self.bounds.head_limits;
        match h1_parse::parse_response(&from.heads, &mut HeadProgress::default(), limits, head) {
            Ok(true) => Ok(()),
            // The text is whole: it can only be too long.
            Ok(false) => Err(bad_response(HeadError::TooLarge)),
            Err(error) => Err(bad_response(error)),
        }
    }

    fn note_first_byte(&self) {
        if !self.progress.head_received.get() {
            let now = self.exchange.core.timers.now();
            self.exchange.facts.first_byte.set(Some(now.saturating_duration_since(self.started)));
        }
    }

    fn client_is_slow(&self) {
        self.deadline.start(Kind::ClientStalled, self.bounds.client_timeouts.write);
    }

    /// The upstream is to move next, if it has the whole body, or all that its client has to say for now.
    fn upstream_is_silent(&self) {
        let Progress { upload_done, upload_failed, rests, .. } = self.progress;
        if upload_done.get() || upload_failed.get() || rests.get() {
            self.deadline.start(Kind::ResponseTimeout, self.bounds.upstream_timeouts.idle);
        } else {
            // It may be waiting for the rest of the body, which has clocks of its own.
            self.deadline.pause();
        }
    }

    fn sent(&self, payload_bytes: u64) {
        let total = &self.exchange.facts.response_bytes;
        total.set(total.get() + payload_bytes);
    }
}

fn is_informational(status: u16) -> bool {
    (100..200).contains(&status) && status != 101
}

/// No answer came, for this reason.
fn failed(failure: Failure) -> Error {
    match failure {
        Failure::Unseen => Error::with_source(Kind::UpstreamClosed, "it had not looked at the request"),
        Failure::Refused => Kind::UpstreamRefused.into(),
        Failure::Reset(code) => Error::with_source(Kind::UpstreamReset, Reset(code)).after_sending(),
        Failure::Malformed => Error::with_source(Kind::BadResponse, "malformed HTTP/2").after_sending(),
        Failure::Closed => Error::new(Kind::UpstreamClosed).after_sending(),
    }
}

fn bad_response(error: HeadError) -> Error {
    Error::with_source(Kind::BadResponse, error).after_sending()
}

/// Relays a response whose head is complete. Takes `routed` as soon as the head is rendered.
pub async fn relay(
    link: &Downlink<'_>,
    routed: &mut Option<Routed>,
    upstream: &mut Source<'_>,
    received: Received,
) -> Result<Ended, Error> {
    let exchange = link.exchange;
    let head = received.head;
    let switched = is_switch(link, upstream, &head)?;
    let framing =
        if switched { Framing::None } else { h1_parse::response_framing(&head, exchange.head.method) };
    exchange.call.iter().for_each(|call| call.is_answered(&head, upstream.bytes()));
    let is_translated = exchange.call.as_ref().is_some_and(|call| call.translated().is_some());
    let length = upstream.length_at_hand().filter(|length| !is_translated || *length == 0);
    let length = length.filter(|_| matches!(framing, Framing::Chunked | Framing::Close));
    let framing = match length {
        Some(length) => Framing::Length(length),
        // It gets trailers behind it, and may become text.
        None if is_translated && framing != Framing::None => Framing::Chunked,
        None => framing,
    };
    let mut answer = Answer::new(exchange, head.status, framing, switched, link.progress.upload_done.get());
    answer.length = length;
    let mut out = exchange.core.take_scratch();
    if let Some(plan) = routed.as_ref() {
        transform::response_head(exchange, plan, upstream.bytes(), &head, &answer, &mut out);
    }
    let upstream_keeps_alive = head.allows_reuse_after(exchange.head.method);
    upstream.consume(head.head_len);
    exchange.facts.status.set(answer.status);
    exchange.core.response_heads.give_back(head);

    let mut body = Body { link, head: out, routed };
    match upstream {
        Source::Http1(reader) => {
            if !body.at_once(reader, framing, switched).await? {
                // Apart, since most responses are small and need no room for this.
                Box::pin(body.relay(reader, framing, &answer)).await?;
            }
        }
        Source::Http2(answering) => body.of_stream(answering.stream, framing, &answer).await?,
    }
    let out = std::mem::take(&mut body.head);
    exchange.core.give_back_scratch(out);
    if switched {
        return Ok(Ended::Switched);
    }
    let upload_done = link.progress.upload_done.get();
    let upstream_reusable = upstream_keeps_alive && upload_done && framing != Framing::Close;
    let after = if answer.keep_alive && upload_done { After::KeepAlive } else { After::Close };
    Ok(Ended::Complete { upstream_reusable, after })
}

/// Whether the connection changes protocol; an unasked 101 is refused (RFC 9110 §15.2.2).
fn is_switch(link: &Downlink<'_>, from: &Source<'_>, head: &ResponseHead) -> Result<bool, Error> {
    let exchange = link.exchange;
    let of_protocol = matches!(from, Source::Http2(_)) && transform::protocol_to_connect(exchange).is_some();
    match head.status {
        // Before the body is through, its rest would pass for bytes of the new protocol.
        101 if !link.progress.upload_done.get() => {
            Err(Error::with_source(Kind::BadResponse, "101 before the request was complete"))
        }
        101 if !transform::answers_key(exchange, from.bytes(), head) => {
            Err(Error::with_source(Kind::BadResponse, "101 that answers another key"))
        }
        101 if transform::asks_for_upgrade(exchange) && head.upgrade => Ok(true),
        101 => Err(Error::with_source(Kind::BadResponse, "101 to a request that asked for no upgrade")),
        200..=299 if of_protocol => Ok(true),
        200..=299 if exchange.is_extended_connect() => {
            Err(Error::with_source(Kind::BadResponse, "it has not changed the protocol"))
        }
        200..=299 => Ok(exchange.head.method == Method::Connect),
        _ => Ok(false),
    }
}

/// The relay of one body. The head waits in `head` to leave together with the first piece.
struct Body<'a, 'l> {
    link: &'a Downlink<'l>,
    head: Vec<u8>,
    routed: &'a mut Option<Routed>,
}

impl Body<'_, '_> {
    /// Sends the head, with the body if all of it is there; `false` if the body is still to be relayed.
    async fn at_once(
        &mut self,
        upstream: &mut Reader,
        framing: Framing,
        switched: bool,
    ) -> Result<bool, Error> {
        let length = match framing {
            Framing::None => 0,
            Framing::Length(length) if length <= upstream.bytes().len() as u64 => length as usize,
            _ => return Ok(false),
        };
        self.send(&upstream.bytes()[..length], !switched).await?;
        self.link.sent(length as u64);
        upstream.consume(length);
        Ok(true)
    }

    async fn relay(&mut self, upstream: &mut Reader, framing: Framing, answer: &Answer) -> Result<(), Error> {
        match framing {
            Framing::None => Ok(()),
            Framing::Length(length) => self.length(upstream, length).await,
            Framing::Chunked => self.chunked(upstream, answer.decodes_chunks).await,
            Framing::Close => self.until_close(upstream, answer.encodes_chunks).await,
        }
    }

    async fn length(&mut self, upstream: &mut Reader, length: u64) -> Result<(), Error> {
        let mut remaining = length;
        let mut turn = Turn::default();
        loop {
            let piece = upstream.bytes().len().min(usize::try_from(remaining).unwrap_or(usize::MAX));
            self.send(&upstream.bytes()[..piece], piece as u64 == remaining).await?;
            self.link.sent(piece as u64);
            upstream.consume(piece);
            remaining -= piece as u64;
            if let Some(client) = self.link.may_splice(upstream, remaining) {
                remaining = self.splice(upstream, client, remaining, &mut turn).await?;
            }
            if remaining == 0 {
                return Ok(());
            }
            self.receive(upstream, &mut turn).await?.ok_or(Kind::ResponseTruncated)?;
        }
    }

    /// As much without a copy, as far as there are pipes; returns what is left.
    async fn splice(
        &mut self,
        upstream: &mut Reader,
        client: &Stream,
        remaining: u64,
        turn: &mut Turn,
    ) -> Result<u64, Error> {
        let link = self.link;
        self.let_go_of_plan();
        let (core, most, course) = (&link.exchange.core, link.bounds.splice.pipes_max, Down(link));
        let moved = splice::splice(core, upstream, client, remaining, most, turn, &course).await;
        link.progress.receiving.set(false);
        moved.map_err(|broken| match broken {
            Broken::Sender(None) => Kind::ResponseTruncated.into(),
            Broken::Sender(Some(error)) => Error::with_source(Kind::ResponseTruncated, error),
            Broken::Receiver(error) => Error::with_source(Kind::ClientClosed, error),
        })
    }

    /// Chunk framing passes through as it is, or is taken off for a client that is not of HTTP/1.1.
    async fn chunked(&mut self, upstream: &mut Reader, decodes: bool) -> Result<(), Error> {
        let mut decoder = ChunkedDecoder::new(self.link.bounds.chunk_limits);
        const LINE_END: usize = 2;
        let (mut payload, mut trailers) = (Vec::new(), Vec::new());
        let mut turn = Turn::default();
        loop {
            let (before, trailers_before) = (decoder.payload_bytes(), decoder.trailer_bytes());
            payload.clear();
            let advance = decoder.advance(upstream.bytes(), |piece| {
                if decodes {
                    payload.extend_from_slice(piece);
                }
            });
            let advance = advance.map_err(|error| Error::with_source(Kind::ResponseTruncated, error))?;
            let lines_end = advance.consumed - if advance.complete { LINE_END } else { 0 };
            let lines = lines_end - (decoder.trailer_bytes() - trailers_before)..lines_end;
            trailers.extend_from_slice(&upstream.bytes()[lines]);
            let is_last = advance.complete && trailers.is_empty();
            match decodes {
                true => self.send(&payload, is_last).await?,
                false => self.send(&upstream.bytes()[..advance.consumed], is_last).await?,
            }
            self.link.sent(decoder.payload_bytes() - before);
            upstream.consume(advance.consumed);
            if advance.complete {
                self.link.client.end_with(&trailers);
                return Ok(());
            }
            // All that was received is sent, so that the rest of a large chunk needs no look.
            let left = decoder.chunk_bytes_left();
            if let Some(client) = self.link.may_splice(upstream, left) {
                decoder.pass(left - self.splice(upstream, client, left, &mut turn).await?);
            }
            self.receive(upstream, &mut turn).await?.ok_or(Kind::ResponseTruncated)?;
        }
    }

    /// The end of the connection is the end of the body. An HTTP/1.1 client gets it chunked.
    async fn until_close(&mut self, upstream: &mut Reader, encodes: bool) -> Result<(), Error> {
        let mut turn = Turn::default();
        loop {
            let piece = upstream.bytes();
            if encodes && !piece.is_empty() {
                self.head.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                self.head.extend_from_slice(piece);
                self.head.extend_from_slice(b"\r\n");
                self.send(&[], false).await?;
            } else {
                self.send(piece, false).await?;
            }
            let count = upstream.bytes().len();
            self.link.sent(count as u64);
            upstream.consume(count);
            if self.receive(upstream, &mut turn).await?.is_none() {
                // A reset may have shown itself to the upload alone: then this FIN proves nothing.
                if self.link.progress.upload_failed.get() {
                    return Err(Error::with_source(Kind::ResponseTruncated, "the upstream reset the upload"));
                }
                return self.send(if encodes { b"0\r\n\r\n" } else { b"" }, true).await;
            }
        }
    }

    /// Sends what waits in `head`, and `piece` behind it; the clock runs only while the client takes nothing. `is_last`: the
    /// body ends with it.
    async fn send(&mut self, piece: &[u8], is_last: bool) -> Result<(), Error> {
        let link = self.link;
        link.exchange.facts.answered.set(true);
        let sent = link.client.send(&mut self.head, piece, is_last, || link.client_is_slow()).await;
        sent.map_err(|error| Error::with_source(Kind::ClientClosed, error))
    }

    /// More of the body; `None` at the upstream's FIN. Not cut at the body's end: bytes behind it unmask an
    /// upstream that answers what nobody asked.
    async fn receive(&mut self, upstream: &mut Reader, turn: &mut Turn) -> Result<Option<()>, Error> {
        self.let_go_of_plan();
        turn.end_if_over(&self.link.exchange.core.turns).await;
        if upstream.is_full() {
            if upstream.is_large() {
                return Err(Error::with_source(Kind::ResponseTruncated, "chunk line or trailer too long"));
            }
            upstream.grow()?;
        }
        self.link.upstream_is_silent();
        let progress = self.link.progress;
        progress.receiving.set(true);
        let filled = turn.fill(upstream, usize::MAX).await;
        progress.receiving.set(false);
        match filled {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(())),
            Err(error) => Err(Error::with_source(Kind::ResponseTruncated, error)),
        }
    }

    /// Whoever waits for a second piece may be a long stream.
    fn let_go_of_plan(&mut self) {
        if self.routed.take().is_some() {
            self.link.exchange.let_go_of_snapshot();
        }
    }
}

/// The clocks and counts of a spliced response.
struct Down<'a>(&'a Downlink<'a>);

impl Course for Down<'_> {
    fn awaits_sender(&self) {
        self.0.progress.receiving.set(true);
        self.0.upstream_is_silent();
    }

    fn awaits_receiver(&self) {
        self.0.progress.receiving.set(false);
        self.0.client_is_slow();
    }

    fn moved(&self, bytes: u64) {
        self.0.sent(bytes);
    }
}
