//! Owns whose fault a failed try is, and who is told: the endpoint, which may be ejected for it, and the breaker of its service, which
//! is asked before the first try. Decides nothing about another try (`retry`).

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::config::snapshot::{Endpoint, Service};
use crate::error::{Error, Kind};
use crate::http::grpc;
use crate::observe::EventKind;
use crate::policy::breaker::{Pass, Rejected};
use crate::policy::rollback::{RollbackPolicy, Side};
use crate::runtime::clock;
use crate::runtime::core::Core;

use super::canary::Share;
use super::exchange::{Exchange, Role};
use super::routed::Routed;
use super::transform::field;

/// One request to a service, as its breaker sees it.
pub struct Trial<'a> {
    core: &'a Core,
    service: &'a Arc<Service>,
    /// What the breaker has let through and has heard nothing of.
    pass: Cell<Option<Pass>>,
    /// Whose canary wants to know, until it does.
    watched: Cell<Option<Watched>>,
    /// When the head of the answer came, where how it went is told later.
    heard: Cell<Option<Instant>>,
    /// It is none of a client's.
    is_own: bool,
}

/// A request of a route whose canary is given up when it fares badly.
struct Watched {
    route: Arc<str>,
    share: Arc<Share>,
    policy: Arc<RollbackPolicy>,
    side: Side,
    began: Instant,
}

impl<'a> Trial<'a> {
    /// Asks the breaker.
    pub fn begin(
        exchange: &'a Exchange,
        service: &'a Arc<Service>,
        routed: &Routed,
    ) -> Result<Trial<'a>, Error> {
        let core = &exchange.core;
        let watched = routed.canary().and_then(|(canary, is_canary)| {
            Some(Watched {
                route: routed.rule().name.clone(),
                share: canary.share.clone(),
                policy: canary.rollback.clone()?,
                side: if is_canary { Side::Canary } else { Side::Stable },
                began: core.timers.lately(),
            })
        });
        let pass = match &service.health.breaker {
            None => None,
            Some(policy) => {
                let drawn = core.with_pick_state(service.id, |state| state.draw());
                let now = clock::millis(core.timers.lately());
                match service.state.breaker.admit(policy, now, drawn) {
                    Ok(pass) => Some(pass),
                    Err(rejected) => {
                        // To the breaker that is no failure; to who asked it is.
                        watched.iter().for_each(|watched| watched.tell(core, true, core.timers.lately()));
                        return Err(Error::with_source(Kind::BreakerOpen, Resting(rejected)));
                    }
                }
            }
        };
        Ok(Trial {
            core,
            service,
            pass: Cell::new(pass),
            watched: Cell::new(watched),
            heard: Cell::new(None),
            is_own: exchange.role != Role::Client,
        })
    }

    /// The head of an answer is here that says at its end how it went. Its end may never come: what is well so far is well, unless that
    /// says otherwise.
    pub fn begins_to_answer(&self, endpoint: &Endpoint) {
        self.heard.set(Some(self.core.timers.lately()));
        endpoint.state.health.succeeded();
        // A probe is not to hang on a stream that lasts.
        if self.pass.get() == Some(Pass::Probe) {
            self.record(false);
            self.pass.set(Some(Pass::Counted));
        }
    }

    /// An answer that has begun is over. `failure`: what its end says.
    pub fn ended(&self, endpoint: &Endpoint, failure: Option<grpc::Failure>) {
        let is_unwell = failure == Some(grpc::Failure::Server);
        if is_unwell {
            note_failure(self.core, self.service, endpoint, "bad answers");
        }
        self.record(is_unwell);
        self.tell(failure.is_some());
    }

    /// An endpoint has answered. `is_last`: this answer is the client's.
    pub fn answered(&self, endpoint: &Endpoint, is_bad: bool, is_last: bool) {
        match is_bad {
            true => note_failure(self.core, self.service, endpoint, "bad answers"),
            false => endpoint.state.health.succeeded(),
        }
        if is_last {
            self.over(is_bad);
        }
    }

    /// A try has failed. A pooled connection that the endpoint has closed meanwhile says nothing about it.
    pub fn failed(&self, endpoint: &Endpoint, error: &Error, is_stale: bool) {
        if self.is_endpoints(error.kind) && !is_stale {
            note_failure(self.core, self.service, endpoint, error.kind.word());
        }
    }

    /// What the client gets is an error.
    pub fn given_up(&self, error: &Error) {
        if self.is_endpoints(error.kind) || error.kind == Kind::NoEndpoint {
            self.over(true);
        }
    }

    /// A client may give itself little time; for requests of our own it is we who say what is enough.
    fn is_endpoints(&self, kind: Kind) -> bool {
        is_endpoints(kind) || (self.is_own && kind == Kind::RequestTimeout && self.heard.get().is_none())
    }

    fn over(&self, failed: bool) {
        self.record(failed);
        self.tell(failed);
    }

    fn record(&self, failed: bool) {
        if let (Some(pass), Some(policy)) = (self.pass.take(), &self.service.health.breaker) {
            let now = clock::millis(self.core.timers.lately());
            self.service.state.breaker.record(policy, now, pass, failed);
        }
    }

    fn tell(&self, failed: bool) {
        if let Some(watched) = self.watched.take() {
            watched.tell(self.core, failed, self.heard.get().unwrap_or_else(|| self.core.timers.lately()));
        }
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if self.heard.get().is_some() {
            // Its client has left a stream that was well.
            self.over(false);
        }
        if let Some(pass) = self.pass.take() {
            self.service.state.breaker.forget(pass);
        }
    }
}

impl Watched {
    /// `heard`: when it was answered.
    fn tell(&self, core: &Core, failed: bool, heard: Instant) {
        let now = core.timers.lately();
        let latency = heard.saturating_duration_since(self.began);
        let reason = self.share.sides.record(&self.policy, clock::millis(now), self.side, failed, latency);
        let Some(reason) = reason else { return };
        if self.share.give_up(reason.to_string()) {
            let line = || format!("route {}: its canary is given up: {reason}", self.route);
            core.events.tell(EventKind::CanaryGivenUp, line);
        }
    }
}

/// Ejects the endpoint if it is time to, and says so.
pub fn note_failure(core: &Core, service: &Service, endpoint: &Endpoint, why: &str) {
    let now = core.timers.lately();
    if let Some(ejection) = service.endpoint_failed(endpoint, clock::millis(now)) {
        let line = || {
            let (name, endpoint) = (&service.name, endpoint.name());
            format!("service {name}: endpoint {endpoint} is ejected for {} s: {why}", ejection.as_secs_f32())
        };
        core.events.tell(EventKind::EndpointEjected, line);
    }
}

/// Statuses that no well server gives: not 501 and 505, which are about what was asked.
pub fn is_bad(status: u16) -> bool {
    status >= 500 && status != 501 && status != 505
}

fn is_endpoints(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::ConnectFailed
            | Kind::ConnectTimeout
            | Kind::UpstreamTlsFailed
            | Kind::UpstreamClosed
            | Kind::UpstreamReset
            | Kind::BadResponse
            | Kind::ResponseTruncated
            | Kind::FirstByteTimeout
            | Kind::ResponseTimeout
    )
}

/// The breaker lets nothing through.
#[derive(Debug)]
pub struct Resting(Rejected);

impl Resting {
    /// When it is worth asking again (RFC 9110 §10.2.3).
    pub fn fields(&self, out: &mut Vec<u8>) {
        field(out, b"retry-after", self.0.wait.div_ceil(1000).max(1).to_string().as_bytes());
    }
}

impl fmt::Display for Resting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "too many of the service's last requests have failed; it rests for {} ms", self.0.wait)
    }
}

impl std::error::Error for Resting {}
