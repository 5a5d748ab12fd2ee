//! Owns fetching key sets from URLs: at the start, every so often, and sooner when a token names a key that is not known. A set that
//! cannot be fetched, or is none, leaves the one before in use. Never on the request path.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::config::redact;
use crate::config::snapshot::Snapshot;
use crate::config::value::Place;
use crate::observe::{EventKind, Events};
use crate::policy::identity::Auth;
use crate::policy::jwt::{KeySet, RemoteKeys, Source};
use crate::runtime::mailbox::{Letter, Sender};

use super::state::State;

/// For the whole attempt.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Between the beginnings of two attempts, however much they are wanted.
const REST: Duration = Duration::from_secs(1);
/// After failures: doubled each time, up to this or to `refresh`.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
const USER_AGENT: &str = concat!("tidegate/", env!("CARGO_PKG_VERSION"));

/// Fetches the sets of these that have not been fetched yet, all at once. `mailboxes`: of the workers, once there are any.
pub async fn fetch_new(auths: &[Auth], mailboxes: &[Sender], events: &Arc<Events>) {
    let new = remote_keys(auths).filter(|keys| !keys.is_fetched()).cloned();
    let begin = |keys: Arc<RemoteKeys>| {
        let events = events.clone();
        tokio::spawn(async move { attempt(&keys, &events).await })
    };
    let fetching: Vec<_> = new.map(begin).collect();
    for fetching in fetching {
        // What has gone wrong has been told, and is tried again.
        if let Ok((_, woken)) = fetching.await {
            wake(mailboxes, woken);
        }
    }
}

/// Requests that have waited for an attempt, one letter for each core.
fn wake(mailboxes: &[Sender], woken: Vec<(usize, u32)>) {
    let mut by_core: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
    for (core, slot) in woken {
        by_core.entry(core).or_default().push(slot);
    }
    for (core, slots) in by_core {
        if let Some(mailbox) = mailboxes.get(core) {
            // One whose mailbox is full is stuck; its requests end with their time.
            let _ = mailbox.send(Letter::Wake { slots });
        }
    }
}

/// Keeps the sets of whatever is published, for ever.
pub async fn keep(state: Arc<State>) {
    let mut changed = state.subscribe();
    let mut tasks: Vec<(Arc<RemoteKeys>, JoinHandle<()>)> = Vec::new();
    loop {
        changed.mark_unchanged();
        let snapshot = state.published.load_full();
        follow(&mut tasks, &snapshot, &state);
        drop(snapshot);
        if changed.changed().await.is_err() {
            return;
        }
    }
}

fn follow(tasks: &mut Vec<(Arc<RemoteKeys>, JoinHandle<()>)>, snapshot: &Snapshot, state: &Arc<State>) {
    let wanted: Vec<&Arc<RemoteKeys>> = remote_keys(&snapshot.auths).collect();
    tasks.retain(|(keys, task)| {
        let is_wanted = wanted.iter().any(|wanted| Arc::ptr_eq(wanted, keys));
        if !is_wanted {
            task.abort();
        }
        is_wanted
    });
    for keys in wanted {
        if !tasks.iter().any(|(known, _)| Arc::ptr_eq(known, keys)) {
            tasks.push((keys.clone(), tokio::spawn(refresh(keys.clone(), state.clone()))));
        }
    }
}

fn remote_keys(auths: &[Auth]) -> impl Iterator<Item = &Arc<RemoteKeys>> {
    auths.iter().filter_map(|auth| auth.jwt.as_ref()?.keys.remote())
}

/// Fetches one set every so often.
async fn refresh(keys: Arc<RemoteKeys>, state: Arc<State>) {
    let mut failures = u32::from(!keys.is_fetched());
    loop {
        let backoff = REST.saturating_mul(1 << failures.saturating_sub(1).min(6)).min(BACKOFF_MAX);
        let wait = if failures > 0 { backoff.min(keys.source.refresh) } else { keys.source.refresh };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = keys.wanted() => {}
        }
        let (is_fetched, woken) = attempt(&keys, &state.events).await;
        wake(state.mailboxes(), woken);
        if is_fetched && failures > 0 {
            let text = format!("keys are fetched from {} again", redact::text(&keys.source.url));
            state.events.tell(EventKind::KeysFetched, text);
        }
        failures = if is_fetched { 0 } else { failures.saturating_add(1) };
        tokio::time::sleep(REST).await;
    }
}

/// One attempt, told if it fails: whether it went well, and whom to wake.
async fn attempt(keys: &RemoteKeys, events: &Events) -> (bool, Vec<(usize, u32)>) {
    let asked = Instant::now();
    keys.begin();
    let fetched = match tokio::time::timeout(FETCH_TIMEOUT, fetch(&keys.source)).await {
        Ok(fetched) => fetched,
        Err(_) => Err(format!("no answer within {FETCH_TIMEOUT:?}")),
    };
    if let Err(why) = &fetched {
        let stays = if keys.is_known() { ": the keys before stay in use" } else { "" };
        let text = format!("keys cannot be fetched from {}: {why}{stays}", redact::text(&keys.source.url));
        events.tell(EventKind::KeysFailed, text);
    }
    (fetched.is_ok(), keys.fetched(asked, fetched.ok()))
}

async fn fetch(source: &Source) -> Result<KeySet, String> {
    let connected = match &source.place {
        Place::Address(address) => TcpStream::connect(address).await,
        Place::Name(name) => TcpStream::connect((name.host.to_string(), name.port)).await,
    };
    let stream = connected.map_err(|error| format!("cannot connect: {error}"))?;
    let Some(tls) = &source.tls else { return ask(stream, source).await };
    let connector = tokio_rustls::TlsConnector::from(tls.config.clone());
    let stream = connector.connect(tls.name.clone(), stream).await;
    ask(stream.map_err(|error| format!("no TLS: {error}"))?, source).await
}

async fn ask<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    source: &Source,
) -> Result<KeySet, String> {
    let words = |error: hyper::Error| format!("no HTTP: {error}");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(words)?;
    let connection = tokio::spawn(connection);
    let request = Request::get(&*source.target)
        .header(header::HOST, &*source.authority)
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let asked = async {
        let answer = sender.send_request(request).await.map_err(words)?;
        match answer.status() {
            StatusCode::OK => {}
            status if status.is_redirection() => {
                return Err(format!("it answers {status}: redirects are not followed"));
            }
            status => return Err(format!("it answers {status}")),
        }
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| format!("its answer cannot be read: {error}"))?.to_bytes();
        KeySet::jwks(&body, source.algorithm).map_err(|error| error.0)
    };
    let keys = asked.await;
    connection.abort();
    keys
}
