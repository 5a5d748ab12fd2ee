//! Owns what a gRPC call is given that no other request needs: its deadline, told to the endpoint as what is left of it, and
//! the gateway's own errors as statuses of gRPC. Frames no messages (`http::grpc` knows where they begin).

use std::cell::Cell;
use std::pin::pin;
use std::time::{Duration, Instant};

use crate::error::{Error, Kind};
use crate::http::grpc::{Status, timeout, write_message, write_timeout};
use crate::http::h2::frame::Code;
use crate::http::head::Method;

use super::client::{After, Client};
use super::deadline::bounded;
use super::end::End;
use super::exchange::Exchange;
use super::respond::ANSWER_STALL;
use super::routed::view;
use super::transform::field;

/// What is known of a call.
#[derive(Debug)]
pub struct Call {
    /// That the client gives it.
    timeout: Option<Duration>,
    /// When it has to be over, for whatever reason.
    end: Cell<Option<Instant>>,
}

/// Notes whether the request is a gRPC call. Errors: it gives itself a time that is none.
pub fn recognise(exchange: &mut Exchange) -> Result<(), Error> {
    if !exchange.is_http2 || exchange.head.method != Method::Post {
        return Ok(());
    }
    let view = view(exchange);
    if !view.first_value("content-type").is_some_and(is_grpc) {
        return Ok(());
    }
    let asked = view.first_value("grpc-timeout").map(timeout);
    exchange.call = Some(Call { timeout: asked.flatten(), end: Cell::new(None) });
    if asked == Some(None) {
        return Err(Error::with_source(Kind::BadRequest, "grpc-timeout is no timeout"));
    }
    Ok(())
}

/// `application/grpc`, and what follows it after `+` or `;`.
fn is_grpc(content_type: &[u8]) -> bool {
    const NAME: &[u8] = b"application/grpc";
    content_type.split_at_checked(NAME.len()).is_some_and(|(name, rest)| {
        name.eq_ignore_ascii_case(NAME) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
    })
}

impl Call {
    /// The shorter one of its own time and what the route gives; from now on.
    pub fn bound(&self, by_route: Option<Duration>, now: Instant) -> Option<Duration> {
        let bound = [self.timeout, by_route].into_iter().flatten().min();
        self.end.set(bound.map(|bound| now + bound));
        bound
    }

    /// Appends the lines that the endpoint gets for those that are not copied.
    pub fn request_fields(&self, now: Instant, out: &mut Vec<u8>) {
        if let Some(end) = self.end.get() {
            out.extend_from_slice(b"grpc-timeout: ");
            write_timeout(end.saturating_duration_since(now), out);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// A stream that its endpoint has reset.
#[derive(Debug)]
pub struct Reset(pub Code);

impl std::fmt::Display for Reset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "reset with {}", self.0.word())
    }
}

impl std::error::Error for Reset {}

/// The lines that end a call with an error of ours.
fn status_lines(error: &Error, out: &mut Vec<u8>) {
    let reset = error.source.as_ref().and_then(|source| source.downcast_ref::<Reset>());
    let status = match (error.kind, reset) {
        (_, Some(reset)) => Status::of_reset(reset.0),
        (Kind::MessageTooLarge, _) => Status::ResourceExhausted,
        (kind, _) => Status::of_http(kind.status()),
    };
    field(out, b"grpc-status", (status as u8).to_string().as_bytes());
    out.extend_from_slice(b"grpc-message: ");
    write_message(error.kind.detail(), out);
    out.extend_from_slice(b"\r\n");
}

/// An answer that is nothing but this error.
pub async fn answer(exchange: &Exchange, client: &mut Client, error: &Error) -> Result<After, Error> {
    let mut head = exchange.core.take_scratch();
    head.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\n");
    status_lines(error, &mut head);
    field(&mut head, b"x-request-id", exchange.id.as_bytes());
    head.extend_from_slice(b"\r\n");
    exchange.facts.answered.set(true);
    let Client { end, deadline, .. } = client;
    deadline.bound_request(None);
    deadline.start(Kind::ClientStalled, ANSWER_STALL);
    let outlet = end.outlet();
    let sent = async {
        let sent = outlet.send(&mut head, b"", true, || {}).await;
        sent.map_err(|error| Error::with_source(Kind::ClientClosed, error))
    };
    let sent = bounded(pin!(sent), deadline).await;
    exchange.core.give_back_scratch(head);
    sent.map(|()| After::Close)
}

/// Ends an answer that has begun with this error. False if that cannot be.
pub fn end(client: &Client, error: &Error) -> bool {
    let End::Http2(stream) = &client.end else { return false };
    if stream.is_gone() {
        return false;
    }
    let mut lines = Vec::new();
    status_lines(error, &mut lines);
    stream.send_trailers(&lines);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_by_their_content_type() {
        for is in ["application/grpc", "application/grpc+proto", "Application/gRPC;charset=utf-8"] {
            assert!(is_grpc(is.as_bytes()), "{is}");
        }
        for is_not in
            ["application/grpc-web", "application/grpc-web+proto", "application/grp", "text/plain", ""]
        {
            assert!(!is_grpc(is_not.as_bytes()), "{is_not}");
        }
    }
}
