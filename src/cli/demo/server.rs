//! Owns the demo's HTTP: which paths there are and what each answers. Every answer names its server in
//! `x-model-server`; errors are `{"error": "..."}` as the Open Inference Protocol has them.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::Variant;
use super::body::{DemoBody, Pattern, Tokens};
use super::{classifier, oip};
use crate::inference::oip::json::Body;

type Answer = Response<DemoBody>;

/// Serves until dropped; within a tokio runtime. An error is one of the listener, before the first accept.
pub async fn serve(listener: std::net::TcpListener, variant: Variant) -> io::Result<Infallible> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Taken before the accept: further clients wait in the kernel's queue. Never closed, so never an error.
        let slot = slots.clone().acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(async move {
                connection(stream, variant).await;
                drop(slot);
            })),
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn connection(stream: TcpStream, variant: Variant) {
    // Tokens are small writes that somebody waits for.
    let _ = stream.set_nodelay(true);
    let service =
        service_fn(move |request| async move { Ok::<_, Infallible>(answer(request, variant).await) });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    // A client that went away is not this server's concern.
    let _ = connection.await;
}

async fn answer(request: Request<Incoming>, variant: Variant) -> Answer {
    let mut answer = match Path::of(request.uri().path(), variant) {
        Err(missing) => error(StatusCode::NOT_FOUND, &missing),
        Ok(path) if !path.allows(request.method()) => not_allowed(path),
        Ok(path) => answer_path(path, request, variant).await,
    };
    answer.headers_mut().insert("x-model-server", HeaderValue::from_static(variant.name()));
    answer
}

async fn answer_path(path: Path, request: Request<Incoming>, variant: Variant) -> Answer {
    match path {
        Path::Server => json_answer(StatusCode::OK, &oip::server_metadata(variant)),
        Path::Live => json_answer(StatusCode::OK, &json!({ "live": true })),
        Path::Ready => json_answer(StatusCode::OK, &json!({ "ready": true })),
        Path::Model if variant == Variant::Classifier => json_answer(StatusCode::OK, &classifier::metadata()),
        Path::Model => json_answer(StatusCode::OK, &oip::model_metadata(variant)),
        Path::ModelReady => json_answer(StatusCode::OK, &json!({ "name": variant.model(), "ready": true })),
        Path::Infer => infer(request, variant).await,
        Path::Stream => stream(request.uri().query()),
        Path::Large => large(request.uri().query()),
        Path::Echo => echo(request),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    Server,
    Live,
    Ready,
    Model,
    ModelReady,
    Infer,
    Stream,
    Large,
    Echo,
}

impl Path {
    /// An error is what the client is told with a 404.
    fn of(path: &str, variant: Variant) -> Result<Path, String> {
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        Ok(match segments[..] {
            ["v2"] => Path::Server,
            ["v2", "health", "live"] => Path::Live,
            ["v2", "health", "ready"] => Path::Ready,
            ["v2", "models", model, ref rest @ ..] => return Path::of_model(model, rest, variant),
            ["stream"] => Path::Stream,
            ["large"] => Path::Large,
            ["echo"] => Path::Echo,
            _ => return Err("there is no such path".into()),
        })
    }

    fn of_model(model: &str, rest: &[&str], variant: Variant) -> Result<Path, String> {
        let version = variant.model_version();
        let rest = match *rest {
            ["versions", asked, ..] if asked != version => {
                return Err(format!("model {model:?} has no version {asked:?} here, only {version:?}"));
            }
            ["versions", _, ref rest @ ..] => rest,
            _ => rest,
        };
        match *rest {
            _ if model != variant.model() => {
                Err(format!("there is no model {model:?}, only {:?}", variant.model()))
            }
            [] => Ok(Path::Model),
            ["ready"] => Ok(Path::ModelReady),
            ["infer"] => Ok(Path::Infer),
            _ => Err("there is no such path".into()),
        }
    }

    fn allows(self, method: &Method) -> bool {
        match self {
            Path::Infer | Path::Echo => method == Method::POST,
            _ => method == Method::GET || method == Method::HEAD,
        }
    }

    fn methods(self) -> &'static str {
        match self {
            Path::Infer | Path::Echo => "POST",
            _ => "GET, HEAD",
        }
    }
}

async fn infer(request: Request<Incoming>, variant: Variant) -> Answer {
    let header_length = request.headers().get(HEADER_LENGTH).cloned();
    if header_length.is_some() && variant != Variant::Classifier {
        return error(StatusCode::BAD_REQUEST, "the binary tensor extension is not supported");
    }
    let bytes_max = infer_bytes_max(variant);
    let body = match Limited::new(request.into_body(), bytes_max).collect().await {
        Ok(body) => body.to_bytes(),
        Err(failed) if failed.is::<LengthLimitError>() => {
            let words = format!("the request is larger than {} MiB", bytes_max >> 20);
            return error(StatusCode::PAYLOAD_TOO_LARGE, &words);
        }
        Err(failed) => return error(StatusCode::BAD_REQUEST, &format!("the body did not arrive: {failed}")),
    };
    let answer = match variant {
        Variant::Classifier => {
            classifier::infer(header_length.as_ref().map(HeaderValue::as_bytes), &body).map(tensors_answer)
        }
        _ => oip::infer(variant, &body).map(|answer| json_answer(StatusCode::OK, &answer)),
    };
    answer.unwrap_or_else(|refused| error(StatusCode::BAD_REQUEST, &refused))
}

fn infer_bytes_max(variant: Variant) -> usize {
    match variant {
        Variant::Classifier => IMAGES_BYTES_MAX,
        Variant::Stable | Variant::V2 | Variant::Vip => INFER_BYTES_MAX,
    }
}

fn tensors_answer(body: Body) -> Answer {
    let (content_type, header_bytes) = (body.content_type(), body.header_bytes());
    let whole = DemoBody::Whole(Full::new(body.into_vec().into()));
    let mut answer = respond(StatusCode::OK, content_type, whole);
    if let Some(bytes) = header_bytes {
        answer.headers_mut().insert(HEADER_LENGTH, bytes.into());
    }
    answer
}

/// `/stream?tokens=20&delay_ms=50`
fn stream(query: Option<&str>) -> Answer {
    let tokens = parameter(query, "tokens", TOKENS_DEFAULT, TOKENS_MAX);
    let delay_ms = parameter(query, "delay_ms", DELAY_MS_DEFAULT, DELAY_MS_MAX);
    match (tokens, delay_ms) {
        (Ok(tokens), Ok(delay_ms)) => {
            // `as u32`: at most TOKENS_MAX.
            let tokens = Tokens::new(tokens as u32, Duration::from_millis(delay_ms));
            let mut answer = respond(StatusCode::OK, "text/event-stream", DemoBody::Tokens(tokens));
            answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            answer
        }
        (Err(refused), _) | (_, Err(refused)) => error(StatusCode::BAD_REQUEST, &refused),
    }
}

/// `/large?bytes=1048576`
fn large(query: Option<&str>) -> Answer {
    match parameter(query, "bytes", LARGE_BYTES_DEFAULT, LARGE_BYTES_MAX) {
        Ok(bytes) => {
            respond(StatusCode::OK, "application/octet-stream", DemoBody::Pattern(Pattern::new(bytes)))
        }
        Err(refused) => error(StatusCode::BAD_REQUEST, &refused),
    }
}

fn echo(request: Request<Incoming>) -> Answer {
    let content_type = request.headers().get(header::CONTENT_TYPE).cloned();
    let mut answer = respond(StatusCode::OK, "application/octet-stream", DemoBody::Echo(request.into_body()));
    if let Some(content_type) = content_type {
        answer.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    answer
}

fn parameter(query: Option<&str>, name: &str, default: u64, max: u64) -> Result<u64, String> {
    let mut pairs = query.unwrap_or("").split('&').filter_map(|pair| pair.split_once('='));
    let Some((_, value)) = pairs.find(|(key, _)| *key == name) else { return Ok(default) };
    match value.parse() {
        Ok(number) if number <= max => Ok(number),
        _ => Err(format!("{name} must be a number from 0 to {max}")),
    }
}

fn not_allowed(path: Path) -> Answer {
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, "this method is not supported on this path");
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(path.methods()));
    answer
}

fn error(status: StatusCode, what: &str) -> Answer {
    json_answer(status, &json!({ "error": what }))
}

fn json_answer(status: StatusCode, value: &Value) -> Answer {
    let text = Bytes::from(format!("{value}\n"));
    respond(status, "application/json", DemoBody::Whole(Full::new(text)))
}

fn respond(status: StatusCode, content_type: &'static str, body: DemoBody) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

const CONNECTIONS_MAX: usize = 4096;
/// Longer than the gateway's pools keep a connection, so that it is they who let go.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const HEADER_LENGTH: &str = "inference-header-content-length";
const INFER_BYTES_MAX: usize = 1 << 20;
const IMAGES_BYTES_MAX: usize = 16 << 20;
const TOKENS_DEFAULT: u64 = 20;
const TOKENS_MAX: u64 = 10_000;
const DELAY_MS_DEFAULT: u64 = 50;
const DELAY_MS_MAX: u64 = 10_000;
const LARGE_BYTES_DEFAULT: u64 = 1 << 20;
const LARGE_BYTES_MAX: u64 = 1 << 30;

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
