//! Owns what a gRPC call is given that no other request needs: its deadline, told to the endpoint as what is left of it, the
//! gateway's own errors as statuses of gRPC, and the translation of gRPC-Web. Frames no messages (`http::grpc` knows where they
//! begin).

use std::cell::Cell;
use std::pin::pin;
use std::time::{Duration, Instant};

use crate::error::{Error, Kind};
use crate::http::grpc::{self, Messages, Status, TooLarge, timeout, write_message, write_timeout};
use crate::http::grpc_web::{Decoder, Form};
use crate::http::h2::frame::Code;
use crate::http::head::{Field, Framing, Method, ResponseHead};

use super::client::{After, Client};
use super::deadline::bounded;
use super::end::End;
use super::exchange::Exchange;
use super::problem;
use super::respond::ANSWER_STALL;
use super::routed::view;
use super::transform::{connection_field, field, may_keep_alive};

/// What is known of a call.
#[derive(Debug)]
pub struct Call {
    /// In which form of gRPC-Web it came, if it did.
    web: Option<Form>,
    /// Its endpoint gets gRPC, and the client gRPC-Web.
    is_translated: Cell<bool>,
    /// The endpoint's answer is no gRPC: a page of whoever stands before it.
    is_foreign: Cell<bool>,
    /// That the client gives it.
    timeout: Option<Duration>,
    /// When it has to be over, for whatever reason.
    end: Cell<Option<Instant>>,
    /// What its trailers say.
    status: Cell<Option<u8>>,
}

/// Notes whether the request is a gRPC call. Errors: it gives itself a time that is none.
pub fn recognise(exchange: &mut Exchange) -> Result<(), Error> {
    if exchange.head.method != Method::Post {
        return Ok(());
    }
    let view = view(exchange);
    let Some(content_type) = view.first_value("content-type") else { return Ok(()) };
    let web = Form::of(content_type).map(|(form, _)| form);
    if web.is_none() && !(exchange.is_http2 && is_grpc(content_type)) {
        return Ok(());
    }
    let asked = view.first_value("grpc-timeout").map(timeout);
    exchange.call = Some(Call {
        web,
        is_translated: Cell::new(false),
        is_foreign: Cell::new(false),
        timeout: asked.flatten(),
        end: Cell::new(None),
        status: Cell::new(None),
    });
    if asked == Some(None) {
        return Err(Error::with_source(Kind::BadRequest, "grpc-timeout is no timeout"));
    }
    Ok(())
}

const STATUS: &[u8] = b"grpc-status:";
const GRPC: &[u8] = b"application/grpc";

/// `application/grpc`, and what follows it after `+` or `;`.
fn is_grpc(content_type: &[u8]) -> bool {
    content_type.split_at_checked(GRPC.len()).is_some_and(|(name, rest)| {
        name.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
    })
}

fn content_type<'b>(head: &ResponseHead, bytes: &'b [u8]) -> Option<&'b [u8]> {
    let is_type = |field: &&Field| field.name.of(bytes).eq_ignore_ascii_case(b"content-type");
    head.fields.iter().find(is_type).map(|field| field.value.of(bytes))
}

impl Call {
    /// It came as gRPC-Web.
    pub fn is_web(&self) -> bool {
        self.web.is_some()
    }

    /// The shorter one of its own time and what the route gives; from now on.
    pub fn bound(&self, by_route: Option<Duration>, now: Instant) -> Option<Duration> {
        let bound = [self.timeout, by_route].into_iter().flatten().min();
        self.end.set(bound.map(|bound| now + bound));
        bound
    }

    /// The next try's endpoint speaks HTTP/2, or does not: what came as gRPC-Web goes on as gRPC if it does.
    pub fn goes_over(&self, http2: bool) {
        self.is_translated.set(http2 && self.web.is_some());
        self.is_foreign.set(false);
    }

    /// Takes note of what the endpoint answers in.
    pub fn is_answered(&self, head: &ResponseHead, bytes: &[u8]) {
        self.is_foreign.set(!content_type(head, bytes).is_some_and(is_grpc));
    }

    /// Takes note of the trailers that end the answer.
    pub fn has_ended(&self, lines: &[u8]) {
        let value = |line: &[u8]| {
            let (name, value) = line.split_at_checked(STATUS.len())?;
            name.eq_ignore_ascii_case(STATUS).then(|| grpc::status(value)).flatten()
        };
        self.status.set(lines.split(|&byte| byte == b'\n').find_map(value));
    }

    /// What the end of its answer says of the endpoint. Without a status it is UNKNOWN to clients.
    pub fn failure(&self) -> Option<grpc::Failure> {
        match self.status.get() {
            Some(status) => grpc::Failure::of(status),
            None => (!self.is_foreign.get()).then_some(grpc::Failure::Call),
        }
    }

    /// What the endpoint's messages are told from, if it answers with any.
    pub fn answer(&self, bytes_max: u64) -> Option<Messages> {
        (!self.is_foreign.get()).then(|| Messages::new(bytes_max))
    }

    /// What the client is answered in, if that is not what the endpoint answers in.
    pub fn translated(&self) -> Option<Form> {
        self.web.filter(|_| self.is_translated.get() && !self.is_foreign.get())
    }

    /// Whether a field of the request goes on otherwise, or not at all.
    pub fn replaces_in_request(&self, name: &[u8]) -> bool {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        is("grpc-timeout")
            || (self.is_translated.get() && (is("content-type") || is("content-length") || is("x-grpc-web")))
    }

    /// Whether a field of the answer does.
    pub fn replaces_in_response(&self, name: &[u8]) -> bool {
        self.translated().is_some() && name.eq_ignore_ascii_case(b"content-type")
    }

    /// Appends the lines that the client gets for those that are not copied.
    pub fn response_fields(&self, head: &ResponseHead, bytes: &[u8], out: &mut Vec<u8>) {
        if let (Some(form), Some(content_type)) = (self.translated(), content_type(head, bytes)) {
            out.extend_from_slice(b"content-type: ");
            form.write_web(content_type, out);
            out.extend_from_slice(b"\r\n");
        }
    }

    /// What is done to its body on the way to the endpoint. `bytes_max`: of one message.
    pub fn intake(&self, bytes_max: u64) -> Intake {
        let text = (self.translated() == Some(Form::Text)).then(Decoder::default);
        Intake { messages: Messages::new(bytes_max), text, decoded: Vec::new() }
    }

    /// Appends the lines that the endpoint gets for those that are not copied. `content_type` is the request's.
    pub fn request_fields(&self, content_type: &[u8], now: Instant, out: &mut Vec<u8>) {
        if let Some(form) = self.translated() {
            out.extend_from_slice(b"content-type: ");
            form.write_grpc(content_type, out);
            out.extend_from_slice(b"\r\n");
        }
        if let Some(end) = self.end.get() {
            out.extend_from_slice(b"grpc-timeout: ");
            write_timeout(end.saturating_duration_since(now), out);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// A call's body on its way to an endpoint.
#[derive(Debug)]
pub struct Intake {
    messages: Messages,
    text: Option<Decoder>,
    decoded: Vec<u8>,
}

impl Intake {
    /// Whether no message has begun that is not complete.
    pub fn is_between(&self) -> bool {
        self.messages.is_between()
    }

    /// The next piece as it goes on, judged.
    pub fn take<'b>(&'b mut self, piece: &'b [u8], is_last: bool) -> Result<&'b [u8], Error> {
        let piece = match &mut self.text {
            None => piece,
            Some(text) => {
                self.decoded.clear();
                let decoded = text.decode(piece, is_last, &mut self.decoded);
                decoded.map_err(|_| Error::with_source(Kind::BadRequestBody, "it is no base64"))?;
                &self.decoded
            }
        };
        self.messages.see(piece).map_err(|TooLarge| Kind::BodyTooLarge)?;
        Ok(piece)
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
/// Of the words of an error, since they go into a field.
const MESSAGE_BYTES_MAX: usize = 1024;

fn status_lines(error: &Error, out: &mut Vec<u8>) {
    let reset = error.source.as_ref().and_then(|source| source.downcast_ref::<Reset>());
    let status = match (error.kind, reset) {
        (_, Some(reset)) => Status::of_reset(reset.0),
        (Kind::MessageTooLarge, _) => Status::ResourceExhausted,
        _ => Status::of_http(error.status()),
    };
    field(out, b"grpc-status", (status as u8).to_string().as_bytes());
    out.extend_from_slice(b"grpc-message: ");
    let words = problem::words(error);
    let end = (0..=words.len().min(MESSAGE_BYTES_MAX)).rev().find(|&at| words.is_char_boundary(at));
    let words = &words[..end.unwrap_or(0)];
    // A field's value ends with no space (RFC 9113 §8.2.1).
    write_message(words.trim(), out);
    out.extend_from_slice(b"\r\n");
}

/// An answer that is nothing but this error.
pub async fn answer(exchange: &Exchange, client: &mut Client, error: &Error) -> Result<After, Error> {
    let mut head = exchange.core.take_scratch();
    head.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: ");
    match exchange.call.as_ref().and_then(|call| call.web) {
        Some(form) => form.write_web(GRPC, &mut head),
        None => head.extend_from_slice(GRPC),
    }
    head.extend_from_slice(b"\r\n");
    status_lines(error, &mut head);
    field(&mut head, b"x-request-id", exchange.id.as_bytes());
    head.extend_from_slice(&problem::fields(error));
    head.extend_from_slice(&exchange.cors);
    let keep_alive = may_keep_alive(exchange) && exchange.head.framing == Framing::None;
    if !exchange.is_http2 {
        head.extend_from_slice(b"content-length: 0\r\n");
        connection_field(exchange, keep_alive, &mut head);
    }
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
    sent.map(|()| if keep_alive { After::KeepAlive } else { After::Close })
}

/// Ends an answer that has begun with this error. False if that cannot be.
pub fn end(call: &Call, client: &Client, error: &Error) -> bool {
    let End::Http2(stream) = &client.end else { return false };
    // gRPC-Web has its status in the body, which may end in the middle of a message.
    if stream.is_gone() || call.web.is_some() {
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
