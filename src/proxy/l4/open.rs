//! Owns how a connection gets its endpoint: picked as for a request, connected within the timeout, another one
//! picked where that fails, each at most once; then the PROXY header. Moves no byte of the client's.

use std::pin::pin;
use std::sync::Arc;

use crate::balance::in_flight::InFlight;
use crate::balance::pick::HashKey;
use crate::config::snapshot::{Endpoint, Service};
use crate::error::{Error, Kind};
use crate::http::h1_conn::Reader;
use crate::http::head::Method;
use crate::net::tcp::Stream;
use crate::runtime::clock;

use super::super::balance::{connect_to, hash_of_address, note_connect_error};
use super::super::deadline::{Deadline, bounded};
use super::super::fault::note_failure;
use super::super::proxy_header;
use super::super::retry::{Failure, Tries, Verdict};
use super::Upstream;
use super::observed::Observed;

/// Opens a connection to an endpoint of the service. `client` is the client's connection.
pub async fn open(
    client: &Stream,
    deadline: &Deadline,
    observed: &Observed,
    service: &Arc<Service>,
) -> Result<Upstream, Error> {
    let mut tries = Tries::default();
    let mut failed = None;
    loop {
        let Some(endpoint) = pick(observed, service, &tries) else {
            return Err(failed.unwrap_or_else(|| Kind::NoEndpoint.into()));
        };
        let in_flight = InFlight::take(&endpoint.state, &service.state);
        observed.trying(&endpoint, tries.begin());
        let error = match connect(client, deadline, observed, service, &endpoint).await {
            Ok(stream) => {
                let reader = Reader::new(stream, observed.core.buffers.clone());
                deadline.pause();
                return Ok(Upstream { reader, _in_flight: in_flight });
            }
            Err(error) => error,
        };
        // A new connection may always be made again: no endpoint has seen a byte of the client's.
        let failure = Failure {
            error: &error,
            method: Method::Get,
            is_replayable: true,
            was_pooled: false,
            is_answered: false,
            now: clock::millis(observed.core.timers.lately()),
        };
        if tries.again(&failure, endpoint.id, service) != Verdict::Again {
            return Err(error);
        }
        failed = Some(error);
    }
}

/// An endpoint that was not tried yet.
fn pick(observed: &Observed, service: &Service, tries: &Tries) -> Option<Arc<Endpoint>> {
    let hash = match service.picker.hash_key() {
        Some(HashKey::ClientAddress) => Some(hash_of_address(observed.client.peer.ip())),
        // A connection has none of the others; the config check has warned.
        _ => None,
    };
    let core = &observed.core;
    let now = clock::millis(core.timers.lately());
    let picked = core.with_pick_state(service.id, |state| service.pick(state, hash, tries.tried(), now));
    picked.map(|index| Arc::clone(&service.endpoints[index]))
}

async fn connect(
    client: &Stream,
    deadline: &Deadline,
    observed: &Observed,
    service: &Service,
    endpoint: &Endpoint,
) -> Result<Stream, Error> {
    deadline.start(Kind::ConnectTimeout, service.timeouts.connect);
    let towards = endpoint.tls.as_ref().map(|tls| &tls.bytes);
    let connected = connect_to(&observed.core, &observed.client, Some(client), service, endpoint, towards);
    let stream = bounded(pin!(connected), deadline).await.inspect_err(|error| {
        if note_connect_error(&observed.core, endpoint, error) {
            note_failure(&observed.core, service, endpoint, error.kind.word());
        }
    })?;
    endpoint.state.health.succeeded();
    observed.core.metrics.upstream_connected(endpoint.id);
    if let (Some(version), None) = (service.proxy_protocol, &endpoint.tls) {
        let sent = proxy_header::send(&observed.core, version, &observed.client, Some(client), &stream);
        bounded(pin!(sent), deadline).await?;
    }
    Ok(stream)
}
