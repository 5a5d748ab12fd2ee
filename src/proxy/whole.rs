//! Owns taking all of a request's body before anything is done with it: without its framing, within bounds, and only if there is memory
//! for it. Sends nothing on.

use std::pin::pin;
use std::time::{Duration, Instant};

use crate::error::{Error, Kind};
use crate::http::h1_body::ChunkedDecoder;
use crate::http::h1_conn::Reader;
use crate::http::head::Framing;

use super::body::Upload;
use super::bounds::Bounds;
use super::client::Client;
use super::deadline::{Deadline, bounded};
use super::end::End;
use super::exchange::Exchange;
use super::http2::{Http2Stream, Input};
use super::peek;
use super::turn::Turn;

/// Bytes that there is to be room for, in all. Errors: there is none.
pub trait Reserve {
    fn reserve(&mut self, bytes: usize) -> Result<(), Error>;
}

/// Takes the body. Room for what its head announces is reserved before a byte of it is read, and nothing of it is left on the
/// connection, which may serve another request.
pub async fn take(
    exchange: &mut Exchange,
    client: &mut Client,
    upload: Upload,
    bounds: &Bounds,
    room: &mut impl Reserve,
) -> Result<Vec<u8>, Error> {
    let announced = match exchange.head.framing {
        Framing::Length(length) => usize::try_from(length).map_err(|_| Kind::BodyTooLarge)?,
        _ => 0,
    };
    // Of a call, too, whose messages are otherwise judged as they come.
    if announced as u64 > bounds.body_bytes_max {
        return Err(Kind::BodyTooLarge.into());
    }
    room.reserve(announced)?;
    if upload == Upload::Stream && exchange.head.expect_continue {
        peek::go_ahead(exchange, client).await?;
    }
    let mut taking = Taking {
        exchange,
        bounds,
        room,
        body: Vec::with_capacity(announced),
        bytes_max: bounds.body_bytes_max,
        begun: exchange.core.timers.now(),
    };
    let Client { end, deadline, .. } = client;
    match (end, upload) {
        (_, Upload::None) => {}
        (End::Http1(reader), _) => taking.over_http1(reader, deadline).await?,
        (End::Http2(stream), _) => taking.over_http2(stream, deadline).await?,
        (End::Own(own), _) => taking.body.extend_from_slice(&own.body),
    }
    let body = taking.body;
    deadline.pause();
    exchange.core.timers.now();
    exchange.facts.request_bytes.set(body.len() as u64);
    exchange.head.framing = Framing::None;
    if let Some(inspection) = exchange.inspection.take() {
        inspection.take(&body, true)?;
    }
    Ok(body)
}

struct Taking<'t, R> {
    exchange: &'t Exchange,
    bounds: &'t Bounds,
    room: &'t mut R,
    body: Vec<u8>,
    bytes_max: u64,
    begun: Instant,
}

/// Who sends fewer bytes a second than this, after a grace of `timeouts.body`, holds memory that others need.
const BYTES_PER_SECOND_MIN: u64 = 16 * 1024;

impl<R: Reserve> Taking<'_, R> {
    async fn over_http1(&mut self, reader: &mut Reader, deadline: &Deadline) -> Result<(), Error> {
        match self.exchange.head.framing {
            Framing::Length(length) => self.length(reader, length as usize, deadline).await,
            _ => self.chunked(reader, deadline).await,
        }
    }

    async fn length(&mut self, reader: &mut Reader, length: usize, deadline: &Deadline) -> Result<(), Error> {
        let mut turn = Turn::default();
        loop {
            let count = reader.bytes().len().min(length - self.body.len());
            self.body.extend_from_slice(&reader.bytes()[..count]);
            reader.consume(count);
            if self.body.len() == length {
                return Ok(());
            }
            self.fill(reader, length - self.body.len(), &mut turn, deadline).await?;
        }
    }

    async fn chunked(&mut self, reader: &mut Reader, deadline: &Deadline) -> Result<(), Error> {
        let mut decoder = ChunkedDecoder::new(self.bounds.chunk_limits);
        let mut turn = Turn::default();
        loop {
            let mut came = std::mem::take(&mut self.body);
            let advance = decoder.advance(reader.bytes(), |piece| came.extend_from_slice(piece));
            self.body = came;
            let advance = advance.map_err(|error| Error::with_source(Kind::BadRequestBody, error))?;
            if decoder.payload_bytes_announced() > self.bytes_max {
                return Err(Kind::BodyTooLarge.into());
            }
            self.room.reserve(self.body.len())?;
            reader.consume(advance.consumed);
            if advance.complete {
                return Ok(());
            }
            self.fill(reader, usize::MAX, &mut turn, deadline).await?;
        }
    }

    async fn over_http2(&mut self, stream: &Http2Stream, deadline: &Deadline) -> Result<(), Error> {
        let mut turn = Turn::default();
        loop {
            turn.end_if_over(&self.exchange.core.turns).await;
            self.await_client(deadline);
            let input = async { Ok(stream.input().await) };
            match bounded(pin!(input), deadline).await? {
                Input::Piece(piece) => {
                    let bytes = piece.filled();
                    let length = self.body.len() + bytes.len();
                    if length as u64 > self.bytes_max {
                        return Err(Kind::BodyTooLarge.into());
                    }
                    self.room.reserve(length)?;
                    self.body.extend_from_slice(bytes);
                    stream.credit(bytes.len());
                    turn.moved(bytes.len());
                }
                Input::End(_) => return Ok(()),
                Input::Gone => return Err(Kind::ClientClosed.into()),
            }
        }
    }

    /// The client is to move next: within its time for a piece, and within what all that has come may have taken.
    fn await_client(&self, deadline: &Deadline) {
        let each = self.bounds.client_timeouts.body;
        let all = each + Duration::from_secs(self.body.len() as u64 / BYTES_PER_SECOND_MIN);
        let spent = self.exchange.core.timers.now().saturating_duration_since(self.begun);
        deadline.start(Kind::BodyTimeout, each.min(all.saturating_sub(spent)));
    }

    async fn fill(
        &self,
        reader: &mut Reader,
        most: usize,
        turn: &mut Turn,
        deadline: &Deadline,
    ) -> Result<(), Error> {
        turn.end_if_over(&self.exchange.core.turns).await;
        if reader.is_full() {
            if reader.is_large() {
                return Err(Kind::BadRequestBody.into());
            }
            reader.grow()?;
        }
        self.await_client(deadline);
        let filled = async {
            match turn.fill(reader, most).await {
                Ok(0) => Err(Kind::ClientClosed.into()),
                Ok(_) => Ok(()),
                Err(error) => Err(Error::with_source(Kind::ClientClosed, error)),
            }
        };
        bounded(pin!(filled), deadline).await
    }
}
