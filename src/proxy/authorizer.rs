//! Owns asking another server whether a request may go on, as nginx's `auth_request` and others' forward auth do: what it is shown, what
//! its answers mean, and what becomes of a request when it cannot be asked. The question is a request of its own to a service.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;

use crate::config::snapshot::ServiceId;
use crate::error::{Error, Injected, Kind};
use crate::http::h1_parse::{Progress, parse_response};
use crate::http::head::{Field, HeadLimits, Name, ResponseHead, is_alike};

use super::body::Upload;
use super::client::{After, Client};
use super::deadline::Deadline;
use super::end::{End, Own};
use super::exchange::Exchange;
use super::forward::{self, Apart};
use super::kept::Kept;
use super::respond;
use super::routed::Routed;
use super::rule::Route;
use super::transform::{field, is_of_the_hop};

/// One `[authorizer.NAME]`.
#[derive(Debug)]
pub struct Authorizer {
    pub name: Arc<str>,
    pub to: ServiceId,
    pub path: Box<str>,
    /// For all of a question.
    pub timeout: Duration,
    /// Where it cannot be asked, requests go on.
    pub is_open: bool,
    /// Fields of the request that it is shown, in lower case. `None`: all that are not about its body.
    pub shown: Option<Vec<Box<str>>>,
    /// Fields that only it says to the endpoint, in lower case: a client's own go no further.
    pub says: Vec<Box<str>>,
    /// By which its questions go: they are edited by none of those that requests go by.
    pub route: Route,
    /// Carried over reloads by name.
    pub counts: Arc<Counts>,
}

/// Of all cores.
#[derive(Debug, Default)]
pub struct Counts {
    pub allowed: AtomicU64,
    pub denied: AtomicU64,
    pub failed: AtomicU64,
}

/// Fields that tell what is asked for.
const OUR_OWN: [&str; 2] = ["x-forwarded-method", "x-forwarded-uri"];
/// Fields that some read as these, or that would make the answer another one than it is.
const MISLEADING: [&str; 12] = [
    "x-original-url",
    "x-original-uri",
    "x-original-method",
    "x-rewrite-url",
    "accept-encoding",
    "range",
    "if-match",
    "if-none-match",
    "if-range",
    "if-modified-since",
    "if-unmodified-since",
    "cache-control",
];

/// Of an answer, head and body, that is kept.
const ANSWER_BYTES_MAX: usize = 128 * 1024;

/// Asks whether the request may go on; then it says what the authorizer has said. `Some`: it may not, and its client has been told.
pub async fn ask(
    exchange: &mut Exchange,
    client: &mut Client,
    routed: &Routed,
    authorizer: &Arc<Authorizer>,
) -> Result<Option<After>, Error> {
    let answer = question(exchange, client, routed, authorizer).await?;
    let verdict = match &answer {
        Ok(answer) => Verdict::of(answer),
        Err(_) => None,
    };
    match verdict {
        Some(Verdict::Allowed(head)) => {
            authorizer.counts.allowed.fetch_add(1, Relaxed);
            let bytes = answer.as_deref().unwrap_or_default();
            exchange.say_instead(&authorizer.says, &said(&authorizer.says, &head, bytes))?;
            Ok(None)
        }
        Some(Verdict::Denied(head)) => {
            authorizer.counts.denied.fetch_add(1, Relaxed);
            deny(exchange, client, &head, answer.as_deref().unwrap_or_default()).await.map(Some)
        }
        None => {
            authorizer.counts.failed.fetch_add(1, Relaxed);
            if authorizer.is_open {
                exchange.say_instead(&authorizer.says, b"")?;
                return Ok(None);
            }
            Err(match answer {
                Ok(_) => Error::with_source(Kind::AuthorizerFailed, "its answer is an error, or none"),
                Err(error) => Error::with_source(Kind::AuthorizerFailed, error),
            })
        }
    }
}

/// The answer as it came, or why there is none. Errors: nobody waits for it any more.
async fn question(
    exchange: &Exchange,
    client: &mut Client,
    routed: &Routed,
    authorizer: &Arc<Authorizer>,
) -> Result<Result<Vec<u8>, Error>, Error> {
    let routed = routed.asking(authorizer.clone());
    // What cannot be asked because of how it was sent is no failure of the authorizer's.
    let own = exchange.question(&text(exchange, authorizer), &routed)?;
    let kept = Kept::new(ANSWER_BYTES_MAX);
    let deadline = Deadline::new(exchange.core.timers.timer());
    let end = End::Own(Own { body: Bytes::new(), answer: Some(kept.clone()) });
    let mut asking = Client { end, deadline, info: exchange.client.clone(), bound: None };
    asking.deadline.bound_request(Some(authorizer.timeout));
    let asked = async { Ok(forward::forward::<Apart>(&own, &mut asking, routed, Upload::None).await) };
    let Client { end, deadline, .. } = client;
    deadline.pause();
    let asked = end.unless_gone(pin!(asked), deadline).await?;
    exchange.core.timers.now();
    Ok(asked.map(|_| kept.take().bytes))
}

/// What it is asked. A request of HTTP/1.0 has an answer without chunks.
fn text(exchange: &Exchange, authorizer: &Authorizer) -> Vec<u8> {
    let bytes = exchange.bytes();
    let mut text = format!("GET {} HTTP/1.0\r\n", authorizer.path).into_bytes();
    if !exchange.authority().is_empty() {
        field(&mut text, b"host", exchange.authority());
    }
    for shown in exchange.head.fields.iter().filter(|field| authorizer.is_shown(field, bytes)) {
        field(&mut text, shown.name.of(bytes), shown.value.of(bytes));
    }
    field(&mut text, b"x-forwarded-method", exchange.method());
    text.extend_from_slice(b"x-forwarded-uri: ");
    text.extend_from_slice(exchange.path());
    if let Some(query) = exchange.query() {
        text.push(b'?');
        text.extend_from_slice(query);
    }
    text.extend_from_slice(b"\r\n\r\n");
    text
}

impl Authorizer {
    fn is_shown(&self, field: &Field, bytes: &[u8]) -> bool {
        let name = field.name.of(bytes);
        let is = |known: &str| is_alike(name, known.as_bytes());
        // What is appended to on the way to anybody is told from who had it before.
        if matches!(field.known, Name::XForwardedFor | Name::XForwardedProto | Name::XForwardedHost) {
            return true;
        }
        // What the endpoint does not get, nobody is to judge.
        if field.hop_by_hop {
            return false;
        }
        let is_of_body = field.known == Name::ContentLength
            || field.known == Name::Expect
            || name.get(..8).is_some_and(|begin| begin.eq_ignore_ascii_case(b"content-"));
        let is_ours = OUR_OWN.into_iter().any(is) || self.says.iter().any(|known| is(known));
        let is_asked_for = match &self.shown {
            Some(shown) => shown.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes())),
            None => !MISLEADING.into_iter().any(is),
        };
        is_asked_for && !is_ours && !is_of_body && !is_of_the_hop(field.known)
    }
}

enum Verdict {
    Allowed(Box<ResponseHead>),
    Denied(Box<ResponseHead>),
}

impl Verdict {
    /// `None`: it says nothing of the request.
    fn of(answer: &[u8]) -> Option<Verdict> {
        let mut head = Box::<ResponseHead>::default();
        let limits = HeadLimits::default();
        let is_whole = parse_response(answer, &mut Progress::default(), &limits, &mut head);
        match head.status {
            _ if !matches!(is_whole, Ok(true)) => None,
            200..=299 => Some(Verdict::Allowed(head)),
            300..=499 => Some(Verdict::Denied(head)),
            _ => None,
        }
    }
}

/// Lines of an answer's fields of these names.
fn said(names: &[Box<str>], head: &ResponseHead, answer: &[u8]) -> Vec<u8> {
    let mut lines = Vec::new();
    for found in head.fields.iter() {
        let name = found.name.of(answer);
        if names.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes())) {
            field(&mut lines, name, found.value.of(answer));
        }
    }
    lines
}

/// Gives the client the authorizer's answer: its status, how to be let in, and its body.
async fn deny(
    exchange: &Exchange,
    client: &mut Client,
    head: &ResponseHead,
    answer: &[u8],
) -> Result<After, Error> {
    const PASSED_ON: [&str; 6] =
        ["www-authenticate", "location", "set-cookie", "retry-after", "cache-control", "content-encoding"];
    if exchange.call.is_some() {
        return Err(Error::with_source(Kind::AuthorizerDenied, Injected(head.status)));
    }
    let lines = said(&PASSED_ON.map(Box::from), head, answer);
    let content_type =
        head.fields.iter().find(|field| field.name.of(answer).eq_ignore_ascii_case(b"content-type"));
    let content_type = content_type.and_then(|field| std::str::from_utf8(field.value.of(answer)).ok());
    exchange.facts.error.set(Some(Kind::AuthorizerDenied));
    let body = &answer[head.head_len..];
    respond::send(exchange, client, head.status, content_type.unwrap_or_default(), &lines, body).await
}
