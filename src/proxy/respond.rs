//! Owns answers that the gateway makes itself by a route: redirects and fixed responses. Errors are
//! `problem`'s.

use std::pin::pin;

use crate::error::{Error, Kind};
use crate::http::head::{Framing, Method};

use super::client::{After, Client};
use super::deadline::bounded;
use super::exchange::Exchange;
use super::routed::values;
use super::rule::Route;
use super::status;
use super::template::Template;
use super::transform::{append_edits, connection_field, field, may_keep_alive};

/// Longest time the client may take nothing of a small answer of our own.
pub const ANSWER_STALL: std::time::Duration = std::time::Duration::from_secs(10);

pub async fn redirect(
    exchange: &Exchange,
    client: &mut Client,
    route: &Route,
    status: u16,
    location: &Template,
) -> Result<After, Error> {
    let mut extra = b"location: ".to_vec();
    let start = extra.len();
    location.render(&values(exchange, route), &mut extra);
    if location.as_literal().is_none() {
        keep_on_this_host(&mut extra, start);
    }
    extra.extend_from_slice(b"\r\n");
    append_edits(&route.response_headers, &values(exchange, route), &mut extra);
    send(exchange, client, status, "", &extra, b"").await
}

/// A path of the client's that begins with two slashes would name another host (RFC 3986 §4.2), and browsers
/// read a backslash there as a slash: one slash is left.
fn keep_on_this_host(location: &mut Vec<u8>, start: usize) {
    let is_slash = |byte: Option<&u8>| matches!(byte, Some(b'/' | b'\\'));
    while location.get(start) == Some(&b'/') && is_slash(location.get(start + 1)) {
        location.remove(start + 1);
    }
}

pub async fn fixed(
    exchange: &Exchange,
    client: &mut Client,
    route: &Route,
    status: u16,
    content_type: &str,
    body: &[u8],
) -> Result<After, Error> {
    let mut extra = Vec::new();
    append_edits(&route.response_headers, &values(exchange, route), &mut extra);
    send(exchange, client, status, content_type, &extra, body).await
}

/// Sends a whole answer. A request body that has not arrived is not waited for: the connection closes.
pub async fn send(
    exchange: &Exchange,
    client: &mut Client,
    status: u16,
    content_type: &str,
    extra: &[u8],
    body: &[u8],
) -> Result<After, Error> {
    let keep_alive = may_keep_alive(exchange) && exchange.head.framing == Framing::None;
    let mut head = exchange.core.take_scratch();
    head.clear();
    head.extend_from_slice(b"HTTP/1.1 ");
    status::append_code(status, &mut head);
    head.push(b' ');
    head.extend_from_slice(status::reason(status).as_bytes());
    head.extend_from_slice(b"\r\n");
    // 204 and 304 have no body, and 204 may not even say a length (RFC 9110 §8.6).
    let has_body = !matches!(status, 204 | 304);
    if has_body {
        field(&mut head, b"content-length", body.len().to_string().as_bytes());
        if !content_type.is_empty() {
            field(&mut head, b"content-type", content_type.as_bytes());
        }
    }
    field(&mut head, b"x-request-id", exchange.id.as_bytes());
    head.extend_from_slice(extra);
    head.extend_from_slice(&exchange.cors);
    connection_field(exchange, keep_alive, &mut head);
    head.extend_from_slice(b"\r\n");
    let body = if has_body && exchange.head.method != Method::Head { body } else { b"" };
    exchange.facts.status.set(status);
    deliver(exchange, client, head, body, true).await?;
    Ok(if keep_alive { After::KeepAlive } else { After::Close })
}

/// Sends a head that was rendered into scratch, and all of a body. `is_last`: no trailers follow.
async fn deliver(
    exchange: &Exchange,
    client: &mut Client,
    mut head: Vec<u8>,
    body: &[u8],
    is_last: bool,
) -> Result<(), Error> {
    exchange.facts.response_bytes.set(body.len() as u64);
    exchange.facts.answered.set(true);
    let Client { end, deadline, .. } = client;
    deadline.bound_request(None);
    deadline.start(Kind::ClientStalled, ANSWER_STALL);
    let outlet = end.outlet();
    let sent = async {
        let slow = || deadline.start(Kind::ClientStalled, ANSWER_STALL);
        let sent = outlet.send(&mut head, body, is_last, slow).await;
        sent.map_err(|error| Error::with_source(Kind::ClientClosed, error))
    };
    let sent = bounded(pin!(sent), deadline).await;
    exchange.core.give_back_scratch(head);
    sent
}

/// Ends a gRPC call well, with this message and these lines besides. Only one over HTTP/2 has trailers to end with.
pub async fn call(
    exchange: &Exchange,
    client: &mut Client,
    extra: &[u8],
    message: &[u8],
) -> Result<After, Error> {
    let mut head = exchange.core.take_scratch();
    head.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\n");
    field(&mut head, b"x-request-id", exchange.id.as_bytes());
    head.extend_from_slice(extra);
    head.extend_from_slice(b"\r\n");
    exchange.facts.status.set(200);
    deliver(exchange, client, head, message, false).await?;
    client.end.outlet().end_with(b"grpc-status: 0\r\n");
    Ok(After::KeepAlive)
}
