//! Owns the order of a request's stages. Each stage takes what the one before made and adds one thing; retries
//! loop only over balance → forward, inside `forward`. This screen is the request path.

use super::body::Upload;
use super::client::{After, Client};
use super::exchange::Exchange;
use super::forward::Room;
use super::routed::Routed;
use super::rule::Action;
use super::{
    authorizer, body, conversion, cors, forward, grpc, identify, injection, inspection, limits, peek,
    problem, respond, routed, transform,
};
use crate::error::{Error, Kind, Stage};
use crate::http::head::Framing;

/// Serves the request whose head has been read. The exchange's drop observes whatever happens here.
pub async fn handle<R: Room>(exchange: &mut Exchange, client: &mut Client) -> After {
    match run::<R>(exchange, client).await {
        Ok(after) => after,
        Err(error) => problem::answer(exchange, client, error).await,
    }
}

async fn run<R: Room>(exchange: &mut Exchange, client: &mut Client) -> Result<After, Error> {
    grpc::recognise(exchange)?;
    // Before routing: no two spellings of a path may route differently.
    transform::normalise_path(exchange)?;
    // A peer that is not trusted names itself neither here nor in what upstreams see.
    transform::adopt_request_id(exchange);
    transform::adopt_client(exchange);
    if peek::is_wanted(exchange) {
        Box::pin(peek::model(exchange, client)).await?;
    }
    let mut routed = routed::route(exchange);
    if let Some(cors) = routed.as_ref().ok().and_then(|routed| routed.rule().cors.as_ref()) {
        exchange.cors = cors.fields(exchange);
        if cors::preflight(exchange).is_some() {
            return respond::send(exchange, client, 204, "", b"", b"").await;
        }
    }
    if let Some(missing) = identify::missing(exchange, routed.as_ref().ok()) {
        Box::pin(identify::settle(exchange, client, missing)).await?;
        // Who asks may be somebody else now, for whom there is another route.
        routed = routed::route(exchange);
        let cors = routed.as_ref().ok().and_then(|routed| routed.rule().cors.as_ref());
        exchange.cors = cors.map(|cors| cors.fields(exchange)).unwrap_or_default();
    }
    let routed = routed?;
    if exchange.head.framing == Framing::Chunked || exchange.is_http2 {
        exchange.reserved = routed.rule().reserved.clone();
    }
    let account = identify::authorise(exchange, routed.rule())?;
    // Who is somebody here may still not be let in there; limits then count by what it says.
    if let Some(authorizer) = routed.rule().authorizer.clone()
        && let Some(after) = Box::pin(authorizer::ask(exchange, client, &routed, &authorizer)).await?
    {
        return Ok(after);
    }
    // Size is judged by what the head says, before a byte of the body is read.
    let upload = body::admit(exchange, client, routed.rule())?;
    if exchange.is_extended_connect() && !matches!(routed.rule().action, Action::Forward(_)) {
        return Err(Kind::MethodNotAllowed.into());
    }
    if let Err(error) = limits::admit(exchange, routed.rule(), account) {
        body::skip(exchange, client, upload);
        return Err(error);
    }
    match &routed.rule().action {
        Action::Forward(_) => send_on::<R>(exchange, client, routed, upload).await,
        Action::Redirect { status, location } => {
            respond::redirect(exchange, client, routed.rule(), *status, location).await
        }
        Action::Respond { status, content_type, body } => {
            respond::fixed(exchange, client, routed.rule(), *status, content_type, body).await
        }
    }
}

/// Sends a request that has been let in to its service, and what comes back to its client.
async fn send_on<R: Room>(
    exchange: &mut Exchange,
    client: &mut Client,
    routed: Routed,
    upload: Upload,
) -> Result<After, Error> {
    forward::bound(exchange, client, &routed);
    // Behind the limits: also to be told what is wrong costs a token.
    if let Some(check) = &routed.rule().check
        && let Err(error) = inspection::begin(exchange, client, check, upload)
    {
        body::skip(exchange, client, upload);
        return Err(error);
    }
    if routed.rule().injection.is_some()
        && let Err(error) = Box::pin(injection::inject(exchange, client, &routed)).await
    {
        body::skip(exchange, client, upload);
        return Err(error);
    }
    let model = routed.service().and_then(|service| service.model.clone());
    let result = match model {
        None => forward::forward::<R>(exchange, client, routed, upload).await,
        Some(model) => Box::pin(conversion::serve::<R>(exchange, client, routed, upload, model)).await,
    };
    // Nobody has taken a byte of its body.
    if result.as_ref().is_err_and(|error| error.kind.stage() == Stage::Admit) {
        body::skip(exchange, client, upload);
    }
    result
}
