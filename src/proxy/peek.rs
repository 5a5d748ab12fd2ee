//! Owns the look into a JSON body before its route is known: which model it is for. Waits for what is to come of the body, up to what a
//! buffer holds, and takes nothing of it. Judges no body: what is no JSON names no model.

use std::pin::pin;

use crate::config::snapshot::Snapshot;
use crate::error::{Error, Kind};
use crate::http::h1_body::ChunkedDecoder;
use crate::http::h1_conn::Reader;
use crate::http::h2::frame::WINDOW_DEFAULT;
use crate::http::head::Framing;
use crate::inference::json_scan::{DEPTH_MAX, Peeked, Rules, Scanner};

use super::client::Client;
use super::deadline::{Deadline, bounded};
use super::end::End;
use super::exchange::Exchange;
use super::http2::Http2Stream;
use super::media;
use super::routed::view;

/// Finds the model if anybody asks for it.
pub async fn model(exchange: &mut Exchange, client: &mut Client) -> Result<(), Error> {
    let Some(snapshot) = exchange.snapshot() else { return Err(Kind::Internal.into()) };
    if exchange.head.expect_continue {
        go_ahead(exchange, client).await?;
    }
    let mut look = Look {
        scanner: scanner(&snapshot),
        body: Body::of(exchange),
        taken: 0,
        is_over: false,
        is_well: true,
    };
    let Client { end, deadline, .. } = client;
    // One clock for all of it: nobody has said yet who asks, and whoever drips would hold a buffer for as long as he likes.
    deadline.start(Kind::BodyTimeout, snapshot.settings.client_timeouts.body);
    let looked = match end {
        End::Http1(reader) => look.over_http1(reader, deadline).await,
        End::Http2(stream) => look.over_http2(stream, deadline).await,
        End::Own(_) => Ok(()),
    };
    exchange.core.timers.now();
    looked?;
    // Of what is all there it is known, too, whether it is JSON, and whether the name stands twice.
    let is_json = look.is_well && (!look.is_over || look.scanner.finish().is_ok());
    match look.scanner.peeked() {
        Peeked::Text(model) if is_json => exchange.model = Some(model.into()),
        Peeked::NotYet if !look.is_over => exchange.core.metrics.peek_exceeded(),
        _ => {}
    }
    Ok(())
}

fn scanner(snapshot: &Snapshot) -> Scanner {
    Scanner::new(Rules { depth_max: DEPTH_MAX, peek: snapshot.model_member.clone(), is_inference: false })
}

/// What is found in a body that is all there; asked by `tidegate explain`.
pub fn model_of(snapshot: &Snapshot, body: &[u8]) -> Option<String> {
    let mut scanner = scanner(snapshot);
    scanner.push(body).and_then(|()| scanner.finish()).ok()?;
    match scanner.peeked() {
        Peeked::Text(model) => Some(model.to_owned()),
        _ => None,
    }
}

/// Whether there is a body to look into, and somebody who wants to know.
pub fn is_wanted(exchange: &Exchange) -> bool {
    // Most requests have none, and cost nothing here.
    let has_body = exchange.head.framing != Framing::None;
    has_body && exchange.snapshot().is_some_and(|snapshot| snapshot.model_member.is_some()) && {
        let seen = view(exchange);
        let is_plain = seen.first_value("content-encoding").is_none();
        is_plain && seen.only_value("content-type").is_some_and(media::is_json)
    }
}

/// Tells a client that waits for it to send its body, which the endpoint then need not.
pub async fn go_ahead(exchange: &mut Exchange, client: &mut Client) -> Result<(), Error> {
    let Client { end, deadline, .. } = client;
    deadline.start(Kind::ClientStalled, super::respond::ANSWER_STALL);
    let outlet = end.outlet();
    let told = async {
        let told = outlet.inform(b"HTTP/1.1 100 Continue\r\n\r\n", || {}).await;
        told.map_err(|error| Error::with_source(Kind::ClientClosed, error))
    };
    bounded(pin!(told), deadline).await?;
    exchange.head.expect_continue = false;
    exchange.told_to_go_on = true;
    Ok(())
}

struct Look {
    scanner: Scanner,
    body: Body,
    /// Bytes that have been looked at, framing included.
    taken: usize,
    /// All of the body has.
    is_over: bool,
    /// It is JSON so far.
    is_well: bool,
}

/// How a body lies in its buffer.
enum Body {
    Length(u64),
    Chunked(Box<ChunkedDecoder>),
    /// Without a framing of its own.
    Plain,
}

impl Body {
    fn of(exchange: &Exchange) -> Body {
        match exchange.head.framing {
            _ if exchange.is_http2 => Body::Plain,
            Framing::Length(length) => Body::Length(length),
            _ => {
                let limits = exchange.snapshot().map(|snapshot| snapshot.settings.chunk_limits);
                Body::Chunked(Box::new(ChunkedDecoder::new(limits.unwrap_or_default())))
            }
        }
    }
}

impl Look {
    async fn over_http1(&mut self, reader: &mut Reader, deadline: &Deadline) -> Result<(), Error> {
        loop {
            if self.take(reader.bytes()) {
                return Ok(());
            }
            if reader.is_full() {
                if reader.is_large() {
                    return Ok(());
                }
                reader.grow()?;
            }
            let filled = async {
                match reader.fill().await {
                    Ok(0) => Err(Kind::ClientClosed.into()),
                    Ok(_) => Ok(()),
                    Err(error) => Err(Error::with_source(Kind::ClientClosed, error)),
                }
            };
            bounded(pin!(filled), deadline).await?;
        }
    }

    async fn over_http2(&mut self, stream: &Http2Stream, deadline: &Deadline) -> Result<(), Error> {
        let mut bytes = Vec::new();
        loop {
            let more = async { stream.arrived_beyond(self.taken).await.ok_or(Kind::ClientClosed.into()) };
            let (arrived, is_over) = bounded(pin!(more), deadline).await?;
            self.is_over = is_over;
            bytes.clear();
            stream.copy_arrived(arrived, &mut bytes);
            // A stream's window is as large as a buffer; no more comes until somebody takes this.
            if self.take(&bytes) || self.is_over || arrived >= WINDOW_DEFAULT as usize {
                return Ok(());
            }
        }
    }

    /// Looks at what is new of all that has arrived; whether that is enough.
    fn take(&mut self, arrived: &[u8]) -> bool {
        let Look { scanner, body, taken, is_over, is_well } = self;
        match body {
            Body::Plain => {
                *is_well = scanner.push(&arrived[*taken..]).is_ok();
                *taken = arrived.len();
            }
            Body::Length(length) => {
                let end = usize::try_from(*length).map_or(arrived.len(), |length| length.min(arrived.len()));
                *is_well = scanner.push(&arrived[*taken..end]).is_ok();
                *taken = end;
                *is_over = end as u64 == *length;
            }
            Body::Chunked(decoder) => {
                let advance =
                    decoder.advance(&arrived[*taken..], |payload| *is_well &= scanner.push(payload).is_ok());
                match advance {
                    Ok(advance) => {
                        *taken += advance.consumed;
                        *is_over = advance.complete;
                    }
                    // Whoever takes the body will say so.
                    Err(_) => *is_well = false,
                }
            }
        }
        !*is_well || *is_over || matches!(scanner.peeked(), Peeked::Twice | Peeked::Absent)
    }
}
