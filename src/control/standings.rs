//! Owns noticing what changes on the workers without a word: ejections that are over, and breakers that open and close. A
//! look now and then costs requests nothing. Changes nothing itself.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use tokio::time::MissedTickBehavior;

use crate::balance::health::Standing;
use crate::config::snapshot::{Service, StableId};
use crate::observe::EventKind;
use crate::policy::breaker::State as BreakerState;
use crate::runtime::clock::{self, Millis};
use crate::runtime::peers::BEAT;

use super::state::State;

/// Looks at whatever is published, for ever.
pub async fn keep(state: Arc<State>) {
    let mut ticks = tokio::time::interval(BEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut standings = Standings::default();
    loop {
        ticks.tick().await;
        let news = standings.look(&state.published.load().services, clock::millis(Instant::now()));
        news.into_iter().for_each(|(kind, text)| state.events.tell(kind, text));
    }
}

/// What was seen of each service at the last look.
#[derive(Default)]
struct Standings {
    services: HashMap<StableId, Seen>,
}

struct Seen {
    /// So that endpoints are looked at only if something about them has changed.
    health_version: u32,
    ejected: HashSet<StableId>,
    breaker: BreakerState,
}

impl Standings {
    /// What is new, one sentence each.
    fn look(&mut self, services: &[Arc<Service>], now: Millis) -> Vec<(EventKind, String)> {
        let mut before = std::mem::take(&mut self.services);
        let mut news = Vec::new();
        for service in services {
            // Of a service that nobody has looked at, all is as it has always been.
            let mut seen = before.remove(&service.id).unwrap_or_else(|| Seen {
                health_version: service.state.health_version.load(Relaxed).wrapping_sub(1),
                ejected: HashSet::new(),
                breaker: service.state.breaker.state().0,
            });
            seen.look_at_ejections(service, now, &mut news);
            seen.look_at_breaker(service, now, &mut news);
            self.services.insert(service.id, seen);
        }
        news
    }
}

impl Seen {
    fn look_at_ejections(&mut self, service: &Service, now: Millis, news: &mut Vec<(EventKind, String)>) {
        let version = service.state.health_version.load(Relaxed);
        // An ejection ends by time alone.
        if version == self.health_version && self.ejected.is_empty() {
            return;
        }
        self.health_version = version;
        let before = std::mem::take(&mut self.ejected);
        for endpoint in &service.endpoints {
            match endpoint.state.health.standing(now) {
                Standing::Ejected => _ = self.ejected.insert(endpoint.id),
                Standing::Usable if before.contains(&endpoint.id) => {
                    let (name, endpoint) = (&service.name, endpoint.name());
                    let text =
                        format!("service {name}: endpoint {endpoint} is in use again after its ejection");
                    news.push((EventKind::EndpointBack, text));
                }
                // That it is down or drained has been told.
                Standing::Usable | Standing::Down | Standing::Drained => {}
            }
        }
    }

    fn look_at_breaker(&mut self, service: &Service, now: Millis, news: &mut Vec<(EventKind, String)>) {
        let Some(policy) = &service.health.breaker else { return };
        let breaker = &service.state.breaker;
        let before = std::mem::replace(&mut self.breaker, breaker.state().0);
        // A probe that fails opens it again, which is nothing new.
        let is_open = |state| matches!(state, BreakerState::Open | BreakerState::HalfOpen);
        let name = &service.name;
        let failed = || {
            let (requests, failures) = breaker.counts(policy, now);
            format!("{failures} of its last {requests} requests have failed")
        };
        match self.breaker {
            state if is_open(state) && !is_open(before) => {
                news.push((
                    EventKind::BreakerOpened,
                    format!("service {name}: its breaker opens: {}", failed()),
                ));
            }
            BreakerState::Shedding if before == BreakerState::Passing => {
                let text =
                    format!("service {name}: its breaker lets half of its requests through: {}", failed());
                news.push((EventKind::BreakerShedding, text));
            }
            BreakerState::Passing if before != BreakerState::Passing => {
                let text = format!("service {name}: its breaker lets all requests through again");
                news.push((EventKind::BreakerClosed, text));
            }
            _ => {}
        }
    }
}
