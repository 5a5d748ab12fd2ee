//! Owns a request's body on its way to an HTTP/2 endpoint: its own framing is taken off, and what ends it ends the stream.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;

use bytes::Bytes;

use crate::error::{Error, Kind};
use crate::http::h1_body::{ChunkLimits, ChunkedDecoder};
use crate::http::h1_conn::Reader;
use crate::http::head::Framing;
use crate::runtime::buffer::{BUFFER_BYTES, Buffer, BufferPool};

use super::super::deadline::{Deadline, bounded, supervised};
use super::super::end::End;
use super::super::grpc::Intake;
use super::super::http2::{Http2Stream, Input};
use super::super::turn::Turn;
use super::{LINE_END, Uplink, check_trailers};

/// A body that was all there when its request was sent on.
pub struct Whole {
    pub payload: Bytes,
    pub trailers: Vec<u8>,
    /// Of the payload, what is with the endpoint's stream.
    pub sent: usize,
}

impl Whole {
    /// `bytes`: with the framing that they came in, which has been judged.
    pub fn of(bytes: Bytes, is_chunked: bool, limits: ChunkLimits) -> Whole {
        if !is_chunked {
            return Whole { payload: bytes, trailers: Vec::new(), sent: 0 };
        }
        let mut decoder = ChunkedDecoder::new(limits);
        let (mut payload, mut trailers) = (Vec::new(), Vec::new());
        if let Ok(advance) = decoder.advance(&bytes, |piece| payload.extend_from_slice(piece)) {
            let lines_end = advance.consumed - LINE_END;
            trailers.extend_from_slice(&bytes[lines_end - decoder.trailer_bytes()..lines_end]);
        }
        Whole { payload: payload.into(), trailers, sent: 0 }
    }

    /// Sends what can go at once; `None` if that is all.
    pub fn begin(mut self, stream: &Http2Stream) -> Option<Whole> {
        // Who is gone shows itself to who waits for its answer.
        let (count, is_over) = stream.try_send(&self.payload, self.trailers.is_empty()).unwrap_or_default();
        self.sent = count;
        if is_over && !self.trailers.is_empty() {
            stream.send_trailers(&self.trailers);
        }
        (!is_over).then_some(self)
    }
}

/// The beginning of a body that went from stream to stream, for as long as no answer has come: the next try begins with it.
#[derive(Default)]
pub struct Replay {
    kept: RefCell<Vec<Rc<Buffer>>>,
    bytes: Cell<usize>,
    /// All that was taken of the body is here; not before a stream has begun to be kept.
    is_whole: Cell<bool>,
    /// There will be no other try, or too much was taken.
    is_over: Cell<bool>,
    /// Of what was taken, what no stream has taken on yet: the client is not to send as much again.
    owed: Cell<usize>,
}

impl Replay {
    /// Whether all that was taken of the body is here.
    pub fn is_whole(&self) -> bool {
        self.is_whole.get()
    }

    /// From now on what is taken is kept; what was kept before is to be sent first.
    fn begin(&self) -> Vec<Rc<Buffer>> {
        self.is_whole.set(!self.is_over.get());
        self.kept.borrow().clone()
    }

    /// From now on nothing is kept; what was kept before is to be sent first.
    pub fn end(&self) -> Vec<Rc<Buffer>> {
        let kept = self.kept.take();
        self.forget();
        kept
    }

    /// What the client is to be credited with, now that all that is kept is with a stream.
    pub fn owed(&self) -> usize {
        self.owed.take()
    }

    /// Large pieces are kept as they are, of small ones a copy that is no larger.
    fn keep(&self, piece: &Rc<Buffer>, buffers: &Rc<BufferPool>) {
        let bytes = self.bytes.get() + piece.len();
        if bytes > REPLAY_BYTES_MAX || self.kept.borrow().len() == REPLAY_PIECES_MAX {
            self.forget();
        } else if self.is_whole() {
            self.bytes.set(bytes);
            let is_small = piece.len() < BUFFER_BYTES / 4;
            let kept = if is_small { Rc::new(buffers.holding(piece.filled())) } else { piece.clone() };
            self.kept.borrow_mut().push(kept);
        }
    }

    /// There will be no other try.
    pub fn forget(&self) {
        self.is_over.set(true);
        self.is_whole.set(false);
        self.kept.take();
    }
}

/// As much as a stream's window holds.
const REPLAY_BYTES_MAX: usize = 64 * 1024;
const REPLAY_PIECES_MAX: usize = 64;

impl Uplink<'_> {
    /// Sends what is left of a body that is at hand, and may be sent again.
    pub(super) async fn rest(
        &self,
        upstream: &Http2Stream,
        whole: &Whole,
        deadline: &Deadline,
    ) -> Result<(), Error> {
        self.pass(upstream, &whole.payload[whole.sent..], whole.trailers.is_empty(), deadline).await?;
        if !whole.trailers.is_empty() {
            upstream.send_trailers(&whole.trailers);
        }
        Ok(())
    }

    pub(super) async fn to_stream(
        &self,
        client: &mut End,
        upstream: &Http2Stream,
        deadline: &Deadline,
    ) -> Result<(), Error> {
        match (client, self.exchange.head.framing) {
            (End::Http2(stream), _) => self.stream_to_stream(stream, upstream, deadline).await,
            (End::Http1(reader), Framing::Length(length)) => {
                self.length_to_stream(reader, upstream, length, deadline).await
            }
            // All of it was at hand.
            (End::Own(_), _) => Ok(()),
            (End::Http1(reader), _) => self.chunks_to_stream(reader, upstream, deadline).await,
        }
    }

    async fn length_to_stream(
        &self,
        client: &mut Reader,
        upstream: &Http2Stream,
        length: u64,
        deadline: &Deadline,
    ) -> Result<(), Error> {
        let mut remaining = length;
        let mut turn = Turn::default();
        let mut intake = self.intake();
        while remaining > 0 {
            if client.bytes().is_empty() {
                self.fill(client, remaining, &mut turn, deadline).await?;
            }
            let piece = client.bytes().len().min(usize::try_from(remaining).unwrap_or(usize::MAX));
            remaining -= piece as u64;
            self.begin();
            let (bytes, is_last) = (&client.bytes()[..piece], remaining == 0);
            self.inspect(bytes, is_last)?;
            self.pass(upstream, taken(&mut intake, bytes, is_last)?, is_last, deadline).await?;
            client.consume(piece);
            self.exchange.facts.request_bytes.set(length - remaining);
        }
        Ok(())
    }

    async fn chunks_to_stream(
        &self,
        client: &mut Reader,
        upstream: &Http2Stream,
        deadline: &Deadline,
    ) -> Result<(), Error> {
        let mut decoder = ChunkedDecoder::new(self.bounds.chunk_limits);
        let (mut payload, mut trailers) = (Vec::new(), Vec::new());
        let mut turn = Turn::default();
        let mut intake = self.intake();
        loop {
            payload.clear();
            let trailers_before = decoder.trailer_bytes();
            let advance =
                self.advance(&mut decoder, client.bytes(), |piece| payload.extend_from_slice(piece))?;
            let lines_end = advance.consumed - if advance.complete { LINE_END } else { 0 };
            let lines = lines_end - (decoder.trailer_bytes() - trailers_before)..lines_end;
            trailers.extend_from_slice(&client.bytes()[lines]);
            let is_last = advance.complete && trailers.is_empty();
            if advance.consumed > 0 {
                // Also of framing alone: another try would begin in its middle.
                self.begin();
            }
            if !payload.is_empty() || is_last {
                let payload = taken(&mut intake, &payload, advance.complete)?;
                self.pass(upstream, payload, is_last, deadline).await?;
            }
            client.consume(advance.consumed);
            if advance.complete {
                if !trailers.is_empty() {
                    upstream.send_trailers(&trailers);
                }
                return Ok(());
            }
            self.fill(client, u64::MAX, &mut turn, deadline).await?;
        }
    }

    async fn stream_to_stream(
        &self,
        client: &Http2Stream,
        upstream: &Http2Stream,
        deadline: &Deadline,
    ) -> Result<(), Error> {
        let total = &self.exchange.facts.request_bytes;
        let mut intake = self.intake();
        for piece in self.replay.begin() {
            self.begin();
            self.pass(upstream, taken(&mut intake, piece.filled(), false)?, false, deadline).await?;
        }
        client.credit(self.replay.owed());
        loop {
            match intake.as_ref().is_some_and(Intake::is_between) {
                true => self.client_rests(deadline),
                false => self.client_is_silent(deadline),
            }
            let input = async { Ok(client.input().await) };
            let input = bounded(pin!(input), deadline).await?;
            self.client_rested();
            let piece = match input {
                Input::Piece(piece) => Rc::new(piece),
                Input::End(trailers) if trailers.is_empty() => {
                    self.inspect(&[], true)?;
                    taken(&mut intake, &[], true)?;
                    return self.pass(upstream, &[], true, deadline).await;
                }
                Input::End(trailers) => {
                    check_trailers(self.exchange, &trailers)?;
                    self.inspect(&[], true)?;
                    upstream.send_trailers(&trailers);
                    return Ok(());
                }
                Input::Gone => return Err(Kind::ClientClosed.into()),
            };
            let (bytes, is_last) = (piece.filled(), client.arrived() == (0, true));
            total.set(total.get() + bytes.len() as u64);
            if intake.is_none() && total.get() > self.bounds.body_bytes_max {
                return Err(Kind::BodyTooLarge.into());
            }
            let declared = self.exchange.head.framing == Framing::Length(total.get());
            self.inspect(bytes, is_last || declared)?;
            self.replay.keep(&piece, &self.exchange.core.buffers);
            let left = async {
                client.gone().await;
                Kind::ClientClosed.into()
            };
            self.begin();
            self.replay.owed.set(bytes.len());
            let bytes = taken(&mut intake, bytes, is_last)?;
            let passed = self.pass(upstream, bytes, is_last, deadline);
            // Its clock is restarted with each step by `pass` itself.
            supervised(pin!(passed), pin!(left), deadline).await?;
            client.credit(self.replay.owed());
            if is_last {
                return Ok(());
            }
        }
    }

    /// Between two messages: the silence of both ends together is bounded as the endpoint's alone would be.
    fn client_rests(&self, deadline: &Deadline) {
        if self.client_waits_for_go_ahead() {
            return deadline.pause();
        }
        deadline.pause();
        self.progress.rests.set(true);
        if self.awaits_answer() {
            self.response_deadline.start(Kind::ResponseTimeout, self.bounds.upstream_timeouts.idle);
        }
    }

    /// The client has gone on.
    fn client_rested(&self) {
        if self.progress.rests.replace(false) && self.awaits_answer() {
            self.response_deadline.pause();
        }
    }

    /// Whether it is the endpoint whom the response waits for.
    fn awaits_answer(&self) -> bool {
        !self.progress.head_received.get() || self.progress.receiving.get()
    }

    /// What is done to a call's body.
    fn intake(&self) -> Option<Intake> {
        self.exchange.call.as_ref().map(|call| call.intake(self.bounds.body_bytes_max))
    }

    /// Sends a piece as the endpoint's windows allow.
    async fn pass(
        &self,
        upstream: &Http2Stream,
        bytes: &[u8],
        is_last: bool,
        deadline: &Deadline,
    ) -> Result<(), Error> {
        let restart = || deadline.start(Kind::ResponseTimeout, self.bounds.upstream_timeouts.idle);
        restart();
        let sent = async {
            let sent = upstream.send(bytes, is_last, restart).await;
            sent.map_err(|error| Error::with_source(Kind::UpstreamClosed, error).after_sending())
        };
        bounded(pin!(sent), deadline).await
    }
}

fn taken<'b>(intake: &'b mut Option<Intake>, bytes: &'b [u8], is_last: bool) -> Result<&'b [u8], Error> {
    match intake {
        Some(intake) => intake.take(bytes, is_last),
        None => Ok(bytes),
    }
}
