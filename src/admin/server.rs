//! Owns HTTP on the admin socket: what each path (`endpoint`) answers, and the bounds on connections and
//! time. Runs on the control thread's tokio runtime. Decides nothing about the gateway (`AdminBackend` does).

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use crate::admin::access::{Access, Denied, What};
use crate::admin::change::{self, Wrong};
use crate::admin::endpoint::{self, Endpoint};
use crate::admin::{AdminBackend, Readiness};

type Page = Response<Full<Bytes>>;

/// Serves until dropped.
pub async fn serve(listener: TcpListener, access: Access, backend: Arc<dyn AdminBackend>) {
    let access = Arc::new(access);
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Without a free slot the stream drops here: closed at once, never queued.
                if let Ok(slot) = slots.clone().try_acquire_owned() {
                    tokio::spawn(connection(stream, access.clone(), backend.clone(), slot));
                }
            }
            // Out of descriptors, most likely: asking again at once would only spin.
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn connection(
    stream: TcpStream,
    access: Arc<Access>,
    backend: Arc<dyn AdminBackend>,
    _slot: OwnedSemaphorePermit,
) {
    let service = service_fn(|request| {
        let (access, backend) = (access.clone(), backend.clone());
        async move { Ok::<_, Infallible>(answer_in_time(request, &access, backend).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // A client that reads nothing is bounded by the connection's whole life, as hyper has no write timeout.
    if timeout(CONNECTION_LIFE_MAX, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(ANSWER_TIMEOUT, connection).await;
    }
}

async fn answer_in_time(request: Request<Incoming>, access: &Access, backend: Arc<dyn AdminBackend>) -> Page {
    match timeout(ANSWER_TIMEOUT, answer(request, access, backend)).await {
        Ok(page) => page,
        Err(_) => problem(StatusCode::GATEWAY_TIMEOUT, "the gateway did not answer in time"),
    }
}

async fn answer(request: Request<Incoming>, access: &Access, backend: Arc<dyn AdminBackend>) -> Page {
    let Some(endpoint) = Endpoint::of(request.uri().path()) else {
        return problem(StatusCode::NOT_FOUND, "there is no such path here; GET / lists them");
    };
    if !endpoint.allows(request.method()) {
        let mut page = problem(StatusCode::METHOD_NOT_ALLOWED, "this method is not supported on this path");
        page.headers_mut().insert(header::ALLOW, HeaderValue::from_static(endpoint.methods()));
        return page;
    }
    if let Err(denied) = access.check(endpoint.what(), request.headers()) {
        return refused(denied);
    }
    if request.method() != Method::POST {
        // A page that an attacker's name leads here could read it. Whoever has a token is no such page.
        let is_open = endpoint.what() == What::Control && !access.has_token();
        return match check_host(request.headers()).filter(|_| is_open) {
            Some(detail) => problem(StatusCode::FORBIDDEN, detail),
            None => shown(endpoint, backend).await,
        };
    }
    match check_same_site(request.headers()) {
        Ok(()) if endpoint == Endpoint::Reload => reload(backend).await,
        Ok(()) => change(endpoint, request.into_body(), &*backend).await,
        Err(detail) => problem(StatusCode::FORBIDDEN, detail),
    }
}

/// What a GET is answered.
async fn shown(endpoint: Endpoint, backend: Arc<dyn AdminBackend>) -> Page {
    match endpoint {
        Endpoint::Index => text(StatusCode::OK, endpoint::index(backend.generation())),
        Endpoint::OpenApi => json(OPEN_API),
        Endpoint::Metrics => metrics(backend.metrics().await),
        Endpoint::Health => text(StatusCode::OK, "ok\n"),
        Endpoint::Ready => ready(backend.readiness()),
        Endpoint::Config => match backend.config().await {
            Ok(config) => json(config),
            Err(why) => problem(StatusCode::INTERNAL_SERVER_ERROR, &why),
        },
        Endpoint::Reload => json(backend.last_reload()),
        Endpoint::Routes => match backend.routes().await {
            Ok(routes) => json(routes),
            Err(why) => problem(StatusCode::INTERNAL_SERVER_ERROR, &why),
        },
        Endpoint::Services => json(backend.services().await),
        Endpoint::Canaries => json(backend.canaries()),
        Endpoint::Events => json(backend.events()),
    }
}

fn refused(denied: Denied) -> Page {
    if denied == Denied::NoTokenConfigured {
        return problem(StatusCode::FORBIDDEN, denied.detail());
    }
    let mut page = problem(StatusCode::UNAUTHORIZED, denied.detail());
    page.headers_mut()
        .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tidegate\""));
    page
}

fn metrics(page: String) -> Page {
    respond(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", page)
}

fn ready(readiness: Readiness) -> Page {
    match readiness {
        Readiness::Ready => text(StatusCode::OK, "ready\n"),
        Readiness::Starting(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("starting: {reason}\n")),
        Readiness::Draining => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    }
}

/// In a task of its own, so that a client that goes away does not stop a reload halfway.
async fn reload(backend: Arc<dyn AdminBackend>) -> Page {
    static WAITING: Semaphore = Semaphore::const_new(RELOADS_WAITING_MAX);
    let Ok(waiting) = WAITING.try_acquire() else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "so many reloads wait already that no more may");
    };
    let reload = async move {
        let _waiting = waiting;
        backend.reload().await
    };
    match tokio::spawn(reload).await {
        Ok(Ok(report)) => text(StatusCode::OK, report),
        Ok(Err(diagnostics)) => text(StatusCode::UNPROCESSABLE_ENTITY, diagnostics),
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "the reload failed unexpectedly; see the log"),
    }
}

/// Does what the body says, and shows what has become of it.
async fn change(endpoint: Endpoint, body: Incoming, backend: &dyn AdminBackend) -> Page {
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        return problem(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large, or broke off");
    };
    let body = body.to_bytes();
    let is_canary = endpoint == Endpoint::Canaries;
    let change = match if is_canary { change::canary(&body) } else { change::service(&body) } {
        Ok(change) => change,
        Err(Wrong::Form(detail)) => return problem(StatusCode::BAD_REQUEST, detail),
        Err(Wrong::Value(detail)) => return problem(StatusCode::UNPROCESSABLE_ENTITY, detail),
    };
    match (backend.change(&change), is_canary) {
        (true, true) => json(backend.canaries()),
        (true, false) => json(backend.services().await),
        (false, true) => {
            problem(StatusCode::NOT_FOUND, "no route of this name has a canary; GET /canaries lists them")
        }
        (false, false) => problem(
            StatusCode::NOT_FOUND,
            "there is no such service, endpoint or breaker; GET /services lists them",
        ),
    }
}

fn json(body: impl Into<Bytes>) -> Page {
    respond(StatusCode::OK, "application/json", body)
}

/// Refuses what a web page can make a browser on this machine send: a name that an attacker's DNS points here
/// (DNS rebinding; an IP literal or localhost cannot be rebound), or a form posted from another site.
fn check_same_site(headers: &HeaderMap) -> Result<(), &'static str> {
    if let Some(detail) = check_host(headers) {
        return Err(detail);
    }
    let host = host_of(headers);
    let is_same_origin = |origin: &HeaderValue| {
        origin
            .to_str()
            .ok()
            .and_then(|origin| origin.strip_prefix("http://"))
            .is_some_and(|site| site == host)
    };
    match headers.get(header::ORIGIN) {
        Some(origin) if !is_same_origin(origin) => Err("a POST from another origin is refused"),
        _ => Ok(()),
    }
}

fn host_of(headers: &HeaderMap) -> &str {
    headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("")
}

/// What is wrong with a name that an attacker's DNS may have.
fn check_host(headers: &HeaderMap) -> Option<&'static str> {
    let is_wrong = !is_literal_or_localhost(host_of(headers));
    is_wrong.then_some("the Host must be an IP address or localhost; with `admin.token_file` it may be any for what is only read")
}

/// `127.0.0.1`, `[::1]`, `localhost`, each with or without a port.
fn is_literal_or_localhost(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(ip, port)| {
            ip.parse::<std::net::Ipv6Addr>().is_ok() && (port.is_empty() || port.starts_with(':'))
        });
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    name.eq_ignore_ascii_case("localhost") || matches!(name.parse(), Ok(IpAddr::V4(_)))
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Page {
    respond(status, "text/plain; charset=utf-8", body)
}

fn problem(status: StatusCode, detail: &str) -> Page {
    let title = status.canonical_reason().unwrap_or("Error");
    let body = serde_json::json!({
        "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail,
    });
    respond(status, "application/problem+json", body.to_string())
}

fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Page {
    let mut page = Response::new(Full::new(body.into()));
    *page.status_mut() = status;
    let headers = page.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    page
}

/// Written by hand; tests/the_admin_api_is_as_described.rs holds it against what is answered.
const OPEN_API: &str = include_str!("openapi.json");
/// Scrapers, probes and people together; more are closed at once.
pub const CONNECTIONS_MAX: usize = 64;
const HEADERS_MAX: usize = 64;
const RELOADS_WAITING_MAX: usize = 8;
const BODY_BYTES_MAX: usize = 4 * 1024;
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Also the longest idle wait between two requests, so longer than most scrape intervals.
const HEADER_TIMEOUT: Duration = Duration::from_secs(35);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECTION_LIFE_MAX: Duration = Duration::from_secs(600);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
