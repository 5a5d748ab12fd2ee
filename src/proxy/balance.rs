//! Owns the stage that turns a service into one connection: which endpoint, and a pooled or new connection to
//! it. Sends nothing.

use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use crate::balance::in_flight::InFlight;
use crate::balance::pick::{HashKey, sticky_hash};
use crate::config::snapshot::{Endpoint, Service};
use crate::error::{Error, Kind, Sent};
use crate::http::h1_conn::Reader;
use crate::http::head::Method;
use crate::net::tcp::Stream;
use crate::net::tls::{Towards, refuses_our_certificate};
use crate::runtime::core::Core;
use crate::runtime::limits;

use super::client::Client;
use super::deadline::supervised;
use super::exchange::{ClientInfo, Exchange};
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
    let pick = |tries: &Tries| {
        exchange.core.with_pick_state(service.id, |state| service.pick(state, hash, tries.tried()))
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
        HashKey::ClientAddress => Some(hash_of_address(exchange.client.peer.ip())),
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

/// Takes a pooled connection or opens one within the connect timeout; says whether it was used before. A client that
/// leaves ends the wait.
pub async fn connect(
    exchange: &Exchange,
    client: &mut Client,
    service: &Service,
    endpoint: &Endpoint,
    fresh: bool,
) -> Result<(Reader, bool), Error> {
    let core = &exchange.core;
    let kept = match service.proxy_protocol {
        None => pooled(core, endpoint, exchange.head.method, fresh),
        Some(_) => bound(client, endpoint, exchange.head.method, fresh),
    };
    if let Some(reader) = kept {
        core.metrics.upstream_reused();
        return Ok((reader, true));
    }
    // Apart, since most requests find a pooled one and need no room for this.
    Ok((Box::pin(open(core, client, service, endpoint)).await?, false))
}

async fn open(
    core: &Rc<Core>,
    client: &mut Client,
    service: &Service,
    endpoint: &Endpoint,
) -> Result<Reader, Error> {
    let Client { end, deadline, .. } = client;
    deadline.start(Kind::ConnectTimeout, service.timeouts.connect);
    let client_stream = end.socket().clone();
    let connected = connect_to(core, &client.info, &client_stream, service, endpoint, towards(endpoint));
    let left = async {
        end.gone().await;
        Kind::ClientClosed.into()
    };
    match supervised(pin!(connected), pin!(left), deadline).await {
        Ok(stream) => {
            core.timers.now();
            core.metrics.upstream_connected(endpoint.id);
            Ok(Reader::new(stream, core.buffers.clone()))
        }
        Err(error) => {
            note_connect_error(core, endpoint, &error);
            Err(error)
        }
    }
}

/// Connects, and says and shakes what the service's endpoints want before the first byte of a client's: a PROXY header for
/// this client, whose connection `stream` is, and TLS. Of a PROXY header without TLS, requests take care themselves.
pub async fn connect_to(
    core: &Core,
    info: &ClientInfo,
    client: &Stream,
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

/// `error`, unless it is that the endpoint refuses our certificate: then nothing of what was sent has been looked at.
pub fn unless_refused(core: &Core, service: &str, endpoint: &str, error: Error) -> Error {
    let source = error.source.as_ref().and_then(|source| source.downcast_ref::<io::Error>());
    if !source.is_some_and(refuses_our_certificate) {
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

/// Counts what is the endpoint's fault.
pub fn note_connect_error(core: &Core, endpoint: &Endpoint, error: &Error) {
    if matches!(error.kind, Kind::ConnectFailed | Kind::ConnectTimeout | Kind::UpstreamTlsFailed) {
        core.metrics.upstream_connect_failed(endpoint.id);
    }
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
