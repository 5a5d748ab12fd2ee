//! Owns one connection of a TCP listener from accept to its last byte: PROXY header in, endpoint, PROXY header out,
//! then bytes both ways. This screen is the path; `open` and `relay` are its stages. Looks into no byte that it
//! passes on.

mod observed;
mod open;
mod relay;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::balance::in_flight::InFlight;
use crate::config::snapshot::{Service, SplicePolicy};
use crate::error::Error;
use crate::http::h1_conn::Reader;
use crate::net::tcp::Stream;
use crate::runtime::core::Core;

use super::deadline::Deadline;
use super::exchange::ClientInfo;
use super::proxy_header;

use observed::Observed;

/// What a TCP listener does with its connections.
#[derive(Clone)]
pub struct Plan {
    pub service: Arc<Service>,
    /// For the PROXY header of a load balancer.
    pub header_timeout: Duration,
    /// Longest silence, both directions together.
    pub idle_timeout: Duration,
    pub splice: SplicePolicy,
}

/// An endpoint's connection, counted in flight until this drops.
struct Upstream {
    reader: Reader,
    _in_flight: InFlight,
}

/// Serves a connection until it ends.
pub async fn serve(core: Rc<Core>, stream: Stream, info: Rc<ClientInfo>, expects_header: bool, plan: Plan) {
    let mut client = Reader::new(stream, core.buffers.clone());
    let deadline = Deadline::new(core.timers.timer());
    let bounds = relay::Bounds { idle_timeout: plan.idle_timeout, splice: plan.splice };
    let mut observed = Observed::new(core.clone(), info, &plan.service);
    // Boxed, since it is gone once bytes flow: what is left of a connection that lasts is small. The plan goes with
    // it, so that no connection keeps the services of an old configuration.
    let begun = Box::pin(begin(&mut client, &deadline, &mut observed, plan, expects_header)).await;
    let result = match begun {
        Ok(mut upstream) => {
            let result = relay::run(&mut client, &mut upstream.reader, &deadline, &bounds, &observed).await;
            if result.is_err() {
                // A peer must not take a stream that was cut for one that is complete.
                upstream.reader.stream.reset_on_close();
            }
            result
        }
        Err(error) => Err(error),
    };
    if let Err(error) = result {
        client.stream.reset_on_close();
        observed.failed(error.kind);
    }
}

/// All that comes before the first byte is passed on.
async fn begin(
    client: &mut Reader,
    deadline: &Deadline,
    observed: &mut Observed,
    plan: Plan,
    expects_header: bool,
) -> Result<Upstream, Error> {
    if expects_header {
        let core = observed.core.clone();
        let info = observed.client.clone();
        observed.client = proxy_header::receive(&core, client, deadline, plan.header_timeout, &info).await?;
    }
    open::open(&client.stream, deadline, observed, &plan.service).await
}
