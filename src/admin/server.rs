//! Owns HTTP on the admin socket: what each path (`endpoint`) answers, and the bounds on connections and
//! time. Runs on the control thread's tokio runtime. Decides nothing about the gateway (`AdminBackend` does).

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use crate::admin::access::{Access, Denied, What};
use crate::admin::browser::{check_host, check_same_site};
use crate::admin::change::{self, Wrong};
use crate::admin::endpoint::{self, Endpoint};
use crate::admin::peer::{self, Chain};
use crate::admin::{AdminBackend, Readiness};

type Page = Response<Full<Bytes>>;

/// What all requests of one connection have in common.
struct Connection {
    access: Arc<Access>,
    backend: Arc<dyn AdminBackend>,
    /// What the client has shown of itself. `None`: without TLS.
    chain: Option<Chain>,
}

/// Serves until dropped.
pub async fn serve(listener: TcpListener, access: Access, backend: Arc<dyn AdminBackend>) {
    let access = Arc::new(access);
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Without a free slot the stream drops here: closed at once, never queued.
                if let Ok(slot) = slots.clone().try_acquire_owned() {
                    // Handshakes, too: a slow one is waited for by nobody else.
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
    match backend.tls() {
        None => converse(stream, Connection { access, backend, chain: None }).await,
        Some(tls) => {
            if let Some((stream, chain)) = peer::secure(&tls, stream).await {
                converse(stream, Connection { access, backend, chain: Some(chain) }).await;
            }
        }
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, connection: Connection) {
    let service = service_fn(async |request| Ok::<_, Infallible>(answer_in_time(request, &connection).await));
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

async fn answer_in_time(request: Request<Incoming>, connection: &Connection) -> Page {
    match timeout(ANSWER_TIMEOUT, answer(request, connection)).await {
        Ok(page) => page,
        Err(_) => problem(StatusCode::GATEWAY_TIMEOUT, "the gateway did not answer in time"),
    }
}

async fn answer(request: Request<Incoming>, connection: &Connection) -> Page {
    let Connection { access, backend, chain } = connection;
    let Some(endpoint) = Endpoint::of(request.uri().path()) else {
        return problem(StatusCode::NOT_FOUND, "there is no such path here; GET / lists them");
    };
    if !endpoint.allows(request.method()) {
        let mut page = problem(StatusCode::METHOD_NOT_ALLOWED, "this method is not supported on this path");
        page.headers_mut().insert(header::ALLOW, HeaderValue::from_static(endpoint.methods()));
        return page;
    }
    let headers = request.headers();
    // As it is in force now; whether there is any stays as it was.
    let tls = chain.as_ref().and_then(|_| backend.tls());
    let certificate = peer::certificate(tls.as_deref(), chain.as_deref().unwrap_or_default());
    let by = match access.check(endpoint.what(), headers, certificate) {
        Ok(by) => by,
        Err(denied) => return refused(denied),
    };
    if request.method() != Method::POST {
        // A page that an attacker's name leads here could read it. Whoever has a token is no such page.
        let is_open = endpoint.what() == What::Control && by.browsers_have();
        return match check_host(headers, tls.as_deref()).filter(|_| is_open) {
            Some(detail) => problem(StatusCode::FORBIDDEN, detail),
            None => shown(endpoint, &**backend).await,
        };
    }
    // Whoever asks: a form may come with a browser's certificate, and nobody needs to post by another name.
    match check_same_site(headers, tls.as_deref()) {
        Ok(()) if endpoint == Endpoint::Reload => reload(backend.clone()).await,
        Ok(()) => change(endpoint, request.into_body(), &**backend).await,
        Err(detail) => problem(StatusCode::FORBIDDEN, detail),
    }
}

/// What a GET is answered.
async fn shown(endpoint: Endpoint, backend: &dyn AdminBackend) -> Page {
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
    if !denied.wants_token() {
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
