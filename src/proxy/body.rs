//! Owns the request body on its way up: how much of it is there already, whether it is too large, and the
//! relay of the rest, validated before it is passed on. Does not wait for the response.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::Poll;

use crate::config::snapshot::{ClientTimeouts, UpstreamTimeouts};
use crate::error::{Error, Kind};
use crate::http::h1_body::{ChunkLimits, ChunkedDecoder};
use crate::http::h1_conn::{Reader, write_all};
use crate::http::head::Framing;
use crate::net::tcp::Stream;

use super::client::Client;
use super::deadline::{Deadline, bounded};
use super::exchange::Exchange;
use super::rule::Route;

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
    let arrived = client.reader.bytes();
    match exchange.head.framing {
        Framing::None | Framing::Close => Ok(Upload::None),
        Framing::Length(length) if length > route.body_bytes_max => Err(Kind::BodyTooLarge.into()),
        Framing::Length(length) if length <= arrived.len() as u64 => {
            exchange.facts.request_bytes.set(length);
            Ok(Upload::Whole(length as usize))
        }
        Framing::Length(_) => Ok(Upload::Stream),
        Framing::Chunked if arrived.is_empty() => Ok(Upload::Stream),
        Framing::Chunked => admit_chunked(exchange, arrived, route),
    }
}

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
    /// The upstream's response head is complete.
    pub head_received: Cell<bool>,
}

/// The client's direction of a try.
pub struct Uplink<'a> {
    pub exchange: &'a Exchange,
    pub progress: &'a Progress,
    pub upload: Upload,
    pub body_bytes_max: u64,
    pub chunk_limits: ChunkLimits,
    pub client_timeouts: ClientTimeouts,
    pub upstream_timeouts: UpstreamTimeouts,
    /// The response's clock, which starts when the body is through.
    pub response_deadline: &'a Deadline,
}

impl Uplink<'_> {
    /// Relays the body, then watches the client. Ends only with what ends the exchange.
    pub async fn run(&self, client: &mut Reader, upstream: &Stream) -> Error {
        if self.upload == Upload::Stream {
            poll_fn(|_| if self.progress.head_sent.get() { Poll::Ready(()) } else { Poll::Pending }).await;
            match self.relay(client, upstream).await {
                Ok(()) => self.progress.upload_done.set(true),
                // The upstream takes no more: it may have answered already, and then closed.
                Err(error) if error.kind == Kind::UpstreamClosed => {}
                Err(error) => return error,
            }
            self.expect_answer();
        }
        client.gone().await;
        Kind::ClientClosed.into()
    }

    fn expect_answer(&self) {
        if !self.progress.head_received.get() {
            self.response_deadline.start(Kind::FirstByteTimeout, self.upstream_timeouts.first_byte);
        }
    }

    async fn relay(&self, client: &mut Reader, upstream: &Stream) -> Result<(), Error> {
        let deadline = Deadline::new(self.exchange.core.timers.timer());
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
        while remaining > 0 {
            if client.bytes().is_empty() {
                self.fill(client, remaining, deadline).await?;
            }
            let piece = client.bytes().len().min(usize::try_from(remaining).unwrap_or(usize::MAX));
            self.send(upstream, &client.bytes()[..piece], deadline).await?;
            client.consume(piece);
            remaining -= piece as u64;
            self.exchange.facts.request_bytes.set(length - remaining);
        }
        Ok(())
    }

    async fn relay_chunked(
        &self,
        client: &mut Reader,
        upstream: &Stream,
        deadline: &Deadline,
    ) -> Result<(), Error> {
        let mut decoder = ChunkedDecoder::new(self.chunk_limits);
        loop {
            let advance = decoder.advance(client.bytes(), |_| {});
            let advance = advance.map_err(|error| Error::with_source(Kind::BadRequestBody, error))?;
            self.exchange.facts.request_bytes.set(decoder.payload_bytes());
            if decoder.payload_bytes_announced() > self.body_bytes_max {
                return Err(Kind::BodyTooLarge.into());
            }
            self.send(upstream, &client.bytes()[..advance.consumed], deadline).await?;
            client.consume(advance.consumed);
            if advance.complete {
                return Ok(());
            }
            self.fill(client, u64::MAX, deadline).await?;
        }
    }

    /// Receives more of the body, at most `most` bytes.
    async fn fill(&self, client: &mut Reader, most: u64, deadline: &Deadline) -> Result<(), Error> {
        if client.is_full() {
            if client.is_large() {
                return Err(Kind::BadRequestBody.into());
            }
            client.grow();
        }
        deadline.start(Kind::BodyTimeout, self.client_timeouts.body);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        bounded(
            async {
                match client.fill_at_most(most).await {
                    Ok(0) => Err(Kind::ClientClosed.into()),
                    Ok(_) => Ok(()),
                    Err(error) => Err(Error::with_source(Kind::ClientClosed, error)),
                }
            },
            deadline,
        )
        .await
    }

    async fn send(&self, upstream: &Stream, bytes: &[u8], deadline: &Deadline) -> Result<(), Error> {
        self.progress.upload_begun.set(true);
        let restart = || deadline.start(Kind::ResponseTimeout, self.upstream_timeouts.idle);
        restart();
        let sent = async {
            let sent = write_all(upstream, bytes, restart).await;
            sent.map_err(|error| Error::with_source(Kind::UpstreamClosed, error).after_sending())
        };
        bounded(sent, deadline).await
    }
}
