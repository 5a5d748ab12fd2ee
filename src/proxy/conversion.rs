//! Owns the stage that stands in the place of forwarding where a service has a model: what the client sent becomes what the model server
//! reads, by a request of our own, and its answer becomes what the client reads. What takes long is done by the compute threads.
//! Converts nothing itself (`inference::conversion` does).

use std::cell::RefCell;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, Injected, Kind};
use crate::http::grpc::{self, percent_decoded};
use crate::http::h1_parse::{Progress, parse_response};
use crate::http::head::{Field, Framing, HeadLimits, Name, ResponseHead};
use crate::inference::conversion::answer::{self, Given, Wanted};
use crate::inference::conversion::incoming::{self, Failed, Incoming};
use crate::inference::conversion::intake::{self, Came};
use crate::inference::conversion::outgoing::{self, Outgoing};
use crate::inference::conversion::{Model, Speaks, Wrong};
use crate::inference::image::Scratch;
use crate::inference::image_head::Format;
use crate::inference::oip::model::{InferRequest, InferResponse};
use crate::inference::oip::protobuf;
use crate::inference::oip::rest::{Ask, ModelName, NotAsked};
use crate::policy::memory::{NoRoom, Part};
use crate::runtime::compute;

use super::body::Upload;
use super::bounds::Bounds;
use super::client::{After, Client};
use super::deadline::Deadline;
use super::end::{End, Own};
use super::exchange::Exchange;
use super::forward::{self, Apart, Room};
use super::kept::{self, Answer, Kept};
use super::media;
use super::respond;
use super::routed::{Routed, view};
use super::transform::{append_edits, field, is_of_the_hop};
use super::{routed, whole};

/// What a client asks for.
#[derive(Debug)]
enum Asked {
    /// What the model server understands by itself.
    AsItIs,
    /// Of a server or a model.
    About(Ask),
    /// `None`: of the service's own model.
    Infer(Option<ModelName>),
    /// A gRPC call, whose message says the rest.
    Call(Method),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    ServerLive,
    ServerReady,
    ServerMetadata,
    ModelReady,
    ModelMetadata,
    ModelInfer,
}

/// An answer of a model server that is kept: as much as a message may have, and no more than this.
const ANSWER_BYTES_MAX: u64 = 256 << 20;
/// A body without images of up to this is converted in its own turn: for less than a hundredth of a millisecond nobody has to wait.
const AT_ONCE_BYTES_MAX: usize = 16 * 1024;

const HEADER_LENGTH: &str = "inference-header-content-length";

/// In place of `forward::forward`, for a service with this model.
pub async fn serve<R: Room>(
    exchange: &mut Exchange,
    client: &mut Client,
    routed: Routed,
    upload: Upload,
    model: Arc<Model>,
) -> Result<After, Error> {
    match asked(exchange, &model)? {
        Asked::AsItIs => forward::forward::<R>(exchange, client, routed, upload).await,
        asked => Box::pin(convert(exchange, client, &routed, upload, &model, asked)).await,
    }
}

/// Whether what is asked is asked by the protocol's REST: its errors are then told in the protocol's words.
pub fn is_protocol(exchange: &Exchange) -> bool {
    let has_model = exchange.service().is_some_and(|service| service.model.is_some());
    has_model
        && exchange.call.is_none()
        && !matches!(Ask::of(exchange.method(), exchange.path()), Err(NotAsked::Path))
}

fn asked(exchange: &Exchange, model: &Model) -> Result<Asked, Error> {
    let is_rest = matches!(model.speaks, Speaks::Rest | Speaks::Binary);
    if let Some(call) = &exchange.call {
        return match (&model.speaks, method(exchange.path())) {
            (Speaks::Grpc, _) => Ok(Asked::AsItIs),
            (Speaks::Rest | Speaks::Binary, Some(method)) if !call.is_web() => Ok(Asked::Call(method)),
            _ => Err(Error::with_source(Kind::MethodNotAllowed, "the model server has no such call")),
        };
    }
    let may_have_body = matches!(exchange.method(), b"POST" | b"PUT");
    match Ask::of(exchange.method(), exchange.path()) {
        Ok(Ask::Infer(name)) if !is_rest || brings_image(exchange) => Ok(Asked::Infer(Some(name))),
        Err(NotAsked::Path) if may_have_body => Ok(Asked::Infer(None)),
        _ if is_rest => Ok(Asked::AsItIs),
        Ok(ask) if model.speaks == Speaks::Grpc => Ok(Asked::About(ask)),
        Ok(_) => Err(Error::with_source(Kind::NoRoute, "the model server answers no such question")),
        Err(NotAsked::Name) => Err(Error::with_source(Kind::BadRequest, "the model's name is no text")),
        Err(NotAsked::Method(_) | NotAsked::Path) => Err(Kind::MethodNotAllowed.into()),
    }
}

fn method(path: &[u8]) -> Option<Method> {
    match path.strip_prefix(b"/inference.GRPCInferenceService/")? {
        b"ServerLive" => Some(Method::ServerLive),
        b"ServerReady" => Some(Method::ServerReady),
        b"ServerMetadata" => Some(Method::ServerMetadata),
        b"ModelReady" => Some(Method::ModelReady),
        b"ModelMetadata" => Some(Method::ModelMetadata),
        b"ModelInfer" => Some(Method::ModelInfer),
        _ => None,
    }
}

/// Whether the body is something that no model server reads.
fn brings_image(exchange: &Exchange) -> bool {
    let content_type = view(exchange).first_value("content-type").unwrap_or_default();
    let essence = media::essence(content_type);
    Format::of_media_type(essence).is_some() || essence.eq_ignore_ascii_case(b"multipart/form-data")
}

/// RFC 9110 §8.4.1. Whatever else it is, it would be taken for the content.
fn is_identity(coding: &[u8]) -> bool {
    coding.trim_ascii().is_empty() || coding.trim_ascii().eq_ignore_ascii_case(b"identity")
}

async fn convert(
    exchange: &mut Exchange,
    client: &mut Client,
    routed: &Routed,
    upload: Upload,
    model: &Arc<Model>,
    asked: Asked,
) -> Result<After, Error> {
    let Some(service) = routed.service().cloned() else { return Err(Kind::NoService.into()) };
    if view(exchange).all_values("content-encoding").iter().any(|coding| !is_identity(coding)) {
        return Err(Error::with_source(Kind::UnsupportedMediaType, "its content is encoded"));
    }
    let mut room = service.state.memory.part(model.memory_bytes_max);
    let is_call = exchange.call.is_some();
    let body = take(exchange, client, routed, upload, &mut room).await?;
    let (asked, body) = match asked {
        Asked::Call(method) => of_call(method, &body)?,
        asked => (asked, body),
    };
    if let Asked::About(ask) = asked {
        let asks = outgoing::ask(&model.speaks, &ask).ok_or(Kind::NoRoute)?;
        let (came, _room) = exchange_with(exchange, client, routed, asks, room).await?;
        let known = incoming::known(&model.speaks, &ask, &came).map_err(failed)?;
        let (status, given) = answer::known(&ask, &known, is_call);
        return give(exchange, client, routed, status, &given).await;
    }
    let name = match asked {
        Asked::Infer(name) => name,
        _ => None,
    };
    let seen = view(exchange);
    let wanted = match is_call {
        true => Wanted::Message,
        false => Wanted::of(&seen.all_values("accept"), name.is_some()),
    };
    let came = Came {
        content_type: seen.first_value("content-type").unwrap_or_default().to_vec(),
        header_length: seen.first_value(HEADER_LENGTH).map(<[u8]>::to_vec),
        body,
        is_protocol: name.is_some(),
    };
    // The smallest body may be a large image.
    let is_quick = came.body.len() <= AT_ONCE_BYTES_MAX && model.image_inputs().next().is_none();
    let work = {
        let model = model.clone();
        move || make(&model, name, is_call, came, room)
    };
    let (asks, outgoing, room) = done(exchange, client, is_quick, work).await?.map_err(wrong)?;
    let (came, mut room) = exchange_with(exchange, client, routed, outgoing, room).await?;
    let is_quick = came.body.len() <= AT_ONCE_BYTES_MAX;
    let work = {
        let model = model.clone();
        move || {
            let response: InferResponse = incoming::response(&model, &came)?;
            answer::response(&model, wanted, &asks, response).map_err(Failed::Unreadable)
        }
    };
    let given = done(exchange, client, is_quick, work).await?.map_err(failed)?;
    if let Some(room) = &mut room {
        room.part.narrow(given.body.len() as u64);
    }
    give(exchange, client, routed, 200, &given).await
}

/// The request for the model, what it says of outputs, and what of the memory it still takes.
fn make(
    model: &Model,
    name: Option<ModelName>,
    is_call: bool,
    came: Came,
    mut room: Part,
) -> Result<(InferRequest, Outgoing, Part), Wrong> {
    thread_local! {
        static SCRATCH: RefCell<Scratch> = RefCell::default();
    }
    let request = SCRATCH.with_borrow_mut(|scratch| match (is_call, &name) {
        (true, _) => intake::message(model, &came.body, &mut room),
        (false, Some(name)) if !model.is_called(&name.model, name.version.as_deref()) => {
            let request = intake::protocol(&came, &mut room)?;
            Ok(InferRequest { model: name.model.clone(), version: name.version.clone(), ..request })
        }
        _ => intake::request(model, &came, &mut room, scratch),
    })?;
    let asks = InferRequest { inputs: Vec::new(), ..request.clone() };
    drop(came);
    room.widen(room.bytes() + outgoing::bytes_max(&model.speaks, &request))?;
    let outgoing = outgoing::infer(model, request)?;
    // From here on there are the message, and then the answer, for which so much is there already.
    room.narrow(2 * outgoing.body.len() as u64);
    Ok((asks, outgoing, room))
}

/// Does the work here, or has it done while the client is waited for.
async fn done<T: Send + 'static>(
    exchange: &Exchange,
    client: &mut Client,
    is_quick: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    if is_quick {
        return Ok(work());
    }
    let core = &exchange.core;
    let computed = async {
        core.compute.run(core, work).await.map_err(|failed| match failed {
            compute::Failed::Full => Error::with_source(Kind::ConversionBusy, "as many wait as may"),
            compute::Failed::Panicked(words) => Error::with_source(Kind::Internal, words),
        })
    };
    let Client { end, deadline, .. } = client;
    deadline.pause();
    let result = end.unless_gone(pin!(computed), deadline).await;
    core.timers.now();
    result
}

/// All of the body.
async fn take(
    exchange: &mut Exchange,
    client: &mut Client,
    routed: &Routed,
    upload: Upload,
    room: &mut Part,
) -> Result<Bytes, Error> {
    let Some(service) = routed.service() else { return Err(Kind::NoService.into()) };
    let rule = routed.rule();
    let bounds = Bounds {
        shared: routed.snapshot().bounds.clone(),
        upstream_timeouts: rule.upstream_timeouts(&service.timeouts),
        body_bytes_max: rule.body_bytes_max,
        message_bytes_max: rule.message_bytes_max,
    };
    Ok(whole::take(exchange, client, upload, &bounds, room).await?.into())
}

impl whole::Reserve for Part {
    fn reserve(&mut self, bytes: usize) -> Result<(), Error> {
        // As it came and as it goes on: at one moment there are both.
        self.widen(2 * bytes as u64).map_err(|none| wrong(none.into()))
    }
}

/// What a call asks, and the message that is to be converted.
fn of_call(method: Method, body: &Bytes) -> Result<(Asked, Bytes), Error> {
    let invalid = |words: String| Error::with_source(Kind::InvalidBody, words);
    let message = grpc::only_message(body).map_err(|words| invalid(words.into()))?;
    let named = || match protobuf::decode_named(&message) {
        Ok(named) => Ok(ModelName { model: named.name, version: named.version }),
        Err(refused) => Err(invalid(refused.to_string())),
    };
    let asked = match method {
        Method::ServerLive => Asked::About(Ask::ServerLive),
        Method::ServerReady => Asked::About(Ask::ServerReady),
        Method::ServerMetadata => Asked::About(Ask::ServerMetadata),
        Method::ModelReady => Asked::About(Ask::ModelReady(named()?)),
        Method::ModelMetadata => Asked::About(Ask::ModelMetadata(named()?)),
        Method::ModelInfer => Asked::Infer(None),
    };
    Ok((asked, message))
}

fn wrong(wrong: Wrong) -> Error {
    let kind = match &wrong {
        Wrong::Invalid(_) => Kind::InvalidBody,
        Wrong::TooLarge(_) | Wrong::NoRoom(NoRoom::Ever) => Kind::BodyTooLarge,
        Wrong::Type(_) => Kind::UnsupportedMediaType,
        Wrong::ImageTooLarge(_) => Kind::ImageTooLarge,
        Wrong::NoRoom(NoRoom::Now) => Kind::ConversionBusy,
    };
    Error::with_source(kind, wrong)
}

fn failed(failed: Failed) -> Error {
    match failed {
        Failed::Said(status, words) => {
            Error::with_source(Kind::ModelRefused, Refusal { status: Injected(status), words })
        }
        Failed::Unreadable(words) => Error::with_source(Kind::BadResponse, words),
    }
}

/// What the model server says against a request.
#[derive(Debug)]
pub struct Refusal {
    pub status: Injected,
    pub words: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for Refusal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.status)
    }
}

/// Asks the model server, as forwarding would: with tries, the breaker and all that the service has. The answer takes of the room, and has it.
async fn exchange_with(
    exchange: &Exchange,
    client: &mut Client,
    routed: &Routed,
    outgoing: Outgoing,
    room: Part,
) -> Result<(Incoming, Option<kept::Room>), Error> {
    let mut asking = exchange.question(&text(exchange, &outgoing), routed)?;
    // Whatever it goes over, its answer has no framing, and trailers.
    asking.is_http2 = true;
    super::grpc::recognise(&mut asking)?;
    let bytes_max = routed.rule().message_bytes_max.min(ANSWER_BYTES_MAX);
    let room = kept::Room { part: room, beside_bytes: outgoing.body.len() as u64, none: None };
    let kept = Kept::within(usize::try_from(bytes_max).unwrap_or(usize::MAX), room);
    let upload = if outgoing.body.is_empty() { Upload::None } else { Upload::Whole(outgoing.body.len()) };
    let end = End::Own(Own { body: outgoing.body.into(), answer: Some(kept.clone()) });
    let deadline = Deadline::new(exchange.core.timers.timer());
    let mut own = Client { end, deadline, info: exchange.client.clone(), bound: None };
    forward::bound(&asking, &own, routed);
    // Whoever is late is then told from whoever has left. What a call gives itself is nothing against the endpoint.
    if let Some(end) = client.deadline.request_end().filter(|_| exchange.call.is_none()) {
        own.deadline.end_request_by(end);
    }
    let result = {
        let forwarded = forward::forward::<Apart>(&asking, &mut own, routed.again(), upload);
        let Client { end, deadline, .. } = client;
        deadline.pause();
        end.unless_gone(pin!(forwarded), deadline).await
    };
    exchange.core.timers.now();
    exchange.is_answered_by(&asking);
    let mut answer = kept.take();
    let room = answer.room.take();
    match room.as_ref().and_then(|room| room.none) {
        Some(NoRoom::Now) => return Err(wrong(NoRoom::Now.into())),
        // It was broken off for that.
        _ if answer.is_cut => return Err(Kind::MessageTooLarge.into()),
        _ => result?,
    };
    Ok((read(answer, outgoing.is_grpc)?, room))
}

/// Its own fields, and those of the client that are not about what the client has sent or how it wants its answer.
fn text(exchange: &Exchange, outgoing: &Outgoing) -> Vec<u8> {
    const ABOUT_THE_BODY: [&str; 8] =
        ["expect", "range", "if-match", "if-none-match", "if-range", "te", HEADER_LENGTH, "user-agent"];
    let bytes = exchange.bytes();
    let has_host = !exchange.authority().is_empty();
    // HTTP/1.1 needs a host.
    let version = if has_host { "1.1" } else { "1.0" };
    let mut text = format!("{} {} HTTP/{version}\r\n", outgoing.method, outgoing.path).into_bytes();
    if has_host {
        field(&mut text, b"host", exchange.authority());
    }
    let goes_on = |found: &&Field| {
        let name = found.name.of(bytes);
        let begins = |begin: &str| {
            name.get(..begin.len()).is_some_and(|found| found.eq_ignore_ascii_case(begin.as_bytes()))
        };
        let is_own = ABOUT_THE_BODY.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
        let is_of_body = begins("content-") || begins("accept") || begins("grpc-");
        // What is appended to on the way is told from who had it before.
        let is_told_on = matches!(
            found.known,
            Name::XForwardedFor | Name::XForwardedProto | Name::XForwardedHost | Name::Forwarded
        );
        is_told_on || (!found.hop_by_hop && !is_of_the_hop(found.known) && !is_own && !is_of_body)
    };
    for found in exchange.head.fields.iter().filter(goes_on) {
        field(&mut text, found.name.of(bytes), found.value.of(bytes));
    }
    if outgoing.is_grpc {
        text.extend_from_slice(b"te: trailers\r\n");
    }
    if !outgoing.content_type.is_empty() {
        field(&mut text, b"content-type", outgoing.content_type.as_bytes());
        field(&mut text, b"content-length", outgoing.body.len().to_string().as_bytes());
    }
    if let Some(length) = outgoing.header_bytes {
        field(&mut text, HEADER_LENGTH.as_bytes(), length.to_string().as_bytes());
    }
    text.extend_from_slice(b"\r\n");
    text
}

/// What the answer says.
fn read(answer: Answer, is_grpc: bool) -> Result<Incoming, Error> {
    let mut head = Box::<ResponseHead>::default();
    // It has been judged, and has our own fields besides.
    let limits = HeadLimits { fields_max: usize::MAX, head_bytes_max: usize::MAX, ..HeadLimits::default() };
    if !matches!(parse_response(&answer.bytes, &mut Progress::default(), &limits, &mut head), Ok(true)) {
        return Err(Error::with_source(Kind::BadResponse, "its head cannot be read"));
    }
    let value = |name: &str| {
        let found = head
            .fields
            .iter()
            .find(|field| field.name.of(&answer.bytes).eq_ignore_ascii_case(name.as_bytes()));
        found.map(|field| field.value.of(&answer.bytes).to_vec())
    };
    let header_length = value(HEADER_LENGTH);
    let said = |name: &str| trailer(&answer.trailers, name).or_else(|| value(name));
    let status = said("grpc-status").and_then(|value| grpc::status(&value));
    let words = percent_decoded(&said("grpc-message").unwrap_or_default());
    let call = status.filter(|_| is_grpc).map(|status| (status, words));
    let (status, head_len) = (head.status, head.head_len);
    let body = Bytes::from(answer.bytes).slice(head_len..);
    Ok(Incoming { status, header_length, call, body })
}

fn trailer(lines: &[u8], name: &str) -> Option<Vec<u8>> {
    lines.split(|&byte| byte == b'\n').find_map(|line| {
        let (found, value) = line.split_at(line.iter().position(|&byte| byte == b':')?);
        found.eq_ignore_ascii_case(name.as_bytes()).then(|| value[1..].trim_ascii().to_vec())
    })
}

/// Gives the client its answer.
async fn give(
    exchange: &Exchange,
    client: &mut Client,
    routed: &Routed,
    status: u16,
    given: &Given,
) -> Result<After, Error> {
    let mut lines = Vec::new();
    if let Some(length) = given.header_bytes {
        field(&mut lines, HEADER_LENGTH.as_bytes(), length.to_string().as_bytes());
    }
    append_edits(&routed.rule().response_headers, &routed::values(exchange, routed.rule()), &mut lines);
    debug_assert!(exchange.head.framing == Framing::None, "the body has been taken");
    match exchange.call.is_some() {
        true => respond::call(exchange, client, &lines, &given.body).await,
        false => respond::send(exchange, client, status, given.content_type, &lines, &given.body).await,
    }
}
