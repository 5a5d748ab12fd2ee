//! Owns how an error reaches the client: an RFC 9457 problem document with the request id while no byte of a
//! response was sent, an abort afterwards; to a gRPC call, a status in any case. Notes the error in the exchange's facts.

use crate::error::{Error, Fault, Kind};
use crate::inference::oip::json;
use crate::net::tcp::Stream;

use super::client::{After, Client};
use super::concurrency::Full;
use super::conversion::{self, Refusal};
use super::exchange::Exchange;
use super::fault::Resting;
use super::grpc;
use super::identify::Denied;
use super::limits::{Exceeded, Overdrawn};
use super::respond;
use super::status;
use super::transform::field;

pub async fn answer(exchange: &Exchange, client: &mut Client, error: Error) -> After {
    let kind = error.kind;
    exchange.facts.error.set(Some(kind));
    if exchange.facts.answered.get() {
        if exchange.call.as_ref().is_some_and(|call| grpc::end(call, client, &error)) {
            return After::Close;
        }
        // Whatever is sent now would pass for a part of the response. A length or chunk framing shows that the
        // rest is missing; a body that ends with its connection needs a reset to show it.
        if exchange.client_is_http10() {
            client.end.socket().into_iter().for_each(Stream::reset_on_close);
        }
        return After::Abort;
    }
    let status = error.status();
    exchange.facts.status.set(status);
    if matches!(kind, Kind::ClientClosed | Kind::ClientStalled) {
        return After::Abort;
    }
    if exchange.call.is_some() {
        return grpc::answer(exchange, client, &error).await.unwrap_or(After::Abort);
    }
    let (content_type, body) = match conversion::is_protocol(exchange) {
        true => ("application/json", json::write_error(&words(&error))),
        false => ("application/problem+json", document(kind, &error, exchange.id.as_str())),
    };
    let sent = respond::send(exchange, client, status, content_type, &fields(&error), &body).await;
    sent.unwrap_or(After::Abort)
}

/// The lines that an answer has besides: how to be let in (RFC 9110 §11.6.1, RFC 6750 §3), or when.
pub fn fields(error: &Error) -> Vec<u8> {
    let mut lines = Vec::new();
    let Some(source) = &error.source else { return lines };
    if let Some(denied) = source.downcast_ref::<Denied>() {
        let challenge = denied.challenge();
        challenge.iter().for_each(|challenge| field(&mut lines, b"www-authenticate", challenge.as_bytes()));
    }
    if let Some(exceeded) = source.downcast_ref::<Exceeded>() {
        exceeded.fields(&mut lines);
    }
    if let Some(overdrawn) = source.downcast_ref::<Overdrawn>() {
        overdrawn.fields(&mut lines);
    }
    if source.is::<Full>() {
        Full::fields(&mut lines);
    }
    if let Some(resting) = source.downcast_ref::<Resting>() {
        resting.fields(&mut lines);
    }
    lines
}

/// For clients of the Open Inference Protocol: what a model server has said goes on as it is.
pub fn words(error: &Error) -> String {
    match error.source.as_ref().and_then(|source| source.downcast_ref::<Refusal>()) {
        Some(refusal) => refusal.words.clone(),
        None => detail(error),
    }
}

/// The reason behind a client's own mistake is told, and what a model server has said of it; what lies behind an upstream's mistake is not.
pub fn detail(error: &Error) -> String {
    let kind = error.kind;
    match &error.source {
        Some(source) if kind.fault() == Fault::Client || kind == Kind::ModelRefused => {
            format!("{}: {source}", kind.detail())
        }
        _ => kind.detail().to_owned(),
    }
}

/// RFC 9457.
fn document(kind: Kind, error: &Error, request_id: &str) -> Vec<u8> {
    let detail = detail(error);
    let document = serde_json::json!({
        "type": format!("urn:tidegate:error:{}", kind.word()),
        "title": status::reason(error.status()),
        "status": error.status(),
        "detail": detail,
        "instance": request_id,
    });
    let mut text = document.to_string().into_bytes();
    text.push(b'\n');
    text
}
