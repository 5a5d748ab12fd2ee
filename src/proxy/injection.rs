//! Owns faults that a route injects on purpose, to see how clients take them: a part of its requests is delayed, a part answered with an
//! error, before any endpoint hears of them.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use crate::error::{Error, Injected, Kind};

use super::canary::WHOLE;
use super::client::Client;
use super::exchange::Exchange;
use super::route::header_holds;
use super::routed::{Routed, view};
use super::rule::FieldMatch;

/// `fault` of a route.
#[derive(Debug)]
pub struct Injection {
    /// Only requests of which all of these hold.
    pub headers: Vec<FieldMatch>,
    /// How long, and how many in millionths.
    pub delay: Option<(Duration, u32)>,
    /// The answer's status, and how many.
    pub abort: Option<(u16, u32)>,
}

/// Delays the request, or ends it with an error.
pub async fn inject(exchange: &Exchange, client: &mut Client, routed: &Routed) -> Result<(), Error> {
    let Some(injection) = &routed.rule().injection else { return Ok(()) };
    let seen = view(exchange);
    if !injection.headers.iter().all(|field| header_holds(field, &seen)) {
        return Ok(());
    }
    if let Some((delay, share)) = injection.delay
        && is_drawn(exchange, routed, share)
    {
        exchange.core.metrics.fault_injected();
        wait(exchange, client, delay).await?;
    }
    match injection.abort {
        Some((status, share)) if is_drawn(exchange, routed, share) => {
            exchange.core.metrics.fault_injected();
            Err(Error::with_source(Kind::FaultInjected, Injected(status)))
        }
        _ => Ok(()),
    }
}

/// Whether a request is one of so many millionths.
pub fn is_drawn(exchange: &Exchange, routed: &Routed, share: u32) -> bool {
    let Some(service) = routed.service() else { return false };
    let drawn = exchange.core.with_pick_state(service.id, |state| state.draw());
    (u128::from(drawn) * u128::from(WHOLE)) >> 64 < u128::from(share)
}

/// The client's leaving ends it.
async fn wait(exchange: &Exchange, client: &mut Client, delay: Duration) -> Result<(), Error> {
    let timer = exchange.core.timers.timer();
    timer.set(exchange.core.timers.lately(), delay);
    let Client { end, deadline, .. } = client;
    deadline.pause();
    let waited = async {
        poll_fn(|context| timer.poll(context)).await;
        Ok(())
    };
    let waited = end.unless_gone(pin!(waited), deadline).await;
    exchange.core.timers.now();
    waited
}
