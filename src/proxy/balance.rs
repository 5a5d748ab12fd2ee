//! Owns the stage that turns a service into one connection: which endpoint, and a pooled or new connection to
//! it. Sends nothing.

use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use crate::balance::in_flight::InFlight;
use crate::balance::pick::{HashKey, sticky_hash};
use crate::config::snapshot::{Endpoint, HttpVersion, Service};
use crate::error::{Error, Kind, Sent};
use crate::http::h1_conn::Reader;
use crate::http::head::Method;
use crate::net::tcp::Stream;
use crate::net::tls::{Towards, refuses_our_certificate};
use crate::runtime::clock;
use crate::runtime::core::Core;
use crate::runtime::limits;

use super::client::Client;
use super::exchange::{ClientInfo, Exchange};
use super::http2::{self, Connecting, Links, Shared, Turned};
use super::input;
use super::path::query_values;
use super::proxy_header;
use super::retry::Tries;

/// An endpoint that was picked; counted in flight until this drops.
pub struct Chosen {
    pub endpoint: Arc<Endpoint>,
    pub in_flight: InFlight,
}

/// Picks an endpoint that this request has not tried.
pub fn choose(exchange: &Exchange, service: &Arc<Service>, tries: &mut Tries) -> Result<Chosen, Error> {
    let hash = service.picker.hash_key().and_then(|key| hash_of(exchange, key));
    let now = clock::millis(exchange.core.timers.lately());
    let pick = |tries: &Tries| {
        exchange.core.with_pick_state(service.id, |state| service.pick(state, hash, tries.tried(), now))
    };
    let mut picked = pick(tries);
    if picked.is_none() && tries.forget_tried() {
        picked = pick(tries);
    }
    let index = picked.ok_or(Kind::NoEndpoint)?;
    let endpoint = Arc::clone(&service.endpoints[index]);
    let in_flight = InFlight::take(&endpoint.state, &service.state);
    exchange.saw_endpoint(index);
    Ok(Chosen { endpoint, in_flight })
}

fn hash_of(exchange: &Exchange, key: &HashKey) -> Option<u64> {
    let (head, bytes) = (&exchange.head, exchange.bytes());
    match key {
        HashKey::Header(name) => {
            let mut fields = head.fields.iter();
            let field = fields.find(|field| field.name.of(bytes).eq_ignore_ascii_case(name.as_bytes()));
            field.map(|field| sticky_hash(field.value.of(bytes)))
        }
        HashKey::Cookie(name) => input::cookie(head, bytes, name).map(sticky_hash),
        HashKey::ClientAddress => Some(hash_of_address(exchange.client_ip())),
        HashKey::Path => Some(sticky_hash(exchange.path())),
        HashKey::Query(name) => query_values(exchange.query(), name).next().map(sticky_hash),
    }
}

pub fn hash_of_address(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => sticky_hash(&address.octets()),
        IpAddr::V6(address) => sticky_hash(&address.octets()),
    }
}

/// A connection to an endpoint.
pub enum Upstream {
    /// For this request alone.
    Http1(Reader),
    /// With room for a stream, as long as nobody waits.
    Http2(Rc<Shared>),
}

/// Takes a connection that is there or opens one within the connect timeout; says whether it was used before. A client that
/// leaves ends the wait.
pub async fn connect(
    exchange: &Exchange,
    client: &mut Client,
    service: &Service,
    endpoint: &Endpoint,
    fresh: bool,
) -> Result<(Upstream, bool), Error> {
    let core = &exchange.core;
    let kept = match (service.protocol, service.proxy_protocol) {
        (HttpVersion::Http1, None) => {
            pooled(core, endpoint, exchange.head.method, fresh).map(Upstream::Http1)
        }
        (HttpVersion::Http1, Some(_)) => {
            bound(client, endpoint, exchange.head.method, fresh).map(Upstream::Http1)
        }
        (HttpVersion::Http2, _) => core.links.find(endpoint.id, towards(endpoint)).map(Upstream::Http2),
        (HttpVersion::Agreed, _) => {
            let link = core.links.find(endpoint.id, towards(endpoint)).map(Upstream::Http2);
            link.or_else(|| pooled(core, endpoint, exchange.head.method, fresh).map(Upstream::Http1))
        }
    };
    if let Some(upstream) = kept {
        core.metrics.upstream_reused();
        return Ok((upstream, true));
    }
    // Apart, since most requests find one and need no room for this.
    Ok((Box::pin(open(core, client, service, endpoint)).await?, false))
}

async fn open(
    core: &Rc<Core>,
    client: &mut Client,
    service: &Service,
    endpoint: &Endpoint,
) -> Result<Upstream, Error> {
    let Client { end, deadline, .. } = client;
    deadline.start(Kind::ConnectTimeout, service.timeouts.connect);
    let client_stream = end.socket().cloned();
    let connected = async {
        let connecting = match service.protocol {
            HttpVersion::Http1 => None,
            HttpVersion::Http2 | HttpVersion::Agreed => match turn(core, endpoint).await? {
                Ok(link) => return Ok(Upstream::Http2(link)),
                Err(connecting) => connecting,
            },
        };
        match connect_to(core, &client.info, client_stream.as_ref(), service, endpoint, towards(endpoint))
            .await
        {
            Ok(stream) => speak(core, service, endpoint, stream, connecting),
            Err(error) => {
                connecting.into_iter().for_each(|connecting| connecting.failed(error.kind));
                Err(error)
            }
        }
    };
    let connected = end.unless_gone(pin!(connected), deadline).await;
    match &connected {
        Ok(_) => _ = core.timers.now(),
        Err(error) => _ = note_connect_error(core, endpoint, error),
    }
    connected
}

/// Waits for an HTTP/2 connection that somebody makes already; or it is this request's turn to make one, for others too if
/// HTTP/2 may come of it.
async fn turn(core: &Rc<Core>, endpoint: &Endpoint) -> Result<Result<Rc<Shared>, Option<Connecting>>, Error> {
    loop {
        match Links::turn(core, endpoint.id, towards(endpoint)) {
            Turned::Link(link) => return Ok(Ok(link)),
            Turned::Connect(connecting) => return Ok(Err(Some(connecting))),
            Turned::Http1 => return Ok(Err(None)),
            Turned::Wait(attempt) => {
                if let Some(kind) = attempt.over().await {
                    return Err(kind.into());
                }
            }
        }
    }
}

/// Speaks what is agreed on.
fn speak(
    core: &Rc<Core>,
    service: &Service,
    endpoint: &Endpoint,
    stream: Stream,
    connecting: Option<Connecting>,
) -> Result<Upstream, Error> {
    core.metrics.upstream_connected(endpoint.id);
    let is_known = stream.is_plain() && service.protocol == HttpVersion::Http2;
    if is_known || stream.speaks_http2() {
        let link = http2::begin(core, stream);
        connecting.into_iter().for_each(|connecting| connecting.connected(&link));
        return Ok(Upstream::Http2(link));
    }
    if service.protocol == HttpVersion::Http2 {
        let error = "it does not agree on HTTP/2";
        let line = || format!("service {}: endpoint {}: {error}", service.name, endpoint.label);
        core.complaints.say(core.timers.lately(), line);
        connecting.into_iter().for_each(|connecting| connecting.failed(Kind::UpstreamTlsFailed));
        return Err(Error::with_source(Kind::UpstreamTlsFailed, error));
    }
    connecting.into_iter().for_each(Connecting::speaks_http1);
    Ok(Upstream::Http1(Reader::new(stream, core.buffers.clone())))
}

/// Connects, and says and shakes what the service's endpoints want before the first byte of a client's: a PROXY header for
/// this client, whose connection `stream` is, and TLS. Of a PROXY header without TLS, requests take care themselves.
pub async fn connect_to(
    core: &Core,
    info: &ClientInfo,
    client: Option<&Stream>,
    service: &Service,
    endpoint: &Endpoint,
    towards: Option<&Towards>,
) -> Result<Stream, Error> {
    let mut stream = Stream::connect(endpoint.address, &core.readiness).await.map_err(connect_error)?;
    let Some(towards) = towards else { return Ok(stream) };
    if let Some(version) = service.proxy_protocol {
        proxy_header::send(core, version, info, client, &stream).await?;
    }
    core.handshakes.enter(&core.turns).await;
    let shaken = stream.secure_towards(towards.clone(), &core.buffers).await;
    shaken.map_err(|error| {
        no_tls(core, &service.name, &endpoint.label, &error);
        Error::with_source(Kind::UpstreamTlsFailed, error)
    })?;
    Ok(stream)
}

/// How requests' connections to it are secured.
fn towards(endpoint: &Endpoint) -> Option<&Towards> {
    endpoint.tls.as_ref().map(|tls| &tls.http)
}

/// `error`, unless it came of this one: that the endpoint refuses our certificate, so that nothing of what was sent has been
/// looked at.
pub fn unless_refused(
    core: &Core,
    service: &str,
    endpoint: &str,
    error: Error,
    of: Option<&io::Error>,
) -> Error {
    let source = error.source.as_ref().and_then(|source| source.downcast_ref::<io::Error>());
    if !source.or(of).is_some_and(refuses_our_certificate) {
        return error;
    }
    no_tls(core, service, endpoint, &error);
    Error { kind: Kind::UpstreamTlsFailed, sent: Sent::Nothing, ..error }
}

fn no_tls(core: &Core, service: &str, endpoint: &str, error: &dyn std::error::Error) {
    let line = || format!("service {service}: no TLS with endpoint {endpoint}: {error}");
    core.complaints.say(core.timers.lately(), line);
}

/// What it means that no connection could be begun.
pub fn connect_error(error: io::Error) -> Error {
    // No endpoint's fault, and no other one would be reached either.
    let is_ours = limits::is_exhausted(&error);
    Error::with_source(if is_ours { Kind::NoDescriptors } else { Kind::ConnectFailed }, error)
}

/// Counts what is the endpoint's fault, and says whether it is.
pub fn note_connect_error(core: &Core, endpoint: &Endpoint, error: &Error) -> bool {
    let is_its = matches!(error.kind, Kind::ConnectFailed | Kind::ConnectTimeout | Kind::UpstreamTlsFailed);
    if is_its {
        core.metrics.upstream_connect_failed(endpoint.id);
    }
    is_its
}

fn pooled(core: &Rc<Core>, endpoint: &Endpoint, method: Method, fresh: bool) -> Option<Reader> {
    if fresh {
        return None;
    }
    std::iter::from_fn(|| core.pool.take(endpoint.id)).find(|reader| is_fit_for(reader, endpoint, method))
}

/// The connection that began with this client's address, if it goes to this endpoint. Another one is closed.
fn bound(client: &mut Client, endpoint: &Endpoint, method: Method, fresh: bool) -> Option<Reader> {
    let kept = client.bound.take()?;
    let is_meant = !fresh && kept.endpoint == endpoint.id;
    (is_meant && kept.reader.is_fit_to_idle() && is_fit_for(&kept.reader, endpoint, method))
        .then_some(kept.reader)
}

/// The armed readiness tells most closed connections, not one whose FIN the driver has yet to report. A request
/// that cannot be repeated pays a system call to be sure. What an earlier configuration secured, or did not, is not this one's.
fn is_fit_for(reader: &Reader, endpoint: &Endpoint, method: Method) -> bool {
    reader.stream.is_secured_towards(towards(endpoint))
        && (method.is_idempotent() || !reader.stream.has_input_or_is_closed())
}
