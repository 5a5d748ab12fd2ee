//! Owns one connection of a TCP listener from accept to its last byte: PROXY header in, the look at a ClientHello where
//! that decides, endpoint, PROXY header out, then bytes both ways. This screen is the path; `hello`, `open` and `relay`
//! are its stages. Changes no byte that it passes on.

mod hello;
mod observed;
mod open;
mod relay;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::balance::in_flight::InFlight;
use crate::config::snapshot::{ServerNames, Service, SplicePolicy};
use crate::error::{Error, Kind};
use crate::http::h1_conn::Reader;
use crate::net::tcp::Stream;
use crate::policy::addresses::PerAddress;
use crate::runtime::clock::nanos;
use crate::runtime::core::Core;

use super::deadline::Deadline;
use super::exchange::ClientInfo;
use super::proxy_header;

use observed::Observed;

/// What a TCP listener does with its connections.
#[derive(Clone)]
pub struct Plan {
    pub to: Destination,
    /// For the PROXY header of a load balancer, and for a ClientHello.
    pub header_timeout: Duration,
    /// Longest silence, both directions together.
    pub idle_timeout: Duration,
    pub splice: SplicePolicy,
}

#[derive(Clone)]
pub enum Destination {
    Service(Arc<Service>),
    /// By the server name that a ClientHello asks for; `services` are those that the ids of `names` are of.
    ByServerName {
        names: Arc<ServerNames>,
        services: Rc<[Arc<Service>]>,
    },
}

/// An endpoint's connection, counted in flight until this drops.
struct Upstream {
    reader: Reader,
    _in_flight: InFlight,
}

/// Serves a connection until it ends. `header`: it begins with a PROXY header; and what the address may have that it names.
pub async fn serve(
    core: Rc<Core>,
    stream: Stream,
    info: Rc<ClientInfo>,
    header: Option<Option<PerAddress>>,
    plan: Plan,
) {
    let mut client = Reader::new(stream, core.buffers.clone());
    let deadline = Deadline::new(core.timers.timer());
    let bounds = relay::Bounds { idle_timeout: plan.idle_timeout, splice: plan.splice };
    let mut observed = Observed::new(core.clone(), info);
    if let Destination::Service(service) = &plan.to {
        observed.goes_to(service);
    }
    // Boxed, since it is gone once bytes flow: what is left of a connection that lasts is small. The plan goes with
    // it, so that no connection keeps the services of an old configuration.
    let begun = Box::pin(begin(&mut client, &deadline, &mut observed, plan, header)).await;
    let result = match begun {
        Ok(mut upstream) => {
            let result = relay::run(&mut client, &mut upstream.reader, &deadline, &bounds, &observed).await;
            if result.is_err() {
                // A peer must not take a stream that was cut for one that is complete.
                upstream.reader.stream.reset_on_close();
            }
            result.map_err(|error| observed.unless_refused(error))
        }
        Err(error) => Err(error),
    };
    if let Err(error) = result {
        match hello::alert(error.kind) {
            // Nothing of what he wanted has begun: he is told why.
            Some(alert) => {
                let _ = client.stream.try_write(&alert);
                client.stream.shutdown_write();
            }
            None => client.stream.reset_on_close(),
        }
        observed.failed(error.kind);
    }
}

/// All that comes before the first byte is passed on.
async fn begin(
    client: &mut Reader,
    deadline: &Deadline,
    observed: &mut Observed,
    plan: Plan,
    header: Option<Option<PerAddress>>,
) -> Result<Upstream, Error> {
    if let Some(limit) = header {
        let core = observed.core.clone();
        let info = observed.client.clone();
        observed.client = proxy_header::receive(&core, client, deadline, plan.header_timeout, &info).await?;
        let address = observed.client.peer.ip();
        // A load balancer that speaks for itself may have what it likes.
        let limit = limit.filter(|_| observed.client.proxied_to.is_some());
        let place = limit.map(|limit| limit.enter(address, nanos(core.timers.now())));
        if let Some(None) = place {
            core.metrics.connection_over_address_limit(info.listener_index);
            return Err(Kind::AddressLimited.into());
        }
        observed.place = place.flatten();
    }
    let service = match plan.to {
        Destination::Service(service) => service,
        Destination::ByServerName { names, services } => {
            let name = hello::server_name(client, deadline, plan.header_timeout).await?;
            observed.asked_for(name.as_deref());
            let id = names.service(name.as_deref()).ok_or(Kind::NoRoute)?;
            let service = Arc::clone(&services[id.0 as usize]);
            observed.goes_to(&service);
            service
        }
    };
    open::open(&client.stream, deadline, observed, &service).await
}
